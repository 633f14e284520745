#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A back end for logins, for the stories: saslauthd, or a Dovecot auth service. Passwords that begin with "good" are
# right; "hang" is never answered; "drop" ends the connection; "junk" gets nonsense.
# usage: saslserver.pl saslauthd|dovecot PATH|PORT
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;
use MIME::Base64;

my ($kind, $path) = @ARGV;
unlink $path if $path =~ m{^/};
my $server = $path =~ m{^/} ? IO::Socket::UNIX->new(Local => $path, Listen => 100)
	: IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $path, Listen => 100, ReuseAddr => 1);
die "$path: $!" unless $server;
chmod 0666, $path if $path =~ m{^/};
$SIG{CHLD} = 'IGNORE';
my $parent = $$;

sub verdict {
	my ($password) = @_;
	while ($password =~ /^hang/) { sleep 1000 }
	exit 0 if $password =~ /^drop/;
	return $password =~ /^good/;
}

sub saslauthd {
	my ($c) = @_;
	my @text = map { read $c, my $n, 2; read $c, my $s, unpack 'n', $n; $s } 1 .. 4;
	my $answer = verdict($text[1]) ? 'OK' : 'NO no such luck';
	$answer = "\xff" x 5 if $text[1] =~ /^junk/;
	print $c pack('n/a*', $answer);
	return;
}

sub dovecot {
	my ($c) = @_;
	$c->autoflush(1);
	print $c "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tSECRET\tprivate\nMECH\tANONYMOUS\tanonymous\nSPID\t1\nCUID\t1\nDONE\n";
	while (my $line = <$c>) {
		chomp $line;
		my ($word, $id, @rest) = split /\t/, $line;
		my ($resp) = map { /^resp=(.*)/ ? $1 : () } @rest;
		$resp = $rest[0] if $word eq 'CONT';
		next if $word !~ /^(?:AUTH|CONT)$/;
		if (!defined $resp) {
			print $c "CONT\t$id\t\n";
			next;
		}
		my (undef, $user, $password) = split /\0/, decode_base64($resp);
		if (($password // '') =~ /^junk/) {
			print $c "OK\nFAIL\tx\nOK\t999\tuser=forged\nOK\t$id\tnobody\n";
			next;
		}
		print $c verdict($password // '') ? "OK\t$id\tuser=$user\n" : "FAIL\t$id\tuser=$user\treason=no such luck\n";
	}
	return;
}

while (my $c = $server->accept) {
	next if fork;
	close $server;
	# not longer than the one that was started
	$SIG{ALRM} = sub { exit 0 if getppid != $parent; alarm 1 };
	alarm 1;
	$kind eq 'dovecot' ? dovecot($c) : saslauthd($c);
	exit 0;
}
