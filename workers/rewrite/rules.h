/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Everything the rewrite worker takes from the configuration, opened once: header and address
 * rules, tables, limits. Knows nothing of processes, rings or the spool.
 */
#ifndef PH_WORKERS_REWRITE_RULES_H
#define PH_WORKERS_REWRITE_RULES_H

#include "conf/bounce_text.h"
#include "conf/conf.h"
#include "workers/rewrite/checks.h"
#include "workers/rewrite/expand.h"
#include "workers/rewrite/header.h"
#include "workers/rewrite/resolve.h"

enum { /* notify_classes */
       NOTIFY_CLASS_BOUNCE = 1,
       NOTIFY_CLASS_2BOUNCE = 2,
       NOTIFY_CLASS_DELAY = 4,
};

/* The checks of one cleanup service, with the -o options of its line. */
struct chain {
	const char *name;
	struct checks checks;
};

struct rules {
	const struct conf *conf;
	const struct params *p;
	struct header_rules header;
	struct resolver *resolver;
	struct mapping *mapping;
	bool remote_mapping;  /* it asks remote tables */
	struct checks checks; /* of mail whose cleanup service is not in master.cf */
	struct chain *chains; /* one for each cleanup service there */
	unsigned chain_count;
	struct expander *expander;
	uint64_t message_size_limit; /* UINT64_MAX = none */
	bool detect_8bit;            /* detect_8bit_encoding_header */
	unsigned notify_classes;
	struct bounce_texts bounce_texts;
	char double_bounce[512]; /* address, complete */
};

/* `c` must outlive the rules. Problems go to `d`; on error nothing is left open. */
int rules_open(const struct conf *c, struct rules *r, struct conf_diag *d);
void rules_close(struct rules *r);
/* The checks for a message that names a cleanup service (struct envelope); "" = "cleanup". */
const struct checks *rules_checks(const struct rules *r, struct sv cleanup);
/* Is this the address that double bounces are sent from? */
bool rules_is_double_bounce(const struct rules *r, struct sv addr);

#endif
