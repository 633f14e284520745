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
#
# form => 'mbox': the mailbox is one file, to which virtual(8) appends; 'file': that of an alias, by local(8).
package PowerCut;
use strict;
use warnings;
use Disk;
use Inject;
use Oracle;
use Posthaste qw(slurp spawn wait_until);
use Time::HiRes qw(clock_gettime sleep stat CLOCK_MONOTONIC CLOCK_REALTIME);

sub new {
	my ($class, %opt) = @_;
	my @size = $opt{mb} ? (mb => $opt{mb}) : ();
	my $queue = Disk->new(fs => $opt{fs}, some => $opt{some}, @size) or return;
	my $boxes = Disk->new(fs => $opt{fs}, some => $opt{some}, @size) or return;
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
	my $form = $opt{form} || '';
	my $self = bless { %opt, queue => $queue, boxes => $boxes, sink => $sink, mta => $mta, lives => 0,
		mono_to_real => clock_gettime(CLOCK_REALTIME) - clock_gettime(CLOCK_MONOTONIC),
		cuts => [], oracle => Oracle->new, inject => Inject->new(dir => $mta->{dir}) }, $class;
	$self->{at} = "$mta->{dir}/queue";
	$queue->mount($self->{at}, $mta->{owner});
	$boxes->mount("$mta->{dir}/boxes", $mta->{owner});
	mkdir "$self->{at}/data";
	chown $uid, $gid, "$self->{at}/data";
	$_->settle for $queue, $boxes;
	$mta->configure(queue_directory => "$self->{at}/spool", data_directory => "$self->{at}/data",
		virtual_mailbox_base => "$mta->{dir}/boxes", %{ $opt{main} || {} },
		$form ne '' ? (virtual_mailbox_maps => 'inline:{ @d1.x.test=box @load.test=sender/ }') : (),
		$form eq 'file' ? (virtual_mailbox_domains => 'load.test', mydestination => 'd1.x.test', local_recipient_maps => '',
			alias_maps => "static:$mta->{dir}/boxes/box", default_privs => 'nobody') : ());
	return $self;
}

sub why_not { return Disk->why_not }

# A little of everything: relayed, deferred once, refused for good, delivered to a mailbox.
sub load {
	my ($self) = @_;
	my $n = ++$self->{loads};
	my $file = "$self->{mta}{dir}/acked$n";
	$self->{oracle}->sent("c$n");
	my $load = { file => $file, pid => spawn("$file.json", Posthaste::build_dir() . '/t/bench/load', '-s', 6,
		'-n', $self->{messages} || 90, '-r', 2, '-D', 2, '-d', 'x.test', '-l', $self->{bytes} || 9000, '-T', 2, '-R', '-p', '-t',
		"c$n", '-o', $file, "127.0.0.1:$self->{mta}{port}") };
	push @{ $self->{running} }, $load;
	return $load;
}

# Mail under a rule that may strike, and what comes after it: segments are retired and copied forward.
# True when it struck.
sub mail_until {
	my ($self, $struck) = @_;
	my $load = $self->load;
	wait_until(sub { $struck->() || Posthaste::has_ended($load->{pid}) }, 2);
	for (1 .. 3) {
		return 1 if $struck->();
		$self->{mta}->advance(70);
		return 1 if wait_until($struck, 0.15);
	}
	return 0;
}

# No life of a worker may have the number of an earlier one.
sub see_lives {
	my ($self) = @_;
	my @lives = sort { $a <=> $b } map { $_->{life} } $self->{mta}->workers or return;
	$self->{numbers_again}++ if $lives[0] <= ($self->{last_life} || 0);
	$self->{last_life} = $lives[-1];
	return;
}

# One life under the injector, with the rule armed from its first call on. How many calls a life makes
# depends on what happens to come together; so when it does not come to the one that was chosen, the
# next of that kind is taken, and then the next of any kind. Returns which of the three cut the power:
# 1, 2 or 3; 0 when none did.
sub run {
	my ($self, $rule, %opt) = @_;
	my ($mta, $i) = @$self{qw(mta inject)};
	$mta->advance(700); # what was deferred is due
	unlink $i->log_file;
	my $where  = ' path=' . ($opt{boxes} ? "$mta->{dir}/boxes" : $self->{at}) .
		' mount=' . ($opt{alone} ? '' : "$self->{at},") . "$mta->{dir}/boxes";
	my @rules  = map { $_ . $where } $rule =~ s/\bnth=\d+/nth=1/r, $rule =~ s/\b(?:class|call|nth)=\S+//gr;
	my $struck = sub { slurp($i->log_file) =~ /^\S+ cut/m };
	my ($rc) = $i->try($mta, 'storage', $rule . $where, $opt{also} || ());
	my $hit = $rc ? $struck->() : 0;
	if (!$rc) {
		$self->see_lives;
		$hit = $self->mail_until($struck);
		for my $n (2, 3) {
			last if $hit || $rule =~ /action=count/;
			# it may strike at this very moment, and end the injector
			eval { $i->arm(shift @rules); 1 } or last;
			$hit = $n if $self->mail_until($struck);
		}
		$hit ||= $struck->();
	}
	return $hit || 0;
}

# The end of a life, whether the power is cut already or now; then the disks as they are found. With
# alone, it was only that of the mailboxes, and all processes die.
sub end_life {
	my ($self, $hit, %opt) = @_;
	push @{ $self->{cuts} }, clock_gettime(CLOCK_REALTIME);
	# the rule may strike at this very moment: a disk that is dead already cannot be opened
	for my $disk ($hit ? () : $opt{alone} ? 'boxes' : qw(queue boxes)) {
		eval { $self->{$disk}->cut };
	}
	$self->{inject}->kill($self->{mta});
	for my $load (splice @{ $self->{running} || [] }) {
		Posthaste::end_child($load->{pid});
		$self->{oracle}->acked($load->{file});
	}
	for my $disk (@$self{qw(queue boxes)}) {
		$disk->umount;
		$disk->remount or die "cannot mount $disk->{fs} again";
	}
	return $hit;
}

sub life {
	my ($self, $rule, %opt) = @_;
	return $self->end_life($self->run($rule, %opt), %opt);
}

# An operator deletes what is deferred, and the power is cut at the next sync of the supervisor. What was
# answered must be gone afterwards: returns the queue ids that are there again.
sub operator {
	my ($self) = @_;
	my ($mta, $i) = @$self{qw(mta inject)};
	my $ids = sub {
		my ($rc, $out) = $mta->command('postqueue', '-j');
		return $rc ? () : $out =~ /"queue_id":\s*"(\w+)"/g;
	};
	$i->launch($mta, 'storage');
	my $load = $self->load;
	wait_until(sub { Posthaste::has_ended($load->{pid}) }, 5);
	my @left = $ids->();
	my @deleted;
	unlink $i->log_file;
	$i->arm("class=supervisor call=fdatasync action=cut path=$self->{at} mount=$self->{at},$mta->{dir}/boxes");
	for my $id (@left[ 0 .. ($#left < 9 ? $#left : 9) ]) {
		my ($rc, $out) = $mta->command('postsuper', '-d', $id);
		push @deleted, $id if $rc == 0 && $out =~ /Deleted: 1 message/;
		last if slurp($i->log_file) =~ /^\S+ cut/m;
	}
	my $hit = slurp($i->log_file) =~ /^\S+ cut/m;
	$self->end_life($hit);
	$mta->launch;
	my %there = map { $_ => 1 } $ids->();
	$mta->stop;
	return grep { $there{$_} } @deleted;
}

# A quiet life: all is delivered, what is dead is retired. Lives that are cut short have no time for that,
# and would fill the disk in the end.
sub rest {
	my ($self) = @_;
	my $mta = $self->{mta};
	$mta->launch;
	$self->drain;
	for (1 .. 60) {
		my @segments = glob "$self->{at}/spool/seg/*.seg";
		last if @segments <= 4;
		$mta->advance(400);
		sleep 0.2;
	}
	return $mta->stop;
}

# Everything is delivered; the next life retires its segments and then the journals that tell of it, makes
# no new ones, and the power is cut between two of those.
sub upkeep {
	my ($self) = @_;
	my ($mta, $i) = @$self{qw(mta inject)};
	my $struck = sub { slurp($i->log_file) =~ /^\S+ cut/m };
	my $nth = 2 + $self->{upkeeps}++ % 4;
	my $journals = sub { my @j = glob "$self->{at}/spool/journal/*"; return scalar @j };
	$mta->launch;
	for (1 .. 40) { # those of lives before the last are gone then
		last if $journals->() <= 5;
		$mta->advance(400);
		sleep 0.2;
	}
	my $load = $self->load;
	wait_until(sub { Posthaste::has_ended($load->{pid}) }, 5);
	$self->drain;
	$mta->stop;
	unlink $i->log_file;
	$i->launch($mta, 'storage');
	$i->arm("class=supervisor call=unlinkat nth=$nth action=cut path=$self->{at}/spool/journal mount=$self->{at},$mta->{dir}/boxes");
	for (1 .. 40) {
		last if $struck->();
		$mta->advance(400);
		last if wait_until($struck, 0.2);
	}
	return $self->end_life($struck->());
}

# What storage calls a life makes, when nothing happens to it.
sub rehearse {
	my ($self, %opt) = @_;
	my $seen;
	for (1 .. 5) { # a very busy machine may not start it in time
		$self->run('action=count id=1', %opt);
		last if $seen = eval { $self->{inject}->count(1) };
		$self->{inject}->kill($self->{mta});
	}
	$seen or die "no life to count: $@";
	$self->end_life(0);
	return $seen;
}

# The messages of the mailbox, a file each. Those of an mbox that the power has torn are counted: what was being
# written then was not acknowledged, and must be there again, whole.
sub box_files {
	my ($self) = @_;
	my $dir = $self->{mta}{dir};
	return glob "$dir/boxes/box/new/*" unless $self->{form};
	return @{ $self->{split} } if $self->{split};
	mkdir "$dir/split";
	my (@whole, $in_torn);
	$self->{torn} = 0;
	# where the file has grown and the data is not on the disk, there are zeroes
	for my $text (split /^(?=From \S+ +\w{3} \w{3} [ \d]\d |\0)/m, slurp("$dir/boxes/box")) {
		next if $in_torn && $text =~ /\A\0/;
		$in_torn = 0;
		$text =~ s/\A[^\n]*\n//;
		$text =~ s/\n\z//;
		$text =~ s/^>(>*From )/$1/mg;
		my ($head, $body) = split /\n\n/, $text, 2;
		my ($crc) = ($head // '') =~ /^X-Load-Crc: (\S+)/m;
		if (!defined $crc || hex $crc != Oracle::crc32c(($body // '') =~ s/\n/\r\n/gr)) {
			$self->{torn}++;
			$in_torn = 1;
			next;
		}
		push @whole, "$dir/split/" . @whole;
		Posthaste::spew($whole[-1], $text);
	}
	return @{ $self->{split} = \@whole };
}

# Every copy that was taken: "ID RECIPIENT" and when, at the sink and in the mailboxes.
sub copies {
	my ($self) = @_;
	my @at_hop = grep { $_->[0] !~ /^-/ } map { /^(\S+ \S+) (\d+)$/ ? [ $1, $2 / 1e6 + $self->{mono_to_real} ] : () }
		split /\n/, slurp("$self->{sink}{dir}/ids");
	my @in_boxes;
	for my $file ($self->box_files) {
		my $head = (split /\n\n/, slurp($file), 2)[0] // ''; # an empty file has none
		my ($id, $rcpt) = ($head =~ /^X-Load-Id: (\S+)/m, $head =~ /^X-Original-To: (\S+)/m);
		push @in_boxes, [ "$id $rcpt", (stat $file)[9] ] if defined $rcpt;
	}
	return (\@at_hop, \@in_boxes);
}

# Second copies: the cut that came between the first and it, seconds from the first copy to the cut, and
# whether the list of deliveries in doubt has it.
sub repeats {
	my ($self) = @_;
	my (@repeats, $listed);
	$listed = $self->{oracle}{listed} || {};
	for my $place ($self->copies) {
		my %first;
		for my $copy (sort { $a->[1] <=> $b->[1] } @$place) {
			my ($what, $s) = @$copy;
			my ($id, $rcpt) = split ' ', $what;
			if (defined(my $t = $first{$what})) {
				my ($cut) = grep { $self->{cuts}[$_] + 0.1 > $t } 0 .. $#{ $self->{cuts} };
				push @repeats, { what => $what, cut => $cut // -1, listed => $listed->{$id}{$rcpt} || $listed->{$id}{any} || 0,
					age => defined $cut ? $self->{cuts}[$cut] - $t : 0 };
			}
			$first{$what} = $s;
		}
	}
	return \@repeats;
}

# As long as there are fewer from time to time; what is left. What was with too many workers when
# they died is on hold: an operator releases it.
sub drain {
	my ($self) = @_;
	my $mta = $self->{mta};
	my ($least, $idle, $left) = (1e9, 0);
	# time does not jump while a next hop is about to answer: that would be a timeout, and a second copy
	my $rests = sub { my ($rc, $out) = $mta->command('postqueue', '-j'); return $out !~ /"queue_name":\s*"active"/ };
	while ($idle < 8) {
		return 0 if wait_until(sub { $left = $mta->status->{messages}; defined $left && $left == 0 }, 2);
		wait_until($rests, 20);
		$idle = ($left // 1e9) < $least ? 0 : $idle + 1;
		$least = $left if defined $left && $left < $least;
		$mta->command('postsuper', '-H', 'ALL');
		$mta->advance(1500);
	}
	my ($rc, $out) = $mta->command('postqueue', '-j');
	my %in;
	$in{$1}++ while $out =~ /"queue_name":\s*"(\w+)"/g;
	return join ', ', $left // 'no answer', map { "$in{$_} $_" } sort keys %in;
}

# Drain, stop, judge: { fields of the oracle's verdict, left, in_doubt, repeats, panic,
# torn (lines of the log that tell of damage), full (those that tell of a full disk), numbers_again, cuts }.
sub end {
	my ($self) = @_;
	my ($mta, $o) = @$self{qw(mta oracle)};
	$mta->launch;
	my $left = $self->drain;
	$o->queue($mta);
	my $listed = $o->in_doubt($mta);
	$mta->stop;
	$self->{sink}->finish;
	$o->sink($self->{sink});
	$o->maildir($self->box_files);
	$o->bounces(map { slurp($_) } glob "$mta->{dir}/boxes/sender/new/*");
	my $panic = () = $mta->log =~ /panic:/g;
	# what was being made may be torn, but not what is put in place by a name
	my @damage = grep { /spool state was/ } split /\n/, $mta->log;
	my $full = () = $mta->log =~ /No space left on device|[Ii]nsufficient system storage/g;
	return { %{ $o->verdict }, full => $full, left => $left, in_doubt => $listed, repeats => $self->repeats,
		panic => $panic, torn => \@damage, numbers_again => $self->{numbers_again} || 0, torn_mail => $self->{torn} || 0, cuts => scalar @{ $self->{cuts} } };
}

1;
