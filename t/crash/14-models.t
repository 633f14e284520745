#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# What no crash can be timed for. Models of the ring, of a queue entry's life and of recovery (t/model) are
# searched through every interleaving, every death and every answer of a hostile worker; each of their
# mutants must fail. Then the code itself under ThreadSanitizer: the threads of t/stress, and as the control
# the same ring with orders that are too weak.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Posthaste qw(run_ok);
use Prove;
use Test::More;

my $c   = Prove->new(name => '14-models', title => 'Models of shared memory, and races');
my $top = Posthaste::top();

# ---- models ----

# a sample: the smallest; all of them are a test of their own
my ($rc, $out) = run_ok("$top/t/model/run", $c->full ? () : 'recover');
plan skip_all => $1 if $out =~ /^1\.\.0 # SKIP (.*)/m;
is $rc, 0, 'models hold, and their mutants fail' or diag grep { /^not ok|^#/ } split /^/, $out;
my %states = $out =~ /^# states of (.+): (\d+)$/mg;
my @holds   = $out =~ /^ok \d+ - (\S.*?): holds, (.*)$/mg;
my @mutants = $out =~ /^ok \d+ - (\S+).*: fails, as it must$/mg;
is scalar keys %states, @holds / 2, 'each model says how many states it has';
cmp_ok scalar keys %states, '>=', $c->full ? 5 : 1, 'models';
cmp_ok scalar @mutants, '>=', $c->full ? 30 : 9, 'mutants of them';
while (my ($model, $what) = splice @holds, 0, 2) {
	cmp_ok $states{$model}, '>', 1000, "$model: $states{$model} states";
	$c->points($states{$model});
	$c->figure("states of the model `$model`, all searched", $states{$model}, $what);
}
$c->control('models with a step left out, exchanged or too weakly ordered', @mutants . ' of ' . @mutants . ' fail');

# ---- races ----

my $tsan = "$top/build-tsan";
my ($built, $said) = run_ok("$top/scripts/build", '-t', 'stress-programs', $tsan =~ s{.*/}{}r, '--enable-tsan',
	'--enable-werror', 'CFLAGS=-O1 -g');
is $built, 0, 'the build with ThreadSanitizer' or BAIL_OUT($said);
local $ENV{POSTHASTE_STRESS} = $c->full ? 10 : 1;

# The number of races a program shows.
sub races {
	my ($program, $first) = @_;
	local $ENV{TSAN_OPTIONS} = 'halt_on_error=' . ($first ? 1 : 0);
	my ($status, $text) = run_ok("$tsan/t/stress/$program");
	my $n = () = $text =~ /WARNING: ThreadSanitizer: data race/g;
	return ($n, $status, $text);
}

my $records = 0;
for my $program (qw(ring_threads table_readers)) {
	my ($races, $status, $text) = races($program);
	is $races, 0, "$program: no race";
	is $status, 0, "$program: passes" or diag grep { /^not ok|^#/ } split /^/, $text;
	$records += $1 while $text =~ /^ok \d+ - .*: (\d+) records, each once/mg;
	$c->figure("races found in t/stress/$program", $races);
}
cmp_ok $records, '>', 10_000, "$records records went through rings";
$c->figure('records through rings between threads', $records, 'each once, in order, whole');
my ($races) = races('ring_threads_weak', 'the first is enough');
is $races, 1, 'control: with weak orders there is a race';
$c->control('the ring with all its orders relaxed', 'a data race is found');
$c->done;
