# SPDX-License-Identifier: GPL-3.0-or-later
# Crash points (lib/fault.h) of a running system, steered through the page that all its processes map.
#   my $f = Faults->new;  # sets POSTHASTE_FAULTS for what is started afterwards
#   $f->arm('supervisor', 'ring-head', 3); ... if (my $pid = $f->died) { ... }
#   my $passed = $f->passed;   # { class => { point => times } } since arm() or clear()
package Faults;
use strict;
use warnings;
use Carp qw(croak);
use File::Temp qw(tempdir);
use Posthaste qw(slurp spew);

my ($whos, $room, $head) = (16, 128, 64);
# the order of enum worker_class, by the names of "posthaste status"
my @classes = qw(supervisor log resolver rewrite smtpd deliver local stats);
my %skip = (drain => 1, requeue => 2, adopt => 4, unhash => 8, turn => 16);

sub classes { return @classes }

# Names of all points, in the order of lib/fault.inc.
sub points {
	return slurp(Posthaste::top() . '/lib/fault.inc') =~ /^FAULT\(\w+, "([\w-]+)"\)/mg;
}

sub new {
	my ($class) = @_;
	my $dir = tempdir('posthaste-faults-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	chmod 0755, $dir;
	my $self = bless { file => "$dir/page" }, $class;
	spew($self->{file}, pack('L', 0x50544c46) . "\0" x ($head - 4 + 4 * $whos * $room));
	chmod 0666, $self->{file};
	$ENV{POSTHASTE_FAULTS} = $self->{file};
	my @names = points();
	$self->{id} = { map { $names[$_] => $_ } 0 .. $#names };
	return $self;
}

sub put {
	my ($self, $offset, $bytes) = @_;
	open my $fh, '+<', $self->{file} or croak "$self->{file}: $!";
	sysseek $fh, $offset, 0;
	syswrite $fh, $bytes;
	close $fh;
	return;
}

# Disarm, and count anew.
sub clear {
	my ($self) = @_;
	$self->put(4, pack 'L4', 0, 0, 0, 0);
	$self->put($head, "\0" x (4 * $whos * $room));
	return;
}

sub arm {
	my ($self, $class, $point, $at) = @_;
	my ($who) = grep { $classes[$_] eq $class } 0 .. $#classes;
	croak "$class, $point: no such thing" unless defined $who && defined $self->{id}{$point};
	$self->clear;
	$self->put(8, pack 'L2', $who, $at);
	$self->put(4, pack 'L', $self->{id}{$point} + 1);
	return;
}

sub died { return unpack 'x16 L', slurp($_[0]{file}) }

# Steps of recovery to be left out.
sub skip {
	my ($self, @what) = @_;
	my $bits = 0;
	$bits |= $skip{$_} // croak $_ for @what;
	return $self->put(20, pack 'L', $bits);
}

sub passed {
	my ($self) = @_;
	my @n = unpack "x$head L*", slurp($self->{file});
	my %out;
	for my $who (0 .. $#classes) {
		for my $point (keys %{ $self->{id} }) {
			my $n = $n[$who * $room + $self->{id}{$point}];
			$out{ $classes[$who] }{$point} = $n if $n;
		}
	}
	return \%out;
}

1;
