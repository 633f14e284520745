#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# internal_mail_filter_classes beside Debian's Postfix: header checks and milters see notifications, and what they do with
# them is done. Without it they see none.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Peers;
use Test::More;
use File::Temp qw(tempdir);

$SIG{PIPE} = 'IGNORE';
my $dir = tempdir('posthaste-own-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
spew("$dir/checks", "/^Subject: .*(Undelivered|undeliver)/ PREPEND X-Seen: by checks\n/^X-Stop/ REJECT\n");
spew("$dir/script", "MAIL /later/ tempfail\nEOM addheader X-Milter was here; continue\n");

# The letters of a milter's events, each run of one kind once: what there is of headers differs in number.
sub events { my ($text) = @_; return join ' ', map { /^([A-Z]+)/ && $1 !~ /^(?:MACRO|NEG)$/ ? $1 : () } split /\n/, $text }

sub play {
	my ($who, $classes) = @_;
	my $next = Posthaste->recorder('whole', 'RCPT TO:<no@=>550 5.1.1 no such user');
	my $at   = Posthaste::free_port();
	my $log  = "$dir/log.$who.$classes";
	my $pid  = Posthaste::spawn("$log.out", $^X, Posthaste::top() . '/t/e2e/lib/milter.pl', $at, "$dir/script", $log);
	wait_until(sub { slurp("$log.out") =~ /ready/ }, 10) or die 'the milter does not start';
	my %main = (internal_mail_filter_classes => $classes, header_checks => "regexp:$dir/checks", non_smtpd_milters => "inet:127.0.0.1:$at", mynetworks => '127.0.0.0/8');
	my $mta;
	if ($who eq 'postfix') {
		$mta = Peers->postfix(home => 'home.test', next => $next->{port}, main => join '', map { "$_ = $main{$_}\n" } sort keys %main) or die "Postfix does not run\n";
	} else {
		$mta = Posthaste->start(main => { %main, myhostname => 'mx.home.test', mydestination => '', relayhost => "[127.0.0.1]:$next->{port}", smtpd_peername_lookup => 'no' });
	}
	my $c = Posthaste::Client->new($mta->{port});
	$c->ok('EHLO c.test');
	$c->mail('s@far.test', 'no@far.test', "Subject: x\n\nbody\n");
	$c->quit;
	ok wait_until(sub { $next->got =~ /^RCPT TO:<s\@far\.test>.*^\.\r?$/ms }, 30), "$who: a bounce ($classes)" or diag $mta->log;
	wait_until(sub { slurp($log) =~ /^(?:QUIT|EOF)/m }, 20) if $classes;
	my ($bounce) = $next->got =~ /^RCPT TO:<s\@far\.test>.*?^DATA\r?\n(.*?)^\.\r?$/ms;
	my %of = (seen => scalar(() = $bounce =~ /^X-Seen: by checks/mg), milter => scalar(() = $bounce =~ /^X-Milter: was here/mg),
		events => events(slurp($log)) =~ s/\b(\w+)(?: \1)+\b/$1/gr, signs => $bounce =~ /^Subject: Undelivered Mail Returned to Sender/m);
	if ($who eq 'posthaste') {
		if ($classes) {
			my $smtp = $mta->smtp;
			$smtp->ok('EHLO c.test');
			$smtp->mail('s@far.test', 'no@far.test', "Subject: x\n\nbody\n") for 1 .. 5;
			ok wait_until(sub { (() = $next->got =~ /^X-Milter: was here/mg) >= 6 }, 30), 'several at a time' or diag $mta->log_tail;
		}
		is $mta->stop, 0, 'stop';
		is $mta->crashes, '', 'nothing crashed';
	} else {
		$mta->stop;
	}
	$next->stop;
	Posthaste::end_child($pid);
	return \%of;
}

my $ours = play('posthaste', 'bounce, notify');
is $ours->{seen}, 1, 'checks saw it';
is $ours->{milter}, 1, 'so did the milter';
my $without = play('posthaste', '');
is_deeply [ @$without{qw(seen milter events)} ], [ 0, 0, '' ], 'without it they see none';
my $why = Peers::obstacle();
SKIP: {
	skip $why, 1 if $why;
	my $theirs = play('postfix', 'bounce, notify');
	is_deeply $ours, $theirs, 'the same as with Postfix' or diag explain $ours, $theirs;
}
done_testing;
