/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Transcripts of sessions for the postmaster: which errors are told, to whom, and within bounds. */
#include "t/unit/tap.h"
#include "t/unit/workers/smtpin_fake.h"
#include "workers/smtp_in/sesstalk.h"

static struct fake f;

static void begin(const char *classes)
{
	char text[256];

	if (f.conf != NULL)
		fake_fini(&f);
	snprintf(text, sizeof(text),
		 "notify_classes = %s\nsmtpd_error_sleep_time = 0\nerror_notice_recipient = "
		 "e@x.test\n"
		 "bounce_notice_recipient = b@x.test\nsmtpd_hard_error_limit = 1000\n"
		 "smtpd_junk_command_limit = 10000\nmessage_size_limit = 1000\n",
		 classes);
	fake_conf(&f, text, NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "HELO c.test\r\n");
}

static bool told(const char *text)
{
	return strstr(buf_cstr(&f.notice), text) != NULL;
}

static void begin_message(void)
{
	fake_say(&f, "MAIL FROM:<a@x.test>\r\n");
	fake_say(&f, "RCPT TO:<a@local.test>\r\n");
	fake_say(&f, "DATA\r\n");
}

static void test_classes(void)
{
	ok(session_talk_classes("policy, protocol data") ==
		   (TROUBLE_POLICY | TROUBLE_PROTOCOL | TROUBLE_DATA),
	   "classes");
	ok(session_talk_classes("2bounce,delay nonsense") == 0, "none of sessions");
	static const struct {
		const char *reply;
		unsigned kind;
	} rows[] = {
		{ "250 2.0.0 Ok", 0 },
		{ "554 5.5.1 Error: no valid recipients", 0 },
		{ "554 5.7.1 <a>: Relay access denied", TROUBLE_POLICY },
		{ "504 5.5.2 <x>: Helo command rejected: need fully-qualified hostname",
		  TROUBLE_POLICY },
		{ "550 5.1.1 <a>: Recipient address rejected: User unknown in virtual mailbox "
		  "table",
		  TROUBLE_BOUNCE },
		{ "451 4.3.0 <a>: Temporary lookup failure", TROUBLE_SOFTWARE },
		{ "451 4.3.0 Error: queue file write error", TROUBLE_RESOURCE },
		{ "452 4.3.1 Insufficient system storage", TROUBLE_RESOURCE },
		{ "501 5.5.4 Syntax: DATA", TROUBLE_PROTOCOL },
		{ "221 2.7.0 Error: I can break rules, too. Goodbye.", TROUBLE_PROTOCOL },
		{ "421 4.7.0 mx Error: too many errors", TROUBLE_PROTOCOL },
		{ "", 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		is_int(session_talk_kind(rows[i].reply), rows[i].kind, "kind of \"%s\"",
		       rows[i].reply);
}

static void test_told(void)
{
	begin("protocol");
	ok(f.s.talk != NULL, "a transcript is kept");
	fake_say(&f, "WHAT \001\r\n");
	fake_say(&f, "QUIT\r\n");
	fake_close(&f);
	is_int(f.notices, 1, "an error of the protocol");
	is_str(f.notice_to, "e@x.test", "for whom");
	ok(told(" SMTP server: errors from client.test[192.0.2.1]\r\n"), "of whom");
	ok(told("\r\n In:  HELO c.test\r\n Out: 250 mx.test\r\n In:  WHAT ?\r\n Out: 500 5.5.2 "),
	   "the transcript");
	begin("protocol");
	fake_say(&f, "WHAT\r\n");
	fake_say(&f, "auth PLAIN c2VjcmV0\r\n");
	fake_close(&f);
	ok(told("\r\n In:  AUTH ***\r\n") && !told("c2VjcmV0"), "no passwords");
	begin("policy");
	fake_say(&f, "WHAT\r\n");
	fake_close(&f);
	is_int(f.notices, 0, "not of this kind");
	begin("policy");
	fake_say(&f, "MAIL FROM:<a@x.test>\r\n");
	fake_say(&f, "RCPT TO:<a@else.test>\r\n");
	session_broken(&f.s);
	fake_close(&f);
	ok(f.notices == 1 && told("Session aborted, reason: lost connection\r\n"),
	   "and why it ended");
	begin("policy, protocol");
	fake_say(&f, "WHAT\r\n");
	begin_message();
	fake_say(&f, "a: b\r\n\r\n.\r\n");
	fake_close(&f);
	is_int(f.notices, 0, "forgiven by a message that was accepted");
	begin("bounce");
	begin_message();
	for (int i = 0; i < 40; i++)
		fake_say(&f, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n");
	fake_say(&f, ".\r\n");
	fake_close(&f);
	ok(f.notices == 1 && strcmp(f.notice_to, "b@x.test") == 0, "a message too big");
}

static void test_cost(void)
{
	begin("resource, software");
	ok(f.s.talk == NULL, "nothing is kept by default");
	fake_say(&f, "WHAT\r\n");
	ok(f.s.talk == NULL, "nor for errors of another kind");
	f.accept_error = E_NOSPC;
	fake_say(&f, "MAIL FROM:<a@x.test>\r\n");
	fake_close(&f);
	ok(f.notices == 1 && told(" Out: 452 4.3.1 Insufficient system storage\r\n"),
	   "until there is one");
	begin("protocol");
	for (int i = 0; i < 900; i++)
		fake_say(&f,
			 "WHAT "
			 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n");
	fake_close(&f);
	ok(f.notices == 1 && f.notice.len < 20000 && told("\r\n ...\r\n"), "a long one is cut");
	for (const char *p = buf_cstr(&f.notice), *nl; (nl = strchr(p, '\n')) != NULL; p = nl + 1)
		ASSERT(nl - p < 100 && nl > p && nl[-1] == '\r');
	begin("");
	ok(f.s.talk == NULL, "nobody wants to hear");
}

int main(void)
{
	test_classes();
	test_told();
	test_cost();
	fake_fini(&f);
	return tap_done();
}
