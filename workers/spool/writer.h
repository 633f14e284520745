/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside of the segment writer, shared by writer.c (appends, streams' records), commit.c (batches
 * on their way to the disk) and stream.c.
 *
 * A batch is what one fdatasync covers: records of one segment, gathered in memory from one page
 * boundary on. It is OPEN while it takes records, RUNNING while a thread writes and syncs it, DONE
 * afterwards. All batches stand in one list in append order; callbacks are made from its head only,
 * so that they keep that order whichever of two segments syncs first. While a batch runs, the next
 * one gathers: that is the whole of group commit, and there is no timer in it.
 */
#ifndef PH_WORKERS_SPOOL_WRITER_H
#define PH_WORKERS_SPOOL_WRITER_H

#include "lib/clock.h"
#include "workers/spool/crew.h"
#include "workers/spool/segment.h"

#define MAX_LANES         2
#define MAX_READY         4
#define BATCH_BYTES_MAX   (4u << 20) /* gathered in memory; more is E_AGAIN */
#define BATCH_RECORDS_MAX 16384u
#define AT_RISK_MAX       (64u << 20)  /* over all batches */
#define DIRECT_BYTES      (256u << 10) /* larger records are written from the caller's memory */
#define PREP_RETRY_MS     1000
#define INLINE_COMMIT_US  1000 /* slower than this: always by thread */

enum batch_state { BATCH_OPEN, BATCH_RUNNING, BATCH_DONE };

struct batch_record {
	void *cookie;
	struct proto_place place;
};

struct batch {
	struct spool_job job;
	struct batch *next; /* list in append order, or free list */
	enum batch_state state;
	struct spool_segment *seg;
	struct buf buf;   /* bytes not written yet ... */
	uint64_t buf_off; /* ... and where they go */
	struct batch_record *records;
	struct spool_row *rows;
	size_t count, cap;
	uint64_t bytes; /* of its records */
	uint64_t end;   /* of the last of them in the file */
	bool sync;      /* wanted */
	bool synced;    /* tried */
	int err;
	int64_t took_us;
};

struct prep { /* making of a segment */
	struct spool_job job;
	const struct spool_dirs *dirs;
	uint32_t number, recycle;
	uint64_t bytes;
	int64_t created_us;
	struct spool_segment *seg;
	int err;
	bool busy;
};

struct spool_writer {
	struct spool_writer_conf conf;
	struct spool_writer_ops ops;
	const struct spool_dirs *dirs;
	struct spool_crew *crew;
	unsigned lanes;
	struct spool_segment *lane[MAX_LANES]; /* where appends go; NULL until needed */
	unsigned lanes_wanted;                 /* 1 until two commits wanted to run at once */
	bool starved;                          /* an append found no segment */
	struct spool_segment *ready[MAX_READY];
	unsigned ready_count;
	struct {
		uint32_t number, recycle;
	} granted[MAX_READY];
	unsigned granted_count;
	unsigned requested; /* need_file calls without a grant so far */
	struct prep prep;
	int prep_err;
	struct mono_ms prep_retry_at;
	struct batch *head, *tail; /* batches in append order */
	struct batch *free_batches;
	unsigned running;
	uint64_t at_risk; /* bytes of records not yet committed */
	int64_t commit_avg_us;
};

/* ---- writer.c ---- */
/* A segment with room for `bytes`: the one appends go to now, or another. Takes a reference for the
 * caller. E_AGAIN, E_NOSPC ... */
int spool_writer_room(struct spool_writer *w, uint64_t bytes, struct spool_segment **seg_r);
void spool_segment_unref(struct spool_writer *w, struct spool_segment **seg);
/* Stop appending to a segment. */
void spool_writer_detach(struct spool_writer *w, struct spool_segment *seg);
void spool_writer_request(struct spool_writer *w);

/* ---- commit.c ---- */
/* The open batch at the end of the list when it is of `seg`, else a new one. */
struct batch *spool_batch_open(struct spool_writer *w, struct spool_segment *seg);
/* Enter a record whose bytes are in the buffer or in the file already. */
void spool_batch_note(struct spool_writer *w, struct batch *b, const struct spool_record *h,
		      uint64_t off, uint64_t bytes, void *cookie);
/* Write the gathered bytes now, filled up to a page, because the next ones go elsewhere. */
int spool_batch_flush(struct batch *b);
/* Flush whatever open batch gathers at the tail of `seg`. */
int spool_writer_flush_tail(struct spool_writer *w, struct spool_segment *seg);
void spool_commit_start(struct spool_writer *w);
void spool_commit_finished(struct spool_writer *w, struct batch *b);
void spool_commit_deliver(struct spool_writer *w);
void spool_batch_run(struct spool_job *job);

#endif
