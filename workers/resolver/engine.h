/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The resolver's engine: questions of many peers, answered by the hosts table or by libunbound,
 * with bounds. Each peer has a queue; peers take turns, so that one which asks much cannot keep the
 * others waiting. Beyond its queue a peer gets DNS_TEMP at once. workers/resolver/main.c is its
 * process; the unit test drives it with a fake back end.
 */
#ifndef PH_WORKERS_RESOLVER_ENGINE_H
#define PH_WORKERS_RESOLVER_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "workers/resolver/hosts.h"

#define ENGINE_FLYING_MAX  512  /* questions with the back end at once */
#define ENGINE_WAITING_MAX 4096 /* per peer */

struct engine;
struct engine_query;

struct engine_ops {
	/* Start the lookup of a checked lower-case name. 0, or an error: answered DNS_TEMP. The
	 * back end calls engine_done() once, perhaps before it returns. */
	int (*ask)(void *ctx, const char *name, uint16_t rrtype, struct engine_query *q);
	/* An answer record for a peer. */
	void (*answer)(void *ctx, void *peer, const void *rec, size_t len);
	void *ctx;
};

struct engine *engine_new(const struct engine_ops *ops, struct hosts *hosts);
void engine_free(struct engine **e);
void engine_peer_add(struct engine *e, void *peer);
void engine_peer_remove(struct engine *e, void *peer); /* its questions are forgotten */
/* One PROTO_DNS_QUERY record. E_PEER when it is malformed. */
int engine_input(struct engine *e, void *peer, const void *rec, size_t len);
/* Back end: the answer record (ids are filled in here), or NULL for DNS_TEMP. */
void engine_done(struct engine *e, struct engine_query *q, unsigned char *rec, size_t len,
		 bool secure);
unsigned engine_flying(const struct engine *e);

#endif
