#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A taken-over delivery worker writes into its own journal that another one's message was sent. With the
# leave it had for a message of its own nobody believes it, and the message arrives. The control: in a
# journal that is older than the spool's secret it would be believed, and the message lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../crash/lib";
use Oracle;
use Posthaste qw(free_port slurp spew wait_until);
use Test::More;

sub story {
	my ($believed) = @_;
	my $port = free_port(); # nobody listens there yet
	my $mta = Posthaste->start(main => {
		relayhost => "[127.0.0.1]:$port", minimal_backoff_time => '300s', maximal_backoff_time => '300s',
	});
	my $smtp = $mta->smtp;
	$smtp->ok('EHLO client.example');
	my (@qid, @id);
	for my $what (qw(own other)) {
		my $r = $smtp->mail('me@home.example', ["$what\@far.example"], "X-Load-Id: $what\n\ntext");
		push @qid, $r =~ /queued as (\S+)/;
		ok $mta->wait_log(qr/$qid[-1]: to=<$what\@far\.example>.*status=deferred/), "$what message waits";
	}
	$smtp->quit;
	is $mta->stop, 0, 'stop';
	# outcomes: doc/spool-format.md
	my ($from, $to);
	for my $file (glob "$mta->{dir}/spool/journal/*.jnl") {
		my $text = slurp($file);
		for (my $at = 64; $at + 64 <= length $text;) {
			my ($magic, undef, $len) = unpack 'a4 V V', substr $text, $at, 12;
			last if $magic ne 'POUT' || $len < 64;
			my $rec = substr $text, $at, $len;
			$at += $len;
			next if unpack('C', substr $rec, 24, 1) != 2;
			$from //= { file => $file, rec => $rec, end => length $text, text => $text };
			$to = substr $rec, 32, 12 if substr($rec, 32, 12) ne substr $from->{rec}, 32, 12;
		}
	}
	ok $from && $to, 'outcomes of both';
	my $rec = $from->{rec};
	is unpack('C', substr $rec, 30, 1), 0x81, 'warranted ones';
	substr $rec, 32, 12, $to;
	substr $rec, 80, 16, pack 'Q< Q<', 1, 0; # sent, not deferred
	substr $rec, 4, 4, pack 'V', 0;
	substr $rec, 4, 4, pack 'V', Oracle::crc32c($rec);
	spew($from->{file}, $from->{text} . $rec);
	if ($believed) {
		my $secret = slurp("$mta->{dir}/spool/secret");
		$secret =~ s/^first_file \d+\n.*/first_file 1000000\n/ms;
		spew("$mta->{dir}/spool/secret", $secret . sprintf "crc32c %08x\n", Oracle::crc32c($secret));
	}
	my $sink = Posthaste->sink(port => $port);
	spew("$mta->{dir}/log", '');
	$mta->launch;
	my $want = $believed ? 1 : 2;
	for (1 .. 20) {
		$mta->advance(300);
		last if wait_until(sub { $want == (() = $mta->log =~ /status=sent/g) }, 1);
	}
	if (!$believed) {
		like $mta->log, qr/\w+: an outcome in journal \w+ at \d+ is not its writer's to write: ignored/, 'logged';
		like $mta->http('/metrics'), qr/^posthaste_sched_forged_total\S* 1$/m, 'counted';
	}
	ok wait_until(sub { $mta->status->{messages} == 0 }, 20), 'nothing is left';
	is $mta->stop, 0, 'stop';
	$sink->finish;
	return scalar keys %{ $sink->received };
}

is story(0), 2, 'both messages arrive';
is story(1), 1, 'the control: where it is believed, one is lost';
done_testing;
