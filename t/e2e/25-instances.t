#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# postmulti: several instances on one machine, from the first to the last.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(run_ok slurp spew wait_until);
use Test::More;

my $mta = Posthaste->prepare(main => { relayhost => '[127.0.0.1]:9' });
my $dir = $mta->{dir};
my $two = "$dir/posthaste-two";
sub multi { my (@args) = @_; return $mta->command('postmulti', @args) }
sub listed { my ($rc, $out) = multi('-l', @_); return join '; ', map { s/ +/ /gr } split /\n/, $out }

is listed(), "- - y $dir/conf", 'one instance at first';
my ($rc, $out) = multi('-e', 'create', '-I', 'posthaste-two');
is $rc, 1, 'create before init is refused';
like $out, qr/postmulti -e init comes first/, '... with what to do';
is((multi('-e', 'init'))[0], 0, 'init');
like slurp("$dir/conf/main.cf"), qr/^multi_instance_enable = yes$/m, '... enables it';

for my $bad ([ 1, '-e', 'create' ], [ 1, '-e', 'create', '-I', 'two' ], [ 1, '-e', 'create', '-I', 'posthaste-a b' ],
	[ 1, '-e', 'nothing' ], [ 1, '-e', 'enable', '-i', 'none' ], [ 1, '-e', 'disable', '-i', '-' ], [1],
	[ 1, '-l', '-p', 'x' ], [ 1, '-p' ], [ 1, '-x', '-i', 'none', 'true' ], [ 1, '-l', '-g', 'a', '-i', 'b' ], [ 1, '-e', 'import', 'config_directory=relative' ],
	[ 1, '-e', 'import', "config_directory=$dir/conf2", '-I', 'posthaste-x' ], [ 1, '-e', 'import', "config_directory=$dir/missing" ]) {
	my ($status, @args) = @$bad;
	is((multi(@args))[0], $status, "refused: @args");
}
my $port = Posthaste::free_port();
my $stats = Posthaste::free_port();
($rc, $out) = multi('-e', 'create', '-I', 'posthaste-two', '-G', 'out', "stats_listen=127.0.0.1:$stats", "mail_owner=$mta->{owner}",
	"maillog_file=$dir/log2", 'inet_interfaces=127.0.0.1', 'relayhost=[127.0.0.1]:9', 'inet_protocols=ipv4', 'alias_maps=',
	"queue_directory=$dir/spool2", "data_directory=$dir/data2");
is $rc, 0, 'create' or diag $out;
is listed(), "- - y $dir/conf; posthaste-two out n $two", '... is in the list, not enabled';
is listed('-i', 'none'), '', '... and one that is not there is not';
is listed('-R'), "posthaste-two out n $two; - - y $dir/conf", '-R';
is listed('-g', 'out'), "posthaste-two out n $two", '-g';
is listed('-i', $two), "posthaste-two out n $two", '-i with a directory';
is((multi('-e', 'create', '-I', 'posthaste-two'))[0], 1, 'a name is given once');
spew("$two/master.cf", "127.0.0.1:$port inet n - n - - smtpd\n");

($rc, $out) = multi('-x', 'sh', '-c', 'echo $multi_instance_name:$config_directory:$queue_directory:$MAIL_CONFIG');
is $out, ":$dir/conf:$dir/spool:$dir/conf\nposthaste-two:$two:$dir/spool2:$two\n", '-x: a command for each';
($rc, $out) = multi('-x', '-g', 'out', 'sh', '-c', 'exit 9');
is $rc, 1, '... and whether it failed';

# ---- run them ----

($rc, $out) = multi('-p', 'start');
is $rc, 0, '-p start' or diag $out;
$mta->{running} = 1;
ok !-e "$dir/spool2/pid/master.pid", 'what is not enabled is not started';
is((multi('-e', 'enable', '-i', 'posthaste-two'))[0], 0, 'enable');
is((multi('-p', '-i', 'posthaste-two', 'start'))[0], 0, '... and start it');
my $smtp = $mta->smtp($port);
like $smtp->{banner}, qr/^220 /, 'it serves';
$smtp->quit;
ok wait_until(sub { slurp("$dir/log2") =~ m{ posthaste-two/master\[\d+\]: daemon started} }, 10), '... and logs under its name';
is((multi('-e', 'destroy', '-i', 'posthaste-two'))[0], 1, 'one that is enabled is not destroyed');
multi('-e', 'disable', '-i', 'posthaste-two');
($rc, $out) = multi('-e', 'destroy', '-i', 'posthaste-two');
is $rc, 1, 'nor one that runs';
multi('-e', 'enable', '-i', 'posthaste-two');
($rc, $out) = multi('-p', '-i', 'posthaste-two', 'stop');
is $rc, 0, '-p stop' or diag $out;
multi('-e', 'disable', '-i', 'posthaste-two');

# ---- postmulti_..._commands ----

isnt((multi('-p', '-i', 'posthaste-two', 'status'))[0], 0, 'status of one that does not run');
my $settings = slurp("$dir/conf/main.cf");
spew("$dir/conf/main.cf", "${settings}postmulti_control_commands = reload, status\n");
is((multi('-p', '-i', 'posthaste-two', 'status'))[0], 0, '... is not asked when it controls what is enabled');
spew("$dir/conf/main.cf", "${settings}postmulti_start_commands = start status\n");
is((multi('-p', '-i', 'posthaste-two', 'status'))[0], 0, '... and checks when it is said to start');
spew("$dir/conf/main.cf", "${settings}postmulti_stop_commands = status\n");
is((multi('-p', '-i', 'posthaste-two', 'status'))[0], 0, '... or to stop');
spew("$dir/conf/main.cf", $settings);

# ---- the end of one ----

is((multi('-e', 'assign', '-i', 'posthaste-two', '-I', 'postfix-new', '-G', 'in'))[0], 0, 'assign');
is listed('-i', 'postfix-new'), "postfix-new in n $two", '... another name and group';
is((multi('-e', 'deport', '-i', 'postfix-new'))[0], 0, 'deport');
is listed(), "- - y $dir/conf", '... forgets it';
ok -e "$two/main.cf", '... and leaves its files';
is((multi('-e', 'import', '-I', 'posthaste-two', "config_directory=$two"))[0], 0, 'import');
is listed('-i', 'posthaste-two'), "posthaste-two in n $two", '... takes it in again';
spew("$dir/spool2/maildrop/mail", 'x');
($rc, $out) = multi('-e', 'destroy', '-i', 'posthaste-two');
is $rc, 1, 'one that has mail is not destroyed';
like $out, qr/is not empty: there may be mail/, '... and it says why';
unlink "$dir/spool2/maildrop/mail";
($rc, $out) = multi('-e', 'destroy', '-i', 'posthaste-two');
is $rc, 0, 'destroy' or diag $out;
ok !-e $two && !-e "$dir/spool2" && !-e "$dir/data2", '... removes its files';
is listed(), "- - y $dir/conf", '... and it from the list';
is $mta->stop, 0, 'the primary one stops';
done_testing;
