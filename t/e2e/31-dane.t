#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# DANE: a name server with a signed zone and one that is not, TLSA records of all kinds, and servers (Debian's Postfix)
# whose certificates are what they say, or not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port slurp spew spawn wait_until run_ok);
use Certs;
use Peers;
use File::Temp qw(tempdir);
use Test::More;

my $why = Peers::obstacle();
plan skip_all => $why if $why;
plan skip_all => 'needs nsd' unless -x '/usr/sbin/nsd';
plan skip_all => 'needs ldns-signzone' unless -x '/usr/bin/ldns-signzone';
my ($port, $dns) = (free_port(), free_port());
my $dir = tempdir('posthaste-dane-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
my $certs = Certs->new("$dir/certs");
$certs->ca('ca');
$certs->cert('self', names => ['nobody.example']);
$certs->cert('named', ca => 'ca', names => ['ta.signed.example'], chain => ['ca']);
$certs->cert('expired', names => ['nobody.example'], from => -9, to => -8);
my ($key, $cert) = map { my $f = $certs->fingerprint('self', $_); $f =~ tr/://d; $f } 1, 0;
(my $ca = $certs->fingerprint('ca')) =~ tr/://d;
(my $old = $certs->fingerprint('expired', 1)) =~ tr/://d;
(my $wrong = $key) =~ tr/0-9A-F/1-9A-F0/;

# host => [ certificate of the server, its TLSA record, what becomes of mail, as a pattern ]
my $unverified = qr/dsn=4\.7\.5, status=deferred \(Server certificate not verified\)/;
my $sent = qr/dsn=2\.0\.0, status=sent/;
my %host = (
	key => [ 'self', "3 1 1 $key", $sent ],
	cert => [ 'self', "3 0 1 $cert", $sent ],
	old => [ 'expired', "3 1 1 $old", $sent ],
	wrong => [ 'self', "3 1 1 $wrong", $unverified ],
	ta => [ 'named', "2 0 1 $ca", $sent ],
	tb => [ 'named', "2 0 1 $ca", $unverified ],
	tc => [ 'self', "2 0 1 $ca", $unverified ],
	plain => [ undef, "3 1 1 $key", qr/dsn=4\.7\.4, status=deferred \(TLS is required, but was not offered by host / ],
	none => [ undef, undef, $sent ],
	pkix => [ 'self', "1 1 1 $wrong", $sent ],
	pkixplain => [ undef, "1 1 1 $wrong", qr/dsn=4\.7\.4, status=deferred/ ],
	only => [ 'self', undef, qr/dsn=4\.7\.5, status=deferred \(no TLSA records found\)/ ],
);
my ($zone, $master, $n) = ('', '', 0);
for my $name (sort keys %host) {
	my ($pem, $tlsa) = @{ $host{$name} };
	my $ip = '127.0.4.' . ++$n;
	$zone .= "d-$name MX 10 $name\n$name A $ip\n" . ($tlsa ? "_$port._tcp.$name TLSA $tlsa\n" : '');
	$master .= "$ip:$port inet n - n - - smtpd\n" . (defined $pem ?
		"  -o smtpd_tls_security_level=may\n  -o smtpd_tls_chain_files=$dir/certs/$pem.pem\n" : "  -o smtpd_tls_security_level=none\n");
}
my $head = "\$TTL 60\n\@ SOA ns hostmaster 1 3600 600 86400 60\n\@ NS ns\nns A 127.0.0.1\n";
spew("$dir/signed.zone", "\$ORIGIN signed.example.\n$head${zone}alias CNAME key\nd-alias MX 10 alias\n");
spew("$dir/open.zone", "\$ORIGIN open.example.\n${head}good MX 10 key.signed.example.\nbad MX 10 wrong.signed.example.\n" .
	"off MX 10 off\noff A 127.0.4.1\n_$port._tcp.off TLSA 3 1 1 $wrong\n");
my ($rc, $keyfile) = run_ok('sh', '-c', 'cd "$0" && ldns-keygen -a ECDSAP256SHA256 -k signed.example', $dir);
is $rc, 0, 'a key' or BAIL_OUT($keyfile);
chomp $keyfile;
($rc, my $out) = run_ok('sh', '-c', 'cd "$0" && ldns-signzone -n signed.zone "$1"', $dir, $keyfile);
is $rc, 0, 'a signed zone' or BAIL_OUT($out);
spew("$dir/nsd.conf", <<"EOF");
server:
	ip-address: 127.0.0.1\@$dns
	do-ip6: no
	server-count: 1
	username: ""
	chroot: ""
	zonesdir: "$dir"
	database: ""
	pidfile: "$dir/nsd.pid"
	xfrdfile: "$dir/xfrd"
	zonelistfile: "$dir/zones"
	logfile: "$dir/nsd.log"
remote-control:
	control-enable: no
zone:
	name: "signed.example"
	zonefile: "signed.zone.signed"
zone:
	name: "open.example"
	zonefile: "open.zone"
EOF
my $nsd = spawn("$dir/nsd.out", '/usr/sbin/nsd', '-d', '-c', "$dir/nsd.conf");
ok wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$dns") }, 20), 'nsd runs' or BAIL_OUT(slurp("$dir/nsd.log"));
my $server = Peers->postfix(home => 'server.test', next => 9, master => $master,
	main => "default_transport = discard\nrelayhost =\ninet_interfaces = all\n") or BAIL_OUT('no server');

chmod 0644, glob "$dir/*.key";
spew("$dir/transport", "/\@(.*)\$/ smtp:\$1:$port\n");
my $mta = Posthaste->start(main => { resolver_nameservers => "127.0.0.1:$dns", resolver_trust_anchor_file => "$dir/$keyfile.key",
	smtp_dns_support_level => 'dnssec', smtp_tls_security_level => 'dane', smtp_tls_loglevel => 1,
	smtp_tls_policy_maps => "inline:{ { d-only.signed.example:$port = dane-only } }",
	default_transport => 'smtp', transport_maps => "pcre:$dir/transport" });
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.test');
my %want = map { ("d-$_.signed.example" => $host{$_}[2]) } keys %host;
$want{'d-alias.signed.example'} = $sent;
$want{'good.open.example'} = $sent;
$want{'bad.open.example'} = $unverified;
$want{'off.open.example'} = $sent;
$smtp->ok('MAIL FROM:<joe@client.test>');
$smtp->ok("RCPT TO:<joe\@$_>") for sort keys %want;
$smtp->ok('DATA');
$smtp->send_raw("Subject: x\r\n\r\nx\r\n.\r\n");
$smtp->reply;
for my $domain (sort keys %want) {
	ok $mta->wait_log(qr/to=<joe\@\Q$domain\E>, .*$want{$domain}/, 30), $domain or
		diag join "\n", grep { /\Q$domain\E|warning|TLS/ } split /\n/, $mta->log;
}
my $log = $mta->log;
like $log, qr/Verified TLS connection established to key\.signed\.example\[/, 'a verified server';
like $log, qr/Untrusted TLS connection established to pkix\.signed\.example\[/, 'records that cannot be used ask for TLS alone';
like $log, qr/Trusted TLS connection established to key\.signed\.example\[/, 'by way of an MX that is not signed a server is not verified';
$smtp->quit;
$mta->stop;
$server->stop;
Posthaste::end_child($nsd);
done_testing;
