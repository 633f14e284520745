/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside workers/spool/scan*.c only: the state of one segment's scan. */
#ifndef PH_WORKERS_SPOOL_SCAN_INT_H
#define PH_WORKERS_SPOOL_SCAN_INT_H

#include "lib/arena.h"
#include "workers/spool/format.h"
#include "workers/spool/window.h"

#define SCAN_PENDING_MAX 64

struct damaged { /* a header of ours whose record fails its checksum */
	struct qid qid;
	struct proto_place place; /* len 0: its header does not tell */
};

struct scan {
	const struct spool_dirs *dirs;
	uint32_t seg;
	struct spool_window win;
	bool have_nonce;
	uint64_t nonce;
	struct spool_row *rows; /* of records, by offset once loaded */
	size_t row_count;
	bool rows_whole;     /* no row is missing before the last one read */
	bool closed;         /* ... and the close row says that no record is beyond them */
	uint64_t crc_budget; /* bytes that may still be summed in vain */
	struct damaged
		pending[SCAN_PENDING_MAX]; /* damage, or the torn tail: the next valid one tells */
	size_t pending_count;
	uint64_t lost;     /* pending losses without a readable header */
	uint64_t lost_off; /* where the first of them begins */
	struct arena arena;
	struct buf env;
	spool_found_fn fn;
	void *ctx;
	struct spool_scan_stats *stats;
};

static inline uint64_t row_off(const struct spool_row *r)
{
	return (uint64_t)r->off8 * SPOOL_ALIGN;
}

/* scan.c */
int scan_open(struct scan *s, const struct spool_dirs *d, uint32_t seg, spool_found_fn fn,
	      void *ctx);
void scan_close(struct scan *s);
/* Does the record say of itself what the row says of it? */
bool scan_row_agrees(struct scan *s, const struct spool_row *r);

/* scan_index.c: the rows that may be believed; sets the nonce when there was none. */
void scan_load_index(struct scan *s);
/* May the bytes between a record's end and the next indexed one hold a record without a row? */
bool scan_gap_matters(const struct scan *s, uint64_t pos, uint64_t next);

/* scan_damage.c */
/* A damaged record, of which a header is left. */
void scan_note_damage(struct scan *s, const struct spool_record *h, uint64_t off, uint64_t bytes);
/* Bytes from `off` on that were a record once; no header is left. */
void scan_note_lost(struct scan *s, uint64_t off);
/* A valid record stands at `next`: what was noted before it is damage, and is kept and told. */
void scan_tell_damage(struct scan *s, uint64_t next);
/* No valid record followed: what was noted is the torn end of the last commit, or damage. */
void scan_tell_torn(struct scan *s);

#endif
