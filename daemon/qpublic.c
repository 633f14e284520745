/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Requests of the showq worker; see daemon/qpublic.h. */
#include "daemon/qpublic.h"

#include <string.h>

#include "daemon/qctl.h"
#include "lib/clock.h"
#include "lib/err.h"

/* Between two attempts at mail that somebody asked for. The worker keeps twice this time, so that
 * only one that is no longer ours is refused. */
static const int64_t gap_ms[QUEUE_ASK_COUNT] = {
	[QUEUE_FLUSH] = 500,
	[QUEUE_FLUSH_MESSAGE] = 5,
	[QUEUE_FLUSH_SITE] = 125,
};

struct listing {
	struct sched *s;
	struct buf out;
};

static void add_item(void *ctx, const struct sched_item *it)
{
	struct listing *l = ctx;

	qctl_item_add(l->s, it, &l->out);
}

static int list(struct sched *s, struct link *link, const struct proto_queue_ask *q)
{
	struct listing l = { .s = s, .out = BUF_INIT };
	struct sched_cursor cursor = { q->msg, q->entry };
	struct proto_queue_items head = { .kind = PROTO_QUEUE_ITEMS };

	buf_add(&l.out, &head, sizeof(head));
	head.more = sched_list_part(s, &cursor, PROTO_QUEUE_ITEMS_MAX, add_item, &l);
	head.msg = cursor.msg;
	head.entry = cursor.entry;
	memcpy(l.out.p, &head, sizeof(head));
	/* it asks one thing at a time: its ring has room */
	int err = ring_put(&link->out, l.out.p, l.out.len) == 0 ? 0 : E_PEER;

	buf_fini(&l.out);
	return err;
}

static void nobody_waits(void *ctx UNUSED, const struct sched_cmd_result *r UNUSED)
{
}

/* What cannot be done now is not done: whoever asked may ask again. */
static void flush(struct sched *s, const struct proto_queue_ask *q, const char *site)
{
	static int64_t last_ms[QUEUE_ASK_COUNT];
	struct sched_cmd_result r = { 0 };
	int64_t now = clock_now().ms;

	if (last_ms[q->what] != 0 && now - last_ms[q->what] < gap_ms[q->what])
		return;
	last_ms[q->what] = now;
	if (q->what == QUEUE_FLUSH)
		sched_cmd_all(s, SCHED_FLUSH, nobody_waits, NULL);
	else if (q->what == QUEUE_FLUSH_SITE)
		sched_flush_site(s, (struct sv){ site, q->site_len }, nobody_waits, NULL);
	else
		sched_cmd(s, SCHED_FLUSH, (struct qid){ q->qid.time_us, q->qid.life }, &r);
}

int qpublic_input(struct sched *s, struct link *link, const void *rec, size_t len)
{
	struct proto_queue_ask q;

	if (len < sizeof(q))
		return E_PEER;
	memcpy(&q, rec, sizeof(q));
	if (q.kind != PROTO_QUEUE_ASK || q.what >= QUEUE_ASK_COUNT || q.site_len > PROTO_NAME_MAX ||
	    len != sizeof(q) + q.site_len)
		return E_PEER;
	if (q.what == QUEUE_LIST)
		return list(s, link, &q);
	flush(s, &q, (const char *)rec + sizeof(q));
	return 0;
}
