/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Before-queue content filters: what they are told, whose words the client hears, and that nothing
 * is acknowledged which the filter has not acknowledged. */
#include "t/unit/tap.h"
#include "t/unit/workers/smtpin_fake.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/connector.h"

#define BROKEN "451 4.3.0 Error: queue file write error\r\n"

static struct fake f;

static void begin(const char *more)
{
	char text[512];

	if (f.conf != NULL)
		fake_fini(&f);
	snprintf(text, sizeof(text),
		 "smtpd_proxy_filter = filter.test:25\nsmtpd_recipient_restrictions = "
		 "check_recipient_access inline:{ bad@local.test=REJECT, hold@local.test=HOLD }, "
		 "reject_unauth_destination\n%s",
		 more);
	fake_conf(&f, text, NULL);
	fake_connect(&f, "192.0.2.1");
	fake_take(&f);
	fake_say(&f, "EHLO c.test\r\n");
	buf_reset(&f.log);
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool told(const char *text)
{
	return strstr(buf_cstr(&f.filter_got), text) != NULL;
}

static bool logged(const char *text)
{
	return strstr(buf_cstr(&f.log), text) != NULL;
}

static void send_one(void)
{
	fake_say(&f, "MAIL FROM:<s@x.test> SIZE=10\r\n");
	fake_say(&f, "RCPT TO:<u@local.test> NOTIFY=NEVER\r\n");
	fake_say(&f, "DATA\r\n");
}

static void test_login(void)
{
	begin("");
	session_auth_extern(&f.s, "joe");
	send_one();
	ok(logged("NOQUEUE: client=client.test[192.0.2.1], sasl_method=XCLIENT, sasl_username=joe"),
	   "who has logged in is in the log");
	fake_close(&f);
}

static void test_good(void)
{
	begin("");
	is_str(fake_say(&f, "MAIL FROM:<s@x.test> SIZE=10\r\n"), "250 2.1.0 Ok\r\n", "MAIL");
	ok(f.filter_opened == 0, "nobody is connected to before there is a recipient");
	ok(starts(fake_say(&f, "RCPT TO:<bad@local.test>\r\n"), "554 "), "a refused recipient");
	ok(f.filter_opened == 0, "is none");
	is_str(fake_say(&f, "RCPT TO:<u@local.test> NOTIFY=NEVER\r\n"), "250 2.1.5 Ok\r\n", "RCPT");
	ok(told("EHLO mx.test\r\nXFORWARD NAME=client.test ADDR=192.0.2.1 PORT=4321 HELO=c.test "
		"PROTO=ESMTP SOURCE=REMOTE\r\n"),
	   "who the client is");
	ok(told("MAIL FROM:<s@x.test> SIZE=10\r\nRCPT TO:<u@local.test> NOTIFY=NEVER\r\n"),
	   "the commands as they came");
	ok(logged("NOQUEUE: client=client.test[192.0.2.1]"), "where it comes from");
	is_str(fake_say(&f, "DATA\r\n"), "354 End data with <CR><LF>.<CR><LF>\r\n", "DATA");
	f.filter_answers[f.filter_at] = "250-2.0.0 Ok\r\n250 2.0.0 queued as F1\r\n";
	is_str(fake_say(&f, "a: b\r\n\r\n..dot\r\n.\r\n"),
	       "250-2.0.0 Ok\r\n250 2.0.0 queued as F1\r\n", "the filter's words");
	ok(told("DATA\r\nReceived: from c.test (client.test [192.0.2.1])\r\n") &&
		   told("\r\na: b\r\n\r\n..dot\r\n.\r\n"),
	   "content with our mark");
	ok(logged("proxy-accept: END-OF-MESSAGE: 250-2.0.0 Ok"), "logged");
	ok(logged("from=<s@x.test> to=<u@local.test> proto=ESMTP helo=<c.test>"), "for whom");
	ok(f.begun == 0 && f.filter_closed == 1 && f.filter_quit, "nothing was queued; QUIT");
	send_one();
	ok(f.filter_opened == 2, "a connection for each transaction");
	fake_close(&f);
	ok(f.filter_closed == 2 && !f.filter_quit, "no QUIT amidst the content");
}

static void test_refusals(void)
{
	begin("");
	fake_say(&f, "MAIL FROM:<s@x.test>\r\n");
	f.filter_answers[0] = "REFUSED";
	is_str(fake_say(&f, "RCPT TO:<u@local.test>\r\n"), BROKEN, "not reached");
	ok(logged("warning: connect to proxy filter filter.test:25: Connection refused"), "why");
	f.filter_answers[1] = "554 go away\r\n";
	is_str(fake_say(&f, "RCPT TO:<u@local.test>\r\n"), BROKEN, "a bad greeting");
	ok(logged("warning: proxy filter.test:25 rejected \"connection request\": \"554 go away\""),
	   "what it was");
	f.filter_answers[f.filter_at + 3] = "552 5.2.2 sender\r\n";
	is_str(fake_say(&f, "RCPT TO:<u@local.test>\r\n"), "552 5.2.2 sender\r\n", "MAIL refused");
	buf_reset(&f.filter_got);
	f.filter_at = 0;
	memset(f.filter_answers, 0, sizeof(f.filter_answers));
	f.filter_answers[4] = "550 5.1.1 not here\r\n";
	is_str(fake_say(&f, "RCPT TO:<u@local.test>\r\n"), "550 5.1.1 not here\r\n",
	       "RCPT refused");
	is_str(fake_say(&f, "DATA\r\n"), "554 5.5.1 Error: no valid recipients\r\n", "no DATA");
	is_str(fake_say(&f, "RCPT TO:<v@local.test>\r\n"), "250 2.1.5 Ok\r\n", "the next one");
	f.filter_answers[f.filter_at] = "250 2.0.0 what?\r\n";
	is_str(fake_say(&f, "DATA\r\n"), BROKEN, "a good reply in the wrong place");
	f.filter_answers[f.filter_at] = "451 later\r\n";
	is_str(fake_say(&f, "DATA\r\n"), "451 later\r\n", "DATA refused");
	is_str(fake_say(&f, "DATA\r\n"), "354 End data with <CR><LF>.<CR><LF>\r\n", "tried again");
	f.filter_answers[f.filter_at] = "550 5.7.1 spam\r\n";
	is_str(fake_say(&f, "a: b\r\n\r\n.\r\n"), "550 5.7.1 spam\r\n", "content refused");
	ok(logged("proxy-reject: END-OF-MESSAGE: 550 5.7.1 spam;"), "logged");
}

static void test_lost(void)
{
	begin("");
	fake_say(&f, "MAIL FROM:<s@x.test>\r\n");
	fake_say(&f, "RCPT TO:<u@local.test>\r\n");
	f.filter_answers[f.filter_at] = "EOF";
	is_str(fake_say(&f, "RCPT TO:<v@local.test>\r\n"), BROKEN, "lost at a recipient");
	ok(logged("warning: lost connection with proxy filter.test:25"), "logged");
	is_str(fake_say(&f, "RCPT TO:<w@local.test>\r\n"), BROKEN, "no new one: it has recipients");
	is_str(fake_say(&f, "DATA\r\n"), BROKEN, "nor content");
	ok(f.filter_opened == 1, "connected to once");
	fake_say(&f, "RSET\r\n");
	send_one();
	session_filter_lost(&f.s, "lost connection with proxy", "");
	is_str(fake_say(&f, "a: b\r\n\r\n.\r\n"), BROKEN, "lost amidst the content");
	send_one();
	f.filter_answers[f.filter_at] = "EOF";
	is_str(fake_say(&f, "a: b\r\n\r\n.\r\n"), BROKEN, "lost behind the dot");
	send_one();
	f.filter_answers[f.filter_at] = "hello\r\n";
	is_str(fake_say(&f, "a: b\r\n\r\n.\r\n"), BROKEN, "an answer that is none");
	ok(logged("warning: received garbage from proxy filter.test:25: hello"), "logged");
}

static void test_ahead(void)
{
	begin("");
	fake_say(&f, "MAIL FROM:<s@x.test>\r\n");
	fake_say(&f, "RCPT TO:<u@local.test>\r\n");
	f.filter_answers[f.filter_at] = "354 go\r\n250 2.0.0 queued already\r\n";
	fake_say(&f, "DATA\r\n");
	is_str(fake_say(&f, "a: b\r\n\r\n.\r\n"), BROKEN, "a 250 in the same breath as the 354");
	send_one();
	f.filter_spoke = true;
	is_str(fake_say(&f, "a: b\r\n\r\n.\r\n"), BROKEN, "a 250 before the dot has gone");
	send_one();
	f.filter_answers[f.filter_at] = "552 5.3.4 enough\r\n";
	is_str(fake_say(&f, "a: b\r\n\r\n.\r\n"), "552 5.3.4 enough\r\n", "a refusal may be early");
}

static void say_much(size_t lines)
{
	static char line[1002];

	memset(line, 'x', 998);
	memcpy(line + 998, "\r\n", 3);
	for (size_t i = 0; i < lines; i++)
		session_input(&f.s, line, 1000);
	fake_settle(&f);
}

static void test_slow(void)
{
	begin("message_size_limit = 0\n");
	send_one();
	f.filter_window = 0;
	say_much(200);
	ok(f.s.wait == WAIT_ROOM && !session_wants_input(&f.s), "a filter that does not read");
	f.filter_window = 150000;
	fake_settle(&f);
	ok(f.s.wait == WAIT_ROOM, "reads a part");
	session_filter_lost(&f.s, "timeout talking to proxy", "");
	ok(f.s.wait == WAIT_NONE, "the rest is taken and dropped");
	is_str(fake_say(&f, ".\r\n"), BROKEN, "and refused");
	f.filter_window = SIZE_MAX;
	buf_reset(&f.filter_got);
	send_one();
	say_much(3000);
	ok(starts(fake_say(&f, ".\r\n"), "250 2.0.0 Ok: filtered"), "a big message");
	ok(f.filter_got.len > 3000000, "whole");
}

static void test_limits(void)
{
	begin("message_size_limit = 10000\n");
	send_one();
	say_much(20);
	is_str(fake_say(&f, ".\r\n"), "552 5.3.4 Error: message file too big\r\n", "too big");
	ok(!told("\r\n.\r\n"), "the filter never sees the dot");
	ok(logged("proxy-reject: END-OF-MESSAGE: 354 go on;"), "logged");
	fake_say(&f, "MAIL FROM:<s@x.test>\r\n");
	fake_say(&f, "RCPT TO:<hold@local.test>\r\n");
	ok(logged("with smtpd_proxy_filter specified, action HOLD is unavailable"), "HOLD");
}

static void test_chunks(void)
{
	begin("");
	fake_say(&f, "MAIL FROM:<s@x.test>\r\n");
	fake_say(&f, "RCPT TO:<u@local.test>\r\n");
	is_str(fake_say(&f, "BDAT 10\r\na: b\r\n\r\n.c"), "250 2.0.0 Ok: 10 bytes\r\n", "a chunk");
	ok(starts(fake_say(&f, "BDAT 0 LAST\r\n"), "250 2.0.0 Ok: filtered"), "the last");
	ok(told("\r\na: b\r\n\r\n..c\r\n.\r\n"), "as DATA");
	fake_say(&f, "MAIL FROM:<s@x.test>\r\n");
	fake_say(&f, "RCPT TO:<u@local.test>\r\n");
	f.filter_answers[f.filter_at] = "550 no content\r\n";
	is_str(fake_say(&f, "BDAT 4 LAST\r\nabcd"), "550 no content\r\n", "DATA refused");
}

static void test_adjust(void)
{
	begin("smtpd_proxy_options = speed_adjust\n");
	fake_say(&f, "MAIL FROM:<s@x.test>\r\n");
	is_str(fake_say(&f, "RCPT TO:<u@local.test>\r\n"), "250 2.1.5 Ok\r\n", "RCPT");
	is_str(fake_say(&f, "RCPT TO:<v@local.test>\r\n"), "250 2.1.5 Ok\r\n", "RCPT");
	ok(starts(fake_say(&f, "DATA\r\n"), "354 "), "DATA");
	ok(f.filter_opened == 0, "nobody has heard of it");
	ok(starts(fake_say(&f, "a: b\r\n\r\nc\r\n.\r\n"), "250 2.0.0 Ok: filtered"), "all at once");
	ok(told("MAIL FROM:<s@x.test>\r\nRCPT TO:<u@local.test>\r\nRCPT TO:<v@local.test>\r\n"
		"DATA\r\nReceived: ") &&
		   told("\r\na: b\r\n\r\nc\r\n.\r\n"),
	   "in order");
	send_one();
	f.filter_answers[f.filter_at + 4] = "550 5.1.1 not here\r\n";
	is_str(fake_say(&f, "a: b\r\n\r\n.\r\n"), "550 5.1.1 not here\r\n", "a late refusal");
	send_one();
	f.filter_answers[f.filter_at] = "REFUSED";
	is_str(fake_say(&f, "a: b\r\n\r\n.\r\n"), BROKEN, "not reached");
	send_one();
	f.filter_answers[f.filter_at] = "EOF";
	is_str(fake_say(&f, "a: b\r\n\r\n.\r\n"), BROKEN, "lost");
}

/* More than all sessions may hold: it goes out while it comes. */
static void test_adjust_much(void)
{
	begin("smtpd_proxy_options = speed_adjust\nmessage_size_limit = 0\n");
	send_one();
	say_much(FILTER_HELD_BYTES / 1000 + 3000);
	ok(f.filter_opened == 1 && f.s.wait == WAIT_NONE, "it is passed on");
	ok(starts(fake_say(&f, ".\r\n"), "250 2.0.0 Ok: filtered"), "and accepted");
	ok(f.filter_got.len > FILTER_HELD_BYTES + 2900000, "whole");
	send_one();
	fake_say(&f, "a: b\r\n");
	ok(f.filter_opened == 1, "what was held is given back");
}

static void test_addresses(void)
{
	char host[256], port[64];

	ok(connector_split("127.0.0.1:10025", host, port) == 0 && strcmp(host, "127.0.0.1") == 0 &&
		   strcmp(port, "10025") == 0,
	   "host:port");
	ok(connector_split("inet:[::1]:smtp", host, port) == 0 && strcmp(host, "::1") == 0 &&
		   strcmp(port, "smtp") == 0,
	   "[address]:port");
	ok(connector_split(":10025", host, port) == 0 && strcmp(host, "localhost") == 0, ":port");
	ok(connector_split("10025", host, port) == 0 && strcmp(port, "10025") == 0, "port");
	ok(connector_is_address("unix:private/filter"), "unix:");
	static const char *const bad[] = {
		"", "host:", "unix:", "[::1]", "[::1", "::1:25", "inet:"
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ok(!connector_is_address(bad[i]), "not an address: \"%s\"", bad[i]);
}

int main(void)
{
	test_good();
	test_login();
	test_refusals();
	test_lost();
	test_ahead();
	test_slow();
	test_limits();
	test_chunks();
	test_adjust();
	test_adjust_much();
	test_addresses();
	fake_fini(&f);
	return tap_done();
}
