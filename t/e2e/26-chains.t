#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Several cleanup services in master.cf: each way in takes the parameters of the one that it names, as the
# mail systems do that hide what their users' programs say in headers; and a chain to its end, with a queue manager,
# an address resolver and a transport of its own, as mailcow's. Each service speaks in the log by its own name.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port run_ok slurp spew wait_until);
use Test::More;

my $hop = Posthaste->recorder;
my ($plain, $users, $named, $wrong) = map { free_port() } 1 .. 4;
my $mta = Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$hop->{port}", header_checks => 'regexp:$config_directory/main_checks',
	users_checks => 'regexp:$config_directory/users_checks' }, port => $plain, master => <<"EOF");
127.0.0.1:$plain inet n - n - - smtpd
127.0.0.1:$users inet n - n - - smtpd
    -o cleanup_service_name=users-cleanup
127.0.0.1:$named inet n - n - - smtpd
    -o cleanup_service_name=cleanup
127.0.0.1:$wrong inet n - n - - smtpd
    -o cleanup_service_name=nosuch
pickup unix n - n 60 1 pickup
    -o cleanup_service_name=users-cleanup
cleanup unix n - n - 0 cleanup
    -o body_checks=regexp:\$config_directory/body_checks
users-cleanup unix n - n - 0 cleanup
    -o syslog_name=postfix/users-cleanup
    -o header_checks=\$users_checks
EOF
spew("$mta->{dir}/conf/main_checks", "/^Subject:/ PREPEND X-Main: seen\n");
spew("$mta->{dir}/conf/users_checks", "/^X-Mailer:/ IGNORE\n/^Subject: forbidden/ REJECT not by users\n");
spew("$mta->{dir}/conf/body_checks", "/^drop this line/ IGNORE\n");
my ($rc, $out) = $mta->command('posthaste', 'check');
is $rc, 0, 'check' or diag $out;
like $out, qr/master\.cf, line 6: cleanup_service_name = nosuch: no such service in master\.cf/, '... names the one that is not there';
unlike $out, qr/private chains/, '... and misses none';
$mta->launch;

my $content = "Subject: x\nX-Mailer: secret\n\nkeep this line\ndrop this line\n";
my %got;
for my $way ([ plain => $plain ], [ users => $users ], [ named => $named ], [ wrong => $wrong ]) {
	my ($name, $port) = @$way;
	my $smtp = $mta->smtp($port);
	$smtp->ok('EHLO x.test');
	$smtp->mail('a@x.test', "$name\@y.test", $content);
	$smtp->quit;
	# one after the other, so that the next hop's notes do not mix
	ok $mta->wait_log(qr/to=<$name\@y\.test>.*status=sent/), "$name: sent" or diag $mta->log_tail;
}
($rc, $out) = run_ok('sh', '-c', 'printf "%s" "$1" | "$0" -C "$2" -f a@x.test pickup@y.test', Posthaste::prefix() . '/sbin/sendmail', $content,
	"$mta->{dir}/conf");
is $rc, 0, 'sendmail' or diag $out;
ok $mta->wait_log(qr/to=<pickup\@y\.test>.*status=sent/), 'pickup: sent' or diag $mta->log_tail;
my $all = slurp($hop->{file}) =~ s/\r//gr;
for my $text (split /(?=^MAIL FROM)/mi, $all) {
	$got{$1} = $text if $text =~ /^RCPT TO:<(\w+)\@/mi;
}
my %want = (plain => [ 1, 1, 0 ], named => [ 1, 1, 0 ], wrong => [ 1, 1, 1 ], users => [ 0, 0, 1 ], pickup => [ 0, 0, 1 ]);
for my $name (sort keys %want) {
	my $text = $got{$name} // '';
	my @is = map { $text =~ $_ ? 1 : 0 } qr/^X-Main: seen$/m, qr/^X-Mailer:/m, qr/^drop this line$/m;
	is "@is", "@{ $want{$name} }", "$name: the checks of its cleanup service";
	like $text, qr/^keep this line$/m, '... and the rest is there';
}
my $smtp = $mta->smtp($users);
$smtp->ok('EHLO x.test');
$smtp->ok($_) for 'MAIL FROM:<a@x.test>', 'RCPT TO:<b@y.test>';
like $smtp->cmd('DATA'), qr/^354/, 'a message that they refuse';
like $smtp->cmd("Subject: forbidden\r\n\r\nx\r\n."), qr/^550 5\.7\.1 not by users/, '... is refused';
$smtp->quit;
is $mta->stop, 0, 'stop';

# ---- a chain to its end: mail of the watchdog is resolved by its own rules and goes nowhere ----

my ($watch, $shaped) = map { free_port() } 1 .. 2;
my $next = Posthaste->recorder;
$mta = Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$next->{port}", always_bcc => 'all@y.test', message_size_limit => 100000,
	recipient_delimiter => '+', myorigin => 'origin.test', append_dot_mydomain => 'no' }, port => $plain, master => <<"EOF");
127.0.0.1:$plain inet n - n - - smtpd
127.0.0.1:$watch inet n - n - - smtpd
    -o cleanup_service_name=watch_cleanup
    -o syslog_name=watchdog
127.0.0.1:$shaped inet n - n - - smtpd
    -o cleanup_service_name=shaped
    -o syslog_name=postfix/submission
cleanup unix n - n - 0 cleanup
watch_cleanup unix n - n - 0 cleanup
    -o syslog_name=watchdog
    -o queue_service_name=watch_qmgr
    -o always_bcc=
qmgr fifo n - n 300 1 qmgr
watch_qmgr fifo n - n 300 1 qmgr
    -o rewrite_service_name=watch_rewrite
    -o syslog_name=watchdog
rewrite unix - - n - - trivial-rewrite
watch_rewrite unix - - n - - trivial-rewrite
    -o default_transport=watch_discard:nowhere
    -o relayhost=
watch_discard unix - - n - - discard
    -o syslog_name=watchdog
shaped unix n - n - 0 cleanup
    -o rewrite_service_name=shaped_rewrite
    -o always_bcc=shaped\@y.test
    -o canonical_maps=inline:{{old\@y.test=new\@y.test}}
    -o virtual_alias_maps=inline:{{list\@y.test=one\@y.test,two\@y.test}}
    -o sender_bcc_maps=inline:{{s\@y.test=sbcc\@y.test}}
    -o recipient_bcc_maps=inline:{{list\@y.test=rbcc\@y.test}}
    -o masquerade_domains=y.test
    -o message_drop_headers=x-secret
    -o message_size_limit=5000
    -o hopcount_limit=3
shaped_rewrite unix - - n - - trivial-rewrite
    -o myorigin=shaped.test
    -o append_dot_mydomain=yes
    -o mydomain=shaped.test
EOF
($rc, $out) = $mta->command('posthaste', 'check');
is $rc, 0, 'check of whole chains' or diag $out;
unlike $out, qr/private chains|no such service/, '... has nothing against them';
$mta->launch;
sub one {
	my ($port, $from, $to, $text) = @_;
	my $smtp = $mta->smtp($port);
	$smtp->ok('EHLO x.test');
	my ($id) = $smtp->mail($from, $to, $text) =~ /queued as (\S+)/;
	$smtp->quit;
	return $id;
}
my $id = one($watch, 'w@x.test', 'r@far.test', "Subject: watch\n\nx\n");
ok $mta->wait_log(qr/watchdog\/discard\[\d+\]: $id: to=<r\@far\.test>, relay=none, .*status=sent \(nowhere\)/), 'the watchdog\'s mail is discarded'
	or diag $mta->log_tail;
ok $mta->wait_log(qr/$id: removed/), '... and gone';
like $mta->log, qr/ watchdog\/smtpd\[\d+\]: $id: client=/, '... its smtpd speaks for itself';
like $mta->log, qr/ watchdog\/cleanup\[\d+\]: $id: message-id=/, '... its cleanup';
like $mta->log, qr/ watchdog\/qmgr\[\d+\]: $id: from=<w\@x\.test>, .*nrcpt=1 \(queue active\)/, '... its queue manager, and there is no copy';
unlike $next->got, qr/far\.test/, '... nothing went out';

my $plain_id = one($plain, 's@y.test', [ 'old@y.test', 'list@y.test' ], "Subject: plain\nX-Secret: 1\nTo: old\@y.test, bare\n\nx\n");
ok $mta->wait_log(qr/$plain_id: removed/), 'mail of the usual chain' or diag $mta->log_tail;
like $mta->log, qr/ postfix\/smtpd\[\d+\]: $plain_id: client=.*\n(?:.*\n)*?.* postfix\/cleanup\[\d+\]: $plain_id: message-id=/, '... has the usual names';
my $plain_got = $next->got =~ s/\r//gr;
like $plain_got, qr/^RCPT TO:<$_\@y\.test>/m, "... goes to $_" for qw(old list all);
like $plain_got, qr/^X-Secret: 1\n/m, '... with all its headers';
my $before = length $next->got;
my $shaped_id = one($shaped, 's@y.test', [ 'old@y.test', 'list@y.test' ], "Subject: shaped\nX-Secret: 1\nTo: old\@sub.y.test, bare, short\@host\n\nx\n");
ok $mta->wait_log(qr/$shaped_id: removed/), 'mail of the private one' or diag $mta->log_tail;
like $mta->log, qr/ postfix\/submission\/smtpd\[\d+\]: $shaped_id: client=/, '... as submission is named';
my $shaped_got = substr($next->got, $before) =~ s/\r//gr;
is join(' ', sort $shaped_got =~ /^RCPT TO:<(\S+)\@y\.test>/mg), 'new one rbcc sbcc shaped two', '... goes to whom its maps say';
unlike $shaped_got, qr/^X-Secret:/m, '... loses a header';
like $shaped_got, qr/^To: old\@y\.test, bare\@shaped\.test, short\@host\.shaped\.test$/m, '... its addresses are completed by its own rewriting';
for my $case ([ $shaped, "Subject: x\n\n" . ('x' x 60 . "\n") x 500, qr/^552 5\.3\.4 /, 'too big for the private chain' ],
	[ $plain, "Subject: x\n\n" . ('x' x 60 . "\n") x 500, qr/^250 /, 'not for the usual one' ],
	[ $shaped, "Received: a\n" x 4 . "Subject: x\n\nx\n", qr/^554 5\.4\.0 /, 'too many hops' ]) {
	my ($port, $text, $want, $name) = @$case;
	my $smtp = $mta->smtp($port);
	$smtp->ok('EHLO x.test');
	like $smtp->mail('s@y.test', 'r@y.test', $text), $want, $name;
	$smtp->quit;
}

# deferred mail keeps its chain
$mta->configure(relayhost => "[127.0.0.1]:$next->{port}");
($rc) = $mta->command('posthaste', 'stop');
delete $mta->{running};
my $conf = slurp("$mta->{dir}/conf/master.cf");
spew("$mta->{dir}/conf/master.cf", $conf =~ s/watch_discard:nowhere/smtp:[127.0.0.1]:1/r);
$mta->launch;
$id = one($watch, 'w@x.test', 'later@far.test', "Subject: later\n\nx\n");
ok $mta->wait_log(qr/$id: to=<later\@far\.test>.*status=deferred/), 'a chain whose way is barred defers' or diag $mta->log_tail;
spew("$mta->{dir}/conf/master.cf", $conf);
is(($mta->command('posthaste', 'reload'))[0], 0, 'reload');
wait_until(sub { $mta->command('postqueue', '-f'); return $mta->log =~ /$id: removed/ }, 20);
ok $mta->wait_log(qr/watchdog\/discard\[\d+\]: $id: to=<later\@far\.test>.*status=sent/), '... and is resolved by its own rules again' or diag $mta->log_tail;
is $mta->stop, 0, 'stop';
is $mta->crashes, '', 'nothing crashed';
done_testing;
