#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# What one process or one client may use up beside the mail: lines of the log, connections to the statistics.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use Posthaste qw(slurp wait_until);
use Test::More;

my $sink = Posthaste->sink;
my $mta  = Posthaste->start(main => {
	relayhost => "[127.0.0.1]:$sink->{port}", log_rate_limit => 2000, smtpd_client_connection_count_limit => 0,
});
# 2000 bytes a second, ten seconds' worth at once: some 200 of these 1500 lines
my $r = Posthaste->load('-s', 5, '-n', 500, '-R', "127.0.0.1:$mta->{port}");
is $r->{acked}, 500, 'mail is accepted';
ok wait_until(sub { $mta->status->{messages} == 0 }, 30), 'and delivered';
my $lines = $mta->count_log(qr{postfix/smtpd\[}) ;
cmp_ok $lines, '>', 50, "some lines of smtpd are written ($lines)";
cmp_ok $lines, '<', 700, 'but not all';
ok wait_until(sub { $mta->count_log(qr{postfix/qmgr\[\d+\]: \w+: removed}) == 500 }, 10), 'those of the queue are: the supervisor has no limit';
$mta->advance(11);
my $told = $mta->wait_log(qr{postlog\[\d+\]: warning: (\d+) log lines of postfix/smtpd \(slot 0, life \d+\) suppressed: more than log_rate_limit}, 10);
cmp_ok $told // 0, '>', 50, 'the log says how many are missing' or diag $mta->log_tail;
my $one = $mta->smtp;
$one->quit;
ok wait_until(sub { $mta->count_log(qr{postfix/smtpd\[}) > $lines }, 10), 'later lines are written again';
like $mta->http('/stats'), qr/"log_suppressed":[1-9]/, 'counted';

my ($stats) = grep { $_->{class} eq 'stats' } $mta->workers;
my $fds = sub { my @f = glob "/proc/$stats->{pid}/fd/*"; return scalar @f };
my $before = $fds->();
my @held;
for (1 .. 300) {
	push @held, IO::Socket::INET->new(PeerAddr => "127.0.0.1:$mta->{stats}", Timeout => 10) or last;
	$held[-1]->autoflush(1);
}
is scalar @held, 300, '300 connections to the statistics';
ok wait_until(sub { $fds->() - $before <= 66 }, 10), 'no more than 64 are kept' or diag $fds->() - $before;
ok $mta->wait_log(qr/statistics: more than 64 connections: \d+ closed, those that came first/, 10), 'the log says so';
like $mta->http('/healthz'), qr/^HTTP\/1\.\d 200/, 'a new one is answered';
my $left = 0;
for my $s (@held) {
	print $s "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
	local $SIG{PIPE} = 'IGNORE';
	my $line = readline $s;
	$left++ if defined $line && $line =~ / 200 /;
}
cmp_ok $left, '>=', 60, "the newest are served ($left)";
cmp_ok $left, '<=', 64, 'and nobody else';
for (1 .. 200) { # connections that come and go are no crowd
	$mta->http('/healthz') =~ / 200 / or last;
}
my ($closed) = $mta->http('/stats') =~ /"stats_closed":(\d+)/;
cmp_ok $closed, '>=', 230, "counted: $closed";
cmp_ok $closed, '<', 320, 'those that end by themselves are not';
undef @held;
is $mta->crashes, '', 'no process was harmed';
is $mta->stop, 0, 'stop';
$sink->finish;
done_testing;
