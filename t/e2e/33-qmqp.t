#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# The QMQP server: mail of qmail's tools and of Postfix's qmqp-source goes on, other clients are refused,
# and what it says and logs is what Postfix's qmqpd says to the same packets.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port slurp wait_until run_ok);
use Peers;
use IO::Socket::INET;
use Test::More;

my @settings = (qmqpd_authorized_clients => '127.0.0.1', qmqpd_error_delay => '0', mail_name => 'Postfix', message_size_limit => 5000, smtpd_peername_lookup => 'no',
	verp_delimiter_filter => '-=+', default_verp_delimiters => '-=');
my ($open, $shut, $filtered) = map { free_port() } 1 .. 3;
my $next = Posthaste->recorder('whole');
my $mta = Posthaste->prepare(main => { @settings, relayhost => "[127.0.0.1]:$next->{port}", non_smtpd_milters => '' });
my $smtp_port = $mta->{port};
Posthaste::spew("$mta->{dir}/conf/master.cf", <<"EOF2");
127.0.0.1:$smtp_port inet n - n - - smtpd
127.0.0.1:$open inet n - n - - qmqpd
127.0.0.1:$shut inet n - n - - qmqpd
 -o qmqpd_authorized_clients= -o syslog_name=postfix/closed
EOF2
$mta->launch;

sub netstring { return length($_[0]) . ":$_[0]," }

sub packet { my ($content, $sender, @rcpts) = @_; return netstring(join '', map { netstring($_) } $content, $sender, @rcpts) }

# All that a server says to these bytes.
sub talk {
	my ($port, $bytes) = @_;
	my $sock = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") or return "connect: $!";
	print $sock $bytes;
	$sock->flush;
	my $said = '';
	eval {
		local $SIG{ALRM} = sub { die "too slow\n" };
		alarm 20;
		1 while sysread $sock, $said, 4096, length $said;
		alarm 0;
	};
	alarm 0;
	return $said;
}

sub normal { my ($said) = @_; $said =~ s/^\d+:KOk: queued as \w+/N:KOk: queued as ID/; return $said }

my %packets = (
	'one recipient' => packet("Subject: one\n\ntext\n", 's@x.test', 'a@far.test'),
	'two recipients' => packet("Subject: two\n\n.dot\n..\nno end", 's@x.test', 'a@far.test', '"quoted"@far.test'),
	'null sender' => packet("\nnothing\n", '', 'a@far.test'),
	'a mbox separator' => packet("From me\nSubject: x\n\ntext\n", 's@x.test', 'a@far.test'),
	'a blank' => packet(" text\n", 's@x.test', 'a@far.test'),
	'lone CRs' => packet("Subject: x\n\na\rb\n", 's@x.test', 'a@far.test'),
	'VERP' => packet("Subject: verp\n\ntext\n", 'list-return-@x.test-@[]', 'a@far.test', 'b@far.test'),
	'bad VERP' => packet("Subject: verp\n\ntext\n", 'listx@x.test-@[]', 'a@far.test'),
	'no recipients' => packet("Subject: x\n\n", 's@x.test'),
	'too large' => packet('x' x 6000, 's@x.test', 'a@far.test'),
	'no number' => 'hello',
	'no comma' => '20:3:abcd,',
	'a long address' => packet("x\n", 'x' x 3000, 'a@far.test'),
);
my %ours = map { $_ => normal(talk($open, $packets{$_})) } sort keys %packets;
like $ours{'one recipient'}, qr/^N:KOk: queued as ID,$/, 'a message is taken';
is talk($shut, ''), '66:DError: localhost[127.0.0.1] is not authorized to use this service,', 'who is not authorized is told';
ok $mta->wait_log(qr{closed/qmqpd\[\d+\]: disconnect from localhost\[127\.0\.0\.1\]$}m), '... and is in the log';

# ---- Postfix ----

my $peer_next = Posthaste->recorder('whole');
my $why = Peers::obstacle();
my ($qmqp_port, $peer) = free_port();
SKIP: {
	skip $why, 7 + keys %packets if $why;
	my %main = @settings;
	$peer = Peers->postfix(home => 'home.test', next => $peer_next->{port}, main => join('', map { "$_ = $main{$_}\n" } sort keys %main),
		master => "127.0.0.1:$qmqp_port inet n - n - - qmqpd\n") or skip 'no peer', 7 + keys %packets;
	# one client each that says nothing
	wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$_") }, 20) for $qmqp_port, $open;
	for my $name (sort keys %packets) {
		is $ours{$name}, normal(talk($qmqp_port, $packets{$name})), "$name: the reply";
	}
	# what arrives, in any order
	my $messages = sub {
		my @found;
		for my $part (split /^MAIL /m, join '', map { s/\r//gr } slurp($_[0]{file})) {
			my ($sender) = $part =~ /\AFROM:<(.*?)>/ or next;
			my @rcpts = sort $part =~ /^RCPT TO:<(.*?)>/mg;
			my ($content) = $part =~ /^DATA\n(.*?\n)\.\n/ms or next;
			$content =~ s/^(Received: from )(\S+ \(\S+ \[[\d.]+\])\)\n\s+by \S+ \((.*?)\) with QMQP(\n?\s+)id \w+/$1$2) by HOST ($3) with QMQP$4id ID/;
			$content =~ s/^(Message-Id: )<.*>$/$1<ID>/mg;
			$content =~ s/^(Date: |\tfor <\S+>; |\tid ID; ).*/$1DATE/mg;
			$content =~ s/(id ID; ).*/$1DATE/;
			$content =~ s/\@mx\.\S+/\@HOST/g;
			push @found, "<$sender> to @rcpts\n$content";
		}
		@found = sort @found;
		return @found;
	};
	my $good = grep { /KOk/ } values %ours;
	my $total = $good + 1; # VERP: one for each recipient
	ok wait_until(sub { $messages->($next) >= $total }, 30), 'all go on' or diag $mta->log_tail;
	ok wait_until(sub { $messages->($peer_next) >= $total }, 30), '... those of Postfix, too' or diag $peer->log;
	my @theirs = $messages->($peer_next);
	my @mine = $messages->($next);
	is_deeply \@mine, \@theirs, 'what arrives';
	# log lines
	my $lines = sub {
		my ($log) = @_;
		return [ sort map { s/^.*?qmqpd\[\d+\]: (?:warning: )?//r =~ s/^\w{10,}:/ID:/r } grep { /qmqpd\[\d+\]: / && !m{closed/} } split /\n/, $log ];
	};
	ok wait_until(sub { @{ $lines->($mta->log) } == @{ $lines->($peer->log) } }, 10), 'as many log lines';
	is_deeply $lines->($mta->log), $lines->($peer->log), 'the same ones';

	# Postfix's own client, many at a time
	my $root = $peer->{root};
	local $ENV{LD_LIBRARY_PATH} = join ':', "$root/usr/lib/postfix", "$root/usr/lib", glob "$root/usr/lib/*-linux-gnu";
	my ($rc, $out) = run_ok("$root/usr/sbin/qmqp-source", '-s', 5, '-m', 40, '-r', 3, '-l', 2000, '-f', 's@x.test', '-t', 'load@far.test', "127.0.0.1:$open");
	is $rc, 0, 'qmqp-source' or diag $out;
	ok wait_until(sub { $mta->count_log(qr/to=<\d?load\@far\.test>.*status=sent/) >= 120 || $mta->count_log(qr/load\@far\.test>.*status=sent/) >= 120 }, 30),
		'all of its mail goes on' or diag $mta->log_tail;
	$peer->stop;
}
is $mta->crashes, '', 'nothing crashed';
is $mta->stop, 0, 'stops';
$_->stop for $next, $peer_next;
done_testing;
