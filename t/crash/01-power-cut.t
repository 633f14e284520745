#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Power cuts of the whole system at its storage calls. The queue and the mailboxes are on file systems
# of their own; the injector stops both at the Nth call of one kind by one class of process (before it,
# or while it runs and for a moment beyond), or that of the mailboxes alone; all processes die, the disks
# are mounted again and the next life goes on with what they hold. Lives follow one another without a pause for
# the queue to drain; in the end everything must be accounted for: nothing is lost, what came twice is
# on the list of deliveries in doubt, and no more of it than the bound. The third file system, strictfs,
# keeps exactly what was synced, which ext4 and xfs never do. The same without syncs must lose. In the whole run Debian's Postfix is cut in the same way, for comparison.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Inject;
use JSON::PP;
use List::Util qw(max sum0);
use MutantCut;
use Mutants;
use Posthaste qw(run_ok slurp spew);
use PowerCut;
use Prove;
use RandomCut;
use Test::More;

my $c = Prove->new(name => '01-power-cut', title => 'Power cut at every storage call');
plan skip_all => 'power cuts need root (loop devices)' if $> != 0;
if (my $why = Inject->unusable) {
	plan skip_all => $why;
}
my $points = $ENV{POSTHASTE_CUTS} || ($c->full ? 500 : 6);
# On the third what is needed shows soon.
my %points = (ext4 => $points, xfs => $points, strict => $c->full ? int($points / 3) : $points);
# What may come twice after one cut (doc/INTERNALS.md, "What is in doubt, exactly"): to each of the two
# destinations, next hop and mailboxes, the jobs of a window and four windows more that wait for their turn.
my $window = 5;
my $bound = 2 * 5 * $window;
my $eatmydata = (glob '/usr/lib/*/libeatmydata.so')[0];

# Where to cut: [class, call, nth, on the mailboxes' disk, that disk alone fails]; each kind in turn, the
# rest by chance. First what xfs once lost: its sync of a directory succeeds while it shuts down.
sub places {
	my ($p, $wanted) = @_;
	my (%kind, @chosen);
	my $first = [ qw(local-agent renameat), 8, 1, 1 ];
	for my $boxes (0, 1) {
		my $seen = $p->rehearse(boxes => $boxes);
		for my $class (sort keys %$seen) {
			for my $call (sort keys %{ $seen->{$class} }) {
				my $n = $seen->{$class}{$call};
				$kind{"$class $call $boxes"} = [ map { [ $class, $call, $_, $boxes, $boxes && $_ % 3 == 0 ] } 1 .. $n ];
			}
		}
	}
	while (@chosen < $wanted && %kind) {
		for my $k (sort keys %kind) {
			push @chosen, splice @{ $kind{$k} }, $c->rand(scalar @{ $kind{$k} }), 1;
			delete $kind{$k} unless @{ $kind{$k} };
		}
	}
	# more than one life makes: the calls again, in another state of the disk
	push @chosen, @chosen while @chosen && @chosen < $wanted;
	return ($first, $c->pick($wanted - 1, @chosen));
}

# An instance that is cut $wanted times, and again for each life that did not come to any of its calls.
sub campaign {
	my ($fs, $wanted) = @_;
	my $p = PowerCut->new(fs => $fs, some => $c->seed, $c->full ? (mb => 1024) : (), main => { default_destination_concurrency_limit => $window })
		or return { skip => PowerCut->why_not };
	my (%hits, %kinds, $n);
	$p->rehearse; # with a spool that has something to retire
	for my $place (places($p, $wanted), (undef) x $wanted) {
		last if sum0(map { $hits{$_} || 0 } 1 .. 3) >= $wanted;
		my ($class, $call, $nth, $boxes, $alone) =
			@{ $place || [ qw(rewrite fdatasync), 1 + $c->rand(20), 0 ] };
		my $how = $alone || $n++ % 2 ? 'cut-during us=' . $c->rand(1000) . ' ms=15' : 'cut';
		my $hit = $p->life("class=$class call=$call nth=$nth action=$how", boxes => $boxes, alone => $alone);
		$hits{$hit}++;
		$p->rest if sum0(values %hits) % 50 == 0;
		$kinds{"$class $call"}++ if $hit == 1 || $hit == 2;
	}
	return { %{ $p->end }, hits => \%hits, kinds => \%kinds };
}

# All file systems side by side, each in a process of its own.
sub side_by_side {
	my (%job) = @_;
	my (%pid, %result);
	my $dir = File::Temp::tempdir(CLEANUP => 1);
	my $n = 0;
	for my $name (sort keys %job) {
		$n++;
		my $pid = fork // die "fork: $!";
		if (!$pid) {
			Posthaste::on_my_own();
			Disk::on_my_own();
			Posthaste::free_port() for 1 .. $n * 150; # a range of its own
			my $r = eval { $job{$name}->() } || { died => "$@" };
			spew("$dir/$name", encode_json($r));
			exit 0;
		}
		$pid{$name} = $pid;
	}
	for my $name (sort keys %pid) {
		waitpid $pid{$name}, 0;
		$result{$name} = decode_json(slurp("$dir/$name") || '{"died":"no result"}');
	}
	return %result;
}

sub judge {
	my ($fs, $r) = @_;
	ok !$r->{died}, "$fs: ran" or return diag $r->{died};
	return note "$fs: skipped: $r->{skip}" if $r->{skip};
	my $lost = @{ $r->{lost} };
	my ($at, $kin, $any) = map { $r->{hits}{$_} // 0 } 1 .. 3;
	$c->points($at + $kin + $any);
	is $at + $kin + $any, $points{$fs}, "$fs: cuts while a storage call was made";
	is $r->{full}, 0, "$fs: no disk was full";
	is $r->{left}, 0, "$fs: the queue drains";
	is $lost, 0, "$fs: none of $r->{acked} acknowledged messages is lost" or diag "@{ $r->{lost} }";
	is $r->{$_}, 0, "$fs: $_" for qw(damaged misdelivered never_sent panic numbers_again);
	is "@{ $r->{torn} }", '', "$fs: no file of the spool is damaged";
	my (%by_cut, @unlisted);
	for my $copy (@{ $r->{repeats} }) {
		$by_cut{ $copy->{cut} }++;
		push @unlisted, $copy->{what} unless $copy->{listed};
	}
	is scalar @unlisted, 0, "$fs: all that came twice was on the list of deliveries in doubt" or diag "@unlisted";
	my $most = max(0, values %by_cut);
	cmp_ok $most, '<=', $bound, "$fs: and no more after any one cut than workers had in hand";
	my $twice = @{ $r->{repeats} };
	$c->figure("acknowledged messages lost, $fs", $lost, sprintf
		'of %d, %d cuts: %d at the very call that was chosen, %d at the next of its kind, %d at any other',
		$r->{acked}, $at + $kin + $any, $at, $kin, $any);
	$c->figure("second copies, $fs", $twice, sprintf 'of %d deliveries, %.2f per power cut; most after one cut %d, ' .
		'bound %d; the oldest first copy was taken %.0f ms before its cut', $r->{copies}, $twice / $r->{cuts}, $most,
		$bound, 1000 * max(0, map { $_->{age} } @{ $r->{repeats} }));
	$c->figure("second copies that were not on the in-doubt list, $fs", scalar @unlisted, "of $twice");
	note "$fs: kinds of calls cut at: " . join ', ', map { "$_ x $r->{kinds}{$_}" } sort keys %{ $r->{kinds} };
	note "$fs: " . ($r->{hits}{0} // 0) . ' lives made no call where they were to be cut, and were cut at rest';
	return;
}

my @mutants = $c->full ? Mutants->all : ();
my $jobs = 3;

# Which syncs are needed: with one of them taken out the product must lose (MutantCut.pm).
sub try_mutants {
	my ($job) = @_;
	my $cut = MutantCut->new(seed => $c->seed + $job);
	my $found = join '', (map { $cut->batch(undef, $_) } 1, 1, 20), $cut->batch(undef, 6, 'mbox'); # the product itself
	return { "product$job" => $found, map { $_->name => [ $cut->try($_) ] } @mutants[ grep { $_ % $jobs == $job } 0 .. $#mutants ] };
}

my %r = side_by_side(
	(map { my $fs = $_; $fs => sub { campaign($fs, $points{$fs}) } } sort keys %points),
	(map { my $job = $_; "mutants$job" => sub { try_mutants($job) } } $c->full ? 0 .. $jobs - 1 : ()),
);
judge($_, $r{$_}) for sort keys %points;

if (@mutants) {
	my %fate = map { %{ $r{"mutants$_"} } } 0 .. $jobs - 1;
	my %of;
	is join('', map { $fate{"product$_"} // 'not tried' } 0 .. $jobs - 1), '', 'and what catches mutants finds nothing wrong with the product';
	for my $m (@mutants) {
		my ($what, $why) = @{ $fate{ $m->name } || [ 'not caught', 'not tried: ' . ($fate{died} // '') ] };
		isnt $what, 'not caught', 'without ' . $m->name . ": $what, $why";
		push @{ $of{$what} }, $m->name . " ($why)";
	}
	my $caught = @{ $of{caught} || [] };
	$c->control('mutants, each without one sync', sprintf '%d of %d are caught', $caught,
		$caught + @{ $of{'not caught'} || [] });
	$c->remark("Caught: $_") for @{ $of{caught} || [] };
	$c->remark("Nothing is lost without it: $_") for @{ $of{needless} || [] };
	$c->remark("Not tried, takes more than a power cut: $_") for @{ $of{elsewhere} || [] };
}

# The control: under eatmydata no sync reaches the disk.
SKIP: {
	skip 'no eatmydata here', 1 unless $eatmydata;
	my %control = side_by_side(control => sub {
		local $ENV{LD_PRELOAD} = $eatmydata;
		my $p = PowerCut->new(fs => 'ext4') or die PowerCut->why_not;
		$p->life("class=rewrite call=pwrite64 nth=$_ action=cut") for 60, 50;
		return $p->end;
	});
	my $lost = @{ $control{control}{lost} || [] };
	cmp_ok $lost, '>', 0, 'control: under eatmydata mail is lost' or diag $control{control}{died} // '';
	$c->control('under eatmydata', "loses $lost of $control{control}{acked}");
}

# Postfix in the same place: the same disks, mail and sink; the power goes at random moments. The same
# of ours beside it.
if ($c->full) {
	my $cuts = $ENV{POSTHASTE_PEER_CUTS} || 30;
	$c->remark('What Postfix lost was not examined further: queue and mailboxes are on two disks that fail at the '
		. 'same moment, and it does not sync the directory of a Maildir.');
	for my $fs (qw(ext4 xfs)) {
		my @moments = map { 0.15 + $c->rand(600) / 1000 } 1 .. $cuts;
		my %seen = side_by_side(map {
			my $who = $_;
			$who => sub { RandomCut->new(fs => $fs, who => $who)->story(@moments) };
		} qw(postfix posthaste));
		for my $who (sort keys %seen) {
			my $r = $seen{$who};
			ok !$r->{died} && $r->{acked}, "$who, $fs: ran" or diag $r->{died};
			next if $r->{died};
			my ($lost, $twice) = map { scalar @{ $r->{$_} } } qw(lost twice);
			$c->figure("$who, $fs, $cuts cuts at random moments: acknowledged messages lost", $lost, sprintf
				'of %d; %d came twice, %.2f per cut', $r->{acked}, $twice, $twice / $cuts);
		}
	}
}
$c->done;
