/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Connections that postscreen has not let through yet: sockets, name server, tables and the cache
 * for the machine of screen.h. Called by conn.c and server.c.
 */
#ifndef PH_WORKERS_SMTP_IN_SCREENCONN_H
#define PH_WORKERS_SMTP_IN_SCREENCONN_H

#include <stddef.h>

struct conn;
struct server;

void screenconn_start(struct server *sv);
/* The client is known: c->screen is made. */
void screenconn_begin(struct conn *c);
void screenconn_step(struct conn *c); /* may free the connection */
void screenconn_timer(struct conn *c);
void screenconn_free(struct conn *c); /* c->screen, if there is one */
/* The process ends. */
void screenconn_drain(struct conn *c);
/* What the verify worker says of a client. E_PEER: it is malformed. */
int screenconn_record(struct server *sv, const void *rec, size_t len);
/* A (new) life of it: clients that wait are asked for again. */
void screenconn_attached(struct server *sv);

#endif
