#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Thousands of idle sessions cost little each: 5,000 of them less than 16 KiB.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp);
use IO::Socket::INET;
use Test::More;

my $n = 5000;
my ($hard) = slurp('/proc/self/limits') =~ /^Max open files\s+\d+\s+(\d+)/m;
my $hard_enough = $hard >= $n + 500;
# two processes' worth of descriptors: ours are raised in the shell that runs this again
if ($hard_enough && !$ENV{POSTHASTE_RAISED}) {
	$ENV{POSTHASTE_RAISED} = 1;
	exec 'sh', '-c', "ulimit -n $hard; exec \"\$0\" \"\$@\"", $^X, $0;
}
$n = $hard - 500 unless $hard_enough;
my $mta = Posthaste->start(main => { relayhost => '[127.0.0.1]:9', smtpd_client_connection_count_limit => 0,
	smtpd_forbid_unauth_pipelining => 'no' }); # they do not wait for the greeting
my ($smtpd) = grep { $_->{class} eq 'smtpd' } $mta->workers;
my $mem = sub { slurp("/proc/$smtpd->{pid}/smaps_rollup") =~ /^Pss:\s+(\d+)/m ? $1 : 0 };
my $first = $mta->smtp;
$first->ok('EHLO first');
my $before = $mem->();
my @socks;
for my $i (1 .. $n) {
	my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$mta->{port}", Timeout => 20) or last;
	push @socks, $s;
	print $s "EHLO idle\r\n";
}
for my $s (@socks) {
	while (defined(my $line = <$s>)) { last if $line =~ /^250 / }
}
is scalar(@socks), $n, "$n sessions";
my $each = ($mem->() - $before) / $n;
cmp_ok $each, '<', 16, sprintf 'each costs %.1f KiB', $each;
like $first->cmd('NOOP'), qr/^250/, 'the first one is still served';
like $mta->http('/stats'), qr/"sessions":@{[ $n + 1 ]}\b/, 'statistics count them';
$mta->stop;
done_testing;
