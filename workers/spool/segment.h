/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One segment file being written, with its index. Private to workers/spool; called by the writer.
 */
#ifndef PH_WORKERS_SPOOL_SEGMENT_H
#define PH_WORKERS_SPOOL_SEGMENT_H

#include "workers/spool/format.h"

struct spool_segment {
	uint32_t number;
	int fd;
	int idx_fd; /* -1: index given up; the segment alone tells */
	uint64_t nonce;
	int64_t created_us;
	uint64_t size;        /* bytes reserved on disk; on a small one less than asked for */
	uint64_t written_end; /* before this the file was written and synced in a former life */
	uint64_t tail;        /* first byte not given out */
	uint32_t rows;        /* index rows written: the records committed */
	unsigned refs;        /* lane, batches, streams */
	bool in_flight;       /* a batch of it is being committed */
	bool failed;          /* a commit failed: nothing more goes in */
};

/* Make, reserve and sync a segment file and its directory entry, from spare/`recycle` when not 0.
 * Blocks. After it a record is durable as soon as an fdatasync of the file succeeds. Nothing is
 * left behind on failure. */
int spool_segment_make(const struct spool_dirs *d, uint32_t number, uint32_t recycle,
		       uint64_t bytes, int64_t created_us, struct spool_segment **s_r);
/* Reserve more space, for one large record. */
int spool_segment_extend(struct spool_segment *s, uint64_t bytes);
/* Write rows [s->rows, + count): called after their records are on stable storage, so that the
 * index never promises what the segment does not hold. Failures give the index up. */
void spool_segment_rows(struct spool_segment *s, const struct spool_row *rows, size_t count);
/* Last write: the close row. Then closes and frees. */
void spool_segment_close(struct spool_segment **s);
/* How much of `want` bytes to reserve: a part of what is free, so that a small disk is not taken up
 * by the files of a few workers; but not less than SPOOL_RESERVE_MIN. */
#define SPOOL_RESERVE_MIN  (256u << 10)
#define SPOOL_RESERVE_PART 16u
uint64_t spool_reserve_size(int fd, uint64_t want);
/* fallocate, or zeroes written where the file system cannot. */
int spool_reserve(int fd, uint64_t from, uint64_t to);

#endif
