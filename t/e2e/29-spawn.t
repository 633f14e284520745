#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Services of program spawn, as policy servers are run: a command for each connection, on TCP and Unix sockets, as the
# user of master.cf, at most so many at a time, no longer than its time limit.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use IO::Socket::UNIX;
use Posthaste qw(free_port spew wait_until);
use Socket qw(SOL_SOCKET SO_RCVTIMEO);
use Test::More;
use Time::HiRes qw(sleep time);

my ($tcp, $two, $short, $bad) = map { free_port() } 1 .. 4;
my $user = $> == 0 ? 'games' : getpwuid $>;
my $mta  = Posthaste->prepare(main => { 'policy_time_limit' => '3600s', 'short_time_limit' => '2s', export_environment => 'TZ MAIL_CONFIG COLOUR=red' });
my $dir  = $mta->{dir};
my $policy = "$dir/policy";
spew($policy, <<'EOF');
#!/usr/bin/perl
$| = 1;
my %a;
while (<STDIN>) {
	chomp;
	if (/^exit (\d+)/) { exit $1 }
	if (/^kill/) { kill 9, $$ }
	if (/^sleep/) { sleep 600 }
	if (/^who/) { print join(',', $<, $>, (split ' ', $()[0], "@ARGV", join(' ', map { "$_=$ENV{$_}" } sort keys %ENV), join(' ', sort { $a <=> $b } grep { -e "/proc/$$/fd/$_" && readlink("/proc/$$/fd/$_") =~ /socket/ } 0 .. 30)), "\n"; next }
	if (/^$/) { print 'action=', ($a{recipient} // '') =~ /^bad/ ? '550 no' : 'DUNNO', "\n\n"; %a = (); next }
	$a{$1} = $2 if /^([^=]+)=(.*)/;
}
EOF
chmod 0755, $policy;
my $master = "127.0.0.1:$mta->{port} inet n - n - - smtpd\n" . <<"EOF";
127.0.0.1:$tcp inet n n n - 0 spawn
    user=$user argv=$policy first {second word}
policy unix - n n - 0 spawn user=$user argv=$policy unix
open unix n n n - 0 spawn user=$user argv=$policy public
127.0.0.1:$two inet n n n - 2 spawn -o syslog_name=postfix/two user=$user argv=$policy two
short unix - n n - 0 spawn user=$user argv=$policy short
127.0.0.1:$bad inet n n n - 0 spawn user=$user argv=$dir/nosuch
EOF
spew("$dir/conf/master.cf", $master);
my ($rc, $out) = $mta->command('posthaste', 'check');
is $rc, 0, 'check' or diag $out;
unlike $out, qr/spawn/, '... has nothing to say of spawn';
$mta->launch;

sub tcp { my ($port) = @_; my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 10) or die "port $port: $!"; return timed($s) }
sub unix { my ($name) = @_; my $s = IO::Socket::UNIX->new(Peer => "$dir/spool/$name") or die "$name: $!"; return timed($s) }
sub timed { my ($s) = @_; setsockopt $s, SOL_SOCKET, SO_RCVTIMEO, pack('l!l!', 20, 0); $s->autoflush(1); return $s }
sub ask { my ($s, $text) = @_; print $s $text; my $line = <$s>; return $line // '' }
sub judge { my ($s, $rcpt) = @_; my $a = ask($s, "request=smtpd_access_policy\nrecipient=$rcpt\n\n"); my $empty = <$s>; return $a }

my $s = tcp($tcp);
my ($uid, $gid) = (getpwnam $user)[2, 3];
my @who = split /,/, ask($s, "who\n");
is "@who[0 .. 2]", "$uid $uid $gid", 'the command runs as its user';
is $who[3], 'first second word', '... with its words';
like $who[4], qr/^COLOUR=red MAIL_CONFIG=\S+ PATH=\/usr\/bin:\/bin(?: TZ=\S*)?$/, '... the exported environment and no other';
is $who[5], "0 1 2\n", '... and nothing open but its connection';
is judge($s, 'good@x.test'), "action=DUNNO\n", 'a policy server answers';
is judge($s, 'bad@x.test'), "action=550 no\n", '... again on the same connection';
for my $name ('private/policy', 'public/open') {
	is judge(unix($name), 'bad@x.test'), "action=550 no\n", "... on $name";
}
my @mode = map { sprintf '%o', (stat "$dir/spool/$_")[2] & 07777 } qw(private public private/policy);
is "@mode", '710 710 666', 'directories and sockets have modes';

# ends
$s = tcp($tcp);
is ask($s, "exit 3\n"), '', 'a command that fails';
ok $mta->wait_log(qr/postfix\/spawn\[\d+\]: warning: command \Q$policy\E exit status 3$/m), '... is logged' or diag $mta->log_tail;
$s = tcp($two);
is ask($s, "kill\n"), '', 'a command that is killed';
ok $mta->wait_log(qr/postfix\/two\/spawn\[\d+\]: warning: command \Q$policy\E killed by signal 9$/m), '... is logged, by the name of its service' or diag $mta->log_tail;
is ask(tcp($bad), "x\n"), "spawn: fatal: execvp $dir/nosuch: No such file or directory\n", 'a command that is not there';
ok $mta->wait_log(qr/warning: command \Q$dir\E\/nosuch exit status 75$/m), '... is logged';
my $began = time;
$s = unix('private/short');
is ask($s, "sleep\n"), '', 'a command beyond its time limit';
cmp_ok time - $began, '>', 1.5, '... had its time';
ok $mta->wait_log(qr/warning: \Q$policy\E: process id \d+: command time limit exceeded$/m), '... is logged' or diag $mta->log_tail;

# no more than maxproc
my @held = map { tcp($two) } 1 .. 2;
is judge($_, 'good@x.test'), "action=DUNNO\n", 'one of two' for @held;
my $third = tcp($two);
print $third "request=x\nrecipient=bad\n\n";
ok $mta->wait_log(qr/postfix\/two\/spawn\[\d+\]: warning: service "127\.0\.0\.1:$two" has reached its process limit "2": new clients may experience noticeable delays/), 'a third waits' or diag $mta->log_tail;
is judge(tcp($tcp), 'good@x.test'), "action=DUNNO\n", '... others do not';
close shift @held;
is scalar <$third>, "action=550 no\n", '... and is served when one has ended';

# a crowd: every one is answered
my @crowd = map { tcp($tcp) } 1 .. 60;
print $_ "recipient=bad\n\n" for @crowd;
is scalar(grep { (scalar <$_> // '') eq "action=550 no\n" } @crowd), 60, 'sixty at a time';
my ($worker) = grep { $_->{class} eq 'spawn' } $mta->workers;
is $worker->{state}, 'up', 'the worker is up';
like $mta->http('/stats'), qr/"spawn_running": ?6\d\b/, 'commands that run are counted';
@crowd = ();

# reload: what talks goes on, what is new is served by the new one
$s = tcp($tcp);
is judge($s, 'good@x.test'), "action=DUNNO\n", 'before a reload';
spew("$dir/conf/master.cf", $master . "more unix - n n - 0 spawn user=$user argv=$policy more\n");
is(($mta->command('posthaste', 'reload'))[0], 0, 'reload');
ok wait_until(sub { -S "$dir/spool/private/more" }, 20), 'a new service is there';
is judge(unix('private/more'), 'bad@x.test'), "action=550 no\n", '... and answers';
is judge($s, 'bad@x.test'), "action=550 no\n", 'the old connection goes on';
spew("$dir/conf/master.cf", $master);
is(($mta->command('posthaste', 'reload'))[0], 0, 'reload without it');
ok wait_until(sub { !-e "$dir/spool/private/more" }, 20), '... its socket goes';

# a worker that dies takes its commands along and is replaced
($worker) = grep { $_->{class} eq 'spawn' && $_->{state} eq 'up' } $mta->workers;
kill 'KILL', $worker->{pid};
ok wait_until(sub { my $a = eval { judge(tcp($tcp), 'bad@x.test') }; ($a // '') eq "action=550 no\n" }, 30), 'after the end of the worker another one serves' or diag $mta->log_tail;

# mistakes are told before anything runs
for my $case ([ "x unix - n n - 0 spawn argv=/bin/true", 'missing user= command-line attribute' ],
	[ "x unix - n n - 0 spawn user=$user", 'missing argv= command-line attribute' ],
	[ "x unix - n n - 0 spawn user=root argv=/bin/true", 'user= command-line attribute specifies root privileges' ],
	[ "x unix - n n - 0 spawn user=$user flags=R argv=/bin/true", 'unknown attribute name: flags=R' ]) {
	my ($line, $want) = @$case;
	spew("$dir/conf/master.cf", "$master$line\n");
	($rc, $out) = $mta->command('posthaste', 'check');
	is $rc, 1, $want;
	like $out, qr/master\.cf, line 9: x: spawn: \Q$want\E/, '... with its place';
}
isnt(($mta->command('posthaste', 'reload'))[0], 0, 'a reload with a mistake is refused');
is judge(tcp($tcp), 'bad@x.test'), "action=550 no\n", '... and the old configuration goes on';
spew("$dir/conf/master.cf", $master);
$began = time;
@held = (tcp($tcp), unix('private/policy'));
judge($_, 'good@x.test') for @held;
is $mta->stop, 0, 'stop';
cmp_ok time - $began, '<', 15, '... does not wait for clients of policy servers';
is ask($held[0], "\n"), '', '... whose commands have ended';
my @expected = grep { !/killed by signal 9/ } split /\n/, $mta->crashes;
is "@expected", '', 'nothing else crashed';
done_testing;
