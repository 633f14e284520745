#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# posthaste check of the seven mail systems of t/systems: what acts, what has no effect and what is missing, on one
# screen; and options (-o) that the program of their service does not read are never ignored in silence. A configuration
# with mistakes of every kind is refused with all of them, each with its file and line, at a start and at a reload.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use File::Basename qw(basename);
use File::Copy qw(copy);
use File::Temp qw(tempdir);
use Posthaste qw(run_ok slurp spew);
use Test::More;

my $sbin = Posthaste::prefix() . '/sbin';
my $dir  = tempdir(CLEANUP => 1);
my @systems = grep { -d } glob Posthaste::top() . '/t/systems/*';
is scalar(@systems), 7, 'seven systems';
for my $system (@systems) {
	my $name = basename($system);
	mkdir "$dir/$name";
	copy("$system/$_", "$dir/$name/$_") for qw(main.cf master.cf);
	my $out = `'$sbin/posthaste' -c '$dir/$name' check 2>/dev/null`;
	my @lines = split /\n/, $out;
	unlike `'$sbin/posthaste' -c '$dir/$name' check 2>&1 >/dev/null`, qr/cannot do without it/, "$name: every restriction that decides about relaying is there"
		unless $name eq 'modoboa'; # needs address verification
	cmp_ok scalar(@lines), '<=', 45, "$name: on one screen" or diag $out;
	is join("\n", grep { length > 120 } map { s/^\Q$dir\E//r } @lines), '', '... of its width';
	my ($set, $acts, $accepted, $old, $own) = $lines[0] =~ /: (\d+) parameters are set: (\d+) act, (\d+) are accepted, (\d+) are deprecated names, (\d+) are your own$/;
	is(($acts // 0) + ($accepted // 0) + ($old // 0) + ($own // 0), $set // -1, '... every parameter is counted') or diag $lines[0];
	my @missing = $out =~ /^    (\w.*\(.*)$/mg;
	is join(' ', grep { !/^\S+ \((?:main|master)\.cf:[\d,]+\)$/ } map { split / (?=[^ (]+ \()/ } @missing), '', '... what is missing has its place';
}

# options of services
mkdir "$dir/options";
spew("$dir/options/main.cf", "queue_directory = $dir/spool\nmydestination =\n");
spew("$dir/options/master.cf", <<'EOF');
smtp inet n - n - - smtpd
    -o header_checks=regexp:/etc/checks
    -o smtpd_banner=acts
    -o mynetworks=10.0.0.0/8
    -o message_size_limit=1000
    -o content_filter=smtp:[127.0.0.1]:10024
    -o always_bcc=
    -o syslog_name=postfix/acts
    -o my_own=acts
cleanup unix n - n - 0 cleanup
    -o always_bcc=acts@x.test
    -o smtpd_banner=lost
qmgr unix n - n 300 1 qmgr
    -o maximal_queue_lifetime=1d
rewrite unix - - n - - trivial-rewrite
    -o relayhost=[acts.test]
    -o body_checks=pcre:/etc/lost
smtp unix - - n - - smtp
    -o smtp_helo_name=acts.test
    -o smtp_bind_address=127.0.0.1
    -o virtual_mailbox_base=/none
bounce unix - - n - 0 bounce
    -o bounce_size_limit=1
EOF
my $out = `'$sbin/posthaste' -c '$dir/options' check 2>/dev/null`;
my ($list) = $out =~ /^  options \(-o\) that the program of their service does not read:\n((?:    .*\n)+)/m;
is join(' ', split ' ', $list // ''), 'body_checks (master.cf:15) bounce_size_limit (master.cf:22) header_checks (master.cf:1) ' .
	'maximal_queue_lifetime (master.cf:13) smtpd_banner (master.cf:10) virtual_mailbox_base (master.cf:18)', 'options without effect are told, and no others'
	or diag $out;

# mistakes of every kind, all at once
my $mta = Posthaste->start;
my ($main, $master) = map { slurp("$mta->{dir}/conf/$_") } qw(main.cf master.cf);
my $n = ($main =~ tr/\n//);
spew("$mta->{dir}/conf/main.cf", $main . <<'EOF');
no equals sign
smtpd_timeout = soon
disable_vrfy_command = perhaps
smtpd_recipient_limit = -5
relayhost = ${broken
mime_nesting_limit = many
canonical_classes = nowhere
smtpd_recipient_restrictions = reject_everything_unknown
mynetworks = 300.0.0.0/8
EOF
my $m = ($master =~ tr/\n//);
spew("$mta->{dir}/conf/master.cf", $master . <<'EOF');
short line
x unix - n n - 0 spawn argv=/bin/true
y unix - n n - 0 pipe argv=/bin/true
z inet n - n - many smtpd
EOF
my @want = (map({ [ 'main.cf', $n + $_ ] } 1 .. 6), map({ [ 'master.cf', $m + $_ ] } 1, 4));
for my $how (qw(check reload)) {
	my ($rc, $text) = $mta->command('posthaste', $how);
	isnt $rc, 0, "$how refuses a broken configuration";
	like $text, qr/\Q$_->[0]\E, line $_->[1]: /, "... names $_->[0]:$_->[1]" for @want;
}
my $smtp = $mta->smtp;
like $smtp->{banner}, qr/^220 /, 'what runs goes on with the old one';
$smtp->quit;
# what only those find who open it
spew("$mta->{dir}/conf/main.cf", $main . "smtpd_recipient_restrictions = reject_everything_unknown\ncanonical_classes = nowhere\n");
spew("$mta->{dir}/conf/master.cf", $master . "x unix - n n - 0 spawn argv=/bin/true\ny unix - n n - 0 pipe argv=/bin/true\n");
for my $how (qw(check reload)) {
	my ($rc, $text) = $mta->command('posthaste', $how);
	isnt $rc, 0, "$how refuses what its workers cannot do";
	like $text, qr/$_/, "... and tells $_" for qr/main\.cf, line @{[ $n + 1 ]}: .*reject_everything_unknown/, qr/main\.cf, line @{[ $n + 2 ]}: .*canonical_classes/,
		qr/master\.cf, line @{[ $m + 1 ]}: x: spawn: missing user=/, qr/master\.cf, line @{[ $m + 2 ]}: .*missing user=/;
}
spew("$mta->{dir}/conf/$_->[0]", $_->[1]) for [ 'main.cf', $main ], [ 'master.cf', $master ];
is $mta->status->{generation}, 1, 'the first configuration is in force all the time';
is $mta->stop, 0, 'stop';
spew("$mta->{dir}/conf/master.cf", $master . "x unix - n n - 0 spawn argv=/bin/true\n");
my ($rc, $text) = $mta->command('posthaste', 'start');
isnt $rc, 0, 'nothing starts with it';
is $mta->master_pid, undef, '... not even half' or diag $text;
done_testing;
