#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Debian's Postfix, Exim and OpenSMTPD, each sending through Posthaste and receiving from it: the
# content is the same at the far end, both sides agree in their logs, a refused recipient comes back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port slurp wait_until);
use Peers;
use Test::More;

my $why = Peers::obstacle();
plan skip_all => $why if $why;

# what the peer says to the client and in its log when it takes a message, and when it hands it on
my @kinds = (
	{ name => 'postfix', accepts => qr/250 2\.0\.0 Ok: queued as \w+/, relayed => qr/status=sent \(250 2\.0\.0 Ok: queued as (\w+)\)/ },
	{ name => 'exim', accepts => qr/250 OK id=[\w-]+/, relayed => qr/=> joe\@\S+ .* C="250 2\.0\.0 Ok: \d+ bytes queued as (\w+)"/ },
	{ name => 'opensmtpd', accepts => qr/250 2\.0\.0 \w+ Message accepted for delivery/, relayed => qr/result="?Ok"? stat="?250 2\.0\.0 Ok: queued as (\w+)/ },
);
my $port = free_port();
my %peer;
for my $kind (@kinds) {
	my $name = $kind->{name};
	$peer{$name} = Peers->$name(home => "$name.test", next => $port);
	ok $peer{$name}, "Debian's $name runs" or BAIL_OUT("$name does not run");
}
my $mta = Posthaste->start(port => $port, main => {
	transport_maps => 'inline:{ ' . join(', ', map { "{ $_.test = smtp:[127.0.0.1]:$peer{$_}{port} }" }
		sort keys %peer) . ' }',
});

my $body = join "\r\n", 'first', '', '.', '..', '.dot', "trailing blanks  \t", 'x' x 990,
	"caf\xc3\xa9 in UTF-8", "\tend of it", '', '';
my $header = "From: Ann <ann\@FROM>\r\nTo: joe\@TO\r\nSubject: =?utf-8?q?caf=C3=A9?= to\r\n and fro\r\n" .
	"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n" .
	"X-Odd:nospace\r\nMessage-Id: <m.FROM\@client.test>\r\nDate: Mon, 2 Mar 2026 10:00:00 +0000\r\n";
srand 1;
my $big = join '', map { my $n = $_; join('', map { chr 33 + rand 94 } 1 .. 60 + $n % 17) . "\r\n" } 1 .. 45_000;
$big =~ s/^\./-/mg;
my %header;
for my $i (0 .. $#kinds) {
	my ($from, $to) = ($kinds[$i]{name}, $kinds[ ($i + 1) % @kinds ]{name});
	$header{$to} = $header =~ s/FROM/$from.test/gr =~ s/TO/$to.test/gr;
	my $smtp = $mta->smtp($peer{$from}{port});
	$smtp->ok('EHLO client.test');
	like $smtp->mail("ann\@$from.test", [ "joe\@$to.test", "nobody\@$to.test" ], $header{$to} . "\r\n" . $body),
		qr/^250/, "$from takes a message for $to and one it does not know";
	$smtp->ok("MAIL FROM:<ann\@$from.test>");
	$smtp->ok("RCPT TO:<ann\@$to.test>");
	$smtp->ok('DATA');
	$smtp->send_raw("Subject: big\r\nMIME-Version: 1.0\r\nX-Big: $from\r\n\r\n$big.\r\n");
	like $smtp->reply, qr/^250/, '... and 3 megabytes';
	$smtp->quit;
}
my $smtp = $mta->smtp($peer{postfix}{port});
$smtp->ok('EHLO client.test');
$smtp->ok('MAIL FROM:<ann@postfix.test> RET=HDRS ENVID=env+2B1');
$smtp->ok('RCPT TO:<ann@exim.test> NOTIFY=SUCCESS ORCPT=rfc822;first@exim.test');
$smtp->ok('DATA');
$smtp->send_raw("Subject: tell me\r\n\r\nx\r\n.\r\n");
like $smtp->reply, qr/^250/, 'a message that asks for a report on success';
$smtp->quit;

for my $i (0 .. $#kinds) {
	my ($f, $t) = ($kinds[$i], $kinds[ ($i + 1) % @kinds ]);
	my ($from, $to) = ($f->{name}, $t->{name});
	my ($fport, $tport) = map { $peer{$_}{port} } $from, $to;
	ok $mta->wait_log(qr/: to=<joe\@$to\.test>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:$tport, .*dsn=2\.\d\.0, status=sent \($t->{accepts}/),
		"$to takes it from Posthaste" or diag $mta->log, $peer{$from}->log, $peer{$from}->output;
	my ($qid) = $mta->log =~ /postfix\/smtp\[\d+\]: (\w+): to=<joe\@$to\.test>/;
	my ($logged) = wait_until(sub { ($peer{$from}->log . $peer{$from}->output) =~ /$f->{relayed}/ ? $1 : '' }, 10);
	is $logged, $qid, "$from has Posthaste's queue id in its log";
	ok $mta->wait_log(qr/$qid: to=<nobody\@$to\.test>, .*dsn=5\.\d\.\d, status=bounced \(host 127\.0\.0\.1\[127\.0\.0\.1\] said: 5\d\d .*\(in reply to RCPT TO command\)\)/),
		"$to refuses the other one" or diag $mta->log;
	wait_until(sub { $peer{$to}->box('joe') }, 15);
	my @box = $peer{$to}->box('joe');
	is scalar @box, 1, "one message for joe at $to";
	my ($head, $text) = split /\n\n/, $box[0] // '', 2;
	is $text // '', $body =~ s/\r\n/\n/gr . "\n", 'with the text as it was sent';
	like "$head\n", qr/\n\Q@{[ $header{$to} =~ s,\r\n,\n,gr ]}\E\z/, 'and the header below the trace' or diag $head;
	like $head, qr/^Received: from mx\.$from\.test \(.*\n\tby mx\.posthaste\.test \(Posthaste\) with ESMTP id $qid\n?/m,
		'Received has all of it';
	my $find = sub { my ($box, $re) = @_; return wait_until(sub { (grep { $_ =~ $re } $peer{$box}->box('ann'))[0] }, 15) // '' };
	ok +($find->($to, qr/^X-Big: $from$/m) =~ s/.*?\n\n//sr) eq $big =~ s/\r\n/\n/gr, 'the 3 megabytes are there, every byte';
	my $bounce = $find->($from, qr/^Final-Recipient: .*nobody\@$to/mi);
	like $bounce // '', qr/^Final-Recipient: rfc822; nobody\@$to\.test\nOriginal-Recipient: rfc822; ?nobody\@$to\.test\nAction: failed\nStatus: 5\.\d\.\d\nRemote-MTA: dns; 127\.0\.0\.1\nDiagnostic-Code: smtp; 5\d\d /m,
		"the refusal is reported to $from" or diag $bounce;
}
my ($dsn) = wait_until(sub { (grep { /^Action: delivered$/m } $peer{postfix}->box('ann'))[0] }, 15);
like $dsn // '', qr/^Reporting-MTA: dns; mx\.exim\.test$/m, "Exim's report on success came back through Posthaste";
like $dsn // '', qr/^Original-Envelope-ID: env\+2B1$/mi, '... with the envelope id';
like $dsn // '', qr/^Original-Recipient: rfc822; ?first\@exim\.test$/mi, '... and the recipient as it was given';
ok wait_until(sub { $mta->status->{messages} == 0 }, 20), 'the queue is empty';
# a machine without the root's DNSSEC key is told so; nothing else is out of order
my @odd = grep { /status=deferred|warning:|panic|fatal/ && !/DNSSEC is not validated/ } split /^/, $mta->log;
is scalar(@odd), 0, 'nothing was deferred, no warnings' or diag @odd;
is $mta->stop, 0, 'stop';
$_->stop for values %peer;
done_testing;
