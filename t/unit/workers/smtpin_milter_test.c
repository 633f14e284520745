/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Milters of a session: which events go out, what replies do, and what a session does whose milters
 * are gone. The milters themselves are in another process. */
#include "t/unit/tap.h"
#include "t/unit/workers/smtpin_fake.h"

static struct fake f;

static void begin(const char *answer)
{
	if (f.conf != NULL)
		fake_fini(&f);
	f = (struct fake){ .room_bytes = 4096, .room_left = SIZE_MAX };
	fake_conf(&f,
		  "smtpd_milters = inet:127.0.0.1:1\nsmtpd_recipient_restrictions = "
		  "check_recipient_access inline:{ bad@local.test=REJECT }, "
		  "reject_unauth_destination\n",
		  NULL);
	f.milter_answer = answer;
	fake_connect(&f, "192.0.2.1");
}

static const char *events(void)
{
	static char text[4096];

	snprintf(text, sizeof(text), "%s", buf_cstr(&f.events));
	buf_reset(&f.events);
	return text;
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static void test_events(void)
{
	begin(NULL);
	ok(starts(fake_take(&f), "220 "), "a greeting, when they have answered");
	ok(starts(events(), "C192.0.2.1|4321|client.test|client.test|OK|0|"), "connect event");
	fake_say(&f, "EHLO c.test\r\n");
	is_str(events(), "Hc.test|\n", "HELO event");
	fake_say(&f, "MAIL FROM:<s@x.test> SIZE=10 BODY=8BITMIME\r\n");
	is_str(events(), "M|s@x.test||||<s@x.test>|SIZE=10|BODY=8BITMIME|\n", "MAIL event");
	fake_say(&f, "RCPT TO:<u@local.test>\r\n");
	is_str(events(), "R|u@local.test||<u@local.test>|\n", "RCPT event");
	fake_say(&f, "RCPT TO:<bad@local.test>\r\n");
	is_str(events(), "", "nothing of a recipient that is refused");
	fake_say(&f, "WHAT is it\r\n");
	is_str(events(), "UWHAT is it|\n", "unknown command");
	fake_say(&f, "DATA\r\n");
	ok(starts(events(), "T"), "DATA event");
	ok(starts(fake_say(&f, "a: b\r\n\r\n.\r\n"), "250 "), "a message");
	is_str(events(), "A\n", "the transaction is over");
	fake_say(&f, "HELO c.test\r\n");
	is_str(events(), "Hc.test|\nA\n", "HELO again");
	fake_close(&f);
	is_str(events(), "A\nQ\n", "the end");
}

static void test_rejected(void)
{
	begin(NULL);
	f.milter_flags = MILTER_REPLY_REJECTED;
	fake_say(&f, "EHLO c.test\r\n");
	fake_say(&f, "MAIL FROM:<s@x.test>\r\n");
	events();
	f.milter_answer = "250 no matter";
	ok(starts(fake_say(&f, "RCPT TO:<bad@local.test>\r\n"), "554 5.7.1 <bad@local.test>"),
	   "a refused recipient is refused, whatever they say");
	ok(strstr(events(), "bad@local.test|554 5.7.1 <bad@local.test>: ") != NULL,
	   "and they are told");
}

static void test_replies(void)
{
	begin("550 5.7.1 no");
	ok(starts(fake_take(&f), "554 "), "5xx at connect");
	begin("421 4.7.0 later");
	ok(starts(fake_take(&f), "421 ") && session_is_over(&f.s), "421 at connect");
	begin(NULL);
	fake_take(&f);
	f.milter_answer = "550 5.7.1 no";
	ok(strstr(fake_say(&f, "EHLO c.test\r\n"), "250 ") != NULL, "HELO is not refused");
	ok(starts(fake_say(&f, "MAIL FROM:<s@x.test>\r\n"), "550 5.7.1 no\r\n"), "MAIL is");
	ok(f.s.tx == NULL, "no transaction");
	f.milter_answer = "550-5.7.1 a\r\n550 5.7.1 b";
	is_str(fake_say(&f, "MAIL FROM:<s@x.test>\r\n"), "550-5.7.1 a\r\n550 5.7.1 b\r\n",
	       "a reply of two lines");
	f.milter_answer = "HELD";
	ok(starts(fake_say(&f, "MAIL FROM:<s@x.test>\r\n"), "250 "), "held");
	ok(f.s.milter.hold, "the message is");
	f.milter_answer = "D";
	ok(starts(fake_say(&f, "RCPT TO:<u@local.test>\r\n"), "250 "), "discarded");
	events();
	fake_say(&f, "DATA\r\n");
	is_str(events(), "", "no more events of it");
	ok(starts(fake_say(&f, "a: b\r\n.\r\n"), "250 "), "and taken");
	ok(!f.s.milter.hold && !f.s.milter.discard, "the next message is another one");
	f.milter_answer = "S";
	ok(starts(fake_say(&f, "MAIL FROM:<s@x.test>\r\n"), "421 4.7.0 ") && session_is_over(&f.s),
	   "shutdown");
}

static void test_lost(void)
{
	begin(NULL);
	fake_say(&f, "EHLO c.test\r\n");
	f.milter_hangs = true;
	is_str(fake_say(&f, "MAIL FROM:<s@x.test>\r\n"), "", "a session waits");
	session_milter_lost(&f.s);
	fake_settle(&f);
	ok(starts(fake_take(&f), "421 4.3.0 ") && session_is_over(&f.s), "its milters are lost");
	begin(NULL);
	fake_say(&f, "EHLO c.test\r\n");
	session_milter_lost(&f.s);
	ok(starts(fake_say(&f, "MAIL FROM:<s@x.test>\r\n"), "421 4.3.0 "),
	   "lost between commands: the next one ends the session");
	begin(NULL);
	f.milter_gone = true;
	ok(strstr(fake_say(&f, "EHLO c.test\r\n"), "421 4.3.0 ") != NULL, "nobody to ask");
}

static void test_none(void)
{
	begin(NULL);
	fake_close(&f);
	events();
	f.milter_flags = MILTER_REPLY_NONE;
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c.test\r\n");
	fake_say(&f, "MAIL FROM:<s@x.test>\r\nRSET\r\n");
	ok(starts(events(), "C") && f.s.milter.number == 0, "no milters for this client");
	fake_fini(&f);
}

int main(void)
{
	clock_init();
	clock_tick();
	test_events();
	test_rejected();
	test_replies();
	test_lost();
	test_none();
	return tap_done();
}
