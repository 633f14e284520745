#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# TLS on the way out: Debian's Postfix and Posthaste send the same mail under the same policies to the same servers,
# which have certificates of every kind, old protocols, or no TLS. The same recipients are sent to, and the others
# wait with the same codes and texts.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port spawn);
use Certs;
use Peers;
use Test::More;
use File::Temp qw(tempdir);

my $why = Peers::obstacle();
plan skip_all => $why if $why;
my $dir = tempdir('posthaste-tls-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
my $certs = Certs->new("$dir/certs");
$certs->ca($_) for qw(ca other);
$certs->ca('middle', 'ca');
$certs->cert('good', ca => 'ca', names => [ 'mx.good.test', 'other.name.test' ]);
$certs->cert('chained', ca => 'middle', names => ['mx.good.test'], chain => ['middle']);
$certs->cert('wrong', ca => 'ca', names => ['mx.wrong.test']);
$certs->cert('old', ca => 'ca', names => ['mx.good.test'], from => -20, to => -10);
$certs->cert('self', names => ['mx.good.test']);
$certs->cert('stranger', ca => 'other', names => ['mx.good.test']);
$certs->cert('star', ca => 'ca', names => ['*.good.test']);
$certs->cert('common', ca => 'ca', cn => 'mx.good.test');
$certs->cert('client', ca => 'ca', names => ['client.test']);
my ($print, $key_print) = ($certs->fingerprint('self'), $certs->fingerprint('self', 1));
(my $wrong_print = $print) =~ tr/0-9A-F/1-9A-F0/;

# name => [ certificate of the server, what else it has, policy of the client, transport of the client ]; names that
# begin with "sts" have their policies in a remote table, as of resolvers of MTA-STS
my %case = (
	encrypt => [ 'self', '', 'encrypt' ],
	may => [ 'self', '', 'may' ],
	none => [ 'self', '', 'none' ],
	secure => [ 'good', '', 'secure match=mx.good.test' ],
	second => [ 'good', '', 'verify match=none.test:other.name.test' ],
	below => [ 'good', '', 'secure match=.good.test' ],
	chain => [ 'chained', '', 'secure match=mx.good.test' ],
	wrong => [ 'wrong', '', 'secure match=mx.good.test' ],
	expired => [ 'old', '', 'secure match=mx.good.test' ],
	self => [ 'self', '', 'verify match=mx.good.test' ],
	stranger => [ 'stranger', '', 'secure match=mx.good.test' ],
	star => [ 'star', '', 'secure match=mx.good.test' ],
	stars => [ 'star', '', 'secure match=a.mx.good.test' ],
	starless => [ 'star', '', 'secure match=good.test' ],
	common => [ 'common', '', 'secure match=mx.good.test' ],
	print => [ 'self', '', "fingerprint match=$wrong_print|$print" ],
	keyprint => [ 'self', '', "fingerprint match=$key_print" ],
	noprint => [ 'self', '', "fingerprint match=$wrong_print" ],
	plain => [ undef, '', 'may' ],
	mustplain => [ undef, '', 'encrypt' ],
	onlyold => [ 'self', 'smtpd_tls_mandatory_protocols=<=TLSv1.2,smtpd_tls_protocols=<=TLSv1.2', 'encrypt protocols=>=TLSv1.3' ],
	maybeold => [ 'self', 'smtpd_tls_protocols=<=TLSv1.2', 'may protocols=>=TLSv1.3' ],
	newer => [ 'self', 'smtpd_tls_protocols=<=TLSv1.2', 'encrypt protocols=TLSv1.2 ciphers=high' ],
	cipher => [ 'self', 'smtpd_tls_protocols=<=TLSv1.2', 'encrypt exclude=AESGCM,AESCCM,ARIA,CAMELLIA,CHACHA20,AES' ],
	odd => [ 'self', '', 'encrypt match=mx.good.test' ],
	nothing => [ 'self', '', 'strong' ],
	wrapped => [ 'self', 'smtpd_tls_wrappermode=yes', 'encrypt', 'wrap' ],
	certified => [ 'self', "smtpd_tls_req_ccert=yes,smtpd_tls_security_level=encrypt,smtpd_tls_CAfile=$dir/certs/ca.crt", 'encrypt', 'certified' ],
	sts => [ 'good', '', 'secure match=mx.good.test servername=mx.good.test' ],
	stsbad => [ 'wrong', '', 'secure match=mx.good.test servername=hostname' ],
	stserror => [ 'good', '', '=TEMP later' ],
	anonymous => [ 'self', "smtpd_tls_req_ccert=yes,smtpd_tls_security_level=encrypt,smtpd_tls_CAfile=$dir/certs/ca.crt", 'encrypt' ],
);
my @names = sort keys %case;
my ($n, $port) = (1, free_port());
$case{$_}[4] = '127.0.0.' . ++$n for @names;

my $master = '';
for my $name (@names) {
	my ($cert, $more, $address) = @{ $case{$name} }[ 0, 1, 4 ];
	$master .= "$address:$port inet n - n - - smtpd\n  -o myhostname=$name.server.test\n";
	$master .= defined $cert ? "  -o smtpd_tls_security_level=may\n  -o smtpd_tls_chain_files=$dir/certs/$cert.pem\n" :
		"  -o smtpd_tls_security_level=none\n";
	$master .= join '', map { "  -o { $_ }\n" } split /,/, $more;
}
my $server = Peers->postfix(home => 'server.test', next => 9, master => $master,
	main => "default_transport = discard\nrelayhost =\ninet_interfaces = all\nsmtpd_tls_loglevel = 1\n") or BAIL_OUT('no server');

my $sts = free_port();
spew("$dir/sts", join '', map { "tls:[$case{$_}[4]]:$port\t$case{$_}[2]\n" } grep { /^sts/ } @names);
my $table = spawn("$dir/sts.out", $^X, "$FindBin::Bin/lib/tableserver.pl", $sts, "$dir/sts", 'socketmap');
ok wait_until(sub { -e "$dir/sts.ready" }, 20), 'a table of policies';

# The policies and routes, for both; the options of transports.
sub main_cf {
	my %main = (
		mydestination => '',
		relayhost => '',
		smtp_tls_CAfile => "$dir/certs/ca.crt",
		smtp_tls_loglevel => 1,
		smtp_tls_fingerprint_digest => 'sha256',
		smtp_tls_policy_maps => 'inline:{ ' . join(', ', map { "{ [$case{$_}[4]]:$port = $case{$_}[2] }" } grep { !/^sts/ } @names) .
			" }, socketmap:inet:127.0.0.1:$sts:tls",
		transport_maps => 'inline:{ ' . join(', ', map { "{ $_.test = " . ($case{$_}[3] // 'smtp') . ":[$case{$_}[4]]:$port }" } @names) .
			", { again.test = once:[$case{secure}[4]]:$port } }",
	);
	return %main;
}
my $transports = <<"EOF";
wrap unix - - n - - smtp
  -o smtp_tls_wrappermode=yes
certified unix - - n - - smtp
  -o smtp_tls_chain_files=$dir/certs/client.pem
once unix - - n - - smtp
  -o smtp_connection_cache_on_demand=no
EOF

# What becomes of each recipient: dsn, status and text.
sub results {
	my ($log) = @_;
	my %is;
	for my $line (split /\n/, $log) {
		my ($name, $dsn, $rest) = $line =~ /to=<joe\@(\w+)\.test>.* dsn=([\d.]+), (status=.*)/ or next;
		$is{$name} = "$dsn $rest";
	}
	return \%is;
}

sub whole {
	my ($log) = @_;
	my $is = results($log);
	return 0 == grep { !$is->{$_} } @names;
}

sub send_all {
	my ($to) = @_;
	my $c = Posthaste::Client->new($to);
	$c->cmd('EHLO client.test');
	$c->cmd('MAIL FROM:<joe@client.test>');
	$c->cmd("RCPT TO:<joe\@$_.test>") for @names;
	$c->cmd('DATA');
	$c->cmd("Subject: x\r\n\r\nx\r\n.");
	$c->quit;
	return;
}

my %main = main_cf();
my $peer = Peers->postfix(home => 'peer.test', next => 9, master => $transports,
	main => join('', map { "$_ = $main{$_}\n" } sort keys %main)) or BAIL_OUT('no peer');
my $own_port = free_port();
my $mta = Posthaste->start(main => { %main, smtp_tls_session_cache_database => 'btree:x' },
	master => "127.0.0.1:$own_port inet n - n - - smtpd\nsmtp unix - - n - - smtp\n$transports");
send_all($peer->{port});
send_all($own_port);
ok wait_until(sub { whole($peer->log) }, 60), 'every recipient has a result there';
ok wait_until(sub { whole($mta->log) }, 60), '... and here';
my ($theirs, $ours) = (results($peer->log), results($mta->log));
for my $name (@names) {
	my @both = map { ($_->{$name} // 'nothing') =~ s/queued as \w+/queued/r } $theirs, $ours;
	is $both[1], $both[0], "$name: $case{$name}[2]" or diag join "\n", grep { /\[\Q$case{$name}[4]\E\]/ } split /\n/, $peer->log;
}
# what the log says of the servers
my %trust;
for my $which ([ theirs => $peer->log ], [ ours => $mta->log ]) {
	my ($who, $log) = @$which;
	$trust{$who}{$2} = $1 while $log =~ /(\w+) TLS connection established to \S+?\[(127[\d.]+)\]:\d+: TLSv1/g;
}
# a trusted certificate with another name is "Trusted" since Postfix 3.11; suites without certificates are not offered
delete @{ $trust{$_} }{ map { $case{$_}[4] } qw(wrong stsbad stars starless newer) } for qw(ours theirs);
is_deeply $trust{ours}, $trust{theirs}, 'the same servers are trusted';
like $mta->log, qr/Verified TLS connection established to 127\S+: TLSv1\.3 with cipher TLS_\w+ \(\d+\/\d+ bits\) key-exchange /, 'a line of the log';

# large and small mail over one connection
my $big = join '', map { sprintf "%06d %s\r\n", $_, 'x' x 60 } 1 .. 40000;
my $c = Posthaste::Client->new($own_port);
$c->cmd('EHLO client.test');
for my $text ("Subject: big\r\n\r\n$big.", "Subject: small\r\n\r\nx\r\n.") {
	$c->cmd('MAIL FROM:<joe@client.test>');
	$c->cmd('RCPT TO:<big@secure.test>');
	$c->cmd('DATA');
	$c->cmd($text);
}
$c->quit;
ok wait_until(sub { 2 == (() = $mta->log =~ /to=<big\@secure\.test>.*status=sent/g) }, 60), 'large and small mail goes through TLS';
ok wait_until(sub { 2 == (() = $server->log =~ /to=<big\@secure\.test>/g) }, 30), '... and arrives';
ok wait_until(sub { $server->log =~ /size=27\d{5}, nrcpt=1/ }, 30), '... whole';

# connection after connection goes on with a session; such a server sends no new ticket to who came with one
my $resumed = sub { $mta->http('/metrics') =~ /^posthaste_deliver_tls_resumed\S* (\d+)$/m ? $1 : 0 };
my $before = $resumed->();
for my $i (1 .. 5) {
	my $once = Posthaste::Client->new($own_port);
	$once->cmd($_) for 'EHLO client.test', 'MAIL FROM:<joe@client.test>', "RCPT TO:<no$i\@again.test>", 'DATA', "Subject: x\r\n\r\nx\r\n.";
	$once->quit;
	wait_until(sub { $mta->log =~ /to=<no$i\@again\.test>/ }, 30) or last;
}
is scalar(() = $mta->log =~ /to=<no\d\@again\.test>.*status=sent/g), 5, 'one message after the other goes through TLS';
ok wait_until(sub { $resumed->() - $before >= 4 }, 30), '... with one session' or diag $resumed->() - $before;

$mta->stop;
$_->stop for $peer, $server;
Posthaste::end_child($table);
done_testing;
