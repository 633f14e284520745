# SPDX-License-Identifier: GPL-3.0-or-later
# Tables that see content when it leaves: smtp_header_checks and its kin, with the encoding they see.
do {
	my $parts = "Content-Type: multipart/mixed; boundary=q\n\n";
	my @messages = (
		"Subject: plain\n\nbody\n", "Subject: replace me\n\nbody\n", "X-Drop: x\nX-Strip: y\nSubject: x\n\nbody\n", "X-Warn: x\nX-Info: y\n\nbody\n",
		"X-Front: x\n\nbody\n", "X-Bad: x\n\nbody\n", "X-Unknown: x\n\nbody\n", "X-Empty: x\n\nbody\n", "X-Folded: a\n drop\n b\n\nbody\n", "X-Ok: x\nX-Drop: folded\n more\n\n",
		"Content-Type: text/drop\nContent-Transfer-Encoding: 8bit\n\n\xe9\n", "Content-Transfer-Encoding: 8bit\n\ncaf\xe9 swap\n",
		"${parts}--q\nContent-Type: text/drop\n\nbody\n--q--\n", "${parts}--q\nX-Drop: part\n\nbody\n--q--\n",
		"${parts}--q\nContent-Type: message/rfc822\n\nSubject: replace me\nX-Nested: y\n\nbody\n--q--\n",
		"Subject: x\n\nswap\ndrop\nbefore\nstay\n", "Subject: x\n\nSWAP in the middle\ndrop\n", "Subject: x\n\n" . ('long ' x 500) . "swap\n",
		"Subject: x\n\nwarn here\ninfo here\nstrip here\nend\n", "Subject: twice\nX-Drop: x\nSubject: replace me\n\ndrop\ndrop\n",
	);
	+{
		main => {
			transport_maps => 'texthash:DIR/transport', smtp_header_checks => 'regexp:DIR/header', smtp_mime_header_checks => 'regexp:DIR/mime',
			smtp_nested_header_checks => 'regexp:DIR/nested', smtp_body_checks => 'regexp:DIR/body',
		},
		hops => { b => [ 'caps=PIPELINING,SIZE,DSN' ] },
		tables => {
			transport => "seven.test smtp:HOPB\n",
			header => "/^X-Drop:/ IGNORE\n/^X-Strip:/ STRIP with text\n/^X-Warn:/ WARN text\n/^X-Info:/ INFO text\n/^X-Front:/ PREPEND X-New: value\n"
				. "/^X-Bad:/ REPLACE no header\n/^X-Unknown:/ REJECT not here\n/^X-Empty:/ REPLACE\n/^X-Folded:.*drop/ REPLACE X-Folded: flat\n/^X-Ok:/ OK\n"
				. "/^(Subject:) replace/ REPLACE \$1 replaced\n",
			mime => "/text.drop/ REPLACE Content-Type: text/plain\n/^Content-Transfer-Encoding: (.*)/ PREPEND X-Encoding: \$1\n/^X-Drop/ IGNORE\n",
			nested => "/^Subject:/ REPLACE Subject: nested\n/^X-Nested/ IGNORE\n",
			body => "/swap/ REPLACE .swapped\n/^drop/ IGNORE\n/^before/ PREPEND a line\n/^warn/ WARN w\n/^info/ INFO i\n/^strip/ STRIP s\n",
		},
		dialogues => [ map({ my $hop = $_; map { [ 'in', 's@far.test', ["x\@$hop.test"], $_ ] } @messages } qw(far seven)) ],
	};
};
