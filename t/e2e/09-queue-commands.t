#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# An operator looks at the queue and works on it: list, show, hold, release, requeue, flush, delete.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port spawn slurp wait_until);
use Test::More;

my $port = free_port(); # nobody listens there yet
my $mta  = Posthaste->start(main => { relayhost => "[127.0.0.1]:$port" });
my ($rc, $out) = $mta->command('postqueue', '-p');
is $rc, 0, 'postqueue -p';
is $out, "Mail queue is empty\n", 'empty queue';

my @ids;
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
for my $i (1 .. 3) {
	my $r = $smtp->mail("s$i\@client.example", [ "r$i\@far.example" ], "Subject: number $i\n\nbody $i");
	push @ids, $r =~ /queued as (\S+)/;
}
$smtp->quit;
is scalar(@ids), 3, 'three messages';
ok $mta->wait_log(qr/$_: to=.*status=deferred \(connect to 127\.0\.0\.1\[127\.0\.0\.1\]:$port: Connection refused\)|$_: to=.*status=deferred \(delivery temporarily suspended/), 'deferred'
	or diag $mta->log_tail for @ids;

($rc, $out) = $mta->command('postqueue', '-p');
like $out, qr{^----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------$}m, 'mailq header for long queue ids';
for my $i (1 .. 3) {
	my $id = $ids[$i - 1];
	like $out, qr/^$id\s+\d+ \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d\s+s$i\@client\.example$/m, "message $i listed";
	like $out, qr/^ +r$i\@far\.example$/m, '... with its recipient';
}
like $out, qr/^ *\(.*Connection refused.*\)$/m, 'and the reason';
like $out, qr/^-- \d+ Kbytes in 3 Requests\.$/m, 'footer';

($rc, $out) = $mta->command('postqueue', '-j');
my @lines = grep { /\S/ } split /\n/, $out;
is scalar(@lines), 3, 'three JSON lines';
like $lines[0], qr/"queue_name": ?"deferred"/, 'queue name';
like $lines[0], qr/"recipients": ?\[\{.*"address": ?"r\d\@far\.example".*"delay_reason": ?".*Connection refused/, 'reason in JSON';

($rc, $out) = $mta->command('postcat', '-q', $ids[0]);
is $rc, 0, 'postcat -q';
like $out, qr/^\*\*\* ENVELOPE RECORDS $ids[0] \*\*\*$/m, 'envelope part';
like $out, qr/^sender: s1\@client\.example$/m, 'sender';
like $out, qr/^recipient: r1\@far\.example$/m, 'recipient';
like $out, qr/^Subject: number 1$/m, 'header';
like $out, qr/^body 1$/m, 'body';
unlike $out, qr/\r/, 'LF line ends';
($rc, $out) = $mta->command('postcat', '-h', '-q', $ids[0]);
unlike $out, qr/^body 1/m, 'postcat -h leaves the body out';

($rc, $out) = $mta->command('postsuper', '-h', $ids[0]);
is $rc, 0, 'postsuper -h';
($rc, $out) = $mta->command('postqueue', '-p');
like $out, qr/^$ids[0]!/m, 'held message is marked';

my $peer = Posthaste::spawn(undef, $^X, "$FindBin::Bin/lib/recorder.pl", $port, "$mta->{dir}/got");
wait_until(sub { -e "$mta->{dir}/got.ready" }, 10);
($rc, $out) = $mta->command('postqueue', '-f');
is $rc, 0, 'postqueue -f';
ok $mta->wait_log(qr/$ids[1]: removed/), 'flush delivers the second' or diag $mta->log_tail;
ok $mta->wait_log(qr/$ids[2]: removed/), '... and the third';
unlike $mta->log, qr/$ids[0]: removed/, 'but not the held one';
($rc, $out) = $mta->command('postsuper', '-H', $ids[0]);
is $rc, 0, 'postsuper -H';
ok $mta->wait_log(qr/$ids[0]: removed/), 'released mail is delivered' or diag $mta->log_tail;

# delete, and what survives a restart
kill 'KILL', $peer;
Posthaste::wait_child($peer);
$smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
my ($a) = $smtp->mail('a@client.example', 'a@far.example', "Subject: a\n\n") =~ /as (\S+)/;
my ($b) = $smtp->mail('b@client.example', 'b@far.example', "Subject: b\n\n") =~ /as (\S+)/;
my ($c) = $smtp->mail('c@client.example', 'c@far.example', "Subject: c\n\n") =~ /as (\S+)/;
$smtp->quit;
ok $mta->wait_log(qr/$_: to=.*status=deferred/), 'deferred again' for $a, $b, $c;
($rc, $out) = $mta->command('postsuper', '-d', $a);
is $rc, 0, 'postsuper -d';
($rc, $out) = $mta->command('postsuper', '-h', $b);
is $rc, 0, 'hold the second';
$mta->crash;
$mta->launch;
ok wait_until(sub { ($mta->command('postqueue', '-p'))[1] =~ /2 Requests/ }, 20), 'two are left after a crash'
	or diag(($mta->command('postqueue', '-p'))[1]);
($rc, $out) = $mta->command('postqueue', '-p');
unlike $out, qr/^$a/m, 'the deleted one stays deleted';
like $out, qr/^$b!/m, 'the held one stays held';
like $out, qr/^$c /m, 'the deferred one stays deferred';
like $out, qr/Connection refused|suspended/, 'with its reason';
($rc, $out) = $mta->command('postsuper', '-d', 'ALL');
is $rc, 0, 'postsuper -d ALL';
ok wait_until(sub { ($mta->command('postqueue', '-p'))[1] eq "Mail queue is empty\n" }, 20), 'empty';
($rc, $out) = $mta->command('postsuper', '-d', 'no-such-id');
isnt $rc, 2, 'a bad id is no crash';
$mta->stop;
done_testing;
