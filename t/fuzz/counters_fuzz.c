/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A counter page of a hostile worker: sums never run backwards, buckets stay in the page. */
#include <stdlib.h>

#include "lib/err.h"
#include "lib/log.h"
#include "shm/counters.h"
#include "t/fuzz/patch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct shm_region a, b;
	uint64_t v = 0;

	ASSERT(counters_create("a", 1, &a) == 0 && counters_create("b", 2, &b) == 0);
	struct counters_shm *sum = counters_of(&a), *page = counters_of(&b);

	if (size >= 8)
		memcpy(&v, data, 8);
	unsigned bucket = counter_bucket_of(v);

	ASSERT(bucket < COUNTER_BUCKETS && v <= counter_bucket_bound(bucket));
	fuzz_patch(page, sizeof(*page), data, size);
	histogram_add(page, HIS_delay_a, v);
	counters_fold(sum, page);
	for (unsigned i = 0; i < CTR_COUNT; i++)
		v = atomic_load(&sum->counter[i]);
	counters_fold(sum, page);
	ASSERT(atomic_load(&sum->counter[CTR_COUNT - 1]) >= v);
	shm_region_close(&a);
	shm_region_close(&b);
	return 0;
}
