/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SMTP and LMTP client against arbitrary servers: the input is what the server says, cut into
 * pieces where it has a 0xff byte (the second one after it: how many bytes the socket takes
 * meanwhile). Whatever comes, each recipient of each transaction gets exactly one result or the
 * transaction comes back untouched, and the content is written at most once. Inputs whose size is a
 * multiple of three meet a client that logs in.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/client.h"
#include "workers/deliver/nexthop.h"
#include "workers/deliver/saslmech.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TXS   3
#define RCPTS 3

static struct {
	struct client c;
	struct client_tx tx[TXS];
	struct client_rcpt rcpts[TXS][RCPTS];
	unsigned results[TXS][RCPTS];
	bool given[TXS], ended[TXS], untouched[TXS];
	unsigned next, dead;
	struct client_login login;
} w;

static unsigned number(const struct client_tx *tx)
{
	return (unsigned)(tx - w.tx);
}

static void silent(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		   const char *text UNUSED, size_t len UNUSED)
{
}

static void on_ready(void *ctx UNUSED)
{
}

static void on_begin(void *ctx UNUSED, struct client_tx *tx)
{
	ASSERT(w.given[number(tx)] && !w.ended[number(tx)]);
}

static void on_sent(void *ctx UNUSED, struct client_tx *tx, unsigned rcpt, struct sv reply)
{
	ASSERT(rcpt < RCPTS && w.results[number(tx)][rcpt]++ == 0 && reply.len > 0);
}

static void on_failed(void *ctx UNUSED, struct client_tx *tx, unsigned rcpt,
		      const struct client_fault *f)
{
	ASSERT(rcpt < RCPTS && w.results[number(tx)][rcpt]++ == 0);
	ASSERT(f->text.len > 0 && f->dsn[0] == (f->permanent ? 5 : 4));
}

static void on_end(void *ctx UNUSED, struct client_tx *tx)
{
	ASSERT(!w.ended[number(tx)] && !w.untouched[number(tx)]);
	w.ended[number(tx)] = true;
	for (unsigned i = 0; i < RCPTS; i++)
		ASSERT(w.results[number(tx)][i] == 1);
}

static struct client_tx *on_next(void *ctx UNUSED)
{
	if (w.next == TXS)
		return NULL;
	w.given[w.next] = true;
	return &w.tx[w.next++];
}

static void on_untouched(void *ctx UNUSED, struct client_tx *tx)
{
	ASSERT(!w.ended[number(tx)] && !w.untouched[number(tx)]);
	w.untouched[number(tx)] = true;
	for (unsigned i = 0; i < RCPTS; i++)
		ASSERT(w.results[number(tx)][i] == 0);
}

static void on_dead(void *ctx UNUSED, const struct client_fault *f UNUSED)
{
	ASSERT(w.dead++ == 0);
}

static void on_starttls(void *ctx UNUSED)
{
	ASSERT(!w.c.secured && w.c.tls != CLIENT_TLS_NONE);
}

static void add_login(void)
{
	static const struct client_login_conf open = { .mail_auth = true };
	static const struct client_login_conf soft = { .soft_bounce = true };

	w.login = (struct client_login){ .conf = w.c.conf->in_flight > 1 ? &open : &soft,
					 .server = "h[1.2.3.4]:25" };
	buf_add_str(&w.login.user, "user");
	buf_add_str(&w.login.password, "password");
	w.c.login = &w.login;
}

static void end_login(void)
{
	ASSERT(!w.login.done || w.login.password.p == NULL);
	ASSERT(w.login.offered.len < 8192 && w.login.response.len < 4096);
	sasl_wipe(&w.login.user);
	sasl_wipe(&w.login.password);
	sasl_wipe(&w.login.response);
	buf_fini(&w.login.offered);
}

static unsigned on_pix(void *ctx UNUSED)
{
	return CLIENT_PIX_NO_ESMTP | CLIENT_PIX_DELAY_DOT;
}

static const struct client_ops ops = { on_starttls, on_ready, on_begin,     on_sent, on_failed,
				       on_end,      on_next,  on_untouched, on_dead, on_pix };

static void take_output(size_t max)
{
	struct client *c = &w.c;
	uint64_t all;

	client_top_up(c);
	all = c->head.len + c->tail.len;
	if (c->content != NULL)
		all += c->content->content_len - c->content_off;
	ASSERT(c->head.len + c->tail.len < 65536);
	if (all > 0 && max > 0)
		client_wrote(c, (size_t)u64_min(all, max));
}

static void drive(const uint8_t *data, size_t size)
{
	size_t at = 0;

	while (at < size && w.dead == 0) {
		const uint8_t *cut = memchr(data + at, 0xff, size - at);
		size_t n = cut != NULL ? (size_t)(cut - (data + at)) : size - at;
		size_t room = 0;

		client_input(&w.c, (const char *)data + at, n);
		at += n + 1;
		if (w.dead == 0 && w.c.state == CLIENT_TLS)
			client_secured(&w.c);
		if (cut != NULL && at < size)
			room = data[at++];
		ASSERT(!client_can_start(&w.c) || w.c.secured || w.c.tls != CLIENT_TLS_MUST);
		while (w.dead == 0 && client_can_start(&w.c) && w.next < TXS)
			client_start(&w.c, on_next(NULL));
		take_output(room == 0 ? SIZE_MAX : room);
		ASSERT(client_timeout_ms(&w.c) >= 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct client_conf conf = { .helo_name = "me",
					   .myhostname = "me",
					   .always_ehlo = true };
	struct nexthop n = { 0 };

	if (size < 1)
		return 0;
	log_set_sink(silent, NULL);
	nexthop_parse((struct sv){ (const char *)data, size }, true, 25, &n);
	memset(&w, 0, sizeof(w));
	conf.lmtp = (data[0] & 1) != 0;
	conf.in_flight = data[0] >> 6; /* 2 and 3: BDAT, if the server has it */
	for (unsigned i = 0; i < TXS; i++) {
		w.tx[i] = (struct client_tx){ .sender = SV("a@b"),
					      .size = 1000,
					      .content_len = (data[0] & 2) != 0 ? 0 : 1000,
					      .needs_utf8 = (data[0] & 4) != 0,
					      .plain = (data[0] & 32) != 0,
					      .rcpt_count = RCPTS,
					      .rcpts = w.rcpts[i] };
		for (unsigned k = 0; k < RCPTS; k++)
			w.rcpts[i][k] = (struct client_rcpt){ .addr = SV("c@d") };
	}
	client_init(&w.c, &conf, &ops, NULL, SV("h[1.2.3.4]"), "d", (data[0] & 8) != 0);
	if ((data[0] & 4) != 0)
		w.c.tls = (data[0] & 8) != 0 ? CLIENT_TLS_MUST : CLIENT_TLS_MAY;
	if (size % 3 == 0)
		add_login();
	drive(data + 1, size - 1);
	if (w.dead == 0) {
		if ((data[0] & 16) != 0)
			client_timed_out(&w.c);
		else
			client_closed(&w.c);
	}
	ASSERT(w.dead == 1);
	for (unsigned i = 0; i < TXS; i++)
		ASSERT(w.given[i] == (w.ended[i] || w.untouched[i]));
	client_fini(&w.c);
	end_login();
	return 0;
}
