#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Milters: Debian's Postfix and Posthaste with the same milters get the same dialogues. What the milters are told (events,
# arguments, macros), the replies, what the next hop gets and the lines in the log are the same.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Peers;
use Test::More;
use File::Temp qw(tempdir);

my $why = Peers::obstacle();
plan skip_all => $why if $why;
$SIG{PIPE} = 'IGNORE'; # 421 ends the connection

my $dir = tempdir('posthaste-milters-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
my @who = qw(postfix posthaste);
my (%milter, %recorder);
for my $who (@who) {
	$recorder{$who} = Posthaste->recorder;
	for my $n (1, 2) {
		my $at = $n == 1 ? Posthaste::free_port() : "$dir/$who.sock";
		spew("$dir/script$n", '');
		$milter{"$who$n"} = { at => $at, pid => Posthaste::spawn("$dir/out.$who$n", $^X, Posthaste::top() . '/t/e2e/lib/milter.pl',
			$at, "$dir/script$n", "$dir/log.$who$n") };
		wait_until(sub { slurp("$dir/out.$who$n") =~ /ready/ }, 10) or die "milter $who$n does not start\n";
	}
}
spew("$dir/off", "127.0.0.9 DISABLE\n");
spew("$dir/checks", "/^X-Drop:/ IGNORE\n/^X-Change: (.*)/ REPLACE X-Changed: \$1\n/^X-Stop:/ REJECT no such header\n/^X-Keep:/ WARN kept\n");
my %main = (
	milter_command_timeout => '2s', milter_content_timeout => '2s', milter_connect_timeout => '2s', milter_macro_v => 'V 1',
	milter_default_action => 'tempfail', milter_header_checks => "regexp:$dir/checks", milter_macro_defaults => 'made=up, {blank}=',
	milter_connect_macros => 'j {daemon_name} v _ {client_addr} {client_name} {client_ptr} {client_resolve} {daemon_addr} {client_connections} made',
	milter_mail_macros => 'i {mail_addr} {mail_host} {mail_mailer} j {auth_type}', milter_rcpt_macros => 'i {rcpt_addr} {rcpt_host} {rcpt_mailer} {mail_addr}',
	milter_data_macros => 'i {rcpt_addr}', milter_end_of_data_macros => 'i {mail_addr} {client_addr} v',
	smtpd_recipient_restrictions => 'check_recipient_access inline:{{refused@home.test = 554 5.7.1 not for you}}, permit',
	smtpd_milter_maps => "cidr:$dir/off", smtpd_client_event_limit_exceptions => '127.0.0.0/8', default_destination_concurrency_limit => 1, soft_bounce => 'no');
# The second milter has a socket with a path and options of its own.
sub milters { my ($who) = @_; my $host = $who eq 'posthaste' ? 'localhost' : '127.0.0.1'; return "inet:$host:$milter{$who . 1}{at}, { unix:$milter{$who . 2}{at}, default_action=accept, command_timeout=2s }" }
my $postfix = Peers->postfix(home => 'home.test', next => $recorder{postfix}{port},
	main => join('', map { "$_ = $main{$_}\n" } sort keys %main) . 'smtpd_milters = ' . milters('postfix') . "\nnon_smtpd_milters = inet:127.0.0.1:$milter{postfix1}{at}\n");
ok $postfix, "Debian's Postfix runs" or die "Postfix does not run\n";
my $mta = Posthaste->start(main => { %main, myhostname => 'mx.home.test', mydestination => '', mynetworks => '127.0.0.0/8',
	virtual_mailbox_domains => 'home.test', virtual_mailbox_maps => 'inline:{ { joe@home.test = joe/ }, { ann@home.test = ann/ } }',
	smtpd_milters => milters('posthaste'), non_smtpd_milters => "inet:127.0.0.1:$milter{posthaste1}{at}",
	relayhost => "[127.0.0.1]:$recorder{posthaste}{port}", smtpd_peername_lookup => 'no' });
my %port = (postfix => $postfix->{port});

my $message = "Received: from a by b\n\t; now\nFrom: <s\@far.test>\nTo: a\@far.test\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-Id: <1\@x>\nSubject:  two words\n"
	. "X-Fold: a\n\tb\n  c\n\nbody\n.dot\n..\nlast\n";
my @mail = ('EHLO c.test', 'MAIL FROM:<s@far.test>', 'RCPT TO:<a@far.test>', 'RCPT TO:<b@far.test>', 'DATA');
my @cases = (
	[ 'nothing to say', '', [ 'EHLO c.test', 'MAIL FROM:<s@far.test> SIZE=100 BODY=8BITMIME', 'RCPT TO:<a@far.test>', 'RCPT TO:<"b c"@far.test>',
		'RCPT TO:<refused@home.test>', 'RCPT TO:<joe@home.test>', 'DATA', $message, 'MAIL FROM:<>', 'RCPT TO:<b@far.test>', 'RSET', 'HELO again.test', 'NOOP', 'VRFY a@far.test', 'WHAT', 'QUIT' ] ],
	[ 'accept at connect', 'CONNECT accept' ], [ 'reject at connect', 'CONNECT reject' ], [ 'tempfail at connect', 'CONNECT tempfail' ],
	[ 'shutdown at connect', 'CONNECT shutdown' ], [ 'reply at connect', 'CONNECT reply 554 5.7.1 go away' ],
	[ 'reply 421 at connect', 'CONNECT reply 421 4.7.0 later' ], [ 'discard at connect', 'CONNECT discard' ],
	[ 'reject at HELO', 'HELO reject' ], [ 'reply 421 at HELO', 'HELO reply 421 4.7.0 later' ], [ 'accept at HELO', 'HELO accept' ],
	[ 'reject at MAIL', 'MAIL reject' ], [ 'tempfail at MAIL', 'MAIL tempfail' ], [ 'reply at MAIL', 'MAIL reply 550 5.7.9 100%% no' ],
	[ 'several lines', 'MAIL reply 550-5.7.1 one\r\n550 5.7.1 two' ], [ 'accept at MAIL', 'MAIL accept' ], [ 'discard at MAIL', 'MAIL discard' ],
	[ 'quarantine at MAIL', 'MAIL quarantine because; continue' ],
	[ 'a recipient refused', "RCPT /<a/ reject" ], [ 'a recipient put off', "RCPT /<a/ reply 450 4.2.2 full" ], [ 'all recipients refused', 'RCPT reject' ],
	[ 'accept at RCPT', 'RCPT accept' ], [ 'discard at RCPT', 'RCPT discard' ], [ 'shutdown at RCPT', 'RCPT shutdown' ],
	[ 'reject at DATA', 'DATA reject' ], [ 'tempfail at DATA', 'DATA tempfail' ], [ 'discard at DATA', 'DATA discard' ],
	[ 'reject at a header', 'HEADER /^Subject/ reject' ], [ 'skip headers', 'HEADER skip' ], [ 'accept at EOH', 'EOH accept' ],
	[ 'reject at EOH', 'EOH reply 554 5.6.0 bad header' ], [ 'tempfail at body', 'BODY tempfail' ], [ 'skip body', 'BODY skip' ],
	[ 'reject at end', 'EOM reject' ], [ 'tempfail at end', 'EOM tempfail' ], [ 'reply at end', 'EOM reply 554 5.7.1 spam' ],
	[ 'lines at end', 'EOM reply 554-5.7.1 spam\r\n554 5.7.1 go' ], [ 'no status at end', 'EOM reply 554 spam' ], [ 'discard at end', 'EOM discard' ],
	[ 'quarantine at end', 'EOM quarantine held back; continue' ], [ 'shutdown at end', 'EOM shutdown' ], [ 'reply 421 at end', 'EOM reply 421 4.7.0 later' ],
	[ 'progress', 'EOM progress; progress; progress; accept' ],
	[ 'add headers', 'EOM addheader X-A one; addheader X-B two\n\tlines; addheader X-C bad\nlines; continue' ],
	[ 'insert headers', 'EOM insheader 0 X-Top first; insheader 1 X-Second second; insheader 5 X-Fifth fifth; insheader 99 X-End end; accept' ],
	[ 'change headers', 'EOM chgheader 1 Subject other; chgheader 1 Received changed; chgheader 1 X-None new; chgheader 1 X-Fold; chgheader 0 To b@far.test; continue' ],
	[ 'header checks', 'EOM addheader X-Drop a; addheader X-Change b; addheader X-Keep c; continue' ], [ 'header checks refuse', 'EOM addheader X-Stop a; addheader X-More b; continue' ],
	[ 'new body', 'EOM replbody new\r\n.dot\r\nlone\nend; continue' ], [ 'new body in pieces', 'EOM replbody ab; replbody c\r; replbody \nd\r\n; addheader X-B yes; continue' ],
	[ 'body and then again', 'EOM replbody a\r\n; addheader X-A a; replbody b\r\n; continue' ], [ 'big body', 'EOM bigbody 20; continue' ],
	[ 'recipients', 'EOM addrcpt <c@far.test>; delrcpt <a@far.test>; addrcpt d@far.test; addrcptpar <e@far.test> NOTIFY=NEVER ORCPT=rfc822;x@y; continue' ],
	[ 'sender', 'EOM chgfrom <new@far.test>; continue' ], [ 'sender with parameters', 'EOM chgfrom <new@far.test> RET=HDRS ENVID=abc; continue' ], [ 'null sender', 'EOM chgfrom <>; continue' ],
	[ 'changes, then no', 'EOM addheader X-A a; delrcpt <a@far.test>; reject' ],
	[ 'leading space', "NEG steps=1048576\nEOM addheader X-A  value; chgheader 1 Subject  other; continue" ],
	[ 'no answers', 'NEG steps=1044608' ], [ 'no events', 'NEG steps=895' ], [ 'no header answers', 'NEG steps=128' ], [ 'old version', 'NEG version=2' ], [ 'version 3', 'NEG version=3' ],
	[ 'refused recipients', 'NEG steps=2048', [ 'EHLO c.test', 'MAIL FROM:<s@far.test>', 'RCPT TO:<refused@home.test>', 'RCPT TO:<a@far.test>', 'QUIT' ] ],
	[ 'macro lists', 'NEG steps=0;macros=0:v,2:i {mail_addr},5:j,9:v' ], [ 'too new', 'NEG version=9' ], [ 'unknown actions', 'NEG actions=4096' ],
	[ 'unknown command', "UNKNOWN tempfail", [ 'EHLO c.test', 'WHAT', 'QUIT' ] ],
	# faults
	(map { my $e = $_; map { [ "$_ at $e", "$e $_" ] } 'close', 'excess', 'unknown', 'raw 00000000', 'raw ffffffff63', 'reply 250 2.0.0 fine' } qw(CONNECT MAIL RCPT EOM)),
	[ 'close at negotiation', 'NEG close' ], [ 'garbage at negotiation', 'NEG raw 0000000163' ], [ 'short negotiation', 'NEG raw 000000054f00000006' ],
	[ 'hang at MAIL', 'MAIL hang' ], [ 'hang at end', 'EOM hang' ], [ 'half a body', 'EOM replbody a\r\n; close' ], [ 'a header, then the end', 'EOM addheader X-A a; close' ],
);
@cases = grep { $_->[0] =~ /$ARGV[0]/ } @cases if @ARGV;

my $number = 0;
my (%used, %seen);
sub dialogue {
	my ($who, $lines) = @_;
	my $smtp = $mta->smtp($port{$who});
	my @replies = (delete $smtp->{greeting} // $smtp->{banner} // '');
	for my $line (@$lines) {
		my $text = $line =~ /\n/ ? "X-Number: $number\n$line" =~ s/^\./../mgr =~ s/\r?\n/\r\n/gr . '.' : $line;
		next if $line =~ /\n/ && ($replies[-1] // '') !~ /^354/;
		my $reply = eval { $smtp->cmd($text) } // last;
		push @replies, $reply;
		last if $reply =~ /^421/;
	}
	eval { close $smtp->{sock} };
	return join '', map { s/queued as \w+/queued as ID/r =~ s/^220 mx.home.test ESMTP \w+.*/220/r =~ s/^(250)-(mx\S*)\r?\n.*/$1 $2/sr . "\n" } @replies;
}

# What a milter was told since the last time.
sub told {
	my ($who, $n) = @_;
	my $file = "$dir/log.$who$n";
	my $text = substr slurp($file), $used{$file} // 0;
	$text =~ s/\b(i=)\w+/$1ID/g;
	$text =~ s/^(CONNECT [^|]*\|4\|)\d+/$1PORT/mg;
	$text =~ s/\]:$recorder{$who}{port}\b/]:PORT/g;
	$text =~ s/^(HEADER X-Number\|) ?\d+/$1/mg;
	return $text;
}

# Has every connection come to its end?
sub ended { my ($who, $n) = @_; my $text = told($who, $n); return (() = $text =~ /^NEG /mg) == (() = $text =~ /^(?:QUIT |EOF|CLOSED)/mg) }

# Postfix does not show other milters what one wants held, and Debian's version not that one itself, shows what is discarded to non_smtpd_milters,
# and takes a message in spite of a shutdown: newer ones do not. These cases have no part in the comparison of logs.
my $newer = qr/^(?:quarantine at (?:MAIL|end)|discard at (?:MAIL|RCPT)|shutdown at end)$/;
@cases = ((grep { $_->[0] !~ $newer } @cases), (grep { $_->[0] =~ $newer } @cases));
my (%reply, %number, %settled);
my $differed = 0; # a difference stays one, however long it is looked at
for my $case (@cases) {
	my ($name, $script, $lines) = @$case;
	$number{ ++$number } = $name;
	spew("$dir/script1", "$script\n");
	if ($name =~ $newer && !%settled) {
		for ([ postfix => $postfix ], [ posthaste => $mta ]) {
			my ($who, $server) = @$_;
			wait_until(sub { (() = $server->log =~ /disconnect from/g) >= $number - 1 }, 20);
			$settled{$who} = $server->log;
		}
	}
	for my $who (@who) {
		$used{"$dir/log.$who$_"} = -s "$dir/log.$who$_" for 1, 2;
		$reply{$who} = dialogue($who, $lines // [ @mail, $message, 'QUIT' ]);
	}
	if ($name =~ $newer) {
		is $reply{posthaste}, $reply{postfix}, "$name: replies" if $name !~ /shutdown/;
		next;
	}
	is $reply{posthaste}, $reply{postfix}, "$name: replies";
	# a connection ends a moment after its session
	for my $n (1, 2) {
		wait_until(sub { ended('posthaste', $n) && ended('postfix', $n) && told('posthaste', $n) eq told('postfix', $n) }, $differed++ < 3 ? 10 : 0.5) and $differed--;
		is told('posthaste', $n), told('postfix', $n), "$name: milter $n is told the same";
	}
}

# Messages as the next hop got them: sender, recipients and content by number.
sub received {
	my ($text) = @_;
	my %got;
	$text =~ s/\r//g;
	while ($text =~ /^(MAIL FROM.*?)\n((?:RCPT TO.*?\n)+)(?:DATA|BDAT)[^\n]*\n(.*?)(?=^MAIL FROM|\z)/msg) {
		my ($mail, $rcpt, $content) = ($1, $2, $3);
		next unless $content =~ /^X-Number: (\d+)/m;
		my $n = $1;
		next unless $content =~ /^\.$/m; # the rest is on its way
		$content =~ s/^Received: (?:from c\.test|by mx).*\n(?:[ \t].*\n)*/Received: ours\n/mg;
		$content =~ s/^\.\n.*//ms;
		$mail = join ' ', sort grep { !/^(?:SIZE|BODY)=/ } split / /, $mail;
		$rcpt =~ s/ ORCPT=\S+//g if $content !~ /x\@y/;
		$got{$n} .= join '', "$mail\n", sort(split /^/, $rcpt), $content;
	}
	return \%got;
}
my %got;
wait_until(sub {
	%got = map { $_ => received($recorder{$_}->got) } @who;
	return !grep { $number{$_} !~ $newer && !$got{posthaste}{$_} != !$got{postfix}{$_} } keys %number;
}, 20);
for my $n (sort { $a <=> $b } keys %number) {
	is $got{posthaste}{$n}, $got{postfix}{$n}, "$number{$n}: the same message goes on" if $number{$n} !~ $newer;
}
cmp_ok scalar(keys %{ $got{postfix} }), '>', @cases / 4, 'and not few' unless @ARGV;

# The log: what milters decided, and what was wrong with them.
sub lines {
	my ($who, $log) = @_;
	$log =~ s/inet:(?:127\.0\.0\.1|localhost):$milter{$who . 1}{at}\b/MILTER1/g;
	$log =~ s/unix:\Q$milter{$who . 2}{at}/MILTER2/g;
	my @lines = grep { /milter/i && !/without a usable name|attempt to send event|milter-reject: UNKNOWN/ } $log =~ /\b(?:smtpd|cleanup)\[\d+\]: (.*)/g;
	# Debian's version says of the end of a connection what errno is, and of excess data how long its own event was
	s/^(warning: )?[0-9A-Za-z]{10,}(?=: )/($1 \/\/ '') . 'ID'/e, s/(packet header: )(?:Application error|Success)/$1EOF/, s/(followed by |packet length: \d+ > )\d+/$1N/ for @lines;
	return join '', map { "$_\n" } @lines;
}
my %lines = map { $_ => lines($_, $settled{$_} // ($_ eq 'postfix' ? $postfix : $mta)->log) } @who;
is $lines{posthaste}, $lines{postfix}, 'the same lines in the log';

# Mail of local users: non_smtpd_milters, in a session that there was not.
for my $case ([ 'local mail', '' ], [ 'changed', 'EOM addheader X-A a; addrcpt <more@far.test>; continue' ], [ 'held', 'MAIL quarantine why; continue' ]) {
	my ($name, $script) = @$case;
	spew("$dir/script1", "$script\n");
	my $subject = $name =~ tr/ /-/r;
	$used{"$dir/log.$_" . '1'} = -s "$dir/log.$_" . '1' for @who;
	spew("$dir/in", "Subject: $subject\n\nbody\n");
	my ($rc, $out) = Posthaste::run_ok('sh', '-c', "exec " . Posthaste::prefix() . "/sbin/sendmail -C $mta->{dir}/conf -f s\@far.test a\@far.test < $dir/in");
	is $rc, 0, "$name: sendmail takes it" or diag $out;
	wait_until(sub { told('posthaste', 1) =~ /QUIT/ }, 20);
	like told('posthaste', 1), qr/^NEG.*^CONNECT localhost\|4\|PORT\|127.0.0.1\n.*^HELO localhost\n.*^MAIL s\@far.test\n.*^RCPT a\@far.test\n.*^DATA.*^EOM/ms,
		"$name: its milters are told of a session" if $name ne 'held';
	wait_until(sub { $recorder{posthaste}->got =~ /Subject: $subject/ }, 20) if $name ne 'held';
	like $recorder{posthaste}->got, qr/RCPT TO:<more\@far.test>.*X-A: a/s, "$name: as the milter wants it" if $name eq 'changed';
	ok wait_until(sub { $mta->log =~ /milter-hold: MAIL from localhost\[127\.0\.0\.1\]: why; from=<s\@far.test>/ }, 10), 'held' if $name eq 'held';
}
is $mta->crashes, '', 'no worker has crashed';

# A message larger than what is kept in memory of others; and a session whose milters end with their process.
spew("$dir/script1", "EOM addheader X-Big yes; continue\n");
my $smtp = $mta->smtp;
$smtp->ok('EHLO c.test');
like $smtp->mail('s@far.test', ['a@far.test'], "Subject: big\n\n" . ('x' x 70 . "\n") x 20000), qr/^250/, 'a big message';
ok wait_until(sub { $recorder{posthaste}->got =~ /X-Big: yes/ }, 20), 'goes on with its new header';
kill 'KILL', map { $_->{pid} } grep { $_->{class} eq 'rewrite' } $mta->workers;
like $smtp->cmd('MAIL FROM:<s@far.test>') // '', qr/^421 4\.3\.0 /, 'its process is gone: the session ends';
ok wait_until(sub {
	my $s = eval { $mta->smtp } or return;
	return eval { $s->ok('EHLO c.test'); $s->mail('s@far.test', ['a@far.test'], "Subject: again\n\nb\n") =~ /^250/ };
}, 20), 'and new ones are served';
is $mta->stop, 0, 'stop';
$postfix->stop;
done_testing;
