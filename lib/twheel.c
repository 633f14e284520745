/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Timing wheel; see lib/twheel.h. Called by the session and connection owners. */
#include "lib/twheel.h"

#include <stddef.h>
#include <string.h>

#define SLOT_BITS 6
#define SLOT_MASK (TWHEEL_SLOTS - 1)

static void list_init(struct twheel_node *head)
{
	head->next = head->prev = head;
}

static void list_unlink(struct twheel_node *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->next = n->prev = NULL;
}

static void list_append(struct twheel_node *head, struct twheel_node *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}

void twheel_init(struct twheel *w, int64_t tick_ms, int64_t now_ms)
{
	w->tick_ms = tick_ms;
	w->now_tick = now_ms / tick_ms;
	memset(w->filled, 0, sizeof(w->filled));
	for (int l = 0; l < TWHEEL_LEVELS; l++) {
		for (int s = 0; s < TWHEEL_SLOTS; s++)
			list_init(&w->slots[l][s]);
	}
}

/* File the node by its at_ms, not before min_tick; times past the horizon go to the last place and
 * are re-filed from there. */
static void file_node(struct twheel *w, struct twheel_node *n, int64_t min_tick)
{
	int64_t tick = (n->at_ms + w->tick_ms - 1) / w->tick_ms;
	int level = 0;

	if (tick < min_tick)
		tick = min_tick;
	int64_t delta = tick - w->now_tick;

	while (level < TWHEEL_LEVELS - 1 && delta >= (int64_t)1 << (SLOT_BITS * (level + 1)))
		level++;
	if (delta >= (int64_t)1 << (SLOT_BITS * TWHEEL_LEVELS))
		tick = w->now_tick + ((int64_t)1 << (SLOT_BITS * TWHEEL_LEVELS)) - 1;
	unsigned slot = (tick >> (SLOT_BITS * level)) & SLOT_MASK;

	n->filed_ms = n->at_ms;
	w->filled[level] |= (uint64_t)1 << slot;
	list_append(&w->slots[level][slot], n);
}

void twheel_set(struct twheel *w, struct twheel_node *n, int64_t at_ms)
{
	n->at_ms = at_ms;
	if (n->next != NULL) {
		if (at_ms >= n->filed_ms)
			return;
		list_unlink(n);
	}
	file_node(w, n, w->now_tick + 1);
}

void twheel_cancel(struct twheel_node *n)
{
	if (n->next != NULL)
		list_unlink(n);
}

bool twheel_is_set(const struct twheel_node *n)
{
	return n->next != NULL;
}

/* Take all nodes of a place and file each again: those due now land in level 0 or fire. */
static void cascade(struct twheel *w, int level)
{
	unsigned slot = (w->now_tick >> (SLOT_BITS * level)) & SLOT_MASK;
	struct twheel_node *head = &w->slots[level][slot];
	struct twheel_node due;

	w->filled[level] &= ~((uint64_t)1 << slot);
	list_init(&due);
	while (head->next != head) {
		struct twheel_node *n = head->next;

		list_unlink(n);
		list_append(&due, n);
	}
	while (due.next != &due) {
		struct twheel_node *n = due.next;

		list_unlink(n);
		/* this tick's level-0 place has not fired yet */
		file_node(w, n, w->now_tick);
	}
}

static void fire_slot(struct twheel *w, twheel_fn fn, void *ctx)
{
	struct twheel_node *head = &w->slots[0][w->now_tick & SLOT_MASK];
	struct twheel_node due;

	w->filled[0] &= ~((uint64_t)1 << (w->now_tick & SLOT_MASK));
	list_init(&due);
	while (head->next != head) {
		struct twheel_node *n = head->next;

		list_unlink(n);
		list_append(&due, n);
	}
	while (due.next != &due) {
		struct twheel_node *n = due.next;

		list_unlink(n);
		if (n->at_ms > w->now_tick * w->tick_ms)
			file_node(w, n, w->now_tick + 1);
		else
			fn(ctx, n);
	}
}

/* The tick before the next one at which something can happen, at most `target`: with nothing in the
 * lower levels, only their ends count, where the level above cascades. A clock that jumps by days
 * costs next to nothing. */
static int64_t skip_to(const struct twheel *w, int64_t target)
{
	int empty = 0;

	while (empty < TWHEEL_LEVELS && w->filled[empty] == 0)
		empty++;
	if (empty == 0)
		return w->now_tick;
	if (empty == TWHEEL_LEVELS)
		return target;
	int64_t last = w->now_tick | (((int64_t)1 << (SLOT_BITS * empty)) - 1);

	return last < target ? last : target;
}

void twheel_run(struct twheel *w, int64_t now_ms, twheel_fn fn, void *ctx)
{
	int64_t target = now_ms / w->tick_ms;

	while (w->now_tick < target) {
		int top = 0;

		w->now_tick = skip_to(w, target);
		if (w->now_tick == target)
			return;
		w->now_tick++;
		while (top < TWHEEL_LEVELS - 1 &&
		       (w->now_tick & (((int64_t)1 << (SLOT_BITS * (top + 1))) - 1)) == 0)
			top++;
		/* highest first: what falls out of a level may land in the one below, now due too
		 */
		for (int l = top; l > 0; l--)
			cascade(w, l);
		fire_slot(w, fn, ctx);
	}
}
