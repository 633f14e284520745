/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside of the rewrite worker: its state, and the calls between its parts.
 *   rewrite.c  life cycle and dispatch       submit.c  messages from smtp-in workers
 *   commit.c   what waits for the disk       queue.c   load and copy for the supervisor
 *   notify.c   delivery status notifications; probed.c: of address probes
 */
#ifndef PH_WORKERS_REWRITE_REWRITE_H
#define PH_WORKERS_REWRITE_REWRITE_H

#include "lib/clock.h"
#include "shm/proto.h"
#include "workers/common/worker.h"
#include "workers/rewrite/filters.h"
#include "workers/rewrite/message.h"
#include "workers/rewrite/names.h"
#include "workers/rewrite/rules.h"
#include "workers/spool/spool.h"
#include "workers/tables/client.h"

#define NAMES_MAX 65536u

struct peer;

enum pending_kind {
	PENDING_SUBMIT,
	PENDING_COPY,
	PENDING_NOTICE,
	PENDING_TOLD, /* a notice that nobody waits for */
};

/* A record that was appended and waits for its commit. */
struct pending {
	struct pending *next, *prev;
	enum pending_kind kind;
	uint32_t flags; /* MSGF_* */
	struct qid qid;
	uint32_t rcpt_count;
	uint32_t size;
	struct proto_entry *entries; /* destinations by our numbers; heap, room for entry_cap */
	size_t entry_count, entry_cap;
	struct buf sender;    /* external form, for the log */
	const char *log_qmgr; /* as what it is announced there */
	/* PENDING_SUBMIT */
	struct peer *peer; /* NULL: gone meanwhile */
	uint32_t session, tx;
	struct mono_ms since;
	/* PENDING_COPY */
	struct proto_copy copy;
	/* PENDING_NOTICE: the bounce to answer, and what to journal */
	struct proto_bounce bounce;
	bool is_copy; /* an extra one: nothing to journal or to answer */
	bool to_postmaster;
};

struct rewrite {
	struct worker *w;
	struct rules rules;
	struct spool_dirs dirs;
	struct spool_writer *writer;
	struct spool_reader *reader;
	struct journal_writer *journal;
	struct journal_reader *journal_reader;
	struct names *names;
	struct message scratch; /* messages that come in one piece, and our own ones */
	struct buf piece;       /* private copy of one submitted piece */
	struct buf unjournaled; /* struct proto_bounce that wait for a journal file */
	struct buf env_buf;     /* envelope read back */
	struct arena load_arena;
	struct pending pending; /* list head, in append order */
	struct pending *free_pending;
	size_t pending_count;
	struct peer *peers;
	size_t peer_memory; /* for all open transactions of a peer */
	int64_t next_shed_log_ms;
	bool stalled; /* the spool had no room; submissions wait */
	struct mono_ms stalled_since;
	bool progress;         /* something happened that may end the stall */
	struct qid_source ids; /* for messages we make ourselves */
	struct loop_timer tick;
	struct worker_peer *lookup; /* asks remote tables; NULL = none now */
	struct tables_client *tables;
	struct worker_peer *resolver; /* for the names of milters' hosts; NULL = none now */
	struct worker_peer *verify;   /* is told what became of its probes; NULL = none now */
	struct filters filters;
	size_t filter_count;  /* sessions with milters, and messages */
	size_t waiting_count; /* loads and notifications that wait for remote tables */
};

static inline struct proto_qid proto_qid_of(struct qid id)
{
	return (struct proto_qid){ .time_us = id.time_us, .life = id.life };
}

static inline struct qid qid_of_proto(struct proto_qid id)
{
	return (struct qid){ .time_us = id.time_us, .life = id.life };
}

/* ---- commit.c ---- */
void commit_init(struct rewrite *r);
void commit_fini(struct rewrite *r);
struct pending *pending_new(struct rewrite *r, enum pending_kind kind);
/* Enter an appended record at the end of the list. */
void pending_add(struct rewrite *r, struct pending *p);
void pending_drop(struct rewrite *r, struct pending *p); /* one that was not appended */
/* Copy what a message's commit needs: ids, sender, the plan with destinations told by number.
 * E_AGAIN when the names must be emptied first. */
int pending_set_message(struct rewrite *r, struct pending *p, const struct message *m);
void commit_done(void *ctx, void *cookie, int err, const struct proto_place *place);
/* Entries of a plan as the supervisor takes them: dest by our number, told if it is new. */
void plan_to_entries(struct rewrite *r, const struct plan *plan, struct proto_entry *out);

/* ---- submit.c ---- */
void submit_attach(struct rewrite *r, struct worker_peer *wp);
void submit_detach(struct rewrite *r, struct worker_peer *wp);
void submit_record(struct rewrite *r, struct worker_peer *wp, const void *rec, size_t len);
/* Go on with what waits for the spool; true when something was done. */
bool submit_resume(struct rewrite *r);
bool submit_is_idle(const struct rewrite *r);
void submit_answer(struct rewrite *r, struct peer *peer, uint32_t session, uint32_t tx,
		   const struct message_verdict *v);
/* Append a message whose content is all in memory. E_AGAIN: no room now, nothing has happened. */
int append_message(struct rewrite *r, struct message *m, struct sv body, struct pending *p);

/* ---- queue.c ---- */
void queue_load(struct rewrite *r, const void *rec, size_t len);
void queue_copy(struct rewrite *r, const void *rec, size_t len);

/* ---- notify.c ---- */
void notify_bounce(struct rewrite *r, const void *rec, size_t len);
/* PROTO_NOTICE (peernotice.c) */
void notify_of_peer(struct rewrite *r, const void *rec, size_t len);
/* Answers that waited for a journal file. */
void notify_resume(struct rewrite *r);
/* The notification is on disk (err 0) or not. */
void notify_committed(struct rewrite *r, struct pending *p, int err);
/* It was refused (error), or checks or milters want it dropped (0): nothing is appended. */
void notify_not_sent(struct rewrite *r, struct pending *p, int err);

/* ---- ownmail.c ---- */
/* A message of our own that checks and milters are to see (internal_mail_filter_classes). 0: it is
 * on its way, and notify_committed() or notify_not_sent() comes, perhaps has come. Negative: not
 * now, and `p` is the caller's. */
int ownmail_send(struct rewrite *r, const struct envelope *env, struct qid qid, struct buf *content,
		 struct pending *p);

/* ---- probed.c ---- */
/* What a probe of the verify worker found out about one recipient. dsn[0] 2: deliverable; 5: not;
 * else: not now. */
void probed_tell(struct rewrite *r, const struct envelope *env, const struct env_rcpt *rcpt,
		 const uint8_t dsn[3], struct sv text);

#endif
