#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Power cuts over mailbox files: virtual(8) appends to an mbox, local(8) to the file of an alias, and the power goes
# at the Nth call of a process that delivers, before it or while it runs. What was marked done is in the file
# afterwards, whole; of what was being written a piece may be left, one for each cut at most, and that message comes
# again. What comes twice is on the list of deliveries in doubt. The same without syncs must lose.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Inject;
use List::Util qw(sum0);
use PowerCut;
use Prove;
use Test::More;

my $c = Prove->new(name => '15-mailbox-files', title => 'Power cuts over mailbox files');
plan skip_all => 'power cuts need root (loop devices)' if $> != 0;
if (my $why = Inject->unusable) {
	plan skip_all => $why;
}
my $points = $ENV{POSTHASTE_CUTS} || ($c->full ? 150 : 2);
my $eatmydata = (glob '/usr/lib/*/libeatmydata.so')[0];

# Each kind of call in turn, at a place by chance: [call, nth].
sub places {
	my ($p, $wanted) = @_;
	my $seen = $p->rehearse(boxes => 1)->{'local-agent'} || {};
	my @calls = sort keys %$seen;
	return map { my $call = $calls[ $_ % @calls ]; [ $call, 1 + $c->rand($seen->{$call}) ] } 0 .. $wanted - 1;
}

sub campaign {
	my ($fs, $form) = @_;
	my $p = PowerCut->new(fs => $fs, form => $form, some => $c->seed) or return note "$fs: skipped: " . PowerCut->why_not;
	my ($hits, $n) = (0, 0);
	$p->rehearse;
	my @places = places($p, $points);
	ok scalar @places, "$fs, $form: processes that deliver make calls there" or return;
	for my $place (@places) {
		my ($call, $nth) = @$place;
		my $how = $n++ % 2 ? 'cut-during us=' . $c->rand(1000) . ' ms=15' : 'cut';
		$hits++ if $p->life("class=local-agent call=$call nth=$nth action=$how", boxes => 1, alone => $n % 3 == 0);
		$p->rest if $n % 50 == 0;
	}
	my $r = $p->end;
	$c->points($hits);
	is $r->{left}, 0, "$fs, $form: the queue drains";
	is scalar @{ $r->{lost} }, 0, "$fs, $form: none of $r->{acked} acknowledged messages is lost" or diag "@{ $r->{lost} }";
	is $r->{$_}, 0, "$fs, $form: $_" for qw(damaged misdelivered never_sent panic full);
	my @unlisted = grep { !$_->{listed} } @{ $r->{repeats} };
	is scalar @unlisted, 0, "$fs, $form: all that came twice was on the list of deliveries in doubt" or diag map { "$_->{what} " } @unlisted;
	cmp_ok $r->{torn_mail}, '<=', $r->{cuts}, "$fs, $form: at most one torn piece for each cut";
	$c->figure("acknowledged messages lost, $form on $fs", scalar @{ $r->{lost} }, sprintf
		'of %d, %d cuts at a call of a process that delivers; %d torn pieces, %d second copies, %d of them in no list', $r->{acked},
		$hits, $r->{torn_mail}, scalar @{ $r->{repeats} }, scalar @unlisted);
	return;
}

my @systems = $c->full ? qw(ext4 xfs strict) : qw(strict);
for my $form (qw(mbox file)) {
	campaign($_, $form) for @systems;
}

# The control: under eatmydata no sync reaches the disk.
SKIP: {
	skip 'no eatmydata here', 1 unless $eatmydata;
	local $ENV{LD_PRELOAD} = $eatmydata;
	my $p = PowerCut->new(fs => 'ext4', form => 'mbox') or skip PowerCut->why_not, 1;
	$p->life("class=local-agent call=write nth=$_ action=cut", boxes => 1) for 40, 30;
	my $r = $p->end;
	cmp_ok scalar @{ $r->{lost} }, '>', 0, 'control: under eatmydata mail is lost';
	$c->control('under eatmydata', 'loses ' . @{ $r->{lost} } . " of $r->{acked}");
}
$c->done;
