/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside the supervisor: one struct shared by daemon/supervisor.c (loop, priv, reload, stop),
 * daemon/life.c (worker lives) and daemon/peers.c (who is linked to whom).
 */
#ifndef PH_DAEMON_SUPERVISOR_H
#define PH_DAEMON_SUPERVISOR_H

#include "conf/conf.h"
#include "conf/map_watch.h"
#include "daemon/control.h"
#include "daemon/files.h"
#include "daemon/priv_proto.h"
#include "daemon/procs.h"
#include "daemon/sched.h"
#include "lib/loop.h"
#include "shm/blocks.h"
#include "shm/board.h"
#include "shm/counters.h"
#include "shm/dtab.h"
#include "shm/link.h"
#include "shm/qtab.h"
#include "workers/common/ctl.h"
#include "workers/common/logring.h"
#include "workers/spool/spool.h"

#define MAX_WORKERS      256
#define RECORDS_PER_TURN 1024
#define MAX_LOG_RINGS    (MAX_WORKERS + 64)

enum life_state { LIFE_FREE, LIFE_REQUESTED, LIFE_STARTING, LIFE_UP, LIFE_DRAINING };

struct sworker {
	struct supervisor *sup;
	enum life_state state;
	enum worker_class class_id;
	unsigned slot;
	uint32_t life;
	unsigned generation;
	int pid;
	int sock;
	struct loop_fd lf;
	struct link link; /* side 0 */
	int wake_fd;      /* the worker's eventfd */
	struct shm_region counters;
	struct shm_region blocks; /* smtp-in: not mapped here, only held for its peers */
	bool drain_sent, sched_drained, kill_sent;
	struct proc_repute repute;
	unsigned ctl_count; /* messages on its control socket so far */
	int64_t deaf_ms;    /* when it closed its control socket, 0 = it has not */
	uint64_t out_seen;  /* how far it had read our ring, and since when it is there */
	int64_t out_seen_ms;
	int64_t started_ms;
	int64_t drain_ms; /* with LIFE_DRAINING: since */
	char last_words[CTL_TEXT_MAX + 1];
};

struct log_ring { /* of every life whose lines may not all be written yet */
	int fd;
	uint32_t class_id, slot, life;
	bool used, gone, given;
};

struct class_state {
	int64_t retry_ms; /* not before */
	int64_t backoff_ms;
	unsigned failures; /* before the first readiness */
};

struct supervisor {
	struct loop *loop;
	struct conf *conf;
	const struct params *params;
	unsigned generation;
	bool privileged;
	uint8_t ticket_seed[CTL_SEED_BYTES]; /* of this life; for smtp-in */
	int64_t ticket_hour;
	int priv_sock;
	struct loop_fd priv_lf, wake_lf;
	int wake_fd, log_wake_fd;
	struct loop_timer tick;
	int64_t next_slow_ms; /* disk space and the like, about once a second */
	int64_t next_damage_ms;
	struct map_watch *tables;
	bool tables_changed; /* workers are to be replaced at renew_ms */
	int64_t renew_ms;

	struct spool_dirs dirs;
	struct spool_state *spool_state;
	struct qclock_file clock_file;
	struct qtab qtab;
	struct dtab dtab;
	struct shm_region board_region, boot_region;
	struct board_shm *board;
	struct counters_shm *counters; /* the boot page: the supervisor's own and what ended */
	struct logring logring;
	struct files *files;
	struct recover_hidden *hidden;
	struct warrant_key warrant_key;
	struct sched *sched;
	struct control *control;

	struct sworker workers[MAX_WORKERS];
	unsigned high; /* places in use are below */
	struct sworker
		*scheduled[CLASS_COUNT][PRIV_MAX_SLOTS]; /* those the scheduler may send to */
	struct class_state classes[CLASS_COUNT];
	struct log_ring log_rings[MAX_LOG_RINGS];
	/* links: pairs of workers that are linked, as a matrix of lives */
	uint8_t linked[MAX_WORKERS][MAX_WORKERS];

	bool room_kept; /* for a start on a full disk */
	bool recovered, ready, stopping;
	int64_t started_ms;
	int64_t stop_deadline_ms;
	char rec[RING_RECORD_MAX];
};

/* life.c */
void life_watch(struct supervisor *s);  /* kill who shows no sign of life */
void life_manage(struct supervisor *s); /* start what is missing, drain what is old */
void life_spawned(struct supervisor *s, const struct priv_msg *msg, int sock);
void life_exited(struct supervisor *s, const struct priv_msg *msg);
bool life_read_rings(struct supervisor *s); /* true: more is there */
bool life_presleep(struct supervisor *s);
void life_awake(struct supervisor *s);
void life_flush(struct supervisor *s);
void life_kill(struct supervisor *s, struct sworker *w, const char *why);
void life_drain(struct supervisor *s, struct sworker *w);
unsigned life_count(const struct supervisor *s, enum worker_class c, enum life_state at_least);
bool life_all_up(const struct supervisor *s);

/* peers.c */
void peers_connect(struct supervisor *s, struct sworker *w); /* w has become LIFE_UP */
void peers_disconnect(struct supervisor *s, struct sworker *w);
void peers_give_regions(struct supervisor *s, struct sworker *w);
void peers_region_to(struct supervisor *s, struct sworker *to, const struct shm_region *r,
		     enum shm_kind kind, enum worker_class c, unsigned slot, uint32_t life);
void peers_log_ring_add(struct supervisor *s, int fd, enum worker_class c, unsigned slot,
			uint32_t life);
void peers_log_ring_gone(struct supervisor *s, enum worker_class c, unsigned slot, uint32_t life);
void peers_counters_announce(struct supervisor *s, struct sworker *w, bool gone);
int peers_ctl(struct sworker *to, const struct ctl_msg *msg, const int *fds, size_t nfds);

/* supctl.c */
void supctl_register(struct supervisor *s); /* control requests about the instance as a whole */

/* supervisor.c */
void supervisor_failed(struct supervisor *s, const char *text) NORETURN;
void supervisor_to_priv(struct supervisor *s, const struct priv_msg *msg, const char *text);

#endif
