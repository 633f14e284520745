/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The scheduler's frame: making it, its workers, the turn and the tick; see daemon/sched.h.
 * Called by the supervisor.
 */
#include "daemon/sched.h"

#include "daemon/sched_int.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/rand.h"

/* ---- time ---- */

#define CLOCK_WRITE_MS 60000 /* the next start knows within this when we last looked */

static void clock_write(struct sched *s, bool sync)
{
	s->clock_write_ms = s->now_ms + CLOCK_WRITE_MS;
	if (s->su.clock_file == NULL)
		return;
	int err = qclock_file_write(s->su.clock_file, &s->clock, sync);

	if (err != 0 && !s->clock_write_failed)
		log_warn("queue directory: clock: %s", err_str(err));
	s->clock_write_failed = err != 0;
}

static void clock_was_set(struct sched *s, int64_t by_s)
{
	counter_add(s->su.counters, CTR_sched_clock_jumps, 1);
	log_warn("the clock was set %s by %lld s; ages and retry times of queued mail go on as "
		 "before",
		 by_s < 0 ? "back" : "ahead", (long long)(by_s < 0 ? -by_s : by_s));
	/* what the table shows is wall time */
	for (uint32_t row = 0; row < s->dest_used; row++) {
		if (s->dests[row].in_use && s->dests[row].dead)
			dest_touch(s, row);
	}
	clock_write(s, true);
}

static void read_time(struct sched *s)
{
	s->wall_us = clock_now_wall().us;
	s->now_ms = clock_now().ms;
	int64_t jump_s = qclock_tick(&s->clock);

	s->now_s = s->clock.now_s;
	if (jump_s != 0)
		clock_was_set(s, jump_s);
	else if (s->now_ms >= s->clock_write_ms)
		clock_write(s, false);
}

static void clock_begin(struct sched *s)
{
	const struct qclock_file *f = s->su.clock_file;
	int64_t jump_s = qclock_init(&s->clock, s->su.clock_seen, f != NULL ? f->boot_id : "?");

	s->wall_us = clock_now_wall().us;
	s->now_ms = clock_now().ms;
	s->now_s = s->clock.now_s;
	if (jump_s != 0)
		clock_was_set(s, jump_s);
	else
		clock_write(s, true);
}

const struct qclock *sched_clock(const struct sched *s)
{
	return &s->clock;
}

/* ---- life ---- */

struct pool *sched_pool(struct sched *s, enum worker_class class_id)
{
	switch (class_id) {
	case CLASS_REWRITE:
		return &s->rewrite;
	case CLASS_DELIVER:
		return &s->deliver;
	case CLASS_LOCAL:
		return &s->local;
	default:
		return NULL;
	}
}

static void pool_init(struct pool *p, unsigned limit)
{
	p->active_head = UINT32_MAX;
	p->limit = limit;
	for (unsigned i = 0; i < SCHED_SLOTS; i++) {
		elist_init(&p->w[i].held);
		p->w[i].open_msg = QTAB_NONE;
	}
}

static void read_conf(struct sched *s, const struct conf *conf, unsigned generation)
{
	s->su.conf = conf;
	s->params = conf_params(conf);
	s->deliver.limit = s->local.limit = (unsigned)s->params->deliver_connection_limit;
	dest_transports_load(s, conf, generation);
}

int sched_new(const struct sched_setup *setup, struct sched **s_r)
{
	struct sched *s = xcalloc(1, sizeof(*s));

	s->su = *setup;
	s->q = setup->qtab;
	s->d = setup->dtab;
	clock_begin(s);
	s->dest_cap = s->d->shm->cap;
	s->dests = xcalloc(s->dest_cap, sizeof(*s->dests));
	s->dirty_head = s->drain_head = s->idle_head = s->idle_tail = DTAB_NONE;
	s->ready_ages.count = xcalloc(AGE_BUCKETS, sizeof(uint32_t));
	s->deferred_ages.count = xcalloc(AGE_BUCKETS, sizeof(uint32_t));
	elist_init(&s->load_q);
	elist_init(&s->notify_q);
	elist_init(&s->hold_q);
	elist_init(&s->nowhere);
	s->arrived_s = xcalloc(s->q->msg_cap, sizeof(*s->arrived_s));
	wheel_init(&s->wheel, s->now_s);
	twheel_init(&s->timers, DEST_TIMER_MS, s->now_ms);
	pool_init(&s->rewrite, 0);
	pool_init(&s->deliver, 0);
	pool_init(&s->local, 0);
	read_conf(s, setup->conf,
		  setup->generation != 0 ? setup->generation
					 : (unsigned)atomic_load_explicit(&setup->board->generation,
									  memory_order_relaxed));
	*s_r = s;
	return 0;
}

static void pool_fini(struct pool *p)
{
	for (unsigned i = 0; i < SCHED_SLOTS; i++) {
		local_dests_free(&p->w[i]);
		free(p->w[i].open_cover);
	}
}

void sched_free(struct sched **sp)
{
	struct sched *s = *sp;

	if (s == NULL)
		return;
	*sp = NULL;
	death_unsure_write(s);
	pool_fini(&s->rewrite);
	pool_fini(&s->deliver);
	pool_fini(&s->local);
	wheel_fini(&s->wheel);
	for (unsigned i = 0; i < s->transport_count; i++)
		free(s->transports[i].name);
	free(s->ready_ages.count);
	free(s->deferred_ages.count);
	free(s->dests);
	free(s->arrived_s);
	free(s);
}

int sched_reload(struct sched *s, const struct conf *conf, unsigned generation)
{
	read_time(s);
	read_conf(s, conf, generation);
	return 0;
}

const struct params *sched_params(const struct sched *s)
{
	return s->params;
}

void sched_stop(struct sched *s)
{
	s->stopping = true;
	clock_write(s, false);
}

uint64_t sched_outstanding(const struct sched *s)
{
	return s->outstanding;
}

/* ---- workers ---- */

static void order_rebuild(struct sched *s, struct pool *p)
{
	p->order_count = 0;
	for (unsigned i = 0; i < SCHED_SLOTS; i++) {
		if (p->w[i].up && !p->w[i].draining)
			p->order[p->order_count++] = (uint16_t)i;
	}
	/* destinations that had no worker with room may have one now */
	for (uint32_t row = 0; row < s->dest_used; row++) {
		if (s->dests[row].in_use && s->dests[row].ready_count > 0)
			dest_wake(s, row);
	}
}

int sched_worker_up(struct sched *s, enum worker_class class_id, unsigned slot, uint32_t life,
		    unsigned generation)
{
	struct pool *p = sched_pool(s, class_id);

	if (p == NULL)
		return 0;
	if (slot >= SCHED_SLOTS || p->w[slot].up || life == 0)
		return E_INVAL;
	const struct transport_map *map = transport_map_of(s, generation);

	if (map == NULL)
		return E_INVAL;
	read_time(s);
	struct sched_worker *w = &p->w[slot];

	w->up = true;
	w->draining = false;
	w->life = life;
	w->map = (unsigned)(map - s->maps);
	w->loads = w->notifies = w->copies = 0;
	w->complaints = 0;
	w->refused = false;
	w->files_ms = 0;
	memset(w->owed, 0, sizeof(w->owed));
	order_rebuild(s, p);
	return 0;
}

static struct sched_worker *worker_of(struct sched *s, enum worker_class class_id, unsigned slot,
				      uint32_t life)
{
	struct pool *p = sched_pool(s, class_id);

	if (p == NULL || slot >= SCHED_SLOTS || !p->w[slot].up || p->w[slot].life != life)
		return NULL;
	return &p->w[slot];
}

void sched_worker_drain(struct sched *s, enum worker_class class_id, unsigned slot, uint32_t life)
{
	struct sched_worker *w = worker_of(s, class_id, slot, life);

	if (w == NULL)
		return;
	w->draining = true;
	order_rebuild(s, sched_pool(s, class_id));
}

void sched_worker_refused(struct sched *s, enum worker_class class_id, unsigned slot, uint32_t life)
{
	struct pool *p = sched_pool(s, class_id);

	if (p != NULL && slot < SCHED_SLOTS && p->w[slot].up && p->w[slot].life == life)
		p->w[slot].refused = true;
}

void sched_worker_gone(struct sched *s, enum worker_class class_id, unsigned slot, uint32_t life)
{
	struct pool *p = sched_pool(s, class_id);
	struct sched_worker *w = worker_of(s, class_id, slot, life);

	if (w == NULL)
		return;
	read_time(s);
	s->holder = w;
	if (p != &s->rewrite)
		death_settle(s, w);
	death_take_back(s, w);
	s->holder = NULL;
	if (p == &s->rewrite) {
		input_open_abandon(s, w);
		work_copies_gone(s, slot, life);
	}
	local_dests_free(w);
	if (s->su.files != NULL)
		files_life_gone(s->su.files, life);
	w->up = false;
	order_rebuild(s, p);
}

bool sched_worker_overdue(const struct sched *s, enum worker_class class_id, unsigned slot,
			  uint32_t life)
{
	const struct sched_worker *w =
		worker_of((struct sched *)(uintptr_t)s, class_id, slot, life);

	return w != NULL && w->open_left > 0 && s->now_ms - w->open_ms > OPEN_MS;
}

unsigned sched_worker_load(const struct sched *s, enum worker_class class_id, unsigned slot)
{
	struct pool *p = sched_pool((struct sched *)(uintptr_t)s, class_id);

	return p != NULL && slot < SCHED_SLOTS && p->w[slot].up
		       ? p->w[slot].held.count + p->w[slot].copies
		       : 0;
}

/* ---- turn and tick ---- */

/* Due again; a dead destination's entry waits on without the way through a rewrite worker. */
static void fire(struct sched *s, uint32_t e)
{
	struct qentry *q = sched_entry(s, e);

	if (q->dest == DTAB_NONE || !s->dests[q->dest].dead || sched_msg_expired(s, q->msg)) {
		sched_entry_load(s, e);
		return;
	}
	int64_t wait = s->dests[q->dest].suspend_until_s - s->now_s;

	if (wait < 1)
		wait = 1;
	q->due_s = (uint32_t)(s->now_s + wait + rand_below((uint32_t)(wait / 8 + 1)));
	wheel_add(&s->wheel, e, q->due_s);
}

static bool wheel_turn(struct sched *s)
{
	unsigned budget = TURN_SLICE;
	uint32_t e;
	bool parked;

	/* what is loading already is enough to keep the rewrite workers busy */
	while (budget > 0 && s->count[QS_LOAD] < LOADED_AHEAD &&
	       wheel_pop(&s->wheel, s->now_s, &e, &parked)) {
		budget--;
		if (qword_state(qtab_entry_word(s->q, e)) != QS_DEFERRED)
			continue;
		if (sched_entry(s, e)->due_s <= s->now_s)
			fire(s, e);
		else if (parked)
			wheel_add(&s->wheel, e, sched_entry(s, e)->due_s);
	}
	return budget == 0;
}

static void timer_fired(void *ctx, struct twheel_node *n)
{
	struct sched *s = ctx;
	char *at = (char *)n;

	if (at >= (char *)s->transports && at < (char *)(s->transports + SCHED_TRANSPORTS))
		transport_timer_fired(container_of(n, struct stransport, timer));
	else
		dest_timer_fired(container_of(n, struct sdest, timer));
}

bool sched_turn(struct sched *s)
{
	unsigned slice = TURN_SLICE;
	bool more;

	read_time(s);
	s->holder = NULL;
	death_unsure_write(s); /* before any of it is handed out again */
	twheel_run(&s->timers, s->now_ms, timer_fired, s);
	dest_drain_slice(s, &slice);
	more = slice == 0;
	more = walk_turn(s) || more;
	more = wheel_turn(s) || more;
	more = work_turn(s) || more;
	more = jobs_turn(s) || more;
	dest_flush_dirty(s);
	if (s->su.files != NULL)
		more = files_turn(s->su.files) || more;
	return more;
}

/* Mail is refused while there is room yet for what bounces and splits need. */
static void check_room(struct sched *s)
{
	struct qtab_shm *q = s->q->shm;
	uint32_t msgs = atomic_load_explicit(&q->msg_live, memory_order_relaxed);
	uint32_t entries = atomic_load_explicit(&q->entry_live, memory_order_relaxed);
	bool full =
		msgs > q->msg_cap - q->msg_cap / 16 || entries > q->entry_cap - q->entry_cap / 16;

	if (full != s->full && full)
		log_warn(
			"queue table is nearly full (%u messages, %u entries): new mail is refused "
			"for now; see queue_table_size",
			msgs, entries);
	s->full = full;
	board_flag(&s->su.board->queue_full, full);
}

static uint64_t oldest_wall_s(const struct sched *s, struct ages *a)
{
	int64_t arrived_s = ages_oldest(a);
	int64_t wall_s = qclock_wall(&s->clock, arrived_s);

	return arrived_s == 0 || wall_s < 0 ? 0 : (uint64_t)wall_s;
}

static void gauges(struct sched *s)
{
	struct board_shm *b = s->su.board;

	board_set(&b->messages, atomic_load_explicit(&s->q->shm->msg_live, memory_order_relaxed));
	board_set(&b->entries_ready, s->count[QS_READY]);
	board_set(&b->entries_busy, s->count[QS_BUSY]);
	board_set(&b->entries_deferred, s->count[QS_DEFERRED]);
	board_set(&b->entries_held, s->count[QS_HOLD]);
	board_set(&b->entries_loading, s->count[QS_LOAD] + s->count[QS_LOADING] +
					       s->count[QS_NOTIFY] + s->count[QS_NOTIFYING]);
	board_set(&b->oldest_ready_wall_s, oldest_wall_s(s, &s->ready_ages));
	board_set(&b->oldest_deferred_wall_s, oldest_wall_s(s, &s->deferred_ages));
	check_room(s);
}

void sched_tick(struct sched *s)
{
	read_time(s);
	gauges(s);
	dest_tick(s);
	work_copy_tick(s);
	input_give_owed(s);
	if (s->su.files != NULL)
		files_tick(s->su.files);
}

int64_t sched_next_ms(const struct sched *s)
{
	return s->short_timers > 0 ? DEST_TIMER_MS : 1000;
}
