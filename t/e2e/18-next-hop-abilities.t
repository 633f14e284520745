#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# What a message asks for and what the next hop offers: SIZE, 8BITMIME, SMTPUTF8, DSN. With a hop that
# has it all the request is passed on; with one that lacks it Posthaste answers itself.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp wait_until);
use Test::More;

my $uid = $> == 0 ? (getpwnam 'nobody')[2] : $>;
my $gid = $> == 0 ? (getpwnam 'nobody')[3] : (split ' ', $))[0];
my $full = Posthaste->recorder('caps=PIPELINING,8BITMIME,DSN,SMTPUTF8,SIZE 2000',
	'no-such@=>550 5.1.1 no such user');
my $bare = Posthaste->recorder('caps=PIPELINING', 'no-such@=>550 5.1.1 no such user');
my $mta = Posthaste->prepare(main => {
	transport_maps => "inline:{ { full.test = smtp:[127.0.0.1]:$full->{port} }, { bare.test = smtp:[127.0.0.1]:$bare->{port} } }",
	virtual_mailbox_domains => 'home.test',
	virtual_mailbox_maps => 'inline:{ { @home.test = box/ }, { other@home.test = other/ } }',
	virtual_alias_maps => 'inline:{ { alias@home.test = other@home.test } }',
	virtual_uid_maps => "static:$uid",
	virtual_gid_maps => "static:$gid",
	header_size_limit => 5000,
});
$mta->configure(virtual_mailbox_base => "$mta->{dir}/mail");
$mta->launch;
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.test');

# Sends; returns the queue id once the message is gone.
sub story {
	my ($mail, $rcpts, $content) = @_;
	$smtp->ok("MAIL FROM:$mail");
	$smtp->ok("RCPT TO:$_") for @$rcpts;
	$smtp->ok('DATA');
	$smtp->send_raw($content =~ s/\n/\r\n/gr . "\r\n.\r\n");
	my ($qid) = $smtp->reply =~ /queued as (\w+)/;
	ok $mta->wait_log(qr/$qid: removed/), "$mail for @$rcpts is done" or diag $mta->log;
	return $qid;
}

sub logged {
	my ($qid, $re, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($mta->wait_log(qr/$qid: $re/, 10), $what) || diag grep { /$qid/ } split /^/, $mta->log;
}

# The report on a message, or nothing.
sub report {
	my ($qid, $kind) = @_;
	my $id = $mta->wait_log(qr/$qid: sender $kind notification: (\w+)/, 10) or return '';
	$mta->wait_log(qr/$id: removed/) or return '';
	my ($file) = grep { slurp($_) =~ /^Message-Id: <\Q$id\E@/mi } $mta->maildir_files('box');
	return $file ? slurp($file) : '';
}

note 'everything is passed on';
my $qid = story('<me@home.test> BODY=8BITMIME RET=HDRS ENVID=id+2B7+3D', [
	'<a@full.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;First+2BA@Full.test',
	'<b@full.test> NOTIFY=NEVER', '<c@full.test>' ], "Subject: all\n\ncaf\xc3\xa9");
my $got = $full->got;
like $got, qr/^MAIL FROM:<me\@home\.test> SIZE=\d+ BODY=8BITMIME RET=HDRS ENVID=id\+2B7\+3D\r$/m, 'MAIL has it all';
like $got, qr/^RCPT TO:<a\@full\.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;First\+2BA\@Full\.test\r$/m, 'so has RCPT';
like $got, qr/^RCPT TO:<b\@full\.test> NOTIFY=NEVER ORCPT=rfc822;b\@full\.test\r$/m, 'NEVER, and an original recipient of its own';
like $got, qr/^RCPT TO:<c\@full\.test> ORCPT=rfc822;c\@full\.test\r$/m, 'nothing asked for';
like $got, qr/^caf\xc3\xa9\r$/m, 'the content has 8 bits';
is $mta->count_log(qr/$qid: sender delivery status/), 0, 'the report on success is left to the next hop';
$qid = story('<jos\xc3\xa9@home.test> SMTPUTF8' =~ s/\\x(..)/chr hex $1/ger, [ '<x@full.test>' ], "Subject: utf8\n\nx");
like $full->got, qr/^MAIL FROM:<jos\xc3\xa9\@home\.test> SIZE=\d+ SMTPUTF8\r$/m, 'SMTPUTF8 is passed on';

note 'a hop that lacks it all';
$qid = story('<me@home.test> BODY=8BITMIME RET=HDRS ENVID=env1', [
	'<a@bare.test> NOTIFY=SUCCESS ORCPT=rfc822;first@bare.test', '<b@bare.test> NOTIFY=FAILURE' ],
	"Subject: bare\nX-Mark: in the header\n\ncaf\xc3\xa9 in the body");
$got = $bare->got;
like $got, qr/^MAIL FROM:<me\@home\.test>\r$/m, 'MAIL has nothing';
like $got, qr/^RCPT TO:<$_\@bare\.test>\r$/m, 'RCPT has nothing' for qw(a b);
my $dsn = report($qid, 'delivery status');
like $dsn, qr/^Action: relayed$/m, 'so Posthaste reports that it relayed';
like $dsn, qr/^Final-Recipient: rfc822; a\@bare\.test\nOriginal-Recipient: rfc822; ?first\@bare\.test\nAction: relayed\nStatus: 2\.\d\.\d\n/m, 'for the recipient, as it was given';
like $dsn, qr/^Original-Envelope-Id: env1$/m, 'with the envelope id';
unlike $dsn, qr/b\@bare\.test/, 'not for the one that did not ask';
like $dsn, qr/^X-Mark: in the header$/m, 'with the header';
unlike $dsn, qr/in the body/, 'without the text';
$qid = story("<jos\xc3\xa9\@home.test> SMTPUTF8", [ '<a@bare.test>' ], "Subject: utf8\n\nx");
logged($qid, qr/to=<a\@bare\.test>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:$bare->{port}, .*dsn=5\.6\.7, status=bounced \(SMTPUTF8 is required, but was not offered by host 127\.0\.0\.1\[127\.0\.0\.1\]\)/,
	'an address in UTF-8 cannot pass');
$qid = story('<me@home.test> SMTPUTF8', [ '<a@bare.test>' ], "Subject: plain\n\nx");
logged($qid, qr/to=<a\@bare\.test>, .*status=sent/, 'SMTPUTF8 without need passes');

note 'size';
$qid = story('<me@home.test>', [ '<a@full.test>', '<a@bare.test>' ], "Subject: big\n\n" . ('x' x 70 . "\n") x 40);
logged($qid, qr/to=<a\@full\.test>, .*dsn=5\.3\.4, status=bounced \(message size \d+ exceeds size limit 2000 of server 127\.0\.0\.1\[127\.0\.0\.1\]\)/,
	'larger than the server says');
logged($qid, qr/to=<a\@bare\.test>, .*status=sent/, 'another does not mind');
like $smtp->cmd('MAIL FROM:<me@home.test> SIZE=10240001'), qr/^552 5\.3\.4 Message size exceeds fixed limit$/, 'announced size is checked';
like $smtp->cmd('MAIL FROM:<me@home.test> SIZE=123456789012345678901234567890'), qr/^55?[02]1? 5\.\d\.4 /, 'a number out of range';

note 'success at home, NEVER, RET=FULL';
$qid = story('<me@home.test>', [ '<alias@home.test> NOTIFY=SUCCESS' ], "Subject: home\nX-Mark: h\n\nwhole text");
$dsn = report($qid, 'delivery status');
like $dsn, qr/^Final-Recipient: rfc822; other\@home\.test\nOriginal-Recipient: rfc822; ?alias\@home\.test\nAction: delivered\nStatus: 2\.0\.0$/m,
	'delivered, with the recipient before the alias' or diag $dsn;
like $dsn, qr/^X-Mark: h$/m, 'the header of the message comes with it';
unlike $dsn, qr/^whole text$/m, 'a report on success has no more';
$qid = story('<me@home.test>', [ '<no-such@bare.test> NOTIFY=NEVER' ], "Subject: never\n\nx");
logged($qid, qr/to=<no-such\@bare\.test>, .*status=bounced/, 'refused');
is $mta->count_log(qr/$qid: sender/), 0, '... and nobody is told';
$qid = story('<me@home.test> RET=FULL', [ '<no-such@bare.test> NOTIFY=FAILURE' ], "Subject: f\n\nwhole text");
$dsn = report($qid, 'non-delivery');
like $dsn, qr/^whole text$/m, 'the whole message comes back with RET=FULL';
$qid = story('<me@home.test> RET=HDRS', [ '<no-such@bare.test>' ], "Subject: h\n\nwhole text");
$dsn = report($qid, 'non-delivery');
like $dsn, qr/^Content-Type: text\/rfc822-headers/m, 'the header only with RET=HDRS';
unlike $dsn, qr/^whole text$/m, '... not the text';
$smtp->quit;
ok wait_until(sub { $mta->status->{messages} == 0 }, 10), 'the queue is empty';
is $mta->stop, 0, 'stop';
done_testing;
