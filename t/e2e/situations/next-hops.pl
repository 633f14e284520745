# SPDX-License-Identifier: GPL-3.0-or-later
# What next hops say they can and are not asked for.
do {
	my $mail = "MIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\ncaf\xc3\xa9\n";
	my @dialogues = (
		[ 'in', 's@far.test', ['to@far.test'], $mail ],
		[ 'in', [ 'EHLO client.test', 'MAIL FROM:<s@far.test> BODY=8BITMIME RET=HDRS', 'RCPT TO:<to@far.test> NOTIFY=FAILURE', 'DATA', \$mail, 'QUIT' ] ],
		[ 'in', 's@far.test', ['plain@far.test'], "Subject: x\n\nx\n" ],
	);
	[ map { { main => { smtpd_reject_unlisted_recipient => 'no', %$_ }, hops => { a => [ 'caps=PIPELINING,SIZE,8BITMIME,DSN' ] }, dialogues => \@dialogues } }
		{ smtp_discard_ehlo_keyword_address_maps => 'inline:{ 127.0.0.1=8bitmime }' },
		{ smtp_discard_ehlo_keyword_address_maps => 'inline:{ 192.0.2.1=8bitmime }', smtp_discard_ehlo_keywords => 'dsn' },
		{ smtp_discard_ehlo_keyword_address_maps => 'cidr:{ { 127.0.0.0/8 size, dsn } }', smtp_discard_ehlo_keywords => '8bitmime' } ];
};
