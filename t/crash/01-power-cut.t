#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Power cuts of the whole system at its storage calls. The queue and the mailboxes are on file systems
# of their own; the injector stops one, or both, at the Nth call of one kind by one class of process
# (before it, or while it runs and for a moment beyond), all processes die, the disks are mounted
# again and the next life goes on with what they hold. Lives follow one another without a pause for
# the queue to drain; in the end everything must be accounted for. Second copies are counted, and how many of them were not
# on the list of deliveries in doubt. The same without syncs must lose. In the whole run Debian's
# Postfix is cut in the same way, for comparison. t/crash/mutants tries what single syncs are for.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Inject;
use JSON::PP;
use List::Util qw(max sum0);
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
my $eatmydata = (glob '/usr/lib/*/libeatmydata.so')[0];

# Where to cut: [class, call, nth, on the mailboxes' disk]; each kind in turn, the rest by chance.
sub places {
	my ($p, $wanted) = @_;
	my (%kind, @chosen);
	for my $boxes (0, 1) {
		my $seen = $p->rehearse(boxes => $boxes);
		for my $class (sort keys %$seen) {
			for my $call (sort keys %{ $seen->{$class} }) {
				my $n = $seen->{$class}{$call};
				$kind{"$class $call $boxes"} = [ map { [ $class, $call, $_, $boxes ] } 1 .. $n ];
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
	return @chosen > $wanted ? $c->pick($wanted, @chosen) : @chosen;
}

sub campaign {
	my ($fs, $wanted) = @_;
	my $p = PowerCut->new(fs => $fs) or return { skip => PowerCut->why_not };
	my ($hits, $late, %kinds, $n) = (0, 0);
	$p->rehearse; # with a spool that has something to retire
	for my $place (places($p, $wanted), (undef) x $wanted) {
		last if $hits >= $wanted;
		my ($class, $call, $nth, $boxes) = @{ $place || [ qw(rewrite fdatasync), 1 + $c->rand(20), 0 ] };
		my $how = $n++ % 2 ? 'cut-during us=' . $c->rand(1000) . ' ms=15' : 'cut';
		my $hit = $p->life("class=$class call=$call nth=$nth action=$how", both => $n % 3 != 0,
			boxes => $boxes);
		$hit ? $hits++ : $late++;
		$kinds{"$class $call"}++ if $hit;
	}
	return { %{ $p->end }, hits => $hits, late => $late, kinds => \%kinds };
}

# Both file systems side by side, each in a process of its own.
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
	my ($lost, $unlisted) = map { scalar @{ $r->{$_} } } qw(lost unlisted);
	$c->points($r->{hits});
	is $r->{hits}, $points, "$fs: cuts at the calls that were chosen";
	is $r->{left}, 0, "$fs: the queue drains";
	is $lost, 0, "$fs: none of $r->{acked} acknowledged messages is lost" or diag "@{ $r->{lost} }";
	is $r->{$_}, 0, "$fs: $_" for qw(damaged misdelivered never_sent panic);
	my @copies = values %{ $r->{by_cut} };
	my $twice = @{ $r->{twice} };
	$c->figure("messages that came twice, $fs", $twice, sprintf 'of %d, %.2f per power cut', $r->{acked},
		$twice / $r->{cuts});
	$c->figure("acknowledged messages lost, $fs", $lost, "of $r->{acked}, $r->{hits} cuts");
	$c->figure("second copies at the next hop per power cut, $fs", sprintf('%.2f', sum0(@copies) / $r->{cuts}),
		'mean, most ' . max(0, @copies) . sprintf '; the oldest first copy was taken %.0f ms before the cut',
		1000 * ($r->{oldest} || 0));
	$c->figure("messages that came twice and were not on the in-doubt list, $fs", $unlisted, "of $twice");
	note "$fs: kinds of calls cut at: " . join ', ', map { "$_ x $r->{kinds}{$_}" } sort keys %{ $r->{kinds} };
	note "$fs: $r->{late} lives ended without reaching their call, and were cut at rest";
	return;
}

my %r = side_by_side(map { my $fs = $_; $fs => sub { campaign($fs, $points) } } qw(ext4 xfs));
judge($_, $r{$_}) for sort keys %r;
$c->remark('A second copy of what was delivered within journal_sync_window (10 ms) before the cut, and of ' .
	'what was under way, is possible. The start of an attempt is synced within the same window: one that ' .
	'the cut took with it cannot be on the in-doubt list, which is counted here and not yet forbidden.');

# The control: under eatmydata no sync reaches the disk.
SKIP: {
	skip 'no eatmydata here', 1 unless $eatmydata;
	my %control = side_by_side(control => sub {
		local $ENV{LD_PRELOAD} = $eatmydata;
		my $p = PowerCut->new(fs => 'ext4') or die PowerCut->why_not;
		$p->life("class=rewrite call=pwrite64 nth=$_ action=cut", both => 1) for 60, 50;
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
