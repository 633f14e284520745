#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# YunoHost's configuration (t/systems/yunohost) at work, between test servers in the place of its OpenLDAP tree, postsrsd,
# OpenDKIM, Dovecot, block lists and the relay that it sends through. Each setting is seen to do what it says.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use MailSystem;
use Posthaste qw(slurp spew wait_until run_ok);
use Servers;
use Test::More;

my $srs = 'SRS0=abcd=XY=far.test=stranger@example.test';
my $ldap = "server_host = ldap://127.0.0.1:1389\nsearch_base = dc=test\nbind_dn = cn=reader,dc=test\nbind_pw = sesame\n";
my $keep = "#!/bin/sh\nf=\$(mktemp /var/vmail/XXXXXX)\n{ echo \${0##*/} \$(id -un) \$(id -gn); for a; do echo \"[\$a]\"; done; echo; cat; } > \$f\nmv \$f \$f.done\n";
my $sys = MailSystem->new('yunohost', users => ['vmail:930'], names => ['example.test'],
	zone => <<'EOF',
relay.example.test A 203.0.113.9
far.test MX 10 mx.far.test
mx.far.test A 203.0.113.10
client.far.test A 198.51.100.7
7.100.51.198.in-addr.arpa PTR client.far.test
66.100.51.198.bl.spamcop.net A 127.0.0.2
66.100.51.198.bl.spamcop.net TXT "listed for a test"
67.100.51.198.cbl.abuseat.org A 127.0.0.2
68.100.51.198.zen.spamhaus.org A 127.0.0.4
EOF
	files => {
		'/etc/postfix/tables/aliases' => "root: joe\@example.test\n", '/etc/postfix/tables/relay_recipients' => "known\@backup.example.test ok\n",
		'/etc/postfix/tables/sasl_passwd' => "[relay.example.test]:587 yuno:good\n", '/etc/postfix/tables/app_senders_login_maps' => "app\@example.test app\n",
		'/etc/postfix/tables/header_checks' => "/^X-Secret:/ IGNORE\n", '/etc/postfix/virtual-mailbox-domains' => "example.test\n",
		'/etc/postfix/tables/smtp_reply_filter' => "/^554 5\\.7\\.1 (.*spam.*)/ 450 4.7.1 \$1\n",
		'/etc/postfix/tables/sni' => "other.example.test /mnt/story/certs/other.pem\n",
		'/etc/postfix/tables/ldap-accounts' => "${ldap}query_filter = (&(objectClass=inetOrgPerson)(mail=%s))\nresult_attribute = uid\n",
		'/etc/postfix/tables/ldap-aliases' => "${ldap}query_filter = (&(objectClass=inetOrgPerson)(mail=%s))\nresult_attribute = departmentNumber\nresult_format = %s\@example.test\n",
		'/etc/postfix/tables/ldap-groups' => "${ldap}query_filter = (&(objectClass=groupOfNames)(description=%s))\nspecial_result_attribute = member\n"
			. "result_attribute = departmentNumber\nresult_format = %s\@example.test\n",
		'/usr/lib/dovecot/deliver' => [ $keep, 0755 ], '/usr/bin/procmail' => [ $keep, 0755 ],
	});

# ---- what stands around it ----

mkdir '/var/vmail';
chmod 0777, '/var/vmail';
my $slapd = Servers->new('slapd', $sys->{dir}) or plan skip_all => 'no slapd';
my $person = sub { my ($uid, @mail) = @_; join "\n", "dn: uid=$uid,dc=test\nobjectClass: inetOrgPerson\nuid: $uid\ncn: x\nsn: x\ndepartmentNumber: $uid", map { "mail: $_" } @mail };
$slapd->{port} = 1389;
$slapd->{ldif} = join "\n\n", "dn: dc=test\nobjectClass: dcObject\nobjectClass: organization\no: test\ndc: test",
	"dn: cn=reader,dc=test\nobjectClass: person\ncn: reader\nsn: r\nuserPassword: sesame",
	$person->('joe', 'joe@example.test', 'info@example.test'), $person->('ann', 'ann@example.test'),
	"dn: cn=team,dc=test\nobjectClass: groupOfNames\ncn: team\ndescription: team\@example.test\nmember: uid=joe,dc=test\nmember: uid=ann,dc=test\n";
$slapd->begin;
my ($certs, $dir) = @$sys{qw(certs dir)};
$certs->cert('other', ca => 'ca', names => ['other.example.test']);
$certs->cert('relay', ca => 'ca', names => ['relay.example.test']);
spew('/etc/ssl/site.crt', slurp("$dir/certs/ca.crt")); # of the authority
spew('/etc/ssl/site.pem', slurp("$dir/certs/site.key") . slurp("$dir/certs/site.crt"));
run_ok('mkdir', '-p', '/usr/share/yunohost');
run_ok('openssl', 'genpkey', '-genparam', '-algorithm', 'DH', '-pkeyopt', 'group:ffdhe2048', '-out', '/usr/share/yunohost/ffdhe2048.pem');
$sys->table_server('tcp', 10001, "stranger\@far.test\t$srs\n");
$sys->table_server('tcp', 10002, "$srs\tstranger\@far.test\n" . lc($srs) . "\tfolded\@far.test\n"); # smtpd asks in lower case
my $milter = $sys->milter(8891, "EOM addheader X-Signed by the milter; continue\n");
my ($queue) = readlink("$dir/spool") =~ m{^(/\S+)$}m;
$sys->dovecot_auth("$queue/private/auth");
$sys->dovecot_auth("$dir/relay-auth");
my $hop = $sys->hop('203.0.113.25:25');
my $relay = MailSystem::in_world(sub { return Posthaste->start(
	main => { smtpd_sasl_auth_enable => 'yes', smtpd_sasl_type => 'dovecot', smtpd_sasl_path => "unix:$dir/relay-auth", smtpd_relay_restrictions => 'permit_sasl_authenticated, reject',
		smtpd_tls_security_level => 'may', smtpd_tls_wrappermode => 'yes', smtpd_tls_chain_files => "$dir/certs/relay.pem", relayhost => '[203.0.113.25]',
		smtpd_recipient_restrictions => 'check_recipient_access inline:{{bad@far.test=REJECT looks like spam}}', smtpd_tls_loglevel => 1, mynetworks => '192.0.2.200' },
	master => "203.0.113.9:587 inet n - n - - smtpd\n") });
for my $name (qw(relay_recipients sasl_passwd app_senders_login_maps)) {
	$sys->command('postmap', "hash:/etc/postfix/tables/$name");
}
$sys->command('postmap', '-F', 'hash:/etc/postfix/tables/sni');
my ($rc, $out) = run_ok(Posthaste::prefix() . '/sbin/newaliases', '-C', '/etc/postfix');
$sys->saw('alias_database', $rc == 0 && glob('/etc/postfix/tables/aliases.*'), 'newaliases makes its file') or diag $rc, $out, glob '/etc/postfix/tables/*';
$slapd->start;
$sys->launch;

# ---- mail from outside ----

sub client { my ($from) = @_; my $c = $sys->client(from => $from // '198.51.100.7'); $c->{ehlo} = $c->cmd('EHLO client.far.test'); return $c }

# The reply that a recipient gets, or its sender.
sub rcpt {
	my ($to, %o) = @_;
	my $c = $o{client} // client($o{address});
	$c->cmd("EHLO $o{helo}") if $o{helo};
	my $r = $c->cmd('MAIL FROM:<' . ($o{from} // 'stranger@far.test') . '>');
	$r = $c->cmd("RCPT TO:<$to>") if $r =~ /^250/;
	$c->cmd('RSET');
	$c->quit if !$o{client};
	return $r;
}

# Waits, and lets time pass in steps: mail for a destination goes every five seconds.
sub in_time {
	my ($what) = @_;
	for (1 .. 8) {
		my $found = wait_until($what, 0.25);
		return $found if $found;
		$sys->advance(6);
	}
	return wait_until($what, 20);
}
sub kept { return map { slurp($_) } glob '/var/vmail/*.done' }
sub delivered { my ($re) = @_; return in_time(sub { (grep { $_ =~ $re } kept())[0] }) // '' }

my $c = client();
$sys->saw('smtpd_banner myhostname inet_interfaces', $c->{banner}, qr/^220 example\.test Service ready$/, 'the banner');
$sys->saw('message_size_limit', $c->{ehlo}, qr/^250[ -]SIZE 35914708\r$/m, 'the size in EHLO');
$sys->saw('smtpd_tls_security_level smtpd_use_tls', $c->{ehlo}, qr/^250[ -]STARTTLS\r$/m, 'TLS is offered');
$sys->saw('smtpd_tls_auth_only', $c->{ehlo} !~ /AUTH/, 'logins are not, in plain text');
$sys->saw('disable_vrfy_command', $c->cmd('VRFY joe'), qr/^502 5\.5\.1 VRFY command is disabled$/, 'VRFY');
$sys->saw('strict_rfc821_envelopes', $c->cmd('MAIL FROM:stranger@far.test'), qr/^501 /, 'an address without brackets');
my $bare = $sys->client(from => '198.51.100.7');
$sys->saw('smtpd_helo_required', $bare->cmd('MAIL FROM:<stranger@far.test>'), qr/^503 5\.5\.1 Error: send HELO\/EHLO first/, 'MAIL without HELO');
$bare->quit;
$sys->saw('smtpd_helo_restrictions smtpd_delay_reject', rcpt('joe@example.test', helo => 'short', client => $c),
	qr/^504 5\.5\.2 <short>: Helo command rejected: need fully-qualified hostname/, 'HELO without a domain, told at RCPT');
like rcpt('joe@example.test', helo => '-bad-', client => $c), qr/^50[14] 5\.5\.2 <-bad->: Helo command rejected/, 'HELO that is no name';
$c->cmd('EHLO client.far.test');
my @refused = (
	[ smtpd_sender_restrictions => 'joe@example.test', from => 'x@nowhere.test', qr/^450 4\.1\.8 <x\@nowhere\.test>: Sender address rejected: Domain not found/ ],
	[ smtpd_sender_restrictions => 'joe@example.test', from => 'x', qr/^504 5\.5\.2 <x>: Sender address rejected: need fully-qualified address/ ],
	[ smtpd_sender_login_maps => 'ann@example.test', from => 'joe@example.test', qr/^553 5\.7\.1 <joe\@example\.test>: Sender address rejected: not logged in/ ],
	[ smtpd_sender_login_maps => 'ann@example.test', from => 'app@example.test', qr/^553 5\.7\.1 <app\@example\.test>: Sender address rejected: not logged in/ ],
	[ smtpd_recipient_restrictions => 'joe', qr/^504 5\.5\.2 <joe>: Recipient address rejected/ ],
	[ smtpd_recipient_restrictions => 'joe@far.test', qr/^454 4\.7\.1 <joe\@far\.test>: Relay access denied/ ],
	[ 'virtual_mailbox_maps virtual_mailbox_domains' => 'nobody@example.test', qr/^550 5\.1\.1 <nobody\@example\.test>: .*User unknown in virtual mailbox table/ ],
	[ relay_recipient_maps => 'known@backup.example.test', qr/^250/ ],
	[ 'relay_domains relay_recipient_maps' => 'x@backup.example.test', qr/^550 5\.1\.1 .*User unknown in relay recipient table/ ],
	map({ [ smtpd_client_restrictions => 'joe@example.test', address => "198.51.100.$_->[0]",
		qr/^554 5\.7\.1 Service unavailable; Client host \[198\.51\.100\.$_->[0]\] blocked using \Q$_->[1]\E/ ] } [ 66, 'bl.spamcop.net' ], [ 67, 'cbl.abuseat.org' ], [ 68, 'zen.spamhaus.org' ]),
);
my $mistakes = 0;
for (@refused) {
	my ($names, $to, @how) = @$_;
	$c->quit, $c = client() if ++$mistakes % 8 == 0; # who makes more of them has to wait
	my $re = pop @how;
	my %how = @how;
	$sys->saw($names, rcpt($to, $how{address} ? () : (client => $c), %how), $re, join ' ', 'mail for', $to, @how);
}
like $c->mail('stranger@far.test', 'info+Box@example.test', "Subject: one\nX-Secret: 1\n\nhello"), qr/^250/, 'a message from outside';
my $got = delivered(qr/^Subject: one/m);
$sys->saw('virtual_transport virtual_alias_maps recipient_delimiter sender_canonical_maps sender_canonical_classes', $got,
	qr/^deliver vmail mail\n\[-f\]\n\[\Q$srs\E\]\n\[-d\]\n\[joe\@example\.test\]\n\[-m\]\n\[box\]\n\[-a\]\n\[joe\+box\@example\.test\]\n/i, 'the words of the command');
like $got, qr/^Return-Path: <\Q$srs\E>\n(?:X-Original-To: .*\n)?Delivered-To: joe\+box\@example\.test\n/mi, 'what its flags say';
$sys->saw('smtpd_milters', $got, qr/^X-Signed: by the milter$/m, 'what the milter adds');
like $got, qr/^X-Secret: 1$/m, 'what is removed on the way out stays';
$sys->saw('milter_protocol', slurp($milter), qr/^NEG 6 /m, 'the version for the milter');
like $c->mail('stranger@far.test', 'team@example.test', "Subject: two\n\nhello"), qr/^250/, 'a group';
delivered(qr/\[-d\]\n\[$_\@example\.test\].*^Subject: two/ms) || fail("no mail for $_") for qw(joe ann);
$sys->saw('dovecot_destination_recipient_limit', 2 == grep({ /^Subject: two/m } kept()), 'each has a process of their own');
$c->quit;
$sys->saw('mynetworks', rcpt('x@far.test', address => '127.0.0.1'), qr/^250/, 'this machine may relay');

# ---- local users ----

($rc, $out) = $sys->sendmail('root', "Subject: local\nFrom: a\@host\nTo: $srs\n\nhello\n", '-f', 'stranger@far.test', 'root@localhost', 'games+Ext@localhost');
is $rc, 0, 'sendmail' or diag $out;
$sys->saw('alias_maps mydestination', delivered(qr/^deliver.*^Subject: local/ms), qr/\[joe\@example\.test\]/, 'an alias');
$got = delivered(qr/^procmail.*^Subject: local/ms);
$sys->saw('mailbox_command mailbox_size_limit', $got, qr/^procmail games \w+\n\[-a\]\n\[Ext\]\n/i, 'the mailbox of a user');
$sys->saw('non_smtpd_milters', $got, qr/^X-Signed: by the milter$/m, 'what the milter adds') or diag $sys->log_tail, slurp($milter);
$sys->saw('recipient_canonical_maps recipient_canonical_classes', $got, qr/^To: stranger\@far\.test$/m, 'an address of postsrsd in the header');
$sys->saw('append_dot_mydomain', $got, qr/^From: a\@host$/m, 'a name without a domain stays so');

# ---- TLS and logins ----

my $s = $sys->client(port => 587, from => '198.51.100.8');
$s->ok('EHLO client.far.test');
$sys->saw('submission:smtpd_tls_security_level', $s->cmd('MAIL FROM:<joe@example.test>'), qr/^530 5\.7\.0 Must issue a STARTTLS command first$/, 'submission in plain text');
$s->quit;
$sys->saw('submission:syslog_name', $sys->wait_log(qr{postfix/submission/smtpd\[\d+\]: connect from}), 'the name in the log');
for my $port (25, 587) {
	my $old = $sys->client(port => $port, tls => 'start', openssl => ['-tls1_2']);
	$sys->saw('smtpd_tls_protocols smtpd_tls_mandatory_protocols', !defined $old, "not with TLS 1.2, at $port");
}
for my $name (qw(example.test other.example.test)) {
	my ($code, $text) = run_ok('sh', '-c', "echo QUIT | openssl s_client -connect 127.0.0.1:587 -starttls smtp -servername $name -CAfile $dir/certs/ca.crt -verify_return_error -verify_hostname $name");
	$sys->saw($name eq 'example.test' ? 'smtpd_tls_chain_files' : 'tls_server_sni_maps', $code == 0, "the certificate of $name") or diag $text;
}
$s = $sys->client(port => 587, tls => 'start', from => '198.51.100.8');
$sys->saw('smtpd_sasl_auth_enable submission:smtpd_sasl_auth_enable smtpd_sasl_type smtpd_sasl_path', $s->login('joe', 'wrong'), qr/^535 5\.7\.8 Error: authentication failed/, 'a wrong password');
my $ehlo = $s->cmd('EHLO client.far.test');
$sys->saw('broken_sasl_auth_clients', $ehlo, qr/^250-AUTH PLAIN LOGIN\r\n250-AUTH=PLAIN LOGIN\r$/m, 'mechanisms twice');
$sys->saw('smtpd_sasl_security_options', $ehlo !~ /ANONYMOUS/, 'not anonymously');
$sys->saw('smtpd_sasl_local_domain', $s->login('joe', 'good'), qr/^235 2\.7\.0 /, 'a login');
$sys->saw('smtpd_sender_restrictions', rcpt('x@far.test', from => 'ann@example.test', client => $s),
	qr/^553 5\.7\.1 <ann\@example\.test>: Sender address rejected: not owned by user joe/, 'the sender of somebody else');
like $s->mail('joe@example.test', 'x@far.test', "Subject: out\nX-Secret: 1\n\nhello"), qr/^250/, 'who has logged in may relay';
$sys->saw('smtpd_tls_loglevel', $sys->wait_log(qr{postfix/submission/smtpd\[\d+\]: Anonymous TLS connection established from \S+: TLSv1\.3 }), 'the session in the log');
$sys->saw('milter_mail_macros', slurp($milter), qr/^MACRO MAIL .*\{auth_authen\}=joe \{auth_type\}=PLAIN \{client_addr\}=198\.51\.100\.8 .*\{mail_addr\}=joe\@example\.test/m, 'the login, for the milter');

# ---- out through the relay ----

ok $sys->wait_log(qr/warning: smtp_tls_wrappermode requires "smtp_tls_security_level = encrypt" \(or stronger\)/), '"may" is a mistake with it, as with Postfix' or diag $sys->log_tail;
$sys->saw('smtp_tls_wrappermode smtp_tls_security_level', $sys->wait_log(qr/to=<x\@far\.test>.*status=deferred/), 'and mail waits');
$sys->command('postconf', '-e', 'smtp_tls_security_level=encrypt');
my %workers = map { $_->{pid} => 1 } $sys->workers;
($rc, $out) = $sys->command('posthaste', 'reload');
is $rc, 0, 'set right, and read again' or diag $out;
wait_until(sub { !grep { $workers{ $_->{pid} } && $_->{class} eq 'deliver' } $sys->workers }, 20); # others wait for open sessions
$sys->command('postqueue', '-f');
in_time(sub { $hop->got =~ /^Subject: out\r/m });
$sys->saw('relayhost smtp_tls_wrappermode', $sys->wait_log(qr/to=<x\@far\.test>, relay=relay\.example\.test\[203\.0\.113\.9\]:587, .*status=sent/), 'it goes to the relay') or diag $sys->log_tail;
$sys->saw('smtp_header_checks', $hop->got =~ /^Subject: out\r/m && $hop->got !~ /X-Secret/, 'without what stays inside');
$sys->saw('smtp_sasl_auth_enable smtp_sasl_password_maps smtp_sasl_security_options', $relay->wait_log(qr/sasl_method=PLAIN, sasl_username=yuno$/m), 'logged in there');
$sys->saw('smtp_tls_CAfile smtp_tls_loglevel', $sys->wait_log(qr/smtp\[\d+\]: Trusted TLS connection established to relay\.example\.test\[203\.0\.113\.9\]:587: TLSv1\.3/), 'the session in the log');
like $s->mail('joe@example.test', [ 'bad@far.test', $srs ], "Subject: more\n\nhello"), qr/^250/, 'two more for the relay';
in_time(sub { $sys->log =~ /to=<bad\@far\.test>.*status=/ });
$sys->saw('smtp_reply_filter', $sys->log, qr/to=<bad\@far\.test>.*dsn=4\.7\.1, status=deferred \(host .* said: 450 4\.7\.1 .*spam/, 'a reply that is changed');
ok in_time(sub { $hop->got =~ /^RCPT TO:<stranger\@far\.test>/m }), 'an address of postsrsd goes home';
my ($one, $two) = map { my $r = $s->mail('joe@example.test', "$_\@far.test", "Subject: $_\n\nhello"); $r =~ /queued as (\w+)/ } qw(first second);
ok in_time(sub { $sys->log =~ /(?:$one|$two): to=<.*status=sent/ }), 'of two for one destination one goes';
$sys->saw('default_destination_rate_delay smtp_destination_concurrency_limit', 1 == (() = $sys->log =~ /(?:$one|$two): to=<.*status=sent/g), 'the other one waits');
ok in_time(sub { $sys->log =~ /$one: to=<.*status=sent/ && $sys->log =~ /$two: to=<.*status=sent/ }), 'five seconds';
$s->quit;

# ---- limits ----

$c = client('198.51.100.9');
$c->ok('MAIL FROM:<stranger@far.test>');
$c->send_raw("RCPT TO:<joe\@example.test>\r\n" x 151);
my @replies = map { $c->reply } 1 .. 151;
like $replies[149], qr/^250/, '150 recipients';
$sys->saw('smtpd_client_recipient_rate_limit', $replies[150], qr/^45\d 4\.7\.1 Error: too many recipients from 198\.51\.100\.9/, 'and no more');
$c->quit;
Posthaste::end_child($sys->{last_milter});
$sys->saw('milter_default_action', rcpt('ann@example.test'), qr/^250/, 'mail is taken without the milter');
$sys->advance(19 * 86400);
$sys->command('postqueue', '-f');
$sys->wait_log(qr/to=<bad\@far\.test>.*status=deferred/);
$sys->advance(86400 * 1.1);
$sys->command('postqueue', '-f');
$sys->saw('maximal_queue_lifetime', in_time(sub { $sys->log =~ /from=<joe\@example\.test>, status=expired, returned to sender/ }), 'after twenty days') or diag $sys->log_tail;
is $sys->stop, 0, 'stop';
$relay->stop;
is $sys->crashes, '', 'nothing crashed';
$sys->unseen(biff => 'nobody is logged in here', readme_directory => 'no program reads it', mydomain => 'no setting uses it',
	smtpd_tls_session_cache_database => 'sessions are in tickets', smtp_tls_session_cache_database => 'the delivering processes remember sessions themselves',
	smtpd_tls_dh1024_param_file => 'TLS 1.3 alone is spoken, and has its own groups', smtpd_tls_mandatory_ciphers => 'the suites of TLS 1.3 are not chosen',
	tls_medium_cipherlist => 'the same', tls_preempt_cipherlist => 'it is as without', smtp_tls_mandatory_ciphers => 'the relay offers no others', smtp_tls_exclude_ciphers => 'the same',
	smtpd_tls_CAfile => 'no client is asked for a certificate', virtual_alias_domains => 'empty: there are none',
	(map { $_ => 'of the virtual service, which is not used' } qw(virtual_gid_maps virtual_uid_maps virtual_minimum_uid virtual_mailbox_base)));
$sys->account;
done_testing;
