# SPDX-License-Identifier: GPL-3.0-or-later
# Debian's Postfix (t/e2e/lib/Peers.pm) and Posthaste side by side under the same power cuts: queue and
# mailboxes on file systems of their own, mail for both ends, and at a random moment both disks and
# all processes are gone. What each has of it afterwards is for the oracle. Used by 01-power-cut.t.
package RandomCut;
use strict;
use warnings;
use Carp qw(croak);
use Disk;
use Oracle;
use Peers;
use Posthaste qw(run_ok slurp spawn wait_until);
use Time::HiRes qw(sleep);

sub new {
	my ($class, %opt) = @_;
	my $self = bless { %opt, oracle => Oracle->new, rounds => 0,
		sink => Posthaste->sink(args => [ '-T', 10, '-P', 5 ]) }, $class;
	$self->{$_} = Disk->new(fs => $opt{fs}, mb => 1024) || croak(Disk->why_not) for qw(queue boxes);
	my $make = "make_$opt{who}";
	$self->$make;
	return $self;
}

my $postfix_conf = <<'END';
virtual_mailbox_domains = d1.x.test, load.test
virtual_mailbox_maps = inline:{ { @d1.x.test = box/ }, { @load.test = sender/ } }
minimal_backoff_time = 1s
maximal_backoff_time = 1s
queue_run_delay = 1s
in_flow_delay = 0
END

sub make_postfix {
	my ($self) = @_;
	my $mount = sub {
		my $dir = $_[0]{dir};
		$self->{queue}->mount("$dir/q");
		$self->{boxes}->mount("$dir/mail", 'games');
	};
	my $peer = Peers->postfix(home => 'load.test', next => $self->{sink}{port}, main => $postfix_conf,
		prepare => $mount) or croak 'Postfix does not run';
	$self->{$_}->settle for qw(queue boxes); # what an installation has had on its disk for long
	@$self{qw(peer port boxes_at queue_at running)} = ($peer, $peer->{port}, "$peer->{dir}/mail",
		"$peer->{dir}/q", 1);
	return;
}

sub make_posthaste {
	my ($self) = @_;
	my ($uid, $gid) = (getpwnam 'nobody')[2, 3];
	my $mta = Posthaste->prepare(main => {
		relayhost               => "[127.0.0.1]:$self->{sink}{port}",
		virtual_mailbox_domains => 'd1.x.test, load.test',
		virtual_mailbox_maps    => 'inline:{ @d1.x.test=box/ @load.test=sender/ }',
		virtual_uid_maps        => "static:$uid",
		virtual_gid_maps        => "static:$gid",
		spool_segment_size      => '8M',
		journal_file_size       => '1M',
	});
	$mta->configure(virtual_mailbox_base => "$mta->{dir}/boxes");
	$self->{queue}->mount("$mta->{dir}/spool", $mta->{owner});
	$self->{boxes}->mount("$mta->{dir}/boxes", $mta->{owner});
	$self->{$_}->settle for qw(queue boxes);
	@$self{qw(mta port boxes_at)} = ($mta, $mta->{port}, "$mta->{dir}/boxes");
	return;
}

sub start {
	my ($self) = @_;
	if ($self->{mta}) {
		$self->{mta}->advance(700);
		$self->{mta}->launch;
	} elsif (!$self->{running}) {
		$self->{peer}->postfix_run or croak 'Postfix does not start again';
	}
	$self->{running} = 1;
	return;
}

# The process and all below it.
sub family {
	my (@pids) = @_;
	return map { my $p = $_; ($p, family(split ' ', slurp("/proc/$p/task/$p/children"))) } @pids;
}

sub cut {
	my ($self) = @_;
	my $master = $self->{mta} ? $self->{mta}->master_pid : $self->{peer}{pid};
	$self->{$_}->cut for qw(queue boxes);
	kill 'STOP', $master;
	my @all = family($master);
	kill 'KILL', @all;
	for my $p (@all) {
		wait_until(sub { !-e "/proc/$p" || slurp("/proc/$p/stat") =~ /\) Z / }, 10);
	}
	delete $self->{mta}{running} if $self->{mta};
	Posthaste::wait_child(delete $self->{peer}{pid}) if $self->{peer};
	$self->{running} = 0;
	for my $disk (@$self{qw(queue boxes)}) {
		$disk->umount;
		$disk->remount or croak 'cannot mount again';
	}
	return;
}

sub round {
	my ($self, $seconds) = @_;
	my $n = ++$self->{rounds};
	my $file = "$self->{sink}{dir}/acked$n";
	$self->start;
	$self->{oracle}->sent("p$n");
	my $pid = spawn("$file.json", Posthaste::build_dir() . '/t/bench/load', '-s', 10, '-n', 300, '-r', 2, '-D', 2,
		'-d', 'x.test', '-l', 2000, '-T', 5, '-R', '-t', "p$n", '-o', $file, "127.0.0.1:$self->{port}");
	sleep $seconds;
	$self->cut;
	Posthaste::end_child($pid);
	$self->{oracle}->acked($file);
	return;
}

sub drained {
	my ($self) = @_;
	if (my $mta = $self->{mta}) {
		return 1 if ($mta->status->{messages} // 1) == 0;
		$mta->advance(1500);
		return 0;
	}
	my ($rc, $left) = run_ok('find', (map { "$self->{queue_at}/$_" } qw(active incoming deferred)), '-type', 'f');
	return $rc == 0 && $left eq '';
}

# Rounds of mail, each with its cut after so many seconds, then time to deliver all.
sub story {
	my ($self, @seconds) = @_;
	$self->round($_) for @seconds;
	$self->start;
	my $drained;
	for (1 .. 120) {
		last if $drained = $self->drained;
		sleep 0.5;
	}
	$self->{mta} ? $self->{mta}->stop : $self->{peer}->stop;
	$self->{sink}->finish;
	my $o = $self->{oracle};
	$o->sink($self->{sink});
	$o->maildir(glob "$self->{boxes_at}/box/new/*");
	$o->bounces(map { slurp($_) } glob "$self->{boxes_at}/sender/new/*");
	return { %{ $o->verdict }, left => $drained ? 0 : 1 };
}

1;
