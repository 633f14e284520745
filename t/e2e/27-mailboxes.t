#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Mailbox files: of local users in a mail spool and at home, of virtual ones; the same bytes as Postfix
# puts there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Peers;
use Test::More;
use File::Temp qw(tempdir);
use IO::Socket::INET;

my @users = $> == 0 ? qw(news uucp) : ((getpwuid $>)[0]) x 2;
my ($uid, $gid) = (getpwnam $users[0])[2, 3];
my $dir = tempdir('posthaste-mbox-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;

# A mail spool for one system, and its settings.
sub settings {
	my ($who) = @_;
	mkdir "$dir/$_" for $who, "$dir/$who/vmail" =~ s{^\Q$dir\E/}{}r, "$who/spool";
	chown $uid, $gid, "$dir/$who/vmail" if $> == 0;
	if ($> == 0) { # as Debian's: for a group only
		chown 0, (getgrnam 'mail')[2], "$dir/$who/spool";
		chmod 02775, "$dir/$who/spool";
	}
	spew("$dir/$who/spool/taken.lock", '');
	return (
		mydestination => 'here.test', local_recipient_maps => '', alias_maps => '', recipient_delimiter => '+',
		mail_spool_directory => "$dir/$who/spool", virtual_mailbox_domains => 'box.test',
		virtual_mailbox_base => "$dir/$who/vmail", virtual_minimum_uid => 1, deliver_lock_attempts => 1,
		virtual_mailbox_maps => 'inline:{ joe@box.test=joe ann@box.test=ann/ big@box.test=big lck@box.test=lck sym@box.test=sym }',
		virtual_uid_maps => "static:$uid", virtual_gid_maps => "static:$gid", virtual_mailbox_limit => 5000,
		message_size_limit => 4000, mailbox_size_limit => 50000, relayhost => '[127.0.0.1]:1', forward_path => '',
	);
}

sub fill {
	my ($who) = @_;
	my $v = "$dir/$who/vmail";
	spew("$v/big", 'x' x 4900 . "\n");
	spew("$v/lck", '');
	spew("$v/lck.lock", '');
	spew("$v/target", '');
	symlink 'target', "$v/sym";
	chown $uid, $gid, map { "$v/$_" } qw(big lck target) if $> == 0;
	return;
}

my @mail = (
	[ 's@x.test', "$users[0]\@here.test", "Subject: one\n\nFrom me\n>From me\n.dot\n" ],
	[ '', "$users[0]+ext\@here.test", "Subject: two\n\n" ],
	[ '"a b"@x.test', "$users[1]\@here.test", "Subject: three\n\nend\n" ],
	[ 's@x.test', 'nosuchuser@here.test', "Subject: x\n\n" ],
	[ 's@x.test', 'joe@box.test', "Subject: four\n\nFrom joe\n" ],
	[ 's@x.test', 'joe+ext@box.test', "Subject: five\n\nx\n" ],
	[ 's@x.test', 'joe@box.test', "Delivered-To: joe\@box.test\nSubject: loop\n\nx\n" ],
	map { [ 's@x.test', "$_\@box.test", "Subject: six\n\nx\n" ] } qw(big lck sym),
);

# What became of them: result by recipient and subject, and the files.
sub outcome {
	my ($who, $mta, $port, $log) = @_;
	my %qid;
	my $n = 0;
	for my $m (@mail) {
		my $smtp = $mta->smtp($port);
		$smtp->ok('EHLO client.example');
		($qid{$n++}) = $smtp->mail(@$m) =~ /queued as (\S+)/;
		$smtp->quit;
		wait_until(sub { $log->() =~ /: $qid{$n - 1}: to=.*status=/ }, 20); # one after the other: so they stand in the file
	}
	my %result;
	for my $i (0 .. $n - 1) {
		my ($line) = $log->() =~ m{postfix/((?:local|virtual)\[\d+\]: $qid{$i}: to=.*)};
		$line =~ s/\[\d+\]: \w+//;
		$line =~ s/delay=.*?, (?=dsn)//;
		$line =~ s/\Q$dir\E\/$who/DIR/g;
		$result{$i} = $line;
	}
	my %file = map { m{/$who/(.*)} ? ($1 => normal(slurp($_))) : () } grep { -f && !/lock$/ } glob "$dir/$who/*/*";
	return (\%result, \%file);
}

sub normal {
	my ($text) = @_;
	$text =~ s/^Received: .*\n(?:[ \t].*\n)*//mg;
	$text =~ s/^(?:Message-Id|Date|From): .*\n//mgi;
	$text =~ s/^(From \S+|From "a b"\S+)  \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}$/$1 DATE/mg;
	return $text;
}

# who wants to know of new mail (comsat)
my $comsat = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.1', LocalPort => (getservbyname 'biff', 'udp')[2] || 512);
my $mta = Posthaste->prepare(main => { settings('posthaste') });
fill('posthaste');
$mta->launch;
my ($result, $file) = outcome('posthaste', $mta, undef, sub { $mta->log });
is $file->{"spool/$users[0]"}, <<"EOF" . ($users[0] eq $users[1] ? $file->{"spool/$users[0]"} =~ s/.*(?=^From "a)//msr : ''), 'a mailbox file';
From s\@x.test DATE
Return-Path: <s\@x.test>
X-Original-To: $users[0]\@here.test
Delivered-To: $users[0]\@here.test
Subject: one

>From me
>From me
.dot


From MAILER-DAEMON DATE
Return-Path: <>
X-Original-To: $users[0]+ext\@here.test
Delivered-To: $users[0]+ext\@here.test
Subject: two



EOF
like $result->{0}, qr/^local: to=<$users[0]\@here\.test>, relay=local, dsn=2\.0\.0, status=sent \(delivered to mailbox\)$/, 'its line';
SKIP: {
	skip 'the port of biff cannot be had', 2 if !$comsat;
	my @told;
	for (1 .. 2) {
		local $SIG{ALRM} = sub { die "nobody tells\n" };
		alarm 20;
		eval { $comsat->recv(my $text, 300); push @told, $text };
		alarm 0;
	}
	is $told[0], "$users[0]\@0\0", 'biff: the first mail';
	like $told[1], qr/^$users[0]\@[1-9]\d+\0\z/, 'biff: the second one, behind it';
}
SKIP: {
	skip 'needs root', 1 if $> != 0;
	my @st = stat "$dir/posthaste/spool/$users[0]";
	is sprintf('%o %d', $st[2] & 07777, $st[4]), "600 $uid", 'mode and owner';
}
is $result->{8}, 'virtual: to=<lck@box.test>, relay=virtual, dsn=4.2.0, status=deferred (delivery failed to mailbox DIR/vmail/lck: '
	. 'unable to create lock file DIR/vmail/lck.lock: File exists)', 'locked';
ok !-s "$dir/posthaste/vmail/target", 'no mail through a link';
unlink "$dir/posthaste/vmail/lck.lock";
$mta->command('postqueue', '-f');
ok wait_until(sub { -s "$dir/posthaste/vmail/lck" }), 'delivered when the lock is gone';

# a mailbox file at home
SKIP: {
	skip 'needs root', 1 if $> != 0;
	my $home = (getpwnam 'games')[7];
	skip 'a user has mail at home', 1 if -e "$home/posthaste-test/box" || !-d $home;
	mkdir "$home/posthaste-test";
	chown +(getpwnam 'games')[2, 3], "$home/posthaste-test";
	$mta->configure(settings('posthaste'), home_mailbox => 'posthaste-test/box');
	$mta->command('posthaste', 'reload');
	my $got = wait_until(sub {
		my $smtp = $mta->smtp;
		$smtp->ok('EHLO x');
		$smtp->mail('s@x.test', 'games@here.test', "Subject: x\n\nhome\n");
		return wait_until(sub { -s "$home/posthaste-test/box" }, 2);
	});
	my $text = slurp("$home/posthaste-test/box");
	Posthaste::run_ok('rm', '-r', "$home/posthaste-test");
	like $text, qr/\AFrom s\@x\.test  .*\n.*\n.*\nDelivered-To: games\@here\.test\n/, 'a mailbox file at home';
}
is $mta->stop, 0, 'stop';

my $why = Peers::obstacle();
SKIP: {
	skip $why, 2 if $why;
	my %main = settings('postfix');
	fill('postfix');
	my $postfix = Peers->postfix(home => 'vv.test', next => 1, main => join '', map { "$_ = $main{$_}\n" } sort keys %main)
		or die "Postfix does not run\n";
	my ($his_result, $his_file) = outcome('postfix', bless({}, 'Posthaste'), $postfix->{port}, sub { $postfix->log });
	$postfix->stop;
	is_deeply $result, $his_result, 'the same results as Postfix' or diag explain [ $result, $his_result ];
	is_deeply $file, $his_file, 'the same bytes' or diag explain [ $file, $his_file ];
}
done_testing;
