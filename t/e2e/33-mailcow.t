#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# mailcow run word for word (lib/MailSystem.pm): its nineteen tables in MariaDB, Dovecot for logins and boxes, Rspamd and
# postfix-tlspol in its containers' names, haproxy in front, and the whole chain of its watchdog.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use MailSystem;
use IO::Select;
use Posthaste qw(slurp spew wait_until run_ok);
use Servers;
use Test::More;

# ---- the tables: name => query, its lines as the system breaks them ----

my %query = (
	virtual_domains_maps => "SELECT name FROM domain WHERE name='%s' AND kind='box'\n  UNION SELECT alias FROM alias_domain WHERE alias='%s'",
	virtual_mailbox_maps => "SELECT CONCAT('maildir:', '/var/vmail/', '%d/%u/') FROM box WHERE address='%s'",
	virtual_alias_maps => "SELECT goto FROM alias\n  WHERE address='%s'\n    AND active=1;",
	virtual_resource_maps => "SELECT 'null\@localhost' FROM box\n  WHERE kind REGEXP 'location|thing' AND address = '%s';",
	virtual_spamalias_maps => "SELECT goto FROM temporary\n  WHERE address='%s' AND validity >= UNIX_TIMESTAMP()",
	virtual_alias_domain_maps => "SELECT box.address FROM box, alias_domain\n  WHERE alias_domain.alias = '%d'\n    AND box.address = CONCAT('%u', '\@', alias_domain.target)",
	virtual_relay_domain_maps => "SELECT name FROM domain WHERE name='%s' AND kind='relay'",
	relay_recipient_maps => "SELECT CASE WHEN '%d' IN (\n    SELECT name FROM domain WHERE everyone=1 AND name='%d')\n  THEN '%s' ELSE (SELECT goto FROM alias WHERE address='%s') END AS result;",
	relay_ne => "SELECT IF(EXISTS(SELECT 1 FROM alias\n      WHERE address = '%s'\n        AND domain IN (SELECT name FROM domain WHERE kind='relay')\n      ), 'lmtp:inet:dovecot:24', NULL) AS 'transport'",
	transport_maps => "SELECT CONCAT('smtp_via_transport_maps:', nexthop) AS transport FROM transports\n  WHERE destination = '%s';",
	mbr_access_maps => "SELECT CONCAT('FILTER smtp_via_transport_maps:', nexthop) FROM transports\n  WHERE '%s' REGEXP destination AND by_mx=1;",
	sasl_passwd_maps_transport_maps => "SELECT CONCAT_WS(':', username, password) FROM transports\n  WHERE nexthop = '%s' AND username != ''\n  LIMIT 1;",
	sasl_passwd_maps_sender_dependent => "SELECT CONCAT_WS(':', username, password) FROM relayhosts WHERE user = '%s';",
	sender_dependent_default_transport_maps => "SELECT GROUP_CONCAT(transport SEPARATOR '') FROM (\n    SELECT IF(EXISTS(SELECT 1 FROM box WHERE address='%s' AND JSON_UNQUOTE(JSON_VALUE(attributes, '\$.tls_out')) = '1'),\n      'smtp_enforced_tls:', 'smtp:') AS transport\n    UNION ALL\n    SELECT hostname FROM relayhosts WHERE user = '%s'\n  ) AS view;",
	tls_enforce_in_policy => "SELECT IF(EXISTS(SELECT 1 FROM box WHERE address='%s'\n    AND JSON_UNQUOTE(JSON_VALUE(attributes, '\$.tls_in')) = '1'), 'reject_plaintext_session', NULL) AS tls_in;",
	tls_policy_override_maps => "SELECT CONCAT(policy, ' ', parameters) FROM policies WHERE dest = '%s'",
	recipient_canonical_maps => "SELECT new FROM recipients\n  WHERE old='%s'",
	virtual_sender_acl => "SELECT goto FROM alias WHERE address='%s'\n  UNION SELECT user FROM sender_acl WHERE send_as='\@%d' OR send_as='%s'",
);
my $sql = <<'EOT';
create database cow; create user cow@localhost identified by 'moo'; grant all on cow.* to cow@localhost; use cow;
create table domain (name varchar(99), kind varchar(9), everyone int);
insert into domain values ('cow.test','box',0), ('relay.test','relay',0), ('wide.test','relay',1);
create table alias_domain (alias varchar(99), target varchar(99)); insert into alias_domain values ('alias.test','cow.test');
create table box (address varchar(99), kind varchar(9), attributes text);
insert into box values ('joe@cow.test','', '{"tls_in":"0","tls_out":"0"}'), ('ann@cow.test','', '{"tls_in":"1","tls_out":"0"}'),
	('strict@cow.test','', '{"tls_in":"0","tls_out":"1"}'), ('via@cow.test','', '{}'), ('wrong@cow.test','', '{}'), ('room@cow.test','location','{}'),
	('new@cow.test','','{}');
create table alias (address varchar(99), goto varchar(99), domain varchar(99), active int);
insert into alias values ('info@cow.test','joe@cow.test,ann@cow.test','cow.test',1), ('off@cow.test','joe@cow.test','cow.test',0),
	('bob@relay.test','bob@relay.test','relay.test',1), ('joe@cow.test','joe@cow.test','cow.test',1), ('ann@cow.test','ann@cow.test','cow.test',1);
create table temporary (address varchar(99), goto varchar(99), validity bigint);
insert into temporary values ('t1@cow.test','joe@cow.test',9999999999), ('t2@cow.test','joe@cow.test',1);
create table transports (destination varchar(99), nexthop varchar(99), username varchar(99), password varchar(99), by_mx int);
insert into transports values ('routed.test','[203.0.113.50]:25','carol','secret-carol',0), ('mx.big.test','[203.0.113.50]:25','carol','secret-carol',1);
create table relayhosts (user varchar(99), hostname varchar(99), username varchar(99), password varchar(99));
insert into relayhosts values ('via@cow.test','[203.0.113.51]:25','dave','secret-dave'), ('wrong@cow.test','[203.0.113.51]:25','dave','bad');
create table policies (dest varchar(99), policy varchar(9), parameters varchar(99)); insert into policies values ('must.test','encrypt','');
create table recipients (old varchar(99), new varchar(99)); insert into recipients values ('old@cow.test','new@cow.test');
create table sender_acl (user varchar(99), send_as varchar(99)); insert into sender_acl values ('joe@cow.test','team@cow.test'), ('via@cow.test','via@cow.test'),
	('strict@cow.test','strict@cow.test'), ('wrong@cow.test','wrong@cow.test');
EOT
my $tables = '/etc/postfix/tables';
my %files = (
	(map { ("$tables/mysql_$_" => [ "user = cow\npassword = moo\nhosts = unix:/var/run/mysqld/mysqld.sock\ndbname = cow\nquery = $query{$_}\n", 0640 ]) } keys %query),
	"$tables/aliases" => "null: /dev/null\nwatchdog: /dev/null\n",
	"$tables/anonymize_headers" => <<'EOT',
if /^Received:.*Authenticated sender.*\(Postcow\)/
/^Received: .*Authenticated sender: (\S+)\)\s+by.+\(Postcow\) with (\w+)/ REPLACE Received: by Postcow for $1 with $2
endif
/^\s*X-Enigmail/ IGNORE
/^\s*X-Originating-IP/ IGNORE
EOT
	"$tables/allow_mailcow_local" => "/^(.+)\@mailcow\\.local/ OK\n",
	"$tables/local_transport" => "/watchdog\@localhost\$/ watchdog_discard:\n/localhost\$/ local:\n",
	"$tables/custom_transport" => "/custom\\.test\$/ smtp:[203.0.113.25]:25\n",
	"$tables/smtp_dsn_filter" => "/^4(\\.\\d+\\.\\d+ TLS is required, but was not offered by host .+)/\n    5\$1\n",
	"$tables/custom_postscreen_whitelist" => "203.0.113.66 reject\n", "$tables/postscreen_access" => "203.0.113.9 permit\n203.0.113.10 permit\n",
	'/usr/local/bin/whitelist_forwardinghosts.sh' => [ "#!/bin/sh\nwhile read -r verb host; do\n\tcase \$host in 203.0.113.12) echo 200 permit ;; *) echo 200 dunno ;; esac\ndone\n", 0755 ],
);
my $zone = <<'EOT';
far.test MX 10 mx.far.test
mx.far.test A 203.0.113.25
custom.test A 203.0.113.77
plain.test A 203.0.113.26
must.test A 203.0.113.26
slow.test A 203.0.113.78
mxbased.test MX 10 mx.big.test
mx.big.test A 203.0.113.77
client.test A 203.0.113.9
9.113.0.203.in-addr.arpa PTR client.test
cow.test A 192.0.2.25
relay.test MX 10 plain.test
wide.test MX 10 plain.test
EOT
my $sys = MailSystem->new('mailcow', files => \%files, zone => $zone, own => { myhostname => 'mail.cow.test' }, names => ['mail.cow.test'],
	hosts => { map { $_ => '127.0.0.1' } qw(rspamd dovecot postfix-tlspol) }, users => ['vmail:5000']);
my $certs = $sys->{certs};
$certs->cert('far', ca => 'ca', names => ['mx.far.test']);
$certs->cert('other', ca => 'ca', names => ['other.cow.test'], cn => 'other.cow.test');
spew('/etc/ssl/site.crt', slurp("$certs->{dir}/ca.crt"));
spew("$tables/sni", "other.cow.test $certs->{dir}/other.key $certs->{dir}/other.crt\n");
my $db = $sys->database('mariadb', 3306, $sql) or plan skip_all => 'needs MariaDB';
mkdir '/run/mysqld';
symlink "$db->{dir}/sock", '/run/mysqld/mysqld.sock';
my $milter = $sys->milter(9900, "EOM addheader X-Rspamd seen\n");
$sys->dovecot_auth(10001);
my $tlspol = $sys->table_server('socketmap', 8642, "QUERY:far.test\tsecure match=mx.far.test servername=hostname\n");
my $lmtp = $sys->hop('127.0.0.1:24', 'LHLO=>250 lmtp');
my $world = $sys->hop('203.0.113.99:25');
my $far = $sys->far($world, <<"EOT");
203.0.113.25:25 inet n - n - - smtpd
    -o smtpd_tls_chain_files=$certs->{dir}/far.pem
    -o smtpd_tls_security_level=may
    -o smtpd_tls_received_header=yes
    -o smtpd_tls_ask_ccert=yes
    -o smtpd_tls_CAfile=$certs->{dir}/ca.crt
203.0.113.26:25 inet n - n - - smtpd
EOT
$sys->login_hop('203.0.113.50:25=CRAM-MD5 PLAIN LOGIN', '203.0.113.51:25=CRAM-MD5 PLAIN LOGIN');
my ($rc, $out) = run_ok(Posthaste::prefix() . '/sbin/newaliases', '-C', '/etc/postfix');
is $rc, 0, 'newaliases' or diag $out;
($rc, $out) = $sys->command('postmap', '-F', "hash:$tables/sni");
is $rc, 0, 'postmap -F' or diag $out;
$sys->launch;
my %from = (from => '203.0.113.9');
my %user = (%from, port => 587, tls => 'start');
my %joe = (%user, login => 'joe@cow.test');

# ---- from the world ----

like $sys->give(\%from, 'a@far.test', 'info@cow.test', "Subject: one\n\nhello\n"), qr/^550 5\.7\.1 .*Session encryption is required|queued/, 'mail from the world';
$sys->saw('virtual_alias_maps virtual_transport virtual_mailbox_domains virtual_mailbox_maps',
	$sys->wait_log(qr/(to=<joe\@cow\.test>, orig_to=<info\@cow\.test>, relay=dovecot\[127\.0\.0\.1\]:24, .*status=sent)/), qr/./, 'to two boxes of one alias by LMTP');
my @both = do { $sys->wait_log(qr/(to=<ann\@cow\.test>, .*status=sent)/); grep { $_->{text} =~ /^Subject: one/m } $lmtp->messages };
$sys->saw('lmtp_destination_recipient_limit', join('|', sort map { "@{ $_->{to} }" } @both), qr/^ann\@cow\.test\|joe\@cow\.test$/, '... one after the other');
my $m = $lmtp->message(qr/^Subject: one/m);
like $m->{text}, qr/^X-Original-To: info\@cow\.test$/m, '... by their first names (flags=O)';
$sys->saw('smtpd_milters', $m->{text}, qr/^X-Rspamd: seen$/m, '... past Rspamd');
$sys->saw('mail_name', $m->{text}, qr/by mail\.cow\.test \(Postcow\) with ESMTP/, '... received by Postcow');
$sys->saw('milter_protocol', slurp($milter), qr/^NEG 6 /m, 'version 6 of the milters\' protocol');
$sys->saw('milter_mail_macros', slurp($milter), qr/^MACRO MAIL i?(?=.*\{mail_addr\}=a\@far\.test)(?=.*\{client_addr\}=203\.0\.113\.9)(?=.*\{client_name\}=client\.test)/m, '... with the macros it asks for');
for my $case ([ 'joe+tag@cow.test', 'joe+tag@cow.test', 'recipient_delimiter', 'an extension' ], [ 't1@cow.test', 'joe@cow.test', 'virtual_alias_maps', 'a temporary alias' ],
	[ 'joe@alias.test', 'joe@cow.test', 'virtual_alias_maps virtual_mailbox_domains', 'a domain that is another' ], [ 'old@cow.test', 'new@cow.test', 'recipient_canonical_maps recipient_canonical_classes', 'an address that has changed' ]) {
	my ($to, $box, $names, $what) = @$case;
	like $sys->give(\%from, 'a@far.test', $to, "To: $to\nSubject: for $to\n\nx\n"), qr/queued/, "$what: accepted";
	my $got = $lmtp->message(qr/^Subject: for \Q$to\E/m);
	$sys->saw($names, "@{ $got->{to} } $got->{text}", qr/^\Q$box\E .*^To: \Q$to\E$/ms, "... and in the box, its header untouched");
}
like $sys->give(\%from, 'a@far.test', 'room@cow.test', "Subject: meeting\n\nx\n"), qr/queued/, 'mail for a room';
$sys->saw('alias_maps alias_database mydestination transport_maps', $sys->wait_log(qr/(to=<null\@localhost>, orig_to=<room\@cow\.test>, relay=local, .*status=sent .*)/), qr/dev\/null/, '... to nobody');
$sys->saw('relay_domains relay_recipient_maps', $sys->give(\%from, 'a@far.test', 'x@wide.test', "Subject: wide\n\nx\n"), qr/queued/, 'a domain for which it is a relay');
ok $sys->wait_log(qr/to=<x\@wide\.test>, relay=plain\.test\[203\.0\.113\.26\]:25, .*status=sent/), '... on to its server';
$sys->saw('relay_recipient_maps', $sys->last_reply(\%from, 'EHLO client.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<nobody@relay.test>'),
	qr/^550 5\.1\.1 <nobody\@relay\.test>: Recipient address rejected: User unknown in relay recipient table/, '... not for everybody');
like $sys->give(\%from, 'a@far.test', 'bob@relay.test', "Subject: near\n\nx\n"), qr/queued/, 'of such a domain some';
$sys->saw('transport_maps', $sys->wait_log(qr/(to=<bob\@relay\.test>, relay=dovecot\[127\.0\.0\.1\]:24, .*status=sent)/), qr/./, '... have their boxes here');

# ---- what it says, and refuses ----

my $c = $sys->client(%from);
like $c->{banner}, qr/^220 mail\.cow\.test ESMTP Postcow$/, 'the banner';
my $ehlo = $c->cmd('EHLO client.test');
$sys->saw('smtpd_discard_ehlo_keywords', $ehlo !~ /CHUNKING|SMTPUTF8/ && $sys->log !~ /discarding EHLO/, 'neither CHUNKING nor SMTPUTF8');
$sys->saw('message_size_limit', $ehlo, qr/^250-SIZE 104857600\r$/m, 'how much it takes');
$sys->saw('smtpd_tls_security_level', $ehlo, qr/^250-STARTTLS\r$/m, 'TLS is offered');
$sys->saw('disable_vrfy_command', $c->cmd('VRFY joe@cow.test'), qr/^502 5\.5\.1 VRFY command is disabled/, 'no VRFY');
$sys->saw('message_size_limit', $c->cmd('MAIL FROM:<a@far.test> SIZE=104857601'), qr/^552 5\.3\.4 /, 'no more than that');
$c->quit;
$c = $sys->client(%from);
$c->cmd($_) for 'EHLO client.test', 'MAIL FROM:<a@far.test>';
$sys->saw('smtpd_relay_restrictions smtpd_delay_reject', $c->cmd('RCPT TO:<x@elsewhere.test>'), qr/^454 4\.7\.1 <x\@elsewhere\.test>: Relay access denied/, 'no relaying, for now');
$sys->saw('parent_domain_matches_subdomains', $c->cmd('RCPT TO:<x@sub.wide.test>'), qr/^454 4\.7\.1 /, '... not for what is below a domain of its own');
$c->quit;
$sys->saw('smtpd_recipient_restrictions plaintext_reject_code', $sys->last_reply(\%from, 'EHLO client.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<ann@cow.test>'),
	qr/^550 5\.7\.1 <ann\@cow\.test>: Recipient address rejected: Session encryption is required|^550 5\.7\.1 Session encryption is required/, 'one who takes no mail in plain text');
like $sys->give({ %from, tls => 'start' }, 'a@far.test', 'ann@cow.test', "Subject: by TLS\n\nx\n"), qr/queued/, '... takes it by TLS';
$sys->saw('smtpd_tls_received_header', ($lmtp->message(qr/^Subject: by TLS/m) || {})->{text}, qr/^\t\(using TLSv1\.3 with cipher /m, '... which Received tells');
$sys->saw('smtpd_recipient_restrictions', $sys->last_reply(\%from, 'EHLO bad_!name', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@cow.test>'), qr/^501 5\.5\.2 <bad_!name>: Helo command rejected: Invalid name/, 'a name that cannot be');
$sys->saw('smtpd:smtpd_sender_restrictions', $sys->last_reply(\%from, 'EHLO client.test', 'MAIL FROM:<nobody@cow.test>', 'RCPT TO:<joe@cow.test>'),
	qr/^550 5\.1\.0 <nobody\@cow\.test>: Sender address rejected: User unknown in virtual mailbox table/, 'a sender of ours who is not there');
$sys->saw('smtpd:smtpd_sender_restrictions', $sys->last_reply(\%from, 'EHLO client.test', 'MAIL FROM:<a@nosuch.test>', 'RCPT TO:<joe@cow.test>'), qr/^450 4\.1\.8 .*Domain not found/, '... or has no domain');
$sys->saw('smtpd_helo_required', $sys->last_reply(\%from, 'MAIL FROM:<a@far.test>'), qr/^503 5\.5\.1 Error: send HELO\/EHLO first/, 'HELO first');
$c = $sys->client(%from);
$c->cmd($_) for 'EHLO client.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@cow.test>';
$c->send_raw("DATA\r\nSubject: early\r\n");
like($c->reply, qr/^554 5\.5\.0 Error: SMTP protocol synchronization/, 'nobody hurries on');
$c->quit;
$c = $sys->client(%from);
$c->cmd($_) for 'EHLO client.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@cow.test>', 'DATA';
$c->send_raw("Subject: bare\r\n\r\nx\n.\r\nMAIL FROM:<smuggled\@far.test>\r\n.\r\n");
like $c->reply, qr/^250 .*queued/, 'a bare newline';
$sys->saw('smtpd_forbid_bare_newline', $lmtp->message(qr/^Subject: bare/m)->{text}, qr/^MAIL FROM:<smuggled/m, '... does not end a message');
$c->quit;
$sys->saw('smtpd:smtpd_sasl_auth_enable', $sys->last_reply({ %from, tls => 'start' }, 'EHLO client.test'), qr/^(?!.*AUTH)/s, 'no logins at port 25');
for my $port (25, 587) {
	my $s = $sys->client(%from, port => $port, tls => 'start', openssl => [ '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0' ]);
	$sys->saw($port == 25 ? 'smtpd_tls_protocols' : 'smtpd_tls_mandatory_protocols submission_smtpd_tls_mandatory_protocols submission:smtpd_tls_mandatory_protocols', !defined $s, "no TLSv1.1 at $port");
}
$sys->saw('smtps_smtpd_tls_mandatory_protocols smtps:smtpd_tls_mandatory_protocols', !defined $sys->client(%from, port => 465, tls => 'wrapped', openssl => [ '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0' ]), '... nor at 465');
my @ca = ('-CAfile', "$certs->{dir}/ca.crt", '-verify_return_error', '-verify_hostname');
$sys->saw('smtpd_tls_cert_file smtpd_tls_key_file', $sys->last_reply({ %from, tls => 'start', openssl => [ @ca, 'mail.cow.test' ] }, 'NOOP'), qr/^250/, 'its certificate');
$sys->saw('tls_server_sni_maps', $sys->last_reply({ %from, tls => 'start', openssl => [ @ca, 'other.cow.test', '-servername', 'other.cow.test' ] }, 'NOOP'), qr/^250/, '... another for another name');
$sys->saw_log('smtpd_tls_loglevel', qr/Anonymous TLS connection established from client\.test\[203\.0\.113\.9\]/, 'TLS in the log');

# ---- its users ----

for my $way ([ submission => 587, 'start' ], [ smtps => 465, 'wrapped' ]) {
	my ($name, $port, $tls) = @$way;
	my %stranger = (%from, port => $port, tls => $tls);
	my %u = (%stranger, login => 'joe@cow.test');
	my $hello = $sys->last_reply(\%stranger, 'EHLO client.test');
	$sys->saw('smtpd_sasl_auth_enable smtpd_sasl_type smtpd_sasl_path', $hello, qr/^250-AUTH PLAIN LOGIN\r$/m, "$name: logins as Dovecot says");
	$sys->saw('broken_sasl_auth_clients', $hello, qr/^250-AUTH=PLAIN LOGIN\r$/m, '... for old clients, too');
	$sys->saw("$name:smtpd_client_restrictions", $sys->last_reply(\%stranger, 'EHLO client.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@cow.test>'),
		qr/^554 5\.7\.1 <client\.test\[203\.0\.113\.9\]>: Client host rejected: Access denied/, '... only for those who log in');
	$sys->saw('smtpd_sender_restrictions smtpd_sender_login_maps', $sys->last_reply(\%u, 'EHLO client.test', 'MAIL FROM:<ann@cow.test>', 'RCPT TO:<x@far.test>'),
		qr/^553 5\.7\.1 <ann\@cow\.test>: Sender address rejected: not owned by user joe\@cow\.test/, '... as themselves');
	like $sys->last_reply(\%u, 'EHLO client.test', 'MAIL FROM:<team@cow.test>', 'RCPT TO:<x@far.test>'), qr/^250/, '... or as whom they may';
	like $sys->give(\%u, 'joe@cow.test', 'ann@cow.test', "Subject: from $name\nX-Enigmail: secret\n\nx\n"), qr/queued/, '... send';
	my $near = $lmtp->message(qr/^Subject: from $name/m) || { text => '' };
	$sys->saw("smtp_sender_cleanup:header_checks $name:cleanup_service_name", $near->{text}, qr/^(?!.*X-Enigmail)/s, '... without headers that tell too much');
	$sys->saw('smtpd_sasl_authenticated_header smtp_header_checks', $near->{text}, qr/^Received: by Postcow for joe\@cow\.test with ESMTPSA/m, '... nor where they are');
	$sys->saw_log("$name:syslog_name", qr{postfix/$name/smtpd\[\d+\]: \w+: client=client\.test\[203\.0\.113\.9\], sasl_method=PLAIN, sasl_username=joe\@cow\.test$}m, '... by its name in the log');
}
for my $name (qw(submission smtps)) {
	$sys->client(%from, port => $name eq 'smtps' ? 465 : 587, tls => $name eq 'smtps' ? 'wrapped' : 'start',
		openssl => [ '-tls1_2', '-cipher', 'ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384' ]);
	$sys->saw("tls_preempt_cipherlist $name:tls_preempt_cipherlist", $sys->wait_log(qr{(postfix/$name/smtpd\[\d+\]: Anonymous TLS connection established from \S+: TLSv1\.2 with cipher ECDHE-ECDSA-AES256-GCM-SHA384)}), qr/./, "$name: the server prefers");
}
$sys->saw('smtpd_tls_mandatory_ciphers', !defined $sys->client(%user, openssl => [ '-tls1_2', '-cipher', 'aNULL:eNULL:3DES:RC4@SECLEVEL=0' ]), 'only high suites');
$sys->saw('smtpd_tls_exclude_ciphers', !defined $sys->client(%from, tls => 'start', openssl => [ '-tls1_2', '-cipher', 'aNULL:RC4@SECLEVEL=0' ]), 'and none that is excluded');
$sys->saw('submission:smtpd_tls_security_level', $sys->last_reply({ %from, port => 587 }, 'EHLO client.test', 'MAIL FROM:<joe@cow.test>'), qr/^530 5\.7\.0 Must issue a STARTTLS command first/, 'nothing in plain text');
$sys->saw('smtps:smtpd_tls_wrappermode', do { my $s = $sys->client(%from, port => 465, first => "EHLO x\r\n"); !$s || ($s->{banner} // '') !~ /^220/ }, 'TLS from the first byte at 465');
$sys->saw('smtpd_tls_auth_only', $sys->last_reply({ port => 589 }, 'EHLO x.test'), qr/^250(?!.*AUTH)/s, 'no passwords in plain text');
# behind haproxy
for my $way ([ 10465 => 'smtps', 'wrapped' ], [ 10587 => 'submission', 'start' ]) {
	my ($port, $name, $tls) = @$way;
	my %u = (port => $sys->proxied($port, "PROXY TCP4 198.51.100.7 192.0.2.25 4000 $port\r\n"), tls => $tls, login => 'joe@cow.test');
	like $sys->give(\%u, 'joe@cow.test', 'ann@cow.test', "Subject: proxied $port\nX-Enigmail: y\n\nx\n"), qr/queued/, "$port: mail through haproxy";
	my $near = $lmtp->message(qr/^Subject: proxied $port/m) || { text => '' };
	$sys->saw("$port:cleanup_service_name", $near->{text}, qr/^(?!.*X-Enigmail)/s, '... checked');
	$sys->saw_log("$port:smtpd_upstream_proxy_protocol $port:syslog_name", qr{postfix/$name-haproxy/smtpd\[\d+\]: \w+: client=unknown\[198\.51\.100\.7\], sasl_method=PLAIN}, '... from where it comes, by its name');
	my %s = (%u, port => $sys->proxied($port, "PROXY TCP4 198.51.100.7 192.0.2.25 4000 $port\r\n"), login => undef);
	$sys->saw("$port:smtpd_client_restrictions", $sys->last_reply(\%s, 'EHLO x.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@cow.test>'), qr/^554 5\.7\.1 .*Client host rejected: Access denied/, '... not for strangers');
	$sys->saw("$port:" . ($tls eq 'start' ? 'smtpd_tls_security_level' : 'smtpd_tls_wrappermode'), do {
		my $p = $sys->proxied($port, "PROXY TCP4 198.51.100.7 192.0.2.25 4000 $port\r\n");
		$tls eq 'start' ? $sys->last_reply({ port => $p }, 'EHLO x.test', 'MAIL FROM:<a@far.test>') : (($sys->client(port => $p, first => "EHLO x\r\n") || {})->{banner} // '530 none');
	}, qr/^530 /, '... by TLS');
	my $old = $sys->client(port => $sys->proxied($port, "PROXY TCP4 198.51.100.7 192.0.2.25 4000 $port\r\n"), tls => $tls, openssl => [ '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0' ]);
	$sys->saw("$port:smtpd_tls_mandatory_protocols", !defined $old, '... of our times');
	$sys->client(port => $sys->proxied($port, "PROXY TCP4 198.51.100.7 192.0.2.25 4000 $port\r\n"), tls => $tls, openssl => [ '-tls1_2', '-cipher', 'ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384' ]);
	$sys->saw("$port:tls_preempt_cipherlist", $sys->wait_log(qr{(postfix/$name-haproxy/smtpd\[\d+\]: Anonymous TLS connection established from \S+: TLSv1\.2 with cipher ECDHE-ECDSA-AES256-GCM-SHA384)}), qr/./, '... as the server prefers');
}
# the groupware, and what Rspamd gives back
my %sogo = (%from, port => 588, login => 'it@mailcow.local');
$sys->saw('588:smtpd_tls_auth_only', $sys->last_reply({ %from, port => 588 }, 'EHLO x.test'), qr/AUTH PLAIN/, 'SOGo logs in in plain text');
$sys->saw('588:smtpd_sender_restrictions 588:syslog_name', $sys->give(\%sogo, 'ann@cow.test', 'joe@cow.test', "Subject: sogo\n\nx\n") . $sys->log, qr{queued.*postfix/sogo/smtpd}s, '... as anybody');
$sys->saw('588:cleanup_service_name', $lmtp->message(qr/^Subject: sogo/m)->{text}, qr/^Received: by Postcow for it\@mailcow\.local/m, '... its headers are taken out, too');
$sys->saw('588:smtpd_client_restrictions', $sys->last_reply({ %from, port => 588 }, 'EHLO x.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@cow.test>'), qr/^554 5\.7\.1 .*Client host rejected/, '... nobody without');
for my $way ([ 590 => 'quarantine' ], [ 591 => 'bcc' ]) {
	my ($port, $name) = @$way;
	like $sys->give({ port => $port }, 'a@far.test', 'joe@cow.test', "Subject: at $port\n\nx\n"), qr/queued/, "$port: mail from Rspamd";
	$sys->saw("$port:smtpd_milters", $lmtp->message(qr/^Subject: at $port/m)->{text}, qr/^(?!.*X-Rspamd)/s, '... is not shown to it again');
	$sys->saw_log("$port:syslog_name", qr{postfix/$name/smtpd\[\d+\]: \w+: client=localhost}, '... by its name');
	$sys->saw("$port:smtpd_client_restrictions", $sys->last_reply({ %from, port => $port }, 'EHLO x.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@cow.test>'), qr/^554 5\.7\.1 .*Client host rejected/, '... from nobody else');
	$sys->saw("$port:smtpd_tls_auth_only", $sys->last_reply({ port => $port }, 'EHLO x.test'), qr/AUTH PLAIN/, '... with logins in plain text');
}
# the watchdog
like $sys->give({ port => 589 }, 'watchdog@localhost', 'watchdog@localhost', "Subject: alive\n\nx\n"), qr/queued/, '589: the watchdog';
ok $sys->wait_log(qr{watchdog/discard\[\d+\]: \w+: to=<watchdog\@localhost>, .*status=sent}), '... is discarded' or diag $sys->log_tail;
$sys->saw_log('589:cleanup_service_name watchdog_cleanup:syslog_name', qr{watchdog/cleanup\[\d+\]: \w+: message-id}, '... by its own cleanup');
$sys->saw_log('watchdog_cleanup:queue_service_name watchdog_qmgr:syslog_name', qr{watchdog/qmgr\[\d+\]: \w+: from=<watchdog\@localhost>}, '... its own queue manager');
$sys->saw_log('watchdog_qmgr:rewrite_service_name watchdog_rewrite:local_transport watchdog_discard:syslog_name', qr{watchdog/discard\[\d+\]}, '... its own resolver and transport');
$sys->saw_log('589:syslog_name', qr{watchdog/smtpd\[\d+\]: \w+: client=localhost}, '... its name everywhere');
$sys->saw('589:smtpd_milters', slurp($milter) !~ /watchdog\@localhost/, '... past Rspamd');
$sys->saw('589:smtpd_client_restrictions', $sys->last_reply({ %from, port => 589 }, 'EHLO x.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<watchdog@localhost>'), qr/^554 5\.7\.1 .*Client host rejected/, '... nobody from outside');

# ---- to the world ----

sub out { my ($as, $to, $subject) = @_; return $sys->give({ %user, login => $as }, $as, $to, "Subject: $subject\nX-Enigmail: y\n\nx\n") }
like out('joe@cow.test', 'x@far.test', 'secure'), qr/queued/, 'mail to the world';
$sys->saw('relayhost smtp_tls_policy_maps smtp_tls_CAfile smtp_tls_loglevel', $sys->wait_log(qr/(Verified TLS connection established to mx\.far\.test\[203\.0\.113\.25\]:25)/), qr/./, '... by a policy of postfix-tlspol');
like slurp("$tlspol.asked"), qr/^QUERY:far\.test$/m, '... which was asked';
$m = $world->message(qr/^Subject: secure/m) || { text => '' };
$sys->saw('smtp_tls_cert_file smtp_tls_key_file', $m->{text}, qr/Client CN "mail\.example\.test", Issuer "Test ca" \(verified OK\)/, '... with a certificate of its own');
out('joe@cow.test', 'x@custom.test', 'custom');
$sys->saw('smtp_tls_security_level smtp_dns_support_level', $sys->wait_log(qr/((?:Trusted|Untrusted|Anonymous) TLS connection established to 203\.0\.113\.25\[203\.0\.113\.25\]:25)/), qr/./, 'where DNS has no proof: TLS when it is there');
$sys->saw('transport_maps', $sys->wait_log(qr/(to=<x\@custom\.test>, relay=203\.0\.113\.25\[203\.0\.113\.25\]:25, .*status=sent)/), qr/./, '... by a route of the operator\'s');
out('joe@cow.test', 'x@must.test', 'must');
$sys->saw('smtp_tls_policy_maps', $sys->wait_log(qr/(to=<x\@must\.test>, .*status=deferred .*)/), qr/4\.7\.4.*TLS is required, but was not offered/, 'a policy from the database');
out('strict@cow.test', 'x@plain.test', 'strict');
$sys->saw('sender_dependent_default_transport_maps smtp_enforced_tls:smtp_tls_security_level smtp_enforced_tls:syslog_name smtp_enforced_tls:smtp_delivery_status_filter',
	$sys->wait_log(qr{(enforced-tls-smtp/smtp\[\d+\]: \w+: to=<x\@plain\.test>, .*status=.*)}), qr/dsn=5\.7\.4, status=bounced \(TLS is required, but was not offered by host/, 'a user who sends by TLS or not at all');
out('via@cow.test', 'x@plain.test', 'via');
$sys->saw('smtp_sasl_auth_enable smtp_sasl_password_maps smtp_sender_dependent_authentication smtp_sasl_mechanism_filter smtp_sasl_security_options sender_dependent_default_transport_maps',
	$sys->wait_log(qr/(to=<x\@plain\.test>, relay=203\.0\.113\.51\[203\.0\.113\.51\]:25, .*status=sent .*)/), qr/taken from dave by PLAIN/, 'one with a relay of their own, by PLAIN though CRAM-MD5 is there');
out('wrong@cow.test', 'x@plain.test', 'wrong');
$sys->saw('smtp_sasl_auth_soft_bounce', $sys->wait_log(qr/(from=<wrong.*\n(?:.*\n)*?.*to=<x\@plain\.test>, relay=203\.0\.113\.51\[203\.0\.113\.51\]:25, .*status=(?:bounced|deferred) .*)/), qr/status=bounced \(SASL authentication failed/, 'with a wrong password: back at once');
out('joe@cow.test', 'x@routed.test', 'routed');
$sys->saw('smtp_via_transport_maps:smtp_sasl_password_maps transport_maps', $sys->wait_log(qr/(to=<x\@routed\.test>, relay=203\.0\.113\.50\[203\.0\.113\.50\]:25, .*status=sent .*)/), qr/taken from carol by PLAIN/, 'a route with a login of its own');
out('joe@cow.test', 'x@mxbased.test', 'mxbased');
$sys->saw('smtpd_recipient_restrictions', $sys->wait_log(qr/(to=<x\@mxbased\.test>, relay=203\.0\.113\.50\[203\.0\.113\.50\]:25, .*status=sent .*)/), qr/taken from carol by PLAIN/, '... chosen by the MX of the domain');
$sys->saw('mynetworks_style', $sys->last_reply({ from => '192.0.2.1' }, 'EHLO x.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<x@elsewhere.test>'), qr/^250/, 'machines of its own network may send anywhere');
$sys->saw('inet_interfaces inet_protocols', $sys->last_reply({ to => '[::1]' }, 'NOOP'), qr/^250/, 'all addresses are served');
($rc, $out) = $sys->sendmail('root', "From: games\@short\nTo: joe\@cow.test\nSubject: local\n\nx\n", '-f', 'games@short', 'joe@cow.test');
is $rc, 0, 'sendmail' or diag $out;
$m = $lmtp->message(qr/^Subject: local/m) or diag $sys->log_tail;
$sys->saw('append_dot_mydomain', $m->{text}, qr/^From: games\@short$/m, 'sendmail: short names stay short');
$sys->saw('non_smtpd_milters', $m->{text}, qr/^X-Rspamd: seen$/m, '... past Rspamd');
my $comsat = IO::Socket::INET->new(LocalAddr => '127.0.0.1:512', Proto => 'udp') or die $!;
run_ok('truncate', '-s', '60M', '/var/mail/games');
chown +(getpwnam 'games')[2, 3], '/var/mail/games';
$sys->sendmail('root', "Subject: own\n\nx\n", 'games@localhost');
$sys->saw('mailbox_size_limit', $sys->wait_log(qr/(to=<games\@localhost>, .*relay=local, .*status=\w+ .*)/), qr/status=sent \(delivered to mailbox\)/, 'boxes of the machine have no limit');
$sys->saw('biff', !IO::Select->new($comsat)->can_read(0.1), '... and nobody is told that there is mail');

# ---- time ----

my $tries = sub { my ($id) = @_; return $sys->count_log(qr/ $id: to=<x\@slow\.test>.*status=deferred/) };
my ($slow) = out('joe@cow.test', 'x@slow.test', 'slow') =~ /queued as (\w+)/;
my ($null) = $sys->give({ from => '192.0.2.1' }, '', 'x@slow.test', "Subject: null\n\nx\n") =~ /queued as (\w+)/;
ok wait_until(sub { $tries->($slow) == 1 && $tries->($null) == 1 }), 'mail for a host that is down waits' or diag $sys->log_tail;
# the log has a try before the queue knows of its end, from which on the next one is counted
my $idle = sub { return wait_until(sub { ($sys->command('postqueue', '-p'))[1] !~ /^(?:$slow|$null)\*/m }) };
$idle->();
$sys->advance(280);
$sys->sendmail('root', "Subject: meanwhile\n\nx\n", 'joe@cow.test');
$lmtp->message(qr/^Subject: meanwhile/m);
my $early = $tries->($slow);
$sys->advance(330);
$sys->saw('minimal_backoff_time queue_run_delay', $early == 1 && wait_until(sub { $tries->($slow) == 2 }), 'the second try after five minutes');
for (1 .. 8) {
	my $before = $tries->($slow);
	$idle->();
	$sys->advance(2400);
	wait_until(sub { $tries->($slow) > $before });
}
$sys->saw('maximal_backoff_time', $tries->($slow) . ' tries', qr/^(?:9|1\d) tries$/, 'and then at least every half hour') or diag $sys->lines_of($slow);
$sys->saw('delay_warning_time', $sys->wait_log(qr/( $slow: sender delay notification)/), qr/./, 'a word to the sender after four hours');
$sys->advance(86400 - 16000);
$sys->saw('bounce_queue_lifetime', $sys->wait_log(qr/( $null: from=<>, status=expired, returned to sender)/), qr/./, 'a bounce is given up after a day');
my $still = $sys->log !~ / $slow: .*status=expired/;
$sys->advance(4 * 86400 + 100);
$sys->saw('maximal_queue_lifetime', $still && $sys->wait_log(qr/( $slow: from=<joe\@cow\.test>, status=expired, returned to sender)/), qr/./, 'other mail after five');
# mistakes: three are free, the fourth costs ten seconds, the fifth the session
$c = $sys->client(%from);
$c->cmd('FEHLER') for 1 .. 3;
$c->send_raw("FEHLER\r\n");
my $quick = do { my $in = ''; vec($in, fileno $c->{sock}, 1) = 1; select $in, undef, undef, 0.3 };
$sys->advance(11);
$sys->saw('smtpd_error_sleep_time smtpd_soft_error_limit', !$quick && $c->reply, qr/^500 5\.5\.2/, 'mistakes cost time');
$c->send_raw("FEHLER\r\n");
$sys->advance(11);
my $reply = $c->reply;
$reply = $c->reply // $reply if $reply !~ /^421/;
$sys->saw('smtpd_hard_error_limit', $reply, qr/^421 4\.7\.0 mail\.cow\.test Error: too many errors/, '... and end');

# ---- without Rspamd ----

Posthaste::end_child($sys->{last_milter});
$sys->saw('milter_default_action', $sys->last_reply(\%from, 'EHLO client.test', 'MAIL FROM:<a@far.test>'), qr/^4[25]1 4\.7\.1 Service unavailable - try again later/, 'without Rspamd mail waits outside');

is $sys->stop, 0, 'stop';
$far->stop;
is $sys->crashes, '', 'nothing crashed' or diag $sys->log =~ /((?:.*\n){12}.*system call filter.*\n(?:.*\n){4})/;
$db->stop;
my $no_virtual = 'no mail goes to virtual(8): boxes are Dovecot\'s';
my $no_syslog = 'the log is a file here, which has no facilities';
$sys->unseen(
	(map { ($_ => 'is what 33-postscreen.t looks at') } grep { /postscreen/ } $sys->settings),
	smtpd_data_restrictions => 'smtpd_forbid_unauth_pipelining, on by default, is sooner',
	compatibility_level => 'chooses defaults; every one that it would change is set',
	lmtp_tls_mandatory_protocols => 'LMTP is in plain text here', lmtp_tls_protocols => 'LMTP is in plain text here',
	proxy_read_maps => 'there is no proxymap: every worker asks its tables through the lookup workers',
	smtp_address_preference => 'chance chooses between the protocols',
	smtp_tls_mandatory_protocols => 'the TLS library here has nothing older than TLSv1.2', smtp_tls_protocols => 'the TLS library here has nothing older than TLSv1.2',
	smtp_tls_session_cache_database => 'the only server with TLS here asks for certificates, and goes on with no session',
	smtpd_proxy_timeout => 'there is no filter before the queue',
	tls_ssl_options => 'options of OpenSSL, which is not the TLS library here',
	virtual_gid_maps => $no_virtual, virtual_uid_maps => $no_virtual, virtual_mailbox_base => $no_virtual, virtual_minimum_uid => $no_virtual,
	(map { ("$_:syslog_facility" => $no_syslog) } qw(589 watchdog_cleanup watchdog_qmgr watchdog_rewrite watchdog_discard)),
	'589:non_smtpd_milters' => 'acts on mail of sendmail(1) alone', '590:non_smtpd_milters' => 'acts on mail of sendmail(1) alone', '591:non_smtpd_milters' => 'acts on mail of sendmail(1) alone',
	'590:smtpd_helo_restrictions' => 'main.cf sets none', '591:smtpd_helo_restrictions' => 'main.cf sets none',
	'10025:syslog_name' => 'belongs to postscreen', # behind haproxy
	'watchdog_rewrite:syslog_name' => 'a resolver says nothing when all is well',
);
$sys->account;
done_testing;
