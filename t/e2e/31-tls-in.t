#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# TLS of the SMTP server with OpenSSL's client: replies, Received header and log lines, client
# certificates, wrapper mode, and what strangers do to a handshake: input behind STARTTLS, garbage,
# stalls, hundreds of half ones.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port);
use Test::More;
use File::Temp qw(tempdir);
use IO::Socket::INET;
use Socket;

my $dir = tempdir('posthaste-tls-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
$SIG{PIPE} = 'IGNORE';

# ---- certificates ----

sub openssl {
	my ($rc, $out) = Posthaste::run_ok('openssl', @_);
	die "openssl @_: $out" if $rc != 0;
	return $out;
}

sub certificate {
	my ($name, $cn, $kind) = @_;
	my @key = $kind eq 'rsa' ? ('rsa:2048') : ('ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1');
	openssl('req', '-x509', '-newkey', @key, '-nodes', '-days', 30, '-subj', "/O=Test/CN=$cn",
		'-keyout', "$dir/$name.key", '-out', "$dir/$name.crt");
	spew("$dir/$name.pem", slurp("$dir/$name.key") . slurp("$dir/$name.crt"));
	chmod 0600, "$dir/$name.key", "$dir/$name.pem"; # root's alone
	return;
}

certificate('rsa', 'mx.posthaste.test', 'rsa');
certificate('ec', 'mx.posthaste.test', 'ec');
certificate('other', 'other.test', 'ec');
certificate('client', 'client.test', 'ec');
certificate('wrong', 'wrong.test', 'ec');

sub fingerprint {
	my ($out) = openssl('x509', '-in', "$dir/$_[0].crt", '-noout', '-fingerprint', '-sha256');
	return $out =~ /=([\dA-F:]+)/ ? $1 : die $out;
}

# ---- a client of TLS: openssl between two sockets ----

package TlsClient;
our @ISA = ('Posthaste::Client');
use Socket;
use IO::Handle;

sub new {
	my ($class, $port, @args) = @_;
	my $starttls = !(@args && $args[0] eq '-wrapped' && shift @args);
	socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		open STDIN, '<&', $theirs;
		open STDOUT, '>&', $theirs;
		open STDERR, '>', '/dev/null';
		exec 'openssl', 's_client', '-quiet', '-connect', "127.0.0.1:$port",
			($starttls ? ('-starttls', 'smtp', '-name', 'client.test') : ()), @args or POSIX::_exit(71);
	}
	close $theirs;
	$ours->autoflush(1);
	my $self = bless { sock => $ours, pid => $pid }, $class;
	$self->{banner} = $self->reply unless $starttls;
	return $self;
}

sub end { my ($self) = @_; close $self->{sock}; kill 'TERM', $self->{pid}; waitpid $self->{pid}, 0; return }

package main;

my $got = Posthaste->recorder;
my %main = (
	smtpd_tls_security_level => 'may',
	smtpd_tls_cert_file => "$dir/rsa.crt", smtpd_tls_key_file => "$dir/rsa.key",
	smtpd_tls_eccert_file => "$dir/ec.crt", smtpd_tls_eckey_file => "$dir/ec.key",
	smtpd_tls_loglevel => 'summary, peercert', smtpd_tls_received_header => 'yes',
	relayhost => "[127.0.0.1]:$got->{port}",
);
my %port = map { $_ => free_port() } qw(encrypt wrapped ask require);
my $mta = Posthaste->prepare(main => \%main);
my $line = "127.0.0.1:%d inet n - n - - smtpd\n";
my $master = sprintf($line, $mta->{port})
	. sprintf($line, $port{encrypt}) . " -o smtpd_tls_security_level=encrypt -o syslog_name=postfix/submission\n"
	. sprintf($line, $port{wrapped}) . " -o smtpd_tls_wrappermode=yes\n"
	. sprintf($line, $port{ask}) . " -o smtpd_tls_ask_ccert=yes -o smtpd_tls_CAfile=$dir/client.crt\n"
	. sprintf($line, $port{require}) . " -o smtpd_tls_security_level=encrypt -o smtpd_tls_req_ccert=yes -o smtpd_tls_CAfile=$dir/client.crt\n";
spew("$mta->{dir}/conf/master.cf", $master);
$mta->launch;

subtest 'STARTTLS' => sub {
	my $c = TlsClient->new($mta->{port});
	my $ehlo = $c->cmd('EHLO client.test');
	unlike($ehlo, qr/STARTTLS/, 'not offered twice');
	is($c->cmd('STARTTLS'), '554 5.5.1 Error: TLS already active', 'nor done twice');
	like($c->mail('a@client.test', 'b@there.test', "Subject: one\n\nx"), qr/^250 /, 'a message');
	$c->quit; $c->end;
	ok($mta->wait_log(qr/Anonymous TLS connection established from unknown\[127\.0\.0\.1\].*: TLSv1\.3 with cipher TLS_AES_256_GCM_SHA384 \(256\/256 bits\) key-exchange X25519 server-signature (?:ECDSA \(prime256v1\)|RSA-PSS \(2048 bits\)) server-digest SHA256$/m), 'the log');
	for my $hash (256, 512) {
		$c = TlsClient->new($mta->{port}, '-sigalgs', "RSA-PSS+SHA$hash");
		$c->cmd('EHLO client.test');
		$c->quit; $c->end;
		ok($mta->wait_log(qr/server-signature RSA-PSS \(2048 bits\) server-digest SHA$hash$/m), "signed with SHA-$hash");
	}
	ok($mta->wait_log(qr/disconnect from .* ehlo=2 starttls=1\/2 mail=1 rcpt=1 data=1 quit=1/), 'the counts');
};

subtest 'resumption, in any process' => sub {
	for my $version (qw(tls1_2 tls1_3)) {
		my $session = "$dir/session.$version";
		for my $args ([ '-sess_out', $session ], [ '-sess_in', $session ]) {
			my $c = TlsClient->new($mta->{port}, "-$version", @$args);
			like($c->cmd("EHLO $version"), qr/^250/, "$version @$args");
			$c->quit; $c->end;
		}
		ok($mta->wait_log(qr/TLS connection reused from .*: TLSv1\.\Q@{[ substr $version, -1 ]}\E/), "$version: resumed");
	}
};

subtest 'versions, suites and keys' => sub {
	my %want = (
		'-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256' => 'TLSv1.2 with cipher ECDHE-RSA-AES128-GCM-SHA256 (128/128 bits)',
		'-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384' => 'TLSv1.2 with cipher ECDHE-ECDSA-AES256-GCM-SHA384 (256/256 bits)',
		'-ciphersuites TLS_AES_128_GCM_SHA256 -groups P-256' => 'TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128/128 bits)',
	);
	for my $args (sort keys %want) {
		my $c = TlsClient->new($mta->{port}, split / /, $args);
		like($c->cmd('EHLO x'), qr/^250/, $args);
		$c->quit; $c->end;
		ok($mta->wait_log(qr/\Q$want{$args}\E/), $want{$args});
	}
	for my $args ('-tls1_1 -cipher DEFAULT@SECLEVEL=0', '-tls1_2 -cipher eNULL@SECLEVEL=0', '-tls1_2 -cipher aNULL@SECLEVEL=0') {
		my $c = TlsClient->new($mta->{port}, split / /, $args);
		ok(!defined $c->cmd('EHLO x'), "$args: refused");
		$c->end;
	}
	ok($mta->wait_log(qr/SSL_accept error from unknown\[127\.0\.0\.1\]: -1/), 'the log');
	ok($mta->wait_log(qr/warning: TLS library problem: /), 'and why');
	ok($mta->wait_log(qr/lost connection after STARTTLS from unknown/), 'and the end');
};

subtest 'encrypt, and from the first byte' => sub {
	my $c = $mta->smtp($port{encrypt});
	like($c->cmd('EHLO x'), qr/^250[- ]STARTTLS\r?$/m, 'offered');
	is($c->cmd('MAIL FROM:<a@b.test>'), '530 5.7.0 Must issue a STARTTLS command first', 'has to begin');
	like($c->cmd('NOOP'), qr/^250 /, 'but NOOP');
	is($c->cmd('STARTTLS x'), '501 5.5.4 Syntax: STARTTLS', 'syntax');
	$c->quit;
	$c = TlsClient->new($port{encrypt});
	like($c->cmd('MAIL FROM:<a@b.test>'), qr/^(?:250|503)/, 'then mail');
	$c->quit; $c->end;
	ok($mta->wait_log(qr{postfix/submission/smtpd\[\d+\]: Anonymous TLS connection}), 'as its service');
	$c = TlsClient->new($port{wrapped}, '-wrapped');
	like($c->{banner}, qr/^220 mx\.posthaste\.test/, 'a greeting inside');
	unlike($c->cmd('EHLO x'), qr/STARTTLS/, 'no STARTTLS there');
	$c->quit; $c->end;
	my $plain = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port{wrapped}") or die;
	print $plain "EHLO x\r\n";
	my $answer = do { local $/; <$plain> } // '';
	unlike($answer, qr/^\d\d\d/m, 'nothing is said in plain text');
	ok($mta->wait_log(qr/lost connection after CONNECT from/), 'the log');
};

subtest 'certificates of clients' => sub {
	my @own = ('-cert', "$dir/client.crt", '-key', "$dir/client.key");
	my @wrong = ('-cert', "$dir/wrong.crt", '-key', "$dir/wrong.key");
	my $print = fingerprint('client');

	my $c = TlsClient->new($port{ask}, @own);
	like($c->mail('cert@client.test', 'b@there.test', "Subject: two\n\nx"), qr/^250/, 'with one');
	$c->quit; $c->end;
	ok($mta->wait_log(qr/Trusted TLS connection established from/), 'trusted');
	ok($mta->wait_log(qr/subject_CN=client\.test, issuer=client\.test, fingerprint=\Q$print\E/), 'its names');
	$c = TlsClient->new($port{ask}, @wrong);
	like($c->cmd('EHLO x'), qr/^250/, 'with a wrong one');
	$c->quit; $c->end;
	ok($mta->wait_log(qr/Untrusted TLS connection established from/), 'untrusted');
	$c = TlsClient->new($port{require}, @own);
	like($c->cmd('EHLO x'), qr/^250/, 'required and there');
	$c->quit; $c->end;
	$c = TlsClient->new($port{require}, @wrong);
	is($c->cmd('EHLO x'), '421 4.7.1 mx.posthaste.test Error: Client certificate not trusted', 'required and wrong');
	$c->end;
	$c = TlsClient->new($port{require});
	is($c->cmd('EHLO x'), '421 4.7.1 mx.posthaste.test Error: No client certificate presented', 'required and missing');
	$c->end;
	ok($mta->wait_log(qr/NOQUEUE: abort: TLS from unknown\[127\.0\.0\.1\]: No client certificate presented/), 'the log');
};

subtest 'what the next hop gets' => sub {
	ok(wait_until(sub { $got->got =~ /^Subject: two\r?\n.*^\.\r?\n/ms }), 'both messages');
	my $text = $got->got =~ s/\r//gr;
	like($text, qr/^\t\(using TLSv1\.3 with cipher TLS_AES_256_GCM_SHA384 \(256\/256 bits\)\n\t key-exchange X25519 server-signature (?:ECDSA \(prime256v1\)|RSA-PSS \(2048 bits\)) server-digest SHA256\)\n\t\(No client certificate requested\)\n\tby mx\.posthaste\.test \(Posthaste\) with ESMTPS id/m, 'Received of the first');
	like($text, qr/^\t\(Client CN "client\.test", Issuer "client\.test" \(verified OK\)\)\n/m, 'and of the second');
};

subtest 'input behind STARTTLS' => sub {
	my $c = $mta->smtp;
	$c->ok('EHLO x');
	$c->send_raw("STARTTLS\r\nMAIL FROM:<injected\@client.test>\r\nRCPT TO:<b\@there.test>\r\n");
	is($c->reply, '220 2.0.0 Ready to start TLS', 'one reply');
	$c->send_raw("QUIT\r\n"); # no record
	ok($mta->wait_log(qr/SSL_accept error/), 'no handshake');
	unlike($mta->log, qr/injected/, 'and nothing was taken');
};

subtest 'garbage, stalls, half handshakes' => sub {
	my @before = map { "$_->{class} $_->{pid}" } $mta->workers;
	for my $bytes ("\x16\x03\x01\x40\x01" . "\0" x 100, "\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", "\x80\x2e\x01\x03\x01", "\x16\x03\x01\x00\x00",
			"\x15\x03\x01\x00\x02\x01\x00", map { join '', map { chr rand 256 } 1 .. 300 } 1 .. 20) {
		my $c = $mta->smtp;
		$c->ok('EHLO x');
		$c->ok('STARTTLS');
		$c->send_raw($bytes);
		shutdown $c->{sock}, 1;
		eval { $c->reply };
	}
	my @half;
	for (1 .. 300) {
		my $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port{wrapped}") or last;
		syswrite $c, "\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03";
		push @half, $c;
	}
	my $c = TlsClient->new($mta->{port});
	like($c->cmd('EHLO x'), qr/^250/, 'others are served beside half handshakes');
	$c->quit; $c->end;
	my $stalled = @half;
	$mta->advance(301);
	ok(wait_until(sub { my $n = () = $mta->log =~ /SSL_accept error from unknown\[127\.0\.0\.1\]: Connection timed out/g; $n >= 40 }),
		"$stalled that stall are ended");
	is_deeply([ map { "$_->{class} $_->{pid}" } $mta->workers ], \@before, 'by the same processes');
	@half = ();
};

subtest 'bad keys' => sub {
	spew("$dir/bad.pem", slurp("$dir/client.key") . slurp("$dir/ec.crt"));
	$mta->configure(%main, smtpd_tls_chain_files => "$dir/bad.pem");
	spew("$mta->{dir}/conf/master.cf", $master);
	my ($rc, $out) = $mta->command('posthaste', 'reload');
	isnt($rc, 0, 'a reload fails');
	like($out . $mta->log, qr/\Q$dir\E\/bad\.pem: parameter smtpd_tls_chain_files: private key and certificate do not belong together/, 'and says why');
	my $c = TlsClient->new($mta->{port});
	like($c->cmd('EHLO x'), qr/^250/, 'the old keys stay');
	$c->quit; $c->end;
};
if ($mta->refusals) { my $l = $mta->log; $l =~ /((?:.*\n){6}.*system call filter.*\n(?:.*\n){3})/; diag($1) }
is($mta->refusals, 0, 'nothing refused by the sandbox') if $mta->can('refusals');
$mta->stop;
ok(!$mta->crashes, 'no crashes');
done_testing;
