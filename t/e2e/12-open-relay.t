#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A default installation relays for nobody outside mynetworks, whatever the address looks like.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste;
use Test::More;

# the client, 127.0.0.1, is a stranger here
my $mta = Posthaste->start(main => {
	mynetworks => '192.0.2.0/24',
	mydestination => 'mx.posthaste.test, local.example',
	local_recipient_maps => '',
	relayhost => '[127.0.0.1]:9',
	smtpd_hard_error_limit => 1000,
	smtpd_soft_error_limit => 1000,
});
my $smtp = $mta->smtp;
$smtp->ok('EHLO stranger.example');
my $relayed = 0;
my @forms = map { chomp; $_ } <DATA>;
for my $rcpt (@forms) {
	$smtp->cmd('RSET');
	$smtp->ok('MAIL FROM:<x@stranger.example>');
	my $r = $smtp->cmd("RCPT TO:$rcpt");
	like $r, qr/^[45]\d\d/, "refused: $rcpt" or $relayed++;
}
for my $sender ('<victim@local.example>', '<>', '<x@mx.posthaste.test>', '<x@[127.0.0.1]>') {
	$smtp->cmd('RSET');
	$smtp->ok("MAIL FROM:$sender");
	my $r = $smtp->cmd('RCPT TO:<victim@far.example>');
	is $r, '454 4.7.1 <victim@far.example>: Relay access denied', "no trust in the sender $sender";
}
$smtp->cmd('RSET');
$smtp->ok('MAIL FROM:<x@stranger.example>');
is $smtp->cmd('RCPT TO:<somebody@local.example>'), '250 2.1.5 Ok', 'local mail is taken';
$smtp->quit;
is $relayed, 0, 'nothing relayed';
ok $mta->wait_log(qr/NOQUEUE: reject: RCPT from unknown\[127\.0\.0\.1\]: 454 4\.7\.1 <victim\@far\.example>: Relay access denied; from=<x\@stranger\.example> to=<victim\@far\.example> proto=ESMTP helo=<stranger\.example>/),
	'log line as Postfix writes it';
$mta->stop;
done_testing;
__DATA__
<victim@far.example>
victim@far.example
<"victim@far.example">
<victim%far.example@local.example>
<victim%far.example@mx.posthaste.test>
<"victim%far.example"@local.example>
<far.example!victim>
<@local.example:victim@far.example>
<@mx.posthaste.test,@local.example:victim@far.example>
<victim@far.example@local.example>
<"victim@far.example"@local.example>
<victim@far.example.>
<victim@[192.0.2.1]>
<victim@[IPv6:2001:db8::1]>
<victim@192.0.2.1>
<victim%far.example@>
<@far.example>
<victim@far.example%local.example@mx.posthaste.test>
<mx.posthaste.test!far.example!victim>
<victim@FAR.EXAMPLE>
<"victim"@far.example>
<victim(comment)@far.example>
< victim@far.example >
