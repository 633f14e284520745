# SPDX-License-Identifier: GPL-3.0-or-later
# A file system of one's own for fault tests: an image on a loop device, and the switch that takes
# its power away (the shutdown ioctl of ext4 and xfs, without flushing the log). Root only. The story
# goes into a mount namespace of its own: a namespace that somebody else made meanwhile would hold a copy
# of the mount, and a mount of the same device would find the dead file system again.
#
# fs => 'strict' is t/crash/strictfs, which keeps what was synced and nothing else; with some => SEED also
# a random part of the rest after every second cut.
#
#   my $d = Disk->new(fs => 'ext4', mb => 256) or plan skip_all => Disk->why_not;
#   $d->mount("$dir/spool", 'nobody');
#   $d->cut;  ... kill everything ...  $d->umount;  $d->remount;
package Disk;
use strict;
use warnings;
use Carp qw(croak);
use Fcntl;
use File::Temp qw(tempdir);
use POSIX ();
use Posthaste qw(run_ok spawn wait_until);

use constant SHUTDOWN_IOCTL    => 0x8004587d;
use constant SETTLE_IOCTL      => 0x587e;
use constant NO_LOG_FLUSH      => 2;
use constant O_DIRECTORY_LINUX => 0200000;

use constant CLONE_NEWNS       => 0x20000;

my %unshare = (x86_64 => 272, aarch64 => 97); # number of the system call
my (@disks, $why_not, $unshared);
my $owner = $$;

# For a forked child, like Posthaste::on_my_own().
sub on_my_own { ($owner, $unshared, @disks) = ($$); return }

sub go_apart {
	my $number = $unshare{ (POSIX::uname())[4] };
	return if $unshared++ || !$number || syscall($number, CLONE_NEWNS) != 0;
	run_ok('mount', '--make-rprivate', '/');
	return;
}

sub why_not { return $why_not }

sub new {
	my ($class, %opt) = @_;
	my $fs = $opt{fs} || 'ext4';
	if ($> != 0) {
		$why_not = 'power cuts need root (loop devices)';
		return;
	}
	go_apart();
	if ($fs eq 'strict' && !-w '/dev/fuse') {
		$why_not = 'no /dev/fuse';
		return;
	}
	my $self = bless { %opt, fs => $fs, dir => tempdir('posthaste-disk-XXXXXX', TMPDIR => 1, CLEANUP => 1) },
		$class;
	if ($fs eq 'strict') {
		push @disks, $self;
		return $self;
	}
	my $image = "$self->{dir}/image";
	open my $fh, '>', $image or croak "$image: $!";
	# Sparse. A mail system reserves 64 MiB for each of three journals and a segment: none is to be refused.
	truncate $fh, ($opt{mb} || 512) << 20 or croak "$image: $!";
	close $fh;
	# One loop device for all mounts: a fresh one would not see what the last has not written back.
	my ($rc, $loop) = run_ok('losetup', '--find', '--show', $image);
	if ($rc || $loop !~ m{^(/dev/\S+)}) {
		$why_not = "no loop device: $loop";
		return;
	}
	$self->{loop} = $1;
	push @disks, $self;
	my @mkfs = ("mkfs.$fs", '-q', @{ $opt{mkfs} || [] }, $self->{loop});
	($rc, my $out) = run_ok(@mkfs);
	if ($rc) {
		$why_not = "@mkfs: $out";
		return;
	}
	return $self;
}

# Mount at a folder, which is made; the root of the file system goes to the owner.
sub mount {
	my ($self, $at, $owner) = @_;
	mkdir $at;
	$self->{at} = $at;
	$self->{pid} = spawn(undef, Posthaste::build_dir() . '/t/crash/strictfs',
		defined $self->{some} ? ('-r', '-s', $self->{some}) : (), $at) if $self->{fs} eq 'strict';
	$self->remount or croak "cannot mount $self->{fs} on $at";
	if (defined $owner) {
		my ($uid, $gid) = (getpwnam $owner)[2, 3];
		chown $uid, $gid, $at;
	}
	return 1;
}

# A file system is mounted there, and not a dead one.
sub alive {
	my ($at) = @_;
	return run_ok('mountpoint', '-q', $at) && mkdir("$at/alive") && rmdir("$at/alive");
}

# A process of the last life may hold the dead file system for a moment yet: then mount() finds that.
sub remount {
	my ($self) = @_;
	return wait_until(sub {
		# this one mounts itself
		return $self->{mounted} = alive($self->{at}) if $self->{fs} eq 'strict';
		$self->{mounted} = run_ok('mount', '-t', $self->{fs}, $self->{loop}, $self->{at}) or return 0;
		return 1 if alive($self->{at});
		$self->umount;
		return 0;
	}, 5);
}

sub umount {
	my ($self) = @_;
	return 1 unless $self->{mounted};
	wait_until(sub { run_ok('umount', $self->{at}) }, 20) or croak "cannot unmount $self->{at}";
	$self->{mounted} = 0;
	return 1;
}

sub tell {
	my ($self, $number, $arg) = @_;
	sysopen my $dir, $self->{at}, O_RDONLY | O_DIRECTORY_LINUX or croak "$self->{at}: $!";
	ioctl $dir, $number, $arg or croak "ioctl of $self->{at}: $!";
	close $dir;
	return;
}

# From here on every call on it fails, and what its log held unwritten is gone.
sub cut { my ($self) = @_; return $self->tell(SHUTDOWN_IOCTL, pack 'L', NO_LOG_FLUSH) }

# All that is on it now is durable: what an installation has had on its disk for long.
sub settle {
	my ($self) = @_;
	return $self->tell(SETTLE_IOCTL, 0) if $self->{fs} eq 'strict';
	return run_ok('sync', '-f', $self->{at});
}

END {
	my $status = $?;
	@disks = () if $$ != $owner;
	for my $d (@disks) {
		run_ok('umount', '-l', $d->{at}) if $d->{mounted};
		run_ok('losetup', '-d', $d->{loop}) if $d->{loop};
		Posthaste::end_child($d->{pid}) if $d->{pid};
	}
	$? = $status;
}

1;
