# SPDX-License-Identifier: GPL-3.0-or-later
# An instance on two file systems of its own, one for the queue and the data directory, one for the
# mailboxes, whose power is cut again and again: at a chosen storage call by the injector, or at a
# moment of the caller's choice. Everything that was queued stays in the game: the next life goes on
# with the disk the last one left. Used by t/crash/01-power-cut.t.
#
#   my $p = PowerCut->new(fs => 'ext4') or skip PowerCut->why_not;
#   my $seen = $p->rehearse;                 # { class => { call => times } } of one undisturbed life
#   $p->life("class=rewrite call=fdatasync nth=3 action=cut");
#   my $v = $p->end;                         # drains, asks the oracle; a verdict without assertions
package PowerCut;
use strict;
use warnings;
use Disk;
use Inject;
use Oracle;
use Posthaste qw(slurp spawn wait_until);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC sleep);

sub new {
	my ($class, %opt) = @_;
	my $queue = Disk->new(fs => $opt{fs}) or return;
	my $boxes = Disk->new(fs => $opt{fs}) or return;
	my $sink  = Posthaste->sink(args => [ '-m', '-T', 10, '-P', 5 ]);
	my $nobody = join ' ', (getpwnam 'nobody')[2, 3];
	my ($uid, $gid) = split ' ', $nobody;
	my $mta = Posthaste->prepare(main => {
		relayhost               => "[127.0.0.1]:$sink->{port}",
		virtual_mailbox_domains => 'd1.x.test, load.test',
		virtual_mailbox_maps    => 'inline:{ @d1.x.test=box/ @load.test=sender/ }',
		virtual_uid_maps        => "static:$uid",
		virtual_gid_maps        => "static:$gid",
		spool_segment_size      => '1M',
		journal_file_size       => '64k',
		smtpd_workers => 1, rewrite_workers => 1, deliver_workers => 1, local_workers => 1,
		queue_table_size        => 65536,
		%{ $opt{main} || {} },
	});
	my $self = bless { %opt, queue => $queue, boxes => $boxes, sink => $sink, mta => $mta, lives => 0,
		cuts => [], oracle => Oracle->new, inject => Inject->new(dir => $mta->{dir}) }, $class;
	$self->{at} = "$mta->{dir}/queue";
	$queue->mount($self->{at}, $mta->{owner});
	$boxes->mount("$mta->{dir}/boxes", $mta->{owner});
	mkdir "$self->{at}/data";
	chown $uid, $gid, "$self->{at}/data";
	$mta->configure(queue_directory => "$self->{at}/spool", data_directory => "$self->{at}/data",
		virtual_mailbox_base => "$mta->{dir}/boxes", %{ $opt{main} || {} });
	return $self;
}

sub why_not { return Disk->why_not }

# A little of everything: relayed, deferred once, refused for good, delivered to a mailbox.
sub load {
	my ($self) = @_;
	my $n = ++$self->{lives};
	my $file = "$self->{mta}{dir}/acked$n";
	$self->{oracle}->sent("c$n");
	return { file => $file, pid => spawn("$file.json", Posthaste::build_dir() . '/t/bench/load', '-s', 6,
		'-n', $self->{messages} || 90, '-r', 2, '-D', 2, '-d', 'x.test', '-l', 9000, '-T', 2, '-R', '-p', '-t',
		"c$n", '-o', $file, "127.0.0.1:$self->{mta}{port}") };
}

sub load_end {
	my ($self, $load) = @_;
	Posthaste::end_child($load->{pid});
	$self->{oracle}->acked($load->{file});
	return;
}

# One life under the injector, with the rule armed from its first call on. Returns true when the rule
# cut the power; else all went on to the end of the mail.
sub run {
	my ($self, $rule, %opt) = @_;
	my ($mta, $i) = @$self{qw(mta inject)};
	$mta->advance(700); # what was deferred is due
	unlink $i->log_file;
	my $where = $opt{boxes} ? "$mta->{dir}/boxes" : $self->{at};
	my ($rc) = $i->try($mta, 'storage', "$rule path=$where mount=$where");
	my $cut = sub { slurp($i->log_file) =~ /^\S+ cut/m };
	if ($rc) {
		push @{ $self->{cuts} }, clock_gettime(CLOCK_MONOTONIC) if $cut->();
		return $cut->();
	}
	eval { $self->{oracle}->in_doubt($mta) }; # what it says before it dies
	my $load = $self->load;
	for my $phase (1 .. 3) {
		last if wait_until(sub { $cut->() || ($phase == 1 && Posthaste::has_ended($load->{pid})) }, $phase == 1 ? 2 : 0.2);
		$mta->advance(70); # segments are retired and copied forward
	}
	if (!$cut->()) {
		$mta->advance(70);
		wait_until($cut, 0.3);
	}
	my $was = $cut->();
	push @{ $self->{cuts} }, clock_gettime(CLOCK_MONOTONIC) if $was;
	$self->{load} = $load;
	return $was;
}

# The end of a life, whether the power is cut already or now; then the disks as they are found.
sub life {
	my ($self, $rule, %opt) = @_;
	my $mta = $self->{mta};
	my $hit = $self->run($rule, %opt);
	push @{ $self->{cuts} }, clock_gettime(CLOCK_MONOTONIC) if !$hit;
	# the rule may strike at this very moment: a disk that is dead already cannot be opened
	eval { $self->{queue}->cut } if !$hit || ($opt{boxes} && $opt{both});
	eval { $self->{boxes}->cut } if $opt{both} && !$opt{boxes};
	$self->{inject}->kill($mta);
	$self->load_end(delete $self->{load}) if $self->{load};
	for my $disk (@$self{qw(queue boxes)}) {
		$disk->umount;
		$disk->remount or die "cannot mount $disk->{fs} again";
	}
	return $hit;
}

# What storage calls a life makes, when nothing happens to it.
sub rehearse {
	my ($self, %opt) = @_;
	my $mta = $self->{mta};
	my $seen;
	for (1 .. 5) { # a very busy machine may not start it in time
		$self->run('action=count id=1', %opt);
		last if $seen = eval { $self->{inject}->count(1) };
		$self->{inject}->kill($mta);
	}
	$seen or die "no life to count: $@";
	$self->load_end(delete $self->{load}) if $self->{load};
	$self->{queue}->cut;
	push @{ $self->{cuts} }, clock_gettime(CLOCK_MONOTONIC);
	$self->{inject}->kill($mta);
	for my $disk (@$self{qw(queue boxes)}) {
		$disk->umount;
		$disk->remount or die "cannot mount $disk->{fs} again";
	}
	return $seen;
}

# Second copies at the sink by the cut that came between: { cut number => copies }, and how long
# before its cut the oldest of the first copies had been taken.
sub repeats {
	my ($self) = @_;
	my (%first, %by_cut, $oldest);
	for my $line (split /\n/, slurp("$self->{sink}{dir}/ids")) {
		my ($id, $rcpt, $us) = split ' ', $line;
		next if $id eq '-' || !defined $us;
		my $s = $us / 1e6;
		if (defined(my $t = $first{"$id $rcpt"})) {
			my @between = grep { $self->{cuts}[$_] + 0.1 > $t } 0 .. $#{ $self->{cuts} };
			my $cut = @between ? $between[0] : -1;
			$by_cut{$cut}++;
			my $age = $cut >= 0 ? $self->{cuts}[$cut] - $t : 0;
			$oldest = $age if !defined $oldest || $age > $oldest;
		}
		$first{"$id $rcpt"} = $s;
	}
	return (\%by_cut, $oldest);
}

# Drain, stop, judge. { verdict fields, left, repeats, oldest }.
sub end {
	my ($self) = @_;
	my ($mta, $o) = @$self{qw(mta oracle)};
	$mta->launch;
	for (1 .. 12) {
		last if wait_until(sub { ($mta->status->{messages} // 1) == 0 }, 2);
		$mta->advance(1500);
	}
	my $left = $mta->status->{messages} // 'no answer';
	$o->queue($mta);
	my $listed = $o->in_doubt($mta);
	$mta->stop;
	$self->{sink}->finish;
	$o->sink($self->{sink});
	$o->maildir(glob "$mta->{dir}/boxes/box/new/*");
	$o->bounces(map { slurp($_) } glob "$mta->{dir}/boxes/sender/new/*");
	my ($by_cut, $oldest) = $self->repeats;
	my $panic = () = $mta->log =~ /panic:/g;
	return { %{ $o->verdict }, left => $left, in_doubt => $listed, by_cut => $by_cut,
		oldest => $oldest, panic => $panic, cuts => scalar @{ $self->{cuts} } };
}

1;
