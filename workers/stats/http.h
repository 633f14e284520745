/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The pages of the statistics endpoint on libevent's HTTP server. Called by workers/stats/stats.c
 * and by the fuzz target, which feeds it arbitrary bytes.
 */
#ifndef PH_WORKERS_STATS_HTTP_H
#define PH_WORKERS_STATS_HTTP_H

#include "workers/stats/snapshot.h"

struct evhttp;
struct event_base;

#define STATS_CONNECTIONS 64u /* at a time; the oldest make room */

struct bufferevent;

/* Connections in the order in which they came. The library tells neither how many it has nor when
 * one ends, so this looks at their descriptors. */
struct stats_crowd {
	struct bufferevent *fresh; /* the newest: it has no descriptor yet when we hear of it */
	int fds[STATS_CONNECTIONS + 1];
	unsigned count;
	uint64_t closed; /* to make room */
};

struct stats_http { /* the caller's; must outlive the server */
	struct snapshot_sources src;
	struct snapshot snap;
	const struct board_shm *board;
	const struct conf *conf;
	struct stats_crowd crowd;
};

/* NULL when memory is short. Bounded: header and body sizes, time per request, connections. */
struct evhttp *stats_http_new(struct event_base *base, struct stats_http *h);
/* Once per turn: more than STATS_CONNECTIONS? Then the one that came first is shut down. */
void stats_http_turn(struct stats_http *h);

#endif
