/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The SMTP/LMTP client engine against scripted servers, reply by reply. */
#include "t/unit/workers/client_rig.h"

static void test_plain(void)
{
	struct world w;

	open_world(&w, false);
	is_int(client_timeout_ms(&w.c), 1, "greeting has helo_timeout");
	say(&w, "220-hi\r\n220 there\r\n");
	is_str(wire(&w), "EHLO me.example\r\n", "EHLO");
	say(&w, "250 h\r\n");
	is_str(events(&w), "ready;", "ready");
	client_start(&w.c, make_tx(&w, 1, 2));
	is_str(wire(&w), "MAIL FROM:<me@here>\r\n", "no pipelining: MAIL alone");
	is_int(client_timeout_ms(&w.c), 2, "mail_timeout");
	say(&w, "250 ok\r\n");
	is_str(wire(&w), "RCPT TO:<a@x>\r\n", "then RCPT");
	is_int(client_timeout_ms(&w.c), 3, "rcpt_timeout");
	say(&w, "550 5.1.1 no such\r\n");
	is_str(wire(&w), "RCPT TO:<b@x>\r\n", "next RCPT");
	say(&w, "250 ok\r\n");
	is_str(wire(&w), "DATA\r\n", "then DATA");
	is_int(client_timeout_ms(&w.c), 4, "data_init_timeout");
	say(&w, "354 go\r\n");
	is_int(client_timeout_ms(&w.c), 5, "data_xfer_timeout");
	is_str(wire(&w), CONTENT ".\r\n", "content and dot");
	is_int(client_timeout_ms(&w.c), 6, "data_done_timeout");
	say(&w, "250 2.0.0 Ok: queued as X\r\n");
	is_str(events(&w),
	       "begin1;perm1.0 5.1.1(host h[1.2.3.4] said: 550 5.1.1 no such (in reply to RCPT TO "
	       "command));sent1.1(250 2.0.0 Ok: queued as X);end1;",
	       "one bounced, one sent");
	client_quit(&w.c);
	is_str(wire(&w), "QUIT\r\n", "QUIT");
	client_closed(&w.c);
	is_str(events(&w), "dead;", "closed");
	close_world(&w);
}

static void test_pix(void)
{
	static const char *const masked[] = { "220 ****************02******0*\r\n",
					      "220-***\r\n220 **\r\n" };
	struct world w;

	open_world(&w, false);
	say(&w, masked[0]);
	is_str(events(&w), "pix;", "a greeting of stars");
	is_str(wire(&w), "HELO me.example\r\n", "HELO, even with smtp_always_send_ehlo");
	is_int(w.c.pix, CLIENT_PIX_NO_ESMTP | CLIENT_PIX_DELAY_DOT, "noted");
	close_world(&w);
	open_world(&w, false);
	say(&w, masked[1]);
	is_str(events(&w), "", "as of Postfix, several lines do not count");
	close_world(&w);
	open_world(&w, false);
	say(&w, "220 2** x\r\n");
	is_str(wire(&w), "EHLO me.example\r\n", "one letter is a name");
	close_world(&w);
	open_world(&w, true);
	say(&w, masked[0]);
	is_str(wire(&w), "LHLO me.example\r\n", "LMTP has one greeting");
	close_world(&w);
}

static void test_pipelining(void)
{
	struct world w;

	greet(&w, false, PIPE);
	client_start(&w.c, make_tx(&w, 1, 1));
	is_str(wire(&w), MAIL_RCPT_DATA, "three commands in one write");
	make_tx(&w, 2, 1);
	w.queue[w.queue_count++] = &w.tx[1];
	say(&w, "250 ok\r\n250 ok\r\n354 go\r\n");
	is_str(wire(&w), CONTENT ".\r\n" MAIL_RCPT_DATA, "next message in the write with the dot");
	say(&w, "250 q1\r\n");
	is_str(events(&w), "begin1;sent1.0(250 q1);end1;begin2;", "first done, second current");
	say(&w, "250 ok\r\n250 ok\r\n354 go\r\n");
	is_str(wire(&w), CONTENT ".\r\n", "content of the second");
	say(&w, "451 4.3.0 later\r\n");
	is_str(events(&w),
	       "temp2.0 4.3.0(host h[1.2.3.4] said: 451 4.3.0 later (in reply to end of DATA "
	       "command));end2;",
	       "refused at the dot");
	ok(client_can_start(&w.c), "session goes on");
	client_start(&w.c, make_tx(&w, 1, 1));
	is_str(wire(&w), MAIL_RCPT_DATA, "no RSET needed");

	/* all recipients refused, DATA accepted all the same */
	events(&w);
	say(&w, "250 ok\r\n450 no\r\n354 go\r\n");
	is_str(wire(&w), ".\r\n", "lone dot");
	say(&w, "554 no recipients\r\n");
	is_str(events(&w),
	       "temp1.0 4.0.0(host h[1.2.3.4] said: 450 no (in reply to RCPT TO command));end1;",
	       "its reply means nothing");
	client_start(&w.c, make_tx(&w, 1, 1));
	is_str(wire(&w), "RSET\r\n" MAIL_RCPT_DATA, "RSET before the next, in the same write");
	events(&w);
	say(&w, "250 reset\r\n550 5.7.1 go away\r\n503 need MAIL\r\n503 need MAIL\r\n");
	is_str(events(&w),
	       "perm1.0 5.7.1(host h[1.2.3.4] said: 550 5.7.1 go away (in reply to MAIL FROM "
	       "command));end1;",
	       "MAIL refused: other replies are swallowed");
	client_start(&w.c, make_tx(&w, 1, 2));
	is_str(wire(&w), "MAIL FROM:<me@here>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n",
	       "after a refused MAIL no RSET");
	events(&w);
	say(&w, "250 ok\r\n250 ok\r\n550 no\r\n451 4.2.0 not now\r\n");
	is_str(events(&w),
	       "perm1.1 5.0.0(host h[1.2.3.4] said: 550 no (in reply to RCPT TO command));"
	       "temp1.0 4.2.0(host h[1.2.3.4] said: 451 4.2.0 not now (in reply to DATA command));"
	       "end1;",
	       "DATA refused");
	client_start(&w.c, make_tx(&w, 1, 1));
	is_str(wire(&w), "RSET\r\n" MAIL_RCPT_DATA, "RSET after refused DATA");
	close_world(&w);
}

static void test_addresses(void)
{
	for (int raw = 0; raw < 2; raw++) {
		struct world w;

		greet(&w, false, PIPE);
		w.conf.raw_addresses = raw;
		struct client_tx *tx = make_tx(&w, 1, 2);

		tx->sender = SV("a b@here");
		tx->rcpts[0].addr = SV("c\"d@x");
		tx->rcpts[1].addr = SV("e\r\nDATA@x");
		client_start(&w.c, tx);
		const char *sent = wire(&w);

		const char *want = raw ? "MAIL FROM:<a b@here>\r\nRCPT TO:<c\"d@x>\r\n"
				       : "MAIL FROM:<\"a b\"@here>\r\nRCPT TO:<\"c\\\"d\"@x>\r\n";

		ok(strncmp(sent, want, strlen(want)) == 0, "addresses %s: %.60s",
		   raw ? "as they are meant" : "in quotes", sent);
		ok(strstr(sent, "<e\r\n") == NULL,
		   "an address that would end the command is quoted in any case");
		close_world(&w);
	}
}

static void test_lost(void)
{
	struct world w;

	/* between two messages: the second comes back */
	greet(&w, false, PIPE);
	client_start(&w.c, make_tx(&w, 1, 1));
	make_tx(&w, 2, 1);
	w.queue[w.queue_count++] = &w.tx[1];
	say(&w, "250 ok\r\n250 ok\r\n354 go\r\n");
	wire(&w);
	client_closed(&w.c);
	is_str(events(&w),
	       "begin1;untouched2;temp1.0 4.4.2(lost connection with h[1.2.3.4] while sending end "
	       "of "
	       "data -- message may be sent more than once);end1;dead temp 4.4.2(lost connection "
	       "with h[1.2.3.4] while sending end of data -- message may be sent more than once);",
	       "lost before the answer to the dot");
	close_world(&w);

	greet(&w, false, PIPE);
	client_start(&w.c, make_tx(&w, 1, 1));
	make_tx(&w, 2, 1);
	w.queue[w.queue_count++] = &w.tx[1];
	say(&w, "250 ok\r\n250 ok\r\n354 go\r\n");
	wire(&w);
	say(&w, "250 q1\r\n");
	events(&w);
	client_closed(&w.c);
	is_str(events(&w), "untouched2;dead;", "lost after the first was done");
	close_world(&w);

	greet(&w, false, PIPE);
	client_start(&w.c, make_tx(&w, 1, 1));
	make_tx(&w, 2, 1);
	w.queue[w.queue_count++] = &w.tx[1];
	say(&w, "250 ok\r\n250 ok\r\n354 go\r\n");
	wire(&w);
	events(&w);
	say(&w, "250 q1\r\n421 4.7.0 too many messages\r\n");
	is_str(events(&w), "sent1.0(250 q1);end1;begin2;untouched2;dead;",
	       "421 between messages is not the message's fault");
	close_world(&w);

	greet(&w, false, PIPE);
	client_start(&w.c, make_tx(&w, 1, 1));
	client_closed(&w.c);
	is_str(events(&w),
	       "begin1;temp1.0 4.4.2(lost connection with h[1.2.3.4] while sending MAIL FROM);end1;"
	       "dead temp 4.4.2(lost connection with h[1.2.3.4] while sending MAIL FROM);",
	       "on a fresh connection it is");
	close_world(&w);

	greet(&w, false, PIPE);
	client_start(&w.c, make_tx(&w, 1, 1));
	wire(&w);
	say(&w, "250 ok\r\n250 ok\r\n354 go\r\n");
	take_output_max(&w, 5);
	events(&w);
	client_timed_out(&w.c);
	ok(strstr(events(&w), "conversation with h[1.2.3.4] timed out while sending message body"),
	   "time-out in the body");
	close_world(&w);

	greet(&w, false, PIPE);
	client_start(&w.c, make_tx(&w, 1, 1));
	wire(&w);
	say(&w, "250 ok\r\n250 ok\r\n354 go\r\n");
	take_output_max(&w, 5);
	events(&w);
	say(&w, "552 5.3.4 too big\r\n");
	ok(strncmp(events(&w), "perm1.0 5.3.4(host h[1.2.3.4] said: 552", 39) == 0,
	   "early refusal counts");
	ok(w.c.state == CLIENT_DEAD && !client_has_output(&w.c), "and nothing more is sent");
	close_world(&w);

	greet(&w, false, PIPE);
	client_start(&w.c, make_tx(&w, 1, 1));
	wire(&w);
	say(&w, "250 ok\r\n250 ok\r\n354 go\r\n");
	take_output_max(&w, strlen(CONTENT)); /* all but the dot */
	events(&w);
	say(&w, "250 ok\r\n");
	ok(strstr(events(&w), "temp1.0 4.5.0(host h[1.2.3.4] broke the protocol"),
	   "early acceptance is none");
	close_world(&w);

	greet(&w, false, PIPE);
	client_closed(&w.c);
	is_str(events(&w), "dead;", "idle connection closed");
	close_world(&w);
	greet(&w, false, PIPE);
	say(&w, "421 bye\r\n");
	is_str(events(&w), "dead;", "421 to an idle connection");
	close_world(&w);
}

static void test_handshake(void)
{
	static const struct {
		const char *label, *banner, *ehlo, *want;
	} cases[] = {
		{ "4xx greeting", "421 4.3.2 busy\r\n", NULL,
		  "dead site temp 4.3.2(host h[1.2.3.4] refused to talk to me: 421 4.3.2 busy);" },
		{ "5xx greeting", "554 5.7.1 no\r\n", NULL,
		  "dead site temp 4.7.1(host h[1.2.3.4] refused to talk to me: 554 5.7.1 no);" },
		{ "EHLO 421", "220 x\r\n", "421 bye\r\n",
		  "dead site temp 4.0.0(host h[1.2.3.4] refused to talk to me: 421 bye);" },
		{ "own name", "220 x\r\n", "250 ME.example\r\n",
		  "dead perm 5.4.6(mail for dest.example loops back to myself);" },
		{ "garbage", "hello there\r\n", NULL,
		  "dead site temp 4.5.0(host h[1.2.3.4] broke the protocol: malformed reply while "
		  "receiving the initial server greeting);" },
	};
	struct world w;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		open_world(&w, false);
		say(&w, cases[i].banner);
		if (cases[i].ehlo != NULL)
			say(&w, cases[i].ehlo);
		is_str(events(&w), cases[i].want, "%s", cases[i].label);
		close_world(&w);
	}
	open_world(&w, false);
	say(&w, "220 x\r\n");
	wire(&w);
	say(&w, "502 what?\r\n");
	is_str(wire(&w), "HELO me.example\r\n", "HELO after a refused EHLO");
	say(&w, "250 h\r\n");
	is_str(events(&w), "ready;", "accepted");
	client_start(&w.c, make_tx(&w, 1, 1));
	is_str(wire(&w), "MAIL FROM:<me@here>\r\n", "no parameters without ESMTP");
	close_world(&w);

	open_world(&w, false);
	w.conf.always_ehlo = false;
	say(&w, "220 host SMTP\r\n");
	is_str(wire(&w), "HELO me.example\r\n", "no ESMTP in the banner: HELO");
	close_world(&w);
	open_world(&w, false);
	w.conf.always_ehlo = false;
	say(&w, "220 host esmtp ready\r\n");
	is_str(wire(&w), "EHLO me.example\r\n", "ESMTP in the banner: EHLO");
	close_world(&w);
}

/* A probe ends behind RCPT: what the server says there is the result. */
static struct client_tx *make_origin_tx(struct world *w, unsigned no)
{
	struct client_tx *tx = make_tx(w, no, 1);

	tx->origin[ORIGIN_NAME] = SV("unknown");
	tx->origin[ORIGIN_ADDR] = SV("192.0.2.1");
	tx->origin[ORIGIN_PORT] = SV("77");
	tx->origin[ORIGIN_PROTO] = SV("ESMTP");
	tx->origin[ORIGIN_HELO] = SV("a b+c");
	tx->origin[ORIGIN_IDENT] = SV("QID");
	tx->origin[ORIGIN_SOURCE] = SV("REMOTE");
	return tx;
}

static void test_xforward(void)
{
	struct world w;

	greet(&w, false,
	      "250-h\r\n250-PIPELINING\r\n"
	      "250 XFORWARD NAME ADDR PORT proto HELO IDENT SOURCE FUTURE\r\n");
	client_start(&w.c, make_origin_tx(&w, 1));
	is_str(wire(&w),
	       "XFORWARD ADDR=192.0.2.1 PORT=77\r\n"
	       "XFORWARD PROTO=ESMTP HELO=a+20b+2Bc IDENT=QID SOURCE=REMOTE\r\n" MAIL_RCPT_DATA,
	       "two commands in front of MAIL; what is unknown is not said");
	say(&w, "250 ok\r\n501 no\r\n250 ok\r\n250 ok\r\n354 go\r\n");
	say(&w, "");
	wire(&w);
	say(&w, "250 done\r\n");
	is_str(events(&w), "begin1;sent1.0(250 done);end1;", "a refusal is none of the mail");
	w.tx[1] = (struct client_tx){ 0 };
	client_start(&w.c, make_tx(&w, 2, 1));
	is_str(wire(&w), MAIL_RCPT_DATA, "without an origin there is nothing to say");
	close_world(&w);

	greet(&w, false, "250-h\r\n250 XFORWARD ADDR HELO\r\n");
	client_start(&w.c, make_origin_tx(&w, 1));
	is_str(wire(&w), "XFORWARD ADDR=192.0.2.1\r\n", "no pipelining: one by one");
	say(&w, "250 ok\r\n");
	is_str(wire(&w), "XFORWARD HELO=a+20b+2Bc\r\n", "what the server wants");
	say(&w, "250 ok\r\n");
	is_str(wire(&w), "MAIL FROM:<me@here>\r\n", "then the mail");
	close_world(&w);

	greet(&w, false, PIPE);
	client_start(&w.c, make_origin_tx(&w, 1));
	is_str(wire(&w), MAIL_RCPT_DATA, "a server that does not ask is told nothing");
	close_world(&w);

	open_world(&w, false);
	w.c.discard = client_keywords_parse(SV("xforward"));
	say(&w, "220 hi ESMTP\r\n");
	say(&w, "250-h\r\n250-PIPELINING\r\n250 XFORWARD ADDR\r\n");
	wire(&w);
	client_start(&w.c, make_origin_tx(&w, 1));
	is_str(wire(&w), MAIL_RCPT_DATA, "smtp_discard_ehlo_keywords");
	close_world(&w);

	greet(&w, false, "250-h\r\n250 XFORWARD ADDR\r\n");
	client_start(&w.c, make_origin_tx(&w, 1));
	wire(&w);
	events(&w);
	client_closed(&w.c);
	ok(strstr(events(&w), "sending XFORWARD name/address") != NULL, "lost there");
	close_world(&w);
}

static void test_probe(void)
{
	struct world w;

	greet(&w, false, PIPE);
	make_tx(&w, 1, 2)->probe = true;
	client_start(&w.c, &w.tx[0]);
	is_str(wire(&w), "MAIL FROM:<me@here>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\n", "no DATA");
	say(&w, "250 ok\r\n250 2.1.5 fine\r\n550 5.1.1 no such\r\n");
	is_str(events(&w),
	       "begin1;sent1.0(250 2.1.5 fine);perm1.1 5.1.1(host h[1.2.3.4] said: 550 5.1.1 no "
	       "such "
	       "(in reply to RCPT TO command));end1;",
	       "results");
	client_start(&w.c, make_tx(&w, 2, 1));
	is_str(wire(&w), "RSET\r\n" MAIL_RCPT_DATA, "the next message begins anew");
	say(&w, "250 ok\r\n550 not from you\r\n503 no\r\n503 no\r\n");
	events(&w);
	close_world(&w);
	greet(&w, false, "250 h\r\n");
	make_tx(&w, 1, 1)->probe = true;
	client_start(&w.c, &w.tx[0]);
	is_str(wire(&w), "MAIL FROM:<me@here>\r\n", "one by one");
	say(&w, "550 5.7.1 not you\r\n");
	is_str(events(&w),
	       "begin1;perm1.0 5.7.1(host h[1.2.3.4] said: 550 5.7.1 not you (in reply to MAIL "
	       "FROM "
	       "command));end1;",
	       "a sender that is refused");
	close_world(&w);
}

static void test_extensions(void)
{
	struct client_tx *tx;
	struct world w;

	greet(&w, false,
	      "250-h\r\n250-pipelining\r\n250-SIZE 100000\r\n250-8BITMIME\r\n250-DSN\r\n"
	      "250-SMTPUTF8\r\n250 X\r\n");
	tx = make_tx(&w, 1, 1);
	tx->is_8bit = true;
	tx->needs_utf8 = true;
	tx->ret = DSN_RET_HDRS;
	tx->envid = SV("a+b=c d");
	tx->sender = SV("a b@here");
	tx->rcpts[0].notify = NOTIFY_SUCCESS | NOTIFY_DELAY;
	tx->rcpts[0].orcpt = SV("rfc822;x+y@z");
	client_start(&w.c, tx);
	is_str(wire(&w),
	       "MAIL FROM:<\"a b\"@here> SIZE=20 BODY=8BITMIME SMTPUTF8 RET=HDRS "
	       "ENVID=a+2Bb+3Dc+20d\r\n"
	       "RCPT TO:<a@x> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@z\r\nDATA\r\n",
	       "all parameters");
	close_world(&w);

	greet(&w, false, "250-h\r\n250-SIZE 10\r\n250 PIPELINING\r\n");
	client_start(&w.c, make_tx(&w, 1, 1));
	is_str(events(&w),
	       "begin1;perm1.0 5.3.4(message size 20 exceeds size limit 10 of server "
	       "h[1.2.3.4]);end1;",
	       "too large: not even tried");
	tx = make_tx(&w, 1, 1);
	tx->size = 5;
	tx->needs_utf8 = true;
	client_start(&w.c, tx);
	is_str(events(&w),
	       "begin1;perm1.0 5.6.7(SMTPUTF8 is required, but was not offered by host "
	       "h[1.2.3.4]);end1;",
	       "SMTPUTF8 not offered");
	is_str(wire(&w), "", "nothing was sent");
	close_world(&w);

	is_int(client_keywords_parse(SV("pipelining, size dsn,unknown")),
	       CLIENT_F_PIPELINING | CLIENT_F_SIZE | CLIENT_F_DSN, "smtp_discard_ehlo_keywords");
	open_world(&w, false);
	w.c.discard = CLIENT_F_PIPELINING | CLIENT_F_SIZE;
	say(&w, "220 x\r\n");
	say(&w, "250-h\r\n250-SIZE 10\r\n250 PIPELINING\r\n");
	wire(&w);
	client_start(&w.c, make_tx(&w, 1, 1));
	is_str(wire(&w), "MAIL FROM:<me@here>\r\n", "discarded keywords are not used");
	close_world(&w);
}

static void test_lmtp(void)
{
	struct world w;

	open_world(&w, true);
	say(&w, "220 hi\r\n");
	is_str(wire(&w), "LHLO me.example\r\n", "LHLO");
	say(&w, PIPE);
	client_start(&w.c, make_tx(&w, 1, 3));
	wire(&w);
	make_tx(&w, 2, 1);
	w.queue[w.queue_count++] = &w.tx[1];
	events(&w);
	say(&w, "250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n");
	events(&w);
	wire(&w);
	say(&w, "250 one\r\n");
	is_str(events(&w), "sent1.0(250 one);", "a reply for each recipient");
	say(&w, "452 4.2.2 full\r\n");
	is_str(events(&w),
	       "temp1.2 4.2.2(host h[1.2.3.4] said: 452 4.2.2 full (in reply to end of DATA "
	       "command));end1;begin2;",
	       "of those that were accepted");
	say(&w, "250 ok\r\n250 ok\r\n354 go\r\n");
	wire(&w);
	client_closed(&w.c);
	ok(strstr(events(&w), "temp2.0 4.4.2(lost connection"), "the second is lost");
	close_world(&w);
}

static void test_hostile(void)
{
	static char big[100001];
	struct world w;
	unsigned n;

	memset(big, 'x', sizeof(big) - 1);
	open_world(&w, false);
	for (n = 0; n < 100 && w.c.state != CLIENT_DEAD; n++)
		say(&w, "220-x\r\n220-endless multiline greeting, about a hundred bytes of text in "
			"each of the lines, on and on and on\r\n");
	ok(w.c.state == CLIENT_GREETING, "a long greeting is still taken");
	for (n = 0; n < 10000 && w.c.state != CLIENT_DEAD; n++)
		say(&w, "220-endless multiline greeting, about a hundred bytes of text in "
			"each of the lines, on and on and on\r\n");
	ok(w.c.state == CLIENT_DEAD, "an endless one is not");
	close_world(&w);
	open_world(&w, false);
	say(&w, "220 ");
	for (n = 0; n < 20 && w.c.state != CLIENT_DEAD; n++)
		say(&w, big);
	ok(w.c.state == CLIENT_DEAD || w.c.parser.line.cap < 100000, "a megabyte line is bounded");
	close_world(&w);
	open_world(&w, false);
	client_input(&w.c, "\0\0\0\0\r\n", 6);
	ok(w.c.state == CLIENT_DEAD, "NULs");
	close_world(&w);
	greet(&w, false, PIPE);
	client_start(&w.c, make_tx(&w, 1, 1));
	say(&w, "250 ok\r\n250 ok\r\n250 ok\r\n");
	ok(w.c.state == CLIENT_DEAD, "2xx to DATA");
	close_world(&w);
	greet(&w, false, PIPE);
	client_start(&w.c, make_tx(&w, 1, 1));
	say(&w, "250 a\r\n250 b\r\n554 c\r\n250 d\r\n250 e\r\n");
	ok(w.c.state == CLIENT_DEAD, "more replies than commands");
	close_world(&w);
}

int main(void)
{
	test_plain();
	test_pix();
	test_pipelining();
	test_addresses();
	test_lost();
	test_handshake();
	test_xforward();
	test_probe();
	test_extensions();
	test_lmtp();
	test_hostile();
	return tap_done();
}
