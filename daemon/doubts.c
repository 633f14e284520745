/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Deliveries in doubt, on their way to the list; see daemon/doubts.h. */
#include "daemon/doubts.h"

#include "lib/err.h"
#include "lib/log.h"
#include "workers/mail/envelope.h"

#define RCPTS_MAX 10000000u /* as the recovery's scan allows */

static const char *const what_ended[DOUBT_CAUSE_COUNT] = {
	[DOUBT_WORKER] = "its worker ended",
	[DOUBT_SYSTEM] = "the mail system stopped",
	[DOUBT_CHILD] = "its process failed",
};

void doubts_init(struct doubts *g, const struct spool_dirs *dirs)
{
	memset(g, 0, sizeof(*g));
	g->dirs = dirs;
	arena_init(&g->arena, 65536, 0);
}

/* What the record tells; nothing when it cannot be read. */
static void name_them(struct doubts *g, struct doubt *d, struct proto_place place,
		      struct sv rcpts[DOUBT_RCPT_MAX])
{
	struct spool_record hdr;
	struct envelope env;

	if (g->reader == NULL)
		g->reader = spool_reader_new(g->dirs, 4);
	buf_reset(&g->env_bytes);
	arena_reset(&g->arena);
	if (spool_read_head(g->reader, d->qid, place, false, &hdr, &g->env_bytes) != 0 ||
	    env_decode(buf_sv(&g->env_bytes), RCPTS_MAX, &g->arena, &env) != 0)
		return;
	d->sender = env.sender.len > 0 ? env.sender : SV("<>");
	d->rcpts = rcpts;
	for (uint64_t left = d->mask; left != 0; left &= left - 1) {
		uint64_t at = (uint64_t)d->rcpt_first + (unsigned)__builtin_ctzll(left);

		if (at < env.rcpt_count)
			rcpts[d->rcpt_count++] = env.rcpts[at].addr;
	}
}

void doubts_add(struct doubts *g, const struct doubt *found, struct proto_place place)
{
	struct sv rcpts[DOUBT_RCPT_MAX];
	struct doubt d = *found;
	char id[QID_TEXT_SIZE];

	name_them(g, &d, place, rcpts);
	log_warn("%s: delivery of %u recipients by %.*s:%.*s was under way when %s, its outcome is "
		 "unknown: %s",
		 qid_format(d.qid, id), (unsigned)__builtin_popcountll(d.mask),
		 (int)d.transport.len, d.transport.p, (int)d.nexthop.len, d.nexthop.p,
		 what_ended[d.cause], d.held ? "placed on hold" : "will be tried again");
	doubt_format(&d, &g->lines);
	g->count++;
}

void doubts_write(struct doubts *g)
{
	int err = g->lines.len == 0 ? 0 : doubt_write(g->dirs, buf_sv(&g->lines), DOUBT_FILE_MAX);

	if (err != 0)
		log_error("list of deliveries in doubt: %s; the log names them", err_str(err));
	spool_reader_free(&g->reader);
	buf_fini(&g->lines);
	buf_fini(&g->env_bytes);
	arena_fini(&g->arena);
}
