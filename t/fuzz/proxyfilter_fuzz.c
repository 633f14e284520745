/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a before-queue filter may say, and when: the client's part is always the same three
 * messages, the input is the filter's. Its first bytes choose how it is cut, how much the filter
 * reads at a time and where it goes away. Whatever it is: a message is acknowledged only when the
 * filter has read all of it and has spoken since, and what the client hears are replies.
 */
#include "t/unit/workers/smtpin_fake.h"

static struct fake plain, adjust;

static const char *const client[] = {
	"MAIL FROM:<s@x.test>\r\n",   "RCPT TO:<a@local.test>\r\n",
	"RCPT TO:<b@local.test>\r\n", "DATA\r\n",
	"a: b\r\n\r\n..body\r\n",     ".\r\n",
};

struct feed {
	const uint8_t *data;
	size_t left;
	uint32_t rnd;
};

static uint32_t next(struct feed *in)
{
	in->rnd = in->rnd * 1103515245u + 12345u;
	return in->rnd >> 16;
}

/* The filter has its turn. False: it has nothing more to do. */
static bool filter_turn(struct fake *f, struct feed *in)
{
	struct sv out = { "", 0 };

	if (f->filter_opening) {
		f->filter_opening = false;
		f->filter_open = true;
		if (next(in) % 16 == 0)
			session_filter_lost(&f->s, "connect to proxy filter", "refused");
		else
			session_filter_connected(&f->s);
		return true;
	}
	if (f->filter_open)
		out = session_filter_output(&f->s);
	if (out.len > 0) {
		size_t n = 1 + next(in) % out.len;

		if (session_filter_is_last(&f->s) && next(in) % 32 == 0)
			session_filter_premature(&f->s);
		buf_add(&f->filter_got, out.p, n);
		session_filter_sent(&f->s, n);
		return true;
	}
	if (!f->filter_open || !session_filter_expects(&f->s))
		return false;
	size_t n = size_min(1 + next(in) % 40, in->left);

	if (n == 0 || next(in) % 64 == 0) {
		session_filter_lost(&f->s, "lost connection with proxy", "");
		return true;
	}
	in->data += n;
	in->left -= n;
	session_filter_input(&f->s, (const char *)in->data - n, n);
	return true;
}

static void take_replies(struct fake *f)
{
	while (f->s.out.len > 0) {
		size_t n = f->s.out.len;

		buf_add(&f->reply, f->s.out.p, n);
		session_output_done(&f->s, n);
	}
}

static bool got_whole(const struct fake *f)
{
	static const char end[] = "\r\na: b\r\n\r\n..body\r\n.\r\n";
	size_t n = sizeof(end) - 1;

	return f->filter_got.len >= n &&
	       memcmp(f->filter_got.p + f->filter_got.len - n, end, n) == 0;
}

static void run(struct fake *f, struct feed *in)
{
	fake_connect(f, "192.0.2.1");
	fake_say(f, "EHLO c.test\r\n");
	for (size_t i = 0; i < 3 * ARRAY_LEN(client) && !session_is_over(&f->s); i++) {
		const char *line = client[i % ARRAY_LEN(client)];

		buf_reset(&f->reply);
		session_input(&f->s, line, strlen(line));
		take_replies(f);
		for (unsigned turns = 0; filter_turn(f, in); turns++) {
			ASSERT(turns < 100000);
			take_replies(f);
		}
		ASSERT(f->s.wait == WAIT_NONE || session_is_over(&f->s));
		ASSERT(line[0] != '.' || f->reply.len == 0 || f->reply.p[0] != '2' || got_whole(f));
		if (line[0] == '.') {
			buf_reset(&f->filter_got);
			session_input(&f->s, "RSET\r\n", 6);
		}
		take_replies(f);
	}
	fake_close(f);
	ASSERT(!f->filter_open && !f->filter_opening);
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
		fake_conf(&plain, "smtpd_proxy_filter = 127.0.0.1:1\nsmtpd_error_sleep_time = 0\n",
			  NULL);
		fake_conf(&adjust,
			  "smtpd_proxy_filter = 127.0.0.1:1\nsmtpd_proxy_options = speed_adjust\n"
			  "smtpd_error_sleep_time = 0\n",
			  NULL);
		fake_logs_to = NULL;
	}
	struct feed in = { data + 4, size - 4, (uint32_t)(data[1] << 16 | data[2] << 8 | data[3]) };

	run((data[0] & 1) != 0 ? &adjust : &plain, &in);
	return 0;
}
