#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A large message whose record was damaged on disk while it waited: it is never completed at the next
# hop, is kept for the operator, and leaves the queue; others are not harmed. One that is on hold stays in
# the queue, and in its list.
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
	smtp_data_xfer_timeout => '10d', # the clock jumps, perhaps while something is being sent
	smtp_data_done_timeout => '10d',
});
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
my %qid;
for my $what (qw(damaged sound held)) {
	my $r = $smtp->mail('me@home.example', "$what\@far.example",
		"Subject: $what\n\n" . ("a line of the $what message, which is long\n" x 50000));
	($qid{$what}) = $r =~ /queued as (\S+)/;
	ok $mta->wait_log(qr/$qid{$what}: to=<$what\@far\.example>.*status=deferred/), "$what message waits";
}
$smtp->quit;
is(($mta->command('postsuper', '-h', $qid{held}))[0], 0, 'one is held');
my $done = 0;
for my $file (glob "$mta->{dir}/spool/seg/*.seg") {
	open my $fh, '+<:raw', $file or die "$file: $!";
	local $/;
	my $text = <$fh>;
	my %at = (body => index($text, 'a line of the damaged message'), head => index($text, 'held@far.example'));
	for my $where (grep { $at{$_} > 0 } keys %at) {
		# in the body; in the header of the record, where its queue id is
		my $to = $where eq 'body' ? $at{body} + 1_500_000 : rindex($text, 'PREC', $at{head}) + 24;
		sysseek $fh, $to, 0;
		syswrite $fh, "\xff";
		$done++;
	}
}
is $done, 2, 'two records are damaged';
my ($rc, $list) = $mta->command('postqueue', '-p');
like $list, qr/^$qid{held}! +\d+ .*\(damaged record\)$/m, 'what is held and damaged is in the list';
($rc, $list) = $mta->command('postqueue', '-j');
like $list, qr/"queue_name": "hold", "queue_id": "$qid{held}".*"damaged": true/, 'also in JSON';
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
ok wait_until(sub { $mta->status->{messages} == 1 }, 20), 'only what is held is left';
is(($mta->command('postsuper', '-H', $qid{held}))[0], 0, 'it is released');
ok $mta->wait_log(qr/$qid{held}: .*damaged/), 'its damage is noticed when it is loaded';
ok wait_until(sub { $mta->advance(300); $mta->status->{messages} == 0 }, 20), 'nothing is left in the queue';
ok -s "$mta->{dir}/spool/corrupt/$qid{held}", 'it is kept, too';
is $mta->stop, 0, 'stop';
done_testing;
