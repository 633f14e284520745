/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside daemon/recover*.c only: what the scans gather before the queue is filled. Records first,
 * then outcomes, so that only outcomes of messages that still exist take memory.
 */
#ifndef PH_DAEMON_RECOVER_INT_H
#define PH_DAEMON_RECOVER_INT_H

#include "daemon/recover.h"

#define RMSG_NONE UINT32_MAX

enum {                 /* rmsg.marks */
       RMARK_DONE = 1, /* the only recipient is done, or the message was deleted */
       RMARK_HELD = 2,
       RMARK_HOLD_SEEN = 4, /* an operator's word on holding exists, so the record's flag is void */
       RMARK_WARNED = 8,
       RMARK_REQUEUED = 16,
       RMARK_UNSURE = 32,      /* an outcome of it is damaged */
       RMARK_UNSURE_MARK = 64, /* ... and it was an operator's word */
       RMARK_EXPIRED = 256,    /* an operator said so */
       RMARK_DOUBT = 128,      /* a delivery of it is on the list of those in doubt */
};

struct rmsg { /* a record that exists */
	struct qid qid;
	struct proto_place place;
	uint32_t rcpt_count;
	uint16_t flags;
	uint16_t marks;
	int64_t commit_us;
	uint32_t pieces; /* newest first; RMSG_NONE */
	int64_t hold_when_us;
};

struct rpiece { /* what one outcome says about up to 64 recipients */
	uint64_t mask, done;
	union {
		uint64_t deferred; /* OUTCOME_RESULT */
		int64_t listed_us; /* OUTCOME_STARTED: when it came on the list of those in doubt */
	};
	uint64_t bounced, report;
	int64_t when_us;
	uint64_t order; /* of its warrant; 0: from a journal without them */
	struct proto_jref jref;
	uint32_t next;
	uint32_t rcpt_first;
	uint32_t name;    /* index of "transport\0nexthop\0", 0 = none */
	uint8_t kind;     /* enum outcome_kind */
	bool listed_hold; /* the list says that it was put on hold */
	bool unsure; /* STARTED: ended, with an outcome that does not tell whether it arrived */
};

struct rdoubt { /* an attempt that began and has no outcome */
	uint32_t rcpt_first;
	uint64_t mask;
	int64_t when_us;
	uint32_t name;
	bool listed; /* since an earlier start */
	bool unsure; /* as of the piece */
};

struct rbucket {
	uint32_t msg; /* RMSG_NONE: empty */
	uint32_t tag; /* upper half of the hash */
};

struct recovery {
	struct rmsg *msgs;
	size_t msg_count, msg_cap;
	struct rbucket *buckets;
	size_t last_msg;     /* that an outcome was found for */
	size_t bucket_count; /* power of two */
	struct rpiece *pieces;
	size_t piece_count, piece_cap;
	struct buf names;
	uint32_t last_name;
	const struct params *params;
	const struct warrant_key *key; /* NULL: every outcome is believed */
	struct journal_owner owner;    /* of the journal that is read */
	enum { OWNER_OLD, OWNER_KNOWN, OWNER_NOT_KNOWN, OWNER_FORGED } owner_is;
	uint64_t forged;
	const struct qclock *clock;
	int64_t now_us;
	uint64_t duplicates, live;
	struct spool_scan_stats stats;
};

/* Scan everything; `f` may be NULL when nothing but a listing is wanted. */
int recover_read(struct recovery *r, struct files *f, const struct spool_dirs *dirs);
void recover_read_fini(struct recovery *r);
/* In parts: records; what notifications among them report; then journals and the list of doubts. */
void recover_add_record(struct recovery *r, const struct spool_found *found, struct buf *reports);
void recover_apply_reports(struct recovery *r, const struct buf *reports);
int recover_read_outcomes(struct recovery *r, struct files *f, const struct spool_dirs *dirs);

/* recover_plan.c: from the pieces of one message to its queue entries. */
struct rplan {
	struct sched_found found;
	struct sched_found_entry *entries;
	size_t count, cap;
	struct rdoubt *doubts;
	size_t doubt_count, doubt_cap;
	bool doubt_hold;       /* ... and so the message is held */
	struct rpiece **order; /* scratch, oldest first */
	size_t order_cap;
	uint32_t *owner; /* scratch, per recipient */
	size_t owner_cap;
};

/* Fills plan->entries; none when the message is done. */
void recover_plan(const struct recovery *r, struct rmsg *m, struct rplan *plan);
void recover_plan_fini(struct rplan *plan);
struct doubts;
/* recover.c: the doubts of a plan, but for those that are on the list since an earlier start. */
void recover_add_doubts(struct recovery *r, const struct rplan *plan, struct doubts *out);
/* Entries for all recipients, to be loaded. */
void recover_plan_fresh(uint32_t rcpt_count, enum qstate state, struct rplan *plan);

#endif
