#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# What haproxy does, for tests: takes connections at a port of 127.0.0.1 and hands each on to another, behind this text.
# usage: proxy.pl PORT TO-PORT TEXT READY   (the file READY appears when it listens)
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

my ($port, $to, $text, $file) = @ARGV;
my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 50, ReuseAddr => 1) or die "$port: $!";
open my $ready, '>', $file or die;
close $ready;
my $select = IO::Select->new($listen);
my %other;
$SIG{PIPE} = 'IGNORE';

sub over {
	my (@pair) = @_;
	for my $s (@pair) {
		$select->remove($s);
		delete $other{$s};
		close $s;
	}
	return;
}

while (1) {
	for my $s ($select->can_read) {
		if ($s == $listen) {
			my $in = $listen->accept or next;
			my $out = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$to") or next;
			syswrite $out, $text;
			@other{ $in, $out } = ($out, $in);
			$select->add($in, $out);
			next;
		}
		my $peer = $other{$s} or next;
		if (!sysread $s, my $bytes, 65536) {
			over($s, $peer);
		} else {
			syswrite $peer, $bytes;
		}
	}
}
