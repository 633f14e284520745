/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Everything the rewrite worker takes from the configuration, opened once: header and address
 * rules, tables, limits. Knows nothing of processes, rings or the spool.
 */
#ifndef PH_WORKERS_REWRITE_RULES_H
#define PH_WORKERS_REWRITE_RULES_H

#include "conf/bounce_text.h"
#include "conf/conf.h"
#include "workers/deliver/convert.h"
#include "workers/rewrite/checks.h"
#include "workers/rewrite/expand.h"
#include "workers/rewrite/header.h"
#include "workers/rewrite/resolve.h"

enum { /* notify_classes */
       NOTIFY_CLASS_BOUNCE = 1,
       NOTIFY_CLASS_2BOUNCE = 2,
       NOTIFY_CLASS_DELAY = 4,
};

enum { /* internal_mail_filter_classes */
       FILTER_CLASS_BOUNCE = 1,
       FILTER_CLASS_NOTIFY = 2,
};

/* What one cleanup service does, with the -o options of its line: from the message that comes in to
 * the route of each recipient. */
struct chain {
	const char *name; /* of the service; NULL: none, the parameters are main.cf's */
	char *log_name;   /* for lines of cleanup and qmgr about its mail, with syslog_name */
	char *log_qmgr;
	const struct params *p; /* of the cleanup service */
	struct header_rules header;
	struct resolver *own;    /* what is local, by p */
	struct resolver *router; /* of the trivial-rewrite service that its qmgr service names */
	bool shares_router;      /* it is another chain's */
	struct mapping *mapping;
	bool remote_mapping; /* it asks remote tables */
	struct checks checks;
	struct expander *expander;
	uint64_t message_size_limit;  /* UINT64_MAX = none */
	bool detect_8bit;             /* detect_8bit_encoding_header */
	struct convert_conf *convert; /* force_mime_input_conversion; NULL = no */
};

struct rules {
	const struct conf *conf;
	const struct params *p;
	struct chain *chains; /* the first: of mail whose cleanup service is not in master.cf */
	unsigned chain_count;
	unsigned notify_classes;
	unsigned filter_classes; /* of our own messages, checks and milters see these */
	struct bounce_texts bounce_texts;
	char double_bounce[512]; /* address, complete */
	/* routes of address probes: main.cf's with address_verify_... in their place; NULL = there
	 * are no probes */
	struct resolver *verify_router;
	struct params *verify_params;
};

/* `c` must outlive the rules. Problems go to `d`; on error nothing is left open. */
int rules_open(const struct conf *c, struct rules *r, struct conf_diag *d);
void rules_close(struct rules *r);
/* The chain of a message that names a cleanup service (struct envelope); "" = "cleanup". */
const struct chain *rules_chain(const struct rules *r, struct sv cleanup);
/* Who resolves the recipients of a message of that chain; `verify` is the envelope's. */
struct resolver *rules_router(const struct rules *r, const struct chain *ch, struct sv verify);
/* Is this the address that double bounces are sent from? */
bool rules_is_double_bounce(const struct rules *r, struct sv addr);

#endif
