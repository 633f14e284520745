# SPDX-License-Identifier: GPL-3.0-or-later
# Addresses and commands as clients write them, good and bad. Left out, because Posthaste is stricter
# on purpose (doc/COMPATIBILITY.md): a%b and b!a as recipients are not routed on, two @ signs, comments and empty
# local parts in paths are refused, numbers are no domains, HELP is answered, and a trailing dot of the
# domain is gone before orig_to is written.
{
	main => {
		mydestination => 'local.test, mx.here.test',
		local_transport => 'smtp:HOPB',
		local_recipient_maps => '',
		smtpd_reject_unlisted_recipient => 'no',
		append_dot_mydomain => 'yes',
	},
	dialogues => [
		(map { [ 'in', 's@far.test', [$_] ] } 'plain', 'plain@host', '"quoted"@far.test', '"a b"@far.test', '"a\"b"@far.test',
			'a.b.@far.test', '.a@far.test', 'a..b@far.test', '@hop.test:a@far.test', '@h1.test,@h2.test:a@far.test', 'h.test!a@far.test', 'a@[127.0.0.1]', 'a@[192.0.2.1]', 'a@[IPv6:2001:db8::1]',
			'a@[nonsense]', 'a@', 'a@far_under.test', 'a@-far.test', 'a b@far.test', 'a@far test', 'a,b@far.test',
			'a;b@far.test', 'a\@b@far.test', '"a@b"@far.test', 'a@FAR.Test', 'A.Mixed@far.test', 'postmaster', 'Postmaster@local.test', 'a+b@far.test', 'a/b=c@far.test', 'a@1.2.3.4', 'a@far.123',
			('x' x 64) . '@far.test', ('x' x 300) . '@far.test', 'a@' . ('d' x 63) . '.test', 'a@' . ('d' x 64) . '.test'),
		(map { [ 'in', $_, ['to@far.test'] ] } '', 'plain', 'a@host', '"a b"@far.test', '@hop.test:a@far.test', 'a%far.test@local.test',
			'far.test!a', 'a@[192.0.2.1]', 'MAILER-DAEMON', 'a..b@far.test', 'a b@far.test'),
		map { [ 'in', $_ ] } [ 'NOOP', 'QUIT' ], [ 'RSET', 'QUIT' ], [ 'HELO', 'QUIT' ], [ 'EHLO', 'QUIT' ], [ 'HELO client.test', 'QUIT' ],
			[ 'EHLO client.test', 'QUIT' ], [ 'FOO', 'QUIT' ], [ '', 'QUIT' ], [ 'MAIL FROM:<a@far.test>', 'QUIT' ], [ 'RCPT TO:<a@far.test>', 'QUIT' ],
			[ 'DATA', 'QUIT' ], [ 'EHLO c', 'MAIL FROM:<a@far.test>', 'MAIL FROM:<b@far.test>', 'QUIT' ],
			[ 'EHLO c', 'MAIL FROM:<a@far.test>', 'DATA', 'QUIT' ], [ 'EHLO c', 'MAIL', 'QUIT' ], [ 'EHLO c', 'MAIL FROM', 'QUIT' ],
			[ 'EHLO c', 'MAIL FROM:', 'QUIT' ], [ 'EHLO c', 'MAIL FROM: <a@far.test>', 'QUIT' ], [ 'EHLO c', 'MAIL FROM:a@far.test', 'QUIT' ],
			[ 'EHLO c', 'MAIL FROM:<a@far.test', 'QUIT' ], [ 'EHLO c', 'MAIL TO:<a@far.test>', 'QUIT' ],
			[ 'EHLO c', 'MAIL FROM:<a@far.test> SIZE=1000', 'QUIT' ], [ 'EHLO c', 'MAIL FROM:<a@far.test> SIZE=99999999999', 'QUIT' ],
			[ 'EHLO c', 'MAIL FROM:<a@far.test> SIZE=x', 'QUIT' ], [ 'EHLO c', 'MAIL FROM:<a@far.test> BODY=8BITMIME', 'QUIT' ],
			[ 'EHLO c', 'MAIL FROM:<a@far.test> BODY=9BIT', 'QUIT' ], [ 'EHLO c', 'MAIL FROM:<a@far.test> FOO=bar', 'QUIT' ],
			[ 'EHLO c', 'MAIL FROM:<a@far.test> RET=FULL ENVID=abc', 'QUIT' ], [ 'EHLO c', 'MAIL FROM:<a@far.test> RET=ALL', 'QUIT' ],
			[ 'EHLO c', 'MAIL FROM:<a@far.test> RET=FULL RET=HDRS', 'QUIT' ], [ 'EHLO c', 'MAIL FROM:<a@far.test> ENVID=a+ZZ', 'QUIT' ],
			[ 'HELO c', 'MAIL FROM:<a@far.test> SIZE=100', 'QUIT' ],
			(map { [ 'EHLO c', 'MAIL FROM:<a@far.test>', $_, 'QUIT' ] } 'RCPT', 'RCPT TO', 'RCPT TO:', 'RCPT TO:<>', 'RCPT TO:a@far.test',
				'RCPT TO: <a@far.test>', 'RCPT FROM:<a@far.test>', 'RCPT TO:<a@far.test> NOTIFY=NEVER', 'RCPT TO:<a@far.test> NOTIFY=SUCCESS,FAILURE,DELAY',
				'RCPT TO:<a@far.test> NOTIFY=NEVER,DELAY', 'RCPT TO:<a@far.test> NOTIFY=', 'RCPT TO:<a@far.test> NOTIFY=SOMETIMES',
				'RCPT TO:<a@far.test> ORCPT=rfc822;a@far.test', 'RCPT TO:<a@far.test> ORCPT=nothing', 'RCPT TO:<a@far.test> ORCPT=rfc822;a+ZZ',
				'RCPT TO:<a@far.test> FOO', 'RCPT TO:<a@far.test> b'),
			[ 'EHLO c', 'MAIL FROM:<a@far.test>', 'RCPT TO:<a@far.test>', 'DATA now', 'QUIT' ], [ 'EHLO c', 'RSET now', 'QUIT' ], [ 'NOOP hello', 'QUIT' ], [ 'QUIT now' ],
			[ 'VRFY', 'QUIT' ], [ 'VRFY a@local.test', 'QUIT' ], [ 'EHLO c', 'VRFY a@far.test', 'QUIT' ], [ 'EHLO c', 'VRFY <a@far.test>', 'QUIT' ], [ 'EXPN list', 'QUIT' ],
			[ 'ETRN far.test', 'QUIT' ], [ 'EHLO c', 'ETRN', 'QUIT' ], [ 'EHLO c', 'BDAT', 'QUIT' ], [ 'EHLO c', 'BDAT x', 'QUIT' ],
			[ 'EHLO c', 'AUTH PLAIN', 'QUIT' ], [ 'EHLO c', 'STARTTLS', 'QUIT' ], [ 'EHLO c', 'XCLIENT ADDR=1.2.3.4', 'QUIT' ],
			[ 'EHLO [127.0.0.1]', 'QUIT' ], [ 'EHLO two words', 'QUIT' ], [ 'HELO under_score', 'QUIT' ], [ 'ehlo c', 'mail from:<a@far.test>', 'rcpt to:<b@far.test>', 'QUIT' ],
			[ 'GET / HTTP/1.0', 'QUIT' ], [ 'TURN', 'QUIT' ], [ 'EHLO c', 'VRFY -x@far.test', 'MAIL FROM:<-x@far.test>', 'MAIL FROM:<x-@far.test>', 'RCPT TO:<-x@far.test>', 'RCPT TO:<"-x"@far.test>', 'RCPT TO:<x-y@far.test>', 'QUIT' ], [ 'SEND FROM:<a@b>', 'QUIT' ],
	],
};
