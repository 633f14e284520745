# SPDX-License-Identifier: GPL-3.0-or-later
# Which syncs are needed: each mutant (Mutants.pm) lives through power cuts on the file system that
# keeps only what was synced (t/crash/strictfs), in batches of lives, until something shows that a
# sync is missing. Second syncs are for ext4 and xfs that shut down: t/crash/spool_cut tries those.
# Used by t/crash/01-power-cut.t and t/crash/mutants.
#
#   my ($fate, $why) = MutantCut->new(seed => 7)->try($mutant);   # 'caught', 'needless', 'elsewhere', 'not caught'
package MutantCut;
use strict;
use warnings;
use Mutants;
use PowerCut;
use Posthaste qw(run_ok);

my @programs = map { "workers/$_/$_" } qw(rewrite deliver local);
my @batches  = (6, 12, 24);

# [program of the process, call, nth at most]: where most of the syncs have just been made or left out.
my @places = (
	[ qw(deliver pwrite64 40) ],  [ qw(deliver fdatasync 20) ], [ qw(rewrite pwrite64 40) ],
	[ qw(rewrite fdatasync 30) ], [ qw(local pwrite64 40) ],    [ qw(local-agent fsync 120) ],
	[ qw(supervisor fsync 4) ],   [ qw(supervisor unlinkat 4) ], [ qw(supervisor pwrite64 6) ],
	[ qw(rewrite renameat2 3) ],  [ qw(rewrite openat 6) ],     [ qw(deliver openat 3) ],
);

sub new {
	my ($class, %opt) = @_;
	return bless { seed => 1, %opt }, $class;
}

sub dice {
	my ($self, $n) = @_;
	$self->{seed} = ($self->{seed} * 1103515245 + 12345) & 0x7fffffff;
	return int(($self->{seed} >> 8) / 0x800000 * $n);
}

# What shows that something is wrong; '' when nothing does.
sub symptoms {
	my ($v) = @_;
	my @unlisted = grep { !$_->{listed} } @{ $v->{repeats} };
	return "left in the queue: $v->{left}" if $v->{left} ne '0'; # what is lost is not known then
	my %n = (lost => scalar @{ $v->{lost} }, 'second copies in no list' => scalar @unlisted,
		'damaged files' => scalar @{ $v->{torn} }, 'numbers given out again' => $v->{numbers_again},
		map { $_ => $v->{$_} } qw(damaged misdelivered panic));
	return join ', ', map { "$n{$_} $_" } grep { $n{$_} } sort keys %n;
}

# One instance, so many cuts.
sub batch {
	my ($self, $libexec, $lives, $form) = @_;
	my $p = PowerCut->new(fs => 'strict', form => $form, some => 1 + $self->dice(10000),
		$self->dice(2) ? (bytes => 20_000) : (bytes => 300, messages => 250),
		main => { $libexec ? (daemon_directory => $libexec) : () }) or die PowerCut->why_not;
	for my $n (1 .. $lives) {
		my ($class, $call, $most) = @{ $places[ $self->dice(scalar @places) ] };
		my $boxes = $class eq 'local-agent';
		my $rule = "class=$class call=$call nth=" . (1 + $self->dice($most));
		# in some lives a worker dies first
		my @also = $n > 1 && $self->dice(3) ? () : (also => 'id=2 action=kill class=deliver,local call=fdatasync nth=' .
			(1 + $self->dice(10)));
		# in the first what it leaves is listed, delivered again, and then nothing more gets its name
		($rule, $boxes) = ('after=2 class=supervisor call=fsync nth=1', 0) if $n == 1;
		eval {
			$p->life("$rule action=cut", boxes => $boxes, @also);
			1;
		} or return "does not go on: $@";
	}
	my $v = eval { $p->end } or return "does not start again: $@";
	return symptoms($v);
}

# Messages that were deleted and came back.
sub operator {
	my ($self, $libexec) = @_;
	my $p = PowerCut->new(fs => 'strict', main => { defer_transports => 'smtp relay virtual',
		$libexec ? (daemon_directory => $libexec) : () }) or die PowerCut->why_not;
	return $p->operator;
}

# Cuts while journals are removed.
sub upkeep {
	my ($self, $libexec) = @_;
	my $p = PowerCut->new(fs => 'strict', some => 1 + $self->dice(10000),
		main => { $libexec ? (daemon_directory => $libexec) : () }) or die PowerCut->why_not;
	$p->upkeep for 1 .. 24;
	return symptoms($p->end);
}

# With the second of two syncs left out: ext4 and xfs while they shut down.
sub spool_cut {
	my ($self, $m) = @_;
	for my $fs (qw(ext4 xfs) x 2) {
		my ($rc, $out) = run_ok($m->program('t/crash/spool_cut'), '-n', 60, '-f', $fs);
		my ($why) = $out =~ /^not ok \d+ - (.*)$/m;
		return "$fs: " . ($why // "status $rc") if $rc;
	}
	return '';
}

sub try {
	my ($self, $m) = @_;
	return ('needless', $m->needless) if $m->needless;
	return ('elsewhere', $m->elsewhere) if $m->elsewhere;
	my $second = $m->{call} eq 'the second sync';
	$m->build($second ? 't/crash/spool_cut' : $m->{file} =~ m{^daemon/} ? () : @programs,
		$second ? () : 'daemon/supervisor');
	if ($second) {
		my $why = $self->spool_cut($m);
		return $why ? ('caught', $why) : ('not caught', 'by t/crash/spool_cut');
	}
	if ($m->{file} =~ /journal/) {
		my @back = $self->operator("$m->{dir}/libexec");
		return ('caught', @back . ' deleted messages are back') if @back;
	}
	if ($m->{file} =~ /dirs/) {
		my $why = $self->upkeep("$m->{dir}/libexec");
		return ('caught', $why) if $why;
	}
	my $lives = 0;
	# a list of doubts that is there already hides the sync of its name: the first life, again and again
	for my $n (($m->{file} =~ /doubt/ ? (1) x 8 : ()), @batches) {
		my $why = $self->batch("$m->{dir}/libexec", $n, $m->{file} =~ /mbox/ ? 'mbox' : '');
		$lives += $n;
		return ('caught', "$why, after $lives cuts") if $why;
	}
	return ('not caught', "in $lives cuts");
}

1;
