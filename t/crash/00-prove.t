#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# What "make prove" says of its campaigns (scripts/prove, scripts/proof): passed only what passed, ran in
# whole and lost nothing; one that fails, dies, hangs or cannot run here is named, and the page is written.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use FindBin;
use Test::More;
use Time::HiRes qw(time);

my $top = abs_path("$FindBin::Bin/../..");
my $dir = tempdir(CLEANUP => 1);
mkdir "$dir/$_" for qw(c b);
delete @ENV{qw(POSTHASTE_SEED POSTHASTE_PROVE)};

sub spew { my ($path, $text) = @_; open my $fh, '>', $path or die "$path: $!"; print $fh $text; close $fh; return }
sub slurp { my ($path) = @_; open my $fh, '<', $path or return ''; local $/; return <$fh> // '' }

# A campaign of a few lines.
sub campaign {
	my ($name, $what) = @_;
	spew("$dir/c/$name.t", "use strict; use warnings; use lib '$top/t/crash/lib';\nuse Prove; use Test::More;\n" .
		"my \$c = Prove->new(name => '$name', title => 'About $name');\n$what\n");
	return;
}

sub prove {
	my (@args) = @_;
	local $ENV{POSTHASTE_PROVE_LIMIT} = -e "$dir/c/05-hangs.t" ? 8 : 300;
	my $out = `$top/scripts/prove -d $dir/c -o $dir/PAGE @args 2>&1`;
	return ($? >> 8, $out);
}

campaign('01-good', 'ok 1; $c->points(7); $c->figure("acknowledged messages lost", 0, "of 5");
	$c->figure("postfix: acknowledged messages lost", 3); $c->done;');
campaign('02-absent', 'plan skip_all => "no such disk";');
campaign('09-hostile-peers', 'ok 1; $c->points(1); $c->figure("ports", $ENV{POSTHASTE_PORTS}); sleep 1; $c->done;');
my ($rc, $out) = prove("$dir/b");
is $rc, 0, 'all is well, or cannot run here' or diag $out;
like $out, qr/^passed +01-good .*7 points, acknowledged messages lost: 0/m, 'passed, with its figures';
like $out, qr/^skipped +02-absent .*no such disk$/m, 'skipped, with the reason';
like slurp("$dir/PAGE"), qr/^## 1\. About 01-good\n.*`t\/crash\/02-absent\.t`: not run here: no such disk$/ms,
	'the page has the one and names the other';
like slurp("$dir/PAGE"), qr/whole run that passed\n\n- `t\/crash\/02-absent\.t`: [^\n]*\n\z/, 'and no more than those';

campaign('03-bad', 'ok 1; ok 0, "mail is there"; $c->points(9); $c->done;');
campaign('04-dies', 'ok 1; die "oh\n";');
campaign('05-hangs', 'ok 1; sleep 60; $c->done;');
campaign('06-loses', 'ok 1; $c->points(3); $c->figure("acknowledged messages lost, xfs", 2, "of 9"); $c->done;');
campaign('07-empty', '');
my $start = time;
($rc, $out) = prove("$dir/b");
isnt $rc, 0, 'something failed';
cmp_ok time - $start, '<', 40, 'what hangs is ended';
like $out, qr/^failed +03-bad .*not ok 2 - mail is there$/m, 'a test that fails';
like $out, qr/^failed +04-dies .*/m, 'a campaign that dies';
like $out, qr/^failed +05-hangs .*/m, 'one that hangs';
like $out, qr/^failed +06-loses .*lost, xfs: 2$/m, 'one that lost something';
like $out, qr/^failed +07-empty .*/m, 'one without a test';
my $page = slurp("$dir/PAGE");
like $page, qr/^## 1\. About 01-good$/m, 'the page is written all the same';
unlike $page, qr/About 0[34567]/, 'without those that failed';
like $page, qr/`t\/crash\/$_\.t`: its last run failed$/m, "$_ is named" for qw(03-bad 04-dies 05-hangs 07-empty);
like $page, qr/`t\/crash\/06-loses\.t`: acknowledged messages lost, xfs: 2$/m, 'so is a figure of losses that is not 0';

unlink map { "$dir/c/$_.t" } qw(03-bad 04-dies 05-hangs 07-empty);
($rc, $out) = prove("$dir/b", '01-good');
isnt $rc, 0, 'a loss of an earlier run still counts';
unlink "$dir/c/06-loses.t", glob "$dir/b/proof/0[34567]*.json";
($rc, $out) = prove("$dir/b", '01-good');
is $rc, 0, 'one campaign alone';
like slurp("$dir/PAGE"), qr/## 9\./, 'the page keeps the others';
($rc, $out) = prove('-s', "$dir/b");
is $rc, 0, 'the samples';
like slurp("$dir/b/samples/01-good.tap"), qr/seed \d+, sample/, 'ran as such';
like slurp("$dir/b/proof/01-good.tap"), qr/seed \d+, whole/, 'and whole runs were whole';
isnt((prove("$dir/b", '77-none'))[0], 0, 'a campaign that does not exist');
done_testing;
