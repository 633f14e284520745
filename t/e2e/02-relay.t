#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# One message through the whole system, looked at from every side: replies, log lines, statistics,
# content at the next hop.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port spawn slurp wait_until);
use Test::More;

my $port = free_port();
my $dir  = File::Temp::tempdir(CLEANUP => 1);
# a next hop that keeps what it is told
my $peer = Posthaste::spawn("$dir/dialog", $^X, "$FindBin::Bin/lib/recorder.pl", $port, "$dir/got");
wait_until(sub { -e "$dir/got.ready" }, 10);

my $mta  = Posthaste->start(main => { relayhost => "[127.0.0.1]:$port" });
my $smtp = $mta->smtp;
my $ehlo = $smtp->ok('EHLO client.example');
like $ehlo, qr/^250-mx\.posthaste\.test\r\n/, 'EHLO names the host';
like $ehlo, qr/^250[- ]$_\r?$/m, "EHLO offers $_"
	for qw(PIPELINING ENHANCEDSTATUSCODES 8BITMIME DSN SMTPUTF8 CHUNKING);
like $ehlo, qr/^250[- ]SIZE 10240000\r?$/m, 'EHLO offers SIZE';
my $reply = $smtp->mail('alice@client.example', [ 'bob@far.example', 'carol@far.example' ],
	"Subject: hello\nFrom: alice\@client.example\nBcc: secret\@far.example\n\n.dot line\nthe end");
like $reply, qr/^250 2\.0\.0 Ok: queued as ([0-9A-Za-z]+)$/, 'queued';
my ($qid) = $reply =~ /as (\S+)/;
is $smtp->quit, '221 2.0.0 Bye', 'bye';

ok $mta->wait_log(qr/$qid: removed/), 'delivered and removed' or diag $mta->log_tail;
my $got = slurp("$dir/got");
like $got, qr/^MAIL FROM:<alice\@client\.example>/m, 'sender at the next hop';
like $got, qr/^RCPT TO:<bob\@far\.example>/m, 'first recipient';
like $got, qr/^RCPT TO:<carol\@far\.example>/m, 'second recipient in the same transaction';
is scalar(() = $got =~ /^DATA/mg), 1, 'content sent once';
like $got, qr/^Received: from client\.example \(.*\[127\.0\.0\.1\]\)\r?\n\tby mx\.posthaste\.test \(Posthaste\) with ESMTP id $qid/m,
	'Received header';
like $got, qr/^\.\.dot line\r$/m, 'dot-stuffing is whole';
unlike $got, qr/^Bcc:/mi, 'Bcc is dropped';
like $got, qr/^Message-Id: <[^>]+>/mi, 'Message-Id is added for a local client';
like $got, qr/^Date: \w{3}, \d\d? \w{3} \d{4}/m, 'Date is added';
unlike $got, qr/(?<!\r)\n/, 'no bare line feed on the wire';

my $log = $mta->log;
like $log, qr/postfix\/smtpd\[\d+\]: connect from unknown\[127\.0\.0\.1\]$/m, 'connect line';
like $log, qr/postfix\/smtpd\[\d+\]: $qid: client=unknown\[127\.0\.0\.1\]$/m, 'client line';
like $log, qr/postfix\/cleanup\[\d+\]: $qid: message-id=<[^>]+>$/m, 'message-id line';
like $log, qr/postfix\/qmgr\[\d+\]: $qid: from=<alice\@client\.example>, size=\d+, nrcpt=2 \(queue active\)$/m, 'qmgr line';
like $log, qr/postfix\/smtp\[\d+\]: $qid: to=<bob\@far\.example>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:$port, delay=[\d.]+, delays=[\d.]+\/[\d.]+\/[\d.]+\/[\d.]+, dsn=2\.0\.0, status=sent \(250 [^)]*\)$/m,
	'delivery line';
like $log, qr/postfix\/qmgr\[\d+\]: $qid: removed$/m, 'removed line';
like $log, qr/postfix\/smtpd\[\d+\]: disconnect from unknown\[127\.0\.0\.1\] ehlo=1 mail=1 rcpt=2 data=1 quit=1 commands=6$/m,
	'disconnect line';

my ($code, $json) = $mta->http('/stats') =~ /^HTTP\/1\.\d (\d+).*?\r\n\r\n(.*)/s;
is $code, 200, '/stats answers';
my $flat = Posthaste::parse_json($json);
like $json, qr/"deliver_sent":2\b/, 'two recipients sent';
like $json, qr/"smtpd_messages":1\b/, 'one message accepted';
like $mta->http('/readyz'), qr/^HTTP\/1\.\d 200/, 'ready';
like $mta->http('/healthz'), qr/^HTTP\/1\.\d 200/, 'healthy';
like $mta->http('/metrics'), qr/^posthaste_deliver_sent_total 2$/m, 'the same in Prometheus text';
like $mta->http('/nothing'), qr/^HTTP\/1\.\d 404/, 'unknown page';
is $mta->stop, 0, 'stop';
done_testing;
