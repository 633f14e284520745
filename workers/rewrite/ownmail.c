/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages of our own that checks and milters are to see (internal_mail_filter_classes), and
 * notices about servers (peernotice.c). They go
 * the way of other mail from message_feed() on, but nobody waits for the answer except notify.c:
 * what is refused is tried again like a notification for which there was no room, what is discarded
 * is told.
 */
#include <stdlib.h>

#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/log.h"
#include "workers/rewrite/filter.h"

struct ownmail {
	struct tx tx;
	struct pending *pending;
	struct map_memo *memo; /* NULL: there are no remote tables */
};

static void ownmail_free(struct ownmail *o)
{
	map_memo_free(&o->memo);
	message_fini(&o->tx.m);
	free(o);
}

/* The plan is made, or the message is refused. */
static int append(struct ownmail *o, const struct message_verdict *v)
{
	struct rewrite *r = o->tx.rewrite;

	if (v->verdict == SUBMIT_OK)
		return append_message(r, &o->tx.m, SV(""), o->pending);
	if (v->verdict == SUBMIT_DISCARDED) {
		notify_not_sent(r, o->pending, 0);
		return 0;
	}
	log_warn("%s: a notification was refused by checks or milters: %.200s", o->tx.m.qid_text,
		 v->text);
	return E_AGAIN;
}

/* Behind the milters. Called again when remote tables have answered. */
static void build(void *ctx)
{
	struct ownmail *o = ctx;
	struct rewrite *r = o->tx.rewrite;
	const struct message_verdict *v = &o->tx.filter_verdict;

	while (o->tx.filter_verdict.verdict == SUBMIT_OK) {
		if (o->memo != NULL)
			map_memo_enter(o->memo);
		v = message_build(&o->tx.m);
		if (o->memo == NULL || !map_memo_leave())
			break;
		if (tables_fetch(r->tables, o->memo, build, o) != NULL)
			return;
	}
	int err = append(o, v);

	if (err != 0)
		notify_not_sent(r, o->pending, err);
	ownmail_free(o);
	r->waiting_count--;
}

static void filtered(struct tx *tx)
{
	build(container_of(tx, struct ownmail, tx));
}

/* Everything that needs no waiting. NULL: milters see it now. */
static const struct message_verdict *take(struct ownmail *o, const struct envelope *env,
					  struct qid qid, struct buf *content)
{
	struct rewrite *r = o->tx.rewrite;
	struct message *m = &o->tx.m;
	struct buf encoded = BUF_INIT;
	const struct message_verdict *v = &verdict_write_error;
	struct sv body = SV("");
	int err = env_encode(env, &encoded);

	if (err == 0)
		err = o->pending->kind == PENDING_TOLD
			      ? message_begin(m, qid, buf_sv(&encoded))
			      : message_begin_shown(m, qid, buf_sv(&encoded));
	buf_fini(&encoded);
	if (err == 0)
		err = message_feed(m, content->p, content->len, &body);
	if (err == 0) {
		buf_add_sv(&m->out, body);
		v = message_close(m, &err);
	}
	if (err != 0 || v == NULL)
		return &verdict_write_error;
	if (v->verdict != SUBMIT_OK)
		return v;
	if (m->is_shown && r->filters.client != NULL && (env->flags & ENVF_NO_MILTERS) == 0 &&
	    filters_of_mail(&r->filters, env->cleanup)->list.count > 0)
		v = filter_message(r, NULL, &o->tx);
	return v;
}

int ownmail_send(struct rewrite *r, const struct envelope *env, struct qid qid, struct buf *content,
		 struct pending *p)
{
	struct ownmail *o = xcalloc(1, sizeof(*o));
	const struct message_verdict *v;
	int err = 0;

	message_init(&o->tx.m, &r->rules);
	o->tx.rewrite = r;
	o->tx.own = filtered;
	o->pending = p;
	v = take(o, env, qid, content);
	if (v == NULL) {
		o->memo = map_remote_is_used() ? map_memo_new() : NULL;
		r->waiting_count++;
		return 0;
	}
	if (v->verdict == SUBMIT_OK)
		v = message_build(&o->tx.m);
	err = map_memo_is_missing() ? E_AGAIN : append(o, v);
	ownmail_free(o);
	return err;
}
