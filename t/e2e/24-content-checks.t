#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# header_checks, mime_header_checks, nested_header_checks and body_checks: Debian's Postfix and
# Posthaste with the same tables get the same messages; replies, what the next hop gets and what
# cleanup logs are the same.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Peers;
use Test::More;
use File::Temp qw(tempdir);

my $why = Peers::obstacle();
plan skip_all => $why if $why;

my $dir = tempdir('posthaste-checks-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
spew("$dir/header", <<'EOF');
/^X-Reject: (.*)/	REJECT $1
/^X-Later:/	REJECT 4.7.8 not now
/^X-Warn:/	WARN careful
/^X-Strip:/	STRIP gone
/^X-Ignore:/	IGNORE
/^X-Pass:/	PASS known good
/^X-Discard:/	DISCARD
/^X-Prepend:/	PREPEND X-Before: it
/^X-Replace: (.*)/	REPLACE X-New: $1
/^X-Redirect:/	REDIRECT other@far.test
/^X-Bcc:/	BCC copy@far.test
/^Subject: (.*)old(.*)/	REPLACE Subject: $1new$2
EOF
spew("$dir/mime", <<'EOF');
/name="[^"]*\.(exe|scr)"/	REJECT no .$1 files
/^Content-Description:/	IGNORE
/^X-Part:/	REPLACE X-Part: seen
EOF
spew("$dir/nested", "/^Subject:/\tPREPEND X-Nested: yes\n/^X-Secret:/\tIGNORE\n");
spew("$dir/body", <<'EOF');
/^forbidden (.*)/	REJECT no $1 here
/^remove/	IGNORE
/^swap (.*)/	REPLACE .swapped $1
/^pre/	PREPEND .line before
/^=== /	WARN
EOF
my %tables = map { ("${_}checks" => "regexp:$dir/" . ($_ =~ s/_.*//r || 'body')) }
	qw(header_ mime_header_ nested_header_ body_);
my %recorder = map { $_ => Posthaste->recorder } qw(postfix posthaste);
my $postfix = Peers->postfix(home => 'home.test', next => $recorder{postfix}{port},
	main => join('', map { "$_ = $tables{$_}\n" } sort keys %tables) . "default_destination_concurrency_limit = 1\n");
ok $postfix, "Debian's Postfix runs" or die "Postfix does not run\n";
my $mta = Posthaste->start(main => { %tables, myhostname => 'mx.home.test',
	relayhost => "[127.0.0.1]:$recorder{posthaste}{port}", smtpd_peername_lookup => 'no', default_destination_concurrency_limit => 1 });

my $parts = "Content-Type: multipart/mixed; boundary=\"b c\"\n\npreamble\n--b c\nX-Part: a\n b\nContent-Description: x\n"
	. "Content-Type: text/plain\n\nX-Part: in the body\nremove me\nkeep\n--b c\nContent-Type: message/rfc822\n\n"
	. "Subject: inner old\nX-Secret: s\n  t\nX-Part: nested\n\nswap body\n--b c--\nepilogue\n=== end\n";
my @messages = (
	[ 'nothing to do', "Subject: x\n\nbody\n.dot\n..\n" ],
	[ 'REJECT', "Subject: x\nX-Reject: bad thing\n\nbody\n" ],
	[ 'REJECT for now', "X-Later: x\nSubject: x\n\n" ],
	[ 'WARN', "X-Warn: a\n folded\nSubject: x\n\n" ],
	[ 'STRIP', "X-Strip: a\n\tfolded\nSubject: x\n\n" ],
	[ 'IGNORE', "A: b\nX-Ignore: a\nSubject: x\n\nbody\n" ],
	[ 'PASS', "X-Pass: a\nX-Reject: b\n\nforbidden c\n" ],
	[ 'DISCARD', "X-Discard: a\n\n" ],
	[ 'PREPEND', "X-Prepend: a\n\n" ],
	[ 'REPLACE', "X-Replace: text\nSubject: my old car\n\n" ],
	[ 'REDIRECT', "X-Redirect: a\n\n" ],
	[ 'BCC', "X-Bcc: a\n\n" ],
	[ 'body REJECT', "A: b\n\nforbidden fruit\n" ],
	[ 'body', "A: b\n\nremove\nswap it\npre\n.\nremove\n" ],
	[ 'space before the colon', "X-Ignore : a\nA : b\n\n" ],
	[ 'no empty line', "A: b\nno header\nswap it\n" ],
	[ 'only a header', "X-Replace: text\n" ],
	[ 'parts', $parts ],
	[ 'forbidden attachment', $parts =~ s/text\/plain/application\/x;\n name="a.exe"/r ],
	[ 'primary MIME header', "Content-Type: application/x; name=\"a.scr\"\n\n" ],
	[ 'broken structure', "Content-Type: multipart/mixed; boundary=q\n\n--q\nX-Part: a\n--q\nX-Part: b\n\n--q--\nX-Part: c\n" ],
	[ 'long lines in pieces', "A: b\n\n" . ('x' x 2048) . "swap it\n" . ('x' x 2047) . "swap no\n" . ('x' x 2050) . "swap no\nend\n" ],
	[ 'long line', "A: b\n\nkeep " . ('x' x 5000) . "\nremove" . ('y' x 1000) . "\n.end\n" ],
);

my $count = 0;
# What one server makes of one message: its reply and its log lines of it.
sub give {
	my ($port, $log, $content) = @_;
	my $smtp = $mta->smtp($port);
	$smtp->ok('EHLO client.test');
	my $reply = $smtp->mail('s@far.test', [ 'a@far.test', 'b@far.test' ], "X-Number: " . ++$count . "\n$content");
	$smtp->quit;
	my @lines;
	my $of_it = qr/\w+: (?:reject|warning|strip|pass|discard|prepend|replace|redirect|bcc|hold|filter|info): .* to=<b\@far/;
	wait_until(sub { @lines = $log->() =~ /cleanup\[\d+\]: ($of_it.*)/g; 1 }, 1);
	return ($reply =~ s/queued as \w+/queued/r, \@lines);
}

my (%replies, %lines);
for my $m (@messages) {
	for my $who (qw(postfix posthaste)) {
		my $from = $count;
		($replies{$who}{ $m->[0] }) = $who eq 'postfix'
			? give($postfix->{port}, sub { $postfix->log }, $m->[1]) : give(undef, sub { $mta->log }, $m->[1]);
		$count = $from if $who eq 'postfix';
	}
	is $replies{posthaste}{ $m->[0] }, $replies{postfix}{ $m->[0] }, "$m->[0]: $replies{postfix}{ $m->[0] }";
}

# messages as the next hop got them: recipients and content by number
sub received {
	my ($text) = @_;
	my %got;
	while ($text =~ /^MAIL FROM.*?\n((?:RCPT TO.*?\n)+)(?:DATA|BDAT)[^\n]*\n(.*?)(?=^MAIL FROM|\z)/msg) {
		my ($rcpt, $content) = ($1, $2);
		next unless $content =~ /^X-Number: (\d+)/m;
		my $n = $1;
		next unless $content =~ /^\.\r?$/m; # the rest is on its way
		$content =~ s/\r//g;
		$content =~ s/^Received: .*\n(?:[ \t].*\n)*//mg;
		$content =~ s/^\.\n.*//ms;
		# added headers: ours name the queue id only; a second may have begun between the two
		$content =~ s/^Message-Id: .*\n//mg;
		$content =~ s/^(Date: .*) [\d:]{8} ([+-]\d{4})(?: \(.*\))?$/$1 $2/mg;
		$got{$n} .= join('', sort map { /(<[^>]*>)/ ? "$1\n" : () } split /^/, $rcpt) . $content;
	}
	return \%got;
}
my $expected = grep { $replies{postfix}{ $_->[0] } =~ /^250/ && $_->[0] ne 'DISCARD' } @messages;
my %got;
wait_until(sub {
	%got = map { $_ => received($recorder{$_}->got) } keys %recorder;
	return keys %{ $got{postfix} } >= $expected && keys %{ $got{posthaste} } >= $expected;
}, 20);
is scalar(keys %{ $got{postfix} }), $expected, 'Postfix sent on what it took';
for my $i (1 .. @messages) {
	is $got{posthaste}{$i}, $got{postfix}{$i}, "$messages[$i - 1][0]: the same content at the next hop";
}
my @logs = map { [ map { s/^\w+: //r =~ s/(from \S+?)\[[\d.]+\]/$1/r } /cleanup\[\d+\]: (\w+: (?!message-id|removed).*from=<.*)/g ] } $mta->log, $postfix->log;
is_deeply $logs[0], $logs[1], 'cleanup logs the same';
cmp_ok scalar @{ $logs[1] }, '>', 10, 'and not little';
is $mta->stop, 0, 'stop';
$postfix->stop;
done_testing;
