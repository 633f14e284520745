#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Mail for commands (pipe): words, content and environment they get, what their exit status means, time
# limits, and a worker that is killed under them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port slurp spew wait_until);
use Peers;
use Test::More;
use File::Temp qw(tempdir);

my $dir = tempdir('posthaste-pipe-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $user = $> == 0 ? 'news' : (getpwuid $>)[0];
my ($uid, $gid) = (getpwnam $user)[2, 3];
mkdir "$dir/out";
chown $uid, $gid, "$dir/out" if $> == 0;
chmod 0755, $dir;
spew("$dir/take", "#!/bin/sh\n" . <<"EOF");
f=$dir/out/\$1
{ for a in "\$@"; do echo "[\$a]"; done; echo "\$PATH \$MAIL_CONFIG \$(id -u) \$(id -G) \$(pwd) \$(umask)"; echo ---; cat; } > \$f.tmp
mv \$f.tmp \$f
EOF
spew("$dir/end", "#!/bin/sh\ncat > /dev/null\n[ -z \"\$2\" ] || printf '%b' \"\$2\"\nexit \$1\n");
spew("$dir/slow", "#!/bin/sh\necho \$\$ > $dir/out/pid\$1.tmp; mv $dir/out/pid\$1.tmp $dir/out/pid\$1\nsleep 300\n");
spew("$dir/flood", "#!/bin/sh\ntouch $dir/out/flood\nexec yes\n");
chmod 0755, map { "$dir/$_" } qw(take end slow flood);

my $word = "unix - n n - - pipe user=$user";
my $port = free_port();
my @codes = (0 .. 2, 64 .. 79, 255);
my $codes = join '', map { "ex$_ $word argv=$dir/end $_\nsay$_ $word argv=$dir/end $_ {word $_}\n" } @codes;
my $mta = Posthaste->start(
	main => {
		relay_domains => 'static:all', recipient_delimiter => '+', one_destination_recipient_limit => 1,
		slow_time_limit => '200s', stop_drain_time => '1s', flood_time_limit => '200s', mynetworks => '127.0.0.0/8', in_doubt_sync => 'yes',
		transport_maps => 'inline:{ ' . join(' ', map { "{ $_.test = $_:Hop }" }
			(map { ("ex$_", "say$_") } @codes), qw(all one fail temp say large gone slow flood ghost limit)) . ' }',
	},
	port => $port,
	master => <<"EOF");
127.0.0.1:$port inet n - n - - smtpd
all $word flags=FRhuq directory=$dir null_sender= argv=$dir/take all \${recipient} <\${sender}> \${user}/\${extension}/\${domain}/\${nexthop} {one word}
one $word flags=DOBX.> eol=\\r\\n argv=$dir/take one
fail $word argv=$dir/end 67 {never\\nheard\\n}
temp $word argv=$dir/end 75
say $word argv=$dir/end 1 {4.2.2 over quota\\n}
large $word size=10 argv=$dir/end 0
gone $word argv=$dir/nothing
slow $word argv=$dir/slow \${user}
flood $word argv=$dir/flood
ghost unix - n n - - pipe user=no-such-user argv=$dir/end 0
limit $word flags=D argv=$dir/end 0
$codes
EOF

sub submit {
	my ($from, $to, $content) = @_;
	my $smtp = $mta->smtp;
	$smtp->ok('EHLO client.example');
	my ($qid) = $smtp->mail($from, $to, $content // "Subject: x\n\nFrom me\n.dot\nend\n") =~ /queued as (\S+)/;
	$smtp->quit;
	return $qid;
}

sub result {
	my ($qid, $text) = @_;
	my $line = $mta->wait_log(qr/postfix\/pipe\[\d+\]: ($qid: to=.*)/) // '';
	like $line, qr/, delay=[\d.]+, delays=\S+, \Q$text\E$/, $text or diag $mta->log_tail;
	return $line;
}

my $qid = submit('"a b"@Sender.test', [ 'Joe+Ext@All.test', '"q r"@all.test' ]);
like result($qid, 'dsn=2.0.0, status=sent (delivered via all service)'), qr/relay=all,/, 'relay is the service';
ok wait_until(sub { -e "$dir/out/all" }), 'one command';
my $got = slurp("$dir/out/all");
is +($got =~ /\A(.*?)---\n/s)[0], <<"EOF", 'words, environment, user, place';
[all]
[joe+ext\@all.test]
["q r"\@all.test]
[<"a b"\@Sender.test>]
[joe/ext/all.test/hop]
[q r//all.test/hop]
[one word]
/usr/bin:/bin $mta->{dir}/conf $uid $gid $dir 0077
EOF
like $got, qr/---\nFrom "a b"\@Sender\.test  \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\nReturn-Path: <"a b"\@Sender\.test>\nReceived: /, 'head';
like $got, qr/\nSubject: x\n(?:[\w-]+: .*\n)*\nFrom me\n\.dot\nend\n/, 'content';
unlike $got, qr/\r|Delivered-To/, 'and nothing else';

$qid = submit('', 'u+E@one.test');
result($qid, 'dsn=2.0.0, status=sent (delivered via one service)');
wait_until(sub { -e "$dir/out/one" });
$got = slurp("$dir/out/one");
like $got, qr/---\nX-Original-To: u\+E\@one\.test\r\nDelivered-To: u\+E\@one\.test\r\nReceived: /, 'X-Original-To, Delivered-To';
like $got, qr/\r\n\r\n>From me\r\n\.\.dot\r\nend\r\n(?:\r\n)+\z/, 'quoting, line ends, empty line';
$qid = submit('s@x.test', 'u@one.test', "Delivered-To: u\@one.test\n\nx\n");
result($qid, 'dsn=5.4.6, status=bounced (mail forwarding loop for u@one.test)');

$qid = submit('s@x.test', 'u@fail.test');
result($qid, 'dsn=5.1.1, status=bounced (user unknown. Command output: never heard)');
my ($note) = ($mta->wait_log(qr/$qid: sender non-delivery notification: (\S+)/) // '');
my ($rc, $text) = $mta->command('postcat', '-q', $note);
like $text, qr/\nAction: failed\r?\nStatus: 5\.1\.1\r?\nDiagnostic-Code: x-unix; never heard/, 'the notification has what the command said';
unlike $text, qr/Remote-MTA/, 'and no host';
result(submit('s@x.test', 'u@temp.test'), 'dsn=4.3.0, status=deferred (temporary failure)');
result(submit('s@x.test', 'u@say.test'), 'dsn=4.2.2, status=deferred (over quota)');
result(submit('s@x.test', 'u@large.test'), 'dsn=5.2.3, status=bounced (message too large)');
result(submit('s@x.test', 'u@gone.test'), 'dsn=4.3.0, status=deferred (temporary failure. Command output: '
	. "pipe: fatal: pipe_command: execvp $dir/nothing: No such file or directory)");
result(submit('s@x.test', 'u@ghost.test'), 'dsn=4.3.5, status=deferred (mail system configuration error: unknown user name: no-such-user)');
result(submit('s@x.test', 'u@limit.test'), 'dsn=4.3.5, status=deferred (mail system configuration error: '
	. 'flag D requires limit_destination_recipient_limit = 1)');
like +($mta->command('posthaste', 'check'))[1], qr/warning: \S+master\.cf, line \d+: service ghost: unknown user name: no-such-user/,
	'posthaste check tells it, too';

# what each exit status means, with an output and without: as in Postfix
sub meanings {
	my ($port, $log) = @_;
	my %qid;
	my $smtp = $mta->smtp($port);
	$smtp->ok('EHLO client.example');
	for my $to (map { ("ex$_", "say$_") } @codes) {
		my ($q) = $smtp->mail('s@x.test', "u\@$to.test", "Subject: x\n\nx\n") =~ /queued as (\S+)/;
		$qid{$to} = $q;
	}
	$smtp->quit;
	my %got;
	for my $to (sort keys %qid) {
		wait_until(sub { $log->() =~ /: $qid{$to}: to=.*status=/ });
		($got{$to}) = $log->() =~ /: $qid{$to}: to=.*(relay=\w+), .*(?=dsn)(.*)/ ? "$1 $2" : undef;
	}
	return \%got;
}
my $ours = meanings(undef, sub { $mta->log });
is $ours->{ex75}, 'relay=ex75 dsn=4.3.0, status=deferred (temporary failure)', 'a temporary failure';
is $ours->{say67}, 'relay=say67 dsn=5.1.1, status=bounced (user unknown. Command output: word 67)', 'an unknown user';
my $why = Peers::obstacle();
SKIP: {
	skip $why, 1 if $why;
	my $maps = join ' ', map { "{ ex$_.test = ex$_: } { say$_.test = say$_: }" } @codes;
	my $postfix = Peers->postfix(home => 'vv.test', next => 1, master => $codes,
		main => "relay_domains = static:all\ntransport_maps = inline:{ $maps }\n") or die "Postfix does not run\n";
	my $his = meanings($postfix->{port}, sub { $postfix->log });
	$postfix->stop;
	is_deeply $ours, $his, 'the same as in Postfix' or diag explain [ $ours, $his ];
}

# a command that takes too long is ended with all it started
$qid = submit('s@x.test', 'first@slow.test');
ok wait_until(sub { -e "$dir/out/pidfirst" }), 'a slow command runs';
my ($pid) = slurp("$dir/out/pidfirst") =~ /(\d+)/;
my @family = ($pid, slurp("/proc/$pid/task/$pid/children") =~ /\d+/g);
$mta->advance(201);
result($qid, "dsn=5.3.0, status=bounced (Command time limit exceeded: \"$dir/slow\")");
my $alive = sub { return grep { -e "/proc/$_" && slurp("/proc/$_/stat") !~ /\) Z / } @_ };
ok wait_until(sub { !$alive->(@family) }), 'nothing of it is left';
ok wait_until(sub { $mta->http('/stats') =~ /"deliver_commands_ended":\s*1\b/ }), 'counted';

# and one that writes without end: others are served beside it
$qid = submit('s@x.test', 'u@flood.test');
ok wait_until(sub { -e "$dir/out/flood" }), 'a command that writes without end runs';
result(submit('s@x.test', 'u@temp.test'), 'dsn=4.3.0, status=deferred (temporary failure)');
$mta->advance(201);
like $mta->wait_log(qr/postfix\/pipe\[\d+\]: $qid: (to=.*)/) // '',
	qr/status=bounced \(Command time limit exceeded: "\Q$dir\E\/flood"\. Command output: y y /, 'ended as well';

# so it is with one whose worker is killed; the delivery is in doubt, and made again
$qid = submit('s@x.test', 'second@slow.test');
ok wait_until(sub { -e "$dir/out/pidsecond" }), 'another one runs';
($pid) = slurp("$dir/out/pidsecond") =~ /(\d+)/;
@family = ($pid, slurp("/proc/$pid/task/$pid/children") =~ /\d+/g);
unlink "$dir/out/pidsecond";
my ($local) = grep { $_->{class} eq 'local' } $mta->workers;
kill 'KILL', $local->{pid};
ok wait_until(sub { !$alive->(@family) }), 'its commands end with a worker';
like +($mta->command('postqueue', '-D'))[1], qr/$qid/, 'in doubt';
ok wait_until(sub { -e "$dir/out/pidsecond" }), 'and run again';

# mail that a command sends: its postdrop has the rights of its group again
SKIP: {
	skip 'needs root', 1 if $> != 0;
	my ($line) = grep { /^NoNewPrivs:/ } split /\n/, slurp('/proc/' . (slurp("$dir/out/pidsecond") =~ /(\d+)/)[0] . '/status');
	like $line, qr/\t0$/, 'a command may start programs with rights of their own';
}
is $mta->stop, 0, 'stop';
ok wait_until(sub { !$alive->(slurp("$dir/out/pidsecond") =~ /(\d+)/) }), 'no command is left';
done_testing;
