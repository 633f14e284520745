/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Destination table; see shm/dtab.h. Written by the scheduler, read by stats. */
#include "shm/dtab.h"

#include <stdio.h>
#include <string.h>

#include "lib/err.h"
#include "lib/fault.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/util.h"
#include "shm/order.h"

_Static_assert(sizeof(struct drow) == 512, "rows stay on cache lines");
_Static_assert(sizeof(struct dtab_shm) == 64, "one cache line");

#define ROW_OFF    (sizeof(struct shm_header) + sizeof(struct dtab_shm))
#define CAP_MAX    (1u << 24)
#define READ_TRIES 64

static void set_places(struct dtab *t, uint32_t cap)
{
	char *base = t->region.base;

	t->shm = (void *)(base + sizeof(struct shm_header));
	t->rows = (void *)(base + ROW_OFF);
	t->cap = cap;
}

int dtab_create(uint32_t cap, struct dtab *t)
{
	*t = (struct dtab){ .region = SHM_REGION_INIT };
	if (cap == 0 || cap > CAP_MAX)
		return E_INVAL;
	int err = shm_region_create("posthaste-dtab", SHM_KIND_DTAB,
				    ROW_OFF + (size_t)cap * sizeof(struct drow), 0, 0, &t->region);

	if (err != 0)
		return err;
	set_places(t, cap);
	t->shm->cap = cap;
	t->shm->row_off = ROW_OFF;
	t->shm->free_head = DTAB_NONE;
	FAULT_POINT(DTAB_INIT);
	t->bucket_count = 64;
	while (t->bucket_count < cap)
		t->bucket_count *= 2;
	t->buckets = xmalloc(t->bucket_count * sizeof(uint32_t));
	memset(t->buckets, 0xff, t->bucket_count * sizeof(uint32_t)); /* DTAB_NONE */
	t->hash_next = xcalloc(cap, sizeof(uint32_t));
	return 0;
}

void dtab_fini(struct dtab *t)
{
	free(t->buckets);
	free(t->hash_next);
	shm_region_close(&t->region);
	*t = (struct dtab){ .region = SHM_REGION_INIT };
}

int dtab_view(struct shm_region *r, struct dtab *t)
{
	struct dtab_shm copy;
	int err = r->base != NULL && r->size >= ROW_OFF
			  ? shm_header_check(r->base, r->size, SHM_KIND_DTAB)
			  : E_CORRUPT;

	*t = (struct dtab){ .region = SHM_REGION_INIT };
	if (err == 0) {
		memcpy(&copy, (const char *)r->base + sizeof(struct shm_header), sizeof(copy));
		if (copy.cap == 0 || copy.cap > CAP_MAX || copy.row_off != ROW_OFF ||
		    (r->size - ROW_OFF) / sizeof(struct drow) < copy.cap)
			err = E_CORRUPT;
	}
	if (err != 0) {
		shm_region_close(r);
		return err;
	}
	t->region = *r;
	*r = SHM_REGION_INIT;
	set_places(t, copy.cap);
	return 0;
}

/* ---- names ---- */

static uint32_t bucket_of(const struct dtab *t, uint16_t transport, struct sv nexthop)
{
	char key[2 + DTAB_NEXTHOP_SIZE];

	memcpy(key, &transport, 2);
	memcpy(key + 2, nexthop.p, nexthop.len);
	return (uint32_t)hash_bytes(key, 2 + nexthop.len) & (t->bucket_count - 1);
}

static bool name_is(const struct drow *row, uint16_t transport, struct sv nexthop)
{
	return row->transport == transport && row->nexthop[nexthop.len] == '\0' &&
	       memcmp(row->nexthop, nexthop.p, nexthop.len) == 0;
}

static bool name_ok(struct sv nexthop)
{
	return nexthop.len < DTAB_NEXTHOP_SIZE &&
	       (nexthop.len == 0 || memchr(nexthop.p, '\0', nexthop.len) == NULL);
}

static struct sv row_name(const struct drow *row)
{
	return (struct sv){ row->nexthop, strnlen(row->nexthop, DTAB_NEXTHOP_SIZE - 1) };
}

uint32_t dtab_find(const struct dtab *t, uint16_t transport, struct sv nexthop)
{
	if (t->buckets == NULL || !name_ok(nexthop))
		return DTAB_NONE;
	uint32_t row = t->buckets[bucket_of(t, transport, nexthop)];

	while (row != DTAB_NONE && !name_is(&t->rows[row], transport, nexthop))
		row = t->hash_next[row];
	return row;
}

/* ---- writer ---- */

static void set_count(_Atomic uint32_t *n, uint32_t to)
{
	atomic_store_explicit(n, to, memory_order_relaxed);
	FAULT_POINT(DTAB_COUNT);
}

struct drow *dtab_begin(struct dtab *t, uint32_t row)
{
	ASSERT(row < t->cap);
	struct drow *r = &t->rows[row];
	uint32_t seq = atomic_load_explicit(&r->seq, memory_order_relaxed);

	ASSERT(seq % 2 == 0);
	atomic_store_explicit(&r->seq, seq + 1, memory_order_relaxed);
	/* D1, partner D4: who sees a byte written from now on sees the odd number, too */
	shm_fence_release();
	FAULT_POINT(DTAB_BEGIN);
	return r;
}

void dtab_end(struct dtab *t, uint32_t row)
{
	ASSERT(row < t->cap);
	struct drow *r = &t->rows[row];
	uint32_t seq = atomic_load_explicit(&r->seq, memory_order_relaxed);

	ASSERT(seq % 2 == 1);
	/* D2, partner D3: who sees the even number sees everything written before */
	atomic_store_explicit(&r->seq, seq + 1, memory_order_release);
	FAULT_POINT(DTAB_END);
}

/* Everything but the sequence number. */
static void row_clear(struct drow *r)
{
	memset((char *)r + sizeof(r->seq), 0, sizeof(*r) - sizeof(r->seq));
	FAULT_POINT(DTAB_CLEAR);
}

int dtab_intern(struct dtab *t, uint16_t transport, struct sv nexthop, uint32_t *row_r)
{
	struct dtab_shm *shm = t->shm;
	uint32_t row = dtab_find(t, transport, nexthop);

	if (!name_ok(nexthop))
		return E_INVAL;
	if (row != DTAB_NONE) {
		*row_r = row;
		return 0;
	}
	row = shm->free_head;
	if (row != DTAB_NONE) {
		shm->free_head = t->rows[row].next_free;
		FAULT_POINT(DTAB_POP);
	} else {
		row = atomic_load_explicit(&shm->used, memory_order_relaxed);
		if (row >= t->cap)
			return E_NOSPC;
		set_count(&shm->used, row + 1);
	}
	struct drow *r = dtab_begin(t, row);

	row_clear(r);
	r->in_use = 1;
	r->transport = transport;
	memcpy(r->nexthop, nexthop.p, nexthop.len);
	FAULT_POINT(DTAB_FILL);
	dtab_end(t, row);
	uint32_t bucket = bucket_of(t, transport, nexthop);

	t->hash_next[row] = t->buckets[bucket];
	t->buckets[bucket] = row;
	set_count(&shm->live, atomic_load_explicit(&shm->live, memory_order_relaxed) + 1);
	*row_r = row;
	return 0;
}

void dtab_free(struct dtab *t, uint32_t row)
{
	ASSERT(row < t->cap && t->rows[row].in_use);
	struct drow *r = &t->rows[row];
	uint32_t *at = &t->buckets[bucket_of(t, r->transport, row_name(r))];

	while (*at != row) {
		ASSERT(*at != DTAB_NONE);
		at = &t->hash_next[*at];
	}
	*at = t->hash_next[row];
	dtab_begin(t, row);
	row_clear(r);
	r->next_free = t->shm->free_head;
	FAULT_POINT(DTAB_NEXT);
	dtab_end(t, row);
	t->shm->free_head = row;
	FAULT_POINT(DTAB_PUSH);
	set_count(&t->shm->live, atomic_load_explicit(&t->shm->live, memory_order_relaxed) - 1);
}

/* ---- readers ---- */

uint32_t dtab_used(const struct dtab *t)
{
	uint32_t used = atomic_load_explicit(&t->shm->used, memory_order_relaxed);

	return used < t->cap ? used : t->cap;
}

bool dtab_read(const struct dtab *t, uint32_t row, struct drow *out)
{
	if (row >= t->cap)
		return false;
	const struct drow *from = &t->rows[row];

	for (unsigned tries = 0; tries < READ_TRIES; tries++) {
		/* D3, partner D2 */
		uint32_t seq = atomic_load_explicit(&from->seq, memory_order_acquire);

		if (seq % 2 == 1)
			continue;
		shm_copy_racing(out, from, sizeof(*out) / 4);
		/* D4, partner D1: the number again, after the bytes */
		shm_fence_acquire();
		if (atomic_load_explicit(&from->seq, memory_order_relaxed) != seq)
			continue;
		out->nexthop[sizeof(out->nexthop) - 1] = '\0';
		out->suspend_reason[sizeof(out->suspend_reason) - 1] = '\0';
		return out->in_use == 1;
	}
	return false;
}

/* ---- checker ---- */

static int check_row(const struct dtab *t, uint32_t i, bool is_free, char *why, size_t why_size)
{
	const struct drow *r = &t->rows[i];

	if (atomic_load_explicit(&r->seq, memory_order_acquire) % 2 == 1)
		snprintf(why, why_size, "dtab: row %u is half written", i);
	else if (r->in_use > 1)
		snprintf(why, why_size, "dtab: row %u: in_use is %u", i, r->in_use);
	else if (r->in_use == 0 && !is_free)
		snprintf(why, why_size, "dtab: free row %u is on no list", i);
	else if (r->in_use == 1 && is_free)
		snprintf(why, why_size, "dtab: row %u is in use and on the free list", i);
	else if (memchr(r->nexthop, '\0', sizeof(r->nexthop)) == NULL ||
		 memchr(r->suspend_reason, '\0', sizeof(r->suspend_reason)) == NULL)
		snprintf(why, why_size, "dtab: row %u has an endless text", i);
	else if (r->in_use == 1 && t->buckets != NULL &&
		 dtab_find(t, r->transport, row_name(r)) != i)
		snprintf(why, why_size, "dtab: row %u is not found by its name", i);
	else
		return 0;
	return E_CORRUPT;
}

int dtab_check(const struct dtab *t, char *why, size_t why_size)
{
	uint32_t used = atomic_load(&t->shm->used), live = 0;
	int err = 0;

	if (t->shm->cap != t->cap || used > t->cap) {
		snprintf(why, why_size, "dtab: %u rows used of %u", used, t->cap);
		return E_CORRUPT;
	}
	bool *is_free = xcalloc(used + 1, sizeof(bool));

	for (uint32_t i = t->shm->free_head; i != DTAB_NONE && err == 0; i = t->rows[i].next_free) {
		if (i >= used || is_free[i]) {
			snprintf(why, why_size, "dtab: free list leads to %u", i);
			err = E_CORRUPT;
			break;
		}
		is_free[i] = true;
	}
	for (uint32_t i = 0; i < used && err == 0; i++) {
		err = check_row(t, i, is_free[i], why, why_size);
		live += !is_free[i];
	}
	free(is_free);
	if (err == 0 && live != atomic_load(&t->shm->live)) {
		snprintf(why, why_size, "dtab: %u rows live, %u counted", live,
			 atomic_load(&t->shm->live));
		err = E_CORRUPT;
	}
	return err;
}
