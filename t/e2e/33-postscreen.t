#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# postscreen beside Debian's Postfix: the same clients hear the same and are logged in the same way, whether they are known,
# speak too early, are listed, or go on to the dialogue. Then what is Posthaste's own: what it remembers of clients outlives
# a restart, is taken back by time, and is not lost to a worker that dies.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port);
use Peers;
use IO::Socket::INET;
use Test::More;

my $why = Peers::obstacle();
plan skip_all => $why if $why;
$SIG{PIPE} = 'IGNORE';

# client => [listener, server's address, what is said before the greeting, commands after it]
my @talk = ('EHLO client.test', 'MAIL FROM:<a@else.test>', 'RCPT TO:<one@here.test>', 'QUIT');
my %clients = (
	'198.51.100.200' => [ 'drop', 25, '', @talk ],         # mynetworks
	'192.0.2.10' => [ 'drop', 25, '', @talk ],             # permitted
	'192.0.2.11' => [ 'drop', 25, '' ],                    # refused
	'192.0.2.12' => [ 'enforce', 25, '', @talk ],
	'192.0.2.13' => [ 'ignore', 25, '', @talk ],
	'192.0.2.14' => [ 'drop', 25, '', @talk ],             # a word that is no access
	'203.0.113.1' => [ 'drop', 25, '', @talk ],            # new and good
	'203.0.113.2' => [ 'drop', 25, "EHLO early\r\n" ],     # early
	'203.0.113.3' => [ 'enforce', 25, "EHLO early.test\r\n", @talk[1 .. 3] ],
	'203.0.113.4' => [ 'ignore', 25, "EHLO early\\\t\x80\r\n" ],
	'203.0.113.5' => [ 'drop', 25, '' ],                   # listed
	'203.0.113.6' => [ 'enforce', 25, '', @talk ],
	'203.0.113.7' => [ 'ignore', 25, '', @talk ],
	'203.0.113.8' => [ 'drop', 25, '', @talk ],            # listed, but not by enough
	'203.0.113.9' => [ 'drop', 25, '' ],                   # by a list with a secret name, which answers twice
	'203.0.113.10' => [ 'drop', 25, '', @talk ],           # good by one list, bad by another
	'203.0.113.11' => [ 'talk', 25, "EHLO early\r\n", @talk ], # so good that it need not wait
	'203.0.113.12' => [ 'drop', 25, '', @talk ],           # an answer that the filter does not mean
	'203.0.113.13' => [ 'drop', 26, '', @talk ],           # at a host where nobody is let through
	'203.0.113.14' => [ 'talk', 25, '', @talk ],           # passes all in the dialogue
	'203.0.113.15' => [ 'talk', 25, '', 'EHLO client.test', "MAIL FROM:<a\@else.test>\r\nRCPT TO:<one\@here.test>\r\nQUIT" ],
	'203.0.113.16' => [ 'talk', 25, '', 'Subject: buy' ],
	'203.0.113.17' => [ 'slow', 25, 'hangup' ],
	'203.0.113.18' => [ 'drop', 25, '', 'hangup' ],
);
my $zone = join '', map { my ($ip, $list, $a) = split; join('.', reverse split /\./, $ip) . ".$list A $a\n" } (
	'203.0.113.5 bl.test 127.0.0.2', '203.0.113.6 bl.test 127.0.0.2', '203.0.113.7 bl.test 127.0.0.3', '203.0.113.8 two.test 127.0.0.4',
	'203.0.113.9 secret.test 127.0.0.9', '203.0.113.9 secret.test 127.0.0.10', '203.0.113.9 two.test 127.0.0.3',
	(map { "203.0.113.99 $_.test 127.0.0.4" } qw(bl two secret wl)), '203.0.113.10 wl.test 127.0.0.1', '203.0.113.10 bl.test 127.0.0.2', '203.0.113.11 wl.test 127.0.0.1', '203.0.113.12 two.test 127.0.0.5',
);
my %main = (myhostname => 'mx.here.test', mydestination => '', relay_domains => 'here.test', relay_recipient_maps => '', mynetworks => '198.51.100.200',
	smtpd_banner => 'mx ESMTP', smtpd_recipient_restrictions => 'reject', smtpd_forbid_unauth_pipelining => 'no',
	postscreen_access_list => 'permit_mynetworks inline:{{192.0.2.10=permit},{192.0.2.11=reject},{192.0.2.12=reject},{192.0.2.13=reject},{192.0.2.14=dunno}}',
	postscreen_upstream_proxy_protocol => 'haproxy', postscreen_allowlist_interfaces => '!127.0.0.26 static:all',
	postscreen_dnsbl_sites => 'bl.test*2, two.test=127.0.0.[2..4], secret.test=127.0.0.9*2 wl.test*-3', postscreen_dnsbl_threshold => 2,
	postscreen_dnsbl_allowlist_threshold => -2, postscreen_dnsbl_reply_map => 'inline:{{secret.test=shown.test}}',
	postscreen_greet_wait => '2s', postscreen_dnsbl_min_ttl => '1d', postscreen_dnsbl_max_ttl => '2d', postscreen_reject_footer => '\c; ask $server_name');
my @listeners = qw(drop enforce ignore talk slow);

sub master {
	my (%port) = @_;
	my $lines = "smtpd pass - - n - - smtpd\ndnsblog unix - - n - 0 dnsblog\ntlsproxy unix - - n - 0 tlsproxy\n";
	for my $l (@listeners) {
		my $action = $l =~ /^(?:talk|slow)$/ ? 'enforce' : $l;
		$lines .= "127.0.0.1:$port{$l} inet n - n - 1 postscreen\n" . join '', map { "  -o postscreen_$_\n" } "greet_action=$action", "dnsbl_action=$action",
			"denylist_action=$action", $l eq 'talk' ? ('pipelining_enable=yes', 'non_smtp_command_enable=yes', 'bare_newline_enable=yes') : (), $l eq 'slow' ? 'greet_wait=60s' : (),
			$l eq 'drop' ? () : 'cache_map=';
	}
	return $lines;
}

sub connect_as {
	my ($port, $ip, $to, $client_port) = @_;
	my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 20) or die "port $port: $!";
	$s->autoflush(1);
	print $s "PROXY TCP4 $ip 127.0.0.$to " . ($client_port // 4000) . " 25\r\n";
	return bless { sock => $s }, 'Posthaste::Client';
}

# All at once: each of them waits on its own.
sub play {
	my ($mta, %port) = @_;
	my (%open, %heard);
	my @ips = sort keys %clients;
	for my $ip (@ips) {
		my ($listener, $to, $early) = @{ $clients{$ip} };
		$open{$ip} = connect_as($port{$listener}, $ip, $to);
		if ($early eq 'hangup') {
			wait_until(sub { $mta->log =~ /CONNECT from \[\Q$ip\E\]/ }, 20);
			close delete($open{$ip})->{sock};
		} else {
			$open{$ip}->send_raw($early);
		}
	}
	for my $ip (grep { $open{$_} } @ips) {
		my (undef, undef, undef, @commands) = @{ $clients{$ip} };
		my $c = $open{$ip};
		my $heard = $heard{$ip} = [ 'greeting: ' . ($c->reply // '(closed)') ];
		for my $command (@commands) {
			last if $command eq 'hangup';
			push @$heard, "$command: " . ($c->cmd($command) // '(closed)');
		}
		push @$heard, 'end: ' . ($c->reply // '(closed)') if @commands && $commands[-1] ne 'hangup';
		close $c->{sock};
	}
	wait_until(sub { my $log = $mta->log; !grep { $log !~ m{(?:DISCONNECT |disconnect from unknown)\[\Q$_\E\]} } @ips }, 20)
		or diag "no end of some";
	return \%heard;
}

sub said_of { # by client, what the log says, without times
	my ($log) = @_;
	my %said;
	for my $line (split /\n/, $log) {
		next unless $line =~ m{(postscreen|dnsblog)\[\d+\]: (.*)};
		my ($program, $text) = ($1, $2);
		next unless $text =~ /(?:\[|addr )(\d+\.\d+\.\d+\.\d+)/;
		my $ip = $1;
		push @{ $said{$ip} }, "$program: " . ($text =~ s/ after [\d.]+ from/ after T from/r);
	}
	# answers of lists come in any order
	@$_ = ((grep { !/^dnsblog/ } @$_), sort grep { /^dnsblog/ } @$_) for values %said;
	return \%said;
}

my $server = '127.0.2.' . (2 + $$ % 250);
my $dir = File::Temp::tempdir(CLEANUP => 1);
spew("$dir/zone", $zone);
Posthaste::spawn("$dir/dns.out", $^X, "$FindBin::Bin/lib/dns.pl", "$server:53", "$dir/zone");
wait_until(sub { -e "$dir/zone.log" }, 10) or die slurp("$dir/dns.out");
my %port = map { $_ => free_port() } map { ($_, "$_ ours") } @listeners;
my $next = Posthaste->recorder;
my $postfix = Peers->postfix(home => 'home.test', next => $next->{port}, main => join('', map { "$_ = $main{$_}\n" } sort keys %main), master => master(%port),
	prepare => sub { spew("$_[0]{dir}/resolv.conf", "nameserver $server\n") }) or die "Postfix does not run\n";
my %ours = map { $_ => $port{"$_ ours"} } @listeners;
my $mta = Posthaste->prepare(master => master(%ours), main => { %main, resolver_nameservers => "$server:53" });
my $file = "$mta->{dir}/data/postscreen_cache";
$mta->configure(postscreen_cache_map => "btree:$file");
$mta->launch;
# Postfix starts who asks the lists when somebody is to be looked up, and lets a client through whom they have not found in
# time: they are to be there when it counts
my @first = map { connect_as($port{$_}, '203.0.113.99', 25) } @listeners;
ok wait_until(sub { my $log = $postfix->log; !grep { $log !~ /addr 203\.0\.113\.99 listed by domain $_\.test/ } qw(bl two secret wl) }, 20),
	'Postfix asks the lists';
my ($theirs, $mine) = (play($postfix, %port), play($mta, %ours));
is_deeply $mine->{$_}, $theirs->{$_}, "$_ hears the same" or diag explain [ $mine->{$_}, $theirs->{$_} ] for sort keys %$theirs;
my ($log_theirs, $log_mine) = (said_of($postfix->log), said_of($mta->log));
is_deeply $log_mine->{$_}, $log_theirs->{$_}, "and is logged" or diag explain [ $log_mine->{$_}, $log_theirs->{$_} ] for sort keys %clients;
$postfix->stop;
$next->stop;

# What is remembered.
sub greeted { # how long the client has to wait, and what the log calls it
	my ($ip, $client_port) = @_;
	my $c = connect_as($ours{drop}, $ip, 25, $client_port);
	my $greeting = $c->reply;
	$c->quit;
	ok wait_until(sub { $mta->log =~ /PASS \w+ \[\Q$ip\E\]:$client_port$/m }, 20), "$ip passes" or diag $mta->log_tail;
	my ($word) = $mta->log =~ /PASS (\w+) \[\Q$ip\E\]:$client_port$/m;
	return ($word // '') . ($greeting =~ /^220-/ ? ' waited' : '');
}
is greeted('203.0.113.1', 4001), 'OLD', 'a client that has passed is let in at once';
my ($verify) = grep { $_->{class} eq 'verify' } $mta->workers;
ok $verify, 'who owns the cache' or BAIL_OUT('no verify worker');
kill 'KILL', $verify->{pid};
ok wait_until(sub { grep { $_->{class} eq 'verify' && $_->{pid} != $verify->{pid} } $mta->workers }, 20), 'it is killed and comes again';
like greeted('203.0.113.1', 4002), qr/^(?:OLD|NEW waited)$/, 'clients are served';
is $mta->stop, 0, 'stops';
my (undef, $table) = $mta->command('postmap', '-s', "btree:$file");
like $table, qr/^203\.0\.113\.1\s+\d{9,};\d{9,};[01];[01];[01]$/m, 'the file has what Postfix writes';
# mailcow's access list is a table on a server
my $tables = free_port();
spew("$dir/access", "203.0.113.30\tpermit\n203.0.113.31\treject\n203.0.113.32\t=TEMP no\n");
Posthaste::spawn("$dir/tables.out", $^X, "$FindBin::Bin/lib/tableserver.pl", $tables, "$dir/access", 'tcp');
$mta->{opt}{master} =~ s/(greet_wait=60s\n)/$1  -o postscreen_access_list=tcp:127.0.0.1:$tables -o postscreen_denylist_action=drop\n/;
$mta->configure(postscreen_cache_map => "btree:$file");
$mta->launch;
like connect_as($ours{slow}, '203.0.113.30', 25)->reply, qr/^220 mx/, 'a server knows who is let through';
like connect_as($ours{slow}, '203.0.113.31', 25)->reply, qr/^521 5\.3\.2 Service currently unavailable/, 'and who is not';
my $unsure = connect_as($ours{slow}, '203.0.113.32', 25);
ok $mta->wait_log(qr/postscreen\[\d+\]: warning: postscreen_access_list: tcp:127\.0\.0\.1:$tables: table lookup error -- ignoring the remainder/, 20),
	'when it does not say';
is scalar readline $unsure->{sock}, "220-mx ESMTP\r\n", 'the client is tested';
is greeted('203.0.113.1', 4003), 'OLD', 'known after a restart';
$mta->advance(3 * 86400);
is greeted('203.0.113.1', 4004), 'OLD waited', 'its results expire';
is greeted('203.0.113.1', 4005), 'OLD', 'and are renewed';
my $early = connect_as($ours{drop}, '203.0.113.20', 25, 4006);
ok wait_until(sub { $mta->log =~ /CONNECT from \[203\.0\.113\.20\]/ }, 20), 'a client is under test';
is $mta->stop, 0, 'and the system stops';
like $early->reply, qr/^220-mx ESMTP\r\n421 4\.3\.2 Service currently unavailable/, 'it is told so';
is join("\n", grep { !/signal 9/ } split /\n/, $mta->crashes), '', 'nothing crashed but who was killed';
is $mta->refusals, 0, 'no system call was refused';
done_testing;
