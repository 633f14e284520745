#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# The commands beside Debian's: both run with the same configuration and the same mail in the queue, and get the same
# command lines. Exit status, standard output and standard error must be the same. Wrong arguments are in it as much
# as right ones: scripts look at what they get then. postconf and postmap have stories of their own (26-postconf.t,
# 26-postmap.t), what sendmail makes of a message is in 23-submission.t.
#
# What is different on purpose is taken out in normal(), or stands in a line of its own with what we say.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew spawn wait_until);
use Peers;
use POSIX ();
use Test::More;

my $obstacle = Peers::obstacle();
plan skip_all => $obstacle if $obstacle;

my %main = (myhostname => 'mx.here.test', mydomain => 'here.test', myorigin => 'here.test', mydestination => '',
	minimal_backoff_time => '1h', maximal_backoff_time => '1h', default_database_type => 'hash', enable_long_queue_ids => 'yes',
	alias_database => 'hash:$config_directory/aliases', alias_maps => '');
my $hop = Posthaste->recorder('^RCPT=>450 4.2.0 not now');
my $peer = Peers->postfix(home => 'here.test', next => $hop->{port}, main => join '', map { "$_ = $main{$_}\n" } sort keys %main)
	or plan skip_all => "Debian's Postfix cannot be had";
my $mta = Posthaste->start(main => { compatibility_level => '3.6', relayhost => "[127.0.0.1]:$hop->{port}", setgid_group => 'mail', %main });
# the mount namespace lives longer than the server in it
my $keeper = spawn(undef, 'nsenter', "--mount=/proc/$peer->{pid}/ns/mnt", 'sleep', '600');
wait_until(sub { slurp("/proc/$keeper/comm") eq "sleep\n" }, 10);
my %conf = (theirs => "$peer->{dir}/conf", ours => "$mta->{dir}/conf");
my %queue = (theirs => "$peer->{dir}/q", ours => "$mta->{dir}/spool");
my %log = (theirs => sub { $peer->log }, ours => sub { $mta->log });
my $dir = $mta->{dir};
spew("$conf{$_}/aliases", "root: joe\njoe: x\@far.test\n") for keys %conf;
spew("$conf{$_}/aliases.one", "k v\n") for keys %conf;
spew("$dir/mbox", '');

# ---- one command line, on one side ----

# Words before the program: user=NAME; tty, it has a terminal. What result() needs.
my $runs = 0;
sub run {
	my ($whose, $input, @words) = @_;
	my (@before, $tty);
	push @before, shift @words while $words[0] =~ /^(?:user=|tty$)/;
	my $program = shift @words;
	my $path = $whose eq 'ours' ? Posthaste::prefix() . "/sbin/$program"
		: $program =~ /^(?:mailq|newaliases)$/ ? "/usr/bin/$program" : "/usr/sbin/$program";
	my @cmd = ('env', "MAIL_CONFIG=$conf{$whose}");
	push @cmd, "POSTHASTE_CLOCK=$dir/clock", "POSTHASTE_STDERR=$dir/stderr" if $whose eq 'ours';
	for my $word (@before) {
		$tty = 1 if $word eq 'tty';
		push @cmd, $word =~ /^user=(.*)/ ? ('setpriv', "--reuid=$1", "--regid=$1", '--clear-groups') : ();
	}
	push @cmd, 'bash', '-c', 'path=$1 name=$2; shift 2; exec -a "$name" "$path" "$@"', 'sh', $path, $program, @words;
	@cmd = ('script', '-qec', join(' ', map { "'" . s/'/'\\''/gr . "'" } @cmd), '/dev/null') if $tty;
	unshift @cmd, 'nsenter', "--mount=/proc/$keeper/ns/mnt", "--wd=$dir" if $whose eq 'theirs';
	my $at = "$dir/run." . $runs++;
	spew("$at.in", $input // '');
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		chdir $dir;
		open STDIN, '<', "$at.in" or POSIX::_exit(71);
		open STDOUT, '>', "$at.out" or POSIX::_exit(71);
		open STDERR, '>', "$at.err" or POSIX::_exit(71);
		exec { $cmd[0] } @cmd or POSIX::_exit(71);
	}
	return { whose => $whose, pid => $pid, at => $at };
}

# ---- what both may call differently ----

my %ids = (theirs => [], ours => []);
sub with_ids { # ID1 of an argument
	my ($whose, $text) = @_;
	return $text =~ s/\bID(\d)\b/$ids{$whose}[ $1 - 1 ] \/\/ "ID$1"/ger =~ s/\bCONF\b/$conf{$whose}/gr;
}

sub normal {
	my ($whose, $text) = @_;
	$text =~ s/\r//g;
	my $n = 0;
	for my $id (@{ $ids{$whose} }) {
		$n++;
		$text =~ s/\Q$id\E[*]?( *)/ID$n /g;
	}
	$text =~ s/\Q$conf{$whose}\E/CONF/g;
	$text =~ s/\Q$queue{$whose}\E/QUEUE/g;
	# their programs read their options twice
	$text =~ s/^(\w+: (?:invalid option|option requires).*\n)\1/$1/mg;
	# ours has what later versions have, and what only ours has
	$text =~ s/(usage: postmap \[-)\w+/$1.../;
	$text =~ s/(usage: postalias \[-)\w+/$1.../;
	$text =~ s/ \| postqueue -D \[-j\]$//m;
	$text =~ s/ \(Connect to the Postfix showq service: .*\)//;
	$text =~ s/^.*: warning: connect to public\/flush: .*\n//mg;
	$text =~ s/^.*: waiting for the Postfix mail system to terminate\n//mg;
	$text =~ s/\bPID: \d+/PID/;
	$text =~ s{^postfix/(?=postlog: fatal)}{}m;
	# the queue: sizes depend on what is added to a header, the order is none
	$text =~ s/^(ID\d +)\d+ (\w{3} \w{3} [ \d]\d [\d:]{8}) +/$1SIZE DATE /mg;
	$text = join "\n\n", sort split /\n\n/, $text if $text =~ s/\A(-+Queue ID-+.*\n)// ;
	$text = join '', sort split /^/, $text if $text =~ /\A\{"queue_name"/;
	$text =~ s/"arrival_time": \d+, "message_size": \d+/"arrival_time": N, "message_size": N/g;
	$text =~ s/^ +\(/(/mg;
	# postcat: where the record is
	$text =~ s/^(\*\*\* .* )\w+\/\w\/(ID\d)/$1$2/mg;
	$text =~ s/^(\*\*\* .*?ID\d) (?=\*)/$1 /mg;
	$text =~ s/^( *\d* ?message_size:).*/$1/m;
	$text =~ s/\b\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}/DATE/g;
	$text =~ s/\w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d [-+]\d{4} \(\w+\)/DATE/g;
	$text =~ s/<\d{14}\.(ID\d )?\@?/</g;
	$text =~ s/<(ID\d )?\@?mx/<mx/g;
	$text =~ s/_port=\d+/_port=N/g;
	$text =~ s/\bPosthaste\b/Postfix/g;
	return $text =~ s/ +$//mgr;
}

sub result {
	my ($run) = @_;
	waitpid $run->{pid}, 0;
	return 'status ' . ($? >> 8) . "\n" . normal($run->{whose}, slurp("$run->{at}.out")) . "-- \n" . normal($run->{whose}, slurp("$run->{at}.err"));
}

sub begin {
	my ($whose, $input, @words) = @_;
	return run($whose, defined $input ? with_ids($whose, $input) : undef, map { with_ids($whose, $_) } @words);
}

sub compare {
	my ($words, %got) = @_;
	my $name = join(' ', map { length ? $_ : "''" } @$words) =~ s/[^ -~]/?/gr;
	return if ok $got{ours} eq $got{theirs}, substr $name, 0, 80;
	spew("$dir/$_.text", $got{$_}) for qw(theirs ours);
	my (undef, $diff) = Posthaste::run_ok('diff', '-U2', "$dir/theirs.text", "$dir/ours.text");
	diag $diff =~ s/\A---.*\n.*\n//r;
	return;
}

# Command lines that do not depend on each other: Postfix's programs wait a second after each failure, so all of
# them run at once.
sub together {
	my (@cases) = @_;
	my @theirs = map { begin('theirs', @$_) } @cases;
	for my $case (@cases) {
		my (undef, @words) = @$case;
		my $ours = result(begin('ours', @$case));
		compare(\@words, ours => $ours, theirs => result(shift @theirs));
	}
	return;
}
sub both { return together(map { [ undef, @$_ ] } @_) }

# One after the other.
sub in_turn { together([ undef, @$_ ]) for @_; return }

# ---- mail in both queues ----

for my $n (1 .. 6) {
	for my $whose (qw(theirs ours)) {
		my $smtp = $mta->smtp($whose eq 'theirs' ? $peer->{port} : $mta->{port});
		$smtp->ok('EHLO client.test');
		$smtp->mail("s$n\@out.test", [ map { "r$_\@far$_.test" } 1 .. 2 ], "From: s$n\@out.test\nSubject: number $n\n\nbody $n\n.dot\n") =~ /as (\S+)/
			or die 'refused';
		push @{ $ids{$whose} }, $1;
		$smtp->quit;
	}
}
for my $whose (qw(theirs ours)) {
	for my $id (@{ $ids{$whose} }) {
		ok wait_until(sub { (() = $log{$whose}->() =~ /$id: to=.*status=deferred/g) == 2 }, 30), "$whose: deferred"
			or diag $mta->log_tail;
	}
}
my %idle = (theirs => sub { !glob "$queue{theirs}/active/*" }, ours => sub { ($mta->command('postqueue', '-p'))[1] !~ /^\w+\*/m });
wait_until($idle{$_}, 20) for qw(theirs ours);

# ---- the queue: mailq, postqueue, postcat, postsuper ----

both(['mailq'], [ 'sendmail', '-bp' ], [ 'mailq', '-Ac' ], [ 'postqueue', '-p' ], [ 'postqueue', '-j' ], [ 'newaliases', '-bp' ],
	['postqueue'], [ 'postqueue', '-z' ], [ 'postqueue', '-p', 'x' ], [ 'postqueue', '-p', '-j' ], [ 'postqueue', '-f', '-p' ], [ 'postqueue', '-i' ],
	[ 'postqueue', '-i', 'x/y' ], [ 'postqueue', '-i', '' ], [ 'postqueue', '-i', 'ABC123' ], [ 'postqueue', '-s', '' ], [ 'postqueue', '-s', 'a b' ],
	[ 'postqueue', '-s', 'u@dom.test' ], [ 'postqueue', '-c', '/nonexistent', '-p' ], [ 'postqueue', '-c', 'nonexistent', '-p' ], [ 'mailq', 'x' ],
	(map { [ 'postcat', @$_, 'ID1' ] } [ '-qh' ], [ '-qb' ], [ '-qbh' ]),
	[ 'postcat', '-q', 'NOSUCH' ], [ 'postcat', '-q', '../x' ], [ 'postcat', '/nonexistent' ], [ 'postcat', '-c', '/nonexistent', '-q', 'ID1' ],
	['postsuper'], [ 'postsuper', '-c', 'conf' ], [ 'postsuper', '-c', '/nonexistent', '-s' ], [ 'postsuper', '-d' ], [ 'postsuper', '-d', 'NOSUCH' ],
	[ 'postsuper', '-d', '../x' ], [ 'postsuper', '-d', '' ], [ 'postsuper', '-d', 'ALL', 'nosuch' ], [ 'postsuper', '-z' ], [ 'postsuper', '-h', 'all' ],
	[ 'user=daemon', 'postsuper', '-s' ], [ 'user=daemon', 'postsuper', '-d', 'ALL' ]);
in_turn([ 'postsuper', '-h', 'ID1' ], [ 'postsuper', '-h', 'ID1' ], [ 'postsuper', '-H', 'ID1' ],
	[ 'postsuper', '-H', 'ID1' ], [ 'postsuper', '-e', 'ID2' ], [ 'postsuper', '-d', 'ID4', '-h', 'ID5', '-d', 'ID6' ], [ 'postsuper', '-s' ]);
together([ "ID1\n ID2\nID3 \nID3*\nno id\n\n", 'postsuper', '-h', '-' ]);
in_turn([ 'postsuper', '-d', 'ALL', 'hold' ], [ 'postsuper', '-d', 'ALL' ], ['mailq']);

# ---- sendmail ----

my $text = "Subject: x\n\nbody\n";
in_turn(['newaliases']);
together(map({ [ $text, 'sendmail', @$_ ] } [], [ '-t', '-bv' ], [ '-bx' ], [ '-bt' ], [ '-b' ], [ '-B', 'foo', 'a@far.test' ], [ '-oA', 'a@far.test' ], [ '-V' ], [ '-XVxx', 'a@far.test' ],
	[ '-Xz', 'a@far.test' ], [ '-qS', 'x' ], [ '-qS' ], [ '-qI' ], [ '-qR' ], [ '-qfoo' ], [ '-q', 'x@y' ], [ '-bs', 'x@y' ], [ '-bp', 'x@y' ], [ '-bi', 'x' ], [ '-bd', 'x' ], [ '-t', '-bs' ],
	[ '-I', 'x' ], [ '-f' ], [ '-Z', 'a@far.test' ], [ '-n', 'a@far.test' ], [ '-s', 'x', 'a@far.test' ], [ '-C', '/nonexistent', 'a@far.test' ], [ '-bl' ]),
	map({ [ $text, 'sendmail', @$_, 'a@far.test' ] } [ '-R', 'foo' ], [ '-V', '' ], [ '-V', 'a b' ], [ '-V', 'x' x 101 ], [ '-XV' ], [ '-oAfoo' ], [ '-O', 'foo' ], [ '-f', 'a@b.test, c@d.test' ], [ '-f', 'a b' ], [ '-C', 'CONF/main.cf' ],
	[ '-bv' ], [ 'a@x.test b@x.test' ], [ '-oem', '-odq', '-G', '-h', '9', '-L', 't', '-p', 'x', '-A', 'c' ]),
	[ "To: \n\nx\n", 'sendmail', '-t' ], [ "To: a\@x.test b\@x.test\n\nx\n", 'sendmail', '-t' ], [ '', 'sendmail', '-bs' ],
	[ "EHLO me\r\nMAIL FROM:<a\@x.test>\r\nRCPT TO:<b\@x.test>\r\nRSET\r\nQUIT\r\n", 'sendmail', '-bs' ],
	map({ [ undef, @$_ ] } [ 'newaliases', 'x' ], [ 'newaliases', '-C', '/nonexistent' ], [ 'newaliases', '-z' ], [ 'mailq', '-z' ], [ 'mailq', '-bs' ],
	[ 'postalias', '-q', 'root', 'hash:CONF/aliases' ], [ 'postalias', '-b', '-q', '-', 'hash:CONF/aliases' ], [ 'postalias', '-z' ], ['postalias'],
	[ 'postalias', 'CONF/nosuch' ], [ 'postalias', 'bad:CONF/aliases' ],
	(map { [ 'postmap', @$_ ] } [], [ '-z' ], [ 'regexp:CONF/aliases' ], [ 'bad:CONF/aliases' ], [ '-d', 'x', 'regexp:CONF/aliases' ], [ '-d', 'x', 'inline:{a=b}' ],
	[ '-q', 'x', 'bad:y' ], [ '-q', 'a', 'inline:{a=b}', '/nonexistent' ], [ '-s', 'static:x' ], [ '-s', 'inline:{{a = b c}}' ], [ '-s', 'texthash:CONF/aliases.one' ],
	[ '-c', '/nonexistent', '-q', 'a', 'static:x' ])),
	[ "root\njoe\nnone\n", 'postalias', '-q', '-', 'hash:CONF/aliases' ]);
my %rcpts;
for my $whose (qw(theirs ours)) { # what the senders and words above have become
	my $log = $log{$whose};
	ok wait_until(sub { (() = $log->() =~ /: to=<b\@x\.test>.*status=deferred/g) == 2 && $log->() =~ /from=<a\@here\.test>/ }, 30), "$whose: \"a b\" are two"
		or diag $mta->log_tail;
	wait_until($idle{$whose}, 20);
	my $text = $log->();
	my %from = $text =~ /qmgr\[\d+\]: (\w+): from=<(.*?)>/g;
	my %to;
	push @{ $to{$1} }, $2 while $text =~ /: (\w+): to=<(\S+?)>.*status=deferred/g;
	my %said = map { (join ' ', "$from{$_}:", sort @{ $to{$_} }) => 1 } grep { ($from{$_} // '') !~ /^\z|\@out\.test/ } keys %to;
	$rcpts{$whose} = join "\n", sort keys %said;
}
is $rcpts{ours}, $rcpts{theirs}, 'the same senders and recipients';
# ---- who may ----

for my $list ('root', 'static:any') {
	for my $whose (qw(theirs ours)) {
		result(run($whose, undef, 'postconf', '-e', map { "authorized_${_}_users=$list" } qw(submit mailq flush)));
	}
	last if $list ne 'root';
	together([ $text, 'user=daemon', 'sendmail', 'a@far.test' ], map { [ undef, 'user=daemon', @$_ ] } ['mailq'], [ 'postqueue', '-j' ], [ 'postqueue', '-f' ], [ 'postqueue', '-i', 'ABC' ], [ 'postqueue', '-s', 'x' ], [ 'sendmail', '-q' ]);
}

# ---- small ones ----

my $box = "$dir/mbox";
both([ 'tty', 'postlog', 'hello' ], [ 'tty', 'postlog', '-p', 'warn', 'a', 'b' ], [ 'tty', 'postlog', '-t', 'foo', 'x' ], [ 'tty', 'postlog', '-p', 'loud', 'x' ],
	['postlock'], [ 'postlock', $box ], [ 'postlock', '-l', 'bad', $box, 'true' ], [ 'postlock', $box, 'sh', '-c', 'exit 3' ], [ 'postlock', $box, '/nonexistent' ],
	[ 'postlock', $box, 'sh', '-c', 'kill -9 $$' ], [ 'postlock', '-z' ], [ 'postlock', '-c', '/nonexistent', $box, 'true' ],
	['postkick'], [ 'postkick', 'a', 'b' ], [ 'postkick', 'public', 'qmgr', 'D' ], [ 'postkick', 'private', 'smtp', 'x' ], [ 'postdrop', '-z' ], [ 'postdrop', '-c', '/nonexistent' ],
	map { [ 'tty', 'postfix', @$_ ] } [], [ '-z', 'start' ], [ '-c', 'conf', 'status' ], ['status'], [ 'status', 'x' ], ['nonsense']);
for my $value ('foo', '10240000') { # what is told of it differs
	result(run($_, undef, 'postconf', '-e', "message_size_limit=$value")) for qw(theirs ours);
	last if $value ne 'foo';
	my @cases = (['mailq'], [ 'postqueue', '-f' ], [ 'postsuper', '-s' ], [ 'postlock', $box, 'true' ], [ 'postkick', 'public', 'qmgr', 'D' ], [ 'postconf', 'message_size_limit' ]);
	my @theirs = map { run('theirs', undef, @$_) } @cases;
	for my $case (@cases) {
		my ($ours, $theirs) = map { result($_) =~ s/-- \n.*\z//sr } run('ours', undef, @$case), shift @theirs;
		is $ours, $theirs, "@$case: a bad value in main.cf" =~ s/\Q$dir\E\S*/FILE/r;
	}
}
both([ 'qshape', 'hold' ], [ 'qshape', '-b', '3', '-t', '7', '-s', 'hold' ], [ 'qshape', '-w', '100', 'hold' ]);

# ---- postfix, and everything when it is down ----

in_turn(map { [ 'tty', 'postfix', @$_ ] } ['flush'], ['reload'], ['stop']);
delete $mta->{running};
both(map { [ 'tty', @$_ ] } [qw(postfix status)], [qw(postfix stop)], [qw(postfix reload)], [qw(postfix flush)], [qw(postqueue -f)], [qw(postqueue -i ABC)], [qw(postqueue -i ID1)],
	[qw(postkick public qmgr D)]);
Posthaste::end_child($keeper);
is $mta->crashes, '', 'nothing crashed';
done_testing;
