#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# The wall clock is set: an hour ahead and back, five days ahead, to 1970, to the last second of
# 32-bit time, beyond 2106, and right again after each. Deferred mail is in the queue all the time;
# nothing of it may expire, be warned about, come due early or get lost by that, and the system must not
# become busy. Then the same between a stop and a start, and a jump of five days with an attempt behind
# it, after which all is delivered.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Posthaste qw(free_port slurp wait_until);
use Prove;
use Oracle;
use Time::HiRes qw(sleep time);
use Test::More;

my $c = Prove->new(name => '07-clock', title => 'Clock jumps');
my $messages = $c->full ? 5000 : 300;
my $settle = $c->full ? 5 : 0.5;
my $port = free_port(); # nobody listens
my $mta = Posthaste->start(main => {
	relayhost => "[127.0.0.1]:$port",
	delay_warning_time => '4h',
	minimal_backoff_time => '300s',
	notify_classes => '',
});
my $oracle = Oracle->new;
sub load {
	my ($n, $prefix) = @_;
	my $ids = "$mta->{dir}/acked-$prefix";
	my $r = Posthaste->load('-n', $n, '-s', $n < 20 ? 1 : 20, '-t', $prefix, '-o', $ids, "127.0.0.1:$mta->{port}");
	$oracle->acked($ids);
	return $r;
}
load($messages, 'before');

# The control: five days that really pass.
{
	my $other = Posthaste->start(main => { relayhost => "[127.0.0.1]:$port", notify_classes => '' });
	Posthaste->load('-n', 20, '-s', 1, '-t', 'control', "127.0.0.1:$other->{port}");
	wait_until(sub { $other->http('/stats') =~ /"sched_deferrals":\s*20\b/ }, 20);
	$other->advance(5 * 86400 + 60);
	ok wait_until(sub { $other->count_log(qr/status=expired/) == 20 }, 30), 'time that passes expires mail'
		or diag $other->log_tail;
	$c->control('five days that really pass', $other->count_log(qr/status=expired/) . ' of 20 returned');
	$other->stop;
}

sub counters {
	my ($text) = $mta->http('/stats') =~ /\r\n\r\n(.*)/s;
	my %h = ($text // '') =~ /"(\w+)":\s*(\d+)/g;
	return \%h;
}
sub attempts { return $mta->count_log(qr/status=deferred/) }

# CPU seconds of all processes of the instance.
sub cpu {
	my $sum = 0;
	my $master = $mta->master_pid;
	for my $pid ($master, split ' ', slurp("/proc/$master/task/$master/children")) {
		my @f = split ' ', slurp("/proc/$pid/stat") =~ s/^.*\) //sr;
		$sum += ($f[11] + $f[12]) / 100 if @f > 12;
	}
	return $sum;
}
sub ids { my (%n, $log); $log = $mta->log; $n{$1}++ while $log =~ /: (\w{12,}): client=/g; return \%n }

ok wait_until(sub { $mta->status->{messages} == $messages && counters()->{sched_deferrals} >= $messages }, 60),
	'all wait in the queue' or diag $mta->log_tail;
sleep 1;

my $now = time;
my @jumps = ([ 'an hour ahead', 3600 ], [ 'an hour back', -3600 ], [ 'five days ahead', 5 * 86400 + 60 ],
	[ 'to 1970', 5 - $now ], [ 'to 2038-01-19', 2147483640 - $now ],
	[ 'beyond 2106', 4294967296 + 86400 - $now ], [ 'beyond 2255', 9100000000 - $now ]);
@jumps = @jumps[ 0, 2, 3, 5 ] if !$c->full;
my ($most_cpu, $most_rate, $bounces) = (0, 0, 0);

# Nothing happens for a while; then one more message is taken, and waits too.
sub quiet {
	my ($what, $left) = @_;
	my $tries = counters()->{sched_jobs};
	my ($cpu, $t) = (cpu(), time);
	sleep $settle;
	my $used = 100 * (cpu() - $cpu) / (time - $t);
	my $rate = (counters()->{sched_jobs} - $tries) / (time - $t);
	$most_cpu = $used if $used > $most_cpu;
	$most_rate = $rate if $rate > $most_rate;
	cmp_ok $used, '<', $c->full ? 5 : 20, "$what: idle";
	cmp_ok $rate, '<', 10, "$what: no attempts before their time";
	my $count = counters();
	is $count->{sched_expired}, 0, "$what: nothing has expired";
	is $mta->status->{messages}, $left, "$what: nothing is lost";
	return;
}

my $sent = $messages;
for my $j (@jumps) {
	my ($what, $by) = @$j;
	$mta->jump($by);
	quiet($what, $sent);
	my $tag = $what =~ s/\W/./gr;
	load(5, $tag);
	$sent += 5;
	ok wait_until(sub { $mta->status->{messages} == $sent }, 20), "$what: mail is taken";
	$mta->jump(-$by);
	quiet("$what, and right again", $sent);
	load(5, "$tag.after");
	$sent += 5;
	$c->points(2);
}
is counters()->{sched_clock_jumps}, 2 * @jumps, 'every jump was seen';
is scalar(grep { $_ > 1 } values %{ ids() }), 0, 'every queue id is used once';

# Between two runs, and a restart far off.
for my $j ($c->full ? @jumps[ 0, 2, 3, 4 ] : $jumps[1]) {
	my ($what, $by) = @$j;
	$mta->stop;
	$mta->jump($by);
	$mta->launch;
	quiet("$what while stopped", $sent);
	$mta->stop;
	$mta->launch;
	quiet("$what, started again", $sent);
	$mta->stop;
	$mta->jump(-$by);
	$mta->launch;
	quiet("$what while stopped, and right again", $sent);
	$c->points(3);
}

# An attempt behind a jump: it fails, and the mail is still there. Flushed so that nobody waits.
$mta->jump(5 * 86400 + 60);
my $tried = attempts();
$mta->command('postqueue', '-f');
ok wait_until(sub { attempts() >= $tried + 1 }, 30), 'attempts five days ahead';
sleep 2;
is counters()->{sched_expired}, 0, 'none of them is the last one';
is $mta->status->{messages}, $sent, 'all are kept';
$mta->command('postqueue', '-f');
sleep 1;
is $mta->count_log(qr/status=expired/), 0, 'nothing was returned';
is $mta->count_log(qr/sender delay notification/), 0, 'nobody was warned';
my @wrong = grep { !/^\w{3} [ \d]\d \d\d:\d\d:\d\d |^\d{4}-\d\d-\d\dT/ } split /\n/, $mta->log;
is scalar @wrong, 0, 'every log line begins with a time' or diag $wrong[0];
is scalar(grep { /delays?=-|delays=[^,]*-/ } split /\n/, $mta->log), 0, 'no delay is negative';
$c->points(1);

# The retries come when they are due, over the time that the jitter gives them, and all arrive.
$mta->jump(-(5 * 86400 + 60));
my $sink = Posthaste->sink(port => $port);
for (1 .. 60) {
	last if $mta->status->{messages} == 0;
	$mta->advance(400);
	sleep 0.2;
}
ok wait_until(sub { $mta->status->{messages} == 0 }, 60), 'all is delivered in the end' or diag $mta->log_tail;
$bounces = $mta->count_log(qr/status=(?:expired|bounced)/);
is $mta->crashes, '', 'nothing crashed';
$sink->finish;
$oracle->sink($sink);
$oracle->queue($mta);
my $v = $oracle->verdict;
is scalar @{ $v->{lost} }, 0, 'nothing is lost';
is $mta->stop, 0, 'stopped';
$c->figure('messages in the queue during the jumps', $sent);
$c->figure('returned or warned about because of a jump', $bounces, "of $sent");
$c->figure('acknowledged messages lost', scalar @{ $v->{lost} }, "of $v->{acked}");
$c->figure('attempts per second after a jump, at the most', sprintf('%.1f', $most_rate), 'bound 10');
$c->figure('CPU of the idle system after a jump, at the most', sprintf('%.1f %%', $most_cpu), 'bound 5 %');
$c->done;
