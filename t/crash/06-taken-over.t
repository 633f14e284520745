#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A taken-over worker. Built with --enable-fault-points, a worker can be told to go bad
# (workers/common/evil.h): it writes random and chosen values over every region it can map, sends
# records and messages of every kind, fills eventfds, floods the log, or falls silent. Meanwhile honest
# mail flows through the other workers of the class. The supervisor and priv live on, no other worker
# crashes or grows, the bad one is ended and replaced, and no acknowledged message is lost, changed or
# given to anybody else.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";

my $top;

BEGIN {
	$top = "$FindBin::Bin/../..";
	$ENV{POSTHASTE_BUILD} = $ENV{POSTHASTE_FAULT_BUILD} || "$top/build-fault";
}
use Oracle;
use Posthaste qw(run_ok slurp spawn spew wait_until);
use Prove;
use Test::More;
use Time::HiRes qw(sleep time);

my $c = Prove->new(name => '06-taken-over', title => 'Taken-over workers');
if (!$ENV{POSTHASTE_FAULT_BUILD}) {
	my ($rc, $out) = run_ok("$top/scripts/build", '-t', 'all install t/bench/load t/bench/sink', 'build-fault',
		'--enable-fault-points', 'CFLAGS=-O1 -g');
	BAIL_OUT("the build with crash points failed: $out") if $rc;
}

# the order of enum worker_class and of enum evil_mode
my @classes = qw(supervisor log resolver rewrite smtpd deliver local stats);
my @modes   = qw(scribble chosen records lies mute spin control wake log mixed);
my @victims = $c->full ? @classes[1 .. 7] : qw(smtpd rewrite deliver resolver stats log local);
@victims = split ' ', $ENV{POSTHASTE_EVIL_CLASS} if $ENV{POSTHASTE_EVIL_CLASS};
my $seeds   = 1;
my $watchdog = 3;      # seconds
my $grown_most = 48 << 10; # KiB that any other process may have grown by
my $magic = 0x4c495645;

my $uid = $> == 0 ? (getpwnam 'nobody')[2] : $>;
my $gid = $> == 0 ? (getpwnam 'nobody')[3] : (split ' ', $))[0];

sub rss { return slurp("/proc/$_[0]/status") =~ /^VmRSS:\s*(\d+)/m ? $1 : 0 }
# user and system time of a process, seconds
sub cpu {
	my @f = split ' ', slurp("/proc/$_[0]/stat") =~ s/^.*\) //r;
	return @f > 12 ? ($f[11] + $f[12]) / 100 : 0;
}

sub new_system {
	my (%more) = @_;
	my $sink = Posthaste->sink;
	my $mta  = Posthaste->prepare(main => {
		relayhost => "[127.0.0.1]:$sink->{port}", virtual_mailbox_domains => 'box.test',
		virtual_mailbox_maps => 'static:all/', virtual_uid_maps => "static:$uid",
		virtual_gid_maps => "static:$gid", smtpd_error_sleep_time => '0s', smtpd_workers => 2,
		rewrite_workers => 2, deliver_workers => 2, local_workers => 2, smtpd_peername_lookup => 'yes',
		worker_watchdog_time => "${watchdog}s", stop_drain_time => '10s', log_ring_size => '256k',
		%more,
	});
	$mta->configure(virtual_mailbox_base => "$mta->{dir}/mail");
	my $page = "$mta->{dir}/evil";
	spew($page, pack('L', $magic) . "\0" x 252);
	chmod 0666, $page;
	local $ENV{POSTHASTE_EVIL} = $page;
	$mta->launch;
	return { mta => $mta, sink => $sink, page => $page, oracle => Oracle->new, run => 0 };
}

sub page { # taken, acts, breaches, regions, kinds
	my ($sys) = @_;
	return unpack 'x20 L5', slurp($sys->{page});
}

sub arm {
	my ($sys, $class, $mode, $seed) = @_;
	my ($who) = grep { $classes[$_] eq $class } 0 .. $#classes;
	my ($how) = grep { $modes[$_] eq $mode } 0 .. $#modes;
	open my $fh, '+<', $sys->{page} or die "$sys->{page}: $!";
	syswrite $fh, pack('L10', $magic, 0, $who, $how, $seed, 0, 0, 0, 0, 0);
	sysseek $fh, 4, 0;
	syswrite $fh, pack('L', 1);
	close $fh;
	return;
}

sub disarm {
	my ($sys) = @_;
	open my $fh, '+<', $sys->{page} or die "$sys->{page}: $!";
	sysseek $fh, 4, 0;
	syswrite $fh, pack('L', 0);
	close $fh;
	return;
}

sub load_begin {
	my ($sys, $seconds) = @_;
	my $run = ++$sys->{run};
	for my $to (qw(sink box)) {
		my $at = "$sys->{mta}{dir}/$to$run";
		$sys->{oracle}->sent("$to$run");
		push @{ $sys->{loads} }, [ spawn("$at.json", Posthaste::build_dir() . '/t/bench/load', '-s', 6, '-n',
			100000, '-l', 800, '-R', '-p', '-T', $seconds, '-t', "$to$run", '-d', "$to.test", '-o', "$at.acked",
			"127.0.0.1:$sys->{mta}{port}"), "$at.acked" ];
	}
	return;
}

sub load_end {
	my ($sys) = @_;
	my $acked = 0;
	for my $l (splice @{ $sys->{loads} }) {
		Posthaste::end_child($l->[0]);
		$acked += () = slurp($l->[1]) =~ /\n/g;
		$sys->{oracle}->acked($l->[1]);
	}
	return $acked;
}

sub all_up {
	my ($sys, $not) = @_;
	return wait_until(sub {
		my %up;
		$_->{state} eq 'up' && $_->{pid} != ($not || 0) and $up{ $_->{class} }++ for $sys->{mta}->workers;
		return 1 == ($sys->{mta}->status->{ready} // 0) && !grep { ($up{$_} || 0) <
			(/^(?:smtpd|rewrite|deliver|local)$/ ? 2 : 1) } @classes[1 .. 7];
	}, 20);
}

# A message through whatever still serves; true when it is accepted.
sub served {
	my ($sys) = @_;
	for (1 .. 8) {
		my $ok = eval {
			local $SIG{ALRM} = sub { die "slow\n" };
			alarm 3;
			my $smtp = $sys->{mta}->smtp;
			$smtp->ok('EHLO x');
			my $r = $smtp->mail('a@load.test', 'r0.probe-0@box.test', "X-Load-Id: probe-0\nX-Load-Crc: 00000000\n\n");
			alarm 0;
			$r =~ /^250 2\.0\.0/;
		};
		alarm 0;
		return 1 if $ok;
		sleep 0.3;
	}
	return 0;
}

my (%ended, %acts, @slow);
my ($trials, $breaches, $acked_meanwhile, $worst_growth, $unserved) = (0, 0, 0, 0, 0);

# One worker goes bad. Returns what is wrong.
sub trial {
	my ($sys, $class, $mode, $seed) = @_;
	my ($mta, @bad) = ($sys->{mta});
	return 'not all workers are up before' unless all_up($sys);
	my %before = map { $_->{pid} => rss($_->{pid}) } $mta->workers;
	my ($super, $priv) = ($mta->status->{pid}, $mta->master_pid);
	$before{$super} = rss($super);
	arm($sys, $class, $mode, $seed);
	load_begin($sys, $c->full ? 3 : 2);
	my $taken = wait_until(sub { (page($sys))[0] }, 5);
	if (!$taken) {
		disarm($sys);
		load_end($sys);
		return 'no worker was taken over';
	}
	$trials++;
	my $began = time;
	sleep 0.5;
	my $gone = sub { !-e "/proc/$taken" || slurp("/proc/$taken/stat") =~ /\) Z/ };
	my $end = wait_until(sub { $gone->() }, $c->full ? $watchdog + 3 : 1.2);
	my $how = $end ? 'ended' : 'outlived';
	my $log = $mta->log;
	$how = 'killed' if $log =~ /killing \S+ process $taken:/;
	$ended{"$class $mode"}{$how}++;
	# while it lives, the others serve
	$unserved++, push @bad, 'nobody serves' if !served($sys);
	my (undef, $acts, $breach, $regions, $kinds) = page($sys);
	$acts{$class} += $acts;
	$breaches += $breach;
	push @bad, "mapped $breach regions of others for writing (kinds $kinds)" if $breach;
	push @bad, 'did nothing' if $acts == 0 && !$end && $mode ne 'spin';
	for my $pid (grep { $_ != $taken } keys %before) {
		my $grown = rss($pid) - $before{$pid};
		$worst_growth = $grown if $grown > $worst_growth;
		push @bad, "process $pid grew by $grown KiB" if $grown > $grown_most;
	}
	if (!$gone->()) {
		kill 'KILL', $taken; # as the operator would
		wait_until(sub { $gone->() }, 3);
	}
	$acked_meanwhile += load_end($sys);
	push @bad, 'supervisor is another' if ($mta->status->{pid} // 0) != $super;
	push @bad, 'priv is another' if ($mta->master_pid // 0) != $priv;
	$mta->advance(61); # back-off of short lives
	push @bad, 'it is not replaced' unless all_up($sys, $taken);
	return join '; ', @bad;
}

for my $class (@victims) {
	my $sys = new_system();
	my $mta = $sys->{mta};
	my @wrong;
	for my $mode ($c->full ? @modes : 'mixed') {
		for my $n (1 .. $seeds) {
			my $seed = 1 + $c->rand(1 << 20);
			my $bad = trial($sys, $class, $mode, $seed);
			push @wrong, "$mode, seed $seed: $bad" if $bad;
			diag "$class $mode, seed $seed: $bad" if $bad;
		}
	}
	is join("\n", @wrong), '', "$class: " . ($c->full ? 'every mode' : 'mixed') . ' is survived';
	my ($damage, $report) = $mta->command('posthaste', 'check-shm');
	is $damage, 0, "$class: shared memory is sound" or diag $report;
	for (1 .. 8) {
		last if wait_until(sub { ($mta->status->{messages} // 1) == 0 }, 2);
		$mta->advance(2000);
	}
	is $mta->status->{messages}, 0, "$class: the queue drains" or diag $mta->log_tail;
	my $super = $mta->status->{pid};
	my $t = cpu($super);
	sleep 0.5;
	cmp_ok cpu($super) - $t, '<', 0.25, "$class: the supervisor rests afterwards";
	is $mta->stop, 0, "$class: stops as it should";
	$sys->{sink}->finish;
	my $o = $sys->{oracle};
	$o->sent('probe');
	$o->sink($sys->{sink});
	$o->maildir(grep { slurp($_) !~ /^X-Load-Id: probe-/m } $mta->maildir_files('all'));
	$o->judge($class);
	is join("\n", grep { /panic:/ && !/EVIL/ } split /\n/, $mta->log), '', "$class: nobody else broke";
	# a scribbled ring may garble what it writes, but never who wrote it, nor begin a line (x: a transport's name)
	my $tag = { smtpd => 'smtpd', rewrite => 'cleanup|qmgr|bounce', deliver => 'smtp|x', local => 'virtual|x',
		resolver => 'resolver', stats => 'stats', log => 'postlog' }->{$class};
	my @forged = grep { /^Jan  1 00:00:00 mx/ || /forged/ && !m{^\S+ +\d+ \S+ mx \S*(?:$tag)\[} ||
		/[\x00-\x08\x0b-\x1f]/ } split /\n/, $mta->log;
	is scalar @forged, 0, "$class: no line of the log is forged" or diag @forged[0 .. 3];
}
# A control: what one worker writes into the log in some seconds, with the limit and without it.
sub flooded {
	my ($limit) = @_;
	my $sys = new_system(log_rate_limit => $limit);
	my $mta = $sys->{mta};
	all_up($sys) or return (0, 0);
	arm($sys, 'smtpd', 'log', 1);
	my $taken = wait_until(sub { (page($sys))[0] }, 10) or return (0, 0);
	my $began = time;
	sleep 5;
	kill 'KILL', $taken;
	my $most = ($limit || 65536) * 1.5 * (time - $began + 10); # ten seconds' worth are saved up
	my $bytes = -s "$mta->{dir}/log";
	$mta->advance(61);
	if ($limit) {
		ok all_up($sys, $taken), 'log: the flooding process is replaced';
		$mta->advance(11);
		ok $mta->wait_log(qr{\d+ log lines of postfix/smtpd \(slot \d+, life \d+\) suppressed: more than log_rate_limit}, 10),
			'log: and what is missing is told' or diag $mta->log_tail;
	}
	$mta->stop;
	$sys->{sink}->finish;
	return ($bytes, $most);
}

if ($c->full) {
	my ($held, $most) = flooded(65536);
	cmp_ok $held, '<', $most, sprintf 'log: with log_rate_limit one worker writes %.1f MB', $held / 1e6;
	my ($free, $bound) = flooded(0);
	cmp_ok $free, '>', $bound, sprintf 'control: without it %.1f MB', $free / 1e6;
	$c->control('a worker that floods the log, no log_rate_limit', sprintf '%.1f MB in 5 s, bound %.1f (%.1f MB with the limit)',
		$free / 1e6, $bound / 1e6, $held / 1e6);
}
is $breaches, 0, 'no region of anybody else could be mapped for writing';
$c->points($trials);
my %sum;
for my $k (sort keys %ended) {
	$sum{$_} += $ended{$k}{$_} for keys %{ $ended{$k} };
}
my %acts_all = (n => 0);
$acts_all{n} += $_ for values %acts;
$c->figure('workers taken over', $trials, scalar(@victims) . ' classes, ' . ($c->full ? scalar @modes : 1) . ' modes');
$c->figure('writes, records and messages of theirs', $acts_all{n});
$c->figure('ended by the supervisor', $sum{killed} || 0);
$c->figure('ended otherwise', $sum{ended} || 0, 'by a fault of their own');
$c->figure('outlived the trial', $sum{outlived} || 0, 'they harmed nobody else');
$c->figure('times nobody served meanwhile', $unserved);
$c->figure('messages acknowledged meanwhile', $acked_meanwhile);
$c->figure('most that another process grew', sprintf('%.1f MiB', $worst_growth / 1024), 'bound ' . ($grown_most >> 10) . ' MiB');
note join "\n", map { my $k = $_; "$k: " . join ', ', map { "$_ $ended{$k}{$_}" } sort keys %{ $ended{$k} } } sort keys %ended;
$c->done;
