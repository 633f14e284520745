#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# The configuration of GrapheneOS's mail server (t/systems/grapheneos) at work, between test servers in the place of its
# rspamd and Dovecot. Each setting is seen to do what it says.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use MailSystem;
use Posthaste qw(slurp spew wait_until run_ok);
use Test::More;

$SIG{PIPE} = 'IGNORE';

my $zone = <<'EOF';
far.test MX 10 mx.far.test
mx.far.test A 203.0.113.10
plain.test A 203.0.113.12
must.test A 203.0.113.12
client.far.test A 198.51.100.7
7.100.51.198.in-addr.arpa PTR client.far.test
early.far.test A 198.51.100.9
9.100.51.198.in-addr.arpa PTR early.far.test
forged.far.test A 198.51.100.7
8.100.51.198.in-addr.arpa PTR forged.far.test
mail.site-org.example A 127.0.0.1
1.0.0.127.in-addr.arpa PTR mail.site-org.example
25.2.0.192.in-addr.arpa PTR mx.site-org.example
mx.site-org.example A 192.0.2.25
EOF
my $sys = MailSystem->new('grapheneos', zone => $zone, names => ['mail.site-org.example'],
	own => { smtpd_authorized_xclient_hosts => '127.0.0.1' },
	files => {
		'/etc/postfix/tables/local_recipient' => "postmaster x\n", '/etc/postfix/tables/virtual_recipient' => join('', map { "$_\@site-org.example x\n" } qw(joe ann later)),
		'/etc/postfix/tables/virtual' => "info\@site-app.example joe\@site-org.example\n\@site-net.example joe\@site-org.example\npostmaster\@mail.site-org.example joe\@site-org.example\n",
		'/etc/postfix/tables/sender_login' => "joe\@site-org.example joe\nann\@site-org.example ann\n", '/etc/postfix/tables/tls_policy' => "must.test encrypt\n",
		'/etc/postfix/tables/submission_header_checks' => "/^User-Agent:/ IGNORE\n",
		'/etc/postfix/openssl.cnf' => "postfix = postfix_settings\n[postfix_settings]\nssl_conf = ssl\n[ssl]\nsystem_default = it\n[it]\nMinProtocol = TLSv1.2\n",
	});
my ($certs, $dir) = @$sys{qw(certs dir)};
my ($queue) = readlink("$dir/spool") =~ m{^(/\S+)$};
$certs->cert('self', names => ['nobody.example']);
my $print = $certs->fingerprint('self', 1) =~ tr/://dr;
my $wrong = $print =~ tr/0-9A-F/1-9A-F0/r;
my %dns = $sys->signed_dns($zone, 'signed.test', "\@ MX 10 good\ngood A 203.0.113.11\n_25._tcp.good TLSA 3 1 1 $print\nbad MX 10 mx.bad\nmx.bad A 203.0.113.11\n_25._tcp.mx.bad TLSA 3 1 1 $wrong\n")
	or plan skip_all => 'needs nsd and ldns-signzone';
spew('/etc/postfix/main.cf', slurp('/etc/postfix/main.cf') =~ s/^resolver_trust_anchor_file.*\n//mr . join '', map { "$_ = $dns{$_}\n" } keys %dns);

# ---- what stands around it ----

my $boxes = $sys->hop("$queue/dovecot/lmtp", 'RCPT TO:<later=>450 4.2.0 not now');
run_ok('mkdir', '-p', "$queue/rspamd");
my $milter = $sys->milter("$queue/rspamd/milter.sock", "EOM addheader X-Signed by the milter; continue\n");
$sys->dovecot_auth("$queue/dovecot/auth");
my $hop = $sys->hop('203.0.113.25:25');
my $plain = $sys->hop('203.0.113.12:25', 'RCPT TO:<refused@=>550 5.1.1 no such user');
my $far = MailSystem::in_world(sub { return Posthaste->start(main => { relayhost => '[203.0.113.25]', mynetworks => '0.0.0.0/0', smtpd_tls_security_level => 'may', smtpd_tls_chain_files => "$dir/certs/self.pem" },
	master => "203.0.113.10:25 inet n - n - - smtpd\n203.0.113.11:25 inet n - n - - smtpd\n") });
$sys->command('postmap', "lmdb:/etc/postfix/tables/$_") for qw(local_recipient virtual_recipient virtual sender_login tls_policy);
$sys->launch;

# STARTTLS, for sessions in plain text end at the first sender.
sub client { my ($from, %o) = @_; my $c = $sys->client(from => $from // '198.51.100.7', tls => 'start', %o) or return; $c->{ehlo} = $c->cmd('EHLO client.far.test'); return $c }
sub rcpt {
	my ($to, %o) = @_;
	my $c = $o{client} // client($o{address});
	$c->cmd("EHLO $o{helo}") if $o{helo};
	my $r = $c->cmd('MAIL FROM:<' . ($o{from} // 'stranger@far.test') . '>' . ($o{with} // ''));
	$r = $c->cmd("RCPT TO:<$to>") if $r =~ /^250/;
	$c->cmd('RSET');
	$c->cmd('EHLO client.far.test') if $o{helo};
	$c->quit if !$o{client};
	return $r;
}
sub message { my ($at, $re) = @_; my $m = $at->message($re) or diag $sys->log_tail; return ($m // {})->{text} // '' }
sub status { my ($to) = @_; return $sys->wait_log(qr/(to=<\Q$to\E>, .*status=\w+ .*)/) // '' }

# ---- postscreen ----

my %new = map { $_ => $sys->newcomer("198.51.100.$_") } 7, 8, 9;
$new{9}->send_raw("EHLO early.far.test\r\n");
ok wait_until(sub { my $log = $sys->log; 3 == grep { $log =~ /postscreen\[\d+\]: CONNECT from \[198\.51\.100\.$_\]/ } 7 .. 9 }, 20), 'new clients' or diag $sys->log_tail;
$sys->advance(1);
select undef, undef, undef, 0.2;
unlike $sys->log, qr/PASS NEW/, '... wait';
$sys->advance(1.2);
$sys->saw('postscreen_greet_wait', $new{7}->reply, qr/^220 mail\.site-org\.example ESMTP/m, '... for two seconds') && ok $sys->wait_log(qr/PASS NEW \[198\.51\.100\.7\]/), '... and pass';
$new{9}->reply;
$new{9}->cmd('EHLO early.far.test'); # what was said too early was not heard
$new{9}->cmd('MAIL FROM:<stranger@far.test>');
$sys->saw('postscreen_greet_action', $new{9}->cmd('RCPT TO:<joe@site-org.example>'), qr/^550 5\.5\.1 Protocol error/, 'one that spoke too early does not');
ok $sys->wait_log(qr/PREGREET \d+ after [\d.]+ from \[198\.51\.100\.9\]/), '... and is logged';
$_->end for values %new;

# ---- mail from outside ----

my $c = $sys->client(from => '198.51.100.7');
$sys->saw('myhostname', $c->{banner}, qr/220 mail\.site-org\.example ESMTP/, 'the banner');
my $ehlo = $c->cmd('EHLO client.far.test');
$sys->saw('message_size_limit', $ehlo, qr/^250[ -]SIZE 100000000\r?$/m, 'the size in EHLO');
$sys->saw('smtpd_tls_security_level smtpd_tls_chain_files', $ehlo, qr/^250[ -]STARTTLS\r?$/m, 'TLS is offered');
$sys->saw('smtpd_tls_auth_only', $ehlo !~ /AUTH/, 'logins are not, in plain text');
$c->cmd('MAIL FROM:<stranger@far.test>');
$sys->saw('plaintext_reject_code smtpd_sender_restrictions', $c->cmd('RCPT TO:<joe@site-org.example>'), qr/^530 .*Session encryption is required/, 'nobody sends in plain text');
$c->quit;
my $bare = $sys->client(from => '198.51.100.7');
$sys->saw('smtpd_helo_required', $bare->cmd('MAIL FROM:<stranger@far.test>'), qr/^503 5\.5\.1 Error: send HELO\/EHLO first/, 'MAIL without HELO');
$bare->quit;
for my $args ('-tls1_1 -cipher DEFAULT@SECLEVEL=0', '-tls1_2 -cipher ECDHE-ECDSA-AES256-SHA384') {
	$sys->saw('smtpd_tls_protocols smtpd_tls_ciphers tls_high_cipherlist', !defined client(undef, openssl => [ split / /, $args ]), "not $args");
}
$c = client(undef, openssl => [qw(-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256)]);
$sys->saw('smtpd_tls_ciphers tls_high_cipherlist', $c && $c->{ehlo}, qr/^250/, 'but one of the list');
$sys->saw('smtpd_sasl_auth_enable smtpd_sasl_type smtpd_sasl_path', $c->{ehlo}, qr/^250-AUTH PLAIN LOGIN/m, 'logins are offered then');
$sys->saw('disable_vrfy_command', $c->cmd('VRFY joe'), qr/^502 5\.5\.1 VRFY command is disabled$/, 'VRFY');
$sys->saw('strict_rfc821_envelopes', $c->cmd('MAIL FROM:stranger@far.test'), qr/^501 /, 'an address without brackets');
$sys->saw('strict_smtputf8', $c->cmd("MAIL FROM:<caf\xc3\xa9\@far.test>"), qr/^553 5\.6\.7 Must declare SMTPUTF8/, 'an address in UTF-8 that is not announced');
for ([ smtpd_helo_restrictions => 'joe@site-org.example', helo => 'short', qr/^504 5\.5\.2 <short>: Helo command rejected: need fully-qualified hostname/ ],
	[ smtpd_helo_restrictions => 'joe@site-org.example', helo => '-bad-', qr/^501 5\.5\.2 <-bad->: Helo command rejected: Invalid name/ ],
	[ smtpd_sender_restrictions => 'joe@site-org.example', from => 'x', qr/^504 5\.5\.2 <x>: Sender address rejected: need fully-qualified address/ ],
	[ 'smtpd_sender_restrictions smtpd_sender_login_maps' => 'ann@site-org.example', from => 'joe@site-org.example', qr/^553 5\.7\.1 <joe\@site-org\.example>: Sender address rejected: not logged in/ ],
	[ smtpd_reject_unlisted_sender => 'ann@site-org.example', from => 'nobody@site-org.example', qr/^550 5\.1\.0 <nobody\@site-org\.example>: Sender address rejected: User unknown/ ],
	[ smtpd_recipient_restrictions => 'joe', qr/^504 5\.5\.2 <joe>: Recipient address rejected: need fully-qualified address/ ],
	[ smtpd_relay_restrictions => 'joe@far.test', qr/^554 5\.7\.1 <joe\@far\.test>: Relay access denied/ ],
	[ 'virtual_mailbox_domains virtual_mailbox_maps' => 'nobody@site-org.example', qr/^550 5\.1\.1 <nobody\@site-org\.example>: .*User unknown in virtual mailbox table/ ],
	[ 'virtual_alias_domains virtual_alias_maps' => 'nobody@site-app.example', qr/^550 5\.1\.1 <nobody\@site-app\.example>: .*User unknown in virtual/ ],
	[ virtual_alias_domains => 'any@site-net.example', qr/^250/ ],
	[ 'local_recipient_maps mydestination' => 'nobody@[192.0.2.25]', qr/^550 5\.1\.1 .*User unknown in local recipient table/ ],) {
	my ($names, $to, @how) = @$_;
	my $re = pop @how;
	$sys->saw($names, rcpt($to, client => $c, @how), $re, join ' ', 'mail for', $to, @how);
}
$sys->saw('smtpd_client_restrictions', rcpt('joe@site-org.example', address => '198.51.100.8'), qr/^450 4\.7\.25 Client host rejected: cannot find your hostname, \[198\.51\.100\.8\]/, 'a client whose name is not its own');
like $c->mail('stranger@far.test', [qw(info@site-app.example ann@site-org.example)], "Subject: one\nFrom: a\n\nhello"), qr/^250/, 'a message from outside';
my ($first) = grep { $_->{text} =~ /^Subject: one/m } $boxes->message(qr/^RCPT TO:<joe\@site-org\.example>.*^Subject: one/ms) // {};
my ($second) = $boxes->message(qr/^RCPT TO:<ann\@site-org\.example>.*^Subject: one/ms) // {};
$sys->saw('virtual_transport virtual_alias_maps lmtp_destination_recipient_limit', "@{ $first->{to} // [] } @{ $second->{to} // [] }", qr/^joe\@site-org\.example ann\@site-org\.example$/, 'each by itself, by LMTP');
like $first->{text} // '', qr/^X-Original-To: info\@site-app\.example$/m, 'flags=O of the lmtp service';
$sys->saw('smtpd_milters', $first->{text}, qr/^X-Signed: by the milter$/m, 'what the milter adds');
like $first->{text} // '', qr/^From: a$/m, 'names of strangers are not completed';
$sys->saw('smtpd_tls_received_header smtpd_tls_loglevel', $first->{text}, qr/\(using TLSv1\.2 with cipher ECDHE-ECDSA-AES128-GCM-SHA256 \(128\/128 bits\)/, 'how it came');
$sys->saw('smtpd_tls_loglevel', $sys->wait_log(qr{smtpd\[\d+\]: Anonymous TLS connection established from \S+: TLSv1\.2}), 'the session in the log');
$c->ok('MAIL FROM:<stranger@far.test>');
$c->ok('RCPT TO:<joe@site-org.example>');
$c->ok('DATA');
$c->send_raw("Subject: x\r\n\r\nbare\nnewline\r\n.\r\n");
$sys->saw('smtpd_forbid_bare_newline', $c->reply, qr/^5[25]\d 5\.5\.2 .*bare <LF> received/i, 'a bare newline');
$c->end;

# ---- local users ----

my ($rc, $out) = $sys->sendmail('root', "Subject: local\n\nhello\n", '-f', 'joe@site-org.example', 'ann@site-org.example');
is $rc, 0, 'root may send' or diag $out;
$sys->saw('non_smtpd_milters', message($boxes, qr/^Subject: local/m), qr/^X-Signed: by the milter$/m, 'what the milter adds');
($rc, $out) = $sys->sendmail('games', "Subject: no\n\nhello\n", 'ann@site-org.example');
$sys->saw('authorized_submit_users', "$rc $out", qr/^[1-9]\d* .*not allowed|^[1-9]\d* .*denied/s, 'nobody else');
($rc, $out) = run_ok('setpriv', '--reuid=games', '--regid=nogroup', '--clear-groups', Posthaste::prefix() . '/sbin/postqueue', '-c', '/etc/postfix', '-p');
$sys->saw('authorized_mailq_users', "$rc $out", qr/^[1-9]\d* .*(?:not allowed|denied)/s, 'nor looks at the queue');
($rc, $out) = run_ok('setpriv', '--reuid=games', '--regid=nogroup', '--clear-groups', Posthaste::prefix() . '/sbin/postqueue', '-c', '/etc/postfix', '-f');
$sys->saw('authorized_flush_users', "$rc $out", qr/^[1-9]\d* .*(?:not allowed|denied)/s, 'nor has it sent');
($rc, $out) = $sys->sendmail('root', "Subject: literal\n\nhello\n", '-f', 'joe@site-org.example', 'postmaster@[192.0.2.25]');
$sys->sendmail('root', "Subject: odd\n\nhello\n", '-f', 'joe@site-org.example', 'x%far.test', 'far.test!y');
$sys->saw('allow_percent_hack', status('x%far.test@mail.site-org.example'), qr/status=bounced/, 'a percent sign is nothing special');
$sys->saw('swap_bangpath', status('far.test!y@mail.site-org.example'), qr/status=bounced/, 'nor is an exclamation mark');
$sys->saw('local_transport', status('postmaster@[192.0.2.25]'), qr/status=bounced \(local transport is disabled\)/, 'local mail');

# ---- submission ----

$sys->saw('submissions:smtpd_tls_mandatory_protocols', !defined $sys->client(port => 465, tls => 'wrapped', openssl => ['-tls1_2']), 'not with TLS 1.2');
my $s = $sys->client(port => 465, tls => 'wrapped', from => '198.51.100.8');
$sys->saw('submissions:smtpd_tls_wrappermode', $s->{banner}, qr/^220 /, 'TLS first');
$s->cmd('EHLO [10.1.2.3]');
$sys->saw('submissions:smtpd_relay_restrictions', rcpt('x@far.test', client => $s), qr/^554 5\.7\.1 .*Access denied/, 'without a login');
$sys->saw('submissions:smtpd_sasl_auth_enable submissions:smtpd_client_restrictions', $s->login('joe', 'good'), qr/^235 /, 'a login, whatever the name of the client');
$s->cmd('EHLO short');
$sys->saw('submissions:smtpd_sender_restrictions smtpd_sender_login_maps', rcpt('x@far.test', client => $s, from => 'ann@site-org.example'), qr/^553 5\.7\.1 .*not owned by user joe/, 'the sender of somebody else');
$sys->saw('submissions:smtpd_recipient_restrictions', rcpt('x', client => $s, from => 'joe@site-org.example'), qr/^504 5\.5\.2 <x>: Recipient address rejected: need fully-qualified address/, 'a recipient without a domain');
$sys->saw('submissions:smtpd_helo_restrictions', rcpt('x@far.test', client => $s, from => 'joe@site-org.example'), qr/^250/, 'a short name in EHLO');
like $s->mail('joe@site-org.example', [qw(x@far.test x@plain.test refused@plain.test x@must.test x@signed.test x@bad.signed.test later@site-org.example)],
	"Subject: out\nUser-Agent: y\nFrom: b\nMessage-Id: <first\@site-org.example>\n\nhello"), qr/^250/, 'a message';
my $text = message($hop, qr/^Subject: out/m);
$sys->saw('submissions:cleanup_service_name subcleanup:header_checks', $text !~ /User-Agent/ && $text =~ /^Subject: out/m, 'without what stays inside');
$sys->saw('submissions:local_header_rewrite_clients', $text, qr/^From: b\@mail\.site-org\.example$/m, 'names are completed');
$sys->saw('submissions:smtpd_hide_client_session', $text !~ /198\.51\.100\.8|short|TLSv1/ && $text =~ /^Received: by mail\.site-org\.example/m, 'nothing of the session') or diag $text;
$sys->saw('submissions:milter_macro_daemon_name', slurp($milter), qr/^MACRO CONNECT .*\{daemon_name\}=ORIGINATING/m, 'the name for the milter');
$sys->saw('submissions:syslog_name', $sys->wait_log(qr{postfix/submissions/smtpd\[\d+\]: \w+: client=}), 'the name in the log');
$sys->saw('smtp_tls_security_level smtp_tls_loglevel smtp_tls_protocols smtp_tls_ciphers', $sys->wait_log(qr/(\w+ TLS connection established to mx\.far\.test\[203\.0\.113\.10\]:25: TLSv1\S*)/), qr/Untrusted.*TLSv1\.3/, 'TLS where no DNSSEC is');
$sys->saw('smtp_tls_policy_maps', status('x@must.test'), qr/dsn=4\.7\.4, status=deferred \(TLS is required/, 'a domain that must have it');
$sys->saw('smtp_tls_security_level', status('x@plain.test'), qr/status=sent/, 'one that has not');
$sys->saw('smtp_dns_support_level smtp_tls_security_level', status('x@signed.test'), qr/status=sent/, 'DANE');
ok $sys->wait_log(qr/Verified TLS connection established to good\.signed\.test/), '... verified';
$sys->saw('smtp_dns_support_level', status('x@bad.signed.test'), qr/status=deferred \(Server certificate not verified\)/, 'DANE with another certificate');
my $bounce = message($boxes, qr/^Subject: Undelivered Mail Returned to Sender.*refused\@plain\.test/ms);
$sys->saw('enable_threaded_bounces', $bounce, qr/^References: <first\@site-org\.example>$/m, 'a bounce in its thread');
$sys->saw('internal_mail_filter_classes', $bounce, qr/^X-Signed: by the milter$/m, 'the milter sees it');
$sys->advance(4 * 3600 + 10);
$sys->command('postqueue', '-f');
$sys->saw('delay_warning_time', message($boxes, qr/^Subject: Delayed Mail \(still being retried\)/m), qr/^<(?:x\@must\.test|x\@bad\.signed\.test|later\@site-org\.example)>: /m, 'the sender is told after four hours');
$s->quit;
my ($passed, $came) = map { $sys->count_log($_) } my @lines = (qr/PASS OLD/, qr/CONNECT from \[198\.51\.100\.7\]/);
$sys->advance(2 * 86400);
my $again = $sys->newcomer('198.51.100.7');
wait_until(sub { $sys->count_log($lines[1]) > $came }, 20);
select undef, undef, undef, 0.2;
is $sys->count_log($lines[0]), $passed, 'a client that was known has to wait again';
$sys->advance(3);
$again->reply;
$sys->saw('postscreen_greet_ttl', wait_until(sub { $sys->count_log($lines[0]) == $passed + 1 }, 20), '... after two days');
$again->end;
is $sys->stop, 0, 'stop';
$far->stop;
is $sys->crashes, '', 'nothing crashed';
$sys->unseen(alias_maps => 'empty: there are none', alias_database => 'the same', biff => 'nobody is logged in here', compatibility_level => 'only its number is new',
	mailbox_size_limit => 'no mail goes to mailboxes of its own', relay_transport => 'there are no domains to relay for', smtp_tls_connection_reuse => 'connections are reused without it',
	smtp_tls_session_cache_timeout => 'an hour of sessions is not waited for', smtpd_tls_session_cache_timeout => 'the same',
	smtp_tls_mandatory_ciphers => 'nobody offers weaker ones', smtp_tls_mandatory_protocols => 'nobody offers older ones', smtpd_tls_mandatory_ciphers => 'TLS 1.3 is spoken where TLS must be',
	smtpd_tls_mandatory_protocols => 'the service that must have TLS has its own', smtpd_client_event_limit_exceptions => 'empty, and nobody is counted here', smtpd_client_ipv6_prefix_length => 'the same',
	smtpd_forbid_bare_newline_exclusions => 'empty: nobody is excepted', tls_config_file => 'the library is another one', tls_config_name => 'the same', tls_preempt_cipherlist => 'the clients here offer one',
	tls_ssl_options => 'nobody renegotiates');
$sys->account;
done_testing;
