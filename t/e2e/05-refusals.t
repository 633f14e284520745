#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# 5 recipients each over 1,000 destinations; the next hop refuses 20 % once and 5 % for good: the
# first are tried again, the second come back as notifications, and nothing is lost or doubled.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(spew slurp wait_until);
use Test::More;

my $n    = $ENV{POSTHASTE_MESSAGES} || 1000;
my $uid  = $> == 0 ? (getpwnam 'nobody')[2] : $>;
my $gid  = $> == 0 ? (getpwnam 'nobody')[3] : (split ' ', $))[0];
my $sink = Posthaste->sink(args => [ '-T', 20, '-P', 5 ]);
my $mta  = Posthaste->prepare(main => {
	virtual_mailbox_domains => 'load.test',
	virtual_mailbox_maps => 'inline:{ @load.test=sender/ }',
	virtual_uid_maps => "static:$uid",
	virtual_gid_maps => "static:$gid",
});
# every destination is a next hop of its own: another loopback address
spew("$mta->{dir}/transport", join '', map {
	sprintf "d%d.sink.test smtp:[127.1.%d.%d]:%d\n", $_, int($_ / 250), $_ % 250 + 1, $sink->{port}
} 0 .. 999);
$mta->configure(
	virtual_mailbox_base => "$mta->{dir}/mail",
	transport_maps => "texthash:$mta->{dir}/transport",
);
$mta->launch;
my $r = Posthaste->load('-s', 20, '-n', $n, '-r', 5, '-D', 1000, '-p', "127.0.0.1:$mta->{port}");
is $r->{acked}, $n, "$n messages acknowledged";
# first attempts, then retries as time passes
for my $round (1 .. 12) {
	last if wait_until(sub { $mta->status->{messages} == 0 }, $round == 1 ? 20 : 5);
	$mta->advance(1200);
}
is $mta->status->{messages}, 0, 'the queue drains';
is $mta->stop, 0, 'stop';
my $got = $sink->finish;
my $ids = $sink->received;
is scalar(grep { $_ > 1 } values %$ids), 0, 'no recipient got a message twice';
is $got->{bad_crc} + $got->{misdelivered} + $got->{without_id}, 0, 'whole and in right hands';
cmp_ok $got->{refused_once}, '>', 0, 'some were refused for a time';
cmp_ok $got->{refused}, '>', 0, 'some were refused for good';
# every refused recipient stands in a notification
my (%failed, $notes);
for my $f ($mta->maildir_files('sender')) {
	my $text = slurp($f);
	$notes++;
	like $text, qr/^Content-Type: multipart\/report; report-type=delivery-status/m, 'a report' if $notes == 1;
	$failed{$1}++ while $text =~ /^Final-Recipient: rfc822; (\S+)/mg;
}
is scalar(keys %$ids) + scalar(keys %failed), $n * 5, 'each recipient was delivered or reported';
is scalar(grep { $_ > 1 } values %failed), 0, 'none was reported twice';
is $mta->crashes, '', 'nothing crashed';
done_testing;
