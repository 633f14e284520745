/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lists and moves of queue entries: the only place where the scheduler changes an entry's state, so
 * that state, list, counts and ages always go together. Called by the other daemon/sched_*.c.
 */
#include "daemon/sched_int.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/rand.h"

struct qentry *sched_entry(struct sched *s, uint32_t e)
{
	return &s->q->entries[e];
}

struct qmsg *sched_msg_of(struct sched *s, const struct qentry *e)
{
	return &s->q->msgs[e->msg];
}

void sched_msg_arrived(struct sched *s, uint32_t msg, int64_t queue_s)
{
	s->arrived_s[msg] = queue_s < 1 ? 1 : (uint32_t)queue_s;
}

void ring_add(void *first_node, size_t stride, uint32_t *head, uint32_t idx)
{
	struct ring_node *n = ring_at(first_node, stride, idx);

	if (n->next != UINT32_MAX)
		return;
	if (*head == UINT32_MAX) {
		n->next = n->prev = *head = idx;
		return;
	}
	struct ring_node *h = ring_at(first_node, stride, *head);

	n->next = *head;
	n->prev = h->prev;
	ring_at(first_node, stride, h->prev)->next = idx;
	h->prev = idx;
}

void ring_del(void *first_node, size_t stride, uint32_t *head, uint32_t idx)
{
	struct ring_node *n = ring_at(first_node, stride, idx);

	if (n->next == UINT32_MAX)
		return;
	if (n->next == idx) {
		*head = UINT32_MAX;
	} else {
		ring_at(first_node, stride, n->prev)->next = n->next;
		ring_at(first_node, stride, n->next)->prev = n->prev;
		if (*head == idx)
			*head = n->next;
	}
	n->next = n->prev = UINT32_MAX;
}

/* ---- ages ---- */

void ages_add(struct ages *a, int64_t arrival_s)
{
	int64_t b = arrival_s >> AGE_SHIFT;

	a->count[b % AGE_BUCKETS]++;
	if (a->total++ == 0 || b < a->low)
		a->low = b;
}

void ages_del(struct ages *a, int64_t arrival_s)
{
	a->count[(arrival_s >> AGE_SHIFT) % AGE_BUCKETS]--;
	a->total--;
}

int64_t ages_oldest(struct ages *a)
{
	if (a->total == 0)
		return 0;
	for (unsigned i = 0; i < AGE_BUCKETS && a->count[a->low % AGE_BUCKETS] == 0; i++)
		a->low++;
	return a->low << AGE_SHIFT;
}

/* ---- lists ---- */

void elist_init(struct elist *l)
{
	l->head = l->tail = QTAB_NONE;
	l->count = 0;
}

void elist_push(struct sched *s, struct elist *l, uint32_t e)
{
	struct qentry *q = s->q->entries;

	q[e].list_next = QTAB_NONE;
	q[e].list_prev = l->tail;
	if (l->tail == QTAB_NONE)
		l->head = e;
	else
		q[l->tail].list_next = e;
	l->tail = e;
	l->count++;
}

void elist_remove(struct sched *s, struct elist *l, uint32_t e)
{
	struct qentry *q = s->q->entries;

	if (q[e].list_prev == QTAB_NONE)
		l->head = q[e].list_next;
	else
		q[q[e].list_prev].list_next = q[e].list_next;
	if (q[e].list_next == QTAB_NONE)
		l->tail = q[e].list_prev;
	else
		q[q[e].list_next].list_prev = q[e].list_prev;
	l->count--;
}

static struct sched_worker *holder_in(struct pool *p, uint32_t life)
{
	for (unsigned i = 0; i < SCHED_SLOTS; i++) {
		if (p->w[i].up && p->w[i].life == life)
			return &p->w[i];
	}
	return NULL;
}

static void unlist_held(struct sched *s, uint32_t e, uint64_t word)
{
	uint32_t life = qword_life(word);
	struct sched_worker *w;

	if (s->holder != NULL && s->holder->life == life) {
		w = s->holder;
	} else if (qword_state(word) != QS_BUSY) {
		w = holder_in(&s->rewrite, life);
	} else {
		w = holder_in(&s->deliver, life);
		if (w == NULL)
			w = holder_in(&s->local, life);
	}
	ASSERT(w != NULL);
	elist_remove(s, &w->held, e);
	s->outstanding--;
	if (qword_state(word) == QS_LOADING)
		w->loads--;
	else if (qword_state(word) == QS_NOTIFYING)
		w->notifies--;
}

void sched_entry_unlist(struct sched *s, uint32_t e)
{
	struct qentry *q = sched_entry(s, e);
	uint64_t word = qtab_entry_word(s->q, e);

	switch (qword_state(word)) {
	case QS_READY:
		ages_del(&s->ready_ages, s->arrived_s[q->msg]);
		dest_ready_remove(s, q->dest, e);
		break;
	case QS_DEFERRED:
		ages_del(&s->deferred_ages, s->arrived_s[q->msg]);
		if (q->dest == DTAB_NONE) {
			elist_remove(s, &s->nowhere, e);
			break;
		}
		elist_remove(s, &s->dests[q->dest].deferred, e);
		dest_touch(s, q->dest);
		break;
	case QS_LOAD:
		elist_remove(s, &s->load_q, e);
		break;
	case QS_NOTIFY:
		elist_remove(s, &s->notify_q, e);
		break;
	case QS_HOLD:
		elist_remove(s, &s->hold_q, e);
		break;
	case QS_BUSY:
	case QS_LOADING:
	case QS_NOTIFYING:
		unlist_held(s, e, word);
		break;
	default:
		break;
	}
}

static uint64_t move(struct sched *s, uint32_t e, enum qstate to, uint32_t life)
{
	uint64_t word = qtab_entry_word(s->q, e), fresh = 0;
	int err = qtab_entry_move(s->q, e, word, to, life, &fresh);

	if (err != 0)
		bug("queue entry %u: move from %s to %s: %s", e, qstate_names[qword_state(word)],
		    qstate_names[to], err_str(err));
	s->count[qword_state(word)]--;
	s->count[to]++;
	return fresh;
}

/* An entry that is not READY, DEFERRED or with a worker keeps no destination, so rows of names that
 * are not used can go. */
void sched_entry_dest(struct sched *s, uint32_t e, uint32_t row)
{
	uint32_t old = sched_entry(s, e)->dest;

	sched_entry(s, e)->dest = row;
	if (old != row && old != DTAB_NONE)
		dest_check_idle(s, old);
}

/* Its time is over: the sender is told. */
static void entry_expire(struct sched *s, uint32_t e)
{
	bool forced = (sched_msg_of(s, sched_entry(s, e))->flags & MSGF_EXPIRED) != 0;

	counter_add(s->su.counters, forced ? CTR_sched_force_expired : CTR_sched_expired, 1);
	sched_entry_notify(s, e, forced ? BOUNCE_FORCED : BOUNCE_EXPIRED);
}

void sched_entry_load(struct sched *s, uint32_t e)
{
	uint32_t flags = sched_msg_of(s, sched_entry(s, e))->flags;

	if ((flags & (MSGF_HOLD | MSGF_EXPIRED)) == MSGF_EXPIRED) {
		entry_expire(s, e);
		return;
	}
	sched_entry_unlist(s, e);
	if (flags & MSGF_HOLD) {
		move(s, e, QS_HOLD, 0);
		elist_push(s, &s->hold_q, e);
	} else {
		move(s, e, QS_LOAD, 0);
		elist_push(s, &s->load_q, e);
	}
	sched_entry_dest(s, e, DTAB_NONE);
}

void sched_entry_flush(struct sched *s, uint32_t e)
{
	sched_entry_load(s, e);
	if (qword_state(qtab_entry_word(s->q, e)) != QS_NOTIFY)
		sched_entry(s, e)->due_s = SCHED_DUE_FLUSH;
}

void sched_entry_pass(struct sched *s, uint32_t e)
{
	sched_entry_defer_at(s, e, s->now_s); /* from a worker's hands there is no shorter way */
	sched_entry_load(s, e);
	if (qword_state(qtab_entry_word(s->q, e)) == QS_LOAD)
		sched_entry(s, e)->due_s = SCHED_DUE_BEST_MX;
}

void sched_entry_hold(struct sched *s, uint32_t e)
{
	sched_entry_unlist(s, e);
	move(s, e, QS_HOLD, 0);
	elist_push(s, &s->hold_q, e);
	sched_entry_dest(s, e, DTAB_NONE);
}

void sched_entry_ready(struct sched *s, uint32_t e, unsigned list)
{
	struct qentry *q = sched_entry(s, e);
	struct qmsg *m = sched_msg_of(s, q);

	if (m->flags & MSGF_HOLD) {
		sched_entry_hold(s, e);
		return;
	}
	if (m->flags & MSGF_EXPIRED) {
		entry_expire(s, e);
		return;
	}
	if (s->dests[q->dest].dead) {
		sched_entry_backoff(s, e);
		return;
	}
	sched_entry_unlist(s, e);
	move(s, e, QS_READY, 0);
	q->due_s = (uint32_t)s->now_s;
	ages_add(&s->ready_ages, s->arrived_s[q->msg]);
	dest_ready_push(s, q->dest, e, list);
}

void sched_entry_defer_at(struct sched *s, uint32_t e, int64_t due_s)
{
	struct qentry *q = sched_entry(s, e);

	sched_entry_unlist(s, e);
	move(s, e, QS_DEFERRED, 0);
	q->due_s = (uint32_t)due_s;
	wheel_add(&s->wheel, e, due_s);
	counter_add(s->su.counters, CTR_sched_deferrals, 1);
	ages_add(&s->deferred_ages, s->arrived_s[q->msg]);
	if (q->dest == DTAB_NONE) {
		elist_push(s, &s->nowhere, e);
		return;
	}
	elist_push(s, &s->dests[q->dest].deferred, e);
	dest_touch(s, q->dest);
}

void sched_entry_notify(struct sched *s, uint32_t e, enum bounce_kind kind)
{
	struct qentry *q = sched_entry(s, e);

	sched_entry_unlist(s, e);
	move(s, e, QS_NOTIFY, 0);
	q->due_s = (uint32_t)kind;
	elist_push(s, &s->notify_q, e);
	sched_entry_dest(s, e, DTAB_NONE);
}

uint64_t sched_entry_give(struct sched *s, uint32_t e, enum qstate to, struct sched_worker *w)
{
	sched_entry_unlist(s, e);
	uint64_t word = move(s, e, to, w->life);

	elist_push(s, &w->held, e);
	s->outstanding++;
	if (to == QS_LOADING)
		w->loads++;
	else if (to == QS_NOTIFYING)
		w->notifies++;
	return word;
}

void sched_msg_doubt(struct sched *s, uint32_t msg)
{
	if (s->q->msgs[msg].flags & MSGF_IN_DOUBT)
		return;
	s->q->msgs[msg].flags |= MSGF_IN_DOUBT;
	board_set(&s->su.board->in_doubt, ++s->in_doubt);
}

static void msg_end(struct sched *s, uint32_t msg)
{
	struct qmsg *m = &s->q->msgs[msg];
	char text[QID_TEXT_SIZE];

	if (!(m->flags & MSGM_DELETED))
		log_as("qmgr", LOG_LEVEL_INFO, "%s: removed", qid_format(qtab_msg_qid(m), text));
	if (s->su.files != NULL)
		files_msg_del(s->su.files, m->seg, m->len);
	if (m->flags & MSGF_IN_DOUBT)
		board_set(&s->su.board->in_doubt, --s->in_doubt);
	qtab_msg_free(s->q, msg);
}

void sched_entry_end(struct sched *s, uint32_t e)
{
	struct qentry *q = sched_entry(s, e);
	uint32_t msg = q->msg, dest = q->dest;

	sched_entry_unlist(s, e);
	sched_entry_jref(s, e, 0);
	q->dest = DTAB_NONE;
	uint64_t word = qtab_entry_word(s->q, e);
	int err = qtab_entry_free(s->q, e, word);

	if (err != 0)
		bug("queue entry %u: free from %s: %s", e, qstate_names[qword_state(word)],
		    err_str(err));
	s->count[qword_state(word)]--;
	if (s->q->msgs[msg].first_entry == QTAB_NONE)
		msg_end(s, msg);
	if (dest != DTAB_NONE)
		dest_check_idle(s, dest);
}

void sched_entry_jref(struct sched *s, uint32_t e, uint32_t packed)
{
	struct qentry *q = sched_entry(s, e);

	if (q->jref != 0 && s->su.files != NULL)
		files_jref_drop(s->su.files, q->jref);
	q->jref = packed;
}

/* ---- time ---- */

static int64_t age_s(const struct sched *s, uint32_t msg)
{
	int64_t age = s->now_s - s->arrived_s[msg];

	return age > 0 ? age : 0;
}

/* Older than `limit_ms`; but mail that came before a time when nobody looked is given time for
 * fresh attempts first. */
static bool is_older(const struct sched *s, uint32_t msg, int64_t limit_ms)
{
	int64_t grace_ms = s->params->maximal_backoff_time;

	if (grace_ms > limit_ms)
		grace_ms = limit_ms;
	if (s->arrived_s[msg] < s->clock.back_s && (s->now_s - s->clock.back_s) * 1000 < grace_ms)
		return false;
	return age_s(s, msg) * 1000 >= limit_ms;
}

bool sched_msg_expired(const struct sched *s, uint32_t msg)
{
	if (s->q->msgs[msg].flags & MSGF_EXPIRED)
		return true;
	return is_older(s, msg,
			s->q->msgs[msg].flags & MSGF_NULL_SENDER
				? s->params->bounce_queue_lifetime
				: s->params->maximal_queue_lifetime);
}

void sched_entry_backoff(struct sched *s, uint32_t e)
{
	uint32_t msg = sched_entry(s, e)->msg;
	struct qmsg *m = &s->q->msgs[msg];
	int64_t wait = age_s(s, msg);
	int64_t warn_ms = s->params->delay_warning_time;

	if (m->flags & MSGF_HOLD) {
		sched_entry_hold(s, e);
		return;
	}
	if (m->flags & MSGF_VERIFY) { /* somebody waits for what it finds out now */
		sched_entry_notify(s, e, BOUNCE_EXPIRED);
		return;
	}
	if (sched_msg_expired(s, msg)) {
		entry_expire(s, e);
		return;
	}
	if (warn_ms > 0 && is_older(s, msg, warn_ms) &&
	    !(m->flags & (MSGF_DELAY_WARNED | MSGF_NULL_SENDER))) {
		m->flags |= MSGF_DELAY_WARNED; /* one try: a second notice is worse than none */
		sched_entry_notify(s, e, BOUNCE_DELAY);
		return;
	}
	int64_t min_s = s->params->minimal_backoff_time / 1000;
	int64_t max_s = s->params->maximal_backoff_time / 1000;

	if (wait > max_s)
		wait = max_s;
	if (wait < min_s)
		wait = min_s;
	sched_entry_defer_at(s, e, s->now_s + wait + rand_below((uint32_t)(wait / 8 + 1)));
}

void sched_proto_ref(struct sched *s, uint32_t e, uint64_t word, struct proto_ref *r)
{
	const struct qentry *q = sched_entry(s, e);
	const struct qmsg *m = &s->q->msgs[q->msg];
	struct qid id = qtab_msg_qid(m);

	r->word = word;
	r->entry = e;
	r->rcpt_first = q->rcpt_first;
	r->mask = q->mask;
	r->qid = (struct proto_qid){ .time_us = id.time_us, .life = id.life };
	r->place = (struct proto_place){ .seg = m->seg, .off8 = m->off8, .len = m->len };
}
