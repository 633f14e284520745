/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Counter pages; see shm/counters.h. Written by their worker, folded by the supervisor. */
#include "shm/counters.h"

#include "lib/err.h"
#include "lib/util.h"

const struct counter_desc counter_descs[CTR_COUNT] = {
#define COUNTER(id, text) [CTR_##id] = { .name = #id, .unit = "", .help = (text) },
#define GAUGE(id, text)
#define HISTOGRAM(id, per, text)
#include "shm/counters.inc"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
};

const struct counter_desc gauge_descs[GAU_COUNT] = {
#define COUNTER(id, text)
#define GAUGE(id, text) [GAU_##id] = { .name = #id, .unit = "", .help = (text) },
#define HISTOGRAM(id, per, text)
#include "shm/counters.inc"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
};

const struct counter_desc histogram_descs[HIS_COUNT] = {
#define COUNTER(id, text)
#define GAUGE(id, text)
#define HISTOGRAM(id, per, text) [HIS_##id] = { .name = #id, .unit = (per), .help = (text) },
#include "shm/counters.inc"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
};

int counters_create(const char *name, uint32_t life, struct shm_region *r)
{
	return shm_region_create(name, SHM_KIND_COUNTERS,
				 sizeof(struct shm_header) + sizeof(struct counters_shm), life, 0,
				 r);
}

struct counters_shm *counters_of(const struct shm_region *r)
{
	if (r->base == NULL || r->size < sizeof(struct shm_header) + sizeof(struct counters_shm))
		return NULL;
	return (void *)((char *)r->base + sizeof(struct shm_header));
}

/* Saturates: a page written by a taken-over worker must not make a sum run backwards. */
static void fold_one(_Atomic uint64_t *dst, const _Atomic uint64_t *src)
{
	uint64_t have = atomic_load_explicit(dst, memory_order_relaxed);
	uint64_t more = atomic_load_explicit(src, memory_order_relaxed);

	atomic_store_explicit(dst, more <= UINT64_MAX - have ? have + more : UINT64_MAX,
			      memory_order_relaxed);
	FAULT_POINT(COUNTERS_FOLD_ONE);
}

void counters_folded(struct counters_shm *c)
{
	atomic_store_explicit(&c->folded, 1, memory_order_relaxed);
	FAULT_POINT(COUNTERS_FOLDED);
}

void counters_beat(struct counters_shm *c, uint32_t mono_s)
{
	atomic_store_explicit(&c->beat_s, mono_s, memory_order_relaxed);
	FAULT_POINT(COUNTERS_BEAT);
}

void counters_fold(struct counters_shm *dst, const struct counters_shm *src)
{
	for (unsigned i = 0; i < CTR_COUNT; i++)
		fold_one(&dst->counter[i], &src->counter[i]);
	for (unsigned i = 0; i < HIS_COUNT; i++) {
		fold_one(&dst->histogram[i].count, &src->histogram[i].count);
		fold_one(&dst->histogram[i].sum, &src->histogram[i].sum);
		for (unsigned b = 0; b < COUNTER_BUCKETS; b++)
			fold_one(&dst->histogram[i].bucket[b], &src->histogram[i].bucket[b]);
	}
}

/* 1 2 3 4 | 5 6 7 8 | 10 12 14 16 | 20 24 28 32 | ...; the last one takes whatever is larger. */
uint64_t counter_bucket_bound(unsigned bucket)
{
	if (bucket >= COUNTER_BUCKETS - 1)
		return UINT64_MAX;
	if (bucket < 4)
		return bucket + 1;
	return (uint64_t)(bucket % 4 + 5) << (bucket / 4 - 1);
}

unsigned counter_bucket_of(uint64_t value)
{
	if (value <= 4)
		return value == 0 ? 0 : (unsigned)value - 1;
	uint64_t below = value - 1;
	unsigned top_bit = 63 - (unsigned)__builtin_clzll(below);
	unsigned bucket = (top_bit - 1) * 4 + ((unsigned)(below >> (top_bit - 2)) & 3);

	return bucket < COUNTER_BUCKETS ? bucket : COUNTER_BUCKETS - 1;
}

static inline void bump(_Atomic uint64_t *v, uint64_t n)
{
	atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + n,
			      memory_order_relaxed);
	FAULT_POINT(COUNTERS_BUMP);
}

void histogram_add(struct counters_shm *c, enum histogram_id id, uint64_t value)
{
	struct counter_histogram *h = &c->histogram[id];

	bump(&h->bucket[counter_bucket_of(value)], 1);
	bump(&h->sum, value);
	bump(&h->count, 1);
}
