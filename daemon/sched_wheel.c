/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Retry wheel: for each of the next 8192 seconds an unordered bag of entry numbers in chunks, so a
 * deferred entry costs 4 bytes here. A reference is a hint: the scheduler acts only if the entry is
 * still deferred and its own due time has come. Entries that are due later than the horizon are
 * parked in its last second and filed again from there. Called by daemon/sched*.c.
 */
#include "daemon/sched_int.h"
#include "lib/util.h"

static struct wheel_chunk *chunk(const struct wheel *w, uint32_t idx)
{
	return &w->slabs[idx / WHEEL_SLAB_CHUNKS][idx % WHEEL_SLAB_CHUNKS];
}

void wheel_init(struct wheel *w, int64_t now_s)
{
	memset(w, 0, sizeof(*w));
	w->now_s = now_s;
	w->free_chunk = QTAB_NONE;
	for (unsigned i = 0; i < WHEEL_SLOTS; i++)
		w->heads[i] = QTAB_NONE;
}

void wheel_fini(struct wheel *w)
{
	for (uint32_t i = 0; i < w->slab_count; i++)
		free(w->slabs[i]);
	free(w->slabs);
	w->slabs = NULL;
	w->slab_count = 0;
}

static void add_slab(struct wheel *w)
{
	uint32_t base = w->slab_count * WHEEL_SLAB_CHUNKS;

	w->slabs = xrealloc(w->slabs, (w->slab_count + 1) * sizeof(*w->slabs));
	w->slabs[w->slab_count] = xmalloc(WHEEL_SLAB_CHUNKS * sizeof(struct wheel_chunk));
	w->slab_count++;
	for (uint32_t i = WHEEL_SLAB_CHUNKS; i-- > 0;) {
		chunk(w, base + i)->next = w->free_chunk;
		w->free_chunk = base + i;
	}
}

static uint32_t chunk_take(struct wheel *w)
{
	if (w->free_chunk == QTAB_NONE)
		add_slab(w);
	uint32_t idx = w->free_chunk;

	w->free_chunk = chunk(w, idx)->next;
	w->chunks_used++;
	return idx;
}

void wheel_add(struct wheel *w, uint32_t entry, int64_t due_s)
{
	int64_t at = due_s;

	if (at < w->now_s)
		at = w->now_s;
	if (at >= w->now_s + WHEEL_SLOTS) {
		at = w->now_s + WHEEL_SLOTS - 1;
		entry |= WHEEL_PARKED;
	}
	uint32_t *head = &w->heads[at % WHEEL_SLOTS];

	if (*head == QTAB_NONE || chunk(w, *head)->count == WHEEL_CHUNK_IDS) {
		uint32_t idx = chunk_take(w);

		chunk(w, idx)->next = *head;
		chunk(w, idx)->count = 0;
		*head = idx;
	}
	struct wheel_chunk *c = chunk(w, *head);

	c->ids[c->count++] = entry;
	w->refs++;
}

bool wheel_pop(struct wheel *w, int64_t now_s, uint32_t *entry_r, bool *parked_r)
{
	while (w->now_s <= now_s) {
		uint32_t *head = &w->heads[w->now_s % WHEEL_SLOTS];

		if (*head == QTAB_NONE) {
			/* the present second stays open: something may become due within it */
			if (w->now_s == now_s)
				return false;
			w->now_s = w->refs == 0 ? now_s : w->now_s + 1;
			continue;
		}
		uint32_t idx = *head;
		struct wheel_chunk *c = chunk(w, idx);
		uint32_t ref = c->ids[--c->count];

		if (c->count == 0) {
			*head = c->next;
			c->next = w->free_chunk;
			w->free_chunk = idx;
			w->chunks_used--;
		}
		w->refs--;
		*entry_r = ref & ~WHEEL_PARKED;
		*parked_r = (ref & WHEEL_PARKED) != 0;
		return true;
	}
	return false;
}

size_t wheel_bytes(const struct wheel *w)
{
	return sizeof(*w) +
	       w->slab_count * (sizeof(*w->slabs) + WHEEL_SLAB_CHUNKS * sizeof(struct wheel_chunk));
}
