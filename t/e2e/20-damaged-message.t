#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A large message whose record was damaged on disk while it waited: it is never completed at the next
# hop, is kept for the operator, and leaves the queue; others are not harmed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port slurp wait_until);
use Test::More;

my $port = free_port(); # nobody listens there yet
my $mta  = Posthaste->start(main => {
	relayhost => "[127.0.0.1]:$port",
	minimal_backoff_time => '300s',
	maximal_backoff_time => '300s',
	bounce_queue_lifetime => '5d',
});
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
my %qid;
for my $what (qw(damaged sound)) {
	my $r = $smtp->mail('me@home.example', "$what\@far.example",
		"Subject: $what\n\n" . ("a line of the $what message, which is long\n" x 50000));
	($qid{$what}) = $r =~ /queued as (\S+)/;
	ok $mta->wait_log(qr/$qid{$what}: to=<$what\@far\.example>.*status=deferred/), "$what message waits";
}
$smtp->quit;
my $done = 0;
for my $file (glob "$mta->{dir}/spool/seg/*.seg") {
	open my $fh, '+<:raw', $file or die "$file: $!";
	local $/;
	my $at = index <$fh>, 'a line of the damaged message';
	next if $at < 0;
	seek $fh, $at + 1_500_000, 0;
	syswrite $fh, "\0";
	$done++;
}
is $done, 1, 'its record is damaged';
my $next = Posthaste->recorder("127.0.0.1:$port");
for (1 .. 20) {
	$mta->advance(300);
	last if $mta->wait_log(qr/$qid{damaged}: .*message dropped/, 1);
}
ok $mta->wait_log(qr/$qid{sound}: to=<sound\@far\.example>.*status=sent/), 'the sound one is sent';
like $mta->log, qr/postfix\/smtp\[\d+\]: error: $qid{damaged}: record at .* is damaged: its transmission was broken off/,
	'damage is logged';
like $mta->log, qr/$qid{damaged}: to=<damaged\@far\.example>, .*dsn=4\.3\.0, status=deferred \(queue record is damaged\)/,
	'and the reason of the deferral';
like $mta->log, qr/$qid{damaged}: .*message dropped/, 'it leaves the queue';
unlike $mta->log, qr/$qid{damaged}: .*status=sent/, 'and was never sent';
ok -s "$mta->{dir}/spool/corrupt/$qid{damaged}", 'it is kept';
my $got = $next->got;
is scalar(() = $got =~ /^\.\r?$/mg), 1, 'one end of data at the next hop';
ok wait_until(sub { $mta->status->{messages} == 0 }, 20), 'nothing is left in the queue';
is $mta->stop, 0, 'stop';
done_testing;
