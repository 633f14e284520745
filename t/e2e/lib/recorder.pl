#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A next hop for tests: speaks just enough SMTP (LMTP when the client says LHLO), writes every line it
# is told to a file, and accepts everything but what it was asked not to.
# usage: recorder.pl [ADDRESS:]PORT|/SOCKET FILE [caps=EHLO-WORD,...] [banner=TEXT] [eol=lf] [whole] [REGEX=>REPLY ...]
# The first REGEX that matches a command, or the content of a message, or with LMTP the recipient and
# then the content, gives the reply. "close" as a reply ends the connection without one, "silence"
# sends nothing. With "whole" the lines of a connection are written together, when a message or the
# connection ends.
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;
use IO::Select;

$SIG{PIPE} = 'IGNORE'; # who has said QUIT may be gone

my ($port, $file, @rest) = @ARGV;
my @caps = qw(PIPELINING 8BITMIME DSN SIZE);
my @rules;
my ($banner, $eol, $whole) = ('220 recorder ESMTP', "\r\n");
for (@rest) {
	if (/^caps=(.*)/) { @caps = split /,/, $1 }
	elsif (/^banner=(.*)/s) { $banner = $1 }
	elsif ($_ eq 'eol=lf') { $eol = "\n" }
	elsif ($_ eq 'whole') { $whole = 1 }
	elsif (/^(.*?)=>(.*)/s) { push @rules, [ qr/$1/s, $2 ] }
	else { die "$_?" }
}
my $addr = $port =~ s/^([^\/].*):// ? $1 : '127.0.0.1';
my $listen = $port =~ m{^/} ? IO::Socket::UNIX->new(Local => $port, Listen => 50)
	: IO::Socket::INET->new(LocalAddr => $addr, LocalPort => $port, Listen => 50, ReuseAddr => 1);
die "listen: $!" unless $listen;
chmod 0666, $port if $port =~ m{^/};
open my $out, '>', $file or die "$file: $!";
$out->autoflush(1);
open my $ready, '>', "$file.ready" or die;
close $ready;
$SIG{PIPE} = 'IGNORE'; # who says QUIT may not wait for the answer
my $select = IO::Select->new($listen);
my %conn;

sub reply_to {
	my ($what, $default) = @_;
	for (@rules) {
		return $_->[1] if $what =~ $_->[0];
	}
	return $default;
}

sub hang_up {
	my ($s) = @_;
	print $out delete($conn{$s}{held}) // '';
	$select->remove($s);
	delete $conn{$s};
	close $s;
	return;
}

# False when the connection is over.
sub answer {
	my ($s, $reply) = @_;
	if ($reply eq 'close') {
		hang_up($s);
		return 0;
	}
	syswrite $s, "$reply$eol" unless $reply eq 'silence';
	return 1;
}

# The end of the content: one reply, or one for each recipient.
sub end_of_data {
	my ($s, $st) = @_;
	$st->{data} = 0;
	my @keys = $st->{lmtp} ? map { "$_\n$st->{content}" } @{ $st->{rcpts} } : $st->{content};
	for my $key (@keys) {
		answer($s, reply_to($key, '250 2.0.0 recorded')) or return 0;
	}
	$st->{rcpts} = [];
	return 1;
}

sub command {
	my ($s, $st, $line) = @_;
	if ($line =~ /^(EHLO|LHLO)/i) {
		$st->{lmtp} = 1 if uc $1 eq 'LHLO';
		my @lines = ('recorder', @caps);
		my $last = pop @lines;
		return answer($s, reply_to($line, join '', map({ "250-$_\r\n" } @lines), "250 $last"));
	}
	return answer($s, '221 2.0.0 bye') if $line =~ /^QUIT/i;
	if ($line =~ /^DATA/i) {
		my $reply = reply_to($line, @{ $st->{rcpts} } ? '354 go' : '554 5.5.1 no valid recipients');
		@$st{qw(data content)} = (1, '') if $reply =~ /^354/;
		return answer($s, $reply);
	}
	my $reply = reply_to($line, '250 2.1.0 ok');
	push @{ $st->{rcpts} }, $line if $line =~ /^RCPT/i && $reply =~ /^2/;
	$st->{rcpts} = [] if $line =~ /^(RSET|MAIL)/i;
	return answer($s, $reply);
}

while (1) {
	for my $s ($select->can_read) {
		if ($s == $listen) {
			my $c = $listen->accept or next;
			$select->add($c);
			$conn{$c} = { buf => '', data => 0, rcpts => [], lmtp => 0 };
			answer($c, $banner);
			next;
		}
		my $st = $conn{$s};
		my $n = sysread $s, $st->{buf}, 65536, length $st->{buf};
		if (!$n) {
			hang_up($s);
			next;
		}
		while ($st->{buf} =~ s/^(.*?\n)//s) {
			my $line = $1;
			$st->{held} .= $line;
			print $out delete $st->{held} if !$whole || ($st->{data} && $line eq ".\r\n");
			if (!$st->{data}) {
				command($s, $st, $line) or last;
			} elsif ($line eq ".\r\n") {
				end_of_data($s, $st) or last;
			} else {
				$st->{content} .= $line;
			}
		}
	}
}
