#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Notices to the postmaster about SMTP sessions (notify_classes) beside Debian's Postfix: the same sessions are told, to the
# same address, with the same transcript. Then a flood, of which only some are told.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Peers;
use Test::More;

$SIG{PIPE} = 'IGNORE';
my $long      = 'x' x 60;
my @dialogues = (
	[ 'HELO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<refused@home.test>', 'QUIT' ],
	[ 'HELO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<nobody@home.test>', 'QUIT' ],
	[ 'HELO c.test', 'WHAT', 'MAIL TO:<x>', "MAIL FROM:<$long\@x.test> $long $long", 'QUIT' ],
	[ 'HELO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<a@far.test>', 'QUIT' ],
	[ 'HELO c.test', 'RCPT TO:<a@far.test>', 'MAIL FROM:<s@x.test>', 'RCPT TO:<joe@home.test>', 'DATA', "Subject: x\r\n\r\n.", 'QUIT' ],
	[ 'HELO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<joe@home.test>', 'DATA', "Subject: x\r\n\r\n" . ('y' x 70 . "\r\n") x 200 . '.', 'QUIT' ],
	[ 'HELO c.test', 'NOOP', 'QUIT' ],
	[ 'HELO c.test', 'BAD', 'BAD', 'BAD', 'BAD' ],
);
my $told = 6;
my %main = (notify_classes => 'policy, protocol, bounce, resource, software', error_notice_recipient => 'errors@far.test', bounce_notice_recipient => 'bounces@far.test',
	mynetworks => '192.0.2.0/24', smtpd_banner => 'mx ESMTP', message_size_limit => 9000, smtpd_hard_error_limit => 4, smtpd_error_sleep_time => 0,
	smtpd_peername_lookup => 'no', always_bcc => 'copy@far.test', mail_name => 'Mail', smtpd_client_event_limit_exceptions => '127.0.0.0/8',
	smtpd_recipient_restrictions => 'check_recipient_access inline:{{refused@home.test=554 5.7.1 no}}, reject_unauth_destination');

sub notices {
	my ($next) = @_;
	my @n = map { s/\r//gr } $next->got =~ /^(RCPT TO:<(?:errors|bounces)\@.*?^\.\r?)$/msg;
	# what differs anyway: hops, dates, ids
	return map { s/^(?:Received|Date|Message-I[dD]):.*\n(?:[ \t].*\n)*//mgr =~ s/^(RCPT TO:<\S+>).*?^DATA\n/$1\n/msr =~ s/(commands=\S+)//r } @n;
}

sub play {
	my ($who) = @_;
	my $next = Posthaste->recorder('whole');
	my $mta  = $who eq 'postfix'
		? (Peers->postfix(home => 'home.test', next => $next->{port}, main => join '', map { "$_ = $main{$_}\n" } sort keys %main) or die "Postfix does not run\n")
		: Posthaste->start(main => { %main, myhostname => 'mx.home.test', mydestination => '', relayhost => "[127.0.0.1]:$next->{port}",
			virtual_mailbox_domains => 'home.test', virtual_mailbox_maps => 'inline:{ { joe@home.test = joe/ }, { ann@home.test = ann/ } }' });
	for my $d (@dialogues) {
		my $c = Posthaste::Client->new($mta->{port});
		$c->cmd($_) for @$d;
		close $c->{sock};
	}
	ok wait_until(sub { notices($next) >= $told }, 30), "$who: notices" or diag $next->got, $mta->log;
	my @n = sort(notices($next));
	if ($who eq 'posthaste') {
		for (1 .. 30) {
			my $c = $mta->smtp;
			$c->cmd($_) for 'HELO c.test', 'WHAT', 'QUIT';
		}
		ok $mta->wait_log(qr/warning: sessions with errors come too fast/), 'a flood is cut off' or diag $mta->log_tail;
		wait_until(sub { notices($next) >= 10 }, 20);
		cmp_ok scalar(notices($next)), '<=', 10 * grep({ $_->{class} eq 'smtpd' } $mta->workers), '... before it is one for the postmaster';
		is scalar(grep { /RCPT TO:<copy/ && /^Subject: Mail SMTP server/m } split /(?=^MAIL FROM)/m, $next->got), 0, 'nobody gets a copy of notices';
		is $mta->stop, 0, 'stop';
	} else {
		$mta->stop;
	}
	$next->stop;
	return \@n;
}

my $ours = play('posthaste');
my $why  = Peers::obstacle();
SKIP: {
	skip $why, 2 if $why;
	my $theirs = play('postfix');
	is_deeply $ours, $theirs, 'the same as from Postfix' or do { spew('/tmp/31-notices.ours', join "\n", @$ours); spew('/tmp/31-notices.theirs', join "\n", @$theirs) };
}
done_testing;
