/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A few threads that do what may block (fdatasync, making files), for the segment and journal
 * writers. Jobs are objects of the caller; a finished one comes back through spool_crew_take(), and
 * the eventfd wakes the loop. Threads touch the job only; everything else stays in the loop thread.
 */
#ifndef PH_WORKERS_SPOOL_CREW_H
#define PH_WORKERS_SPOOL_CREW_H

#include "lib/loop.h"

struct spool_job {
	struct spool_job *next;
	void (*run)(struct spool_job *job);
};

struct spool_crew;

int spool_crew_new(unsigned threads, struct loop *loop, struct spool_crew **c_r);
/* Runs what is queued to its end, then stops. Take finished jobs first or free them yourself. */
void spool_crew_free(struct spool_crew **c);
void spool_crew_submit(struct spool_crew *c, struct spool_job *job);
/* Finished jobs in the order they finished, NULL when there is none. */
struct spool_job *spool_crew_take(struct spool_crew *c);
/* Blocks until a finished job can be taken or nothing is queued or running. */
void spool_crew_wait(struct spool_crew *c);

#endif
