#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# XCLIENT and XFORWARD beside Debian's Postfix: the same dialogues have the same replies, log lines and restrictions.
# Then mail from one to the other and back with smtp_send_xforward_command: who is last knows where it came from.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port);
use Peers;
use Test::More;

my $why = Peers::obstacle();
plan skip_all => $why if $why;
$SIG{PIPE} = 'IGNORE';
my @dialogues = (
	[ 'EHLO client.test', 'XCLIENT NAME=spike.test ADDR=192.0.2.9 PORT=77', 'MAIL FROM:<a@else.test>', 'EHLO again.test',
		'MAIL FROM:<a@else.test>', 'RCPT TO:<one@here.test>', 'XCLIENT ADDR=192.0.2.8', 'XFORWARD NAME=x', 'QUIT' ],
	[ 'EHLO client.test', 'XCLIENT ADDR=IPv6:2001:DB8::5 NAME=[UNAVAILABLE] HELO=spike.test PROTO=ESMTP', 'MAIL FROM:<a@else.test>',
		'RCPT TO:<two@here.test>', 'QUIT' ],
	[ 'EHLO client.test', 'XCLIENT NAME=bad.test ADDR=192.0.2.66', 'MAIL FROM:<a@else.test>', 'EHLO x.test', 'QUIT' ],
	[ 'EHLO client.test', 'XCLIENT NAME=temp.test REVERSE_NAME=[TEMPUNAVAIL]', 'EHLO x.test', 'MAIL FROM:<a@else.test>', 'RCPT TO:<one@here.test>', 'QUIT' ],
	[ 'EHLO client.test', 'XCLIENT', 'XCLIENT NAME', 'XCLIENT NAME=', 'XCLIENT COLOUR=red', 'XCLIENT ADDR=1.2.3', 'XCLIENT ADDR=2001:db8::1',
		'XCLIENT PORT=x', 'XCLIENT PORT=100000', 'XCLIENT PROTO=LMTP', 'XCLIENT NAME=-x', 'XCLIENT DESTADDR=y', 'XCLIENT HELO=' . 'x' x 256,
		'XFORWARD', 'XFORWARD NAME=a/b', 'XFORWARD ADDR=x', 'XFORWARD PORT=x', 'XFORWARD PROTO=' . 'p' x 65, 'XFORWARD SOURCE=MOON',
		'XFORWARD COLOUR=red', 'XFORWARD IDENT=' . 'i' x 256, 'QUIT' ],
	[ 'EHLO client.test', 'XFORWARD NAME=origin.test ADDR=198.51.100.9 PORT=99', 'XFORWARD PROTO=ESMTP HELO=o+20rigin.test IDENT=ABC+3E SOURCE=LOCAL',
		'MAIL FROM:<a@else.test>', 'RCPT TO:<one@here.test>', 'XFORWARD NAME=x.test', 'RSET', 'MAIL FROM:<a@else.test>', 'RCPT TO:<one@here.test>', 'QUIT' ],
	[ 'EHLO client.test', 'XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] IDENT=[UNAVAILABLE] HELO=[UNAVAILABLE]', 'MAIL FROM:<a@else.test>',
		'RCPT TO:<one@here.test>', 'QUIT' ],
	[ 'EHLO client.test', 'XFORWARD IDENT=ONLY', 'MAIL FROM:<a@else.test>', 'RCPT TO:<one@here.test>', 'QUIT' ],
);
my %main = (myhostname => 'mx.here.test', mydestination => '', relay_domains => 'here.test', relay_recipient_maps => '', mynetworks => '192.0.2.200',
	smtpd_authorized_xclient_hosts => '127.0.0.1', smtpd_authorized_xforward_hosts => '127.0.0.0/8', smtpd_peername_lookup => 'no',
	# 127.0.0.1 has no name when names are not looked up
	smtpd_client_restrictions => 'check_client_access inline:{{bad.test=REJECT no},{192.0.2.9=INFO nine},{127.0.0.1=OK},{2001:db8::5=OK}}, '
		. 'reject_unknown_reverse_client_hostname',
	smtpd_delay_reject => 'no', smtpd_soft_error_limit => 100, smtpd_hard_error_limit => 100, smtp_send_xforward_command => 'yes',
	smtpd_banner => 'mx ESMTP', inet_protocols => 'all', inet_interfaces => '127.0.0.1');

sub normal { my ($t) = @_; return $t =~ s/ LOGIN\b//r =~ s/^250[ -](?:ETRN|SMTPUTF8|CHUNKING|VRFY|DSN|8BITMIME|SIZE.*|PIPELINING|ENHANCEDSTATUSCODES)\n?//mgr =~ s/\s+\z//r }

sub play {
	my ($name, $mta) = @_;
	my @replies;
	for my $d (@dialogues) {
		my $c = Posthaste::Client->new($mta->{port});
		push @replies, "$_: " . normal($c->cmd($_) // '(closed)') for @$d;
	}
	wait_until(sub { (() = $mta->log =~ / disconnect from .* commands=[1-9]/g) >= @dialogues }, 20);
	my @log = map { m{smtpd\[\d+\]: (?:\w+: )?(client=.*|(?:reject|info): .*)} ? $1 : () } split /\n/, $mta->log;
	return { replies => \@replies, log => \@log };
}

my ($next_ours, $next_theirs) = map { Posthaste->recorder } 1 .. 2;
my $postfix = Peers->postfix(home => 'home.test', next => $next_theirs->{port}, main => join '', map { "$_ = $main{$_}\n" } sort keys %main)
	or die "Postfix does not run\n";
my $mta = Posthaste->prepare;
$mta->configure(%main, relayhost => "[127.0.0.1]:$postfix->{port}");
$mta->launch;
my ($ours, $theirs) = (play('posthaste', $mta), play('postfix', $postfix));
is_deeply $ours->{$_}, $theirs->{$_}, "the same $_" or diag explain $ours->{$_}, $theirs->{$_} for qw(replies log);

# ours sends to Postfix
my $c = $mta->smtp;
$c->cmd($_) for 'EHLO client.test', 'XFORWARD NAME=origin.test ADDR=198.51.100.9 PORT=99', 'XFORWARD PROTO=ESMTP HELO=o.test IDENT=FIRST',
	'MAIL FROM:<a@else.test>', 'RCPT TO:<one@here.test>', 'DATA';
like $c->cmd("Subject: x\r\n\r\ntext\r\n."), qr/^250/, 'mail with an origin';
$c->cmd($_) for 'MAIL FROM:<a@else.test>', 'RCPT TO:<two@here.test>', 'DATA';
my ($qid) = $c->cmd("Subject: x\r\n\r\ntext\r\n.") =~ /queued as (\w+)/;
$c->quit;
ok wait_until(sub { $postfix->log =~ /: client=unknown\[127\.0\.0\.1\], orig_queue_id=FIRST, orig_client=origin\.test\[198\.51\.100\.9\]$/m }, 20),
	'Postfix knows its origin';
ok wait_until(sub { $postfix->log =~ /: client=unknown\[127\.0\.0\.1\], orig_queue_id=\Q$qid\E, orig_client=unknown\[127\.0\.0\.1\]$/m }, 20),
	'and of mail without one, where we have it from';
$postfix->stop;
$_->stop for $next_ours, $next_theirs;

# Postfix sends to ours
$postfix = Peers->postfix(home => 'home.test', next => $mta->{port}, main => join '', map { "$_ = $main{$_}\n" } sort keys %main) or die;
$c = Posthaste::Client->new($postfix->{port});
$c->cmd($_) for 'EHLO client.test', 'XFORWARD NAME=third.test ADDR=IPv6:2001:db8::7 IDENT=THIRD', 'MAIL FROM:<a@else.test>', 'RCPT TO:<three@here.test>', 'DATA';
$c->cmd("Subject: x\r\n\r\ntext\r\n.");
$c->quit;
ok wait_until(sub { $mta->log =~ /: client=unknown\[127\.0\.0\.1\], orig_queue_id=THIRD, orig_client=third\.test\[(?:IPv6:)?2001:db8::7\]$/m }, 20),
	'and the other way round' or diag $mta->log_tail;
$postfix->stop;
is $mta->stop, 0, 'stops';
is $mta->crashes, '', 'nothing crashed';
is $mta->refusals, 0, 'no system call was refused';
done_testing;
