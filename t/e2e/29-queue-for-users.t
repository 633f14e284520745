#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Ordinary users look at the queue and ask for attempts, by the set-gid postqueue, as in Postfix: what they see is what
# root sees, authorized_mailq_users and authorized_flush_users say who may. Nothing they send holds up the mail system or
# makes it grow.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use File::Copy qw(copy);
use IO::Socket::UNIX;
use POSIX ();
use Posthaste qw(free_port run_ok slurp wait_until);
use Socket qw(SOCK_SEQPACKET);
use Test::More;

my $sbin = Posthaste::prefix() . '/sbin';
my $sanitized = slurp(Posthaste::build_dir() . '/options') =~ /--enable-[at]san/;
plan skip_all => 'needs root, unshare and setpriv, and no sanitizer'
	unless $> == 0 && !$sanitized && run_ok(qw(unshare -m setpriv --reuid=games --regid=games --clear-groups true));

my $port = free_port(); # nobody listens there yet
my $mta  = Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$port", setgid_group => 'mail' });
my $own  = "$mta->{dir}/sbin";
mkdir $own;
copy("$sbin/$_", "$own/$_") && chmod 0755, "$own/$_" for qw(sendmail mailq postqueue);
my $group = (getgrnam 'mail')[2];
chown 0, $group, "$own/postqueue";
chmod 02755, "$own/postqueue";
$mta->configure(command_directory => $own);
$mta->launch;

# as a user, with the instance's configuration as the built-in one
my $conf = (run_ok("$sbin/postconf", '-dh', 'config_directory'))[1] =~ s/\s//gr;
my @parts = split m{/}, $conf;
sub as_user {
	my ($user, @cmd) = @_;
	my $script = "mount -t tmpfs tmpfs $parts[1] 2>/dev/null || mount -t tmpfs tmpfs " . join('/', @parts[0 .. 2]) .
		" && mkdir -p $conf && cp $mta->{dir}/conf/* $conf/ && chmod -R a+rX $conf && " .
		"exec setpriv --reuid=$user --regid=$user --clear-groups \"\$@\"";
	return run_ok('unshare', '-m', 'sh', '-c', $script, 'sh', @cmd);
}

my $smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
my @ids = map { $smtp->mail("s$_\@client.example", [ "r$_\@far.example", "x$_\@far.example" ], "Subject: $_\n\n$_") =~ /queued as (\S+)/ } 1 .. 3;
is scalar(@ids), 3, 'three messages';
my @many = $smtp->mail('many@client.example', [ map { "r$_\@many.example" } 1 .. 300 ], "Subject: many\n\nx") =~ /queued as (\S+)/;
$smtp->quit;
for my $id (@ids) {
	ok $mta->wait_log(qr/$id: to=.*status=deferred/), "$id is deferred" or diag $mta->log_tail;
}
is(($mta->command('postsuper', '-h', $ids[1]))[0], 0, 'one is held');
my ($rc, $roots, $out);
wait_until(sub { $roots = ($mta->command('postqueue', '-p'))[1]; $roots !~ m{^\w+\*}m && $roots =~ m{temporarily suspended.*\n +r1\@many} }, 20);
like $roots, qr/ in 4 Requests\.$/m, 'root sees four';
like $roots, qr/^$ids[1]!/m, '... one of them held';

for my $case ([ 'postqueue', '-p' ], [ 'mailq' ], [ 'sendmail', '-bp' ]) {
	my ($name, @args) = @$case;
	($rc, $out) = as_user('games', "$own/$name", @args);
	is $rc, 0, "a user: $name @args";
	is $out, $roots, '... shows what root sees';
}
($rc, $out) = as_user('games', "$own/postqueue", '-j');
is $out, ($mta->command('postqueue', '-j'))[1], '... and as JSON';
my ($refused) = as_user('games', "$sbin/postqueue", '-p');
isnt $refused, 0, 'without its group postqueue shows nothing';
($rc, $out) = as_user('games', "$own/postqueue", '-D');
isnt $rc, 0, 'deliveries in doubt are for root';

# ---- who may ----

if (!fork) { # nobody but members of the group reaches the socket
	POSIX::setgid((getpwnam 'games')[3]);
	$) = $( = (getpwnam 'games')[3];
	POSIX::setuid((getpwnam 'games')[2]);
	POSIX::_exit(IO::Socket::UNIX->new(Type => SOCK_SEQPACKET, Peer => "$mta->{dir}/spool/public/showq") ? 1 : 0);
}
wait;
is $?, 0, 'a user cannot open the socket himself';
$mta->configure(command_directory => $own, authorized_mailq_users => '!games, static:all', authorized_flush_users => 'root');
($rc, $out) = as_user('games', "$own/postqueue", '-p');
is $rc, 69, 'authorized_mailq_users';
is $out, 'postqueue: fatal: User games(' . (getpwnam 'games')[2] . ") is not allowed to view the mail queue\n", '... says so';
($rc, $out) = as_user('bin', "$own/mailq");
is $out, $roots, 'another user is shown it';
($rc, $out) = as_user('bin', "$own/postqueue", '-f');
is $rc, 69, 'authorized_flush_users';
is $out, 'postqueue: fatal: User bin(' . (getpwnam 'bin')[2] . ") is not allowed to flush the mail queue\n", '... says so';
$mta->configure(command_directory => $own);

# ---- what users can do to it ----

my ($showq) = map { $_->{pid} } grep { $_->{class} eq 'showq' } $mta->workers;
my $supervisor = $mta->status->{pid};
sub memory { my ($kb) = slurp("/proc/$_[0]/status") =~ /^RssAnon:\s+(\d+)/m; return $kb // 0 }
my %before = map { $_ => memory($_) } $showq, $supervisor;
# one who has the group: 10,000 connections, of which he keeps as many as he gets, asks, and does not read
pipe my $from_pest, my $to_us or die "pipe: $!";
my $pest = fork;
if (!$pest) {
	$) = "$group $group";
	POSIX::setgid($group);
	POSIX::setuid((getpwnam 'games')[2]);
	my @kept;
	for my $i (1 .. 10000) {
		my $s = IO::Socket::UNIX->new(Type => SOCK_SEQPACKET, Peer => "$mta->{dir}/spool/public/showq") or next;
		send $s, $i % 3 == 0 ? "list\0" : $i % 3 == 1 ? join('', map { chr rand 256 } 1 .. rand 3000) : "list\0" . 'x' x 40000, 0x4000;
		push @kept, $s if $i <= 200;
	}
	syswrite $to_us, 'x';
	sleep 600;
	POSIX::_exit(0);
}
close $to_us;
# the queue is shown to others meanwhile, and mail is taken
($rc, $out) = as_user('bin', "$own/postqueue", '-p');
is $out, $roots, 'another user sees the queue while one floods it';
$smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
my ($during) = $smtp->mail('d@client.example', 'd@far.example', "Subject: d\n\n") =~ /as (\S+)/;
$smtp->quit;
ok $during, 'mail is taken';
is sysread($from_pest, my $done, 1), 1, 'he has tried 10,000 times';
($rc, $out) = as_user('bin', "$own/postqueue", '-p');
is $rc, 0, 'and still another user sees it';
for my $pid ($showq, $supervisor) {
	my $grown = memory($pid) - $before{$pid};
	cmp_ok $grown, '<', 20000, "process $pid has not grown" or diag $grown;
}
my $stats = $mta->http("/stats");
like $stats, qr/"showq_refused": ?[1-9]\d{2}/, 'connections without room are counted';
kill 'KILL', $pest;
waitpid $pest, 0;
is(($mta->workers)[0] && join(' ', map { $_->{pid} } grep { $_->{class} eq 'showq' } $mta->workers), $showq, 'showq is the same process');

# ---- attempts ----

# all deferred mail, one message, one site
my $peer = Posthaste->recorder("127.0.0.1:$port");
($rc, $out) = as_user('games', "$own/postqueue", '-i', $ids[0]);
is "$rc$out", '0', 'a user: postqueue -i';
ok $mta->wait_log(qr/$ids[0]: removed/), '... delivers that message' or diag $mta->log_tail;
($rc, $out) = as_user('games', "$own/postqueue", '-i', 'nonsense!');
isnt $rc, 0, 'no queue id';
($rc, $out) = as_user('games', "$own/postqueue", '-f');
is "$rc$out", '0', 'a user: postqueue -f';
ok $mta->wait_log(qr/$_: removed/), '... delivers' or diag $mta->log_tail for $ids[2], @many;
($rc, $out) = as_user('games', "$own/sendmail", '-q');
is "$rc$out", '0', 'a user: sendmail -q';
($rc, $out) = as_user('games', "$own/postqueue", '-s', '127.0.0.1');
is "$rc$out", '0', 'a user: postqueue -s';
unlike $mta->log, qr/$ids[1]: removed/, 'what is held stays';

# tables change and configurations are reloaded while somebody looks
is(($mta->command('posthaste', 'reload'))[0], 0, 'reload');
ok wait_until(sub { my @s = grep { $_->{class} eq 'showq' } $mta->workers; @s == 1 && $s[0]{pid} != $showq }, 30), 'another process serves';
($rc, $out) = as_user('games', "$own/mailq");
like $out, qr/^$ids[1]!.* in 1 Request\.$/ms, '... the same';
is $mta->stop, 0, 'stop';
($rc, $out) = as_user('games', "$own/mailq");
is $rc, 69, 'without a mail system';
is $out, "postqueue: fatal: Queue report unavailable - mail system is down\n", '... says so';
($rc, $out) = as_user('games', "$own/postqueue", '-f');
is $out, "postqueue: fatal: Cannot flush mail queue - mail system is down\n", '... to who asks for attempts, too';
is $mta->crashes, '', 'nothing crashed';
done_testing;
