/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Handing out jobs: deficit round robin over transports and, within each, over the destinations
 * that can take a job now. A destination's window is split over the workers in fixed shares, so
 * that no worker has to know what the others do and the sum never exceeds the window; the first
 * share is filled first, which keeps a quiet destination on the worker that has its connections.
 * Called by sched_turn().
 */
#include "daemon/sched_int.h"
#include "lib/err.h"
#include "lib/log.h"

/* Connections that share j of `shares` may have. */
static uint32_t share_size(uint32_t window, unsigned shares, unsigned j)
{
	return (window + shares - 1 - j) / shares;
}

static struct sched_worker *share_worker(struct pool *p, const struct sdest *d, unsigned j)
{
	return &p->w[p->order[(d->home + j) % p->order_count]];
}

static bool has_room(const struct sched_worker *w, unsigned limit)
{
	return w->held.count < limit;
}

/* The share that takes the next job; SHARES when none can. */
static unsigned pick_share(struct pool *p, const struct sdest *d)
{
	unsigned n = p->order_count < SHARES ? p->order_count : SHARES, best = SHARES;
	uint32_t best_over = UINT32_MAX;

	for (unsigned j = 0; j < n; j++) {
		uint32_t size = share_size(d->window.size, n, j);

		if (d->share_busy[j] < size && has_room(share_worker(p, d, j), p->limit))
			return j;
	}
	/* all connections are in use: queue a little at the workers, evenly */
	for (unsigned j = 0; j < n && d->ahead > 0; j++) {
		uint32_t size = share_size(d->window.size, n, j);

		if (size == 0 || d->share_busy[j] < size)
			continue;
		uint32_t over = d->share_busy[j] - size;

		if (over < best_over && over < share_size(d->ahead, n, j) &&
		    has_room(share_worker(p, d, j), p->limit / 2)) {
			best = j;
			best_over = over;
		}
	}
	return best;
}

/* A destination without deliveries may move to any worker. */
static bool rehome(struct pool *p, struct sdest *d)
{
	unsigned best = p->order_count;

	if (d->busy > 0)
		return false;
	for (unsigned i = 0; i < p->order_count; i++) {
		unsigned at = (p->next + i) % p->order_count;

		if (has_room(&p->w[p->order[at]], p->limit)) {
			best = at;
			break;
		}
	}
	if (best == p->order_count)
		return false;
	p->next = best + 1;
	d->home = (uint16_t)best;
	return true;
}

static bool pool_has_room(const struct pool *p)
{
	for (unsigned i = 0; i < p->order_count; i++) {
		if (has_room(&p->w[p->order[i]], p->limit))
			return true;
	}
	return false;
}

struct job_rec {
	struct proto_job job;
	char nexthop[DTAB_NEXTHOP_SIZE];
};

static int64_t active_us(const struct sched *s, const struct qentry *q, const struct qmsg *m)
{
	int64_t ready = s->wall_us - (s->now_s - q->due_s) * 1000000;
	int64_t arrival = (int64_t)((uint64_t)m->qid_us_hi << 32 | m->qid_us_lo);

	if (ready < arrival)
		ready = arrival;
	return ready < s->wall_us ? ready : s->wall_us;
}

/* 0; E_AGAIN: ring full; E_NOENT: that worker's configuration does not have the transport. */
static int send_job(struct sched *s, struct pool *p, uint32_t row, uint32_t e, unsigned share)
{
	struct sdest *d = &s->dests[row];
	struct sched_worker *w = share_worker(p, d, share);
	struct qentry *q = sched_entry(s, e);
	const struct qmsg *m = sched_msg_of(s, q);
	const char *nexthop = s->d->rows[row].nexthop;
	struct job_rec r;
	unsigned n = p->order_count < SHARES ? p->order_count : SHARES;
	uint16_t index = s->maps[w->map].index[d->transport];

	if (index == UINT16_MAX)
		return E_NOENT;
	memset(&r.job, 0, sizeof(r.job));
	r.job.kind = PROTO_JOB;
	r.job.dest = row;
	r.job.active_us = (uint64_t)active_us(s, q, m);
	r.job.msg_flags = sched_flags_out(s->params, m->flags);
	r.job.transport = index;
	r.job.window = (uint16_t)share_size(d->window.size, n, share);
	r.job.nexthop_len = (uint16_t)strnlen(nexthop, DTAB_NEXTHOP_SIZE - 1);
	memcpy(r.nexthop, nexthop, r.job.nexthop_len);
	/* the word after the move is known before it is made: same entry, next sequence */
	uint64_t word = qtab_entry_word(s->q, e);

	word = qword_make(QS_BUSY, w->life, qword_seq(word) + 1);
	sched_proto_ref(s, e, word, &r.job.ref);
	if (s->su.files != NULL)
		r.job.warrant = files_warrant(s->su.files, w->life, OUTCOME_RESULT, &r.job.ref);
	int err = s->su.ops.send(s->su.ops.ctx, p == &s->deliver ? CLASS_DELIVER : CLASS_LOCAL,
				 (unsigned)(w - p->w), &r, sizeof(r.job) + r.job.nexthop_len);

	if (err != 0)
		return E_AGAIN;
	uint64_t given = sched_entry_give(s, e, QS_BUSY, w);

	ASSERT(given == word);
	q->due_s = share;
	dest_job_begin(s, row, share);
	counter_add(s->su.counters, CTR_sched_jobs, 1);
	return 0;
}

enum visit { VISIT_ON, VISIT_TURN_OVER, VISIT_STOP };

/* One job of the destination, or what to do instead. */
static enum visit visit(struct sched *s, struct pool *p, uint32_t row)
{
	struct sdest *d = &s->dests[row];
	unsigned share = pick_share(p, d);

	if (share == SHARES && rehome(p, d))
		share = pick_share(p, d);
	if (share == SHARES) {
		if (d->busy == 0)
			return VISIT_STOP; /* every worker is full */
		/* its own results wake it */
		ring_del(DEST_RING(s), &s->transports[d->transport].active_head, row);
		return VISIT_TURN_OVER;
	}
	uint32_t e = dest_ready_peek(s, row);
	int cost = 1 + __builtin_popcountll(sched_entry(s, e)->mask) / 16;
	int err = send_job(s, p, row, e, share);

	if (err == E_NOENT) {
		/* workers of the new configuration come up; look again by the retry wheel */
		sched_entry_defer_at(s, e, s->now_s + 1);
		return VISIT_TURN_OVER;
	}
	if (err != 0)
		return VISIT_STOP;
	d->deficit = (int8_t)(d->deficit - cost);
	if (d->ready_count == 0 || d->busy >= d->window.size + d->ahead) {
		dest_wake(s, row); /* takes it off the ring when it can do no more */
		return VISIT_TURN_OVER;
	}
	return d->deficit > 0 ? VISIT_ON : VISIT_TURN_OVER;
}

static bool transport_blocked(const struct stransport *t)
{
	return t->active_head == UINT32_MAX || t->rate_locked ||
	       (t->maxproc > 0 && t->conns >= t->maxproc);
}

/* One visit: the head destination of the head transport. False: nothing more can be handed out. */
static bool pool_visit(struct sched *s, struct pool *p, unsigned *budget)
{
	uint32_t ti = p->active_head;
	struct stransport *t = &s->transports[ti];
	enum visit v = VISIT_TURN_OVER;

	if (transport_blocked(t)) {
		ring_del(TRANSPORT_RING(s), &p->active_head, ti);
		return true;
	}
	uint32_t row = t->active_head;
	struct sdest *d = &s->dests[row];

	d->deficit = (int8_t)(d->deficit + QUANTUM);
	do {
		(*budget)--;
		v = visit(s, p, row);
	} while (v == VISIT_ON && *budget > 0 && !transport_blocked(t));
	if (v == VISIT_STOP) {
		d->deficit = 0;
		return false;
	}
	/* the next one's turn: heads advance along the rings */
	if (t->active_head == row)
		t->active_head = d->node.next;
	if (d->node.next == UINT32_MAX || d->deficit > QUANTUM)
		d->deficit = 0;
	if (p->active_head == ti)
		p->active_head = t->node.next;
	if (transport_blocked(t))
		ring_del(TRANSPORT_RING(s), &p->active_head, ti);
	return true;
}

static void pool_turn(struct sched *s, struct pool *p, unsigned *budget)
{
	if (p->active_head == UINT32_MAX || p->order_count == 0 || !pool_has_room(p))
		return;
	while (p->active_head != UINT32_MAX && *budget > 0) {
		if (!pool_visit(s, p, budget))
			return;
	}
}

bool jobs_turn(struct sched *s)
{
	unsigned budget = TURN_JOBS, local_budget = TURN_JOBS;

	if (s->stopping)
		return false;
	pool_turn(s, &s->deliver, &budget);
	pool_turn(s, &s->local, &local_budget);
	return budget == 0 || local_budget == 0;
}
