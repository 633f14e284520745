/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Queue time; see daemon/qclock.h. */
#include "daemon/qclock.h"

#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/util.h"

/* Queue seconds live in 32 bits (qentry.due_s). They look like the wall clock's unless that is so
 * far off that they might not fit. */
#define BASE_MIN ((int64_t)1 << 30)
#define BASE_MAX ((int64_t)3 << 30)

static struct qspan *newest(struct qclock *c)
{
	return &c->span[c->count - 1];
}

/* Two old neighbours become one, so that nothing in it looks older than it is. */
static void merge_two(struct qclock *c)
{
	unsigned best = 0;
	int64_t least = INT64_MAX;

	for (unsigned i = 0; i + 2 < c->count; i++) {
		int64_t d = c->span[i + 1].off_s - c->span[i].off_s;

		d = d < 0 ? -d : d;
		if (d < least) {
			least = d;
			best = i;
		}
	}
	struct qspan *a = &c->span[best];
	const struct qspan *b = a + 1;

	a->from_s = b->from_s < a->from_s ? b->from_s : a->from_s;
	a->to_s = b->to_s > a->to_s ? b->to_s : a->to_s;
	a->off_s = b->off_s < a->off_s ? b->off_s : a->off_s;
	a->gap_s += b->gap_s;
	memmove(a + 1, a + 2, (c->count - best - 2) * sizeof(*a));
	c->count--;
}

static void add_span(struct qclock *c, int64_t gap_s)
{
	if (c->count == QCLOCK_SPANS)
		merge_two(c);
	c->span[c->count++] = (struct qspan){ .from_s = c->wall_s,
					      .to_s = c->wall_s,
					      .off_s = c->wall_s - c->now_s,
					      .gap_s = gap_s };
}

/* The clock was set back: what it had claimed to have passed unseen was wrong by that much. */
static void take_back(struct qclock *c, int64_t by_s)
{
	for (unsigned i = c->count; i-- > 1 && by_s > 0;) {
		int64_t r = c->span[i].gap_s < by_s ? c->span[i].gap_s : by_s;

		if (r <= 0)
			continue;
		c->span[i].gap_s -= r;
		by_s -= r;
		for (unsigned k = 0; k < i; k++)
			c->span[k].off_s -= r;
	}
}

static int64_t set_by(struct qclock *c, int64_t jump_s)
{
	if (jump_s > -QCLOCK_STEP_MIN_S && jump_s < QCLOCK_STEP_MIN_S)
		return 0;
	if (jump_s < 0)
		take_back(c, -jump_s);
	return jump_s;
}

int64_t qclock_init(struct qclock *c, const struct qclock_seen *last, const char *boot_id)
{
	int64_t passed_s, jump_s = 0, gap_s = 0;

	memset(c, 0, sizeof(*c));
	c->wall_s = clock_now_wall().us / 1000000;
	c->base_ms = clock_now().ms;
	c->base_s = c->wall_s >= BASE_MIN && c->wall_s < BASE_MAX ? c->wall_s : BASE_MIN;
	c->now_s = c->base_s;
	c->back_s = c->now_s;
	if (last == NULL || last->count == 0) {
		add_span(c, 0);
		return 0;
	}
	passed_s = c->wall_s - last->wall_s;
	if (strcmp(last->boot_id, boot_id) == 0 && clock_boot_ms() >= last->boot_ms) {
		int64_t wall_passed_s = passed_s;

		passed_s = (clock_boot_ms() - last->boot_ms) / 1000;
		jump_s = wall_passed_s - passed_s;
	} else if (passed_s < 0) {
		jump_s = passed_s;
		passed_s = 0;
	} else {
		gap_s = passed_s;
	}
	/* the old spans in the new queue time */
	int64_t shift = last->wall_s - (c->now_s - passed_s) - last->span[last->count - 1].off_s;

	c->count = last->count;
	memcpy(c->span, last->span, last->count * sizeof(c->span[0]));
	for (unsigned i = 0; i < c->count; i++)
		c->span[i].off_s += shift;
	newest(c)->to_s = last->wall_s;
	jump_s = set_by(c, jump_s);
	if (passed_s < QCLOCK_GAP_MIN_S)
		c->back_s = INT64_MIN;
	if (jump_s != 0 || passed_s >= QCLOCK_GAP_MIN_S)
		add_span(c, gap_s);
	else
		newest(c)->off_s = c->wall_s - c->now_s;
	return jump_s;
}

int64_t qclock_tick(struct qclock *c)
{
	int64_t now_s = c->base_s + (clock_now().ms - c->base_ms) / 1000;
	int64_t wall_s = clock_now_wall().us / 1000000;

	if (now_s > c->now_s)
		c->now_s = now_s;
	int64_t jump_s = set_by(c, wall_s - c->now_s - newest(c)->off_s);

	c->wall_s = wall_s;
	if (jump_s != 0) {
		add_span(c, 0);
		return jump_s;
	}
	newest(c)->off_s = wall_s - c->now_s;
	if (wall_s > newest(c)->to_s)
		newest(c)->to_s = wall_s;
	return 0;
}

static int64_t distance(const struct qspan *p, int64_t wall_s)
{
	if (wall_s < p->from_s)
		return p->from_s - wall_s;
	return wall_s > p->to_s ? wall_s - p->to_s : 0;
}

int64_t qclock_of(const struct qclock *c, int64_t wall_s)
{
	unsigned best = c->count - 1;
	int64_t queue_s;

	for (unsigned i = c->count; i-- > 0;) {
		if (distance(&c->span[i], wall_s) < distance(&c->span[best], wall_s))
			best = i;
	}
	queue_s = wall_s - c->span[best].off_s;
	return queue_s < c->now_s ? queue_s : c->now_s;
}

int64_t qclock_arrival(const struct qclock *c, struct qid id, int64_t commit_us)
{
	int64_t us = (int64_t)id.time_us;

	if (commit_us > 0 && commit_us < us)
		us = commit_us;
	return qclock_of(c, us / 1000000);
}

int64_t qclock_wall(const struct qclock *c, int64_t queue_s)
{
	return queue_s + c->span[c->count - 1].off_s;
}

void qclock_look(const struct qclock *c, const char *boot_id, struct qclock_seen *s)
{
	memset(s, 0, sizeof(*s));
	s->wall_s = c->wall_s;
	s->boot_ms = clock_boot_ms();
	snprintf(s->boot_id, sizeof(s->boot_id), "%s", boot_id);
	s->count = c->count;
	memcpy(s->span, c->span, c->count * sizeof(s->span[0]));
}
