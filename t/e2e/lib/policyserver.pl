#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A policy server for tests. usage: policyserver.pl PORT|/SOCKET FILE
# FILE has lines "name=value name=value ...<TAB>answer", read at each request; the first whose attributes all are as
# they say answers, DUNNO is for the others. Requests go to FILE.asked, with "connection=N" in front. Answers
# "=CLOSE" closes the connection, "=HANG" says nothing, "=RAW text" is sent as it stands, "=LAST action" answers
# and closes; else it is the action. "\n" stands for a line end.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;

my ($where, $file) = @ARGV;
my $listen = $where =~ m{^/} ? IO::Socket::UNIX->new(Local => $where, Listen => 128)
	: IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $where, Listen => 128, ReuseAddr => 1);
$listen or die "$where: $!";
chmod 0777, $where if $where =~ m{^/};
my $select = IO::Select->new($listen);
my (%in, %number);
my $count = 0;

sub answer_to {
	my ($request, $number) = @_;
	open my $asked, '>>', "$file.asked" or die;
	print {$asked} "connection=$number\n$request";
	close $asked;
	my %has = map { /^([^=]*)=(.*)/ ? ($1 => $2) : () } split /\n/, $request;
	open my $f, '<', $file or die;
	while (<$f>) {
		chomp;
		my ($when, $answer) = split /\t/, $_, 2;
		next if grep { my ($n, $v) = split /=/, $_, 2; ($has{$n} // '') ne $v } split / /, $when;
		return $answer =~ s/\\n/\n/gr;
	}
	return 'DUNNO';
}

sub drop {
	my ($s) = @_;
	delete $in{$s};
	$select->remove($s);
	close $s;
	return;
}

$SIG{PIPE} = 'IGNORE';
open my $ready, '>', "$file.ready" or die;
close $ready;
while (1) {
	for my $s ($select->can_read) {
		if ($s == $listen) {
			my $c = $listen->accept or next;
			$select->add($c);
			$in{$c} = '';
			$number{$c} = ++$count;
			next;
		}
		if (!sysread $s, $in{$s}, 65536, length $in{$s}) {
			drop($s);
			next;
		}
		while (defined $in{$s} && $in{$s} =~ s/\A(.*?\n\n)//s) {
			my $answer = answer_to($1, $number{$s});
			if ($answer eq '=CLOSE') {
				drop($s);
			} elsif ($answer =~ s/^=RAW //) {
				syswrite $s, $answer;
			} elsif ($answer =~ s/^=LAST //) {
				syswrite $s, "action=$answer\n\n";
				drop($s);
			} elsif ($answer ne '=HANG') {
				syswrite $s, "action=$answer\n\n";
			}
		}
	}
}
