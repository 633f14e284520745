#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 of every process at once, under load, then a start: nothing acknowledged is lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(spawn slurp wait_until);
use Time::HiRes qw(sleep);
use Test::More;

my $rounds = $ENV{POSTHASTE_ROUNDS} || 3;
my $sink = Posthaste->sink;
my $mta  = Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$sink->{port}" });
my @acked;
for my $round (1 .. $rounds) {
	$mta->launch;
	my $load = spawn("$sink->{dir}/load$round", Posthaste::build_dir() . '/t/bench/load', '-s', 20,
		'-n', 1000000, '-T', 1.5, '-p', '-R', '-t', "round$round", '-o', "$sink->{dir}/acked$round",
		"127.0.0.1:$mta->{port}");
	sleep 0.3 + 0.25 * $round;
	$mta->crash;
	Posthaste::wait_child($load);
	push @acked, map { /^(\S+)/ ? $1 : () } split /\n/, slurp("$sink->{dir}/acked$round");
	pass "round $round: " . @acked . ' acknowledged so far';
}
$mta->launch;
for (1 .. 6) {
	last if wait_until(sub { $mta->status->{messages} == 0 }, 15);
	$mta->advance(1200);
}
is $mta->status->{messages}, 0, 'the queue drains';
$mta->stop;
my $got = $sink->finish;
my $rec = $sink->received;
my %have;
for my $k (keys %$rec) {
	my ($id) = split ' ', $k;
	$have{$id} += $rec->{$k};
}
cmp_ok scalar(@acked), '>', 200, 'enough was acknowledged to tell';
is scalar(grep { !$have{$_} } @acked), 0, 'nothing acknowledged is lost';
is $got->{bad_crc} + $got->{misdelivered} + $got->{without_id}, 0, 'nothing damaged or misdelivered';
note 'duplicates: ' . scalar(grep { ($have{$_} || 0) > 1 } @acked) . ' of ' . @acked;
is join('', grep { /panic:/ } split /\n/, $mta->crashes), '', 'no panic';
done_testing;
