/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Work for rewrite workers: entries to be resolved, notifications to be made, records to be copied
 * forward. What is outstanding per worker is bounded, so that new mail never waits long behind it.
 * Called by sched_turn() and sched_input().
 */
#include "daemon/sched_int.h"
#include "lib/err.h"
#include "lib/log.h"

typedef bool (*room_fn)(const struct sched_worker *w);

static bool room_load(const struct sched_worker *w)
{
	return w->loads < LOADS_MAX;
}

static bool room_notify(const struct sched_worker *w)
{
	return w->notifies < NOTIFIES_MAX;
}

static bool room_copy(const struct sched_worker *w)
{
	return w->copies < COPIES_MAX;
}

/* The next worker in turn that has room; NULL when none. */
static struct sched_worker *pick(struct pool *p, room_fn room)
{
	for (unsigned i = 0; i < p->order_count; i++) {
		struct sched_worker *w = &p->w[p->order[p->next++ % p->order_count]];

		if (room(w))
			return w;
	}
	return NULL;
}

static int send_to(struct sched *s, struct sched_worker *w, const void *rec, size_t len)
{
	return s->su.ops.send(s->su.ops.ctx, CLASS_REWRITE, (unsigned)(w - s->rewrite.w), rec, len);
}

static uint64_t next_word(struct sched *s, uint32_t e, enum qstate to, const struct sched_worker *w)
{
	return qword_make(to, w->life, qword_seq(qtab_entry_word(s->q, e)) + 1);
}

static int send_load(struct sched *s, struct sched_worker *w, uint32_t e)
{
	struct proto_load r = { .kind = PROTO_LOAD };

	if (sched_entry(s, e)->due_s == SCHED_DUE_FLUSH)
		r.flags = LOAD_FLUSH;
	else if (sched_entry(s, e)->due_s == SCHED_DUE_BEST_MX)
		r.flags = LOAD_BEST_MX;
	sched_proto_ref(s, e, next_word(s, e, QS_LOADING, w), &r.ref);
	int err = send_to(s, w, &r, sizeof(r));

	if (err == 0) {
		uint64_t given = sched_entry_give(s, e, QS_LOADING, w);

		ASSERT(given == r.ref.word);
	}
	return err;
}

static int send_bounce(struct sched *s, struct sched_worker *w, uint32_t e)
{
	struct qentry *q = sched_entry(s, e);
	struct proto_bounce r = { .kind = PROTO_BOUNCE };

	r.bounce = (uint16_t)q->due_s;
	r.msg_flags = (uint16_t)sched_flags_out(s->params, sched_msg_of(s, q)->flags);
	if (s->su.files != NULL)
		r.jref = files_jref_unpack(s->su.files, q->jref);
	sched_proto_ref(s, e, next_word(s, e, QS_NOTIFYING, w), &r.ref);
	if (s->su.files != NULL)
		r.warrant = files_warrant(
			s->su.files, w->life,
			r.bounce == BOUNCE_DELAY ? OUTCOME_WARNED : OUTCOME_NOTIFIED, &r.ref);
	int err = send_to(s, w, &r, sizeof(r));

	if (err == 0) {
		uint64_t given = sched_entry_give(s, e, QS_NOTIFYING, w);

		ASSERT(given == r.ref.word);
	}
	return err;
}

static void hand_out(struct sched *s, struct elist *l, room_fn room,
		     int (*send)(struct sched *, struct sched_worker *, uint32_t), unsigned *budget)
{
	while (l->head != QTAB_NONE && *budget > 0) {
		struct sched_worker *w = pick(&s->rewrite, room);

		if (w == NULL || send(s, w, l->head) != 0)
			return;
		(*budget)--;
	}
}

bool work_turn(struct sched *s)
{
	unsigned budget = TURN_WORK;

	if (s->stopping || s->rewrite.order_count == 0)
		return false;
	if (s->now_ms >= s->notify_pause_ms)
		hand_out(s, &s->notify_q, room_notify, send_bounce, &budget);
	hand_out(s, &s->load_q, room_load, send_load, &budget);
	return budget == 0;
}

/* ---- notices about servers ---- */

#define NOTICE_BURST 10
#define NOTICE_MS    60000 /* one more each */

static bool room_any(const struct sched_worker *w UNUSED)
{
	return true;
}

/* Servers decide how many there are: beyond the allowance they are lost. */
int work_notice(struct sched *s, struct sched_worker *w, const void *rec, size_t len)
{
	struct proto_notice n;
	struct sched_worker *to;

	if (len < sizeof(n))
		return E_PEER;
	memcpy(&n, rec, sizeof(n));
	if (n.peer_len == 0 || n.peer_len > 2 * PROTO_NAME_MAX || n.text_len > PROTO_NOTICE_MAX ||
	    n.lmtp > 1 || len != sizeof(n) + n.peer_len + n.text_len)
		return E_PEER;
	if (w->notice_at_ms < s->now_ms)
		w->notice_at_ms = s->now_ms;
	if (w->notice_at_ms - s->now_ms > (NOTICE_BURST - 1) * NOTICE_MS ||
	    (to = pick(&s->rewrite, room_any)) == NULL || send_to(s, to, rec, len) != 0)
		return 0;
	w->notice_at_ms += NOTICE_MS;
	return 0;
}

/* ---- copy-forward ---- */

/* A message whose entries are all in our hands; then nobody reads its old place. */
static bool is_quiet(struct sched *s, uint32_t msg)
{
	for (uint32_t e = s->q->msgs[msg].first_entry; e != QTAB_NONE;
	     e = sched_entry(s, e)->sibling) {
		enum qstate st = qword_state(qtab_entry_word(s->q, e));

		if (st != QS_LOAD && st != QS_READY && st != QS_DEFERRED && st != QS_HOLD)
			return false;
	}
	return true;
}

static struct proto_copy copy_request(struct sched *s, uint32_t msg)
{
	const struct qmsg *m = &s->q->msgs[msg];
	struct qid id = qtab_msg_qid(m);

	return (struct proto_copy){
		.kind = PROTO_COPY,
		.msg = msg,
		.msg_seq = m->flags >> 16,
		.qid = { .time_us = id.time_us, .life = id.life },
		.place = { .seg = m->seg, .off8 = m->off8, .len = m->len },
	};
}

static struct copy_out *free_copy(struct sched *s)
{
	for (unsigned i = 0; i < COPIES_MAX; i++) {
		if (!s->copies[i].used)
			return &s->copies[i];
	}
	return NULL;
}

void work_copy_tick(struct sched *s)
{
	struct copy_out *c;
	struct qid id;
	uint32_t seg;

	if (s->su.files == NULL || s->stopping || s->rewrite.order_count == 0)
		return;
	for (unsigned looks = 0; looks < 256 && (c = free_copy(s)) != NULL; looks++) {
		struct sched_worker *w = pick(&s->rewrite, room_copy);

		if (w == NULL || !files_copy_next(s->su.files, &id, &seg))
			return;
		uint32_t msg = qtab_msg_find(s->q, id);

		if (msg == QTAB_NONE || s->q->msgs[msg].seg != seg || !is_quiet(s, msg)) {
			files_copy_ended(s->su.files, seg);
			continue;
		}
		struct proto_copy r = copy_request(s, msg);

		if (send_to(s, w, &r, sizeof(r)) != 0) {
			files_copy_ended(s->su.files, seg);
			return;
		}
		*c = (struct copy_out){ .msg = msg,
					.old_seg = seg,
					.old_off8 = r.place.off8,
					.qid = id,
					.slot = (unsigned)(w - s->rewrite.w),
					.used = true };
		w->copies++;
	}
}

/* What the older journals say about this message is said again behind everything, because they go
 * when the old segment has gone. */
static int keep_done(struct sched *s, struct qid id, uint32_t msg, uint32_t rcpt_count)
{
	size_t words = rcpt_count / 64 + 1;
	uint64_t *live = xcalloc(words + 1, sizeof(*live));
	int err = 0;

	for (uint32_t e = s->q->msgs[msg].first_entry; e != QTAB_NONE;
	     e = sched_entry(s, e)->sibling) {
		const struct qentry *q = sched_entry(s, e);
		unsigned shift = q->rcpt_first % 64;
		size_t at = q->rcpt_first / 64;

		if (at >= words)
			continue;
		live[at] |= q->mask << shift;
		if (shift > 0)
			live[at + 1] |= q->mask >> (64 - shift);
	}
	for (size_t i = 0; err == 0 && i * 64 < rcpt_count; i++) {
		uint32_t left = rcpt_count - (uint32_t)i * 64;
		uint64_t all = left >= 64 ? UINT64_MAX : ((uint64_t)1 << left) - 1;
		uint32_t none;

		if ((all & ~live[i]) != 0)
			err = files_keep(s->su.files, id, (uint32_t)i * 64, all & ~live[i], 0,
					 (struct proto_jref){ 0, 0 }, &none);
	}
	free(live);
	return err;
}

static int keep_entry(struct sched *s, struct qid id, uint32_t e)
{
	struct qentry *q = sched_entry(s, e);
	enum qstate st = qword_state(qtab_entry_word(s->q, e));
	uint32_t packed = 0;

	/* failed ones that are about to be reported would become deferred ones */
	if (q->jref == 0 || st == QS_NOTIFY || st == QS_NOTIFYING)
		return 0;
	int err = files_keep(s->su.files, id, q->rcpt_first, q->mask, q->mask,
			     files_jref_unpack(s->su.files, q->jref), &packed);

	if (err == 0)
		sched_entry_jref(s, e, packed);
	return err;
}

static int keep_state(struct sched *s, uint32_t msg, uint32_t rcpt_count)
{
	const struct qmsg *m = &s->q->msgs[msg];
	struct qid id = qtab_msg_qid(m);
	int err = keep_done(s, id, msg, rcpt_count);

	for (uint32_t e = m->first_entry; err == 0 && e != QTAB_NONE;
	     e = sched_entry(s, e)->sibling)
		err = keep_entry(s, id, e);
	if (err == 0)
		err = files_mark(s->su.files,
				 m->flags & MSGF_HOLD ? OUTCOME_HELD : OUTCOME_RELEASED, id);
	if (err == 0 && m->flags & MSGF_DELAY_WARNED)
		err = files_mark(s->su.files, OUTCOME_WARNED, id);
	if (err == 0 && m->flags & MSGF_EXPIRED)
		err = files_mark(s->su.files, OUTCOME_EXPIRED, id);
	if (err == 0 && m->flags & MSGM_DELETED)
		err = files_mark(s->su.files, OUTCOME_DELETED, id);
	return err;
}

/* A copy that does not hold is a duplicate that may outlive the old segment and the journals that
 * speak of it: what is left of the message is written down all the same, or a restart would deliver
 * it once more. Where that fails the old segment stays, and with it those journals. */
static void keep_duplicate(struct sched *s, struct qid id, uint32_t old_seg, uint32_t rcpt_count)
{
	uint32_t msg = qtab_msg_find(s->q, id);
	int err = msg == QTAB_NONE ? files_mark(s->su.files, OUTCOME_DELETED, id)
				   : keep_state(s, msg, rcpt_count);

	if (err != 0)
		files_pin(s->su.files, old_seg);
}

/* The new place holds if the message has not begun to move meanwhile. */
static int apply_copy(struct sched *s, struct sched_worker *w, const struct copy_out *c,
		      const struct proto_copied *r)
{
	uint32_t msg = qtab_msg_find(s->q, c->qid);
	struct qmsg *m = &s->q->msgs[msg == QTAB_NONE ? 0 : msg];

	if (r->status != 0)
		return 0;
	if (r->place.len == 0 || r->rcpt_count == 0 || r->rcpt_count > 10000000)
		return E_PEER;
	/* known from here on: not to be adopted, should the worker die */
	if (files_seen(s->su.files, w->life, &r->place) != 0)
		return E_PEER;
	if (msg == QTAB_NONE || m->seg != c->old_seg || m->off8 != c->old_off8 ||
	    !is_quiet(s, msg)) {
		keep_duplicate(s, c->qid, c->old_seg, r->rcpt_count);
		return 0;
	}
	if (files_msg_add(s->su.files, w->life, &r->place) != 0)
		return E_PEER;
	if (keep_state(s, msg, r->rcpt_count) != 0) {
		files_msg_del(s->su.files, r->place.seg, r->place.len);
		files_pin(s->su.files, c->old_seg);
		return 0; /* where it is, its journals stay too */
	}
	files_msg_del(s->su.files, m->seg, m->len);
	m->seg = r->place.seg;
	m->off8 = r->place.off8;
	m->len = r->place.len;
	return 0;
}

int sched_move_found(struct sched *s, struct qid id, const struct proto_place *place)
{
	uint32_t msg = qtab_msg_find(s->q, id);

	if (msg == QTAB_NONE)
		return E_NOENT;
	if (!is_quiet(s, msg))
		return E_AGAIN;
	struct qmsg *m = &s->q->msgs[msg];
	int err = s->su.files == NULL ? 0 : files_msg_add(s->su.files, 0, place);

	if (err != 0)
		return err;
	if (s->su.files != NULL)
		files_msg_del(s->su.files, m->seg, m->len);
	m->seg = place->seg;
	m->off8 = place->off8;
	m->len = place->len;
	return 0;
}

int work_copied(struct sched *s, struct sched_worker *w, unsigned slot, const void *rec, size_t len)
{
	struct proto_copied r;

	if (len != sizeof(r) || s->su.files == NULL)
		return E_PEER;
	memcpy(&r, rec, sizeof(r));
	for (unsigned i = 0; i < COPIES_MAX; i++) {
		struct copy_out *c = &s->copies[i];

		if (!c->used || c->slot != slot || c->msg != r.msg ||
		    c->qid.time_us != r.qid.time_us || c->qid.life != r.qid.life)
			continue;
		int err = apply_copy(s, w, c, &r);

		c->used = false;
		w->copies--;
		files_copy_ended(s->su.files, c->old_seg);
		return err;
	}
	return E_PEER;
}

/* Each may be in the dead worker's segment, complete or not: sched_adopt_copy() is asked about what
 * is found there. */
void work_copies_gone(struct sched *s, unsigned slot, uint32_t life)
{
	for (unsigned i = 0; i < COPIES_MAX; i++) {
		struct copy_out *c = &s->copies[i];

		if (!c->used || c->slot != slot)
			continue;
		c->used = false;
		s->lost_copies[s->lost_copy_next++ % LOST_COPIES] =
			(struct lost_copy){ c->qid, c->old_seg, life };
		files_copy_ended(s->su.files, c->old_seg);
	}
}

bool sched_adopt_copy(struct sched *s, uint32_t life, struct qid id, uint32_t rcpt_count)
{
	for (unsigned i = 0; i < LOST_COPIES; i++) {
		const struct lost_copy *c = &s->lost_copies[i];

		if (c->life != life || !qid_eq(c->qid, id))
			continue;
		keep_duplicate(s, id, c->old_seg, rcpt_count);
		return true;
	}
	return false;
}
