#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# enable_threaded_bounces: a notification names the Message-Id of what it is about, if that has one that can be named.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(wait_until);
use Test::More;

my $hop = Posthaste->recorder;
my %main = (relayhost => "[127.0.0.1]:$hop->{port}", transport_maps => 'inline:{{bad.test = error:5.1.1 no such place}}',
	virtual_alias_maps => 'inline:{{r@good.test = r@bad.test}}');
my $mta = Posthaste->start(main => { %main, enable_threaded_bounces => 'yes' });

sub notice {
	my ($name, $header) = @_;
	my $smtp = $mta->smtp;
	$smtp->ok('EHLO x.test');
	my ($id) = $smtp->mail("$name\@x.test", 'r@good.test', "${header}Subject: $name\n\nbody\n") =~ /queued as (\S+)/;
	$smtp->quit;
	my $text;
	wait_until(sub { ($text) = ($hop->got =~ s/\r//gr) =~ /^RCPT TO:<$name\@x\.test>.*?^DATA\n(.*?)^\.\n/msg; defined $text }) or diag $mta->log_tail;
	return ($text // '') =~ s/\n\n.*//sr;
}

my $top = notice('plain', "Message-Id: <m.1\@x.test>\n");
is join(' ', $top =~ /^(References: .*|In-Reply-To: .*)$/mg), 'References: <m.1@x.test> In-Reply-To: <m.1@x.test>', 'the original is named';
$top = notice('none', '');
like $top, qr/^References: <\w+\@mx\.posthaste\.test>$/m, 'also by the id that it was given here';
for my $case ([ 'two', "Message-Id: <a\@x.test> <b\@x.test>\n" ], [ 'words', "Message-Id: no id\n" ], [ 'long', 'Message-Id: <' . 'x' x 920 . "\@x.test>\n" ]) {
	my ($name, $header) = @$case;
	unlike notice($name, $header), qr/^(?:References|In-Reply-To):/m, "$name: nothing is named";
}
$mta->configure(%main, enable_threaded_bounces => 'no');
is(($mta->command('posthaste', 'reload'))[0], 0, 'reload without it');
ok wait_until(sub { my $n = 'off' . int rand 1e9; notice($n, "Message-Id: <m.2\@x.test>\n") !~ /^References:/m }, 30), 'by default nothing is named';
is $mta->stop, 0, 'stop';
is $mta->crashes, '', 'nothing crashed';
done_testing;
