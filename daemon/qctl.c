/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Queue requests on the control socket; see daemon/qctl.h. Called through daemon/control.c. */
#include "daemon/qctl.h"

#include <stdio.h>

#include "lib/err.h"
#include "lib/log.h"

#define LIST_MSGS_PER_STEP 256u
#define LIST_OUT_MAX       24000u /* bytes per packet: below CONTROL_PACKET_MAX */
#define LIST_STEP_MS       1

struct qctl {
	struct sched *sched;
	struct files *files;
	struct loop *loop;
};

/* ---- listing ---- */

struct listing {
	struct qctl *q;
	struct control_client *c;
	struct buf out; /* items that were not sent yet */
	uint32_t cursor;
	bool more;
	struct loop_timer timer;
};

void qctl_item_add(const struct sched *s, const struct sched_item *it, struct buf *out)
{
	struct sv reason = { NULL, 0 };
	struct qctl_item q = {
		.qid = { .time_us = it->qid.time_us, .life = it->qid.life },
		.place = it->place,
		.jref = it->jref,
		.mask = it->mask,
		.rcpt_first = it->rcpt_first,
		.msg_flags = it->msg_flags,
		.due_s = it->due_s,
		.state = it->state,
	};

	/* the last attempt's own reason says more than the destination's */
	if (it->jref.journal == 0 && sched_is_suspended(s, it->dest, &reason))
		q.reason_len = (uint32_t)reason.len;
	buf_add(out, &q, sizeof(q));
	buf_add(out, reason.p, q.reason_len);
}

static void add_item(void *ctx, const struct sched_item *it)
{
	struct listing *l = ctx;

	qctl_item_add(l->q->sched, it, &l->out);
}

static void listing_free(struct listing *l)
{
	loop_timer_fini(&l->timer);
	buf_fini(&l->out);
	free(l);
}

static void listing_closed(void *ctx)
{
	listing_free(ctx);
}

/* Whole items up to a packet's size. */
static size_t packet_len(const struct buf *out)
{
	size_t at = 0;

	while (at < out->len) {
		struct qctl_item it;

		memcpy(&it, out->p + at, sizeof(it));
		size_t len = sizeof(it) + it.reason_len;

		if (at + len > LIST_OUT_MAX)
			break;
		at += len;
	}
	return at;
}

/* True when everything gathered was sent. */
static bool listing_send(struct listing *l)
{
	while (l->out.len > 0) {
		size_t len = packet_len(&l->out);

		if (control_data(l->c, l->out.p, len) != 0)
			return false;
		buf_consume(&l->out, len);
	}
	return true;
}

/* One step of gathering per millisecond at most, so that mail goes on. */
static void listing_step(void *ctx)
{
	struct listing *l = ctx;

	if (!listing_send(l))
		return; /* the room callback comes back */
	if (!l->more) {
		struct control_client *c = l->c;

		control_on_close(c, NULL, NULL);
		control_on_room(c, NULL, NULL);
		listing_free(l);
		control_end(c, 0, "ok");
		return;
	}
	l->more = sched_list(l->q->sched, &l->cursor, LIST_MSGS_PER_STEP, add_item, l);
	loop_timer_set(&l->timer, l->out.len > 0 ? 0 : LIST_STEP_MS);
}

static void queue_list(void *ctx, struct control_client *c, unsigned argc, const char *const *argv)
{
	struct listing *l = xcalloc(1, sizeof(*l));

	l->q = ctx;
	l->c = c;
	l->more = argc == 1;
	loop_timer_init(l->q->loop, &l->timer, listing_step, l);
	for (unsigned i = 1; i < argc; i++) {
		struct qid id;

		if (qid_parse(sv_from(argv[i]), &id) == 0)
			sched_list_one(l->q->sched, id, add_item, l);
	}
	control_on_close(c, listing_closed, l);
	control_on_room(c, listing_step, l);
	loop_timer_set(&l->timer, 0);
}

/* ---- changes ---- */

struct change {
	struct qctl *q;
	struct control_client *c; /* NULL: the client has gone */
};

/* "in:hold,deferred" as the first argument: only messages there. */
static unsigned queues_of(const char *text)
{
	static const struct {
		const char *name;
		unsigned queue;
	} names[] = { { "deferred", SCHED_IN_DEFERRED },
		      { "active", SCHED_IN_ACTIVE },
		      { "hold", SCHED_IN_HOLD } };
	unsigned queues = 0;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strstr(text, names[i].name) != NULL)
			queues |= names[i].queue;
	}
	return queues;
}

static void end_change(struct qctl *q, struct control_client *c, const struct sched_cmd_result *r)
{
	int err = q->files != NULL ? files_mark_sync(q->files) : 0;

	if (c == NULL)
		return;
	if (r->failed > 0)
		control_end(c, 3, "%llu messages are unchanged: the journal cannot be written",
			    (unsigned long long)r->failed);
	else if (err != 0)
		control_end(c, 3, "done, but not on disk: %s", err_str(err));
	else
		control_end(c, 0, "%llu %llu", (unsigned long long)r->messages,
			    (unsigned long long)r->busy);
}

static void change_closed(void *ctx)
{
	struct change *ch = ctx;

	ch->c = NULL;
}

static void change_done(void *ctx, const struct sched_cmd_result *r)
{
	struct change *ch = ctx;

	if (ch->c != NULL)
		control_on_close(ch->c, NULL, NULL);
	end_change(ch->q, ch->c, r);
	free(ch);
}

static void started(struct change *ch, struct control_client *c, int err)
{
	if (err == 0) {
		control_on_close(c, change_closed, ch);
		return;
	}
	free(ch);
	control_end(c, 1, "%s",
		    err == E_AGAIN ? "another operation on the whole queue is running"
				   : err_str(err));
}

static struct change *new_change(struct qctl *q, struct control_client *c)
{
	struct change *ch = xcalloc(1, sizeof(*ch));

	ch->q = q;
	ch->c = c;
	return ch;
}

static void change(struct qctl *q, struct control_client *c, enum sched_cmd cmd, unsigned argc,
		   const char *const *argv)
{
	struct sched_cmd_result r = { 0 };
	unsigned queues = SCHED_IN_ALL;

	if (argc >= 2 && strncmp(argv[1], "in:", 3) == 0) {
		queues = queues_of(argv[1] + 3);
		argv++;
		argc--;
	}
	if (argc == 2 && strcmp(argv[1], "ALL") == 0) {
		struct change *ch = new_change(q, c);

		started(ch, c, sched_cmd_all_in(q->sched, cmd, queues, change_done, ch));
		return;
	}
	struct buf names = BUF_INIT;

	for (unsigned i = 1; i < argc; i++) {
		struct qid id;

		if (qid_parse(sv_from(argv[i]), &id) == 0 &&
		    sched_cmd_in(q->sched, cmd, queues, id, &r) == 0)
			buf_printf(&names, "%s\n", argv[i]);
	}
	if (names.len > 0)
		control_data(c, names.p, names.len);
	buf_fini(&names);
	end_change(q, c, &r);
}

static void queue_hold(void *ctx, struct control_client *c, unsigned argc, const char *const *argv)
{
	change(ctx, c, SCHED_HOLD, argc, argv);
}

static void queue_release(void *ctx, struct control_client *c, unsigned argc,
			  const char *const *argv)
{
	change(ctx, c, SCHED_RELEASE, argc, argv);
}

static void queue_requeue(void *ctx, struct control_client *c, unsigned argc,
			  const char *const *argv)
{
	change(ctx, c, SCHED_REQUEUE, argc, argv);
}

static void queue_delete(void *ctx, struct control_client *c, unsigned argc,
			 const char *const *argv)
{
	change(ctx, c, SCHED_DELETE, argc, argv);
}

static void queue_expire(void *ctx, struct control_client *c, unsigned argc,
			 const char *const *argv)
{
	change(ctx, c, SCHED_EXPIRE, argc, argv);
}

static void queue_flush(void *ctx, struct control_client *c, unsigned argc, const char *const *argv)
{
	static const char *const all[] = { "queue-flush", "ALL" };

	change(ctx, c, SCHED_FLUSH, argc == 1 ? 2 : argc, argc == 1 ? all : argv);
}

static void queue_flush_site(void *ctx, struct control_client *c, unsigned argc,
			     const char *const *argv)
{
	struct qctl *q = ctx;

	if (argc != 2) {
		control_end(c, 2, "usage: queue-flush-site DOMAIN");
		return;
	}
	struct change *ch = new_change(q, c);

	started(ch, c, sched_flush_site(q->sched, sv_from(argv[1]), change_done, ch));
}

static const struct {
	const char *verb;
	control_fn fn;
} verbs[] = {
	{ "queue-list", queue_list },       { "queue-hold", queue_hold },
	{ "queue-release", queue_release }, { "queue-requeue", queue_requeue },
	{ "queue-delete", queue_delete },   { "queue-expire", queue_expire },
	{ "queue-flush", queue_flush },     { "queue-flush-site", queue_flush_site },
};

void qctl_register(struct control *ctl, struct sched *s, struct files *f)
{
	static struct qctl q;

	q = (struct qctl){ .sched = s, .files = f, .loop = files_loop(f) };
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		control_register(ctl, verbs[i].verb, verbs[i].fn, &q);
}
