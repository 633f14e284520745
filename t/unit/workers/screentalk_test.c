/* SPDX-License-Identifier: GPL-3.0-or-later */
/* postscreen's own dialogue: commands, the three tests with their actions and times, limits, what
 * is logged, TLS. */
#include "t/unit/workers/screentalk_rig.h"

#include <stdlib.h>
#include <string.h>

#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "t/unit/workers/tls_rig.h"
#include "workers/smtp_in/listentls.h"

static struct conf *conf;
static struct talk_rig r;

/* What it said since the last call. */
static const char *said(void)
{
	static char text[65536];
	struct buf *out = screentalk_out(r.t);

	snprintf(text, sizeof(text), "%s", buf_cstr(out));
	buf_consume(out, out->len);
	return text;
}

static const char *ask(const char *line)
{
	screentalk_input(r.t, line, strlen(line));
	return said();
}

static bool has_logged(const char *line)
{
	return strstr(buf_cstr(&r.log), line) != NULL;
}

/* Line by line, as a good client. */
static void begin_mail(void)
{
	talk_start(&r);
	said();
	ask("EHLO c.test\r\n");
	ask("MAIL FROM:<a@x.test>\r\n");
}

static void begin(void)
{
	talk_begin(&r);
	talk_start(&r);
	said();
}

#define EHLO_LINES                                                                                 \
	"250-mx.example.org\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n"                      \
	"250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"

static void test_commands(void)
{
	static const struct {
		const char *line, *reply;
	} rows[] = {
		{ "MAIL FROM:<a@x.test>\r\n", "250 2.1.0 Ok\r\n" },
		{ "MAIL FROM:<a@x.test>\r\n", "503 5.5.1 Error: nested MAIL command\r\n" },
		{ "RSET now\r\n", "250 2.0.0 Ok\r\n" },
		{ "RCPT TO:<b@x.test>\r\n", "503 5.5.1 Error: need MAIL command\r\n" },
		{ "EHLO\r\n", "501 Syntax: EHLO hostname\r\n" },
		{ "HELO  \r\n", "501 Syntax: HELO hostname\r\n" },
		{ "EHLO c.test and more\r\n", EHLO_LINES },
		{ "HELO c.test\r\n", "250 mx.example.org\r\n" },
		{ "STARTTLS x\r\n", "501 5.5.4 Syntax: STARTTLS\r\n" },
		{ "STARTTLS\r\n", "502 5.5.1 Error: command not implemented\r\n" },
		{ "MAIL\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>\r\n" },
		{ "mail from:<>\r\n", "250 2.1.0 Ok\r\n" },
		{ "RCPT\r\n", "501 5.5.4 Syntax: RCPT TO:<address>\r\n" },
		{ "NOOP x\r\n", "250 2.0.0 Ok\r\n" },
		{ "VRFY\r\n", "501 5.5.4 Syntax: VRFY address\r\n" },
		{ "VRFY joe\r\n", "450 4.3.2 Service currently unavailable\r\n" },
		{ "ETRN\r\n", "500 Syntax: ETRN domain\r\n" },
		{ "ETRN x.test\r\n", "458 Unable to queue messages\r\n" },
		{ "AUTH PLAIN x\r\n", "502 5.5.2 Error: command not recognized\r\n" },
		{ "\r\n", "502 5.5.2 Error: command not recognized\r\n" },
	};

	talk_begin(&r);
	talk_start(&r);
	is_str(said(), "220 mx.example.org ESMTP Postfix\r\n", "greeting");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		is_str(ask(rows[i].line), rows[i].reply, "%.12s", rows[i].line);
	is_str(ask("QUIT\r\n"), "221 2.0.0 Bye\r\n", "QUIT in spite of the count");
	is_int(screentalk_state(r.t), SCREENTALK_BYE, "over");
	ok(screentalk_next_ms(r.t) == INT64_MAX && !screentalk_wants_input(r.t), "nothing is due");
	is_str(ask("NOOP\r\n"), "", "nothing is heard");
	is_str(buf_cstr(&r.log), "", "nothing is logged");
	is_int(r.tests.passed, SCREEN_DIALOGUE_BITS, "RCPT passes, in vain or not");
}

static void test_good_client(void)
{
	talk_begin(&r);
	begin_mail();
	is_str(ask("RCPT TO:<b@x.test> NOTIFY=NEVER\r\n"),
	       "450 4.3.2 Service currently unavailable\r\n", "a good client comes again");
	is_str(buf_cstr(&r.log),
	       "postscreen: NOQUEUE: reject: RCPT from [192.0.2.7]:4321: 450 4.3.2 Service "
	       "currently "
	       "unavailable; from=<a@x.test>, to=<b@x.test>, proto=ESMTP, helo=<c.test>\n",
	       "logged");
	is_int(r.tests.passed, SCREEN_DIALOGUE_BITS, "all is passed");
	is_int(r.tests.failed, 0, "none is failed");
	is_int(r.expires_s[SCREEN_PIPELINING], TALK_NOW_S + 30 * 86400, "for 30 days");
	is_int(r.expires_s[SCREEN_NON_SMTP], TALK_NOW_S + 29 * 86400, "29");
	is_int(r.expires_s[SCREEN_BARE_NEWLINE], TALK_NOW_S + 28 * 86400, "28");
	ask("RCPT TO:<c@x.test>\n");
	ok((r.tests.passed & SCREEN_BIT(SCREEN_BARE_NEWLINE)) != 0, "an ignored failure");
	is_int(r.expires_s[SCREEN_BARE_NEWLINE], TALK_NOW_S + 60, "shortens it");
}

static void test_addresses(void)
{
	static const struct {
		const char *rcpt, *shown;
	} rows[] = {
		{ "RCPT TO: <b@x.test>\r\n", "to=<b@x.test>," },
		{ "RCPT TO:b@x.test SIZE=1\r\n", "to=<b@x.test>," },
		{ "RCPT TO:<@a,@b:c@x.test>\r\n", "to=<c@x.test>," },
		{ "RCPT TO:<\"a b\"@x.test>\r\n", "to=<\"a b\"@x.test>," },
		{ "RCPT TO:<a\\\r\n", "to=<a>," },
		{ "RCPT TO:<\"a>\r\n", "to=<\"a>\">," },
		{ "RCPT TO:\r\n", "to=<>," },
		{ "RCPT TO:<a\001b>\r\n", "to=<\"a?b\">," },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		talk_begin(&r);
		begin_mail();
		ask(rows[i].rcpt);
		ok(has_logged(rows[i].shown), "%zu: %s", i, buf_cstr(&r.log));
	}
}

/* ---- tests ---- */

static void set_actions(enum screen_action a)
{
	for (int i = SCREEN_PIPELINING; i <= SCREEN_BARE_NEWLINE; i++)
		r.k.tests[i].action = a;
}

static void test_pipelining(void)
{
	unsigned bit = SCREEN_BIT(SCREEN_PIPELINING);

	set_actions(SCREEN_ENFORCE);
	talk_begin(&r);
	talk_start(&r);
	said();
	is_str(ask("HELO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n\tZ\\"),
	       "250 mx.example.org\r\n250 2.1.0 Ok\r\n550 5.5.1 Protocol error\r\n", "enforced");
	ok(has_logged("postscreen: COMMAND PIPELINING from [192.0.2.7]:4321 after HELO: MAIL "
		      "FROM:<a@x.test>\\r\\nRCPT TO:<b@x.test>\\r\\n\\tZ\\\\\n"),
	   "logged: %s", buf_cstr(&r.log));
	ok(has_logged("550 5.5.1 Protocol error; from=<a@x.test>, to=<b@x.test>, proto=SMTP, "
		      "helo=<c>"),
	   "and the refusal");
	is_int(r.tests.failed, bit, "failed");
	is_int(r.tests.passed, SCREEN_DIALOGUE_BITS & ~bit, "the others are passed");
	is_int(r.expires_s[SCREEN_PIPELINING], SCREEN_NOT_TESTED, "nothing to be remembered");

	set_actions(SCREEN_IGNORE);
	begin();
	ask("HELO c\r\nNOOP\r\n");
	is_int(r.tests.passed, bit, "ignored");
	is_int(r.tests.failed, 0, "not failed");
	is_int(r.expires_s[SCREEN_PIPELINING], TALK_NOW_S + 60, "for a minute");

	set_actions(SCREEN_DROP);
	begin();
	is_str(ask("HELO c\r\nNOOP\r\n"), "521 5.5.1 Protocol error\r\n", "dropped");
	is_int(screentalk_state(r.t), SCREENTALK_BYE, "at once");
	begin();
	is_str(ask("BDAT 3 LAST\r\nabc"), "554 5.5.1 Error: need MAIL command\r\n",
	       "octets are no pipelining");
	ok(!has_logged("PIPELINING"), "not logged");
	talk_begin(&r);
	r.tests.todo = 0;
	talk_start(&r);
	said();
	is_str(ask("NOOP\r\nNOOP\r\n"), "250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n", "not to be tested");
	is_int(r.tests.failed | r.tests.passed, 0, "no result");
}

static void test_non_smtp(void)
{
	unsigned bit = SCREEN_BIT(SCREEN_NON_SMTP);
	static const char *const bad[] = { "Subject: x\r\n", "GET / HTTP/1.1\r\n", "post x\r\n",
					   "X\t: 1\r\n",     "\x05\x01\r\n",       "x\xff\r\n" };
	static const char *const good[] = { ":x\r\n", "FOO\r\n", "\r\n", "FOO :x\r\n", "HELP\r\n" };

	set_actions(SCREEN_DROP);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		begin();
		is_str(ask(bad[i]), "521 5.7.0 Error: I can break rules, too. Goodbye.\r\n",
		       "no SMTP: %zu", i);
		is_int(r.tests.failed, bit, "failed");
	}
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		begin();
		bool bogus = good[i][0] == ':' || good[i][0] == '\r';

		is_str(ask(good[i]),
		       bogus && good[i][0] == ':'
			       ? "521 5.7.0 Error: I can break rules, too. Goodbye.\r\n"
			       : "502 5.5.2 Error: command not recognized\r\n",
		       "merely unknown: %zu", i);
	}
	set_actions(SCREEN_ENFORCE);
	begin();
	ask("HELO c\r\n");
	ask("FROM: a\\b \x01\r\n");
	ok(has_logged("postscreen: NON-SMTP COMMAND from [192.0.2.7]:4321 after HELO: FROM: a\\\\b "
		      "\\001\n"),
	   "logged: %s", buf_cstr(&r.log));
	buf_reset(&r.log);
	ask("TO: b\r\n");
	is_str(buf_cstr(&r.log), "", "once");
	ask("MAIL FROM:<a@x.test>\r\n");
	is_str(ask("RCPT TO:<a@x.test>\r\n"), "550 5.5.1 Protocol error\r\n", "enforced");
}

static void test_bare_newline(void)
{
	unsigned bit = SCREEN_BIT(SCREEN_BARE_NEWLINE);

	set_actions(SCREEN_ENFORCE);
	begin();
	is_str(ask("NOOP a\\b\n"), "250 2.0.0 Ok\r\n", "taken");
	is_str(buf_cstr(&r.log),
	       "postscreen: BARE NEWLINE from [192.0.2.7]:4321 after NOOP a\\\\b\n", "logged");
	is_int(r.tests.failed, bit, "failed");
	ask("MAIL FROM:<a@x.test>\r\n");
	is_str(ask("RCPT TO:<a@x.test>\n"), "550 5.5.1 Protocol error\r\n", "enforced");
	set_actions(SCREEN_DROP);
	begin();
	is_str(ask("NOOP\n"), "521 5.5.1 Protocol error\r\n", "dropped");
	begin();
	ask("NOOP\r");
	is_str(ask("\n"), "250 2.0.0 Ok\r\n", "CR and LF in two reads");
	ask("NOOP");
	is_str(ask("\n"), "521 5.5.1 Protocol error\r\n", "no CR in the read before");
}

/* ---- what the gate says ---- */

static void test_gate(void)
{
	set_actions(SCREEN_ENFORCE);
	talk_begin(&r);
	r.client.last_reply = "421 4.3.2 All server ports are busy";
	talk_start(&r);
	is_int(r.tests.todo, 0, "no tests");
	said();
	is_str(ask("EHLO c\r\n"), "421 4.3.2 All server ports are busy\r\n", "the last reply");
	is_int(screentalk_state(r.t), SCREENTALK_BYE, "is the last");
	talk_begin(&r);
	r.client.last_reply = "421 4.3.2 All server ports are busy";
	talk_start(&r);
	said();
	is_str(ask("QUIT\r\n"), "221 2.0.0 Bye\r\n", "but to QUIT");

	talk_begin(&r);
	r.tests.todo = SCREEN_BIT(SCREEN_DNSBL);
	r.tests.failed = SCREEN_BIT(SCREEN_DNSBL);
	r.client.rcpt_reply =
		"550 5.7.1 Service unavailable; client [192.0.2.7] blocked using dnsbl.test";
	begin_mail();
	is_int(r.tests.todo, SCREEN_DIALOGUE_BITS | SCREEN_BIT(SCREEN_DNSBL),
	       "a bad client is put to all tests");
	is_str(ask("RCPT TO:<b@x.test>\r\n"),
	       "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using dnsbl.test\r\n",
	       "its reply");
	is_str(ask("VRFY b\r\n"),
	       "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using dnsbl.test\r\n",
	       "to VRFY, too");
	talk_begin(&r);
	r.tests.failed = SCREEN_BIT(SCREEN_PREGREET);
	talk_start(&r);
	is_str(said(), "", "no greeting for who did not wait for it");
}

static void test_ends(void)
{
	static const struct {
		const char *line, *reply, *log;
		bool mail;
	} rows[] = {
		{ "DATA\r\n", "503 5.5.1 Error: need RCPT command\r\n", "DATA", false },
		{ "DATA\r\n", "554 5.5.1 Error: no valid recipients\r\n", "DATA", true },
		{ "DATA x\r\n", "501 5.5.4 Syntax: DATA\r\n", "DATA", true },
		{ "BDAT 3\r\nabc", "554 5.5.1 Error: need MAIL command\r\n", "BDAT", false },
		{ "BDAT\r\n", "501 5.5.4 Syntax: BDAT count [LAST]\r\n", "BDAT", false },
		{ "BDAT 1\r\nx", "554 5.5.1 Error: no valid recipients\r\n", "BDAT", true },
	};
	char want[100];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		begin();
		if (rows[i].mail)
			ask("MAIL FROM:<>\r\n");
		is_str(ask(rows[i].line), rows[i].reply, "%zu", i);
		is_int(screentalk_state(r.t), SCREENTALK_BYE, "over");
		snprintf(want, sizeof(want),
			 "postscreen: %s without valid RCPT from [192.0.2.7]:4321\n", rows[i].log);
		is_str(buf_cstr(&r.log), want, "logged");
	}
	begin();
	screentalk_eof(r.t);
	is_int(screentalk_state(r.t), SCREENTALK_HANGUP, "the client hangs up");
	is_str(said(), "", "without a word");
}

static void test_limits(void)
{
	char line[2100];

	begin();
	for (int i = 0; i < 20; i++)
		is_str(ask("NOOP\r\n"), "250 2.0.0 Ok\r\n", "%d", i);
	is_str(ask("HELO x\r\n"), "421 mx.example.org Service unavailable - try again later\r\n",
	       "too many");
	is_str(buf_cstr(&r.log),
	       "postscreen: COMMAND COUNT LIMIT from [192.0.2.7]:4321 after NOOP\n", "logged");

	memset(line, 'x', sizeof(line));
	memcpy(line, "NOOP ", 5);
	memcpy(line + 2046, "\r\n", 3);
	begin();
	is_str(ask(line), "250 2.0.0 Ok\r\n", "2048 octets");
	memcpy(line + 2046, "x\r\n", 4);
	is_str(ask(line), "421 mx.example.org Service unavailable - try again later\r\n",
	       "2049 octets");
	ok(has_logged("postscreen: COMMAND LENGTH LIMIT from [192.0.2.7]:4321 after NOOP\n"),
	   "logged");
	begin();
	line[2048] = '\0';
	is_str(ask(line), "", "2048 without an end");
	is_str(ask("x"), "421 mx.example.org Service unavailable - try again later\r\n",
	       "one more");
	ok(has_logged("LIMIT from [192.0.2.7]:4321 after CONNECT\n"), "logged");

	begin();
	ask("HELO c\r\nMA");
	clock_fake_advance(299999);
	ask("IL");
	screentalk_tick(r.t);
	is_int(screentalk_state(r.t), SCREENTALK_ON, "not yet");
	clock_fake_advance(1);
	ok(screentalk_next_ms(r.t) <= clock_now().ms, "time is over");
	screentalk_tick(r.t);
	is_str(said(), "421 4.4.2 mx.example.org Error: timeout exceeded\r\n", "for a command");
	ok(has_logged("postscreen: COMMAND TIME LIMIT from [192.0.2.7]:4321 after HELO\n"),
	   "logged");
	begin();
	r.stress = true;
	ask("NOOP\r\n");
	is_int(screentalk_next_ms(r.t) - clock_now().ms, 10000, "less under stress");
}

static void test_rest_of_line(void)
{
	begin();
	screentalk_input(r.t, "NOOP\0NOOP\r\n", 11);
	is_str(said(), "250 2.0.0 Ok\r\n", "up to a NUL");
	is_str(ask(" \t NOOP\r\n"), "502 5.5.2 Error: command not recognized\r\n",
	       "blanks part words");
	is_str(ask("  NOOP\r\r\n"), "502 5.5.2 Error: command not recognized\r\n", "a CR in it");
}

/* ---- parameters ---- */

static void reopen(void (*change)(struct screentalk_conf *k))
{
	talk_fini(&r);
	is_int(talk_init(&r, conf, change), 0, "parameters");
}

static void with_texts(struct screentalk_conf *k)
{
	k->command_filter = "regexp:{{/^HELP/ NOOP}}";
	k->discard_ehlo_keywords = "chunking, silent-discard nonsense";
	k->discard_ehlo_keyword_address_maps = "inline:{{192.0.2.7 = DSN, etrn}}";
	k->reject_footer = "\\c. See $server_name\\nfor [$client_address]:$client_port $helo_name";
	k->reject_footer_maps = "inline:{{501 Syntax: HELO hostname = only this}}";
	k->disable_vrfy = k->helo_required = true;
	k->soft_bounce = true;
	k->smtputf8 = false;
	k->message_size_limit = 0;
}

static void test_texts(void)
{
	reopen(with_texts);
	begin();
	is_str(ask("HELP\r\n"), "250 2.0.0 Ok\r\n", "command filter");
	is_str(buf_cstr(&r.log),
	       "postscreen: [192.0.2.7]:4321: replacing command \"HELP\" with \"NOOP\"\n",
	       "logged");
	is_str(ask("MAIL FROM:<>\r\n"),
	       "403-4.5.1 Error: send HELO/EHLO first. See mx.example.org\r\n"
	       "403 4.5.1 for [192.0.2.7]:4321 \r\n",
	       "postscreen_helo_required, footer, soft_bounce");
	ok(has_logged(
		   "postscreen: warning: unknown macro name \"helo_name\" in expansion request\n"),
	   "names of other servers' footers");
	is_str(ask("HELO\r\n"), "401-Syntax: HELO hostname\r\n401 only this\r\n", "footer maps");
	is_str(ask("EHLO c\r\n"),
	       "250-mx.example.org\r\n250-SIZE\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n"
	       "250 CHUNKING\r\n",
	       "keywords of the client's address");
	ok(has_logged("postscreen: [192.0.2.7]4321: discarding EHLO keywords: ETRN DSN\n"),
	   "are logged: %s", buf_cstr(&r.log));
	ok(strncmp(ask("VRFY joe\r\n"), "402-4.5.1 VRFY command is disabled", 34) == 0, "VRFY");
	ask("MAIL FROM:<>\r\n");
	r.client.addr = "192.0.2.8";
	ok(strncmp(ask("BDAT\r\n"), "401-4.5.4 Syntax: BDAT", 22) == 0, "BDAT is offered");

	talk_begin(&r);
	r.client.addr = "192.0.2.8";
	r.client.rcpt_reply = "550 5.7.1 Go away";
	begin_mail();
	ok(strncmp(ask("RCPT TO:<b@x.test>\r\n"), "450-4.7.1 Go away. See", 22) == 0, "softened");
	ok(has_logged("[192.0.2.8]:4321: 450 4.7.1 Go away; from"), "as it is logged");
	ok(strncmp(ask("BDAT 1\r\n"), "402-4.5.1 Error: command not implemented", 40) == 0,
	   "BDAT is not offered");
	begin();
	is_str(ask("X: \xff\r\n") + 3,
	       "-4.7.0 Error: I can break rules, too. Goodbye.."
	       " See mx.example.org\r\n421 4.7.0 for "
	       "[192.0.2.7]:4321 \r\n",
	       "dropped");
}

static void with_broken_table(struct screentalk_conf *k)
{
	k->command_filter = "hash:/nonexistent/table";
}

static void with_broken_maps(struct screentalk_conf *k)
{
	k->discard_ehlo_keyword_address_maps = "hash:/nonexistent/table";
}

static void with_remote_table(struct screentalk_conf *k)
{
	k->command_filter = "socketmap:inet:127.0.0.1:1:x";
}

static void test_tables(void)
{
	reopen(with_broken_table);
	begin();
	is_str(ask("NOOP\r\n"), "421 mx.example.org Service unavailable - try again later\r\n",
	       "a table that cannot be asked");
	ok(has_logged("warning: postscreen_command_filter lookup error for \"NOOP\"\n"), "logged");
	reopen(with_broken_maps);
	begin();
	is_str(ask("EHLO c\r\n"), "421 mx.example.org Service unavailable - try again later\r\n",
	       "maps that cannot be asked");
	talk_fini(&r);
	is_int(talk_init(&r, conf, with_remote_table), E_CONFIG, "remote tables are refused");
	reopen(NULL);
}

/* ---- TLS ---- */

static struct listener_tls *server_tls(bool enforce)
{
	struct listener_tls *l = xcalloc(1, sizeof(*l));
	struct buf pem = BUF_INIT, why = BUF_INIT;
	struct tls_setup setup = { .is_server = true, .versions = TLS_ALL_VERSIONS };

	buf_add_str(&pem, tls_rig_leaf_key);
	buf_add_str(&pem, tls_rig_leaf_crt);
	is_int(tls_keys_parse(buf_sv(&pem), &l->keys, &why), 0, "keys");
	setup.keys = l->keys;
	setup.suites = "ECDHE-ECDSA-AES128-GCM-SHA256";
	is_int(tls_ctx_new(&setup, &l->ctx, &why), 0, "context");
	l->enforce = enforce;
	l->digest = "sha256";
	l->max_depth = 9;
	l->purpose = TLS_FOR_CLIENT;
	l->log = TLS_LOG_SUMMARY | TLS_LOG_VERBOSE;
	buf_fini(&pem);
	buf_fini(&why);
	return l;
}

static void to_server(struct tls *c)
{
	struct buf *b = tls_out(c);

	screentalk_input(r.t, b->p, b->len);
	buf_consume(b, b->len);
	b = screentalk_out(r.t);
	if (b->len > 0)
		tls_feed(c, b->p, b->len);
	buf_consume(b, b->len);
}

static const char *ask_tls(struct tls *c, const char *line)
{
	static char text[4096];
	int n;

	tls_write(c, line, strlen(line));
	to_server(c);
	n = tls_read(c, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* A client with a certificate, or without (cert NULL), for a listener that asks for one. */
static void meet(const char *cert, bool required)
{
	struct tls_setup setup = { .versions = TLS_1_3, .suites = "ECDHE-ECDSA-AES128-GCM-SHA256" };
	struct buf why = BUF_INIT, pem = BUF_INIT;
	struct listener_tls *l = server_tls(true);
	struct tls_keys *keys = NULL;
	struct tls_setup server = { .is_server = true,
				    .versions = TLS_ALL_VERSIONS,
				    .suites = setup.suites,
				    .keys = l->keys,
				    .ask_peer = true };
	struct tls_ctx *ctx;

	tls_ctx_free(&l->ctx);
	l->ask_cert = true;
	l->require_cert = required;
	is_int(tls_ctx_new(&server, &l->ctx, &why), 0, "context");
	is_int(tls_trust_add(&l->trust, sv_from(tls_rig_ca_crt)), 0, "authority");
	screentalk_free(&r.t);
	listener_tls_free(&r.k.tls);
	r.k.tls = l;
	if (cert != NULL) {
		buf_add_str(&pem, tls_rig_client_key);
		buf_add_str(&pem, cert);
		buf_add_str(&pem, tls_rig_inter_crt);
		is_int(tls_keys_parse(buf_sv(&pem), &keys, &why), 0, "keys: %s", buf_cstr(&why));
	}
	setup.keys = keys;
	is_int(tls_ctx_new(&setup, &ctx, &why), 0, "client");
	struct tls *c = tls_new(ctx);

	begin();
	ask("STARTTLS\r\n");
	for (int i = 0; i < 5; i++) {
		(void)!tls_handshake(c);
		to_server(c);
	}
	tls_free(&c);
	tls_ctx_free(&ctx);
	tls_keys_free(&keys);
	buf_fini(&pem);
	buf_fini(&why);
}

static void test_client_certs(void)
{
	meet(tls_rig_client_crt, true);
	is_int(screentalk_state(r.t), SCREENTALK_ON, "a client that has a certificate");
	ok(has_logged("tlsproxy: [192.0.2.7]:4321: subject_CN=client.example.test, issuer=Test "
		      "Intermediate, fingerprint="),
	   "is described");
	ok(has_logged("tlsproxy: Trusted TLS connection established from [192.0.2.7]:4321: "),
	   "and trusted: %s", buf_cstr(&r.log));
	meet(NULL, true);
	is_int(screentalk_state(r.t), SCREENTALK_HANGUP, "one that has none");
	ok(has_logged("tlsproxy: TLS handshake failed for service=smtp peer=[192.0.2.7]:4321\n"),
	   "logged");
	meet(NULL, false);
	is_int(screentalk_state(r.t), SCREENTALK_ON, "but where none is needed");
	screentalk_free(&r.t);
}

static void test_tls(void)
{
	struct tls_setup setup = { .versions = TLS_1_3, .suites = "ECDHE-ECDSA-AES128-GCM-SHA256" };
	struct buf why = BUF_INIT;
	struct tls_ctx *ctx;
	struct tls *c;

	r.k.tls = server_tls(true);
	set_actions(SCREEN_ENFORCE);
	begin();
	ok(strstr(ask("EHLO c.test\r\n"), "\r\n250-STARTTLS\r\n") != NULL, "STARTTLS is on offer");
	is_str(ask("MAIL FROM:<a@x.test>\r\n"), "530 5.7.0 Must issue a STARTTLS command first\r\n",
	       "and needed");
	is_str(ask("STARTTLS\r\nMAIL FROM:<evil@x.test>\r\n"), "220 2.0.0 Ready to start TLS\r\n",
	       "what is behind it is thrown away");
	ok((r.tests.failed & SCREEN_BIT(SCREEN_PIPELINING)) != 0, "and pipelining");
	is_int(screentalk_next_ms(r.t) - clock_now().ms, 100000, "postscreen_starttls_timeout");
	is_int(tls_ctx_new(&setup, &ctx, &why), 0, "client");
	c = tls_new(ctx);
	for (int i = 0; i < 5 && tls_handshake(c) == E_AGAIN; i++)
		to_server(c);
	is_int(tls_handshake(c), 0, "handshake: %s", tls_error(c));
	to_server(c);
	ok(has_logged("tlsproxy: CONNECT from [192.0.2.7]:4321\n"), "tlsproxy's lines");
	ok(has_logged(
		   "tlsproxy: Anonymous TLS connection established from [192.0.2.7]:4321: TLSv1.3 "
		   "with cipher TLS_"),
	   "summary: %s", buf_cstr(&r.log));
	is_int(screentalk_next_ms(r.t) - clock_now().ms, 300000, "the time for commands again");
	is_str(ask_tls(c, "RCPT TO:<b@x.test>\r\n"), "503 5.5.1 Error: need MAIL command\r\n",
	       "nothing was kept");
	ok(strstr(ask_tls(c, "EHLO c.test\r\n"), "STARTTLS") == NULL, "TLS once");
	is_str(ask_tls(c, "STARTTLS\r\n"), "554 5.5.1 Error: TLS already active\r\n", "said");
	is_str(ask_tls(c, "MAIL FROM:<a@x.test>\r\n"), "250 2.1.0 Ok\r\n", "MAIL");
	is_str(ask_tls(c, "RCPT TO:<b@x.test>\r\n"), "550 5.5.1 Protocol error\r\n", "RCPT");
	is_str(ask_tls(c, "QUIT\r\n"), "221 2.0.0 Bye\r\n", "QUIT");
	is_int(screentalk_state(r.t), SCREENTALK_BYE, "over");
	screentalk_free(&r.t);
	ok(has_logged("tlsproxy: DISCONNECT [192.0.2.7]:4321\n"), "tlsproxy's last line");
	tls_free(&c);

	begin();
	ask("STARTTLS\r\n");
	ask("GET / HTTP/1.1\r\n\r\n");
	is_int(screentalk_state(r.t), SCREENTALK_HANGUP, "no TLS");
	ok(has_logged("tlsproxy: TLS handshake failed for service=smtp peer=[192.0.2.7]:4321\n"),
	   "logged: %s", buf_cstr(&r.log));
	begin();
	ask("STARTTLS\r\n");
	clock_fake_advance(100000);
	screentalk_tick(r.t);
	is_int(screentalk_state(r.t), SCREENTALK_HANGUP, "a handshake that does not come");
	screentalk_free(&r.t);
	tls_ctx_free(&ctx);
	buf_fini(&why);
}

int main(void)
{
	conf = test_conf("");
	if (conf == NULL)
		return 1;
	is_int(talk_init(&r, conf, NULL), 0, "parameters: %s", buf_cstr(&r.log));
	test_commands();
	test_good_client();
	test_addresses();
	test_pipelining();
	test_non_smtp();
	test_bare_newline();
	test_gate();
	test_ends();
	test_limits();
	test_rest_of_line();
	test_texts();
	test_tables();
	test_tls();
	test_client_certs();
	talk_fini(&r);
	conf_free(&conf);
	return tap_done();
}
