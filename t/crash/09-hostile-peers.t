#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Peers that stall. Clients that stop in each phase of SMTP and then send a byte now and again; next
# hops that stop answering at each step, or vanish after the final dot. Honest mail keeps its
# rate meanwhile, processes neither grow much nor end, and nothing acknowledged is lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Oracle;
use Posthaste qw(slurp wait_until);
use Prove;
use Test::More;
use Time::HiRes qw(sleep time);

my $c = Prove->new(name => '09-hostile-peers', title => 'Hostile peers');
my $clients = $c->full ? 10_000 : 500;
my $stalled = $c->full ? 1400 : 280;
my $pairs   = $c->full ? 7 : 3;
my $seconds = $c->full ? 10 : 0.8;
my $honest  = $c->full ? 20_000 : 1000; # messages in a round of deliveries
# percent of the rate; a test run on a busy machine only asserts that honest mail is served at all
my $least = $c->full ? 90 : 1;

# where a next hop stops
my @stops = (
	[ 'banner',                    'banner=silence' ],
	[ 'EHLO',                      '^EHLO=>silence' ],
	[ 'MAIL',                      '^MAIL=>silence' ],
	[ 'RCPT',                      '^RCPT=>silence' ],
	[ 'DATA',                      '^DATA=>silence' ],
	[ 'after the dot',             'X-Load-Id=>silence' ],
	[ 'vanishes after the dot',    'X-Load-Id=>close' ],
);
my $sink = Posthaste->sink;
my @hops = map { Posthaste->recorder('caps=8BITMIME', $_->[1]) } @stops;
my %main = (
	relayhost => "[127.0.0.1]:$sink->{port}",
	transport_maps => 'inline:{ ' . join(', ',
		map { "{ d$_.stall.test = smtp:[127.0.0.1]:$hops[$_]{port} }" } 0 .. $#hops) . ' }',
	smtpd_client_connection_count_limit => 0,
	smtpd_timeout => '3600s',
	smtpd_forbid_unauth_pipelining => 'no', # they shall stay
	notify_classes => '',
);
my $mta = Posthaste->start(main => \%main);
my $other = Posthaste->start(main => \%main); # whose next hops stall
my $oracle = Oracle->new;
my $round = 0;

sub median { my @v = sort { $a <=> $b } @_; return $v[ @v / 2 ] }
sub pids { my ($m) = @_; return join ' ', sort map { $_->{pid} } $m->workers }

# KiB of all processes of a class.
sub rss {
	my ($m, $class) = @_;
	my $sum = 0;
	for my $w (grep { $_->{class} eq $class } $m->workers) {
		$sum += $1 if slurp("/proc/$w->{pid}/status") =~ /^VmRSS:\s+(\d+)/m;
	}
	return $sum;
}

sub load {
	my ($m, @opt) = @_;
	my $name = 'round' . $round++;
	my $ids = "$mta->{dir}/acked-$name";
	my $r = Posthaste->load('-t', $name, '-o', $ids, '-s', 20, @opt, "127.0.0.1:$m->{port}");
	$oracle->acked($ids);
	return $r;
}

sub idle {
	my ($m) = @_;
	return wait_until(sub { ($m->command('postqueue', '-j'))[1] !~ /"address"/ }, 120);
}

# ---- clients ----

sub hold {
	my $out = "$mta->{dir}/slow";
	my $pid = Posthaste::spawn($out, Posthaste::build_dir() . '/t/crash/slow', '-n', $clients,
		'-p', 'all', '-i', 2, "127.0.0.1:$mta->{port}");
	wait_until(sub { slurp($out) =~ /ready/ }, 120) or diag 'the hostile clients did not arrive';
	return $pid;
}

sub release {
	my ($pid) = @_;
	Posthaste::end_child($pid);
	return Posthaste::parse_json(slurp("$mta->{dir}/slow"));
}

sub rate_of_accepts {
	my $rate = load($mta, '-n', 1_000_000, '-T', $seconds)->{rate};
	idle($mta);
	return $rate;
}

my (%rate, @growth, @gone);
my $before = pids($mta);
load($mta, '-n', 500);
idle($mta);
for my $pair (1 .. $pairs) {
	push @{ $rate{without} }, rate_of_accepts() if $pair % 2;
	my $first = rss($mta, 'smtpd');
	my $pid = hold();
	push @growth, (rss($mta, 'smtpd') - $first) / $clients;
	push @{ $rate{with} }, rate_of_accepts();
	my $r = release($pid);
	push @gone, $clients - $r->{connected} + $r->{refused} + $r->{closed};
	push @{ $rate{without} }, rate_of_accepts() unless $pair % 2;
	$c->points($r->{connected});
}
my $share = 100 * median(@{ $rate{with} }) / median(@{ $rate{without} });
cmp_ok $share, '>=', $least, sprintf 'honest rate with %d hostile clients: %.0f %%', $clients, $share;
my ($grown) = sort { $b <=> $a } @growth;
cmp_ok $grown, '<=', 64, sprintf 'each of them costs %.1f KiB', $grown;
is median(@gone), 0, 'they all stayed';
$c->figure("honest rate beside $clients stalling clients", sprintf('%.0f %%', $share),
	sprintf 'of %.0f messages/s, medians of %d pairs', median(@{ $rate{without} }), $pairs);
$c->figure('memory of smtpd for each stalling client', sprintf('%.1f KiB', $grown), 'bound 64');
is pids($mta), $before, 'no process ended';

# ---- next hops ----

# Messages a second from the first connection to the last delivery at the sink.
sub rate_of_deliveries {
	my ($m) = @_;
	my $sent = $m->count_log(qr/status=sent/) + $honest;
	my $start = time;
	load($m, '-n', $honest);
	wait_until(sub { $m->count_log(qr/status=sent/) >= $sent }, 120) or diag 'honest mail is stuck: ', $m->log_tail;
	return $honest / (time - $start);
}

my $of_other = pids($other);
load($other, '-n', 500);
idle($other);
my $small = rss($other, 'deliver');
load($other, '-n', $stalled, '-d', 'stall.test', '-D', scalar @hops);
ok wait_until(sub { !grep { $_->got !~ /\n/ } @hops[1 .. $#hops] }, 20), 'every next hop has got something'
	or diag $other->log_tail;
my %delivered;
for my $pair (1 .. $pairs) {
	for my $m ($pair % 2 ? ($mta, $other) : ($other, $mta)) {
		push @{ $delivered{ $m == $mta ? 'without' : 'with' } }, rate_of_deliveries($m);
	}
}
my $part = 100 * median(@{ $delivered{with} }) / median(@{ $delivered{without} });
cmp_ok $part, '>=', $least, sprintf 'honest rate beside stalling next hops: %.0f %%', $part;
my $more = (rss($other, 'deliver') - $small) / 1024;
cmp_ok $more, '<', 32, sprintf 'deliver grew by %.1f MiB', $more;
$c->figure('honest deliveries beside ' . @stops . " stalling next hops, $stalled messages for them",
	sprintf('%.0f %%', $part), sprintf 'of %.0f messages/s, medians of %d pairs', median(@{ $delivered{without} }), $pairs);
$c->figure('growth of deliver meanwhile', sprintf('%.1f MiB', $more), 'bound 32');
$c->points(scalar @stops);
is pids($other), $of_other, 'no process ended';

$_->stop for @hops;
is $_->crashes, '', 'and none crashed' for $mta, $other;
$oracle->queue($_) for $mta, $other;
$_->stop for $mta, $other;
$sink->finish;
$oracle->sink($sink);
my $v = $oracle->judge('hostile peers');
is scalar @{ $v->{twice} }, 0, 'nothing is delivered twice';
cmp_ok $v->{queued}, '>=', $stalled, 'what was for stalling next hops is in the queue';
$c->figure('acknowledged messages lost', scalar @{ $v->{lost} }, "of $v->{acked}");
$c->done;
