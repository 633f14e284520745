#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Mail of local users: exit status 0 of sendmail is a promise. sendmail and postdrop are killed at their
# Nth system call while the mail system is stopped; the power is cut when sendmail has returned; the
# pickup worker is killed at its Nth call while it takes mail over. What was acknowledged must arrive; a
# second copy must be one of which the log names both ids; what was not acknowledged comes once at most.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Disk;
use Inject;
use Posthaste qw(run_ok slurp spew wait_until);
use Prove;
use Test::More;
use Time::HiRes qw(sleep time);

my $c = Prove->new(name => '13-submission', title => 'Local submission: kill -9 and power cuts');
if (my $why = Inject->unusable) {
	plan skip_all => $why;
}
my $sbin = Posthaste::prefix() . '/sbin';
my $eatmydata = (glob '/usr/lib/*/libeatmydata.so')[0];
my $serial = 0;
my (%acked, %tried); # by name

sub new_system {
	my $rec = Posthaste->recorder;
	return (Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$rec->{port}" }), $rec);
}

# One message by sendmail; @wrap in front of the command. True when it was acknowledged.
sub submit {
	my ($mta, @wrap) = @_;
	my $name = sprintf 'm%05d', ++$serial;
	spew("$mta->{dir}/in", "Subject: $name\n\n" . "text of $name\n" x 200);
	open my $keep, '<&', \*STDIN or die;
	open STDIN, '<', "$mta->{dir}/in" or die;
	my ($rc) = run_ok(@wrap, "$sbin/sendmail", '-C', "$mta->{dir}/conf", '-i', 'a@x.test');
	open STDIN, '<&', $keep or die;
	$tried{$name} = 1;
	$acked{$name} = 1 if $rc == 0;
	return $rc == 0;
}

# What arrived: { name => [ids of the copies] }; only whole messages count.
sub arrived {
	my ($rec) = @_;
	my %got;
	for my $m (split /^\.\r?\n/m, $rec->got) {
		my ($name) = $m =~ /^Subject: (m\d+)\r?$/m or next;
		my ($id) = $m =~ /^Message-Id: <(\w+)@/m or next;
		my $lines = () = $m =~ /^text of $name\r?$/mg;
		push @{ $got{$name} }, $lines == 200 ? $id : 'damaged';
	}
	return \%got;
}

sub waiting { my ($mta) = @_; return grep { !m{/tmp\.} } map { glob "$mta->{dir}/spool/$_/*" } qw(maildrop pickup) }

sub drain {
	my ($mta) = @_;
	for (1 .. 10) {
		return 1 if wait_until(sub { !waiting($mta) && ($mta->status->{messages} // 1) == 0 }, 6);
		$mta->advance(120);
	}
	return 0;
}

# Of two copies the log must say so: NEW: uid=0 from=<...> orig_id=OLD.
sub judge {
	my ($mta, $rec, $what) = @_;
	my $got = arrived($rec);
	my %earlier = $mta->log =~ /pickup\[\d+\]: (\w+): uid=\d+ from=<\S*> orig_id=(\w+)$/mg;
	my @lost = grep { !$got->{$_} } sort keys %acked;
	my (@unnoted, @damaged, $twice);
	for my $name (sort keys %$got) {
		my @ids = @{ $got->{$name} };
		push @damaged, $name if grep { $_ eq 'damaged' } @ids;
		next if @ids == 1;
		$twice++;
		my %named = map { $_ => 1 } map { my ($id, @chain) = ($_); push @chain, $id while $id = $earlier{$id}; @chain } @ids;
		push @unnoted, $name if (grep { !$named{$_} } @ids) > 1;
	}
	is join(' ', @lost), '', "$what: nothing acknowledged is lost, of " . keys %acked;
	is join(' ', @unnoted), '', "$what: second copies are named in the log, " . ($twice // 0);
	is join(' ', @damaged), '', "$what: none is damaged";
	is $mta->crashes =~ s/.*pickup pid \d+ killed by signal 9.*\n?//gr, '', "$what: nothing else crashed";
	$c->figure("acknowledged messages lost, $what", scalar @lost, 'of ' . keys %acked);
	$c->figure("second copies, $what", $twice // 0, 'of ' . keys(%tried) . ', each named in the log');
	(%acked, %tried) = ();
	return $got;
}

# ---- sendmail and postdrop, the system stopped ----

sub kill_commands {
	my ($mta, $rec) = new_system();
	$mta->launch;
	$mta->stop;
	my ($n, $missing, $step) = (1, 0, $c->full ? 1 : 23);
	my $log = "$mta->{dir}/inject.log";
	for (;;) {
		unlink $log;
		submit($mta, Inject::program(), '-c', 'all', '-o', $log, '-r', "action=kill nth=$n", '--');
		last if slurp($log) !~ /kill/;
		$c->points(1);
		$n += $step;
	}
	my $killed = keys(%tried) - keys %acked;
	cmp_ok $killed, '>', 5, "sendmail and postdrop: killed $killed times, in " . keys(%tried) . ' runs';
	$mta->launch;
	ok drain($mta), 'sendmail and postdrop: all is taken over';
	my %sent = %tried;
	my $got = judge($mta, $rec, 'sendmail or postdrop killed');
	is scalar(grep { @{ $got->{$_} } > 1 } keys %$got), 0, '... nothing comes twice';
	$missing = grep { !$got->{$_} } keys %sent;
	cmp_ok $missing, '>', 0, 'control: of what was not acknowledged, some is missing';
	$c->control('messages whose command was killed taken for acknowledged', "$missing of $killed are missing");
	$mta->stop;
	return;
}

# ---- power cuts ----

# True when the message is there after a cut, and whole.
sub survives {
	my ($disk, $mta, @wrap) = @_;
	my $acked = submit($mta, @wrap);
	diag 'sendmail took no message: ', (run_ok('df', '-k', "$mta->{dir}/spool"))[1] if !$acked;
	my $name  = sprintf 'm%05d', $serial;
	$disk->cut;
	$disk->umount;
	$disk->remount;
	my @there = waiting($mta);
	my $good = grep { my $text = slurp($_); $text =~ /Subject: $name$/m && 200 == (() = $text =~ /^text of $name$/mg) } @there;
	unlink @there;
	run_ok('sync', '-f', "$mta->{dir}/spool");
	return $acked && $good == 1;
}

sub cut_power {
	my ($fs) = @_;
	my ($mta, $rec) = new_system();
	my $disk = Disk->new(fs => $fs);
	if (!$disk) {
		SKIP: { skip Disk->why_not, 1 }
		return;
	}
	# a user who may write to the maildrop, but not open it, as a set-gid postdrop may
	my @user = qw(setpriv --reuid=nobody --regid=mail --clear-groups);
	$disk->mount("$mta->{dir}/spool", 'root');
	$mta->configure(mail_owner => 'games', setgid_group => 'mail');
	$mta->launch;
	$mta->stop;
	my $kept = 0;
	my $rounds = $c->full ? 25 : 2;
	for my $i (1 .. $rounds) {
		for my $wrap ([], \@user) {
			$kept++ if survives($disk, $mta, @$wrap);
			$c->points(1);
		}
	}
	is $kept, 2 * $rounds, "$fs: each message is there after its power cut";
	$c->figure("acknowledged messages lost, power cut after sendmail, $fs", 2 * $rounds - $kept, 'of ' . 2 * $rounds);
	SKIP: {
		skip 'no eatmydata here', 1 unless $eatmydata;
		my $lost = 0;
		for (1 .. 3) {
			local $ENV{LD_PRELOAD} = $eatmydata;
			$lost++ unless survives($disk, $mta);
		}
		cmp_ok $lost, '>', 0, "$fs: control: without syncs messages are lost";
		$c->control("sendmail under eatmydata, $fs", "loses $lost of 3");
	}
	(%acked, %tried) = ();
	$disk->umount;
	return;
}

# ---- pickup ----

sub kill_pickup {
	my ($mta, $rec) = new_system();
	my $i = Inject->new(dir => $mta->{dir});
	$i->launch($mta, 'all');
	my ($n, $hits, $step, $idle) = (1, 0, $c->full ? 1 : 17, 0);
	my $end = time + ($c->full ? 600 : 40);
	while ($idle < 3 && time < $end) {
		$i->disarm;
		$i->arm("id=7 class=pickup action=kill nth=$n");
		submit($mta) for 1 .. 3;
		wait_until(sub { $i->acted(7) || !waiting($mta) }, 10);
		if ($i->acted(7)) {
			$hits++;
			$c->points(1);
			$idle = 0;
		} else {
			$idle++; # so many calls are not made for three messages
		}
		$n += $step;
		$i->disarm;
		$mta->advance(40); # it is started again later and later
		wait_until(sub { !waiting($mta) }, 20);
	}
	cmp_ok $hits, '>', $c->full ? 50 : 3, "pickup: killed $hits times, at call 1 to $n";
	ok drain($mta), 'pickup: all is taken over';
	judge($mta, $rec, 'pickup killed');
	$mta->stop;
	return;
}

kill_commands();
if ($> == 0) {
	cut_power($_) for qw(ext4 xfs);
}
kill_pickup();
$c->done;
