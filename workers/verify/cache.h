/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is known about addresses: a Kyoto Cabinet file with one owner, the verify worker, or memory.
 * Nothing in it is worth saving: a file that is damaged is begun anew, and a crash costs what was
 * stored last. Records are Postfix's, "status:probed:updated:text" under the address, so that
 * postmap -s reads them; `probed` is always 0, because probes under way are not in the file. Never
 * more than a given number of records: beyond it, an older one makes room, failures first.
 */
#ifndef PH_WORKERS_VERIFY_CACHE_H
#define PH_WORKERS_VERIFY_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/verify_use.h"
#include "lib/buf.h"

#define CACHE_TEXT_MAX 1000u

struct cache;

struct cache_times { /* seconds */
	int64_t positive_expire, positive_refresh, negative_expire, negative_refresh;
};

struct cache_record {
	enum verify_status status;
	int64_t updated_s;
	struct buf text;
};

/* param: for the log. path: "NAME.kch", NULL = in memory. A file that cannot be used costs a log
 * line, and memory is used. */
struct cache *cache_open(const char *param, const char *path, uint64_t records_max,
			 const struct cache_times *times);

/* A cache of other records: which of them are still of use is for `keep` to say. `param` names it
 * in the log. Then cache_get_text() and cache_put_text() are for it, not cache_get() and
 * cache_put(). */
typedef bool (*cache_keep_fn)(const void *ctx, struct sv value, int64_t now_s);

struct cache_kind {
	const char *param;
	cache_keep_fn keep;
	const void *ctx;
};

struct cache *cache_open_kind(const char *path, uint64_t records_max,
			      const struct cache_kind *kind);
/* 1: there is a record, and its text replaces what is in out; 0: none; negative: the file fails. */
int cache_get_text(struct cache *c, struct sv key, struct buf *out);
int cache_put_text(struct cache *c, struct sv key, struct sv value, int64_t now_s);
/* Writes out what is not written yet. */
void cache_close(struct cache **c);

/* 1: there is a good record that has not expired; 0: there is none; negative: the file fails. */
int cache_get(struct cache *c, struct sv key, int64_t now_s, struct cache_record *r);
int cache_put(struct cache *c, struct sv key, enum verify_status status, int64_t now_s,
	      struct sv text);
bool cache_needs_refresh(const struct cache *c, const struct cache_record *r, int64_t now_s);
uint64_t cache_count(const struct cache *c);

/* Look at up to `steps` records, each in its turn, and remove those that have expired or are no
 * records. 1: that was the last one, and the numbers of all since the first are in *kept_r and
 * *dropped_r. */
int cache_clean(struct cache *c, unsigned steps, int64_t now_s, uint64_t *kept_r,
		uint64_t *dropped_r);
/* Give the system what was stored since the last time. */
int cache_write_out(struct cache *c);

#endif
