# SPDX-License-Identifier: GPL-3.0-or-later
# scripts/bench --plot: how rate and memory change as the system grows: workers, messages in the
# queue, destinations. Prints a table per curve and writes all of them as one SVG.
package Growth;
use strict;
use warnings;
use Machine qw(median memory_of);
use Plot;
use Posthaste qw(spew run_ok);
use Profiles;

# Median over rounds of one measurement { rate, memory, ok, why }.
sub point {
	my ($rounds, $measure) = @_;
	my @r = map { $measure->() } 1 .. $rounds;
	my @bad = grep { !$_->{ok} } @r;
	print "  NOT RIGHT: $bad[0]{why}\n" if @bad;
	return { map { my $k = $_; ($k => median(map { $_->{$k} } @r)) } qw(rate cpu_us memory) };
}

sub curve {
	my ($title, $xs, $rounds, $measure) = @_;
	my @points;
	printf "\n%s\n%12s %14s %14s %12s\n", $title, '', 'msg/s at sink', 'CPU us/msg', 'PSS MiB';
	for my $x (@$xs) {
		my $p = point($rounds, sub { $measure->($x) });
		printf "%12d %14.0f %14.1f %12.1f\n", $x, @$p{qw(rate cpu_us memory)};
		push @points, [ $x, $p ];
	}
	return \@points;
}

sub workers {
	my ($rounds, $n) = @_;
	my %p = (%{ Profiles::get('p1') }, warm => 0);
	return curve('Workers of each class', [ 1, 2, 4 ], $rounds, sub {
		my ($x) = @_;
		$p{settings} = sub { +{ map { ("${_}_workers" => $x) } qw(smtpd rewrite deliver) } };
		return Profiles::measure('posthaste', \%p, $n);
	});
}

# Deferred messages are made directly in the spool of the stopped system.
sub queued {
	my ($rounds, $n, $most) = @_;
	my %p = (%{ Profiles::get('p1') }, warm => 0);
	my @xs = grep { $_ <= $most } map { 10**$_ } 3 .. 6;
	return curve('Messages in the queue, deferred', \@xs, $rounds, sub {
		my ($x) = @_;
		$p{before_start} = sub {
			my ($mta) = @_;
			$mta->launch; # makes the folders
			$mta->stop;
			my @as = $> == 0 ? (qw(setpriv --regid nogroup --clear-groups --reuid), $mta->{owner}) : ();
			my ($rc, $out) = run_ok(@as, Posthaste::build_dir() . '/t/crash/make_queue', '-n', $x,
				'-u', 0, '-l', 200, '-t', 'old', '[127.0.0.1]:9', "$mta->{dir}/spool");
			die "make_queue: $out" if $rc;
		};
		return Profiles::measure('posthaste', \%p, $n);
	});
}

sub destinations {
	my ($rounds, $n, $most) = @_;
	my %p = %{ Profiles::get('p4') };
	my @xs = grep { $_ <= $most } map { 10**$_ } 1 .. 5;
	return curve('Destinations', \@xs, $rounds, sub {
		my ($x) = @_;
		$p{args} = [ qw(-s 50 -p -A -D), $x ];
		return Profiles::measure('posthaste', \%p, $n > $x ? $n : $x);
	});
}

sub panel {
	my ($title, $x, $y, $key, $log, $points) = @_;
	return { title => $title, x => $x, y => $y, log_x => $log,
		points => [ map { [ $_->[0], $_->[1]{$key} ] } @$points ] };
}

# $most bounds the longest curves, for a short run.
sub run {
	my ($rounds, $n, $most, $file) = @_;
	my $w = workers($rounds, $n);
	my $q = queued($rounds, $n, $most);
	my $d = destinations($rounds, $n, $most);
	spew($file, Plot::svg(
		panel('Rate by workers', 'workers of each class', 'messages/s', 'rate', 0, $w),
		panel('Rate by length of the queue', 'deferred messages', 'messages/s', 'rate', 1, $q),
		panel('Memory by length of the queue', 'deferred messages', 'MiB (PSS, all processes)', 'memory', 1, $q),
		panel('Rate by destinations', 'destinations', 'messages/s', 'rate', 1, $d),
	));
	print "\nwritten: $file\n";
	return;
}

1;
