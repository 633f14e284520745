#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Segments that are mostly dead give their space back: the few live messages in them are copied
# forward. Afterwards, and after a crash, what waited still waits, and is delivered once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port wait_until);
use Test::More;

my $later = free_port(); # nobody listens there yet
my $sink  = Posthaste->sink;
my $mta   = Posthaste->start(main => {
	relayhost => "[127.0.0.1]:$sink->{port}",
	transport_maps => "inline:{ far.example=smtp:[127.0.0.1]:$later }",
	spool_segment_size => '1M',
	spool_spare_segments => 0,
	minimal_backoff_time => '2h', # and so long a site is suspended
	maximal_backoff_time => '2h',
});
my $segments = sub { scalar(my @f = glob "$mta->{dir}/spool/seg/*.seg") };
my $journals = sub { scalar(my @f = glob "$mta->{dir}/spool/journal/*.jnl") };
my @ids;
for my $i (1 .. 6) {
	Posthaste->load('-s', 5, '-n', 300, '-l', 4096, '-t', "part$i", "127.0.0.1:$mta->{port}");
	my $smtp = $mta->smtp;
	$smtp->ok('EHLO client.example');
	# two recipients: one is delivered now, one waits
	my $r = $smtp->mail('me@home.example', [ "r0.keep-$i\@d0.load.test", "slow$i\@far.example" ],
		"X-Load-Id: keep-$i\n\nmessage $i");
	push @ids, $r =~ /queued as (\S+)/;
	$smtp->quit;
}
is scalar(@ids), 6, 'six messages that will wait, among many that will not';
ok wait_until(sub { $mta->status->{messages} == 6 }, 60), 'the others are delivered';
ok $mta->wait_log(qr/$ids[0]: to=<slow1\@far\.example>.*status=deferred/), 'deferred';
ok $mta->wait_log(qr/smtp:\[127\.0\.0\.1\]:$later: delivery temporarily suspended for 7200 s/), 'and the site suspended';
my $before = $segments->();
cmp_ok $before, '>=', 6, "$before segments";
for (1 .. 30) {
	last if $segments->() <= 4;
	$mta->advance(30);
	wait_until(sub { $segments->() <= 4 }, 1);
}
cmp_ok $segments->(), '<=', 4, 'few are left after some minutes';
is $mta->status->{messages}, 6, 'with all that waits';
my ($rc, $out) = $mta->command('postqueue', '-p');
for my $i (1 .. 6) {
	my $id = $ids[$i - 1];
	like $out, qr/^$id\b.*\n(?:.*\n)?\s+slow$i\@far\.example$/m, "message $i is listed";
}
unlike $out, qr/load\.test/, 'the delivered recipients are not';
like $out, qr/Connection refused/, 'the reasons came along';

$mta->crash;
($rc, $out) = $mta->command('postqueue', '-p');
is $rc, 0, 'the queue can be listed while the system is down';
like $out, qr/^-- \d+ Kbytes in 6 Requests\.$/m, 'all of it';
like $out, qr/Connection refused/, 'with reasons';
unlike $out, qr/load\.test/, 'and without what is done';
($rc, $out) = $mta->command('postqueue', '-f');
is $rc, 69, 'flush is refused then';
$mta->launch;
is $mta->status->{messages}, 6, 'after a crash they are all there';
my $late = Posthaste->sink(port => $later);
($rc, $out) = $mta->command('postqueue', '-f');
is $rc, 0, 'flush';
ok wait_until(sub { $mta->status->{messages} == 0 }, 30), 'delivered' or diag $mta->log_tail;
wait_until(sub { $mta->count_log(qr/to=<slow\d\@far\.example>.*status=sent/) >= 6 }); # the log is written beside it
is $mta->count_log(qr/to=<slow$_\@far\.example>.*status=sent/), 1, "message $_ once" for 1 .. 6;
is $mta->count_log(qr/to=<r0\.keep-$_\@d0\.load\.test>.*status=sent/), 1,
	'... and not again to the one who had it' for 1 .. 6;
for (1 .. 10) {
	last if $segments->() <= 2;
	$mta->advance(10);
	wait_until(sub { $segments->() <= 2 }, 1);
}
cmp_ok $segments->(), '<=', 2, 'nothing is left but what is being written';
is join('', grep { /panic:|broke the protocol/ } split /\n/, $mta->log), '', 'no panic';
$mta->stop;
done_testing;
