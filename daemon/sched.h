/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The scheduler: decides which queue entry goes to which worker when. It lives in the supervisor,
 * is its only writer of the queue and destination tables, and never reads mail: it works on
 * fixed-size records that it checks. One thread; nothing here blocks or walks the whole queue.
 *
 * The supervisor calls, in each loop turn: sched_input() for every record it drained from the rings
 * of rewrite, deliver and local workers, then sched_turn(); about every 100 ms sched_tick().
 * All time comes from clock_now() and clock_now_wall(), so the caller ticks the clock once per
 * turn.
 *
 * Everything workers send is input: an error code from sched_input() means that the worker broke
 * the protocol and must be killed; nothing of that record was applied.
 */
#ifndef PH_DAEMON_SCHED_H
#define PH_DAEMON_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "daemon/qclock.h"
#include "lib/qid.h"
#include "shm/board.h"
#include "shm/counters.h"
#include "shm/dtab.h"
#include "shm/proto.h"
#include "shm/qtab.h"
#include "workers/common/classes.h"

struct files;
struct sched;

struct sched_ops {
	/* Put one record on the ring towards a worker that was announced with sched_worker_up().
	 * 0, or E_AGAIN when the ring is full (the record is not kept; it is offered again later).
	 * Published by the caller once per turn. */
	int (*send)(void *ctx, enum worker_class class_id, unsigned slot, const void *rec,
		    size_t len);
	/* Text of a journaled reason, for the record of why a destination is suspended. Written to
	 * out (terminated); false when it cannot be read (yet). May be NULL. */
	bool (*reason)(void *ctx, struct proto_jref jref, char *out, size_t out_size);
	void *ctx;
};

/* Nothing is owned; all of it must outlive the scheduler. `files` may be NULL in tests: then
 * segments and journals are not accounted for and file requests are refused. */
struct sched_setup {
	const struct conf *conf;
	unsigned generation; /* of conf; 0 = what the board says. Workers are announced with theirs
			      */
	struct qtab *qtab;
	struct dtab *dtab;
	struct board_shm *board;
	struct counters_shm *counters;
	struct files *files;
	struct qclock_file *clock_file;       /* kept up to date; NULL = none */
	const struct qclock_seen *clock_seen; /* what it said; NULL = nothing. Not kept */
	struct sched_ops ops;
};

int sched_new(const struct sched_setup *setup, struct sched **s_r);
void sched_free(struct sched **s);

/* A new configuration was accepted. Transport indexes may have changed: destinations are matched by
 * transport name; one whose transport is gone has its entries resolved again. The old conf must
 * stay valid until this returns. */
int sched_reload(struct sched *s, const struct conf *conf, unsigned generation);

/* ---- workers: CLASS_REWRITE, CLASS_DELIVER, CLASS_LOCAL; others are ignored ---- */

/* The worker's rings are attached and it may be given work. `generation` is that of the
 * configuration it runs: transport numbers in jobs are indexes of that one. E_INVAL for a slot that
 * is up already or out of range. */
int sched_worker_up(struct sched *s, enum worker_class class_id, unsigned slot, uint32_t life,
		    unsigned generation);
/* Takes nothing new from now on (reload, drain); what it holds it still answers. */
void sched_worker_drain(struct sched *s, enum worker_class class_id, unsigned slot, uint32_t life);
/* It will be killed for a record that was refused. What is left in its ring is heard all the same,
 * but for mail that it announces: that is adopted. */
void sched_worker_refused(struct sched *s, enum worker_class class_id, unsigned slot,
			  uint32_t life);
/* The worker was reaped and its ring drained into sched_input(). What it held goes back. For a
 * rewrite worker the supervisor then calls recover_adopt() (daemon/recover.h). */
void sched_worker_gone(struct sched *s, enum worker_class class_id, unsigned slot, uint32_t life);
/* Entries the worker holds: 0 means a draining worker can be stopped. */
unsigned sched_worker_load(const struct sched *s, enum worker_class class_id, unsigned slot);

/* It began to announce a message and has not gone on for seconds. Others' room is kept for that. */
bool sched_worker_overdue(const struct sched *s, enum worker_class class_id, unsigned slot,
			  uint32_t life);

/* One record from a worker. 0, or E_PEER: kill it. */
int sched_input(struct sched *s, enum worker_class class_id, unsigned slot, uint32_t life,
		const void *rec, size_t len);

/* Hands out work, within a budget. True when there is more to do at once. */
bool sched_turn(struct sched *s);
/* Time: due retries, suspensions, rate delays, gauges. */
void sched_tick(struct sched *s);
/* Milliseconds until sched_tick() has something to do (rate delays are finer than 100 ms); at most
 * 1000. The supervisor arms its timer with it after sched_turn(). */
int64_t sched_next_ms(const struct sched *s);
/* Stop handing out work (draining before stop); what is out comes back. */
void sched_stop(struct sched *s);
/* Entries that workers hold now. */
uint64_t sched_outstanding(const struct sched *s);

/* ---- operator commands: each costs what it affects. A message that is being delivered (busy) is
 * marked, and the rest follows when its workers have answered. ---- */
struct sched_cmd_result {
	uint64_t messages; /* affected */
	uint64_t busy; /* of those: some recipients are in delivery now; the command applies to what
			* is left afterwards */
	uint64_t failed; /* unchanged, because the journal took no mark */
};
enum sched_cmd {
	SCHED_HOLD,
	SCHED_RELEASE,
	SCHED_REQUEUE,
	SCHED_DELETE,
	SCHED_FLUSH,
	SCHED_EXPIRE, /* given back to the sender at the next attempt, as if its time were over */
	SCHED_CMDS
};
/* Only messages that a list of the queue shows there; by bits. SCHED_FLUSH takes no notice. */
enum sched_queues {
	SCHED_IN_DEFERRED = 1,
	SCHED_IN_ACTIVE = 2,
	SCHED_IN_HOLD = 4,
	SCHED_IN_ALL = 7
};

/* E_NOENT: no such message (or, for HOLD and RELEASE, nothing to do). */
int sched_cmd(struct sched *s, enum sched_cmd cmd, struct qid id, struct sched_cmd_result *r);
int sched_cmd_in(struct sched *s, enum sched_cmd cmd, unsigned queues, struct qid id,
		 struct sched_cmd_result *r);
/* The same for all messages, in slices of sched_turn(); `done` is called once with the sum. One at
 * a time: E_AGAIN while another one runs. */
typedef void (*sched_done_fn)(void *ctx, const struct sched_cmd_result *r);
int sched_cmd_all(struct sched *s, enum sched_cmd cmd, sched_done_fn done, void *ctx);
int sched_cmd_all_in(struct sched *s, enum sched_cmd cmd, unsigned queues, sched_done_fn done,
		     void *ctx);
/* Deferred entries of every destination whose next hop is `site` (with or without brackets and
 * port), and its suspension ends. Sliced like sched_cmd_all. */
int sched_flush_site(struct sched *s, struct sv site, sched_done_fn done, void *ctx);

/* ---- listing: a copy of some slots at a time, never a stop of the mail ---- */
struct sched_item { /* one queue entry, with its message */
	struct qid qid;
	struct proto_place place;
	uint32_t msg_flags;
	uint32_t rcpt_first;
	uint64_t mask;
	uint32_t due_s;         /* wall clock */
	uint32_t dest;          /* destination table row, DTAB_NONE */
	struct proto_jref jref; /* last outcome, {0,0} = none */
	uint8_t state;          /* enum qstate */
};
typedef void (*sched_item_fn)(void *ctx, const struct sched_item *it);
/* Visits messages from slot *cursor on, at most max_msgs slots; false at the end of the table. */
bool sched_list(struct sched *s, uint32_t *cursor, unsigned max_msgs, sched_item_fn fn, void *ctx);
/* The same by entries: from the cursor on (its numbers may be anybody's), at most max_items. Begin
 * with { 0, QTAB_NONE }. */
struct sched_cursor {
	uint32_t msg, entry;
};
bool sched_list_part(struct sched *s, struct sched_cursor *cursor, unsigned max_items,
		     sched_item_fn fn, void *ctx);
/* The entries of one message; E_NOENT. */
int sched_list_one(struct sched *s, struct qid id, sched_item_fn fn, void *ctx);
/* Whether a destination (sched_item.dest) is suspended, and why. */
bool sched_is_suspended(const struct sched *s, uint32_t row, struct sv *reason_r);

/* ---- for recovery (daemon/recover.c): fill the table before or between turns ---- */
struct sched_found {
	struct qid qid;
	struct proto_place place;
	uint32_t flags;    /* MSGF_*, also those of the supervisor */
	int64_t commit_us; /* wall time of the record; 0 = as the id */
};
struct sched_found_entry {
	uint32_t rcpt_first;
	uint64_t mask;
	enum qstate state; /* QS_LOAD, QS_DEFERRED, QS_HOLD or QS_NOTIFY */
	uint32_t due_s;    /* DEFERRED: queue time (daemon/qclock.h) */
	uint16_t bounce;   /* NOTIFY: enum bounce_kind */
	struct proto_jref jref;
	struct sv transport, nexthop; /* DEFERRED: of the last outcome; may be empty */
};
const struct params *sched_params(const struct sched *s);
const struct qclock *sched_clock(const struct sched *s);
void sched_count_doubts(struct sched *s, uint64_t deliveries);
/* Messages that sched_add_found() took because a segment's index had hidden them. */
void sched_count_hidden(struct sched *s, uint64_t messages);
/* Outcomes that recovery did not believe. */
void sched_count_forged(struct sched *s, uint64_t outcomes);
/* Where the record of a message that is in the queue lies; false: it is not in the queue. */
bool sched_place_of(const struct sched *s, struct qid id, struct proto_place *place_r);
/* Life 0 knows better where the record of a message lies. E_AGAIN: a worker has it; E_NOENT. */
int sched_move_found(struct sched *s, struct qid id, const struct proto_place *place);
/* A record in the segment of a dead rewrite worker: true when it is a copy of a message that was
 * being copied forward, and so not a new message; what is left of that one is journaled. */
bool sched_adopt_copy(struct sched *s, uint32_t life, struct qid id, uint32_t rcpt_count);
/* So many are about to be found: before the first one. */
void sched_expect_found(struct sched *s, size_t messages);
/* E_EXIST when the message is known already, E_NOSPC when the table is full. */
/* One of this id is about to be added: soon, or sooner (called for each in this order). */
void sched_prefetch_found(const struct sched *s, struct qid id, bool sooner);
int sched_add_found(struct sched *s, const struct sched_found *m, const struct sched_found_entry *e,
		    size_t count);

#endif
