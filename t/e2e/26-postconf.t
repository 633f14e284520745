#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# postconf beside Debian's: the same requests on the same files, and every byte of the output, of the warnings, of the
# files afterwards and the status are compared. What Debian's version (3.7) does not have is tested in
# t/unit/conf/postconf.t.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Peers;
use Posthaste qw(run_ok slurp spew);
use File::Temp qw(tempdir);
use Test::More;

my $peer = Peers::unpacked('postfix') or plan skip_all => "Debian's Postfix cannot be had";
# not on a disk: each edit is synced
my $dir  = tempdir('posthaste-postconf-XXXXXX', -w '/dev/shm' ? (DIR => '/dev/shm') : (TMPDIR => 1), CLEANUP => 1);
my %run  = (
	theirs => [ 'env', "LD_LIBRARY_PATH=" . join(':', "$peer/usr/lib/postfix", glob "$peer/usr/lib/*-linux-gnu"), 'bash', '-c', 'exec -a postconf "$0" "$@"', "$peer/usr/sbin/postconf" ],
	ours => [ 'bash', '-c', 'exec -a postconf "$0" "$@"', Posthaste::build_dir() . '/conf/postconf' ],
);

# one request: status, output, warnings, files
sub run {
	my ($whose, $main, $master, @args) = @_;
	spew("$dir/main.cf", $main);
	spew("$dir/master.cf", $master);
	utime time - 100, time - 100, "$dir/main.cf", "$dir/master.cf"; # Postfix waits with fresh files
	unlink "$dir/errors";
	my ($rc, $out) = run_ok('sh', '-c', 'errors=$1; shift; exec "$@" 2>"$errors"', 'sh', "$dir/errors",
		@{ $run{$whose} }, '-c', $dir, @args);
	# 3.7 has unused names in the order of a hash table, later versions and we sorted
	my $errors = slurp("$dir/errors");
	my $unused = join '', sort $errors =~ /^.*main\.cf: unused parameter: .*\n/mg;
	$errors =~ s/(?:^.*main\.cf: unused parameter: .*\n)+/$unused/m;
	return join '', "status $rc\n", $out, '-- ', $errors, map { ("-- $_\n", slurp("$dir/$_")) } qw(main.cf master.cf);
}

sub same {
	my ($name, $main, $master, @args) = @_;
	my ($ours, $theirs) = map { run($_, $main, $master, @args) } qw(ours theirs);
	return if ok $ours eq $theirs, $name;
	spew("$dir/$_->[0]", $_->[1]) for [ 'theirs', $theirs ], [ 'ours', $ours ];
	my (undef, $diff) = run_ok('diff', '-U1', "$dir/theirs", "$dir/ours");
	diag $diff =~ s/\A---.*\n.*\n//r;
	return;
}

my $main = <<'EOF';
# what a site has
myhostname = mx.example.test
mydomain = example.test
mydestination = $myhostname, localhost.$mydomain,
    localhost
# between
    ,other.test
mynetworks=127.0.0.0/8   [::1]/128
empty =
relayhost = ${gate?[$gate]}${gate:none}
gate = gw.$mydomain
smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination,
  check_client_access inline:{{ 192.0.2.1 = OK },  { 192.0.2.2 = REJECT go away }}, permit
smtpd_restriction_classes = greet
greet = sleep 1
unheard_of = 1
aaa_also_unheard = two words
virtual_alias_maps = ldap:vmap, hash:/etc/aliases
vmap_server_host = ldap.test
vmap_nonsense = x
content_filter = $not_defined
EOF
my $master = <<'EOF';
# services
smtp      inet  n       -       y       -       -       smtpd
  -o smtpd_timeout=10 -o { smtpd_banner = hello  there }
  -o master_unknown=1
submission inet n       -       y       -       -       smtpd
  -o smtpd_relay_restrictions=$sub_restrictions
  -o sub_restrictions=permit_mynetworks,reject
# in between
pickup    unix  n       -       y       60      1       pickup
qmgr      unix  n       -       n       300     1       qmgr
smtp      unix  -       -       y       -       -       smtp -v
slow      unix  -       -       y       -       1       smtp
    -o syslog_name=postfix/$service_name
maildrop  unix  -       n       n       -       -       pipe flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient}
odd       unix  -       n       n       -       -       pipe
  flags=F user=x { argv=/bin/a  b } {c d} e
EOF

# ---- showing main.cf ----

for my $args ([ '-n' ], [ '-nf' ], [ '-nh' ], [ '-nH' ], [ '-nx' ], [ '-nfx' ], [ '-hx', 'relayhost', 'mydestination' ],
	[ 'mydestination', 'gate', 'nosuch', 'empty', 'slow_destination_rate_delay' ], [ '-f', 'smtpd_recipient_restrictions' ],
	[ '-d', 'relayhost', 'smtp_destination_concurrency_limit', 'slow_recipient_limit' ],
	[ '-dx', 'smtpd_timeout' ], [ '-df', 'smtpd_timeout', 'maildrop_time_limit' ], [ '-o', 'gate=else', '-x', 'relayhost' ],
	[ '-o', 'new_name=v', 'new_name', 'gate' ], [ '-p', 'gate' ], [ '-C', 'user' ], [ '-C', 'user,service', '-h' ],
	[ '-C', 'Service', '-d' ], [ '-nC', 'builtin' ], [ '-nC', 'service' ], [ '-C', 'all', '-n' ], [ '-C', 'wrong' ], [ '-H', 'gate', 'relayhost' ]) {
	same("main.cf: @$args", $main, $master, @$args);
}

# ---- master.cf ----

for my $args ([ '-M' ], [ '-Mf' ], [ '-Mx' ], [ '-M', 'smtp' ], [ '-M', 'smtp/inet', 'nosuch', '*/unix' ], [ '-Mf', 'odd', 'maildrop/unix' ], [ '-F' ],
	[ '-Ff', 'maildrop' ], [ '-F', 'smtp/inet/command', '*/*/chroot' ], [ '-Fh', 'slow' ], [ '-FH', 'slow/unix' ], [ '-F', 'slow/unix/nosuch' ], [ '-Fx', 'slow/unix/command' ],
	[ '-P' ], [ '-Ph', 'submission' ], [ '-PH' ], [ '-P', 'slow/unix/syslog_name', '*/*/smtpd_timeout' ], [ '-Px', 'slow' ], [ '-Px', 'submission' ], [ '-P', 'nosuch/inet' ],
	[ '-M', 'a/b/c' ], [ '-M', 'smtp/nosuch' ]) {
	same("master.cf: @$args", $main, $master, @$args);
}

# ---- editing ----

for my $args ([ '-e', 'gate=new value ', 'added=1' ], [ 'gate = x', 'mydestination=' ], [ '-#', 'gate', 'mydestination' ], [ '-X', 'smtpd_recipient_restrictions' ], [ '-X', 'nosuch' ],
	[ '-e', 'gate=1', 'gate=2' ], [ '-e', 'gate' ], [ '-e', '=x' ], [ '-e', 'a b = c' ], [ '-e', '#x=y' ], [ '-#', 'gate=1' ], [ '-e', "a=b\nc=d" ], [ '-X' ], [ '-e' ],
	[ '-M', 'slow/unix=slow unix - - n - 7 smtp -o x=y' ], [ '-Me', 'new/inet=2525 inet n - n - - smtpd' ], [ '-MX', 'slow/unix' ], [ '-M#', 'smtp/inet', 'odd/unix' ], [ '-MX', 'smtp' ],
	[ '-M', 'slow/unix=bad' ], [ '-M#', 'nosuch/unix' ], [ '-F', 'slow/unix/process_limit=9', '*/unix/chroot=n' ], [ '-F', 'slow/unix/command=lmtp -o a=b' ], [ '-F', 'slow/unix/nosuch=1' ],
	[ '-FX', 'slow/unix/chroot' ], [ '-P', 'slow/unix/syslog_name=other', 'smtp/inet/soft_bounce = yes' ],
	[ '-PX', 'smtp/inet/smtpd_timeout' ], [ '-PX', 'smtp/inet/nosuch' ], [ '-P#', 'smtp/inet/smtpd_timeout' ], [ '-P', 'nosuch/unix/x=1' ], [ '-P', 'slow/unix=1' ]) {
	same("edit: @$args" =~ s/\n/|/gr, $main, $master, @$args);
}

# ---- odd files ----

same('comment, empty and continued lines stay where they are',
	"#a\n\nfoo = 1\n  2\n# b\n  3\n\n#c\nbar=4\nfoo = 5\n", "", '-e', 'foo=x', 'baz=y');
same('no newline at the end', "foo = 1\nbar = 2", "", '-e', 'bar=3');
# ---- options that exclude each other ----

for my $args ([ '-d', '-n' ], [ '-e', '-X', 'a' ], [ '-M', '-F' ], [ '-h', '-H', 'gate' ], [ '-a', '-m' ], [ '-M', '-h' ], [ '-m', '-x' ], [ '-e', '-f', 'a=b' ], [ '-b', '-t' ]) {
	same("options: @$args", $main, $master, @$args);
}
same('-l', $main, $master, '-l');
done_testing;
