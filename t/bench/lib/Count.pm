# SPDX-License-Identifier: GPL-3.0-or-later
# scripts/bench --count: what one relayed message costs, call by call and process by process. Counts
# come from the kernel's tracepoints and from our own statistics, so they say the same on a busy
# machine as on a quiet one, but for the size of batches.
package Count;
use strict;
use warnings;
use Machine qw(tree cpu_by_name count_start count_stop);
use Posthaste;
use Profiles;

# Columns of the table; a process's name is its program's.
my @columns = qw(smtpd rewrite supervisor deliver log); # priv, local, resolver and stats do nothing

sub names_of {
	my ($by) = @_;
	my %pids = map { $_ => $by->{$_}{pid} } keys %$by;
	return \%pids;
}

sub load_once {
	my ($run, $n, $prefix) = @_;
	Posthaste->load(@{ $run->{profile}{args} }, '-n', $n, '-t', $prefix, $run->{to});
	Profiles::silence($run->{sink});
	return Profiles::rest($run->{mta}{pid});
}

# Our own statistics as a flat hash: counters, and count and sum of the histograms.
sub statistics {
	my ($mta) = @_;
	my %s;
	my $text = $mta->{mta}->http('/metrics');
	while ($text =~ /^posthaste_(\w+?)(?:\{([^}]*)\})? ([\d.eE+-]+)$/mg) {
		my ($name, $labels, $value) = ($1, $2 || '', $3);
		next if $labels =~ /le=/;
		$s{$name} += $value;
	}
	return \%s;
}

sub print_calls {
	my ($calls, $n) = @_;
	my %sum;
	for my $proc (keys %$calls) {
		$sum{$_} += $calls->{$proc}{$_} for keys %{ $calls->{$proc} };
	}
	my @kinds = grep { !/^(total|switches)$/ && $sum{$_} / $n >= 0.004 } keys %sum;
	@kinds = sort { $sum{$b} <=> $sum{$a} } @kinds;
	printf "%-18s %9s" . ' %9s' x @columns . "\n", 'per message', 'all', @columns;
	for my $kind ('total', @kinds, 'switches') {
		printf "%-18s %9.3f" . ' %9.3f' x @columns . "\n",
			$kind eq 'total' ? 'system calls' : $kind eq 'switches' ? 'context switches' : $kind,
			($sum{$kind} || 0) / $n, map { ($calls->{$_}{$kind} || 0) / $n } @columns;
	}
	return;
}

sub print_cpu {
	my ($before, $after, $n) = @_;
	for my $kind (qw(user system)) {
		my %us = map { $_ => ($after->{$_}{$kind} - ($before->{$_} ? $before->{$_}{$kind} : 0)) / $n * 1e6 }
			keys %$after;
		my $all = 0;
		$all += $_ for values %us;
		printf "%-18s %9.1f" . ' %9.1f' x @columns . "\n", "CPU us $kind", $all,
			map { $us{$_} || 0 } @columns;
	}
	return;
}

my @stats = (
	[ 'messages per segment sync', sub { ratio($_[0], 'rewrite_messages_total', 'spool_commits_total') } ],
	[ 'messages per journal sync', sub { ratio($_[0], 'rewrite_messages_total', 'journal_syncs_total') } ],
	[ 'journal records per message', sub { ratio($_[0], 'journal_records_total', 'rewrite_messages_total') } ],
	[ 'deliveries that waited for the journal', sub { ratio($_[0], 'deliver_record_wait_us_count', 'rewrite_messages_total') } ],
	[ 'log lines per message', sub { ratio($_[0], 'log_lines_total', 'rewrite_messages_total') } ],
);

sub ratio {
	my ($s, $a, $b) = @_;
	return $s->{$b} ? ($s->{$a} || 0) / $s->{$b} : undef;
}

sub run {
	my ($profile, $n) = @_;
	$n ||= $profile->{n};
	my $run = Profiles::begin('posthaste', $profile);
	my $mta = $run->{mta};
	my @pids = tree($mta->{pid});
	Profiles::warm_up($run, $n);
	my $cpu0 = cpu_by_name(@pids);
	my $s0 = statistics($mta);
	load_once($run, $n, 'time');
	my ($cpu1, $s1) = (cpu_by_name(@pids), statistics($mta));
	# a second time for the calls, because counting them costs CPU
	my $counting = count_start(names_of($cpu1)) or die "perf stat does not work here\n";
	load_once($run, $n, 'count');
	my $calls = count_stop($counting);
	$mta->{stop}->();
	$run->{sink}->finish;
	print "\n$profile->{name}: $n messages\n";
	print_calls($calls, $n);
	print_cpu($cpu0, $cpu1, $n);
	my %s = map { $_ => $s1->{$_} - ($s0->{$_} || 0) } keys %$s1;
	for my $row (@stats) {
		my $v = $row->[1]->(\%s);
		printf "%-40s %9.3f\n", $row->[0], $v if defined $v;
	}
	return;
}

1;
