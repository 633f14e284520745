# SPDX-License-Identifier: GPL-3.0-or-later
# The profiles of scripts/bench: what load, what sink, what settings; and one measurement of one mail
# system under one profile. A profile is
#   name, about  for people
#   args         of t/bench/load; `sink`: of t/bench/sink
#   n, peer      messages for us and for the other one (it is slower: both get about the same time)
#   settings     main.cf, as a hash, or a sub that gets { sink port, folder } and returns one
#   env          for the mail system
#   before_start called with our instance when it is prepared
#   around       a sub that does more than load and drain; it gets the run and returns what it found
#   rows         of the table, beside the usual ones: [ label, key, format ]
package Profiles;
use strict;
use warnings;
use Certs;
use File::Temp qw(tempdir);
use Machine qw(cpu_of memory_of pss_of tree clock_mono write_pieces);
use POSIX ();
use Posthaste qw(wait_until spawn slurp spew run_ok free_port);
use Systems;
use Time::HiRes qw(sleep);

my @byte_rows = (
	[ 'MB/s at the sink',                  'mb_s',         '%.0f' ],
	[ 'MB/s that disk and loopback allow', 'allowed_mb_s', '%.0f' ],
	[ 'of that, %',                        'of_allowed',   '%.0f' ],
);

my %profiles = (
	p1 => { name => 'p1: 50 sessions, pipelined', args => [qw(-s 50 -p)], n => 100000, peer => 8000,
		warm => 100000 },
	p2 => { name => 'p2: 50 sessions, one connection per message', args => [qw(-s 50 -k 1)],
		n => 30000, peer => 5000, warm => 100000 },
	p3 => { name => 'p3: 10 sessions, no pipelining', args => [qw(-s 10)], n => 40000, peer => 5000,
		warm => 100000 },
	p4 => { name => 'p4: 10,000 destinations', args => [qw(-s 50 -p -A -D 10000)], n => 60000,
		peer => 3000, settings => \&numbered_destinations, warm => 100000 },
	p4b => { name => 'p4b: 100,000 destinations', args => [qw(-s 50 -p -A -D 100000)], n => 100000,
		peer => 0, settings => \&numbered_destinations, warm => 100000 },
	p5 => { name => 'p5: 100 recipients per message', args => [qw(-s 20 -p -r 100)], n => 2000,
		peer => 200, rows => [ [ 'recipients/s at the sink', 'rcpt_rate', '%.0f' ] ] },
	p6 => { name => 'p6: 100 KB messages', args => [qw(-s 20 -p -l 100000)], n => 10000, peer => 1500,
		around => \&bytes_too, rows => \@byte_rows },
	p6b => { name => 'p6b: 5 MB messages', args => [qw(-s 8 -p -l 5000000)], n => 120, peer => 60,
		around => \&bytes_too, rows => \@byte_rows },
	p7 => { name => 'p7: a disk that takes 5 ms more to sync, 200 sessions', args => [qw(-s 200 -p)],
		n => 80000, peer => 3000, env => \&slow_disk, settings => sub { +{ spool_syncs_in_flight => 2 } }, warm => 100000,
		around => \&batches_too, rows => [ [ 'messages per fdatasync', 'batch', '%.1f' ] ] },
	p8 => { name => 'p8: every reply of the next hop takes 100 ms', args => [qw(-s 50 -p)],
		sink => [qw(-w 100)], patient => 1, n => 6000, peer => 3000,
		settings => sub { +{ default_destination_concurrency_limit => 100, default_process_limit => 150,
			smtp_transactions_in_flight => 4 } } },
	p8b => { name => 'p8b: the next hop refuses 20 % once', args => [qw(-s 50 -p)], sink => [qw(-T 20)],
		n => 20000, peer => 3000, patient => 1,
		settings => sub { +{ minimal_backoff_time => '2s', queue_run_delay => '2s', maximal_backoff_time => '4s' } },
		rows => [ [ 'seconds until all is delivered', 'drained', '%.1f' ] ] },
	p9 => { name => 'p9: another destination is dead, much mail waits for it', args => [qw(-s 50 -p)],
		n => 60000, peer => 4000, settings => \&dead_destination, around => \&beside_the_dead,
		dead => { posthaste => 100000, postfix => 5000 },
		rows => [ [ 'at the sink msg/s, without the dead', 'alone', '%.0f' ],
			[ 'of that with the dead, %', 'of_alone', '%.0f' ] ] },
	p10 => { name => 'p10: drain of a backlog', args => [qw(-s 50 -p)], n => 200000, peer => 10000,
		measure => \&drain_backlog },
	p11 => { name => 'p11: 10,000 idle sessions beside p1', args => [qw(-s 50 -p)], n => 60000, peer => 0,
		around => \&beside_the_idle,
		rows => [ [ 'at the sink msg/s, without them', 'alone', '%.0f' ],
			[ 'of that with them, %', 'of_alone', '%.0f' ],
			[ 'KiB per idle session', 'idle_kib', '%.2f' ] ] },
	p12 => { name => 'p12: TLS in and out, connections reused', args => [qw(-s 50 -p -S)], n => 20000,
		peer => 3000, pem => 1, settings => \&encrypted, warm => 20000 },
	p12b => { name => 'p12b: TLS in and out, one connection per message', args => [qw(-s 50 -k 1 -S)],
		n => 5000, peer => 1500, pem => 1, settings => \&encrypted, warm => 20000 },
);

sub order { my ($n, $s) = $_[0] =~ /(\d+)(.*)/; return sprintf '%03d%s', $n, $s }
sub names { return sort { order($a) cmp order($b) } keys %profiles }
sub get { return $profiles{ $_[0] } }

# Options of the generator as the profile has them: -r 100 and so on.
sub option {
	my ($profile, $name, $default) = @_;
	my @args = @{ $profile->{args} };
	for my $i (0 .. $#args - 1) {
		return $args[ $i + 1 ] if $args[$i] eq $name;
	}
	return $default;
}

# ---- settings of single profiles ----

# Each domain is its own destination: an address of the loopback network.
sub numbered_destinations {
	my ($port, $dir) = @_;
	spew("$dir/transport", "/\@d(\\d+)-(\\d+)-(\\d+)\\./ smtp:[127.\${1}.\${2}.\${3}]:$port\n");
	return { transport_maps => "regexp:$dir/transport" };
}

# Nobody listens at the dead one's port.
sub dead_destination {
	my ($port, $dir) = @_;
	spew("$dir/transport", "/\@dead\\.test\$/ smtp:[127.0.0.2]:" . free_port() . "\n");
	return { transport_maps => "regexp:$dir/transport" };
}

sub encrypted {
	my ($port, $dir) = @_;
	return {
		smtpd_tls_security_level => 'may', smtpd_tls_chain_files => "$dir/bench.pem",
		smtp_tls_security_level => 'encrypt', smtp_tls_connection_reuse => 'yes',
	};
}

sub slow_disk {
	my $so = Posthaste::build_dir() . '/t/bench/slowsync.so';
	my $source = Posthaste::top() . '/t/bench/slowsync.c';
	system('cc', '-D_GNU_SOURCE', '-O2', '-shared', '-fPIC', '-o', $so, $source) == 0
		or die "slowsync.so cannot be built\n";
	return (LD_PRELOAD => $so, SLOW_SYNC_US => 5000);
}

# ---- one run ----

# CPU seconds when the process tree has come to rest.
sub rest {
	my ($pid) = @_;
	my $cpu = -1;
	wait_until(sub {
		my $now = cpu_of($pid);
		my $same = $now - $cpu < 0.02;
		$cpu = $now;
		sleep 0.2;
		return $same;
	}, 300);
	return $cpu;
}

# On a busy machine processes rest without being done: until nothing has come for a second.
sub silence {
	my ($sink) = @_;
	my ($seen, $since) = (-1, clock_mono());
	wait_until(sub {
		my $now = $sink->progress->{recipients};
		($seen, $since) = ($now, clock_mono()) if $now != $seen;
		sleep 0.1;
		return clock_mono() - $since > 1;
	}, 300);
	return;
}

# Was every message of the run received once, and intact?
sub judge {
	my ($sink, $got, $load, $want) = @_;
	my $ids = $sink->received;
	my $mine = grep { !/^(?:warm|alone)/ } keys %$ids;
	my @why;
	push @why, "$load->{acked} of $load->{messages} accepted" if $load->{acked} != $load->{messages};
	push @why, "$mine of $want arrived" if $mine != $want;
	my $twice = grep { $_ > 1 } values %$ids;
	push @why, "$twice arrived again" if $twice;
	push @why, "$got->{bad_crc} damaged" if $got->{bad_crc};
	push @why, "$got->{misdelivered} misdelivered" if $got->{misdelivered};
	return join ', ', @why;
}

# Start a system and its sink. Own environment and settings as the profile says.
sub begin {
	my ($system, $profile) = @_;
	my $dir = tempdir('posthaste-bench-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	chmod 0755, $dir;
	my @sink = @{ $profile->{sink} || [] };
	if ($profile->{pem}) {
		Certs->new($dir)->cert('bench', names => ['bench.test']);
		push @sink, '-S', "$dir/bench.pem";
	}
	my $sink = Posthaste->sink(args => \@sink);
	my %env = $profile->{env} ? $profile->{env}->() : ();
	local @ENV{ keys %env } = values %env;
	my $settings = ref $profile->{settings} ? $profile->{settings}->($sink->{port}, $dir) : {};
	my $mta = Systems->can($system)->($sink->{port}, $settings, $profile->{before_start}) or return;
	return { system => $system, profile => $profile, sink => $sink, mta => $mta, dir => $dir,
		to => "127.0.0.1:$mta->{port}" };
}

# What the spool is after minutes of such load: segments are recycled. The other system warms up by
# a tenth of the load, which starts its processes.
sub warm_up {
	my ($run, $count) = @_;
	my $much = $run->{system} eq 'posthaste' ? $run->{profile}{warm} || 0 : 0;
	Posthaste->load(qw(-s 50 -p -t warmer -n), $much, $run->{to}) if $much;
	Posthaste->load(@{ $run->{profile}{args} }, '-n', int($count / 10) || 1, '-t', 'warm', $run->{to});
	silence($run->{sink});
	rest($run->{mta}{pid});
	sleep 8 if $much; # until what is dead has become spare
	return;
}

# The load and what follows of it: rate, CPU, latency.
sub timed_load {
	my ($run, $count, $prefix) = @_;
	my ($mta, $sink) = @$run{qw(mta sink)};
	my $cpu0 = rest($mta->{pid});
	my $before = $sink->progress->{recipients};
	$sink->restart;
	sleep 0.1;
	my $t0 = clock_mono();
	my $load = Posthaste->load(@{ $run->{profile}{args} }, '-n', $count, '-t', $prefix, $run->{to});
	my $memory = memory_of($mta->{pid});
	# what is tried again later leaves the processes idle meanwhile
	wait_until(sub { $sink->progress->{timed} >= $count }, 120) if $run->{profile}{patient};
	silence($sink);
	my $cpu1 = rest($mta->{pid});
	my $timed = $sink->progress;
	# from the start of the load on: what comes late and at once is not fast
	my $seconds = $timed->{last_us} / 1e6 - $t0;
	# a message with many recipients may go out in parts: what counts is recipients
	my $rcpt_rate = ($timed->{recipients} - $before) / $seconds;
	my $rate = $rcpt_rate / option($run->{profile}, '-r', 1);
	return {
		load => $load, rate => $rate, accept_rate => $load->{rate}, memory => $memory,
		drained => $seconds, cpu_us => ($cpu1 - $cpu0) / $count * 1e6,
		rcpt_rate => $rcpt_rate,
		p50 => $load->{accept_p50_ms}, p99 => $load->{accept_p99_ms},
	};
}

sub measure {
	my ($system, $profile, $count) = @_;
	return $profile->{measure}->($system, $profile, $count) if $profile->{measure};
	my $run = begin($system, $profile) or return;
	warm_up($run, $count);
	my $r = $profile->{around} ? $profile->{around}->($run, $count) : timed_load($run, $count, 'load');
	return finish($run, $r, $count * option($profile, '-r', 1));
}

sub finish {
	my ($run, $r, $want) = @_;
	$run->{mta}{stop}->();
	my $got = $run->{sink}->finish;
	$r->{why} = judge($run->{sink}, $got, $r->{load}, $want);
	$r->{ok} = $r->{why} eq '';
	return $r;
}

# ---- runs with something around them ----

# What disk and loopback allow: the same bytes twice from the generator straight to the sink, while
# they are written to the disk.
sub bytes_allowed {
	my ($run, $count, $length) = @_;
	my $t0 = clock_mono();
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0) {
		write_pieces($run->{dir}, $count * $length);
		POSIX::_exit(0);
	}
	Posthaste->load(@{ $run->{profile}{args} }, '-n', 2 * $count, '-t', 'alone', "127.0.0.1:$run->{sink}{port}");
	waitpid $pid, 0;
	return $count * $length / (clock_mono() - $t0);
}

sub bytes_too {
	my ($run, $count) = @_;
	my $r = timed_load($run, $count, 'load');
	my $length = option($run->{profile}, '-l', 4096);
	$r->{mb_s} = $r->{rate} * $length / 1e6;
	return $r if $run->{system} ne 'posthaste';
	$r->{allowed_mb_s} = bytes_allowed($run, $count, $length) / 1e6;
	$r->{of_allowed} = 100 * $r->{mb_s} / $r->{allowed_mb_s};
	return $r;
}

sub batches_too {
	my ($run, $count) = @_;
	my $before = counter($run, 'spool_commits_total');
	my $r = timed_load($run, $count, 'load');
	my $commits = counter($run, 'spool_commits_total') - $before;
	$r->{batch} = $count / $commits if $commits > 0;
	return $r;
}

sub counter {
	my ($run, $name) = @_;
	return 0 unless $run->{mta}{mta};
	my $sum = 0;
	my $text = $run->{mta}{mta}->http('/metrics');
	$sum += $1 while $text =~ /^posthaste_$name(?:\{[^}]*\})? ([\d.e+]+)$/mg;
	return $sum;
}

sub with_and_without {
	my ($run, $count, $change) = @_;
	my $alone = timed_load($run, $count, 'alone');
	$change->();
	my $r = timed_load($run, $count, 'load');
	$r->{alone} = $alone->{rate};
	$r->{of_alone} = $alone->{rate} > 0 ? 100 * $r->{rate} / $alone->{rate} : undef;
	return $r;
}

sub beside_the_dead {
	my ($run, $count) = @_;
	return with_and_without($run, $count, sub {
		Posthaste->load(@{ $run->{profile}{args} }, '-n', $run->{profile}{dead}{ $run->{system} },
			'-t', 'dead', '-d', 'dead.test', $run->{to});
	});
}

sub smtpd_kib {
	my ($run) = @_;
	my $kib = 0;
	$kib += pss_of($_) for grep { (readlink("/proc/$_/exe") || '') =~ m{/smtpd$} } tree($run->{mta}{pid});
	return $kib;
}

sub beside_the_idle {
	my ($run, $count) = @_;
	my ($idle, $sessions) = (undef, 10000);
	my $out = "$run->{dir}/idle";
	my $r = with_and_without($run, $count, sub {
		my $before = smtpd_kib($run);
		$idle = spawn($out, Posthaste::build_dir() . '/t/crash/slow', '-n', $sessions, '-p', 'mail',
			'-i', 100000, $run->{to});
		wait_until(sub { slurp($out) =~ /^ready/m }, 120) or die "idle sessions did not get in\n";
		$run->{idle_kib} = (smtpd_kib($run) - $before) / $sessions;
	});
	$r->{idle_kib} = $run->{idle_kib};
	Posthaste::end_child($idle);
	return $r;
}

# All mail waits first, because the next hop is not there; then it comes, and all is flushed.
sub drain_backlog {
	my ($system, $profile, $count) = @_;
	my $port = free_port();
	my $mta = Systems->can($system)->($port, { minimal_backoff_time => '1h', maximal_backoff_time => '2h' })
		or return;
	my $load = Posthaste->load(@{ $profile->{args} }, '-n', $count, "127.0.0.1:$mta->{port}");
	# what is deferred after the flush would stay
	wait_until(sub { sleep 0.5; $mta->{deferred}->() >= $count }, 300) or return;
	rest($mta->{pid});
	my $sink = Posthaste->sink(port => $port, args => $profile->{sink});
	my $cpu0 = cpu_of($mta->{pid});
	my $t0 = clock_mono();
	$mta->{command}->('postqueue', '-f');
	my $run = { mta => $mta, sink => $sink };
	wait_until(sub { $sink->progress->{timed} >= $count }, 900);
	my $seconds = clock_mono() - $t0;
	my $cpu1 = rest($mta->{pid});
	return finish($run, {
		load => $load, accept_rate => $load->{rate}, rate => $count / $seconds, drained => $seconds,
		cpu_us => ($cpu1 - $cpu0) / $count * 1e6, memory => memory_of($mta->{pid}),
	}, $count);
}

1;
