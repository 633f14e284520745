#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# smtp_transactions_in_flight: several messages at a time on one connection by BDAT. To a slow sink
# that refuses some, and to Debian's Postfix and Exim: nothing lost, nothing twice, every byte as it was.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Peers;
use Posthaste qw(free_port wait_until);
use Test::More;

my ($n, $rcpts) = (600, 3);
my $sink = Posthaste->sink(args => [ '-w', 20, '-T', 20, '-P', 5 ]);
my $mta = Posthaste->start(main => {
	relayhost => "[127.0.0.1]:$sink->{port}",
	smtp_transactions_in_flight => 6,
	default_destination_concurrency_limit => 3,
	notify_classes => '',
});
my $r = Posthaste->load('-s', 20, '-n', $n, '-r', $rcpts, '-p', "127.0.0.1:$mta->{port}");
is $r->{acked}, $n, "$n messages acknowledged";
# notifications go there, too
my $of_load = qr/to=<r\d+\.load-\d+\@[^\n]*, status/;
my $done = sub { my $log = $mta->log; return (() = $log =~ /$of_load=(?:sent|bounced)/g) >= $n * $rcpts };
wait_until(sub { (() = $mta->log =~ /$of_load=/g) >= $n * $rcpts }, 60);
for my $round (1 .. 12) {
	last if $done->();
	$mta->advance(1200);
	wait_until($done, 5);
}
ok $done->(), 'each recipient has its result';
my $failed = () = $mta->log =~ /$of_load=bounced/g;
is $mta->stop, 0, 'stop';
my $got = $sink->finish;
my $ids = $sink->received;
my @here = grep { /load-/ } keys %$ids;
is scalar(grep { $ids->{$_} > 1 } @here), 0, 'no recipient got a message twice';
is @here + $failed, $n * $rcpts, 'each was delivered or refused for good';
is $got->{bad_crc} + $got->{misdelivered}, 0, 'whole and in right hands';
cmp_ok $got->{refused_once}, '>', 0, 'some were refused for a time';
cmp_ok $failed, '>', 0, 'some for good';
cmp_ok $got->{chunks}, '>=', $n, 'all went out by BDAT';
cmp_ok $got->{max_open}, '<=', 6, 'no more connections than the limit, and those that are being closed';
is $mta->crashes, '', 'nothing crashed';

SKIP: {
	my $why = Peers::obstacle();
	skip $why, 8 if $why;
	my %peer = map { ($_ => Peers->$_(home => "$_.test", next => $mta->{port})) } qw(postfix exim);
	my $from = Posthaste->start(main => {
		smtp_transactions_in_flight => 8,
		default_destination_concurrency_limit => 2,
		smtp_connection_reuse_count_limit => 8, # Exim delivers 10 of a connection at once, the others later
		transport_maps => 'inline:{ ' . join(', ', map { "{ $_.test = smtp:[127.0.0.1]:$peer{$_}{port} }" } sort keys %peer) . ' }',
	});
	my %want;
	my $smtp = $from->smtp;
	$smtp->ok('EHLO client.test');
	for my $to (sort keys %peer) {
		for my $i (1 .. 40) {
			my $text = $i % 5 == 0 ? "number $i\n.begins with a dot\n" : "number $i\nends here\n";
			$want{$to}{$text}++;
			my $reply = $smtp->mail('ann@client.test', ["joe\@$to.test"], "Subject: $i\r\n\r\n" . $text =~ s/\n/\r\n/gr);
			fail "$to $i: $reply" if $reply !~ /^250/;
		}
	}
	$smtp->quit;
	for my $to (sort keys %peer) {
		my $arrived = sub { my @box = $peer{$to}->box('joe'); return @box >= 40 };
		ok wait_until($arrived, 30), "$to has 40 messages" or diag substr $from->log, -3000;
		my %got;
		$got{ (split /\n\n/, $_, 2)[1] =~ s/\n*\z/\n/r }++ for $peer{$to}->box('joe');
		is_deeply \%got, $want{$to}, '... each once and as it was';
	}
	ok wait_until(sub { (() = $from->log =~ /status=sent/g) == 80 }, 10), 'all are logged as sent';
	is $from->stop, 0, 'stop';
}
done_testing;
