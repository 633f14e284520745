/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a parameter does here: it acts, is accepted without effect and why, or is Postfix's old name
 * of another one. `postconf --effect` and `posthaste check` show it, doc/COMPATIBILITY.md counts
 * it.
 */
#ifndef PH_CONF_EFFECT_H
#define PH_CONF_EFFECT_H

#include <stdbool.h>

#include "conf/conf.h"
#include "lib/str.h"

enum effect { EFFECT_ACTS, EFFECT_ACCEPTED, EFFECT_ALIAS };

struct effect_info {
	enum effect effect;
	const char *reason; /* EFFECT_ACCEPTED: a sentence without a stop; else "" */
	bool missing;       /* what it asks for is not there (of an alias: of its new name) */
	const char *advice; /* Postfix's for a deprecated name, e.g. "specify \"x\""; else NULL */
};

/* False when the name is none of ours. c may be NULL; with it, TRANSPORT_... names of its services
 * are known too. Of templates themselves the name is "transport_...". */
bool effect_find(const struct conf *c, struct sv name, struct effect_info *info_r);
const char *effect_text(enum effect effect); /* "acts", "accepted", "alias" */

/* The same of a service of master.cf, by its program. */
void effect_service(const struct conf_service *s, struct effect_info *info_r);

/* A parameter that the configuration sets and that asks for what is not there, or such a service.
 */
struct effect_finding {
	const char *name; /* of a service: as in the first field */
	const char *file;
	unsigned line;
	const char *reason;
};

/* What main.cf and master.cf ask for. The lists are owned by the caller: effect_summary_fini. */
struct effect_summary {
	unsigned acts, accepted, aliases, own; /* different names; own: the operator's */
	const char **accepted_names;           /* those where nothing is lost, without aliases */
	unsigned accepted_count;
	/* one for each place that sets one, and not to its default or off; by reason, file, line */
	struct effect_finding *missing;
	unsigned missing_count;
};
void effect_summary(const struct conf *c, struct effect_summary *s);
void effect_summary_fini(struct effect_summary *s);

#endif
