#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A queue of a million deferred messages (make_queue; 20,000 in the sample): memory for each, time to
# the first delivery and until all are scheduled, after a clean stop and after kill -9; listings, a
# reload and a purge without growth. Beside it Debian's Postfix with 100,000 (the whole run only).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Peers;
use POSIX qw(WNOHANG);
use Posthaste qw(run_ok slurp spew wait_until);
use Prove;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'needs root (it writes as the owner of the spool)' if $> != 0;
my $c = Prove->new(name => '10-big-queue', title => 'The queue at scale');
my $n = $ENV{POSTHASTE_QUEUE} || ($c->full ? 1_000_000 : 20_000);
my $due = 100; # at the first start; as many more become due each time the clock is moved
my $sink = Posthaste->sink;
my $hop  = "[127.0.0.1]:$sink->{port}";
my $mta  = Posthaste->start(main => { relayhost => $hop });

# ---- processes ----

sub pids {
	my $master = $mta->master_pid;
	return ($master, split ' ', slurp("/proc/$master/task/$master/children"));
}

# Sum over all processes of the instance, in kB. Pss counts what is shared once.
sub memory {
	my ($file, $key) = @_;
	my $sum = 0;
	slurp("/proc/$_/$file") =~ /^$key:\s+(\d+) kB/m and $sum += $1 for pids();
	return $sum;
}

# The most that each process had since the last call, summed up.
sub peak {
	my $sum = memory('status', 'VmHWM');
	spew("/proc/$_/clear_refs", '5') for pids();
	return $sum;
}

# Run a command, output to a file. Returns seconds and the most memory it had in kB.
sub measure {
	my ($out, @cmd) = @_;
	my $began = time;
	local $ENV{POSTHASTE_CLOCK} = "$mta->{dir}/clock";
	my $pid = Posthaste::spawn($out, @cmd);
	my $most = 0;
	while (waitpid($pid, WNOHANG) == 0) {
		slurp("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m and $1 > $most and $most = $1;
		sleep 0.005;
	}
	is $?, 0, join ' ', map { s{.*/}{}r } grep { !/^-c$|conf$/ } @cmd;
	return (time - $began, $most);
}

sub command {
	my ($out, $name, @args) = @_;
	return measure($out, Posthaste::prefix() . "/sbin/$name", '-c', "$mta->{dir}/conf", @args);
}

sub lines {
	my ($file) = @_;
	my ($rc, $out) = run_ok('wc', '-l', $file);
	return $out =~ /^(\d+)/ ? $1 : 0;
}

# Over all workers that there are; undef when there is no such counter.
sub counter {
	my ($name) = @_;
	my @values = $mta->http('/metrics') =~ /^posthaste_\Q$name\E(?:_total)?(?:\{[^}]*\})? (\d+)/mg;
	my $sum;
	$sum += $_ for @values;
	return $sum;
}

# ---- starts ----

sub restart {
	my ($how) = @_;
	spew("$mta->{dir}/log", '');
	my $began = time;
	$mta->launch;
	ok wait_until(sub { $mta->log =~ /status=sent/ }, 60), "$how: mail is delivered";
	my $first = time - $began;
	my ($count, $records, $ms) = $mta->log =~ /recovered (\d+) messages of (\d+) records .* in (\d+) ms/;
	is $records, $n, "$how: every record is found";
	cmp_ok $first, '<', 2, sprintf '%s: first delivery after %.2f s', $how, $first if $c->full;
	cmp_ok $ms, '<', 15000, "$how: everything is scheduled after $ms ms";
	$c->figure("first delivery after $how", sprintf('%.2f s', $first), 'bound 2 s');
	$c->figure("everything scheduled after $how", sprintf('%.2f s', $ms / 1000), "bound 15 s, $n messages");
	return $count;
}

# What is due now is delivered, nothing more.
sub settle {
	my ($want) = @_;
	ok wait_until(sub { $mta->status->{messages} == $want }, 30), "what was due is gone, $want wait"
		or diag $mta->status->{messages};
	return;
}

my $empty = do { wait_until(sub { $mta->smtp }, 10); memory('smaps_rollup', 'Pss') };
$mta->stop;
my ($rc, $out) = run_ok('setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups',
	Posthaste::build_dir() . '/t/crash/make_queue', '-n', $n, '-u', $due, $hop, "$mta->{dir}/spool");
like $out, qr/^$n messages$/m, "a queue of $n" or BAIL_OUT('no queue');
run_ok('sync', '-f', "$mta->{dir}/spool"); # it was not written just now in a real life
restart('a clean stop');
settle($n - $due);
my $bytes = (memory('smaps_rollup', 'Pss') - $empty) * 1024 / $n;
cmp_ok $bytes, '<=', 100, sprintf '%.1f bytes in memory for each', $bytes if $c->full;
$c->figure('memory per deferred message', sprintf('%.1f bytes', $bytes),
	'bound 100; all processes, beyond those of an empty queue');
$c->points($n);

# ---- listings, a reload ----

peak();
my ($s, $most) = command("$mta->{dir}/list1", 'postqueue', '-j');
my $others = peak();
is lines("$mta->{dir}/list1"), $n - $due, 'the list has all';
cmp_ok $most, '<', 32768, "postqueue needs $most kB";
$c->figure('postqueue -j', sprintf('%.2f s', $s), "at most $most kB of its own, $others kB all others");
my $before = peak();
($s, $most) = command("$mta->{dir}/list2", 'postqueue', '-p');
cmp_ok $most, '<', 32768, "postqueue -p needs $most kB";
cmp_ok peak() - $before, '<', 8192, 'the others do not grow with a listing';
$c->figure('postqueue -p', sprintf('%.2f s', $s), "at most $most kB");

my %counted = map { $_ => counter($_) } qw(rewrite_loads sched_jobs sched_deferrals);
$mta->command('posthaste', 'reload');
ok wait_until(sub { my @w = $mta->workers; @w && !grep { $_->{generation} < 2 } @w }, 30), 'reload';
sleep 1;
is counter($_), $counted{$_}, "the reload leaves $_ at " . ($counted{$_} // 'nothing')
	for sort keys %counted;
ok !(grep { !defined } values %counted), 'these counters exist';
command("$mta->{dir}/list2", 'postqueue', '-j');
my ($same) = run_ok('cmp', "$mta->{dir}/list1", "$mta->{dir}/list2");
is $same, 0, 'the same entries after the reload';
unlink "$mta->{dir}/list1", "$mta->{dir}/list2";

# ---- kill -9 ----

# the first that become due after it: those of the next 300 seconds
$mta->crash;
$mta->advance(300);
restart('kill -9');
my $left = $mta->status->{messages};

# ---- purge ----

peak();
$before = peak();
($s, $most) = command("$mta->{dir}/purge", 'postsuper', '-d', 'ALL');
ok wait_until(sub { $mta->status->{messages} == 0 }, 30), 'the purge leaves nothing';
cmp_ok peak() - $before, '<', 16384, 'nor does a process grow by it';
cmp_ok $most, '<', 32768, "postsuper needs $most kB";
$c->figure('postsuper -d ALL', sprintf('%.2f s', $s), "at most $most kB");
is $mta->crashes, '', 'no crash';
is $mta->stop, 0, 'stop';
my $got = $sink->finish;
is $got->{bad_crc} + $got->{misdelivered} + $got->{without_id}, 0, 'what was delivered was whole';
my %have = %{ $sink->received };
is scalar(grep { $_ > 1 } values %have) <= 200, 1, 'at most what was under way at the kill was repeated';
$c->done;
