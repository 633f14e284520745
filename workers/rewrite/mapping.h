/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Address to address, one for one, as Postfix's cleanup maps it before aliases are expanded:
 * sender_canonical_maps or recipient_canonical_maps, canonical_maps, then masquerade_domains; each
 * for the classes its parameter names. Called by expand.c for envelopes and by header.c for
 * headers.
 */
#ifndef PH_WORKERS_REWRITE_MAPPING_H
#define PH_WORKERS_REWRITE_MAPPING_H

#include <stdbool.h>

#include "conf/conf.h"
#include "lib/arena.h"
#include "lib/str.h"
#include "workers/mail/addr.h"
#include "workers/rewrite/resolve.h"

enum mapping_use {
	MAPPING_ENVELOPE_SENDER,
	MAPPING_ENVELOPE_RECIPIENT,
	MAPPING_HEADER_SENDER,
	MAPPING_HEADER_RECIPIENT,
	MAPPING_USES
};

struct mapping;

/* Opens the tables; what the arguments point to must outlive it. p: the parameters of the cleanup
 * service, or those of main.cf. Problems go to `d`. */
int mapping_open(const struct conf *c, const struct params *p, const struct addr_rules *rules,
		 struct resolver *resolver, struct mapping **m_r, struct conf_diag *d);
void mapping_close(struct mapping **m);
/* False when nothing is configured for this use (or m is NULL): the call can be left out. */
bool mapping_acts(const struct mapping *m, enum mapping_use use);
/* Are remote tables asked (conf/map_remote.h)? */
bool mapping_is_remote(const struct mapping *m);

/*
 * `addr` is complete and in internal form; the null sender stays. The result is a view of `addr` or
 * of memory in the arena. Returns 0, E_AGAIN when a table could not be asked, or E_LIMIT when the
 * arena is full. Tables that go round in circles end after ten steps with a warning, as in Postfix:
 * the result so far is used.
 */
int mapping_apply(struct mapping *m, enum mapping_use use, struct sv addr, struct arena *a,
		  struct sv *out);

#endif
