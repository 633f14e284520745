#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A name server for tests: answers over UDP from a list of records, authoritative for everything.
# usage: dns.pl [ADDRESS:]PORT FILE [TTL], FILE having lines "NAME TYPE DATA" (A, AAAA, MX, NS, PTR, SRV, TXT), "NAME SERVFAIL",
# "NAME NODATA". Names that are not in the list do not exist. Logs each question to FILE.log.
use strict;
use warnings;
use IO::Socket::INET;
use Socket qw(inet_aton inet_pton AF_INET6);

my ($port, $file, $ttl) = @ARGV;
$ttl //= 300;
my $soa_ttl = $ttl < 60 ? $ttl : 60;
my %type = (A => 1, NS => 2, PTR => 12, MX => 15, TXT => 16, AAAA => 28, SRV => 33);
my %number = reverse %type;
my %zone;
open my $in, '<', $file or die "$file: $!";
while (<$in>) {
	my ($name, $type, @data) = split ' ';
	push @{ $zone{ lc $name }{$type} }, [@data] if defined $type;
}
my $address = $port =~ s/^(.*):// ? $1 : '127.0.0.1';
my $sock = IO::Socket::INET->new(LocalAddr => $address, LocalPort => $port, Proto => 'udp')
	or die "$address port $port: $!";
open my $log, '>', "$file.log" or die;
$log->autoflush(1);

sub wire_name { join('', map { pack 'C/a', $_ } grep { length } split /\./, $_[0]) . "\0" }

sub rdata {
	my ($type, @d) = @_;
	return inet_aton($d[0]) if $type eq 'A';
	return inet_pton(AF_INET6, $d[0]) if $type eq 'AAAA';
	return pack('n', $d[0]) . wire_name($d[1]) if $type eq 'MX';
	return pack('nnn', @d[0 .. 2]) . wire_name($d[3]) if $type eq 'SRV';
	return pack('C/a', "@d") if $type eq 'TXT';
	return wire_name($d[0]);
}

while (defined(my $peer = $sock->recv(my $q, 4096))) {
	next if length $q < 17;
	my ($id, $flags, $qd) = unpack 'nnn', $q;
	my ($at, @labels) = (12);
	while ((my $n = ord substr $q, $at, 1) > 0) {
		push @labels, substr $q, $at + 1, $n;
		$at += $n + 1;
	}
	my ($qtype) = unpack 'n', substr $q, $at + 1, 2;
	my $question = substr $q, 12, $at + 5 - 12;
	my $name = lc join '.', @labels;
	my $type = $number{$qtype} || $qtype;
	my $have = $zone{$name};
	my $rcode = !$have ? 3 : $have->{SERVFAIL} ? 2 : 0;
	my @rr = $have && $have->{$type} ? @{ $have->{$type} } : ();
	print $log "$name $type\n";
	my $answer = join '', map {
		my $rd = rdata($type, @$_);
		pack('nnnNn', 0xc00c, $qtype, 1, $ttl, length $rd) . $rd;
	} @rr;
	my $soa = @rr || $rcode == 2 ? '' : "\0" . pack('nnNn', 6, 1, $soa_ttl, 22) . "\0\0" .
		pack('N5', 1, 2, 3, 4, $soa_ttl);
	$sock->send(pack('nnnnnn', $id, 0x8580 | $rcode, 1, scalar @rr, $soa ne '' ? 1 : 0, 0)
		. $question . $answer . $soa, 0, $peer);
}
