# SPDX-License-Identifier: GPL-3.0-or-later
# What changes when mail leaves: addresses by smtp_generic_maps, the encoding for a next hop without
# 8BITMIME (HOPB), lines that are too long.
do {
	my $cte = "Content-Transfer-Encoding:";
	my $mime = "MIME-Version: 1.0\n";
	my $parts = "Content-Type: multipart/mixed; boundary=q\n";
	my @addresses = (
		"From: joe\@in.test\nTo: ann\@in.test\n\n", "From: Joe <joe\@in.test>\nTo: x\@far.test, ann\@in.test,\n u\@pc.test\n\n",
		"From: joe+ext\@in.test\nTo: \"a b\"\@in.test\n\n", "Sender: joe\@in.test\nReply-To: ann\@in.test\nErrors-To: u\@pc.test\n\n",
		"Resent-From: joe\@in.test\nResent-To: ann\@in.test\nFrom: x\@far.test\n\n", "From: root\@here.test\nTo: bare\@here.test\n\n",
		"Return-Receipt-To: joe\@in.test\nX-Other: joe\@in.test\nFrom: x\@far.test\n\nTo: joe\@in.test\n",
		"From: group: joe\@in.test, ann\@in.test;\nCc: JOE\@IN.TEST\n\n", "From: x\@twice.test\nTo: y\@twice.test\n\n",
		"Content-Type: message/rfc822\nFrom: x\@far.test\n\nFrom: joe\@in.test\n\nbody\n", "From: two\@in.test\nTo: nobody\@in.test\n\n",
		"Disposition-Notification-To: joe\@in.test\nFrom: (comment) <joe\@in.test>\n\n",
	);
	my @contents = (
		"${mime}$cte 8bit\n\ncaf\xc3\xa9 =\n", "${mime}$cte 8bit\n\ntrailing space \ntrailing tab\t\n.dot\n..\n", "${mime}$cte binary\n\n\x01\xff\n",
		"${mime}$cte 7bit\n\ncaf\xc3\xa9\n", "${mime}$cte quoted-printable\n\ncaf=C3=A9\n", "${mime}$cte base64\n\nY2Fm\n", "Subject: x\n\ncaf\xc3\xa9\n",
		"${mime}$cte nonsense\n\n\xe9\n", "${mime}$cte 8BIT\nX-After: y\n\n" . ("\xe9" x 100) . "\n", "${mime}$cte 8bit\n\n" . ('word ' x 60) . "\n",
		"${mime}$cte 8bit\n\n" . ('=' x 24) . "\n" . ('a' x 72) . "\n" . ('a' x 73) . "\n" . ('a' x 71) . "\xe9\n",
		"${mime}${parts}$cte 8bit\n\npre \xe9\n--q\n$cte 8bit\n\n\xe9\n--q\nContent-Type: text/plain\n\n\xe9\n--q--\nepilogue =\n",
		"${mime}${parts}\n--q\nContent-Type: message/rfc822\n$cte 8bit\n\nSubject: in\n$cte 8bit\n\n\xe9\n--q--\n",
		"${mime}Content-Type: multipart/digest; boundary=\"q\"\n\n--q\n\nSubject: in\n$cte 8bit\n\n\xe9\n--q\n\nSubject: in\n\n\xe9\n--q--\n",
		"${mime}Content-Type: message/rfc822\n$cte 8bit\n\nSubject: in\n\n\xe9\n", "${mime}Content-Type: message/global\n$cte 8bit\n\nSubject: \xc3\xa9\n\n=\n",
		"${mime}$cte 8bit\n", "${mime}$cte 8bit\n\n\n\n", "$cte: 8bit\n\n\xe9\n", "${mime}$cte  8bit \n\n\xe9\n", "${mime}$cte 8bit (comment)\n\n\xe9\n",
		"${mime}${parts}$cte 8bit\n\n--q\n$cte 8bit\n\nlast line has no boundary \xe9\n",
	);
	my @lines = (map({ "Subject: x\n\n" . ('x' x $_) . "\nnext\n" } 58, 59, 60, 61, 118, 119, 120, 500, 2047, 2048, 2049, 5000),
		"Subject: x\n\n" . ('.' x 200) . "\n", "X-Long: " . ('h' x 200) . "\nSubject: x\n\n", "X-Long: a\n " . ('h' x 100) . "\n\n",
		"${mime}$cte 8bit\n\n" . ("\xe9" x 300) . "\n", "Subject: x\n\n" . ('word ' x 100) . "\n");
	+{
		main => {
			mydestination => 'here.test', local_recipient_maps => '', local_transport => 'smtp:HOPA', recipient_delimiter => '+', append_dot_mydomain => 'no',
			transport_maps => 'texthash:DIR/transport', smtp_generic_maps => 'texthash:DIR/generic', smtp_line_length_limit => 60,
			propagate_unmatched_extensions => 'canonical, generic',
		},
		hops => { b => [ 'caps=PIPELINING,SIZE,DSN' ] },
		tables => {
			transport => "seven.test smtp:HOPB\n",
			generic => "joe\@in.test joe.doe\@out.test\nann\@in.test ann\n\@pc.test \@out.test\nu\@pc.test gone\@out.test\nroot\@here.test admin\@out.test\n"
				. "bare named\n\"a b\"\@in.test \"c d\"\@out.test\n\@twice.test all\@pc.test\ntwo\@in.test one\@out.test, two\@out.test\nto\@in.test to\@out.test\n",
		},
		dialogues => [
			(map { [ 'in', $_, ['x@far.test'] ] } 'joe@in.test', 'joe+ext@in.test', 'bare@here.test', 'x@twice.test', 'v@pc.test', ''),
			[ 'in', 's@far.test', [ 'to@in.test', 'to+ext@in.test', 'u@pc.test', 'w@pc.test', 'x@far.test' ] ],
			map({ my $hop = $_; map { [ 'in', 's@far.test', ["x\@$hop.test"], $_ ] } @addresses } qw(far)),
			map({ my $hop = $_; map { [ 'in', 's@far.test', ["x\@$hop.test"], $_ ] } @contents } qw(far seven)),
			(map { my $body = $_; map { [ 'in', [ 'EHLO client.test', "MAIL FROM:<s\@far.test> BODY=$body", 'RCPT TO:<x@seven.test>', 'RCPT TO:<x@far.test>', 'DATA', \$_, 'QUIT' ] ] } @contents[0, 3, 6] } qw(8BITMIME 7BIT)),
			map({ [ 'in', 's@far.test', ['x@far.test'], $_ ] } @lines),
		],
	};
};
