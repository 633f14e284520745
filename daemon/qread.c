/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Queue entries and what the spool has of them; see daemon/qread.h. */
#include "daemon/qread.h"

#include <stdio.h>
#include <string.h>

#include "lib/arena.h"
#include "lib/err.h"
#include "workers/mail/envelope.h"

#define RCPTS_MAX 10000000

struct qread {
	struct spool_dirs dirs;
	struct spool_reader *spool;
	struct journal_reader *journal;
	struct buf head, mem;
	struct arena arena;
	struct envelope env; /* of the message read last */
	struct qlist_message message;
};

int qread_new(const char *queue_directory, struct qread **r_r)
{
	struct qread *r = xcalloc(1, sizeof(*r));
	int err = spool_dirs_open(queue_directory, false, &r->dirs);

	if (err != 0) {
		free(r);
		return err;
	}
	r->spool = spool_reader_new(&r->dirs, 64);
	r->journal = journal_reader_new(&r->dirs, 64);
	arena_init(&r->arena, 65536, 0);
	*r_r = r;
	return 0;
}

void qread_free(struct qread **rp)
{
	struct qread *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	spool_reader_free(&r->spool);
	journal_reader_free(&r->journal);
	spool_dirs_close(&r->dirs);
	buf_fini(&r->head);
	buf_fini(&r->mem);
	arena_fini(&r->arena);
	free(r);
}

const struct spool_dirs *qread_dirs(const struct qread *r)
{
	return &r->dirs;
}

bool qread_item_at(const struct buf *items, size_t at, struct qctl_item *it)
{
	if (at >= items->len || items->len - at < sizeof(*it))
		return false;
	memcpy(it, items->p + at, sizeof(*it));
	return it->reason_len <= items->len - at - sizeof(*it);
}

size_t qread_item_end(size_t at, const struct qctl_item *it)
{
	return at + sizeof(*it) + it->reason_len;
}

bool qread_next_message(const struct buf *items, size_t from, bool all, size_t *to_r)
{
	struct qctl_item first, it;
	size_t to = from;

	if (!qread_item_at(items, from, &first))
		return false;
	while (qread_item_at(items, to, &it) && it.qid.time_us == first.qid.time_us &&
	       it.qid.life == first.qid.life)
		to = qread_item_end(to, &it);
	*to_r = to;
	return to < items->len || all;
}

/* ---- one message ---- */

static void note_state(struct qlist_message *m, const struct qctl_item *it)
{
	if (it->state == QS_HOLD || it->msg_flags & MSGF_HOLD)
		m->queue = QUEUE_NAME_HOLD;
	else if (it->state != QS_DEFERRED && m->queue == QUEUE_NAME_DEFERRED)
		m->queue = QUEUE_NAME_ACTIVE;
}

/* A record that is damaged is found when it is loaded or delivered; until then, for what is held
 * until somebody releases it, the message is in the queue, and has to be in the list. */
static bool read_envelope(struct qread *r, const struct qctl_item *it)
{
	struct qid id = { .time_us = it->qid.time_us, .life = it->qid.life };
	struct qlist_message *m = &r->message;
	struct spool_record hdr;

	buf_reset(&r->head);
	arena_reset(&r->arena);
	memset(m, 0, sizeof(*m));
	int err = spool_read_head(r->spool, id, it->place, false, &hdr, &r->head);

	if (err == 0)
		err = env_decode(buf_sv(&r->head), RCPTS_MAX, &r->arena, &r->env);
	if (err == E_NOENT)
		return false; /* its segment is gone: it left the queue meanwhile */
	m->damaged = err != 0;
	if (m->damaged)
		memset(&r->env, 0, sizeof(r->env));
	qid_format(id, m->id);
	m->arrival_s = (int64_t)(id.time_us / 1000000);
	m->size = m->damaged ? it->place.len : hdr.size;
	m->in_doubt = (it->msg_flags & MSGF_IN_DOUBT) != 0;
	m->expired = (it->msg_flags & MSGF_EXPIRED) != 0;
	m->sender = m->damaged              ? SV("(damaged record)")
		    : r->env.sender.len > 0 ? r->env.sender
					    : SV("MAILER-DAEMON");
	return true;
}

bool qread_message(struct qread *r, const struct buf *items, size_t from, size_t to,
		   const struct qlist_message **m_r)
{
	struct qctl_item it;

	if (!qread_item_at(items, from, &it) || !read_envelope(r, &it))
		return false;
	for (size_t at = from; at < to && qread_item_at(items, at, &it);
	     at = qread_item_end(at, &it))
		note_state(&r->message, &it);
	*m_r = &r->message;
	return true;
}

/* ---- its recipients ---- */

static struct sv reason_of(const struct outcome *o, uint32_t rcpt)
{
	for (size_t i = 0;
	     rcpt >= o->rcpt_first && rcpt - o->rcpt_first < 64 && i < o->reason_count; i++) {
		if (o->reasons[i].mask >> (rcpt - o->rcpt_first) & 1)
			return o->reasons[i].text;
	}
	return (struct sv){ NULL, 0 };
}

size_t qread_rcpts(struct qread *r, const struct buf *items, size_t at, qread_rcpt_fn fn, void *ctx)
{
	struct outcome_reason reasons[64];
	struct outcome o = { 0 };
	char suspended[600];
	struct qctl_item it;

	if (!qread_item_at(items, at, &it))
		return items->len;
	struct sv site = { items->p + at + sizeof(it), it.reason_len };
	bool failed = it.state == QS_NOTIFY || it.state == QS_NOTIFYING;

	buf_reset(&r->mem);
	if (it.jref.journal != 0 && journal_read(r->journal, it.jref, &r->mem, &o, reasons) != 0)
		memset(&o, 0, sizeof(o));
	if (site.len > 0) {
		int n = snprintf(suspended, sizeof(suspended),
				 "delivery temporarily suspended: %.*s", (int)site.len, site.p);

		site = (struct sv){ suspended, size_min((size_t)n, sizeof(suspended) - 1) };
	}
	for (uint64_t left = it.mask; left != 0; left &= left - 1) {
		uint64_t n = (uint64_t)it.rcpt_first + (unsigned)__builtin_ctzll(left);

		if (n >= r->env.rcpt_count)
			continue;
		const struct env_rcpt *e = &r->env.rcpts[n];
		struct sv why = reason_of(&o, (uint32_t)n);

		fn(ctx, &(struct qlist_rcpt){ .addr = e->addr,
					      .orig_addr = e->orig_addr,
					      .reason = why.len > 0 ? why : site,
					      .failed = failed });
	}
	return qread_item_end(at, &it);
}
