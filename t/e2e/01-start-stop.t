#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# An operator starts, looks, makes mistakes, and stops.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port spew slurp wait_until run_ok);
use IO::Socket::INET;
use Test::More;

my $mta = Posthaste->prepare(main => { relayhost => '[127.0.0.1]:9' });

my ($rc, $out) = $mta->command('posthaste', 'status');
is $rc, 1, 'status of a stopped system is 1';
like $out, qr/is not running/, '... and says so';

($rc, $out) = $mta->command('posthaste', 'check');
is $rc, 0, 'check accepts the configuration' or diag $out;

$mta->launch;
my $smtp = $mta->smtp;
like $smtp->{banner}, qr/^220 mx\.posthaste\.test ESMTP/, 'start returns when mail is accepted';
$smtp->quit;
($rc, $out) = $mta->command('posthaste', 'status');
is $rc, 0, 'status of a running system is 0';
my %classes = map { $_->{class} => $_->{state} } $mta->workers;
is_deeply [ sort keys %classes ], [qw(deliver local log pickup resolver rewrite showq smtpd stats)],
	'one process of each class';
is join(',', sort { $a cmp $b } values %classes), join(',', ('up') x 9), 'all up';

($rc, $out) = $mta->command('posthaste', 'start');
isnt $rc, 0, 'a second start is refused';
like $out, qr/already running: PID \d+/, '... with the pid of the first';

# a port that is taken
my $other = Posthaste->prepare(main => { relayhost => '[127.0.0.1]:9' }, port => $mta->{port});
($rc, $out) = $other->command('posthaste', 'start');
isnt $rc, 0, 'start fails when the port is taken';
like $out, qr/bind 127\.0\.0\.1 port $mta->{port}: Address already in use/, '... and says which';
ok !-s "$other->{dir}/spool/pid/master.pid" || !kill(0, $other->master_pid), 'nothing is left running';

# mistakes in main.cf: all reported, with their places, and the running system is untouched
my $good = slurp("$mta->{dir}/conf/main.cf");
spew("$mta->{dir}/conf/main.cf", $good . "smtpd_timeout = soon\nmessage_size_limit = -5x\n");
($rc, $out) = $mta->command('posthaste', 'check');
isnt $rc, 0, 'check fails on bad values';
like $out, qr/main\.cf, line \d+: .*smtpd_timeout/, 'the first one is named with its line';
like $out, qr/main\.cf, line \d+: .*message_size_limit/, '... and the second one too';
($rc, $out) = $mta->command('posthaste', 'reload');
isnt $rc, 0, 'reload refuses it';
$smtp = $mta->smtp;
is $smtp->quit, '221 2.0.0 Bye', 'the running system goes on';

spew("$mta->{dir}/conf/main.cf", $good . "smtpd_recipient_restrictions = permit_everything\n");
($rc, $out) = $mta->command('posthaste', 'check');
isnt $rc, 0, 'an unknown restriction fails the check';
like $out, qr/permit_everything/, '... and is named';
spew("$mta->{dir}/conf/main.cf", $good);

my $pid = $mta->master_pid;
is $mta->stop, 0, 'stop';
ok wait_until(sub { !kill(0, $pid) }, 10), 'the process is gone';
ok !IO::Socket::INET->new(PeerAddr => "127.0.0.1:$mta->{port}"), 'the port is closed';
like $mta->log, qr/postfix\/master\[\d+\]: daemon started -- version/, 'start is logged';
like $mta->log, qr/postfix\/master\[\d+\]: terminating on signal 15/, 'stop is logged';
is $mta->crashes, '', 'nothing crashed';
done_testing;
