/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The threads that ask. Every table has its own, and its own queue: one whose source hangs keeps
 * nobody else waiting. What has waited too long, or comes while all threads of its table hang, is
 * answered with an error at once. main.c calls this from its event loop.
 */
#ifndef PH_WORKERS_LOOKUP_CREW_H
#define PH_WORKERS_LOOKUP_CREW_H

#include <stdint.h>

#include "lib/loop.h"
#include "workers/lookup/table.h"

#define CREW_WAIT_MS 10000 /* in a queue; also how long a question may run before it hangs */

struct crew;
struct crew_table;

struct crew_job {
	struct crew_job *next;
	void *asker;
	struct crew_table *table;
	uint32_t id;
	int64_t since_us;
	struct table_answer answer;
	size_t key_len;
	char key[]; /* NUL-terminated */
};

/* On the loop's thread; the job is the callee's to free (crew_job_free). */
typedef void (*crew_done_fn)(void *ctx, struct crew_job *job);

int crew_new(struct loop *loop, crew_done_fn done, void *ctx, struct crew **c_r);
/* Start the threads of a table, which must live as long as the process. */
int crew_add(struct crew *c, const struct table *t, unsigned threads, struct crew_table **t_r);
struct crew_job *crew_job_new(void *asker, uint32_t id, struct sv key);
void crew_job_free(struct crew_job *job);
/* Takes the job over. `done` is called later, or before this returns. */
void crew_ask(struct crew *c, struct crew_table *t, struct crew_job *job);
/* Answer what has waited too long; call about once a second. */
void crew_tick(struct crew *c);

#endif
