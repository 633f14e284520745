#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Next hops that are old, odd, broken or silent: what Posthaste makes of each, as it stands in the log.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(wait_until);
use Test::More;

my $at = qr/127\.0\.0\.1\[127\.0\.0\.1\]/;
my $sent = qr/dsn=2\.0\.0, status=sent \(250 2\.0\.0 recorded\)/;
my $long = 'y' x 20_000;
# name, what the recorder is told, what the log says; those that need time to pass come last
my @hops = (
	[ helo => ['^EHLO=>502 5.5.1 what?'], $sent ],
	[ lines => ["banner=220-hello\r\n220-stranger\r\n220 ready"], $sent ],
	[ lf => ['eol=lf'], $sent ],
	[ b554 => ['banner=554 5.3.2 no service'], qr/dsn=4\.3\.2, status=deferred \(host $at refused to talk to me: 554 5\.3\.2 no service\)/ ],
	[ b421 => ['banner=421 4.3.2 busy'], qr/dsn=4\.3\.2, status=deferred \(host $at refused to talk to me: 421 4\.3\.2 busy\)/ ],
	[ bclose => ['banner=close'], qr/dsn=4\.4\.2, status=deferred \(lost connection with $at while receiving the initial server greeting\)/ ],
	[ eclose => ['^EHLO=>close'], qr/dsn=4\.4\.2, status=deferred \(lost connection with $at while performing the EHLO handshake\)/ ],
	[ e550 => ['^(EHLO|HELO)=>550 5.7.1 go away'], qr/dsn=5\.7\.1, status=bounced \(host $at refused to talk to me: 550 5\.7\.1 go away\)/ ],
	[ ssh => ['banner=SSH-2.0-OpenSSH_9.2'], qr/dsn=4\.5\.0, status=deferred \(host $at broke the protocol: malformed reply while receiving the initial server greeting\)/ ],
	[ junk => ["^RCPT=>\0\1\377 junk"], qr/dsn=4\.5\.0, status=deferred \(host $at broke the protocol: malformed reply while sending RCPT TO\)/ ],
	[ long => ["^RCPT=>550 5.7.1 $long"], qr/dsn=5\.7\.1, status=bounced \(host $at said: 550 5\.7\.1 y{100,6000}[^y]*/ ],
	[ many => ['^MAIL=>' . join("\r\n", map { "250-2.1.0 line $_" } 1 .. 2000) . "\r\n250 2.1.0 ok"], $sent ],
	[ banner_silent => ['banner=silence'], qr/dsn=4\.4\.2, status=deferred \(conversation with $at timed out while receiving the initial server greeting\)/ ],
	[ rcpt_silent => ['^RCPT=>silence'], qr/dsn=4\.4\.2, status=deferred \(conversation with $at timed out while sending RCPT TO\)/ ],
	[ end_silent => ['Subject=>silence'], qr/dsn=4\.4\.2, status=deferred \(conversation with $at timed out while sending end of data -- message may be sent more than once\)/ ],
);
my (%hop, %map);
for (@hops) {
	my ($name, $args) = @$_;
	$hop{$name} = Posthaste->recorder($name =~ /silent/ ? 'caps=8BITMIME' : (), @$args);
	(my $domain = $name) =~ tr/_/-/;
	$map{"$domain.test"} = "smtp:[127.0.0.1]:$hop{$name}{port}";
}
my $mta = Posthaste->start(main => {
	transport_maps => 'inline:{ ' . join(', ', map { "{ $_ = $map{$_} }" } sort keys %map) . ' }',
	notify_classes => '',
});
my %qid;
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.test');
for (@hops) {
	(my $domain = $_->[0]) =~ tr/_/-/;
	($qid{ $_->[0] }) = $smtp->mail('', "user\@$domain.test", "Subject: x\n\nx") =~ /queued as (\w+)/;
}
$smtp->quit;
wait_until(sub { $hop{rcpt_silent}->got =~ /RCPT/ && $hop{end_silent}->got =~ /^\.\r$/m }, 10);
for (@hops) {
	my ($name, undef, $re) = @$_;
	if ($name =~ /silent/) {
		# the longest timeout of all is that for the end of the data
		wait_until(sub { $mta->log =~ /$qid{$name}: to=/ || ($mta->advance(300), wait_until(sub { 0 }, 0.3))[1] }, 15);
	}
	ok $mta->wait_log(qr/$qid{$name}: to=<user\@[\w-]+\.test>, .*$re$/m, 10), $name
		or diag map { substr($_, 0, 400) . "\n" } grep { /$qid{$name}|warning/ } split /\n/, $mta->log;
}
unlike $hop{helo}->got, qr/ SIZE=| BODY=/, 'a hop without EHLO is asked for nothing';
like $hop{helo}->got, qr/^HELO mx\.posthaste\.test\r$/m, '... after HELO';
cmp_ok length((grep { /$qid{long}: to=/ } split /\n/, $mta->log)[0]), '<', 8000, 'a log line has an end';
is $mta->count_log(qr/worker \w+.*(?:killed|died|signal)/), 0, 'no process was harmed';
is $mta->stop, 0, 'stop';
done_testing;
