#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A content filter for tests, of the kind that stands between two services of one mail system: takes mail by SMTP (with
# XFORWARD and DSN; TLS is offered and not there), puts the header "X-Filter: NAME" in front and gives it back, and answers with what it was told there.
# A message with a line "X-Virus: yes" is refused. Every line of the way in is written to FILE.
# usage: filter.pl [ADDRESS:]PORT BACK-ADDRESS:PORT FILE NAME
use strict;
use warnings;
use IO::Socket::INET;

my ($where, $back, $file, $name) = @ARGV;
$where = "127.0.0.1:$where" if $where !~ /:/;
my $listen = IO::Socket::INET->new(LocalAddr => $where, Listen => 50, ReuseAddr => 1) or die "$where: $!";
open my $out, '>>', $file or die "$file: $!";
$out->autoflush(1);
open my $ready, '>', "$file.ready" or die;
close $ready;
$SIG{CHLD} = 'IGNORE';
$SIG{PIPE} = 'IGNORE';
my $parent = $$;

sub reply_of {
	my ($s) = @_;
	my $text = '';
	while (defined(my $line = <$s>)) {
		$text .= $line;
		return $text if $line =~ /^\d{3}(?: |\r?$)/;
	}
	return "451 4.3.0 nobody takes it back\r\n";
}

# The whole transaction at once; the first reply that is none of success, or the last.
sub give_back {
	my ($forward, $envelope, $text) = @_;
	my $s = IO::Socket::INET->new(PeerAddr => $back, Timeout => 20) or return "451 4.3.0 nobody listens at $back\r\n";
	my $reply = reply_of($s);
	if ($reply =~ /^220/) {
		print {$s} "EHLO $name.test\r\n";
		$reply = reply_of($s);
	}
	my $may_forward = $reply =~ /^250[- ]XFORWARD/m;
	my @lines = $reply =~ /^250[- ]DSN/m ? @$envelope : map { s/ (?:NOTIFY|ORCPT|RET|ENVID)=\S+//gr } @$envelope;
	for my $line ($may_forward ? @$forward : (), @lines, "DATA\r\n", "X-Filter: $name\r\n$text.\r\n") {
		return $reply if $reply !~ /^[23]/;
		print {$s} $line;
		$reply = reply_of($s);
	}
	print {$s} "QUIT\r\n";
	return $reply =~ /^250/ ? "250 2.0.0 from MTA(smtp:[$back]): $reply" : $reply;
}

sub talk {
	my ($c) = @_;
	my (@forward, @envelope);
	my $held = '';
	print {$c} "220 $name ESMTP\r\n";
	while (my $line = <$c>) {
		$held .= $line;
		if ($line =~ /^EHLO/i) {
			print {$c} "250-$name\r\n250-8BITMIME\r\n250-STARTTLS\r\n250-DSN\r\n250-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n250 SIZE\r\n";
		} elsif ($line =~ /^XFORWARD/i) {
			push @forward, $line;
			print {$c} "250 2.5.0 Ok\r\n";
		} elsif ($line =~ /^(?:MAIL|RCPT)/i) {
			@envelope = () if $line =~ /^M/i;
			push @envelope, $line;
			print {$c} "250 2.1.0 Ok\r\n";
		} elsif ($line =~ /^DATA/i) {
			print {$c} "354 go\r\n";
			my $text = '';
			while (defined(my $l = <$c>)) {
				$held .= $l;
				last if $l eq ".\r\n";
				$text .= $l;
			}
			syswrite $out, $held;
			$held = '';
			print {$c} $text =~ /^X-Virus: yes/m ? "554 5.7.0 Reject, it is infected\r\n" : give_back(\@forward, \@envelope, $text);
			@forward = ();
		} elsif ($line =~ /^STARTTLS/i) {
			print {$c} "454 4.7.0 not now\r\n";
		} elsif ($line =~ /^QUIT/i) {
			print {$c} "221 2.0.0 Bye\r\n";
			last;
		} else {
			print {$c} "250 2.0.0 Ok\r\n";
		}
	}
	return;
}

while (my $c = $listen->accept) {
	next if fork;
	close $listen;
	# not longer than the one that was started
	$SIG{ALRM} = sub { exit 0 if getppid != $parent; alarm 1 };
	alarm 1;
	$c->autoflush(1);
	talk($c);
	exit 0;
}
