/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Jobs of a local worker: reads the record, finds the mailboxes, has children deliver, then
 * journals and logs what became of each recipient and reports to the supervisor.
 */
#ifndef PH_WORKERS_LOCAL_JOB_H
#define PH_WORKERS_LOCAL_JOB_H

#include "lib/arena.h"
#include "workers/common/worker.h"
#include "workers/local/command.h"
#include "workers/local/piped.h"
#include "workers/local/pool.h"
#include "workers/local/target.h"
#include "workers/spool/spool.h"
#include "workers/tables/client.h"

struct job;

struct local { /* the worker */
	struct worker *w;
	struct targets *targets;
	struct pool *pool;
	struct commands *commands;
	struct lookup *aliases; /* local(8) */
	struct forwarder *forwarder;
	int biff_fd;                   /* workers/local/biff.h */
	struct arena arena;            /* of the configuration: as long as the worker */
	struct status_filter **status; /* by transport */
	const struct piped **pipes;    /* by transport; NULL for those of other kinds */
	const char *const *pipe_env;   /* environment of commands */
	struct spool_dirs dirs;
	struct spool_reader *reader;
	struct journal_writer *journal;
	struct job *jobs, **jobs_tail; /* all, also those that wait for the journal */
	size_t job_count, waiting;     /* waiting: for the journal to have it that they begin */
	bool record_sync;              /* in_doubt_sync */
	struct buf env_buf, content_buf;
	struct loop_timer tick;
	struct worker_peer *lookup; /* asks remote tables; NULL = none now */
	struct tables_client *tables;
};

void job_start(struct local *l, const void *rec, size_t len);
/* Deliveries that waited for the journal to say durably that they begin, and reports that waited
 * for a journal file. */
void job_retry(struct local *l);

#endif
