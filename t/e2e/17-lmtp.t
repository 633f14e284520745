#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Dovecot takes mail over LMTP, by socket and by port: every recipient has an answer of its own, and
# the content arrives byte by byte.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(wait_until);
use Peers;
use Test::More;

my $why = Peers::obstacle();
plan skip_all => $why if $why;
my $box = Peers->dovecot(home => 'home.test');
ok $box, 'Dovecot runs' or BAIL_OUT('Dovecot does not run');
my $body = join "\r\n", 'first', '', '.', '..dots', "blanks \t", 'x' x 998, "caf\xc3\xa9", "nul-free \x01\x7f\xff", '', '';

# takes the message to joe, ann and one nobody knows; returns the new messages of joe and ann
sub story {
	my ($mta, $relay, $said, $nth, $action) = @_;
	my $smtp = $mta->smtp;
	$smtp->ok('EHLO client.test');
	$smtp->ok('MAIL FROM:<ann@home.test> BODY=8BITMIME');
	$smtp->ok('RCPT TO:<joe@home.test> NOTIFY=SUCCESS');
	$smtp->ok("RCPT TO:<$_\@home.test>") for qw(nobody ann);
	$smtp->ok('DATA');
	$smtp->send_raw("Subject: hello\r\nX-Nth: $nth\r\n\r\n" . $body =~ s/^\./../mgr . ".\r\n");
	my ($qid) = $smtp->reply =~ /queued as (\w+)/;
	$smtp->quit;
	ok $mta->wait_log(qr/$qid: removed/), 'the message is done' or diag $mta->log;
	for my $user (qw(joe ann)) {
		ok $mta->wait_log(qr/postfix\/lmtp\[\d+\]: $qid: to=<$user\@home\.test>, relay=$relay, delay=\S+, delays=\S+, dsn=2\.0\.0, status=sent \(250 2\.0\.0 <$user\@home\.test> \S+ Saved\)$/m, 5),
			"$user is delivered to, with its own answer" or diag $mta->log;
	}
	ok $mta->wait_log(qr/postfix\/lmtp\[\d+\]: $qid: to=<nobody\@home\.test>, relay=$relay, delay=\S+, delays=\S+, dsn=5\.1\.1, status=bounced \(host $said said: 550 5\.1\.1 <nobody\@home\.test> User doesn't exist: nobody\@home\.test \(in reply to RCPT TO command\)\)$/m, 5),
		'the third is refused' or diag $mta->log;
	my $bounce = $mta->wait_log(qr/$qid: sender non-delivery notification: (\w+)/);
	ok $mta->wait_log(qr/$bounce: removed/), 'the bounce is delivered too';
	for my $user (qw(joe ann)) {
		my @got = grep { /^X-Nth: $nth$/m && /^Return-Path: <ann\@/m } $box->box($user);
		is scalar @got, 1, "$user has it";
		my (undef, $text) = split /\n\n/, $got[0] // '', 2;
		is $text, $body =~ s/\r\n/\n/gr, 'byte by byte';
	}
	ok grep({ /^Return-Path: <>$/m && /^Final-Recipient: rfc822; nobody\@home\.test$/m } $box->box('ann')),
		'the bounce is in the mailbox of the sender';
	my $report = wait_until(sub { (grep { /^Final-Recipient: rfc822; joe\@home\.test$/m && /$qid/ } $box->box('ann'))[0] }, 10);
	like $report // '', qr/^Action: $action\nStatus: 2\.0\.0$/m, "joe's report on success says $action";
	return;
}

for my $how ([ "lmtp:unix:$box->{dir}/run/lmtp", qr/mx\.posthaste\.test\[\Q$box->{dir}\E\/run\/lmtp\]/, 'no', 'relayed' ],
	[ "lmtp:inet:127.0.0.1:$box->{port}", qr/127\.0\.0\.1\[127\.0\.0\.1\]:$box->{port}/, 'yes', 'delivered' ]) {
	my ($transport, $relay, $final, $action) = @$how;
	my $mta = Posthaste->start(main => {
		virtual_mailbox_domains => 'home.test',
		virtual_mailbox_maps => 'static:yes',
		virtual_transport => $transport,
		lmtp_assume_final => $final,
	});
	note $transport;
	story($mta, $relay, $relay =~ s/:\d+\)$/)/r, $transport, $action);
	ok wait_until(sub { $mta->status->{messages} == 0 }, 10), 'the queue is empty';
	is $mta->stop, 0, 'stop';
}
$box->stop;
done_testing;
