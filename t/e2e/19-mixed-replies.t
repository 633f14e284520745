#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# One message, many recipients, a different answer for each: at RCPT TO, at the end of the data, and
# from a connection that ends in the middle. Each recipient gets its own fate and only its own.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp wait_until);
use Test::More;

my $uid = $> == 0 ? (getpwnam 'nobody')[2] : $>;
my $gid = $> == 0 ? (getpwnam 'nobody')[3] : (split ' ', $))[0];
my @rules = (
	'^RCPT TO:<later=>450 4.2.1 mailbox busy', '^RCPT TO:<never=>550 5.1.1 no such user',
	'^RCPT TO:<bare=>551 go away', '^RCPT TO:<over=>452 4.5.3 Too many recipients',
	'^RCPT TO:<cut=>close', '^RCPT TO:<down=>421 4.3.2 shutting down',
	'^MAIL FROM:<badsender=>553 5.1.8 no such sender',
	'Subject: end-450=>450 4.3.0 try later', 'Subject: end-554=>554 5.7.1 spam',
	'Subject: end-close=>close', '^RCPT TO:<lm-later.*Subject=>452 4.2.2 over quota',
	'^RCPT TO:<lm-never.*Subject=>552 5.2.2 over quota',
);
my $hop = Posthaste->recorder(@rules);
my $plain = Posthaste->recorder('caps=8BITMIME', @rules); # no pipelining
my $mta = Posthaste->prepare(main => {
	transport_maps => 'inline:{ ' . join(', ', "{ hop.test = smtp:[127.0.0.1]:$hop->{port} }",
		"{ plain.test = smtp:[127.0.0.1]:$plain->{port} }", "{ lmtp.test = lmtp:inet:127.0.0.1:$hop->{port} }") . ' }',
	virtual_mailbox_domains => 'home.test',
	virtual_mailbox_maps => 'inline:{ { @home.test = box/ } }',
	virtual_uid_maps => "static:$uid",
	virtual_gid_maps => "static:$gid",
	# one dead site must not keep the next story waiting
	default_destination_concurrency_failed_cohort_limit => 100,
});
$mta->configure(virtual_mailbox_base => "$mta->{dir}/mail");
$mta->launch;
# Sends to USERS at DOMAIN; returns the queue id once every recipient has a result.
sub story {
	my ($from, $domain, $subject, @users) = @_;
	my $smtp = $mta->smtp;
	$smtp->ok('EHLO client.test');
	my ($qid) = $smtp->mail($from, [ map { "$_\@$domain" } @users ], "Subject: $subject\n\nx") =~ /queued as (\w+)/;
	$smtp->quit;
	$mta->wait_log(qr/$qid: to=<$_\@$domain>.*status=/) for @users;
	return $qid;
}

# The result of one recipient, "status dsn (text)".
sub is_result {
	my ($qid, $user, $want) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @got = $mta->log =~ /$qid: to=<$user\@.*?, dsn=([\d.]+), status=(\w+ \(.*\))$/mg;
	is scalar @got, 2, "$user: one result" or diag grep { /$qid/ } split /^/, $mta->log;
	return like "$got[0] $got[1]", qr/^$want$/, "$user: $want";
}

for my $domain (qw(hop.test plain.test)) {
	my $port = $domain eq 'hop.test' ? $hop->{port} : $plain->{port};
	my $host = qr/host 127\.0\.0\.1\[127\.0\.0\.1\] said:/;
	note "$domain: at RCPT TO";
	my $qid = story('me@home.test', $domain, 'mixed', qw(good1 later never bare good2));
	is_result($qid, $_, qr/2\.0\.0 sent \(250 2\.0\.0 recorded\)/) for qw(good1 good2);
	is_result($qid, 'later', qr/4\.2\.1 deferred \($host 450 4\.2\.1 mailbox busy \(in reply to RCPT TO command\)\)/);
	is_result($qid, 'never', qr/5\.1\.1 bounced \($host 550 5\.1\.1 no such user \(in reply to RCPT TO command\)\)/);
	is_result($qid, 'bare', qr/5\.0\.0 bounced \($host 551 go away \(in reply to RCPT TO command\)\)/);
	my $bounce = $mta->wait_log(qr/$qid: sender non-delivery notification: (\w+)/);
	ok $mta->wait_log(qr/$bounce: removed/), 'one bounce';
	my ($file) = grep { slurp($_) =~ /^Message-Id: <\Q$bounce\E@/mi } $mta->maildir_files('box');
	my $text = slurp($file // '');
	is join(' ', sort $text =~ /^Final-Recipient: rfc822; (\w+)\@/mg), 'bare never', 'it names those refused, and no other';
	is $mta->count_log(qr/$qid: removed/), 0, 'the message stays for the one deferred';
	$mta->advance(400);
	ok wait_until(sub { $mta->count_log(qr/$qid: to=<later/) == 2 }, 10), 'which is tried again';
	is $mta->count_log(qr/$qid: to=/), 6, '... alone';
	is $mta->count_log(qr/$qid: sender non-delivery notification/), 1, '... and nothing is reported twice';

	note "$domain: nobody is accepted";
	$qid = story('me@home.test', $domain, 'none', qw(never later2));
	is_result($qid, 'never', qr/5\.1\.1 bounced .*/);
	is_result($qid, 'later2', qr/4\.2\.1 deferred .*RCPT TO command\)\)/);

	note "$domain: the sender is refused";
	$qid = story('badsender@home.test', $domain, 'sender', qw(good3 good4));
	is_result($qid, $_, qr/5\.1\.8 bounced \($host 553 5\.1\.8 no such sender \(in reply to MAIL FROM command\)\)/) for qw(good3 good4);

	note "$domain: at the end of the data";
	$qid = story('me@home.test', $domain, 'end-450', qw(good5 never good6));
	is_result($qid, $_, qr/4\.3\.0 deferred \($host 450 4\.3\.0 try later \(in reply to end of DATA command\)\)/) for qw(good5 good6);
	is_result($qid, 'never', qr/5\.1\.1 bounced .*RCPT TO command\)\)/);
	$qid = story('me@home.test', $domain, 'end-554', qw(good7 later3 good8));
	is_result($qid, $_, qr/5\.7\.1 bounced \($host 554 5\.7\.1 spam \(in reply to end of DATA command\)\)/) for qw(good7 good8);
	is_result($qid, 'later3', qr/4\.2\.1 deferred .*RCPT TO command\)\)/);

	note "$domain: the connection ends";
	$qid = story('me@home.test', $domain, 'end-close', qw(good9 never));
	is_result($qid, 'good9', qr/4\.4\.2 deferred \(lost connection with 127\.0\.0\.1\[127\.0\.0\.1\] while sending end of data -- message may be sent more than once\)/);
	is_result($qid, 'never', qr/5\.1\.1 bounced .*RCPT TO command\)\)/);
	$qid = story('me@home.test', $domain, 'cut', qw(good10 never cut good11));
	is_result($qid, $_, qr/4\.4\.2 deferred \(lost connection with 127\.0\.0\.1\[127\.0\.0\.1\] while sending RCPT TO\)/) for qw(good10 cut good11);
	is_result($qid, 'never', qr/5\.1\.1 bounced .*RCPT TO command\)\)/);
	$qid = story('me@home.test', $domain, '421', qw(down good12));
	is_result($qid, 'down', qr/4\.3\.2 deferred \($host 421 4\.3\.2 shutting down \(in reply to RCPT TO command\)\)/);
}

note 'LMTP: every recipient has an answer at the end';
my $qid = story('me@home.test', 'lmtp.test', 'hello', qw(lm-good lm-later never lm-never lm-good2));
is_result($qid, $_, qr/2\.0\.0 sent \(250 2\.0\.0 recorded\)/) for qw(lm-good lm-good2);
is_result($qid, 'lm-later', qr/4\.2\.2 deferred \(host \S+ said: 452 4\.2\.2 over quota \(in reply to end of DATA command\)\)/);
is_result($qid, 'lm-never', qr/5\.2\.2 bounced \(host \S+ said: 552 5\.2\.2 over quota \(in reply to end of DATA command\)\)/);
is_result($qid, 'never', qr/5\.1\.1 bounced .*RCPT TO command\)\)/);
is $mta->stop, 0, 'stop';
done_testing;
