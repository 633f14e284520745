#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Logins: users in sasldb, behind saslauthd and behind Dovecot; the replies and log lines of Debian's Postfix; back ends
# that hang, die and talk nonsense, and clients that do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port spawn run_ok);
use Peers;
use MIME::Base64;
use Test::More;

plan skip_all => 'needs saslpasswd2' if !-x '/usr/sbin/saslpasswd2';
$SIG{PIPE} = 'IGNORE';

sub b64 { return encode_base64($_[0], '') }
sub plain { my ($user, $password) = @_; return b64("\0$user\0$password") }

my ($dove_port, $hop) = (free_port(), Posthaste->recorder);
my $mta = Posthaste->prepare;
my $dir = $mta->{dir};

sub sasl_conf {
	mkdir "$dir/conf/sasl";
	spew("$dir/conf/sasl/smtpd.conf", join '', map { "$_\n" } @_);
	return;
}
sub server { # returns its pid
	my ($kind) = @_;
	my $pid = spawn("$dir/$kind.out", $^X, "$FindBin::Bin/lib/saslserver.pl", $kind, "$dir/$kind");
	wait_until(sub { -S "$dir/$kind" }, 20) or die "no $kind";
	return $pid;
}

for my $user (qw(joe ann)) {
	open my $fh, '|-', 'saslpasswd2', '-p', '-c', '-f', "$dir/sasldb2", '-u', 'mx.posthaste.test', $user or die $!;
	print $fh "secret-$user";
	close $fh;
}
chmod 0644, "$dir/sasldb2";
sasl_conf('pwcheck_method: auxprop', 'auxprop_plugin: sasldb', "sasldb_path: $dir/sasldb2",
	'mech_list: PLAIN LOGIN CRAM-MD5');
my $dovecot = server('dovecot');
my %main = (
	myhostname => 'mx.posthaste.test', mydestination => '', mynetworks => '192.0.2.0/24',
	smtpd_sasl_auth_enable => 'yes', broken_sasl_auth_clients => 'yes', smtpd_error_sleep_time => '0s',
	smtpd_hard_error_limit => 100000, smtpd_soft_error_limit => 100000, smtpd_junk_command_limit => 100000,
	smtpd_relay_restrictions => 'permit_sasl_authenticated, reject_unauth_destination', smtpd_recipient_restrictions => '',
	smtpd_banner => 'mx', smtpd_sasl_authenticated_header => 'yes', smtpd_discard_ehlo_keywords => 'chunking, etrn, silent-discard',
);
my %own = (relayhost => "[127.0.0.1]:$hop->{port}", auth_timeout => '1s', auth_threads => 2);
$mta->{opt}{master} = "127.0.0.1:$mta->{port} inet n - n - - smtpd\n127.0.0.1:$dove_port inet n - n - - smtpd\n" .
	"  -o smtpd_sasl_type=dovecot -o smtpd_sasl_path=unix:$dir/dovecot\n";
$mta->configure(%main, %own);
$mta->launch;

# ---- the same as Postfix ----

my @dialogues = (
	[ 'AUTH PLAIN ' . plain('joe', 'secret-joe'), 'AUTH PLAIN', 'QUIT' ],
	[ 'EHLO c.test', 'AUTH', 'AUTH PLAIN a b', 'MAIL FROM:<a@c.test>', 'RCPT TO:<x@else.test>', 'AUTH PLAIN', 'RSET',
		'AUTH PLAIN ' . plain('joe', 'secret-joe'), 'EHLO c.test', 'AUTH PLAIN', 'MAIL FROM:<a@c.test> AUTH=a+40c AUTH=b',
		'RSET', 'MAIL FROM:<a@c.test> AUTH=a+40c', 'RCPT TO:<x@else.test>', 'RSET', 'MAIL FROM:<a@c.test> AUTH=<>',
		'RCPT TO:<x@else.test>', 'QUIT' ],
	[ 'EHLO c.test', 'AUTH PLAIN ' . plain('joe', 'wrong'), 'AUTH PLAIN ' . plain('nobody', 'x'), 'AUTH NOSUCH', 'AUTH PLAIN !!',
		'AUTH PLAIN ' . b64('x'), 'AUTH LOGIN', b64('ann'), b64('wrong'), 'AUTH LOGIN', '*', 'AUTH LOGIN', '!',
		'AUTH LOGIN ' . b64('ann'), b64('secret-ann'), 'MAIL FROM:<a@c.test>', 'RCPT TO:<x@else.test>', 'QUIT' ],
	[ 'HELO c.test', 'auth plain', plain('joe@mx.posthaste.test', 'secret-joe'), 'MAIL FROM:<a@c.test>', 'RCPT TO:<x@else.test>', 'QUIT' ],
	[ 'EHLO c.test', 'AUTH LOGIN', 'x' x 12300, 'AUTH CRAM-MD5', 'eA==', 'NOOP', 'QUIT' ],
);
sub play {
	my ($port, $log) = @_;
	my @said;
	for my $d (@dialogues) {
		my $c = Posthaste::Client->new($port);
		for my $line (@$d) {
			my $r = $c->cmd($line);
			$r =~ s/^334 \S{20,}/334 challenge/ if $line =~ /CRAM/;
			# XCLIENT and the like are not told to everybody; versions differ in what else they offer
			$r = join "\n", grep { /AUTH/ } split /\r?\n/, $r if $line =~ /^EHLO/;
			push @said, "$line -> $r";
		}
	}
	wait_until(sub { $log->() =~ /CRAM-MD5 authentication failed/ }, 20); # the last that is compared
	my @log = map { /smtpd\[\d+\]: (.*(?:SASL|sasl).*)/ ? $1 : () } split /\n/, $log->();
	s/^[0-9A-Za-z]{6,}: /QID: /, s/unknown\[127|localhost\[127/client[127/ for @log;
	return { replies => \@said, log => [ grep { !/proto=/ } @log ] };
}
my $ours = play($mta->{port}, sub { $mta->log });
SKIP: {
	my $why = Peers::obstacle();
	skip $why, 2 if $why;
	# Debian's looks beside main.cf
	my $postfix = Peers->postfix(home => 'home.test', next => $hop->{port}, main => join('', map { "$_ = $main{$_}\n" } sort keys %main),
		prepare => sub {
			mkdir "$_[0]{dir}/conf";
			mkdir "$_[0]{dir}/conf/sasl";
			spew("$_[0]{dir}/conf/sasl/smtpd.conf", slurp("$dir/conf/sasl/smtpd.conf"));
		}) or skip 'Postfix does not run', 2;
	my $theirs = play($postfix->{port}, sub { $postfix->log });
	is_deeply $ours->{$_}, $theirs->{$_}, "the same $_" or diag explain $ours->{$_}, $theirs->{$_} for qw(replies log);
	$postfix->stop;
}
like $mta->log, qr{smtpd\[\d+\]: NOQUEUE: reject: RCPT from .*: 554 5\.7\.1 <x\@else\.test>: Relay access denied; from=<a\@c\.test> to=<x\@else\.test> proto=ESMTP helo=<c\.test>$}m,
	'strangers may not relay';

# ---- mail of who has logged in ----

my ($rc, $out) = run_ok('swaks', '--server', "127.0.0.1:$mta->{port}", '--from', 'joe@c.test', '--to', 'far@else.test', '--auth', 'LOGIN',
	'--auth-user', 'joe', '--auth-password', 'secret-joe', '--helo', 'c.test', '--body', 'logged in');
is $rc, 0, 'swaks logs in and sends' or diag $out;
ok wait_until(sub { $hop->got =~ /logged in/ }, 20), 'the mail goes on';
like $hop->got, qr{^\t\(Authenticated sender: joe\)\r?\n\tby mx\.posthaste\.test \(\w+\) with ESMTPA id}m,
	'and says whose it is';
unlike slurp("$dir/log"), qr/secret-/, 'no password is in the log';

# ---- Dovecot ----

sub try { # one AUTH PLAIN: the reply
	my ($port, $user, $password) = @_;
	my $c = Posthaste::Client->new($port);
	$c->cmd('EHLO c.test');
	my $r = $c->cmd('AUTH PLAIN ' . plain($user, $password));
	$c->quit;
	return $r;
}
sub reload { # until all sessions are served by the new processes
	my %old = map { $_->{pid} => 1 } $mta->workers;
	$mta->command('posthaste', 'reload');
	ok wait_until(sub { my @w = grep { $_->{class} =~ /^(?:smtpd|auth)$/ } $mta->workers; @w >= 3 && !grep { $old{$_->{pid}} } @w }, 30),
		'the configuration is read again' or diag explain [ $mta->workers ];
	return;
}
my $c = Posthaste::Client->new($dove_port);
like $c->cmd('EHLO c.test'), qr/^250-AUTH PLAIN LOGIN\r$/m, 'Dovecot says which mechanisms there are';
like $c->cmd('AUTH CRAM-MD5'), qr/^535 5\.7\.8 Error: authentication failed: Invalid authentication mechanism/, 'and no others are';
like $c->cmd('AUTH PLAIN'), qr/^334 ?$/, 'a challenge';
is $c->cmd(plain('joe', 'good')), '235 2.7.0 Authentication successful', 'a login';
$c->quit;
is try($dove_port, 'joe', 'bad'), '535 5.7.8 Error: authentication failed: no such luck', 'one that is wrong';
ok $mta->wait_log(qr/SASL PLAIN authentication failed: no such luck, sasl_username=joe$/m), 'in the log';
is try($dove_port, 'joe', 'junk'), '535 5.7.8 Error: authentication failed: Authentication backend error', 'a server that talks nonsense';
like try($dove_port, 'joe', 'drop'), qr/^454 4\.7\.0 Temporary authentication failure: Connection lost/, 'that goes away';
ok wait_until(sub { try($dove_port, 'joe', 'good') =~ /^235/ }, 20), 'and is there again';
like try($dove_port, 'joe', 'hang'), qr/^454 4\.7\.0 Temporary authentication failure: Connection lost/, 'that hangs';
ok wait_until(sub { try($dove_port, 'joe', 'good') =~ /^235/ }, 20), 'a new connection to it works';
Posthaste::end_child($dovecot);
ok wait_until(sub { Posthaste::Client->new($dove_port)->cmd('EHLO c.test') !~ /AUTH/ }, 20), 'without a server AUTH is not offered';
ok wait_until(sub { try($dove_port, 'joe', 'good') =~ /^454 4\.7\.0 / }, 20), 'and a temporary failure';
$dovecot = server('dovecot');
ok wait_until(sub { Posthaste::Client->new($dove_port)->cmd('EHLO c.test') =~ /AUTH/ }, 20), 'it is found again';

SKIP: {
	my $why = Peers::obstacle();
	skip $why, 2 if $why;
	my $box = Peers->dovecot(home => 'home.test') or skip 'Dovecot does not run', 2;
	my $socket = "$box->{dir}/run/auth-client";
	wait_until(sub { -S $socket }, 20);
	rename "$dir/dovecot", "$dir/dovecot.old";
	symlink $socket, "$dir/dovecot";
	Posthaste::end_child($dovecot);
	ok wait_until(sub { try($dove_port, 'joe@home.test', 'x') =~ /^235/ }, 30), "Debian's Dovecot lets its user in" or diag $mta->log_tail;
	like try($dove_port, 'joe@home.test', 'y'), qr/^535 5\.7\.8 /, 'and nobody else';
	$box->stop;
}

# ---- saslauthd ----

my $saslauthd = server('saslauthd');
sasl_conf('pwcheck_method: saslauthd', "saslauthd_path: $dir/saslauthd", 'mech_list: PLAIN LOGIN');
$mta->configure(%main, %own);
reload();
ok wait_until(sub { try($mta->{port}, 'joe', 'good') =~ /^235/ }, 20), 'a login by saslauthd' or diag $mta->log_tail;
like try($mta->{port}, 'joe', 'bad'), qr/^535 5\.7\.8 Error: authentication failed: authentication failure/, 'one that is wrong';
like try($mta->{port}, 'joe', 'drop'), qr/^(?:454|535) /, 'a back end that dies';
like try($mta->{port}, 'joe', 'junk'), qr/^(?:454|535) /, 'that talks nonsense';
my @hanging = map { my $h = Posthaste::Client->new($mta->{port}); $h->cmd('EHLO c.test'); $h->send_raw('AUTH PLAIN ' . plain('joe', 'hang') . "\r\n"); $h } 1 .. 6;
like try($dove_port, 'x', 'y'), qr/^[45]/, 'other services go on';
my $other = Posthaste::Client->new($mta->{port});
is $other->cmd('NOOP'), '250 2.0.0 Ok', 'and those who do not log in';
like $_->reply, qr/^454 4\.7\.0 Temporary authentication failure: Connection lost to authentication server/, 'a back end that hangs' for @hanging;
ok $mta->wait_log(qr{auth\[\d+\]: warning: all 2 threads hang in the SASL library: this process ends}), 'a process with which nothing can be done any more ends';
ok wait_until(sub { try($mta->{port}, 'joe', 'good') =~ /^235/ }, 30), 'and logins work again' or diag $mta->log_tail;
my $h = Posthaste::Client->new($mta->{port});
$h->cmd('EHLO c.test');
$h->send_raw('AUTH PLAIN ' . plain('joe', 'hang') . "\r\n");
select undef, undef, undef, 0.3;
kill 'KILL', map { $_->{pid} } grep { $_->{class} eq 'auth' } $mta->workers;
like $h->reply, qr/^454 4\.7\.0 Temporary authentication failure: Connection lost/, 'a process that is killed';
ok wait_until(sub { try($mta->{port}, 'joe', 'good') =~ /^235/ }, 30), 'is replaced';

$_->quit for @hanging, $other, $h;

# ---- clients that talk nonsense ----

sasl_conf('pwcheck_method: auxprop', 'auxprop_plugin: sasldb', "sasldb_path: $dir/sasldb2", 'mech_list: PLAIN LOGIN CRAM-MD5');
reload();
ok wait_until(sub { try($mta->{port}, 'joe', 'secret-joe') =~ /^235/ }, 20), 'sasldb again';
srand 31;
my $n = 0;
for (1 .. 10) {
	my $g = Posthaste::Client->new($mta->{port});
	my @lines;
	$g->cmd('EHLO c.test');
	for (1 .. 1000) {
		my $junk = join '', map { chr 33 + int rand 90 } 1 .. rand 40;
		push @lines, 'AUTH ' . (qw(PLAIN LOGIN CRAM-MD5 X))[rand 4] . ' ' . (rand() < .5 ? $junk : b64($junk)) . "\r\nRSET\r\n";
	}
	$g->send_raw(join('', @lines) . "QUIT\r\n");
	my $last = '';
	while (defined(my $r = $g->reply)) {
		$last = $r;
		last if $r =~ /^221/;
		$n++ if $r =~ /^[345]\d\d /;
	}
	like $last, qr/^221 2\.0\.0 /, 'to the end';
}
cmp_ok $n, '>=', 8000, 'nonsense is answered';
is try($mta->{port}, 'joe', 'secret-joe'), '235 2.7.0 Authentication successful', 'and logins work as before';
my ($got) = $mta->http('/metrics') =~ /^posthaste_auth_failures\S* (\d+)/m;
cmp_ok $got // 0, '>=', 2000, 'they are counted';

is $mta->stop, 0, 'stops';
Posthaste::end_child($saslauthd);
is $mta->refusals, 0, 'no system call was refused';
done_testing;
