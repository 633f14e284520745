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
	unsigned (*count)(const struct conf *c);
	uint32_t ring_to; /* bytes of the ring supervisor -> worker; power of two */
	uint32_t ring_from;
	bool blocks;      /* owns a block region (smtp-in) */
	bool exclusive;   /* never two at a time: the old one ends before the next begins */
	bool scheduled;   /* the scheduler talks to it */
	bool needed;      /* mail is accepted only while one of them is up */
	bool brief_end;   /* has nothing to finish when it is told to end */
	bool is_door;     /* starts when the queue is known and mail has somewhere to go */
	bool all_regions; /* is given counters, queue and destination tables read-only */
};
extern const struct proc_class proc_classes[CLASS_COUNT];

/* Which classes are linked to which. Side 0 is `a`. */
struct proc_link {
	enum worker_class a, b;
	uint32_t ring_ab, ring_ba;
	bool give_blocks;      /* b maps a's blocks read-only */
	bool every_generation; /* lives of different ones are linked, too */
	bool same_generation;  /* b keeps running until the last a of its generation has ended */
};
extern const struct proc_link proc_links[];
extern const unsigned proc_link_count;

/* One worker accuses a peer of breaking the protocol: who is ended? Of two linked classes, `a` is
 * nearer to strangers. It is not believed against the one that serves others too; but it cannot go
 * on without that one, so it is ended itself. */
enum proc_blame { BLAME_NOBODY, BLAME_ACCUSED, BLAME_ACCUSER };
enum proc_blame proc_blame(enum worker_class by, enum worker_class about);

/* What is remembered of a life, so that neither side can use accusations to end the others: a word
 * against a word is judged as above, but two lives that say the same of a third are believed, and
 * who accuses one life after another is ended with them. */
struct proc_repute {
	uint32_t accused_by;  /* the first life that said so, 0 = none */
	unsigned accusations; /* of others, since since_ms */
	int64_t since_ms;
};
#define PROC_ACCUSE_MAX 3u
#define PROC_ACCUSE_MS  60000
/* BLAME_ACCUSED with *both_r: the accuser is ended too. */
enum proc_blame proc_judge(enum worker_class by, uint32_t by_life, struct proc_repute *by_r,
			   enum worker_class about, struct proc_repute *about_r, int64_t now_ms,
			   bool *both_r);

#endif
