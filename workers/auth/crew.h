/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Threads for steps that wait: a step is queued, a thread takes it, the loop gets it back. One that
 * takes too long stays with its thread, which nobody can end: who started it gives it up.
 */
#ifndef PH_WORKERS_AUTH_CREW_H
#define PH_WORKERS_AUTH_CREW_H

#include "lib/loop.h"
#include "workers/auth/auth.h"

struct auth_crew;

typedef void (*auth_step_fn)(struct dialogue *d);            /* in a thread */
typedef void (*auth_done_fn)(void *ctx, struct dialogue *d); /* in the loop; d is idle */

int auth_crew_new(struct loop *loop, unsigned threads, auth_step_fn step, auth_done_fn done,
		  void *ctx, struct auth_crew **c_r);
void auth_crew_step(struct auth_crew *c, struct dialogue *d);
/* Take it out of the queue: it is idle again. False: a thread has it. */
bool auth_crew_recall(struct auth_crew *c, struct dialogue *d);

#endif
