#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A proxy in front (smtpd_upstream_proxy_protocol = haproxy): the client is the one that the header names, for
# restrictions and the log; who sends no header, a bad one or none in time gets nothing. Other listeners do not listen to it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port);
use IO::Socket::INET;
use Test::More;

my $mta = Posthaste->prepare;
my $port = free_port();
$mta->configure(mynetworks => '198.51.100.0/24', mydestination => 'here.test', local_recipient_maps => '', smtpd_peername_lookup => 'no',
	smtpd_client_connection_count_limit => 2,
	smtpd_client_restrictions => 'check_client_access inline:{{192.0.2.66=REJECT not you},{2001:db8::1=REJECT nor you}}');
my ($master) = grep { -e } map { "$mta->{dir}/$_/master.cf" } qw(etc conf .);
$master //= (glob "$mta->{dir}/*/master.cf")[0];
spew($master, slurp($master) . "127.0.0.1:$port inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy -o smtpd_upstream_proxy_timeout=60s\n");
$mta->launch;

sub proxied {
	my (@parts) = @_;
	my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") or die "port $port: $!";
	$s->autoflush(1);
	for (@parts) {
		print $s $_;
		select undef, undef, undef, 0.05 if @parts > 1;
	}
	return $s;
}

sub greeting { my ($s) = @_; my $line = <$s>; return defined $line ? $line =~ s/\r?\n\z//r : '(closed)' }

sub rcpt {
	my ($s) = @_;
	my $c = bless { sock => $s }, 'Posthaste::Client';
	$c->cmd('EHLO c.test');
	$c->cmd('MAIL FROM:<a@x.test>');
	my $r = $c->cmd('RCPT TO:<b@elsewhere.test>');
	$c->quit;
	return $r;
}

my $v2 = "\r\n\r\n\0\r\nQUIT\n\x21";
my $s = proxied("PROXY TCP4 198.51.100.7 127.0.0.1 4321 25\r\n");
like greeting($s), qr/^220/, 'version 1';
like rcpt($s), qr/^250/, 'the client is in mynetworks';
ok $mta->wait_log(qr/: client=unknown\[198\.51\.100\.7\]/, 10), 'and in the log';
$s = proxied(split //, "PROXY TCP4 203.0.113.9 127.0.0.1 1 25\r\n");
like greeting($s), qr/^220/, 'byte by byte';
like rcpt($s), qr/^454 4\.7\.1 .*Relay access denied/, 'this client may not relay';
$s = proxied($v2 . pack('C n a4 a4 n n', 0x11, 12, "\xc0\0\2\x42", "\x7f\0\0\1", 99, 25));
like greeting($s), qr/^220/, 'version 2';
like rcpt($s), qr/^554 5\.7\.1 <unknown\[192\.0\.2\.66\]>: Client host rejected: not you/, 'a client that is not wanted';
$s = proxied($v2 . pack('C n H32 H32 n n', 0x21, 36, '20010db8' . '0' x 23 . '1', '0' x 31 . '1', 99, 25));
like greeting($s), qr/^220/, 'IPv6';
like rcpt($s), qr/^554 5\.7\.1 <unknown\[2001:db8::1\]>: Client host rejected: nor you/, 'neither';
my @open = map { my $c = proxied("PROXY TCP4 203.0.113.9 127.0.0.1 $_ 25\r\n"); greeting($c); $c } 1 .. 2;
like greeting(proxied("PROXY TCP4 203.0.113.9 127.0.0.1 3 25\r\n")), qr/^421 .*too many connections from 203\.0\.113\.9/, 'limits count that client';
like greeting(proxied("PROXY TCP4 203.0.113.10 127.0.0.1 3 25\r\n")), qr/^220/, 'not another one';
close $_ for @open;
$s = proxied("PROXY UNKNOWN\r\n");
like greeting($s), qr/^220/, 'a check of the proxy itself';
is greeting(proxied("EHLO c.test\r\n")), '(closed)', 'no header';
is greeting(proxied("PROXY TCP4 1.2.3.4\r\n")), '(closed)', 'a bad one';
is greeting(proxied('x' x 10000)), '(closed)', 'much of nothing';
ok $mta->wait_log(qr/smtpd\[\d+\]: warning: haproxy read: missing protocol header/, 10), 'the log says so';
my $silent = proxied("PROXY TCP4 1.2");
$s = proxied("PROXY TCP4 198.51.100.7 127.0.0.1 4321 25\r\n");
like greeting($s), qr/^220/, 'one that is silent holds up nobody';
$mta->advance(61);
is greeting($silent), '(closed)', 'and has its time';
ok $mta->wait_log(qr/haproxy read: timeout error/, 10), 'as the log says';
my $c = $mta->smtp;
like $c->cmd("PROXY TCP4 198.51.100.7 127.0.0.1 4321 25"), qr/^500/, 'elsewhere it is no command';
is $mta->stop, 0, 'stops';
is $mta->crashes, '', 'nothing crashed';
is $mta->refusals, 0, 'no system call was refused';
done_testing;
