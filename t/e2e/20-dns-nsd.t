#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Routing by a real name server (NSD) with several next hops on addresses of their own: the order of
# MX hosts and SRV records, aliases, answers too long for UDP, names in UTF-8, mail that would come back to us, and
# name servers that refuse or are not there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port slurp spew spawn wait_until);
use File::Temp qw(tempdir);
use Test::More;

plan skip_all => 'needs nsd' unless -x '/usr/sbin/nsd';
my ($port, $dns) = (free_port(), free_port());
my $dir = tempdir(CLEANUP => 1);
chmod 0755, $dir;
my %hop = map { $_ => Posthaste->recorder("127.0.2.$_:$port", 'caps=PIPELINING,8BITMIME,SMTPUTF8') } 2, 3;
my $many = join '', map { "big MX 20 host-with-a-long-name-so-that-the-answer-does-not-fit-$_\n" } 10 .. 60;
my $me = 'mx.posthaste.test.';
spew("$dir/test.zone", <<"EOF");
\$ORIGIN test.
\$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
one A 127.0.2.1
two A 127.0.2.2
three A 127.0.2.3
order MX 30 three
order MX 10 one
order MX 20 two
best MX 10 three
best MX 20 two
plain A 127.0.2.2
addrs MX 10 several
several A 127.0.2.1
several A 127.0.2.2
several A 127.0.2.4
alias CNAME best
tocname MX 10 cname
cname CNAME two
$many
big MX 5 two
xn--bcher-kva MX 10 three
null MX 0 .
nodata TXT "nothing here"
noaddr MX 10 nodata
noaddr MX 20 gone
self MX 10 $me
own MX 10 $me
self MX 20 two
backup MX 10 one
backup MX 20 $me
backup MX 30 two
lost MX 10 gone
lost MX 20 $me
mx.posthaste A 127.0.0.1
listed.example.bl A 127.0.0.5
listed.example.bl TXT "see" " http://bl.test/"
other.example.bl A 127.0.0.9
1.0.0.127.wl A 127.0.0.2
_submission._tcp.srv SRV 20 0 $port three
_submission._tcp.srv SRV 10 1 $port one
_submission._tcp.srv SRV 10 9 $port one
_submission._tcp.srv SRV 15 0 $port two
_submission._tcp.nosrv SRV 0 0 0 .
sieved MX 10 one
sieved MX 20 three
emptied A 127.0.2.2
spam2 MX 10 mx.spam
spam MX 10 mx.spam
mx.spam A 127.0.9.9
EOF
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
	name: "test"
	zonefile: "test.zone"
EOF
my $nsd = spawn("$dir/nsd.out", '/usr/sbin/nsd', '-d', '-c', "$dir/nsd.conf");
ok wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$dns") }, 10), 'nsd runs'
	or BAIL_OUT(slurp("$dir/nsd.log"));

my $mta = Posthaste->prepare(main => { resolver_nameservers => "127.0.0.1:$dns", smtp_connect_timeout => '5s',
	use_srv_lookup => 'submission', smtp_dns_reply_filter => 'regexp:{{/^sieved\.test\. [0-9]+ IN MX 10 one\.test\.$$/ IGNORE}, {/^emptied\.test\. / IGNORE}}',
	smtpd_dns_reply_filter => 'regexp:{{/^spam2\.test\. [0-9]+ IN MX / IGNORE}}' });
my @ported = ((map { "$_.test" } qw(order best plain addrs alias tocname big sieved emptied null nodata noaddr gone)),
	"b\xc3\xbccher.test", 'refused.example');
spew("$mta->{dir}/transport", join '', (map { "$_ smtp:$_:$port\n" } @ported), (map { "$_ smtp:$_:submission\n" } 'srv.test', 'nosrv.test', 'none.test'),
	"own.test best:\nround.test round:own.test\n");
$mta->configure(transport_maps => "texthash:$mta->{dir}/transport", smtpd_delay_reject => 'no',
	smtpd_helo_restrictions => 'reject_rhsbl_helo bl.test=127.0.0.[4..6]',
	smtpd_sender_restrictions => 'check_sender_mx_access inline:{{127.0.9=REJECT not with that mail server}}, '
		. 'check_sender_ns_access inline:{{ns.test=PREPEND X-Servers: ours}}',
	smtpd_client_restrictions => 'reject_rbl_client bl.test, permit_dnswl_client wl.test, reject',
	smtpd_log_access_permit_actions => 'permit_dnswl_client');
spew("$mta->{dir}/conf/master.cf", slurp("$mta->{dir}/conf/master.cf")
	. "best unix - - n - - smtp -o best_mx_transport=discard:taken\nround unix - - n - - smtp -o best_mx_transport=round:Own.Test\n");
$mta->launch;
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.test');

# Sends to the domain; the result must look like that. What happens meanwhile: $during.
sub logged {
	my ($domain, $re, $what, $during) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $utf8 = $domain =~ /[^ -~]/ ? ' SMTPUTF8' : '';
	$smtp->ok("MAIL FROM:<>$utf8");
	$smtp->ok("RCPT TO:<user\@$domain>");
	$smtp->ok('DATA');
	$smtp->send_raw("Subject: x\r\n\r\n.\r\n");
	my ($qid) = $smtp->reply =~ /queued as (\w+)/;
	$during->($qid) if $during;
	return ok($mta->wait_log(qr/$qid: to=<user\@\Q$domain\E>, $re/, 15), "$domain: $what") ||
		diag grep { /$qid|connect|warn/ } split /^/, $mta->log;
}

sub relay {
	my ($name, $n) = @_;
	return qr/relay=$name\[127\.0\.2\.$n\]:$port, .*dsn=2\.0\.0, status=sent/;
}

logged('order.test', relay('two.test', 2), 'the first that answers, by preference');
like $mta->log, qr/postfix\/smtp\[\d+\]: connect to one\.test\[127\.0\.2\.1\]:$port: Connection refused$/m, 'the one before was tried';
is $mta->count_log(qr/three\.test/), 0, 'the one after was not';
logged('best.test', relay('three.test', 3), 'preference, not order in the zone');
logged('plain.test', relay('plain.test', 2), 'the address when there is no MX');
logged('addrs.test', relay('several.test', 2), 'the address of the host that answers');
logged('alias.test', relay('three.test', 3), 'an alias has the MX of what it stands for');
logged('tocname.test', relay('c?name\.test|two\.test|cname\.test', 2), 'an MX that is an alias');
logged('big.test', relay('two.test', 2), 'an answer that needs TCP');
logged("b\xc3\xbccher.test", relay('three.test', 3), 'a name in UTF-8');

logged('srv.test', relay('two.test', 2), 'SRV records: the host of the next priority, when the better ones are dead, at its port');
logged('sieved.test', relay('three.test', 3), 'a record that smtp_dns_reply_filter takes out');
like $mta->log, qr/postfix\/smtp\[\d+\]: ignoring DNS RR: sieved\.test\. \d+ IN MX 10 one\.test\.$/m, '... and the log says so';
logged('emptied.test', qr/relay=none, .*dsn=4\.7\.0, status=deferred \(Error looking up name=emptied\.test type=A: DNS reply filter drops all results\)/, 'one that takes all');
my $nse = 'Host or domain name not found\. Name service error for name=';
logged('null.test', qr/relay=none, .*dsn=5\.1\.0, status=bounced \(Domain null\.test does not accept mail \(nullMX\)\)/, 'null MX');
logged('nodata.test', qr/relay=none, .*dsn=5\.4\.4, status=bounced \(${nse}nodata\.test type=A: Host found but no data record of requested type\)/, 'neither MX nor address');
logged('noaddr.test', qr/relay=none, .*dsn=5\.4\.4, status=bounced \(${nse}\w+\.test type=A: Host /, 'MX hosts without any address');
logged('gone.test', qr/relay=none, .*dsn=5\.4\.4, status=bounced \(${nse}gone\.test type=MX: Host not found\)/, 'no such name');
logged('refused.example', qr/relay=none, .*dsn=4\.4\.3, status=deferred \(${nse}refused\.example type=MX: Host not found, try again\)/, 'the name server refuses');

logged('nosrv.test', qr/relay=none, .*dsn=5\.1\.0, status=bounced \(Domain _submission\._tcp\.nosrv\.test does not support SRV requests\)/, 'a service that is not there');
logged('none.test', qr/relay=none, .*dsn=5\.4\.4, status=bounced \(${nse}_submission\._tcp\.none\.test type=SRV: Host not found\)/, 'no SRV record');

note 'lists in the DNS';
my $listed = $mta->smtp;
is $listed->cmd('EHLO listed.example'), "554 5.7.1 Service unavailable; Helo command [listed.example] blocked using "
	. "bl.test; see http://bl.test/", 'a name that is listed, with the reason';
like $listed->cmd('EHLO other.example'), qr/^250/, 'another answer than the one that is wanted';
like $listed->cmd('MAIL FROM:<s@spam.test>'), qr/^554 5\.7\.1 <s\@spam\.test>: Sender address rejected: not with that mail server$/,
	'a sender whose mail server is in a table, by its address';
like $listed->cmd('MAIL FROM:<s@order.test>'), qr/^250/, '... and one whose name server only is';
$listed->ok('RSET');
like $listed->cmd('MAIL FROM:<s@spam2.test>'), qr/^250/, '... and one whose MX record smtpd_dns_reply_filter takes out';
$listed->quit;
ok $mta->wait_log(qr/NOQUEUE: permit: CONNECT from \S+: action=permit_dnswl_client for Client host=\S+;/), 'one that permits, in the log';

note 'port 25: mail that would come back';
logged('self.test', qr/relay=none, .*dsn=5\.4\.6, status=bounced \(mail for self\.test loops back to myself\)/, 'we are the best MX');
logged('own.test', qr/relay=none, .*dsn=2\.0\.0, status=sent \(taken\)/, '... and best_mx_transport takes it');
is $mta->count_log(qr{/smtp\[\d+\]: \S+: passing <user\@own\.test> to transport=discard\n}), 1, '... which is logged once';
is $mta->count_log(qr/to=<user\@own\.test>/), 1, '... and nothing else is';
logged('round.test', qr/relay=none, .*dsn=5\.4\.6, status=bounced \(mail for own\.test loops back to myself\)/, 'a best_mx_transport that goes round');
logged('backup.test', qr/relay=none, .*dsn=4\.4\.1, status=deferred \(connect to one\.test\[127\.0\.2\.1\]:25: Connection refused\)/, 'we are a backup: only better hosts');
is $mta->count_log(qr/connect to two\.test\[127\.0\.2\.2\]:25/), 0, 'none worse than us is tried';
logged('lost.test', qr/relay=none, .*dsn=4\.4\.4, status=deferred \(unable to find primary relay for lost\.test\)/, 'we are a backup of nobody');
is $mta->stop, 0, 'stop';
is scalar(() = $hop{2}->got =~ /^RCPT TO/mg), 6, 'all that was meant for one next hop reached it';
is scalar(() = $hop{3}->got =~ /^RCPT TO/mg), 4, '... and the other';

note 'a name server that is not there';
$mta = Posthaste->start(main => { resolver_nameservers => '127.0.0.1:' . free_port() });
$smtp = $mta->smtp;
$smtp->ok('EHLO client.test');
logged('order.test', qr/relay=none, .*dsn=4\.4\.3, status=deferred \(${nse}order\.test type=MX: Host not found, try again\)/, 'deferred', sub {
	my ($qid) = @_;
	# nobody waits for long
	wait_until(sub { $mta->advance(31); $mta->log =~ /$qid: to=/ || (wait_until(sub { 0 }, 0.3), 0)[1] }, 15);
});
is $mta->stop, 0, 'stop';
Posthaste::end_child($nsd);
done_testing;
