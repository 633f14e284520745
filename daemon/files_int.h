/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside daemon/files*.c only. */
#ifndef PH_DAEMON_FILES_INT_H
#define PH_DAEMON_FILES_INT_H

#include <pthread.h>

#include "daemon/files.h"

#define OPEN_FILES_MAX  64u   /* of one kind that one life may hold */
#define SETTLE_MS       5000  /* a closed segment's last announcements may still be on their way */
#define COPY_AGE_MS     60000 /* what was just closed mostly dies by itself */
#define COPY_AGAIN_MS   60000
#define LOOK_MS         2000  /* between looks for something to remove or to copy */
#define SEARCH_FIRST_MS 2000  /* after the start, dead segments are searched for hidden records */
#define SEARCH_LIVE_MS  60000 /* and then those that hold mail */
#define SEARCH_PAUSE    9     /* times as long as one segment took, before the next */
#define JREF_SLOTS      1024u /* journals that queue entries can refer to at once */
#define JREF_OFF_BITS   22    /* in units of 16 bytes: the first 64 MiB of a journal */

struct fseg {
	uint32_t number;
	uint32_t life; /* 0 = nobody's */
	uint64_t live; /* messages */
	uint64_t live_bytes;
	uint64_t known_end; /* end of the last record that was announced */
	uint64_t bytes;     /* of the file, as far as known */
	int64_t closed_ms;
	int64_t copy_not_before_ms;
	bool closed;
	bool orphan;  /* its writer died: to be adopted from before it can be retired */
	bool looked;  /* ... and that failed before */
	bool leaving; /* with the helper thread */
	bool pinned;  /* holds mail that is not in the queue table: stays for the next start */
	/* was there at start, and recovery has believed its index: not retired before it was read
	 */
	bool unsearched;
};

struct fjnl {
	uint32_t number;
	uint32_t life;
	uint32_t closed_at; /* newest file number when it was closed */
	uint32_t refs;      /* queue entries whose last outcome is in it */
	uint32_t slot;      /* in files.slots, 0 = none */
	uint64_t bytes;
	bool closed;
	bool leaving;
};

enum fjob_kind {
	FJOB_RETIRE,
	FJOB_REMOVE_JOURNAL,
	FJOB_SCAN,
	FJOB_SEARCH,
	FJOB_CALL,
	FJOB_DROP_SPARE
};

struct fjob {
	struct fjob *next;
	enum fjob_kind kind;
	uint32_t number;
	int err;
	bool kept;       /* RETIRE: moved to spare/ */
	struct qid *ids; /* SCAN: of the records found */
	size_t id_count, id_cap;
	struct spool_found *found; /* SEARCH: with bounce_of on the heap */
	size_t found_count, found_cap;
	int mend_err; /* SEARCH: of the new index */
	int64_t took_us;
	void (*call)(void *ctx); /* CALL: by the thread */
	void *ctx;
};

struct flist {
	void **p;
	size_t count, cap;
};

struct files {
	struct files_setup su;
	unsigned spare_max;
	struct flist segs; /* struct fseg, ascending numbers */
	struct flist jnls; /* struct fjnl, ascending numbers */
	struct fseg *last_seg;
	struct spool_look look;
	struct fjnl *slots[JREF_SLOTS];
	uint32_t *spares;
	size_t spare_count, spare_cap;
	uint32_t newest; /* highest file number seen */
	bool recovered;
	uint64_t order; /* of the newest warrant */
	int64_t next_look_ms;
	/* own journal */
	struct journal_writer *marks;
	struct journal_reader *reader;
	bool marks_unsynced;
	bool mark_file_owed; /* it was asked for, and there was no number */
	/* copy-forward: one segment at a time */
	struct fseg *copying;
	struct qid *copy_ids;
	size_t copy_count, copy_pos;
	unsigned copy_out;
	bool scanning;
	/* search for hidden records: one segment at a time */
	struct fseg *searching;
	struct files_hidden hidden;
	int64_t search_ms, search_live_ms; /* not before */
	/* helper thread */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct fjob *todo, **todo_end, *done;
	unsigned jobs_out;
	bool stop;
};

/* files_thread.c */
int files_thread_start(struct files *f);
void files_thread_stop(struct files *f);
void files_thread_give(struct files *f, enum fjob_kind kind, uint32_t number);
/* `call` is made by the thread; what it needs is in ctx. */
void files_thread_call(struct files *f, void (*call)(void *ctx), void *ctx);
struct fjob *files_thread_done(struct files *f); /* a list, newest first; the caller frees */

/* files_mark.c */
int files_marks_new(struct files *f);
void files_marks_free(struct files *f);
void files_marks_tick(struct files *f);

/* files_search.c */
void files_search_next(struct files *f, int64_t now);
void files_search_finished(struct files *f, struct fjob *j);
void files_search_free(struct files *f);
void files_found_free(struct spool_found *list, size_t count);

/* files.c */
struct fseg *files_seg_find(struct files *f, uint32_t number);
struct fjnl *files_jnl_find(struct files *f, uint32_t number);

#endif
