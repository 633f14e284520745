/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A client of Dovecot's auth service (its "Authentication Protocol v1.x"), as Postfix's: one
 * connection for all dialogues of a service's smtpd_sasl_path, which is a path below the queue
 * directory, unix:PATH or inet:HOST:PORT. Lines of words with TABs between them; the server says
 * which mechanisms it has before it is asked anything.
 */
#ifndef PH_WORKERS_AUTH_DOVECOT_H
#define PH_WORKERS_AUTH_DOVECOT_H

#include "lib/loop.h"
#include "workers/auth/auth.h"

struct dovecot_ops {
	/* Its mechanisms are known now, or no more: dovecot_offer(). */
	void (*changed)(void *ctx, struct dovecot *dc);
	/* The step is over; d is idle and without a number there. */
	void (*done)(void *ctx, struct dialogue *d);
	void *ctx;
};

/* The address is looked up now; E_CONFIG (said in d): it is none. loop NULL: no connection is ever
 * made, what a server says comes by dovecot_input(). */
int dovecot_new(struct loop *loop, const char *path, const char *queue_directory,
		const struct dovecot_ops *ops, struct conf_diag *d, struct dovecot **dc_r);
void dovecot_start(struct dovecot *dc, struct loop *loop); /* connect; from now on by ticks */
void dovecot_free(struct dovecot **dc);
const char *dovecot_path(const struct dovecot *dc);
/* Those that the options leave; false: the server has not been heard. */
bool dovecot_offer(const struct dovecot *dc, unsigned options, struct buf *out);
bool dovecot_is_up(const struct dovecot *dc);
/* One step of a dialogue that is idle. done() comes later, or from inside. */
void dovecot_step(struct dovecot *dc, struct dialogue *d);
/* It is given up: no done() for it. */
void dovecot_cancel(struct dovecot *dc, struct dialogue *d);
void dovecot_tick(struct dovecot *dc, int64_t timeout_us); /* each second */

/* What the server says; for tests too. E_PEER: it talks nonsense, the connection is to be closed.
 */
int dovecot_input(struct dovecot *dc, const char *data, size_t len);

#endif
