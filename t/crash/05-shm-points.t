#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Death behind every store into shared memory. First the sources: no store of shm/ is without its
# point. Then the structures alone (t/stress/shm_faults). Then the whole system, built with
# --enable-fault-points: each class of process dies at each point it passes, at an early, a middle and
# a late passage of a load; the shipped checkers look at what is left, the system goes on, and
# no acknowledged message is lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";

my ($top, $plain);

BEGIN {
	$top   = "$FindBin::Bin/../..";
	$plain = $ENV{POSTHASTE_BUILD} || "$top/build";
	$ENV{POSTHASTE_BUILD} = $ENV{POSTHASTE_FAULT_BUILD} || "$top/build-fault";
}
use Faults;
use Oracle;
use File::Temp;
use Posthaste qw(run_ok slurp spawn spew wait_until);
use Prove;
use Test::More;
use Time::HiRes qw(sleep time);

my $c = Prove->new(name => '05-shm-points', title => 'Death behind every store into shared memory');
my @points = Faults->points;
$c->figure('crash points defined', scalar @points);

# ---- the sources ----

# What writes shared memory. Names: shm, t->shm, m, e, r, row: slots; at: a link in a slot.
my $store = qr/\batomic_(?:store|fetch|compare_exchange)\w*\(|
	^\s*(?:shm|t->shm|m|e|r)->\w+\s*=[^=]|^\s*\*(?:m|shm|at)\s*=[^=]|
	^\s*\*\(struct\ shm_header\ \*\)|^\s*shm->\w+\[\d\]\s*=|
	\bt->(?:msgs|entries|rows)\[[^\]]+\]\.\w+\s*=[^=]|
	\bput_len\(p,|\bmem(?:cpy|set)\((?:at|shm|\(char\ \*\)r|r->nexthop)/x;
# Private memory that is written in the same way.
my $private = qr/^\s*(?:r->base|r->size|\*r\s*=|\*at = t->hash_next|t->(?!shm|msgs|entries|rows))|= QTAB_NONE \? |UINT32_MAX ?:/;

sub statements {
	my ($text) = @_;
	$text =~ s{/\*.*?\*/}{ my $c = $&; $c =~ s/[^\n]//g; $c }gse;
	$text =~ s/"(?:[^"\\\n]|\\.)*"/""/g;
	$text =~ s/\(struct \w+\)\s*\{[^{}]*\}/'INIT' . $& =~ s{[^\n]}{}gr/ge;
	my ($line, @out) = (1);
	for my $s (split /(?<=[;{}])/, $text) { # a statement, or what opens or closes a block
		my ($blank) = $s =~ /^(\s*)/;
		my $at = $line + ($blank =~ tr/\n//);
		$line += $s =~ tr/\n//;
		(my $flat = $s) =~ s/\s+/ /g;
		push @out, [ $at, $flat =~ s/^ //r ] if $flat =~ /\S/;
	}
	return @out;
}

# The slot that a plain store goes into; another string for each swap and copy of content.
sub slot_of {
	my ($s) = @_;
	return $s if $s =~ /atomic_|memcpy\((?!r->)|put_len/;
	return $s =~ /^(?:mem\w+\()?(t->shm|t->\w+\[[^\]]+\]|\w+)/ ? $1 : $s;
}

# Stores without a point behind them. A run of plain stores into one slot has one point.
sub bare_stores {
	my ($name, $text) = @_;
	my @s = statements($text);
	my ($count, @bare) = (0);
	for my $i (0 .. $#s) {
		my ($line, $s) = @{ $s[$i] };
		next if $s !~ $store || $s =~ $private || $s =~ /^(?:static |return )?(?:inline )?\w+ \*?\w+\([^=]*\) \{$/;
		$count++;
		my $j = $i + 1;
		# more stores into the slot, and fences
		$j++ while $j < @s && ($s[$j][1] =~ /^\w+_fence_\w+\(/ ||
			$s[$j][1] =~ $store && slot_of($s[$j][1]) eq slot_of($s));
		$j++ if $s =~ /^if \(/ && $j < @s && $s[$j][1] =~ /^return E_STALE/; # a swap that failed stored nothing
		$j++ while $j < @s && $s[$j][1] =~ /_fence_release/;
		push @bare, "$name:$line: $s" unless $j < @s && $s[$j][1] =~ /^FAULT_POINT\(/;
	}
	return ($count, @bare);
}

my ($stores, @bare) = (0);
for my $file (glob "$top/shm/*.[ch]") {
	my ($n, @b) = bare_stores($file =~ s{.*/}{shm/}r, slurp($file));
	$stores += $n;
	push @bare, @b;
}
is join("\n", @bare), '', 'a crash point stands behind every store of shm/';
cmp_ok $stores, '>', 50, "$stores stores found";
$c->figure('stores into shared memory found in shm/', $stores, 'each followed by a crash point');
# these stand where a step is done that is more than a store: a point before them is behind the store
my %more = map { $_ => 1 } qw(QTAB_SPLIT QTAB_MSG_HASH QTAB_MSG_UNHASH QTAB_ENTRY_FRESH QTAB_RECOVER
	RING_COMMIT RING_GET);
my $blind = 0;
for my $file (glob "$top/shm/*.[ch]") {
	my $text = slurp($file);
	while ($text =~ /\n\s*FAULT_POINT\((\w+)\);/g) { # each point, taken away, must be missed
		my ($from, $to, $point) = ($-[0], $+[0], $1);
		my $less = substr($text, 0, $from) . substr($text, $to);
		my ($n, @b) = bare_stores($file, $less);
		next if @b || $more{$point};
		$blind++;
		diag "$point could be taken away";
	}
}
is $blind, 0, 'and the search notices each one that is taken away';
my $inc = slurp("$top/lib/fault.inc");
my @unused = grep { my $id = $_; !grep { slurp($_) =~ /FAULT_POINT\($id\)/ } glob "$top/shm/*.[ch] $top/workers/*/*.c" }
	$inc =~ /^FAULT\((\w+),/mg;
is "@unused", '', 'every point stands somewhere';

# ---- the structures alone ----

my ($rc, $out) = run_ok("$plain/t/stress/shm_faults", $c->full ? '-a' : ());
is $rc, 0, 'every structure survives a death at every point' or diag grep { /^not ok/ } split /^/, $out;
my ($deaths) = $out =~ /^# \d+ points, (\d+) deaths/m;
cmp_ok $deaths, '>', 300, "$deaths deaths";
$c->points($deaths);
$c->figure('deaths in single structures', $deaths, $c->full ? 'every passage of every point' : 'a sample');

# ---- the whole system ----

my @targets = ('-t', 'all install t/bench/load t/bench/sink');
if (!$ENV{POSTHASTE_FAULT_BUILD}) {
	($rc, $out) = run_ok("$top/scripts/build", @targets, 'build-fault', '--enable-fault-points', 'CFLAGS=-O1 -g');
	BAIL_OUT("the build with crash points failed: $out") if $rc;
}

my $load = Posthaste::build_dir() . '/t/bench/load';
my $uid  = $> == 0 ? (getpwnam 'nobody')[2] : $>;
my $gid  = $> == 0 ? (getpwnam 'nobody')[3] : (split ' ', $))[0];

# A name server, so that the resolver has something to do: every message asks for its sender's domain, and
# nobody keeps the answer.
my $names = File::Temp::tempdir('posthaste-names-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $dns   = Posthaste::free_port();
spew("$names/zone", "load.test A 127.0.0.1\n");
my $server = spawn("$names/out", $^X, "$top/t/e2e/lib/dns.pl", $dns, "$names/zone", 0);
wait_until(sub { -e "$names/zone.log" }, 10) or BAIL_OUT('no name server');

# One instance, its sink, and what was acknowledged. Half of the mail goes to mailboxes.
sub new_system {
	my ($faults, %main) = @_;
	my $sink = Posthaste->sink;
	my $mta  = Posthaste->prepare(main => {
		relayhost => "[localhost]:$sink->{port}", virtual_mailbox_domains => 'box.test',
		virtual_mailbox_maps => 'static:all/', virtual_uid_maps => "static:$uid",
		virtual_gid_maps => "static:$gid", smtp_host_lookup => 'native', smtpd_error_sleep_time => '0s',
		%main,
		smtpd_soft_error_limit => 1000, smtpd_hard_error_limit => 1000,
	});
	$mta->configure(virtual_mailbox_base => "$mta->{dir}/mail");
	$mta->launch;
	return { mta => $mta, sink => $sink, faults => $faults, oracle => Oracle->new, run => 0, why => {} };
}

# Two loads at once; they end when all is answered. Returns how many messages were acknowledged.
sub load {
	my ($sys, $n, $meanwhile) = @_;
	my $run = ++$sys->{run};
	my (@pids, @acked);
	for my $to (qw(sink box)) {
		push @acked, "$sys->{mta}{dir}/$to$run";
		$sys->{oracle}->sent("$to$run", $n);
		push @pids, spawn("$acked[-1].json", $load, '-s', 4, '-n', $n, '-l', 300, '-R', '-p', '-T', 10, '-t', "$to$run",
			'-d', "$to.test", '-o', $acked[-1], "127.0.0.1:$sys->{mta}{port}");
	}
	$meanwhile->() if $meanwhile;
	Posthaste::wait_child($_) for @pids;
	$sys->{oracle}->acked(@acked);
	return scalar map { split /\n/, slurp($_) } @acked;
}

sub wait_ready {
	my ($sys, $not) = @_;
	return wait_until(sub {
		my %up;
		for my $w ($sys->{mta}->workers) {
			$up{ $w->{class} }++ if $w->{state} eq 'up' && $w->{pid} != ($not || 0);
		}
		my $s = $sys->{mta}->status;
		return ($s->{ready} || 0) == 1 && ($s->{pid} || 0) != ($not || 0) &&
			7 == grep { $up{$_} } qw(log resolver rewrite smtpd deliver local stats);
	}, 30);
}

sub pid_of {
	my ($sys, $class) = @_;
	return $sys->{mta}->status->{pid} if $class eq 'supervisor';
	my ($pid) = map { $_->{pid} } grep { $_->{class} eq $class && $_->{state} eq 'up' } $sys->{mta}->workers;
	return $pid;
}

# The supervisor's successor starts at once, not after a second or more: time passes, and priv looks.
sub hurry {
	my ($sys) = @_;
	$sys->{mta}->advance(70);
	kill 'CHLD', $sys->{mta}->master_pid;
	return;
}

# After a death: all is served again, what is shared is sound, and a normal load goes through.
sub goes_on {
	my ($sys, $dead) = @_;
	my @bad;
	hurry($sys);
	push @bad, 'no service' unless wait_ready($sys, $dead);
	my ($damage, $report) = $sys->{mta}->command('posthaste', 'check-shm');
	push @bad, "check-shm: $report" if $damage;
	my $n = load($sys, 5);
	push @bad, "$n of 10 acknowledged" if $n != 10;
	return @bad;
}

# Dies at one point; false when it is not passed that often.
sub die_at {
	my ($sys, $class, $point, $at, $when) = @_;
	my $f = $sys->{faults};
	if ($when eq 'start') { # what is queued comes back from the spool meanwhile
		my $old = pid_of($sys, 'supervisor') or return 0;
		kill 'STOP', $sys->{sink}{pid};
		load($sys, 10);
		$f->arm($class, $point, $at);
		kill 'KILL', $old;
		wait_until(sub { !-e "/proc/$old" }, 5);
		hurry($sys);
		wait_until(sub { $f->died || ($sys->{mta}->status->{ready} || 0) }, 10);
		kill 'CONT', $sys->{sink}{pid};
	} else { # the supervisor also has somebody's death to deal with
		$f->arm($class, $point, $at);
		for (1 .. 3) { # passages of one load differ
			load($sys, 30, sub {
				$sys->{mta}->http('/stats') if $class eq 'stats';
				return if $class ne 'supervisor';
				my $pid = pid_of($sys, ('deliver', 'rewrite', 'smtpd')[ $sys->{run} % 3 ]);
				kill 'KILL', $pid if $pid;
			});
			last if wait_until(sub { $f->died }, 0.4);
		}
	}
	my $dead = $f->died;
	$f->clear;
	return $dead;
}

my $faults = Faults->new;
my $sys    = new_system($faults, resolver_nameservers => "127.0.0.1:$dns",
	smtpd_sender_restrictions => 'warn_if_reject reject_unknown_sender_domain');
ok wait_ready($sys), 'the system with crash points is up';

# Who passes what, how often, in one load and in one start
my %passed;
$faults->clear;
load($sys, 30);
sleep 1.2; # and its quiet second
$passed{load} = $faults->passed;
$faults->clear;
load($sys, 30, sub { kill 'KILL', pid_of($sys, 'deliver') });
wait_ready($sys);
my $more = $faults->passed->{supervisor};
$passed{load}{supervisor} = $more;
kill 'STOP', $sys->{sink}{pid};
load($sys, 10);
$faults->clear;
kill 'KILL', my $old = pid_of($sys, 'supervisor');
wait_ready($sys, $old);
$passed{start} = $faults->passed;
kill 'CONT', $sys->{sink}{pid};
delete @{ $passed{start} }{ grep { $_ ne 'supervisor' } keys %{ $passed{start} } };

my (@deaths, %classes_of);
for my $when (qw(load start)) {
	for my $class (Faults->classes) {
		for my $point (grep { $passed{$when}{$class}{$_} } @points) {
			my $n = $passed{$when}{$class}{$point};
			my %at = map { $_ => 1 } 1, int(($n + 1) / 2), int($n * 0.85) || 1;
			push @deaths, [ $class, $point, $_, $when ] for sort { $a <=> $b } keys %at;
			$classes_of{$point}{$class} = 1;
		}
	}
}
for my $class (Faults->classes) {
	my @mine = grep { $classes_of{$_}{$class} } @points;
	note "$class passes " . @mine . " points: @mine";
}
my @never = grep { !$classes_of{$_} } @points;
# the scheduler has a list of what each worker holds, and needs no search through the table
is_deeply [ grep { !/^(?:qtab-recover|ring-prod-(?:wait|go)|ring-unwait|qtab-hash-cut|ring-pad|ring-awake)$/ } @never ], [],
	'every point is passed by some process';
$c->remark("points that no process passed under this load, covered by the structures' own test: @never") if @never;
my @pairs = map { my $p = $_; map { "$_ $p" } sort keys %{ $classes_of{$p} } } @points;
$c->figure('pairs of process class and point in the whole system', scalar @pairs);

my ($killed, %reached, @trouble) = (0);
my @tried = $c->full ? @deaths : (
	$c->pick(8, grep { $_->[0] ne 'supervisor' } @deaths),
	$c->pick(3, grep { $_->[0] eq 'supervisor' && $_->[3] eq 'load' } @deaths),
	$c->pick(1, grep { $_->[3] eq 'start' } @deaths));

sub try_one {
	my ($class, $point, $at, $when) = @_;
	my $from = $sys->{run} + 1;
	my $dead = die_at($sys, $class, $point, $at, $when);
	my @bad  = goes_on($sys, $dead);
	$sys->{why}{$_} = "$class at $point, passage $at in a $when" for $from .. $sys->{run};
	push @trouble, map { "$class $point:$at ($when): $_" } @bad;
	return unless $dead;
	$killed++;
	$reached{"$class $point"} = 1;
	return;
}
try_one(@$_) for @tried;
if ($c->full) { # what is passed now and then: again, at its first passage
	for my $d ((grep { $_->[2] == 1 } @deaths) x 8) {
		next if $reached{"$d->[0] $d->[1]"};
		push @tried, $d;
		try_one(@$d);
	}
}
is join("\n", @trouble), '', 'after each death: service, sound structures, a normal load';
if ($c->full) {
	my @unreached = grep { !$reached{$_} } @pairs;
	# which points a process passes in one load is not the same each time
	cmp_ok scalar @unreached, '<=', @pairs / 50, 'pairs were reached, but for at most one in fifty'
		or diag "not reached: @unreached";
	note "not reached: @unreached";
	$c->figure('pairs not reached', scalar @unreached, join(', ', @unreached)) if @unreached;
}
cmp_ok $killed, '>=', $c->full ? 300 : 6, "$killed deaths in the whole system";
$c->points($killed);
$c->figure('deaths in the whole system', $killed, 'of ' . @tried . ' armed');
$c->figure('pairs of class and point died at', scalar keys %reached, 'of ' . @pairs);

sub drain {
	my ($sys) = @_;
	for (1 .. 8) {
		return 1 if wait_until(sub { ($sys->{mta}->status->{messages} // 1) == 0 }, 5);
		$sys->{mta}->advance(1200);
	}
	return 0;
}
wait_ready($sys);
ok drain($sys), 'the queue drains' or diag substr(($sys->{mta}->command('postqueue', '-p'))[1], 0, 2000),
	$sys->{mta}->log_tail;
is join("\n", grep { /panic:|fatal:/ } split /\n/, $sys->{mta}->log), '', 'no panic';
is $sys->{mta}->stop, 0, 'stop';
$sys->{sink}->finish;
$sys->{oracle}->sink($sys->{sink});
$sys->{oracle}->maildir($sys->{mta}->maildir_files('all'));
my $v = $sys->{oracle}->judge('all deaths');
diag map { /(\d+)-/ ? "$_: $sys->{why}{$1}\n" : () } @{ $v->{lost} };
$c->figure('acknowledged messages lost', scalar @{ $v->{lost} }, "of $v->{acked}");
$c->figure('delivered twice', scalar @{ $v->{twice} }, "of $v->{acked}");

# ---- controls: recovery with a step left out ----

# What a dead worker had announced and nobody had read: its ring and its segment both tell of it.
sub mute_death {
	my (@skip) = @_;
	my $s = new_system($faults);
	wait_ready($s);
	$faults->skip('turn', @skip); # the supervisor does not read it before it hears of the death
	my $rewrite = pid_of($s, 'rewrite');
	load($s, 10);
	kill 'KILL', $rewrite;
	wait_ready($s, $rewrite);
	$faults->skip;
	drain($s);
	$s->{mta}->stop;
	$s->{sink}->finish;
	$s->{oracle}->sink($s->{sink});
	$s->{oracle}->maildir($s->{mta}->maildir_files('all'));
	return $s->{oracle}->verdict;
}
if ($c->full) {
	$v = mute_death();
	is @{ $v->{lost} }, 0, "the ring and the segment of a dead worker are read: nothing lost of $v->{acked}";
}
$v = mute_death(qw(drain adopt));
cmp_ok scalar @{ $v->{lost} }, '>', 0, 'neither is read: that loses mail';
$c->control("a dead worker's ring and segment are not read", 'loses ' . @{ $v->{lost} } . " of $v->{acked}");

{
	my $s = new_system($faults);
	wait_ready($s);
	kill 'STOP', $s->{sink}{pid};
	load($s, 10);
	$faults->skip('requeue');
	kill 'KILL', my $dead = pid_of($s, 'deliver');
	wait_ready($s, $dead);
	kill 'CONT', $s->{sink}{pid};
	ok !wait_until(sub { $s->{mta}->status->{messages} == 0 }, $c->full ? 5 : 1), 'entries of the dead are not taken back: they stay';
	$c->control("a dead worker's entries are not taken back", $s->{mta}->status->{messages} . ' messages stay for ever');
	$faults->skip('unhash');
	load($s, 10);
	my ($damage, $report) = $s->{mta}->command('posthaste', 'check-shm');
	isnt $damage, 0, 'messages stay in the hash: the checker says so';
	my ($line) = $report =~ /^(queue table: .*)$/m;
	$c->control('a message that ends stays in the hash', "check-shm: $line");
	$faults->skip;
	$s->{mta}->stop;
	$s->{sink}->finish;
}
Posthaste::end_child($server);
$c->done;
