#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Before-queue content filters (smtpd_proxy_filter) beside Debian's Postfix: the same filter, the same dialogues, with and
# without speed_adjust: the same replies, log lines, and the same words at the filter. Then what only ours must stand:
# a big message through a filter that reads slowly, sockets of the file system, the end of the connector.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port);
use Peers;
use Test::More;
use File::Temp;
use IO::Socket::UNIX;
use POSIX ();

$SIG{PIPE} = 'IGNORE';
my $message = "Subject: x\r\n\r\nbody\r\n..dot\r\n.";
my @dialogues = (
	[ 'EHLO c.test', 'MAIL FROM:<s@x.test> SIZE=99 BODY=8BITMIME', 'RCPT TO:<bad@here.test>', 'RCPT TO:<one@here.test> NOTIFY=NEVER ORCPT=rfc822;a@b',
		'RCPT TO:<two@here.test>', 'DATA', $message, 'MAIL FROM:<>', 'RCPT TO:<one@here.test>', 'DATA', "From x y\r\n\r\nmbox\r\n.", 'QUIT' ],
	[ 'HELO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<no550@here.test>', 'DATA', 'RCPT TO:<one@here.test>', 'DATA', $message, 'QUIT' ],
	[ 'EHLO c.test', 'MAIL FROM:<no552@x.test>', 'RCPT TO:<one@here.test>', 'RCPT TO:<one@here.test>', 'RSET', 'QUIT' ],
	[ 'EHLO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<strange@here.test>', 'DATA', 'QUIT' ],
	[ 'EHLO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<one@here.test>', 'DATA', "Subject: spam\r\n\r\n\r\n.", 'QUIT' ],
	[ 'EHLO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<one@here.test>', 'DATA', "Subject: later\r\n\r\n\r\n.", 'QUIT' ],
	[ 'EHLO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<one@here.test>', 'DATA', "Subject: gone\r\n\r\n\r\n.", 'QUIT' ],
	[ 'EHLO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<one@here.test>', 'RCPT TO:<gone@here.test>', 'RCPT TO:<two@here.test>', 'DATA', 'QUIT' ],
	[ 'EHLO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<silent@here.test>', 'QUIT' ],
	[ 'EHLO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<hold@here.test>', 'RCPT TO:<prepend@here.test>', 'DATA', $message, 'QUIT' ],
	[ 'EHLO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<one@here.test>', 'DATA', ('x' x 70 . "\r\n") x 300 . '.', 'NOOP', 'QUIT' ],
	[ 'EHLO c.test', 'XFORWARD NAME=origin.test ADDR=198.51.100.9 PROTO=ESMTP HELO=o.test SOURCE=LOCAL', 'MAIL FROM:<s@x.test>',
		'RCPT TO:<one@here.test>', 'DATA', $message, 'QUIT' ],
);
# whose recipients are refused when all is sent at once
my @late = map { [ 'EHLO c.test', 'MAIL FROM:<s@x.test>', 'RCPT TO:<one@here.test>', "RCPT TO:<$_\@here.test>", 'DATA', $message, 'QUIT' ] } qw(no550 strange gone);
my @rules = ('caps=PIPELINING,8BITMIME,DSN,XFORWARD NAME ADDR PROTO HELO SOURCE', 'whole', 'no552@=>552 5.2.2 not you', 'no550@=>550 5.1.1 no such user',
	'RCPT TO:<strange=>354 go on', 'RCPT TO:<gone=>close', 'RCPT TO:<silent=>silence', '^Subject: spam=>550 5.7.1 spam', '^Subject: later=>450 4.7.1 greylisted',
	'^Subject: gone=>close');
my %main = (myhostname => 'mx.here.test', mydestination => '', relay_domains => 'here.test', relay_recipient_maps => '', mynetworks => '192.0.2.200',
	smtpd_peername_lookup => 'no', message_size_limit => 20000, always_bcc => 'bcc@here.test', smtpd_authorized_xforward_hosts => '127.0.0.0/8',
	smtpd_banner => 'mx ESMTP', smtpd_proxy_timeout => '1s', smtpd_discard_ehlo_keywords => 'chunking, silent-discard',
	smtpd_recipient_restrictions => 'check_recipient_access inline:{{bad@here.test=REJECT},{hold@here.test=HOLD now},{prepend@here.test=PREPEND X-Before: yes}}, '
		. 'reject_unauth_destination');

sub normal { my ($t) = @_; return $t =~ s/^250[ -](?:ETRN|SMTPUTF8|VRFY|DSN|8BITMIME|SIZE.*|PIPELINING|ENHANCEDSTATUSCODES|XFORWARD.*)\n?//mgr =~ s/\s+\z//r }

sub play {
	my ($mta, $filter, $ports) = @_;
	my (%of, $all);
	wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$_") }, 20) or die "nobody listens at $_" for values %$ports;
	for my $how (sort keys %$ports) {
		my @these = $how ? (@late, grep { !grep { $_ eq 'RCPT TO:<no550@here.test>' || /strange|gone@|silent/ } @$_ } @dialogues) : @dialogues;
		for my $d (@these) {
			my $c = Posthaste::Client->new($ports->{$how});
			$all++;
			push @{ $of{"replies$how"} }, substr($_, 0, 30) . ': ' . normal($c->cmd($_) // '(closed)') for @$d;
		}
	}
	wait_until(sub { (() = $mta->log =~ / disconnect from .* commands=[1-9]/g) >= $all }, 30) or diag $mta->log;
	for (split /\n/, $mta->log) {
		next if !m{/(\w+)\[\d+\]: ((?:NOQUEUE: client|proxy-|warning: (?:access|connect|proxy|lost|timeout|received)).*)};
		push @{ $of{"log"} }, $2 =~ s/:$filter->{port}/:FILTER/gr;
	}
	$filter->stop; # it has written all then
	$of{filter} = join '', map { s/\r//gr =~ s/^\tid \w+//mgr =~ s/^QUIT\n//mgr =~ s/^x{70}\n//mgr } slurp($filter->{file});
	$of{filter} =~ s/^(\s.*; |\s)\w{3}, +\d+ \w{3} \d{4} \S+ [-+]\d{4} \(\w+\)$/$1DATE/mg;
	$of{filter} =~ s/\(Postfix\)|\(Posthaste\)/(MAIL)/g;
	return \%of;
}

my $why = Peers::obstacle();
SKIP: {
	skip $why, 4 if $why;
	my %of;
	for my $name (qw(posthaste postfix)) {
		my $filter = Posthaste->recorder(@rules);
		my %ports  = ('' => free_port(), ' with speed_adjust' => free_port());
		my $lines  = join '', map { "127.0.0.1:$ports{$_} inet n - n - - smtpd\n -o smtpd_proxy_filter=127.0.0.1:$filter->{port}\n"
				. ($_ ? " -o smtpd_proxy_options=speed_adjust\n" : '') } sort keys %ports;
		my $mta;
		if ($name eq 'postfix') {
			$mta = Peers->postfix(home => 'home.test', next => free_port(), main => (join '', map { "$_ = $main{$_}\n" } sort keys %main), master => $lines)
				or die "Postfix does not run\n";
		} else {
			$mta = Posthaste->prepare;
			$mta->configure(%main, mail_name => 'Postfix');
			spew("$mta->{dir}/conf/master.cf", slurp("$mta->{dir}/conf/master.cf") . $lines);
			$mta->launch;
		}
		$of{$name} = play($mta, $filter, \%ports);
		$mta->stop;
	}
	for (sort keys %{ $of{postfix} }) {
		is_deeply $of{posthaste}{$_}, $of{postfix}{$_}, "the same: $_";
		spew("/tmp/31-proxy-filter.$_.ours", explain $of{posthaste}{$_}), spew("/tmp/31-proxy-filter.$_.theirs", explain $of{postfix}{$_})
			if $ENV{POSTHASTE_KEEP};
	}
}

# ours alone
my $dir = File::Temp::tempdir('posthaste-filter-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0777, $dir;
my $pid = fork // die;
if (!$pid) { # reads slowly, and keeps a digest
	my $listen = IO::Socket::UNIX->new(Local => "$dir/filter", Listen => 5) or die "$dir/filter: $!";
	chmod 0777, "$dir/filter";
	while (my $c = $listen->accept) {
		print $c "220 slow\r\n";
		my ($data, $size) = (0, 0);
		while (defined(my $line = <$c>)) {
			$size += length $line if $data;
			if ($data && $line eq ".\r\n") { print $c "250 2.0.0 $size bytes\r\n"; $data = 0 }
			elsif ($data) { select undef, undef, undef, 0.002 if $size % 50_000 < 1000 }
			elsif ($line =~ /^DATA/) { print $c "354 go on\r\n"; $data = 1 }
			else { print $c "250 ok\r\n" }
		}
	}
	POSIX::_exit(0);
}
wait_until(sub { -S "$dir/filter" }, 10);
my ($adjust, $single) = (free_port(), free_port());
my $mta    = Posthaste->prepare;
$mta->configure(%main, message_size_limit => 0, smtpd_proxy_filter => "unix:$dir/filter", smtpd_proxy_timeout => '20s');
spew("$mta->{dir}/conf/master.cf", slurp("$mta->{dir}/conf/master.cf") . "127.0.0.1:$adjust inet n - n - - smtpd\n -o smtpd_proxy_options=speed_adjust\n"
	. "127.0.0.1:$single inet n - n - 1 smtpd\n");
$mta->launch;
my $big = ("x" x 998 . "\n") x 8000;
for my $port ($mta->{port}, $adjust) {
	my $c = $mta->smtp($port);
	$c->ok('EHLO c.test');
	my $reply = $c->mail('s@x.test', 'one@here.test', $big);
	my ($size) = $reply =~ /^250 2\.0\.0 (\d+) bytes/;
	cmp_ok $size // 0, '>', 8_000_000, 'a big message through a slow filter with a socket in the file system' or diag "$reply\n", $mta->log_tail;
	$c->quit;
}
# maxproc bounds the connections to the filter
my @c = map { $mta->smtp($single) } 1 .. 2;
$_->ok('EHLO c.test'), $_->ok('MAIL FROM:<s@x.test>') for @c;
my $waits = sub { my ($n) = $mta->http('/stats') =~ /"smtpd_filter_waits":\s*(\d+)/; return $n // -1 };
$c[0]->ok('RCPT TO:<one@here.test>');
is $waits->(), 0, 'one session has the filter';
$c[1]->send_raw("RCPT TO:<one\@here.test>\r\n");
ok wait_until(sub { $waits->() == 1 }, 10), '... a second one waits' or diag $waits->();
$c[0]->quit;
like $c[1]->reply, qr/^250 /, '... for its turn';
$c[1]->quit;
my ($connector) = grep { slurp("/proc/$_/comm") =~ /^connector/ } map { split ' ', slurp("/proc/$_/task/$_/children") } map { $_->{pid} } grep { $_->{class} =~ m{^smtp} } $mta->workers;
ok $connector, 'the connector runs beside its worker';
my $status = slurp("/proc/$connector/status");
like $status, qr/^Seccomp:\s2$/m, '... shut in';
like $status, qr/^CapEff:\s0+$/m, '... without rights';
kill 'KILL', $connector;
ok wait_until(sub { my $c = eval { $mta->smtp } or return 0; eval { $c->ok('EHLO c.test'); $c->mail('s@x.test', 'one@here.test', "a: b\n\n") =~ /^250/ } }, 20), 'killed, it comes back' or diag $mta->log_tail;
kill 'TERM', $pid;
waitpid $pid, 0;
my $c = $mta->smtp;
$c->ok('EHLO c.test');
$c->cmd('MAIL FROM:<s@x.test>');
is $c->cmd('RCPT TO:<one@here.test>'), '451 4.3.0 Error: queue file write error', 'without a filter mail is put off';
ok $mta->wait_log(qr{warning: connect to proxy filter unix:$dir/filter: Connection refused}), 'why' or diag $mta->log_tail;
$c->quit;
my $statistics = $mta->http('/stats');
like $statistics, qr/smtpd_filter_connections\D+[1-9]/, 'counters';
is $mta->stop, 0, 'stop';
done_testing;
