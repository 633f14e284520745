#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# What reads the logs of Postfix reads ours: Debian's pflogsumm, fail2ban's postfix filter and
# logwatch's postfix script count what really happened, and find no line they do not know.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(build_dir run_ok slurp spew wait_until);
use Peers;
use Test::More;

my $unpacked = Peers::unpacked('consumers') or plan skip_all => 'the packages cannot be downloaded';
my $uid = $> == 0 ? (getpwnam 'nobody')[2] : $>;
my $gid = $> == 0 ? (getpwnam 'nobody')[3] : (split ' ', $))[0];
my $hop = Posthaste->recorder('^RCPT.*full=>452 4.2.2 mailbox full', '^RCPT.*gone=>550 5.1.1 no such user');
my $mta = Posthaste->prepare(main => {
	smtpd_session_limit => 1000, # one that any machine has descriptors for
	relayhost => "[127.0.0.1]:$hop->{port}",
	mynetworks => '127.0.0.2',
	virtual_mailbox_domains => 'home.example',
	virtual_mailbox_maps => 'inline:{ joe@home.example=joe/, ann@home.example=ann/ }',
	virtual_uid_maps => "static:$uid",
	virtual_gid_maps => "static:$gid",
	smtpd_recipient_restrictions => 'check_recipient_access inline:{ keep@far.example=HOLD,'
		. ' drop@far.example=DISCARD }, check_sender_access inline:{ { spam@client.example = 521 5.7.1 no spam } },'
		. ' warn_if_reject reject_non_fqdn_sender',
	smtpd_relay_restrictions => 'permit_mynetworks, reject_unauth_destination',
	smtpd_hard_error_limit => 3,
	smtpd_error_sleep_time => 0,
});
$mta->configure(virtual_mailbox_base => "$mta->{dir}/mail");
$mta->launch;

# The truth is kept while it is made.
my %truth = map { $_ => 0 } qw(received delivered deferred bounced rejected held discarded warned);
my ($inside, $outside) = map { $mta->smtp(undef, $_) } '127.0.0.2', '127.0.0.3';
$_->ok('EHLO client.example') for $inside, $outside;

sub send_mail {
	my ($from, $to, %now) = @_;
	my $reply = $inside->mail($from, $to, "Subject: x\n\ntext");
	my ($id) = $reply =~ /queued as (\S+)/ or BAIL_OUT($reply);
	$truth{received}++;
	$truth{$_} += $now{$_} for keys %now;
	return $id;
}

sub refused {
	my ($client, $to, $code) = @_;
	$client->ok('MAIL FROM:<a@client.example>');
	like $client->cmd("RCPT TO:<$to>"), qr/^$code/, "$to: $code";
	$client->ok('RSET');
	$truth{rejected}++;
}

send_mail("s$_\@client.example", [ "r$_\@far.example", 'joe@home.example' ], delivered => 2) for 1 .. 5;
send_mail('bare', 'r@far.example', delivered => 1, warned => 1);
send_mail('', 'ann@home.example', delivered => 1);
my $full = send_mail('s@client.example', [ 'full@far.example', 'full2@far.example' ], deferred => 1);
# the bounce is a message that nobody sent us, and one delivery
send_mail('joe@home.example', [ 'gone@far.example', 'r@far.example' ], bounced => 1, delivered => 2);
my $kept = send_mail('s@client.example', 'keep@far.example', held => 1);
send_mail('s@client.example', 'drop@far.example', discarded => 1);
refused($outside, 'r@far.example', 554);
refused($outside, 'nobody@home.example', 550);
refused($inside, "nobody$_\@home.example", 550) for 1 .. 2;
$inside->quit;

# one that makes too many errors, one that goes away, one that does not wait, a spammer
my $lost = $mta->smtp(undef, '127.0.0.4');
$lost->ok('EHLO lost.example');
$lost->ok('MAIL FROM:<a@client.example>');
close $lost->{sock};
my $wrong = $mta->smtp(undef, '127.0.0.5');
$wrong->cmd('GIBBERISH') for 1 .. 3; # smtpd_hard_error_limit
is $wrong->reply, '421 4.7.0 mx.posthaste.test Error: too many errors', 'too many errors';
my $eager = $mta->smtp(undef, '127.0.0.6');
$eager->send_raw("HELO eager.example\r\nMAIL FROM:<a\@client.example>\r\n");
$eager->reply for 1 .. 2;
$eager->quit;
my $spam = $mta->smtp(undef, '127.0.0.7');
$spam->ok('EHLO spam.example');
$spam->ok('MAIL FROM:<spam@client.example>');
like $spam->cmd('RCPT TO:<joe@home.example>'), qr/^521 5\.7\.1/, 'spam';
$truth{rejected}++;
close $spam->{sock};
$outside->quit;
ok wait_until(sub { $mta->status->{messages} == 2 }, 20), 'one deferred and one held message remain' or diag $mta->log_tail;
is +($mta->command('postsuper', '-H', $kept))[0], 0, 'released';
is +($mta->command('postsuper', '-h', $full))[0], 0, 'put on hold';
is +($mta->command('postsuper', '-d', $full))[0], 0, 'deleted';
ok wait_until(sub { $mta->status->{messages} == 0 }, 20), 'the queue is empty' or diag $mta->log_tail;
$truth{delivered}++;
$mta->command('posthaste', 'reload');
$mta->stop;
is $mta->crashes, '', 'nothing crashed';

# pflogsumm: its grand totals
my $log = "$mta->{dir}/log";
my ($rc, $out) = run_ok($^X, "$unpacked/usr/sbin/pflogsumm", '--verbose-msg-detail', $log);
is $rc, 0, 'pflogsumm runs';
for my $what (sort keys %truth) {
	my $word = $what eq 'warned' ? 'reject warnings' : $what;
	my ($n) = $out =~ /^\s*(\d+)\s+\Q$word\E\b/m;
	is $n, $truth{$what}, "pflogsumm: $what";
}
like $out, qr/^\s*0\s+forwarded\b/m, 'pflogsumm: nothing forwarded';
my ($bytes) = $out =~ /^\s*(\d+)k?\s+bytes received/m;
cmp_ok $bytes, '>', 0, 'pflogsumm: bytes';
unlike $out, qr/^message(?:s)? with no size/mi, 'pflogsumm: every message has a size';
like $out, qr/message bounce detail.*?5\.1\.1 no such user/s, 'pflogsumm: reason of the bounce';
like $out, qr/message deferral detail.*?4\.2\.2 mailbox full/s, 'pflogsumm: reason of the deferral';
like $out, qr/Relay access denied/, 'pflogsumm: reason of a refusal';
like $out, qr/User unknown in virtual mailbox table/, 'pflogsumm: unknown user';

# fail2ban: whom each mode would ban
my %banned = (
	normal => [ qw(127.0.0.2 127.0.0.3 127.0.0.5 127.0.0.6) ],
	more => [ qw(127.0.0.2 127.0.0.3 127.0.0.5 127.0.0.6) ],
	errors => [ qw(127.0.0.5) ],
	ddos => [ qw(127.0.0.4) ],
);
local $ENV{PYTHONPATH} = "$unpacked/usr/lib/python3/dist-packages";
my $filter = "$unpacked/etc/fail2ban/filter.d/postfix.conf";
for my $mode (sort keys %banned) {
	($rc, $out) = run_ok('python3', "$unpacked/usr/bin/fail2ban-regex", '-c', "$unpacked/etc/fail2ban",
		'--print-all-matched', $log, "$filter\[mode=$mode]");
	my %hosts;
	$hosts{$1}++ while $out =~ /^\|.*\[(127\.0\.0\.\d+)\]/mg;
	is_deeply [ sort keys %hosts ], $banned{$mode}, "fail2ban: mode $mode";
	my ($lines) = $out =~ /^Lines: (\d+) lines/m;
	is $lines, scalar(() = slurp($log) =~ /\n/g), '... read every line';
}

# logwatch: it lists the lines it does not know
($rc, $out) = run_ok('sh', '-c', "exec $^X $unpacked/usr/share/logwatch/scripts/services/postfix --detail 10 --long_queue_ids <'$log'");
is $rc, 0, 'logwatch runs' or diag $out;
my ($unmatched) = $out =~ /\*\*Unmatched Entries\*\*\n(.*)/s;
# Postfix logs this since 3.10; the script is older
$unmatched = join '', grep { !/: removed \(discarded\)$/ } split /^/, $unmatched // '';
is $unmatched =~ s/^\s+//r, '', 'logwatch: no unknown line';
for my $row ([ 'Relay access denied|Reject relay denied', 1 ], [ 'Reject unknown user', 3 ], [ 'Deferred', 1 ],
	[ 'Bounced', 1 ], [ 'Sent via SMTP', 8 ]) {
	my ($re, $n) = @$row;
	like $out, qr/^\s*$n\s.*(?:$re)/mi, "logwatch: $re";
}
done_testing;
