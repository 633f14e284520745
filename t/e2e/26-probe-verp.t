#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# sendmail -bv: find out whether mail would be delivered, deliver nothing, report. sendmail -v: deliver and report.
# sendmail -XV: a sender for each recipient, also for notifications.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use POSIX ();
use Test::More;

my $uid = $> == 0 ? (getpwnam 'nobody')[2] : $>;
my $gid = $> == 0 ? (getpwnam 'nobody')[3] : (split ' ', $))[0];
my @rules = ('no-such@=>550 5.1.1 no such user', 'later@=>450 4.2.0 not now', 'from=<refused=>550 5.7.1 not from you');
my $piped = Posthaste->recorder('whole', @rules);
my $plain = Posthaste->recorder('whole', 'caps=SIZE', @rules);
my $mta = Posthaste->prepare(main => {
	transport_maps => "inline:{ { piped.test = smtp:[127.0.0.1]:$piped->{port} }, { plain.test = smtp:[127.0.0.1]:$plain->{port} },"
		. ' { error.test = error:5.7.1 not there }, { discard.test = discard:away } }',
	virtual_mailbox_domains => 'home.test', virtual_uid_maps => "static:$uid", virtual_gid_maps => "static:$gid",
	virtual_mailbox_maps => 'inline:{ { me@home.test = me/ }, { ann@home.test = ann/ }, { list@home.test = list/ }, { @list.test = list/ } }',
	virtual_alias_maps => 'inline:{ { alias@home.test = ann@home.test, x@piped.test } }', myorigin => 'home.test',
	virtual_delivery_status_filter => 'pcre:{ {/^2.0.0 delivered/ 2.0.9 filed} }', virtual_minimum_uid => 1, disable_verp_bounces => 'no', recipient_delimiter => '+',
});
$mta->configure(virtual_mailbox_base => "$mta->{dir}/mail");
$mta->launch;
my $sbin = Posthaste::prefix() . '/sbin';

# (exit status, output)
sub sendmail {
	my ($input, @args) = @_;
	spew("$mta->{dir}/in", $input);
	my $pid = open my $out, '-|';
	die "fork: $!" unless defined $pid;
	if (!$pid) {
		open STDIN, '<', "$mta->{dir}/in" or POSIX::_exit(71);
		open STDERR, '>&', \*STDOUT;
		local $ENV{POSTHASTE_CLOCK} = "$mta->{dir}/clock";
		exec "$sbin/sendmail", '-C', "$mta->{dir}/conf", @args or POSIX::_exit(71);
	}
	local $/;
	my $text = <$out> // '';
	close $out;
	return ($? >> 8, $text);
}

# The newest mail in a box about which all of these are true.
sub mail_in {
	my ($box, @re) = @_;
	return wait_until(sub {
		for my $text (map { slurp($_) } $mta->maildir_files($box)) {
			return $text unless grep { $text !~ $_ } @re;
		}
		return;
	}, 20) // '';
}

note 'probes';
my @rcpts = qw(x@piped.test no-such@piped.test later@piped.test y@plain.test no-such@plain.test ann@home.test gone@home.test a@error.test a@discard.test);
my ($rc, $out) = sendmail('this is not read', '-bv', '-f', 'me@home.test', @rcpts);
is $rc, 0, 'sendmail -bv' or diag $out;
is $out, "Mail Delivery Status Report will be mailed to <me\@home.test>.\n", 'says where the report goes';
ok $mta->wait_log(qr/to=<ann\@home\.test>.*status=deliverable \(delivers to maildir\)/), 'a mailbox is deliverable' or diag $mta->log_tail;
ok $mta->wait_log(qr/to=<\Q$_\E>.*status=deliverable/), "$_ is deliverable" for qw(x@piped.test y@plain.test a@discard.test);
ok $mta->wait_log(qr/to=<\Q$_\E>.*status=undeliverable/), "$_ is not" for qw(no-such@piped.test later@piped.test no-such@plain.test gone@home.test a@error.test);
my $report = mail_in('me', qr/^Final-Recipient: rfc822; x\@piped\.test\n/m);
like $report, qr/^Subject: Mail Delivery Status Report$/m, 'a report comes';
like $report, qr/^Final-Recipient: rfc822; x\@piped\.test\nOriginal-Recipient: .*\nAction: deliverable\nStatus: 2\.1\.0\n/m, 'deliverable';
like $report, qr/^Final-Recipient: rfc822; no-such\@piped\.test\nOriginal-Recipient: .*\nAction: undeliverable\nStatus: 5\.1\.1\n/m, 'not for good';
like $report, qr/^Final-Recipient: rfc822; later\@piped\.test\nOriginal-Recipient: .*\nAction: undeliverable\nStatus: 4\.2\.0\n/m, 'not now';
like $report, qr/^Subject: probe$/m, 'with the header of the probe';
ok mail_in('me', qr/^Final-Recipient: rfc822; \Q$_\E\n/m), "and one about $_" for qw(no-such@plain.test ann@home.test gone@home.test a@error.test);
ok wait_until(sub { $mta->status->{messages} == 0 }, 20), 'nothing stays in the queue';
unlike $_->got, qr/^DATA/m, 'nothing was sent' for $piped, $plain;
is scalar($mta->maildir_files('ann')), 0, 'or delivered';
($rc, $out) = sendmail('', '-bv', '-t');
is $rc, 75, '-bv takes no recipients from a message';

note 'reports of deliveries';
($rc, $out) = sendmail("Subject: verbose\n\nx\n", '-v', '-f', 'me@home.test', 'x@piped.test', 'ann@home.test');
is "$rc $out", "0 Mail Delivery Status Report will be mailed to <me\@home.test>.\n", 'sendmail -v';
like mail_in('me', qr/^Subject: verbose$/m, qr/x\@piped\.test/), qr/^Action: relayed$/m, 'relayed, though the next hop knows DSN';
like mail_in('me', qr/^Subject: verbose$/m, qr/ann\@home\.test/), qr/^Action: delivered$/m, 'delivered';
like mail_in('ann', qr/^Subject: verbose$/m), qr/^x$/m, 'and it is';
ok $mta->wait_log(qr/to=<ann\@home\.test>.*dsn=2\.0\.9, status=sent \(filed\)/), 'mailboxes have a filter of results, too';

note 'VERP';
($rc, $out) = sendmail("Subject: verp\n\nx\n", '-XV', '-f', 'list@list.test', 'a@piped.test', 'b+c@piped.test', 'no-such@piped.test', 'alias@home.test');
is "$rc$out", '0', 'sendmail -XV' or diag $mta->log_tail;
ok wait_until(sub { $piped->got =~ /^MAIL FROM:<list\+\Q$_\E\@list\.test>/m }, 20), "the sender for $_" for 'a=piped.test', 'b+c=piped.test', 'no-such=piped.test', 'alias=home.test';
like $piped->got, qr/^MAIL FROM:<list\+a=piped\.test\@list\.test>.*\r\nRCPT TO:<a\@piped\.test>.*\r\nDATA/m, 'each recipient has a transaction';
like mail_in('ann', qr/^Subject: verp$/m), qr/^Return-Path: <list\+alias=home\.test\@list\.test>$/m, 'mailboxes say it, with the original recipient';
ok $mta->wait_log(qr/to=<list\+no-such=piped\.test\@list\.test>, .*status=/), 'the notification goes to the recipient\'s own sender';
($rc, $out) = sendmail("Subject: verp2\n\nx\n", '-XV=-', '-f', 'list@list.test', 'd@plain.test');
is $rc, 0, 'other delimiters';
ok wait_until(sub { $plain->got =~ /^MAIL FROM:<list=d-plain\.test\@list\.test>/m }, 20), 'are used';
is((sendmail("\n\n", '-XV!!', '-f', 'list@list.test', 'd@plain.test'))[0], 75, 'not just any');
is((sendmail("\n\n", '-XV', '-f', '<>', 'd@plain.test'))[0], 75, 'nor for the null sender');
is $mta->stop, 0, 'stop';
done_testing;
