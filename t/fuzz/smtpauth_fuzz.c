/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The dialogue of AUTH: the first bytes say what the auth worker answers, when it is late and when
 * it dies, and how the client's stream is cut; the rest is what the client sends. Nobody is logged
 * in whom the worker did not name, memory stays bounded, replies are lines that begin with a code.
 */
#include "t/unit/workers/smtpin_fake.h"

#define MEMORY_LIMIT 300000u

static struct fake f;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_replies(void)
{
	const char *p = buf_cstr(&f.reply);

	while (*p != '\0') {
		const char *end = strstr(p, "\r\n");

		ASSERT(end != NULL && end - p >= 4);
		ASSERT(p[0] >= '2' && p[0] <= '5' && ascii_is_digit(p[1]) && ascii_is_digit(p[2]));
		p = end + 2;
	}
	buf_reset(&f.reply);
}

static void begin(void)
{
	if (f.conf == NULL) {
		fake_conf(&f,
			  "smtpd_sasl_auth_enable = yes\nsmtpd_sasl_authenticated_header = yes\n"
			  "smtpd_authorized_xclient_hosts = 192.0.2.1\n"
			  "smtpd_sender_restrictions = reject_sender_login_mismatch\n",
			  NULL);
		f.listener.sasl = true;
	}
	f.auth_waits = f.auth_hangs = f.auth_gone = false;
	f.offer = "PLAIN LOGIN";
	fake_connect(&f, "192.0.2.1");
	fake_take(&f);
}

/* What the worker says now, by a byte of the input. */
static void choose(uint8_t byte)
{
	static const char *const texts[] = { "", "eA==", "a b", "\r\n250 x" };

	f.auth_status = (enum auth_status)(byte % AUTH_OFFER);
	f.auth_text = texts[byte >> 2 & 3];
	f.auth_user = (byte & 16) != 0 ? "jo\re@test" : NULL;
	f.auth_lines = (byte & 32) != 0 ? "a\nb" : NULL;
	f.auth_hangs = (byte & 64) != 0;
	f.offer = byte == 255 ? NULL : "PLAIN LOGIN";
}

static void late(uint8_t byte)
{
	if (f.s.wait != WAIT_AUTH)
		return;
	f.auth_waits = false;
	if (f.s.auth->dialogue == 0) {
		session_auth_offered(&f.s);
	} else if ((byte & 1) != 0) {
		session_auth_lost(&f.s);
	} else {
		f.s.sleep_until_ms = 0;
		session_tick(&f.s);
	}
	fake_settle(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 2;

	if (size < 4)
		return 0;
	begin();
	for (unsigned turn = 0; at < size && f.s.state != SESSION_CLOSING; turn++) {
		size_t n = size_min(size - at, 1 + data[1] % 97u);

		choose((uint8_t)(data[0] + turn * data[1]));
		f.auth_gone = data[0] == 7 && turn > 3;
		session_input(&f.s, (const char *)data + at, n);
		fake_settle(&f);
		late(data[at]);
		check_replies();
		ASSERT(session_memory(&f.s) < MEMORY_LIMIT);
		ASSERT(!session_auth_is_in(&f.s) ||
		       (f.s.auth->method != NULL && strpbrk(f.s.auth->user, "\r\n") == NULL));
		at += n;
	}
	session_eof(&f.s);
	fake_settle(&f);
	check_replies();
	fake_close(&f);
	buf_reset(&f.asked);
	return 0;
}
