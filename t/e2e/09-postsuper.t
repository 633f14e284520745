#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# postsuper: forced expiry, names of queues, and all of it while the mail system is stopped: the same
# commands, the same lines, and what they did is there after the next start.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(run_ok slurp spew wait_until);
use Test::More;

my $mta = Posthaste->start(main => { relayhost => '[127.0.0.1]:9',
	default_destination_concurrency_failed_cohort_limit => 0, virtual_mailbox_domains => 'home.test',
	virtual_mailbox_maps => 'inline:{ joe@home.test=joe/ }', virtual_mailbox_base => '$queue_directory/../mail',
	virtual_uid_maps => 'static:' . ($> == 0 ? (getpwnam 'nobody')[2] : $>), virtual_minimum_uid => 1,
	virtual_gid_maps => 'static:' . ($> == 0 ? (getpwnam 'nobody')[3] : $) + 0) });
my $dir = $mta->{dir};

sub queue { # id => mark behind it, of what a list shows
	my ($rc, $out) = $mta->command('postqueue', '-p');
	my %q = map { /^([0-9A-Za-z]{8,})([*!#]*) / ? ($1 => $2) : () } split /\n/, $out;
	return \%q;
}

sub send_some { # that many deferred messages; their ids
	my ($n) = @_;
	my $smtp = $mta->smtp;
	$smtp->ok('EHLO x');
	my @ids = map { ($smtp->mail('joe@home.test', "r$_\@far.example", "Subject: $_\n\nx\n") =~ /as (\S+)/)[0] } 1 .. $n;
	$smtp->quit;
	ok $mta->wait_log(qr/$_: to=.*status=deferred/), "deferred" for @ids;
	return @ids;
}

sub super { my ($rc, $out) = $mta->command('postsuper', @_); return "$rc $out" }

sub super_in { # ids on standard input
	my ($input, @args) = @_;
	spew("$dir/in", $input);
	my ($rc, $out) = run_ok('sh', '-c', 'in=$1; shift; exec "$@" <"$in"', 'sh', "$dir/in",
		Posthaste::prefix() . '/sbin/postsuper', '-c', "$dir/conf", @args);
	return "$rc $out";
}

sub returned { # the notification of one of them
	my ($id) = @_;
	my $own = $mta->wait_log(qr/$id: sender non-delivery notification: (\w+)/) or return '';
	$mta->wait_log(qr/$own: to=<joe\@home\.test>.*status=sent/) or return '';
	my ($text) = grep { /Final-Recipient/ && /X-Posthaste-Queue-ID: $id|Queue-ID: $id/ } map { slurp($_) } $mta->maildir_files('joe');
	return $text // '';
}

# ---- forced expiry ----

my ($due, $held, $both, @rest) = send_some(6);
is super('-h', $held, '-h', $both), "0 postsuper: $held: placed on hold\npostsuper: $both: placed on hold\n" .
	"postsuper: Placed on hold: 2 messages\n", 'two are held';
is super('-e', $due, '-e', $held), "0 postsuper: $due: expired\npostsuper: $held: expired\n" .
	"postsuper: Force-expired: 2 messages\n", '-e';
is super('-e', $due), "0 postsuper: Force-expired: 0 messages\n", '... once';
is_deeply [ @{ queue() }{ $due, $held, $both } ], [ '#', '!#', '!' ], '... mailq marks them, and they wait';
my ($rc, $json) = $mta->command('postqueue', '-j');
like $json, qr/"queue_id": "$due",.*"forced_expire": true/, '... as postqueue -j';
like $json, qr/"queue_id": "$both",.*"forced_expire": false/, '... of each';
$mta->crash;
$mta->launch;
is_deeply [ @{ queue() }{ $due, $held, $both } ], [ '#', '!#', '!' ], 'a crash changes nothing';
$mta->command('postqueue', '-i', $due);
my $text = returned($due);
like $text, qr/Connection refused/, 'at the next attempt it is returned, with the reason of the last one' or diag $mta->log_tail;
like $mta->log, qr{qmgr\[\d+\]: $due: from=<joe\@home\.test>, status=force-expired, returned to sender$}m, '... and the log says why';
is $mta->count_log(qr/$due: to=<r1\@/), 1, '... it was not tried again';
is super('-H', $held), "0 postsuper: $held: released from hold\npostsuper: Released from hold: 1 message\n", 'the held one is released';
ok returned($held), '... and returned';
is super('-f', $both), "0 postsuper: $both: expired\npostsuper: $both: released from hold\n" .
	"postsuper: Force-expired: 1 message\npostsuper: Released from hold: 1 message\n", '-f';
ok returned($both), '... at once';
is super('-h', $rest[0], '-e', $rest[0], '-r', $rest[0]) =~ tr/\n//, 6, 'held, expired, requeued';
ok $mta->wait_log(qr/$rest[0]: requeued\n(?:.*\n)*.*$rest[0]: to=.*status=deferred/), '... is tried';
ok wait_until(sub { (queue()->{ $rest[0] } // 'gone') eq '' }, 20), '... and an ordinary one' or diag $mta->log_tail;
is $mta->stop, 0, 'stops';

# ---- stopped ----

is super('-h', $rest[0]), "0 postsuper: $rest[0]: placed on hold\npostsuper: Placed on hold: 1 message\n", 'stopped: -h';
ok $mta->log =~ m{postfix/postsuper\[\d+\]: $rest[0]: placed on hold\n(?:.*\n)*.*postfix/postsuper\[\d+\]: Placed on hold: 1 message\n}, '... and in the log';
is super_in("$rest[1]\nno/id\nABCDEF\n$rest[2]\n$rest[2] and more\n$rest[0]*\n", '-e', '-'), "0 postsuper: $rest[1]: expired\n" .
	"postsuper: warning: invalid mail queue id: no/id\npostsuper: $rest[2]: expired\npostsuper: warning: invalid mail queue id: $rest[2] and more\n" .
	"postsuper: warning: invalid mail queue id: $rest[0]*\npostsuper: Force-expired: 2 messages\n", 'stopped: -e -';
is super('-d', 'ALL', 'hold'), "0 postsuper: Deleted: 1 message\n", 'stopped: -d ALL hold';
is super('-d', 'ALL', 'maildrop', 'incoming'), "0 postsuper: Deleted: 0 messages\n", 'nothing is there';
is super('-H', 'ALL', '-r', $rest[2]), "0 postsuper: $rest[2]: requeued\npostsuper: Requeued: 1 message\n" .
	"postsuper: Released from hold: 0 messages\n", 'stopped: two commands, the summary in the order of Postfix';
is_deeply queue(), { $rest[1] => '#', $rest[2] => '' }, 'the list shows it, stopped';
is super($_), '0 ', "stopped: $_" for qw(-s -S -p -ps);
is super(), '0 ', 'stopped: no option';
$mta->launch;
ok $mta->wait_log(qr/$rest[2]: to=.*status=deferred.*(?:\n.*)*$rest[2]: to=.*status=deferred/), 'requeued: tried at once';
is_deeply [ sort keys %{ queue() } ], [ sort @rest[1, 2] ], 'deleted stays deleted';
$mta->command('postqueue', '-f');
ok returned($rest[1]), 'expired: returned';

# ---- without standard error: what is told must not go into a socket or a file of the spool ----

sub mute { return (run_ok('sh', '-c', 'exec "$@" 2>&-', 'sh', Posthaste::prefix() . '/sbin/postsuper', '-c', "$dir/conf", @_))[0] }
is mute('-h', $rest[2], '-H', $rest[2], '-h', $rest[2]), 0, 'no standard error';
is_deeply queue(), { $rest[2] => '!' }, '... all of it is done';
$mta->stop;
is mute('-H', $rest[2], '-h', $rest[2], '-H', $rest[2]), 0, '... nor when stopped';
is_deeply queue(), { $rest[2] => '' }, '... done, too';
$mta->launch;

# ---- wrong ones ----

is super('-d', '../x', '-d', 'NOTTHERE'), "0 postsuper: warning: invalid mail queue id: ../x\npostsuper: Deleted: 0 messages\n", 'unknown ids';
is super('-d', 'ALL', 'wrong'), "1 postsuper: fatal: invalid directory name: wrong\n", 'an unknown queue';
like super('-x'), qr/^1 .*postsuper: fatal: usage: postsuper \[-c config_dir\]/s, 'an unknown option';
is +(run_ok(Posthaste::prefix() . '/sbin/postsuper', '-c', 'conf', '-s'))[1], "postsuper: fatal: -c requires absolute pathname\n", 'a relative path';
if ($> == 0) {
	for my $state (qw(running stopped)) {
		$mta->stop if $state eq 'stopped';
		my ($status, $said) = run_ok('setpriv', '--reuid', 'games', '--regid', 'games', '--clear-groups',
			Posthaste::prefix() . '/sbin/postsuper', '-c', "$dir/conf", '-d', 'ALL');
		is "$status $said", "1 postsuper: fatal: use of this command is reserved for the superuser\n", "$state: an ordinary user";
	}
}
is_deeply queue(), { $rest[2] => '' }, 'nothing happened by it';
$mta->stop;
is $mta->crashes, '', 'nothing crashed';
done_testing;
