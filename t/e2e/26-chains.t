#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Several cleanup services in master.cf: each way in takes the header and body checks of the one that it names, as the
# mail systems do that hide what their users' programs say in headers.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port run_ok slurp spew);
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
like $out, qr/master\.cf, line 6: cleanup_service_name = nosuch: no such cleanup service/, '... names the one that is not there';
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
is $mta->crashes, '', 'nothing crashed';
done_testing;
