#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Mail for hosted mailboxes ends up in Maildirs; unknown users are refused at the door.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Test::More;

my $uid = $> == 0 ? (getpwnam 'nobody')[2] : $>;
my $gid = $> == 0 ? (getpwnam 'nobody')[3] : (split ' ', $))[0];
my $mta = Posthaste->prepare(main => {
	virtual_mailbox_domains => 'host.example',
	virtual_mailbox_maps => 'inline:{ ann@host.example=ann/, ben@host.example=deep/er/ben/ }',
	virtual_uid_maps => "static:$uid",
	virtual_gid_maps => "static:$gid",
});
$mta->configure(virtual_mailbox_base => "$mta->{dir}/mail");
$mta->launch;
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
my $reply = $smtp->mail('x@client.example', [ 'ann@host.example', 'ben@host.example' ],
	"Subject: two boxes\n\nline one\n.starts with a dot\n");
like $reply, qr/^250 2\.0\.0 Ok: queued as/, 'accepted';
my ($qid) = $reply =~ /as (\S+)/;
ok $mta->wait_log(qr/$qid: removed/), 'delivered' or diag $mta->log_tail;
my @ann = $mta->maildir_files('ann');
my @ben = $mta->maildir_files('deep/er/ben');
is @ann, 1, 'one file for ann';
is @ben, 1, 'one file for ben';
my $text = slurp($ann[0]);
like $text, qr/^Return-Path: <x\@client\.example>\n/m, 'Return-Path';
like $text, qr/^Delivered-To: ann\@host\.example\n/m, 'Delivered-To';
like $text, qr/\n\nline one\n\.starts with a dot\n/, 'content unstuffed, LF line ends';
unlike $text, qr/\r/, 'no CR';
like $mta->log, qr/postfix\/virtual\[\d+\]: $qid: to=<ann\@host\.example>, relay=virtual, delay=[\d.]+, delays=\S+, dsn=2\.0\.0, status=sent \(delivered to maildir\)/,
	'delivery line';
$smtp->ok('MAIL FROM:<x@client.example>');
is $smtp->cmd('RCPT TO:<nobody@host.example>'),
	'550 5.1.1 <nobody@host.example>: Recipient address rejected: User unknown in virtual mailbox table',
	'unknown user';
$smtp->quit;
is $mta->stop, 0, 'stop';
done_testing;
