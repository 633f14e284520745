#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Peers that misbehave get a reply or are cut off; memory stays bounded; others notice nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp wait_until);
use IO::Socket::INET;
use Test::More;

my $sink = Posthaste->sink;
# these clients do not wait for the greeting, for which they would be disconnected
my $mta  = Posthaste->start(main => { relayhost => "[127.0.0.1]:$sink->{port}",
	smtpd_client_connection_count_limit => 0, smtpd_forbid_unauth_pipelining => 'no',
	smtpd_forbid_bare_newline_exclusions => '' }); # our own networks are trusted by default
my ($smtpd) = grep { $_->{class} eq 'smtpd' } $mta->workers;
my $rss = sub { slurp("/proc/$smtpd->{pid}/status") =~ /^RssAnon:\s+(\d+)/m ? $1 : 0 };
my $before = $rss->();
srand 20260101;

sub talk {
	my ($bytes) = @_;
	my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$mta->{port}", Timeout => 10) or return 'refused';
	local $SIG{PIPE} = 'IGNORE';
	$s->blocking(0);
	my ($off, $got, $end) = (0, '', time + 15);
	my $shut;
	while (time < $end) {
		my ($r, $w) = ('', '');
		vec($r, fileno $s, 1) = 1;
		vec($w, fileno $s, 1) = 1 if $off < length $bytes;
		select $r, $w, undef, 0.2;
		if (vec $r, fileno $s, 1) {
			my $n = sysread $s, $got, 65536, length $got;
			last if defined $n && $n == 0;
			last if !defined $n && !$!{EAGAIN};
		}
		if ($off < length $bytes && vec $w, fileno $s, 1) {
			my $n = syswrite $s, $bytes, 65536, $off;
			last if !defined $n && !$!{EAGAIN};
			$off += $n if $n;
		} elsif ($off >= length $bytes && !$shut) {
			shutdown $s, 1;
			$shut = 1;
		}
	}
	close $s;
	return $got;
}

like talk('A' x 5_000_000), qr/^220 .*\r\n5\d\d /, 'five megabytes without a line end';
like talk("EHLO x\r\n" . "NOOP\r\n" x 200_000), qr/^220 /, '200,000 pipelined NOOPs';
like talk("EHLO x\r\nMAIL FROM:<a\@b.example>\r\n" . join('', map { "RCPT TO:<r$_\@far.example>\r\n" } 1 .. 100_000)),
	qr/452 4\.5\.3 Error: too many recipients/, '100,000 recipients';
like talk("EHLO x\r\n\0\0\0\r\nQUIT\r\n"), qr/\r\n50[02] 5\.5\.2 /, 'NULs';
like talk("GET / HTTP/1.0\r\nHost: x\r\n\r\n"), qr/221 2\.7\.0 Error: I can break rules, too\. Goodbye\./, 'HTTP';
like talk("EHLO x\r\nMAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@far.example>\r\nBDAT 18446744073709551615\r\nxx"),
	qr/\r\n5\d\d /, 'BDAT of 2^64-1';
like talk("EHLO x\r\nMAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@far.example>\r\nBDAT -1\r\nQUIT\r\n"), qr/\r\n521 5\.5\.4 /, 'BDAT -1';
like talk("EHLO x\r\nMAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@far.example>\r\n" . "BDAT 1\r\nx" x 50_000 . "BDAT 0 LAST\r\nQUIT\r\n"),
	qr/\r\n250 2\.0\.0 Ok: 50000 bytes queued as /, '50,000 times BDAT 1';
like talk("EHLO x\r\nMAIL FROM:<a\@b.example> SIZE=99999999999\r\nQUIT\r\n"), qr/\r\n552 5\.3\.4 /, 'a size beyond the limit';
like talk("EHLO x\r\nMAIL FROM:<a\@b.example>\r\nRCPT TO:<c\@far.example>\r\nDATA\r\n" . ("x" x 70 . "\r\n") x 200_000 . ".\r\nQUIT\r\n"),
	qr/\r\n552 5\.3\.4 /, '14 MB of content';
for my $i (1 .. 30) {
	my $junk = join '', map { chr int rand 256 } 1 .. 1 + int rand 3000;
	my $r = talk($junk);
	like $r, qr/^220 /, "random bytes $i" if $r !~ /^220 /;
}
pass 'random bytes';
# smuggling: none of these ends the message
for my $end ("\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\r\n\0.\r\n", "\r\n.\0\r\n") {
	my $r = talk("EHLO x\r\nMAIL FROM:<a\@b.example>\r\nRCPT TO:<r0.smug-0\@far.example>\r\nDATA\r\nSubject: x\r\n\r\nfirst${end}"
		. "MAIL FROM:<evil\@b.example>\r\nRCPT TO:<victim\@far.example>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n");
	my $name = $end =~ s/\r/\\r/gr =~ s/\n/\\n/gr =~ s/\0/\\0/gr;
	my $queued = () = $r =~ /queued as/g;
	cmp_ok $queued, '<=', 1, "no second message after $name";
}
# half-received messages and idle connections do not hold others up
my @half = map {
	my $c = Posthaste::Client->new($mta->{port});
	$c->ok('EHLO x'); $c->ok('MAIL FROM:<a@b.example>'); $c->ok('RCPT TO:<c@far.example>'); $c->ok('DATA');
	$c->send_raw("Subject: never finished\r\n\r\n" . 'y' x 1000);
	$c
} 1 .. 40;
my $r = Posthaste->load('-s', 5, '-n', 500, "127.0.0.1:$mta->{port}");
is $r->{acked}, 500, 'others are served meanwhile';
close $_->{sock} for @half;
my ($same) = grep { $_->{class} eq 'smtpd' } $mta->workers;
is $same->{pid}, $smtpd->{pid}, 'the worker lived through all of it';
cmp_ok $rss->() - $before, '<', 60_000, 'its memory grew by less than 60 MB (' . ($rss->() - $before) . ' KiB)';
is $mta->status->{worker_restarts}, 0, 'nobody died';
is join('', grep { /panic:/ } split /\n/, $mta->crashes), '', 'no panic';
Posthaste::wait_until(sub { $mta->log =~ /lost connection after DATA/ }, 5);
like $mta->log, qr/lost connection after DATA/, 'cut connections are logged';
$mta->stop;
$sink->finish;
is scalar(grep { /victim/ } keys %{ $sink->received }), 0, 'nothing smuggled reached the next hop';
done_testing;
