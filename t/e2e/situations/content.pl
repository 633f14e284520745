# SPDX-License-Identifier: GPL-3.0-or-later
# Content that is refused or changed on its way in: 8 bits, encodings, characters.
do {
	my $mime = "MIME-Version: 1.0\n";
	my $parts = "${mime}Content-Type: multipart/mixed; boundary=b\n";
	my @messages = (
		"Subject: x\n\nplain\n", "Subject: caf\xe9\n\nx\n", "Subject: x\n folded \xe9\n\nx\n", "Subject: x\n\ncaf\xe9\n",
		"${mime}Content-Transfer-Encoding: 8bit\n\ncaf\xe9\n", "${mime}Content-Transfer-Encoding: base64\n\n\xe9\n",
		"${parts}Content-Transfer-Encoding: 8bit\n\n\xe9\n--b\nContent-Transfer-Encoding: 8bit\n\n\xe9\n--b--\n",
		"${parts}Content-Transfer-Encoding: 8bit\n\n--b\nContent-Transfer-Encoding: 8bit\n\n\xe9\n--b--\n",
		"$parts\n--b\nX-Part: \xe9\n\nx\n--b--\n", "${parts}Content-Transfer-Encoding: base64\n\n--b\n\nx\n--b--\n",
		"$parts\n--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable\n\nSubject: in\n\nx\n--b--\n",
		"${mime}Content-Type: message/partial\nContent-Transfer-Encoding: 8bit\n\nx\n",
		"${mime}Content-Type: message/external-body\nContent-Transfer-Encoding: binary\n\nx\n",
		"${mime}Content-Type: message/global\nContent-Transfer-Encoding: base64\n\nx\n",
		"Subject: \xe9\nContent-Type: multipart/x; boundary=b\nContent-Transfer-Encoding: base64\n\n\xe9\n",
		"Subject: a\001b\n\nx\001y\n\001\n\001.\n.\001.\n\001\001..z\n", "Subject: a\002b\n\nx\n", "Subject: x\n\nx\n\002y\n",
		"A\001B: x\nSubject: y\n\n\001\n", "Subject: " . 'x' x 3000 . "\001y\n\n" . 'y' x 2048 . "\001\n" . 'z' x 5000 . "\n",
	);
	my @dialogues = map { [ 'in', 's@far.test', ['to@far.test'], $_ ] } @messages;
	[ map { { main => { smtpd_reject_unlisted_recipient => 'no', %$_ }, dialogues => \@dialogues } }
		{ strict_8bitmime => 'yes' }, { strict_7bit_headers => 'yes', strict_mime_encoding_domain => 'yes' },
		{ strict_8bitmime_body => 'yes', message_strip_characters => '\\1', message_reject_characters => '\\002' },
		{ strict_mime_encoding_domain => 'yes', strict_8bitmime => 'yes', disable_mime_input_processing => 'yes', message_strip_characters => '\\1z' } ];
};
