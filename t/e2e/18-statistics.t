#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Monitoring: figures add up, never run backwards when workers die, and both pages agree.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(spew wait_until);
use Time::HiRes qw(sleep);
use Test::More;

my $sink = Posthaste->sink(args => [ '-P', 10 ]);
my $mta  = Posthaste->prepare;
spew("$mta->{dir}/transport", join '', map {
	sprintf "d%d.sink.test smtp:[127.1.0.%d]:%d\n", $_, $_ + 1, $sink->{port}
} 0 .. 49);
$mta->configure(transport_maps => "texthash:$mta->{dir}/transport", double_bounce_sender => 'db',
	virtual_alias_domains => '', relay_domains => '');
$mta->launch;

sub figures {
	my ($code, $body) = $mta->http('/stats?top=7') =~ /^HTTP\/1\.\d (\d+).*?\r\n\r\n(.*)/s;
	return unless $code && $code == 200;
	my ($counters) = $body =~ /"counters":\{(.*?)\}/;
	my %c = $counters =~ /"(\w+)":(\d+)/g;
	my %d;
	my ($dest) = $body =~ /"destinations":(\{.*\}),"spool"/;
	my ($top) = $dest =~ /"top":\[(.*)\],"other"/;
	$d{top_rows} = () = $top =~ /"transport"/g;
	for my $k (qw(sent deferrals bounced)) {
		$d{"top_$k"} = 0;
		$d{"top_$k"} += $1 while $top =~ /"$k":(\d+)/g;
		($d{"other_$k"}) = $dest =~ /"other":\{[^}]*"$k":(\d+)/;
		($d{"total_$k"}) = $dest =~ /"total":\{[^}]*"$k":(\d+)/;
	}
	return { counters => \%c, dest => \%d, body => $body };
}

my $f = figures();
ok $f, '/stats answers';
is $f->{counters}{smtpd_messages}, 0, 'nothing yet';
my $last = $f->{counters};
my $backwards = 0;
my $sum_wrong = 0;
for my $round (1 .. 6) {
	Posthaste->load('-s', 5, '-n', 200, '-r', 2, '-D', 50, '-R', '-l', 500, '-t', "r$round", "127.0.0.1:$mta->{port}");
	my ($victim) = grep { $_->{class} eq (qw(deliver smtpd rewrite log stats resolver))[ $round - 1 ] } $mta->workers;
	kill 'KILL', $victim->{pid} if $victim;
	for (1 .. 10) {
		sleep 0.05;
		my $now = figures() or next;
		for my $k (keys %$last) {
			if ($now->{counters}{$k} < $last->{$k}) {
				$backwards++;
				diag "$k: $last->{$k} -> $now->{counters}{$k}";
			}
		}
		my $d = $now->{dest};
		for my $k (qw(sent deferrals bounced)) {
			$sum_wrong++ if $d->{"top_$k"} + $d->{"other_$k"} != $d->{"total_$k"};
		}
		$last = $now->{counters};
	}
	wait_until(sub { ($mta->status->{ready} || 0) == 1 }, 20);
}
is $backwards, 0, 'no counter ran backwards while workers died';
is $sum_wrong, 0, 'top and other always add up to the total';
wait_until(sub { figures() && $mta->status->{messages} == 0 }, 10);
$f = figures();
is $f->{dest}{top_rows}, 7, 'as many destinations as asked for';
cmp_ok $f->{counters}{deliver_sent}, '>', 1000, 'deliveries are counted';
my ($metrics) = $mta->http('/metrics');
my ($sent) = $metrics =~ /^posthaste_deliver_sent_total (\d+)$/m;
cmp_ok $sent, '>=', $f->{counters}{deliver_sent}, 'Prometheus text says the same';
like $metrics, qr/^posthaste_spool_commit_us_bucket\{le="\+Inf"\} \d+$/m, 'histograms';
like $f->{body}, qr/"batch_size":\{"unit":"messages","count":\d+/, 'batch sizes';
my $ready = sub { $mta->http('/readyz') =~ /^HTTP\/1\.\d (\d+)/ ? $1 : 0 };
is $ready->(), 200, 'ready';
$mta->stop;
done_testing;
