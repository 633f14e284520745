/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside of the pickup worker: finding mail in the maildrop (pickup.c) and handing one message to a
 * rewrite worker (job.c). To rewrite it looks like an smtp-in worker, and is trusted as little.
 *
 *   maildrop/NAME --rename, both directories synced--> pickup/QID --submitted, committed-->
 * unlinked
 *
 * So a message is always in one of the two directories, or in the spool. What lies in pickup/ when
 * the worker starts was in hand when the last one ended: it may be in the spool, too, and is
 * submitted again under another id, with a warning that names both. JOB_MAX messages are on their
 * way at a time, so that many share one commit.
 */
#ifndef PH_WORKERS_PICKUP_PICKUP_H
#define PH_WORKERS_PICKUP_PICKUP_H

#include <dirent.h>
#include <limits.h>

#include "conf/bounce_text.h"
#include "lib/arena.h"
#include "lib/qid.h"
#include "workers/common/worker.h"
#include "workers/mail/envelope.h"
#include "workers/pickup/maildrop.h"
#include "workers/smtp/line.h"
#include "workers/smtp_in/content.h"

#define JOB_MAX   64u
#define LATER_MAX 256u

enum job_state {
	JOB_FREE,
	JOB_TAKEN,     /* in pickup/, the rename not yet synced or nobody to hand it to */
	JOB_SENDING,   /* content goes to a rewrite worker */
	JOB_SENT,      /* all of it; a verdict will come */
	JOB_REPORTING, /* it was refused for good: the notification waits for room */
	JOB_REPORTED,  /* the same, a verdict on the notification will come */
};

struct pickup;

struct job {
	struct content content;
	struct pickup *p;
	enum job_state state;
	uint32_t number; /* index */
	struct qid qid;
	char id[QID_TEXT_SIZE];      /* its name in pickup/ */
	char earlier[QID_TEXT_SIZE]; /* an id it may be in the spool under; "" = none */
	char name[NAME_MAX + 1];     /* what it was called in maildrop/ */
	struct maildrop_file file;
	struct arena arena;
	struct buf env_in; /* as found; env points into it */
	struct envelope env;
	struct buf env_out, head; /* as submitted */
	struct smtp_data scan;    /* from Unix lines to wire form */
	uint64_t off;             /* content read */
	uint32_t crc;
	bool read_all;
};

struct later { /* a name that is not to be looked at before */
	uint64_t hash;
	int64_t due_ms;
};

struct pickup {
	struct worker *w;
	int drop_fd, taken_fd, corrupt_fd; /* directories */
	int notify_fd;                     /* inotify on the maildrop; -1 = none */
	struct loop_fd notify_lf;
	struct loop_timer tick;
	DIR *dir; /* the look round that is going on */
	bool look_again;
	bool starting;   /* pickup/ itself is still to be looked through */
	int64_t look_ms; /* next look without a reason */
	int64_t complain_ms;
	unsigned complaints; /* since complain_ms */
	struct later later[LATER_MAX];
	unsigned later_next;
	struct job jobs[JOB_MAX];
	unsigned active;
	bool taken_unsynced, removed_unsynced;
	struct content_pool pool;
	struct content_ops content_ops;
	struct worker_peer *rewrites[CONTENT_MAX_PEERS];
	struct qid_source ids;
	uint32_t envelope_flags; /* receive_override_options of the service */
	struct bounce_texts texts;
	const char *filter;  /* its content_filter */
	const char *cleanup; /* its cleanup_service_name, "" for the usual one */
	char read_buf[65536];
};

/* ---- pickup.c ---- */
/* Not again before `ms` have passed. */
void pickup_later(struct pickup *p, const char *name, int64_t ms);
/* A log line about something found, unless there were many of late. */
void pickup_complain(struct pickup *p, const char *name, uid_t uid, const char *why);

/* ---- job.c ---- */
/* Take a file into hand. `earlier`: it lay in pickup/ under that id. True: a job was made. */
bool job_take(struct pickup *p, int dir_fd, const char *name, const char *earlier);
/* Hand over what was taken; the renames are synced. */
void job_begin(struct job *j);
void job_room(struct job *j);
void job_done(struct job *j, const struct proto_submit_done *d, struct sv text);
/* The rewrite worker that has it is gone. */
void job_lost(struct job *j);
/* Back into the maildrop, to be tried again later. */
void job_put_back(struct job *j, int64_t later_ms);

/* ---- report.c ---- */
/* The notification of a refusal as the content of a message: headers and text in wire form. */
void report_build(const struct job *j, struct qid id, const uint8_t dsn[3], struct sv why,
		  struct buf *out);

#endif
