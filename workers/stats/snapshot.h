/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Snapshot: one consistent copy of all figures, from which both /stats (JSON) and /metrics are
 * written, so that they never disagree. Called by workers/stats/stats.c.
 */
#ifndef PH_WORKERS_STATS_SNAPSHOT_H
#define PH_WORKERS_STATS_SNAPSHOT_H

#include "conf/conf.h"
#include "shm/board.h"
#include "shm/counters.h"
#include "shm/dtab.h"
#include "workers/common/classes.h"

#define SNAPSHOT_MAX_PAGES 320
#define SNAPSHOT_TOP_MAX   1000

struct page { /* a counter page we were given */
	bool used;
	enum worker_class class_id;
	unsigned slot;
	uint32_t life;
	struct shm_region region;
};

struct snap_histogram {
	uint64_t count, sum;
	uint64_t bucket[COUNTER_BUCKETS];
};

struct snap_dest {
	uint32_t row;
	struct drow d;
};

struct snapshot {
	int64_t wall_s;
	uint64_t counter[CTR_COUNT];
	uint64_t gauge[GAU_COUNT];
	struct snap_histogram histogram[HIS_COUNT];
	unsigned workers[CLASS_COUNT];
	/* destinations: the first dest_count by what they have queued, then by what they sent */
	struct snap_dest *dests;
	unsigned dest_count;
	uint64_t dest_rows;                            /* in use */
	uint64_t rows_ready, rows_busy, rows_deferred; /* sums over all rows */
	uint64_t suspended;
};

struct snapshot_sources {
	struct page pages[SNAPSHOT_MAX_PAGES];
	const struct board_shm *board;
	struct dtab dtab;
	bool have_dtab;
};

/* Fill `s` (the caller's, reused); `top` destinations at most SNAPSHOT_TOP_MAX. */
void snapshot_take(const struct snapshot_sources *src, unsigned top, struct snapshot *s);
void snapshot_fini(struct snapshot *s);
/* The value below which a share of the observations lies (upper bound of its bucket). */
uint64_t snap_quantile(const struct snap_histogram *h, double share);

/* Writers. `conf` gives transport names. */
char *snapshot_json(const struct snapshot *s, const struct board_shm *b, const struct conf *conf);
void snapshot_prometheus(const struct snapshot *s, const struct board_shm *b,
			 const struct conf *conf, struct buf *out);

extern const char *const snapshot_class_names[CLASS_COUNT];

#endif
