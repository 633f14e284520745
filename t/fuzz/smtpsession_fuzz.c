/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A whole SMTP session, BDAT included. The first bytes choose how the stream is cut, how much room
 * there is, what rewrite answers and when things are late; the rest is what the client sends.
 * Whatever it is: content that is handed over is in wire form, every message that begins ends or
 * is given up, memory stays bounded, replies are lines that begin with a code.
 */
#include "t/unit/workers/smtpin_fake.h"

#define MEMORY_LIMIT 300000u

static struct fake f;

static void check_wire(void)
{
	const char *p = f.content.p;

	for (size_t i = 0; i < f.content.len; i++) {
		char before = i > 0 ? p[i - 1] : '\n';
		char after = i + 1 < f.content.len ? p[i + 1] : '\0';

		ASSERT(p[i] != '\n' || before == '\r');
		ASSERT(p[i] != '\r' || after == '\n');
		ASSERT(p[i] != '.' || before != '\n' || after != '\r');
	}
	ASSERT(f.content.len > 0 && p[f.content.len - 1] == '\n');
}

static void check_envelope(void)
{
	struct arena arena;
	struct envelope e;

	arena_init(&arena, 4096, 0);
	ASSERT(env_decode(buf_sv(&f.env), 2000, &arena, &e) == 0 && e.rcpt_count > 0);
	arena_fini(&arena);
}

static void check_replies(void)
{
	const char *p = buf_cstr(&f.reply);

	while (*p != '\0') {
		const char *end = strstr(p, "\r\n");

		ASSERT(end != NULL && end - p >= 4);
		ASSERT(p[0] >= '2' && p[0] <= '5' && ascii_is_digit(p[1]) && ascii_is_digit(p[2]));
		ASSERT(p[3] == ' ' || p[3] == '-');
		for (const char *c = p; c < end; c++)
			ASSERT((unsigned char)*c >= ' ');
		p = end + 2;
	}
	buf_reset(&f.reply);
}

static void checked_end(void *ctx, struct session *s)
{
	check_wire();
	check_envelope();
	fo_end(ctx, s);
}

/* Things happen that the client has no part in. */
static void happen(unsigned what)
{
	f.room_left = SIZE_MAX;
	if (f.s.wait == WAIT_ROOM)
		session_room(&f.s);
	if (f.s.wait == WAIT_SLEEP) {
		clock_fake_advance(5000);
		session_tick(&f.s);
	}
	if (f.s.wait == WAIT_DNS) {
		struct policy_dns a = { .status = (enum policy_dns_status)(what % 5) };

		session_dns_answer(&f.s, &a);
	}
	if (what % 13 == 0)
		session_submit_lost(&f.s);
	if (what % 17 == 0)
		clock_fake_advance(400000);
	session_tick(&f.s);
	fake_settle(&f);
}

static void feed(const uint8_t *data, size_t size, uint32_t rnd)
{
	while (size > 0 && !session_is_over(&f.s)) {
		rnd = rnd * 1103515245u + 12345u;
		size_t n = size_min(1 + (rnd >> 16) % ((rnd & 1) != 0 ? 5 : 500), size);

		if ((rnd & 0xf000) == 0)
			f.room_left = (rnd >> 20) % 50;
		f.verdict = (enum submit_verdict)((rnd >> 8) % 4);
		for (int i = 0; i < 20 && !session_wants_input(&f.s) && !session_is_over(&f.s); i++)
			happen(rnd >> (i % 16));
		session_input(&f.s, (const char *)data, n);
		fake_settle(&f);
		check_replies();
		ASSERT(session_memory(&f.s) < MEMORY_LIMIT);
		data += n;
		size -= n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;

	if (size < 4)
		return 0;
	if (!ready) {
		ready = true;
		clock_fake_set(1000000);
		fake_conf(&f,
			  "smtpd_forbid_unauth_pipelining = no\nsmtpd_error_sleep_time = 1s\n"
			  "smtpd_hard_error_limit = 50\nsmtpd_recipient_limit = 20\n"
			  "message_size_limit = 20000\nsmtpd_sender_restrictions = "
			  "check_sender_access inline:{hold.test=HOLD}, "
			  "reject_unknown_sender_domain\n"
			  "smtpd_data_restrictions = reject_multi_recipient_bounce\n"
			  "smtpd_end_of_data_restrictions = sleep 1\n"
			  "smtpd_authorized_xclient_hosts = 10.0.0.0/8\n"
			  "smtpd_authorized_xforward_hosts = 10.0.0.0/8\n",
			  NULL);
		fake_logs_to = NULL;
		f.ops.end = checked_end;
	}
	f.room_bytes = 1 + data[0] % 64u * 100;
	f.room_left = SIZE_MAX;
	f.dns_waits = (data[1] & 1) != 0;
	f.dns.status = (enum policy_dns_status)(data[1] / 2 % 5);
	f.begun = f.ended = f.aborted = 0;
	fake_connect(&f, (data[2] & 1) != 0 ? "10.0.0.1" : "192.0.2.1");
	feed(data + 4, size - 4, (uint32_t)(data[3] << 8 | data[2]));
	session_eof(&f.s);
	for (int i = 0; i < 50 && !session_is_over(&f.s); i++)
		happen((unsigned)i + data[3]);
	if (f.s.wait == WAIT_NONE && f.s.state != SESSION_CLOSING)
		session_broken(&f.s);
	check_replies();
	fake_close(&f);
	ASSERT(f.begun == f.ended + f.aborted || !f.has_content);
	return 0;
}
