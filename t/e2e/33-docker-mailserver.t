#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# docker-mailserver with Rspamd, amavis, SRS and spoof protection switched on, run word for word (lib/MailSystem.pm): mail
# from the world to its boxes, from its users to the world, what it refuses; every setting is seen to act.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use MailSystem;
use IO::Select;
use Posthaste qw(slurp spew wait_until run_ok);
use Test::More;

# what its scripts write to main.cf when it starts, by the switches
my %switched = (
	myhostname => 'mail.dms.test', mydomain => 'dms.test', virtual_transport => 'lmtp:unix:/var/run/dovecot/lmtp',
	virtual_mailbox_maps => 'texthash:/etc/postfix/vmailbox', content_filter => 'smtp-amavis:[127.0.0.1]:10024',
	smtpd_sender_login_maps => 'unionmap:{ texthash:/etc/postfix/tables/virtual, hash:/etc/postfix/tables/aliases, pcre:/etc/postfix/tables/sender_login_maps }',
	sender_canonical_maps => 'tcp:localhost:10001', sender_canonical_classes => 'envelope_sender',
	recipient_canonical_maps => 'tcp:localhost:10002', recipient_canonical_classes => 'envelope_recipient,header_recipient',
);
my %files = (
	'/etc/postfix/vhost' => "dms.test\n",
	'/etc/postfix/vmailbox' => "joe\@dms.test dms.test/joe/\nann\@dms.test dms.test/ann/\n",
	'/etc/postfix/tables/virtual' => "info\@dms.test joe\@dms.test\naway\@dms.test far\@far.test\n",
	'/etc/postfix/tables/aliases' => "root: joe\@dms.test\n",
	'/etc/postfix/tables/header_checks' => "/^X-Internal:/ IGNORE\n",
	'/etc/postfix/tables/sender_login_maps' => "/^(.*)\$/ \$1\n",
	'/etc/postfix/tables/sender_header_filter' => <<'EOT',
/^Received:.*\(Authenticated sender: ([^)]+)\).*with ESMTPSA/ REPLACE X-Was-Received: of $1
/^\s*X-Originating-IP:/ IGNORE
/^\s*X-Mailer:/ IGNORE
/^\s*Mime-Version: 1.0.*/ REPLACE MIME-Version: 1.0
/^\s*User-Agent/ IGNORE
/^\s*X-MS-Reactions:/ IGNORE
/^\s*Message-Id:/i PREPEND X-MS-Reactions: disallow
EOT
);
my $zone = <<'EOT';
far.test MX 10 mx.far.test
far.test A 203.0.113.9
mx.far.test A 203.0.113.25
plain.test A 203.0.113.26
client.test A 203.0.113.9
9.113.0.203.in-addr.arpa PTR client.test
dms.test A 192.0.2.25
mail.dms.test A 192.0.2.25
EOT
my $sys = MailSystem->new('docker-mailserver', pem => 'cert', files => \%files, own => \%switched, zone => $zone, names => ['mail.dms.test']);
my $certs = $sys->{certs};
$certs->cert('far', ca => 'ca', names => ['mx.far.test']);
Posthaste::spew('/etc/ssl/certs/of-the-test.pem', slurp("$certs->{dir}/ca.crt"));
run_ok('openssl', 'rehash', '/etc/ssl/certs');
my $milter = $sys->milter(11332, "EOM addheader X-Milter yes\n");
my $amavis = $sys->filter(10024, '127.0.0.1:10025', 'amavis');
my $forward = $sys->table_server('tcp', 10001, "a\@far.test\tSRS0=x=far.test=a\@dms.test\n");
my $reverse = $sys->table_server('tcp', 10002, "SRS0=x=far.test=a\@dms.test\ta\@far.test\n");
$sys->dovecot_auth('/dev/shm/sasl-auth.sock');
my $lmtp = $sys->hop('/var/run/dovecot/lmtp', 'LHLO=>250 lmtp');
my $world = $sys->hop('203.0.113.99:25');
my $far = $sys->far($world, <<"EOT");
203.0.113.25:25 inet n - n - - smtpd
    -o smtpd_tls_chain_files=$certs->{dir}/far.pem
    -o smtpd_tls_security_level=may
    -o smtpd_tls_received_header=yes
203.0.113.26:25 inet n - n - - smtpd
EOT
my ($rc, $out) = run_ok(Posthaste::prefix() . '/sbin/newaliases', '-C', '/etc/postfix');
is $rc, 0, 'newaliases' or diag $out;
$sys->launch;
my %from = (from => '203.0.113.9');
my %joe = (%from, port => 587, tls => 'start', login => 'joe@dms.test');

# ---- from the world to the boxes ----

$sys->pass_screen('203.0.113.9', '203.0.113.10');
like $sys->give(\%from, 'a@far.test', 'info@dms.test', "Subject: one\nX-Internal: y\nX-Mailer: m\nMime-Version: 1.0 (x)\n\nhello\n"), qr/queued as/, 'mail from the world';
my $m = $lmtp->message(qr/^Subject: one/m) or diag $sys->log_tail;
is "@{ $m->{to} }", 'joe@dms.test', 'is in the box of whom the alias names';
$sys->saw('virtual_alias_maps virtual_mailbox_domains', $sys->wait_log(qr/(lmtp\[\d+\]: \w+: to=<joe\@dms\.test>, .*status=sent)/), qr/relay=\S+\[\S*dovecot\/lmtp\]/, 'the alias, the domain, the way to Dovecot');
$sys->saw('header_checks', $m->{text} !~ /^X-Internal/m, 'the header checks');
$sys->saw('smtpd_milters', $m->{text}, qr/^X-Milter: yes$/m, 'the milter');
is $m->{from}, 'SRS0=x=far.test=a@dms.test', 'the sender is SRS\'s';
like $m->{text}, qr/^Mime-Version: 1\.0 \(x\)$/m, 'its MIME headers are as they came';
$sys->saw('milter_protocol', slurp($milter), qr/^NEG 6 /m, 'version 6 of the milters\' protocol');
my $dialogue = $amavis->got =~ s/\r//gr;
$sys->saw('smtp-amavis:smtp_send_xforward_command', $dialogue, qr/^XFORWARD NAME=client\.test ADDR=203\.0\.113\.9 /m, 'amavis is told of the client');
$sys->saw('smtp-amavis:smtp_tls_security_level smtp-amavis:smtp_tls_wrappermode', $dialogue, qr/^EHLO mail\.dms\.test\n(?!STARTTLS)/m, '... in plain text, though it offers TLS');
$sys->saw_log('smtp-amavis:syslog_name', qr{postfix/smtp-amavis/smtp\[\d+\]: \w+: to=<joe\@dms\.test>, orig_to=<info\@dms\.test>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:10024,}, '... by a transport with its name');
$sys->saw('127.0.0.1:10025:content_filter', 1 == (() = $m->{text} =~ /^X-Filter: amavis$/mg), 'what comes back is not filtered again');
$sys->saw_log('127.0.0.1:10025:syslog_name', qr{postfix/smtpd-amavis/smtpd\[\d+\]: \w+: client=localhost\[127\.0\.0\.1\]}, '... has its name');
like $sys->give(\%from, 'a@far.test', 'joe+tag@dms.test', "Subject: tag\n\nx\n"), qr/queued/, 'an extension';
$sys->saw('recipient_delimiter', join(' ', @{ ($lmtp->message(qr/^Subject: tag/m) || { to => [] })->{to} }), qr/^joe\+tag\@dms\.test$/, '... of a box');
$sys->saw('smtpd_forbid_bare_newline', do {
	my $c = $sys->client(%from);
	$c->cmd($_) for 'EHLO client.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@dms.test>', 'DATA';
	$c->send_raw("Subject: bare\r\n\r\nx\n.\r\nMAIL FROM:<smuggled\@far.test>\r\n.\r\n");
	$c->reply;
}, qr/^250 .*queued/, 'a bare newline');
$m = $lmtp->message(qr/^Subject: bare/m);
like $m->{text}, qr/^MAIL FROM:<smuggled/m, '... does not end a message';

# ---- what it says to strangers, and refuses ----

my $c = $sys->client(%from);
$sys->saw('smtpd_banner', $c->{banner}, qr/^220 mail\.dms\.test ESMTP$/, 'the banner');
my $ehlo = $c->cmd('EHLO client.test');
$sys->saw('smtpd_discard_ehlo_keywords', $ehlo !~ /DSN/ && $sys->log !~ /discarding EHLO/, 'no DSN, and no word about that in the log');
$sys->saw('smtpd_tls_security_level', $ehlo, qr/^250-STARTTLS\r$/m, 'TLS is offered');
$sys->saw('smtputf8_enable', $ehlo, qr/^(?!.*SMTPUTF8)/s, 'no SMTPUTF8');
$sys->saw('smtpd_sasl_auth_enable', $ehlo, qr/^(?!.*AUTH)/s, 'no logins');
$sys->saw('disable_vrfy_command', $c->cmd('VRFY joe@dms.test'), qr/^502 5\.5\.1 VRFY command is disabled/, 'no VRFY');
$c->cmd('MAIL FROM:<a@far.test>');
$sys->saw('smtpd_client_restrictions smtpd_delay_reject', $c->cmd('RCPT TO:<x@elsewhere.test>'), qr/^554 5\.7\.1 <\S+>: Relay access denied/, 'no relaying, said at RCPT');
like $c->cmd('RCPT TO:<nobody@dms.test>'), qr/^550 5\.1\.1 <nobody\@dms\.test>: Recipient address rejected: User unknown in virtual mailbox table/, 'no such box';
like(do { $c->cmd('RCPT TO:<joe@dms.test>'); $c->send_raw("DATA\r\nSubject: early\r\n"); $c->reply },
	qr/^554 5\.5\.0 Error: SMTP protocol synchronization/, 'nobody hurries on');
$c->quit;
$sys->saw('smtpd_helo_required', $sys->last_reply(\%from, 'MAIL FROM:<a@far.test>'), qr/^503 5\.5\.1 Error: send HELO\/EHLO first/, 'HELO first');
$sys->saw('smtpd_helo_restrictions', $sys->last_reply(\%from, 'EHLO bad_!name', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@dms.test>'),
	qr/^501 5\.5\.2 <bad_!name>: Helo command rejected: Invalid name/, 'a name that cannot be');
$sys->saw('smtpd_recipient_restrictions', $sys->last_reply(\%from, 'EHLO short', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@dms.test>'),
	qr/^504 5\.5\.2 <short>: Helo command rejected: need fully-qualified hostname/, 'a short one');
$sys->saw('smtpd_sender_restrictions dms_smtpd_sender_restrictions', $sys->last_reply(\%from, 'EHLO client.test', 'MAIL FROM:<a@nosuch.test>', 'RCPT TO:<joe@dms.test>'),
	qr/^450 4\.1\.8 <a\@nosuch\.test>: Sender address rejected: Domain not found/, 'a sender without a domain');
for my $port (25, 587) {
	for my $old ('-tls1', '-tls1_1') {
		my $s = $sys->client(%from, port => $port, tls => 'start', openssl => [ $old, '-cipher', 'DEFAULT@SECLEVEL=0' ]);
		$sys->saw($port == 25 ? 'smtpd_tls_protocols' : 'smtpd_tls_mandatory_protocols', !defined $s, "no $old at $port");
	}
}
sub suite { my ($port, $list) = @_; return defined $sys->client(%from, port => $port, tls => 'start', openssl => [ '-tls1_2', '-cipher', $list . '@SECLEVEL=0' ]) }
$sys->saw('smtpd_tls_exclude_ciphers', !suite(25, 'ECDHE-ECDSA-AES128-SHA'), 'an excluded suite');
$sys->saw('smtpd_tls_mandatory_ciphers tls_high_cipherlist', suite(587, 'ECDHE-ECDSA-AES128-GCM-SHA256') && !suite(587, 'ECDHE-ECDSA-AES128-SHA256'), 'of the high suites only those listed');
suite(587, 'ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384');
$sys->saw('tls_preempt_cipherlist', $sys->wait_log(qr/(TLSv1\.2 with cipher ECDHE-ECDSA-AES256-GCM-SHA384)/), qr/./, 'the server prefers');
$sys->saw('smtpd_tls_chain_files', $sys->last_reply({ %from, tls => 'start', openssl => [ '-CAfile', "$certs->{dir}/ca.crt", '-verify_return_error', '-verify_hostname', 'mail.dms.test' ] }, 'NOOP'),
	qr/^250/, 'its certificate');
$sys->saw_log('smtpd_tls_loglevel', qr/Anonymous TLS connection established from client\.test\[203\.0\.113\.9\]: TLSv1\.3 with cipher/, 'TLS in the log');

# ---- its users ----

for my $way ([ submission => 587, 'start' ], [ submissions => 465, 'wrapped' ]) {
	my ($name, $port, $tls) = @$way;
	my %user = (%joe, port => $port, tls => $tls);
	my %stranger = (%from, port => $port, tls => $tls);
	my $hello = $sys->last_reply(\%stranger, 'EHLO client.test');
	$sys->saw("$name:smtpd_sasl_auth_enable $name:smtpd_sasl_type smtpd_sasl_path smtpd_sasl_type", $hello, qr/^250-AUTH PLAIN LOGIN\r$/m, "$name: logins as Dovecot says");
	$sys->saw('broken_sasl_auth_clients', $hello, qr/^250-AUTH=PLAIN LOGIN\r$/m, '... for old clients, too');
	$sys->saw('smtpd_sasl_security_options', $hello, qr/^(?!.*ANONYMOUS)/s, '... not those of nobody');
	$sys->saw("$name:smtpd_discard_ehlo_keywords", $hello, qr/^250-DSN\r$/m, '... with DSN');
	$sys->saw("$name:smtpd_client_restrictions", $sys->last_reply(\%stranger, 'EHLO client.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@dms.test>'),
		qr/^554 5\.7\.1 <client\.test\[203\.0\.113\.9\]>: Client host rejected: Access denied/, '... only for those who log in');
	$sys->saw("$name:smtpd_sender_restrictions mua_sender_restrictions", $sys->last_reply(\%user, 'EHLO client.test', 'MAIL FROM:<ann@dms.test>', 'RCPT TO:<x@far.test>'),
		qr/^553 5\.7\.1 <ann\@dms\.test>: Sender address rejected: not owned by user joe\@dms\.test/, '... as themselves');
	$sys->saw("$name:smtpd_relay_restrictions", $sys->give(\%user, 'joe@dms.test', [ 'x@far.test', 'ann@dms.test' ], "Subject: from $name\nMime-Version: 1.0 (x)\nUser-Agent: secret\nMessage-Id: <$port\@x>\n\nx\n"),
		qr/queued/, '... who may send anywhere');
	my $sent = $world->message(qr/^Subject: from $name/m) || { text => '' };
	my $near = $lmtp->message(qr/^Subject: from $name/m) || { text => '' };
	$sys->saw("sender-cleanup:header_checks $name:cleanup_service_name", $near->{text}, qr/^(?!.*User-Agent).*^MIME-Version: 1\.0\n.*^X-MS-Reactions: disallow$/ms, '... with the headers of what they use taken out');
	$sys->saw("$name:smtpd_sasl_authenticated_header", $near->{text}, qr/^X-Was-Received: of joe\@dms\.test$/m, '... after Received had said who it is');
	$sys->saw("$name:milter_macro_daemon_name", slurp($milter), qr/^MACRO CONNECT .*\{daemon_name\}=ORIGINATING/m, '... milters know');
	$sys->saw_log("$name:syslog_name", qr{postfix/$name/smtpd\[\d+\]: \w+: client=client\.test\[203\.0\.113\.9\], sasl_method=PLAIN, sasl_username=joe\@dms\.test$}m, '... so does the log');
	$sys->saw_log('sender-cleanup:syslog_name', qr{postfix/sender-cleanup/cleanup\[\d+\]: \w+: message-id=<$port\@x>}, '... of each part');
	$sys->saw("$name:smtpd_reject_unlisted_recipient", $sys->last_reply(\%user, 'EHLO client.test', 'MAIL FROM:<joe@dms.test>', 'RCPT TO:<nobody@dms.test>'),
		qr/^250 /, '... and learn of mistakes by a bounce');
}
$sys->saw('submission:smtpd_tls_security_level', $sys->last_reply({ %from, port => 587 }, 'EHLO client.test', 'AUTH PLAIN eA=='), qr/^530 5\.7\.0 Must issue a STARTTLS command first/, 'no password in plain text');
$sys->saw('submissions:smtpd_tls_wrappermode', do { my $s = $sys->client(%from, port => 465, first => "EHLO x\r\n"); !$s || ($s->{banner} // '') !~ /^220/ }, 'TLS from the first byte at 465');

# ---- to the world ----

$sys->saw_log('relayhost', qr/to=<x\@far\.test>, relay=mx\.far\.test\[203\.0\.113\.25\]:25, .*status=sent/, 'mail goes to the domain\'s MX');
$sys->saw_log('smtp_tls_CApath smtp_tls_loglevel smtp_tls_security_level', qr/Trusted TLS connection established to mx\.far\.test\[203\.0\.113\.25\]:25: TLSv1\.3/, '... by TLS, trusted by what is in CApath');
like $sys->give({}, 'joe@dms.test', 'old@plain.test', "Subject: old\nX-Mailer: m\n\nx\n"), qr/queued/, 'a machine of ours may send';
$m = $world->message(qr/^Subject: old/m) or diag $sys->log_tail;
$sys->saw_log('mynetworks', qr/to=<old\@plain\.test>, relay=plain\.test\[203\.0\.113\.26\]:25, .*status=sent/, '... anywhere');
$sys->saw('smtp_header_checks', $m && $m->{text} !~ /^X-Mailer/m, '... without headers that tell too much');
$sys->saw('inet_interfaces inet_protocols', $sys->last_reply({ to => '[::1]' }, 'NOOP'), qr/^250/, 'all addresses are served');
like $sys->last_reply({ from => '203.0.113.10', to => '192.0.2.25' }, 'NOOP'), qr/^250/, '... of both families';
like $sys->give(\%from, 'a@far.test', 'away@dms.test', "Subject: srs\n\nx\n"), qr/queued/, 'a forward';
is $world->message(qr/^Subject: srs/m)->{from}, 'SRS0=x=far.test=a@dms.test', '... with the sender of SRS';

# ---- mail of the machine ----

($rc, $out) = $sys->sendmail('root', "From: games\@short\nTo: joe\@dms.test\nSubject: local\nX-Internal: y\n\nx\n", '-f', 'games@short', 'joe@dms.test');
is $rc, 0, 'sendmail' or diag $out;
$m = $lmtp->message(qr/^Subject: local/m);
$sys->saw('append_dot_mydomain', $m->{text}, qr/^From: games\@short$/m, 'short names stay short');
$sys->saw('pickup:content_filter pickup:receive_override_options', $m->{text}, qr/^(?!.*X-Filter).*^X-Internal: y$/ms, 'neither filter nor checks');
$sys->saw('non_smtpd_milters', $m->{text}, qr/^X-Milter: yes$/m, 'but milters') or diag $sys->log_tail, (slurp($milter) =~ /((?:.*\n){25})\z/)[0];
my $comsat = IO::Socket::INET->new(LocalAddr => '127.0.0.1:512', Proto => 'udp') or die $!;
run_ok('truncate', '-s', '60M', '/var/mail/games');
chown +(getpwnam 'games')[2, 3], '/var/mail/games';
($rc, $out) = $sys->sendmail('root', "Subject: for root\n\nx\n", 'root', 'games@mail.dms.test');
is $rc, 0, 'sendmail to users of the machine' or diag $out;
$sys->saw('alias_maps alias_database', $lmtp->message(qr/^Subject: for root/m) ? 1 : 0, qr/1/, 'root\'s mail goes where newaliases says');
$sys->saw('mydestination mailbox_size_limit', $sys->wait_log(qr/(to=<games\@mail\.dms\.test>, .*relay=local, .*status=\w+ .*)/), qr/status=sent \(delivered to mailbox\)/, 'boxes of the machine have no limit');
$sys->saw('biff', !IO::Select->new($comsat)->can_read(0.1), '... and nobody is told that there is mail');

# ---- behind amavis ----

my %back = (port => 10025);
$sys->saw('127.0.0.1:10025:receive_override_options', $sys->give(\%back, 'a@nosuch.test', [ 'joe@dms.test' ], "Subject: back\nX-Internal: y\n\nx\n"), qr/queued/, 'mail comes back');
$m = $lmtp->message(qr/^Subject: back/m);
$sys->saw('127.0.0.1:10025:receive_override_options', $m->{text}, qr/^(?!.*X-Milter).*^X-Internal: y$/ms, '... past milters and checks');
$sys->saw('smtpd_relay_restrictions 127.0.0.1:10025:smtpd_recipient_restrictions 127.0.0.1:10025:mynetworks 127.0.0.1:10025:smtpd_client_restrictions',
	$sys->last_reply(\%back, 'EHLO short', 'MAIL FROM:<a@nosuch.test>', 'RCPT TO:<x@elsewhere.test>'), qr/^250/, '... to anywhere');
$sys->saw('127.0.0.1:10025:local_recipient_maps', $sys->last_reply(\%back, 'EHLO x.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<nobody@mail.dms.test>'), qr/^250/, '... to users who are not there');
like(do {
	my $s = $sys->client(%back);
	$s->cmd($_) for 'EHLO x.test', 'MAIL FROM:<a@far.test>', 'RCPT TO:<joe@dms.test>';
	$s->send_raw("DATA\r\nSubject: early\r\n");
	$s->reply;
}, qr/^554 5\.5\.0 Error: SMTP protocol synchronization/, '... without haste');
$sys->saw('127.0.0.1:10025:smtpd_error_sleep_time 127.0.0.1:10025:smtpd_hard_error_limit 127.0.0.1:10025:smtpd_soft_error_limit', do {
	my $s = $sys->client(%back);
	my $begun = Time::HiRes::time();
	$s->cmd('FEHLER') for 1 .. 60;
	$s->cmd('NOOP') . (Time::HiRes::time() - $begun < 20 ? ' soon' : ' late');
}, qr/^250 .* soon$/, '... and with as many mistakes as it likes');
my $s = $sys->client(%from);
$s->cmd('FEHLER') for 1 .. 3;

# ---- without the milter ----

Posthaste::end_child($sys->{last_milter});
$sys->saw('milter_default_action', $sys->give(\%from, 'a@far.test', 'joe@dms.test', "Subject: no milter\n\nx\n"), qr/queued/, 'without the milter mail goes on');
$m = $lmtp->message(qr/^Subject: no milter/m);
unlike $m->{text}, qr/^X-Milter/m, '... as it is';

is $sys->stop, 0, 'stop';
$far->stop;
is $sys->crashes, '', 'nothing crashed';
my $mine = 'a client of 127.0.0.1 is in mynetworks, which main.cf permits first, too';
$sys->unseen(
	(map { ($_ => 'is what 33-postscreen.t looks at') } grep { /postscreen/ } $sys->settings),
	smtpd_data_restrictions => 'smtpd_forbid_unauth_pipelining, on by default, is sooner',
	'127.0.0.1:10025:smtpd_data_restrictions' => 'smtpd_forbid_unauth_pipelining, on by default, is sooner',
	compatibility_level => 'chooses defaults; every one that it would change is set',
	readme_directory => 'nobody reads it',
	smtpd_sasl_local_domain => 'only Cyrus SASL is asked with a realm, not Dovecot',
	smtpd_tls_CApath => 'no client certificate is asked for',
	smtp_tls_protocols => 'the TLS library here has none of those that are excluded',
	tls_ssl_options => 'options of OpenSSL, which is not the TLS library here',
	'smtp-amavis:max_use' => 'the workers of deliveries live as long as the system',
	'smtp-amavis:smtp_data_done_timeout' => 'twenty minutes that nobody waits for',
	'smtp-amavis:smtp_dns_support_level' => 'the filter is given by its address',
	'127.0.0.1:10025:relay_recipient_maps' => 'there are no relay domains',
	'127.0.0.1:10025:smtp_tls_security_level' => 'no SMTP server reads it',
	'127.0.0.1:10025:smtpd_client_connection_count_limit' => 'clients in mynetworks have no limits',
	'127.0.0.1:10025:smtpd_client_connection_rate_limit' => 'clients in mynetworks have no limits',
	'127.0.0.1:10025:smtpd_delay_reject' => 'nothing is rejected before RCPT TO',
	'127.0.0.1:10025:smtpd_end_of_data_restrictions' => 'main.cf sets none',
	'127.0.0.1:10025:smtpd_restriction_classes' => 'main.cf sets none',
	'127.0.0.1:10025:smtpd_helo_restrictions' => $mine, '127.0.0.1:10025:smtpd_sender_restrictions' => $mine,
);
$sys->account;
done_testing;
