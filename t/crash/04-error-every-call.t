#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Errors at system calls: each kind of call that a class makes at work and at its start returns each
# error that can come of it, once and for a while; reads and writes are cut short; a sync that failed is
# not tried again and nothing it was for is acknowledged; the disk and its inodes are full; memory is
# short, and the kernel kills for it. Clients get 4xx, nothing acknowledged is lost, nothing
# panics, nothing spins, and service goes on by itself.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Disk;
use Inject;
use Posthaste qw(run_ok slurp spew wait_until);
use Prove;
use Scene;
use Test::More;
use Time::HiRes qw(sleep time);

my $c = Prove->new(name => '04-error-every-call', title => 'Errors at every system call');
if (my $why = Inject->unusable) {
	plan skip_all => $why;
}
my @classes = qw(smtpd rewrite deliver local local-agent resolver log stats supervisor priv);
@classes = split ' ', $ENV{POSTHASTE_CLASS} if $ENV{POSTHASTE_CLASS};
my (%total, %kinds);
my ($scene, @point_of_round, $judged);

# Which errors can come of which call. Calls that are not here cannot fail in a way that a program
# may survive (futex), or not at all.
my @disk = qw(EIO ENOSPC EDQUOT EINTR);
my @name = qw(EIO ENOSPC EDQUOT ENOMEM EINTR);
my @open = qw(EMFILE ENFILE ENOMEM EIO EINTR);
my @net  = qw(EINTR EAGAIN ENOMEM ENOBUFS ECONNRESET);
my %errors = (
	(map { $_ => [ @disk, 'EAGAIN', 'short', 'half' ] } qw(write pwrite64 writev pwritev)),
	(map { $_ => [ qw(EIO EINTR EAGAIN ENOMEM short half) ] } qw(read pread64 readv)),
	(map { $_ => [ @disk ] } qw(fdatasync fsync fallocate ftruncate)),
	(map { $_ => [ @name ] } qw(renameat renameat2 rename unlink unlinkat mkdirat linkat)),
	openat => [ @open, qw(ENOSPC EDQUOT) ],
	(map { $_ => [ @open ] } qw(socket socketpair accept4 memfd_create eventfd2 epoll_create1 signalfd4 pipe2)),
	(map { $_ => [ @net, 'short', 'half' ] } qw(sendto sendmsg recvfrom recvmsg)),
	connect => [ qw(EINTR EAGAIN ENOMEM ETIMEDOUT) ],
	(map { $_ => ['ENOMEM'] } qw(bind listen setsockopt getsockopt shutdown mmap mremap fstatfs newfstatat fstat)),
	epoll_ctl  => [ qw(ENOMEM ENOSPC) ],
	(map { $_ => ['EINTR'] } qw(epoll_wait poll getrandom)),
	(map { $_ => [ qw(EAGAIN ENOMEM) ] } qw(clone fork)),
	getdents64 => [ qw(EIO ENOMEM) ],
	sendfile   => [ qw(EIO ENOMEM EINTR) ],
	fcntl      => ['EMFILE'],
	flock      => [ qw(EINTR ENOMEM) ],
	(map { $_ => [ qw(EAGAIN EPERM) ] } qw(setresuid setresgid setgroups setuid chroot)),
	execve => [ qw(ENOMEM EIO) ],
	seccomp => ['ENOMEM'],
);

sub begin {
	my ($name, %opt) = @_;
	$scene = Scene->new(calls => 'all', %opt);
	$scene->{name} = $name;
	@point_of_round = ();
	$scene->start;
	return;
}

# CPU seconds that all processes of the instance have used.
sub cpu {
	my $master = $scene->mta->master_pid or return 0;
	my ($ticks, @pids) = (0, $master);
	while (defined(my $p = shift @pids)) {
		my @f = split ' ', (slurp("/proc/$p/stat") =~ /\) (.*)/)[0] // next;
		$ticks += $f[11] + $f[12];
		push @pids, split ' ', slurp("/proc/$p/task/$p/children");
	}
	return $ticks / 100;
}

# The share of a processor that the instance uses while nothing happens.
sub idle_share {
	my ($seconds) = @_;
	my ($before, $start) = (cpu(), time);
	sleep $seconds;
	return (cpu() - $before) / (time - $start);
}

sub finish {
	my $name = $scene->{name};
	$scene->drain;
	my $share = idle_share(1);
	cmp_ok $share, '<', 0.1, "$name: nothing spins afterwards";
	my $v = $scene->judge($name);
	$total{$_} += @{ $v->{$_} } for qw(lost twice);
	$total{$_} += $v->{$_} for qw(acked damaged misdelivered never_sent unacked);
	my %round = map { /^m(\d+)-/ ? ($1 => 1) : () } @{ $v->{lost} };
	diag "round $_: " . ($point_of_round[$_] // "?") for sort { $a <=> $b } keys %round;
	$total{permfail} += $scene->{permfail} || 0;
	undef $scene;
	return;
}

sub traffic {
	my ($what, @opt) = @_;
	my $n = $scene->{rounds} + 1;
	$point_of_round[$_] = $what for $n, $n + 1;
	my $r = $scene->mail(messages => 4, seconds => 3, @opt);
	$scene->mail(messages => 1, bytes => 700_000, seconds => 3) if $n % 8 == 0;
	$scene->mta->http('/stats');
	if (($r->{permfail} || 0) > 0) {
		fail "a client was refused for good: $what";
	}
	$scene->elapse;
	return $r;
}

# All classes are there, after back-offs have passed.
sub healed {
	my ($mta, $waited) = ($scene->mta, time);
	return wait_until(sub {
		my ($rc, $out) = $mta->command('posthaste', 'status');
		my %up = map { $_ => 1 } $out =~ /^worker (\S+) \d+ \d+ \d+ \d+ up$/mg;
		return 1 if keys %up == 7 && $out =~ /^ready 1$/m;
		if (!$mta->master_pid || !kill 0, $mta->master_pid) {
			$mta->{running} = 0;
			return 1;
		}
		return 0 if time - $waited < (%up ? 0.4 : 0.1);
		$waited = time;
		$scene->kick;
		return 0;
	}, 30);
}

# The text of a rule's action for an error of the table.
sub action {
	my ($error) = @_;
	return 'action=short' if $error eq 'short';
	return 'action=short len=half' if $error eq 'half';
	return "action=error errno=$error";
}

sub chain {
	my (@rules) = @_;
	my $id = 0;
	return map { $id++; "id=$id " . ($id > 1 ? 'after=' . ($id - 1) . ' ' : '') . $_ } @rules;
}

# One point: a round of mail with the rules armed. True when the last one acted.
sub strike {
	my ($what, @rules) = @_;
	my $i = $scene->inject;
	$scene->elapse(30);
	$i->arm(chain(@rules));
	traffic($what);
	my $n = @rules;
	my $acted = eval { wait_until(sub { $i->acted($n) }, $n > 1 ? 1 : 0.1) };
	eval { $i->disarm($_) for reverse 1 .. $n };
	$c->points(1) if $acted;
	return $acted;
}

# What the class called in some rounds of mail: { call => most in one round }.
sub calls_at_work {
	my ($class) = @_;
	my %most;
	for (1 .. 3) {
		$scene->inject->arm("id=90 action=count class=$class");
		$scene->mail(messages => 4);
		$scene->mta->http('/stats');
		$scene->elapse;
		sleep 0.3;
		my $n = $scene->inject->count(90)->{$class} || {};
		$most{$_} = $n->{$_} > ($most{$_} || 0) ? $n->{$_} : $most{$_} for keys %$n;
	}
	$scene->inject->disarm(90);
	return \%most;
}

# After a point: service is there again, or the system has ended (then it is started).
sub recover {
	my ($what) = @_;
	return 1 if healed() && $scene->mta->{running};
	if (!$scene->mta->{running}) {
		diag "$what: the system has ended";
		$scene->{ended}++;
		$scene->inject->kill($scene->mta);
		$scene->start;
		return 1;
	}
	diag "not all is back after $what: ", $scene->mta->log_tail;
	return 0;
}

# Each error once, at the first calls of a kind and some later.
sub at_work {
	my ($class, $occurrences) = @_;
	begin("$class at work");
	my $most = calls_at_work($class);
	my ($stuck, $points) = (0, 0);
	for my $call (sort keys %$most) {
		for my $error (@{ $errors{$call} || [] }) {
			my $n = $most->{$call};
			my @nth = $n <= $occurrences ? 1 .. $n : (1, map { 2 + $c->rand($n - 1) } 2 .. $occurrences);
			for my $nth (@nth) {
				my $what = "$class, $call number $nth: $error";
				next unless strike($what, "class=$class call=$call nth=$nth " . action($error));
				$points++;
				$kinds{"$class $call $error"} = 1;
				$stuck++ unless recover($what);
			}
		}
	}
	is $stuck, 0, "$class at work: service goes on by itself";
	is $scene->{ended} || 0, 0, "$class at work: the system did not end";
	finish();
	return $points;
}

# Each kind of call while a process of the class starts.
sub at_start {
	my ($class, $occurrences) = @_;
	begin("$class at its start");
	my $i = $scene->inject;
	strike("$class ends", "class=$class action=kill");
	$i->arm("id=90 action=count class=$class");
	healed();
	strike("$class ends", "class=$class action=kill");
	healed();
	my $count = $i->count(90)->{$class} || {};
	my ($stuck, $points) = (0, 0);
	for my $call (sort keys %$count) {
		my @errors = @{ $errors{$call} || [] } or next;
		for my $k (0 .. $occurrences - 1) {
			my $n = int $count->{$call};
			my $nth = $n <= $occurrences ? $k + 1 : 1 + $c->rand($n);
			last if $nth > $n;
			my $error = $errors[ ($k + $c->rand(scalar @errors)) % @errors ];
			my $what = "$class, $call number $nth of its start: $error";
			next unless strike($what, "class=$class action=kill", "class=$class call=$call nth=$nth " . action($error));
			$points++;
			$kinds{"$class $call $error"} = 1;
			$stuck++ unless recover($what);
		}
	}
	is $stuck, 0, "$class at its start: service goes on by itself";
	is $scene->{ended} || 0, 0, "$class at its start: the system did not end";
	finish();
	return $points;
}

for my $class (@classes) {
	next unless $c->full;
	my $began = time;
	my $n = at_work($class, 3);
	my $m = $class =~ /^(priv|local-agent)$/ ? 0 : at_start($class, 2);
	$c->figure("points, $class", $n + $m, "$n at work, $m at its start");
	note sprintf '%s: %.0f s', $class, time - $began;
}
$c->figure('acknowledged messages lost', $total{lost}, "of $total{acked}");
$c->done;
