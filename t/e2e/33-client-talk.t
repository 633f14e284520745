#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# What is said with servers and clients, beside Debian's Postfix: the work-arounds for PIX firewalls (smtp_pix_workarounds), the log of
# sessions with peers of debug_peer_list, ports by the names of known_tcp_ports, notices about servers (notify_classes = protocol).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port spawn);
use Peers;
use Test::More;
use File::Temp qw(tempdir);

$SIG{PIPE} = 'IGNORE';
my $dir = tempdir('posthaste-talk-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my ($masked, $plain) = (free_port(), free_port());

# A next hop: on one port a firewall hides its greeting. It writes down what it hears, and whether the dot came alone, and how late.
spew("$dir/hop.pl", <<'EOF');
use strict;
use warnings;
use IO::Socket::INET;
use IO::Select;
use Time::HiRes 'time';
my ($ready, $masked, $plain) = @ARGV;
$SIG{CHLD} = 'IGNORE';
$| = 1;
my %banner = ($masked => '220 ' . '*' x 40 . '02 **** ', $plain => '220 hop ESMTP');
my $select = IO::Select->new(map { IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => $_, Listen => 50, ReuseAddr => 1) or die } $masked, $plain);
open my $fh, '>', $ready or die;
close $fh;
while (my @l = $select->can_read) {
	for my $l (@l) {
		my $s = $l->accept or next;
		next if fork;
		my $port = $s->sockport == $masked ? 'masked' : 'plain';
		my ($heard, $content, $data, $at) = ('', '', 0, 0);
		syswrite $s, "$banner{$s->sockport}\r\n";
		while (sysread $s, my $in, 65536) {
			if ($data) {
				# a packet that is all dot, a second or more after what was before it
				my $alone = $in eq ".\r\n" && time - $at >= 0.7 ? ' alone' : '';
				$at = time;
				$content .= $in;
				next unless $in =~ /(?:^|\r\n)\.\r\n\z/;
				$data = 0;
				$heard .= "dot$alone\n";
				syswrite $s, "250 2.0.0 taken\r\n";
				next;
			}
			for my $line (split /\r\n/, $in) {
				$heard .= "$line\n";
				$data = $line eq 'DATA';
				$at = time;
				my $to = $heard =~ /RCPT TO:<(\w+)/ ? $1 : '?';
				syswrite $s, $data ? "354 go\r\n" : $line =~ /^EHLO/ ? "250-hop\r\n250 8BITMIME\r\n" : $line eq 'QUIT' ? "221 bye\r\n" : $line =~ /^RCPT TO:<bad/ ? "502 5.5.1 unknown command\r\n" : "250 2.1.0 well $to\r\n";
				next if $line ne 'QUIT';
				print $heard =~ /RCPT TO:<errors/ ? ('NOTICE ', $content =~ s/^(?:Received|Date|Message-I[dD]):.*\n(?:[ \t].*\n)*//mgr =~ s/\r?\n/|/gr)
					: ($s->sockhost, " $port $to: ", $heard =~ s/\n/|/gr), "\n";
				exit;
			}
		}
		print $s->sockhost, " $port: lost: ", $heard =~ s/\n/|/gr, "\n";
		exit;
	}
}
EOF
my $hop = spawn("$dir/hop.out", $^X, "$dir/hop.pl", "$dir/ready", $masked, $plain);
ok wait_until(sub { -e "$dir/ready" }, 20), 'a next hop';

my %main = (
	mydestination => '',
	mynetworks => '127.0.0.0/8',
	relayhost => '',
	debug_peer_list => '127.0.1.0/24, 127.0.0.9, byhop.test',
	known_tcp_ports => "masked = $masked, smtp = hop-port = $plain",
	smtpd_peername_lookup => 'no',
	notify_classes => 'protocol',
	error_notice_recipient => 'errors@notice.test',
	mail_name => 'Mail',
	smtpd_banner => 'mx ESMTP',
	smtp_connection_cache_on_demand => 'no',
	smtp_pix_workaround_delay_time => '1s',
	smtp_pix_workaround_maps => 'inline:{ { 127.0.0.4 = delay_dotcrlf, nonsense } }',
	transport_maps => 'inline:{ ' . join(', ', '{ young.test = smtp:[127.0.0.2]:masked }', '{ old.test = old:[127.0.0.3]:masked }', '{ map.test = old:[127.0.0.4]:masked }',
		'{ off.test = off:[127.0.0.5]:masked }', '{ debug.test = smtp:[127.0.1.6]:hop-port }', '{ quiet.test = smtp:[127.0.0.7]:hop-port }',
		'{ bad.test = smtp:[127.0.0.8]:hop-port }', '{ notice.test = smtp:[127.0.0.10]:hop-port }', '{ gone.test = discard: }') . ' }',
);
my $old = 'old unix - - n - - smtp -o smtp_pix_workaround_threshold_time=0';
my $off = 'off unix - - n - - smtp -o smtp_pix_workarounds=';

sub play {
	my ($who) = @_;
	my $before = length slurp("$dir/hop.out");
	my $postfix = $who eq 'postfix';
	my $mta = $postfix ? Peers->postfix(home => 'home.test', next => 9, main => join('', map { "$_ = $main{$_}\n" } sort keys %main), master => "$old\n$off\n")
		: Posthaste->prepare(main => { %main, myhostname => 'mx.home.test' });
	if (!$postfix) {
		spew("$mta->{dir}/conf/master.cf", "127.0.0.1:$mta->{port} inet n - n - - smtpd\n$old\n$off\n");
		$mta->launch;
	}
	my $c = Posthaste::Client->new($mta->{port});
	$c->ok('HELO quiet.client');
	for my $domain (qw(young old map off debug quiet bad)) {
		like $c->mail('s@gone.test', "$domain\@$domain.test", "Subject: $domain\n\nbody\n.dot"), qr/^250/, "$who: $domain: taken";
	}
	$c->quit;
	my $heard = sub { [ sort grep { !/^NOTICE .*SMTP server: / } split /\n/, substr slurp("$dir/hop.out"), $before ] };
	ok wait_until(sub { @{ $heard->() } >= 8 }, 40), "$who: all sessions are over" or diag @{ $heard->() }, $mta->log;
	$c = Posthaste::Client->new($mta->{port}, '127.0.0.9');
	$c->cmd($_) for 'HELO loud.client', 'NOOP', 'MAIL FROM:<s@x.test>', 'RCPT TO:<nobody>', 'BAD command', 'QUIT';
	my $log = sub {
		my %seen;
		for my $line (split /\n/, $mta->log) {
			push @{ $seen{$1} }, $2 if $line =~ m{ postfix/(?:\w+/)?(smtpd?)\[\d+\]: ([<>] .*)};
			push @{ $seen{pix} }, $1 if $line =~ m{/smtp\[\d+\]: \S+: (enabling PIX .*)};
		}
		$_ = [ sort @$_ ] for grep { defined } $seen{pix};
		return \%seen;
	};
	ok wait_until(sub { my $l = $log->(); grep({ /221 / } @{ $l->{smtpd} || [] }) && grep({ /QUIT/ } @{ $l->{smtp} || [] }) && @{ $l->{pix} || [] } >= 3 }, 30), "$who: the log"
		or diag explain $log->(), $mta->log;
	my ($h, $l) = ($heard->(), $log->());
	if ($postfix) {
		$mta->stop;
	} else {
		is $mta->stop, 0, 'stop';
	}
	return { heard => $h, log => $l };
}

my $ours = play('posthaste');
is scalar(grep { /dot alone/ } @{ $ours->{heard} }), 2, 'two dots came alone and late' or diag explain $ours->{heard};
is scalar(grep { /^127\.0\.0\.[235] masked \w+: HELO/ } @{ $ours->{heard} }), 2, 'two were greeted with HELO';
is scalar(grep { /^NOTICE .*SMTP client: errors from 127\.0\.0\.8\[127\.0\.0\.8\]:\d+.*\| In:  502 5\.5\.1 unknown command\|/ } @{ $ours->{heard} }), 1,
	'the postmaster hears of a server that does not understand';
my $why = Peers::obstacle();
SKIP: {
	skip $why, 1 if $why;
	my $theirs = play('postfix');
	# Postfix takes back what was begun before it says QUIT
	s/\|RSET\|QUIT/|QUIT/, s/\| Out: RSET\| In:  250 [^|]*//g for @{ $theirs->{heard} };
	is_deeply $ours, $theirs, 'the same as from Postfix' or diag explain $ours, $theirs;
}
Posthaste::end_child($hop);
done_testing;
