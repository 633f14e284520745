#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Peers that hold on. Ten thousand clients that stop in each phase of SMTP in turn and then send a byte
# in ten seconds (t/crash/slow.c); 20,000 of them, and more than there are descriptors; next hops that
# stall at every step, vanish behind the final dot, dribble, or answer without end (t/crash/slowhop.c).
# Honest mail keeps its rate meanwhile; memory is bounded; each step is reached and left in its time;
# nothing acknowledged is lost, and what comes twice is counted.
#
# How the rate is measured, on a machine that may have other work. Rounds without hostile peers, with them
# and without them again follow each other, and a round gives two figures.
# - By the clock: a second system that no hostile peer knows does the same work at the same moment; the
#   figure is the quotient of their rates, and the median with hostile peers is set against the median without.
# - By processor time: how much of it all processes of the system need for a message, which is what a
#   processor of its own would give. Other work can only add to it, so the lower quartiles are compared.
#   What the hostile peers use while nobody else comes is no part of a message: it is measured alone,
#   subtracted, and taken off the rate as a whole.
# Both are held to the bound when the machine has nothing else to do (its load at the start of the phase
# is below twice the number of processors): processor time in each phase; the clock over all phases together,
# because two equal systems that share the processors differ by a fifth from round to round, and only many
# rounds tell a tenth. On a busy machine the figures scatter, and what is asserted is that the rounds do not
# refute the bound: a rank-sum test of the processor times, one chance in a hundred.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use File::Temp;
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use Oracle;
use Posthaste qw(free_port slurp spew wait_until);
use Prove;
use Test::More;
use Time::HiRes qw(sleep time);

my $c = Prove->new(name => '09-hostile-peers', title => 'Hostile peers');
my $full    = $c->full;
my $clients = $full ? 10_000 : 450;
my $rounds  = $full ? 3 : 1;        # before, as many on either side of the hostile ones' arrival and end
my $seconds = $full ? 1.5 : 0.5;
my $honest  = $full ? 6000 : 500;   # messages in a round of deliveries
# percent of the rate; a test run on a busy machine only asserts that honest mail is served at all
my $least   = $full ? 90 : 1;
my @phases  = $full ? qw(greeting ehlo mail rcpt headers body dot after garbage) : 'all';
my $addresses = $full ? 4 : 1;      # of each vice
my $each    = $full ? 5 : 1;        # messages for each of them
my $build   = Posthaste::build_dir() . '/t/crash';
my $oracle  = Oracle->new;
my $busy_phases = 0; # when the machine had other work
my %clock = (with => [], without => []); # quotients of rates, of all phases in quiet
my @bad; # traces of crashes found in logs that were truncated since

sub median { my @v = sort { $a <=> $b } @_; return @v % 2 ? $v[ @v / 2 ] : ($v[ @v / 2 - 1 ] + $v[ @v / 2 ]) / 2 }
sub pids { my ($m) = @_; return join ' ', sort map { "$_->{class}:$_->{pid}" } $m->workers }
sub stat_of { my ($m, $name) = @_; return $m->http('/stats') =~ /"$name":(\d+)/ ? $1 : -1 }

# KiB of all processes of each class.
sub memory {
	my ($m) = @_;
	my %sum;
	for my $w ($m->workers, { class => 'supervisor', pid => $m->status->{pid} }) {
		$sum{ $w->{class} } += $1 if slurp("/proc/$w->{pid}/status") =~ /^VmRSS:\s+(\d+)/m;
	}
	return \%sum;
}

# User and system time of a process, seconds.
sub cpu {
	my ($pid) = @_;
	my @f = split ' ', slurp("/proc/$pid/stat") =~ s/^.*\) //r;
	return ($f[11] + $f[12]) / 100;
}

# Processor time of all its workers and the supervisor, seconds.
sub work {
	my ($m) = @_;
	my $ns = 0;
	for my $pid (@{ $m->{pids} ||= [ $m->status->{pid}, map { $_->{pid} } $m->workers ] }) {
		$ns += (split ' ', slurp($_))[0] // 0 for glob "/proc/$pid/task/*/schedstat";
	}
	return $ns / 1e9;
}

# Processors that it uses while nobody sends mail. Content that comes slowly uses the blocks up once in ten
# seconds, and the first time they are new: one such time is waited for, the next one measured.
sub used_alone {
	my ($m, $phase) = @_;
	my $cycle = $phase =~ /^(?:headers|body|dot)$/;
	sleep 9 if $cycle;
	my ($began, $first) = (time, work($m));
	sleep($cycle ? 10 : $full ? 3 : 0.3);
	return (work($m) - $first) / (time - $began);
}

my $cpus = () = slurp('/proc/cpuinfo') =~ /^processor/mg;
sub is_quiet { return (split ' ', slurp('/proc/loadavg'))[0] < 2 * $cpus }

# A round is { rate => [first, second], cost => us of processor time for a message of the first }.
sub by_clock { my ($r) = @_; return $r->{rate}[0] / $r->{rate}[1] }
sub by_work { my ($r) = @_; return $r->{cost} }
sub quartile { my @v = sort { $a <=> $b } @_; return $v[ @v / 4 ] }

# What honest mail keeps of its rate, in percent: by the clock, by processor time.
sub shares {
	my ($idle, $with, $without) = @_;
	return (100 * median(map { by_clock($_) } @$with) / median(map { by_clock($_) } @$without),
		100 * quartile(map { by_work($_) } @$without) / quartile(map { by_work($_) } @$with) * (1 - $idle));
}

# How many standard deviations the rounds with hostile peers are dearer than the bound allows (Mann-Whitney).
sub against_bound {
	my ($with, $without) = @_;
	my @w = map { by_work($_) * $least / 100 } @$with;
	my @o = map { by_work($_) } @$without;
	my $dearer = 0;
	for my $w (@w) {
		$dearer += $w > $_ ? 1 : $w == $_ ? 0.5 : 0 for @o;
	}
	return ($dearer - @w * @o / 2) / sqrt(@w * @o * (@w + @o + 1) / 12);
}

# Holds the shares to the bound, and says how they came about.
sub judge_shares {
	my ($what, $quiet, $idle, $with, $without) = @_;
	my ($clock, $work) = shares($idle, $with, $without);
	my $list = sub { my $f = shift; return join ' ', map { sprintf '%.3g', $f->($_) } @_ };
	my $z = against_bound($with, $without);
	my $by_work = sprintf '%s: honest rate by processor time %.0f %% (us with %s; without %s), %.1f deviations from the bound',
		$what, $work, $list->(\&by_work, @$with), $list->(\&by_work, @$without), $z;
	my $text = sprintf '%s: honest rate by the clock %.0f %% (with %s; without %s)', $what, $clock,
		$list->(\&by_clock, @$with), $list->(\&by_clock, @$without);
	if ($quiet) {
		cmp_ok $work, '>=', $least, $by_work;
		push @{ $clock{with} }, map { by_clock($_) } @$with;
		push @{ $clock{without} }, map { by_clock($_) } @$without;
	} else {
		cmp_ok $z, '<', 2.33, $by_work;
		$busy_phases++;
	}
	note $text;
	return ($clock, $work);
}

# A next hop may break the protocol, a worker may not.
sub crashes { my ($m) = @_; return grep { !m{postfix/smtp\[} } split /\n/, $m->crashes }

# Logs of millions of lines: what matters of them is kept.
sub cut_log {
	my ($m) = @_;
	push @bad, crashes($m);
	truncate "$m->{dir}/log", 0;
	return;
}

my $round = 0;
my $acks = File::Temp::tempdir('posthaste-hostile-XXXXXX', TMPDIR => 1, CLEANUP => 1);

sub load {
	my ($m, @opt) = @_;
	my $name = 'round' . $round++;
	my $r = Posthaste->load('-t', $name, '-o', "$acks/$name", '-s', 20, @opt, "127.0.0.1:$m->{port}");
	$oracle->acked("$acks/$name");
	return $r;
}

sub idle {
	my ($m) = @_;
	return wait_until(sub { ($m->status->{messages} // 1) == 0 }, 120);
}

# ---- clients ----

sub hold {
	my ($m, $phase, $n) = @_;
	my $h = { name => 'slow' . $round++, n => $n };
	$h->{out} = "$acks/$h->{name}.json";
	$h->{pid} = Posthaste::spawn($h->{out}, "$build/slow", '-n', $n, '-p', $phase, '-t', $h->{name},
		'-o', "$acks/$h->{name}", "127.0.0.1:$m->{port}");
	return $h;
}

sub arrived { my ($h) = @_; return wait_until(sub { slurp($h->{out}) =~ /ready/ }, 120) }

sub release {
	my ($h) = @_;
	Posthaste::end_child($h->{pid});
	$oracle->acked("$acks/$h->{name}");
	return Posthaste::parse_json(slurp($h->{out}));
}

# Both systems at the same moment. idle: processors that the first one uses anyway.
sub accepts {
	my ($m, $other, $idle) = @_;
	my $start = time;
	my $before = work($m);
	my @job = map {
		my $name = 'round' . $round++;
		[ $name, Posthaste::spawn("$acks/$name.json", Posthaste::build_dir() . '/t/bench/load', '-t', $name, '-s', 10,
			'-n', 1_000_000, '-T', $seconds, '-o', "$acks/$name", "127.0.0.1:$_->{port}") ];
	} $m, $other;
	Posthaste::wait_child($_->[1]) for @job;
	my @did = map { Posthaste::parse_json(slurp("$acks/$_->[0].json")) } @job;
	$oracle->acked("$acks/$_->[0]") for @job;
	idle($_) for $m, $other;
	my $spent = work($m) - $before - $idle * (time - $start);
	return { rate => [ map { $_->{rate} } @did ], cost => 1e6 * $spent / $did[0]{acked} };
}

my $sink = Posthaste->sink;
my %main = (
	relayhost => "[127.0.0.1]:$sink->{port}", smtpd_client_connection_count_limit => 0,
	smtpd_timeout => '3600s', # they shall stay as long as they like
	smtpd_forbid_unauth_pipelining => 'no', smtpd_error_sleep_time => '0s', smtpd_hard_error_limit => 1000,
	notify_classes => '', smtpd_workers => 1,
);

# By the clock, over all that was measured in quiet.
sub judge_clock {
	my ($with, $without) = map { scalar @{ $clock{$_} } } qw(with without);
	return if !$with;
	my $share = 100 * median(@{ $clock{with} }) / median(@{ $clock{without} });
	cmp_ok $share, '>=', $least, sprintf 'honest rate by the clock %.0f %%, median of %d rounds with hostile peers and %d without',
		$share, $with, $without;
	$c->figure('honest rate by the clock, all phases', sprintf('%.0f %%', $share),
		"median of $with rounds with hostile peers against $without without (bound $least %)");
	return;
}

sub is_enough {
	my ($quiet, $idle, $with, $without) = @_;
	return $quiet ? (shares($idle, $with, $without))[1] >= $least : against_bound($with, $without) < 2;
}

# Rounds without, with and without the hostile clients; what they did.
sub hold_once {
	my ($m, $other, $small, $phase, $p) = @_;
	push @{ $p->{without} }, accepts($m, $other, 0) for 1 .. $rounds;
	my $h = hold($m, $phase, $clients);
	arrived($h) or diag "$phase: the hostile clients did not arrive";
	my $began = time;
	my $sessions = stat_of($m, 'smtpd_sessions');
	my $idle = used_alone($m, $phase);
	$p->{idle} = $idle if $idle > ($p->{idle} // 0);
	push @{ $p->{with} }, accepts($m, $other, $idle) for 1 .. 2 * $rounds;
	my $now = memory($m);
	for (keys %$now) {
		my $more = $now->{$_} - ($small->{$_} || 0);
		$p->{grown}{$_} = $more if $more > ($p->{grown}{$_} // -1e9);
	}
	my $due = $full ? int((time - $began) / 10 * $clients * 0.6) : 1;
	my %did = %{ release($h) };
	wait_until(sub { stat_of($m, 'smtpd_sessions') == 0 }, 60) or diag "$phase: sessions do not end";
	idle($m);
	push @{ $p->{without} }, accepts($m, $other, 0) for 1 .. $rounds;
	cut_log($_) for $m, $other;
	is $did{arrived}, $clients, "$phase: all $clients came to it";
	is $did{closed} + $did{refused} + $did{denied}, 0, "$phase: none was refused or cut off";
	cmp_ok $sessions, '>=', $clients, "$phase: the server has $sessions sessions";
	cmp_ok $did{dribbled}, '>=', $due, "$phase: they sent $did{dribbled} bytes there";
	$c->points($did{arrived});
	return;
}

# One phase. One that falls short is gone through again, twice at most; all its rounds count together.
sub phase {
	my ($m, $other, $small, $phase) = @_;
	my %p;
	my $quiet = is_quiet();
	for (1 .. 3) {
		hold_once($m, $other, $small, $phase, \%p);
		last if is_enough($quiet, @p{qw(idle with without)});
	}
	my ($clock, $work) = judge_shares($phase, $quiet, @p{qw(idle with without)});
	cmp_ok $p{idle}, '<', 0.1, sprintf '%s: they use %.1f %% of a processor', $phase, 100 * $p{idle};
	my %grown = %{ $p{grown} };
	my $cost = $grown{smtpd} / $clients;
	cmp_ok $cost, '<=', 64, sprintf '%s: each costs %.1f KiB of smtpd', $phase, $cost;
	my ($worst) = sort { $grown{$b} <=> $grown{$a} } grep { $_ ne 'smtpd' } keys %grown;
	cmp_ok $grown{$worst}, '<=', 128 << 10, sprintf '%s: of the others %s grew most, by %.1f MiB', $phase, $worst,
		$grown{$worst} / 1024;
	$c->figure("$clients clients stall: $phase", sprintf('%.0f %%', $work), sprintf 'of the honest rate by processor time'
		. ' (bound %d %%, %d rounds), %.0f %% by the clock (%.0f messages/s beside another system); %.1f KiB of smtpd each;'
		. ' %s grew by %.1f MiB; %.1f %% of a processor', $least, scalar @{ $p{with} }, $clock,
		median(map { $_->{rate}[0] } @{ $p{with} }), $cost, $worst, $grown{$worst} / 1024, 100 * $p{idle});
	return;
}

my ($mta, $other) = map { Posthaste->start(main => \%main) } 1 .. 2;
for ($mta, $other) {
	load($_, '-n', 500);
	idle($_);
}
my $before = pids($mta);
my $small = memory($mta);
phase($mta, $other, $small, $_) for @phases;
is pids($mta), $before, 'clients: no process ended';
push @bad, crashes($mta);
is join("\n", @bad), '', 'and none crashed';
ok idle($mta), 'the queue is empty';
$_->stop for $mta, $other;

# ---- more clients than there is room for ----

sub crowd {
	my $many = $full ? 20_000 : 600;
	my ($hard) = slurp('/proc/self/limits') =~ /^Max open files\s+\d+\s+(\d+)/m;
	my $m = Posthaste->start(main => { %main, smtpd_timeout => '${stress?{60}:{3600}}s',
		smtpd_session_limit => $full ? $many - 500 : 500 });
	my ($smtpd) = map { $_->{pid} } grep { $_->{class} eq 'smtpd' } $m->workers;
	my $small = memory($m);
	# each process of clients has so many descriptors, too
	my @h = map { hold($m, $_, $many / 2) } qw(ehlo body);
	ok wait_until(sub { stat_of($m, 'smtpd_full') > 0 }, 90), 'crowd: no room is left' or diag $m->log_tail;
	my $sessions = stat_of($m, 'smtpd_sessions');
	ok $m->wait_log(qr/entering STRESS mode with \d+ connections/, 5), 'crowd: stress is logged';
	ok $m->wait_log(qr/warning: service ".*" has reached its session limit/, 5), 'crowd: and the limit';
	sleep 1;
	my $t = cpu($smtpd);
	my $honest = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$m->{port}", Timeout => 20);
	ok !IO::Select->new($honest)->can_read(2), 'crowd: the next client waits';
	my $used = (cpu($smtpd) - $t) / 2;
	cmp_ok $used, '<', 0.5, sprintf 'crowd: no busy loop, %.0f %% of a processor', $used * 100;
	my $grown = memory($m)->{smtpd} - $small->{smtpd};
	cmp_ok $grown / $sessions, '<', 64, sprintf 'crowd: %.1f KiB for each of %d', $grown / $sessions, $sessions;
	my $served;
	for (1 .. 8) { # those that began under stress have had their time; others waited before it
		$m->advance(61);
		last if $served = IO::Select->new($honest)->can_read(2);
	}
	ok $served, 'crowd: it is served when the slow ones of the last eighth are cut off';
	close $honest;
	my $r = load($m, '-n', 500);
	is $r->{acked}, 500, 'crowd: honest mail is accepted beside ' . stat_of($m, 'smtpd_sessions') . ' sessions';
	my %sum;
	for my $h (@h) {
		my $left = release($h);
		$sum{$_} += $left->{$_} for keys %$left;
	}
	cmp_ok $sum{closed} + $sum{refused}, '>', 0, 'crowd: these were cut off: ' . ($sum{closed} + $sum{refused});
	ok wait_until(sub { stat_of($m, 'smtpd_sessions') == 0 }, 30), 'crowd: all sessions end';
	$c->points($sum{connected});
	$c->figure("$many connections to one process", "$sessions sessions", sprintf '%.1f KiB each; %.0f %% of a processor'
		. ' while full; %d cut off under stress, then honest mail is served', $grown / $sessions, $used * 100,
		$sum{closed} + $sum{refused});
	is join("\n", crashes($m)), '', 'crowd: no process was harmed';
	idle($m);
	$m->stop;
	return;
}

# Fewer descriptors than the process takes to be enough.
sub descriptors {
	my $n = 2000;
	my $m = Posthaste->prepare(main => \%main);
	$m->limit_files(smtpd => 36);
	$m->launch;
	my ($smtpd) = map { $_->{pid} } grep { $_->{class} eq 'smtpd' } $m->workers;
	my $h = hold($m, 'ehlo', $n);
	ok $m->wait_log(qr/warning: accept connection: Too many open files/, 20), 'descriptors: used up, and logged'
		or diag $m->log_tail;
	sleep 1;
	my $t = cpu($smtpd);
	sleep 3;
	my $used = (cpu($smtpd) - $t) / 3;
	cmp_ok $used, '<', 0.3, sprintf 'descriptors: no busy loop, %.0f %% of a processor', $used * 100;
	my ($errors, $held) = map { stat_of($m, $_) } qw(smtpd_accept_errors smtpd_sessions);
	cmp_ok $errors, '>', 0, "descriptors: $errors failures are counted, $held sessions";
	cmp_ok $errors, '<', 20, 'descriptors: one a second';
	release($h);
	my $r = load($m, '-n', 200, '-s', 5);
	is $r->{acked}, 200, 'descriptors: when they return, mail is accepted';
	$c->points($n);
	$c->figure("$n clients, descriptors for $held", "$errors failures to accept", sprintf '%.0f %% of a processor meanwhile;'
		. ' mail is accepted when they return', $used * 100);
	is join("\n", crashes($m)), '', 'descriptors: no process was harmed';
	idle($m);
	$m->stop;
	return;
}
crowd();
descriptors() if $full; # t/e2e/25-stress.t has it, too

# ---- next hops ----

chomp(my @vices = `$build/slowhop -l`);
my ($unread) = grep { $vices[$_] eq 'unread' } 0 .. $#vices; # needs more than fits into buffers
my @kinds = grep { $_ != $unread } 0 .. $#vices;
my %ends = ( # what the log says of each; those that are not here are delivered
	connect => 'connect to 127\.0\.0\.\d\[127\.0\.0\.\d\]:\d+: Connection timed out',
	greeting => 'timed out while receiving the initial server greeting',
	ehlo => 'timed out while performing the EHLO handshake', mail => 'timed out while sending MAIL FROM',
	rcpt => 'timed out while sending RCPT TO', data => 'timed out while sending DATA command',
	dot => 'timed out while sending end of data -- message may be sent more than once',
	vanish => 'lost connection with \S+ while sending end of data -- message may be sent more than once',
	reset => 'lost connection with \S+ while sending end of data -- message may be sent more than once',
	dribble => 'timed out while receiving the initial server greeting',
	dribble_dot => 'timed out while sending end of data -- message may be sent more than once',
	endless => 'broke the protocol: .* while receiving the initial server greeting',
	endless_dot => 'broke the protocol: .* while sending end of data',
	lines => 'broke the protocol: .* while performing the EHLO handshake',
	lines_rcpt => 'broke the protocol: .* while sending RCPT TO',
	reset_mail => 'lost connection with \S+ while sending MAIL FROM',
	unread => 'timed out while sending message body',
);
my %repeated = map { $_ => 1 } qw(dot vanish reset dribble_dot endless_dot); # the hop had it, and did not say so

sub hop_port {
	for (1 .. 50) {
		my $port = free_port();
		my @busy = grep { !IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port + $_, Proto => 'tcp',
			Listen => 1, ReuseAddr => 1) } 0 .. $#vices;
		return $port unless @busy;
	}
	die 'no free ports';
}

sub start_hops {
	for (1 .. 10) { # somebody else may take a port meanwhile
		my $hops = { port => hop_port(), out => "$acks/hops" . $round++ };
		$hops->{pid} = Posthaste::spawn($hops->{out}, "$build/slowhop", "$hops->{out}.ids", $hops->{port});
		wait_until(sub { slurp($hops->{out}) =~ /ready/ || Posthaste::has_ended($hops->{pid}) }, 20);
		return $hops if slurp($hops->{out}) =~ /ready/;
		Posthaste::end_child($hops->{pid});
	}
	die 'no slow next hops';
}

# What they did so far: { vice => { connections, reached, bytes, messages } }.
sub hops_say {
	my ($hops) = @_;
	my $had = () = slurp($hops->{out}) =~ /\n/g;
	kill 'HUP', $hops->{pid};
	wait_until(sub { (() = slurp($hops->{out}) =~ /\n/g) > $had }, 10);
	my ($last) = slurp($hops->{out}) =~ /(\{.*\})\n\z/;
	return JSON::PP::decode_json($last);
}

sub maps_to {
	my ($hops) = @_;
	return "inline:{ { big.test = smtp:[127.0.0.1]:" . ($hops->{port} + $unread) . ' }, ' . join(', ', map {
		my ($kind, $address) = ($kinds[ $_ % @kinds ], 1 + int($_ / @kinds));
		"{ d$_.stall.test = smtp:[127.0.0.$address]:" . ($hops->{port} + $kind) . ' }';
	} 0 .. @kinds * $addresses - 1) . ' }';
}

sub vice_of { my ($n) = @_; return $vices[ $kinds[ $n % @kinds ] ] }

sub sent_by { my ($m) = @_; return stat_of($m, 'deliver_sent') }

# The same for deliveries.
sub deliveries {
	my ($m, $other, $idle) = @_;
	my $before = work($m);
	my @job = map {
		my $name = 'round' . $round++;
		{ m => $_, name => $name, goal => sent_by($_) + $honest, pid => Posthaste::spawn("$acks/$name.json",
			Posthaste::build_dir() . '/t/bench/load', '-t', $name, '-s', 10, '-l', 500, '-n', $honest,
			'-o', "$acks/$name", "127.0.0.1:$_->{port}") };
	} $m, $other;
	my $start = time;
	wait_until(sub {
		for (grep { !$_->{took} } @job) {
			$_->{took} = time - $start if sent_by($_->{m}) >= $_->{goal};
		}
		!grep { !$_->{took} } @job;
	}, 120) or die 'honest mail is stuck: ', $m->log_tail;
	Posthaste::wait_child($_->{pid}) for @job;
	$oracle->acked("$acks/$_->{name}") for @job;
	my $spent = work($m) - $before - $idle * (time - $start);
	return { rate => [ map { $honest / $_->{took} } @job ], cost => 1e6 * $spent / $honest };
}

sub hops {
	my $hops = start_hops();
	my ($quiet, $m) = map { Posthaste->start(main => { %main, transport_maps => maps_to($hops) }) } 1 .. 2;
	for ($quiet, $m) {
		load($_, '-n', $honest);
		idle($_);
	}
	my $alive = pids($m);
	my (@with, @without);
	my $calm = is_quiet();
	push @without, deliveries($m, $quiet, 0) for 1 .. 3 * $rounds;
	my $small = memory($m);
	my $domains = @kinds * $addresses;
	my $stalled = $domains * $each;
	load($m, '-n', $stalled, '-d', 'stall.test', '-D', $domains);
	load($m, '-n', 2, '-l', 9_000_000, '-d', 'big.test');
	my ($said, @missing);
	wait_until(sub {
		$said = hops_say($hops);
		@missing = grep { $_ ne 'connect' && !$said->{$_}{reached} } @vices;
		!@missing;
	}, 60);
	is "@missing", '', 'hops: every vice came to its step';
	note join ', ', map { "$_ $said->{$_}{reached}" } @vices;
	my $open = stat_of($m, 'deliver_connections');
	my $idle = used_alone($m, 'hops');
	for (1 .. 3) { # more rounds when it falls short; all of them count
		push @with, deliveries($m, $quiet, $idle) for 1 .. 2 * $rounds;
		last if is_enough($calm, $idle, \@with, \@without);
	}
	my ($clock, $work) = judge_shares('hops', $calm, $idle, \@with, \@without);
	my $now = memory($m);
	my ($worst) = sort { $now->{$b} - $small->{$b} <=> $now->{$a} - $small->{$a} } keys %$small;
	my $more = ($now->{$worst} - $small->{$worst}) / 1024;
	cmp_ok $more, '<', 64, sprintf 'hops: %s grew by %.1f MiB', $worst, $more;
	$c->points($stalled + 2);
	$c->figure(@vices . " kinds of next hop on $addresses addresses each, $stalled messages for them",
		sprintf('%.0f %%', $work), sprintf 'of the honest rate by processor time (bound %d %%, %d rounds), %.0f %% by the'
		. ' clock (%.0f deliveries/s beside another system); %d connections held; %s grew by %.1f MiB (bound 64)', $least, scalar @with, $clock,
		median(map { $_->{rate}[0] } @with), $open, $worst, $more);
	$quiet->stop;
	step_by_step($m, $hops);
	is pids($m), $alive, 'hops: no process ended';
	is join("\n", crashes($m)), '', 'hops: and none crashed';
	behave($m, $hops);
	return;
}

# Each vice is left in its time, not before: the clock goes on, and the log tells what was given up.
sub step_by_step {
	my ($m, $hops) = @_;
	open my $log, '<', "$m->{dir}/log" or die "$m->{dir}/log: $!";
	my ($n, $rest) = ({}, '');
	my $seen = sub { # how often each was left as it should be, so far
		local $/;
		my @lines = split /\n/, $rest . (readline($log) // ''), -1;
		$rest = pop @lines // '';
		seek $log, 0, 1;
		for (@lines) {
			my ($domain, $end) = /to=<\S+\@(d\d+\.stall|big)\.test>.* status=(.*)/ or next;
			my $vice = $domain eq 'big' ? 'unread' : vice_of($domain =~ /(\d+)/);
			my $want = $ends{$vice} ? qr/^deferred \(.*$ends{$vice}/ : qr/^sent /;
			$n->{$vice}++ if $end =~ $want;
		}
		return $n;
	};
	my $expect = sub {
		my ($when, @now) = @_;
		my @missing;
		wait_until(sub { $seen->(); @missing = grep { !$n->{$_} } @now; !@missing }, 20);
		is "@missing", '', "hops, $when: @now";
		return;
	};
	my @at_once = qw(quit vanish reset endless endless_dot lines lines_rcpt long reset_mail);
	$expect->('at once', @at_once);
	my $passed = 0;
	my $until = sub { my ($s) = @_; $m->advance($s - $passed); $passed = $s; sleep 0.7; return };
	$until->(35);
	$expect->('smtp_connect_timeout', 'connect');
	$until->(125);
	$expect->('smtp_data_init_timeout', 'data');
	$until->(190);
	$expect->('smtp_data_xfer_timeout', 'unread');
	$until->(305);
	$expect->('five minutes', qw(greeting ehlo mail rcpt dribble));
	$until->(500);
	$seen->();
	is scalar(grep { $n->{$_} } qw(dot late dribble_dot)), 0, 'hops: the answer to the final dot is waited for longer';
	kill 'USR2', $hops->{pid};
	$expect->('a late answer', 'late');
	$until->(610);
	$expect->('smtp_data_done_timeout', qw(dot dribble_dot));
	my $said = hops_say($hops);
	$c->figure("next hop: $_", "$said->{$_}{reached} times", $_ eq 'connect' ? "nobody accepts there; $n->{$_} given up"
		: ($ends{$_} ? ($n->{$_} || 0) . ' given up' : ($n->{$_} || 0) . ' delivered')) for @vices;
	return;
}

# RFC 1047: who has the message and does not say so gets it again. All of it, and nothing else.
sub behave {
	my ($m, $hops) = @_;
	kill 'USR1', $hops->{pid};
	for (1 .. 12) {
		last if wait_until(sub { ($m->status->{messages} // 1) == 0 }, 3);
		$m->advance(2000);
	}
	is $m->status->{messages}, 0, 'RFC 1047: when the hops behave all is delivered' or diag $m->log_tail;
	$m->stop;
	Posthaste::end_child($hops->{pid});
	$oracle->sink_file("$hops->{out}.ids");
	my (%copies, %of);
	for (split /\n/, slurp("$hops->{out}.ids")) {
		my ($id, $n) = /^(\S+) \S+\@d(\d+)\.stall\.test$/ or next;
		$copies{$id}++;
		$of{$id} = vice_of($n);
	}
	my @twice = grep { $copies{$_} > 1 } keys %copies;
	my @odd = grep { !$repeated{ $of{$_} } } @twice;
	is "@odd", '', 'RFC 1047: twice comes only what the hop took without saying so';
	my %had;
	$had{ $of{$_} }++ for @twice;
	my $taken = grep { $repeated{ $of{$_} } } keys %copies;
	is scalar @twice, $taken, "RFC 1047: $taken messages, all of them twice";
	$c->figure('RFC 1047: messages that a hop took without saying so', $taken,
		scalar(@twice) . ' came twice: ' . join ', ', map { "$_ $had{$_}" } sort keys %had);
	$oracle->{expected_twice} = { map { $_ => 1 } @twice };
	return;
}
hops();
judge_clock();

# ---- controls: the same without a defence ----

# Honest messages that get through within some seconds while slow clients hold what they can.
sub served_beside {
	my (%opt) = @_;
	my $m = Posthaste->start(main => { %main, smtpd_session_limit => 80, %opt });
	my $h = hold($m, 'greeting', 100);
	wait_until(sub { stat_of($m, 'smtpd_full') > 0 }, 30);
	my $acked = 0;
	my $name = 'round' . $round++;
	my $pid = Posthaste::spawn("$acks/$name.json", Posthaste::build_dir() . '/t/bench/load', '-t', $name, '-s', 5, '-T', 60,
		'-n', 300, '-o', "$acks/$name", "127.0.0.1:$m->{port}");
	for (1 .. 12) { # clients that wait in the queue become sessions, and have ten seconds
		last if wait_until(sub { Posthaste::has_ended($pid) }, 1);
		$m->advance(11);
	}
	Posthaste::end_child($pid);
	$acked = () = slurp("$acks/$name") =~ /\n/g;
	$oracle->acked("$acks/$name");
	Posthaste::end_child($h->{pid});
	idle($m);
	$m->stop;
	return $acked;
}

sub control_clients {
	my $with = served_beside(smtpd_timeout => '${stress?{10}:{3600}}s');
	cmp_ok $with, '>', 0, "control: under stress $with honest messages are accepted beside clients that hold all sessions";
	my $without = served_beside(smtpd_timeout => '3600s', smtpd_per_request_deadline => 'no');
	is $without, 0, 'control: with the same time for all, none is';
	$c->control('clients hold all sessions, no stress values', "$without messages accepted ($with with them)");
	return;
}

# Deliveries of honest mail while hops stall, with and without the limit for one destination.
sub delivered_beside {
	my ($hops, %opt) = @_;
	my $m = Posthaste->start(main => { %main, deliver_connection_limit => 60, transport_maps =>
		"inline:{ { slow.test = smtp:[127.0.0.1]:" . ($hops->{port} + 1) . ' } }', %opt });
	load($m, '-n', 200, '-d', 'slow.test');
	wait_until(sub { stat_of($m, 'deliver_connections') >= ($opt{initial_destination_concurrency} ? 60 : 5) }, 20);
	load($m, '-n', 100);
	wait_until(sub { sent_by($m) >= 100 }, $full ? 5 : 2);
	my $sent = sent_by($m);
	$oracle->queue($m);
	$m->stop;
	return $sent;
}

sub control_hops {
	my $hops = start_hops();
	my $with = delivered_beside($hops);
	is $with, 100, 'control: honest mail is delivered beside a hop that stalls';
	my $without = delivered_beside($hops, initial_destination_concurrency => 1000,
		default_destination_concurrency_limit => 1000);
	is $without, 0, 'control: without a limit for one destination, it is not';
	$c->control('a hop stalls, no limit for one destination', "$without of 100 delivered ($with with it)");
	Posthaste::end_child($hops->{pid});
	return;
}
if ($full) {
	control_clients();
	control_hops();
}

$sink->finish;
$oracle->sink($sink);
my $v = $oracle->judge('hostile peers');
is scalar(grep { !$oracle->{expected_twice}{$_} } @{ $v->{twice} }), 0, 'nothing else is delivered twice';
$c->remark("The machine had other work during $busy_phases of the @{[ @phases + 1 ]} measurements of a rate (load "
	. (split ' ', slurp('/proc/loadavg'))[0] . " on $cpus processors at the end): their figures scatter, and are held to the"
	. ' bound by a rank-sum test of the processor times only.') if $full && $busy_phases;
$c->figure('acknowledged messages lost', scalar @{ $v->{lost} }, "of $v->{acked}");
$c->done;
