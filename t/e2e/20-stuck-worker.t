#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A worker that hangs (here: stopped by a signal) is noticed, killed and replaced; its mail goes on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(wait_until);
use Test::More;

my $sink = Posthaste->sink;
my $mta  = Posthaste->start(main => { relayhost => "[127.0.0.1]:$sink->{port}", worker_watchdog_time => '1s' });
for my $class (qw(deliver rewrite smtpd)) {
	my ($w) = grep { $_->{class} eq $class } $mta->workers;
	kill 'STOP', $w->{pid};
	ok wait_until(sub {
		my ($now) = grep { $_->{class} eq $class && $_->{state} eq 'up' } $mta->workers;
		return $now && $now->{pid} != $w->{pid};
	}, 30), "$class: replaced" or diag $mta->log_tail;
	my $r = Posthaste->load('-s', 2, '-n', 20, '-R', '-t', $class, "127.0.0.1:$mta->{port}");
	is $r->{acked}, 20, "$class: mail is accepted";
}
like $mta->log, qr/killing deliver process \d+: no sign of life \(worker_watchdog_time\)/, 'logged';
ok wait_until(sub { $mta->status->{messages} == 0 }, 30), 'the queue drains';
$mta->stop;
is $sink->finish->{messages}, 60, 'all of it arrived';
done_testing;
