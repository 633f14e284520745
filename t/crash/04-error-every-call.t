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
use POSIX ();
use Posthaste qw(run_ok slurp spew wait_until);
use Prove;
use Scene;
use SideBySide;
use Test::More;
use Time::HiRes qw(sleep time);

my $c = Prove->new(name => '04-error-every-call', title => 'Errors at every system call');
if (my $why = Inject->unusable) {
	plan skip_all => $why;
}
my @classes = qw(smtpd rewrite deliver local local-agent resolver log stats pickup supervisor priv);
@classes = split ' ', $ENV{POSTHASTE_CLASS} if $ENV{POSTHASTE_CLASS};
my %total;
my %kinds; # { class }{ call }{ error } that was given
my %seen;  # { class }{ call } in rounds of mail and starts
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
	preadv2 => [ qw(EIO EAGAIN EOPNOTSUPP) ],
	(map { $_ => [ @disk ] } qw(fdatasync fsync fallocate ftruncate)),
	(map { $_ => [ @name ] } qw(renameat renameat2 rename unlink unlinkat mkdirat linkat)),
	openat => [ @open, qw(ENOSPC EDQUOT) ],
	(map { $_ => [ @open ] } qw(socket socketpair accept4 memfd_create eventfd2 epoll_create1 signalfd4 pipe2)),
	(map { $_ => [ @net, 'short', 'half' ] } qw(sendto recvfrom)),
	# whole packets between processes
	(map { $_ => [ qw(EINTR EAGAIN ENOMEM ENOBUFS) ] } qw(sendmsg recvmsg)),
	'deliver sendmsg' => [ @net, 'short', 'half' ],
	connect => [ qw(EINTR EAGAIN ENOMEM ETIMEDOUT) ],
	(map { $_ => ['ENOMEM'] } qw(bind listen setsockopt getsockopt shutdown mmap mremap fstatfs newfstatat fstat)),
	epoll_ctl  => [ qw(ENOMEM ENOSPC) ],
	(map { $_ => ['EINTR'] } qw(epoll_wait poll getrandom)),
	(map { $_ => [ qw(EAGAIN ENOMEM) ] } qw(clone clone3 fork)),
	(map { $_ => ['ENOMEM'] } qw(landlock_create_ruleset landlock_add_rule landlock_restrict_self)),
	(map { $_ => ['EPERM'] } qw(prlimit64 fchown chown)),
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
	my $share = idle_share($c->full ? 1 : 0.5);
	cmp_ok $share, '<', 0.1, "$name: nothing spins afterwards";
	my $v = $scene->judge($name);
	$total{$_} += @{ $v->{$_} } for qw(lost twice unlisted);
	$total{$_} += $v->{$_} for qw(acked damaged misdelivered never_sent unacked foretold);
	my %round = map { /^m(\d+)-/ ? ($1 => 1) : () } @{ $v->{lost} }, @{ $v->{unlisted} };
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
	$scene->mta->http('/stats') unless $what =~ /^stats.*for a while/;
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
		return 1 if keys %up == $scene->{classes} && $out =~ /^ready 1$/m;
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

# One point: a round of mail with the rules armed. True when the last one acted.
sub strike {
	my ($what, @rules) = @_;
	my $i = $scene->inject;
	$scene->elapse(30);
	$point_of_round[ $scene->{rounds} + 1 ] = $what;
	$scene->mail(messages => 2, seconds => 3);
	$i->arm_chain(@rules);
	traffic($what, kick => !!($rules[0] =~ /class=supervisor/));
	my $n = @rules;
	my $acted = eval { wait_until(sub { $i->acted($n) }, $n > 1 ? 1 : 0.1) };
	if (!$acted && $what =~ /^(?:resolver|supervisor|log|stats)/) { # little to do in a round
		$scene->elapse(4000);
		$scene->mail(messages => 2, seconds => 3);
		$acted = eval { wait_until(sub { $i->acted($n) }, 0.4) };
	}
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
	$seen{$class}{$_} = 1 for keys %$most;
	my ($stuck, $points) = (0, 0);
	for my $call (sort keys %$most) {
		for my $error (@{ $errors{"$class $call"} || $errors{$call} || [] }) {
			my $n = $most->{$call};
			my @nth = $n <= $occurrences ? 1 .. $n : (1, map { 2 + $c->rand($n - 1) } 2 .. $occurrences);
			for my $nth (@nth) {
				my $what = "$class, $call number $nth: $error";
				next unless strike($what, "class=$class call=$call nth=$nth " . action($error));
				$points++;
				$kinds{$class}{$call}{$error} = 1;
				$stuck++ unless recover($what);
			}
		}
	}
	is $stuck, 0, "$class at work: service goes on by itself";
	is $scene->{ended} || 0, 0, "$class at work: the system did not end";
	finish();
	return $points;
}

# Each kind of call while a process of the class starts, or another one that is given: then what
# the class does for that: each error once, at one of the calls of its kind.
sub at_start {
	my ($class, $other) = @_;
	my $end = 'class=' . ($other || $class) . ' action=kill';
	begin("$class at " . ($other ? "the start of $other" : 'its start'));
	my $i = $scene->inject;
	strike("$class ends", $end);
	$i->arm("id=90 action=count class=$class");
	healed();
	strike("$class ends", $end);
	healed();
	my $count = $i->count(90)->{$class} || {};
	$seen{$class}{$_} = 1 for keys %$count;
	my ($stuck, $points) = (0, 0);
	for my $call (sort keys %$count) {
		for my $error (@{ $errors{"$class $call"} || $errors{$call} || [] }) {
			my $nth = 1 + $c->rand($count->{$call});
			my $what = "$class, $call number $nth at the start of " . ($other || 'itself') . ": $error";
			next unless strike($what, $end, "class=$class call=$call nth=$nth " . action($error));
			$points++;
			$kinds{$class}{$call}{$error} = 1;
			$stuck++ unless recover($what);
		}
	}
	is $stuck, 0, "$scene->{name}: service goes on by itself";
	is $scene->{ended} || 0, 0, "$scene->{name}: the system did not end";
	finish();
	return $points;
}

# ---- errors for a while ----

# Seconds until a message is acknowledged; no clock is moved. 99 when none is.
sub until_served {
	my $start = time;
	while (time - $start < 20) {
		return time - $start if $scene->mail(messages => 1, seconds => 0.4)->{acked} > 0;
	}
	return 99;
}

my $spool_calls = 'write,pwrite64,fallocate,openat,mkdirat,renameat,renameat2,fdatasync,fsync';
# class(es), calls, error; at the spool only; no 250 may be given meanwhile
my @lasting = (
	[ 'rewrite',     'fdatasync,fsync', 'EIO', 1, 1 ],
	[ 'rewrite',     'pwrite64,write,fallocate', 'ENOSPC', 1, 1 ],
	[ 'rewrite',     'pwrite64,write,fallocate', 'EDQUOT', 1, 1 ],
	[ 'rewrite',     'openat', 'EMFILE' ],
	[ 'rewrite',     'mmap,brk,mremap', 'ENOMEM' ],
	[ 'smtpd',       'accept4', 'EMFILE' ],
	[ 'smtpd',       'accept4', 'ENFILE' ],
	[ 'smtpd',       'recvfrom', 'ENOMEM' ],
	[ 'smtpd',       'mmap,brk,mremap', 'ENOMEM' ],
	[ 'deliver',     'socket', 'EMFILE' ],
	[ 'deliver',     'connect', 'ENOBUFS' ],
	[ 'deliver',     'pwrite64,write,fallocate', 'ENOSPC', 1 ],
	[ 'deliver',     'fdatasync,fsync', 'EIO', 1 ],
	[ 'deliver',     'pread64', 'EIO' ],
	[ 'deliver,local,local-agent,supervisor', 'mmap,brk,mremap', 'ENOMEM' ],
	[ 'local',       'memfd_create,socketpair', 'EMFILE' ],
	[ 'local',       'clone,clone3', 'EAGAIN' ],
	[ 'local',       'pwrite64,write,fallocate', 'ENOSPC', 1 ],
	[ 'local-agent', 'openat,sendfile', 'ENOSPC' ],
	[ 'local-agent', 'openat,sendfile', 'EDQUOT' ],
	[ 'local-agent', 'fdatasync,fsync', 'EIO' ],
	[ 'resolver',    'socket,bind,connect', 'EMFILE' ],
	[ 'log',         'write', 'ENOSPC' ],
	[ 'stats',       'accept4', 'EMFILE' ],
	[ 'supervisor',  'pwrite64,write,fallocate,openat', 'ENOSPC', 1 ],
	[ 'supervisor',  'openat,accept4', 'EMFILE' ],
	[ 'priv',        'clone,socketpair', 'EAGAIN' ],
	[ 'rewrite,deliver,local,supervisor', $spool_calls, 'EDQUOT', 1, 1 ],
	[ 'rewrite,deliver,local,supervisor', $spool_calls, 'EIO', 1, 1 ],
	[ 'rewrite,deliver,local,local-agent,supervisor,smtpd,resolver,log,stats', 'socket,openat,accept4,memfd_create', 'ENFILE' ],
);

sub lasting {
	my (@which) = @_;
	my ($slowest, $spin, $acked, $bad) = (0, 0, 0, 0);
	begin('errors for a while', main => { journal_file_size => '64k' });
	for my $l (@which) {
		my ($class, $calls, $error, $spool, $none) = @$l;
		my $i = $scene->inject;
		my $what = "$class: $calls: $error for a while";
		$scene->elapse(30);
		$i->arm("id=1 class=$class call=$calls action=error errno=$error times=0" . ($spool ? ' path=' . $scene->spool : ''));
		my $r = traffic($what, messages => 8, seconds => 1.5, bytes => $error eq 'ENOMEM' ? 900_000 : 2000);
		$acked += $r->{acked} if $none;
		diag "$what: $r->{acked} acknowledged" if $none && $r->{acked};
		my $share = idle_share(0.7);
		if ($share > 0.5) {
			diag sprintf '%s: uses %.0f %% of a processor', $what, 100 * $share;
			$spin++;
		}
		my $hit = $i->seen(1);
		$i->disarm(1);
		my $s = until_served();
		$c->points(1) if $hit;
		$kinds{$class}{$calls}{$error} = 1 if $hit;
		$slowest = $s if $s > $slowest;
		note sprintf '%s: %d times; served after %.1f s', $what, $hit, $s;
		$bad++ unless recover($what);
	}
	is $bad, 0, 'errors for a while: all classes come back';
	is $acked, 0, 'errors for a while: nothing is acknowledged that cannot be stored';
	is $spin, 0, 'errors for a while: nothing spins';
	cmp_ok $slowest, '<', 10, 'errors for a while: service goes on when they end';
	is $scene->{ended} || 0, 0, 'errors for a while: the system did not end';
	$total{slowest} = $slowest;
	finish();
	return;
}

# A sync that failed: not once more for the same file, and no 250 for what it was for.
sub failed_sync {
	my (@nth) = @_;
	begin('failed sync');
	my $i = $scene->inject;
	my ($again, $hits) = (0, 0);
	my $last = 0;
	for my $nth (@nth) {
		$i->arm("id=2 action=log call=fdatasync,fsync class=rewrite path=" . $scene->spool . '/seg times=0');
		$i->arm("id=1 action=error errno=EIO call=fdatasync class=rewrite nth=$nth path=" . $scene->spool . '/seg');
		traffic("failed sync $nth", messages => 10, sessions => 5);
		$scene->mail(messages => 10, sessions => 5);
		wait_until(sub { $i->acted(1) }, 0.2);
		my $log = substr $i->log, $last;
		$last += length $log;
		my ($file) = $log =~ /error=5 .*file=(\S+)/;
		$hits++ if $file;
		if ($file && $log =~ /error=5 .*?file=\S+\n(.*)/s) {
			my $n = () = $1 =~ / log .*file=\Q$file\E$/mg;
			diag "$file was synced again $n times after its sync failed" if $n;
			$again += $n;
		}
		$i->disarm($_) for 1, 2;
	}
	$c->points($hits);
	cmp_ok $hits, '>', 0, 'failed sync: happened';
	is $again, 0, 'failed sync: never tried again on the same file';
	finish();
	return;
}

# ---- no room ----

sub no_room {
	my ($name, $mkfs, $fill) = @_;
	my $disk = Disk->new(fs => 'ext4', mb => 64, mkfs => [ '-m', 0, @$mkfs ]);
	SKIP: {
		skip "$name: " . (Disk->why_not || ''), 1 unless $disk;
		$scene = Scene->new(calls => 'storage', disk => $disk, main => { spool_segment_size => '1M',
			journal_file_size => '1M', message_size_limit => 1_000_000, spool_spare_segments => 0 });
		$scene->{name} = $name;
		$scene->start_plain;
		traffic($name);
		mkdir $scene->spool . '/ballast';
		my $files = $fill->($scene->spool . '/ballast');
		my $r = $scene->mail(messages => 60, sessions => 5, bytes => 60_000, seconds => 2);
		cmp_ok $r->{tempfail}, '>', 0, "$name: clients are told to come again";
		is $r->{permfail}, 0, "$name: and nobody is refused for good";
		unlink glob $scene->spool . '/ballast/*';
		my $s = until_served();
		cmp_ok $s, '<', 1.5, sprintf '%s: service goes on %.2f s after there is room', $name, $s;
		$c->figure("$name: service after there is room again", sprintf '%.2f s', $s);
		$scene->mta->stop;
		$scene->start_plain;
		my ($damaged) = $scene->mta->log =~ /.*damaged records (\d+)/s;
		is $damaged, 0, "$name: no partial record is left";
		$c->points(1);
		finish();
		return;
	}
	return;
}

sub fill_space {
	my ($dir) = @_;
	my $n = 0;
	open my $fh, '>', "$dir/1" or die "$dir/1: $!";
	for my $size (1 << 20, 4096, 1) {
		my $block = "\0" x $size;
		1 while syswrite $fh, $block;
	}
	close $fh;
	return 1;
}

sub fill_inodes {
	my ($dir) = @_;
	my $n = 0;
	while (open my $fh, '>', "$dir/" . $n) {
		close $fh;
		$n++;
	}
	return $n;
}

# ---- memory ----

sub pids_of {
	my ($class) = @_;
	return ($scene->mta->command('posthaste', 'status'))[1] =~ /^pid (\d+)/m if $class eq 'supervisor';
	return map { $_->{pid} } grep { $_->{class} eq $class } $scene->mta->workers;
}

sub with_memory {
	my ($how, $name, $limit, @which) = @_;
	$scene = Scene->new(calls => 'storage');
	$scene->{name} = $name;
	$scene->start_plain;
	my ($stuck, $died) = (0, 0);
	for my $class (@which) {
		my ($pid) = pids_of($class) or next;
		$scene->elapse(30);
		if ($limit->($pid)) {
			$c->points(1);
			for (1 .. 6) {
				$scene->mail(messages => 3, sessions => 3, bytes => 700_000, seconds => 2, kick => 1);
				$scene->mta->http($_ % 2 ? '/stats' : '/metrics');
				$scene->elapse;
				last if !kill 0, $pid;
			}
			my $gone = !kill 0, $pid;
			$died++ if $gone;
			note "$name: $class " . ($gone ? 'died and was replaced' : 'went on');
			kill 'KILL', $pid unless $gone; # the next one has no limit
		}
		if (!recover("$name of $class")) {
			$stuck++;
		}
	}
	is $stuck, 0, "$name: service goes on by itself";
	is $scene->{ended} || 0, 0, "$name: the system did not end";
	$c->figure("$how: processes that died of it", $died, 'of ' . @which);
	finish();
	return;
}

sub limit_address_space {
	my ($pid) = @_;
	my ($kib) = slurp("/proc/$pid/status") =~ /^VmSize:\s*(\d+)/m or return 0;
	return run_ok('prlimit', "--pid=$pid", '--as=' . ($kib + 64) * 1024);
}

# That takes a right that root in a container may lack.
sub may_limit {
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		POSIX::setuid((getpwnam 'nobody')[2]) or POSIX::_exit(1);
		sleep 5;
		POSIX::_exit(0);
	}
	sleep 0.1;
	my $may = $> == 0 && run_ok('prlimit', "--pid=$pid", '--as=1000000000');
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return $may;
}

my $group = "/sys/fs/cgroup/memory/posthaste-test-$$";
my $made_group = 0;
sub limit_group {
	my ($pid) = @_;
	eval { spew("$group/memory.limit_in_bytes", 4096 * 16); spew("$group/cgroup.procs", $pid); 1 } or return 0;
	return 1;
}

END {
	my $status = $?;
	if ($made_group == $$) {
		wait_until(sub { rmdir $group }, 5);
	}
	$? = $status;
}

my @with_memory = qw(smtpd rewrite deliver local resolver log stats pickup supervisor);

# ---- the whole ----

my %plans = (
	calls   => sub {
		return map {
			my $class = $_;
			my @start = $class eq 'priv' ? qw(resolver supervisor) : $class eq 'local-agent' ? () : ('');
			(($class eq 'priv' ? () : [ $class, 'at work', sub { at_work($class, 2) } ]),
				map { my $other = $_; [ $class, 'at start', sub { at_start($class, $other) } ] } @start);
		} @classes;
	},
	lasting => sub {
		my @third = ([], [], []);
		push @{ $third[ $_ % 3 ] }, $lasting[$_] for 0 .. $#lasting;
		return map { my $l = $_; [ 'for a while', 'errors', sub { lasting(@$l); return scalar @$l } ] } @third;
	},
	sync    => sub { return [ 'sync', 'failed', sub { failed_sync(1 .. 20); return 20 } ] },
	room    => sub {
		return [ 'disk', 'full', sub { no_room('full disk', [], \&fill_space); return 1 } ],
			[ 'inodes', 'used up', sub { no_room('no inodes', [ '-N', 128 ], \&fill_inodes); return 1 } ];
	},
	memory  => sub { return [ 'memory', 'limited', \&all_memory ], [ 'memory', 'killed for', \&all_killed ] },
);

sub all_memory {
	SKIP: {
		skip 'no right to limit processes of other users', 1 unless may_limit();
		with_memory('address space at its limit', 'address space', \&limit_address_space, @with_memory);
	}
	return 1;
}

sub all_killed {
	SKIP: {
		skip 'no memory groups', 1 unless $> == 0 && mkdir $group;
		$made_group = $$;
		with_memory('killed for memory by the kernel', 'memory group', \&limit_group, @with_memory);
	}
	return 1;
}

sub whole {
	my $n = 0;
	my (@jobs, %points);
	for my $part (map { $plans{$_}->() } split ' ', $ENV{POSTHASTE_PARTS} || 'room sync lasting calls memory') {
		my ($who, $kind, $run) = @$part;
		next if $ENV{POSTHASTE_ONLY} && "$who, $kind" !~ /$ENV{POSTHASTE_ONLY}/;
		push @jobs, [ sprintf('%s, %s, %d', $who, $kind, ++$n) => sub {
			return { who => $who, kind => $kind, points => $run->(), total => \%total, kinds => \%kinds, seen => \%seen };
		} ];
	}
	my $results = SideBySide::run($c, $ENV{POSTHASTE_WIDTH} || 3, @jobs);
	for my $r (grep { $_->{who} } values %$results) {
		$points{ $r->{who} }{ $r->{kind} } += $r->{points};
		my $slowest = delete $r->{total}{slowest} || 0;
		$total{slowest} = $slowest if $slowest > ($total{slowest} || 0);
		$total{$_} += $r->{total}{$_} for keys %{ $r->{total} };
		for my $class (keys %{ $r->{seen} }) {
			$seen{$class}{$_} = 1 for keys %{ $r->{seen}{$class} };
		}
		for my $class (keys %{ $r->{kinds} }) {
			for my $call (keys %{ $r->{kinds}{$class} }) {
				$kinds{$class}{$call}{$_} = 1 for keys %{ $r->{kinds}{$class}{$call} };
			}
		}
	}
	for my $who (sort grep { /^[a-z-]+$/ && $seen{$_} } keys %points) {
		$c->figure("points, $who", eval { my $s = 0; $s += $_ for values %{ $points{$who} }; $s },
			join ', ', map { "$points{$who}{$_} $_" } sort keys %{ $points{$who} });
	}
	return;
}

if ($c->full) {
	whole();
} else {
	lasting($c->pick(1, grep { $_->[0] =~ /^(rewrite|deliver)$/ } @lasting));
	failed_sync(1, 3);
	no_room('full disk', [], \&fill_space);
}
$c->figure('longest wait for a 250 after an error for a while', sprintf('%.1f s', $total{slowest}),
	'with back-off after deaths') if $total{slowest};
# Kinds of calls by class: seen while it was counted, and those that returned an error.
my $pairs = 0;
for my $class (sort keys %kinds) {
	$pairs += keys %{ $kinds{$class}{$_} } for keys %{ $kinds{$class} };
	my @calls = sort keys %{ $seen{$class} || {} } or next;
	my @not = grep { !$kinds{$class}{$_} } @calls;
	$c->figure("kinds of calls that returned errors, $class", @calls - @not, 'of ' . @calls . ' seen'
		. (@not ? ', not: ' . join ' ', @not : ''));
}
$c->figure('kinds of errors (class, call, error)', $pairs);
$c->figure('acknowledged messages lost', $total{lost}, "of $total{acked}");
$c->figure('messages delivered or reported twice', $total{twice}, "of $total{acked}; neither on the list of "
	. "deliveries in doubt nor foretold by the log: $total{unlisted}");
$c->done;
