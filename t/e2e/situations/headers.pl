# SPDX-License-Identifier: GPL-3.0-or-later
# Header sections of messages from inside and outside: what is completed, added, removed. Left out: words
# that are no address, of which Postfix makes a list of addresses.
do {
	my @messages = (
		"\n", "\nbody\n", "body without header\n", "Subject: x\n\n", "From: joe\nTo: ann\nSubject: x\n\n", "from: joe\nTO: ann\n\n",
		"From: Joe Doe <joe>\nTo: Ann <ann>, ben\@host, carl\@full.test\n\n", "From: \"Doe, Joe\" <joe\@host>\nCc: list: ann, ben;\n\n",
		"Sender: joe\nFrom: a\@far.test\nReply-To: joe\nErrors-To: joe\nReturn-Receipt-To: joe\n\n", "To: undisclosed-recipients:;\n\n",
		"Bcc: secret\@far.test\nTo: a\@far.test\n\n", "Resent-Bcc: secret\@far.test\nTo: a\@far.test\n\n", "Return-Path: <x\@y>\nContent-Length: 12\nFrom: a\@far.test\n\n",
		"Resent-From: joe\nFrom: a\@far.test\n\n", "Resent-To: ann\nResent-From: joe\nResent-Date: x\nResent-Message-Id: <r\@x>\nFrom: a\@far.test\n\n",
		"Message-Id: <m\@x>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nFrom: a\@far.test\nTo: b\@far.test\n\n", "MESSAGE-ID: <m\@x>\n\n",
		"Message-Id:\n <folded\@x>\n\n", "From:\n a\@far.test\n\n", "From: <>\n\n", "From: \n\n", "From: (only a comment)\n\n",
		"To: <a\@far.test>,<b\@far.test>\n\n", "Apparently-To: ann\n\n", "Delivered-To: x\@y\n\n", "Received: by x\nReceived: by y\n\n",
		"X-8bit: caf\xc3\xa9\n\n", "Subject: x\n y\n\tz\n\n", "Subject: x\n \n y\n\n", "Subject:\n\n", "Subject\n\nbody\n", "A: b\nnot a header\nC: d\n\nbody\n",
		"From joe Mon Jan 1\nSubject: x\n\n", ">From joe\nSubject: x\n\n", "Subject: x\n\n.\n..\n.x\n", "Subject: x\n\n" . ('y' x 900) . "\n",
	);
	+{
		main => { append_dot_mydomain => 'yes', mydestination => 'local.test', local_transport => 'smtp:HOPB', local_recipient_maps => '' },
		dialogues => [ map { my $client = $_; map { [ $client, 's@far.test', ['a@local.test'], $_ ] } @messages } qw(in out) ],
	};
};
