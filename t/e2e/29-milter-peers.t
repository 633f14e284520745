#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A milter that others wrote: opendkim signs mail at one listener and of local users, and verifies it at another.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Test::More;
use File::Temp qw(tempdir);

my ($opendkim) = grep { -x } '/usr/sbin/opendkim', '/usr/local/sbin/opendkim';
plan skip_all => 'needs opendkim (apt-get install opendkim)' unless $opendkim;

my $dir = tempdir('posthaste-dkim-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
Posthaste::run_ok('openssl', 'genrsa', '-out', "$dir/key", '2048') ;
my (undef, $public) = Posthaste::run_ok('sh', '-c', "openssl rsa -in $dir/key -pubout 2>/dev/null");
$public =~ s/-----.*?-----|\s//g;
spew("$dir/keys", "sel._domainkey.home.test v=DKIM1; k=rsa; p=$public\n");
my %port = map { $_ => Posthaste::free_port() } qw(sign verify listener first);
for my $mode (qw(sign verify)) {
	my $letter = substr $mode, 0, 1;
	spew("$dir/$mode.conf", <<"EOC");
Syslog no
Mode $letter
Socket inet:$port{$mode}\@127.0.0.1
Domain home.test
Selector sel
KeyFile $dir/key
InternalHosts 127.0.0.0/8
TestPublicKeys $dir/keys
AuthservID mx.home.test
AlwaysAddARHeader yes
RequireSafeKeys no
Canonicalization relaxed/simple
PidFile $dir/$mode.pid
Background no
Nameservers 127.0.0.1
EOC
	spew("$dir/$mode.conf", slurp("$dir/$mode.conf") =~ s/^InternalHosts.*\n/InternalHosts 192.0.2.1\n/mr) if $mode eq 'verify';
	my $pid = Posthaste::spawn("$dir/$mode.out", $opendkim, '-f', '-x', "$dir/$mode.conf");
	wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port{$mode}") }, 20) or die "opendkim ($mode): " . slurp("$dir/$mode.out");
}
my $recorder = Posthaste->recorder;
my $mta = Posthaste->start(
	main => { myhostname => 'mx.home.test', myorigin => 'home.test', mydestination => '', relayhost => "[127.0.0.1]:$recorder->{port}", smtpd_peername_lookup => 'no',
		smtpd_milters => "inet:127.0.0.1:$port{sign}", non_smtpd_milters => "inet:127.0.0.1:$port{sign}", default_destination_concurrency_limit => 1 },
	port => $port{first}, master => "127.0.0.1:$port{first} inet n - n - - smtpd\n127.0.0.1:$port{listener} inet n - n - - smtpd\n -o smtpd_milters=inet:127.0.0.1:$port{verify}\n");

my $text = "From: <s\@home.test>\nTo: a\@far.test\nSubject: signed\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-Id: <n\@x>\n\nbody\n.dot\n..two\n\n" . ('long ' x 150 . "\n") x 30 . "\n\n";
sub got { my @m = $recorder->got =~ /^DATA\r?\n(.*?)^\.\r?$/msg; @m = map { s/\r//gr =~ s/^\.\././mgr } @m; return @m }
my $smtp = $mta->smtp;
$smtp->ok('EHLO c.test');
like $smtp->mail('s@home.test', ['a@far.test'], $text), qr/^250/, 'a message to be signed';
like $smtp->mail('s@home.test', ['a@far.test'], $text =~ s/body\n/other\n/r), qr/^250/, 'and another in the same session';
spew("$dir/in", "Subject: local\n\nbody\n");
my ($rc, $out) = Posthaste::run_ok('sh', '-c', 'exec ' . Posthaste::prefix() . "/sbin/sendmail -C $mta->{dir}/conf -f s\@home.test a\@far.test < $dir/in");
is $rc, 0, 'a message of a local user' or diag $out;
wait_until(sub { got() >= 3 }, 20);
my @signed = got();
is scalar(@signed), 3, 'three messages are sent on';
like $_, qr/^DKIM-Signature: v=1;.*\n(?:\s.*\n)*Received: /m, 'with a signature above our own header' for @signed;
my $verify = $mta->smtp($port{listener});
$verify->ok('EHLO c.test');
for my $m (@signed, $signed[0] =~ s/^body$/forged/mr) {
	like $verify->mail('s@home.test', ['v@far.test'], $m), qr/^250/, 'it comes back';
}
wait_until(sub { got() >= 7 }, 20);
my @results = map { /^Authentication-Results: mx\.home\.test;\s+dkim=(\w+)/m ? $1 : 'none' } (got())[3 .. 6];
is_deeply \@results, [ 'pass', 'pass', 'pass', 'fail' ], 'the signatures fit what was sent on, and nothing else';
is $mta->stop, 0, 'stop';
done_testing;
