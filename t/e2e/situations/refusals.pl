# SPDX-License-Identifier: GPL-3.0-or-later
# Replies that refuse, and results, as the operator wants them: footers, command filters, filters of replies and
# of results, soft_bounce.
[
	{
		main => {
			relayhost => 'HOPA', smtpd_reject_footer => '\c. For help, see http://help.test/ and give $client_address',
			smtpd_reject_footer_maps => 'regexp:DIR/footer', smtpd_command_filter => 'regexp:DIR/command', smtpd_helo_required => 'yes',
			smtpd_recipient_restrictions => 'permit_mynetworks, check_recipient_access texthash:DIR/access, reject_unauth_destination',
			smtpd_relay_restrictions => '',
		},
		tables => {
			footer => "/^550 5.1.9/ sender \$sender (\$sender_name at \$sender_domain)\\nrecipient \${recipient} / \${recipient_name} / \${recipient_domain}\n"
				. "/Bad sender/ \$server_name says: \$client[\$client_port?{port}:{none}] \$helo_name \${helo_name?{yes}:{no}} \${nothing} \$\$\n/^501/ \\c\n/^502/ \${broken\n/^503/ two\\nlines\n",
			command => "/^HELP ME/ NOOP\n/^EHLO old/ HELO old\n/^(RCPT TO:)\\s+fix (.*)/ \$1<\$2>\n/^DROP/ QUIT\n/^EMPTY/ NOSUCH\n",
			access => "nine\@far.test 550 5.1.9 nine\nplain\@far.test REJECT\nfour\@far.test 450 4.2.1 later\nhang\@far.test 421 4.7.0 go away\n",
		},
		dialogues => [
			(map { [ 'out', $_, ['x@far.test'] ] } 's@from.test', ''),
			(map { my $r = $_; map { [ 'out', $_, [$r] ] } 's@from.test', 'jo doe@from.test', '' } 'nine@far.test', 'plain@far.test', 'four@far.test', 'hang@far.test', 'x@else.test'),
			(map { [ 'in', [ @$_, 'QUIT' ] ] } [ 'HELP ME', 'EHLO c.test' ], ['EHLO old'], [ 'EHLO c.test', 'NONSENSE', 'MAIL', 'MAIL FROM:<a@b' ], [ 'MAIL FROM:<a@b.test>' ],
				[ 'EHLO c.test', 'RCPT TO:<a@b.test>', 'DATA', 'RSET x', 'EMPTY', 'AUTH PLAIN' ], [ 'EHLO c.test', 'DROP' ],
				[ 'EHLO c.test', 'MAIL FROM:<a@b.test>', 'RCPT TO: fix c@d.test', 'RSET' ], [ 'EHLO c.test', 'MAIL FROM:<a@b.test>', 'MAIL FROM:<a@b.test>', 'DATA' ]),
		],
	},
	{
		rules => [ 'a5@=>550 5.1.1 not here', 'a4@=>450 4.2.0 not now', 'odd@=>250 2.1.0 strange', 'body5=>554 5.6.0 not this', 'multi@=>550-5.1.1 first' . "\r\n" . '550 5.1.1 second' ],
		main => {
			relayhost => 'HOPA', soft_bounce => 'yes', transport_maps => 'texthash:DIR/transport', smtp_delivery_status_filter => 'regexp:DIR/status',
			default_delivery_status_filter => 'regexp:DIR/default', smtp_reply_filter => 'regexp:DIR/reply', mydestination => 'here.test',
			local_recipient_maps => 'inline:{ { known = x } }', local_transport => 'smtp:HOPA',
		},
		tables => {
			transport => "error.test error:5.7.1 nothing\nkeep.test error:5.7.2 keep\nretry.test retry:4.2.1 later\nnever.test retry:4.2.9 never\ndiscard.test discard:away\n",
			status => "/^5.1.1 .*to4/ 4.1.1 made temporary\n/^4.2.0 .*a4/ 5.2.0 made permanent\n/^2.*recorded/ 2.9.9 made well\n/^5.6.0/ 2.0.0 not allowed\n/^4.4.4/ nonsense\n",
			default => "/^5.7.2/ 4.7.2 kept\n/^4.2.9/ 5.2.9 given up\n/^2/ 2.1.9 thrown\n",
			reply => "/^250 2.1.0 strange/ 452 4.5.3 from the table\n/^550-5.1.1 first/ 550-5.1.1 changed\n",
		},
		dialogues => [
			(map { [ 'in', 's@far.test', [$_] ] } 'a5@far.test', 'to4a5@far.test', 'a4@far.test', 'odd@far.test', 'multi@far.test', 'fine@far.test', 'x@error.test', 'x@keep.test',
				'x@retry.test', 'x@never.test', 'x@discard.test', 'nobody@here.test', 'known@here.test'),
			[ 'in', 's@far.test', ['x@far.test'], "Subject: x\n\nbody5\n" ], [ 'in', 's@far.test', [ 'a5@far.test', 'fine@far.test', 'a4@far.test' ] ],
			[ 'out', 's@far.test', ['x@far.test'] ], [ 'in', [ 'EHLO c.test', 'NONSENSE', 'MAIL FROM:<s@far.test>', 'DATA', 'QUIT' ] ],
		],
	},
	{
		rules => [ 'a5@=>550 5.1.1 not here', 'a4@=>450 4.2.0 not now' ],
		main => { relayhost => 'HOPA', smtp_delivery_status_filter => 'regexp:DIR/status' },
		tables => { status => "/^5.1.1 .*to4/ 4.1.1 made temporary\n/^4.2.0/ 5.2.0 made permanent\n" },
		dialogues => [ (map { [ 'in', 's@far.test', [$_] ] } 'a5@far.test', 'to4a5@far.test', 'a4@far.test', 'fine@far.test'), [ 'in', 's@far.test', [ 'a5@far.test', 'to4a5@far.test', 'a4@far.test', 'x@far.test' ] ] ],
	},
]
