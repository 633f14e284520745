/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The spool that t/crash/spool_flip.c damages, and the ways to damage it (spool_flip_how.c,
 * spool_flip_text.c). */
#ifndef PH_T_CRASH_SPOOL_FLIP_H
#define PH_T_CRASH_SPOOL_FLIP_H

#include "t/unit/workers/spool/support.h"
#include "workers/mail/envelope.h"

#define FLIP_MSGS     14u
#define FLIP_RCPTS    3u
#define FLIP_REPORTED 2u /* its failure is reported ... */
#define FLIP_REPORT   5u /* ... by this one */
#define FLIP_FILES    5u

struct fate { /* what recovery makes of a message */
	bool there, sound, equal;
	uint8_t state[FLIP_RCPTS]; /* enum qstate of each recipient; QS_FREE = done */
	uint32_t flags;
	struct proto_place place;
};

struct flip_msg {
	struct proto_place place;
	struct buf env, content;
};

struct flip_file {
	int dir; /* descriptor; the fixture's */
	char name[SPOOL_NAME_SIZE];
	struct buf bytes; /* as they should be, without the reserved end */
};

struct damage {
	char what[120];
	bool touches[FLIP_MSGS]; /* records, or messages with outcomes there */
	bool in_journal;
	bool cuts;     /* what is behind is gone without a trace */
	bool destroys; /* whole headers are gone: nothing identifies what was there */
	bool whole;    /* more than one record is hit: no single place */
	bool foreign;  /* messages of another spool are there */
};

struct flip {
	struct fixture f;
	struct flip_msg msg[FLIP_MSGS];
	struct flip_file file[FLIP_FILES]; /* 2 segments, 2 indexes, the journal */
	struct fate sound[FLIP_MSGS];
	struct spool_reader *reader;
	unsigned strangers;
	uint64_t unreadable;
	bool report_late; /* the notification was hidden at first */
	unsigned seed;
	bool all;
	bool blind;                                /* checksums say nothing */
	unsigned long text_damages, text_failures; /* spool_flip_text.c */
};

static inline struct qid flip_id(unsigned k)
{
	return (struct qid){ 1700000000000000u + k, 7 };
}

static inline unsigned flip_number(struct qid id)
{
	return id.time_us >= 1700000000000000u ? (unsigned)(id.time_us - 1700000000000000u) : ~0u;
}

void flip_make(struct flip *t);
void flip_make_state(struct flip *t); /* while the spool is empty */
void flip_empty_corrupt(const struct flip *t);
void flip_try(struct flip *t, const struct damage *d);
void flip_bytes(struct flip *t);
void flip_files(struct flip *t);
void flip_texts(struct flip *t);

#endif
