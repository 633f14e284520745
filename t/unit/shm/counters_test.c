/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Counters: descriptions, buckets, folding. */
#include "lib/err.h"
#include "shm/counters.h"
#include "t/unit/tap.h"

static void descriptions(void)
{
	unsigned bad = 0;

	for (unsigned i = 0; i < CTR_COUNT; i++)
		bad += counter_descs[i].name == NULL || counter_descs[i].help[0] == '\0';
	for (unsigned i = 0; i < GAU_COUNT; i++)
		bad += gauge_descs[i].name == NULL || gauge_descs[i].help[0] == '\0';
	for (unsigned i = 0; i < HIS_COUNT; i++)
		bad += histogram_descs[i].name == NULL || histogram_descs[i].unit[0] == '\0';
	is_int(bad, 0, "every row has its texts");
	is_str(counter_descs[CTR_smtpd_connections].name, "smtpd_connections", "by its name");
	is_str(histogram_descs[HIS_delay_a].unit, "ms", "with its unit");
}

static void buckets(void)
{
	unsigned bad = 0;

	for (unsigned b = 1; b < COUNTER_BUCKETS; b++)
		bad += counter_bucket_bound(b) <= counter_bucket_bound(b - 1);
	is_int(bad, 0, "bounds grow");
	is_int(counter_bucket_bound(3), 4, "first octave");
	is_int(counter_bucket_bound(8), 10, "third octave");
	ok(counter_bucket_bound(COUNTER_BUCKETS - 1) == UINT64_MAX, "the last takes everything");
	ok(counter_bucket_bound(COUNTER_BUCKETS - 2) > 25000000,
	   "the last but one is about half a minute in us");
	for (uint64_t v = 0; v < 100000; v++) {
		unsigned b = counter_bucket_of(v);

		bad += v > counter_bucket_bound(b) || (b > 0 && v <= counter_bucket_bound(b - 1));
	}
	for (unsigned b = 0; b < COUNTER_BUCKETS; b++) {
		bad += counter_bucket_of(counter_bucket_bound(b)) != b;
		bad += b + 1 < COUNTER_BUCKETS &&
		       counter_bucket_of(counter_bucket_bound(b) + 1) != b + 1;
	}
	is_int(bad, 0, "a value falls into the first bucket whose bound is not below it");
}

static void folding(void)
{
	struct shm_region ra, rb;

	is_int(counters_create("a", 1, &ra), 0, "create");
	is_int(counters_create("b", 2, &rb), 0, "another");
	struct counters_shm *a = counters_of(&ra), *b = counters_of(&rb);

	counter_add(a, CTR_smtpd_messages, 3);
	counter_add(b, CTR_smtpd_messages, 4);
	gauge_set(b, GAU_smtpd_sessions, 9);
	histogram_add(b, HIS_delay_b, 0);
	histogram_add(b, HIS_delay_b, 5);
	histogram_add(b, HIS_delay_b, UINT64_MAX / 2);
	counters_fold(a, b);
	is_int(a->counter[CTR_smtpd_messages], 7, "counters add up");
	is_int(a->gauge[GAU_smtpd_sessions], 0, "gauges are left out");
	is_int(a->histogram[HIS_delay_b].count, 3, "histogram count");
	is_int(a->histogram[HIS_delay_b].bucket[0], 1, "first bucket");
	is_int(a->histogram[HIS_delay_b].bucket[4], 1, "bucket of 5");
	is_int(a->histogram[HIS_delay_b].bucket[COUNTER_BUCKETS - 1], 1, "last bucket");
	counter_add(b, CTR_smtpd_messages, UINT64_MAX - 6);
	counters_fold(a, b);
	ok(a->counter[CTR_smtpd_messages] == UINT64_MAX, "a hostile page cannot turn a sum back");
	shm_region_close(&ra);
	ok(counters_of(&ra) == NULL, "no page without a region");
	shm_region_close(&rb);
	shm_region_create("t", SHM_KIND_COUNTERS, 100, 0, 0, &ra);
	ok(counters_of(&ra) == NULL, "no page in a region that is too small");
	shm_region_close(&ra);
}

int main(void)
{
	descriptions();
	buckets();
	folding();
	return tap_done();
}
