#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 of any one worker, again and again under load: nothing acknowledged is lost, and service
# goes on. Messages that were in delivery when their worker died may arrive twice; they are counted.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(spawn slurp wait_until);
use Time::HiRes qw(sleep time);
use Test::More;

my $rounds = $ENV{POSTHASTE_ROUNDS} || 4;

for my $class (qw(rewrite deliver smtpd resolver log stats supervisor)) {
	my $sink = Posthaste->sink;
	my $mta  = Posthaste->start(main => { relayhost => "[127.0.0.1]:$sink->{port}" });
	my $acked = "$sink->{dir}/acked";
	my $load = spawn("$sink->{dir}/load", Posthaste::build_dir() . '/t/bench/load', '-s', 10, '-n',
		1000000, '-T', 120, '-R', '-p', '-l', 1000, '-o', $acked, "127.0.0.1:$mta->{port}");
	my $killed = 0;
	for (1 .. $rounds) {
		sleep 0.6;
		my $pid;
		if ($class eq 'supervisor') {
			my $master = $mta->master_pid;
			for my $p (slurp("/proc/$master/task/$master/children") =~ /\d+/g) {
				$pid = $p if slurp("/proc/$p/comm") =~ /^supervisor/;
			}
		} else {
			($pid) = map { $_->{pid} } grep { $_->{class} eq $class } $mta->workers;
		}
		$killed += kill 'KILL', $pid if $pid;
	}
	sleep 0.7; # load goes on after the last one
	# on a machine that has little time for us a round is soon over
	wait_until(sub { $sink->progress->{recipients} > 200 }, 100);
	kill 'TERM', $load;
	Posthaste::wait_child($load);
	cmp_ok $killed, '>=', $rounds / 2, "$class: killed $killed times";
	ok wait_until(sub { ($mta->status->{ready} || 0) == 1 }, 30), "$class: service goes on";
	my ($damage, $report) = $mta->command('posthaste', 'check-shm');
	is $damage, 0, "$class: shared memory is sound" or diag $report;
	my $reply;
	wait_until(sub { # what was killed last may not be there yet
		$reply = eval {
			my $smtp = $mta->smtp;
			$smtp->ok('EHLO x');
			$smtp->mail('a@load.test', 'r0.last-0@sink.test', "X-Load-Id: last-0\nX-Load-Crc: 00000000\n\n");
		} || $@;
		$reply =~ /^250 2\.0\.0/;
	}, 30);
	like $reply, qr/^250 2\.0\.0/, "$class: mail is accepted";
	for (1 .. 6) {
		last if wait_until(sub { $mta->status->{messages} == 0 }, 15);
		$mta->advance(1200);
	}
	is $mta->status->{messages}, 0, "$class: the queue drains";
	$mta->stop;
	my $r = Posthaste::parse_json(slurp("$sink->{dir}/load"));
	my $got = $sink->finish;
	my %have;
	my $rec = $sink->received;
	$have{ (split ' ')[0] } += $rec->{$_} for keys %$rec;
	my @acked = map { /^(\S+)/ ? $1 : () } split /\n/, slurp($acked);
	cmp_ok scalar(@acked), '>', 100, "$class: " . @acked . ' messages acknowledged';
	is scalar(grep { !$have{$_} } @acked), 0, "$class: none of them lost";
	is $got->{bad_crc} - 1 + $got->{misdelivered} + $got->{without_id}, 0, "$class: none damaged or misdelivered";
	note "$class: duplicates: " . scalar(grep { ($have{$_} || 0) > 1 } @acked) . ' of ' . @acked;
	is join('', grep { /panic:/ } split /\n/, $mta->crashes), '', "$class: no panic";
}
done_testing;
