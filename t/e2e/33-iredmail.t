#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# iRedMail with MariaDB and amavis, run word for word (lib/MailSystem.pm): its seventeen tables, its policy servers, a filter
# for what comes in and one for what goes out, boxes by Dovecot's delivery agent, lists by mlmmj.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use MailSystem;
use Posthaste qw(slurp spew wait_until run_ok);
use Test::More;

my %query = (
	virtual_mailbox_domains => "(SELECT name FROM domain WHERE name='%s' AND backupmx=0 LIMIT 1) UNION (SELECT alias FROM alias_domain WHERE alias='%s' LIMIT 1)",
	virtual_mailbox_maps => "SELECT CONCAT(node, '/', address, '/Maildir/') FROM box WHERE address='%s' AND active=1",
	virtual_alias_maps => "SELECT goto FROM forward WHERE address='%s' AND active=1",
	domain_alias_maps => "SELECT goto FROM forward, alias_domain WHERE alias='%d' AND address=CONCAT('%u', '\@', target)",
	catchall_maps => "SELECT goto FROM forward WHERE address='%d' AND '%u' NOT LIKE '%%+%%'",
	domain_alias_catchall_maps => "SELECT goto FROM forward, alias_domain WHERE alias='%d' AND address=target",
	recipient_bcc_maps_user => "SELECT bcc FROM bcc WHERE kind='to' AND who='%s'", recipient_bcc_maps_domain => "SELECT bcc FROM bcc WHERE kind='to' AND who='%d'",
	sender_bcc_maps_user => "SELECT bcc FROM bcc WHERE kind='from' AND who='%s'", sender_bcc_maps_domain => "SELECT bcc FROM bcc WHERE kind='from' AND who='%d'",
	relay_domains => "SELECT name FROM domain WHERE name='%s' AND backupmx=1", sender_dependent_relayhost_maps => "SELECT relayhost FROM relay WHERE account='%s' LIMIT 1",
	sender_login_maps => "SELECT address FROM box WHERE address='%s'", transport_maps_user => "SELECT transport FROM box WHERE address='%s' AND transport<>''",
	transport_maps_maillist => "SELECT transport FROM lists WHERE address='%s'", transport_maps_domain => "SELECT transport FROM domain WHERE name='%s'",
);
my $sql = <<'EOT';
create database vmail; create user vmail@127.0.0.1 identified by 'ired'; grant all on vmail.* to vmail@127.0.0.1; use vmail;
create table domain (name varchar(99), backupmx int, transport varchar(99));
insert into domain values ('box.test',0,'dovecot'), ('second.test',0,'dovecot'), ('backup.test',1,'smtp:[203.0.113.26]:25');
create table alias_domain (alias varchar(99), target varchar(99)); insert into alias_domain values ('alias.test','box.test');
create table box (address varchar(99), node varchar(99), transport varchar(99), active int);
insert into box values ('joe@box.test','vmail1','',1), ('ann@box.test','vmail1','',1), ('eve@box.test','vmail1','smtp:[203.0.113.26]:25',1), ('old@box.test','vmail1','',0),
	('kim@second.test','vmail1','',1), ('keep@box.test','vmail1','',1);
create table forward (address varchar(99), goto varchar(99), active int);
insert into forward values ('joe@box.test','joe@box.test',1), ('ann@box.test','ann@box.test',1), ('info@box.test','joe@box.test',1), ('info@box.test','ann@box.test',1),
	('second.test','kim@second.test',1), ('aliasonly.test','joe@box.test',1), ('team@box.test','team@box.test',1);
create table bcc (kind varchar(9), who varchar(99), bcc varchar(99)); insert into bcc values ('to','kim@second.test','keep@box.test'), ('from','eve@box.test','keep@box.test');
create table relay (account varchar(99), relayhost varchar(99)); insert into relay values ('eve@box.test','[203.0.113.26]:25');
create table lists (address varchar(99), transport varchar(99)); insert into lists values ('team@box.test','mlmmj:box.test/team');
EOT
my $tables = '/etc/postfix/tables';
my $deliver = "#!/bin/sh\n" . <<'EOT';
umask 0
f=$(mktemp /var/vmail/got/XXXXXX)
{ echo "BY $(id -un) $0 $*"; cat; } >"$f"
mv "$f" "$f.done"
EOT
my %files = (
	(map { ("$tables/$_" => [ "hosts       = 127.0.0.1:3306\nuser        = vmail\npassword    = ired\ndbname      = vmail\nquery       = $query{$_}\n", 0640 ]) } keys %query),
	"$tables/aliases" => "root: joe\@box.test\n", "$tables/body_checks" => "/^buy now/ REJECT no trade\n", "$tables/header_checks" => "/^X-Bad:/ REJECT not with that\n/^X-Hide:/ IGNORE\n",
	"$tables/smtpd_command_filter" => "/^(RCPT\\s+TO:\\s*<)'([^[:space:]]+)'(>.*)/ \$1\$2\$3\n",
	"$tables/helo_access" => "/^(localhost)\$/ REJECT no such name (\$1)\n", "$tables/sender_access" => "/^spam\@/ REJECT known for that\n",
	"$tables/access_cidr" => "203.0.113.66 reject\n203.0.113.9 permit\n203.0.113.10 permit\n127.0.0.2 permit\n::1 permit\n", "$tables/dnsbl_reply" => "zen.spamhaus.org blocked.test\n",
	'/usr/lib/dovecot/deliver' => [ $deliver, 0755 ], '/usr/bin/mlmmj-amime-receive' => [ $deliver, 0755 ],
);
my $zone = <<'EOT';
far.test MX 10 mx.far.test
mx.far.test A 203.0.113.25
client.test A 203.0.113.9
9.113.0.203.in-addr.arpa PTR client.test
box.test A 192.0.2.25
EOT
my $sys = MailSystem->new('iredmail', files => \%files, zone => $zone, users => [ 'vmail:2000', 'mlmmj:2003' ]);
my $certs = $sys->{certs};
$certs->cert('far', ca => 'ca', names => ['mx.far.test']);
spew('/etc/ssl/certs/of-the-test.pem', slurp("$certs->{dir}/ca.crt"));
run_ok('openssl', 'rehash', '/etc/ssl/certs');
mkdir '/var/vmail';
mkdir '/var/vmail/got';
chmod 0777, '/var/vmail/got';
my $db = $sys->database('mariadb', 3306, $sql) or plan skip_all => 'needs MariaDB';
my $apd = $sys->policy(7777, "protocol_state=RCPT recipient=throttled\@far.test\tDEFER_IF_PERMIT too much\nprotocol_state=END-OF-MESSAGE sender=big\@far.test\tREJECT too big\n");
my $quota = $sys->policy(12340, "recipient=ann\@box.test sender=quota\@far.test\tREJECT box is full\n");
my $in = $sys->filter(10024, '127.0.0.1:10025', 'amavis-in');
my $out_filter = $sys->filter(10026, '127.0.0.1:10025', 'amavis-out');
my $world = $sys->hop('203.0.113.99:25');
my $far = $sys->far($world, <<"EOT");
203.0.113.25:25 inet n - n - - smtpd
    -o smtpd_tls_chain_files=$certs->{dir}/far.pem
    -o smtpd_tls_security_level=may
203.0.113.26:25 inet n - n - - smtpd
EOT
my ($rc, $out) = run_ok(Posthaste::prefix() . '/sbin/newaliases', '-C', '/etc/postfix');
is $rc, 0, 'newaliases' or diag $out;
$sys->launch;
$sys->dovecot_auth('/var/spool/postfix/private/dovecot-auth');
my %from = (from => '203.0.113.9');
my %joe = (%from, port => 587, tls => 'start', login => 'joe@box.test');

# What was given to the delivery agents in which this is found; waited for until there are $n.
sub boxes {
	my ($re, $n) = @_;
	my @found;
	wait_until(sub { @found = grep { $_ =~ $re } map { slurp($_) } sort glob '/var/vmail/got/*.done'; @found >= ($n // 1) });
	return @found;
}

sub box { my (@found) = boxes(@_); return $found[0] }

# ---- from the world ----

like $sys->give(\%from, 'a@far.test', [ 'info@box.test', 'joe+tag@box.test' ], "From: <a\@far.test>\nTo: info\@box.test\nSubject: one\nX-Hide: y\n\nhello\n"), qr/queued/, 'mail from the world';
my @got = boxes(qr/^Subject: one/m, 3);
$sys->saw('virtual_alias_maps virtual_mailbox_domains virtual_mailbox_maps virtual_transport transport_maps dovecot_destination_recipient_limit',
	join('|', sort map { /^(BY .*)/ ? $1 : () } @got), qr{^BY vmail /usr/lib/dovecot/deliver -f a\@far\.test -d ann\@box\.test -m ?\|BY vmail /usr/lib/dovecot/deliver -f a\@far\.test -d joe\@box\.test -m ?\|BY vmail /usr/lib/dovecot/deliver -f a\@far\.test -d joe\@box\.test -m tag$},
	'to each box by itself') or diag join "\n", map { /^(BY .*)/ } @got;
$sys->saw('recipient_delimiter', scalar(grep { /^BY .* -d joe\@box\.test -m tag$/m } @got), qr/^1$/, '... with what the address has behind the +');
my ($m) = @got;
like $m, qr/^Return-Path: <a\@far\.test>\n(?:.*\n)*?Delivered-To: /m, '... with the trace of flags=DR';
$sys->saw('header_checks', $m // '', qr/^(?!.*^X-Hide)/ms, '... after the header checks');
$sys->saw('content_filter', $m, qr/^X-Filter: amavis-in$/m, '... and amavis');
my $dialogue = $in->got =~ s/\r//gr;
$sys->saw('smtp-amavis:smtp_send_xforward_command', $dialogue, qr/^XFORWARD NAME=client\.test ADDR=203\.0\.113\.9 /m, 'amavis is told of the client');
$sys->saw('smtp-amavis_destination_recipient_limit', join(' ', map { scalar @{ $_->{to} } } $in->messages), qr/^1 1( 1)?$/, '... of one recipient at a time');
$sys->saw_log('smtp-amavis:syslog_name', qr{postfix/amavis/smtp\[\d+\]: \w+: to=<\S+>, .*relay=127\.0\.0\.1\[127\.0\.0\.1\]:10024,}, '... by a transport with its name');
$sys->saw_log('127.0.0.1:10025:syslog_name', qr{postfix/10025/smtpd\[\d+\]: \w+: client=}, '... and back by its own');
$sys->saw('127.0.0.1:10025:content_filter', 1 == (() = $m =~ /^X-Filter:/mg), '... once');
$sys->saw_log('enable_long_queue_ids', qr/qmgr\[\d+\]: [0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,}z\w+: from=<a\@far\.test>/, 'long queue ids');
for my $case ([ q(any@second.test), q(kim@second.test), q(virtual_alias_maps), q(everything of a domain) ], [ q(kim@second.test), q(kim@second.test), q(virtual_mailbox_maps), q(a box) ], [ 'joe@alias.test', 'joe@box.test', 'virtual_alias_maps', 'a domain that is another' ]) {
	my ($to, $box, $names, $what) = @$case;
	like $sys->give(\%from, 'a@far.test', $to, "Subject: for $to\n\nx\n"), qr/queued/, "$what: accepted";
	$sys->saw($names, box(qr/^BY .* -d \Q$box\E .*^Subject: for \Q$to\E/ms), qr/./, '... and in the box');
}
$sys->saw('recipient_bcc_maps', box(qr/^BY .* -d keep\@box\.test .*^Subject: for kim\@second/ms), qr/./, 'a copy of what a user gets');
like $sys->give(\%from, 'a@far.test', 'team@box.test', "Subject: to the list\n\nx\n"), qr/queued/, 'a list';
my ($list) = boxes(qr/^Subject: to the list/m);
$sys->saw('transport_maps', $list, qr{^BY mlmmj /usr/bin/mlmmj-amime-receive -L /var/vmail/mlmmj/box\.test/team$}m, '... by mlmmj');
$sys->saw('enable_original_recipient', $list, qr/^Return-Path: <a\@far\.test>\n(?!.*^X-Original-To)/ms, '... which is not told how its address was written first');
like $sys->give(\%from, 'a@far.test', 'x@backup.test', "Subject: relayed\n\nx\n"), qr/queued/, 'a domain for which it is a relay';
$sys->saw('relay_domains', $sys->wait_log(qr/(to=<x\@backup\.test>, relay=203\.0\.113\.26\[203\.0\.113\.26\]:25, .*status=sent)/), qr/./, '... on to its server');
like $sys->give(\%from, 'a@far.test', 'eve@box.test', "Subject: eve\n\nx\n"), qr/queued/, 'a user';
$sys->saw('transport_maps', $sys->wait_log(qr/(to=<eve\@box\.test>, relay=203\.0\.113\.26\[203\.0\.113\.26\]:25, .*status=sent)/), qr/./, '... with a transport of their own');

# ---- what it says, and refuses ----

my $c = $sys->client(%from);
$sys->saw('myhostname', $c->{banner}, qr/^220 mail\.example\.test ESMTP /, 'the banner');
my $ehlo = $c->cmd('EHLO client.test');
$sys->saw('smtpd_discard_ehlo_keywords', $ehlo, qr/^(?!.*CHUNKING)/s, 'no CHUNKING');
$sys->saw('smtputf8_enable', $ehlo, qr/^(?!.*SMTPUTF8)/s, 'no SMTPUTF8');
$sys->saw('message_size_limit', $ehlo, qr/^250-SIZE 15728640\r$/m, 'how much it takes');
$sys->saw('smtpd_tls_security_level', $ehlo, qr/^250-STARTTLS\r$/m, 'TLS is offered');
$sys->saw('disable_vrfy_command', $c->cmd('VRFY joe@box.test'), qr/^502 5\.5\.1 VRFY command is disabled/, 'no VRFY');
$c->cmd('MAIL FROM:<a@far.test>');
$sys->saw('smtpd_recipient_restrictions', $c->cmd('RCPT TO:<x@elsewhere.test>'), qr/^554 5\.7\.1 <x\@elsewhere\.test>: Relay access denied|^454 4\.7\.1 <x\@elsewhere\.test>: Relay access denied/, 'no relaying');
$sys->saw('virtual_alias_domains', $c->cmd('RCPT TO:<x@aliasonly.test>'), qr/^[45]54 [45]\.7\.1 <x\@aliasonly\.test>: Relay access denied/, '... not for what only aliases know');
$sys->saw('show_user_unknown_table_name smtpd_reject_unlisted_recipient', $c->cmd('RCPT TO:<nobody@box.test>'), qr/^550 5\.1\.1 <nobody\@box\.test>: Recipient address rejected: User unknown$/, 'no such user, and not in which table');
$sys->saw('unknown_local_recipient_reject_code mydestination', $c->cmd('RCPT TO:<nosuch@mail.example.test>'), qr/^550 5\.1\.1 /, '... nor of the machine');
like $c->cmd('RCPT TO:<old@box.test>'), qr/^550 5\.1\.1 /, '... nor one who was';
my @here = ({}, 'EHLO x.test', 'MAIL FROM:<joe@box.test>');
$sys->saw('allow_percent_hack', $sys->last_reply(@here, 'RCPT TO:<x%elsewhere.test@box.test>'), qr/^550 5\.1\.1 <x%elsewhere\.test\@box\.test>: Recipient address rejected: User unknown$/, 'a percent sign is a letter');
$sys->saw('swap_bangpath', $sys->last_reply(@here, 'RCPT TO:<elsewhere.test!x>'), qr/^504 5\.5\.2 <elsewhere\.test!x>: Recipient address rejected: need fully-qualified address/, 'so is an exclamation mark');
$sys->saw('allow_min_user', $c->cmd('RCPT TO:<-x@box.test>'), qr/^501 5\.1\.3 Bad recipient address syntax/, 'no address begins with -');
$sys->saw('smtpd_command_filter', $c->cmd("RCPT TO:<'joe\@box.test'>"), qr/^250/, 'quotes around an address are taken off');
$c->send_raw("DATA\r\nSubject: early\r\n");
like($c->reply, qr/^554 5\.5\.0 Error: SMTP protocol synchronization/, 'nobody hurries on');
$c->quit;
sub rcpt { my ($helo, $sender, $to) = @_; return $sys->last_reply(\%from, "EHLO $helo", "MAIL FROM:<$sender>", "RCPT TO:<$to>") }
$sys->saw('smtpd_helo_required', $sys->last_reply(\%from, 'MAIL FROM:<a@far.test>'), qr/^503 5\.5\.1 Error: send HELO\/EHLO first/, 'HELO first');
$sys->saw('smtpd_helo_restrictions', rcpt('localhost', 'a@far.test', 'joe@box.test'), qr/^554 5\.7\.1 <localhost>: Helo command rejected: no such name \(localhost\)/, 'a name of its table');
$sys->saw('smtpd_helo_restrictions', rcpt('short', 'a@far.test', 'joe@box.test'), qr/^504 5\.5\.2 <short>: Helo command rejected: need fully-qualified hostname/, 'a short one');
$sys->saw('smtpd_helo_restrictions', rcpt('nosuch.test', 'a@far.test', 'joe@box.test'), qr/^450 4\.7\.1 <nosuch\.test>: Helo command rejected: Host not found/, 'one that DNS does not know');
$sys->saw('smtpd_sender_restrictions', rcpt('client.test', 'a', 'joe@box.test'), qr/^504 5\.5\.2 <a>: Sender address rejected: need fully-qualified address/, 'a sender without a domain');
$sys->saw('smtpd_sender_restrictions', rcpt('client.test', 'spam@far.test', 'joe@box.test'), qr/^554 5\.7\.1 <spam\@far\.test>: Sender address rejected: known for that/, 'one of its table');
$sys->saw('smtpd_sender_restrictions', rcpt('client.test', 'a@nosuch.test', 'joe@box.test'), qr/^450 4\.1\.8 <a\@nosuch\.test>: Sender address rejected: Domain not found/, 'one that DNS does not know');
$sys->saw('smtpd_reject_unlisted_sender', rcpt('client.test', 'nobody@box.test', 'joe@box.test'), qr/^550 5\.1\.0 <nobody\@box\.test>: Sender address rejected: User unknown/, 'one of ours who is not there');
$sys->saw('smtpd_recipient_restrictions', rcpt('client.test', 'quota@far.test', 'ann@box.test'), qr/^554 5\.7\.1 <ann\@box\.test>: Recipient address rejected: box is full/, 'a full box, says Dovecot');
$sys->saw('smtpd_end_of_data_restrictions', $sys->give(\%from, 'big@far.test', 'joe@box.test', "Subject: big\n\nx\n"), qr/^554 5\.7\.1 <END-OF-MESSAGE>: End-of-data rejected: too big/, 'the policy server sees the whole');
like slurp("$apd.asked"), qr/^protocol_state=END-OF-MESSAGE\n(?:.*\n)*?size=\d+\n/m, '... and its size';
$sys->saw('header_checks', $sys->give(\%from, 'a@far.test', 'joe@box.test', "X-Bad: y\n\nx\n"), qr/^550 5\.7\.1 not with that/, 'a header that is refused');
$sys->saw('body_checks', $sys->give(\%from, 'a@far.test', 'joe@box.test', "Subject: x\n\nbuy now\n"), qr/^550 5\.7\.1 no trade/, 'so are words');
like $sys->give(\%from, 'a@far.test', 'joe@box.test', "X-Virus: yes\nSubject: ill\n\nx\n"), qr/queued/, 'what amavis refuses';
ok $sys->wait_log(qr/to=<joe\@box\.test>, .*status=bounced \(host 127\.0\.0\.1\[127\.0\.0\.1\] said: 554 5\.7\.0 Reject, it is infected/), '... comes back';
for my $port (25, 587) {
	my $s = $sys->client(%from, port => $port, tls => 'start', openssl => [ '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0' ]);
	$sys->saw($port == 25 ? 'smtpd_tls_protocols' : 'smtpd_tls_mandatory_protocols', !defined $s, "no TLSv1.1 at $port");
}
$sys->saw('smtpd_tls_cert_file smtpd_tls_key_file', $sys->last_reply({ %from, tls => 'start', openssl => [ '-CAfile', "$certs->{dir}/ca.crt", '-verify_return_error', '-verify_hostname', 'mail.example.test' ] }, 'NOOP'),
	qr/^250/, 'its certificate');
$sys->saw_log('smtpd_tls_loglevel', qr/Anonymous TLS connection established from client\.test\[203\.0\.113\.9\]/, 'TLS in the log');

# ---- its users ----

for my $way ([ submission => 587, 'start', 'submission' ], [ 465 => 465, 'wrapped', 'smtps' ]) {
	my ($name, $port, $tls, $log) = @$way;
	my %stranger = (%from, port => $port, tls => $tls);
	my %u = (%stranger, login => 'joe@box.test');
	$sys->saw("$name:smtpd_sasl_auth_enable smtpd_sasl_type smtpd_sasl_path", $sys->last_reply(\%stranger, 'EHLO client.test'), qr/^250-AUTH PLAIN LOGIN\r$/m, "$log: logins as Dovecot says");
	$sys->saw("$name:smtpd_client_restrictions", $sys->last_reply(\%stranger, 'EHLO client.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@box.test>'),
		qr/^554 5\.7\.1 <client\.test\[203\.0\.113\.9\]>: Client host rejected: Access denied/, '... only for those who log in');
	like $sys->give(\%u, 'joe@box.test', [ "x$port\@far.test", 'ann@box.test' ], "Subject: from $log\n\nx\n"), qr/queued/, '... send';
	my ($near) = boxes(qr/^Subject: from $log/m);
	$sys->saw("$name:content_filter", $near, qr/^X-Filter: amavis-out$/m, '... by the filter for what goes out');
	$sys->saw_log("$name:syslog_name", qr{postfix/$log/smtpd\[\d+\]: \w+: client=client\.test\[203\.0\.113\.9\], sasl_method=PLAIN, sasl_username=joe\@box\.test$}m, '... by its name in the log');
	ok $sys->wait_log(qr/to=<x$port\@far\.test>, relay=mx\.far\.test\[203\.0\.113\.25\]:25, .*status=sent/), '... to the world';
}
like slurp("$apd.asked"), qr/^sasl_username=joe\@box\.test$/m, 'the policy server knows who';
$sys->saw('submission:smtpd_tls_security_level', $sys->last_reply({ %from, port => 587 }, 'EHLO client.test', 'MAIL FROM:<joe@box.test>'), qr/^530 5\.7\.0 Must issue a STARTTLS command first/, 'nothing in plain text');
$sys->saw('465:smtpd_tls_wrappermode', do { my $s = $sys->client(%from, port => 465, first => "EHLO x\r\n"); !$s || ($s->{banner} // '') !~ /^220/ }, 'TLS from the first byte at 465');
like $sys->give({ %joe, login => 'eve@box.test' }, 'eve@box.test', 'x@far.test', "Subject: of eve\n\nx\n"), qr/queued/, 'a user';
$sys->saw('sender_dependent_relayhost_maps', $sys->wait_log(qr/(to=<x\@far\.test>, relay=203\.0\.113\.26\[203\.0\.113\.26\]:25, .*status=sent)/), qr/./, '... with a relay of her own');
$sys->saw('sender_bcc_maps', box(qr/^BY .* -d keep\@box\.test .*^Subject: of eve/ms), qr/./, '... of whose mail a copy is kept');
$sys->saw_log('smtp_tls_CApath smtp_tls_loglevel smtp_tls_security_level', qr/Trusted TLS connection established to mx\.far\.test\[203\.0\.113\.25\]:25: TLSv1\.3/, 'by TLS, trusted by what is in CApath');
$sys->saw('mynetworks', $sys->last_reply({}, 'EHLO client.test', 'MAIL FROM:<joe@box.test>', 'RCPT TO:<x@elsewhere.test>'), qr/^250/, 'the machine itself may send anywhere');
$sys->saw('mynetworks', $sys->last_reply({ from => '127.0.0.2' }, 'EHLO client.test', 'MAIL FROM:<joe@box.test>', 'RCPT TO:<x@elsewhere.test>'), qr/^[45]54 /, '... from that address only');
$sys->saw('inet_interfaces inet_protocols', $sys->last_reply({ to => '[::1]' }, 'NOOP'), qr/^250/, 'all addresses are served');

# ---- mail of the machine ----

($rc, $out) = $sys->sendmail('root', "Subject: for root\n\nx\n", '-f', 'games', 'root');
is $rc, 0, 'sendmail' or diag $out;
($m) = boxes(qr/^Subject: for root/m);
$sys->saw('alias_maps alias_database mydomain', $m, qr/^BY .* -d joe\@box\.test /m, 'root\'s mail goes where newaliases says');
$sys->saw('myorigin', $m, qr/^Return-Path: <games\@mail\.example\.test>$/m, '... from a user of this machine');
$sys->saw('queue_directory', -d '/var/spool/postfix/pid' && readlink("$sys->{dir}/spool") eq '/var/spool/postfix', 'the queue is where it should be');
$sys->saw('mail_owner', join(' ', map { (stat "/proc/$_->{pid}")[4] } grep { $_->{class} =~ /smtpd|lookup/ } $sys->workers), qr/^2525( 2525)*$/, 'its owner');
$sys->saw('data_directory', -d '/var/lib/postfix', 'data have their place');

# ---- behind amavis, and behind mlmmj ----

for my $port (10025, 10028) {
	my ($n, %back) = ("127.0.0.1:$port", port => $port);
	$sys->saw("$n:receive_override_options $n:local_header_rewrite_clients $n:content_filter", $sys->give(\%back, 'a@nosuch.test', 'info@box.test', "From: joe\nSubject: at $port\nX-Hide: y\n\nbuy now\n"), qr/queued/, "$port: mail comes back");
	if ($port == 10028) {
		my @each = boxes(qr/^Subject: at $port/m, 2);
		$sys->saw("$n:receive_override_options", scalar(@each), qr/^2$/, '... its aliases are looked up here');
		$sys->saw("$n:content_filter $n:local_header_rewrite_clients $n:receive_override_options", $each[0], qr/^(?!.*X-Filter).*^From: joe\n(?:.*\n)*X-Hide: y\n/ms, '... nothing else is done');
	} else {
		ok $sys->wait_log(qr/to=<info\@box\.test>, .*status=/), '... aliases are not looked up again';
		my ($it) = boxes(qr/^Subject: at $port/m);
		$sys->saw("$n:receive_override_options", $it, qr/^BY .* -d info\@box\.test .*^X-Hide: y$/ms, '... neither checks');
		$sys->saw("$n:local_header_rewrite_clients", $it, qr/^From: joe$/m, '... nor is a header changed');
	}
	$sys->saw_log("$n:syslog_name", qr{postfix/$port/smtpd\[\d+\]: \w+: client=localhost}, '... by its name');
	my $hello = $sys->last_reply(\%back, 'EHLO x.test');
	$sys->saw("$n:smtpd_tls_security_level", $hello, qr/^250(?!.*STARTTLS)/s, '... without TLS');
	$sys->saw("$n:mynetworks $n:smtpd_client_restrictions $n:smtpd_recipient_restrictions", $sys->last_reply({ %back, from => '127.0.0.2' }, 'EHLO localhost', 'MAIL FROM:<nobody@box.test>', 'RCPT TO:<x@elsewhere.test>'),
		qr/^250/, '... from all of 127.0.0.0/8');
	$sys->saw("$n:smtpd_helo_restrictions $n:smtpd_sender_restrictions $n:local_recipient_maps", $sys->last_reply({ %back, from => '127.0.0.2' }, 'EHLO localhost', 'MAIL FROM:<spam@nosuch.test>', 'RCPT TO:<nobody@mail.example.test>'),
		qr/^250/, '... anybody to anybody');
	my $asked = length slurp("$apd.asked");
	$sys->give(\%back, 'big@far.test', 'joe@box.test', "Subject: big at $port\n\nx\n");
	$sys->saw("$n:smtpd_end_of_data_restrictions", $asked == length slurp("$apd.asked"), '... without a question to policy servers');
	$sys->saw("$n:strict_rfc821_envelopes", $sys->last_reply(\%back, 'EHLO x.test', 'MAIL FROM:a@far.test'), qr/^501 5\.1\.7 Bad sender address syntax/, '... properly written');
	$sys->saw("$n:smtpd_error_sleep_time $n:smtpd_hard_error_limit $n:smtpd_soft_error_limit", do {
		my $s = $sys->client(%back);
		my $begun = Time::HiRes::time();
		$s->cmd('FEHLER') for 1 .. 60;
		$s->cmd('NOOP') . (Time::HiRes::time() - $begun < 20 ? ' soon' : ' late');
	}, qr/^250 .* soon$/, '... with as many mistakes as it likes');
}

is $sys->stop, 0, 'stop';
$far->stop;
is $sys->crashes, '', 'nothing crashed' or diag $sys->log =~ /((?:.*\n){12}.*system call filter.*\n(?:.*\n){4})/;
$db->stop;
my ($path, $program) = ('only tells other programs where it is', 'Posthaste\'s own programs are used when these are not there, with a warning');
$sys->unseen(
	(map { ($_ => 'is what 33-postscreen.t looks at') } grep { /postscreen/ } $sys->settings),
	smtpd_data_restrictions => 'smtpd_forbid_unauth_pipelining, on by default, is sooner',
	biff => 'no mail goes to boxes of the machine',
	command_directory => $program, daemon_directory => $program, mailq_path => $path, newaliases_path => $path, sendmail_path => $path,
	debug_peer_level => 'debug_peer_list is empty', debugger_command => 'nobody asks for a debugger (-D)',
	lmtp_tls_mandatory_protocols => 'there is no LMTP', lmtp_tls_protocols => 'there is no LMTP',
	mlmmj_destination_recipient_limit => 'its transports name one list each',
	proxy_read_maps => 'there is no proxymap: every worker asks its tables through the lookup workers',
	setgid_group => 'the programs of this build are not set-gid',
	smtp_tls_CAfile => 'CApath has the same', smtp_tls_mandatory_protocols => 'the TLS library here has none of those that are excluded',
	smtp_tls_protocols => 'the TLS library here has none of those that are excluded', smtp_tls_note_starttls_offer => 'TLS is used wherever it is offered',
	smtpd_sender_login_maps => 'no restriction of this system asks it: its policy server does',
	smtpd_tls_CAfile => 'no client certificate is asked for', smtpd_tls_CApath => 'no client certificate is asked for',
	smtpd_tls_dh1024_param_file => 'no suite with such keys is agreed on', smtpd_tls_dh512_param_file => 'no suite with such keys is agreed on',
	tls_random_source => 'the kernel\'s is always used',
	(map { ($_ => 'no mail goes to virtual(8)') } qw(virtual_gid_maps virtual_uid_maps virtual_mailbox_base virtual_minimum_uid)),
	'smtp-amavis:local_header_rewrite_clients' => 'no SMTP client reads it', 'smtp-amavis:max_use' => 'the workers of deliveries live as long as the system',
	'smtp-amavis:smtp_data_done_timeout' => 'twenty minutes that nobody waits for', 'smtp-amavis:smtp_dns_support_level' => 'the filter is given by its address',
	(map { my $n = "127.0.0.1:$_"; (
		"$n:mynetworks_style" => 'mynetworks is set', "$n:relay_recipient_maps" => 'main.cf sets none', "$n:smtp_tls_security_level" => 'no SMTP server reads it',
		"$n:smtpd_client_connection_count_limit" => 'clients in mynetworks have no limits', "$n:smtpd_client_connection_rate_limit" => 'clients in mynetworks have no limits',
		"$n:smtpd_delay_reject" => 'nothing is rejected before RCPT TO', "$n:smtpd_restriction_classes" => 'main.cf sets none') } 10025, 10028),
);
$sys->account;
done_testing;
