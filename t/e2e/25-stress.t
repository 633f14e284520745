#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A receiving process that is nearly full gives new sessions the values that ${stress?...} chooses; one
# that is full, or has no descriptors left, lets clients wait without using the processor, and goes on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Select;
use IO::Socket::INET;
use Posthaste qw(slurp wait_until);
use Time::HiRes qw(sleep);
use Test::More;

my $sink = Posthaste->sink;
my $mta  = Posthaste->start(main => {
	relayhost => "[127.0.0.1]:$sink->{port}", smtpd_session_limit => 40, smtpd_client_connection_count_limit => 0,
	smtpd_workers => 1, smtpd_error_sleep_time => 0,
	smtpd_client_restrictions => '${stress?{check_client_access inline:{{127.0.0.9 = REJECT no strangers now}}}}',
	smtpd_delay_reject => 'no',
});
my ($smtpd) = map { $_->{pid} } grep { $_->{class} eq 'smtpd' } $mta->workers;

# user and system time of the process, seconds
sub cpu {
	my @f = split ' ', slurp("/proc/$smtpd/stat") =~ s/^.*\) //r;
	return ($f[11] + $f[12]) / 100;
}

sub stat_of { my ($name) = @_; return $mta->http('/stats') =~ /"$name":(\d+)/ ? $1 : -1 }

# A connection that is not waited for.
sub raw {
	my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$mta->{port}", Timeout => 10) or die "connect: $!";
	$s->autoflush(1);
	return $s;
}

sub hears { my ($s, $seconds) = @_; return scalar IO::Select->new($s)->can_read($seconds) }

like $mta->smtp(undef, '127.0.0.9')->{banner}, qr/^220 /, 'a client that stress would refuse';
my @old = map { my $s = $mta->smtp; $s->ok("EHLO old$_"); $s } 1 .. 35;
is stat_of('smtpd_stress'), 0, '35 of 40 sessions: all is well';
like $old[0]->cmd('FOO'), qr/^500 /, 'an error';
like $old[0]->cmd('NOOP'), qr/^250 /, 'and the session goes on';
my $new = $mta->smtp;
ok $mta->wait_log(qr{postfix/smtpd\[\d+\]: entering STRESS mode with 35 connections}, 5), 'then there is stress'
	or diag $mta->log_tail;
is stat_of('smtpd_stress'), 1, 'the gauge says so';
$new->ok('EHLO new');
like $mta->smtp(undef, '127.0.0.9')->{banner}, qr/^554 5\.7\.1 .*no strangers now/, 'restrictions may depend on it';
my $second = $mta->smtp;
like $second->cmd('FOO'), qr/^500 /, 'an error';
like $second->reply // '', qr/^421 4\.7\.0 .*too many errors/, 'is one too many: smtpd_hard_error_limit';
$new->send_raw('NO');
$mta->advance(6);
ok !hears($new->{sock}, 1), 'six seconds';
$new->send_raw('O');
$mta->advance(6);
like $new->reply // '', qr/^421 4\.4\.2 .*timeout exceeded/, 'a byte now and again does not help: smtpd_per_request_deadline';
like $old[1]->cmd('NOOP'), qr/^250 /, 'sessions from before have the time they had';

my @more = map { $mta->smtp } 1 .. 5;
my @waiting = map { raw() } 1 .. 60;
ok $mta->wait_log(qr/warning: service "127\.0\.0\.1:$mta->{port}" has reached its session limit "40": new clients may experience noticeable delays/, 5),
	'full: logged' or diag $mta->log_tail;
my $t = cpu();
ok !hears($waiting[0], 2), 'clients wait';
cmp_ok cpu() - $t, '<', 0.3, 'waiting costs nothing';
cmp_ok stat_of('smtpd_full'), '>=', 1, 'counted';
is stat_of('smtpd_sessions'), 40, '40 sessions';
$_->quit for @more;
ok hears($waiting[$_], 5), "when sessions end, waiting client $_ is served" for 0, 4;
close $_ for @waiting;
$_->quit for @old[2 .. 34];
ok wait_until(sub { stat_of('smtpd_sessions') == 2 }, 10), 'they have gone';
$mta->advance(990);
is stat_of('smtpd_stress'), 1, 'stress lasts';
$mta->advance(30);
ok $mta->wait_log(qr/leaving STRESS mode with \d+ connections/, 5), '... for 1000 seconds' or diag $mta->log_tail;
ok wait_until(sub { stat_of('smtpd_stress') == 0 }, 5), 'and the gauge falls';
$_->{sock}->close for @old;

is $mta->crashes, '', 'no process was harmed';
is $mta->stop, 0, 'stop';

# Fewer descriptors than the process takes to be enough: it has some twenty without any client.
$mta = Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$sink->{port}", smtpd_workers => 1,
	smtpd_client_connection_count_limit => 0 });
$mta->limit_files(smtpd => 36);
$mta->launch;
ok $mta->wait_log(qr/room for 18 sessions: the limit of open files is below smtpd_session_limit/, 5), 'few descriptors: logged'
	or diag $mta->log_tail;
($smtpd) = map { $_->{pid} } grep { $_->{class} eq 'smtpd' } $mta->workers;
my @crowd = map { raw() } 1 .. 40;
ok $mta->wait_log(qr/warning: accept connection: Too many open files/, 5), 'none is left: logged' or diag $mta->log_tail;
$t = cpu();
sleep 2;
cmp_ok cpu() - $t, '<', 0.3, 'no busy loop';
cmp_ok stat_of('smtpd_accept_errors'), '>=', 1, 'counted';
my $held = grep { hears($_, 0) } @crowd;
cmp_ok $held, '>=', 3, "$held are served";
cmp_ok $held, '<', 18, 'and no more';
is $mta->count_log(qr/accept connection/), 1, 'one line in ten seconds, not one for each try';
while (@crowd) { # each that ends makes room for one that waits
	my ($first, @rest) = @crowd;
	hears($first, 5) or last;
	close $first;
	@crowd = @rest;
}
is scalar @crowd, 0, 'when descriptors return all are served in their order';
is $mta->smtp->quit =~ /^221/, 1, 'and new ones';
is $mta->crashes, '', 'no process was harmed';
is $mta->stop, 0, 'stop';
$sink->finish;
done_testing;
