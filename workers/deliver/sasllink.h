/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Asking the saslclient worker (workers/saslclient) from a deliver worker's loop: for mechanisms
 * that only the SASL library has, and for logins that were refused before. A question that finds
 * nobody waits for the next life; one that is not answered in time, or whose worker dies, ends as
 * failed. Called by connlogin.c and main.c.
 */
#ifndef PH_WORKERS_DELIVER_SASLLINK_H
#define PH_WORKERS_DELIVER_SASLLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/str.h"
#include "shm/proto.h"

struct worker;
struct worker_peer;
struct sasl_link;

/* What was said to a question; views are valid during the call. */
struct sasl_said_text {
	enum sasl_said what;
	struct sv mechanism; /* KNOWN: enhanced code */
	struct sv text;
	struct sv lines; /* for the log */
};

/* The owner's, zeroed at first. One question at a time is under way. */
struct sasl_asker {
	/* Ask (again): sasl_link_start() or sasl_link_find(). */
	void (*ask)(void *ctx);
	/* Never called from inside those. */
	void (*said)(void *ctx, const struct sasl_said_text *t);
	void *ctx;
	/* the link's */
	struct sasl_asker *next, *prev;
	uint32_t number; /* of its dialogue; 0: none */
	bool waits;      /* for a life of the worker */
	bool asked;
	int64_t until_ms;
};

struct sasl_link *sasl_link_new(struct worker *w);
void sasl_link_attach(struct sasl_link *l, struct worker_peer *peer);
void sasl_link_detach(struct sasl_link *l, const struct worker_peer *peer);
/* E_PEER: malformed. */
int sasl_link_record(struct sasl_link *l, const void *rec, size_t len);
void sasl_link_tick(struct sasl_link *l); /* several times a second */

struct sasl_start {
	const char *service, *server;
	struct sv offered; /* mechanisms with blanks between them */
	struct sv user, password;
	unsigned options;
	bool authzid;
};

/* Begin a dialogue. False: none of the mechanisms is one that `own` does not know and the library
 * does; nothing is asked. */
bool sasl_link_start(struct sasl_link *l, struct sasl_asker *a, const struct sasl_start *s,
		     bool (*own)(struct sv mechanism));
/* `challenge` is base64. */
void sasl_link_step(struct sasl_link *l, struct sasl_asker *a, struct sv challenge);
/* Was this login refused? strings: of SASL_ASK_FIND. */
void sasl_link_find(struct sasl_link *l, struct sasl_asker *a, const struct sv strings[4],
		    int64_t age_s);
/* strings: of SASL_ASK_REMEMBER. */
void sasl_link_remember(struct sasl_link *l, const struct sv strings[5]);
/* It has no use for an answer any more; its dialogue is over. */
void sasl_link_end(struct sasl_link *l, struct sasl_asker *a);

#endif
