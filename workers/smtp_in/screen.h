/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postscreen: what a client has to pass before the SMTP server has it. One client as a machine
 * without sockets; screenconn.c gives it what comes, and acts on screen_verdict().
 *
 *   SCREEN_LOOK    the access list and postscreen_allowlist_interfaces are asked, which may be
 *                  remote tables
 *   SCREEN_RECALL  the cache is asked: the verify worker (workers/verify/screened.h)
 *   SCREEN_EARLY   the first line of the greeting is out: does the client wait for the rest, and
 *                  what do lists in the DNS say of it?
 *   SCREEN_TALK    the dialogue in which nothing is accepted (screentalk.h)
 *   SCREEN_OVER    see the verdict
 *
 * The client is a taken-over process's at worst: no state of it is shared but in the cache, which
 * checks what it is told. Memory: a client under test is this struct, and what its dialogue needs.
 */
#ifndef PH_WORKERS_SMTP_IN_SCREEN_H
#define PH_WORKERS_SMTP_IN_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "workers/smtp_in/screenconf.h"

struct map_memo;
struct screen;

enum screen_verdict {
	SCREEN_UNDECIDED,
	SCREEN_PASSES, /* the SMTP server may have it; nothing was read from it */
	SCREEN_ENDS,   /* write what screen_out() has, and close */
};

/* What a screen asks of the process around it. */
struct screen_ops {
	/* Fetch what the memo lacks; screen_tables_answered() comes later, never from inside this
	 * call. NULL: all is answered at once. */
	void *(*tables)(void *ctx, struct screen *s, struct map_memo *memo);
	void (*tables_cancel)(void *ctx, void *query);
	/* A records of a name; screen_dns_answer() comes later, or before this returns: then NULL.
	 */
	void *(*dns)(void *ctx, struct screen *s, unsigned list, const char *name);
	void (*dns_cancel)(void *ctx, void *query);
	/* Ask the cache: screen_recalled() comes later, never from inside this call. */
	void (*recall)(void *ctx, struct screen *s);
	void (*remember)(void *ctx, struct screen *s, const int64_t expires_s[SCREEN_TEST_COUNT]);
	void *ctx;
};

/* Who is under test in this process. */
struct screen_clients;

struct screen_clients *screen_clients_new(const bool *stress);
void screen_clients_free(struct screen_clients **c);
unsigned screen_clients_count(const struct screen_clients *c); /* connections */

struct screen_peer { /* texts are copied */
	const char *addr, *port, *server_addr, *server_port;
};

/* All but the peer outlives it. screen_begin() comes next. */
struct screen *screen_new(const struct screen_conf *k, struct screen_clients *clients,
			  const struct screen_ops *ops, void *owner,
			  const struct screen_peer *peer);
void screen_free(struct screen **s); /* logs nothing */
void *screen_owner(const struct screen *s);

void screen_begin(struct screen *s);
void screen_tables_answered(struct screen *s);
/* expires_s NULL: nothing is known of the client. */
void screen_recalled(struct screen *s, const int64_t expires_s[SCREEN_TEST_COUNT]);
bool screen_is_recalling(const struct screen *s); /* screen_recalled() has not come */
/* ttl_s < 0: there is none. `count` 0: it is not listed. Addresses in host order. */
void screen_dns_answer(struct screen *s, unsigned list, const uint32_t *addrs, size_t count,
		       int64_t ttl_s);
void screen_tick(struct screen *s); /* clock_now() passed screen_next_ms() */
int64_t screen_next_ms(const struct screen *s);
/* The process ends: the client is to come again. */
void screen_stop(struct screen *s);

/* Input is only looked at, not taken from the socket, while this says so: the SMTP server gets it.
 */
bool screen_peeks(const struct screen *s);
/* May the dialogue have more? */
bool screen_reads(const struct screen *s);
void screen_input(struct screen *s, const char *data, size_t len);
/* The client has shut down its side, or the connection is broken. */
void screen_hangup(struct screen *s);

/* What is to be written; take it off with buf_consume(). */
struct buf *screen_out(struct screen *s);
enum screen_verdict screen_verdict(const struct screen *s);

#endif
