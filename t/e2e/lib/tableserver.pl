#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A server of lookup tables for tests. usage: tableserver.pl PORT|/SOCKET FILE tcp|socketmap
# FILE has "table:key<TAB>value" lines (of tcp: "key<TAB>value") and is read at each question. Each
# question is written to FILE.asked. Values: "=TEMP text" is a temporary failure, "=GARBAGE" no
# answer of the protocol.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;

my ($port, $file, $kind) = @ARGV;
my $listen = $port =~ m{^/} ? IO::Socket::UNIX->new(Local => $port, Listen => 64)
	: IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 64, ReuseAddr => 1);
die "port $port: $!" unless $listen;
chmod 0666, $port if $port =~ m{^/};
my $select = IO::Select->new($listen);
my %in;

sub value_of {
	my ($key) = @_;
	open my $asked, '>>', "$file.asked" or die;
	print {$asked} "$key\n";
	close $asked;
	open my $f, '<', $file or die;
	while (<$f>) {
		chomp;
		my ($k, $v) = split /\t/, $_, 2;
		return $v if $k eq $key;
	}
	return;
}

# Takes one request off the buffer; undef: none is whole yet.
my %answer = (
	tcp => sub {
		my ($in) = @_;
		$$in =~ s/\Aget (.*)\n// or return;
		my $v = value_of($1 =~ s/%(..)/chr hex $1/ger);
		return "500 no such key\n" if !defined $v;
		return "400 $1\n" if $v =~ /^=TEMP (.*)/;
		return "what\n" if $v eq '=GARBAGE';
		return '200 ' . ($v =~ s/([%\s])/sprintf '%%%02x', ord $1/ger) . "\n";
	},
	socketmap => sub {
		my ($in) = @_;
		$$in =~ /\A(\d+):/ && length $$in >= length("$1:,") + $1 or return;
		my $text = substr $$in, length "$1:", $1;
		substr($$in, 0, length("$1:,") + $1) = '';
		my ($table, $key) = split / /, $text, 2;
		my $v = value_of("$table:$key");
		my $reply = !defined $v ? 'NOTFOUND ' : $v =~ /^=TEMP (.*)/ ? "TEMP $1" : "OK $v";
		return "x:$reply" if $v && $v eq '=GARBAGE';
		return length($reply) . ":$reply,";
	},
);

open my $ready, '>', "$file.ready" or die;
close $ready;
while (1) {
	for my $s ($select->can_read) {
		if ($s == $listen) {
			my $c = $listen->accept or next;
			$select->add($c);
			$in{$c} = '';
			next;
		}
		if (!sysread $s, $in{$s}, 65536, length $in{$s}) {
			delete $in{$s};
			$select->remove($s);
			close $s;
			next;
		}
		while (defined(my $reply = $answer{$kind}->(\$in{$s}))) {
			syswrite $s, $reply;
		}
	}
}
