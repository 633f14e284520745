/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The sockets of sessions that have a before-queue filter: asks the connector for connections and
 * moves bytes between them and workers/smtp_in/sessfilter.h. Called by server.c and conn.c.
 */
#ifndef PH_WORKERS_SMTP_IN_FILTERCONN_H
#define PH_WORKERS_SMTP_IN_FILTERCONN_H

#include "workers/smtp_in/session.h"

struct server;
struct conn;
struct filterconn;
struct worker;

/* Before rights are given up: starts the connector when a listener has a filter. Of a listener no
 * more connections are open at a time than maxproc of its line, shared out over the processes. */
int filterconn_init(struct server *sv, const struct worker *w);
void filterconn_start(struct server *sv);

/* struct session_ops */
void filterconn_open(void *ctx, struct session *s);
void filterconn_kick(void *ctx, struct session *s);
void filterconn_close(void *ctx, struct session *s, bool quit);

/* Write and read what is there. */
void filterconn_run(struct conn *c);
/* When it has waited too long; INT64_MAX = never. */
int64_t filterconn_next_ms(const struct conn *c);
void filterconn_tick(struct conn *c);

#endif
