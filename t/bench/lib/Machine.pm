# SPDX-License-Identifier: GPL-3.0-or-later
# What scripts/bench reads of the machine: its description, CPU and memory of process trees, and
# system calls by kind. All of it from outside the processes that are measured.
package Machine;
use strict;
use warnings;
use Carp qw(croak);
use Exporter qw(import);
use File::Temp qw(tempdir);
use POSIX ();
use Posthaste qw(slurp spawn wait_until);
use Time::HiRes qw(sleep time);
our @EXPORT_OK = qw(machine_line load_line tree cpu_of cpu_by_name memory_of pss_of
	count_start count_stop median clock_mono write_pieces);

my $hz = POSIX::sysconf(POSIX::_SC_CLK_TCK());

sub median {
	my @s = sort { $a <=> $b } @_;
	return @s ? $s[ $#s / 2 ] : undef;
}

# The clock of the generator's and the sink's reports, in seconds.
sub clock_mono { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

sub machine_line {
	my ($cpu) = slurp('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)$/m;
	my ($mem) = slurp('/proc/meminfo') =~ /^MemTotal:\s*(\d+)/m;
	my @cpus = slurp('/proc/cpuinfo') =~ /^processor/mg;
	chomp(my $kernel = slurp('/proc/sys/kernel/osrelease'));
	return sprintf '%d x %s, %.0f GiB, Linux %s, fdatasync of 4 KiB %s us', scalar @cpus, $cpu || '?',
		$mem / 1048576, $kernel, sync_latency();
}

# How much else runs here: figures of a busy machine are ratios at best.
sub load_line { return 'load average ' . (split ' ', slurp('/proc/loadavg'))[0] }

# Median of 4 KiB write + fdatasync in the folder the spools are in.
sub sync_latency {
	my $dir = tempdir(CLEANUP => 1);
	open my $fh, '>', "$dir/f" or return '?';
	syswrite $fh, "\0" x 1048576;
	my @t;
	for my $i (0 .. 99) {
		sysseek $fh, $i * 4096, 0;
		my $t0 = time;
		syswrite $fh, 'x' x 4096;
		syscall(75, fileno $fh); # fdatasync
		push @t, (time - $t0) * 1e6;
	}
	return sprintf '%.0f', (sort { $a <=> $b } @t)[50];
}

# So many bytes into a file of the folder, in pieces of 1 MiB, durable after each 8.
sub write_pieces {
	my ($dir, $bytes) = @_;
	my $piece = 'x' x 1048576;
	my $pieces = int($bytes / length $piece) || 1;
	open my $fh, '>', "$dir/pieces" or croak "$dir/pieces: $!";
	for my $i (1 .. $pieces) {
		syswrite $fh, $piece or croak "write: $!";
		syscall(75, fileno $fh) if $i % 8 == 0 || $i == $pieces; # fdatasync
	}
	unlink "$dir/pieces";
	return;
}

# All processes below one, itself included.
sub tree {
	my ($root) = @_;
	my %children;
	for my $stat (glob '/proc/[0-9]*/stat') {
		my ($pid, $ppid) = slurp($stat) =~ /^(\d+) \(.*\) \S (\d+)/s or next;
		push @{ $children{$ppid} }, $pid;
	}
	my (@all, @todo);
	@todo = ($root);
	while (defined(my $p = shift @todo)) {
		push @all, $p;
		push @todo, @{ $children{$p} || [] };
	}
	return @all;
}

# Seconds of user and system time of one process and of what it has reaped.
sub cpu_times {
	my ($pid) = @_;
	my ($rest) = slurp("/proc/$pid/stat") =~ /\) (.*)/s or return (0, 0);
	my @f = split ' ', $rest;
	return (($f[11] + $f[13]) / $hz, ($f[12] + $f[14]) / $hz);
}

# CPU seconds of a process tree: of the living, and of what they have reaped.
sub cpu_of {
	my ($root) = @_;
	my $sum = 0;
	for my $pid (tree($root)) {
		my ($user, $system) = cpu_times($pid);
		$sum += $user + $system;
	}
	return $sum;
}

# The last part of a process's program, without what all of them share.
sub name_of {
	my ($pid) = @_;
	my ($exe) = (readlink("/proc/$pid/exe") || '') =~ m{([^/]+)$} or return "pid $pid";
	return $exe;
}

# { NAME => { pid, user, system } } of a process tree; names that come twice are numbered.
sub cpu_by_name {
	my (@pids) = @_;
	my %by;
	for my $pid (@pids) {
		my $name = name_of($pid);
		my $n = 2;
		my $key = $name;
		$key = $name . $n++ while $by{$key};
		my ($user, $system) = cpu_times($pid);
		$by{$key} = { pid => $pid, user => $user, system => $system };
	}
	return \%by;
}

sub pss_of {
	my ($pid) = @_;
	my ($pss) = slurp("/proc/$pid/smaps_rollup") =~ /^Pss:\s*(\d+)/m;
	return $pss || 0;
}

# Proportional memory of a process tree in MiB.
sub memory_of {
	my ($root) = @_;
	my $kib = 0;
	$kib += pss_of($_) for tree($root);
	return $kib / 1024;
}

# ---- system calls, counted by the kernel's tracepoints (perf stat: no record per call) ----

my @calls = qw(openat newfstatat recvfrom recvmsg sendto sendmsg writev write read epoll_wait epoll_pwait epoll_ctl
	futex fdatasync fsync pwrite64 pread64 accept4 connect socket close shutdown getsockopt
	setsockopt getpeername getsockname fcntl clock_gettime);

# Start counting for { NAME => PID }. undef when this machine cannot.
sub count_start {
	my ($pids) = @_;
	my $dir = tempdir(CLEANUP => 1);
	my $events = join ',', 'raw_syscalls:sys_enter', 'context-switches',
		map { "syscalls:sys_enter_$_" } @calls;
	my %run;
	for my $name (keys %$pids) {
		my $pid = fork;
		croak "fork: $!" unless defined $pid;
		if (!$pid) {
			open STDERR, '>', "$dir/$name.err";
			exec('perf', 'stat', '-x', ',', '-o', "$dir/$name", '-e', $events, '-p', $pids->{$name})
				or POSIX::_exit(71);
		}
		$run{$name} = $pid;
	}
	sleep 1.5; # until all have attached
	for my $name (keys %run) {
		return undef if waitpid($run{$name}, POSIX::WNOHANG()) != 0; ## no critic
	}
	return { dir => $dir, run => \%run };
}

# { NAME => { CALL => count, total => count, switches => count } }
sub count_stop {
	my ($counting) = @_;
	my %by;
	kill 'INT', values %{ $counting->{run} };
	for my $name (keys %{ $counting->{run} }) {
		waitpid $counting->{run}{$name}, 0;
		for (split /\n/, slurp("$counting->{dir}/$name")) {
			my ($n, undef, $event) = split /,/;
			next unless defined $event && $n =~ /^\d+$/;
			$event =~ s/^syscalls:sys_enter_//;
			$event = 'total' if $event =~ /^raw_syscalls/;
			$event = 'switches' if $event eq 'context-switches';
			$by{$name}{$event} = $n;
		}
	}
	return \%by;
}

1;
