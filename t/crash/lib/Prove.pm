# SPDX-License-Identifier: GPL-3.0-or-later
# What the campaigns in t/crash share: the choice between the fixed sample of the normal test run and
# the whole (make prove), a random generator that a seed repeats, and the figures. A campaign is a
# TAP story; with POSTHASTE_PROOF=FOLDER it also leaves FOLDER/NAME.json, of which scripts/proof
# makes doc/PROOF.md.
#
#   my $c = Prove->new(name => '01-power-cut', title => 'Power cut at every storage call');
#   my $cuts = $c->full ? 500 : 10;
#   $c->points($cuts);
#   $c->figure('acknowledged messages lost, ext4', $lost, "of $acked");
#   $c->control('under eatmydata', "lost $n of $acked");
#   $c->done;
#
# Environment: POSTHASTE_PROVE=full, POSTHASTE_SEED=number, POSTHASTE_PROOF=folder.
package Prove;
use strict;
use warnings;
use FindBin;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my $fixed_seed = 20260101;

sub new {
	my ($class, %opt) = @_;
	my $seed = defined $ENV{POSTHASTE_SEED} ? $ENV{POSTHASTE_SEED} : $fixed_seed;
	my $self = bless { name => $opt{name}, title => $opt{title}, seed => $seed + 0, began => time,
		points => 0, figures => [], controls => [], notes => [], commit => commit() }, $class;
	$self->{state} = $self->{seed} ^ 0x5eed;
	note sprintf '%s, seed %d, %s', $self->{title}, $self->{seed}, $self->full ? 'whole' : 'sample';
	return $self;
}

sub full { return ($ENV{POSTHASTE_PROVE} || '') eq 'full' }
sub seed { return $_[0]{seed} }

# A number from 0 to n - 1 (a linear congruential generator: the same on every machine).
sub rand { ## no critic (this is a method)
	my ($self, $n) = @_;
	$self->{state} = ($self->{state} * 1103515245 + 12345) & 0x7fffffff;
	return int(($self->{state} >> 8) / 0x800000 * $n);
}

# $n different elements of the list in their order; all when there are not more.
sub pick {
	my ($self, $n, @list) = @_;
	my @left = 0 .. $#list;
	splice @left, $self->rand(scalar @left), 1 while @left > $n;
	return @list[@left];
}

sub points { my ($self, $n) = @_; $self->{points} += $n; return $self->{points} }

# What was measured: a value, and what it is to be read against ("of 12345", "bound 100").
sub figure {
	my ($self, $label, $value, $beside) = @_;
	push @{ $self->{figures} }, { label => $label, value => "$value", beside => $beside // '' };
	note "figure: $label: $value" . (defined $beside ? " $beside" : '');
	return;
}

# A run with a defence taken away, which must fail.
sub control {
	my ($self, $label, $result) = @_;
	push @{ $self->{controls} }, { label => $label, result => "$result" };
	note "control: $label: $result";
	return;
}

# A sentence for the reader of doc/PROOF.md: what was left out, and why.
sub remark { my ($self, $text) = @_; push @{ $self->{notes} }, $text; note $text; return }

sub machine {
	my ($cpu) = read_file('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)$/m;
	my $cpus = () = read_file('/proc/cpuinfo') =~ /^processor/mg;
	my ($mem) = read_file('/proc/meminfo') =~ /^MemTotal:\s*(\d+)/m;
	chomp(my $kernel = read_file('/proc/sys/kernel/osrelease'));
	return sprintf '%d x %s, %.0f GiB, Linux %s', $cpus, $cpu || '?', $mem / 1048576, $kernel;
}

# What was tested, as it stood at the beginning; "" outside a git checkout.
sub commit {
	my $id = `git -C "$FindBin::Bin" describe --always --dirty 2>/dev/null` // '';
	chomp $id;
	return $id;
}

sub read_file {
	my ($path) = @_;
	open my $fh, '<', $path or return '';
	local $/;
	return scalar <$fh>;
}

sub done {
	my ($self) = @_;
	my $ok = Test::More->builder->is_passing ? JSON::PP::true : JSON::PP::false;
	if (my $dir = $ENV{POSTHASTE_PROOF}) {
		my @utc = gmtime;
		my $json = JSON::PP->new->canonical->pretty->encode({
			name => $self->{name}, title => $self->{title}, seed => $self->{seed},
			whole => $self->full ? JSON::PP::true : JSON::PP::false, ok => $ok,
			points => $self->{points}, figures => $self->{figures},
			controls => $self->{controls}, notes => $self->{notes},
			seconds => int(time - $self->{began}), machine => machine(), commit => $self->{commit},
			date => sprintf('%d-%02d-%02d', $utc[5] + 1900, $utc[4] + 1, $utc[3]),
		});
		open my $fh, '>', "$dir/$self->{name}.json" or die "$dir/$self->{name}.json: $!";
		print $fh $json;
		close $fh or die "$dir/$self->{name}.json: $!";
	}
	note "points tried: $self->{points}";
	return done_testing;
}

1;
