#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# A next hop that wants logins, for the stories. It takes mail with and without, and says in its reply who logged in and how.
# The password of every user is "secret-" and the user, but: "later" is told to come later, "bare" gets a refusal without
# an enhanced code, "echo" one that repeats what it said, "junk" gets nonsense for a challenge, "loop" challenges without
# end, "drop" loses the connection. With SCRAM "liar" hears a signature that is none, "hasty" no signature at all.
# usage: saslhop.pl READY [ADDRESS:]PORT=MECHANISMS...   (the file READY appears when all ports are open)
use strict;
use warnings;
use Digest::MD5 qw(md5 md5_hex);
use Digest::SHA qw(sha1 sha256 hmac_sha1 hmac_sha256);
use IO::Select;
use IO::Socket::INET;
use MIME::Base64;

my ($ready, @ports) = @ARGV;
my %mechs;
my $select = IO::Select->new;
for (@ports) {
	my ($where, $mechs) = split /=/, $_, 2;
	$where = "127.0.0.1:$where" if $where !~ /:/;
	$mechs{$where} = $mechs;
	$select->add(IO::Socket::INET->new(LocalAddr => $where, Listen => 100, ReuseAddr => 1) or die "$where: $!");
}
open my $fh, '>', $ready or die $!;
close $fh;
$SIG{CHLD} = 'IGNORE';

sub hmac {
	my ($key, $text) = @_;
	$key = md5($key) if length $key > 64;
	$key .= "\0" x (64 - length $key);
	return unpack 'H*', md5(($key ^ ("\x5c" x 64)) . md5(($key ^ ("\x36" x 64)) . $text));
}

my $c;
sub say_line { print $c "$_[0]\r\n"; return }
sub hear { my $line = <$c> // exit 0; $line =~ s/\r?\n\z//; return $line }
sub ask { say_line('334 ' . encode_base64($_[0], '')); return hear() }

# The user who knows the password, or "wrong". A user "hasty" is let in before he knows with whom he talks.
sub scram {
	my ($hash, $hmac, $said) = @_;
	my ($header, $bare) = decode_base64($said) =~ /^(n,[^,]*,)(.*)/s or return 'wrong';
	my ($user, $nonce) = $bare =~ /^n=([^,]*),r=([^,]*)/;
	my $password = "secret-$user";
	my ($salt, $rounds) = ('pepper', 4096);
	my $first = "r=$nonce-hop,s=" . encode_base64($salt, '') . ",i=$rounds";
	my $final = decode_base64(ask($first));
	my ($without, $proof) = $final =~ /^(.*),p=(.*)$/s or return 'wrong';
	my $u = $hmac->("$salt\0\0\0\1", $password);
	my $key = $u;
	for (2 .. $rounds) { $u = $hmac->($u, $password); $key ^= $u }
	my $client = $hmac->('Client Key', $key);
	my $auth = "$bare,$first,$without";
	return 'wrong' if $without ne 'c=' . encode_base64($header, '') . ",r=$nonce-hop" or
		(decode_base64($proof) ^ $hmac->($auth, $hash->($client))) ne $client;
	return $user if $user eq 'hasty';
	my $signature = $hmac->($auth, $hmac->('Server Key', $key));
	$signature = ~$signature if $user eq 'liar';
	ask('v=' . encode_base64($signature, ''));
	return $user;
}

sub digest {
	my $said = decode_base64(ask('realm="hop.test",nonce="1234",qop="auth",algorithm=md5-sess,charset=utf-8'));
	my %is = map { /^\s*([\w-]+)="?(.*?)"?$/ ? ($1 => $2) : () } split /,/, $said;
	my $a1 = md5("$is{username}:$is{realm}:secret-$is{username}") . ":1234:$is{cnonce}";
	my $response = sub { md5_hex(md5_hex($a1) . ":1234:$is{nc}:$is{cnonce}:auth:" . md5_hex("$_[0]:$is{'digest-uri'}")) };
	return 'wrong' if $is{response} ne $response->('AUTHENTICATE') or $is{'digest-uri'} !~ m{^smtp/};
	ask('rspauth=' . $response->(''));
	return $is{username};
}

sub login { # the user who has logged in, or undef: was told why not
	my ($mech, $said) = @_;
	my ($user, $password) = ('', '');
	if ($mech eq 'PLAIN') {
		$said //= do { say_line('334 '); hear() };
		(undef, $user, $password) = split /\0/, decode_base64($said);
	} elsif ($mech eq 'LOGIN') {
		$user = decode_base64(ask('Username:'));
		$said = ask('Password:');
		$password = decode_base64($said);
	} elsif ($mech eq 'CRAM-MD5') {
		my $challenge = '<1.2@hop.test>';
		($user, my $digest) = decode_base64(ask($challenge)) =~ /^(.*) (\w+)$/;
		$password = "secret-$user" if $digest eq hmac("secret-$user", $challenge);
	} elsif ($mech =~ /^SCRAM-SHA-(1|256)$/) {
		$user = $1 eq '1' ? scram(\&sha1, \&hmac_sha1, $said) : scram(\&sha256, \&hmac_sha256, $said);
		$password = "secret-$user" if $user ne 'wrong';
	} elsif ($mech eq 'DIGEST-MD5') {
		$user = digest();
		$password = "secret-$user" if $user ne 'wrong';
	} elsif ($mech eq 'XOAUTH2') {
		($user, $password) = decode_base64($said) =~ /^user=(.*)\1auth=Bearer (.*)\1\1$/;
	} else {
		say_line('504 5.5.4 what is that?');
		return;
	}
	exit 0 if $user eq 'drop';
	while ($user eq 'loop') { ask('again') }
	if ($user eq 'junk') { say_line('334 <none>'); hear(); exit 0 }
	my %told = (later => '454 4.7.0 not now', bare => '535 no', echo => '535 5.7.8 you said ' . ($said // '') . " and $password");
	my $told = $told{$user} // ($password eq "secret-$user" ? '' : '535 5.7.8 no such luck');
	say_line($told || '235 2.7.0 welcome');
	return $told ? undef : $user;
}

sub session {
	my ($mechs) = @_;
	my $who = 'nobody';
	my $auth = '';
	$c->autoflush(1);
	say_line('220 hop ESMTP');
	while (1) {
		my $line = hear();
		if ($line =~ /^EHLO/) {
			say_line($_) for '250-hop.test', $mechs eq '-' ? () : "250-AUTH $mechs", '250 8BITMIME';
		} elsif ($line =~ /^AUTH (\S+)(?: (\S+))?$/) {
			my $user = login($1, $2);
			$who = "$user by $1" if defined $user;
		} elsif ($line =~ /^MAIL/) {
			$auth = $line =~ /(AUTH=\S+)/ ? " $1" : '';
			say_line('250 2.1.0 ok');
		} elsif ($line eq 'DATA') {
			say_line('354 go');
			1 until hear() eq '.';
			say_line("250 2.0.0 taken from $who$auth");
		} else {
			say_line($line eq 'QUIT' ? '221 bye' : '250 2.1.5 ok');
		}
	}
	return;
}

while (kill 0, getppid) {
	for my $server ($select->can_read(1)) {
		$c = $server->accept or next;
		if (!fork) {
			session($mechs{ $server->sockhost . ':' . $server->sockport });
			exit 0;
		}
		close $c;
	}
}
