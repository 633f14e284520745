/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Counters: one region per worker life, written by that worker only (relaxed stores of its own
 * values), summed by readers. When a life ends the supervisor adds its page to the boot page, so
 * that a sum over all pages never goes backwards. Rows: shm/counters.inc.
 * A reader that sums must not see a page both folded and not: it reads board.fold_seq before and
 * after, and begins again when it was odd or has changed (shm/board.h).
 * A counter counts events since the life began. A gauge (sessions open now) is dropped, not folded.
 * A histogram counts values in buckets by powers of two with 4 steps each: value v falls into the
 * first bucket whose bound (counter_bucket_bound) is >= v.
 */
#ifndef PH_SHM_COUNTERS_H
#define PH_SHM_COUNTERS_H

#include <stdatomic.h>

#include "lib/fault.h"
#include "shm/region.h"

#define COUNTER_BUCKETS 96u

enum counter_id {
#define COUNTER(id, help) CTR_##id,
#define GAUGE(id, help)
#define HISTOGRAM(id, unit, help)
#include "shm/counters.inc"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
	CTR_COUNT
};

enum gauge_id {
#define COUNTER(id, help)
#define GAUGE(id, help) GAU_##id,
#define HISTOGRAM(id, unit, help)
#include "shm/counters.inc"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
	GAU_COUNT
};

enum histogram_id {
#define COUNTER(id, help)
#define GAUGE(id, help)
#define HISTOGRAM(id, unit, help) HIS_##id,
#include "shm/counters.inc"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
	HIS_COUNT
};

struct counter_histogram {
	_Atomic uint64_t count;
	_Atomic uint64_t sum;
	_Atomic uint64_t bucket[COUNTER_BUCKETS];
};

struct counters_shm {      /* behind shm_header */
	uint32_t class_id; /* enum worker_class */
	uint32_t slot;
	_Atomic uint32_t folded; /* 1: added to the boot page already, do not count it again */
	_Atomic uint32_t beat_s; /* monotonic second of the worker's last sign of life */
	_Atomic uint64_t counter[CTR_COUNT];
	_Atomic uint64_t gauge[GAU_COUNT];
	struct counter_histogram histogram[HIS_COUNT];
};

struct counter_desc {
	const char *name;
	const char *unit; /* histograms: "us", "ms", "messages", "bytes" */
	const char *help;
};
extern const struct counter_desc counter_descs[CTR_COUNT];
extern const struct counter_desc gauge_descs[GAU_COUNT];
extern const struct counter_desc histogram_descs[HIS_COUNT];

int counters_create(const char *name, uint32_t life, struct shm_region *r);
struct counters_shm *counters_of(const struct shm_region *r);
/* Add counters and histograms of `src` (copied once) to dst; gauges are left out. */
void counters_fold(struct counters_shm *dst, const struct counters_shm *src);
void counters_folded(struct counters_shm *c);
void counters_beat(struct counters_shm *c, uint32_t mono_s);
uint64_t counter_bucket_bound(unsigned bucket);
unsigned counter_bucket_of(uint64_t value);

static inline void counter_add(struct counters_shm *c, enum counter_id id, uint64_t n)
{
	/* single writer: a plain read-modify-write is enough, readers see old or new */
	atomic_store_explicit(&c->counter[id],
			      atomic_load_explicit(&c->counter[id], memory_order_relaxed) + n,
			      memory_order_relaxed);
	FAULT_POINT(COUNTERS_ADD);
}
static inline void gauge_set(struct counters_shm *c, enum gauge_id id, uint64_t v)
{
	atomic_store_explicit(&c->gauge[id], v, memory_order_relaxed);
	FAULT_POINT(COUNTERS_GAUGE);
}
void histogram_add(struct counters_shm *c, enum histogram_id id, uint64_t value);

#endif
