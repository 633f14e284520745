#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# The same messages given to Debian's Postfix and to Posthaste: what stands in mailboxes of local(8)
# and virtual(8), and in those Dovecot filled by LMTP, is read back through Dovecot's IMAP server and
# must be the same bytes, but for queue ids and dates.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(run_ok slurp spew wait_until);
use Peers;
use Test::More;
use File::Temp qw(tempdir);

my $why = Peers::obstacle();
plan skip_all => $why if $why;

my $dir = tempdir('posthaste-readback-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
my ($uid, $gid) = (getpwnam 'news')[2, 3];
my $dovecot = Peers->dovecot(home => 'lmtp.test', users => ['read']) or BAIL_OUT('Dovecot does not run');

# The boxes of one system, by recipient.
my %box = (
	'news@here.test'    => 'spool/news',       # local(8): mailbox file
	'dir@here.test'     => 'alias/dir',        # ... Maildir of an alias
	'file@here.test'    => 'alias/file',       # ... file of an alias
	'mdir@box.test'     => 'virtual/mdir',     # virtual(8)
	'mbox@box.test'     => 'virtual/mbox',
	'joe@lmtp.test'     => 'lmtp',             # Dovecot's own
);

sub settings {
	my ($who) = @_;
	my $d = "$dir/$who";
	mkdir $_ for $d, map { "$d/$_" } qw(spool alias virtual);
	chown 0, (getgrnam 'mail')[2], "$d/spool";
	chmod 02775, "$d/spool";
	chown $uid, $gid, "$d/virtual", "$d/alias";
	spew("$d/aliases", "dir $d/alias/dir/\nfile $d/alias/file\n");
	return (
		compatibility_level => '3.6', myhostname => 'mx.here.test', mydestination => 'here.test', mail_name => 'Postfix',
		enable_long_queue_ids => 'yes', local_recipient_maps => '', alias_maps => "texthash:$d/aliases",
		default_privs => 'news', mail_spool_directory => "$d/spool", forward_path => '', relayhost => '[127.0.0.1]:1',
		virtual_mailbox_domains => 'box.test', virtual_mailbox_base => "$d/virtual", virtual_minimum_uid => 1,
		virtual_mailbox_maps => 'inline:{ mdir@box.test=mdir/ mbox@box.test=mbox }', virtual_uid_maps => "static:$uid",
		virtual_gid_maps => "static:$gid", transport_maps => "inline:{ lmtp.test=lmtp:unix:$dovecot->{dir}/run/lmtp }",
		smtpd_peername_lookup => 'no', maximal_backoff_time => '1s', minimal_backoff_time => '1s', biff => 'no',
	);
}

my $body8 = "caf\xc3\xa9 \xff\xfe\x80\n";
# name => content, with LF where a CRLF goes out; "\r" and "\x{1}LF" are a lone CR and a lone LF. Each goes by DATA
# and, without its last line end, by BDAT.
my %shape = (
	'plain'             => "To: x\@y.test\nSubject: plain\n\nline\n",
	'dots'              => "Subject: dots\n\n.\n..\n.x\n..x\n...\n\n.\n",
	'no body'           => "Subject: no body\n\n",
	'no empty line'     => "Subject: no empty line\n",
	'no header'         => "just text\nSubject: not a header\n\nmore\n",
	'from_ first'       => "From someone\@x.test  Mon Nov 23 19:07:50 2026\nSubject: x\n\nFrom here\n",
	'>from_ first'      => ">From someone\@x.test  Mon Nov 23 19:07:50 2026\nSubject: x\n\n>From here\n",
	'from_'             => "Subject: from\n\nFrom x\n>From y\n>>From z\nFro\nFrom\nFrom \n From \n\nFrom end",
	'space first'       => " folded\nSubject: x\n\ny\n",
	'8bit'              => "Subject: 8bit \xc3\xa9\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n$body8",
	'8bit undeclared'   => "Subject: 8bit\n\n$body8",
	'long lines'        => "Subject: long\n\n" . join('', map { 'x' x $_ . "\n" } 989, 990, 991, 997, 998, 999, 1000, 2045 .. 2052, 4095 .. 4100, 6144, 50000),
	'long dots'         => "Subject: long dots\n\n" . join('', map { '.' x $_ . "\n" } 998, 999, 2047, 2048, 2049, 2050, 5000),
	'long from'         => "Subject: long from\n\n" . join('', map { 'x' x $_ . "From y\n" } 2043 .. 2051),
	'long header'       => 'Subject: ' . 'x' x 5000 . "\nX-Folded: a\n\tb\n " . 'y' x 2100 . "\n\nbody\n",
	'huge header'       => 'X-Huge: ' . ('z' x 990 . "\n ") x 150 . "end\nSubject: x\n\nbody\n",
	'huge line'         => 'X-Huge: ' . 'z' x 150000 . "\nSubject: x\n\nbody\n",
	'nul'               => "Subject: a\0b\n\nnul \0 here\n\0\n",
	'lone cr and lf'    => "Subject: cr\rx\nX-A: b\x{1}LFX-C: d\n\na\rb\n\rc\nd\r\ne\x{1}LFf\x{1}LF\x{1}LFg\n",
	'blanks'            => "Subject:  blanks  \t \nX-Empty:\nX-Blank: \n\n \n\t\nx \t\n\n\n\n",
	'name space colon'  => "Subject : x\nX-Y \t: z\nbad header line\nX-After: y\n\nbody\n",
	'folded empty'      => "Subject: x\n \n\t\nX-B: c\n\nbody\n",
	'dropped'           => "Return-Path: <a\@b>\nBcc: x\@y.test\nContent-Length: 7\nStatus: RO\nX-Keep: 1\nDelivered-To: other\@here.test\n\nx\n",
	'mime'              => "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\npre\n--b\nContent-Type : text/plain\n\none\n--b\nContent-Type: message/rfc822\n\nSubject : in\nFrom x\n\n--b--\npost\n",
	'large'             => "Subject: large\n\n" . join('', map { sprintf "%06d %s\n", $_, 'x' x ($_ % 79) } 1 .. 20000),
	'addresses'         => "From: Joe <joe>\nTo: ann, \"a, b\" <c\@d.test>,\n\tgroup: x\@y, z\@w;\nCc: <\@r.test:u\@v.test> (comment)\nSender: \xc3\xa9\@x.test\nDate: now\nMessage-Id: <m\@x>\n\nx\n",
	'resent'            => "Resent-From: joe\@x.test\nFrom: a\@b.test\nTo: c\@d.test\n\nx\n",
);
# by sendmail: as they are, and without a final line end
my %local = (
	'sendmail'          => "Subject: sendmail\n\nbody\n",
	'no final newline'  => "Subject: x\n\nbody",
	'crlf'              => "Subject: x\r\nX-Y: z\r\n\r\nbody\r\n.x\r\nend",
	'mixed ends'        => "Subject: x\r\nX-Y: z\n\nbody\r\nb\rc\nend\r",
	'sendmail nul'      => "Subject: a\0b\n\nnul \0 here\n\0",
	'sendmail from_'    => "From me\nSubject: x\n\nFrom me\n",
	'sendmail long'     => "Subject: " . 'x' x 3000 . "\n\n" . join("\n", map { 'x' x $_ } 998, 999, 2047 .. 2050, 5000),
	'sendmail dot'      => "Subject: x\n\n.x\n..\n",
	'sendmail empty'    => '',
	'sendmail 8bit'     => "Subject: \xc3\xa9\n\n$body8", # not to Dovecot: it has no SMTPUTF8
	'sendmail text'     => "not a header\n",
);

# Dot-stuffed, for DATA; "\x{1}LF" became a lone line feed, which ends a line, too.
sub wire {
	my ($text) = @_;
	$text .= "\n" unless $text =~ /\n\z/;
	$text =~ s/(?<!\r)\n/\r\n/g;
	$text =~ s/\x{1}LF/\n/g;
	$text =~ s/^\./../mg;
	return $text;
}

# Gives all messages; returns { queue id => name }.
sub give {
	my ($mta, $port, $sendmail) = @_;
	my %name_of;
	my $smtp = $mta->smtp($port);
	$smtp->ok('EHLO client.test');
	for my $name (sort keys %shape) {
		for my $way (qw(DATA BDAT)) {
			$smtp->ok('MAIL FROM:<s@x.test>' . ($name eq '8bit' ? ' BODY=8BITMIME' : ''));
			$smtp->ok("RCPT TO:<$_>") for sort keys %box;
			my $tagged = "X-Shape: $name/$way\n$shape{$name}";
			$tagged = $shape{$name} if $name =~ /first|no header/;
			my $content = wire($tagged);
			if ($way eq 'DATA') {
				$smtp->ok('DATA');
				$smtp->send_raw("$content.\r\n");
			} else {
				$content =~ s/^\.\./\./mg;
				$content =~ s/\r\n\z// unless $name =~ /no body/; # ends in a line
				my $half = int(length($content) / 2);
				$smtp->send_raw("BDAT $half\r\n" . substr($content, 0, $half));
				$smtp->reply;
				$smtp->send_raw('BDAT ' . (length($content) - $half) . " LAST\r\n" . substr($content, $half));
			}
			my $reply = $smtp->reply;
			$reply =~ /queued as (\w+)/ ? $name_of{$1} = "$name/$way" : diag "$name/$way: $reply";
		}
	}
	$smtp->quit;
	return \%name_of;
}

# The messages of a mailbox, by queue id: what FETCH gives for BODY[].
sub fetch {
	my ($path) = @_;
	my $copy = "$dovecot->{dir}/mail/read";
	run_ok('rm', '-rf', $copy);
	mkdir $copy;
	run_ok('cp', '-r', $path, "$copy/box");
	run_ok('chown', '-R', 'games:games', $copy);
	spew("$dir/commands", "a EXAMINE INBOX\r\nb FETCH 1:* BODY.PEEK[]\r\nc LOGOUT\r\n");
	my $where = -d "$copy/box" ? "maildir:$copy/box" : "mbox:$copy:INBOX=$copy/box";
	# imap drops what it has not written when its input ends: that stays open until its last answer
	spew("$dir/answers", '');
	my ($rc, $out) = $dovecot->inside('sh', '-c', "{ cat $dir/commands; while ! grep -aq '^c OK' $dir/answers; do sleep 0.01; done; } | USER=read\@lmtp.test timeout 60 /usr/lib/dovecot/imap -c $dovecot->{dir}/conf -o mail_uid=games -o mail_gid=games -o mail_location=$where > $dir/answers || echo 'c OK' >> $dir/answers");
	my $text = slurp("$dir/answers");
	my @mail;
	while ($text =~ /^\* \d+ FETCH \(BODY\[\] \{(\d+)\}\r\n/mg) {
		push @mail, substr $text, pos $text, $1;
		pos($text) += $1;
	}
	diag "$path: $rc, $out, $text" unless @mail;
	return @mail;
}

# Only what must differ: queue ids and dates.
sub normal {
	my ($text, $who) = @_;
	my ($qid) = $text =~ /^(?:Received: |\t)by mx\.here\.test \(Postfix(?:, from userid \d+)?\).*?\bid (\w+)/ms or return ('?', $text);
	$text =~ s/\b$qid\b/QUEUEID/g;
	$text =~ s/\w{3}, [ \d]?\d \w{3} \d{4} \d\d:\d\d:\d\d [-+]\d{4} \(\w+\)/DATE/g;
	# Dovecot's own header
	$text =~ s/^(\tby mx\.lmtp\.test with LMTP\r\n\tid ).*(\r\n.*\r\n\tfor .*; ).*(?=\r\n)/$1SESSION$2DATE/m;
	return ($qid, $text);
}

# What is different on purpose (doc/COMPATIBILITY.md): white space in headers that were rewritten, and
# "Name :" in the header of a part.
sub but_for_purpose {
	my ($what, $text) = @_;
	$text =~ s/^((?:To|Cc): .*\n(?:[ \t].*\n)*)/$1 =~ s,\s+(?!\z)|(?<=>)(?=\(), ,gr/mge if $what =~ /: addresses/;
	$text =~ s/^(Content-Type|Subject) :/$1:/mg if $what =~ /: mime/;
	return $text;
}

my (%got, %raw);
for my $who (qw(posthaste postfix_)) {
	my %main = settings($who);
	my ($mta, $peer);
	if ($who eq 'posthaste') {
		$mta = Posthaste->start(main => \%main);
	} else {
		$peer = Peers->postfix(home => 'vv.test', next => 1, main => join '', map { "$_ = $main{$_}\n" } sort keys %main)
			or BAIL_OUT('Postfix does not run');
		$mta = bless {}, 'Posthaste';
	}
	my $log = sub { $peer ? $peer->log : $mta->log };
	my $name_of = give($mta, $peer && $peer->{port});
	for my $name (sort keys %local) {
		spew("$dir/in", $local{$name});
		my @args = ('-f', 's@x.test', sort keys %box);
		my ($rc, $out) = $peer
			? $peer->inside('sh', '-c', "exec /usr/sbin/sendmail -C $peer->{dir}/conf \"\$@\" < $dir/in", 'sh', @args)
			: run_ok('sh', '-c', "MAIL_CONFIG=$mta->{dir}/conf POSTHASTE_CLOCK=$mta->{dir}/clock exec " . Posthaste::prefix() . "/sbin/sendmail \"\$@\" < $dir/in", 'sh', @args);
		is $rc, 0, "$who: $name" or diag $out;
		my $qid;
		wait_until(sub { ($qid) = (reverse grep { !$name_of->{$_} } $log->() =~ /pickup\[\d+\]: (\w+): uid=/g)[0] }, 20);
		$name_of->{$qid // ''} = $name;
	}
	for my $qid (keys %$name_of) {
		wait_until(sub { $log->() =~ /: $qid: removed/ }, 60) or diag "$who: $name_of->{$qid} is not removed\n", grep { /$qid/ } split /^/, $log->();
	}
	$peer ? $peer->stop : is $mta->stop, 0, 'stop';
	rename "$dovecot->{dir}/mail/joe", "$dir/$who/lmtp";
	for my $to (sort keys %box) {
		for my $mail (fetch("$dir/$who/$box{$to}")) {
			my ($qid, $text) = normal($mail, $who);
			my $name = $name_of->{$qid} // "?$qid";
			diag "$who: $to: twice $name" if $got{$who}{"$to: $name"};
			$got{$who}{"$to: $name"} = $text;
		}
		my ($file) = grep { -f } "$dir/$who/$box{$to}" or next;
		$raw{$who}{$to} = { map { my ($id, $t) = normal($_); ($name_of->{$id} // "?$id" => $t =~ s/^From .*\d\n/FROM_\n/r) } split /(?<=\n)(?=From s\@x\.test  )/, slurp($file) };
	}
}
is join("\n", sort keys %{ $got{posthaste} }), join("\n", sort keys %{ $got{postfix_} }), 'the same messages everywhere';
cmp_ok scalar keys %{ $got{posthaste} }, '==', (2 * keys(%shape) + keys %local) * keys(%box) - 1, 'as many as were sent';

# Where two texts part, briefly.
sub part {
	my ($a, $b) = @_;
	my $same = 0;
	$same += 64 while $same < length $a && substr($a, $same, 64) eq substr($b, $same, 64);
	my $from = $same > 64 ? $same - 64 : 0;
	return map { join '', map { sprintf(/[ -~]/ ? '%s' : '\\x%02x', /[ -~]/ ? $_ : ord) } split //, substr $_, $from, 300 } $a, $b;
}

for my $what (sort keys %{ $got{posthaste} }) {
	my ($ours, $his) = map { but_for_purpose($what, $got{$_}{$what} // '') } qw(posthaste postfix_);
	ok $ours eq $his, "$what: the same bytes" or diag join "\n", part($ours, $his);
}
for my $to (sort keys %{ $raw{posthaste} }) {
	for my $name (sort keys %{ $raw{posthaste}{$to} }) {
		my ($ours, $his) = map { but_for_purpose(": $name", $raw{$_}{$to}{$name} // '') } qw(posthaste postfix_);
		ok $ours eq $his, "$to: $name: the same bytes in the file" or diag join "\n", part($ours, $his);
	}
}
$dovecot->stop;
done_testing;
