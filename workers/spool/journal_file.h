/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The files of an outcome journal: made in a thread, written in order, closed. Only journal.c calls
 * this.
 */
#ifndef PH_WORKERS_SPOOL_JOURNAL_FILE_H
#define PH_WORKERS_SPOOL_JOURNAL_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "workers/spool/crew.h"
#include "workers/spool/spool.h"

#define JOURNAL_LANES 4u /* syncs of one journal under way at a time, at most */

struct journal_file {
	uint32_t number;
	struct journal_owner owner;
	/* One for each sync under way: the kernel tells an error once to every open file, so two
	 * syncs of one open file at the same time would not both hear of it. Written by the first.
	 */
	int fds[JOURNAL_LANES];
	uint64_t nonce;
	uint64_t bytes; /* reserved; past this size there is a new file */
	uint64_t end;   /* of what was appended, what is still in memory included */
	/* Outcomes by number: the newest one, the newest that a sync which began covers, and the
	 * newest that is durable. */
	uint64_t last, asked, done;
	uint64_t zeroed; /* up to here it was written once, with zeroes */
	uint64_t solid;  /* ... and a sync after that succeeded */
	bool failed;
};

struct journal_prep {
	struct spool_job job;
	struct journal_file *file; /* NULL when none is under way */
	const struct spool_dirs *dirs;
	uint64_t bytes;
	int64_t created_us;
	int err;
};

struct journal_file *journal_file_new(uint32_t number, struct journal_owner owner);
void journal_file_free(struct journal_file **f); /* closes it */
/* Runs in a thread: makes the file of prep->file, or leaves nothing and sets prep->err. */
void journal_file_prepare(struct spool_job *prep);
/* Keeps what will be written soon from being space that is only reserved. */
void journal_file_zero_ahead(struct journal_file *f);

#endif
