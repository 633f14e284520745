#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# bounce_template_file: the words of notifications, and postconf -b and -t, which show them as Debian's do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Peers;
use Posthaste qw(run_ok slurp spew wait_until);
use Test::More;

my $hop = Posthaste->recorder;
my $mta = Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$hop->{port}", transport_maps => 'inline:{ { bad.test = error:nobody lives here } }',
	virtual_alias_maps => 'inline:{ { old@y.test = b@bad.test } }', # smtpd would refuse b itself
	bounce_template_file => '$config_directory/bounce.cf', maximal_queue_lifetime => '3d', delay_warning_time => '90m', contact => 'help@site.test',
	notify_classes => 'bounce', bounce_notice_recipient => 'copies@x.test' });
my $file = "$mta->{dir}/conf/bounce.cf";
my $words = <<'END';
# comment

failure_template = <<EOF
Charset: iso-8859-1
From: The Post (Office) <office>
Subject: It came back
Postmaster-Subject: Copy: it came back

$myhostname could not deliver your letter within $maximal_queue_lifetime_days days
($maximal_queue_lifetime_hours hours). Write to $contact. It costs $$0.
  GrXXe
EOF

delay_template = <<THE END
Subject: Slow

Since $delay_warning_time_minutes minutes; $delay_warning_time_hours.
THE END
END
$words =~ s/GrXXe/Gr\xfc\xdfe/;
spew($file, $words);

my ($rc, $out) = $mta->command('posthaste', 'check');
is $rc, 0, 'check' or diag $out;
unlike $out, qr/bounce_template/, '... finds nothing wrong';
($rc, $out) = $mta->command('postconf', '-b');
like $out, qr/^expanded_failure_text = <<EOF\nmx\.posthaste\.test could .* within 3 days\n\(72 hours\)\. Write to help\@site\.test\. It costs \$0\.\n  Gr\xfc\xdfe\nEOF$/m,
	'postconf -b';
like $out, qr/^expanded_delay_text = <<EOF\nSince 90 minutes; 1\.\nEOF$/m, '... and times in the unit asked for';
($rc, $out) = $mta->command('postconf', '-t', '');
like $out, qr/^failure_template = <<EOF\nCharset: us-ascii\nFrom: Mail Delivery System <MAILER-DAEMON>\nSubject: Undelivered Mail Returned to Sender\n/m,
	'postconf -t: what is built in';

SKIP: {
	my $peer = Peers::unpacked('postfix');
	skip "Debian's Postfix cannot be had, or needs root", 2 unless $peer && $> == 0;
	my $theirs = "$mta->{dir}/theirs";
	mkdir $theirs;
	spew("$theirs/main.cf", slurp("$mta->{dir}/conf/main.cf") =~ s/^(?:mail_owner|daemon_directory|setgid_group|data_directory|queue_directory|maillog_file) .*\n//mgr .
		"mail_owner = games\nsetgid_group = mail\ndefault_privs = nobody\ndaemon_directory = $peer/usr/lib/postfix/sbin\n" .
		"queue_directory = $theirs\ndata_directory = $theirs\n");
	spew("$theirs/bounce.cf", $words);
	for my $opt ('-b', '-t') {
		local $ENV{LD_LIBRARY_PATH} = join ':', "$peer/usr/lib/postfix", glob "$peer/usr/lib/*-linux-gnu";
		my (undef, $said) = run_ok('sh', '-c', 'exec "$@" 2>/dev/null', 'sh', "$peer/usr/sbin/postconf", '-c', $theirs, $opt);
		local $ENV{LD_LIBRARY_PATH} = '';
		my (undef, $ours) = $mta->command('postconf', $opt);
		# the other two are the built-in ones of each
		is join("\n", (split /^\n(?=\w+ = <<)/m, $ours)[0, 1]), join("\n", (split /^\n(?=\w+ = <<)/m, $said)[0, 1]),
			"postconf $opt gives what Debian's gives";
	}
}

$mta->launch;
my $smtp = $mta->smtp;
$smtp->ok('EHLO x.test');
$smtp->mail('a@x.test', 'old@y.test', "Subject: letter\n\nhello\n");
$smtp->quit;
for my $who ('a@x.test', 'copies@x.test') {
	ok $mta->wait_log(qr/to=<\Q$who\E>.*status=sent/), "$who is told" or diag $mta->log_tail;
}
my $got = slurp($hop->{file}) =~ s/\r//gr;
for my $set ([ 'a@x.test', 'It came back' ], [ 'copies@x.test', 'Copy: it came back' ]) {
	my ($to, $subject) = @$set;
	my ($text) = $got =~ /(^Subject: \Q$subject\E\n.*?^\.$)/ms;
	ok defined $text, "the subject for $to" or next;
	like $text, qr/^To: \Q$to\E$/m, '... goes there';
	like $text, qr/^Content-Type: text\/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nmx\.posthaste\.test could not/m, '... the words and their set';
	like $text, qr/^  Gr\xfc\xdfe\n\n<b\@bad\.test> \(expanded from <old\@y\.test>\): nobody lives here$/m, '... and the reason behind them';
}
like $got, qr/^From: "The Post \(Office\)" <office\@mx\.posthaste\.test>$/m, 'the sender that the reader sees' or diag $got =~ /^(From:.*)/m;
is $mta->stop, 0, 'stop';

# ---- bad files: told, and what is built in stands in ----

spew($file, "nonsense\nfoo_template = <<X\nX\nfailure_template = <<EOF\nColour: blue\nSubject:\n\nbody \${broken\nEOF\ndelay_template = <<EOF\nno end\n");
(undef, $out) = $mta->command('posthaste', 'check');
like $out, $_, 'said: ' . $_ for qr/bounce\.cf, line 1: expected template_name = <<EOF/, qr/line 2: unknown template name: "foo_template"/,
	qr/line 5: expected Charset:, From:/, qr/line 6: expected a header value/, qr/bounce\.cf: failure_template: /, qr/the template has no end line/;
unlink $file;
(undef, $out) = $mta->command('posthaste', 'check');
like $out, qr/main\.cf, line \d+: bounce_template_file = \S+: No such file/, 'no file is told, with its place';
is $mta->crashes, '', 'nothing crashed';
done_testing;
