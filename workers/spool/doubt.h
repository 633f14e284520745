/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The list of deliveries in doubt: begun, and what became of them hidden by a crash. One line of
 * text each in the file `in_doubt` of the spool, written and synced before such a message is handed
 * out again, and kept for operators (postqueue -D) when the message has long gone. When it is full
 * it becomes `in_doubt.old`, whose predecessor goes. doc/spool-format.md has it by field. Written
 * by the supervisor, read by it at start and by postqueue.
 */
#ifndef PH_WORKERS_SPOOL_DOUBT_H
#define PH_WORKERS_SPOOL_DOUBT_H

#include "workers/spool/spool.h"

#define DOUBT_FILE_MAX (8u << 20) /* bytes */
#define DOUBT_RCPT_MAX 64u        /* of one attempt */

enum doubt_cause { /* what ended */
		   DOUBT_WORKER,
		   DOUBT_SYSTEM, /* everything */
		   DOUBT_CHILD,  /* a process of a worker, that wrote into a mailbox */
		   DOUBT_CAUSE_COUNT
};

/* The word in the file and in listings. */
const char *doubt_cause_name(enum doubt_cause cause);

struct doubt { /* one attempt */
	struct qid qid;
	uint32_t rcpt_first;
	uint64_t mask;              /* its recipients without known outcome */
	int64_t began_us, found_us; /* wall */
	bool held;                  /* put on hold, else tried again */
	uint8_t cause;              /* enum doubt_cause */
	struct sv transport, nexthop;
	struct sv sender; /* "<>": the null sender */
	struct sv *rcpts; /* empty texts and none at all: not known */
	size_t rcpt_count;
};

/* Adds the line of one attempt. */
void doubt_format(const struct doubt *d, struct buf *lines);
/* Appends lines and makes them durable; begins a new file where this one would pass max_bytes. */
int doubt_write(const struct spool_dirs *dirs, struct sv lines, uint64_t max_bytes);
/* Every whole line, oldest first; those that are damaged are left out and counted. No file is an
 * empty list. */
typedef void (*doubt_fn)(void *ctx, const struct doubt *d);
int doubt_each(const struct spool_dirs *dirs, doubt_fn fn, void *ctx, uint64_t *damaged_r);

#endif
