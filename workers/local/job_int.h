/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside of jobs: what job.c (start, content, report) shares with the ways to deliver. */
#ifndef PH_WORKERS_LOCAL_JOB_INT_H
#define PH_WORKERS_LOCAL_JOB_INT_H

#include "lib/arena.h"
#include "workers/local/command.h"
#include "workers/local/job.h"
#include "workers/mail/envelope.h"

struct verdict { /* on one recipient; the texts are in the job's arena */
	uint8_t dsn[3];
	bool unsure;
	bool passed; /* sent, and reporting success is not ours */
	struct sv text, diag;
	const char *mta; /* as in struct outcome_reason */
};

struct pipe_delivery {
	struct command command;
	struct sv name; /* of the program */
	int input_fd;
};

struct rcpt_job { /* one recipient of a job */
	struct job *job;
	struct delivery delivery;
	struct target target;
	const struct env_rcpt *rcpt;
	struct buf header;
	unsigned bit;
	bool busy;
	struct verdict verdict;
	int64_t done_us;
};

struct job {
	struct job *next;
	struct local *l;
	struct proto_job p;
	const struct conf_transport *transport;
	char nexthop[PROTO_NAME_MAX + 1];
	struct qid id;
	int64_t start_us; /* wall */
	struct arena arena;
	struct envelope env;
	struct spool_record hdr;
	struct buf env_copy; /* what env points into */
	int content_fd;
	uint64_t content_len;
	int mbox_fd; /* the same as mailbox files have it; -1 until it is needed */
	uint64_t mbox_len;
	struct rcpt_job *rcpts;
	size_t rcpt_count, busy;
	struct pipe_delivery pipe; /* TRANSPORT_PIPE: one command for all of them */
	bool waiting;              /* to begin: until the journal says durably that it does */
	int64_t waits_us;          /* since; monotonic */
	uint64_t started_at;
	bool expanded;         /* local(8): its recipients have begun */
	bool finished;         /* waits for the journal only */
	struct map_memo *memo; /* answers of remote tables; NULL: all targets are found */
};

/* ---- job.c ---- */
/* Everything is known of all recipients. Frees the job. */
void job_finish(struct job *j);
/* The result as the operator wants it (delivery status filters); its word for the log. The text
 * lives as long as the job, or as the one that was given. */
const char *rcpt_filter(const struct rcpt_job *r, uint8_t dsn[3], struct sv *text);
void rcpt_log(const struct rcpt_job *r, struct sv to, const uint8_t dsn[3], struct sv text,
	      const char *status);
/* The verdict is set; with the last recipient the job ends and is gone. */
void rcpt_done(struct rcpt_job *r);
/* The lines in front of the message in a mailbox. Without `delivered` there is no such header. */
void rcpt_make_header(const struct rcpt_job *r, bool is_mbox, struct sv delivered, struct buf *out);
/* Makes j->mbox_fd. */
int job_mbox_content(struct job *j);
void rcpt_set_verdict(struct rcpt_job *r, const uint8_t dsn[3], struct sv text);
/* Has this message been delivered to the address before? */
bool job_is_loop(struct job *j, struct sv addr);

/* The content with the changes of workers/local/mailcopy.h, behind what is in the file. */
int job_copy_body(struct job *j, unsigned flags, struct sv eol, int fd, uint64_t *len_r);

/* ---- pipejob.c ---- */
void pipe_start(struct job *j);

#endif
