#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# defer_transports: mail for these transports waits until somebody asks for it, by sendmail -q or postqueue; other mail
# does not wait, and what is asked for once waits again the next time.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port wait_until);
use Test::More;

my ($hop, $port) = (Posthaste->recorder, free_port());
my $mta = Posthaste->start(main => { relayhost => "[127.0.0.1]:$hop->{port}", defer_transports => 'slow, smtp', transport_maps =>
	"inline:{{now.test = other:[127.0.0.1]:$hop->{port}}}" }, port => $port,
	master => "127.0.0.1:$port inet n - n - - smtpd\nslow unix - - n - - smtp\nother unix - - n - - smtp\n");
my $smtp = $mta->smtp;
$smtp->ok('EHLO x.test');
my ($waits) = $smtp->mail('s@x.test', 'r@later.test', "Subject: waits\n\n") =~ /queued as (\S+)/;
my ($goes)  = $smtp->mail('s@x.test', 'r@now.test', "Subject: goes\n\n") =~ /queued as (\S+)/;
ok $mta->wait_log(qr/postfix\/error\[\d+\]: $waits: to=<r\@later\.test>, relay=none, delay=\S+, delays=\S+, dsn=4\.3\.2, status=deferred \(deferred transport\)/),
	'mail of a transport that is deferred waits' or diag $mta->log_tail;
$smtp->quit;
ok $mta->wait_log(qr/$goes: removed/), 'other mail goes';
my $out;
ok wait_until(sub { $out = ($mta->command('postqueue', '-p'))[1]; $out =~ /\(deferred transport\)\n +r\@later\.test/ }), 'the queue says why' or diag $out;
$mta->advance(1000);
ok wait_until(sub { my $n = () = $mta->log =~ /$waits: to=.*deferred transport/g; $n >= 2 }), 'time alone does not deliver it' or diag $mta->log_tail;
is(($mta->command('postqueue', '-f'))[0], 0, 'postqueue -f');
ok $mta->wait_log(qr/$waits: to=<r\@later\.test>, relay=127\.0\.0\.1.*status=sent/), '... does' or diag $mta->log_tail;
$smtp = $mta->smtp;
$smtp->ok('EHLO x.test');
my ($one)  = $smtp->mail('s@x.test', 'one@later.test', "Subject: one\n\n") =~ /queued as (\S+)/;
my ($rest) = $smtp->mail('s@x.test', 'two@later.test', "Subject: two\n\n") =~ /queued as (\S+)/;
$smtp->quit;
ok $mta->wait_log(qr/$_: to=.*deferred transport/), 'what comes later waits again' for $one, $rest;
is(($mta->command('postqueue', '-i', $one))[0], 0, 'postqueue -i');
ok $mta->wait_log(qr/$one: removed/), '... delivers one message' or diag $mta->log_tail;
unlike $mta->log, qr/$rest: removed/, '... and not the other';
$mta->configure(defer_transports => '', relayhost => "[127.0.0.1]:$hop->{port}");
is(($mta->command('posthaste', 'reload'))[0], 0, 'reload without it');
# a worker of before may still have the next attempt
ok wait_until(sub { $mta->advance(4200); $mta->wait_log(qr/$rest: removed/, 1) }, 30), 'a later attempt delivers' or diag $mta->log_tail;
is $mta->stop, 0, 'stop';
is $mta->crashes, '', 'nothing crashed';
done_testing;
