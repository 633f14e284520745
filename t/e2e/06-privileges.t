#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# The columns "user" and "chroot" of the table in doc/SECURITY.md, and what the page says of all
# processes, against a running system.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp);
use Test::More;

plan skip_all => 'needs root' if $> != 0;

my %row;
my ($table) = slurp(Posthaste::top() . '/doc/SECURITY.md') =~ /^## Who may do what\n\n(.*?)\n\n/ms;
for my $line ($table =~ /^\| (\S.*) \|$/mg) {
	my ($process, $user, $chroot) = split / \| /, $line;
	$row{$process} = { user => $user, chroot => $chroot } if $chroot && $process ne 'process';
}

my $mta = Posthaste->start;
my %pid = (priv => $mta->master_pid);
for my $w ($mta->workers) {
	$pid{ $w->{class} eq 'smtpd' ? 'smtp-in' : $w->{class} } = $w->{pid};
}
for my $child (slurp("/proc/$pid{priv}/task/$pid{priv}/children") =~ /\d+/g) {
	$pid{supervisor} = $child if slurp("/proc/$child/comm") =~ /^supervisor/;
}
is join(' ', sort keys %row), join(' ', sort keys %pid), 'the table names the processes there are';
my $owner = (getpwnam $mta->{owner})[2];
for my $process (sort keys %pid) {
	my $row = $row{$process} or next;
	my %is  = slurp("/proc/$pid{$process}/status") =~ /^(\w+):\s*(.*)$/mg;
	my @uid = split ' ', $is{Uid};
	my ($user, $kept) = $row->{user} =~ /^mail_owner$/ ? ($owner, $owner)
		: $process eq 'local' ? ($owner, 0) : (0, 0);
	is "$uid[1] $uid[0] $uid[2]", "$user $kept $kept", "$process: effective, real and saved user";
	is $is{CapEff}, '0000000000000000', "$process: no capabilities" if $process ne 'priv';
	is $is{CapPrm}, '0000000000000000', "$process: and none to take" if $kept;
	my $root = readlink "/proc/$pid{$process}/root";
	is $root, $row->{chroot} eq 'empty' ? "$mta->{dir}/spool/empty" : '/', "$process: root directory";
	is $is{NoNewPrivs}, $process eq 'priv' ? 0 : 1, "$process: no new privileges by exec";
	is $is{Seccomp}, $process eq 'priv' ? 0 : 2, "$process: system call filter";
}
is $mta->stop, 0, 'stops';
is $mta->crashes, '', 'nothing crashed';
done_testing;
