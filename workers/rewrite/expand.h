/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Envelope of a message as cleanup leaves it: addresses completed and mapped, bcc recipients
 * added, virtual aliases expanded until they are stable, duplicates removed.
 */
#ifndef PH_WORKERS_REWRITE_EXPAND_H
#define PH_WORKERS_REWRITE_EXPAND_H

#include "conf/conf.h"
#include "lib/arena.h"
#include "workers/mail/addr.h"
#include "workers/mail/envelope.h"
#include "workers/rewrite/mapping.h"
#include "workers/rewrite/resolve.h"

/* Recipients of one message after expansion, whatever the alias limits allow. */
#define EXPAND_RCPT_MAX 20000u

struct expander;

/* p: the parameters of the cleanup service, or those of main.cf. */
int expander_open(const struct conf *c, const struct params *p, const struct addr_rules *rules,
		  struct resolver *resolver, struct mapping *mapping, struct expander **x_r,
		  struct conf_diag *d);
void expander_close(struct expander **x);

enum expand_verdict {
	EXPAND_OK,
	EXPAND_TABLE,  /* a table could not be asked: 451 */
	EXPAND_LOOP,   /* alias limits exceeded: 451 4.6.0 Alias expansion error */
	EXPAND_MEMORY, /* too many recipients or arena full: 452 */
};

/* Replaces sender and recipients of `e` by the final ones; all memory is in the arena. A recipient
 * that changed keeps its first form in orig_addr. */
enum expand_verdict expand_envelope(struct expander *x, struct envelope *e, struct arena *a);
/* The sender as expand_envelope() will leave it, or as it is when that will fail. */
struct sv expand_sender(struct expander *x, const struct envelope *e, struct arena *a);

#endif
