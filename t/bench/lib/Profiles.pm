# SPDX-License-Identifier: GPL-3.0-or-later
# The profiles of scripts/bench: what load, what sink, what settings; and one measurement of one
# mail system under one profile.
package Profiles;
use strict;
use warnings;
use Machine qw(cpu_of memory_of);
use Systems;
use Posthaste qw(wait_until);
use Time::HiRes qw(sleep);

# n: messages for us, peer: for the other one (it is slower; both get the same time, roughly)
my %profiles = (
	p1 => { name => 'p1: 50 sessions, pipelined', args => [qw(-s 50 -p)], n => 60000, peer => 4000 },
	p2 => { name => 'p2: 50 sessions, one connection per message', args => [qw(-s 50 -k 1)],
		n => 15000, peer => 3000 },
	p3 => { name => 'p3: 10 sessions, no pipelining', args => [qw(-s 10)], n => 20000, peer => 4000 },
	p5 => { name => 'p5: 100 recipients per message', args => [qw(-s 20 -p -r 100)], n => 1000,
		peer => 200 },
);

sub names { return sort { substr($a, 1) <=> substr($b, 1) } keys %profiles }
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

# Was every message of the run received once, and intact?
sub judge {
	my ($sink, $got, $load, $want) = @_;
	my $ids = $sink->received;
	my $mine = grep { !/^warm/ } keys %$ids;
	my @why;
	push @why, "$load->{acked} of $load->{messages} accepted" if $load->{acked} != $load->{messages};
	push @why, "$mine of $want arrived" if $mine != $want;
	my $twice = grep { $_ > 1 } values %$ids;
	push @why, "$twice arrived again" if $twice;
	push @why, "$got->{bad_crc} damaged" if $got->{bad_crc};
	push @why, "$got->{misdelivered} misdelivered" if $got->{misdelivered};
	return join ', ', @why;
}

# One measurement: start, load, drain, stop.
sub measure {
	my ($system, $profile, $count) = @_;
	my $sink = Posthaste->sink(args => $profile->{sink});
	my $mta = Systems->can($system)->($sink->{port}, $profile->{settings}) or return;
	my @args = @{ $profile->{args} };
	# a warm-up, so that neither is measured while it starts processes
	Posthaste->load(@args, '-n', int($count / 10) || 1, '-t', 'warm', "127.0.0.1:$mta->{port}");
	my $cpu0 = rest($mta->{pid});
	kill 'USR1', $sink->{pid};
	sleep 0.1;
	my $r = Posthaste->load(@args, '-n', $count, "127.0.0.1:$mta->{port}");
	my $memory = memory_of($mta->{pid});
	my $cpu1 = rest($mta->{pid});
	$mta->{stop}->();
	my $got = $sink->finish;
	my $why = judge($sink, $got, $r, $count * option($profile, '-r', 1));
	return {
		rate => $got->{rate} * 1,
		accept_rate => $r->{rate},
		cpu_us => ($cpu1 - $cpu0) / $count * 1e6,
		memory => $memory,
		p50 => $r->{accept_p50_ms}, p99 => $r->{accept_p99_ms},
		ok => $why eq '', why => $why,
	};
}

1;
