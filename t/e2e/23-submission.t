#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Mail of local users: sendmail, postdrop, the maildrop and pickup. An exit status of 0 is a promise,
# whether the system runs or not; what lies in the maildrop may come from anybody.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(run_ok slurp spew wait_until);
use File::Copy qw(copy);
use Fcntl;
use IO::Handle;
use POSIX qw(mkfifo);
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC);
use Test::More;

my $rec  = Posthaste->recorder('whole');
my $mta  = Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$rec->{port}",
	message_size_limit => 200000, myorigin => 'origin.test', hopcount_limit => 20 });
my $sbin = Posthaste::prefix() . '/sbin';
my $drop = "$mta->{dir}/spool/maildrop";
my $user = (getpwuid $>)[0];

# Run a command with this standard input; (exit status, what it said).
sub feed {
	my ($input, @cmd) = @_;
	spew("$mta->{dir}/in", $input);
	my $pid = open my $out, '-|';
	die "fork: $!" unless defined $pid;
	if (!$pid) {
		open STDIN, '<', "$mta->{dir}/in" or POSIX::_exit(71);
		open STDERR, '>&', \*STDOUT;
		local $ENV{POSTHASTE_CLOCK} = "$mta->{dir}/clock";
		exec { $cmd[0] } @cmd or POSIX::_exit(71);
	}
	local $/;
	my $text = <$out> // '';
	close $out;
	return ($? >> 8, $text);
}

sub sendmail {
	my ($input, @args) = @_;
	return feed($input, "$sbin/sendmail", '-C', "$mta->{dir}/conf", @args);
}

# What the next hop got of the message with this subject; '' when it does not come.
sub received {
	my ($subject) = @_;
	my $got = wait_until(sub {
		my ($m) = grep { /^Subject: \Q$subject\E$/m } split /^\.\n/m, $rec->got =~ s/\r//gr;
		return defined $m ? "$m.\n" : undef;
	}, 20) or return '';
	return $got;
}
sub lines { my ($n) = @_; my $i = 0; return join '', map { "line $_\n" } 1 .. $n }
sub files { my ($dir) = @_; return grep { !m{/tmp\.} } glob "$mta->{dir}/spool/$dir/*" }

# ---- while nothing runs ----

my ($rc, $out) = sendmail("Subject: none\n\n", 'a@x.test');
is $rc, 75, 'before the first start there is no maildrop: try again later';
is(($mta->command('posthaste', 'start'))[0], 0, 'starts');
is(($mta->command('posthaste', 'stop'))[0], 0, 'and stops: the directories exist now');

($rc, $out) = sendmail("Subject: stopped\n\nThe daemon is down.\n", 'a@x.test');
is $rc, 0, 'a message is taken while the system is stopped' or diag $out;
my @files = files('maildrop');
is system('sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh', "$sbin/sendmail", '-C', "$mta->{dir}/conf", '-v', 'a@x.test'), 0,
	'a caller may have closed everything: an empty message';
unlink grep { $_ ne $files[0] } files('maildrop');
is scalar(@files), 1, 'it lies in the maildrop';
is sprintf('%o', (stat $files[0])[2] & 07777), '444', '... readable, done, by its directory out of reach';
copy($files[0], "$mta->{dir}/sample");
is sprintf('%o', (stat $drop)[2] & 07777), $> == 0 ? '1730' : '700', 'the directory: others can add, not look';

($rc, $out) = sendmail("HELO me\r\nMAIL FROM:<s\@x.test>\r\nRCPT TO:<r\@x.test>\r\nDATA\r\nSubject: bs-stopped\r\n\r\nx\r\n.\r\nQUIT\r\n", '-bs');
like $out, qr/\n250 2\.0\.0 Ok: queued as .*\n221 /s, 'so is one by SMTP on standard input';

# ---- hostile files wait for the start ----

sub put { my ($name, $text) = @_; spew("$drop/$name", $text); chmod 0444, "$drop/$name"; return }
my $sample = slurp("$mta->{dir}/sample");
put('garbage', 'x' x 5000);
put('empty', '');
put('head-only', substr $sample, 0, 32);
put('cut', substr $sample, 0, -3);
put('longer', "$sample tail");
put('flipped', $sample =~ s/daemon is down/daemon is DOWN/r);
put('huge-claim', substr($sample, 0, 16) . "\xff" x 7 . "\x7f" . substr $sample, 24);
put('setuid', $sample);
chmod 04444, "$drop/setuid";
put('writable', $sample);
chmod 0666, "$drop/writable";
put('linked', $sample);
link "$drop/linked", "$mta->{dir}/second-name";
# no mail can be in these: they are removed
symlink '/etc/passwd', "$drop/symlink";
symlink 'nowhere', "$drop/dangling";
mkfifo("$drop/fifo", 0444);
mkdir "$drop/directory";
spew("$drop/directory/inside", 'x');
put('tmp.unfinished', substr $sample, 0, 20);
put('tmp.forgotten', $sample);
utime time - 100_000, time - 100_000, "$drop/tmp.forgotten";
my $odd = "odd\nname\e[31m" . 'n' x 200;
put($odd, 'rubbish');
my $bad = 11;

$mta->launch;
like received('stopped'), qr/^The daemon is down\.$/m, 'the message of the stopped system is sent after the start';
like received('bs-stopped'), qr/^From: s\@x\.test$/m, '... and the one by SMTP';
ok wait_until(sub { files('corrupt') >= $bad }, 20), 'what is no message is set aside';
my @aside = files('corrupt');
is scalar(@aside), $bad, "$bad files" or diag join "\n", @aside;
is join(' ', sort map { m{([^/]+)$} } files('maildrop')), -d "$drop/directory" ? 'directory' : '', 'nothing else is left there';
ok -e "$drop/tmp.unfinished", 'a message that is being written is left alone';
ok !-e "$drop/tmp.forgotten", 'one that nobody finished within a day is removed';
is slurp("$mta->{dir}/second-name"), $sample, 'a file with two names is not emptied';
ok -e '/etc/passwd', 'nor is what a link leads to';
like $mta->log, qr/pickup\[\d+\]: warning: flipped: uid=\d+: checksum does not match|pickup\[\d+\]: warning: \w+: uid=\d+: checksum does not match/, 'damage is named';
like $mta->log, qr/pickup\[\d+\]: warning: garbage: uid=\d+: not a submitted message/, '... and who left it';
unlike $mta->log, qr/\e/, 'no control characters get into the log';
is $rec->got =~ s/DOWN//gr, $rec->got, 'the changed message was not sent';
cmp_ok $mta->status->{damaged}, '>=', 0, 'the system is alive';

# ---- content ----

my ($id) = received('stopped') =~ /^Message-Id: <(\w+)\@/m;
like $mta->log, qr/pickup\[\d+\]: $id: uid=$> from=<$user>\n/, "pickup's line: who submitted it";
like $mta->log, qr/cleanup\[\d+\]: $id: message-id=<$id\@mx\.posthaste\.test>\n/, "cleanup's line";
like $mta->log, qr/qmgr\[\d+\]: $id: from=<$user\@origin\.test>, size=\d+, nrcpt=1 \(queue active\)\n/, "qmgr's line";
like received('stopped'), qr/^Received: by mx\.posthaste\.test \(Posthaste, from userid $>\)\n\tid $id; \w{3}, /m, 'Received';
like received('stopped'), qr/^From: .*\b$user\@origin\.test>?\n/m, 'a From header is made';

sendmail("From somebody Mon Jan 1\n>From again\nSubject: text\r\n\r\n.dots\r\n..\r\nlast", '-i', '-F', 'Jo "X" Doe', '-f', 'Jo <jo@y.test>', 'Bob <b@x.test>, carol@x.test');
my $got = received('text');
like $got, qr/^MAIL FROM:<jo\@y\.test>.*\nRCPT TO:<b\@x\.test>.*\nRCPT TO:<carol\@x\.test>/m, 'addresses in any form';
like $got, qr/\n\n\.\.dots\n\.\.\.\nlast\n\.\n\z/, 'CRLF, dots and a missing line end';
unlike $got, qr/^>?From /m, 'mailbox lines go';
like $got, qr/^From: "Jo \\"X\\" Doe" <jo\@y\.test>$/m, 'the full name';

sendmail("Subject: dot\n\nbefore\n.\nafter\n", 'a@x.test');
like received('dot'), qr/\n\nbefore\n\.\n\z/, 'a lone dot ends the message without -i';
sendmail("Subject: =8bit\n\nGr\xfc\xdfe\n", '-f', '', 'a@x.test');
like received('=8bit'), qr/^MAIL FROM:<>.*\n(?:.*\n)*Gr\xfc\xdfe\n/m, '8-bit content, the null sender';
sendmail("Subject: uml\n\nx\n", '-F', "J\xc3\xbcrgen", 'a@x.test');
like received('uml'), qr/^From: =\?utf-8\?Q\?J=C3=BCrgen\?= </m, 'a full name beyond ASCII';

sendmail("To: a\@x.test,\n\t\"B, C\" <b\@x.test>\nCc: group: c\@x.test;\nBCC: hidden\@x.test\nSubject: extract\n\nx\n", '-t', 'extra@x.test');
$got = received('extract');
is join(' ', sort $got =~ /^RCPT TO:<(\w+)\@x/mg), 'a b c extra hidden', '-t: recipients of the header and the command line';
unlike $got, qr/^bcc:|^[^R].*hidden/mi, '... and no Bcc';
sendmail("To: a\@x.test\nResent-To: r\@x.test\nResent-Bcc: s\@x.test\nSubject: resent\n\nx\n", '-t');
$got = received('resent');
is join(' ', sort $got =~ /^RCPT TO:<(\w+)\@x/mg), 'r s', '-t: Resent- headers count alone';
like $got, qr/^To: a\@x\.test$/m, '... the others stay';
unlike $got, qr/Resent-Bcc/i, '... but for Resent-Bcc';

sendmail("Subject: dsn\n\nx\n", '-N', 'success,failure', '-R', 'hdrs', '-V', 'env 1', 'a@x.test');
like received('dsn'), qr/^MAIL FROM:<\S+>.* RET=HDRS.* ENVID=env\+201.*\nRCPT TO:<a\@x\.test> (?=.*NOTIFY=SUCCESS,FAILURE)(?=.*ORCPT=rfc822;a\@x\.test)/m, 'DSN options';

# ---- refusals ----

for my $case (
	[ 75, qr/^sendmail: fatal: \S+: Recipient addresses must be specified on the command line or via the -t option$/m, [] ],
	[ 75, qr/^sendmail: fatal: \S+: No recipient addresses found in message header$/m, ['-t'] ],
	[ 75, qr/usage: sendmail/, [ '-Z', 'a@x.test' ] ],
	[ 0, qr/bad -N option value -- ignored$/m, [ '-N', 'sometimes', 'a@x.test' ] ],
	[ 0, qr/bad -N option value -- ignored$/m, [ '-N', 'never,delay', 'a@x.test' ] ],
	[ 0, qr/bad -R option value -- ignored$/m, [ '-R', 'half', 'a@x.test' ] ],
	[ 0, qr/bad syntax in -V option value -- ignored$/m, [ '-V', "a\nb", 'a@x.test' ] ],
	[ 75, qr/display queue mode requires no recipient/, [ '-bp', 'a@x.test' ] ],
	[ 75, qr/-t can be used only in delivery mode/, [ '-bs', '-t' ] ],
	[ 75, qr/control character in an address/, [ "\"a\nRCPT TO:<x>\"\@x.test" ] ],
	[ 75, qr/sender: control character in an address/, [ '-f', "\"a\rb\"\@x.test", 'a@x.test' ] ],
	[ 75, qr/bad recipient address/, [ 'a' x 1100 . '@x.test' ] ],
	[ 75, qr/address is not UTF-8/, [ "\xff\@x.test" ] ],
) {
	my ($status, $re, $args) = @$case;
	($rc, $out) = sendmail("Subject: refused\n\nx\n", @$args);
	is $rc, $status, "sendmail @$args" =~ s/[^ -~]/?/gr =~ s/^(.{60}).*/$1.../r;
	like $out, $re, '... and says why';
}
($rc, $out) = sendmail("Subject: big\n\n" . lines(30000), 'a@x.test');
is $rc, 75, 'larger than message_size_limit';
like $out, qr/message file too big/, '... and says so';
is join(' ', glob "$drop/tmp.[0-9a-f]*.*"), '', 'nothing of it is left in the maildrop';
($rc) = feed("posthaste submission 1\n\x05\x00\x00\x00abc", "$sbin/postdrop", '-c', "$mta->{dir}/conf");
is $rc, 65, 'postdrop: input that was cut off';
($rc) = feed("\x00" x 100, "$sbin/postdrop", '-c', "$mta->{dir}/conf");
is $rc, 65, 'postdrop: input that is not from sendmail';
for my $accepted (['-oi'], [ '-o', 'em' ], ['-odb'], ['-Am'], ['-U'], ['-m'], [ '-h', '3' ], [ '-L', 'tag' ], ['-G'], ['-om'], [ '-B', '8BITMIME' ], [ '-O', 'smtputf8=no' ], ['-o8']) {
	($rc, $out) = sendmail("Subject: accepted\n\nx\n", @$accepted, 'a@x.test');
	is "$rc$out", '0', "@$accepted is accepted";
}

# ---- SMTP on standard input ----

sub dialogue { my (@lines) = @_; return sendmail(join('', map { "$_\r\n" } @lines), '-bs') }
($rc, $out) = dialogue('EHLO me', 'MAIL FROM:<s@x.test> RET=HDRS ENVID=bs-1', 'RCPT TO:<r@x.test> NOTIFY=SUCCESS', 'RCPT TO:<any@where.test>', 'DATA',
	'Subject: bs', '', '..dot', 'text', '.', 'NOOP', 'QUIT');
$got = received('bs');
my ($rc2, $out2) = dialogue('EHLO me', 'MAIL FROM:<s2@x.test>', 'RCPT TO:<r2@x.test>', 'BDAT 15', 'Subject: bdat', 'BDAT 3 LAST', 'x', 'NOOP', 'QUIT');
is "$rc$rc2", '00', 'sendmail -bs';
like $out, qr/\A220 mx\.posthaste\.test ESMTP.*\r\n250-mx\.posthaste\.test\r\n/, '... greets';
like $out, qr/\r\n250 2\.0\.0 Ok: queued as [0-9a-f.]+\r\n250 2\.0\.0 Ok\r\n221 2\.0\.0 Bye\r\n\z/, '... takes messages';
like $out2, qr/\r\n250 2\.0\.0 Ok: 18 bytes queued as [0-9a-f.]+\r\n250 2\.0\.0 Ok\r\n221 2\.0\.0 Bye\r\n\z/, '... by DATA and BDAT';
like $got, qr/^MAIL FROM:<s\@x\.test>.* RET=HDRS ENVID=bs-1.*\nRCPT TO:<r\@x\.test>.* NOTIFY=SUCCESS.*\nRCPT TO:<any\@where\.test>/m, '... with their envelopes';
like $got, qr/\n\n\.\.dot\ntext\n\.\n\z/, '... and content';
is scalar(() = $got =~ /^Received: /mg), 1, '... and one Received header';
like received('bdat'), qr/^From: s2\@x\.test$/m, '... by BDAT, too';
($rc, $out) = dialogue('EHLO me', 'MAIL FROM:<s@x.test>', 'RCPT TO:<a b@x.test>', 'RCPT TO:<r@x.test>', 'DATA', 'Subject: cut', '', 'no end');
like $out, qr/\r\n501 5\.1\.3 .*\r\n354 /s, '-bs: bad addresses are refused';
is join(' ', glob "$drop/tmp.[0-9a-f]*.*"), '', '... and a message without an end is not taken';
($rc, $out) = dialogue('EHLO me', 'MAIL FROM:<s@x.test>', 'RCPT TO:<r@x.test>', 'DATA', 'Subject: big', '', ('x' x 70) x 4000, '.', 'QUIT');
like $out, qr/\r\n552 5\.3\.4 .*\r\n221 /s, '-bs: message_size_limit';

# A message that is refused for good comes back to its sender.
sendmail("Received: x\n" x 25 . "Subject: loop\n\nx\n", '-f', 'me@x.test', 'a@x.test');
ok $mta->wait_log(qr/pickup\[\d+\]: warning: \w+: refused: 5\.4\.0 Error: too many hops\n/), 'too many hops: refused';
ok $mta->wait_log(qr/pickup\[\d+\]: \w+: sender non-delivery notification: \w+\n/), '... the sender is told';
ok wait_until(sub { $rec->got =~ /^MAIL FROM:<>.*\nRCPT TO:<me\@x\.test>.*\n/m }, 20), '... by mail';
like received('Undelivered Mail Returned to Sender'), qr/^Subject: loop$/m, '... with the header';
sendmail("Received: x\n" x 25 . "Subject: loop\n\nx\n", '-f', '', 'a@x.test');
ok wait_until(sub { files('corrupt') > $bad }, 20), 'one without a sender is set aside';

# ---- options of the pickup service ----

my $filter = Posthaste->recorder('whole');
my $listener = "127.0.0.1:$mta->{port} inet n - n - - smtpd\n";
$mta->{opt}{master} = $listener . "pickup unix n - n 60 1 pickup\n  -o content_filter=smtp:[127.0.0.1]:$filter->{port}\n  -o receive_override_options=no_address_mappings\n";
$mta->configure(always_bcc => 'bcc@x.test');
is(($mta->command('posthaste', 'reload'))[0], 0, 'reload with options for pickup');
sendmail("Subject: filtered\n\nx\n", 'a@x.test');
ok wait_until(sub { $filter->got =~ /^Subject: filtered\r$/m }, 20), 'content_filter takes local mail';
unlike $filter->got, qr/bcc\@x/, 'no_address_mappings: no always_bcc';
$mta->{opt}{master} = $listener;
$mta->configure(always_bcc => 'bcc@x.test');
$mta->command('posthaste', 'reload');
sendmail("Subject: copied\n\nx\n", 'a@x.test');
ok wait_until(sub { received('copied') && $rec->got =~ /^RCPT TO:<bcc\@x\.test>/m }, 20), 'always_bcc';
$mta->configure;

# ---- postdrop with the right of a group, run by an ordinary user ----

# a set-gid program drops its environment, and with it what keeps sanitizers from looking for leaks
my $sanitized = slurp(Posthaste::build_dir() . '/options') =~ /--enable-[at]san/;
my $unshare = $> == 0 && !$sanitized && run_ok(qw(unshare -m setpriv --reuid=games --regid=games --clear-groups true));
SKIP: {
	skip 'needs root, unshare and setpriv, and no sanitizer', 19 unless $unshare;
	my $conf = (run_ok("$sbin/postconf", '-dh', 'config_directory'))[1] =~ s/\s//gr;
	my $own  = "$mta->{dir}/sbin";
	mkdir $own;
	copy("$sbin/$_", "$own/$_") for qw(sendmail postdrop);
	chmod 0755, "$own/sendmail";
	my $group = (getgrnam 'mail')[2];
	chown 0, $group, "$own/postdrop";
	chmod 02755, "$own/postdrop";
	my %main = (setgid_group => 'mail', command_directory => $own);
	$mta->configure(%main);
	is(($mta->command('posthaste', 'reload'))[0], 0, 'reload makes the directories anew');
	my @st = stat $drop;
	is sprintf('%o %d', $st[2] & 07777, $st[5]), "1730 $group", 'the maildrop is open to the group';
	# its built-in configuration is this instance's, in a mount namespace of its own
	my $games = (getpwnam 'games')[2];
	my $as_user = sub {
		my ($input, $shell, @args) = @_;
		my @parts = split m{/}, $conf;
		my $script = "mount -t tmpfs tmpfs $parts[1] 2>/dev/null || mount -t tmpfs tmpfs " .
			join('/', @parts[0 .. 2]) . " && mkdir -p $conf && cp $mta->{dir}/conf/* $conf/ && " .
			"chmod -R a+rX $conf && exec setpriv --reuid=games --regid=games --clear-groups sh -c '$shell' sh \"\$@\"";
		return feed($input, 'unshare', '-m', 'sh', '-c', $script, 'sh', "$own/sendmail", @args);
	};
	($rc, $out) = $as_user->("Subject: user\n\nx\n", 'exec "$@"', 'a@x.test');
	is "$rc$out", '0', 'a user submits mail';
	like received('user'), qr/^Received: by \S+ \(Posthaste, from userid $games\)$/m, '... and is named';
	like $mta->log, qr/pickup\[\d+\]: \w+: uid=$games from=<games>\n/, '... in the log';
	($rc) = $as_user->("Subject: look\n\nx\n", "ls $drop", 'a@x.test');
	isnt $rc, 0, 'nobody looks into the maildrop';
	($rc, $out) = $as_user->("Subject: limit\n\n" . lines(20000), 'ulimit -f 8; exec "$@"', 'a@x.test');
	is $rc, 75, 'a limit of file sizes is a failure';
	is join(' ', glob "$drop/tmp.[0-9a-f]*.*"), '', '... that leaves nothing behind';
	($rc, $out) = $as_user->("Subject: closed\n\nx\n", 'exec "$@" 2>&-', 'a@x.test');
	is $rc, 0, 'closed descriptors do no harm';
	like received('closed'), qr/^x$/m, '... the message is whole';
	mkdir "$mta->{dir}/forged";
	spew("$mta->{dir}/forged/main.cf", slurp("$mta->{dir}/conf/main.cf") =~ s/^queue_directory.*/queue_directory = \/tmp/mr);
	spew("$mta->{dir}/forged/master.cf", '');
	($rc, $out) = $as_user->("Subject: forged\n\nx\n", 'exec "$@"', '-C', "$mta->{dir}/forged", 'a@x.test');
	like $out, qr/not listed in alternate_config_directories|No such file/, 'a configuration of the user is refused';
	isnt $rc, 0, '... and the message with it';
	($rc, $out) = $as_user->("Subject: env\n\nx\n", "MAIL_CONFIG=$mta->{dir}/forged exec $own/postdrop", 'a@x.test');
	is $rc, 1, 'nor one named in the environment of postdrop';
	like $out, qr/$mta->{dir}\/forged is not listed in alternate_config_directories/, '... which says so';
	$mta->configure(%main, alternate_config_directories => "/nowhere, $mta->{dir}/conf");
	($rc, $out) = $as_user->("Subject: listed\n\nx\n", 'exec "$@"', '-C', "$mta->{dir}/conf", 'a@x.test');
	is "$rc$out", '0', 'one that is listed is taken';
	$mta->configure(%main, authorized_submit_users => '!games, static:all');
	($rc, $out) = $as_user->("Subject: denied\n\nx\n", 'exec "$@"', 'a@x.test');
	is $rc, 75, 'authorized_submit_users';
	like $out, qr/fatal: User games\($games\) is not allowed to submit mail/, '... and says so';
	$mta->configure(%main, local_login_sender_maps => 'inline:{{games = games, other@x.test}}', smtpd_peername_lookup => 'no');
	($rc, $out) = $as_user->("Subject: as other\n\nx\n", 'exec "$@"', '-f', 'other@x.test', 'a@x.test');
	is "$rc$out", '0', 'local_login_sender_maps: an address of the user';
	($rc, $out) = $as_user->("Subject: as boss\n\nx\n", 'exec "$@"', '-f', 'boss@x.test', 'a@x.test');
	is $rc, 75, '... and one of somebody else';
	$mta->configure;
}
wait_until(sub { !files('pickup') && (grep { !/directory$/ } files('maildrop')) == 0 }, 20);

is join(' ', files('maildrop'), files('pickup')) =~ s/\S*directory//r, '', 'nothing waits';
is $mta->stop, 0, 'stops';
is $mta->crashes, '', 'nothing crashed';
done_testing;
