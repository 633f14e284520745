#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Where mail goes by DNS: MX by preference, the next host when one is dead, addresses without MX, null
# MX, names that do not exist, and name servers that fail; and a resolver that is killed meanwhile.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port slurp spew wait_until);
use Test::More;

my ($port, $dns) = (free_port(), free_port());
my $dir = File::Temp::tempdir(CLEANUP => 1);
Posthaste::spawn("$dir/dialog", $^X, "$FindBin::Bin/lib/recorder.pl", $port, "$dir/got");
wait_until(sub { -e "$dir/got.ready" }, 10);
spew("$dir/zone", <<'EOF');
two.test MX 20 live.test
two.test MX 10 dead.test
dead.test A 127.9.9.9
live.test A 127.0.0.1
host.test A 127.0.0.1
null.test MX 0 .
broken.test SERVFAIL
later.test A 127.0.0.1
EOF
Posthaste::spawn("$dir/dns.out", $^X, "$FindBin::Bin/lib/dns.pl", $dns, "$dir/zone");
wait_until(sub { -e "$dir/zone.log" }, 10);

my $mta = Posthaste->prepare(main => { resolver_nameservers => "127.0.0.1:$dns" });
spew("$mta->{dir}/transport",
	join '', map { "$_ smtp:$_:$port\n" } qw(two.test host.test null.test nx.test broken.test later.test));
$mta->configure(transport_maps => "texthash:$mta->{dir}/transport");
$mta->launch;

my $smtp = $mta->smtp;
$smtp->ok('EHLO client.example');
my %qid;
for my $to (qw(two host null nx broken)) {
	my $reply = $smtp->mail('sender@host.test', ["rcpt\@$to.test"], "Subject: $to\n\nx");
	($qid{$to}) = $reply =~ /queued as (\S+)/;
	ok $qid{$to}, "mail for $to.test accepted" or diag $reply;
}
my $nse = 'Host or domain name not found\. Name service error for name=';
ok $mta->wait_log(qr/$qid{two}: to=<rcpt\@two\.test>, relay=live\.test\[127\.0\.0\.1\]:$port, .*status=sent/),
	'second MX takes it';
like $mta->log, qr/postfix\/smtp\[\d+\]: connect to dead\.test\[127\.9\.9\.9\]:$port: Connection refused$/m,
	'after the first, which is dead';
ok $mta->wait_log(qr/$qid{host}: to=<rcpt\@host\.test>, relay=host\.test\[127\.0\.0\.1\]:$port, .*status=sent/),
	'no MX: the address';
ok $mta->wait_log(qr/$qid{null}: to=<rcpt\@null\.test>, relay=none, .*dsn=5\.1\.0, status=bounced \(Domain null\.test does not accept mail \(nullMX\)\)/),
	'null MX bounces';
ok $mta->wait_log(qr/$qid{nx}: .*relay=none, .*dsn=5\.4\.4, status=bounced \(${nse}nx\.test type=MX: Host not found\)/),
	'a name that does not exist bounces';
ok $mta->wait_log(qr/$qid{broken}: .*relay=none, .*dsn=4\.4\.3, status=deferred \(${nse}broken\.test type=MX: Host not found, try again\)/),
	'a failing name server defers';
# the notifications go the same way
ok wait_until(sub { (() = slurp("$dir/got") =~ /^RCPT TO:<sender\@host\.test>/mg) == 2 }, 10),
	'both notifications reach the sender';

my ($resolver) = grep { $_->{class} eq 'resolver' } $mta->workers;
ok $resolver, 'resolver is listed';
kill 'KILL', $resolver->{pid};
my $reply = $smtp->mail('sender@host.test', ['rcpt@later.test'], "Subject: later\n\nx");
my ($qid) = $reply =~ /queued as (\S+)/;
ok $mta->wait_log(qr/$qid: to=<rcpt\@later\.test>, .*status=sent/), 'a new resolver goes on';
is $smtp->quit, '221 2.0.0 Bye', 'bye';
is $mta->stop, 0, 'stop';
done_testing;
