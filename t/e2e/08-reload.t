#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Reload under load: no connection is refused or dropped, nothing is lost or doubled, the new
# configuration serves new sessions while an old session finishes under the old one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(spawn slurp wait_until);
use Time::HiRes qw(sleep);
use Test::More;

my $sink = Posthaste->sink;
my $mta  = Posthaste->start(main => { relayhost => "[127.0.0.1]:$sink->{port}" });
my $old = $mta->smtp;
$old->ok('EHLO old');
my $load = spawn("$sink->{dir}/load", Posthaste::build_dir() . '/t/bench/load', '-s', 10, '-n', 1000000,
	'-T', 4, '-k', 20, '-l', 1000, '-o', "$sink->{dir}/acked", "127.0.0.1:$mta->{port}");
for my $i (1 .. 3) {
	sleep 0.5;
	$mta->configure(smtpd_banner => "banner number $i");
	my ($rc, $out) = $mta->command('posthaste', 'reload');
	is $rc, 0, "reload $i" or diag $out;
	my $c;
	ok wait_until(sub { $c = $mta->smtp; $c->{banner} =~ /banner number $i/ }, 20),
		"reload $i: new sessions see the new configuration";
	$c->quit;
}
like $old->mail('a@load.test', 'r0.old-0@sink.test', "X-Load-Id: old-0\nX-Load-Crc: 00000000\n\n"),
	qr/^250 2\.0\.0 Ok: queued/, 'a session of the first generation still works';
$old->quit;
Posthaste::wait_child($load);
ok wait_until(sub { $mta->status->{messages} == 0 }, 60), 'the queue drains';
ok wait_until(sub { !grep { $_->{generation} < 4 } $mta->workers }, 30), 'old workers are gone'
	or diag explain [ $mta->workers ];
is $mta->status->{worker_restarts}, 0, 'no worker died';
$mta->stop;
my $r = Posthaste::parse_json(slurp("$sink->{dir}/load"));
is $r->{lost_connections}, 0, 'no connection was dropped';
my $got = $sink->finish;
my $rec = $sink->received;
my @acked = map { /^(\S+)/ ? $1 : () } split /\n/, slurp("$sink->{dir}/acked");
my %have = map { (split ' ')[0] => $rec->{$_} } keys %$rec;
cmp_ok scalar(@acked), '>', 100, @acked . ' acknowledged';
is scalar(grep { ($have{$_} || 0) != 1 } @acked), 0, 'each exactly once';
done_testing;
