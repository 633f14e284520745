/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Destinations: their ready lists, what they may have in delivery, suspension and rate delays.
 * Called by the other daemon/sched_*.c.
 */
#include <stdio.h>

#include "daemon/sched_int.h"
#include "lib/err.h"
#include "lib/log.h"

static struct stransport *transport_of(struct sched *s, const struct sdest *d)
{
	return &s->transports[d->transport];
}

/* ---- rows ---- */

static bool is_idle(const struct sdest *d)
{
	return d->ready_count == 0 && d->busy == 0 && d->deferred.count == 0 && !d->dead &&
	       !d->rate_wait && !d->on_drain;
}

static void dest_init(struct sched *s, uint32_t row, unsigned transport)
{
	struct sdest *d = &s->dests[row];
	uint32_t generation = d->generation;

	memset(d, 0, sizeof(*d));
	d->generation = generation;
	for (unsigned i = 0; i < READY_LISTS; i++)
		elist_init(&d->ready[i]);
	elist_init(&d->deferred);
	d->transport = (uint16_t)transport;
	d->home = (uint16_t)row;
	d->node.next = d->node.prev = UINT32_MAX;
	d->sched = s;
	d->in_use = true;
	window_reset(&d->window, &s->transports[transport].window);
	if (row >= s->dest_used)
		s->dest_used = row + 1;
	dest_touch(s, row);
	dest_check_idle(s, row);
}

static void idle_push(struct sched *s, uint32_t row)
{
	s->dests[row].on_idle = true;
	s->dests[row].idle_next = DTAB_NONE;
	if (s->idle_tail == DTAB_NONE)
		s->idle_head = row;
	else
		s->dests[s->idle_tail].idle_next = row;
	s->idle_tail = row;
}

static uint32_t idle_pop(struct sched *s)
{
	uint32_t row = s->idle_head;

	s->idle_head = s->dests[row].idle_next;
	if (s->idle_head == DTAB_NONE)
		s->idle_tail = DTAB_NONE;
	s->dests[row].on_idle = false;
	return row;
}

static void dest_free(struct sched *s, uint32_t row)
{
	struct sdest *d = &s->dests[row];

	dest_flush_dirty(s); /* the row must not be on the dirty list afterwards */
	d->in_use = false;
	d->generation++;
	dtab_free(s->d, row);
}

/* Frees destinations that nothing uses, oldest first; a limited number of looks. */
static bool idle_sweep(struct sched *s, int64_t keep_ms, unsigned looks)
{
	bool freed = false;

	while (looks-- > 0 && s->idle_head != DTAB_NONE) {
		struct sdest *d = &s->dests[s->idle_head];

		if (is_idle(d) && s->now_ms - d->idle_since_ms < keep_ms) {
			if (d->idle_since_ms <= s->now_ms - keep_ms / 2)
				break;
			idle_push(s, idle_pop(s));
			continue;
		}
		uint32_t row = idle_pop(s);

		if (is_idle(d)) {
			dest_free(s, row);
			freed = true;
		}
	}
	return freed;
}

void dest_check_idle(struct sched *s, uint32_t row)
{
	struct sdest *d = &s->dests[row];

	if (!d->in_use || !is_idle(d))
		return;
	d->idle_since_ms = s->now_ms;
	if (!d->on_idle)
		idle_push(s, row);
}

int dest_intern(struct sched *s, unsigned transport, struct sv nexthop, uint32_t *row_r)
{
	int err = dtab_intern(s->d, (uint16_t)transport, nexthop, row_r);

	if (err == E_NOSPC && idle_sweep(s, 0, 64))
		err = dtab_intern(s->d, (uint16_t)transport, nexthop, row_r);
	if (err != 0)
		return err;
	if (!s->dests[*row_r].in_use)
		dest_init(s, *row_r, transport);
	return 0;
}

void dest_touch(struct sched *s, uint32_t row)
{
	struct sdest *d = &s->dests[row];

	if (d->dirty)
		return;
	d->dirty = true;
	d->dirty_next = s->dirty_head;
	s->dirty_head = row;
}

static int64_t oldest_ready_s(struct sched *s, const struct sdest *d)
{
	int64_t oldest = 0;

	for (unsigned i = 0; i < READY_LISTS; i++) {
		if (d->ready[i].head == QTAB_NONE)
			continue;
		int64_t t = s->arrived_s[sched_entry(s, d->ready[i].head)->msg];

		if (oldest == 0 || t < oldest)
			oldest = t;
	}
	return oldest == 0 ? 0 : qclock_wall(&s->clock, oldest);
}

void dest_flush_dirty(struct sched *s)
{
	while (s->dirty_head != DTAB_NONE) {
		uint32_t row = s->dirty_head;
		struct sdest *d = &s->dests[row];

		s->dirty_head = d->dirty_next;
		d->dirty = false;
		struct drow *r = dtab_begin(s->d, row);

		r->window = d->window.size;
		r->busy = d->busy;
		r->ready = d->ready_count;
		r->deferred = d->deferred.count;
		r->fail_cohorts_milli = (uint32_t)(d->window.cohorts * 1000);
		r->sent += d->sent_add;
		r->deferred_total += d->deferred_add;
		r->bounced += d->bounced_add;
		r->suspend_until_s =
			d->suspend_until_s == 0 ? 0 : qclock_wall(&s->clock, d->suspend_until_s);
		if (d->suspend_until_s == 0)
			r->suspend_reason[0] = '\0';
		r->oldest_ready_s = oldest_ready_s(s, d);
		r->last_used_s = s->wall_us / 1000000;
		dtab_end(s->d, row);
		d->sent_add = d->deferred_add = d->bounced_add = 0;
	}
}

/* ---- who may deliver now ---- */

void transport_wake(struct sched *s, struct stransport *t)
{
	struct pool *p = sched_pool(s, t->class_id);

	if (t->active_head != UINT32_MAX && !t->rate_locked && !t->gone &&
	    (t->maxproc == 0 || t->conns < t->maxproc))
		ring_add(TRANSPORT_RING(s), &p->active_head, (uint32_t)(t - s->transports));
}

static void dest_sleep(struct sched *s, uint32_t row)
{
	struct stransport *t = transport_of(s, &s->dests[row]);

	ring_del(DEST_RING(s), &t->active_head, row);
	if (t->active_head == UINT32_MAX)
		ring_del(TRANSPORT_RING(s), &sched_pool(s, t->class_id)->active_head,
			 (uint32_t)(t - s->transports));
}

void dest_wake(struct sched *s, uint32_t row)
{
	struct sdest *d = &s->dests[row];
	struct stransport *t = transport_of(s, d);

	if (d->ready_count == 0 || d->dead || d->rate_wait || t->gone ||
	    d->busy >= d->window.size + d->ahead) {
		if (d->node.next != UINT32_MAX)
			dest_sleep(s, row);
		return;
	}
	if (d->node.next == UINT32_MAX)
		d->deficit = 0;
	ring_add(DEST_RING(s), &t->active_head, row);
	transport_wake(s, t);
}

static void recount(struct sched *s, struct sdest *d)
{
	struct stransport *t = transport_of(s, d);
	uint32_t now = d->window.size > 0 && d->busy > d->window.size ? d->window.size : d->busy;

	t->conns += now - d->counted;
	d->counted = now;
}

static void drain_push(struct sched *s, uint32_t row)
{
	struct sdest *d = &s->dests[row];

	if (d->on_drain)
		return;
	d->on_drain = true;
	d->drain_next = s->drain_head;
	s->drain_head = row;
}

/* ---- ready lists ---- */

void dest_ready_push(struct sched *s, uint32_t row, uint32_t e, unsigned list)
{
	struct sdest *d = &s->dests[row];

	elist_push(s, &d->ready[list], e);
	d->ready_mask |= (uint8_t)(1u << list);
	d->ready_count++;
	dest_touch(s, row);
	if (transport_of(s, d)->gone)
		drain_push(s, row);
	else if (d->node.next == UINT32_MAX)
		dest_wake(s, row);
}

static void list_remove(struct sched *s, struct sdest *d, uint32_t row, unsigned list, uint32_t e)
{
	elist_remove(s, &d->ready[list], e);
	if (d->ready[list].head == QTAB_NONE)
		d->ready_mask &= (uint8_t) ~(1u << list);
	d->ready_count--;
	dest_touch(s, row);
	if (d->ready_count == 0 && d->node.next != UINT32_MAX)
		dest_sleep(s, row);
}

void dest_ready_remove(struct sched *s, uint32_t row, uint32_t e)
{
	struct sdest *d = &s->dests[row];
	struct qentry *q = sched_entry(s, e);
	unsigned list = 0;

	/* only an entry at an end concerns the list's own head and tail */
	while (list < READY_LISTS - 1 && d->ready[list].head != e && d->ready[list].tail != e)
		list++;
	if (q->list_prev != QTAB_NONE && q->list_next != QTAB_NONE) {
		s->q->entries[q->list_prev].list_next = q->list_next;
		s->q->entries[q->list_next].list_prev = q->list_prev;
		d->ready_count--;
		dest_touch(s, row);
		return;
	}
	list_remove(s, d, row, list, e);
}

/* The next entry in turn among the flows; it stays on its list. */
uint32_t dest_ready_peek(struct sched *s, uint32_t row)
{
	struct sdest *d = &s->dests[row];
	unsigned turned = (unsigned)d->ready_mask << READY_LISTS | d->ready_mask;
	unsigned list =
		(unsigned)__builtin_ctz(turned >> d->ready_next << d->ready_next) % READY_LISTS;

	d->ready_next = (uint8_t)((list + 1) % READY_LISTS);
	return d->ready[list].head;
}

/* ---- suspension ---- */

#define SHORT_MS 1000 /* longer ones are kept well enough by the tick */

static void timer_set(struct sched *s, struct twheel_node *n, bool *is_short, int64_t after_ms)
{
	twheel_cancel(n);
	twheel_set(&s->timers, n, s->now_ms + after_ms);
	s->short_timers -= *is_short;
	*is_short = after_ms < SHORT_MS;
	s->short_timers += *is_short;
}

static void timer_over(struct sched *s, bool *is_short)
{
	s->short_timers -= *is_short;
	*is_short = false;
}

static void suspend(struct sched *s, uint32_t row, struct proto_jref ref)
{
	struct sdest *d = &s->dests[row];
	int64_t ms = s->params->minimal_backoff_time;

	d->dead = true;
	d->rate_wait = false;
	d->ahead = 0;
	d->suspend_until_s = s->now_s + ms / 1000;
	d->reason_ref = ref;
	d->want_reason = true;
	timer_set(s, &d->timer, &d->short_timer, ms);
	if (d->node.next != UINT32_MAX)
		dest_sleep(s, row);
	if (d->ready_count > 0)
		drain_push(s, row);
	dest_touch(s, row);
	log_as("qmgr", LOG_LEVEL_INFO,
	       "%s:%s: delivery temporarily suspended for %lld s, %u waiting: deferred",
	       transport_of(s, d)->name, s->d->rows[row].nexthop, (long long)ms / 1000,
	       d->ready_count);
}

void dest_revive(struct sched *s, uint32_t row)
{
	struct sdest *d = &s->dests[row];

	if (!d->dead)
		return;
	twheel_cancel(&d->timer);
	timer_over(s, &d->short_timer);
	d->dead = false;
	d->suspend_until_s = 0;
	d->want_reason = false;
	window_reset(&d->window, &transport_of(s, d)->window);
	recount(s, d);
	dest_touch(s, row);
	dest_wake(s, row);
	dest_check_idle(s, row);
}

/* The ready entries of dead destinations go to the retry wheel, those of vanished transports to be
 * resolved again. */
void dest_drain_slice(struct sched *s, unsigned *budget)
{
	while (s->drain_head != DTAB_NONE && *budget > 0) {
		uint32_t row = s->drain_head;
		struct sdest *d = &s->dests[row];
		bool gone = transport_of(s, d)->gone;

		while ((d->dead || gone) && d->ready_count > 0 && *budget > 0) {
			uint32_t e = dest_ready_peek(s, row);

			(*budget)--;
			if (gone)
				sched_entry_load(s, e);
			else
				sched_entry_backoff(s, e);
		}
		if ((d->dead || gone) && d->ready_count > 0)
			return;
		s->drain_head = d->drain_next;
		d->on_drain = false;
	}
}

static void read_reason(struct sched *s, uint32_t row)
{
	struct sdest *d = &s->dests[row];
	char text[DTAB_REASON_SIZE];
	bool got = s->su.ops.reason != NULL
			   ? s->su.ops.reason(s->su.ops.ctx, d->reason_ref, text, sizeof(text))
		   : s->su.files != NULL
			   ? files_reason(s->su.files, d->reason_ref, text, sizeof(text))
			   : false;

	if (!got)
		return;
	d->want_reason = false;
	struct drow *r = dtab_begin(s->d, row);

	memcpy(r->suspend_reason, text, sizeof(text));
	dtab_end(s->d, row);
}

/* ---- jobs ---- */

void dest_job_begin(struct sched *s, uint32_t row, unsigned share)
{
	struct sdest *d = &s->dests[row];
	struct stransport *t = transport_of(s, d);

	d->busy++;
	d->share_busy[share]++;
	recount(s, d);
	if (t->transport_delay_ms > 0)
		t->rate_locked = true;
}

static void feedback(struct sched *s, uint32_t row, enum job_health health, struct proto_jref ref)
{
	struct sdest *d = &s->dests[row];
	struct stransport *t = transport_of(s, d);

	if (health == JOB_HEALTH_OK) {
		if (d->dead)
			dest_revive(s, row);
		window_good(&d->window, &t->window,
			    d->busy < d->window.size ? d->busy : d->window.size);
		uint32_t most = d->window.size * 4 < AHEAD_MAX ? d->window.size * 4 : AHEAD_MAX;

		if (t->rate_delay_ms == 0 && t->transport_delay_ms == 0 && d->ahead < most)
			d->ahead += d->ahead < 4 ? 4 : 1;
	} else if (health == JOB_HEALTH_SITE) {
		d->ahead = 0;
		if (window_bad(&d->window, &t->window))
			suspend(s, row, ref);
	}
}

void dest_job_end(struct sched *s, uint32_t row, unsigned share, enum job_health health,
		  struct proto_jref ref)
{
	struct sdest *d = &s->dests[row];
	struct stransport *t = transport_of(s, d);

	feedback(s, row, health, ref);
	d->busy--;
	d->share_busy[share]--;
	recount(s, d);
	dest_touch(s, row);
	if (t->rate_delay_ms > 0 && !d->dead) {
		d->rate_wait = true;
		timer_set(s, &d->timer, &d->short_timer, t->rate_delay_ms);
	}
	if (t->transport_delay_ms > 0)
		timer_set(s, &t->timer, &t->short_timer, t->transport_delay_ms);
	else
		t->rate_locked = false;
	dest_wake(s, row);
	transport_wake(s, t);
	dest_check_idle(s, row);
}

/* The limits of its transport have changed. */
void dest_conf_changed(struct sched *s, uint32_t row)
{
	struct sdest *d = &s->dests[row];
	struct stransport *t = transport_of(s, d);

	if (t->window.limit > 0 && d->window.size > t->window.limit)
		d->window.size = t->window.limit;
	if (t->rate_delay_ms > 0)
		d->ahead = 0;
	recount(s, d);
	dest_touch(s, row);
	if (t->gone && d->node.next != UINT32_MAX)
		dest_sleep(s, row);
	if (t->gone && d->ready_count > 0)
		drain_push(s, row);
	dest_wake(s, row);
}

/* ---- timers ---- */

void transport_timer_fired(struct stransport *t)
{
	timer_over(t->sched, &t->short_timer);
	t->rate_locked = false;
	transport_wake(t->sched, t);
}

void dest_timer_fired(struct sdest *d)
{
	struct sched *s = d->sched;
	uint32_t row = (uint32_t)(d - s->dests);

	timer_over(s, &d->short_timer);
	if (d->dead) {
		dest_revive(s, row);
		return;
	}
	d->rate_wait = false;
	dest_wake(s, row);
	dest_check_idle(s, row);
}

void dest_tick(struct sched *s)
{
	idle_sweep(s, IDLE_KEEP_MS, 256);
	for (uint32_t row = s->reason_pos, n = 0; n < 256 && s->dest_used > 0; n++) {
		row = row + 1 < s->dest_used ? row + 1 : 0;
		s->reason_pos = row;
		if (s->dests[row].in_use && s->dests[row].want_reason)
			read_reason(s, row);
	}
}
