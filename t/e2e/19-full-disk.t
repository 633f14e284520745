#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# No room: mail is refused for now, never acknowledged and lost; when there is room again it flows.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port wait_until run_ok slurp);
use Test::More;

# below queue_minfree
my $mta = Posthaste->start(main => { relayhost => '[127.0.0.1]:9', queue_minfree => 1 << 58 });
my $smtp = $mta->smtp;
$smtp->ok('EHLO x');
is $smtp->cmd('MAIL FROM:<a@b.example>'), '452 4.3.1 Insufficient system storage', 'below queue_minfree';
$smtp->quit;
like $mta->http('/readyz'), qr/^HTTP\/1\.\d 503.*queue file system is full/s, 'not ready, and why';
like $mta->http('/healthz'), qr/^HTTP\/1\.\d 200/, 'but healthy';
$mta->stop;

SKIP: {
	# a file system of 24 MiB, in a mount namespace that ends with this test
	if (!$ENV{POSTHASTE_IN_NAMESPACE}) {
		my @apart = Posthaste::mount_namespace() or skip 'no mount namespace without root here', 12;
		$ENV{POSTHASTE_IN_NAMESPACE} = 1;
		my ($rc, $out) = run_ok(@apart, $^X, $0);
		my @lines = grep { /^(not )?ok \d+ - small/ } split /\n/, $out;
		is scalar(@lines), 11, 'small disk: ran' or diag $out;
		like $_, qr/^ok/, /- (.*)/ ? $1 : $_ for @lines;
		last SKIP;
	}
	my $sink = Posthaste->sink;
	my $small = Posthaste->prepare(main => {
		relayhost => "[127.0.0.1]:$sink->{port}",
		message_size_limit => 2_000_000,
		spool_segment_size => '1M',
		journal_file_size => '1M',
		spool_spare_segments => 0,
		defer_transports => '',
	});
	mkdir "$small->{dir}/spool";
	Posthaste::mount_tmpfs("$small->{dir}/spool", '24m') or die "mount: $!";
	$small->launch;
	# fill it from outside, leaving less than a message's room
	open my $fh, '>', "$small->{dir}/spool/ballast" or die;
	my $block = "\0" x 65536;
	1 while syswrite $fh, $block;
	close $fh;
	my $r = Posthaste->load('-s', 5, '-n', 300, '-l', 20000, '-R', "127.0.0.1:$small->{port}");
	cmp_ok $r->{tempfail}, '>', 0, 'small disk: refused for now';
	unlink "$small->{dir}/spool/ballast";
	ok wait_until(sub {
		Posthaste->load('-s', 1, '-n', 1, '-t', 'probe' . int(rand 1e9), "127.0.0.1:$small->{port}")->{acked} == 1
	}, 10), 'small disk: room again, mail flows again';
	wait_until(sub { $small->status->{messages} == 0 }, 30);
	$small->stop;
	my $got = $sink->finish;
	cmp_ok $got->{messages}, '>=', $r->{acked} + 1, 'small disk: what was acknowledged arrived';
	is $got->{bad_crc}, 0, 'small disk: whole';
	system('umount', '-l', "$small->{dir}/spool");

	# a start when there is no room at all; files of the usual sizes, each larger than the disk
	my $port = free_port();
	my $full = Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$port", message_size_limit => 2_000_000,
		default_destination_concurrency_failed_cohort_limit => 0, defer_transports => '',
		notify_classes => '' }); # the refusal below would be told the postmaster: one message more
	my $spool = "$full->{dir}/spool";
	mkdir $spool;
	Posthaste::mount_tmpfs($spool, '48m') or die "mount: $!";
	$full->launch;
	my $s = $full->smtp;
	$s->ok('EHLO x');
	my @ids = map { ($s->mail('a@b.example', "r$_\@far.example", "Subject: $_\n\n" . "x\n" x 10000) =~ /as (\S+)/)[0] } 1 .. 20;
	$s->quit;
	is scalar(grep { defined } @ids), 20, 'small disk: files larger than the disk do not keep mail out';
	ok wait_until(sub { $full->count_log(qr/status=deferred/) >= 20 }, 20), 'small disk: all of it waits';
	my ($left) = (run_ok('df', '--output=avail', $spool))[1] =~ /(\d+)/;
	cmp_ok $left, '>', 24 << 10, 'small disk: half of it is not reserved';
	ok wait_until(sub { -e "$spool/room" }, 10), 'small disk: room for a start is kept';
	$full->stop;
	open $fh, '>', "$spool/ballast" or die;
	1 while syswrite $fh, $block;
	1 while syswrite $fh, 'x' x 512;
	close $fh;
	$full->launch;
	my $later = $full->smtp;
	$later->ok('EHLO x');
	is $later->cmd('MAIL FROM:<a@b.example>'), '452 4.3.1 Insufficient system storage', 'small disk: started when full, refuses';
	$later->quit;
	my $hop = Posthaste->sink(port => $port);
	$full->command('postqueue', '-f');
	ok wait_until(sub { $full->count_log(qr/status=sent/) >= 20 }, 30), 'small disk: and delivers what it has' or diag $full->log_tail;
	$full->stop;
	is $hop->finish->{messages}, 20, 'small disk: each once';
	system('umount', '-l', $spool);
}
done_testing;
