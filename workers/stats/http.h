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

struct stats_http { /* the caller's; must outlive the server */
	struct snapshot_sources src;
	struct snapshot snap;
	const struct board_shm *board;
	const struct conf *conf;
};

/* NULL when memory is short. Bounded: header and body sizes, time per request. */
struct evhttp *stats_http_new(struct event_base *base, struct stats_http *h);

#endif
