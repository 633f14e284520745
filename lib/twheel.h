/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Timing wheel: 4 levels of 64 places, O(1) set and cancel, for thousands of time-outs. Nodes live
 * in the caller's objects. A node fires in the first twheel_run() at or after its time, rounded up
 * to the tick. Setting a later time for an armed node is nearly free when `lazy` sessions call
 * twheel_set at every command: a node that is armed for an earlier time is only re-filed when it
 * would fire.
 */
#ifndef PH_LIB_TWHEEL_H
#define PH_LIB_TWHEEL_H

#include <stdbool.h>
#include <stdint.h>

#define TWHEEL_LEVELS 4
#define TWHEEL_SLOTS  64

struct twheel_node {
	struct twheel_node *next;
	struct twheel_node *prev;
	int64_t at_ms;    /* wanted time */
	int64_t filed_ms; /* time it is filed under, <= at_ms */
};

struct twheel {
	struct twheel_node slots[TWHEEL_LEVELS][TWHEEL_SLOTS]; /* list heads */
	uint64_t
		filled[TWHEEL_LEVELS]; /* places that may hold nodes; empty stretches are skipped */
	int64_t tick_ms;
	int64_t now_tick; /* ticks fully processed */
};

typedef void (*twheel_fn)(void *ctx, struct twheel_node *node);

/* Times are clock_now().ms values; `now_ms` is the present. */
void twheel_init(struct twheel *w, int64_t tick_ms, int64_t now_ms);
void twheel_set(struct twheel *w, struct twheel_node *n, int64_t at_ms);
void twheel_cancel(struct twheel_node *n);
bool twheel_is_set(const struct twheel_node *n);
/* Fires all due nodes (disarmed before the callback, which may set them again or free them). */
void twheel_run(struct twheel *w, int64_t now_ms, twheel_fn fn, void *ctx);

#endif
