#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# local(8): aliases, lists, .forward files, commands and files, mail that is sent on. With Debian's Postfix
# beside it: the same lines in the log, the same bytes in mailboxes, files, commands and at the next hop.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Peers;
use Test::More;
use File::Temp qw(tempdir);

plan skip_all => 'needs root: mail for several users' if $> != 0;
my $dir = tempdir('posthaste-aliases-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
my @users = qw(news uucp backup irc list www-data);

sub settings {
	my ($who, $hop) = @_;
	my $d = "$dir/$who";
	mkdir $_ for $d, map { "$d/$_" } qw(spool files fwd);
	chmod 01777, "$d/spool";
	chmod 0777, "$d/files";
	spew("$d/take", "#!/bin/sh\n" . <<"EOF");
f=$d/files/\$1
{ env | grep -v '^PWD=\\|^MAIL_CONFIG=\\|^_=\\|^TZ=\\|^LANG=\\|^OLDPWD=\\|^SHLVL=' | sort; id -u; umask; echo ---; cat; } > \$f.tmp
mv \$f.tmp \$f
EOF
	chmod 0755, "$d/take";
	spew("$d/aliases", <<"EOF");
one news
two news, uucp, r1\@remote.test
deep two, one, two
list :include:$d/included
owner-list news
command "|$d/take command"
failing "|exit 75"
oops "|echo oops; exit 1", r2\@remote.test
file $d/files/box
null /dev/null
self self
la lb
lb la
gone :include:$d/nonexistent
unknown nosuchuser
mix nosuchuser, news
withext news+x
incmd :include:$d/commands
inowner :include:$d/ofuucp
inalias :include:$d/names
twice :include:$d/commands, :include:$d/commands2
home ~/box
relist r3\@remote.test
owner-relist boss\@remote.test
backup \\backup, news
EOF
	spew("$d/aliases", slurp("$d/aliases") . join '', map { "chain$_ chain" . ($_ + 1) . "\n" } 0 .. 150);
	spew("$d/included", "uucp\n# a comment\nr4\@remote.test, r5\@remote.test\n");
	spew("$d/commands", "\"|$d/take never\"\n");
	spew("$d/commands2", "news, :include:$d/commands2\n");
	spew("$d/names", "one, uucp, two\n"); # aliases and users
	spew("$d/ofuucp", "irc\n");
	chown +(getpwnam 'uucp')[2, 3], "$d/ofuucp";
	chmod 0600, "$d/ofuucp";
	my %fwd = (irc => "\\irc, news, r6\@remote.test\n", list => "\"|$d/take forward\"\n", uucp => "# nothing\n");
	for my $u (sort keys %fwd) {
		spew("$d/fwd/$u", $fwd{$u});
		chown +(getpwnam $u)[2, 3], "$d/fwd/$u";
	}
	spew("$d/fwd/irc+ext", "r7\@remote.test\n");
	chown +(getpwnam 'irc')[2, 3], "$d/fwd/irc+ext";
	spew("$d/fwd/www-data", "news\n");
	chmod 0666, "$d/fwd/www-data";
	return (
		mydestination => 'here.test', myorigin => 'here.test', local_recipient_maps => '', recipient_delimiter => '+',
		alias_maps => "texthash:$d/aliases", mail_spool_directory => "$d/spool", relayhost => "[127.0.0.1]:$hop",
		forward_path => "$d/fwd/\$user\${recipient_delimiter}\${extension}, $d/fwd/\$user", deliver_lock_attempts => 1,
		mailbox_command_maps => "inline:{ { man = $d/take mailbox } }",
		virtual_mailbox_domains => '', default_privs => 'lp', maximal_backoff_time => '1h', minimal_backoff_time => '1h',
	);
}

my @rcpts = qw(news one two two+zz deep list command command+ext failing oops file null self la gone unknown mix withext
	incmd relist irc irc+ext irc+other list+x uucp www-data backup man+ext nosuch nosuch+x
	inowner inalias twice home two+ext list+ext);
my @again = qw(one+x two+x list+x inalias+x irc irc+ext irc+other deep+x command file news withext+y relist+z);

sub normal {
	my ($text, $who) = @_;
	$text =~ s/\r//g;
	$text =~ s/\Q$dir\E\/$who/DIR/g;
	$text =~ s/^Received: .*\n(?:[ \t].*\n)*/Received: X\n/mg;
	$text =~ s/^(?:Message-Id|Date|From): .*\n//mgi;
	$text =~ s/^(From \S+)  \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}$/$1 DATE/mg;
	$text =~ s/^(MAIL FROM:<\S*>).*/$1/mg;
	return $text;
}

# Result lines of each mail, and all bytes that came of it.
sub outcome {
	my ($who, $mta, $port, $log, $hop, @rcpts) = @_;
	my (%qid, %result, %file);
	for my $rcpt (@rcpts) {
		my $smtp = $mta->smtp($port);
		$smtp->ok('EHLO client.example');
		my ($q) = $smtp->mail($rcpt eq 'relist' ? '' : 's@x.test', "$rcpt\@here.test", "Subject: $rcpt\n\nFrom me\n.dot\n") =~ /queued as (\S+)/;
		$smtp->quit;
		$qid{$q} = $rcpt;
		# one after the other, so that they stand in the files in this order: the mail, and what it was sent on as
		wait_until(sub {
			my $text = $log->();
			return 0 unless $text =~ /: $q: (?:removed|to=.*status=deferred)/;
			my @next = $text =~ /: $q: .*forwarded as (\w+)\)/g;
			return !grep { $text !~ /: $_: (?:removed|to=.*status=deferred)/ } @next;
		}, 20) or diag "$who: $rcpt waits";
	}
	for my $line (split /\n/, $log->()) {
		my ($q, $text) = $line =~ m{/(?:local)\[\d+\]: (\w+): (to=.*status=.*)} or next;
		next unless $qid{$q};
		$text =~ s/delay=.*?, (?=dsn)//;
		$text =~ s/forwarded as \w+/forwarded as ID/;
		$text =~ s/ \)$/)/;
		$text =~ s/\Q$dir\E\/$who/DIR/g;
		push @{ $result{ $qid{$q} } }, $text;
	}
	%file = map { m{/$who/(.*)} ? ($1 => normal(slurp($_), $who)) : () } glob "$dir/$who/spool/* $dir/$who/files/*";
	my $got = $hop->got;
	my @arrived;
	while ($got =~ /^(MAIL FROM.*?\n(?:RCPT TO.*?\n)+DATA[^\n]*\n.*?)(?=^MAIL FROM|^QUIT|^EHLO|^RSET|\z)/msg) {
		my $m = normal($1, $who);
		$m =~ s/^((?:RCPT TO.*\n)+)/join '', sort split m,^,m, $1/me;
		push @arrived, $m unless $m =~ /^Subject: (?:Undelivered|Delivery)/m;
	}
	return (\%result, \%file, [ sort @arrived ]);
}

my $hop = Posthaste->recorder('whole');
my %ours = settings('posthaste', $hop->{port});
my $mta = Posthaste->start(main => \%ours);
my ($result, $file, $arrived) = outcome('posthaste', $mta, undef, sub { $mta->log }, $hop, @rcpts);
is_deeply $result->{one}, [ 'to=<news@here.test>, orig_to=<one@here.test>, relay=local, dsn=2.0.0, status=sent (delivered to mailbox)' ],
	'an alias of a user';
is_deeply [ sort @{ $result->{irc} } ], [ map { "to=<irc\@here.test>, relay=local, dsn=2.0.0, status=sent ($_)" } 'delivered to mailbox',
	'forwarded as ID' ], 'a .forward file';
like $file->{'spool/irc'}, qr/^Delivered-To: irc\@here\.test$/m, 'a copy for himself';
like $file->{'files/command'}, qr/^LOCAL=command\+ext\nLOGNAME=command\n/m, 'a command';
ok !$file->{'files/never'}, 'none from an :include: file';
like $mta->http('/stats'), qr/"deliver_forwarded":\s*[1-9]/, 'counted';

like $result->{la}[0], qr/dsn=5\.4\.6, status=bounced \(alias database loop for l[ab]\)/, 'a loop';
delete $result->{la}; # Postfix notices it one alias later

# Lists that are large, or hold themselves; users that are not there.
my $d = "$dir/posthaste";
spew("$d/included", join '', map { "u$_\@remote.test\n" } 1 .. 10_000);
spew("$d/ofuucp", join '', map { "u$_\@remote.test\n" } 1 .. 25_000);
spew("$d/commands", "news, :include:$d/commands\n");
$mta->configure(%ours, luser_relay => 'news+$user', default_destination_recipient_limit => 1000);
$mta->command('posthaste', 'reload');
my $line;
wait_until(sub {
	my $s = $mta->smtp;
	$s->ok('EHLO x');
	my ($q) = $s->mail('s@x.test', 'nobody-there@here.test', "Subject: luser\n\nx\n") =~ /as (\w+)/;
	$s->quit;
	$line = $mta->wait_log(qr/: $q: (to=.*status=.*)/);
	return $line =~ /forwarded/;
}) or diag $line;
like $line, qr/^to=<nobody-there\@here\.test>, .*status=sent \(forwarded as \w+\)/, 'luser_relay';
ok $mta->wait_log(qr/to=<news\+nobody-there\@here\.test>, orig_to=<nobody-there\@here\.test>, .*status=sent/), 'with its names';
sub lines_of {
	my ($rcpt) = @_;
	my $s = $mta->smtp;
	$s->ok('EHLO x');
	my ($q) = $s->mail('s@x.test', "$rcpt\@here.test", "Subject: $rcpt-large\n\nx\n") =~ /as (\w+)/;
	$s->quit;
	$mta->wait_log(qr/: $q: (?:removed|to=.*status=deferred)/);
	return join "\n", $mta->log =~ /: $q: (to=.*)/g;
}
my $himself = lines_of('incmd');
is scalar(() = $himself =~ /status=/g), 1, 'a list that holds itself is read once';
like $himself, qr/status=sent \(forwarded as/, 'and what else it holds gets the mail';
like lines_of('chain0'), qr/dsn=5\.4\.6, status=bounced \(alias database loop for chain102\)/, 'a chain of aliases without end';
my ($new) = lines_of('list') =~ /status=sent \(forwarded as (\w+)\)/;
ok $new, 'a list of 10,000';
ok $mta->wait_log(qr/: $new: removed/, 60), 'all of them';
my $at_hop = () = $hop->got =~ /^RCPT TO:<u\d+\@remote\.test>/mg;
is $at_hop, 10_000, 'at the next hop';
like lines_of('inowner'), qr/dsn=4\.3\.0, status=deferred \(too many recipients in aliases\)/, 'one of 25,000 is too long';

# Aliases in a remote table, where there is one.
my $sqlite = `sqlite3 --version 2>/dev/null`;
if ($sqlite) {
	system 'sqlite3', "$d/alias.db", q{create table alias (a text, goto text); insert into alias values ('fromdb', 'news, uucp');};
	spew("$d/alias.cf", "dbpath = $d/alias.db\nquery = select goto from alias where a = '%s'\n");
	$ours{alias_maps} .= ", sqlite:$d/alias.cf";
}

# Mail of users goes to another transport as it is; also of those that only that one knows.
$mta->configure(%ours, mailbox_transport_maps => 'inline:{ uucp=smtp:[127.0.0.1]:' . $hop->{port} . ' }',
	fallback_transport => "smtp:[127.0.0.1]:$hop->{port}");
$mta->command('posthaste', 'reload');
ok wait_until(sub { lines_of('elsewhere') =~ /status=sent \(passed to smtp:\S+ as (\w+)\)/ }), 'fallback_transport';
like lines_of('uucp'), qr/^to=<uucp\@here\.test>, .*status=sent \(passed to smtp:\S+ as (\w+)\)/, 'mailbox_transport_maps';
ok wait_until(sub { $hop->got =~ /^Subject: uucp-large/m }), 'it arrives';
my ($passed) = reverse split /^(?=MAIL FROM)/m, $hop->got;
like $passed, qr/^MAIL FROM:<s\@x\.test>.*\nRCPT TO:<uucp\@here\.test>/, 'with its recipient';
is scalar(() = $passed =~ /^(?:Received|Delivered-To):/mg), 1, 'and no more headers than it had';
like lines_of('news'), qr/status=sent \(delivered to mailbox\)/, 'others are not concerned';

# What a user writes harms his own mail only.
spew("$d/fwd/irc", "a\rb\@remote.test, \x01, \xff\@x.test, a\@b c, " . 'x' x 2000 . "\@remote.test, good\@remote.test\n");
like lines_of('irc'), qr/dsn=5\.1\.3, status=bounced \(bad address syntax in an alias or list\).*forwarded as/s, 'addresses that are none';
SKIP: {
	skip 'needs sqlite3', 1 if !$sqlite;
	like lines_of('fromdb'), qr/^to=<news\@here\.test>, orig_to=<fromdb\@here\.test>, .*delivered to mailbox/m, 'an alias in a remote table';
}
is $mta->crashes, '', 'no worker ended for it';

# Nothing is lost when the rewrite worker that has the new message is killed: both messages go on.
my ($rewrite) = grep { $_->{class} eq 'rewrite' } $mta->workers;
my $smtp = $mta->smtp;
$smtp->ok('EHLO x');
$smtp->mail('s@x.test', 'two@here.test', "Subject: killed\n\nx\n");
kill 'KILL', $rewrite->{pid};
ok wait_until(sub { $mta->status->{ready} }), 'service goes on';
for (1 .. 3) {
	last if wait_until(sub { $hop->got =~ /^Subject: killed/m }, 3);
	$mta->advance(3700);
}
like $hop->got, qr/^Subject: killed/m, 'mail that is sent on survives the worker that takes it';
is $mta->stop, 0, 'stop';
is $mta->crashes =~ s/.*(?:killed by signal 9|ended).*\n?//gr, '', 'nothing else crashed';

my $why = Peers::obstacle();
SKIP: {
	skip $why, 3 if $why;
	my $his_hop = Posthaste->recorder('whole');
	my %main = settings('postfix', $his_hop->{port});
	my $postfix = Peers->postfix(home => 'vv.test', next => 1, main => join '', map { "$_ = $main{$_}\n" } sort keys %main)
		or die "Postfix does not run\n";
	my @his = outcome('postfix', bless({}, 'Posthaste'), $postfix->{port}, sub { $postfix->log }, $his_hop, @rcpts);
	$postfix->stop;
	$his_hop->stop;
	for my $rcpt (grep { $result->{$_} } @rcpts) {
		is_deeply [ sort @{ $result->{$rcpt} || [] } ], [ sort @{ $his[0]{$rcpt} || [] } ], "$rcpt: the same results as Postfix"
			or diag explain [ $result->{$rcpt}, $his[0]{$rcpt} ];
	}
	is_deeply [ sort keys %$file ], [ sort keys %{ $his[1] } ], 'the same files';
	is $file->{$_}, $his[1]{$_}, "$_: the same bytes" for sort keys %$file;
	is_deeply $arrived, $his[2], 'the same at the next hop' or diag explain [ $arrived, $his[2] ];
}
$hop->stop;

# Again with other settings: who gets the extension, whose name stands in Delivered-To, and where.
sub again {
	my ($name, %more) = @_;
	my (%got);
	for my $who ("posthaste-$name", "postfix-$name") {
		my $hop = Posthaste->recorder('whole');
		my %main = (settings($who, $hop->{port}), %more);
		my $peer = $who =~ /^postfix/ && (Peers->postfix(home => 'vv.test', next => 1, main => join '', map { "$_ = $main{$_}\n" } sort keys %main)
			or die "Postfix does not run\n");
		my $mta = $peer ? bless({}, 'Posthaste') : Posthaste->start(main => \%main);
		$got{ $peer ? 'his' : 'ours' } = [ outcome($who, $mta, $peer && $peer->{port}, sub { $peer ? $peer->log : $mta->log }, $hop, @again) ];
		$peer ? $peer->stop : is $mta->stop, 0, "$name: stop";
		$hop->stop;
	}
	for my $rcpt (@again) {
		my ($ours, $his) = map { [ sort @{ $got{$_}[0]{$rcpt} || [] } ] } qw(ours his);
		is_deeply $ours, $his, "$name: $rcpt: the same results as Postfix" or diag explain [ $ours, $his ];
	}
	is_deeply $got{ours}[$_], $got{his}[$_], "$name: the same bytes" or diag explain [ map { $got{$_} } qw(ours his) ] for 1, 2;
	return;
}
unless ($why) {
	again('propagated', propagate_unmatched_extensions => 'alias, forward, include', frozen_delivered_to => 'no');
	again('sparing', prepend_delivered_header => 'forward', require_home_directory => 'yes');
}
done_testing;
