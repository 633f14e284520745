/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Questions to the lookup worker (workers/lookup), asynchronous, over a link: fetches what a memo
 * of remote tables lacks (conf/map_remote.h). Used by smtp-in, rewrite, local and deliver from
 * their event loops. Bounded: PROTO_TABLE_ASKED_MAX questions are under way, the others wait in
 * their memos; a fetch that has not ended after its time ends with MAP_ERROR for what is missing.
 */
#ifndef PH_WORKERS_TABLES_CLIENT_H
#define PH_WORKERS_TABLES_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "conf/map_remote.h"
#include "shm/counters.h"
#include "shm/link.h"
#include "shm/proto.h"

struct tables_client;
struct tables_fetch;

/* All that was missing has an answer. Never called from inside tables_fetch(). */
typedef void (*tables_fn)(void *ctx);

struct tables_client *tables_client_new(int64_t timeout_ms, struct counters_shm *counters);
void tables_client_free(struct tables_client **c);
/* A (new) life of the lookup worker: what is under way is asked again, once. NULL = none now. */
void tables_client_set_link(struct tables_client *c, struct link *l);
/* The same of the verify worker, which is asked what has the name VERIFY_SPEC (conf/verify_use.h).
 */
void tables_client_set_verify(struct tables_client *c, struct link *l);
/* Fetch. The memo must outlive the fetch and must not be entered meanwhile. NULL: nothing can be
 * asked, all that was missing is an error now; `fn` is not called then. */
struct tables_fetch *tables_fetch(struct tables_client *c, struct map_memo *memo, tables_fn fn,
				  void *ctx);
/* The same for what may take longer: at least that long. */
struct tables_fetch *tables_fetch_within(struct tables_client *c, struct map_memo *memo,
					 int64_t timeout_ms, tables_fn fn, void *ctx);
void tables_cancel(struct tables_fetch *f);
/* Records from the lookup worker: call for each one of kind PROTO_TABLE_ANSWER. E_PEER when it is
 * malformed. */
int tables_client_input(struct tables_client *c, const void *rec, size_t len);
/* ... and from the verify worker. */
int tables_client_verified(struct tables_client *c, const void *rec, size_t len);
/* Ends what takes too long; call about once a second. */
void tables_client_tick(struct tables_client *c);

#endif
