/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What one message's outcomes leave to be done. Outcomes are taken oldest first; per recipient the
 * newest one decides, except that done is done for ever: sent, or failed and reported. Recipients
 * without any outcome are to be loaded. Pure functions over what was scanned; called by
 * daemon/recover.c.
 */
#include "daemon/recover_int.h"
#include "lib/rand.h"
#include "lib/util.h"

#define OWNER_NONE UINT32_MAX /* no outcome */
#define OWNER_DONE (UINT32_MAX - 1)

static struct sched_found_entry *add_entry(struct rplan *p)
{
	if (p->count == p->cap) {
		p->cap = p->cap == 0 ? 16 : p->cap * 2;
		p->entries = xrealloc(p->entries, p->cap * sizeof(*p->entries));
	}
	struct sched_found_entry *e = &p->entries[p->count++];

	memset(e, 0, sizeof(*e));
	return e;
}

void recover_plan_fini(struct rplan *p)
{
	free(p->entries);
	free(p->doubts);
	free(p->order);
	free(p->owner);
	memset(p, 0, sizeof(*p));
}

static uint64_t window_mask(uint32_t rcpt_count, uint32_t first)
{
	uint32_t left = rcpt_count - first;

	return left >= 64 ? UINT64_MAX : ((uint64_t)1 << left) - 1;
}

void recover_plan_fresh(uint32_t rcpt_count, enum qstate state, struct rplan *p)
{
	p->count = 0;
	for (uint32_t first = 0; first < rcpt_count; first += 64) {
		struct sched_found_entry *e = add_entry(p);

		e->rcpt_first = first;
		e->mask = window_mask(rcpt_count, first);
		e->state = state;
	}
}

static int by_age(const void *a, const void *b)
{
	const struct rpiece *x = *(struct rpiece *const *)a, *y = *(struct rpiece *const *)b;

	/* the supervisor counts what it hands out; clocks may be set back */
	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	if (x->order == 0 && x->when_us != y->when_us)
		return x->when_us < y->when_us ? -1 : 1;
	/* the same attempt or moment: order of the journal */
	if (x->jref.journal != y->jref.journal)
		return x->jref.journal < y->jref.journal ? -1 : 1;
	return x->jref.off16 < y->jref.off16 ? -1 : x->jref.off16 > y->jref.off16;
}

static size_t sort_pieces(const struct recovery *r, const struct rmsg *m, struct rplan *p)
{
	size_t n = 0;

	for (uint32_t i = m->pieces; i != RMSG_NONE; i = r->pieces[i].next) {
		if (n == p->order_cap) {
			p->order_cap = p->order_cap == 0 ? 64 : p->order_cap * 2;
			p->order = xrealloc(p->order, p->order_cap * sizeof(*p->order));
		}
		p->order[n++] = &r->pieces[i];
	}
	if (n > 1)
		qsort(p->order, n, sizeof(*p->order), by_age);
	return n;
}

/* Who decides about each recipient: an index in p->order, or OWNER_*. */
static void apply_pieces(const struct rmsg *m, struct rplan *p, size_t n)
{
	if (m->rcpt_count > p->owner_cap) {
		p->owner_cap = m->rcpt_count;
		p->owner = xrealloc(p->owner, p->owner_cap * sizeof(*p->owner));
	}
	for (uint32_t i = 0; i < m->rcpt_count; i++)
		p->owner[i] = OWNER_NONE;
	for (size_t k = 0; k < n; k++) {
		const struct rpiece *o = p->order[k];

		for (uint64_t left = o->mask; left != 0; left &= left - 1) {
			unsigned bit = (unsigned)__builtin_ctzll(left);
			uint64_t rcpt = (uint64_t)o->rcpt_first + bit;

			if (rcpt >= m->rcpt_count || p->owner[rcpt] == OWNER_DONE)
				continue;
			p->owner[rcpt] = o->done >> bit & 1 ? OWNER_DONE : (uint32_t)k;
		}
	}
}

/* The recipients that piece k decides about. */
static uint64_t owned_by(const struct rmsg *m, const struct rplan *p, size_t k)
{
	const struct rpiece *o = p->order[k];
	uint64_t mask = 0;

	for (uint64_t left = o->mask; left != 0; left &= left - 1) {
		unsigned bit = (unsigned)__builtin_ctzll(left);
		uint64_t rcpt = (uint64_t)o->rcpt_first + bit;

		if (rcpt < m->rcpt_count && p->owner[rcpt] == k)
			mask |= (uint64_t)1 << bit;
	}
	return mask;
}

static uint32_t due_s(const struct recovery *r, const struct rmsg *m, int64_t when_us)
{
	int64_t arrival_s = qclock_arrival(r->clock, m->qid, m->commit_us);
	int64_t when_s = qclock_of(r->clock, when_us / 1000000), now_s = r->clock->now_s;
	int64_t min_s = r->params->minimal_backoff_time / 1000;
	int64_t max_s = r->params->maximal_backoff_time / 1000;
	int64_t wait = when_s - arrival_s;

	if (m->marks & RMARK_REQUEUED)
		return (uint32_t)now_s;
	wait = wait > max_s ? max_s : wait;
	wait = wait < min_s ? min_s : wait;
	int64_t due = when_s + wait + rand_below((uint32_t)(wait / 8 + 1));

	return (uint32_t)(due < now_s ? now_s : due);
}

static void plan_deferred(const struct recovery *r, const struct rmsg *m, struct rplan *p,
			  const struct rpiece *o, uint64_t mask)
{
	if (mask == 0)
		return;
	struct sched_found_entry *e = add_entry(p);

	e->rcpt_first = o->rcpt_first;
	e->mask = mask;
	e->state = QS_DEFERRED;
	e->due_s = due_s(r, m, o->when_us);
	e->jref = o->jref;
	if (o->name != 0) {
		e->transport = sv_from(r->names.p + o->name);
		e->nexthop = sv_from(e->transport.p + e->transport.len + 1);
	}
}

static void plan_notify(struct rplan *p, const struct rpiece *o, uint64_t mask,
			enum bounce_kind kind)
{
	if (mask == 0)
		return;
	struct sched_found_entry *e = add_entry(p);

	e->rcpt_first = o->rcpt_first;
	e->mask = mask;
	e->state = QS_NOTIFY;
	e->bounce = kind;
	e->jref = o->jref;
}

static void plan_load(struct rplan *p, uint32_t first, uint64_t mask)
{
	if (mask == 0)
		return;
	struct sched_found_entry *e = add_entry(p);

	e->rcpt_first = first;
	e->mask = mask;
	e->state = QS_LOAD;
}

/* Recipients of piece o whose success is to be reported and was not yet. */
static uint64_t report_owed(const struct rplan *p, size_t n, const struct rpiece *o)
{
	uint64_t owed = o->kind == OUTCOME_RESULT ? o->report : 0;

	for (size_t k = 0; owed != 0 && k < n; k++) {
		const struct rpiece *told = p->order[k];

		if (told->kind != OUTCOME_NOTIFIED)
			continue;
		for (uint64_t left = told->mask; left != 0; left &= left - 1) {
			uint64_t at = (uint64_t)told->rcpt_first + (unsigned)__builtin_ctzll(left);

			if (at >= o->rcpt_first && at - o->rcpt_first < 64)
				owed &= ~((uint64_t)1 << (at - o->rcpt_first));
		}
	}
	return owed;
}

/* Begun and never heard of again. What an earlier start has put on the list keeps the action of
 * then: released by an operator since, it is not held once more. */
static void plan_doubt(const struct recovery *r, const struct rmsg *m, struct rplan *p,
		       const struct rpiece *o, uint64_t mask)
{
	bool listed = o->listed_us != 0;

	if (p->doubt_count == p->doubt_cap) {
		p->doubt_cap = p->doubt_cap == 0 ? 4 : p->doubt_cap * 2;
		p->doubts = xrealloc(p->doubts, p->doubt_cap * sizeof(*p->doubts));
	}
	p->doubts[p->doubt_count++] = (struct rdoubt){ .rcpt_first = o->rcpt_first,
						       .mask = mask,
						       .when_us = o->when_us,
						       .name = o->name,
						       .listed = listed,
						       .unsure = o->unsure };
	if (!listed)
		p->doubt_hold |= r->params->in_doubt_action == IN_DOUBT_HOLD;
	else if (o->listed_hold)
		p->doubt_hold |= !(m->marks & RMARK_HOLD_SEEN) || m->hold_when_us < o->listed_us;
}

static void plan_pieces(const struct recovery *r, const struct rmsg *m, struct rplan *p, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		const struct rpiece *o = p->order[k];
		uint64_t mine = owned_by(m, p, k);

		plan_notify(p, o, report_owed(p, n, o), BOUNCE_SUCCESS);
		if (mine == 0)
			continue;
		if (o->kind == OUTCOME_STARTED) {
			plan_doubt(r, m, p, o, mine);
		} else {
			plan_deferred(r, m, p, o, mine & o->deferred);
			plan_notify(p, o, mine & o->bounced, BOUNCE_FAILURE);
			mine &= ~(o->deferred | o->bounced);
		}
		plan_load(p, o->rcpt_first, mine);
	}
}

void recover_plan(const struct recovery *r, struct rmsg *m, struct rplan *p)
{
	bool hold = m->marks & RMARK_HOLD_SEEN ? (m->marks & RMARK_HELD) != 0
					       : (m->flags & MSGF_HOLD) != 0;

	hold = hold || m->marks & RMARK_UNSURE_MARK ||
	       (m->marks & RMARK_UNSURE && r->params->in_doubt_action == IN_DOUBT_HOLD);
	p->found = (struct sched_found){
		.qid = m->qid,
		.place = m->place,
		.commit_us = m->commit_us,
		.flags = (m->flags & ~(unsigned)(MSGF_HOLD | MSGF_DELAY_WARNED | MSGF_EXPIRED)) |
			 (hold ? MSGF_HOLD : 0u) | (m->marks & RMARK_EXPIRED ? MSGF_EXPIRED : 0u) |
			 (m->marks & RMARK_WARNED ? MSGF_DELAY_WARNED : 0u),
	};
	p->count = 0;
	p->doubt_count = 0;
	p->doubt_hold = false;
	if (m->marks & RMARK_DONE)
		return;
	if (m->pieces == RMSG_NONE) {
		recover_plan_fresh(m->rcpt_count, QS_LOAD, p);
	} else {
		size_t n = sort_pieces(r, m, p);

		apply_pieces(m, p, n);
		plan_pieces(r, m, p, n);
		for (uint32_t first = 0; first < m->rcpt_count; first += 64) {
			uint64_t mask = 0, all = window_mask(m->rcpt_count, first);

			for (uint64_t left = all; left != 0; left &= left - 1) {
				unsigned bit = (unsigned)__builtin_ctzll(left);

				if (p->owner[first + bit] == OWNER_NONE)
					mask |= (uint64_t)1 << bit;
			}
			plan_load(p, first, mask);
		}
	}
	if (p->doubt_count > 0 || m->marks & RMARK_DOUBT)
		p->found.flags |= MSGF_IN_DOUBT;
	if (p->doubt_hold)
		p->found.flags |= MSGF_HOLD;
	hold = hold || p->doubt_hold;
	for (size_t i = 0; hold && i < p->count; i++) {
		if (p->entries[i].state != QS_NOTIFY)
			p->entries[i].state = QS_HOLD;
	}
}
