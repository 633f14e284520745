#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Other people's software sends through it and receives from it: swaks, Python's smtplib, Postfix's
# smtp-source and smtp-sink.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port spawn slurp run_ok wait_until);
use Test::More;

my $peers = Posthaste::build_dir() . '/peers';
my ($prc) = run_ok(Posthaste::top() . '/scripts/peers', $peers, 'postfix');
is $prc, 0, "Debian's Postfix is at hand";
my $pf = "$peers/postfix";
$ENV{LD_LIBRARY_PATH} = "$pf/usr/lib/postfix:$pf/usr/lib/x86_64-linux-gnu";

my $sport = free_port();
my $dir = File::Temp::tempdir(CLEANUP => 1);
chdir $dir;
my $sink = spawn("$dir/sink", "$pf/usr/sbin/smtp-sink", ($> ? () : ('-u', 'nobody')), "127.0.0.1:$sport", 200);
wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$sport") }, 10);
my $mta = Posthaste->start(main => { relayhost => "[127.0.0.1]:$sport" });
my $to = "127.0.0.1:$mta->{port}";

my ($rc, $out) = run_ok('swaks', '--server', $to, '--from', 'a@x.example', '--to', 'b@y.example', '--helo', 'me.example');
is $rc, 0, 'swaks sends';
like $out, qr/250 2\.0\.0 Ok: queued as/, '... and is told so';
($rc, $out) = run_ok('swaks', '--server', $to, '--from', 'a@x.example', '--to', 'b@y.example,c@y.example', '--pipeline');
is $rc, 0, 'swaks with pipelining';
($rc, $out) = run_ok('python3', '-c', <<"EOF");
import smtplib
s = smtplib.SMTP('127.0.0.1', $mta->{port})
s.sendmail('p\@x.example', ['q\@y.example', 'r\@y.example'], 'Subject: py\\r\\n\\r\\n.dot\\r\\nend')
code, text = s.docmd('VRFY', 'q\@y.example')
assert code in (252, 454, 554, 550), (code, text)
s.quit()
EOF
is $rc, 0, "Python's smtplib sends" or diag $out;
my $n = $ENV{POSTHASTE_MESSAGES} || 2000;
for my $args ([], ['-d']) {
	($rc, $out) = run_ok("$pf/usr/sbin/smtp-source", '-m', $n, '-s', 20, '-l', 2000, @$args,
		'-f', 'src@x.example', '-t', 'dst@y.example', $to);
	is $rc, 0, "smtp-source @$args" or diag $out;
}
my $sent = sub { $mta->count_log(qr/status=sent/) };
ok wait_until(sub { $sent->() == 2 * $n + 5 }, 60), 'all of it reached smtp-sink' or diag $sent->();
ok wait_until(sub { $mta->status->{messages} == 0 }, 20), 'the queue is empty';
is $mta->stop, 0, 'stop';
done_testing;
