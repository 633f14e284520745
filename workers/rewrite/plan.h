/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Plan: which recipients of a message go where. New mail: the recipients are put in the order of
 * their destinations, so that each destination's stand together in the record. A record read back
 * has its order for good: its recipients are grouped by masks instead.
 */
#ifndef PH_WORKERS_REWRITE_PLAN_H
#define PH_WORKERS_REWRITE_PLAN_H

#include <stdint.h>

#include "conf/conf.h"
#include "lib/arena.h"
#include "shm/proto.h"
#include "workers/mail/envelope.h"
#include "workers/rewrite/resolve.h"

struct plan_dest {
	struct sv transport;
	struct sv nexthop; /* lower case where it names a host */
	uint32_t rcpt_max; /* recipients per entry, 1 .. PROTO_ENTRY_SPAN */
	uint32_t rcpt_count;
	uint32_t next; /* used while sorting */
};

struct plan {
	struct plan_dest *dests;
	size_t dest_count;
	struct proto_entry *entries; /* .dest is an index into dests */
	size_t entry_count;
};

/* For new mail: resolves and reorders e->rcpts. All memory from the arena; E_LIMIT when it is full.
 */
int plan_new(const struct conf *c, struct resolver *r, struct envelope *e, struct arena *a,
	     struct plan *p);
/* For recipients first + bits of mask of a record read back. E_CORRUPT when the mask goes past the
 * recipients, E_LIMIT. The entries' masks partition `mask`. */
int plan_again(const struct conf *c, struct resolver *r, const struct envelope *e, uint32_t first,
	       uint64_t mask, struct arena *a, struct plan *p);

#endif
