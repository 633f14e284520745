#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# postscreen's own dialogue beside Debian's Postfix: clients that are not let through yet hear the same, and the log
# says the same of them: commands, the three tests with each action, limits, texts of the operator, TLS.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(spew slurp wait_until free_port run_ok);
use Certs;
use Peers;
use POSIX ();
use Socket;
use Test::More;

my $why = Peers::obstacle();
plan skip_all => $why if $why;
$SIG{PIPE} = 'IGNORE';

# ---- a client of TLS: openssl between two sockets ----

package TlsClient;
our @ISA = ('Posthaste::Client');
use Socket;
use IO::Handle;

sub new {
	my ($class, $port) = @_;
	socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		open STDIN, '<&', $theirs;
		open STDOUT, '>&', $theirs;
		open STDERR, '>', '/dev/null';
		exec 'openssl', 's_client', '-quiet', '-connect', "127.0.0.1:$port", '-tls1_3', '-starttls', 'smtp', '-name', 'client.test'
			or POSIX::_exit(71);
	}
	close $theirs;
	$ours->autoflush(1);
	return bless { sock => $ours, pid => $pid }, $class;
}

sub end { my ($self) = @_; close $self->{sock}; kill 'TERM', $self->{pid}; waitpid $self->{pid}, 0; return }

package main;

# ---- the dialogues: what is sent at once, and how many replies it has (1) ----

my @good = ("EHLO client.test\r\n", "MAIL FROM:<a\@else.test>\r\n", "RCPT TO:<one\@here.test>\r\n", "RCPT TO:<\"t w o\"\@here.test> NOTIFY=NEVER\r\n", "QUIT\r\n");
my @plain = (
	[@good],
	[ map { "$_\r\n" } 'HELO', 'EHLO', 'RCPT TO:<x@y.test>', 'MAIL', 'MAIL FROM:<>', 'MAIL FROM:<>', 'RSET', 'mail from: a@else.test SIZE=9', 'RCPT',
		'RCPT TO:<@x,@y:three@here.test>', 'VRFY', 'VRFY four', 'ETRN', 'ETRN here.test', 'NOOP x', 'STARTTLS', 'QUIT now' ],
	[ map { "$_\r\n" } 'HELO client.test more', 'AUTH PLAIN AAA', 'XCLIENT NAME=x', 'XFORWARD NAME=x', 'HELP', '', "\tNOOP", '  NOOP',
		"MAIL FROM:<\"a\\\"b\"\@else.test>", 'RCPT TO:<unclosed', "RCPT TO:<\"q>", 'RCPT TO:', 'HELO again', 'QUIT' ],
	[ "DATA\r\n" ],
	[ "MAIL FROM:<>\r\n", "DATA\r\n" ],
	[ "DATA x\r\n" ],
	[ "BDAT 3 LAST\r\nabc" ],
	[ "MAIL FROM:<>\r\n", "BDAT 3\r\nabc" ],
	[ "BDAT\r\n" ],
	[ map({ "NOOP\r\n" } 1 .. 20), "HELO x\r\n" ],
	[ map({ "NOOP\r\n" } 1 .. 20), "QUIT\r\n" ],
	[ 'NOOP ' . 'x' x 2041 . "\r\n", "QUIT\r\n" ],
	[ "NOOP\0RSET\r\n", "NOOP\r\r\n", "QUIT\r\n" ],
);
my @faults = (
	[ "HELO client.test\r\nNOOP\r\n", 2 ], "MAIL FROM:<a\@else.test>\r\n", "RCPT TO:<one\@here.test>\r\n", "QUIT\r\n");
my @bad = (
	[@faults],
	[ "HELO client.test\r\n", [ "MAIL FROM:<a\@else.test>\r\nRCPT TO:<\ttwo\\\@here.test>\r\nQUIT\r\n", 3 ] ],
	[ "HELO client.test\n", "MAIL FROM:<a\@else.test>\r\n", "RCPT TO:<one\@here.test>\n", "QUIT\r\n" ],
	[ "HELO client.test\r\n", "MAIL FROM:<a\@else.test>\r\n", "RCPT TO:<late\@here.test>\r\n", "NOOP a\\b\tc\001\n", "RCPT TO:<one\@here.test>\r\n", "QUIT\r\n" ],
	[ "HELO client.test\r\n", "Subject: x \\ \001y\r\n", "From: twice\r\n", "MAIL FROM:<a\@else.test>\r\n", "RCPT TO:<one\@here.test>\r\n", "QUIT\r\n" ],
	[ "GET / HTTP/1.1\r\n", "MAIL FROM:<a\@else.test>\r\n", "RCPT TO:<one\@here.test>\r\n", "QUIT\r\n" ],
	[ "connect x:25 HTTP/1.0\r\n", "QUIT\r\n" ],
	[ "BDAT 3 LAST\r\nabc" ],
);
my %services = (
	enforce => { options => [], dialogues => [ @plain, @bad ] },
	drop    => { options => [ map { "postscreen_${_}_action=drop" } qw(pipelining non_smtp_command bare_newline) ], dialogues => \@bad },
	ignore  => { options => [ map { "postscreen_${_}_action=ignore" } qw(pipelining non_smtp_command bare_newline) ], dialogues => [ @bad, [@good] ] },
	texts   => { options => [ 'postscreen_helo_required=yes', 'disable_vrfy_command=yes', 'soft_bounce=yes', 'postscreen_command_count_limit=12',
			'postscreen_command_filter=regexp:{{/^HELP/ NOOP}}', 'postscreen_discard_ehlo_keywords=dsn,silent-discard',
			'postscreen_discard_ehlo_keyword_address_maps=inline:{{127.0.0.1=chunking,etrn}}', 'postscreen_forbidden_commands=FOO',
			'smtpd_banner=mx.here.test ready', 'message_size_limit=0', 'smtputf8_enable=no', 'postscreen_bare_newline_enable=no',
			'postscreen_reject_footer=\c. See $server_name\nfor [$client_address]' ],
		dialogues => [ [ map { "$_\r\n" } 'MAIL FROM:<>', 'HELP me', 'ETRN x', 'EHLO x', 'VRFY x', 'MAIL FROM:<>', 'BDAT' ], [ "FOO\r\n", "GET\n", "QUIT\r\n" ],
			[ "HELO x\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<soft\@here.test>\r\n", map({ "NOOP\r\n" } 1 .. 10) ] ] },
	tls     => { options => [ 'postscreen_tls_security_level=encrypt' ], tls => 1,
		dialogues => [ [ "MAIL FROM:<>\r\n", "EHLO x\r\n", "DATA\r\n" ] ] },
);
my @order = qw(enforce drop ignore texts tls);

my $dir = File::Temp::tempdir('posthaste-screen-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $certs = Certs->new("$dir/certs");
$certs->ca('ca');
$certs->cert('mx', ca => 'ca', names => ['mx.here.test']);
chmod 0755, $dir, "$dir/certs";
chmod 0644, "$dir/certs/mx.pem";

my %main = (myhostname => 'mx.here.test', mydestination => '', relay_domains => 'here.test', relay_recipient_maps => '', mynetworks => '192.0.2.200',
	smtpd_peername_lookup => 'no', inet_protocols => 'ipv4', inet_interfaces => '127.0.0.1', smtpd_banner => 'mx.here.test ESMTP', smtputf8_enable => 'yes',
	postscreen_cache_map => '', postscreen_greet_banner => '', postscreen_dnsbl_sites => '', postscreen_access_list => '',
	postscreen_pipelining_enable => 'yes', postscreen_non_smtp_command_enable => 'yes', postscreen_bare_newline_enable => 'yes',
	(map { ("postscreen_${_}_action" => 'enforce') } qw(pipelining non_smtp_command bare_newline)),
	smtpd_tls_chain_files => "$dir/certs/mx.pem", smtpd_tls_loglevel => 1,
	tlsproxy_tls_security_level => 'may'); # Debian's asks there

sub master {
	my ($port_of) = @_;
	my $text = "smtpd pass - - n - - smtpd\ndnsblog unix - - n - 0 dnsblog\ntlsproxy unix - - n - 0 tlsproxy\n";
	$text .= "127.0.0.1:$port_of->{$_} inet n - n - 1 postscreen\n" . join '', map { "  -o { $_ }\n" } @{ $services{$_}{options} } for @order;
	return $text;
}

sub normal {
	my ($t) = @_;
	return $t =~ s/\[127\.0\.0\.1\]:?\d+/[127.0.0.1]:P/gr =~ s/after [\d.]+ from/after T from/r =~ s/service=\S+/service=S/r =~ s/ cipher .*//r;
}

sub talk {
	my ($c, $dialogue) = @_;
	my @said;
	for my $step (@$dialogue) {
		my ($bytes, $count) = ref $step ? @$step : ($step, 1);
		$c->send_raw($bytes);
		my $shown = $bytes =~ s/x{100,}/x.../r =~ s/([^ -~])/sprintf '\\%03o', ord $1/ger;
		push @said, "$shown: " . ($c->reply // '(closed)') for 1 .. $count;
	}
	return @said;
}

# What each service says, and what the log says of it.
sub play {
	my ($port_of, $log) = @_;
	my (%said, %logged);
	for my $name (@order) {
		my $before = length $log->();
		my $sessions = @{ $services{$name}{dialogues} };
		for my $d (@{ $services{$name}{dialogues} }) {
			my $c = Posthaste::Client->new($port_of->{$name});
			push @{ $said{$name} }, $c->{banner}, talk($c, $d);
		}
		if ($services{$name}{tls}) {
			my $c = TlsClient->new($port_of->{$name});
			push @{ $said{$name} }, talk($c, [ "RSET\r\n", "EHLO client.test\r\n", @good[ 1 .. 4 ] ]);
			$c->end;
			$sessions++;
		}
		wait_until(sub { (() = substr($log->(), $before) =~ /postscreen\[\d+\]: DISCONNECT/g) >= $sessions }, 20);
		wait_until(sub { substr($log->(), $before) =~ /tlsproxy\[\d+\]: DISCONNECT/ }, 20) if $services{$name}{tls};
		my @lines = map { m{(postscreen|tlsproxy)\[\d+\]: (.*)} ? normal("$1: $2") : () } split /\n/, substr($log->(), $before);
		# two processes have no order
		$logged{$name} = [ (grep { /^postscreen/ } @lines), (grep { /^tlsproxy/ } @lines) ];
	}
	return (\%said, \%logged);
}

# Somebody listens on all of them; a connection to find that out would be in the log.
sub all_listen {
	my %open = map { /^\s*\d+: \w+:(\w+) \w+:0000 0A/ ? (hex($1) => 1) : () } split /\n/, slurp('/proc/net/tcp');
	return !grep { !$open{$_} } @_;
}

my %ours = map { $_ => free_port() } @order;
my %theirs = map { $_ => free_port() } @order;
my $postfix = Peers->postfix(home => 'home.test', next => free_port(), master => master(\%theirs),
	main => join '', map { "$_ = $main{$_}\n" } sort keys %main) or die "Postfix does not run\n";
wait_until(sub { all_listen(values %theirs) }, 20);
my ($their_words, $their_log) = play(\%theirs, sub { $postfix->log });
$postfix->stop;
my $mta = Posthaste->prepare(master => master(\%ours) . "127.0.0.1:9 inet n - n - - smtpd\n");
$mta->{opt}{master} =~ s/127\.0\.0\.1:9 /127.0.0.1:$mta->{port} /;
$mta->configure(%main);
$mta->launch;
my ($our_words, $our_log) = play(\%ours, sub { $mta->log });
for my $name (@order) {
	is_deeply $our_words->{$name}, $their_words->{$name}, "$name: the same replies" or diag_first($our_words->{$name}, $their_words->{$name});
	is_deeply $our_log->{$name}, $their_log->{$name}, "$name: the same log lines" or diag_first($our_log->{$name}, $their_log->{$name});
}

sub diag_first {
	my ($got, $want) = @_;
	my $i = 0;
	$i++ while $i < @$got && $i < @$want && $got->[$i] eq $want->[$i];
	diag "ours:   " . ($got->[$i] // '-') . "\nPostfix: " . ($want->[$i] // '-');
	return;
}

is $mta->stop, 0, 'stops';
is $mta->crashes, '', 'nothing crashed';
is $mta->refusals, 0, 'no system call was refused';
done_testing;
