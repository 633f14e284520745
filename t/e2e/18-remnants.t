#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# The privileged process is killed while a worker hangs: a new start does not read the spool before
# that worker has ended, because it may still commit mail.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp wait_until);
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep);
use Test::More;

my $sink = Posthaste->sink;
my $mta  = Posthaste->start(main => { relayhost => "[127.0.0.1]:$sink->{port}" });
my @workers = $mta->workers;
my ($rewrite) = map { $_->{pid} } grep { $_->{class} eq 'rewrite' } @workers;
my $master = $mta->master_pid;

# a zombie does nothing any more
sub alive { my ($pid) = @_; return -e "/proc/$pid" && slurp("/proc/$pid/stat") !~ /\) Z / }

kill 'STOP', $rewrite;
kill 'KILL', $master;
ok wait_until(sub { !grep { $_->{pid} != $rewrite && alive($_->{pid}) } @workers }, 10),
	'with the privileged process all others end';
ok alive($rewrite), 'but for the one that hangs';
my $starter = fork // die "fork: $!";
if ($starter == 0) {
	my ($rc) = $mta->command('posthaste', 'start');
	POSIX::_exit($rc ? 1 : 0);
}
ok wait_until(sub { my $new = $mta->master_pid; $new && $new != $master }, 10), 'a new start';
sleep 0.5;
is waitpid($starter, WNOHANG), 0, 'waits';
kill 'CONT', $rewrite;
waitpid $starter, 0;
is $?, 0, 'and goes on when it has ended';
ok !alive($rewrite), 'which it has';
$mta->{running} = 1;
ok wait_until(sub { $mta->log =~ /waiting for processes of an earlier run/ }, 10), 'the log says why';
my $smtp = $mta->smtp;
$smtp->ok('EHLO x');
like $smtp->mail('a@load.test', 'r0.x@sink.test', "Subject: x\r\n\r\nx\r\n"), qr/^250/, 'mail is taken';
$smtp->quit;
ok wait_until(sub { $mta->status->{messages} == 0 }, 20), 'and delivered';
$mta->stop;
$sink->finish;
done_testing;
