/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Records that found their ring full; used by workers/common/worker.c alone.
 *
 * One list per ring, number 0 being the supervisor's. A peer that does not read its ring (it may
 * be taken over) holds up its own records only. One order over several rings is kept: what was put
 * for a peer after something for the supervisor is not sent before it, because a client's 250 must
 * not overtake the announcement of its message. So peers wait for the supervisor, never the other
 * way round.
 */
#ifndef PH_WORKERS_COMMON_OUTBOX_H
#define PH_WORKERS_COMMON_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/ring.h"

#define OUTBOX_COUNT     129
#define OUTBOX_BYTES_MAX (16u << 20) /* per peer; more than any honest one can have asked for */

struct outbox_rec;

struct outbox {
	struct outbox_rec *head, *last;
	struct ring_prod *ring; /* valid while there are records */
	size_t bytes;
};

struct outboxes {
	bool any;
	struct outbox box[OUTBOX_COUNT];
};

/* Into the ring, or behind what waits. E_LIMIT: too much waits for this peer, the record is lost.
 */
int outbox_put(struct outboxes *o, unsigned i, struct ring_prod *ring, const void *rec, size_t len);
/* Try again what waits. Asks the consumers of full rings to wake us. */
void outbox_send(struct outboxes *o, struct ring_prod *super);
/* Forget what waits for a ring that goes away. */
void outbox_drop(struct outboxes *o, unsigned i);

#endif
