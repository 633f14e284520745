/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The client engine in a test: what it reports and writes as text, servers as scripts. */
#ifndef PH_T_CLIENT_RIG_H
#define PH_T_CLIENT_RIG_H

#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "t/unit/tap.h"
#include "workers/deliver/client.h"
#include "workers/mail/envelope.h"

#define CONTENT "Subject: x\r\n\r\nbody\r\n"

struct world {
	struct client c;
	struct client_conf conf;
	struct buf log;  /* what the engine reported */
	struct buf wire; /* what it wrote */
	struct client_tx tx[4];
	struct client_rcpt rcpts[4][CLIENT_RCPT_MAX];
	struct client_tx *queue[4]; /* for next() */
	unsigned queue_count;
};

static unsigned tx_no(struct world *w, struct client_tx *tx)
{
	return (unsigned)(tx - w->tx) + 1;
}

static void on_starttls(void *ctx)
{
	struct world *w = ctx;

	buf_add_str(&w->log, "starttls;");
}

static void on_ready(void *ctx)
{
	struct world *w = ctx;

	buf_add_str(&w->log, "ready;");
}

static void on_begin(void *ctx, struct client_tx *tx)
{
	struct world *w = ctx;

	buf_printf(&w->log, "begin%u;", tx_no(w, tx));
}

static void on_sent(void *ctx, struct client_tx *tx, unsigned rcpt, struct sv reply)
{
	struct world *w = ctx;

	buf_printf(&w->log, "sent%u.%u(%.*s);", tx_no(w, tx), rcpt, (int)reply.len, reply.p);
}

static void on_failed(void *ctx, struct client_tx *tx, unsigned rcpt, const struct client_fault *f)
{
	struct world *w = ctx;

	buf_printf(&w->log, "%s%u.%u %u.%u.%u(%.*s);", f->permanent ? "perm" : "temp", tx_no(w, tx),
		   rcpt, f->dsn[0], f->dsn[1], f->dsn[2], (int)f->text.len, f->text.p);
}

static void on_end(void *ctx, struct client_tx *tx)
{
	struct world *w = ctx;

	buf_printf(&w->log, "end%u;", tx_no(w, tx));
}

static struct client_tx *on_next(void *ctx)
{
	struct world *w = ctx;

	return w->queue_count > 0 ? w->queue[--w->queue_count] : NULL;
}

static void on_untouched(void *ctx, struct client_tx *tx)
{
	struct world *w = ctx;

	buf_printf(&w->log, "untouched%u;", tx_no(w, tx));
}

static void on_dead(void *ctx, const struct client_fault *f)
{
	struct world *w = ctx;

	if (f == NULL)
		buf_add_str(&w->log, "dead;");
	else
		buf_printf(&w->log, "dead%s %s %u.%u.%u(%.*s);", f->site ? " site" : "",
			   f->permanent ? "perm" : "temp", f->dsn[0], f->dsn[1], f->dsn[2],
			   (int)f->text.len, f->text.p);
}

static unsigned on_pix(void *ctx)
{
	struct world *w = ctx;

	buf_add_str(&w->log, "pix;");
	return CLIENT_PIX_NO_ESMTP | CLIENT_PIX_DELAY_DOT;
}

static const struct client_ops test_ops = { on_starttls, on_ready, on_begin,     on_sent, on_failed,
					    on_end,      on_next,  on_untouched, on_dead, on_pix };

/* Up to `max` bytes go out, as a socket would take them. */
static void take_output_max(struct world *w, size_t max)
{
	struct client *c = &w->c;

	for (client_top_up(c); client_has_output(c) && max > 0; client_top_up(c)) {
		struct buf all = BUF_INIT;
		size_t n;

		buf_add(&all, c->head.p, c->head.len);
		if (c->content != NULL)
			buf_add(&all, &CONTENT[c->content_off],
				(size_t)(c->content->content_len - c->content_off));
		buf_add(&all, c->tail.p, c->tail.len);
		n = size_min(all.len, max);
		buf_add(&w->wire, all.p, n);
		buf_fini(&all);
		client_wrote(c, n);
		max -= n;
	}
}

static const char *wire(struct world *w)
{
	static char copy[65536];

	take_output_max(w, SIZE_MAX);
	str_copy(copy, sizeof(copy), buf_sv(&w->wire));
	buf_reset(&w->wire);
	return copy;
}

static const char *events(struct world *w)
{
	static char copy[65536];

	str_copy(copy, sizeof(copy), buf_sv(&w->log));
	buf_reset(&w->log);
	return copy;
}

static void say(struct world *w, const char *text)
{
	client_input(&w->c, text, strlen(text));
}

static struct client_tx *make_tx(struct world *w, unsigned no, unsigned rcpts)
{
	struct client_tx *tx = &w->tx[no - 1];
	static const char *const names[] = { "a@x", "b@x", "c@x", "d@x" };

	*tx = (struct client_tx){ .ctx = w,
				  .sender = SV("me@here"),
				  .size = strlen(CONTENT),
				  .content_len = strlen(CONTENT),
				  .rcpt_count = rcpts,
				  .rcpts = w->rcpts[no - 1] };
	for (unsigned i = 0; i < rcpts; i++)
		tx->rcpts[i] = (struct client_rcpt){ .addr = sv_from(names[i % 4]) };
	return tx;
}

static void open_world(struct world *w, bool lmtp)
{
	memset(w, 0, sizeof(*w));
	w->conf = (struct client_conf){ .lmtp = lmtp,
					.always_ehlo = true,
					.skip_5xx_greeting = true,
					.helo_name = "me.example",
					.myhostname = "me.example",
					.helo_ms = 1,
					.mail_ms = 2,
					.rcpt_ms = 3,
					.data_init_ms = 4,
					.data_xfer_ms = 5,
					.data_done_ms = 6,
					.rset_ms = 7 };
	client_init(&w->c, &w->conf, &test_ops, w, SV("h[1.2.3.4]"), "dest.example", true);
}

static void close_world(struct world *w)
{
	client_fini(&w->c);
	buf_fini(&w->log);
	buf_fini(&w->wire);
}

/* Up to the first transaction, with these EHLO lines. */
__attribute__((unused)) static void greet(struct world *w, bool lmtp, const char *ehlo)
{
	open_world(w, lmtp);
	say(w, "220 hi ESMTP\r\n");
	wire(w);
	say(w, ehlo);
	events(w);
}

#define PIPE           "250-h\r\n250 PIPELINING\r\n"
#define MAIL_RCPT_DATA "MAIL FROM:<me@here>\r\nRCPT TO:<a@x>\r\nDATA\r\n"

#endif
