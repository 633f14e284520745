#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A delivery to a mailbox that hangs (here: its process is stopped by a signal) is ended, although it
# runs as the mailbox's user and the worker acts as another; its mail is tried again later.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp wait_until);
use Test::More;

my $root = $> == 0;
my ($uid, $gid) = $root ? (getpwnam 'games')[2, 3] : ($>, (split ' ', $))[0]);
my $mta = Posthaste->prepare(main => {
	virtual_mailbox_domains => 'host.example',
	virtual_mailbox_maps => 'inline:{ ann@host.example=ann/ }',
	virtual_uid_maps => "static:$uid",
	virtual_gid_maps => "static:$gid",
	virtual_minimum_uid => 1,
});
chown $uid, $gid, "$mta->{dir}/mail" if $root;
$mta->configure(virtual_mailbox_base => "$mta->{dir}/mail");
$mta->launch;

sub send_one {
	my $smtp = $mta->smtp;
	$smtp->ok('EHLO client.example');
	my ($qid) = $smtp->mail('x@client.example', 'ann@host.example', "Subject: x\n\nx\n") =~ /as (\S+)/;
	$smtp->quit;
	return $qid;
}

my $first = send_one();
ok $mta->wait_log(qr/$first: removed/), 'the first message is delivered' or diag $mta->log_tail;
my ($local) = map { $_->{pid} } grep { $_->{class} eq 'local' } $mta->workers;
my ($child) = grep { slurp("/proc/$_/stat") =~ /\) \S (\d+)/ && $1 == $local }
	grep { slurp("/proc/$_/comm") ne "runner\n" } map { m{(\d+)} } glob '/proc/[0-9]*';
ok $child, 'its process waits for more';
kill 'STOP', $child;
my $second = send_one();
# The clock moves on until the time limit has passed, wherever the delivery is.
ok wait_until(sub { $mta->advance(60); sleep 1; $mta->log =~ /delivery process $child took too long/ }, 30),
	'the process that hangs is noticed' or diag $mta->log_tail;
ok wait_until(sub { !-e "/proc/$child" || slurp("/proc/$child/stat") =~ /\) Z / }, 10), 'and is gone';
ok $mta->wait_log(qr/$second: to=.*status=deferred \(.*delivery timed out/), 'its mail is deferred'
	or diag $mta->log_tail;
ok wait_until(sub { $mta->advance(1200); $mta->log =~ /$second: removed/ }, 20), 'and delivered later'
	or diag $mta->log_tail;
kill 'KILL', $child;
is $mta->stop, 0, 'stop';
done_testing;
