#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# The judge of the fault tests is judged: what it is shown here has every kind of wrong, and it must
# find each of them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use File::Temp qw(tempdir);
use Oracle;
use Posthaste qw(spew);
use Prove;
use Test::More;

my $dir = tempdir(CLEANUP => 1);
is Oracle::crc32c('123456789'), 0xe3069283, 'crc32c';

sub verdict {
	my ($acked, $ids, $more) = @_;
	my $o = Oracle->new;
	spew("$dir/acked", $acked);
	spew("$dir/ids", $ids);
	$o->acked("$dir/acked");
	$o->sink_file("$dir/ids");
	$more->($o) if $more;
	return $o->verdict;
}

my $v = verdict("a-1 1\na-2 2\n", "a-1 r0.a-1\@x.test\na-2 r0.a-2\@x.test\na-2 r1.a-2\@x.test\n");
is_deeply $v->{lost}, [], 'all there: nothing is lost';
is_deeply $v->{twice}, [], 'and nothing came twice';
is $v->{delivered}, 3, 'three deliveries';

$v = verdict("a-1 1\na-2 2\n", "a-2 r0.a-2\@x.test\n");
is_deeply $v->{lost}, [qw(a-1 a-2)], 'a missing message and a missing recipient are losses';

$v = verdict("a-1 1\n", "a-1 r0.a-1\@x.test\na-1 r0.a-1\@x.test\n");
is_deeply $v->{twice}, ['a-1'], 'a second copy is found';

$v = verdict("a-1 1\n", "a-1 r0.a-1\@x.test\na-7 r0.a-7\@x.test\n- sender\@x.test\n");
is $v->{unacked}, 1, 'delivered without a 250: counted apart';
is $v->{never_sent}, 0, 'but somebody sent it; notifications are not counted';

$v = verdict("a-1 1\n", "a-1 r0.a-1\@x.test\nb-1 r0.b-1\@x.test\na-900 r0.a-900\@x.test\n",
	sub { $_[0]->sent('a', 10); $_[0]->sink_file("$dir/ids") });
cmp_ok $v->{never_sent}, '>=', 2, 'what nobody sent is found: a strange prefix, a number too high';

my $report = "Reporting-MTA: dns; x\n\nFinal-Recipient: rfc822; r0.a-1\@x.test\nAction: failed\nStatus: 5.0.0\n\n";
$v = verdict("a-1 1\n", '', sub { $_[0]->bounces($report) });
is_deeply $v->{lost}, [], 'reported is not lost';
is $v->{bounced}, 1, 'one report';
(my $delay = $report) =~ s/failed/delayed/;
$v = verdict("a-1 1\n", '', sub { $_[0]->bounces($delay) });
is_deeply $v->{lost}, ['a-1'], 'a report of delay does not excuse a loss';
$v = verdict("a-1 1\n", "a-1 r0.a-1\@x.test\n", sub { $_[0]->bounces($report) });
is_deeply $v->{twice}, ['a-1'], 'delivered and reported as failed counts as twice';

sub mail {
	my ($name, $id, $rcpt, $body, $crc_of) = @_;
	(my $wire = $crc_of // $body) =~ s/\n/\r\n/g;
	spew("$dir/$name", sprintf "Delivered-To: %s\nX-Load-Id: %s\nX-Load-Crc: %08x\n\n%s", $rcpt, $id,
		Oracle::crc32c($wire), $body);
	return "$dir/$name";
}
$v = verdict("a-1 1\n", '', sub { $_[0]->maildir(mail('m1', 'a-1', "r0.a-1\@x.test", "text\n")) });
is_deeply [ $v->{lost}, $v->{damaged}, $v->{misdelivered} ], [ [], 0, 0 ], 'a mailbox file that is right';
$v = verdict("a-1 1\n", '', sub { $_[0]->maildir(mail('m2', 'a-1', "r0.a-1\@x.test", "tixt\n", "text\n")) });
is $v->{damaged}, 1, 'a changed byte in a mailbox is found';
spew("$dir/m4", '');
$v = verdict("a-1 1\n", '', sub { $_[0]->maildir("$dir/m4") });
is $v->{damaged}, 1, 'and so is an empty file';
$v = verdict("a-1 1\n", '', sub { $_[0]->maildir(mail('m3', 'a-1', "r0.a-2\@x.test", "text\n")) });
is $v->{misdelivered}, 1, 'mail in a wrong mailbox is found';

my $c = Prove->new(name => 'self-test', title => 'The generator');
my @first = map { $c->rand(1000) } 1 .. 5;
my @again = do { my $d = Prove->new(name => 'x', title => 'The generator again'); map { $d->rand(1000) } 1 .. 5 };
is_deeply \@again, \@first, 'a seed repeats its numbers';
is scalar(grep { $_ < 0 || $_ > 6 } map { $c->rand(7) } 1 .. 1000), 0, 'which are in their range';
is_deeply [ $c->pick(9, 1 .. 5) ], [ 1 .. 5 ], 'pick: all of a short list';
is scalar(my @three = $c->pick(3, 1 .. 50)), 3, 'pick: three of a long one';
done_testing;
