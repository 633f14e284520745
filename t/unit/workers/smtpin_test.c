/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SMTP dialogues as a client sees them: one step is what is sent and what must come back. */
#include "t/unit/tap.h"
#include "t/unit/workers/smtpin_fake.h"

struct step {
	const char *say;
	const char *hear;
};

static void play(const char *title, const char *main_cf, const char *addr, const struct step *steps)
{
	struct fake f;

	fake_conf(&f, main_cf, NULL);
	fake_connect(&f, addr);
	is_str(fake_take(&f), "220 mx.test ESMTP Posthaste\r\n", "%s: greeting", title);
	for (unsigned i = 0; steps[i].say != NULL; i++)
		is_str(fake_say(&f, steps[i].say), steps[i].hear, "%s: step %u", title, i + 1);
	fake_fini(&f);
}

#define QUEUED "250 2.0.0 Ok: queued as "

static void test_plain(void)
{
	static const struct step steps[] = {
		{ "EHLO c.test\r\n",
		  "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n"
		  "250-VRFY\r\n250-ETRN\r\n250-ENHANCEDSTATUSCODES\r\n"
		  "250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n" },
		{ "MAIL FROM:<a@x.test>\r\n", "250 2.1.0 Ok\r\n" },
		{ "RCPT TO:<u@local.test>\r\n", "250 2.1.5 Ok\r\n" },
		{ "DATA\r\n", "354 End data with <CR><LF>.<CR><LF>\r\n" },
		{ "Subject: x\r\n\r\nhello\r\n.\r\n", QUEUED "0000000001z7\r\n" },
		{ "QUIT\r\n", "221 2.0.0 Bye\r\n" },
		{ NULL, NULL },
	};

	play("plain", "", "192.0.2.1", steps);
}

int main(void)
{
	clock_fake_set(1000000);
	test_plain();
	return tap_done();
}
