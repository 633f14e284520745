#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Smaller commands that scripts written for Postfix call: postlog, postlock, postkick, qshape, and the
# names and options of sendmail that stand for other commands.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Fcntl qw(:flock);
use Posthaste qw(run_ok slurp spew spawn wait_until);
use Test::More;
use Time::HiRes qw(time);

my $mta = Posthaste->prepare(main => { relayhost => '[127.0.0.1]:9', deliver_lock_attempts => 2,
	deliver_lock_delay => '1s', alias_database => 'hash:aliases' });
my ($dir, $sbin) = ($mta->{dir}, Posthaste::prefix() . '/sbin');
sub sh { my ($input, @cmd) = @_; spew("$dir/in", $input); return run_ok('sh', '-c', 'in=$1; shift; exec "$@" <"$in"', 'sh', "$dir/in", @cmd) }

# ---- postlog ----

spew("$dir/log", '');
my ($rc, $out) = $mta->command('postlog', 'two', 'words');
is "$rc$out", '0', 'postlog';
like $mta->log, qr{^\w{3} [ \d]\d \d\d:\d\d:\d\d mx postfix/postlog\[\d+\]: two words\n\z}, '... in the shape of all lines';
$mta->command('postlog', '-i', '-t', 'script', '-p', 'warn', "bad\nnews\e");
like $mta->log, qr{ script\[\d+\]: warning: bad\?news\?\n\z}, '-t, -p, and no control characters';
sh("one\ntwo\n", "$sbin/postlog", '-c', "$dir/conf", '-t', 'x');
like $mta->log, qr{ x\[\d+\]: one\n.* x\[\d+\]: two\n\z}, 'standard input, a line each';
is(($mta->command('postlog', '-p', 'loud', 'x'))[0], 1, 'an unknown priority');

# ---- postlock ----

spew("$dir/mbox", '');
($rc, $out) = $mta->command('postlock', "$dir/mbox", 'sh', '-c', "ls $dir/mbox.lock; exit 7");
is $rc, 7, "postlock: the command's exit status";
like $out, qr/mbox\.lock$/, '... while there is a lock file';
ok !-e "$dir/mbox.lock", '... which is gone then';
spew("$dir/mbox.lock", '');
my $began = time;
($rc, $out) = $mta->command('postlock', "$dir/mbox", 'true');
is $rc, 75, 'somebody else has the lock';
like $out, qr/unable to lock for exclusive access/, '... and it says so';
cmp_ok time - $began, '>=', 0.9, '... after another try';
is(($mta->command('postlock', '-l', 'fcntl', "$dir/mbox", 'true'))[0], 0, '-l: another style');
utime time - 1000, time - 1000, "$dir/mbox.lock";
is(($mta->command('postlock', "$dir/mbox", 'true'))[0], 0, 'a lock left behind is removed');
open my $fh, '+<', "$dir/mbox" or die;
flock $fh, LOCK_EX;
is(($mta->command('postlock', '-l', 'flock', "$dir/mbox", 'true'))[0], 75, 'flock');
close $fh;
is(($mta->command('postlock', '-l', 'magic', "$dir/mbox", 'true'))[0], 75, 'an unknown style');
is(($mta->command('postlock', "$dir/mbox", '/nonexistent'))[0], 1, 'a command that is not there');
symlink "$dir/mbox", "$dir/mlink";
is(($mta->command('postlock', "$dir/mlink", 'true'))[0], 75, 'no symbolic links');

# ---- postkick ----

is(($mta->command('postkick', 'public', 'qmgr', 'F'))[0], 1, 'postkick: nothing runs');
$mta->launch;
is(($mta->command('postkick', 'public', 'pickup', 'W'))[0], 0, 'pickup needs no waking');
is(($mta->command('postkick', 'public', 'nothing', 'W'))[0], 1, 'an unknown service');
is(($mta->command('postkick', 'public', 'qmgr'))[0], 1, 'wrong usage');
is((run_ok('env', '-i', "$sbin/postkick", '-x'))[0], 1, '... and in an empty environment');
for my $n (1 .. 3) {
	($rc) = sh("Subject: $n\n\nx\n", "$sbin/sendmail", '-C', "$dir/conf", '-f', "s\@from$n.test", "a\@one.test", "b\@sub.two.test");
	is $rc, 0, "message $n";
}
ok wait_until(sub { $mta->count_log(qr/status=deferred/) >= 6 }, 20), 'all of it is deferred';
my $before = $mta->count_log(qr/status=deferred/);
is(($mta->command('postkick', 'public', 'qmgr', 'DF'))[0], 0, 'a request for the deferred queue');
ok wait_until(sub { $mta->count_log(qr/status=deferred/) > $before }, 20), '... has it tried';

# ---- postsuper: what Postfix's does by hand is done by itself here ----

for my $opt (qw(-s -S -p -ps)) {
	($rc, $out) = $mta->command('postsuper', $opt);
	is "$rc $out", '0 ', "postsuper $opt";
}
is(($mta->command('postsuper', '-s', 'deferred', 'active'))[0], 0, '... names of queues may follow');

# ---- qshape ----

($rc, $out) = $mta->command('qshape', 'deferred', 'active');
is $rc, 0, 'qshape';
like $out, qr/\A +T +5 10 20 40 80 160 320 640 1280 1280\+\n +TOTAL +6 +6 +0 +0 +0 +0 +0 +0 +0 +0 +0\n/, '... its head and sum';
like $out, qr/^ +one\.test +3 +3 +0 .*\n +sub\.two\.test +3 /m, '... and domains';
is scalar(grep { length != 80 } split /\n/, $out), 0, '... in 80 columns';
$mta->advance(20 * 60);
($rc, $out) = $mta->command('qshape', '-s', '-b', '3', '-t', '2', '-l', 'deferred', 'active');
like $out, qr/\A +T  2  4 4\+\n +TOTAL  3 /, '-s, -b, -t, -l';
like $out, qr/^ +from1\.test  1 /m, '... by sender';
($rc, $out) = $mta->command('qshape', '-p', '-m', '1', 'deferred', 'active');
like $out, qr/^ +\.two\.test +3 /m, '-p: parents';

# ---- sendmail by other names and options ----

for my $list ([ 'mailq', '-C', "$dir/conf" ], [ 'sendmail', '-C', "$dir/conf", '-bp' ]) {
	my ($name, @args) = @$list;
	($rc, $out) = run_ok("$sbin/$name", @args);
	like $out, qr/^-- \d+ Kbytes in 3 Requests\.$/m, "$name lists the queue";
}
my ($id) = $out =~ /^(\w+)[* ]/m;
$mta->stop;
$mta->launch;
$before = $mta->count_log(qr/$id: .*status=deferred/);
($rc, $out) = run_ok("$sbin/sendmail", '-C', "$dir/conf", "-qI$id");
is "$rc$out", '0', 'sendmail -qI';
ok wait_until(sub { $mta->count_log(qr/$id: .*status=deferred/) > $before }, 20), '... has one message tried';
for my $args ([ '-q' ], [ '-q30m' ], [ '-qRone.test' ]) {
	($rc, $out) = run_ok("$sbin/sendmail", '-C', "$dir/conf", @$args);
	is "$rc$out", '0', "sendmail @$args";
}
spew("$dir/aliases", "root: a\@x.test\n");
$mta->configure(alias_database => "hash:$dir/aliases");
($rc, $out) = run_ok("$sbin/sendmail", '-C', "$dir/conf", '-bi');
is $rc, 0, 'sendmail -bi' or diag $out;
ok -e "$dir/aliases.kch", '... makes the alias table';

# ---- postfix: the name that scripts know ----

sub postfix { my ($status, $said) = $mta->command('postfix', @_); return "$status $said" }
my $says = 'postfix/postfix-script:';
like postfix('status'), qr{^0 $says the Postfix mail system is running: PID: \d+\n\z}, 'postfix status';
is postfix('flush'), '0 ', 'postfix flush';
like postfix('start'), qr{^1 .*$says fatal: the Postfix mail system is already running\n\z}s, 'postfix start, twice';
like postfix('reload'), qr{^0 .*$says refreshing the Postfix mail system\n\z}s, 'postfix reload';
like postfix('check'), qr{^0 }, 'postfix check';
like postfix('set-permissions', 'mail_owner=x'), qr{^0 }, 'postfix set-permissions';
is postfix('upgrade-configuration'), '0 ', 'postfix upgrade-configuration';
like postfix('nonsense'), qr{^1 $says fatal: unknown command: 'nonsense'. Usage: postfix start \(or stop, }, 'an unknown command';
like postfix('-x', 'start'), qr{^1 .*^postfix: fatal: usage: postfix \[-c config_dir\] \[-Dv\] command\n\z}ms, 'an unknown option';
is +(run_ok("$sbin/postfix", '-c', 'conf', 'status'))[1], "postfix: fatal: -c requires absolute pathname\n", 'a relative path';
{
	local $ENV{MAIL_CONFIG} = "$dir/conf";
	is +(run_ok("$sbin/postfix", 'status'))[0], 0, 'MAIL_CONFIG';
}
my ($lines) = $mta->log =~ tr/\n//;
is postfix('logrotate'), '0 ', 'postfix logrotate';
my ($old) = glob "$dir/log.*";
like $old, qr/\.\d{8}-\d{6}\.gz\z/, '... has a new name and is compressed';
cmp_ok scalar((run_ok('zcat', $old))[1] =~ tr/\n//), '>=', $lines, '... with every line';
($rc) = sh("Subject: z\n\nx\n", "$sbin/sendmail", '-C', "$dir/conf", '-f', "s\@from.test", 'z@one.test');
ok $mta->wait_log(qr{postfix/cleanup\[}), '... and logging goes on in a new file';
$mta->configure(alias_database => "hash:$dir/aliases", maillog_file_compressor => '/nonexistent');
like postfix('logrotate'), qr{^1 .*fatal: logfile '.*' rotation failed: /nonexistent }s, '... a compressor that is not there';
like postfix('stop'), qr{^0 $says stopping the Postfix mail system\n\z}, 'postfix stop';
is postfix('status'), "1 $says the Postfix mail system is not running\n", 'postfix status';
is postfix('stop'), "1 $says fatal: the Postfix mail system is not running\n", 'postfix stop, twice';
like postfix('reload'), qr{^1 $says fatal: the Postfix mail system is not running\n\z}, 'postfix reload';
like postfix('start'), qr{^0 .*$says starting the Postfix mail system\n\z}s, 'postfix start';
like postfix('abort'), qr{^0 $says aborting the Postfix mail system\n\z}, 'postfix abort';
delete $mta->{running};
is $mta->crashes, '', 'nothing crashed';
done_testing;
