#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Days pass: retries follow the back-off, a delay warning goes out, and mail that cannot be delivered
# comes back; a bounce of a bounce does not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port slurp wait_until);
use Test::More;

my $uid = $> == 0 ? (getpwnam 'nobody')[2] : $>;
my $gid = $> == 0 ? (getpwnam 'nobody')[3] : (split ' ', $))[0];
my $port = free_port();
my $mta = Posthaste->prepare(main => {
	relayhost => "[127.0.0.1]:$port",
	virtual_mailbox_domains => 'home.example',
	virtual_mailbox_maps => 'inline:{ @home.example=box/ }',
	virtual_uid_maps => "static:$uid",
	virtual_gid_maps => "static:$gid",
	delay_warning_time => '4h',
	confirm_delay_cleared => 'yes',
	maximal_queue_lifetime => '2d',
	bounce_queue_lifetime => '1d',
});
$mta->configure(virtual_mailbox_base => "$mta->{dir}/mail");
$mta->launch;
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
my ($qid) = $smtp->mail('me@home.example', 'you@far.example', "Subject: slow\n\nthe text") =~ /as (\S+)/;
my ($null) = $smtp->mail('', 'you@far.example', "Subject: from nobody\n\n") =~ /as (\S+)/;
$smtp->quit;
ok $mta->wait_log(qr/$qid: to=<you\@far\.example>.*status=deferred/), 'first attempt';
my $attempts = sub { $mta->count_log(qr/$qid: to=<you\@far\.example>/) };
is $attempts->(), 1, 'one attempt';
$mta->advance(200);
select undef, undef, undef, 0.5;
is $attempts->(), 1, 'none before minimal_backoff_time';
$mta->advance(200);
ok wait_until(sub { $attempts->() == 2 }, 20), 'one after it';
for (1 .. 5) { $mta->advance(3600); wait_until(sub { 0 }, 0.4) }
ok $mta->wait_log(qr/$qid: sender delay notification: (\S+)/), 'delay warning' or diag $mta->log_tail;
ok wait_until(sub { $mta->maildir_files('box') == 1 }, 20), 'one warning in the mailbox';
my ($warning) = $mta->maildir_files('box');
my $text = slurp($warning);
like $text, qr/^Action: delayed$/m, 'it says delayed';
like $text, qr/^Auto-Submitted: auto-replied$/m, 'it is marked automatic';
for (1 .. 48) { $mta->advance(3600); wait_until(sub { $mta->log =~ /$qid: from=.*status=expired/ }, 0.15) and last }
ok $mta->wait_log(qr/$qid: from=<me\@home\.example>, status=expired, returned to sender/), 'expired' or diag $mta->log_tail;
ok $mta->wait_log(qr/$qid: sender non-delivery notification: (\S+)/), 'bounced';
ok wait_until(sub { $mta->maildir_files('box') == 2 }, 20), 'the bounce arrived, and only one warning';
my ($bounce) = grep { $_ ne $warning } $mta->maildir_files('box');
$text = slurp($bounce);
like $text, qr/^Return-Path: <>$/m, 'null sender';
like $text, qr/^Content-Type: multipart\/report; report-type=delivery-status/m, 'a report';
like $text, qr/^Final-Recipient: rfc822; ?you\@far\.example$/m, 'recipient';
like $text, qr/^Action: failed$/m, 'failed';
like $text, qr/^Status: 4\.4\.1$/m, 'status of the last attempt';
like $text, qr/^the text$/m, 'with the original text';
ok wait_until(sub { $mta->log =~ /$null: removed/ }, 20), 'the message from the null sender ends';
is scalar(() = $mta->log =~ /$null: sender non-delivery notification/g), 0, '... without a bounce to anybody';
ok wait_until(sub { $mta->status->{messages} == 0 }, 20), 'the queue is empty';

# confirm_delay_cleared: who heard of a delay hears of its end, also when the system was stopped in between
$smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
($qid) = $smtp->mail('me@home.example', 'late@far.example', "Subject: late\n\n") =~ /as (\S+)/;
my $before = $mta->maildir_files('box');
ok $mta->wait_log(qr/$qid: to=<late\@far\.example>.*status=deferred/), 'deferred';
for (1 .. 4) { $mta->advance(5 * 3600); wait_until(sub { $mta->log =~ /$qid: sender delay/ }, 0.4) and last }
ok $mta->wait_log(qr/$qid: sender delay notification: /), 'reported as delayed';
ok wait_until(sub { $mta->maildir_files('box') == $before + 1 }, 20), '... to its sender';
my %known = map { $_ => 1 } $mta->maildir_files('box');
$mta->crash;
$mta->launch;
my $hop = Posthaste->recorder("127.0.0.1:$port");
$mta->command('postqueue', '-f');
ok $mta->wait_log(qr/$qid: to=<late\@far\.example>.*status=sent/), 'then it is sent';
ok $mta->wait_log(qr/$qid: sender delivery status notification: /), '... and reported' or diag $mta->log_tail;
ok wait_until(sub { $mta->maildir_files('box') == $before + 2 }, 20), '... once';
($bounce) = grep { !$known{$_} } $mta->maildir_files('box');
$text = slurp($bounce);
like $text, qr/^Action: relayed$/m, 'it says so';
like $text, qr/^Final-Recipient: rfc822; ?late\@far\.example$/m, 'for whom';
$hop->stop;
$mta->stop;
done_testing;
