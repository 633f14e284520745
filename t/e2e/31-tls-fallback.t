#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A server that offers TLS and does not shake hands: where TLS is a wish the mail waits at first, and goes in the clear
# when it is old; where TLS must be it waits.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port wait_until);
use Test::More;

my ($own, $odd) = (free_port(), free_port());
my $server = Posthaste->recorder("127.0.5.1:$odd", 'caps=PIPELINING,STARTTLS', '^STARTTLS=>220 go');
my $place = "[127.0.5.1]:$odd";
my $mta = Posthaste->start(
	main => { smtp_tls_security_level => 'may', smtp_starttls_timeout => '1s',
		transport_maps => "inline:{ { may.test = smtp:$place }, { must.test = must:$place } }" },
	master => "127.0.0.1:$own inet n - n - - smtpd\nsmtp unix - - n - - smtp\n" .
		"must unix - - n - - smtp\n  -o smtp_tls_security_level=encrypt\n");
for my $name (qw(may must)) {
	my $c = Posthaste::Client->new($own);
	$c->cmd($_) for 'EHLO client.test', 'MAIL FROM:<joe@client.test>', "RCPT TO:<joe\@$name.test>", 'DATA';
	like $c->cmd("Subject: x\r\n\r\nx\r\n."), qr/^250/, "mail for $name";
	$c->quit;
}
my $failure = qr/dsn=4\.7\.5, status=deferred \(Cannot start TLS: handshake failure\)/;
ok $mta->wait_log(qr/to=<joe\@$_\.test>, .*$failure/, 30), "$_: it waits" for qw(may must);
like $mta->log, qr/SSL_connect error to 127\.0\.5\.1\[127\.0\.5\.1\]:$odd: /, 'the log says why';
unlike $server->got, qr/MAIL FROM/, 'nothing was said in the clear';
$mta->advance(4000);
ok $mta->wait_log(qr/to=<joe\@may\.test>, .*status=sent/, 30), 'an old message goes in the clear';
ok wait_until(sub { 2 <= (() = $mta->log =~ /to=<joe\@must\.test>, .*$failure/g) }, 30), '... but not where TLS must be';
unlike $server->got, qr/must\.test/, '... nothing of which is said there';
$mta->stop;
$server->stop;
done_testing;
