#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# postmap and postalias beside Debian's: the same sources and requests, and output, warnings and status are compared.
# Then what Debian's version (3.7) does not have, and that a table is never seen half written.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Peers;
use Posthaste qw(run_ok slurp spew);
use File::Temp qw(tempdir);
use MIME::Base64 qw(encode_base64);
use Test::More;

# not on a disk: each edit is synced
my $dir  = tempdir('posthaste-postmap-XXXXXX', -w '/dev/shm' ? (DIR => '/dev/shm') : (TMPDIR => 1), CLEANUP => 1);
my $peer = Peers::unpacked('postfix');
my $sbin = Posthaste::prefix() . '/sbin';
spew("$dir/main.cf", "compatibility_level = 3.6\nmyhostname = mx.example.test\ndefault_database_type = hash\n" .
	"mail_owner = games\nsetgid_group = mail\n");
$ENV{MAIL_CONFIG} = $dir;

# status, output and warnings of one program with this on its standard input
sub run {
	my ($whose, $input, $program, @args) = @_;
	my @cmd = $whose eq 'ours' ? "$sbin/$program" : "$peer/usr/sbin/$program";
	unshift @cmd, 'bash', '-c', "exec -a $program \"\$0\" \"\$@\"";
	local $ENV{LD_LIBRARY_PATH} = $whose eq 'ours' ? '' : join ':', "$peer/usr/lib/postfix", glob "$peer/usr/lib/*-linux-gnu";
	spew("$dir/in", $input);
	my ($rc, $out) = run_ok('sh', '-c', 'in=$1 err=$2; shift 2; exec "$@" <"$in" 2>"$err"', 'sh', "$dir/in", "$dir/errors", @cmd, @args);
	# theirs names the compiled table and no line, ours the source and the line
	my $errors = slurp("$dir/errors") =~ s/^(.*?: warning: ).*: (?=duplicate entry)/$1/mgr =~ s/\.db\b//gr;
	return "status $rc\n$out-- $errors";
}

sub same {
	my ($name, $input, @cmd) = @_;
	my ($ours, $theirs) = map { run($_, $input, @cmd) } qw(ours theirs);
	return if ok $ours eq $theirs, $name;
	spew("$dir/$_->[0].out", $_->[1]) for [ 'theirs', $theirs ], [ 'ours', $ours ];
	my (undef, $diff) = run_ok('diff', '-U1', "$dir/theirs.out", "$dir/ours.out");
	diag $diff =~ s/\A---.*\n.*\n//r;
	return;
}

my $source = <<'EOF';
# comment
one 1
Two  value  with   blanks
three
  continued
  # not a comment line? it is
  further
"quoted key" v
"a \"b\\" w
"unfinished x
one again
novalue
four	tab
EOF
my $aliases = <<'EOF';
root: joe, "|/bin/cat"
Ann.Lee:  ann
joe: :include:/list,
 second@example.test
"quoted name": x
joe: twice
no colon here
at@sign: x
: empty
EOF
my $message = <<'EOF';
From: a@b.test
Subject: folded
 header
Content-Type: multipart/mixed; boundary="xx"

preamble
--xx
Content-Type: text/plain
X-Part: 1

first body
Not: a header
--xx
Content-Type: message/rfc822

Subject: inner
X-Inner: yes

inner body
--xx--
epilogue
EOF
my $notmime = "Subject: plain\n\n\nbody one\nX-Fake: body\n\nlast\n";
my $broken = "Subject: a\nthis is no header\nmore: body\n";

SKIP: {
	skip "Debian's Postfix cannot be had", 1 unless $peer;
	spew("$dir/map", $source);
	spew("$dir/al", $aliases);
	spew("$dir/re", "/^(.*)\$/ got:\$1\n");
	spew("$dir/blank", "/^\$/ an empty line\n/(.)\\n(.)/ folded \$1\$2\n/./ text\n");
	same('build', '', 'postmap', "hash:$dir/map");
	same('default type', '', 'postmap', "$dir/map");
	same("query $_", '', 'postmap', '-q', $_, "hash:$dir/map") for 'one', 'ONE', 'two', 'three', 'quoted key', 'a "b\\', 'nothing', 'four', 'novalue';
	same('query many', "one\nzero\nTWO\n\nfour\n", 'postmap', '-q', '-', "hash:$dir/map");
	same('query none of many', "zero\n", 'postmap', '-q', '-', "hash:$dir/map");
	same('first table wins', "", 'postmap', '-q', 'one', "inline:{one=inline}", "hash:$dir/map");
	same('the other answers', "", 'postmap', '-q', 'one', "inline:{x=inline}", "hash:$dir/map");
	same('delete', '', 'postmap', '-d', 'two', "hash:$dir/map");
	same('... is gone', '', 'postmap', '-q', 'two', "hash:$dir/map");
	same('delete what is not there', '', 'postmap', '-d', 'two', "hash:$dir/map");
	same('delete many', "one\nfour\nzero\n", 'postmap', '-d', '-', "hash:$dir/map");
	same('add', "five 5\none 11\n", 'postmap', '-i', "hash:$dir/map");
	same('... is there', "five\none\n", 'postmap', '-q', '-', "hash:$dir/map");
	same('add, duplicates', "five 55\n", 'postmap', '-i', "hash:$dir/map");
	same('add, quietly', "five 55\n", 'postmap', '-iw', "hash:$dir/map");
	same('... stays', '', 'postmap', '-q', 'five', "hash:$dir/map");
	same('replace', "five 555\n", 'postmap', '-ir', "hash:$dir/map");
	same('... is new', '', 'postmap', '-q', 'five', "hash:$dir/map");
	same('list one', '', 'postmap', '-s', "hash:$dir/single") if do { spew("$dir/single", "k v w\n"); same('single', '', 'postmap', "hash:$dir/single"); 1 };
	same('no folding', '', 'postmap', '-f', "hash:$dir/map");
	same('... of queries', '', 'postmap', '-fq', 'Two', "hash:$dir/map");
	same('... in upper case', '', 'postmap', '-fq', 'TWO', "hash:$dir/map");
	same('no file', '', 'postmap', "hash:$dir/nosuch");
	same('aliases', '', 'postalias', "hash:$dir/al");
	same("alias $_", '', 'postalias', '-q', $_, "hash:$dir/al") for qw(root ann.lee Joe), 'quoted name', 'at@sign';
	for my $set ([ 'multipart', $message ], [ 'plain', $notmime ], [ 'broken', $broken ], [ 'empty', '' ]) {
		my ($name, $text) = @$set;
		same("$name message: $_", $text, 'postmap', $_, '-q', '-', "regexp:$dir/re") for '-h', '-b', '-hb', '-hm', '-bm', '-hbm';
		same("$name message, empty lines: $_", $text, 'postmap', $_, '-q', '-', "regexp:$dir/blank") for '-hb', '-hbm';
	}
	same('options: -b without -q -', '', 'postmap', '-b', '-q', 'x', "regexp:$dir/re");
	same('options: -q and -d', '', 'postmap', '-q', 'x', '-d', 'y', "hash:$dir/map");
	same('options: -r and -w', '', 'postmap', '-rw', "hash:$dir/map");

	# -F: contents of files
	spew("$dir/f1", "first\n\xff");
	spew("$dir/f2", "second\n");
	spew("$dir/files", "a $dir/f1\nb $dir/f1, $dir/f2\nc $dir/nosuch\n");
	same('-F: build', '', 'postmap', '-F', "hash:$dir/files");
	same("-F: query $_", '', 'postmap', '-F', '-q', $_, "hash:$dir/files") for qw(a b c);
	same("-F: as stored", '', 'postmap', '-q', $_, "hash:$dir/files") for qw(a b);
	spew("$dir/f64", "a QUJD\nb notbase64!\n");
	same('-F: plain source', '', 'postmap', "hash:$dir/f64");
	same("-F: decode $_", '', 'postmap', '-F', '-q', $_, "hash:$dir/f64") for qw(a b);
}

# ---- newer ----

spew("$dir/j", "k \"v\\\n");
is run('ours', '', 'postmap', "hash:$dir/j"), "status 0\n-- ", 'a table';
is run('ours', '', 'postmap', '-j', '-q', 'k', "hash:$dir/j"), "status 0\n{\"k\": \"\\\"v\\\\\"}\n-- ", '-j with -q';
is run('ours', '', 'postmap', '-js', "hash:$dir/j"), "status 0\n{\"k\": \"\\\"v\\\\\"}\n-- ", '-j with -s';
like run('ours', '', 'postmap', '-j', "hash:$dir/j"), qr/^status 1\n-- postmap: fatal: specify -j only with -q or -s/, '-j alone';

# ---- never half: readers while it is built over and over ----

spew("$dir/big", join '', map { "key$_ value$_\n" } 1 .. 5000);
run_ok("$sbin/postmap", "hash:$dir/big");
my $inode = (stat "$dir/big.kch")[1];
my $writer = Posthaste::spawn("$dir/w", 'sh', '-c', 'for i in 1 2 3 4 5; do "$0" "$1" || exit 1; done', "$sbin/postmap", "hash:$dir/big");
my ($asked, $wrong) = (0, 0);
until (Posthaste::has_ended($writer)) {
	my ($rc, $out) = run_ok("$sbin/postmap", '-q', 'key4999', "hash:$dir/big");
	$asked++;
	$wrong++ if $rc != 0 || $out ne "value4999\n";
}
is Posthaste::wait_child($writer), 0, 'built again and again';
is $wrong, 0, "... and every one of $asked queries between is answered";
isnt +(stat "$dir/big.kch")[1], $inode, '... by new files under the old name';
is_deeply [ grep { /big/ && !/^(?:big|big\.kch)$/ } map { s{.*/}{}r } glob "$dir/*" ], [], '... and nothing is left beside it';
done_testing;
