#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Address verification: probes that never deliver, replies as Debian's Postfix gives them, a cache that is renewed and
# outlives a restart, a worker that is killed, a flood of addresses, routes of their own, and a sender that is never refused.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Peers;
use Test::More;

my @rules = ('no-such[^@]*@=>550 5.1.1 no such user', 'later@=>450 4.2.0 not now', 'RCPT TO:<silent=>silence', 'nodata@=>250 2.1.5 fine');
my $hop = Posthaste->recorder(@rules);
my $apart = Posthaste->recorder(@rules, '^DATA=>550 5.7.1 no data here');
my %main = (
	relay_domains => 'far.test, down.test', relay_recipient_maps => '', virtual_alias_domains => 'alias.test',
	virtual_alias_maps => 'inline:{ { one@alias.test = x@far.test }, { bad@alias.test = no-such@far.test }, { two@alias.test = x@far.test, y@far.test } }',
	relayhost => "[127.0.0.1]:$hop->{port}", unverified_recipient_reject_code => 550, unverified_sender_reject_code => 550,
	smtpd_relay_restrictions => 'reject_unauth_destination', address_verify_poll_count => 5, address_verify_poll_delay => '1s',
	smtpd_recipient_restrictions => 'reject_unverified_recipient, permit',
	smtpd_error_sleep_time => 0, always_bcc => 'copy@far.test', transport_maps => 'inline:{ down.test=smtp:[127.0.0.1]:1 }',
);

# The replies to RCPT of one session; "sender recipient ...".
sub replies {
	my ($smtp, @wants) = @_;
	my @said;
	for (@wants) {
		my ($from, $to) = split / /;
		$smtp->cmd('RSET');
		my $r = $smtp->cmd("MAIL FROM:<$from>");
		$r = $smtp->cmd("RCPT TO:<$to>") if $r =~ /^250/;
		push @said, $r =~ s/\s+\z//r;
	}
	return @said;
}

# The same, all at the same time.
sub replies_at_once {
	my ($mta, $port, @wants) = @_;
	my @sessions = map { $mta->smtp($port) } @wants;
	for my $i (0 .. $#wants) {
		my ($from, $to) = split / /, $wants[$i];
		$sessions[$i]->ok('EHLO client.test');
		$sessions[$i]->ok("MAIL FROM:<$from>");
		$sessions[$i]->send_raw("RCPT TO:<$to>\r\n");
	}
	return map { my $r = $_->reply; $_->quit; $r =~ s/\s+\z//r } @sessions;
}

sub line_of { my ($log, $re) = @_; my ($line) = grep { /$re/ } split /\n/, $log; return ($line // '') =~ s/^.*?: [0-9A-Za-z]+: //r =~ s/(?:delays?|conn_use)=[^ ]*? //gr =~ s/^.*?to=/to=/r }

note 'replies';
my $mta = Posthaste->start(main => \%main);
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.test');
my @wants = map { "a\@b.test $_" } qw(x@far.test no-such@far.test later@far.test down@down.test one@alias.test bad@alias.test two@alias.test x@far.test X@FAR.test);
my @ours = replies($smtp, @wants);
is $ours[0], '250 2.1.5 Ok', 'a recipient that the next hop takes';
like $ours[1], qr/^550 5\.1\.1 <no-such\@far\.test>: Recipient address rejected: undeliverable address: host 127\.0\.0\.1\[127\.0\.0\.1\] said: 550 5\.1\.1 no such user \(in reply to RCPT TO command\)$/, 'one that it refuses';
like $ours[2], qr/^450 4\.1\.1 <later\@far\.test>: Recipient address rejected: unverified address: host .* said: 450 4\.2\.0 not now/, 'one that it does not take now';
like $ours[3], qr/^450 4\.1\.1 <down\@down\.test>: Recipient address rejected: unverified address: connect to 127\.0\.0\.1\[127\.0\.0\.1\]:1: Connection refused$/, 'a host that is down';
is_deeply [ @ours[ 4, 6, 7 ] ], [ ('250 2.1.5 Ok') x 3 ], 'aliases, and what is known';
like $ours[5], qr/^550 5\.1\.1 <bad\@alias\.test>: Recipient address rejected: undeliverable address: /, 'an alias of a recipient that is refused';
ok $mta->wait_log(qr/to=<x\@far\.test>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:$hop->{port}, .*dsn=2\.1\.0, status=deliverable \(250 /), 'probes have their lines' or diag $mta->log_tail;
ok $mta->wait_log(qr/to=<two\@alias\.test>, relay=none, .*status=deliverable \(aliased to multiple recipients\)/), 'a list is not probed further';
ok wait_until(sub { $mta->status->{messages} == 0 }, 20), 'nothing stays in the queue';
my $got = $hop->got;
is scalar(() = $got =~ /^RCPT TO:<x\@far\.test>/mg), 2, 'one probe for one address, and one for its alias';
unlike $got, qr/^DATA|copy\@/m, 'that delivers nothing, and no copies';
like $got, qr/^MAIL FROM:<double-bounce\@mx\.posthaste\.test>/m, 'from its own sender';
ok wait_until(sub { $mta->http('/stats') =~ /"verify_probes":\s*8,/ }, 10), 'counters tell of it';

SKIP: {
	my $why = Peers::obstacle();
	skip $why, 3 if $why;
	my $postfix = Peers->postfix(home => 'home.test', next => $hop->{port}, main => join('', map { "$_ = $main{$_}\n" } sort keys %main) . "virtual_mailbox_domains =\nmyorigin = mx.home.test\n");
	skip 'Postfix does not start', 3 unless $postfix;
	my @theirs = replies_at_once($mta, $postfix->{port}, @wants);
	is_deeply \@ours, \@theirs, "Postfix's replies";
	for my $to (qw(x@far.test no-such@far.test)) {
		is line_of($mta->log, qr/to=<\Q$to\E>, relay.*status=/), line_of($postfix->log, qr/to=<\Q$to\E>, relay.*status=/), "and lines about $to";
	}
	$postfix->stop;
}

note 'senders, and what changes with the parameters';
$mta->configure(%main, smtpd_recipient_restrictions => 'check_recipient_access inline:{ {x@far.test = OK}, {y@far.test = reject_unverified_sender} }, permit',
	unverified_sender_reject_reason => 'nobody there', address_verify_transport_maps => "inline:{ apart.test=smtp:[127.0.0.1]:$apart->{port} }",
	unverified_recipient_reject_code => 250, smtp_address_verify_target => 'data', address_verify_sender => 'prober', address_verify_sender_ttl => '1h',
	myorigin => 'mx.posthaste.test');
$smtp->quit;
is +($mta->command('posthaste', 'reload'))[0], 0, 'reload';
ok wait_until(sub { ($mta->workers) && !grep { $_->{generation} < 2 && $_->{class} =~ /^(?:smtpd|verify)$/ } $mta->workers }, 20), 'with new workers';
$smtp = $mta->smtp;
$smtp->ok('EHLO client.test');
my @said = replies($smtp, map { "$_ y\@far.test" } 's@far.test', 'no-such-sender@far.test', 'x@far.test', '', 't@apart.test');
is $said[0], '250 2.1.5 Ok', 'an access table may ask for it';
is $said[1], '550 5.1.7 <no-such-sender@far.test>: Sender address rejected: undeliverable address: nobody there', 'with a reason of its own';
is_deeply [ @said[ 2, 3 ] ], [ ('250 2.1.5 Ok') x 2 ], 'a sender that is known, and the null sender';
is $said[4], '550 5.1.7 <t@apart.test>: Sender address rejected: undeliverable address: nobody there', 'the way of probes is another one';
ok wait_until(sub { $apart->got =~ /^DATA/m }, 20), 'they go as far as they are told';
like $apart->got, qr/^MAIL FROM:<(prober[0-9B-Z]+\@mx\.posthaste\.test)>.*^RCPT TO:<t\@apart\.test>.*^DATA/ms, 'from a sender of this hour';
my ($sender) = $apart->got =~ /^MAIL FROM:<(prober[0-9B-Z]+\@mx\.posthaste\.test)>/m;
unlike $apart->got, qr/Received:/, 'and no content is sent';
is_deeply [ map { s/ .*//r } replies($smtp, "c\@d.test $sender", "c\@d.test " . $sender =~ s/prober\K\w+/B0/r, 'c@d.test prober@mx.posthaste.test') ],
	[ 250, 554, 554 ], 'who is probed may probe that sender, and no other';

note 'a cache that lasts';
$smtp->quit;
is $mta->stop, 0, 'stop';
my ($rc, $text) = Posthaste::run_ok(Posthaste::prefix() . '/sbin/postmap', '-s', "btree:$mta->{dir}/data/verify_cache");
like $text, qr/^x\@far\.test\t0:0:\d+:250 /m, 'postmap reads it' or diag $text;
$mta->configure(%main);
$mta->launch;
my $before = length $hop->got;
$smtp = $mta->smtp;
$smtp->ok('EHLO client.test');
is_deeply [ map { s/ .*//r } replies($smtp, @wants[ 0, 1 ]) ], [ 250, 550 ], 'known after a restart';
is length $hop->got, $before, 'without a probe';
$mta->advance(4 * 3600);
like((replies($smtp, $wants[1]))[0], qr/^550 /, 'a failure that is due is told at once');
ok wait_until(sub { substr($hop->got, $before) =~ /RCPT TO:<no-such\@far\.test>/ }, 20), 'and renewed';

note 'a worker that is killed';
my $waiting = $mta->smtp;
$waiting->ok('EHLO client.test');
$waiting->ok('MAIL FROM:<a@b.test>');
$waiting->send_raw("RCPT TO:<silent\@far.test>\r\n");
ok wait_until(sub { $hop->got =~ /./ && $mta->log =~ /to=<|./ && $mta->status->{messages} > 0 }, 20), 'a probe is under way';
my ($verify) = grep { $_->{class} eq 'verify' } $mta->workers;
ok $verify, 'there is a verify worker';
kill 'KILL', $verify->{pid};
ok wait_until(sub { grep { $_->{class} eq 'verify' && $_->{pid} != $verify->{pid} && $_->{state} eq 'up' } $mta->workers }, 20), 'the next one comes';
like((replies($smtp, $wants[0]))[0], qr/^250 /, 'and knows what was known');
like $waiting->reply, qr/^450 4\.1\.1 <silent\@far\.test>: Recipient address rejected: unverified address: Address verification in progress/, 'who waited is answered';

note 'a flood';
$mta->configure(%main, address_verify_pending_request_limit => 20, address_verify_poll_count => 1, smtpd_error_sleep_time => 0,
	smtpd_soft_error_limit => 1000, smtpd_hard_error_limit => 1000);
$smtp->quit;
$waiting->quit;
$mta->command('posthaste', 'reload');
ok wait_until(sub { !grep { $_->{generation} < 2 && $_->{class} =~ /^(?:smtpd|verify)$/ } $mta->workers }, 20), 'a limit of 20';
my @flood = map { "a\@b.test silent$_\@far.test" } 1 .. 100;
$smtp = $mta->smtp;
$smtp->ok('EHLO client.test');
@said = replies($smtp, @flood);
is scalar(grep { /^450 .*(?:in progress|Too many address verification requests)/ } @said), 100, 'each is deferred' or diag $said[-1];
is scalar(grep { /Too many/ } @said), 80, 'without more probes' or diag $said[-1];
cmp_ok $mta->status->{messages}, '<=', 25, 'and the queue does not fill';
$smtp->quit;
$hop->stop;
is $mta->stop, 0, 'stop';
done_testing;
