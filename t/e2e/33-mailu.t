#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Mailu's configuration (t/systems/mailu) at work, between test servers in the place of its podop (socketmap), the
# resolver of MTA-STS, rspamd, Dovecot and the front end that logs in for its users (XCLIENT). Each setting is seen to do
# what it says.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use MailSystem;
use Posthaste qw(slurp spew wait_until run_ok);
use Test::More;

my $zone = <<'EOF';
far.test MX 10 mx.far.test
mx.far.test A 203.0.113.10
sts.test MX 10 mx.far.test
wrong.test MX 10 mx.far.test
daneless.test MX 10 mx.far.test
client.far.test A 198.51.100.7
7.100.51.198.in-addr.arpa PTR client.far.test
EOF
my $sys = MailSystem->new('mailu', zone => $zone,
	edit => sub { my ($file, $text) = @_; return $text =~ s{(=\s*|unix:)/(tmp|queue)\b}{$1 . ($2 eq 'tmp' ? '/mnt/tmp' : '/var/spool/mailu')}ger =~ s/^maillog_file.*\n//mr },
	files => {
		'/etc/postfix/tables/sasl_passwd' => "[203.0.113.9] mailu:good\n[203.0.113.12] mailu:good\n",
		'/etc/postfix/tables/tls_policy' => "plain.test none\n",
		'/etc/postfix/tables/transport' => "login.test smtp:[203.0.113.9]\nclear.test smtp:[203.0.113.12]\npolite.test polite:[203.0.113.13]\nturtle.test turtle:[203.0.113.14]\nplain.test smtp:mx.far.test\n",
		'/etc/postfix/tables/outclean_header_filter' => "/^X-Originating-IP:/ IGNORE\n",
	});
my ($certs, $dir) = @$sys{qw(certs dir)};
$certs->cert('mx', ca => 'ca', names => ['mx.far.test']);
$certs->cert('self', names => ['nobody.example']);
my ($print) = $certs->fingerprint('self', 1) =~ tr/://dr;
my $wrong = $print =~ tr/0-9A-F/1-9A-F0/r;
my %dns = $sys->signed_dns($zone, 'signed.example', "\@ MX 10 good\ngood A 203.0.113.11\n_25._tcp.good TLSA 3 1 1 $print\nbad MX 10 mx.bad\nmx.bad A 203.0.113.11\n_25._tcp.mx.bad TLSA 3 1 1 $wrong\n")
	or plan skip_all => 'needs nsd and ldns-signzone';
spew('/etc/postfix/main.cf', slurp('/etc/postfix/main.cf') =~ s/^resolver_trust_anchor_file.*\n//mr . join '', map { "$_ = $dns{$_}\n" } keys %dns);

# ---- what stands around it ----

run_ok('ip', 'addr', 'add', "192.0.2.$_/32", 'dev', 'lo') for 5, 6;
run_ok('sh', '-c', "cp $dir/certs/ca.crt /etc/ssl/certs/\$(openssl x509 -hash -noout -in $dir/certs/ca.crt).0");
my $podop = $sys->table_server('socketmap', '/mnt/tmp/podop.socket', join '', map { "$_->[0]:$_->[1]\t$_->[2]\n" }
	[ domain => 'example.test', 'example.test' ], (map { [ mailbox => "$_\@example.test", "$_\@example.test" ] } qw(joe ann)), (map { [ alias => "$_\@example.test", 'joe+box@example.test' ] } qw(info+Box info+box)), [ alias => 'joe+box@example.test', 'joe@example.test' ],
	(map { [ alias => "$_\@example.test", "$_\@example.test" ] } qw(joe ann)), [ alias => 'postmaster@example.test', 'joe@example.test' ],
	[ transport => '*', '' ], [ transport => 'relay.test', 'smtp:[203.0.113.13]' ], (map { [ transport => "$_\@relay.test", 'smtp:[203.0.113.13]' ] } qw(x late)), [ senderlogin => 'joe@example.test', 'joe@example.test' ], [ senderlogin => 'ann@example.test', 'ann@example.test' ],
	[ senderrate => 'fast@example.test', 'REJECT 5.7.1 too fast' ], [ sendermap => 'Odd@far.test', 'SRS0=x=far.test=Odd@example.test' ], [ recipientmap => 'SRS0=x=far.test=Odd@example.test', 'Odd@far.test' ],
	[ recipientmap => 'srs0=x=far.test=odd@example.test', 'folded@far.test' ], [ dane => 'daneless.test', 'dane-only' ]);
my $sts = $sys->table_server('socketmap', '/mnt/tmp/mta-sts.socket', "postfix:sts.test\tsecure match=mx.far.test servername=hostname\npostfix:wrong.test\tsecure match=mx.wrong.test\n");
my $boxes = $sys->hop('192.0.2.5:2525', 'RCPT TO:<later=>450 4.2.0 not now');
my $milter = $sys->milter('192.0.2.6:11332', "EOM addheader X-Spam no; continue\n");
my %hop = map { $_ => $sys->hop("203.0.113.$_:25") } 13, 14, 25;
$hop{12} = $sys->hop('203.0.113.12:25', 'caps=PIPELINING,AUTH PLAIN LOGIN');
$sys->dovecot_auth("$dir/relay-auth");
my %main = (relayhost => '[203.0.113.25]', mynetworks => '0.0.0.0/0', smtpd_tls_security_level => 'may', smtpd_tls_loglevel => 1);
my $service = sub { my ($n, $pem, @more) = @_; return "203.0.113.$n:25 inet n - n - - smtpd\n" . join '', map { " -o $_\n" } "smtpd_tls_chain_files=$dir/certs/$pem.pem", @more };
my $far = MailSystem::in_world(sub { return Posthaste->start(main => \%main, master => $service->(10, 'mx') . $service->(11, 'self')
	. $service->(9, 'mx', 'smtpd_sasl_auth_enable=yes', 'smtpd_sasl_type=dovecot', "smtpd_sasl_path=unix:$dir/relay-auth", 'smtpd_relay_restrictions=permit_sasl_authenticated,reject')) });
$sys->command('postmap', "lmdb:/etc/postfix/tables/$_") for qw(sasl_passwd tls_policy transport);
$sys->launch;

# ---- mail from outside ----

sub client { my ($from, %o) = @_; my $c = $sys->client(from => $from // '198.51.100.7', %o); $c->{ehlo} = $c->cmd('EHLO client.far.test'); return $c }
sub rcpt {
	my ($to, %o) = @_;
	my $c = $o{client} // client($o{address});
	my $r = $c->cmd('MAIL FROM:<' . ($o{from} // 'stranger@far.test') . '>');
	$r = $c->cmd("RCPT TO:<$to>") if $r =~ /^250/;
	$c->cmd('RSET');
	$c->quit if !$o{client};
	return $r;
}
sub message { my ($at, $re) = @_; my $m = $at->message($re) or diag $sys->log_tail; return ($m // {})->{text} // '' }
sub status { my ($to) = @_; return $sys->wait_log(qr/(to=<\Q$to\E>, .*status=\w+ .*)/) // '' }

my $c = client();
$sys->saw('myhostname', $c->{banner}, qr/^220 mail\.example\.test ESMTP/, 'the banner');
$sys->saw('message_size_limit', $c->{ehlo}, qr/^250[ -]SIZE 50000000\r?$/m, 'the size in EHLO');
my $bare = $sys->client(from => '198.51.100.7');
$sys->saw('smtpd_helo_required', $bare->cmd('MAIL FROM:<stranger@far.test>'), qr/^503 5\.5\.1 Error: send HELO\/EHLO first/, 'MAIL without HELO');
$bare->send_raw("HELO client.far.test\r\nMAIL FROM:<stranger\@far.test>\r\nRCPT TO:<joe\@example.test>\r\n");
$sys->saw('smtpd_forbid_unauth_pipelining', join(' ', map { $bare->reply } 1 .. 3), qr/^250 .*250 .*250 /s, 'commands before their time are taken');
$bare->quit;
for ([ 'smtpd_client_restrictions smtpd_delay_reject', 'joe@example.test', from => 'x', qr/^504 5\.5\.2 <x>: Sender address rejected: need fully-qualified address/ ],
	[ smtpd_client_restrictions => 'joe@example.test', from => 'x@nowhere.test', qr/^450 4\.1\.8 <x\@nowhere\.test>: Sender address rejected: Domain not found/ ],
	[ smtpd_client_restrictions => 'joe@nowhere.test', qr/^450 4\.1\.2 <joe\@nowhere\.test>: Recipient address rejected: Domain not found/ ],
	[ smtpd_relay_restrictions => 'joe@far.test', qr/^554 5\.7\.1 <joe\@far\.test>: Relay access denied/ ],
	[ 'virtual_mailbox_domains virtual_mailbox_maps podop' => 'nobody@example.test', qr/^550 5\.1\.1 <nobody\@example\.test>: .*User unknown in virtual mailbox table/ ],
	[ relay_domains => 'x@relay.test', qr/^250/ ], [ recipient_delimiter => 'joe+box@example.test', qr/^250/ ]) {
	my ($names, $to, @how) = @$_;
	my $re = pop @how;
	$sys->saw($names, rcpt($to, client => $c, @how), $re, join ' ', 'mail for', $to, @how);
}
$sys->saw('mynetworks', rcpt('x@far.test', address => '192.0.2.25'), qr/^250/, 'this network may relay');
$c->ok('MAIL FROM:<Odd@far.test>');
$c->ok('RCPT TO:<info+Box@example.test>');
$c->ok('DATA');
$c->send_raw("Subject: one\r\nFrom: a\r\n\r\nhello\n.\r\nnot the end\r\n.\r\n");
$sys->saw('smtpd_forbid_bare_newline', $c->reply, qr/^250/, 'a message from outside, with a dot behind a bare newline');
my $text = message($boxes, qr/^Subject: one/m);
like $text, qr/^not the end$/m, '... which does not end it';
my $one = $boxes->message(qr/^Subject: one/m) // {};
$sys->saw('virtual_transport lmtp_host_lookup virtual_alias_maps recipient_delimiter', $one->{dialogue}, qr/^RCPT TO:<joe\@example\.test>/m, 'an alias, by LMTP; the extension is for podop');
$sys->saw('sender_canonical_maps sender_canonical_classes', $one->{from}, qr/^SRS0=x=far\.test=Odd\@example\.test$/, 'the sender, letters and all');
$sys->saw('smtpd_milters', $text, qr/^X-Spam: no$/m, 'what the milter adds');
$sys->saw('milter_protocol', slurp($milter), qr/^NEG 6 /m, 'the version for the milter');
$c->quit;

# ---- what the front end gives ----

$c = client('127.0.0.1', port => 10025);
$sys->saw('smtpd_authorized_xclient_hosts', $c->{ehlo}, qr/^250-XCLIENT /m, 'the front end may say who the client is');
$sys->saw('10025:smtpd_discard_ehlo_keywords', $c->{ehlo} !~ /PIPELINING/, 'words that are not said');
sub submission {
	my ($user) = @_;
	my $s = $sys->client(port => 10025);
	$s->cmd('EHLO front.test');
	$s->cmd("XCLIENT ADDR=198.51.100.8 NAME=[UNAVAILABLE] LOGIN=$user");
	$s->cmd('EHLO client.far.test');
	return $s;
}
my $s = submission('joe@example.test');
$sys->saw('smtpd_sender_login_maps 10025:smtpd_client_restrictions 10025:smtpd_sasl_auth_enable', rcpt('x@far.test', client => $s, from => 'ann@example.test'),
	qr/^553 5\.7\.1 <ann\@example\.test>: Sender address rejected: not owned by user joe\@example\.test/, 'the sender of somebody else');
$sys->saw('10025:smtpd_client_restrictions', rcpt('x@far.test', client => $s, from => 'nobody@example.test'), qr/^550 5\.1\.0 <nobody\@example\.test>: Sender address rejected: User unknown/, 'a sender that there is not');
$sys->saw('10025:smtpd_reject_unlisted_recipient', rcpt('nobody@example.test', client => $s, from => 'joe@example.test'), qr/^250/, 'a recipient that there is not');
my $fast = submission('fast@example.test');
$sys->saw('check_ratelimit 10025:smtpd_client_restrictions', rcpt('x@far.test', client => $fast, from => 'joe@example.test'), qr/^554 5\.7\.1 <fast\@example\.test>: .*too fast/, 'the limit of a user');
$fast->quit;

# one message for all that is far
my @far = map { "x\@$_" } qw(far.test sts.test wrong.test daneless.test signed.example bad.signed.example plain.test login.test clear.test polite.test);
like $s->mail('joe@example.test', [ @far, 'a@turtle.test', 'b@turtle.test', 'SRS0=x=far.test=Odd@example.test' ], "Subject: out\nX-Originating-IP: 10.0.0.1\nX-Other: y\nFrom: joe\n\nhello"), qr/^250/, 'a message of a user';
$text = message($hop{25}, qr/^Subject: out/m);
$sys->saw('10025:cleanup_service_name outclean:header_checks', $text !~ /X-Originating-IP/ && $text =~ /^X-Other: y$/m, 'without what stays inside');
$sys->saw('milter_mail_macros', slurp($milter), qr/^MACRO MAIL .*\{auth_authen\}=joe\@example\.test \{client_addr\}=198\.51\.100\.8 /m, 'the login, for the milter');
$sys->saw('recipient_canonical_maps recipient_canonical_classes', $hop{25}->message(qr/^RCPT TO:<Odd\@far\.test>/m), 'an address of SRS goes home');
$sys->saw('smtp_tls_security_level smtp_tls_dane_insecure_mx_policy smtp_tls_CApath smtp_tls_loglevel', $sys->wait_log(qr/(\w+ TLS connection established to mx\.far\.test\[203\.0\.113\.10\]:25: TLSv1.*)/), qr/TLSv1\.3/, 'TLS where no DNSSEC is') or diag $sys->log_tail;
$sys->saw('smtp_tls_policy_maps', status('x@sts.test'), qr/status=sent/, 'a policy of MTA-STS that is kept');
$sys->saw('smtp_tls_policy_maps', status('x@wrong.test'), qr/status=deferred \(Server certificate not verified|status=deferred \(MX name/, '... and one that is not');
$sys->saw('smtp_tls_policy_maps', status('x@daneless.test'), qr/status=deferred .*TLSA|status=deferred .*DNSSEC|status=deferred .*non DNSSEC/, 'DANE where there is none');
$sys->saw('smtp_dns_support_level smtp_tls_security_level smtp_host_lookup', status('x@signed.example'), qr/status=sent/, 'DANE');
ok $sys->wait_log(qr/Verified TLS connection established to good\.signed\.example/), '... verified';
$sys->saw('smtp_dns_support_level smtp_tls_security_level', status('x@bad.signed.example'), qr/status=deferred \(Server certificate not verified\)/, 'DANE with another certificate');
$sys->saw('smtp_tls_policy_maps', status('x@plain.test'), qr/status=sent/, 'a domain without TLS') && $sys->wait_log(qr/to=<x\@plain\.test>/);
$sys->saw('smtp_sasl_auth_enable smtp_sasl_password_maps smtp_sasl_tls_security_options', status('x@login.test'), qr/status=sent/, 'a login, in TLS');
$sys->saw('smtp_sasl_security_options', status('x@clear.test'), qr/status=deferred \(SASL authentication failed.* no mechanism available/i, 'and none in plain text');
$sys->saw('transport_maps', $hop{13}->message(qr/^RCPT TO:<x\@polite\.test>/m), 'where the tables say');
$sys->saw('polite:syslog_name', $sys->wait_log(qr{postfix-polite/smtp\[\d+\]: \w+: to=<x\@polite\.test>}), 'the name in the log');
$sys->saw('turtle:syslog_name', $sys->wait_log(qr{postfix-turtle/smtp\[\d+\]: \w+: to=<[ab]\@turtle\.test>}), 'the name in the log');
$s->quit;

# ---- delays, and a milter that is gone ----

$s = client('127.0.0.1');
like $s->mail('joe@example.test', 'late@relay.test', "Subject: late\nFrom: c\n\nhello"), qr/^250/, 'a message';
$sys->saw('myorigin mydomain', message($hop{13}, qr/^Subject: late/m), qr/^From: c\@example\.test$/m, 'names that are completed');
$sys->advance(400);
$sys->command('postqueue', '-f');
$sys->saw('delay_warning_time', message($boxes, qr/^Subject: Delayed Mail \(still being retried\)/m), qr/^<x\@(?:clear|wrong|daneless)\.test>: /m, 'the sender is told after five minutes');
$sys->saw('notify_classes', message($boxes, qr/^Subject: Postmaster (?:Warning|Copy).*(?:Delayed|delayed)/m), qr/./, 'and so is the postmaster');
Posthaste::end_child($sys->{last_milter});
$sys->saw('milter_default_action', rcpt('joe@example.test'), qr/^4\d1 4\.7\.1 |^421 /, 'without the milter nothing is taken');
is $sys->stop, 0, 'stop';
$far->stop;
is $sys->crashes, '', 'nothing crashed';
my $qmgr = 'the queue manager reads it in main.cf';
$sys->unseen(alias_maps => 'empty: there are none', mydestination => 'the same', relayhost => 'the same', virtual_alias_domains => 'the same', 'outclean:nested_header_checks' => 'as header_checks of main.cf, empty',
	compatibility_level => 'as without', maillog_file => 'the story keeps its own', queue_directory => 'the same', postscreen_upstream_proxy_protocol => 'no service is postscreen\'s',
	smtp_tls_session_cache_database => 'the delivering processes remember sessions themselves', smtpd_tls_session_cache_database => 'the front end has TLS',
	tls_high_cipherlist => 'the suites of TLS 1.3 are not chosen', tls_preempt_cipherlist => 'the front end has TLS', tls_ssl_options => 'the same',
	smtp_tls_protocols => 'there is nothing that old', smtp_tls_mandatory_protocols => 'the same', unverified_recipient_reject_reason => 'no restriction verifies recipients',
	map({ ("polite:polite_destination_$_" => $qmgr, "turtle:turtle_destination_$_" => $qmgr) } qw(concurrency_failed_cohort_limit concurrency_limit rate_delay recipient_limit)));
$sys->account;
done_testing;
