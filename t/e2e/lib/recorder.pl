#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A next hop for tests: speaks just enough SMTP (LMTP when the client says LHLO), accepts all, and
# writes every line it is told to a file. usage: recorder.pl PORT FILE
use strict;
use warnings;
use IO::Socket::INET;
use IO::Select;

my ($port, $file) = @ARGV;
my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 50,
	ReuseAddr => 1) or die "listen: $!";
open my $out, '>', $file or die "$file: $!";
$out->autoflush(1);
open my $ready, '>', "$file.ready" or die;
close $ready;
my $select = IO::Select->new($listen);
my %conn;
while (1) {
	for my $s ($select->can_read) {
		if ($s == $listen) {
			my $c = $listen->accept or next;
			$select->add($c);
			$conn{$c} = { buf => '', data => 0, rcpts => 0, lmtp => 0 };
			syswrite $c, "220 recorder ESMTP\r\n";
			next;
		}
		my $st = $conn{$s};
		my $n = sysread $s, $st->{buf}, 65536, length $st->{buf};
		if (!$n) {
			$select->remove($s);
			delete $conn{$s};
			close $s;
			next;
		}
		while ($st->{buf} =~ s/^(.*?\n)//s) {
			my $line = $1;
			print $out $line;
			if ($st->{data}) {
				next unless $line eq ".\r\n";
				$st->{data} = 0;
				syswrite $s, "250 2.0.0 recorded\r\n" x ($st->{lmtp} ? $st->{rcpts} : 1);
				$st->{rcpts} = 0;
			} elsif ($line =~ /^DATA/i) {
				$st->{data} = 1;
				syswrite $s, "354 go\r\n";
			} elsif ($line =~ /^(EHLO|LHLO)/i) {
				$st->{lmtp} = 1 if uc $1 eq 'LHLO';
				syswrite $s, "250-recorder\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 SIZE\r\n";
			} elsif ($line =~ /^QUIT/i) {
				syswrite $s, "221 2.0.0 bye\r\n";
			} else {
				$st->{rcpts}++ if $line =~ /^RCPT/i;
				$st->{rcpts} = 0 if $line =~ /^(RSET|MAIL)/i;
				syswrite $s, "250 2.1.0 ok\r\n";
			}
		}
	}
}
