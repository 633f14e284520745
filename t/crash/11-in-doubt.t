#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Every duplicate is on the list of deliveries in doubt. Crashes under load: a delivery worker killed
# (deliver, local), everything killed, the power of the queue's disk cut. Half of the recipients are at
# the next hop, half have mailboxes on another disk, and every copy is counted. The list must name all
# that came twice, and be no more than what the workers had in hand. With in_doubt_action = hold nothing
# comes twice before an operator says so. Control: without in_doubt_sync, the list misses some after
# power cuts. Power cuts: root only.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Disk;
use Oracle;
use Posthaste qw(slurp spawn wait_until);
use Prove;
use Test::More;
use Time::HiRes qw(sleep);

my $c = Prove->new(name => '11-in-doubt', title => 'Deliveries in doubt after a crash');
my @owner = $> == 0 ? (getpwnam 'nobody')[2, 3] : ($>, (split ' ', $))[0]);

# ---- crashes ----

sub kill_worker {
	my ($mta, $class) = @_;
	my ($victim) = grep { $_->{class} eq $class && $_->{state} eq 'up' } $mta->workers or return;
	kill 'KILL', $victim->{pid};
	wait_until(sub { !grep { $_->{pid} == $victim->{pid} } $mta->workers }, 10);
	$mta->advance(20); # past the back-off of its successor
	return;
}

# After the cut the system runs on for a moment on the dead disk.
sub cut_power {
	my ($mta, $disk) = @_;
	my $master = $mta->master_pid; # it stands in a file on that disk
	$disk->cut;
	sleep 0.05 * $c->rand(4);
	kill 'STOP', $master;
	my @pids = ((split ' ', slurp("/proc/$master/task/$master/children")), $master);
	kill 'KILL', @pids;
	for my $p (@pids) {
		wait_until(sub { !-e "/proc/$p" || slurp("/proc/$p/stat") =~ /\) Z / }, 10);
	}
	delete $mta->{running};
	$disk->umount;
	$disk->remount or die 'cannot mount again';
	return;
}

my %crashes = (
	'deliver worker' => sub { kill_worker($_[0], 'deliver') },
	'local worker'   => sub { kill_worker($_[0], 'local') },
	'everything'     => sub { $_[0]->crash },
	'ext4 power'     => \&cut_power,
	'xfs power'      => \&cut_power,
);

# ---- one instance, many crashes ----

sub prepare {
	my ($kind, %main) = @_;
	my $sink = Posthaste->sink;
	my $disk = $kind =~ /^(\w+) power/ ? Disk->new(fs => $1, mb => 512) : undef;
	return if $kind =~ /power/ && !$disk;
	my $mta = Posthaste->prepare(main => {
		relayhost               => "[127.0.0.1]:$sink->{port}",
		virtual_mailbox_domains => 'd1.x.test',
		virtual_mailbox_maps    => 'inline:{ @d1.x.test=box/ }',
		virtual_uid_maps        => "static:$owner[0]",
		virtual_gid_maps        => "static:$owner[1]",
		journal_file_size       => '1M',
		spool_segment_size      => '4M',
		%main,
	});
	$mta->configure(virtual_mailbox_base => "$mta->{dir}/mail");
	$disk->mount("$mta->{dir}/spool", $mta->{owner}) if $disk;
	return { kind => $kind, sink => $sink, disk => $disk, mta => $mta, oracle => Oracle->new, n => 0,
		most => $kind eq 'local worker' ? 1000 : 4000 };
}

sub round {
	my ($s) = @_;
	my ($mta, $at, $n) = ($s->{mta}, "$s->{sink}{dir}/acked", ++$s->{n});
	$mta->launch unless $mta->{running};
	my $load = spawn("$s->{sink}{dir}/load$n", Posthaste::build_dir() . '/t/bench/load', '-s', 20, '-n',
		$s->{most}, '-T', 1, '-r', 2, '-D', 2, '-d', 'x.test', '-p', '-R', '-t', "r$n", '-o', "$at$n",
		"127.0.0.1:$mta->{port}");
	wait_until(sub { -s "$at$n" }, 5);
	sleep 0.02 + $c->rand(200) / 1000;
	$crashes{ $s->{kind} }->($mta, $s->{disk});
	Posthaste::end_child($load) unless $mta->{running};
	Posthaste::wait_child($load) if $mta->{running};
	$s->{oracle}->acked("$at$n");
	return;
}

sub drain {
	my ($mta, $left) = @_;
	for (1 .. 8) {
		return 1 if wait_until(sub { $left->($mta->status) }, 8);
		$mta->advance(1500);
	}
	return 0;
}

sub collect {
	my ($s) = @_;
	$s->{oracle}->sink($s->{sink});
	$s->{oracle}->maildir($s->{mta}->maildir_files('box'));
	return;
}

# Copies beyond the first, so far.
sub copies {
	my ($s) = @_;
	my %got;
	$got{$_}++ for split /\n/, slurp("$s->{sink}{dir}/ids");
	for my $file ($s->{mta}->maildir_files('box')) {
		my $head = (split /\n\n/, slurp($file), 2)[0];
		my ($id, $rcpt) = ($head =~ /^X-Load-Id: (\S+)/m, $head =~ /^X-Original-To: (\S+)/m);
		$got{"$id $rcpt"}++ if defined $rcpt;
	}
	delete $got{$_} for grep { /^- / } keys %got;
	return scalar grep { $_ > 1 } values %got;
}

sub crash_rounds {
	my ($kind, $rounds, %main) = @_;
	my $s = prepare($kind, %main) or return;
	round($s) for 1 .. $rounds;
	$s->{mta}->launch unless $s->{mta}{running};
	$c->points($rounds);
	return $s;
}

# ---- every duplicate is on the list ----

sub retry {
	my ($kind, $rounds) = @_;
	my $s = crash_rounds($kind, $rounds) or return note "$kind: " . Disk->why_not;
	my ($mta, $o) = @$s{qw(mta oracle)};
	ok drain($mta, sub { ($_[0]{messages} // 1) == 0 }), "$kind: the queue drains" or diag $mta->log_tail;
	my $listed = $o->in_doubt($mta);
	my ($body) = $mta->http('/stats') =~ /"in_doubt":\s*(\d+)/;
	is $body, 0, "$kind: and nothing in it is in doubt";
	$mta->stop;
	$s->{sink}->finish;
	collect($s);
	my $v = $o->judge($kind);
	$c->figure("$kind: duplicates that are not on the list", scalar @{ $v->{unlisted} },
		sprintf 'of %d, in %d crashes', scalar @{ $v->{twice} }, $rounds);
	$c->figure("$kind: deliveries on the list per crash", sprintf('%.1f', $listed / $rounds),
		sprintf '%d came twice, %d were acknowledged', scalar @{ $v->{twice} }, $v->{acked});
	return;
}

# ---- held: nothing comes twice ----

sub hold {
	my ($kind, $rounds) = @_;
	my $s = crash_rounds($kind, $rounds, in_doubt_action => 'hold') or return;
	my ($mta, $o) = @$s{qw(mta oracle)};
	ok drain($mta, sub { defined $_[0]{messages} && $_[0]{messages} == held($mta) }),
		"$kind, hold: all that is not in doubt is delivered" or diag $mta->log_tail;
	my $held = held($mta);
	is copies($s), 0, "$kind, hold: nothing came twice";
	$mta->command('postsuper', '-H', 'ALL');
	ok drain($mta, sub { ($_[0]{messages} // 1) == 0 }), "$kind, hold: postsuper -H releases all";
	$o->in_doubt($mta);
	$mta->stop;
	$s->{sink}->finish;
	collect($s);
	my $v = $o->judge("$kind, hold");
	$c->figure("$kind, held: came twice before they were released", 0,
		sprintf '%d held, %d of them were a second copy when released', $held, scalar @{ $v->{twice} });
	return;
}

sub held {
	my ($mta) = @_;
	my ($rc, $out) = $mta->command('postqueue', '-j');
	my $n = () = $out =~ /"queue_name":\s*"hold"/g;
	return $n;
}

# ---- control ----

sub control {
	my ($kind, $rounds) = @_;
	my $s = crash_rounds($kind, $rounds, in_doubt_sync => 'no', journal_sync_window => '1s')
		or return note "$kind: " . Disk->why_not;
	my ($mta, $o) = @$s{qw(mta oracle)};
	drain($mta, sub { ($_[0]{messages} // 1) == 0 });
	$o->in_doubt($mta);
	$mta->stop;
	$s->{sink}->finish;
	collect($s);
	my $v = $o->verdict;
	cmp_ok scalar @{ $v->{unlisted} }, '>', 0, "control: without in_doubt_sync the list is not complete";
	$c->control('in_doubt_sync = no, journal_sync_window = 1s, ext4 power cuts',
		sprintf 'the list misses %d of %d duplicates', scalar @{ $v->{unlisted} }, scalar @{ $v->{twice} });
	return;
}

my $many = $c->full;
retry('deliver worker', $many ? 30 : 1);
retry('local worker', $many ? 30 : 1);
retry('everything', $many ? 40 : 1);
retry('ext4 power', $many ? 40 : 2);
retry('xfs power', 30) if $many;
hold('deliver worker', 10) if $many;
hold('everything', $many ? 15 : 1);
hold('ext4 power', 15) if $many;
control('ext4 power', $many ? 5 : 1);
$c->done;
