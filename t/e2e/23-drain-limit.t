#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# After a reload the old processes go on with what they have, but not for ever: one that does not finish
# within reload_drain_time, or does not even hear that it shall, is ended, and what it held goes on elsewhere.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(wait_until);
use Test::More;

my $sink = Posthaste->sink;
my $hop  = Posthaste->recorder('caps=8BITMIME', '^MAIL=>silence');
my $mta  = Posthaste->start(main => {
	relayhost => "[127.0.0.1]:$sink->{port}", worker_watchdog_time => 0, reload_drain_time => '20m',
	transport_maps => "inline:{ { slow.test = smtp:[127.0.0.1]:$hop->{port} } }", smtpd_timeout => '10d',
});
my %old = map { $_->{class} => $_ } $mta->workers;
my $held = $mta->smtp;
$held->ok('EHLO held');
my $smtp = $mta->smtp;
$smtp->ok('EHLO x');
like $smtp->mail('a@x.test', 'r@slow.test', "Subject: x\n\nx\n"), qr/^250 /, 'mail for a hop that stalls';
$smtp->quit;
ok wait_until(sub { $hop->got =~ /^MAIL/m }, 10), 'it is being delivered' or diag $mta->log_tail;
# these will not hear of the reload
kill 'STOP', map { $old{$_}{pid} } qw(deliver stats resolver);
$hop->stop;
$mta->configure(transport_maps => '');
my ($rc, $out) = $mta->command('posthaste', 'reload');
is $rc, 0, 'reload' or diag $out;
ok wait_until(sub { grep { $_->{generation} == 2 && $_->{class} eq 'smtpd' && $_->{state} eq 'up' } $mta->workers }, 20),
	'the new processes are there';
$mta->advance(15);
ok $mta->wait_log(qr/killing stats process $old{stats}{pid}: did not finish within reload_drain_time/, 10),
	'one that has nothing to finish is not waited for' or diag $mta->log_tail;
$mta->advance(600);
ok !wait_until(sub { $mta->log =~ /killing (?:smtpd|deliver) process/ }, 1.5), 'the others have more time';
like $held->cmd('NOOP'), qr/^250 /, 'the old session goes on';
$mta->advance(700);
for my $class (qw(smtpd deliver)) {
	ok $mta->wait_log(qr/killing $class process $old{$class}{pid}: did not finish within reload_drain_time/, 10),
		"$class: and then no more" or diag $mta->log_tail;
}
ok wait_until(sub { !grep { $_->{generation} == 1 } $mta->workers }, 20), 'the old ones are gone'
	or diag explain [ $mta->workers ];
is $held->cmd('NOOP'), undef, 'the old session has ended';
ok wait_until(sub { $mta->advance(600), wait_until(sub { $mta->log =~ /status=sent/ }, 0.5) }, 20),
	'what the old deliver process held is delivered' or diag $mta->log_tail;
like $mta->http('/stats'), qr/"sched_drain_kills":\s*[45]\b/, 'counted';
is $mta->stop, 0, 'stop';
is $sink->finish->{messages}, 1, 'it arrived';
done_testing;
