#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Power cuts that reorder and tear. The queue lies on a disk that logs every block write and every
# flush (blocklog). From the log disks are made as a power cut at any point may leave them: all that
# was flushed, and of what was not a random subset, some of it torn at 512-byte sectors (blockplay).
# The product's recovery reads each of them and must find what was acknowledged before the cut; some
# of them are given to a whole system, which must deliver it. Root only.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Disk;
use File::Temp qw(tempdir);
use Posthaste qw(run_ok slurp spawn wait_until);
use Prove;
use Test::More;

plan skip_all => 'needs root (loop devices, mounts)' if $> != 0;
plan skip_all => 'no /dev/fuse' unless -w '/dev/fuse';
Disk::go_apart();
my $c = Prove->new(name => '02-block-replay', title => 'Reordered and torn block writes');
my $tools = Posthaste::build_dir() . '/t/crash';
my $bench = Posthaste::build_dir() . '/t/bench';
my (@mounted, @loops, @daemons, %sum);
my $owner = $$;
# a small disk: files are closed, retired and written over within seconds
my %small = (spool_segment_size => '1M', journal_file_size => '256k');

END {
	my $status = $?;
	if ($$ == $owner) {
		run_ok('umount', '-l', $_) for @mounted;
		run_ok('losetup', '-d', $_) for @loops;
		Posthaste::end_child($_) for @daemons;
	}
	$? = $status;
}

# A file with a fresh file system. It is large enough for a second superblock: the first may be torn, too.
sub base_image {
	my ($dir, $fs) = @_;
	my $path = "$dir/base";
	open my $fh, '>', $path or die "$path: $!";
	truncate $fh, ($fs eq 'xfs' ? 320 : 160) << 20;
	close $fh;
	my @blocks = $fs eq 'ext4' ? ('-b', 4096) : ();
	return run_ok("mkfs.$fs", '-q', @blocks, $path) ? $path : undef;
}

sub mount_at {
	my ($mta, $fs, $image, @options) = @_;
	my $at = "$mta->{dir}/spool";
	mkdir $at;
	my ($rc, $loop) = run_ok('losetup', '--find', '--show', @options, $image);
	return if $rc || $loop !~ m{^(/dev/\S+)};
	push @loops, $loop = $1;
	return unless run_ok('mount', '-t', $fs, $loop, $at);
	push @mounted, $at;
	my ($uid, $gid) = (getpwnam $mta->{owner})[2, 3];
	chown $uid, $gid, $at;
	return 1;
}

sub unmount {
	my ($mta) = @_;
	my $at = pop @mounted;
	wait_until(sub { run_ok('umount', $at) }, 20) or die "cannot unmount $at";
	run_ok('losetup', '-d', pop @loops);
	return;
}

# Mail for a while, with all that reaches the disk. Returns the files.
sub record {
	my (%opt) = @_;
	my $dir  = tempdir('posthaste-blocks-XXXXXX', DIR => '/dev/shm', CLEANUP => 1);
	my $base = base_image($dir, $opt{fs}) or return;
	my $sink = Posthaste->sink(args => [ '-m', @{ $opt{sink} || [] } ]);
	my $hop  = $opt{away} ? Posthaste::free_port() : $sink->{port};
	my $mta  = Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$hop",
		%small, %{ $opt{main} || {} } });
	mkdir "$dir/fuse";
	my $daemon = spawn(undef, "$tools/blocklog", $base, "$dir/fuse", "$dir/log");
	push @daemons, $daemon;
	wait_until(sub { -e "$dir/fuse/disk" }, 10) or die 'blocklog does not start';
	mount_at($mta, $opt{fs}, "$dir/fuse/disk", '--direct-io=on') or die 'cannot mount';
	$mta->launch;
	my $rcpts = $opt{rcpts} || 1;
	Posthaste->load('-s', $opt{sessions} || 8, '-n', $opt{messages}, '-T', 60, '-l', 1500, '-p',
		'-r', $rcpts, '-D', $rcpts, '-k', 20, '-t', 'blk', '-m', '-o', "$dir/acked",
		"127.0.0.1:$mta->{port}");
	$mta->crash;
	unmount($mta);
	@daemons = grep { $_ != $daemon } @daemons;
	Posthaste::end_child($daemon);
	run_ok('umount', '-l', "$dir/fuse");
	$sink->finish;
	return { dir => $dir, base => $base, log => "$dir/log", acked => "$dir/acked", fs => $opt{fs},
		delivered => "$sink->{dir}/ids", sink => $sink, rcpts => $rcpts };
}

# Two share the images; most of their time the kernel mounts.
sub play {
	my ($r, $images, @args) = @_;
	my (@pids, %sum);
	for my $part (0, 1) {
		push @pids, spawn("$r->{dir}/played$part", "$tools/blockplay", '-a', $r->{acked}, '-d', $r->{delivered},
			'-f', $r->{fs}, '-n', $images, '-p', "$part/2", '-s', $c->seed, '-r', $r->{rcpts}, @args,
			$r->{base}, $r->{log});
	}
	for my $part (0, 1) {
		Posthaste::wait_child($pids[$part]) == 0 or return {};
		note slurp("$r->{dir}/played$part");
		my $v = Posthaste::parse_json(slurp("$r->{dir}/played$part"));
		for (keys %$v) {
			my $same = /^(?:writes|flushes)$/ || /^oldest/ && ($sum{$_} // 0) > $v->{$_};
			$sum{$_} = $same ? $sum{$_} // $v->{$_} : /^oldest/ ? $v->{$_} : ($sum{$_} // 0) + $v->{$_};
		}
	}
	return \%sum;
}

sub judge {
	my ($name, $r, $images) = @_;
	my $v = play($r, $images);
	is $v->{images}, $images, "$name: $images images of " . ($v->{writes} // 0) . ' writes and '
		. ($v->{flushes} // 0) . ' flushes';
	cmp_ok $v->{required} // 0, '>', 50 * $images, "$name: acknowledged messages were looked for";
	is $v->{lost}, 0, "$name: none of $v->{required} is lost";
	is $v->{damaged} + $v->{foreign}, 0, "$name: none is damaged or in wrong hands";
	is $v->{unreadable}, 0, "$name: every spool can be read";
	is $v->{not_repeatable} + $v->{numbers_again}, 0,
		"$name: recovery finds the same again, and gives out no number twice";
	is $v->{again_unlisted}, 0, "$name: of $v->{again} second copies each is on the in-doubt list";
	$c->points($v->{images});
	$sum{$r->{fs}}{$_} += $v->{$_} for keys %$v;
	return $v;
}

# A whole system starts on the image; what was acknowledged and not delivered before comes out.
sub start_on {
	my ($r, $number, $images) = @_;
	my $image = "$r->{dir}/image$number";
	my ($rc, $out) = run_ok("$tools/blockplay", '-n', $images, '-s', $c->seed, '-x', $number, '-o',
		$image, $r->{base}, $r->{log});
	my $until = Posthaste::parse_json($out)->{until_us};
	my $sink = Posthaste->sink;
	my $mta  = Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$sink->{port}",
		%small });
	mount_at($mta, $r->{fs}, $image) or return fail("image $number: cannot mount");
	$mta->launch;
	for (1 .. 3) {
		$mta->advance(6000);
		last if wait_until(sub { $mta->status->{messages} == 0 }, 20);
	}
	my $left = $mta->status->{messages};
	$mta->stop;
	unmount($mta);
	my $got = $sink->finish;
	unlink $image;
	my (%have, %need);
	/^(\S+) r(\d+)/ and $have{"$1 $2"}++ for keys %{ $sink->received };
	/^(\S+) r(\d+)\S* (\d+)/ && $3 < $until and $have{"$1 $2"}++
		for split /\n/, slurp($r->{delivered});
	for (split /\n/, slurp($r->{acked})) {
		my ($id, $n, $when) = split ' ';
		$need{"$id $_"} = 1 for $when < $until ? 0 .. $n - 1 : ();
	}
	my @lost = grep { !$have{$_} } sort keys %need;
	is scalar @lost, 0, "image $number: a system that starts on it delivers all of "
		. keys(%need) . " (left: $left)";
	diag "lost: @lost[0 .. ($#lost < 5 ? $#lost : 5)]" if @lost;
	is $got->{bad_crc} + $got->{misdelivered}, 0, "image $number: nothing damaged or misdelivered";
	$sum{systems}++;
	$sum{systems_lost} += @lost;
	return;
}

my @kinds = (
	# name, options, images in the whole run
	[ 'next hop away, ext4', { fs => 'ext4', away => 1 }, 1600 ],
	[ 'mail flows, ext4', { fs => 'ext4', rcpts => 2, sink => [ '-T', 10 ] }, 2000 ],
	[ 'two commits in flight, ext4', { fs => 'ext4', rcpts => 2, sessions => 20,
			main => { spool_syncs_in_flight => 2 } }, 1400 ],
	[ 'next hop away, xfs', { fs => 'xfs', away => 1 }, 400 ],
	[ 'mail flows, xfs', { fs => 'xfs', rcpts => 2, sink => [ '-T', 10 ] }, 600 ],
);
@kinds = $kinds[1] unless $c->full;
my $first;
for my $kind (@kinds) {
	my ($name, $opt, $images) = @$kind;
	$images = $ENV{POSTHASTE_IMAGES} || ($c->full ? $images : 20);
	my $r = record(%$opt, messages => $c->full && !$opt->{away} ? 4000 : 1500) or do {
		$c->remark("$name: no such file system here");
		next;
	};
	judge($name, $r, $images);
	start_on($r, $_, $images) for $c->pick($c->full ? 3 : 1, $images / 4 .. $images - 1);
	next if $first++;
	my $v = play($r, $c->full ? 100 : 50, '-e');
	cmp_ok $v->{lost} // 0, '>', 0, "control: with the last flushes left out $v->{lost} are lost";
	$c->control('the flushes of the last twelve writes before each cut left out',
		"$v->{bad_images} of $v->{images} images lose $v->{lost} messages");
}
my $r = record(fs => 'ext4', away => 1, messages => 1500, main => { spool_sync => 'no' });
my $v = play($r, $c->full ? 100 : 10);
cmp_ok $v->{lost} // 0, '>', 0, "control: without syncs $v->{lost} are lost";
$c->control('spool_sync = no', "$v->{bad_images} of $v->{images} images lose $v->{lost} messages");

for my $fs (grep { $sum{$_} } qw(ext4 xfs)) {
	my $s = $sum{$fs};
	$c->figure("images, $fs", $s->{images}, "of $s->{writes} logged writes and $s->{flushes} flushes; "
		. "of $s->{open} writes not flushed, $s->{dropped} missing and $s->{torn} torn");
	$c->figure("acknowledged messages lost, $fs", $s->{lost}, "of $s->{required} looked for");
	$c->figure("damaged, misplaced or unreadable, $fs", $s->{damaged} + $s->{foreign} + $s->{unreadable},
		"file system checks needed before mounting: $s->{repaired}" . ($s->{not_mounted} ? "; images that $fs itself could "
		. "not mount, for a torn block of its metadata, and seen again with 4096-byte blocks whole: $s->{not_mounted}" : ''));
	$c->figure("to be delivered a second time, $fs", $s->{again},
		"of which $s->{again_unlisted} are not on the in-doubt list");
}
$c->figure('acknowledged messages lost by whole systems', $sum{systems_lost} // 0,
	'in ' . ($sum{systems} // 0) . ' starts on such images');
$c->done;
