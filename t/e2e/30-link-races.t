#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Somebody who may write into the directory of mailboxes puts symbolic and hard links in their place while mail is
# delivered, with the kernel's own protections off: nothing but mailboxes ever gets mail.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Test::More;
use File::Temp qw(tempdir);
use POSIX ();

plan skip_all => 'needs root: it changes settings of the kernel' if $> != 0;
my %was;
my $owner = $$;
my @settings = map { "/proc/sys/fs/protected_$_" } qw(symlinks hardlinks);
sub set { open my $fh, '>', $_[0] or return 0; return print($fh "$_[1]\n") && close $fh }
END { if ($$ == $owner) { set($_, $was{$_}) for keys %was } }
for my $file (@settings) {
	my $value = slurp($file) =~ s/\n//r;
	plan skip_all => "$file is not to be written" if $value eq '' || !set($file, $value);
	$was{$file} = $value;
	set($file, 0);
}

my $dir = tempdir('posthaste-races-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
my ($uid, $gid) = (getpwnam 'news')[2, 3];
my $attacker = (getpwnam 'uucp')[2];
mkdir "$dir/$_" for qw(spool virtual victim own);
chmod 0777, map { "$dir/$_" } qw(spool virtual); # he may do there what he likes
spew("$dir/victim/file", "precious\n");
mkdir "$dir/victim/$_" for 'box', map { "box/$_" } qw(new cur tmp);
chown $uid, $gid, "$dir/victim", glob "$dir/victim/* $dir/victim/box/*";
chmod 0755, "$dir/victim";
spew("$dir/own/file", "");
mkdir "$dir/own/box";
chown $attacker, -1, glob "$dir/own $dir/own/*";
# so that only our own care is left
chmod 0666, "$dir/own/file";

my $mta = Posthaste->start(main => {
	mydestination => 'here.test', local_recipient_maps => '', mail_spool_directory => "$dir/spool", forward_path => '', biff => 'no',
	virtual_mailbox_domains => 'box.test', virtual_mailbox_base => "$dir/virtual", virtual_minimum_uid => 1,
	virtual_mailbox_maps => 'inline:{ mdir@box.test=box/ mbox@box.test=file }', virtual_uid_maps => "static:$uid",
	virtual_gid_maps => "static:$gid", deliver_lock_attempts => 1, deliver_lock_delay => '1s', maximal_backoff_time => '1h',
	minimal_backoff_time => '1h', local_destination_concurrency_limit => 4, virtual_destination_concurrency_limit => 4,
});

# One name becomes all that it might be, again and again.
sub attack {
	my $rounds = 0;
	my @names = (map { [ "$dir/$_", "$dir/victim/file", "$dir/own/file" ] } 'spool/news', 'spool/news.lock', 'virtual/file');
	while (1) {
		for my $n (@names) {
			my ($name, $victim, $own) = @$n;
			my $new = "$dir/spool/.new";
			unlink $new;
			my $kind = $rounds++ % 4;
			$kind == 0 ? symlink $victim, $new : $kind == 1 ? link $victim, $new : $kind == 2 ? link $own, $new : symlink '/dev/null', $new;
			rename $new, $name;
			select undef, undef, undef, 0.0005;
			unlink $name;
		}
		my $box = "$dir/virtual/box";
		unlink $box;
		rename $box, "$dir/virtual/.old$rounds";
		symlink "$dir/victim/box", $box;
	}
	return;
}
my $pid = fork;
if (!$pid) {
	POSIX::setgid((getpwnam 'uucp')[3]);
	POSIX::setuid($attacker);
	attack();
	POSIX::_exit(0);
}

my $count = 150;
my $smtp = $mta->smtp;
$smtp->ok('EHLO client.test');
my @qid = map { $smtp->mail('s@x.test', [ 'news@here.test', 'mdir@box.test', 'mbox@box.test' ], "Subject: mail $_\n\nMAIL\n") =~ /queued as (\w+)/ } 1 .. $count;
$smtp->quit;
is scalar @qid, $count, 'mail is taken';
my $done = sub { my $log = $mta->log; return !grep { my $q = $_; 3 != (() = $log =~ /: $q: to=.*status=/g) } @qid };
ok wait_until($done, 60), 'everything was tried';
kill 'KILL', $pid;
waitpid $pid, 0;

my $log = $mta->log;
is slurp("$dir/victim/file"), "precious\n", "a file of the recipient's that a link led to has no mail";
is join(' ', glob "$dir/victim/box/*/*"), '', 'nor has a directory of his';
is slurp("$dir/own/file"), '', 'nor a file of somebody else';
my %saw = map { $_ => scalar(() = $log =~ /status=(?:deferred|bounced) \(.*\Q$_\E/g) } 'file is a symbolic link', 'hard links', 'not owned by recipient';
note explain \%saw;
cmp_ok $saw{'file is a symbolic link'} + $saw{'hard links'}, '>', 0, 'links were met';
cmp_ok scalar(() = $log =~ /status=sent \(delivered to mailbox\)/g), '>', 0, 'and mail was delivered between them';
is $mta->crashes, '', 'no worker ended';
is $mta->stop, 0, 'stop';
done_testing;
