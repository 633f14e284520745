/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What makes an outcome in a journal worth believing. All workers run as one user, and recovery
 * reads what they wrote; so with each job the supervisor hands out a warrant: a number that grows
 * with every one, and a code over it, the entry and the worker's life that only the supervisor can
 * make. The worker repeats it in the outcome. A journal's head has the life that it was granted to,
 * and a code, too. So one life's outcome says nothing about what another one was given.
 *
 * The key is in the file `secret` of the spool, which file rules keep from workers
 * (workers/common/landlock.h). Journals below `first_file` are older than it and believed as they
 * are. Made by the supervisor, checked by recovery, repeated by whoever writes journals.
 */
#ifndef PH_WORKERS_SPOOL_WARRANT_H
#define PH_WORKERS_SPOOL_WARRANT_H

#include "workers/spool/spool.h"

#define WARRANT_LIFE_SHIFT 40 /* order: the supervisor's own life number above this */

struct warrant_key {
	uint64_t key[2];
	uint32_t first_file; /* journals and segments from this number on are made under it */
};

/* What a code is about. */
struct warrant_of {
	uint32_t life; /* 0: the supervisor */
	uint8_t kind;  /* OUTCOME_RESULT (and what goes with it), _NOTIFIED, _WARNED; own: any */
	uint32_t rcpt_first;
	uint64_t mask;
	uint64_t done; /* own outcomes: who is done; else 0 */
	uint64_t order;
	struct qid qid;
};

/* The key of this spool; with `create` it is made when it is missing or damaged (that is logged),
 * for files from next_file on. Else E_NOENT, E_CORRUPT, or that it may not be read. */
int warrant_key_open(const struct spool_dirs *d, bool create, uint32_t next_file,
		     struct warrant_key *k_r);
uint64_t warrant_code(const struct warrant_key *k, const struct warrant_of *of);
/* For the head of a journal. */
uint64_t warrant_file_code(const struct warrant_key *k, uint32_t number, uint32_t life);
/* Is it what `life` may say? */
bool warrant_holds(const struct warrant_key *k, uint32_t life, const struct outcome *o);
/* Whose journal with a damaged head this outcome may be from; false: nobody's. */
bool warrant_find_life(const struct warrant_key *k, const struct outcome *o, uint32_t *life_r);

#endif
