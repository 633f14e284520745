#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# modoboa's configuration (t/systems/modoboa) at work, with MariaDB, and test servers in the place of its Amavis (before
# the queue, on the way in and out), policy server, OpenDKIM, Dovecot and the block lists that postscreen asks. Each
# setting is seen to do what it says.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use MailSystem;
use IO::Socket::IP;
use Posthaste qw(slurp spew wait_until run_ok);
use Test::More;

$SIG{PIPE} = 'IGNORE';

my $sql = "hosts = 127.0.0.1:3306\nuser = mail\npassword = open sesame\ndbname = mail\nquery = ";
my %query = (
	domains => "select name from domain where name = '%s' and type = 'domain'", 'domain-aliases' => "select name from domain where name = '%s' and type = 'alias'",
	aliases => "select goto from alias where address = '%s'", relaydomains => "select name from domain where name = '%s' and type = 'relay'",
	maintain => "select action from maintain where who = '%s'", 'relay-recipient-verification' => "select 'reject_unverified_recipient' from domain where name = '%d' and type = 'relay'",
	'sender-login-map' => "select login from sender where address = '%s'", 'spliteddomains-transport' => "select next from split where domain = '%s'",
	transport => "select concat(service, ':', next) from transport where pattern = '%s'",
);
my $sys = MailSystem->new('modoboa', names => ['site.test'],
	zone => <<'EOF',
far.test MX 10 mx.far.test
mx.far.test A 203.0.113.10
client.far.test A 198.51.100.7
7.100.51.198.in-addr.arpa PTR client.far.test
66.100.51.198.zen.spamhaus.org A 127.0.0.4
67.100.51.198.bl.spameatingmonkey.net A 127.0.0.2
67.100.51.198.bl.spamcop.net A 127.0.0.2
68.100.51.198.bl.spameatingmonkey.net A 127.0.0.2
EOF
	files => {
		'/etc/postfix/tables/aliases' => "root: joe\@site.test\n", '/etc/postfix/tables/anonymize_headers' => "/^X-Mailer:/ IGNORE\n",
		'/etc/postfix/tables/postscreen_spf_whitelist' => "198.51.100.0/28 permit\n198.51.100.16 reject\n",
		map { ("/etc/postfix/tables/sql-$_" => "$sql$query{$_}\n") } keys %query,
	});

# ---- what stands around it ----

my ($certs, $dir) = @$sys{qw(certs dir)};
my ($queue) = readlink("$dir/spool") =~ m{^(/\S+)$};
$sys->database('mariadb', 3306, q{create database mail; create user mail@127.0.0.1 identified by "open sesame"; grant all on mail.* to mail@127.0.0.1; use mail;
	create table domain (name varchar(50), type varchar(10)); create table alias (address varchar(50), goto varchar(50)); create table maintain (who varchar(50), action varchar(50));
	create table sender (address varchar(50), login varchar(50)); create table split (domain varchar(50), next varchar(50));
	create table transport (pattern varchar(50), service varchar(10), next varchar(50));
	insert into domain values ('site.test', 'domain'), ('split.test', 'domain'), ('alias.test', 'alias'), ('relay.test', 'relay');
	insert into alias values ('info@site.test', 'joe@site.test'), ('joe@alias.test', 'joe@site.test');
	insert into maintain values ('moved@site.test', '450 4.2.1 in maintenance'); insert into sender values ('joe@site.test', 'joe@site.test'), ('ann@site.test', 'ann@site.test');
	insert into split values ('split.test', 'smtp:[203.0.113.31]'); insert into transport values ('relay.test', 'relay', '[203.0.113.30]');}) or plan skip_all => 'no MariaDB';
$certs->cert('mx', ca => 'ca', names => ['mx.far.test']);
my ($rc, $out) = run_ok('sh', '-ec', 'openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=mail.example.test -keyout /etc/ssl/site.pem -out /etc/ssl/rsa.crt && cat /etc/ssl/rsa.crt >> /etc/ssl/site.pem && ' .
	"cp $dir/certs/ca.crt /etc/ssl/certs/\$(openssl x509 -hash -noout -in $dir/certs/ca.crt).0 && " .
	'openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe4096 -out /etc/postfix/ffdhe4096.pem');
is $rc, 0, 'keys' or diag $out;
my $boxes = $sys->hop("$queue/private/dovecot-lmtp", 'RCPT TO:<nobody=>550 5.1.1 no such user');
my $hop = $sys->hop('203.0.113.25:25');
my $relay = $sys->hop('203.0.113.30:25', 'RCPT TO:<nobody=>550 5.1.1 no such user');
my $split = $sys->hop('203.0.113.31:25');
my $far = MailSystem::in_world(sub { return Posthaste->start(main => { smtpd_tls_security_level => 'may', smtpd_tls_chain_files => "$dir/certs/mx.pem", relayhost => '[203.0.113.25]',
	mynetworks => '0.0.0.0/0' }, master => "203.0.113.10:25 inet n - n - - smtpd\n") });
my $inward = $sys->filter('127.0.0.1:10024', '127.0.0.1:10025', 'inward');
my $outward = $sys->filter('127.0.0.1:10026', '127.0.0.1:10025', 'outward');
my $sign = "EOM addheader X-Signed by the milter; continue\n";
my $milter = $sys->milter(12345, $sign);
my $policy = $sys->policy(9999, "recipient=policy\@site.test\t450 4.7.1 not yet\n");
$sys->dovecot_auth("$queue/private/auth");
($rc, $out) = run_ok(Posthaste::prefix() . '/sbin/newaliases', '-C', '/etc/postfix');
$sys->saw('alias_database', $rc == 0, 'newaliases') or diag $out;
$sys->launch;

# ---- postscreen ----

my %new = map { $_ => $sys->newcomer("198.51.100.$_") } 16 .. 21, 66 .. 68;
$new{18}->send_raw("EHLO early.far.test\r\n");
ok wait_until(sub { my $log = $sys->log; !grep { $log !~ /postscreen\[\d+\]: CONNECT from \[198\.51\.100\.$_\]/ } keys %new }, 20), 'new clients' or diag $sys->log_tail;
ok wait_until(sub { my $asked = $sys->asked; !grep { $asked !~ /$_\.100\.51\.198\.bl\.spamcop\.net/ } 17 .. 21, 66 .. 68 }, 20), 'block lists are asked';
$sys->advance(7);
my %said = map { $_ => [ $new{$_}->reply ] } keys %new;
$sys->saw('postscreen_greet_banner', $said{17}[0], qr/^220-Welcome, please wait\.\.\.\r\n220 mail\.example\.test ESMTP/, 'the greeting');
$new{19}->send_raw("EHLO c.test\r\nMAIL FROM:<stranger\@far.test>\r\n");
$new{19}->reply;
$new{20}->cmd('GET / HTTP/1.1');
$new{21}->send_raw("NOOP\n");
$new{21}->reply;
for (keys %new) {
	$new{$_}->cmd('EHLO client.far.test') if $_ != 19; # what was said too early was not heard
	$_ == 19 ? $new{$_}->reply : $new{$_}->cmd('MAIL FROM:<stranger@far.test>');
	push @{ $said{$_} }, $new{$_}->cmd('RCPT TO:<joe@site.test>');
	$new{$_}->quit;
}
for ([ 16, 'postscreen_access_list postscreen_blacklist_action', qr/^550 5\.3\.2 Service currently unavailable/, 'one that is refused' ],
	[ 17, 'smtpd_banner', qr/^450 4\.3\.2 Service currently unavailable/, 'one that passes all tests, and may come again' ],
	[ 18, 'postscreen_greet_action', qr/^550 5\.5\.1 Protocol error/, 'one that spoke too early' ],
	[ 19, 'postscreen_pipelining_enable postscreen_pipelining_action', qr/^550 5\.5\.1 Protocol error/, 'one that does not wait for replies' ],
	[ 20, 'postscreen_non_smtp_command_enable postscreen_non_smtp_command_action', qr/^550 5\.5\.1 Protocol error/, 'one that speaks something else' ],
	[ 21, 'postscreen_bare_newline_enable postscreen_bare_newline_action', qr/^550 5\.5\.1 Protocol error/, 'one that ends lines without CR' ],
	[ 66, 'postscreen_dnsbl_sites postscreen_dnsbl_action', qr/^550 5\.7\.1 Service unavailable; client \[198\.51\.100\.66\] blocked using zen\.spamhaus\.org/, 'one that is listed' ],
	[ 67, 'postscreen_dnsbl_sites postscreen_dnsbl_threshold', qr/^550 5\.7\.1 Service unavailable; client \[198\.51\.100\.67\] blocked using/, 'one that is listed twice' ],
	[ 68, 'postscreen_dnsbl_threshold', qr/^450 4\.3\.2 /, 'one that is listed by one that counts less' ]) {
	my ($n, $names, $re, $what) = @$_;
	$sys->saw($names, $said{$n}[1], $re, $what);
}
ok $sys->wait_log(qr/DNSBL rank 3 for \[198\.51\.100\.67\]/), 'the score';
my $again = $sys->client(from => '198.51.100.17');
$again->quit;
ok $sys->wait_log(qr/PASS OLD \[198\.51\.100\.17\]/), 'who has passed is known';

# ---- mail from outside ----

sub client { my ($from, %o) = @_; my $c = $sys->client(from => $from // '198.51.100.7', %o); $c->{ehlo} = $c->cmd('EHLO client.far.test'); return $c }

sub rcpt {
	my ($to, %o) = @_;
	my $c = $o{client} // client($o{address}, $o{port} ? (port => $o{port}) : ());
	$c->cmd("EHLO $o{helo}") if $o{helo};
	my $r = $c->cmd('MAIL FROM:<' . ($o{from} // 'stranger@far.test') . '>');
	$r = $c->cmd("RCPT TO:<$to>") if $r =~ /^250/;
	$c->cmd('RSET');
	$c->cmd('EHLO client.far.test') if $o{helo};
	$c->quit if !$o{client};
	return $r;
}
sub message { my ($at, $re) = @_; my $m = $at->message($re) or diag $sys->log_tail; return ($m // {})->{text} // '' }

my $c = client();
$sys->saw('smtpd_banner myhostname', $c->{banner}, qr/^220 mail\.example\.test ESMTP$/, 'the banner');
$sys->saw('message_size_limit', $c->{ehlo}, qr/^250[ -]SIZE 11534336\r$/m, 'the size in EHLO');
$sys->saw('smtpd_tls_security_level smtpd_use_tls smtpd_tls_cert_file smtpd_tls_key_file', $c->{ehlo}, qr/^250[ -]STARTTLS\r$/m, 'TLS is offered');
$sys->saw('smtpd_tls_auth_only smtpd_sasl_auth_enable smtpd_sasl_type smtpd_sasl_path broken_sasl_auth_clients', $c->{ehlo}, qr/^250-AUTH PLAIN LOGIN.*\r\n250-AUTH=PLAIN LOGIN/m, 'logins are, in plain text too');
$sys->saw('smtpd_sasl_security_options', $c->{ehlo} !~ /ANONYMOUS/, 'not anonymously');
$sys->saw('disable_vrfy_command', $c->cmd('VRFY joe'), qr/^502 5\.5\.1 VRFY command is disabled$/, 'VRFY');
$sys->saw('strict_rfc821_envelopes', $c->cmd('MAIL FROM:stranger@far.test'), qr/^501 /, 'an address without brackets');
my $bare = $sys->client(from => '198.51.100.7');
$sys->saw('smtpd_helo_required', $bare->cmd('MAIL FROM:<stranger@far.test>'), qr/^503 5\.5\.1 Error: send HELO\/EHLO first/, 'MAIL without HELO');
$bare->send_raw("HELO client.far.test\r\nMAIL FROM:<stranger\@far.test>\r\nRCPT TO:<joe\@site.test>\r\n");
my @said = grep { defined } map { $bare->reply } 1 .. 3;
$sys->saw('smtpd_forbid_unauth_pipelining', "@said", qr/554 5\.5\.0 Error: SMTP protocol synchronization/, 'commands before their time');
my $six = IO::Socket::IP->new(PeerHost => '::1', PeerPort => 587);
$sys->saw('inet_protocols inet_interfaces', $six && scalar(<$six>), qr/^220 /, 'IPv6');
my @refused = (
	[ smtpd_recipient_restrictions => 'policy@site.test', qr/^450 4\.7\.1 <policy\@site\.test>: Recipient address rejected: not yet/ ],
	[ smtpd_recipient_restrictions => 'moved@site.test', qr/^450 4\.2\.1 <moved\@site\.test>: Recipient address rejected: in maintenance/ ],
	[ 'relay_domains unverified_recipient_reject_code' => 'nobody@relay.test', qr/^550 5\.1\.1 <nobody\@relay\.test>: Recipient address rejected: undeliverable address: host 203\.0\.113\.30/ ],
	[ virtual_mailbox_domains => 'nobody@site.test', qr/^550 5\.1\.1 <nobody\@site\.test>: Recipient address rejected: undeliverable address: / ],
	[ smtpd_recipient_restrictions => 'joe@far.test', qr/^454 4\.7\.1 <joe\@far\.test>: Relay access denied/ ],
	[ smtpd_recipient_restrictions => 'joe@site.test', from => 'x', qr/^504 5\.5\.2 <x>: Sender address rejected: need fully-qualified address/ ],
	[ smtpd_recipient_restrictions => 'joe@site.test', helo => 'short', qr/^504 5\.5\.2 <short>: Helo command rejected: need fully-qualified hostname/ ],
	[ virtual_alias_domains => 'nobody@alias.test', qr/^550 5\.1\.\d <nobody\@alias\.test>: Recipient address rejected: / ],
);
for (@refused) {
	my ($names, $to, @how) = @$_;
	my $re = pop @how;
	$sys->saw($names, rcpt($to, client => $c, @how), $re, join ' ', 'mail for', $to, @how);
}
$sys->saw('mynetworks', rcpt('x@far.test', address => '127.0.0.1', from => 'only@far.test'), qr/^250/, 'this machine may relay');
$sys->saw('unknown_local_recipient_reject_code mydestination', rcpt('nouser@mail.example.test', address => '127.0.0.1'), qr/^550 5\.1\.1 .*User unknown in local recipient table/, 'no such user');
like $c->mail('stranger@far.test', 'info@site.test', "Subject: one\nFrom: stranger\@far\n\nhello"), qr/^250/, 'a message from outside';
my $text = message($boxes, qr/^Subject: one/m);
$sys->saw('smtpd:smtpd_proxy_filter', $text, qr/^X-Filter: inward$/m, 'it went through the filter');
like $inward->got, qr/^XFORWARD .*ADDR=198\.51\.100\.7/m, '... which knows the client';
$sys->saw('smtpd:smtpd_proxy_options', $inward->got !~ /only\@far\.test/ && $inward->got =~ /stranger\@far\.test/, '... and is not troubled before there is a message');
$sys->saw('virtual_transport virtual_alias_maps', ($boxes->message(qr/^Subject: one/m) // {})->{dialogue}, qr/^RCPT TO:<joe\@site\.test>/m, 'an alias, by LMTP');
$sys->saw('smtpd_milters', $text, qr/^X-Signed: by the milter$/m, 'what the milter adds');
$sys->saw('append_dot_mydomain', $text, qr/^From: stranger\@far$/m, 'a name without a domain stays so');
my $probes = () = $sys->log =~ /to=<joe\@site\.test>.*status=deliverable/g;
like rcpt('joe@site.test', client => $c), qr/^250/, 'a recipient once more';
$sys->saw('address_verify_map', $probes > 0 && -s '/var/lib/posthaste/verify_cache.kch' && $probes == (() = $sys->log =~ /to=<joe\@site\.test>.*status=deliverable/g), 'what a probe found is remembered')
	or diag $probes, glob '/var/lib/posthaste/*';
like $c->mail('stranger@far.test', [qw(joe+box@alias.test x@relay.test y@split.test)], "Subject: three\n\nhello"), qr/^250/, 'a message for others';
$sys->saw('virtual_alias_domains virtual_alias_maps recipient_delimiter', ($boxes->message(qr/^Subject: three/m) // {})->{dialogue}, qr/^RCPT TO:<joe\+box\@site\.test>/m, 'the alias of a domain');
$sys->saw('transport_maps', message($relay, qr/^Subject: three/m), qr/hello/, 'a relayed domain');
ok $sys->wait_log(qr/postfix\/relay\/smtp\[\d+\]: \w+: to=<x\@relay\.test>|to=<x\@relay\.test>, relay=203\.0\.113\.30/), '... by its transport';
$sys->saw('transport_maps', message($split, qr/^Subject: three/m), qr/hello/, 'a domain that is elsewhere');
like $c->mail('stranger@far.test', 'joe@site.test', "Subject: bad\nX-Virus: yes\n\nhello"), qr/^554 5\.7\.0 Reject, it is infected/, 'what the filter refuses is refused';
$c->quit;

# ---- local users ----

($rc, $out) = $sys->sendmail('root', "Subject: local\nFrom: a\n\nhello\n", '-f', 'joe@site.test', 'root');
is $rc, 0, 'sendmail' or diag $out;
$text = message($boxes, qr/^Subject: local/m);
$sys->saw('alias_maps myorigin', $text, qr/^From: a\@mail\.example\.test$/m, 'an alias, and names that are completed');
$sys->saw('non_smtpd_milters', $text, qr/^X-Signed: by the milter$/m, 'what the milter adds');

# ---- TLS and logins ----

my $s = $sys->client(port => 587, from => '198.51.100.8');
$s->ok('EHLO client.far.test');
$sys->saw('submission:smtpd_tls_security_level', $s->cmd('MAIL FROM:<joe@site.test>'), qr/^530 5\.7\.0 Must issue a STARTTLS command first$/, 'submission in plain text');
$s->quit;
my %tls = (
	'-tls1_1 -cipher DEFAULT@SECLEVEL=0' => 'smtpd_tls_protocols smtpd_tls_mandatory_protocols', '-tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384' => 'smtpd_tls_exclude_ciphers smtpd_tls_mandatory_exclude_ciphers',
	'-tls1_2 -cipher AES256-GCM-SHA384' => 'smtpd_tls_exclude_ciphers smtpd_tls_mandatory_exclude_ciphers smtpd_tls_mandatory_ciphers',
);
for my $args (sort keys %tls) {
	for my $port (25, 587) {
		my $old = $sys->client(port => $port, tls => 'start', openssl => [ split / /, $args ]);
		$sys->saw($tls{$args}, !defined $old, "not $args, at $port");
	}
}
$s = $sys->client(port => 587, tls => 'start', from => '198.51.100.8', openssl => [qw(-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384 -groups P-256)]);
$sys->saw('smtpd_tls_eecdh_grade', defined $s, 'a session with this curve');
$sys->saw('submission:smtpd_client_restrictions', rcpt('x@far.test', client => $s, from => 'joe@site.test'), qr/^554 5\.7\.1 <\S+\[198\.51\.100\.8\]>: Client host rejected: Access denied/, 'without a login');
$sys->saw('submission:smtpd_sasl_auth_enable', $s->login('joe@site.test', 'good'), qr/^235 2\.7\.0 /, 'a login');
$sys->saw('smtpd_sender_login_maps submission:smtpd_sender_restrictions', rcpt('x@far.test', from => 'ann@site.test', client => $s),
	qr/^553 5\.7\.1 <ann\@site\.test>: Sender address rejected: not owned by user joe\@site\.test/, 'the sender of somebody else');
$sys->saw('submission:smtpd_reject_unlisted_recipient', rcpt('nouser@mail.example.test', from => 'joe@site.test', client => $s), qr/^250/, 'a user that there is not');
like $s->mail('joe@site.test', 'x@far.test', "Subject: out\nX-Mailer: y\n\nhello"), qr/^250/, 'a message';
$text = message($hop, qr/^Subject: out/m);
$sys->saw('submission:smtpd_proxy_filter', $text, qr/^X-Filter: outward$/m, 'it goes through the other filter');
$sys->saw('smtpd_sasl_authenticated_header', $text, qr/^\t\(Authenticated sender: joe\@site\.test\)$/m, 'who has logged in');
$sys->saw('smtpd_tls_received_header', $text, qr/\(using TLSv1\.2 with cipher ECDHE-RSA-AES256-GCM-SHA384 \(256\/256 bits\)/, 'how it came');
$sys->saw('submission:syslog_name smtpd_tls_loglevel', $sys->wait_log(qr{postfix/submission/smtpd\[\d+\]: (Anonymous TLS connection established from .*)}), qr/TLSv1\.2 /, 'the session in the log');
$sys->saw('submission:milter_macro_daemon_name', slurp($milter), qr/^MACRO CONNECT .*\{daemon_name\}=ORIGINATING/m, 'the name for the milter');
$sys->saw('smtp_tls_security_level smtp_tls_CApath smtp_tls_loglevel', $sys->wait_log(qr/smtp\[\d+\]: Trusted TLS connection established to mx\.far\.test\[203\.0\.113\.10\]:25: TLSv1\.3/), 'TLS on the way out');
$s->quit;

# ---- behind the filters ----

my $back = '127.0.0.1:10025';
$s = client('127.0.0.1', port => 10025);
$sys->saw("$back:smtpd_authorized_xforward_hosts", $s->{ehlo}, qr/^250-XFORWARD /m, 'the filter may say who the client was');
$sys->saw("$back:smtpd_recipient_restrictions $back:mynetworks $back:smtpd_client_restrictions", rcpt('policy@site.test', client => $s), qr/^250/, 'the filter may send to all');
$sys->saw("$back:receive_override_options", rcpt('nouser@mail.example.test', client => $s), qr/^250/, 'users are not looked for again');
$sys->saw("$back:smtpd_hard_error_limit $back:smtpd_soft_error_limit", 40 == grep({ $s->cmd('NOSUCH') =~ /^50/ } 1 .. 40), 'forty mistakes are not too many');
like $s->mail('stranger@far.test', 'joe@site.test', "Subject: completed\nFrom: b\n\nhello"), qr/^250/, 'a message';
$sys->saw("$back:local_header_rewrite_clients", message($boxes, qr/^Subject: completed/m), qr/^From: b\@mail\.example\.test$/m, 'with names that are completed');
$s->quit;
$s = $sys->client(from => '192.0.2.25', to => '127.0.0.1', port => 10025);
$sys->saw("$back:smtpd_delay_reject $back:smtpd_client_restrictions", $s->{banner}, qr/^554 /, 'others are refused at once');

# ---- the milter hangs, and is gone ----

my $script = $milter =~ s/\.log$//r;
spew($script, "EOM hang\n");
$c = client('127.0.0.1');
$c->ok('MAIL FROM:<stranger@far.test>');
$c->ok('RCPT TO:<joe@site.test>');
$c->ok('DATA');
$c->send_raw("Subject: slow\r\n\r\nhello\r\n.\r\n");
ok wait_until(sub { slurp($milter) =~ /^HEADER Subject\|slow.*^EOM/ms }, 20), 'a milter that hangs';
$sys->advance(29);
select undef, undef, undef, 0.2;
unlike $boxes->got, qr/^Subject: slow/m, '... is waited for';
$sys->advance(2);
$sys->saw('milter_content_timeout milter_default_action', $c->reply, qr/^250/, '... for thirty seconds');
spew($script, "$sign");
$c->quit;
$sys->unseen(biff => 'nobody is logged in here', readme_directory => 'no program reads it', mailbox_size_limit => 'there is none without it, too',
	proxy_read_maps => 'every table is asked by a process for it', proxy_write_maps => 'the same', smtpd_tls_session_cache_database => 'sessions are in tickets',
	smtpd_tls_CApath => 'no client is asked for a certificate', smtpd_data_restrictions => 'smtpd_forbid_unauth_pipelining ends such sessions before',
	smtpd_tls_dh1024_param_file => 'no suite that is left uses it', smtp_tls_exclude_ciphers => 'nobody has these any more', tls_ssl_options => 'there is no compression',
	tls_preempt_cipherlist => 'the client offers one', 'submission:tls_preempt_cipherlist' => 'the same',
	'submission:cleanup_service_name' => 'all mail goes to the filter', 'ascleanup:header_checks' => 'no mail gets there', 'submission:smtpd_helo_restrictions' => 'empty, and so are those of main.cf',
	"$back:smtpd_error_sleep_time" => 'nobody makes a thousand mistakes', "$back:smtpd_client_connection_count_limit" => 'clients of mynetworks have no limit', "$back:smtpd_client_connection_rate_limit" => 'the same',
	(map { ("$back:$_" => 'empty, and so is that of main.cf') } qw(content_filter smtpd_end_of_data_restrictions smtpd_helo_restrictions smtpd_restriction_classes smtpd_sender_restrictions)),
	"$back:smtpd_data_restrictions" => 'smtpd_forbid_unauth_pipelining ends such sessions before');
is $sys->stop, 0, 'stop';
$far->stop;
is $sys->crashes, '', 'nothing crashed';
$sys->account;
done_testing;
