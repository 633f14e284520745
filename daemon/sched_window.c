/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Concurrency feedback of one destination, with Postfix's arithmetic: good deliveries add the
 * positive feedback until whole steps raise the window; failed ones (the site could not be talked
 * to) take the negative feedback away with the hysteresis turned round, so that the first failure
 * lowers the window at once; and each failure counts as 1/window of a "cohort": when
 * failed_cohort_limit of them have failed since the last success, the destination is dead.
 * Pure functions; called by daemon/sched_dest.c.
 */
#include <stdlib.h>

#include "daemon/sched_int.h"
#include "lib/err.h"

#define STEP    1.0   /* hysteresis of both directions */
#define EPSILON 0.001 /* sums of fractions miss whole numbers by a little */

int feedback_parse(const char *text, struct feedback *fb_r)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || !(v > 0) || v > 1)
		return E_SYNTAX;
	while (ascii_is_space(*end))
		end++;
	fb_r->factor = v;
	fb_r->by = FEEDBACK_CONST;
	if (*end == '\0')
		return 0;
	if (*end++ != '/')
		return E_SYNTAX;
	struct sv unit = sv_trim(sv_from(end));

	if (sv_eq_str(unit, "concurrency"))
		fb_r->by = FEEDBACK_INVERSE;
	else if (sv_eq_str(unit, "sqrt_concurrency"))
		fb_r->by = FEEDBACK_SQRT;
	else
		return E_SYNTAX;
	return 0;
}

/* Newton's way: spares every program that links this the mathematics library. */
static double root(double v)
{
	double x = v > 1 ? v : 1;

	for (int i = 0; i < 40; i++)
		x = (x + v / x) / 2;
	return x;
}

static double amount(const struct feedback *fb, uint32_t window)
{
	switch (fb->by) {
	case FEEDBACK_INVERSE:
		return fb->factor / window;
	case FEEDBACK_SQRT:
		return fb->factor / root(window);
	default:
		return fb->factor;
	}
}

void window_reset(struct window *w, const struct window_conf *c)
{
	w->size = c->limit > 0 && c->initial > c->limit ? c->limit : c->initial;
	w->success = w->failure = w->cohorts = 0;
}

void window_good(struct window *w, const struct window_conf *c, uint32_t busy)
{
	w->cohorts = 0;
	if (w->size == 0) {
		window_reset(w, c);
		return;
	}
	/* only a window that is made use of grows */
	if ((c->limit > 0 && w->size >= c->limit) || w->size >= busy + c->initial)
		return;
	w->success += amount(&c->up, w->size);
	while (w->success + EPSILON >= STEP) {
		w->size++;
		w->success -= STEP;
		w->failure = 0;
	}
	if (c->limit > 0 && w->size > c->limit)
		w->size = c->limit;
}

bool window_bad(struct window *w, const struct window_conf *c)
{
	if (w->size == 0)
		return false; /* was dead already */
	w->cohorts += 1.0 / w->size;
	if (c->cohort_limit > 0 && w->cohorts + 1e-9 >= c->cohort_limit) {
		w->size = 0;
		return true;
	}
	w->failure -= amount(&c->down, w->size);
	while (w->failure - EPSILON < 0 && w->size > 0) {
		w->size--;
		w->success = 0;
		w->failure += STEP;
	}
	if (w->size < 1)
		w->size = 1;
	return false;
}
