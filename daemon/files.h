/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Spool files as the supervisor sees them: which segments and journals exist, who writes them, how
 * much of each is still needed; numbers for new ones; retiring dead segments, removing journals
 * that nothing refers to, choosing segments to copy forward. Called by the scheduler and by
 * recovery.
 *
 * A segment is dead when it is closed and no live message lies in it. A journal can go when it is
 * closed, no queue entry's last outcome lies in it, and no segment is left that existed while the
 * journal was written (its outcomes say what of those segments' messages is done). File numbers
 * grow with time over both kinds, so "existed while" is a comparison of numbers.
 *
 * Renames, unlinks and segment scans run in a helper thread; nothing here makes the loop wait for
 * the disk except files_mark_sync().
 */
#ifndef PH_DAEMON_FILES_H
#define PH_DAEMON_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "lib/loop.h"
#include "lib/qid.h"
#include "shm/board.h"
#include "shm/counters.h"
#include "shm/proto.h"
#include "workers/spool/warrant.h"

#define FILES_SAMPLE 16u

struct files;

/* Nothing is owned; all must outlive the files object. */
struct files_setup {
	const struct spool_dirs *dirs;
	struct spool_state *state;
	struct board_shm *board;
	const struct params *params;
	struct counters_shm *counters;
	bool verify;                   /* look at what workers announce */
	const struct warrant_key *key; /* NULL: no warrants are given, and none asked for */
	uint32_t life;                 /* the supervisor's own: warrants of one are later than of
					  those before it */
	struct loop *loop; /* for the journal of operators' marks; NULL: marks are refused */
};

int files_new(const struct files_setup *setup, struct files **f_r);
void files_free(struct files **f);
struct loop *files_loop(const struct files *f);
void files_reload(struct files *f, const struct params *params);
/* Space is short: dead segments that were kept to be overwritten are removed, a few at a time. */
void files_drop_spares(struct files *f);

/* ---- writers ---- */
/* Answer to PROTO_FILE_NEED of the worker `life`. E_LIMIT when it holds too many open files. */
int files_grant(struct files *f, uint32_t life, uint32_t file_kind, struct proto_file *grant_r);
/* PROTO_FILE_CLOSED; E_PEER when the file is not one of that life's. */
int files_closed(struct files *f, uint32_t life, const struct proto_file *c);
/* The life has ended: its files are closed. */
void files_life_gone(struct files *f, uint32_t life);
/* Recovery tells of a file it found. Until files_recovered() nothing is removed. */
int files_found(struct files *f, enum spool_file_kind kind, uint32_t number);
void files_found_bytes(struct files *f, uint32_t seg, uint64_t bytes);
void files_recovered(struct files *f);
/* Leave for the worker `life` to write outcomes of that kind about an entry; zero without a key. */
struct proto_warrant files_warrant(struct files *f, uint32_t life, enum outcome_kind kind,
				   const struct proto_ref *ref);
/* Visits all outcomes in the journals of a life that has ended, in their order. */
void files_each_outcome(struct files *f, uint32_t life, outcome_found_fn fn, void *ctx);
const struct warrant_key *files_key(const struct files *f);
const struct spool_dirs *files_dirs(const struct files *f);
/* Visits the segments of writers that died, ascending, with the end of the last known record; for
 * adoption. One for which `fn` returns false is visited again the next time. */
struct files_orphan {
	uint32_t seg, life;
	uint64_t known_end;
	bool again;
};
typedef bool (*files_orphan_fn)(void *ctx, const struct files_orphan *o);
void files_each_orphan(struct files *f, files_orphan_fn fn, void *ctx);

/* ---- messages ---- */
/* A live message at `place`. With a life: E_PEER when the place is not in a segment that this life
 * writes. Life 0 (recovery): E_NOENT when the segment is unknown. */
int files_msg_add(struct files *f, uint32_t life, const struct proto_place *place);
/* A record without a live message stands there: it is known and not to be adopted. E_PEER when the
 * place is not in a segment of that life. */
int files_seen(struct files *f, uint32_t life, const struct proto_place *place);
/* Whether the record that a worker announces is in its segment. Looks at one in FILES_SAMPLE only,
 * by chance (files_setup.verify): a worker that announces what is not there is found out soon. */
bool files_msg_is_there(struct files *f, struct qid id, const struct proto_place *place);
void files_msg_del(struct files *f, uint32_t seg, uint32_t len);
/* The segment holds acknowledged mail that the queue table has no room for, or parts of it cannot
 * be read: it is neither retired nor copied from, and the next start reads it again. */
void files_pin(struct files *f, uint32_t seg);

/* ---- outcome places, packed into 4 bytes of a queue entry ---- */
/* E_PEER when `life` (not 0) does not write that journal. {0,0} gives 0; a place that cannot be
 * packed too (the entry is then without a known reason). Counts a reference. */
int files_jref_take(struct files *f, uint32_t life, struct proto_jref ref, uint32_t *packed_r);
void files_jref_dup(struct files *f, uint32_t packed);
void files_jref_drop(struct files *f, uint32_t packed);
struct proto_jref files_jref_unpack(const struct files *f, uint32_t packed);
/* Text of the first reason of an outcome; false when it cannot be read. */
bool files_reason(struct files *f, struct proto_jref ref, char *out, size_t out_size);

/* ---- operators' marks and state of copied messages ---- */
/* Journal a mark about a whole message; kind OUTCOME_DELETED, HELD, RELEASED, REQUEUED. */
int files_mark(struct files *f, enum outcome_kind kind, struct qid id);
int files_mark_sync(struct files *f);
/* As journal_writer_ready(), of their journal. */
int files_mark_ready(struct files *f);
/* Journal what is left of recipients [first, first + 64): `live` are still to be delivered, the
 * rest of `all` is done. Carries the reasons of `old` along. *packed_r: its place, with a
 * reference. */
int files_keep(struct files *f, struct qid id, uint32_t first, uint64_t all, uint64_t live,
	       struct proto_jref old, uint32_t *packed_r);

/* ---- copy-forward ---- */
/* Ids of the records of a segment that should be copied forward, some at a time. False when there
 * is nothing to do. The caller skips what is dead or elsewhere by now. */
bool files_copy_next(struct files *f, struct qid *id_r, uint32_t *seg_r);
/* The copy of a record of `seg` ended (also when it was skipped). */
void files_copy_ended(struct files *f, uint32_t seg);

/* ---- what an index has hidden ---- */
/*
 * Recovery believes the rows of an index. In the background every segment that was there at start
 * is read through (spool_scan_hidden); before that it is not retired. What was found waits here
 * until the caller has seen to it.
 */
struct files_hidden {
	uint32_t seg;
	struct spool_found *list; /* by place */
	size_t count;
};
/* NULL: there is nothing at present. */
const struct files_hidden *files_hidden(struct files *f);
/* Runs in the helper thread, while what is hidden waits; once for each. It may read the spool. */
void files_hidden_call(struct files *f, void (*call)(void *ctx), void *ctx);
/* All seen to: the index was written anew. `pin`: not all could be taken, the segment stays. */
void files_hidden_done(struct files *f, bool pin);

/* End of turn: hands journaled marks to the disk. True: call again soon. */
bool files_turn(struct files *f);
/* About every 100 ms: results of the helper thread, gauges, what can be removed. */
void files_tick(struct files *f);

#endif
