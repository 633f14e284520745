/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Address verification without processes: questions in, answers and wishes for probes out. One
 * probe of an address is under way at a time, whoever asks; so many in all. Who asks waits for its
 * result as long as he said, and is told "in progress" then. Probes that are not heard of within
 * PROBE_TTL are forgotten.
 *
 *	no record, or it has expired   -> probe; whoever asks waits
 *	record that is due for refresh -> its answer at once, and a probe beside
 *	fresh record                   -> its answer at once
 */
#ifndef PH_WORKERS_VERIFY_CORE_H
#define PH_WORKERS_VERIFY_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "workers/verify/cache.h"

#define VERIFY_ADDR_MAX    1024u /* longer ones are not verified */
#define VERIFY_PROBE_TTL_S 1000
#define VERIFY_WAITERS_MAX 200u /* of one asker; the one that has waited longest makes room */

struct verify_conf {
	bool negative_cache;
	uint64_t pending_max;     /* probes under way */
	int64_t clean_interval_s; /* 0 = never */
	const char *map;          /* for the log */
};

struct verify_ops {
	/* asker: as in verify_ask(). */
	void (*answer)(void *ctx, void *asker, uint32_t id, enum verify_status status,
		       struct sv text);
	/* Begin a probe; verify_result() or verify_lost() comes later, and may come at once. */
	void (*probe)(void *ctx, struct sv addr);
	void *ctx;
};

struct verify_stats { /* since the start, but for the last two */
	uint64_t asked, known, probes, refreshes, limited, timeouts, deliverable, undeliverable;
	uint64_t pending, records;
};

struct verify;

/* Takes the cache over. */
struct verify *verify_new(const struct verify_conf *conf, struct cache *cache,
			  const struct verify_ops *ops);
void verify_free(struct verify **v);

void verify_ask(struct verify *v, void *asker, uint32_t id, struct sv addr, int64_t wait_ms);
/* It is gone. */
void verify_forget(struct verify *v, void *asker);
/* What came out, also of an address that nobody waits for. */
void verify_result(struct verify *v, struct sv addr, enum verify_status status, struct sv text);
/* The probe was not sent, or is lost. */
void verify_lost(struct verify *v, struct sv addr);
/* Time passes: call several times a second while verify_has_waiters(), else once. */
void verify_tick(struct verify *v);
bool verify_has_waiters(const struct verify *v);
void verify_stats(const struct verify *v, struct verify_stats *out);

#endif
