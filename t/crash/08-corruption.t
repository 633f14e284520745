#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Corruption. t/crash/spool_flip damages a small spool in every way, and recovery reads each copy. Then
# the whole system starts on damaged copies of a real spool: what was damaged is named in the log, kept in
# corrupt/ and counted, or was not needed; all else is delivered as it was written, and to nobody else.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use File::Path qw(remove_tree);
use Posthaste qw(build_dir free_port run_ok slurp spew wait_until);
use Prove;
use Test::More;

my $c = Prove->new(name => '08-corruption', title => 'Damage to every byte of a spool');

# ---- every byte, by the library ----

my ($rc, $out) = run_ok(build_dir() . '/t/crash/spool_flip', $c->full ? '-a' : ('-s', $c->seed % 100000));
is $rc, 0, 'recovery from every damaged copy of a small spool' or diag grep { /^not ok|^# / } split /^/, $out;
my ($texts) = $out =~ /^# texts (\d+)/m;
my %n = $out =~ /([\w-]+) (\d+)/g if $out =~ /^# damages .*/m && ($out = $&);
cmp_ok $n{damages} || 0, '>', $c->full ? 400_000 : 3000, 'damaged copies';
$c->points($n{damages});
$c->figure('damaged copies read by recovery', $n{damages}, $c->full ?
	'every byte of segments, indexes and the journal in four ways, every length, pages, files exchanged' : 'a sample');
cmp_ok $texts || 0, '>', $c->full ? 30_000 : 2000, 'damaged copies of state, clock and list';
$c->points($texts);
$c->figure('damaged copies of `state`, `clock` and `in_doubt` read', $texts,
	'no number given out twice, no line or time that was never written');
$c->figure('damaged records kept and named at start', $n{'kept-at-start'});
$c->figure('damaged records found when they are loaded', $n{'kept-at-load'});
$c->figure('records that an index that lies had hidden, found by the search', $n{'by-search'});
$c->figure('records without a trace: their headers were gone and no row told of them, or delivered before',
	$n{unnamed}, 'pages destroyed, files cut off');

# The control: the same with checksums that say nothing.
($rc, $out) = run_ok(build_dir() . '/t/crash/spool_flip', '-c', '-s', $c->seed % 100000);
my ($passed, $of) = $out =~ /^# passed (\d+) of (\d+)/m;
is $rc, 0, 'control: without checksums damage passes for mail' or diag $out;
$c->control('checksums that say nothing',
	"$passed of $of damaged copies give changed, strange or missing mail and say nothing");

# ---- the whole system ----

# A spool with mail that waits: of a dozen messages, one is large, one has many recipients, one is held.
my $port = free_port();
my $mta  = Posthaste->start(main => {
	relayhost => "[127.0.0.1]:$port", minimal_backoff_time => '300s', maximal_backoff_time => '300s',
	spool_segment_size => 4194304, smtp_destination_concurrency_limit => 1, initial_destination_concurrency => 1,
});
my (%subject, %rcpts);
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
for my $k (1 .. 12) {
	my @to = map { "r$_.m$k\@far.example" } 1 .. ($k == 5 ? 20 : 1);
	my $body = join '', map { "line $_ of message $k, of some length\n" } 1 .. ($k == 9 ? 40000 : 20);
	my $r = $smtp->mail("sender$k\@home.example", \@to, "Subject: m$k\n\n$body");
	my ($qid) = $r =~ /queued as (\S+)/ or BAIL_OUT($r);
	$subject{$qid} = "m$k";
	$rcpts{"m$k"}  = \@to;
	ok wait_until(sub { $mta->status->{messages} == $k }, 10), "m$k waits";
}
$smtp->quit;
ok $mta->wait_log(qr/status=deferred/), 'the next hop was tried';
my ($held) = grep { $subject{$_} eq 'm7' } keys %subject;
is((run_ok(Posthaste::prefix() . '/sbin/postsuper', '-c', "$mta->{dir}/conf", '-h', $held))[0], 0, 'one is held');
$mta->stop;
my $spool = "$mta->{dir}/spool";
my @files = grep { -s } glob "$spool/seg/* $spool/journal/*";
push @files, "$spool/state", "$spool/clock";
my %good = map { $_ => slurp($_) } @files;
s/\0+\z// for map { $good{$_} } grep { /seg$|jnl$/ } @files;

sub restore {
	my ($full) = @_;
	remove_tree("$spool/seg", "$spool/journal", "$spool/corrupt", { keep_root => 1 });
	for my $file (@files) {
		spew($file, $good{$file});
		truncate $file, 4194304 if $file =~ /seg$|jnl$/;
		chmod 0600, $file;
		chown((stat $spool)[4, 5], $file) if $file =~ m{/(?:seg|journal)/} && $> == 0;
		chown((stat "$spool/seg")[4, 5], $file) if $> == 0;
	}
	return;
}

my %ways = (
	flip  => sub { my ($b, $at) = @_; substr($$b, $at, 1) ^= "\x01"; },
	high  => sub { my ($b, $at) = @_; substr($$b, $at, 1) ^= "\x80"; },
	zeros => sub { my ($b, $at) = @_; substr($$b, $at & ~4095, 4096) = "\0" x 4096; },
	cut   => sub { my ($b, $at) = @_; $$b = substr $$b, 0, $at; },
);

# Where it hurts most: in an envelope, a header, a body; and anywhere.
sub places {
	my ($file) = @_;
	my $text = $good{$file};
	my @at;
	if ($file =~ /seg$/) {
		push @at, index($text, 'r1.m3@far') + 1, index($text, 'sender2@') + 2, index($text, 'of message 4,') + 1,
			index($text, 'r7.m5@far') + 1, index($text, 'line 30000 of message 9') + 1, index($text, 'r1.m9@far') + 1;
		push @at, $-[0] + 24 while $text =~ /PREC/g;
	}
	push @at, map { $c->rand(length $text) } 1 .. 4;
	return grep { $_ > 0 && $_ < length $text } @at;
}

my @cases;
for my $file (@files) {
	for my $at (places($file)) {
		my @w = $at % 4096 < 64 || $file =~ /state/ ? qw(flip high) : sort keys %ways;
		push @cases, [ $file, $at, $w[ $c->rand(scalar @w) ] ];
	}
}
@cases = $c->pick($c->full ? 48 : 3, @cases);

my ($kept, $misdelivered, @wrong) = (0, 0);
for my $case (@cases) {
	my ($file, $at, $way) = @$case;
	my $what = $file =~ s{.*/}{}r . " $way at $at";
	restore();
	my $bytes = $good{$file};
	$ways{$way}->(\$bytes, $at);
	spew($file, $bytes);
	truncate $file, 4194304 if $file =~ /seg$|jnl$/ && $way ne 'cut';
	spew("$mta->{dir}/log", '');
	my $next = Posthaste->recorder("127.0.0.1:$port");
	$mta->launch;
	for (1 .. 12) {
		$mta->advance(400);
		last if wait_until(sub { ($mta->status->{messages} // 99) <= 1 }, 0.4);
	}
	my ($rc2, $list) = $mta->command('postqueue', '-p');
	my $damaged = $mta->status->{damaged};
	push @wrong, "$what: stop" if $mta->stop;
	my $got = $next->got;
	$next->stop;
	my $log = $mta->log;
	push @wrong, "$what: " . $mta->crashes if $mta->crashes;
	my %seen;
	# one transaction after the other: envelope, then content
	for my $tr (split /^(?=(?:[<>]\s*)?MAIL FROM:)/m, $got) {
		my @to = $tr =~ /RCPT TO:<([^>]+)>/g;
		my ($subject) = $tr =~ /^Subject: (m\d+)\r?$/m or next;
		next unless $tr =~ /^\.\r?$/m; # it was broken off
		my ($k) = $subject =~ /(\d+)/;
		my $lines = () = $tr =~ /^line \d+ of message $k, of some length\r?$/mg;
		push @wrong, "$what: $subject has $lines lines" if $lines != ($k == 9 ? 40000 : 20);
		my %ours = map { $_ => 1 } @{ $rcpts{$subject} };
		$misdelivered++, push @wrong, "$what: $subject goes to $_" for grep { !$ours{$_} } @to;
		$seen{$subject}{$_}++ for @to;
	}
	for my $qid (keys %subject) {
		my $s = $subject{$qid};
		my $all = @{ $rcpts{$s} } == keys %{ $seen{$s} || {} };
		my $here = $list =~ /^$qid/m;
		next if $all || $here;
		my $saved = -e "$spool/corrupt/$qid" || -e "$spool/corrupt/$qid.torn" || glob "$spool/corrupt/*-*";
		push @wrong, "$what: $s is neither delivered nor queued nor kept" unless $saved || ($way =~ /cut|zeros/ && $file =~ /seg$/);
		push @wrong, "$what: $s is not named" unless $log =~ /$qid.*damaged|damaged.*$qid|of $qid|record without a readable|$qid.*incomplete/ ||
			$way =~ /cut|zeros/;
		$kept++ if $saved;
	}
	my ($warned) = $list =~ /(\d+) damaged record/;
	my @in_corrupt = grep { !/\.torn$/ } glob "$spool/corrupt/*";
	push @wrong, "$what: postqueue counts " . ($warned || 0) . ' of ' . @in_corrupt if ($warned || 0) != @in_corrupt;
}
is join("\n", @wrong), '', 'each damaged copy: named, kept and counted; all else delivered unchanged, to nobody else';
$c->points(scalar @cases);
$c->figure('damaged copies that the whole system started on', scalar @cases);
$c->figure('messages delivered changed or to others', $misdelivered, 'of ' . @cases * 12);
$c->figure('damaged messages kept for the operator by the whole system', $kept);

# ---- control: what the checks are worth ----

restore();
remove_tree("$spool/corrupt", { keep_root => 1 });
my ($seg) = grep { /seg$/ && $good{$_} =~ /r1\.m3\@far/ } @files;
my $bytes = $good{$seg};
substr($bytes, index($bytes, 'line 3 of message 3,'), 4) = 'LINE';
spew($seg, $bytes);
truncate $seg, 4194304;
my $next = Posthaste->recorder("127.0.0.1:$port");
$mta->launch;
$mta->advance(400);
ok $mta->wait_log(qr/record is damaged.*saved to corrupt/, 20), 'a changed body is noticed, not delivered';
unlike $next->got, qr/LINE 3/, 'the changed line went nowhere';
ok wait_until(sub { $mta->advance(15); ($mta->status->{damaged} // 0) == 1 }, 20), 'it is counted in the status';
like $mta->http('/stats'), qr/"damaged":\s*1\b/, 'and in /stats';
is $mta->stop, 0, 'stop';
$c->control('four bytes of a body changed', 'the message is kept in corrupt/ and not delivered');
$c->done;
