#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Content that changes when it leaves: large mail in quoted-printable for a next hop without 8BITMIME, lines
# broken, addresses mapped, for SMTP and LMTP; tables that cannot be asked; attachments nested too deep. The
# comparison with Postfix is in situations/outgoing*.pl.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use MIME::QuotedPrint qw(decode_qp);
use Posthaste qw(slurp spew wait_until);
use Test::More;

my $seven = Posthaste->recorder('caps=PIPELINING,SIZE', 'whole');
my $eight = Posthaste->recorder('caps=PIPELINING,SIZE,8BITMIME', 'whole');
my $lmtp = Posthaste->recorder('caps=PIPELINING,8BITMIME', 'whole');
my $mta = Posthaste->prepare(main => {
	transport_maps => "inline:{ { seven.test = smtp:[127.0.0.1]:$seven->{port} }, { eight.test = smtp:[127.0.0.1]:$eight->{port} },"
		. " { lmtp.test = lmtp:inet:127.0.0.1:$lmtp->{port} }, { broken.test = broken:[127.0.0.1]:$eight->{port} },"
		. " { unknown.test = unknown:[127.0.0.1]:$eight->{port} } }",
	mime_nesting_limit => 3,
	lmtp_generic_maps => 'inline:{ { @in.test = @lmtp.example } }',
	lmtp_header_checks => 'pcre:{ {/^X-Secret:/ IGNORE} }',
});
spew("$mta->{dir}/generic", "c\@in.test\tfirst\@out.test\n");
$mta->configure(smtp_generic_maps => "texthash:$mta->{dir}/generic");
spew("$mta->{dir}/conf/master.cf", slurp("$mta->{dir}/conf/master.cf")
	. "broken unix - - n - - smtp -o smtp_generic_maps=texthash:/nowhere/generic\n"
	. "unknown unix - - n - - smtp -o smtp_discard_ehlo_keyword_address_maps=texthash:/nowhere/discard\n");
$mta->launch;
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.test');

sub story {
	my ($from, $to, $content) = @_;
	$smtp->ok("MAIL FROM:<$from>");
	$smtp->ok("RCPT TO:<$to>");
	$smtp->ok('DATA');
	$smtp->send_raw($content =~ s/^\./../mgr =~ s/\n/\r\n/gr . ".\r\n");
	my ($qid) = $smtp->reply =~ /queued as (\w+)/;
	ok $mta->wait_log(qr/$qid: to=<\Q$to\E>/), "$to has a result" or diag $mta->log_tail;
	return $qid;
}

sub body {
	my ($hop) = @_;
	my ($text) = $hop->got =~ /.*^DATA\r\n(.*?)^\.\r\n/ms or return '';
	$text =~ s/\r//g;
	$text =~ s/^\.\././mg;
	return $text;
}

note 'large mail in quoted-printable';
my $big = join '', map { "line $_ caf\xc3\xa9 = ." . ('x' x ($_ % 200)) . " \n.dot\n" } 1 .. 12000;
my $qid = story('a@in.test', 'x@seven.test', "Subject: big\nContent-Transfer-Encoding: 8bit\n\n$big");
like $mta->log, qr/$qid: to=<x\@seven\.test>.*status=sent/, 'sent';
my $got = body($seven);
unlike $got, qr/[\x80-\xff]/, 'in 7 bits';
is length((grep { length > 76 } split /\n/, $got)[0] // ''), 0, 'in short lines';
my ($head, $text) = split /\n\n/, $got, 2;
like $head, qr/^Content-Transfer-Encoding: quoted-printable$/m, 'which it says';
ok decode_qp($text) eq $big, 'and nothing got lost';
unlike $seven->got, qr/^MAIL FROM:.* SIZE=/m, 'no size is announced';

note 'long lines';
my $long = 'y' x 300_000;
$qid = story('a@in.test', 'x@eight.test', "Subject: long\n\n$long\nend\n");
like $mta->log, qr/$qid: breaking line > 998 bytes with <CR><LF>SPACE/, 'the log says that a line is broken';
(undef, $text) = split /\n\n/, body($eight), 2;
is((grep { length > 998 } split /\n/, $text), 0, 'no line is too long');
ok $text =~ s/\n //gr eq "$long\nend\n", 'they can be put together again';

$qid = story('c@in.test', 'x@eight.test', "Subject: g\n\nx\n");

note 'LMTP has parameters of its own';
$qid = story('a@in.test', 'b@lmtp.test', "From: a\@in.test\nX-Secret: x\nSubject: l\n\nTo: a\@in.test\n");
like $lmtp->got, qr/^MAIL FROM:<a\@lmtp\.example>/m, 'sender';
like $lmtp->got, qr/^From: a\@lmtp\.example\r$/m, 'header';
like $lmtp->got, qr/^To: a\@in\.test\r$/m, 'not the text';
unlike $lmtp->got, qr/X-Secret/, 'a check';

note 'a table that changes';
spew("$mta->{dir}/generic", "c\@in.test\tsecond\@out.test\n");
ok $mta->wait_log(qr/table \S+generic has changed/), 'is noticed' or diag $mta->log_tail;
$smtp->quit;
$smtp = $mta->smtp;
$smtp->ok('EHLO client.test');
ok wait_until(sub {
	$qid = story('c@in.test', 'x@eight.test', "Subject: g\n\nx\n");
	return $eight->got =~ /^MAIL FROM:<second\@out\.test>/m;
}, 20), 'and used';
like $eight->got, qr/^MAIL FROM:<first\@out\.test>/m, 'as was what it had before';

note 'what cannot be done';
my $deep = join '', map { "Content-Type: multipart/mixed; boundary=b$_\n\n--b$_\n" } 1 .. 6;
$qid = story('a@in.test', 'x@seven.test', "Subject: deep\n$deep\nx\n");
like $mta->log, qr/$qid: to=<x\@seven\.test>.*dsn=5\.6\.0, status=bounced \(MIME nesting exceeds safety limit\)/, 'nested too deep to be encoded';
$qid = story('a@in.test', 'x@eight.test', "Subject: deep\n$deep\nx\n");
like $mta->log, qr/$qid: to=<x\@eight\.test>.*status=sent/, 'but to be sent as it is';
$qid = story('a@in.test', 'x@broken.test', "Subject: t\n\nx\n");
like $mta->log, qr/$qid: to=<x\@broken\.test>.*dsn=4\.3\.0, status=deferred \(address mapping table lookup error\)/, 'a table that is not there defers';
$qid = story('a@in.test', 'x@unknown.test', "Subject: t\n\nx\n");
like $mta->log, qr/$qid: to=<x\@unknown\.test>.*dsn=4\.3\.0, status=deferred \(local data error while talking to 127\.0\.0\.1/,
	'nor is a server used of which it is not known what it can do';
is $mta->stop, 0, 'stop';
done_testing;
