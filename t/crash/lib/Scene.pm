# SPDX-License-Identifier: GPL-3.0-or-later
# The fixed scenario of the campaigns that put faults into system calls: an instance under the
# injector, a next hop that takes most, defers some once and refuses some for good, hosted mailboxes,
# and names that are asked for. Each round of mail has one recipient at the hop and one mailbox per
# message, so that relaying, local delivery, deferral, notification and a later try all happen.
#
#   my $s = Scene->new(calls => 'all');
#   $s->start;
#   $s->inject->arm(...);
#   $s->mail(messages => 3);          # a round, as t/bench/load reports it
#   $s->elapse;                         # enough time for retries and for a worker's back-off
#   my $v = $s->judge('rewrite');     # ends it: drains, stops, asks the oracle
package Scene;
use strict;
use warnings;
use Carp qw(croak);
use Inject;
use Oracle;
use Posthaste qw(free_port slurp spew spawn wait_until);
use Test::More;

sub new {
	my ($class, %opt) = @_;
	my $sink = Posthaste->sink(args => [ '-T', 20, '-P', 8 ]);
	my $mta  = Posthaste->prepare(port => $opt{port}, main => {
		virtual_mailbox_domains => 'd1.x.test, load.test',
		virtual_mailbox_maps    => 'inline:{ @d1.x.test=box/ @load.test=sender/ }',
		virtual_uid_maps        => 'static:' . ($> == 0 ? (getpwnam 'nobody')[2] : $>),
		virtual_gid_maps        => 'static:' . ($> == 0 ? (getpwnam 'nobody')[3] : (split ' ', $))[0]),
		smtpd_peername_lookup   => 'yes',
		journal_file_size       => '64k',
		smtp_data_done_timeout  => '10d', # the clock jumps: nothing may time out behind its final dot
		%{ $opt{main} || {} },
	});
	my $self = bless { %opt, sink => $sink, mta => $mta, rounds => 0, acked => 0, tempfail => 0,
		inject => Inject->new(dir => $mta->{dir}), oracle => Oracle->new }, $class;
	$opt{disk}->mount("$mta->{dir}/spool", $mta->{owner}) if $opt{disk};
	my $dns = free_port();
	spew("$mta->{dir}/zone", "hop.test A 127.0.0.1\n");
	$self->{dns} = spawn("$mta->{dir}/dns.out", $^X, Posthaste::top() . '/t/e2e/lib/dns.pl', $dns,
		"$mta->{dir}/zone");
	wait_until(sub { -e "$mta->{dir}/zone.log" }, 10) or croak 'no name server';
	$mta->configure(
		resolver_nameservers => "127.0.0.1:$dns",
		relayhost            => "hop.test:$sink->{port}",
		virtual_mailbox_base => "$mta->{dir}/mail",
	);
	return $self;
}

sub mta { return $_[0]{mta} }
sub inject { return $_[0]{inject} }
sub spool { return "$_[0]{mta}{dir}/spool" }

sub start {
	my ($self, @rules) = @_;
	$self->{inject}->launch($self->{mta}, $self->{calls} || 'all', @rules);
	return $self->note_classes;
}

# How many classes of workers there are: when as many are up, all is as it was.
sub note_classes {
	my ($self) = @_;
	my %class = map { $_->{class} => 1 } $self->{mta}->workers;
	$self->{classes} ||= keys %class;
	return;
}
sub try_start { my ($self, @rules) = @_; return $self->{inject}->try($self->{mta}, $self->{calls} || 'all', @rules) }

# Start without faults, and without the injector.
sub start_plain {
	my ($self) = @_;
	$self->{mta}->launch;
	return $self->note_classes;
}

# One round of mail: messages, bytes, sessions, seconds (at most). The report of t/bench/load.
# With kick the clients do not wait for the back-off of a supervisor that died.
sub mail {
	my ($self, %opt) = @_;
	$self->mail_begin(messages => 3, seconds => 10, %opt);
	while ($opt{kick} && !wait_until(sub { Posthaste::has_ended($self->{load}{pid}) }, 0.15)) {
		$self->kick;
	}
	Posthaste::wait_child($self->{load}{pid});
	return $self->mail_end;
}

# Pass the back-off after the supervisor's death: priv sleeps by the real clock, and has to be woken.
sub kick {
	my ($self) = @_;
	$self->elapse(60);
	my $priv = $self->{mta}->master_pid;
	kill 'USR1', $priv if $priv;
	return;
}

# The same in the background, until mail_end().
sub mail_begin {
	my ($self, %opt) = @_;
	my $n = ++$self->{rounds};
	my $at = "$self->{mta}{dir}/load$n";
	my $total = $opt{messages} || 100_000;
	my $pid = spawn("$at.json", Posthaste::build_dir() . '/t/bench/load', '-s', $opt{sessions} || 2, '-n',
		$total, '-r', 2, '-D', 2, '-d', 'x.test', '-l', $opt{bytes} || 2000, '-T', $opt{seconds} || 60,
		'-R', '-t', "m$n", '-o', "$at.acked", "127.0.0.1:$self->{mta}{port}");
	$self->{load} = { pid => $pid, at => $at };
	$self->{oracle}->sent("m$n", $total);
	return;
}

sub mail_end {
	my ($self) = @_;
	my $load = delete $self->{load};
	Posthaste::end_child($load->{pid});
	my $r = Posthaste::parse_json(slurp("$load->{at}.json"));
	$r->{acked} //= 0; # ended before it had begun
	$r->{$_} //= 0 for qw(tempfail permfail);
	$self->{oracle}->acked("$load->{at}.acked");
	$self->{$_} += $r->{$_} for qw(acked tempfail);
	return $r;
}

# Time for what was deferred, and for the next start of a worker that died young.
sub elapse { my ($self, $seconds) = @_; return $self->{mta}->advance($seconds || 700) }

sub ready {
	my ($self, $seconds) = @_;
	return wait_until(sub { ($self->{mta}->status->{ready} || 0) == 1 }, $seconds || 20);
}

# What is in doubt by now: a later look may find the list changed.
sub note_doubts { my ($self) = @_; return eval { $self->{oracle}->in_doubt($self->{mta}) } || 0 }

# Let all that is in the queue come to its end; the number of messages that did not. What was with too
# many workers when they died is on hold, as it should be: an operator releases it.
sub drain {
	my ($self) = @_;
	my $look = sub { $self->{mta}->status->{messages} // 1 };
	my $left = sub { $look->() == 0 && $look->() == 0 };
	for (1 .. 12) {
		return 0 if wait_until($left, 3);
		$self->{mta}->command('postsuper', '-H', 'ALL');
		$self->elapse(1500);
	}
	return $self->{mta}->status->{messages} // 'no answer';
}

# What the log says of messages.
sub tell_of {
	my ($self, @ids) = @_;
	my $log = $self->{mta}->log;
	for my $id (grep { defined } @ids[0 .. 3]) {
		my ($qid) = $log =~ / (\S+): message-id=<\Q$id\E\@/ or next;
		diag join "\n", "$id is $qid", grep { /$qid/ } split /\n/, $log;
	}
	return;
}

# The end: what was acknowledged must be at the hop, in a mailbox, or reported.
sub judge {
	my ($self, $name) = @_;
	my ($mta, $o) = @$self{qw(mta oracle)};
	is $self->drain, 0, "$name: the queue drains" or diag $mta->log_tail, ($mta->command('postqueue', '-j'))[1];
	$o->queue($mta);
	$o->in_doubt($mta);
	my ($rc, $status) = $mta->command('posthaste', 'status');
	is $mta->stop, 0, "$name: and it stops as it should";
	$self->{inject}->kill if $self->{inject}{runs};
	$self->{disk}->umount if $self->{disk};
	$self->{sink}->finish;
	$o->sink($self->{sink});
	$o->maildir($mta->maildir_files('box'));
	$o->bounces(map { slurp($_) } $mta->maildir_files('sender'));
	Posthaste::end_child($self->{dns});
	$o->foretold($mta->log);
	my $v = $o->judge($name);
	$self->tell_of(@{ $v->{lost} }, @{ $v->{unlisted} });
	diag $status if @{ $v->{lost} };
	is join("\n", grep { /panic:/ } split /\n/, $mta->log), '', "$name: no panic";
	return $v;
}

1;
