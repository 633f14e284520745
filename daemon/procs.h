/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Worker classes and their links as data. Called by the supervisor; the table is daemon/procs.c. */
#ifndef PH_DAEMON_PROCS_H
#define PH_DAEMON_PROCS_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "workers/common/classes.h"

struct proc_class {
	const char *name; /* program name, for the log */
	unsigned (*count)(const struct params *p);
	uint32_t ring_to; /* bytes of the ring supervisor -> worker; power of two */
	uint32_t ring_from;
	bool blocks;      /* owns a block region (smtp-in) */
	bool exclusive;   /* never two at a time: the old one ends before the next begins */
	bool scheduled;   /* the scheduler talks to it */
	bool needed;      /* mail is accepted only while one of them is up */
	bool all_regions; /* is given counters, queue and destination tables read-only */
};
extern const struct proc_class proc_classes[CLASS_COUNT];

/* Which classes are linked to which. Side 0 is `a`. */
struct proc_link {
	enum worker_class a, b;
	uint32_t ring_ab, ring_ba;
	bool give_blocks;     /* b maps a's blocks read-only */
	bool same_generation; /* b keeps running until the last a of its generation has ended */
};
extern const struct proc_link proc_links[];
extern const unsigned proc_link_count;

/* One worker accuses a peer of breaking the protocol: who is ended? Of two linked classes, `a` is
 * nearer to strangers. It is not believed against the one that serves others too; but it cannot go
 * on without that one, so it is ended itself. */
enum proc_blame { BLAME_NOBODY, BLAME_ACCUSED, BLAME_ACCUSER };
enum proc_blame proc_blame(enum worker_class by, enum worker_class about);

#endif
