#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A configuration that was written for Postfix: what `posthaste check` says of it, that it just runs, and that a broken
# one neither starts half nor replaces one that works. doc/MIGRATING.md walks the same way.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port run_ok slurp spew wait_until);
use File::Path qw(make_path);
use IO::Socket::INET;
use Test::More;

my $hop = Posthaste->recorder;
my $mta = Posthaste->prepare;
my ($dir, $sbin) = ($mta->{dir}, Posthaste::prefix() . '/sbin');

# both streams of a check: (status, standard output, standard error)
sub check {
	my ($conf) = @_;
	my ($rc, $out) = run_ok('sh', '-c', 'exec "$0" -c "$1" check 2>"$1.errors"', "$sbin/posthaste", $conf);
	return ($rc, $out, slurp("$conf.errors"));
}

# ---- a site's files: everything that Debian's master.cf has, Postfix's directories, old names ----

make_path("$dir/theirs/sbin", "$dir/theirs/libexec", "$dir/site");
for my $program ('sbin/postfix', 'libexec/master', 'libexec/smtpd') {
	spew("$dir/theirs/$program", "#!/bin/sh\nexit 1\n");
	chmod 0755, "$dir/theirs/$program";
}
my $main = <<"EOF";
compatibility_level = 3.6
command_directory = $dir/theirs/sbin
daemon_directory = $dir/theirs/libexec
queue_directory = $dir/spool
data_directory = $dir/data
mail_owner = $mta->{owner}
myhostname = mx.site.test
mydestination =
alias_maps =
mynetworks = 127.0.0.0/8 \$site_networks
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:$hop->{port}
maillog_file = $dir/log
stats_listen = 127.0.0.1:$mta->{stats}
smtpd_peername_lookup = no
queue_minfree = 0
readme_directory = no
max_use = 20
qmgr_message_active_limit = 40000
smtpd_use_tls = no
smtpd_tls_cert_file = $dir/site/site.pem
smtpd_tls_security_level = may
smtp_tls_security_level = may
site_networks = 192.0.2.0/24
smtpd_client_restrictions = check_client_access inline:{ { 192.0.2.9 = REJECT } }, permit
default_destination_concurrency_limit = 7
EOF
my $master = <<"EOF";
127.0.0.1:$mta->{port} inet n - y - - smtpd
pickup fifo n - y 60 1 pickup
cleanup unix n - y - 0 cleanup
qmgr fifo n - n 300 1 qmgr
tlsmgr unix - - y 1000? 1 tlsmgr
rewrite unix - - y - - trivial-rewrite
bounce unix - - y - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - y - - smtp
relay unix - - y - - smtp
    -o syslog_name=postfix/\$service_name
anvil unix - - y - 1 anvil
scache unix - - y - 1 scache
postlog unix-dgram n - n - 1 postlogd
grey unix - n n - 0 greyd
EOF
spew("$dir/site/main.cf", $main);
run_ok('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=mx.site.test',
	'-keyout', "$dir/site/site.key", '-out', "$dir/site/site.crt");
spew("$dir/site/site.pem", slurp("$dir/site/site.key") . slurp("$dir/site/site.crt"));
spew("$dir/site/master.cf", $master);

my ($rc, $out, $errors) = check("$dir/site");
is $rc, 0, 'check accepts the files of a Postfix' or diag $errors;
like $out, qr/^\Q$dir\E\/site: 28 parameters are set: \d+ act, \d+ are accepted, 1 are deprecated names, 1 are your own$/m,
	'... counts what acts' or diag $out;
like $out, qr/nothing is lost.*:\n    max_use qmgr_message_active_limit readme_directory\n/, '... names what has no effect';
unlike $out, qr/TLS is not there/, '... TLS is';
like $out, qr/^  there is no such program:\n    grey \(master\.cf:15\)\n/m, '... services too';
unlike $out, qr/pickup|qmgr \(|tlsmgr/, '... but not those that have a counterpart';
my $lines = () = $out =~ /\n/g;
cmp_ok $lines, '<', 25, '... on one screen';
like $errors, qr/warning: \S+main\.cf, line 3: daemon_directory = \S+: Posthaste's programs are not there/,
	"Postfix's programs are not taken for ours";
like $errors, qr/main\.cf, line 2: command_directory/, '... neither commands';
like $errors, qr/main\.cf, line 21: support for parameter "smtpd_use_tls" will be removed/, 'old names are told';
unlike $errors, qr/unused parameter/, 'no name is unknown';

# ---- it just runs ----

($rc, $out) = run_ok("$sbin/posthaste", '-c', "$dir/site", 'start');
is $rc, 0, 'start' or diag $out;
my $smtp = $mta->smtp;
like $smtp->{banner}, qr/^220 mx\.site\.test ESMTP/, '... and it answers';
$smtp->ok('EHLO x.test');
$smtp->mail('a@x.test', 'b@y.test', "Subject: moved\n\nhello\n");
$smtp->quit;
ok $mta->wait_log(qr/to=<b\@y\.test>.*status=sent/), '... and mail flows' or diag $mta->log_tail;

# ---- broken: everything at once, with file and line, and nothing changes ----

my $broken = $main . <<'EOF';
smtpd_timeout = soon
smtpd_recipient_restrictions = permit_everything
virtual_mailbox_maps = nosuch:/x
relay_domains = $no_such_name, ${broken
EOF
spew("$dir/site/main.cf", $broken);
spew("$dir/site/master.cf", $master . "bad unix - - z - - smtp\n");
my $n = $main =~ tr/\n//; # lines of the good one
my ($n1, $n2, $n3, $n4) = map { $n + $_ } 1 .. 4;
my @problems = (qr/main\.cf, line $n1: smtpd_timeout = soon: expected/,
	qr/main\.cf, line $n2: parameter smtpd_recipient_restrictions: unknown smtpd restriction: "permit_everything"/,
	qr/main\.cf, line $n3: nosuch:\/x: unknown table type "nosuch"/, qr/main\.cf, line $n4: relay_domains/,
	qr/master\.cf, line 16: chroot "z"/);
($rc, $out, $errors) = check("$dir/site");
is $rc, 1, 'check of a broken one';
like $errors, $_, '... says it all at once' for @problems;
($rc, $out) = run_ok("$sbin/posthaste", '-c', "$dir/site", 'reload');
is $rc, 1, 'reload refuses it';
$smtp = $mta->smtp;
like $smtp->{banner}, qr/^220 mx\.site\.test/, '... and the old one goes on';
$smtp->ok('EHLO x.test');
$smtp->mail('a@x.test', 'c@y.test', "Subject: still\n\nhello\n");
$smtp->quit;
ok $mta->wait_log(qr/to=<c\@y\.test>.*status=sent/), '... with all of it' or diag $mta->log_tail;
spew("$dir/site/main.cf", $main);
spew("$dir/site/master.cf", $master);
($rc, $out) = run_ok("$sbin/posthaste", '-c', "$dir/site", 'stop');
is $rc, 0, 'stop' or diag $out;
spew("$dir/site/main.cf", $main . "smtpd_recipient_restrictions = permit_everything\nvirtual_mailbox_maps = nosuch:/x\n");
($rc, $out) = run_ok("$sbin/posthaste", '-c', "$dir/site", 'start');
is $rc, 1, 'what only the workers can see does not start half';
like $out, qr/main\.cf, line $n1: .*permit_everything/, '... and is told';
like $out, qr/main\.cf, line $n2: nosuch:/, '... all of it';
ok !IO::Socket::INET->new(PeerAddr => "127.0.0.1:$mta->{port}"), '... nobody listens';
($rc, $out) = run_ok("$sbin/posthaste", '-c', "$dir/site", 'status');
like $out, qr/is not running/, '... nothing is left';

# ---- a queue directory of Postfix's ----

spew("$dir/site/main.cf", $main);
make_path("$dir/spool/deferred");
($rc, $out, $errors) = check("$dir/site");
like $errors, qr/main\.cf, line 4: queue_directory = \S+ is Postfix's/, "mail that Postfix still holds is not forgotten";

# ---- the systems that people run ----

sub with_keys {
	my ($text) = @_;
	$text =~ s{/etc/ssl/site\.key\s+/etc/ssl/site\.pem}{$dir/site/site.key $dir/site/site.crt}g;
	return $text =~ s{/etc/ssl/(site\.(?:pem|crt|key))}{$dir/site/$1}gr;
}

for my $system (sort glob Posthaste::top() . '/t/systems/*/') {
	my ($name) = $system =~ m{([^/]+)/$};
	make_path("$dir/$name");
	spew("$dir/$name/$_", with_keys(slurp("$system/$_"))) for qw(main.cf master.cf);
	($rc, $out, $errors) = check("$dir/$name");
	# of what these ask for nothing is missing
	is $out =~ /^asked for, and not there:\n/m ? 'some' : 'nothing', $name eq 'mailcow' ? 'some' : 'nothing', "$name: check tells what is missing";
	unlike $errors, qr/unused parameter|undefined parameter|internal|dumped/, '... and knows every name';
	unlike $errors, qr/podop\.socket::/, '... a name of its own that is a part of a table\'s is no table' if $name eq 'mailu';
	unlike $errors, qr/cannot execute/, '... and finds its programs';
	my @without = grep { !/, line \d+: / } split /\n/, $errors;
	is "@without", '', '... every problem has its place';
}
# ---- one of them runs: docker-mailserver, with the next hop in the place of its Dovecot ----

my %port = map { $_ => free_port() } qw(smtp submission submissions amavis);
my $home = "$dir/docker-mailserver";
make_path("$home/tables", "$dir/dms");
spew("$home/vhost", "dms.test\n");
spew("$home/tables/virtual", "info\@dms.test joe\@dms.test\n");
spew("$home/tables/header_checks", "/^X-Internal:/ IGNORE\n");
spew("$home/tables/sender_header_filter", "/^X-Mailer:/ IGNORE\n");
spew("$home/tables/aliases", "root: joe\@dms.test\n");
my %own = (queue_directory => "$dir/dms/spool", data_directory => "$dir/dms/data", mail_owner => $mta->{owner}, myhostname => 'mx.dms.test',
	inet_interfaces => '127.0.0.1', inet_protocols => 'ipv4', maillog_file => "$dir/log", stats_listen => "127.0.0.1:$mta->{stats}",
	smtpd_peername_lookup => 'no', queue_minfree => 0, virtual_transport => "smtp:[127.0.0.1]:$hop->{port}");
my $theirs = slurp("$home/main.cf") =~ s{/etc/postfix/}{$home/}gr;
$theirs =~ s/^$_ =.*\n//mg for keys %own;
spew("$home/main.cf", $theirs . join '', map { "$_ = $own{$_}\n" } sort keys %own);
spew("$home/master.cf", slurp("$home/master.cf") =~ s/^(smtp|submission|submissions)( inet)/127.0.0.1:$port{$1}$2/mgr =~ s/^127\.0\.0\.1:10025 /127.0.0.1:$port{amavis} /mr);
run_ok("$sbin/postmap", '-c', $home, "hash:$home/tables/aliases");
($rc, $out) = run_ok("$sbin/posthaste", '-c', $home, 'start');
is $rc, 0, 'docker-mailserver: start' or diag $out;
$smtp = $mta->smtp($port{smtp});
$smtp->ok('EHLO x.test');
$smtp->mail('a@x.test', 'info@dms.test', "Subject: dms\nX-Internal: y\n\nhello\n");
$smtp->quit;
ok $mta->wait_log(qr/to=<joe\@dms\.test>, orig_to=<info\@dms\.test>.*status=sent/), '... its aliases and its transport act' or diag $mta->log_tail;
my ($message) = slurp($hop->{file}) =~ s/\r//gr =~ /(^Subject: dms\n.*?^hello$)/ms;
ok defined $message && $message !~ /X-Internal/, '... and its header checks';
$smtp = $mta->smtp($port{submission});
$smtp->ok('EHLO x.test');
like $smtp->cmd('MAIL FROM:<a@x.test>'), qr/^530 5\.7\.0 Must issue a STARTTLS command first/, '... and nobody submits in plain text';
$smtp->quit;
($rc, $out) = run_ok("$sbin/posthaste", '-c', $home, 'stop');
is $rc, 0, '... stop' or diag $out;
is $mta->crashes, '', 'nothing crashed';
done_testing;
