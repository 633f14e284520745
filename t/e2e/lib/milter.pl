#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A milter that does what a script says. usage: milter.pl LISTEN SCRIPT LOG
# LISTEN is ADDRESS:PORT, a port of 127.0.0.1 or the path of a socket. Each connection is a child of its own, which reads
# SCRIPT when it begins. Its lines are
#	EVENT [/pattern/] ACTION; ACTION ...
# EVENT: NEG, CONNECT, HELO, MAIL, RCPT, DATA, UNKNOWN, HEADER, EOH, BODY, EOM; the pattern is matched with what the
# event brought. The first line that fits is taken; events without a line are answered with "continue".
# In LOG: a line for each macro list and each event, as they came.
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket;

my ($listen, $script, $log) = @ARGV;
my %event = (O => 'NEG', C => 'CONNECT', H => 'HELO', M => 'MAIL', R => 'RCPT', T => 'DATA', U => 'UNKNOWN', L => 'HEADER',
	N => 'EOH', B => 'BODY', E => 'EOM', A => 'ABORT', Q => 'QUIT', D => 'MACRO');
my %letter = (continue => 'c', accept => 'a', reject => 'r', tempfail => 't', discard => 'd', shutdown => '4', skip => 's',
	progress => 'p');
my %nr = (C => 12, H => 13, M => 14, R => 15, T => 16, U => 17, L => 7, N => 18, B => 19);
my $server = $listen =~ m{^/} ? IO::Socket::UNIX->new(Local => $listen, Listen => 100)
	: IO::Socket::INET->new(LocalAddr => $listen =~ /:/ ? $listen : "127.0.0.1:$listen", Listen => 100, ReuseAddr => 1);
die "listen on $listen: $!\n" unless $server;
chmod 0777, $listen if $listen =~ m{^/};
$SIG{CHLD} = 'IGNORE';
$SIG{PIPE} = 'IGNORE';
open my $out, '>>', $log or die "$log: $!\n";
$out->autoflush(1);
print "ready\n";
STDOUT->flush;
my ($sock, @rules, $steps);

sub say_log { my ($text) = @_; $text =~ s/\0/|/g; $text =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ge; syswrite $out, "$text\n"; return }
sub put { my ($letter, $data) = @_; my $p = pack 'NA1', 1 + length($data // ''), $letter; return send_all($p . ($data // '')) }
sub send_all { my ($p) = @_; while (length $p) { my $n = syswrite $sock, $p; do { say_log('EOF'); exit 0 } unless $n; substr $p, 0, $n, '' } return }
sub get { my ($n) = @_; my $p = ''; while (length $p < $n) { sysread($sock, $p, $n - length $p, length $p) or do { say_log('EOF'); exit 0 } } return $p }
sub value { my ($text) = @_; $text =~ s/\\n/\n/g; $text =~ s/\\r/\r/g; $text =~ s/\\0/\0/g; return $text }

# One action; false: no answer follows by itself.
sub act {
	my ($action, $event) = @_;
	my ($verb, $rest) = split ' ', $action, 2;
	$rest = value($rest // '');
	if ($letter{$verb}) { put($letter{$verb}); return $verb eq 'progress' ? 0 : 1 }
	if ($verb eq 'reply') { put('y', "$rest\0"); return 1 }
	if ($verb eq 'quarantine') { put('q', "$rest\0"); return 0 }
	if ($verb eq 'addheader') { my ($n, $v) = split / /, $rest, 2; put('h', "$n\0$v\0"); return 0 }
	if ($verb eq 'insheader') { my ($i, $n, $v) = split / /, $rest, 3; put('i', pack('N', $i) . "$n\0$v\0"); return 0 }
	if ($verb eq 'chgheader') { my ($i, $n, $v) = split / /, $rest, 3; put('m', pack('N', $i) . "$n\0" . ($v // '') . "\0"); return 0 }
	if ($verb eq 'replbody') { put('b', $rest); return 0 }
	if ($verb eq 'bigbody') { put('b', ('x' x 998 . "\r\n") x 60) for 1 .. $rest; return 0 }
	if ($verb eq 'addrcpt') { put('+', "$rest\0"); return 0 }
	if ($verb eq 'addrcptpar') { my ($a, $p) = split / /, $rest, 2; put('2', "$a\0$p\0"); return 0 }
	if ($verb eq 'delrcpt') { put('-', "$rest\0"); return 0 }
	if ($verb eq 'chgfrom') { my ($a, $p) = split / /, $rest, 2; put('e', "$a\0" . (defined $p ? "$p\0" : '')); return 0 }
	if ($verb eq 'raw') { send_all(pack 'H*', $rest); return 1 }
	if ($verb eq 'excess') { put('c', 'data'); return 1 }
	if ($verb eq 'unknown') { put('Z'); return 1 }
	if ($verb eq 'nothing') { return 1 }
	if ($verb eq 'hang') { get(1) while 1 }
	if ($verb eq 'wait') { select undef, undef, undef, $rest; return 0 }
	if ($verb eq 'endless') { put('p') while 1 }
	if ($verb eq 'close') { say_log('CLOSED'); exit 0 }
	die "unknown action $verb\n";
}

sub negotiate {
	my ($data) = @_;
	my ($version, $actions, $offered) = unpack 'NNN', $data;
	say_log("NEG $version $actions $offered");
	my ($rule) = grep { $_->[0] eq 'NEG' } @rules;
	my %is = map { split /=/, $_, 2 } grep { /=/ } $rule ? split / *; */, $rule->[2] : ();
	if ($rule && $rule->[2] !~ /=/) { act($_, 'NEG') for split / *; */, $rule->[2]; return }
	$steps = ($is{steps} // 0) + 0;
	my $macros = join '', map { my ($stage, $names) = /^(\d+):(.*)/; pack('N', $stage) . "$names\0" } split /,/, $is{macros} // '';
	return put('O', pack('NNN', $is{version} // $version, $is{actions} // 0x1ff, $steps) . $macros);
}

sub handle {
	my ($letter, $data) = @_;
	my $name = $event{$letter} // "?$letter";
	if ($letter eq 'D') {
		my $of = substr $data, 0, 1, '';
		my %m = split /\0/, $data =~ s/\0\z//r, -1;
		return say_log('MACRO ' . ($event{$of} // $of) . join '', map { length ? " $_=" . ($m{$_} // '') : () } sort keys %m);
	}
	return negotiate($data) if $letter eq 'O';
	my $shown = $letter eq 'C' ? join '|', map { ref ? unpack('a1n', $$_) : $_ } $data =~ /^([^\0]*)\0(.)(?:(..)([^\0]*)\0)?/s
		? ($1, $2, defined $3 ? unpack('n', $3) : (), $4 // ()) : () : $data =~ s/\0\z//r;
	say_log("$name $shown");
	exit 0 if $letter eq 'Q';
	return if $letter eq 'A';
	my ($rule) = grep { $_->[0] eq $name && (!defined $_->[1] || $shown =~ /$_->[1]/) } @rules;
	return if defined $nr{$letter} && ($steps & 1 << $nr{$letter}) && !$rule;
	for my $action ($rule ? split / *; */, $rule->[2] : ()) { return if act($action, $name) }
	return put('c');
}

while (1) {
	$sock = $server->accept or next;
	my $pid = fork;
	if ($pid) { close $sock; next }
	close $server;
	open my $in, '<', $script or die "$script: $!\n";
	@rules = map { m{^(\w+)(?: /(.*?)/)? +(.*\S)} ? [ $1, $2, $3 ] : () } <$in>;
	while (1) {
		my ($len, $letter) = unpack 'NA1', get(5);
		handle($letter, $len > 1 ? get($len - 1) : '');
	}
}
