/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Destination table: one row per (transport, next hop) with its concurrency window, counters and
 * suspension; written by the supervisor only, read by stats without a lock: each row has a sequence
 * number, odd while the row is being changed (readers copy, then compare).
 * Rows are interned by name and freed when nothing refers to them and they have been idle.
 */
#ifndef PH_SHM_DTAB_H
#define PH_SHM_DTAB_H

#include <stdatomic.h>

#include "lib/str.h"
#include "shm/region.h"

#define DTAB_NONE         UINT32_MAX
#define DTAB_NEXTHOP_SIZE 256
#define DTAB_REASON_SIZE  120

struct drow {                 /* 512 bytes */
	_Atomic uint32_t seq; /* odd = being written */
	uint16_t in_use;
	uint16_t transport; /* index in the configuration */
	char nexthop[DTAB_NEXTHOP_SIZE];
	uint32_t window;   /* deliveries allowed at once; 0 = dead until suspend_until_s */
	uint32_t busy;     /* deliveries going on */
	uint32_t ready;    /* entries waiting */
	uint32_t deferred; /* entries on the wheel */
	uint32_t fail_cohorts_milli; /* failed cohorts since the last success, x 1000 */
	uint32_t next_free;
	uint64_t sent; /* recipients, since boot */
	uint64_t deferred_total;
	uint64_t bounced;
	int64_t suspend_until_s; /* wall second; 0 = not suspended */
	int64_t oldest_ready_s;  /* arrival of the list's first entry; 0 = none */
	int64_t last_used_s;
	char suspend_reason[DTAB_REASON_SIZE];
	char pad[56];
};

struct dtab_shm {
	uint32_t cap;
	_Atomic uint32_t used; /* rows ever handed out */
	_Atomic uint32_t live;
	uint32_t free_head;
	uint64_t row_off;
	uint64_t spare[5];
};

struct dtab {
	struct shm_region region;
	struct dtab_shm *shm;
	struct drow *rows;
	uint32_t *buckets; /* private hash of names */
	uint32_t *hash_next;
	uint32_t bucket_count;
	uint32_t cap; /* private copy */
};

int dtab_create(uint32_t cap, struct dtab *t);
void dtab_fini(struct dtab *t);
/* Find or add. E_NOSPC when the table is full, E_INVAL for a name that is too long or has a NUL. A
 * new row is zero but for its name. The caller lower-cases the next hop. */
int dtab_intern(struct dtab *t, uint16_t transport, struct sv nexthop, uint32_t *row_r);
/* DTAB_NONE when absent. */
uint32_t dtab_find(const struct dtab *t, uint16_t transport, struct sv nexthop);
void dtab_free(struct dtab *t, uint32_t row);
/* Bracket every change of a row, as shortly as possible: readers skip it meanwhile. D1..D4 in
 * shm/dtab.c are the memory order pairs. */
struct drow *dtab_begin(struct dtab *t, uint32_t row);
void dtab_end(struct dtab *t, uint32_t row);
/* Rows ever handed out, clamped to what is mapped. */
uint32_t dtab_used(const struct dtab *t);
/* Reader: consistent copy, strings terminated; false when the row is not in use or keeps changing
 * (a bounded number of tries: a writer that died in a row blocks nobody). */
bool dtab_read(const struct dtab *t, uint32_t row, struct drow *out);
int dtab_view(struct shm_region *r, struct dtab *t); /* read-only */
int dtab_check(const struct dtab *t, char *why, size_t why_size);

#endif
