#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 at system calls: of each worker class at work and while it starts, of the supervisor, of priv,
# of everything at once, and again during the recovery from that, to depth 3. The Nth call after a
# round of mail began is the one at which the process dies, for N = 1, 2, ... until no round makes so
# many. What was acknowledged must arrive or be reported, and service must go on: by itself when
# workers or the supervisor die, after a start when priv does.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Inject;
use Posthaste qw(slurp wait_until);
use Prove;
use Scene;
use Test::More;
use Time::HiRes qw(sleep time);

my $c = Prove->new(name => '03-kill-every-call', title => 'kill -9 at every system call');
if (my $why = Inject->unusable) {
	plan skip_all => $why;
}
my @workers = qw(smtpd rewrite deliver local local-agent resolver log stats);
my %total;   # over all batches, as the oracle says
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
	$total{$_} += @{ $v->{$_} } for qw(lost twice);
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

# The points that were hit since the last look: [class, pid, call].
sub hits {
	my $log = substr slurp($scene->inject->log_file), $scene->{log_seen} || 0;
	$scene->{log_seen} += length $log;
	my @hit;
	push @hit, [ $1, $2, $3 ] while $log =~ /kill\S* class=(\S+) pid=(\d+) tid=\d+ call=(\S+)/g;
	for my $h (@hit) {
		$tried{ $h->[0] }{ $h->[2] }++;
		$c->points(1);
	}
	return @hit;
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
	my ($mta, $waited) = ($scene->mta, time);
	return wait_until(sub {
		my ($rc, $out) = $mta->command('posthaste', 'status');
		my %up;
		while ($out =~ /^worker (\S+) \d+ \d+ (\d+) \d+ up$/mg) {
			$up{$1} = 1 unless $dead{$2};
		}
		return 1 if keys %up == 7 && $out =~ /^ready 1$/m;
		return 0 if time - $waited < (%up ? 0.4 : 0.1);
		$waited = time;
		$scene->kick;
		return 0;
	}, 30);
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
		my @hit = hits();
		$missed = $acted ? 0 : $missed + 1;
		$points += $acted ? 1 : 0;
		if (@hit && !healed(@hit)) {
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
			my ($rc, $out) = $scene->try_start;
			$down++ if $rc || !$scene->ready;
			diag "no start after $what: $out" if $rc;
		}
		$scene->elapse;
	}
	is $down, 0, "$name: every next start serves";
	ok served($name), "$name: mail is taken at the end";
	finish();
	return $hit;
}

sub sample {
	begin('sample');
	my $stuck = 0;
	for my $class (@workers, 'supervisor') {
		my $n = 1 + $c->rand(20);
		strike("$class, call $n", "class=$class action=kill nth=$n");
		my @hit = hits();
		$stuck++ if @hit && !healed(@hit);
	}
	is $stuck, 0, 'sample: service goes on by itself';
	ok served('sample'), 'sample: mail is taken at the end';
	finish();
	falls('sample of falls', [ [ 'action=kill-all nth=' . (1 + $c->rand(400)) ],
		map { 'action=kill-all call=storage nth=' . (1 + $c->rand(60)) } 1 .. 2 ]);
	return;
}

my @known = qw(storage reads net event openat clone clone3 prctl seccomp setresuid chroot fcntl flock);
my $told  = 'call=' . join ',', @known;

sub whole_workers {
	for my $class (@workers) {
		my $began = time;
		my $work  = sweep("$class at work", 1, 120, "class=$class action=kill");
		my $after = sweep("$class at work, call done", 5, 150, "class=$class action=kill-after $told");
		my $birth = $class eq 'local-agent' ? 0 : sweep("$class while it starts", 9, 500,
			"class=$class action=kill", "class=$class action=kill");
		$c->figure("points, $class", $work + $after + $birth,
			"$work at work, $after when the call was done, $birth at its start");
		note sprintf '%s: %.0f s', $class, time - $began;
	}
	return;
}

sub whole_supervisor {
	my $began = time;
	my $work  = sweep('supervisor at work', 2, 80, 'class=supervisor action=kill');
	my $birth = sweep('supervisor while it recovers', 16, 900, 'class=supervisor action=kill',
		'class=supervisor action=kill');
	my $deep  = sweep('supervisor while it recovers, depth 3', 80, 800, 'class=supervisor action=kill',
		'class=supervisor action=kill nth=' . (200 + $c->rand(200)), 'class=supervisor action=kill');
	$c->figure('points, supervisor', $work + $birth + $deep,
		"$work at work, $birth in recovery, $deep in the recovery from that");
	note sprintf 'supervisor: %.0f s', time - $began;
	return;
}

sub whole_priv {
	my $began = time;
	# at work it sleeps; it acts when a process is to be replaced, and when all start
	my $child = sweep('child of priv before exec', 1, 12, 'class=resolver action=kill', 'class=priv-fork action=kill');
	my $work  = falls('priv at work', map { [ [ 'class=resolver action=kill', "class=priv action=kill nth=$_" ] ] } 1 .. 16);
	my $birth = falls('priv at start', map { [ ['action=kill-all'],
		"class=priv,posthaste,posthaste-fork action=kill nth=$_" ] } map { 1 + $_ * 8 + $c->rand(8) } 0 .. 35);
	$c->figure('points, priv', $child + $work + $birth,
		"$work at work, $child in its child before exec, $birth at start");
	note sprintf 'priv: %.0f s', time - $began;
	return;
}

sub whole_all {
	my $began = time;
	my $storage = falls('all, storage calls', map { [ ["action=kill-all call=storage nth=$_"] ] } 1 .. 80);
	my $calls   = falls('all, any call', map { [ ['action=kill-all nth=' . (1 + $_ * 15 + $c->rand(15))] ] } 0 .. 49);
	my $deep    = falls('all, and again in recovery', map { [ ['action=kill-all nth=' . (1 + $c->rand(600))],
		map { 'action=kill-all call=storage,reads,net,event nth=' . (1 + $c->rand(900)) } 1 .. 3 ] } 1 .. 40);
	$c->figure('points, all together', $storage + $calls + $deep,
		"$storage at storage calls, $calls at any, $deep with three deaths in recovery each");
	note sprintf 'all: %.0f s', time - $began;
	return;
}

my %parts = (workers => \&whole_workers, supervisor => \&whole_supervisor, priv => \&whole_priv,
	all => \&whole_all);
@workers = split ' ', $ENV{POSTHASTE_CLASS} if $ENV{POSTHASTE_CLASS};
if ($c->full) {
	$parts{$_}->() for split ' ', $ENV{POSTHASTE_PARTS} || 'workers supervisor priv all';
} else {
	sample();
}
my ($hit, $seen) = (0, 0);
for my $class (keys %existed) {
	for my $call (keys %{ $existed{$class} }) {
		$seen++;
		$hit++ if $tried{$class}{$call};
	}
}
$c->figure('kinds of calls (class and name) at which a process died', $hit, "of $seen seen") if $seen;
$c->figure('acknowledged messages lost', $total{lost}, "of $total{acked}");
$c->figure('messages delivered or reported twice', $total{twice}, "of $total{acked}");
$c->done;
