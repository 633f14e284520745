#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Debian's Postfix and Posthaste with the same socketmap tables and the same dialogue: the same replies, the same
# addresses asked for in each table, the same mail to the next hop. (Postfix folds the case of such keys in one of
# its processes and not in another, here they are always folded.)
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port spawn);
use Peers;
use Test::More;
use File::Temp qw(tempdir);

my $why = Peers::obstacle();
plan skip_all => $why if $why;
my $dir = tempdir('posthaste-tables-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my @rows = ("dom:relay.test\tx", "rc:user\@relay.test\tx", "rc:user+ext\@relay.test\tx", "rc:vtemp\@relay.test\tx",
	"acc:bad\@relay.test\tREJECT no", "acc:temp\@relay.test\t=TEMP later", "acc:held\@relay.test\tHOLD",
	"acc:relay.test\tREJECT of the domain", "rc:odd\@relay.test\t=GARBAGE", "va:vtemp\@relay.test\t=TEMP later",
	"va:user\@relay.test\tone\@other.test, two\@other.test", "va:two\@other.test\tthree\@other.test",
	"rc:held\@relay.test\tx", "rc:\@relay.test\tx");
my @dialogue = ('EHLO client.test', 'MAIL FROM:<Sender@Else.Test>', 'RCPT TO:<User+Ext@Relay.Test>',
	map({ "RCPT TO:<$_\@relay.test>" } qw(none bad temp odd vtemp held)), 'RCPT TO:<user@foreign.test>', 'RSET',
	'MAIL FROM:<a@b.test>', 'RCPT TO:<user@relay.test>', 'DATA', "Subject: x\r\n\r\nx\r\n.");

sub conf {
	my ($port) = @_;
	my $map = "socketmap:inet:127.0.0.1:$port";
	return (relay_domains => "$map:dom", relay_recipient_maps => "$map:rc", virtual_alias_maps => "$map:va",
		smtpd_recipient_restrictions => "check_recipient_access $map:acc", mydestination => '', recipient_delimiter => '+',
		smtpd_relay_restrictions => 'reject_unauth_destination', alias_maps => '', local_recipient_maps => '',
		mynetworks => '192.0.2.1');
}

# Starts a system of its own server and next hop, plays the dialogue: replies, keys with an address, recipients.
sub play {
	my ($name, $start) = @_;
	my $port = free_port();
	my $next = Posthaste->recorder;
	spew("$dir/$name", join '', map { "$_\n" } @rows);
	my $pid = spawn("$dir/$name.out", $^X, "$FindBin::Bin/lib/tableserver.pl", $port, "$dir/$name", 'socketmap');
	wait_until(sub { -e "$dir/$name.ready" }, 20) or die 'no server';
	my $mta = $start->({ conf($port), relayhost => "[127.0.0.1]:$next->{port}" }) or die "no $name";
	my $c = Posthaste::Client->new($mta->{port});
	my @replies = map { $c->cmd($_) } @dialogue;
	$c->quit;
	wait_until(sub { $next->got =~ /RCPT TO:<three\@other\.test>/ && $next->got =~ /RCPT TO:<one\@other\.test>/ }, 30);
	my %asked = map { lc $_ => 1 } grep { /\@/ } split /\n/, slurp("$dir/$name.asked");
	my @rcpts = sort $next->got =~ /RCPT TO:<(.*?)>/g;
	$mta->stop;
	$next->stop;
	Posthaste::end_child($pid);
	s/queued as \w+/queued/ for @replies;
	shift @replies; # EHLO
	return ([ @replies ], [ sort keys %asked ], [ @rcpts ]);
}

my @theirs = play('postfix', sub {
	my ($main) = @_;
	my $hop = $main->{relayhost} =~ s/.*://r;
	return Peers->postfix(home => 'home.test', next => $hop, main => join '', map { "$_ = $main->{$_}\n" } sort keys %$main);
});
my @ours = play('posthaste', sub { my ($main) = @_; return Posthaste->start(main => $main) });
is $ours[0][$_], $theirs[0][$_], $dialogue[ $_ + 1 ] =~ s/\r\n.*//sr for 0 .. $#dialogue - 1;
is_deeply $ours[1], $theirs[1], 'the same addresses are asked for' or diag explain $ours[1], $theirs[1];
is_deeply $ours[2], $theirs[2], 'the same recipients at the next hop' or diag explain $ours[2], $theirs[2];
done_testing;
