#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Logins on the way out: Debian's Postfix and Posthaste send the same mail with the same passwords to a next hop that offers
# this and that. The same logins are made, and the rest waits or bounces with the same codes and texts.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port spawn);
use Certs;
use Peers;
use Test::More;
use File::Temp qw(tempdir);

my $dir = tempdir('posthaste-saslout-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;

my $obstacle = Peers::obstacle();
my $certs = Certs->new("$dir/certs");
$certs->ca('ca');
$certs->cert('good', ca => 'ca', names => ['mx.good.test']);

# name => [ what is offered ("-": no logins; undef: a Postfix with TLS, which offers PLAIN, inside TLS or to everybody), login, transport of the client ]
my %case = (
	plain => [ 'PLAIN LOGIN', 'joe:secret-joe' ],
	login => [ 'LOGIN', 'joe:secret-joe' ],
	cram => [ 'CRAM-MD5', 'joe:secret-joe' ],
	scram => [ 'SCRAM-SHA-256', 'joe:secret-joe', 'strict' ],
	oldscram => [ 'SCRAM-SHA-1 X-NONE', 'joe:secret-joe' ],
	digest => [ 'DIGEST-MD5', 'joe:secret-joe', 'strict' ],
	best => [ 'PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256', 'joe:secret-joe' ],
	scrambad => [ 'SCRAM-SHA-256', 'joe:wrong', 'hard' ],
	digestbad => [ 'DIGEST-MD5', 'joe:wrong', 'hard' ],
	liar => [ 'SCRAM-SHA-256', 'liar:secret-liar', 'hard' ],
	hasty => [ 'SCRAM-SHA-256', 'hasty:secret-hasty' ],
	mutual => [ 'CRAM-MD5 SCRAM-SHA-256', 'joe:secret-joe', 'mutual' ],
	notmutual => [ 'CRAM-MD5 PLAIN NTLM', 'joe:secret-joe', 'mutual' ],
	scramfilter => [ 'SCRAM-SHA-256 CRAM-MD5', 'joe:secret-joe', 'noscram' ],
	strict => [ 'CRAM-MD5 PLAIN', 'joe:secret-joe', 'strict' ],
	refused => [ 'PLAIN', 'joe:secret-joe', 'strict' ],
	unknown => [ 'X-NONE', 'joe:secret-joe' ],
	none => [ '', 'joe:secret-joe' ],
	filter => [ 'LOGIN PLAIN', 'joe:secret-joe', 'filter' ],
	nothing => [ 'PLAIN', 'joe:secret-joe', 'filter' ],
	noauth => [ '-', 'joe:secret-joe' ],
	stranger => [ 'PLAIN', undef ],
	wrong => [ 'PLAIN', 'joe:wrong' ],
	hard => [ 'PLAIN', 'joe:wrong', 'hard' ],
	hardcram => [ 'CRAM-MD5', 'joe:wrong', 'hard' ],
	later => [ 'LOGIN', 'later:secret-later' ],
	hardlater => [ 'LOGIN', 'later:secret-later', 'hard' ],
	bare => [ 'PLAIN', 'bare:x' ],
	hardbare => [ 'PLAIN', 'bare:x', 'hard' ],
	junk => [ 'CRAM-MD5', 'junk:x' ],
	drop => [ 'PLAIN', 'drop:x' ],
	dummy => [ 'PLAIN', 'joe:secret-joe', 'dummy' ],
	dummynone => [ 'PLAIN', undef, 'dummy' ],
	long => [ 'PLAIN', 'joe' . ('x' x 500) . ':secret-joe' . ('x' x 500) ],
	sender => [ 'PLAIN', 'joe:wrong', 'sender' ],
	(map { $_ => [ undef, 'joe:good', $_ ] } $obstacle ? () : qw(clear tls unsure sure)),
	host => [ 'PLAIN', 'joe:secret-joe', 'named', 'localhost' ],
);
my @names = sort keys %case;
$case{$_}[3] //= free_port() for @names;
my $host_port = free_port();
$_->[4] = $_->[3] eq 'localhost' ? "[localhost]:$host_port" : "[127.0.0.1]:$_->[3]" for values %case;
$case{host}[3] = $host_port;
my $hop = spawn("$dir/hop.out", $^X, "$FindBin::Bin/lib/saslhop.pl", "$dir/ready", map { "$case{$_}[3]=$case{$_}[0]" } grep { defined $case{$_}[0] } @names);
ok wait_until(sub { -e "$dir/ready" }, 20), 'a next hop that wants logins';
my ($tls_hop, $auth);
if (!$obstacle) {
	$auth = spawn("$dir/auth.out", $^X, "$FindBin::Bin/lib/saslserver.pl", 'dovecot', "$dir/auth");
	ok wait_until(sub { -S "$dir/auth" }, 20), 'a Dovecot that checks passwords';
	my @ports = map { $case{$_}[3] } qw(clear tls unsure sure);
	$tls_hop = Peers->postfix(home => 'hop.test', next => 9, master => join('', map { "127.0.0.1:$_ inet n - n - - smtpd\n" } @ports),
		main => <<"EOF") or BAIL_OUT('no next hop with TLS');
default_transport = discard
relayhost =
mynetworks =
smtpd_tls_security_level = may
smtpd_tls_chain_files = $dir/certs/good.pem
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = unix:$dir/auth
smtpd_relay_restrictions = permit_sasl_authenticated, reject
EOF
}

my %main = (
	mydestination => '',
	relayhost => '',
	smtp_sasl_auth_enable => 'yes',
	smtp_tls_CAfile => "$dir/certs/ca.crt",
	smtp_sasl_security_options => 'noanonymous',
	again_destination_concurrency_failed_cohort_limit => 100,
	smtp_sasl_password_maps => 'inline:{ ' . join(', ', (map { "{ $case{$_}[4] = $case{$_}[1] }" } grep { defined $case{$_}[1] && $_ ne 'host' } @names),
		'{ localhost = joe:secret-joe }', '{ ann@client.test = ann:secret-ann }', '{ @other.test = eve:secret-eve }') . ' }',
	transport_maps => 'inline:{ ' . join(', ', map { "{ $_.test = " . ($case{$_}[2] // 'lenient') . ":$case{$_}[4] }" } @names) . ' }',
);
my $strict = '-o smtp_sasl_security_options=noplaintext -o smtp_sasl_tls_security_options=noplaintext';
my $sure = '-o smtp_sasl_tls_verified_security_options=noanonymous';
my %options = (
	lenient => '',
	named => '-o smtp_host_lookup=native',
	clear => '-o smtp_sasl_security_options=noplaintext',
	tls => "-o smtp_tls_security_level=encrypt $strict -o smtp_sasl_tls_security_options=noanonymous",
	unsure => "-o smtp_tls_security_level=encrypt $strict $sure",
	sure => "-o smtp_tls_security_level=secure -o smtp_tls_secure_cert_match=mx.good.test $strict $sure",
	strict => '-o smtp_sasl_security_options=noplaintext,noanonymous',
	filter => '-o smtp_sasl_mechanism_filter=!plain,static:all',
	hard => '-o smtp_sasl_auth_soft_bounce=no',
	mutual => '-o smtp_sasl_security_options=mutual_auth',
	noscram => '-o smtp_sasl_mechanism_filter=!scram-sha-256,static:all',
	again => '-o smtp_sasl_auth_cache_name=proxy:btree:$data_directory/refused -o smtp_sasl_auth_soft_bounce=no',
	dummy => '-o smtp_send_dummy_mail_auth=yes',
	sender => '-o smtp_sender_dependent_authentication=yes',
);
my $transports = join '', map { "$_ unix - - n - - smtp\n  $options{$_}\n" } sort keys %options;
$transports =~ s/\n  \n/\n/g;

# What becomes of each recipient: dsn, status and text; "joe" of client.test, "ann" and "eve" by their senders.
sub results {
	my ($log) = @_;
	my %is;
	for my $line (split /\n/, $log) {
		my ($to, $dsn, $rest) = $line =~ /to=<(\w+\@\w+)\.test>.* dsn=([\d.]+), (status=.*)/ or next;
		$is{$to} = "$dsn $rest" =~ s/queued as \w+/queued/r;
	}
	return \%is;
}
my @wanted = ((map { "joe\@$_" } @names), qw(ann@sender eve@sender));

sub send_all {
	my ($to) = @_;
	my $c = Posthaste::Client->new($to);
	$c->cmd('EHLO client.test');
	for ([ 'joe@client.test', map { "joe\@$_.test" } @names ], [ 'ann@client.test', 'ann@sender.test' ], [ 'x@other.test', 'eve@sender.test' ]) {
		my ($from, @to) = @$_;
		$c->cmd("MAIL FROM:<$from>");
		$c->cmd("RCPT TO:<$_>") for @to;
		$c->cmd('DATA');
		$c->cmd("Subject: x\r\n\r\nx\r\n.");
	}
	$c->quit;
	return;
}
sub whole {
	my ($log) = @_;
	my $is = results($log);
	return 0 == grep { !$is->{$_} } @wanted;
}

my $own_port = free_port();
my $mta = Posthaste->start(main => \%main, master => "127.0.0.1:$own_port inet n - n - - smtpd\nsmtp unix - - n - - smtp\n$transports");
send_all($own_port);
ok wait_until(sub { whole($mta->log) }, 60), 'every recipient has a result here' or diag explain results($mta->log);
my $ours = results($mta->log);
like $ours->{'joe@plain'}, qr/status=sent \(250 2\.0\.0 taken from joe by PLAIN\)/, 'a login';
like $ours->{'joe@cram'}, qr/taken from joe by CRAM-MD5/, 'a better one';
like $ours->{'joe@scram'}, qr/taken from joe by SCRAM-SHA-256/, '... and one of the library';
like $ours->{'joe@digest'}, qr/taken from joe by DIGEST-MD5/, '... another';
like $ours->{'joe@best'}, qr{taken from joe by (?:SCRAM|DIGEST)}, '... the better ones first';
like $ours->{'joe@mutual'}, qr/taken from joe by SCRAM-SHA-256/, '... that shows who the server is';
like $ours->{'joe@host'}, qr/taken from joe by/, 'by the name of the server';
like $ours->{'joe@stranger'}, qr/taken from nobody/, 'no login without an entry';
like $ours->{'joe@hard'}, qr/^5\.7\.8 status=bounced \(SASL authentication failed; server \S+ said: 535/, 'a refusal for good';
like $ours->{'joe@wrong'}, qr/^4\.7\.8 status=deferred \(SASL authentication failed; server \S+ said: 535/, '... is one for now by default';
SKIP: {
	skip $obstacle, 4 if $obstacle;
	like $ours->{"joe\@$_"}, qr/^2\.0\.0 status=sent/, "a login inside TLS: $_" for qw(tls sure);
	like $ours->{"joe\@$_"}, qr/^4\.7\.0 status=deferred \(SASL authentication failed; cannot .*: no mechanism/, "none: $_" for qw(clear unsure);
}
like $ours->{'ann@sender'}, qr/taken from ann by PLAIN/, 'the login of a sender';
like $ours->{'eve@sender'}, qr/taken from eve by PLAIN/, '... of a domain';
unlike $mta->log, qr/secret-/, 'no password is in the log';
SKIP: {
	skip $obstacle, 1 if $obstacle;
	my $peer = Peers->postfix(home => 'peer.test', next => 9, master => $transports,
		main => join('', map { "$_ = $main{$_}\n" } sort keys %main)) or skip 'Postfix does not run', 1;
	send_all($peer->{port});
	ok wait_until(sub { whole($peer->log) }, 60), 'every recipient has a result there' or diag explain results($peer->log);
	my $theirs = results($peer->log);
	is $ours->{$_}, $theirs->{$_}, $_ for @wanted;
	my %warned;
	for my $which ([ ours => $mta->log ], [ theirs => $peer->log ]) {
		my ($who, $log) = @$which;
		$warned{$who}{$1} = 1 while $log =~ /warning: (\S+ offered .*|SASL authentication failure: .*)/g;
	}
	is_deeply $warned{ours}, $warned{theirs}, 'the same warnings' or diag explain \%warned;
	$peer->stop;
}

# ---- what was refused is not tried again; a signature that was not shown ----

my ($refusing, $signing) = (free_port(), free_port());
my $third = spawn("$dir/third.out", $^X, "$FindBin::Bin/lib/saslhop.pl", "$dir/ready3", "$refusing=PLAIN", "$signing=SCRAM-SHA-1");
ok wait_until(sub { -e "$dir/ready3" }, 20), 'one more next hop';
my %third = (%main, transport_maps => "inline:{ { again.test = again:[127.0.0.1]:$refusing }, { sign.test = mutual:[127.0.0.1]:$signing } }",
	smtp_sasl_password_maps => "inline:{ { [127.0.0.1]:$refusing = joe:wrong }, { [127.0.0.1]:$signing = hasty:secret-hasty } }");
my $read_again = sub {
	$mta->configure(@_);
	my %old = map { $_->{pid} => 1 } $mta->workers;
	$mta->command('posthaste', 'reload');
	ok wait_until(sub { my @w = grep { $_->{class} =~ /^(?:smtpd|rewrite|deliver|saslclient)$/ } $mta->workers; @w >= 4 && !grep { $old{$_->{pid}} } @w }, 60),
		'the configuration is read again' or diag explain [ $mta->workers ];
	return;
};
my $send_one = sub {
	my ($to, $result) = @_;
	my $c = Posthaste::Client->new($own_port);
	$c->cmd($_) for 'EHLO client.test', 'MAIL FROM:<joe@client.test>', "RCPT TO:<$to>", 'DATA', "x\r\n.";
	$c->quit;
	return wait_until(sub { $mta->log =~ /to=<\Q$to\E>.*\Q$result\E/ }, 30);
};
$read_again->(%third);
my $said = 'authentication failed; server 127.0.0.1[127.0.0.1] said: 535 5.7.8 no such luck)';
ok $send_one->('one@again.test', "dsn=5.7.8, status=bounced (SASL $said"), 'a login that is refused';
ok $send_one->('two@again.test', "dsn=5.7.8, status=bounced (SASL [CACHED] $said"), '... is not tried again';
ok $send_one->('x@sign.test', 'cannot authenticate to server 127.0.0.1[127.0.0.1]: the server has not shown who it is)'), 'mutual_auth means it';
$read_again->(%third);
ok $send_one->('three@again.test', "dsn=5.7.8, status=bounced (SASL [CACHED] $said"), '... nor after a reload';
my ($asked) = grep { $_->{class} eq 'saslclient' } $mta->workers;
kill 'KILL', $asked->{pid};
ok wait_until(sub { my ($is) = grep { $_->{class} eq 'saslclient' } $mta->workers; $is && $is->{pid} != $asked->{pid} }, 30), 'its worker is replaced';
ok $send_one->('four@again.test', "dsn=5.7.8, status=bounced (SASL [CACHED] $said"), '... and nothing is forgotten';
$read_again->(%third, smtp_sasl_password_maps => "static:joe:secret-joe");
ok $send_one->('five@again.test', 'status=sent (250 2.0.0 taken from joe by PLAIN)'), 'another password is tried';
$_ = undef for $read_again, $send_one;

# ---- a server that repeats what it was told; remote tables; one login, one connection ----

my ($echo, $remote, $many, $table) = map { free_port() } 1 .. 4;
my $second = spawn("$dir/second.out", $^X, "$FindBin::Bin/lib/saslhop.pl", "$dir/ready2", "$echo=PLAIN", "$remote=LOGIN", "$many=PLAIN");
spew("$dir/passwords", "pw:[127.0.0.1]:$remote\tjoe:secret-joe\npw:[127.0.0.1]:$many\tjoe:secret-joe\n");
spew("$dir/sasl_passwd", "[127.0.0.1]:$echo echo:secret-echo\n"); # for root alone, as everybody has it
chmod 0600, "$dir/sasl_passwd";
my $server = spawn("$dir/table.out", $^X, "$FindBin::Bin/lib/tableserver.pl", $table, "$dir/passwords", 'socketmap');
ok wait_until(sub { -e "$dir/ready2" && -e "$dir/passwords.ready" }, 20), 'a second hop, and a table on a server';
$mta->configure(%main, smtp_sasl_password_maps => "texthash:$dir/sasl_passwd, socketmap:inet:127.0.0.1:$table:pw",
	transport_maps => "inline:{ { echo.test = lenient:[127.0.0.1]:$echo }, { remote.test = lenient:[127.0.0.1]:$remote }, { many.test = lenient:[127.0.0.1]:$many } }");
my %old = map { $_->{pid} => 1 } $mta->workers;
$mta->command('posthaste', 'reload');
ok wait_until(sub { my @w = grep { $_->{class} =~ /^(?:smtpd|rewrite|deliver)$/ } $mta->workers; @w >= 3 && !grep { $old{$_->{pid}} } @w }, 60),
	'the configuration is read again' or diag explain [ $mta->workers ];
ok wait_until(sub { my ($c, $r) = Posthaste::Client->new($own_port); $c->cmd('EHLO x'); $c->cmd('MAIL FROM:<a@b.test>'); $c->cmd('RCPT TO:<joe@remote.test>');
	$c->cmd('DATA'); $c->cmd("x\r\n."); $c->quit; $mta->log =~ /to=<joe\@remote\.test>.*status=sent \(250 2\.0\.0 taken from joe by LOGIN\)/ }, 30),
	'a password from a server of tables';
my $c = Posthaste::Client->new($own_port);
$c->cmd('EHLO client.test');
for my $to ('joe@echo.test', map { "n$_\@many.test" } 1 .. 5) {
	$c->cmd('MAIL FROM:<joe@client.test>');
	$c->cmd("RCPT TO:<$to>");
	$c->cmd('DATA');
	like $c->cmd("x\r\n."), qr/^250/, "mail for $to";
}
$c->quit;
ok wait_until(sub { 5 == (() = $mta->log =~ /to=<n\d\@many\.test>.*taken from joe by PLAIN/g) }, 30), 'more mail';
ok wait_until(sub { $mta->log =~ /to=<joe\@echo\.test>.*said: 535 5\.7\.8 you said \*+ and \*+\)/ }, 30), 'what a server repeats is masked';
unlike $mta->log, qr/secret-/, 'no password is in the log';
my $stats = $mta->http('/stats');
like $stats, qr/"deliver_logins":\s*[1-9]/, 'logins are counted';
like $stats, qr/"deliver_login_failures":\s*[1-9]/, '... and failures';
like $stats, qr/"deliver_logins_not_tried":\s*[1-9]/, '... and what was not tried';
unlike $stats, qr/secret-/, 'no password in the statistics';

$mta->configure(%main, smtp_sasl_auth_cache_name => "btree:$dir/refused");
my ($rc, $out) = $mta->command('posthaste', 'check');
ok $rc && $out =~ /SASL authentication cache name "btree:\S+" must start with "proxy:"/, 'a mistake is told before anything starts' or diag $out;
is join("\n", grep { !/saslclient pid $asked->{pid} killed by signal 9/ } split /\n/, $mta->crashes), '', 'nothing crashed';
$mta->stop;
$tls_hop->stop if $tls_hop;
Posthaste::end_child($_) for grep { $_ } $hop, $second, $third, $server, $auth;
done_testing;
