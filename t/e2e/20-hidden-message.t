#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# An index that lies with right checksums: rows of two messages point elsewhere while the system is down.
# Both messages arrive after all, one that had been delivered does not come again, and the next start
# knows all without a search.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../crash/lib";
use Oracle;
use Posthaste qw(free_port slurp spew wait_until);
use Test::More;

my $port = free_port(); # nobody listens there yet
my $sink = Posthaste->sink;
my $mta  = Posthaste->start(main => {
	relayhost => "[127.0.0.1]:$port",
	transport_maps => "inline:{ now.example=smtp:[127.0.0.1]:$sink->{port} }",
	minimal_backoff_time => '300s',
	maximal_backoff_time => '300s',
	spool_spare_segments => 0,
});
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
my %qid;
for my $what (qw(first deferred delivered last)) {
	my $site = $what eq 'delivered' ? 'now' : 'far';
	my $r = $smtp->mail('me@home.example', ["$what\@$site.example"], "Subject: $what\nX-Load-Id: $what\n\ntext");
	($qid{$what}) = $r =~ /queued as (\S+)/;
	ok $mta->wait_log(qr/$qid{$what}: to=<$what\@$site\.example>.*status=/), "$what message";
}
$smtp->quit;
is $mta->stop, 0, 'stop';

# Row k of an index is at 64 * (k + 1): doc/spool-format.md. The row is moved into the zeroes behind its
# record, which fill the page.
my ($index) = grep { length slurp($_) > 64 * 4 } glob "$mta->{dir}/spool/seg/*.idx";
my $text = slurp($index);
for my $k (0 .. length($text) / 64 - 2) {
	my $row = substr $text, 64 * ($k + 1), 64;
	my ($magic, undef, undef, undef, undef, $off8, $len) = unpack 'a4 V Q< Q< V V V', $row;
	next if $magic ne 'PROW' || $k < 1;
	substr $row, 28, 8, pack 'V V', $off8 + $len / 8, 64;
	substr $row, 16, 8, pack 'Q<', 4710 + $k if $k > 1; # and two say that they are other messages'
	substr $row, 4, 4, pack 'V', 0;
	substr $row, 4, 4, pack 'V', Oracle::crc32c($row);
	substr $text, 64 * ($k + 1), 64, $row;
}
spew($index, $text);
$mta->launch;
for (1 .. 20) {
	$mta->advance(10);
	last if $mta->wait_log(qr/its index had hidden/, 1);
}
ok $mta->wait_log(qr/its index had hidden 3 records; 1 messages are in the queue again/, 30),
	'the search finds what the rows hide';
like $mta->log, qr/$qid{deferred}: the index of segment \w+ had a wrong place for it/, 'a place is mended';
like $mta->log, qr/$qid{last}: was hidden by the index of segment/, 'a message is in the queue again';
unlike $mta->log, qr/$qid{delivered}: was hidden/, 'one that had been delivered is not';
like $mta->http('/metrics'), qr/^posthaste_sched_hidden_total\S* 1$/m, 'counted';
is $mta->stop, 0, 'stop';
spew("$mta->{dir}/log", '');
my $next = Posthaste->sink(port => $port);
$mta->launch;
for (1 .. 20) {
	$mta->advance(300);
	last if wait_until(sub { 3 == (() = $mta->log =~ /status=sent/g) }, 1);
}
like $mta->log, qr/$qid{$_}: to=<$_\@far\.example>.*status=sent/, "the $_ message arrives"
	for qw(first deferred last);
unlike $mta->log, qr/index/, 'this start knows them without a search';
is $mta->stop, 0, 'stop';
is_deeply [ sort keys %{ $_->[0]->finish && $_->[0]->received } ], [ sort @{ $_->[1] } ], "once: @{ $_->[1] }"
	for [ $next, [ map { "$_ $_\@far.example" } qw(first deferred last) ] ],
	[ $sink, ['delivered delivered@now.example'] ];
done_testing;
