/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SMTP dialogues as a client sees them: one step is what is sent and what must come back. Texts are
 * those of Postfix.
 */
#include <time.h>

#include "t/unit/tap.h"
#include "t/unit/workers/smtpin_fake.h"

struct step {
	const char *say;
	const char *hear;
};

#define BANNER "220 mx.test ESMTP Posthaste\r\n"
#define EHLO_REPLY                                                                                 \
	"250-mx.test\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n"           \
	"250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"
#define HELLO                                                                                      \
	{                                                                                          \
		"EHLO c.test\r\n", EHLO_REPLY                                                      \
	}
#define END                                                                                        \
	{                                                                                          \
		NULL, NULL                                                                         \
	}
#define MAIL_OK                                                                                    \
	{                                                                                          \
		"MAIL FROM:<a@x.test>\r\n", "250 2.1.0 Ok\r\n"                                     \
	}
#define RCPT_OK                                                                                    \
	{                                                                                          \
		"RCPT TO:<u@local.test>\r\n", "250 2.1.5 Ok\r\n"                                   \
	}
#define GO_AHEAD "354 End data with <CR><LF>.<CR><LF>\r\n"
#define QUEUED   "250 2.0.0 Ok: queued as 0000000001z7\r\n"

static void play_on(struct fake *f, const char *title, const struct step *steps)
{
	for (unsigned i = 0; steps[i].say != NULL; i++)
		is_str(fake_say(f, steps[i].say), steps[i].hear, "%s: step %u", title, i + 1);
}

static void play_from(const char *title, const char *main_cf, const char *addr,
		      const struct step *steps)
{
	struct fake f;

	fake_conf(&f, main_cf, NULL);
	fake_connect(&f, addr);
	is_str(fake_take(&f), BANNER, "%s: greeting", title);
	play_on(&f, title, steps);
	fake_fini(&f);
}

static void play(const char *title, const char *main_cf, const struct step *steps)
{
	play_from(title, main_cf, "192.0.2.1", steps);
}

static void test_plain(void)
{
	static const struct step steps[] = {
		HELLO,
		MAIL_OK,
		RCPT_OK,
		{ "DATA\r\n", GO_AHEAD },
		{ "Subject: x\r\n\r\nhello\r\n.\r\n", QUEUED },
		{ "QUIT\r\n", "221 2.0.0 Bye\r\n" },
		END,
	};

	play("plain", "", steps);
}

static void test_order(void)
{
	static const struct step steps[] = {
		{ "RCPT TO:<u@local.test>\r\n", "503 5.5.1 Error: need MAIL command\r\n" },
		{ "DATA\r\n", "503 5.5.1 Error: need RCPT command\r\n" },
		{ "HELO\r\n", "501 Syntax: HELO hostname\r\n" },
		{ "EHLO\r\n", "501 Syntax: EHLO hostname\r\n" },
		HELLO,
		MAIL_OK,
		{ "MAIL FROM:<b@x.test>\r\n", "503 5.5.1 Error: nested MAIL command\r\n" },
		{ "DATA\r\n", "554 5.5.1 Error: no valid recipients\r\n" },
		RCPT_OK,
		{ "DATA now\r\n", "501 5.5.4 Syntax: DATA\r\n" },
		{ "RSET x\r\n", "501 5.5.4 Syntax: RSET\r\n" },
		{ "RSET\r\n", "250 2.0.0 Ok\r\n" },
		{ "RCPT TO:<u@local.test>\r\n", "503 5.5.1 Error: need MAIL command\r\n" },
		END,
	};

	play("order", "smtpd_soft_error_limit = 100\n", steps);
}

static void test_syntax(void)
{
	static const struct step steps[] = {
		HELLO,
		{ "\r\n", "500 5.5.2 Error: bad syntax\r\n" },
		{ "FOO\r\n", "500 5.5.2 Error: command not recognized\r\n" },
		{ "MAIL\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>\r\n" },
		{ "MAIL FROM\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>\r\n" },
		{ "MAIL FROM:\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>\r\n" },
		{ "MAIL TO:<a@x.test>\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>\r\n" },
		{ "MAIL FROM:<a@x.test\r\n", "501 5.1.7 Bad sender address syntax\r\n" },
		{ "MAIL FROM:<a@x..test>\r\n", "501 5.1.7 Bad sender address syntax\r\n" },
		{ "MAIL FROM:<a@1.2.3.4>\r\n", "501 5.1.7 Bad sender address syntax\r\n" },
		{ "MAIL FROM:<a@x.test> FOO=1\r\n", "555 5.5.4 Unsupported option: FOO=1\r\n" },
		{ "MAIL FROM:<a@x.test> AUTHS=<>\r\n",
		  "555 5.5.4 Unsupported option: AUTHS=<>\r\n" },
		{ "MAIL FROM:<a@x.test> SIZE=x\r\n", "501 5.5.4 Bad message size syntax\r\n" },
		{ "MAIL FROM:<a@x.test> SIZE=\r\n", "501 5.5.4 Bad message size syntax\r\n" },
		{ "MAIL FROM:<a@x.test> SIZE=99999999999999999999\r\n",
		  "552 5.3.4 Message size exceeds file system imposed limit\r\n" },
		{ "MAIL FROM:<a@x.test> SIZE=10240001\r\n",
		  "552 5.3.4 Message size exceeds fixed limit\r\n" },
		{ "MAIL FROM:<a@x.test> BODY=BINARYMIME\r\n",
		  "555 5.5.4 Unsupported option: BODY=BINARYMIME\r\n" },
		{ "MAIL FROM:<a@x.test> RET=ALL\r\n", "501 5.5.4 Bad RET parameter syntax\r\n" },
		{ "MAIL FROM:<a@x.test> RET=FULL RET=HDRS\r\n",
		  "501 5.5.4 Bad RET parameter syntax\r\n" },
		{ "MAIL FROM:<a@x.test> ENVID=a+0Ab\r\n",
		  "501 5.5.4 Bad ENVID parameter syntax\r\n" },
		{ "MAIL FROM:<a@x.test> ENVID=a+4\r\n",
		  "501 5.5.4 Bad ENVID parameter syntax\r\n" },
		{ "MAIL FROM: <a@x.test> SIZE=1000 BODY=8BITMIME RET=HDRS ENVID=q+2Bx SMTPUTF8\r\n",
		  "250 2.1.0 Ok\r\n" },
		{ "RCPT FROM:<u@local.test>\r\n", "501 5.5.4 Syntax: RCPT TO:<address>\r\n" },
		{ "RCPT TO:<>\r\n", "501 5.1.3 Bad recipient address syntax\r\n" },
		{ "RCPT TO:<u@>\r\n", "501 5.1.3 Bad recipient address syntax\r\n" },
		{ "RCPT TO:<u@local.test> NOTIFY=NEVER,DELAY\r\n",
		  "501 5.5.4 Error: Bad NOTIFY parameter syntax\r\n" },
		{ "RCPT TO:<u@local.test> NOTIFY=\r\n",
		  "501 5.5.4 Error: Bad NOTIFY parameter syntax\r\n" },
		{ "RCPT TO:<u@local.test> ORCPT=u@local.test\r\n",
		  "501 5.5.4 Error: Bad ORCPT parameter syntax\r\n" },
		{ "RCPT TO:<u@local.test> ORCPT=rfc822;a+0D+0Ab\r\n",
		  "501 5.5.4 Error: Bad ORCPT parameter syntax\r\n" },
		{ "RCPT TO:<u@local.test> ORCPT=rfc822;a+00b\r\n",
		  "501 5.5.4 Error: Bad ORCPT parameter syntax\r\n" },
		{ "RCPT TO:<u@local.test> X=1\r\n", "555 5.5.4 Unsupported option: X=1\r\n" },
		{ "RCPT TO:<u@local.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o+2Bx@o.test\r\n",
		  "250 2.1.5 Ok\r\n" },
		{ "VRFY\r\n", "501 5.5.4 Syntax: VRFY address [SMTPUTF8]\r\n" },
		{ "VRFY u@local.test\r\n", "252 2.0.0 u@local.test\r\n" },
		{ "STARTTLS\r\n", "502 5.5.1 Error: command not implemented\r\n" },
		{ "AUTH PLAIN AAA=\r\n", "503 5.5.1 Error: authentication not enabled\r\n" },
		{ "XCLIENT ADDR=10.0.0.1\r\n",
		  "503 5.5.1 Error: MAIL transaction in progress\r\n" },
		{ "ETRN local.test\r\n", "503 Error: MAIL transaction in progress\r\n" },
		{ "NOOP with words\r\n", "250 2.0.0 Ok\r\n" },
		{ "HELP\r\n",
		  "214 2.0.0 Commands: BDAT DATA EHLO ETRN HELO HELP MAIL NOOP QUIT RCPT "
		  "RSET VRFY\r\n" },
		{ "MAIL FROM:<a\xff@x.test>\r\n", "500 5.5.2 Error: bad UTF-8 syntax\r\n" },
		END,
	};

	play("syntax", "smtpd_soft_error_limit = 100\nsmtpd_hard_error_limit = 101\n", steps);
}

static void test_envelope(void)
{
	static const struct step steps[] = {
		HELLO,
		{ "MAIL FROM:<\"a b\"@x.test> RET=HDRS ENVID=q+2Bx BODY=8BITMIME SIZE=77\r\n",
		  "250 2.1.0 Ok\r\n" },
		{ "RCPT TO:<@r1.test,@r2.test:u@local.test> NOTIFY=SUCCESS,DELAY "
		  "ORCPT=rfc822;o+2Bx@o.test\r\n",
		  "250 2.1.5 Ok\r\n" },
		{ "RCPT TO:postmaster\r\n", "250 2.1.5 Ok\r\n" },
		{ "DATA\r\n", GO_AHEAD },
		{ "From bob Mon Nov 23\r\nX: y\r\n\r\n..dots\r\n.x\r\n.\r\n", QUEUED },
		END,
	};
	struct fake f;
	struct arena arena;
	struct envelope e;

	fake_conf(&f, "", NULL);
	fake_connect(&f, "10.1.2.3");
	fake_take(&f);
	play_on(&f, "envelope", steps);
	arena_init(&arena, 4096, 0);
	is_int(env_decode(buf_sv(&f.env), 100, &arena, &e), 0, "envelope decodes");
	ok(sv_eq_str(e.sender, "a b@x.test"), "sender without quotes");
	ok(sv_eq_str(e.envid, "q+x"), "envid decoded");
	is_int(e.ret, DSN_RET_HDRS, "ret");
	is_int(e.body, BODY_8BIT, "body");
	is_int(e.size_hint, 77, "size");
	is_int(e.rcpt_count, 2, "two recipients");
	ok(sv_eq_str(e.rcpts[0].addr, "u@local.test"), "source route dropped");
	ok(sv_eq_str(e.rcpts[0].orcpt, "rfc822;o+x@o.test"), "orcpt decoded");
	is_int(e.rcpts[0].notify, NOTIFY_SUCCESS | NOTIFY_DELAY, "notify");
	ok(sv_eq_str(e.rcpts[1].addr, "postmaster"), "bare postmaster");
	ok(sv_eq_str(e.client_addr, "10.1.2.3") && sv_eq_str(e.client_name, "client.test"),
	   "client");
	ok(sv_eq_str(e.helo, "c.test") && sv_eq_str(e.proto, "ESMTP"), "helo and proto");
	const char *body = strstr(buf_cstr(&f.content), "X-Mailbox-Line: ");

	ok(body != NULL, "From_ line became a header");
	is_str(body, "X-Mailbox-Line: From bob Mon Nov 23\r\nX: y\r\n\r\n..dots\r\nx\r\n",
	       "content in wire form; a dot that stuffs nothing goes");
	ok(strncmp(buf_cstr(&f.content),
		   "Received: from c.test (client.test [10.1.2.3])\r\n"
		   "\tby mx.test (Posthaste) with ESMTP id 0000000001z7;\r\n\t",
		   100) == 0,
	   "Received without for with two recipients");
	arena_fini(&arena);
	fake_fini(&f);
}

static void test_received(void)
{
	static const struct step steps[] = {
		{ "HELO c.test\r\n", "250 mx.test\r\n" },
		{ "MAIL FROM:<>\r\n", "250 2.1.0 Ok\r\n" },
		{ "RCPT TO:<\"u v\"@local.test>\r\n", "250 2.1.5 Ok\r\n" },
		{ "DATA\r\n", GO_AHEAD },
		{ " x\r\n.\r\n", QUEUED },
		END,
	};
	struct fake f;

	setenv("TZ", "UTC", 1);
	tzset();
	fake_conf(&f, "", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_take(&f);
	play_on(&f, "received", steps);
	is_str(buf_cstr(&f.content),
	       "Received: from c.test (client.test [192.0.2.1])\r\n"
	       "\tby mx.test (Posthaste) with SMTP id 0000000001z7\r\n"
	       "\tfor <\"u v\"@local.test>; Thu, 01 Jan 1970 00:16:40 +0000 (UTC)\r\n"
	       "\r\n x\r\n",
	       "Received for one recipient; content that begins with a blank is no header");
	ok(strstr(buf_cstr(&f.log), "0000000001z7: client=client.test[192.0.2.1]\n") != NULL,
	   "client= line");
	fake_fini(&f);
}

static void test_pipelining(void)
{
	static const struct step good[] = {
		HELLO,
		{ "MAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\nRCPT TO:<no@where.test>\r\n"
		  "DATA\r\n",
		  "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"
		  "454 4.7.1 <no@where.test>: Relay access denied\r\n" GO_AHEAD },
		{ "hi\r\n.\r\nMAIL FROM:<b@x.test>\r\nRCPT TO:<v@local.test>\r\nQUIT\r\n",
		  QUEUED "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n221 2.0.0 Bye\r\n" },
		END,
	};
	static const struct step after_data[] = {
		HELLO,
		MAIL_OK,
		RCPT_OK,
		{ "DATA\r\nSubject: x\r\n", "554 5.5.0 Error: SMTP protocol synchronization\r\n" },
		END,
	};
	static const struct step in_helo[] = {
		{ "EHLO c.test\r\nMAIL FROM:<a@x.test>\r\n",
		  "554 5.5.0 Error: SMTP protocol synchronization\r\n" },
		END,
	};
	static const struct step allowed[] = {
		{ "EHLO c.test\r\nNOOP\r\n", EHLO_REPLY "250 2.0.0 Ok\r\n" },
		END,
	};
	struct fake f;

	play("pipelining", "", good);
	play("pipelined content", "", after_data);
	play("pipelined EHLO", "", in_helo);
	play("pipelined EHLO, allowed", "smtpd_forbid_unauth_pipelining = no\n", allowed);

	struct sockaddr_in sa = { .sin_family = AF_INET };

	fake_conf(&f, "", NULL);
	session_init(&f.s, &f.listener, &f.ops, (const struct sockaddr *)&sa);
	f.open = true;
	session_input(&f.s, "EHLO early\r\n", 12);
	session_name_known(&f.s, NULL, POLICY_NAME_PERM, NULL, POLICY_NAME_PERM);
	session_greet(&f.s);
	fake_settle(&f);
	is_str(fake_take(&f), "554 5.5.0 Error: SMTP protocol synchronization\r\n",
	       "talking before the greeting");
	is_str(buf_cstr(&f.log),
	       "improper command pipelining after CONNECT from unknown[0.0.0.0]: EHLO "
	       "early\\r\\n\n",
	       "and the log line");
	ok(session_is_over(&f.s), "connection ends");
	fake_fini(&f);
}

static void test_bdat(void)
{
	static const struct step simple[] = {
		HELLO,
		MAIL_OK,
		RCPT_OK,
		{ "BDAT 5\r\n.ab\r\n", "250 2.0.0 Ok: 5 bytes\r\n" },
		{ "RCPT TO:<u@local.test>\r\n", "503 5.5.1 Error: RCPT after BDAT\r\n" },
		{ "DATA\r\n", "503 5.5.1 Error: DATA after BDAT\r\n" },
		{ "BDAT 0 LAST\r\n", "250 2.0.0 Ok: 5 bytes queued as 0000000001z7\r\n" },
		HELLO,
		MAIL_OK,
		RCPT_OK,
		{ "BDAT 4 LAST\r\nx\r\ny", "250 2.0.0 Ok: 4 bytes queued as 0000000002z7\r\n" },
		END,
	};
	static const struct step pipelined[] = {
		HELLO,
		{ "MAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\nBDAT 3\r\nabcBDAT 3 "
		  "LAST\r\nd\r\n"
		  "QUIT\r\n",
		  "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 Ok: 3 bytes\r\n"
		  "250 2.0.0 Ok: 6 bytes queued as 0000000001z7\r\n221 2.0.0 Bye\r\n" },
		END,
	};
	static const struct step errors[] = {
		HELLO,
		{ "BDAT 3\r\nabc", "503 5.5.1 Error: need RCPT command\r\n" },
		{ "BDAT 3\r\nabc", "551 5.0.0 Discarded 3 bytes after earlier error\r\n" },
		{ "MAIL FROM:<a@x.test>\r\n", "503 5.5.1 Error: MAIL after BDAT\r\n" },
		{ "BDAT 4 LAST\r\nabcd", "551 5.0.0 Discarded 4 bytes after earlier error\r\n" },
		MAIL_OK,
		{ "BDAT 2 LAST\r\nab", "554 5.5.1 Error: no valid recipients\r\n" },
		{ "BDAT 0\r\n", "551 5.7.1 Null BDAT request\r\n" },
		{ "RSET\r\n", "250 2.0.0 Ok\r\n" },
		MAIL_OK,
		RCPT_OK,
		{ "BDAT 10240001 LAST\r\n", "" },
		END,
	};
	static const struct step huge[] = {
		HELLO,
		MAIL_OK,
		RCPT_OK,
		{ "BDAT 18446744073709551615\r\nxxx", "521 5.5.4 Syntax: BDAT count [LAST]\r\n" },
		END,
	};
	static const struct step endless[] = {
		HELLO,
		{ "BDAT 9223372036854775807\r\nxxx", "503 5.5.1 Error: need RCPT command\r\n" },
		END,
	};
	static const char *const bad[] = { "BDAT",         "BDAT x",        "BDAT -1",
					   "BDAT 1 FIRST", "BDAT 1 LAST x", "BDAT 1x" };

	play("BDAT", "", simple);
	play("BDAT pipelined", "", pipelined);
	play("BDAT errors", "smtpd_soft_error_limit = 100\n", errors);
	play("BDAT huge", "", huge);
	play("BDAT endless after error", "", endless);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct fake f;

		fake_conf(&f, "", NULL);
		fake_connect(&f, "192.0.2.1");
		fake_say(&f, "EHLO c\r\n");
		fake_say(&f, bad[i]);
		is_str(fake_say(&f, "\r\n"), "521 5.5.4 Syntax: BDAT count [LAST]\r\n", "%s",
		       bad[i]);
		ok(session_is_over(&f.s), "%s ends the connection", bad[i]);
		fake_fini(&f);
	}
}

static void test_bdat_content(void)
{
	struct fake f;

	fake_conf(&f, "", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\nx");
	fake_fini(&f);

	fake_conf(&f, "", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\n");
	fake_say(&f, "MAIL FROM:<>\r\nRCPT TO:<u@local.test>\r\n");
	fake_say(&f, "BDAT 15\r\na\r\n.\r\n.b\r\nc\nd\re");
	fake_say(&f, "BDAT 2 LAST\r\n\r.");
	const char *body = strstr(buf_cstr(&f.content), "UTC)\r\n");

	ok(body != NULL, "content is there");
	is_str(body != NULL ? body + 6 : "", "a\r\n..\r\n..b\r\nc\r\nd e .\r\n",
	       "chunks are stuffed, line ends made CRLF, lone CR a space, the last line ended");
	fake_fini(&f);
}

static void test_limits(void)
{
	static const struct step rcpt_limit[] = {
		HELLO,
		MAIL_OK,
		RCPT_OK,
		RCPT_OK,
		{ "RCPT TO:<u@local.test>\r\n", "452 4.5.3 Error: too many recipients\r\n" },
		{ "RCPT TO:<u@local.test>\r\n", "452 4.5.3 Error: too many recipients\r\n" },
		{ "DATA\r\n", GO_AHEAD },
		{ "x\r\n.\r\n", QUEUED },
		END,
	};
	static const struct step size[] = {
		{ "EHLO c\r\n", "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 100\r\n250-VRFY\r\n"
				"250-ETRN\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n"
				"250-SMTPUTF8\r\n250 CHUNKING\r\n" },
		MAIL_OK,
		RCPT_OK,
		{ "DATA\r\n", GO_AHEAD },
		{ "0123456789012345678901234567890123456789012345678901234567890123456789\r\n"
		  "0123456789012345678901234567890123456789012345678901234567890123456789\r\n",
		  "" },
		{ "more\r\n.\r\n", "552 5.3.4 Error: message file too big\r\n" },
		MAIL_OK,
		RCPT_OK,
		{ "BDAT 90\r\n012345678901234567890123456789012345678901234567890123456789"
		  "0123456789012345678901234567\r\n",
		  "250 2.0.0 Ok: 90 bytes\r\n" },
		{ "BDAT 20 LAST\r\n01234567890123456789",
		  "552 5.3.4 Chunk exceeds message size limit\r\n" },
		MAIL_OK,
		END,
	};
	static const struct step errors[] = {
		{ "A\r\n", "500 5.5.2 Error: command not recognized\r\n" },
		{ "B\r\n", "500 5.5.2 Error: command not recognized\r\n" },
		{ "C\r\n", "500 5.5.2 Error: command not recognized\r\n"
			   "421 4.7.0 mx.test Error: too many errors\r\n" },
		END,
	};
	static const struct step junk[] = {
		{ "NOOP\r\n", "250 2.0.0 Ok\r\n" },
		{ "NOOP\r\n", "250 2.0.0 Ok\r\n" },
		{ "NOOP\r\n", "250 2.0.0 Ok\r\n" },
		{ "RSET\r\n", "250 2.0.0 Ok\r\n421 4.7.0 mx.test Error: too many errors\r\n" },
		END,
	};

	play("recipients", "smtpd_recipient_limit = 2\nsmtpd_recipient_overshoot_limit = 1\n",
	     rcpt_limit);
	play("size", "message_size_limit = 100\n", size);
	play("errors", "smtpd_hard_error_limit = 3\n", errors);
	play("junk", "smtpd_hard_error_limit = 2\nsmtpd_junk_command_limit = 1\n", junk);
}

static void test_long_lines(void)
{
	static char line[5000];
	struct fake f;

	fake_conf(&f, "line_length_limit = 1000\n", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_take(&f);
	memset(line, 'A', sizeof(line) - 1);
	memcpy(line, "NOOP ", 5);
	line[1000] = '\r';
	line[1001] = '\n';
	is_str(fake_say_len(&f, line, 1002), "250 2.0.0 Ok\r\n", "a line of exactly the limit");
	line[1000] = 'A';
	line[1001] = '\r';
	line[1002] = '\n';
	is_str(fake_say_len(&f, line, 1003), "500 5.5.2 mx.test Error: command too long\r\n",
	       "one more");
	memset(line, 'A', sizeof(line) - 1);
	for (int i = 0; i < 20; i++)
		is_str(fake_say_len(&f, line, 4000), "", "no end of the line in sight");
	is_str(fake_say(&f, "\r\nNOOP\r\n"),
	       "500 5.5.2 mx.test Error: command too long\r\n250 2.0.0 Ok\r\n",
	       "the next command is read");
	ok(session_memory(&f.s) < 16384, "nothing of it was kept");
	for (int i = 0; i < 300; i++)
		fake_say_len(&f, line, 4000);
	ok(session_is_over(&f.s), "a line that never ends does");
	fake_fini(&f);
}

static void test_tarpit(void)
{
	struct fake f;

	fake_conf(&f, "smtpd_soft_error_limit = 1\nsmtpd_error_sleep_time = 2s\n", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_take(&f);
	is_str(fake_say(&f, "A\r\n"), "500 5.5.2 Error: command not recognized\r\n", "first error");
	is_str(fake_say(&f, "NOOP\r\n"), "", "then answers are late");
	ok(!session_wants_input(&f.s), "nothing is read meanwhile");
	clock_fake_advance(1999);
	session_tick(&f.s);
	fake_settle(&f);
	is_str(fake_take(&f), "", "not yet");
	clock_fake_advance(1);
	ok(session_next_ms(&f.s) <= clock_now().ms, "due");
	session_tick(&f.s);
	fake_settle(&f);
	is_str(fake_take(&f), "250 2.0.0 Ok\r\n", "now");
	fake_fini(&f);
}

static void test_timeouts(void)
{
	struct fake f;

	fake_conf(&f, "smtpd_timeout = 10s\n", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_take(&f);
	clock_fake_advance(9000);
	fake_say(&f, "NO");
	clock_fake_advance(9000);
	session_tick(&f.s);
	fake_settle(&f);
	is_str(fake_say(&f, "OP\r\n"), "250 2.0.0 Ok\r\n", "every byte buys time");
	clock_fake_advance(10000);
	session_tick(&f.s);
	fake_settle(&f);
	is_str(fake_take(&f), "421 4.4.2 mx.test Error: timeout exceeded\r\n", "time-out");
	ok(strstr(buf_cstr(&f.log), "timeout after NOOP from client.test[192.0.2.1]\n") != NULL,
	   "logged");
	ok(session_is_over(&f.s), "closed");
	fake_fini(&f);

	fake_conf(&f,
		  "smtpd_timeout = 10s\nsmtpd_per_request_deadline = yes\n"
		  "smtpd_min_data_rate = 500\n",
		  NULL);
	fake_connect(&f, "192.0.2.1");
	fake_take(&f);
	fake_say(&f, "EHLO c\r\n");
	fake_say(&f, "MAIL FROM:<>\r\nRCPT TO:<u@local.test>\r\n");
	fake_say(&f, "DATA\r\n");
	for (int i = 0; i < 12; i++) {
		clock_fake_advance(1000);
		session_tick(&f.s);
		fake_settle(&f);
		is_str(fake_say(&f, "x"),
		       i == 10 ? "421 4.4.2 mx.test Error: timeout exceeded\r\n" : "",
		       "one byte a second is too slow (%d)", i);
	}
	fake_fini(&f);
}

static void test_verdicts(void)
{
	static const struct {
		enum submit_verdict v;
		unsigned code;
		const char *text, *reply;
	} rows[] = {
		{ SUBMIT_OK, 0, "", "250 2.0.0 Ok: queued as 0000000001z7\r\n" },
		{ SUBMIT_DISCARDED, 0, "", "250 2.0.0 Ok: queued as 0000000001z7\r\n" },
		{ SUBMIT_TEMPFAIL, 451, "Error: queue file write error",
		  "451 4.3.0 Error: queue file write error\r\n" },
		{ SUBMIT_PERMFAIL, 550, "no\r\n220 forged", "550 5.7.1 no??220 forged\r\n" },
		{ SUBMIT_TEMPFAIL, 250, "Ok", "451 4.3.0 Error: queue file write error\r\n" },
		{ SUBMIT_PERMFAIL, 0, "", "550 5.7.1 message content rejected\r\n" },
		{ (enum submit_verdict)77, 250, "x", "550 5.7.1 message content rejected\r\n" },
	};
	struct fake f;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		fake_conf(&f, "", NULL);
		f.verdict = rows[i].v;
		f.verdict_code = rows[i].code;
		f.verdict_text = rows[i].text;
		fake_connect(&f, "192.0.2.1");
		fake_say(&f, "EHLO c\r\n");
		fake_say(&f, "MAIL FROM:<>\r\nRCPT TO:<u@local.test>\r\n");
		fake_say(&f, "DATA\r\n");
		is_str(fake_say(&f, "x\r\n.\r\n"), rows[i].reply, "verdict %zu", i);
		is_str(fake_say(&f, "RCPT TO:<u@local.test>\r\n"),
		       "503 5.5.1 Error: need MAIL command\r\n", "and the transaction is over");
		fake_fini(&f);
	}
}

static void test_lost_worker(void)
{
	struct fake f;

	fake_conf(&f, "", NULL);
	f.hold_verdict = true;
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\n");
	fake_say(&f, "MAIL FROM:<>\r\nRCPT TO:<u@local.test>\r\n");
	fake_say(&f, "DATA\r\n");
	fake_say(&f, "half\r\n");
	session_submit_lost(&f.s);
	is_str(fake_say(&f, "rest\r\n.\r\n"), "451 4.3.0 Error: queue file write error\r\n",
	       "worker dies while content comes");
	is_int(f.aborted, 1, "content was given up");
	fake_say(&f, "MAIL FROM:<>\r\nRCPT TO:<u@local.test>\r\n");
	fake_say(&f, "DATA\r\n");
	is_str(fake_say(&f, "x\r\n.\r\nNOOP\r\n"), "", "waits for the verdict");
	ok(!session_wants_input(&f.s), "reads nothing meanwhile");
	session_submit_lost(&f.s);
	fake_settle(&f);
	is_str(fake_take(&f), "451 4.3.0 Error: queue file write error\r\n250 2.0.0 Ok\r\n",
	       "worker dies before the verdict");
	f.accept_error = E_NOSPC;
	is_str(fake_say(&f, "MAIL FROM:<>\r\n"), "452 4.3.1 Insufficient system storage\r\n",
	       "disk is low");
	f.accept_error = E_CONFIG;
	is_str(fake_say(&f, "MAIL FROM:<>\r\n"),
	       "451 4.3.0 Error: queue service unavailable, try again later\r\n", "no worker");
	f.accept_error = 0;
	is_str(fake_say(&f, "MAIL FROM:<>\r\n"), "250 2.1.0 Ok\r\n", "all is well again");
	fake_say(&f, "RCPT TO:<u@local.test>\r\n");
	f.begin_error = E_CONFIG;
	fake_say(&f, "DATA\r\n");
	is_str(fake_say(&f, "x\r\n.\r\n"), "451 4.3.0 Error: queue file write error\r\n",
	       "worker gone before DATA");
	fake_fini(&f);
}

static void test_room(void)
{
	struct fake f;

	fake_conf(&f, "", NULL);
	f.room_bytes = 3;
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\n");
	fake_say(&f, "MAIL FROM:<>\r\nRCPT TO:<u@local.test>\r\n");
	f.begin_error = E_AGAIN;
	is_str(fake_say(&f, "DATA\r\n"), "", "no room for the envelope");
	f.begin_error = 0;
	session_room(&f.s);
	fake_settle(&f);
	is_str(fake_take(&f), GO_AHEAD, "room came");
	f.room_left = 10;
	is_str(fake_say(&f, "0123456789abcdef\r\n.\r\nQUIT\r\n"), "", "no room for the content");
	ok(!session_wants_input(&f.s), "reads nothing while there is none");
	f.room_left = 8;
	session_room(&f.s);
	fake_settle(&f);
	f.room_left = SIZE_MAX;
	session_room(&f.s);
	fake_settle(&f);
	is_str(fake_take(&f), QUEUED "221 2.0.0 Bye\r\n", "room came in two parts");
	ok(strstr(buf_cstr(&f.content), "UTC)\r\n0123456789abcdef\r\n") != NULL,
	   "content is whole");
	fake_fini(&f);
}

static void test_half_close(void)
{
	struct fake f;

	fake_conf(&f, "", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\n");
	session_input(&f.s, "NOOP\r\nMAIL FROM:<>\r\nRSE", 24);
	session_eof(&f.s);
	fake_settle(&f);
	is_str(fake_take(&f), "554 5.5.0 Error: SMTP protocol synchronization\r\n",
	       "NOOP may not be followed");
	fake_fini(&f);

	fake_conf(&f, "", NULL);
	f.hold_verdict = true;
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\n");
	fake_say(&f, "MAIL FROM:<>\r\nRCPT TO:<u@local.test>\r\nBDAT 3 LAST\r\nx\r\nRSET\r\nMA");
	session_eof(&f.s);
	fake_settle(&f);
	is_str(fake_take(&f), "", "the verdict is waited for");
	ok(!session_is_over(&f.s), "still there");
	f.hold_verdict = false;
	fake_settle(&f);
	is_str(fake_take(&f), "250 2.0.0 Ok: 3 bytes queued as 0000000001z7\r\n250 2.0.0 Ok\r\n",
	       "everything that was asked is answered");
	ok(session_is_over(&f.s), "then it ends");
	ok(strstr(buf_cstr(&f.log), "NOQUEUE: lost connection") == NULL &&
		   strstr(buf_cstr(&f.log), "lost connection after RSET from client.test") != NULL,
	   "and is logged");
	fake_fini(&f);

	fake_conf(&f, "", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\n");
	fake_say(&f, "MAIL FROM:<>\r\nRCPT TO:<u@local.test>\r\n");
	fake_say(&f, "DATA\r\n");
	fake_say(&f, "12345\r\n");
	session_eof(&f.s);
	ok(strstr(buf_cstr(&f.log), "0000000001z7: lost connection after DATA (7 bytes) from "
				    "client.test[192.0.2.1]\n") != NULL,
	   "lost in the middle of DATA");
	fake_fini(&f);
}

static void test_access_denied(void)
{
	static const char conf[] = "smtpd_delay_reject = no\n"
				   "smtpd_client_restrictions = check_client_access "
				   "inline:{192.0.2.66=REJECT}\n";
	struct fake f;

	fake_conf(&f, conf, NULL);
	fake_connect(&f, "192.0.2.66");
	is_str(fake_take(&f),
	       "554 5.7.1 <client.test[192.0.2.66]>: Client host rejected: Access denied\r\n",
	       "refused at once");
	is_str(fake_say(&f, "EHLO c\r\n"),
	       "503 5.7.0 Error: access denied for client.test[192.0.2.66]\r\n", "EHLO");
	is_str(fake_say(&f, "FOO\r\n"),
	       "503 5.7.0 Error: access denied for client.test[192.0.2.66]\r\n", "nonsense");
	is_str(fake_say(&f, "QUIT\r\n"), "221 2.0.0 Bye\r\n", "QUIT");
	fake_fini(&f);
}

static void test_odd_commands(void)
{
	static const struct {
		const char *say, *hear;
	} rows[] = {
		{ "GET / HTTP/1.1\r\n", "221 2.7.0 Error: I can break rules, too. Goodbye.\r\n" },
		{ "CONNECT x:25\r\n", "221 2.7.0 Error: I can break rules, too. Goodbye.\r\n" },
		{ "Subject: hi\r\n", "221 2.7.0 Error: I can break rules, too. Goodbye.\r\n" },
		{ "\x16\x03\x01\r\n", "221 2.7.0 Error: I can break rules, too. Goodbye.\r\n" },
		{ "MAILX FROM:<>\r\n", "500 5.5.2 Error: command not recognized\r\n" },
		{ "PING\r\n", "250 2.0.0 Ok\r\n" },
	};
	struct fake f;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		fake_conf(&f, "smtpd_noop_commands = PING\n", NULL);
		fake_connect(&f, "192.0.2.1");
		fake_take(&f);
		is_str(fake_say(&f, rows[i].say), rows[i].hear, "odd command %zu", i);
		fake_fini(&f);
	}
	fake_conf(&f, "", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_take(&f);
	is_str(fake_say_len(&f, "NO\0OP\r\n", 7), "500 5.5.2 Error: bad syntax\r\n", "NUL");
	fake_fini(&f);
}

static void test_ehlo_keywords(void)
{
	static const struct step none[] = {
		{ "EHLO c\r\n",
		  "250-mx.test\r\n250-SIZE\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n" },
		{ "MAIL FROM:<> RET=FULL\r\n", "501 5.7.1 DSN support is disabled\r\n" },
		{ "MAIL FROM:<> SMTPUTF8\r\n", "555 5.5.4 Unsupported option: SMTPUTF8\r\n" },
		{ "VRFY x\r\n", "502 5.5.1 VRFY command is disabled\r\n" },
		{ "BDAT 1 LAST\r\nx", "521 5.5.1 Error: command not implemented\r\n" },
		END,
	};

	play("EHLO keywords",
	     "disable_vrfy_command = yes\nmessage_size_limit = 0\nsmtpd_discard_ehlo_keywords = "
	     "pipelining, etrn, dsn, smtputf8, chunking, silent-discard\n",
	     none);
}

static void test_verp(void)
{
	struct fake f;
	struct envelope e;
	struct arena a;

	fake_conf(&f, "smtpd_authorized_verp_clients = 192.0.2.1\n", NULL);
	fake_connect(&f, "192.0.2.1");
	ok(strstr(fake_say(&f, "EHLO c\r\n"), "250-XVERP\r\n") != NULL, "XVERP is offered");
	is_str(fake_say(&f, "MAIL FROM:<a@x.test> XVERP=ab\r\n"),
	       "501 5.5.4 Error: XVERP needs two characters from -=+\r\n", "bad delimiters");
	is_str(fake_say(&f, "MAIL FROM:<> XVERP\r\n"),
	       "503 5.5.4 Error: XVERP requires non-null sender\r\n", "no sender");
	is_str(fake_say(&f, "MAIL FROM:<a@x.test> xverp=-=\r\n"), "250 2.1.0 Ok\r\n", "XVERP");
	fake_say(&f, "RCPT TO:<u@local.test>\r\nDATA\r\n");
	fake_say(&f, "x\r\n.\r\n");
	arena_init(&a, 1000, 0);
	ok(env_decode(buf_sv(&f.env), 10, &a, &e) == 0 && sv_eq_str(e.verp, "-="),
	   "in the envelope");
	fake_say(&f, "MAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\nDATA\r\n");
	fake_say(&f, "x\r\n.\r\n");
	arena_reset(&a);
	ok(env_decode(buf_sv(&f.env), 10, &a, &e) == 0 && e.verp.len == 0, "not in the next one");
	arena_fini(&a);
	fake_fini(&f);
	fake_conf(&f, "smtpd_authorized_verp_clients = 192.0.2.1\n", NULL);
	fake_connect(&f, "192.0.2.2");
	ok(strstr(fake_say(&f, "EHLO c\r\n"), "XVERP") == NULL, "not for everybody");
	is_str(fake_say(&f, "MAIL FROM:<a@x.test> XVERP\r\n"),
	       "555 5.5.4 Unsupported option: XVERP\r\n", "who may not ask for it");
	fake_fini(&f);
}

static void test_disconnect_line(void)
{
	struct fake f;

	fake_conf(&f, "", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\n");
	fake_say(&f, "MAIL FROM:<>\r\nRCPT TO:<u@local.test>\r\nRCPT TO:<x@relay.test>\r\n");
	fake_say(&f, "DATA\r\n");
	fake_say(&f, "x\r\n.\r\n");
	fake_say(&f, "BLAH\r\n");
	fake_say(&f, "QUIT\r\n");
	buf_reset(&f.log);
	session_log_disconnect(&f.s);
	is_str(buf_cstr(&f.log),
	       "disconnect from client.test[192.0.2.1] ehlo=1 mail=1 rcpt=1/2 data=1 quit=1 "
	       "unknown=0/1 commands=5/7\n",
	       "disconnect line");
	fake_connect(&f, "192.0.2.1");
	session_log_disconnect(&f.s);
	is_str(buf_cstr(&f.log), "disconnect from client.test[192.0.2.1] commands=0/0\n",
	       "without commands");
	fake_fini(&f);
}

static void test_reject_line(void)
{
	struct fake f;

	fake_conf(&f, "", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "HELO <x y>\r\n");
	fake_say(&f, "MAIL FROM:<\"s p\"@x.test>\r\n");
	fake_say(&f, "RCPT TO:<x@relay.test>\r\n");
	is_str(buf_cstr(&f.log),
	       "NOQUEUE: reject: RCPT from client.test[192.0.2.1]: 454 4.7.1 <x@relay.test>: Relay "
	       "access denied; from=<\"s p\"@x.test> to=<x@relay.test> proto=SMTP helo=<?x?y?>\n",
	       "reject line");
	fake_fini(&f);
}

/* Replies that refuse, with filter, footer and soft_bounce. */
static void test_refusals(void)
{
	struct fake f;
	const char *said;

	fake_conf(&f,
		  "smtpd_reject_footer = see $helo_name at ${client_address}\\n${nothing:x_y} $$\n"
		  "smtpd_reject_filter_maps = pcre:{ {/command not/ 500 5.5.2 unknown}, {/need "
		  "RCPT/ 250 no} }\n"
		  "smtpd_reject_footer_maps = pcre:{ {/^500/ \\c} }\n"
		  "smtpd_command_filter = pcre:{ {/^REPLACED/ NOOP} }\nsoft_bounce = yes\n",
		  NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c.test\r\n");
	said = fake_say(&f, "NONSENSE\r\n");
	is_str(said, "400 4.5.2 unknown\r\n", "filter, empty footer, soft_bounce");
	ok(strstr(buf_cstr(&f.log), "NOQUEUE: reply filter in: 500 5.5.2 Error: command not") !=
		   NULL,
	   "the filter logs");
	said = fake_say(&f, "RCPT TO:<u@local.test>\r\n");
	is_str(said,
	       "403-4.5.1 Error: need MAIL command\r\n403-4.5.1 see c.test at 192.0.2.1\r\n"
	       "403 4.5.1 x_y $\r\n",
	       "a footer of two lines");
	said = fake_say(&f, "REPLACED\r\n");
	is_str(said, "250 2.0.0 Ok\r\n", "a command is replaced");
	ok(strstr(buf_cstr(&f.log), "replacing command \"REPLACED\" with \"NOOP\"") != NULL,
	   "which is logged");
	said = fake_say(&f, "MAIL FROM:<a@x.test>\r\n");
	is_str(said, "250 2.1.0 Ok\r\n", "other replies stay");
	said = fake_say(&f, "DATA\r\n");
	ok(strncmp(said, "454-", 4) == 0 || strncmp(said, "403-", 4) == 0,
	   "a filter may not make a success of it");
	fake_fini(&f);
	fake_conf(&f, "smtpd_reject_footer = ${open\n", NULL);
	fake_connect(&f, "192.0.2.1");
	said = fake_say(&f, "NONSENSE\r\n");
	ok(strstr(said, "500 5.5.2 Error: command not recognized\r\n") != NULL,
	   "a footer that is none");
	fake_fini(&f);
	fake_conf(&f, "smtpd_command_filter = hash:/no/such/file\n", NULL);
	fake_connect(&f, "192.0.2.1");
	said = fake_say(&f, "NOOP\r\n");
	ok(strstr(said, "421 4.3.0 ") != NULL, "a table that cannot be asked");
	fake_fini(&f);
}

static void test_idle_cost(void)
{
	struct fake f;

	fake_conf(&f, "", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO client.example.test\r\n");
	fake_say(&f, "MAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\n");
	fake_say(&f, "DATA\r\n");
	fake_say(&f, "x\r\n.\r\n");
	ok(session_memory(&f.s) < 4096, "an idle session holds %zu bytes", session_memory(&f.s));
	ok(f.s.in.p == NULL && f.s.out.p == NULL && f.s.tx == NULL && f.s.run == NULL,
	   "no buffers, no transaction");
	fake_fini(&f);
}

static void test_rates(void)
{
	static const struct step steps[] = {
		HELLO,
		MAIL_OK,
		{ "RSET\r\n", "250 2.0.0 Ok\r\n" },
		{ "MAIL FROM:<a@x.test>\r\n", "450 4.7.1 Error: too much mail from 192.0.2.1\r\n" },
		END,
	};

	play("message rate", "smtpd_client_message_rate_limit = 1\n", steps);
}

int main(void)
{
	clock_fake_set(1000000);
	test_plain();
	test_order();
	test_syntax();
	test_envelope();
	test_received();
	test_pipelining();
	test_bdat();
	test_bdat_content();
	test_limits();
	test_long_lines();
	test_tarpit();
	test_timeouts();
	test_verdicts();
	test_lost_worker();
	test_room();
	test_half_close();
	test_access_denied();
	test_odd_commands();
	test_ehlo_keywords();
	test_verp();
	test_disconnect_line();
	test_reject_line();
	test_refusals();
	test_idle_cost();
	test_rates();
	return tap_done();
}
