#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Many messages, each exactly once at the next hop, undamaged, and for nobody else.
# POSTHASTE_MESSAGES raises the number (normal run: 5000).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(wait_until);
use Test::More;

my $n = $ENV{POSTHASTE_MESSAGES} || 5000;

for my $case ([ 'pipelined, connections kept', '-p' ], [ 'step by step', ],
	[ 'one connection for each message', '-k', '1' ]) {
	my ($name, @args) = @$case;
	my $sink = Posthaste->sink;
	my $mta  = Posthaste->start(main => { relayhost => "[127.0.0.1]:$sink->{port}" });
	my $r = Posthaste->load('-s', 20, '-n', $n, '-R', @args, "127.0.0.1:$mta->{port}");
	is $r->{acked}, $n, "$name: $n messages acknowledged";
	ok wait_until(sub { $mta->status->{messages} == 0 }, 60), "$name: the queue drains";
	is $mta->stop, 0, "$name: stop";
	my $got = $sink->finish;
	is $got->{messages}, $n, "$name: each at the sink";
	is scalar(keys %{ $sink->received }), $n, "$name: no id twice";
	is $got->{bad_crc} + $got->{misdelivered} + $got->{without_id}, 0, "$name: whole and in right hands";
	is $mta->crashes, '', "$name: nothing crashed";
}
done_testing;
