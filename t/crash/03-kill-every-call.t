#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 at system calls: of each worker class at work and while it starts, of the supervisor, of priv,
# of everything at once, and again during the recovery from that, to depth 3; while "posthaste start",
# "reload" and "stop" are under way, and of these commands themselves. The Nth call after a round of
# mail began, or of the start, is the one at which the process dies, for N = 1, 2, ... until no round
# makes so many. What was acknowledged must arrive or be reported, what comes twice must be on the list
# of deliveries in doubt, and service must go on: by itself when workers or the supervisor die, after a
# start when priv does.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Inject;
use Posthaste qw(run_ok slurp wait_until);
use Prove;
use Scene;
use SideBySide;
use Test::More;
use Time::HiRes qw(sleep time);

my $c = Prove->new(name => '03-kill-every-call', title => 'kill -9 at every system call');
if (my $why = Inject->unusable) {
	plan skip_all => $why;
}
my @workers = qw(smtpd rewrite deliver local local-agent resolver log stats pickup);
my %total;   # as the oracle says
my %tried;   # { class }{ call } points
my %existed; # { class }{ call } seen in a round
my ($scene, @point_of_round);

# ---- one instance at a time ----

sub begin {
	my ($name, @rules) = @_;
	$scene = Scene->new(calls => 'all');
	$scene->{name} = $name;
	@point_of_round = ();
	$scene->start(@rules);
	return;
}

sub finish {
	my $v = $scene->judge($scene->{name});
	$total{$_} += @{ $v->{$_} } for qw(lost twice unlisted);
	$total{$_} += $v->{$_} for qw(acked damaged misdelivered never_sent unacked);
	my %round = map { /^m(\d+)-/ ? ($1 => 1) : () } @{ $v->{lost} }, @{ $v->{unlisted} };
	diag "round $_: " . ($point_of_round[$_] // "?") for sort { $a <=> $b } keys %round;
	undef $scene;
	return;
}

# The calls that were made so far, by class, as rule 99 counts them.
sub note_existing {
	my $count = eval { $scene->inject->count(99) } or return;
	for my $class (keys %$count) {
		$existed{$class}{$_} = 1 for keys %{ $count->{$class} };
	}
	return;
}

# The points that were hit since the last look; their [class, pid, call].
my @last_hits;
sub hits {
	my $log = substr slurp($scene->inject->log_file), $scene->{log_seen} || 0;
	$scene->{log_seen} += length $log;
	my @hit;
	push @hit, [ $1, $2, $3 ] while $log =~ /kill\S* class=(\S+) pid=(\d+) tid=\d+ call=(\S+)/g;
	for my $h (@hit) {
		$tried{ $h->[0] }{ $h->[2] }++;
		$c->points(1);
	}
	@last_hits = @hit;
	return scalar @hit;
}

# A round of mail, with something to ask the statistics for and time for retries.
sub traffic {
	my ($what, @opt) = @_;
	my $n = $scene->{rounds} + 1;
	$point_of_round[$_] = $what for $n, $n + 1;
	my $r = $scene->mail(messages => 4, @opt);
	$scene->mail(messages => 1, bytes => 700_000) if $n % 8 == 0;
	$scene->mta->http('/stats');
	$scene->elapse;
	return $r;
}

# A round of mail with the rules armed, on top of mail that was just acknowledged; true when the
# last of them acted.
sub strike {
	my ($what, @rules) = @_;
	my $i = $scene->inject;
	$scene->elapse(30); # a worker that dies young comes back later and later
	$point_of_round[ $scene->{rounds} + 1 ] = $what;
	$scene->mail(messages => 3);
	$i->arm_chain(@rules);
	traffic($what, kick => !!($rules[0] =~ /class=supervisor/));
	my $acted = wait_until(sub { $i->acted(scalar @rules) }, 0.25);
	if (!$acted) { # more is going on in the background than a round shows
		$scene->elapse;
		$acted = wait_until(sub { $i->acted(scalar @rules) }, @rules > 1 ? 1.5 : 0.5);
	}
	$i->disarm($_) for reverse 1 .. @rules;
	return $acted;
}

# Until all classes are there again; the killed must be gone from the list. Back-offs are passed by
# the clock: after a while for a worker, at once for the supervisor (priv has to be woken to see it).
sub healed {
	my (@hit) = @_;
	my %dead = map { $_->[1] => 1 } @hit;
	my ($mta, $waited, $end) = ($scene->mta, time, time + 30);
	while (time < $end) {
		my ($rc, $out) = $mta->command('posthaste', 'status');
		my %up;
		while ($out =~ /^worker (\S+) \d+ \d+ (\d+) \d+ up$/mg) {
			$up{$1} = 1 unless $dead{$2};
		}
		return 1 if keys %up == $scene->{classes} && $out =~ /^ready 1$/m;
		return 0 if !$scene->inject->alive; # nothing is left that could
		if (time - $waited > (%up ? 0.4 : 0.1)) {
			$waited = time;
			$scene->kick;
		}
		sleep 0.05;
	}
	return 0;
}

sub served {
	my ($what) = @_;
	return 1 if traffic($what)->{acked} > 0 || traffic($what)->{acked} > 0;
	diag "no mail is taken after $what: " . $scene->mta->log_tail;
	return 0;
}

# ---- the campaigns ----

# One class, killed again and again: the last rule's nth is 1, 1 + step, ... up to $most (what a class
# does by itself as time goes by has no end) or until three rounds in a row made fewer calls. Returns
# the number of points.
sub sweep {
	my ($name, $step, $most, @rules) = @_;
	my ($missed, $stuck, $points, $n) = (0, 0, 0, 1 + $c->rand($step));
	my $last = pop @rules;
	begin($name);
	$scene->inject->arm('id=99 action=count');
	while ($missed < 3 && $stuck < 3 && $n <= $most) {
		my $what = "$name, call $n";
		my $acted = strike($what, @rules, "$last nth=$n");
		my $hit = hits();
		$missed = $acted ? 0 : $missed + 1;
		$points += $acted ? 1 : 0;
		if ($hit && !healed(@last_hits)) {
			$stuck++;
			diag "not all is back after $what: ", $scene->mta->log_tail;
		}
		$n += $step;
	}
	note_existing();
	is $stuck, 0, "$name: service goes on by itself";
	ok served($name), "$name: mail is taken at the end";
	finish();
	return $points;
}

# A death that ends all, under load: the rules in the first list act on the running system, each
# further rule on the next start. Returns how many acted.
sub fall {
	my ($name, $now, @starts) = @_;
	my $i = $scene->inject;
	my $before = $c->points(0);
	my $alive = 1;
	$point_of_round[ $scene->{rounds} + $_ ] = $name for 1, 2;
	$scene->mail(messages => 5);
	$i->arm_chain(@$now);
	$scene->mail_begin(sessions => 3, messages => 400);
	$scene->elapse;
	if (!wait_until(sub { !($alive = $i->alive) || eval { $i->acted(scalar @$now) } }, 3)) {
		$i->disarm($_) for reverse 1 .. @$now;
	} else {
		$alive = $i->alive;
		wait_until(sub { !$i->alive }, 20) or diag "$name: processes are left";
	}
	$scene->mail_end;
	hits();
	for my $rule (@starts) {
		last if $i->alive;
		$scene->try_start("id=1 $rule");
		wait_until(sub { !$i->alive || $scene->ready(0.05) }, 10);
		$i->kill;
		hits();
	}
	return $c->points(0) - $before;
}

sub falls {
	my ($name, @points) = @_;
	begin($name);
	my ($down, $hit) = (0, 0);
	for my $p (@points) {
		my $what = "$name: @{$p->[0]}" . join '', map { ", then $_" } @$p[1 .. $#$p];
		$hit += fall($what, @$p);
		if (!$scene->inject->alive) {
			$down++ unless start_again($what);
		}
		$scene->elapse;
	}
	is $down, 0, "$name: every next start serves";
	ok served($name), "$name: mail is taken at the end";
	finish();
	return $hit;
}

# A start after a death, without faults; what is in doubt by now is put down at once. False: it does not serve.
sub start_again {
	my ($what) = @_;
	my ($rc, $out) = $scene->try_start('id=99 action=count');
	my $ready = !$rc && $scene->ready;
	diag "no start after $what: $out", $scene->mta->log_tail if !$ready;
	return 0 if !$ready;
	$scene->note_doubts;
	return 1;
}

# What is left serves, or nothing is left and a start does. The death of priv, with which all goes, may come
# after all waiting for it.
sub up_again {
	my ($what) = @_;
	my $i = $scene->inject;
	return start_again($what) if !$i->alive;
	my @hit = @last_hits;
	return 1 if healed(@hit);
	hits();
	return start_again($what) if !$i->alive && grep { $_->[0] eq 'priv' } @hit, @last_hits;
	diag "not all is back after $what: ", $scene->mta->log_tail;
	return 0;
}

# Of all that runs, at once; then of one process at call $first of the next start, at call $first + $step of
# the one after that, and the next of a third, so that recoveries end at three depths; then a start that
# serves. And so on, until starts make no more such calls.
sub starts {
	my ($name, $classes, $first, $step, $most) = @_;
	begin($name, 'id=99 action=count');
	my ($missed, $down, $points, $n, $i) = (0, 0, 0, $first, $scene->inject);
	while ($n <= $most && $missed < 3) {
		my $what = "$name, calls from $n on";
		$point_of_round[ $scene->{rounds} + 1 ] = $what;
		$down++ unless served("what came before $what");
		$scene->elapse if $scene->{rounds} % 4 == 0;
		note_existing();
		for (1 .. 3) {
			$i->kill($scene->mta);
			my ($rc) = $scene->try_start("id=1 class=$classes action=kill nth=$n");
			my $hit = hits();
			$points += $hit;
			$missed = $hit ? 0 : $missed + 1;
			$n += $step;
			# what starts may go on without the command that did it
			next if $rc == 0 || wait_until(sub { !$i->alive }, $rc == 137 ? 0.3 : 10) || $scene->ready(10);
			$down++;
			diag "half a start before call $n: ", $scene->mta->log_tail;
		}
		$i->kill($scene->mta) if $i->alive && $scene->{rounds} % 2; # or what went on serves
		$down++ unless up_again($what);
	}
	return over($name, $down, $points);
}

# A worker dies, and the one in its place does at each of its calls until it serves, and some later.
sub births {
	my ($class, $first, $step) = @_;
	my $name = "$class while it starts";
	begin($name, 'id=99 action=count');
	my ($down, $points, $i) = (0, 0, $scene->inject);
	my @lives = grep { $_->{class} eq $class } $scene->mta->workers;
	my $most = 20;
	$most += $_ for values %{ $i->count(99)->{$class} };
	$most = int($most / @lives);
	my $late = 0;
	for (my $n = $first; $n <= $most; $n += $step) {
		my $what = "$name, call $n";
		$point_of_round[ $scene->{rounds} + 1 ] = $what;
		$scene->mail(messages => 2);
		my ($victim) = grep { $_->{class} eq $class } $scene->mta->workers;
		$i->arm("id=1 class=$class action=kill nth=$n");
		kill 'KILL', $victim->{pid} if $victim;
		for (1 .. 8) { # one that died young is started again later and later
			last if wait_until(sub { $i->acted(1) }, 0.3);
			$scene->elapse(60);
			$scene->mail(messages => 1, seconds => 1) if $_ > 3;
		}
		$i->disarm(1);
		my $hit = hits();
		$points += $hit;
		$late++ if !$hit;
		if (!healed(@last_hits)) {
			$down++;
			diag "not all is back after $what: ", $scene->mta->log_tail;
		}
		$scene->elapse if $n % 8 < $step;
	}
	note "$name: $points calls, $late were not reached";
	note_existing();
	return over($name, $down, $points);
}

# What runs while a command does its work: one process dies at call $first, $first + $step, ...
sub during {
	my ($command, $class, $first, $step, $most) = @_;
	my $name = "$class during $command";
	begin($name, 'id=99 action=count');
	my ($missed, $down, $points, $i) = (0, 0, 0, $scene->inject);
	for (my $n = $first; $n <= $most && $missed < 3; $n += $step) {
		my $what = "$name, call $n";
		$point_of_round[ $scene->{rounds} + $_ ] = $what for 1, 2;
		# the last death may have come after all waiting for it
		$down++ unless $i->alive || start_again("$what: the one before");
		$scene->mail(messages => 3);
		note_existing();
		$i->arm("id=1 class=$class action=kill nth=$n");
		$scene->mail_begin(sessions => 2, messages => 40, seconds => 3);
		my $pid = $scene->mta->command_begin('posthaste', $command);
		my $log = -s $scene->mta->{dir} . '/log';
		# a process that only checks the new configuration was the one: the old one stays in force
		my $ended = wait_until(sub { Posthaste::has_ended($pid)
			|| !$i->alive || substr($scene->mta->log, $log) =~ /configuration not accepted/ }, 20);
		Posthaste::end_child($pid);
		if (!$ended) {
			$down++;
			diag "$command does not come back in $what: ", $scene->mta->log_tail;
		}
		my $acted = wait_until(sub { eval { $i->acted(1) } || !$i->alive }, $command eq 'stop' ? 10 : 0.2);
		eval { $i->disarm(1) };
		wait_until(sub { !$i->alive }, 10) if $acted && $class eq 'priv'; # all goes with it
		if ($command eq 'stop' && !wait_until(sub { !$i->alive }, 10)) {
			$down++;
			diag "processes are left after $what: ", $scene->mta->log_tail;
			$i->kill($scene->mta);
		}
		$scene->mail_end;
		my $hit = hits();
		$missed = $hit ? 0 : $missed + 1;
		$points += $hit;
		$down++ unless up_again($what);
		$scene->elapse if $n % 8 < $step;
	}
	return over($name, $down, $points);
}

# The command itself dies, at every one of its calls.
sub command_dies {
	my ($command) = @_;
	my $name = "posthaste $command itself";
	begin($name, 'id=99 action=count');
	my ($down, $points, $n, $status, $i) = (0, 0, 0, 0, $scene->inject);
	do {
		my $what = "$name, call " . ++$n;
		$point_of_round[ $scene->{rounds} + $_ ] = $what for 1, 2;
		$scene->mail(messages => 2);
		($status) = $i->apart($scene->mta, "class=posthaste action=kill nth=$n", 'posthaste', $command);
		$points += hits();
		if ($command eq 'stop' && $status == 137) { # it has told priv, or it has not
			sleep 0.1;
			wait_until(sub { !$i->alive }, 20) if ($scene->mta->status->{stopping} // 1) != 0;
		}
		$down++ unless up_again($what);
	} while ($status == 137 && $n < 1000);
	is $status, 0, "$name: and it came to its end when it was let";
	return over($name, $down, $points);
}

# The end of a part: what it was about is asserted, and handed to the whole.
sub over {
	my ($name, $down, $points) = @_;
	is $down, 0, "$name: service goes on";
	ok served($name), "$name: mail is taken at the end";
	finish();
	return $points;
}

sub sample {
	begin('sample');
	my $stuck = 0;
	for my $class (@workers, 'supervisor') {
		my $n = 1 + $c->rand(20);
		strike("$class, call $n", "class=$class action=kill nth=$n");
		$stuck++ if hits() && !healed(@last_hits);
	}
	is $stuck, 0, 'sample: service goes on by itself';
	ok served('sample'), 'sample: mail is taken at the end';
	finish();
	falls('sample of falls', [ [ 'action=kill-all nth=' . (1 + $c->rand(400)) ],
		map { 'action=kill-all call=storage nth=' . (1 + $c->rand(60)) } 1 .. 2 ]);
	return;
}

# ---- the whole: parts as { what, of whom, run } ----

my @known = qw(storage reads net event openat clone clone3 prctl seccomp setresuid chroot fcntl flock);
my $told  = 'call=' . join ',', @known;
my @whole;

sub plan_part { my ($kind, $who, $run) = @_; push @whole, { kind => $kind, who => $who, run => $run }; return }

# Every call of a start; on a slow machine every POSTHASTE_STRIDE-th.
my $stride = $ENV{POSTHASTE_STRIDE} || 1;

# One in $of parts takes every $of-th call.
sub plan_spread {
	my ($kind, $who, $of, $step, $run) = @_;
	$step *= $stride;
	for my $k (1 .. $of) {
		my $first = 1 + ($k - 1) * $step + $c->rand($stride);
		plan_part($kind, $who, sub { $run->($first, $of * $step) });
	}
	return;
}

sub plan_workers {
	for my $class (@workers) {
		plan_part('at work', $class, sub { sweep("$class at work", 1, 80, "class=$class action=kill") });
		plan_part('when the call was done', $class,
			sub { sweep("$class at work, call done", 5, 150, "class=$class action=kill-after $told") });
		next if $class eq 'local-agent';
		plan_spread('at its start', $class, 1, 1, sub { births($class, @_) });
		plan_part('during reload', $class, sub { during('reload', $class, 1 + $c->rand(31), 31, 500) });
		plan_part('during stop', $class, sub { during('stop', $class, 1, 2, 80) });
	}
	return;
}

sub plan_supervisor {
	plan_spread('at start', 'supervisor', 3, 1, sub { starts("supervisor at start, from call $_[0]", 'supervisor', @_, 1200) });
	plan_part('at work', 'supervisor', sub { sweep('supervisor at work', 2, 80, 'class=supervisor action=kill') });
	plan_part('in recovery', 'supervisor', sub { sweep('supervisor while it recovers', 12, 900,
		'class=supervisor action=kill', 'class=supervisor action=kill') });
	plan_part('in the recovery from that', 'supervisor', sub { sweep('supervisor while it recovers, depth 3', 60, 800,
		'class=supervisor action=kill', 'class=supervisor action=kill nth=' . (200 + $c->rand(200)),
		'class=supervisor action=kill') });
	plan_part('during reload', 'supervisor', sub { during('reload', 'supervisor', 1 + $c->rand(25), 25, 800) });
	plan_part('during stop', 'supervisor', sub { during('stop', 'supervisor', 1, 4, 240) });
	return;
}

sub plan_priv {
	plan_part('at start', 'priv', sub { starts('priv at start', 'priv', 1, 1, 400) });
	plan_part('at start', 'priv-fork', sub { starts('child of priv before exec, at start', 'priv-fork', 1, 1, 400) });
	plan_part('at start', 'posthaste', sub { starts('posthaste start itself', 'posthaste,posthaste-fork', 1, 1, 600) });
	# at work it sleeps; it acts when a process is to be replaced
	plan_part('at work', 'priv-fork', sub { sweep('child of priv before exec', 1, 40, 'class=resolver action=kill',
		'class=priv-fork action=kill') });
	plan_part('at work', 'priv', sub { falls('priv at work',
		map { [ [ 'class=resolver action=kill', "class=priv action=kill nth=$_" ] ] } 1 .. 24) });
	plan_part('during reload', $_->[0], do { my $w = $_; sub { during('reload', $w->[0], 1, $w->[1], 400) } })
		for [ 'priv', 2 ], [ 'priv-fork', 3 ], [ 'posthaste', 6 ];
	plan_part('during stop', 'priv', sub { during('stop', 'priv', 1, 1, 100) });
	plan_part('itself', "posthaste $_", do { my $w = $_; sub { command_dies($w) } }) for qw(reload stop);
	return;
}

sub plan_all {
	plan_part('storage calls', 'all together', sub { falls('all, storage calls',
		map { [ ["action=kill-all call=storage nth=$_"] ] } 1 .. 60) });
	plan_part('any calls', 'all together', sub { falls('all, any call',
		map { [ ['action=kill-all nth=' . (1 + $_ * 15 + $c->rand(15))] ] } 0 .. 39) });
	plan_part('three deaths in recovery each', 'all together', sub { falls("all, and again in recovery",
		map { [ ['action=kill-all nth=' . (1 + $c->rand(600))],
		map { 'action=kill-all call=storage,reads,net,event nth=' . (1 + $c->rand(900)) } 1 .. 3 ] } 1 .. 15) }) for 1, 2;
	return;
}

# Adds what a part found.
sub merge {
	my ($into, $what) = @_;
	for my $k (keys %$what) {
		ref $what->{$k} ? merge($into->{$k} //= {}, $what->{$k}) : ($into->{$k} += $what->{$k});
	}
	return;
}

sub whole {
	my $n = 0;
	my %of_name = map { sprintf('%s, %s %d', @$_{qw(who kind)}, ++$n) => $_ } @whole;
	my $results = SideBySide::run($c, $ENV{POSTHASTE_WIDTH} || 3, map {
		my $part = $of_name{$_};
		[ $_ => sub {
			my $points = $part->{run}->();
			return { points => $points, total => \%total, tried => \%tried, existed => \%existed };
		} ];
	} sort { ($a =~ /(\d+)$/)[0] <=> ($b =~ /(\d+)$/)[0] } keys %of_name);
	my %points;
	for my $name (keys %$results) {
		my ($r, $part) = ($results->{$name}, $of_name{$name});
		$points{ $part->{who} }{ $part->{kind} } += $r->{points} || 0;
		merge(\%total, $r->{total} || {});
		merge(\%tried, $r->{tried} || {});
		for my $class (keys %{ $r->{existed} || {} }) {
			$existed{$class}{$_} = 1 for keys %{ $r->{existed}{$class} };
		}
	}
	for my $who (sort keys %points) {
		my ($p, $sum) = ($points{$who}, 0);
		$sum += $_ for values %$p;
		$c->figure("points, $who", $sum, join ', ', map { "$p->{$_} $_" } sort keys %$p);
	}
	return;
}

@workers = split ' ', $ENV{POSTHASTE_CLASS} if $ENV{POSTHASTE_CLASS};
my %plans = (workers => \&plan_workers, supervisor => \&plan_supervisor, priv => \&plan_priv, all => \&plan_all);
if ($c->full) {
	$plans{$_}->() for split ' ', $ENV{POSTHASTE_PARTS} || 'supervisor priv all workers';
	@whole = grep { "$_->{who}, $_->{kind}" =~ /$ENV{POSTHASTE_ONLY}/ } @whole if $ENV{POSTHASTE_ONLY};
	$c->remark("In this run every $stride. call of the starts of workers and the supervisor.") if $stride > 1;
	whole();
} else {
	sample();
}
# Kinds of calls, by class: seen while it was counted, and those at which it died.
for my $class (sort keys %existed) {
	my @seen = sort keys %{ $existed{$class} };
	my @not  = grep { !$tried{$class}{$_} } @seen;
	next unless %{ $tried{$class} || {} };
	$c->figure("kinds of calls at which it died, $class", @seen - @not, 'of ' . @seen . ' seen'
		. (@not ? ', not: ' . join ' ', @not : ''));
}
$c->figure('acknowledged messages lost', $total{lost}, "of $total{acked}");
$c->figure('messages delivered or reported twice', $total{twice},
	"of $total{acked}; not on the list of deliveries in doubt: $total{unlisted}");
$c->done;
