/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What operators ask for: hold, release, requeue, delete, flush, list; and what recovery found on
 * disk. Work on one message is done at once, work on all is done in slices of sched_turn().
 * Called by daemon/qctl.c and daemon/recover.c.
 */
#include <limits.h>

#include "daemon/sched_int.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"

#define LIST_SLOTS 1024u /* of messages, looked at in one part of a list */

struct cmd_desc {
	const char *done; /* log text */
	uint8_t mark;     /* enum outcome_kind, journaled; 0 = none */
	uint16_t states;  /* of entries it moves */
};

#define ST(state) (1u << QS_##state)

static const struct cmd_desc cmds[] = {
	[SCHED_HOLD] = { "placed on hold", OUTCOME_HELD, ST(LOAD) | ST(READY) | ST(DEFERRED) },
	[SCHED_RELEASE] = { "released from hold", OUTCOME_RELEASED, ST(HOLD) },
	[SCHED_REQUEUE] = { "requeued", OUTCOME_REQUEUED,
			    ST(LOAD) | ST(READY) | ST(DEFERRED) | ST(HOLD) },
	[SCHED_DELETE] = { "removed", OUTCOME_DELETED,
			   ST(LOAD) | ST(READY) | ST(DEFERRED) | ST(HOLD) | ST(NOTIFY) },
	[SCHED_FLUSH] = { NULL, 0, ST(DEFERRED) },
	/* all others wait for their next attempt, which is not made then */
	[SCHED_EXPIRE] = { "expired", OUTCOME_EXPIRED, ST(READY) },
};

/* The journal first: what cannot be written down is not done, or a restart would undo it. */
static int mark_message(struct sched *s, uint32_t msg, enum sched_cmd cmd)
{
	struct qmsg *m = &s->q->msgs[msg];
	int err = 0;

	if (s->su.files != NULL && cmds[cmd].mark != 0)
		err = files_mark(s->su.files, (enum outcome_kind)cmds[cmd].mark, qtab_msg_qid(m));
	if (err != 0)
		return err;
	if (cmd == SCHED_HOLD)
		m->flags |= MSGF_HOLD;
	if (cmd == SCHED_RELEASE || cmd == SCHED_REQUEUE)
		m->flags &= ~(uint32_t)MSGF_HOLD;
	if (cmd == SCHED_REQUEUE)
		m->flags &= ~(uint32_t)MSGF_EXPIRED;
	if (cmd == SCHED_EXPIRE)
		m->flags |= MSGF_EXPIRED;
	if (cmd == SCHED_REQUEUE || cmd == SCHED_FLUSH)
		m->flags |= MSGM_REQUEUE;
	if (cmd == SCHED_DELETE)
		m->flags |= MSGM_DOOMED | MSGM_DELETED;
	return 0;
}

static void apply_entry(struct sched *s, uint32_t e, enum sched_cmd cmd)
{
	uint32_t row = sched_entry(s, e)->dest;

	if (cmd == SCHED_HOLD)
		sched_entry_hold(s, e);
	else if (cmd == SCHED_DELETE)
		sched_entry_end(s, e);
	else if (cmd == SCHED_FLUSH)
		sched_entry_flush(s, e);
	else if (qword_state(qtab_entry_word(s->q, e)) != QS_LOAD)
		sched_entry_load(s, e);
	if (cmd == SCHED_FLUSH && row != DTAB_NONE)
		dest_revive(s, row);
}

/* Where a list of the queue shows it (daemon/qread.c). */
static unsigned queue_of(struct sched *s, uint32_t msg)
{
	unsigned queue = SCHED_IN_DEFERRED;

	if (s->q->msgs[msg].flags & MSGF_HOLD)
		return SCHED_IN_HOLD;
	for (uint32_t e = s->q->msgs[msg].first_entry; e != QTAB_NONE;
	     e = sched_entry(s, e)->sibling) {
		if (qword_state(qtab_entry_word(s->q, e)) != QS_DEFERRED)
			queue = SCHED_IN_ACTIVE;
	}
	return queue;
}

static bool applies(struct sched *s, uint32_t msg, enum sched_cmd cmd, unsigned queues)
{
	uint32_t flags = s->q->msgs[msg].flags;
	bool held = (flags & MSGF_HOLD) != 0;

	if (flags & MSGM_DOOMED || (cmd == SCHED_EXPIRE && flags & MSGF_EXPIRED))
		return false;
	return (cmd != SCHED_HOLD || !held) && (cmd != SCHED_RELEASE || held) &&
	       ((queues & SCHED_IN_ALL) == SCHED_IN_ALL || queue_of(s, msg) & queues);
}

/* The number of entries looked at. */
static unsigned apply_message(struct sched *s, uint32_t msg, enum sched_cmd cmd, unsigned queues,
			      struct sched_cmd_result *r)
{
	char text[QID_TEXT_SIZE];
	unsigned looks = 1;
	bool busy = false;

	if (!applies(s, msg, cmd, queues))
		return looks;
	qid_format(qtab_msg_qid(&s->q->msgs[msg]), text);
	if (mark_message(s, msg, cmd) != 0) {
		r->failed++;
		return looks;
	}
	for (uint32_t e = s->q->msgs[msg].first_entry, next; e != QTAB_NONE; e = next) {
		enum qstate st = qword_state(qtab_entry_word(s->q, e));

		next = sched_entry(s, e)->sibling;
		looks++;
		busy = busy || st == QS_BUSY;
		if (cmds[cmd].states >> st & 1)
			apply_entry(s, e, cmd);
	}
	/* the last entry may have ended the message, and its slot with it */
	if (cmds[cmd].done != NULL)
		log_as("postsuper", LOG_LEVEL_INFO, "%s: %s", text, cmds[cmd].done);
	if (!busy && s->q->msgs[msg].qid_life != 0)
		s->q->msgs[msg].flags &= ~MSGM_REQUEUE;
	r->messages++;
	r->busy += busy;
	return looks;
}

int sched_cmd_in(struct sched *s, enum sched_cmd cmd, unsigned queues, struct qid id,
		 struct sched_cmd_result *r)
{
	uint32_t msg = qtab_msg_find(s->q, id);

	if (msg == QTAB_NONE || !applies(s, msg, cmd, queues))
		return E_NOENT;
	uint64_t failed = r->failed;

	apply_message(s, msg, cmd, queues, r);
	return r->failed == failed ? 0 : E_IO;
}

int sched_cmd(struct sched *s, enum sched_cmd cmd, struct qid id, struct sched_cmd_result *r)
{
	return sched_cmd_in(s, cmd, SCHED_IN_ALL, id, r);
}

/* ---- sliced work ---- */

static int walk_start(struct sched *s, int kind, enum sched_cmd cmd, unsigned queues,
		      sched_done_fn done, void *ctx)
{
	if (s->walk.kind != WALK_NONE)
		return E_AGAIN;
	memset(&s->walk, 0, sizeof(s->walk));
	s->walk.kind = kind;
	s->walk.cmd = cmd;
	s->walk.queues = queues;
	s->walk.done = done;
	s->walk.ctx = ctx;
	s->walk.end = kind == WALK_MSGS ? qtab_msg_used(s->q) : s->dest_used;
	s->walk.left = UINT32_MAX;
	return 0;
}

int sched_cmd_all_in(struct sched *s, enum sched_cmd cmd, unsigned queues, sched_done_fn done,
		     void *ctx)
{
	return walk_start(s, cmd == SCHED_FLUSH ? WALK_DESTS : WALK_MSGS, cmd, queues, done, ctx);
}

int sched_cmd_all(struct sched *s, enum sched_cmd cmd, sched_done_fn done, void *ctx)
{
	return sched_cmd_all_in(s, cmd, SCHED_IN_ALL, done, ctx);
}

int sched_flush_site(struct sched *s, struct sv site, sched_done_fn done, void *ctx)
{
	int err = walk_start(s, WALK_DESTS, SCHED_FLUSH, SCHED_IN_ALL, done, ctx);

	if (err == 0 && (!str_copy(s->walk.site, sizeof(s->walk.site), site) || site.len == 0)) {
		s->walk.kind = WALK_NONE;
		return E_INVAL;
	}
	return err;
}

/* "[host]:port", "host:port", "[host]", "host" -> host */
static struct sv host_part(struct sv h)
{
	if (h.len > 0 && h.p[0] == '[') {
		const char *end = memchr(h.p, ']', h.len);

		return end == NULL ? h : (struct sv){ h.p + 1, (size_t)(end - h.p) - 1 };
	}
	const char *colon = memchr(h.p, ':', h.len);

	return colon == NULL ? h : (struct sv){ h.p, (size_t)(colon - h.p) };
}

static bool site_matches(const struct sched *s, uint32_t row)
{
	struct sv site = sv_from(s->walk.site);
	struct sv nexthop = sv_from(s->d->rows[row].nexthop);

	return site.len == 0 || sv_eq_nocase(nexthop, site) ||
	       sv_eq_nocase(host_part(nexthop), host_part(site));
}

static void flush_list(struct sched *s, struct elist *l, unsigned *budget)
{
	struct walker *w = &s->walk;

	while (w->left > 0 && *budget > 0 && l->head != QTAB_NONE) {
		sched_entry_flush(s, l->head);
		w->result.messages++;
		w->left--;
		(*budget)--;
	}
	if (w->left == 0 || l->head == QTAB_NONE)
		w->left = UINT32_MAX;
}

static bool walk_dests(struct sched *s, unsigned *budget)
{
	struct walker *w = &s->walk;

	while (w->pos<w->end && * budget> 0) {
		struct sdest *d = &s->dests[w->pos];

		(*budget)--;
		if (d->in_use && site_matches(s, w->pos)) {
			if (w->left == UINT32_MAX) {
				w->left = d->deferred.count;
				dest_revive(s, w->pos);
			}
			flush_list(s, &d->deferred, budget);
			if (w->left != UINT32_MAX)
				return false;
		}
		w->pos++;
	}
	if (w->pos < w->end)
		return false;
	if (w->left == UINT32_MAX && !w->nowhere) {
		w->nowhere = true;
		w->left = s->nowhere.count;
	}
	if (w->left != UINT32_MAX)
		flush_list(s, &s->nowhere, budget);
	return w->left == UINT32_MAX;
}

static bool walk_msgs(struct sched *s, unsigned *budget)
{
	struct walker *w = &s->walk;

	while (w->pos<w->end && * budget> 0) {
		unsigned looks = 1;

		if (s->q->msgs[w->pos].qid_life != 0)
			looks = apply_message(s, w->pos, w->cmd, w->queues, &w->result);
		*budget -= looks < *budget ? looks : *budget;
		w->pos++;
	}
	return w->pos >= w->end;
}

bool walk_turn(struct sched *s)
{
	struct walker *w = &s->walk;
	unsigned budget = TURN_SLICE;

	if (w->kind == WALK_NONE)
		return false;
	if (!(w->kind == WALK_MSGS ? walk_msgs(s, &budget) : walk_dests(s, &budget)))
		return true;
	w->kind = WALK_NONE;
	if (w->done != NULL)
		w->done(w->ctx, &w->result);
	return false;
}

/* ---- listing ---- */

/* Until 2106; then it says so for ever. */
static uint32_t shown_due_s(const struct sched *s, uint32_t due_s)
{
	int64_t wall_s = qclock_wall(&s->clock, due_s);

	return wall_s < 0 ? 0 : wall_s > UINT32_MAX ? UINT32_MAX : (uint32_t)wall_s;
}

/* From entry `e` on, at most max of them; where to go on, QTAB_NONE at the end. */
static uint32_t list_entries(struct sched *s, uint32_t msg, uint32_t e, unsigned *max,
			     sched_item_fn fn, void *ctx)
{
	const struct qmsg *m = &s->q->msgs[msg];
	struct sched_item it = {
		.qid = qtab_msg_qid(m),
		.place = { .seg = m->seg, .off8 = m->off8, .len = m->len },
		.msg_flags = m->flags & 0xffff,
	};

	for (; e != QTAB_NONE && *max > 0; e = sched_entry(s, e)->sibling) {
		const struct qentry *q = sched_entry(s, e);

		(*max)--;
		it.state = (uint8_t)qword_state(qtab_entry_word(s->q, e));
		if (it.state == QS_FRESH)
			continue;
		it.rcpt_first = q->rcpt_first;
		it.mask = q->mask;
		it.due_s = shown_due_s(s, q->due_s);
		it.dest = q->dest;
		it.jref = s->su.files != NULL ? files_jref_unpack(s->su.files, q->jref)
					      : (struct proto_jref){ 0, 0 };
		fn(ctx, &it);
	}
	return e;
}

static void list_message(struct sched *s, uint32_t msg, sched_item_fn fn, void *ctx)
{
	unsigned all = UINT_MAX;

	list_entries(s, msg, s->q->msgs[msg].first_entry, &all, fn, ctx);
}

bool sched_list(struct sched *s, uint32_t *cursor, unsigned max_msgs, sched_item_fn fn, void *ctx)
{
	uint32_t used = qtab_msg_used(s->q);

	for (; *cursor < used && max_msgs > 0; (*cursor)++, max_msgs--) {
		if (s->q->msgs[*cursor].qid_life != 0)
			list_message(s, *cursor, fn, ctx);
	}
	return *cursor < used;
}

static bool is_entry_of(struct sched *s, uint32_t e, uint32_t msg)
{
	return e < qtab_entry_used(s->q) && sched_entry(s, e)->msg == msg &&
	       qword_state(qtab_entry_word(s->q, e)) != QS_FREE;
}

bool sched_list_part(struct sched *s, struct sched_cursor *cursor, unsigned max_items,
		     sched_item_fn fn, void *ctx)
{
	uint32_t used = qtab_msg_used(s->q), e = cursor->entry;
	unsigned slots = LIST_SLOTS;

	for (; cursor->msg < used && max_items > 0 && slots > 0; cursor->msg++, slots--) {
		bool begins = e == QTAB_NONE;

		if (s->q->msgs[cursor->msg].qid_life != 0 &&
		    (begins || is_entry_of(s, e, cursor->msg)))
			e = list_entries(s, cursor->msg,
					 begins ? s->q->msgs[cursor->msg].first_entry : e,
					 &max_items, fn, ctx);
		else
			e = QTAB_NONE;
		if (e != QTAB_NONE)
			break;
	}
	cursor->entry = e;
	return cursor->msg < used;
}

int sched_list_one(struct sched *s, struct qid id, sched_item_fn fn, void *ctx)
{
	uint32_t msg = qtab_msg_find(s->q, id);

	if (msg == QTAB_NONE)
		return E_NOENT;
	list_message(s, msg, fn, ctx);
	return 0;
}

bool sched_is_suspended(const struct sched *s, uint32_t row, struct sv *reason_r)
{
	if (row == DTAB_NONE || !s->dests[row].dead)
		return false;
	*reason_r = sv_from(s->d->rows[row].suspend_reason);
	return true;
}

/* ---- recovery ---- */

static void found_entry(struct sched *s, uint32_t e, const struct sched_found_entry *f)
{
	struct qentry *q = sched_entry(s, e);
	uint32_t row = DTAB_NONE, ti;

	q->rcpt_first = f->rcpt_first;
	q->mask = f->mask;
	q->dest = DTAB_NONE;
	s->count[QS_FRESH]++;
	if (s->su.files != NULL)
		files_jref_take(s->su.files, 0, f->jref, &q->jref);
	switch (f->state) {
	case QS_DEFERRED:
		ti = f->nexthop.len > 0 ? transport_find(s, f->transport) : UINT32_MAX;
		if (ti != UINT32_MAX && dest_intern(s, ti, f->nexthop, &row) == 0)
			q->dest = row;
		sched_entry_defer_at(s, e, f->due_s);
		break;
	case QS_NOTIFY:
		sched_entry_notify(s, e, (enum bounce_kind)f->bounce);
		break;
	case QS_HOLD:
		sched_entry_hold(s, e);
		break;
	default:
		sched_entry_load(s, e);
		break;
	}
}

void sched_count_doubts(struct sched *s, uint64_t deliveries)
{
	counter_add(s->su.counters, CTR_sched_in_doubt, deliveries);
}

void sched_count_forged(struct sched *s, uint64_t outcomes)
{
	counter_add(s->su.counters, CTR_sched_forged, outcomes);
}

void sched_count_hidden(struct sched *s, uint64_t messages)
{
	counter_add(s->su.counters, CTR_sched_hidden, messages);
}

bool sched_place_of(const struct sched *s, struct qid id, struct proto_place *place_r)
{
	uint32_t msg = qtab_msg_find(s->q, id);

	if (msg == QTAB_NONE)
		return false;
	const struct qmsg *m = &s->q->msgs[msg];

	*place_r = (struct proto_place){ .seg = m->seg, .off8 = m->off8, .len = m->len };
	return true;
}

void sched_expect_found(struct sched *s, size_t messages)
{
	qtab_reserve(s->q, (uint32_t)size_min(messages, UINT32_MAX));
}

void sched_prefetch_found(const struct sched *s, struct qid id, bool sooner)
{
	if (sooner)
		qtab_prefetch_more(s->q, id);
	else
		qtab_prefetch(s->q, id);
}

int sched_add_found(struct sched *s, const struct sched_found *m, const struct sched_found_entry *e,
		    size_t count)
{
	uint32_t msg, entry;

	if (count > UINT32_MAX || !input_has_entries(s, (uint32_t)count))
		return E_NOSPC;
	int err = qtab_msg_alloc(s->q, m->qid, &msg);

	if (err != 0)
		return err;
	if (s->su.files != NULL) {
		err = files_msg_add(s->su.files, 0, &m->place);
		if (err != 0) {
			qtab_msg_free(s->q, msg);
			return err;
		}
	}
	struct qmsg *q = &s->q->msgs[msg];

	sched_msg_arrived(s, msg, qclock_arrival(&s->clock, m->qid, m->commit_us));
	q->seg = m->place.seg;
	q->off8 = m->place.off8;
	q->len = m->place.len;
	q->flags = (q->flags & 0xffff0000u) |
		   (m->flags & (MSG_FLAGS_IN | MSGF_DELAY_WARNED | MSGF_EXPIRED));
	if (m->flags & MSGF_IN_DOUBT)
		sched_msg_doubt(s, msg);
	for (size_t i = 0; i < count; i++) {
		err = qtab_entry_alloc(s->q, msg, &entry);
		ASSERT(err == 0);
		found_entry(s, entry, &e[i]);
	}
	return 0;
}
