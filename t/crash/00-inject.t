#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# The injector itself, on tiny programs: what it counts, kills, refuses, shortens and holds is what it
# was told to.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Posthaste qw(run_ok slurp spew wait_until);
use Inject;
use File::Temp qw(tempdir);
use Time::HiRes qw(time sleep);
use Test::More;

plan skip_all => Inject->unusable if Inject->unusable;
my $inject = Inject->program;
my $dir    = tempdir('posthaste-inject-XXXXXX', TMPDIR => 1, CLEANUP => 1);

# Writes abcdefgh, says what came of each write, then syncs.
my $writer = <<'END';
$| = 1;
open my $f, '+>', shift or die;
for my $t (qw(abcdefgh ijklmnop qrstuvwx)) {
	my $n = syswrite $f, $t;
	print defined $n ? "wrote $n\n" : 'failed ' . ($!+0) . "\n";
}
print "done\n";
END

sub under {
	my ($rules, @cmd) = @_;
	unlink "$dir/log", "$dir/f";
	my @r = map { ('-r', $_) } @$rules;
	return run_ok($inject, '-o', "$dir/log", @r, '--', @cmd);
}

sub writer { my (@rules) = @_; return under(\@rules, $^X, '-e', $writer, "$dir/f") }

my ($rc, $out) = writer();
is $rc, 0, 'without a rule the program runs as ever';
is $out, "wrote 8\nwrote 8\nwrote 8\ndone\n", '... and says the same';

($rc, $out) = writer("action=error errno=EIO call=write path=$dir nth=2");
is $out, "wrote 8\nfailed 5\nwrote 8\ndone\n", 'error: the second write, once';
is slurp("$dir/f"), 'abcdefghqrstuvwx', '... and that one was not made';
like slurp("$dir/log"), qr/^[\d.]+ error=5 class=perl pid=\d+ tid=\d+ call=write n=2 rule=1 file=\Q$dir\E\/f$/m, '... and is in the log';

($rc, $out) = writer("action=error errno=ENOSPC call=write path=$dir nth=2 times=0");
is $out, "wrote 8\nfailed 28\nfailed 28\ndone\n", 'error for ever';
($rc, $out) = writer("action=error errno=EIO call=write path=$dir/elsewhere");
is $out, "wrote 8\nwrote 8\nwrote 8\ndone\n", 'another path is not meant';
($rc, $out) = writer("action=error errno=EIO class=other call=write");
is $out, "wrote 8\nwrote 8\nwrote 8\ndone\n", 'another class is not meant';

($rc, $out) = writer("action=short call=write path=$dir nth=1", "id=2 action=short len=half call=write path=$dir nth=3");
is $out, "wrote 1\nwrote 8\nwrote 4\ndone\n", 'short: one byte, half';
is slurp("$dir/f"), 'aijklmnopqrst', '... in the file, too';

($rc, $out) = writer("action=kill call=write path=$dir nth=2");
is $rc, 128 + 9, 'kill: ends by the signal';
is slurp("$dir/f"), 'abcdefgh', '... before the call is made';
($rc, $out) = writer("action=kill-after call=write path=$dir nth=2");
is slurp("$dir/f"), 'abcdefghijklmnop', 'kill-after: when it was made';

my $start = time;
($rc, $out) = writer("action=delay ms=300 call=write path=$dir nth=2");
is $out, "wrote 8\nwrote 8\nwrote 8\ndone\n", 'delay: nothing else changes';
cmp_ok time - $start, '>=', 0.3, '... but the time';

# descendants, of which one outlives the command; armed from outside
my $behind = <<'END';
pipe my $r, my $w;
my $pid = fork;
if (!$pid) {
	close $r;
	open STDIN, '<', '/dev/null'; open STDOUT, '>', '/dev/null'; open STDERR, '>', '/dev/null';
	open my $f, '>', shift or die;
	syswrite $w, "x";
	close $w;
	while (-e "$0.run" || 1) { syswrite $f, "y"; select undef, undef, undef, 0.01 }
}
close $w;
sysread $r, my $c, 1;
exit 3;
END
my $i = Inject->new(dir => $dir);
($rc, $out) = $i->run('storage', $^X, '-e', $behind, "$dir/g");
is $rc, 3, 'behind: the status of the command';
like $i->ask('status'), qr/^exited 3 threads=1$/m, '... and its child runs on';
$i->arm("action=count path=$dir");
ok wait_until(sub { ($i->count->{'perl-fork'}{write} || 0) > 3 }, 10), 'count: by class and call';
like eval { $i->arm('action=nonsense'); '' } // $@, qr/unknown key or value/, 'a rule that makes no sense is refused';
$i->arm("id=2 action=kill-all path=$dir nth=2");
ok wait_until(sub { !$i->alive }, 10), 'kill-all from outside: nothing is left';
like slurp($i->log_file), qr/kill-all class=perl-fork .* n=2 rule=2 file=\S+\n[\d.]+ end$/m, '... and the log ends';

($rc, $out) = under(['action=count call=storage,reads,net,memory,event'], 'true');
is $rc, 0, 'all groups of calls';

# threads are their process, and a program of threads and forks survives being followed
($rc, $out) = under(["action=count"], 'sh', '-c', 'for i in 1 2 3 4 5; do (echo $i | cat) & done; wait');
is join(',', sort split /\n/, $out), '1,2,3,4,5', 'pipes and children as ever';
done_testing;
