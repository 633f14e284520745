/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The frame of every worker process. main() of a worker is
 *     return worker_main(argc, argv, &ops);
 * and worker_main() does, in this order, each step once:
 *   1 receive from the supervisor: class, slot, life, log ring, counters, board, own eventfd
 *   2 load the configuration snapshot (conf/conf.h)
 *   3 ops->init(): open tables, keys, directories, listening sockets - the last moment with rights
 *   4 drop: chroot, user, no_new_privs, file rules, system call filter
 *   5 ops->start(), tell the supervisor "ready", run the loop
 * Links to other workers arrive and go at any time after step 5: ops->attach / ops->detach.
 * SIGTERM or a DRAIN message calls ops->drain: take nothing new, finish, then worker_exit().
 * When the supervisor's socket closes the worker exits at once: its life is over.
 * Started with -C it only checks: configuration and ops->init() (which must not bind or change
 * anything then), problems to stderr, exit status 0 or 1.
 */
#ifndef PH_WORKERS_COMMON_WORKER_H
#define PH_WORKERS_COMMON_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "lib/loop.h"
#include "shm/blocks.h"
#include "shm/board.h"
#include "shm/counters.h"
#include "shm/link.h"
#include "workers/common/classes.h"

#define WORKER_MAX_LISTENERS 64

struct worker_listener {
	int fd;
	unsigned index; /* conf_listener() index in this configuration generation */
};

struct worker {
	enum worker_class class_id;
	unsigned slot;
	uint32_t life;
	unsigned generation;
	struct loop *loop;
	struct conf *conf;
	const struct params *params;
	struct counters_shm *counters;
	const struct board_shm *board;
	struct link super; /* ring pair with the supervisor; side 1 */
	struct worker_listener listeners[WORKER_MAX_LISTENERS]; /* smtp-in, stats */
	unsigned listener_count;
	int wake_fd; /* own eventfd; watched by the frame */
	bool draining;
	bool check_only;  /* `posthaste check`: init() runs without a supervisor, then exit */
	bool privileged;  /* started by root: local delivery may change its user */
	uint8_t seed[32]; /* smtp-in only: of session tickets; init() takes and wipes it */
	int64_t seed_hour;
	struct shm_region blocks; /* smtp-in only: its block region, writable, until attached */
	void *state;              /* the class's own */
	struct worker_private *priv_;
};

/* A peer is heard in a turn until it has cost this much, so that one that sends the largest records
 * all the time leaves the others their share. */
#define WORKER_PEER_TURN_BYTES (4u << 20)

struct worker_peer { /* given to attach */
	enum worker_class class_id;
	unsigned slot;
	uint32_t life;
	struct link *link; /* attached; owned by the frame until detach returns */
	struct shm_region
		blocks; /* rewrite side of an smtp-in: its blocks, read-only; take it over */
	struct shm_region
		region; /* stats and log: the region handed out (counters, qtab, dtab, log ring) */
	uint64_t turn_bytes;  /* the class adds what it copied for the peer; 0 again each turn */
	uint64_t claim_bytes; /* no more than this can wait in its ring when it ends; 0 = unknown */
};

struct worker_ops {
	enum worker_class class_id;
	const char *program; /* log tag after syslog_name, e.g. "smtpd" */
	int (*init)(struct worker *w);
	int (*start)(struct worker *w);
	void (*attach)(struct worker *w, struct worker_peer *peer);
	void (*detach)(struct worker *w, struct worker_peer *peer);
	/* One record from the supervisor's ring / from a peer's ring. */
	void (*from_super)(struct worker *w, const void *rec, size_t len);
	void (*from_peer)(struct worker *w, struct worker_peer *peer, const void *rec, size_t len);
	/* After the records of a turn were handed over, before rings are published. True = more to
	 * do. */
	bool (*turn)(struct worker *w);
	void (*drain)(struct worker *w);
};

int worker_main(int argc, char **argv, const struct worker_ops *ops);
/* Clean end: flush rings and the log, exit 0. */
void worker_exit(struct worker *w);
/* Put a record on a ring towards the supervisor or a peer. When the ring is full the record waits
 * in a list of that ring and is sent later; what is for a peer is never sent before what was put
 * for the supervisor earlier. A peer that reads nothing for long is accused. */
void worker_send(struct worker *w, struct link *to, const void *rec, size_t len);
/* A peer broke the protocol: report it to the supervisor, once. It is not read any more. The
 * supervisor ends the side that is nearer to strangers (proc_blame()). */
void worker_accuse(struct worker *w, const struct worker_peer *peer, const char *why);

#endif
