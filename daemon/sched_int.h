/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside the scheduler (daemon/sched*.c only). How an entry's state and its place in memory go
 * together; every entry is on exactly one list, linked through qentry.list_next/list_prev:
 *
 *   READY      one of its destination's ready lists       DEFERRED   its destination's deferred
 * list LOAD       sched.load_q   NOTIFY  sched.notify_q       HOLD       sched.hold_q BUSY,
 * LOADING, NOTIFYING  the held list of the worker that has it
 *
 * due_s means: DEFERRED the second of the next try; READY the second it became ready; NOTIFY and
 * NOTIFYING the kind of the notification (enum bounce_kind); BUSY the share (below).
 *
 * A destination with ready entries that could take a job now is on its transport's active ring;
 * a transport with such destinations that may deliver now is on its pool's ring. What waits for a
 * result or a timer is on neither, so dispatching looks only at what it can dispatch.
 */
#ifndef PH_DAEMON_SCHED_INT_H
#define PH_DAEMON_SCHED_INT_H

#include "daemon/doubts.h"
#include "daemon/files.h"
#include "daemon/sched.h"
#include "lib/twheel.h"

#define SCHED_SLOTS       256u /* worker slots per class */
#define SCHED_TRANSPORTS  512u
#define SCHED_GENERATIONS 8u /* configurations whose workers may be alive */
#define READY_LISTS       8u /* 7 flows by sender, and what is large or was tried before */
#define READY_BULK        7u
#define SHARES            8u     /* workers that one destination's window is split over */
#define TURN_JOBS         2048u  /* jobs handed out per turn */
#define TURN_WORK         1024u  /* tasks for rewrite workers per turn */
#define TURN_SLICE        2048u  /* entries moved per turn by sliced work */
#define LOADED_AHEAD      20000u /* entries that wait for rewrite workers before retries pause */
#define LOADS_MAX         128u   /* outstanding per rewrite worker */
#define NOTIFIES_MAX      16u
#define COPIES_MAX        8u
#define LOCAL_DESTS_MAX   1048576u    /* destination numbers of one rewrite life */
#define LOCAL_DEST_BYTES  (64u << 20) /* and of their names */
#define OPEN_MS           10000       /* an announcement in parts ends within */
#define FILES_BURST       256         /* grants at once, and then */
#define FILES_PER_S       64
#define COMPLAINTS_MAX    20u /* lines of the log about one life's records */
#define QUANTUM           16  /* deficit round robin: 16 small jobs per visit, 4 big ones */
#define AHEAD_MAX         256u
#define IDLE_KEEP_MS      60000 /* an unused destination's window is remembered so long */
#define DEST_TIMER_MS     5     /* resolution of rate delays */

/* supervisor-only marks in qmsg.flags, next to MSGF_* */
/* due_s of an entry that is loaded because of a flush, or to go to best_mx_transport */
#define SCHED_DUE_FLUSH   UINT32_MAX
#define SCHED_DUE_BEST_MX (UINT32_MAX - 1)

#define MSGM_DOOMED  0x0040u /* deleted: drop what comes back */
#define MSGM_REQUEUE 0x0080u /* requeued or flushed: try at once what comes back */
#define MSGM_DELETED 0x0100u /* by the operator, who gets the log line */
#define MSG_FLAGS_IN                                                                               \
	(MSGF_NULL_SENDER | MSGF_HOLD | MSGF_DOUBLE_BOUNCE | MSGF_WANT_SUCCESS | MSGF_INTERNAL |   \
	 MSGF_VERIFY | MSGF_FLOW_MASK)

/* What workers are told of a message's flags. */
static inline uint32_t sched_flags_out(const struct params *p, uint32_t flags)
{
	return flags & ((MSG_FLAGS_IN & ~(unsigned)MSGF_FLOW_MASK) |
			(p->confirm_delay_cleared ? (unsigned)MSGF_DELAY_WARNED : 0u));
}

struct elist {
	uint32_t head, tail, count;
};

/* ---- retry wheel: 4 bytes per reference (daemon/sched_wheel.c) ---- */
#define WHEEL_SLOTS       8192u
#define WHEEL_PARKED      0x80000000u /* filed at the horizon, its time is later */
#define WHEEL_CHUNK_IDS   62u
#define WHEEL_SLAB_CHUNKS 512u

struct wheel_chunk {
	uint32_t next;
	uint32_t count;
	uint32_t ids[WHEEL_CHUNK_IDS];
};

struct wheel {
	int64_t now_s; /* this second and later ones are not finished */
	uint64_t refs;
	uint32_t heads[WHEEL_SLOTS];
	struct wheel_chunk **slabs;
	uint32_t slab_count;
	uint32_t free_chunk;
	uint32_t chunks_used;
};

void wheel_init(struct wheel *w, int64_t now_s);
void wheel_fini(struct wheel *w);
void wheel_add(struct wheel *w, uint32_t entry, int64_t due_s);
/* One reference whose second has come; false when none. The caller checks what it means now. */
bool wheel_pop(struct wheel *w, int64_t now_s, uint32_t *entry_r, bool *parked_r);
size_t wheel_bytes(const struct wheel *w);

/* ---- concurrency feedback (daemon/sched_window.c) ---- */
struct feedback {
	double factor;
	enum { FEEDBACK_CONST, FEEDBACK_INVERSE, FEEDBACK_SQRT } by;
};

int feedback_parse(const char *text, struct feedback *fb_r);

struct window_conf {
	uint32_t initial, limit; /* limit 0 = none */
	double cohort_limit;     /* 0 = never dead */
	struct feedback up, down;
};

struct window {
	uint32_t size; /* 0 = dead */
	double success, failure, cohorts;
};

void window_reset(struct window *w, const struct window_conf *c);
/* `busy`: deliveries going on, with the one that ended. */
void window_good(struct window *w, const struct window_conf *c, uint32_t busy);
/* True when the destination is dead now. */
bool window_bad(struct window *w, const struct window_conf *c);

/* ---- age of the oldest: counts by arrival minute ---- */
#define AGE_BUCKETS 131072u
#define AGE_SHIFT   6 /* seconds per bucket, as a power of two */
struct ages {
	uint32_t *count;
	uint64_t total;
	int64_t low;
};

/* ---- transports, destinations, workers ---- */
struct ring_node {
	uint32_t next, prev; /* index in the owner's array; next == UINT32_MAX: not on a ring */
};

struct stransport {
	char *name;
	bool gone; /* not in the present configuration */
	enum worker_class class_id;
	struct window_conf window;
	int64_t rate_delay_ms, transport_delay_ms;
	uint32_t maxproc;      /* 0 = no limit */
	uint32_t conns;        /* sum over destinations of min(busy, window) */
	uint32_t active_head;  /* ring of destinations */
	struct ring_node node; /* on its pool's ring */
	bool short_timer;
	bool rate_locked; /* transport_delay: a delivery is going on or the delay runs */
	struct twheel_node timer;
	struct sched *sched;
};

struct sdest {
	struct elist ready[READY_LISTS];
	struct elist deferred;
	uint32_t ready_count, busy;
	struct window window;
	uint32_t ahead;      /* jobs beyond the window that workers may queue */
	uint32_t counted;    /* its part of stransport.conns */
	uint32_t generation; /* of the row: grows when it is freed */
	uint16_t transport;  /* index in sched.transports */
	uint16_t home;       /* first worker of its shares */
	uint16_t share_busy[SHARES];
	uint8_t ready_mask; /* non-empty ready lists */
	uint8_t ready_next;
	bool in_use, rate_wait, short_timer, dead, dirty, want_reason, on_drain, on_idle;
	int8_t deficit;
	struct ring_node node; /* on its transport's ring */
	uint32_t dirty_next, drain_next;
	uint32_t idle_next, idle_prev;
	uint64_t sent_add, deferred_add, bounced_add; /* to be added to the row */
	int64_t idle_since_ms;
	int64_t suspend_until_s;
	struct proto_jref reason_ref;
	struct twheel_node timer; /* rate delay or suspension */
	struct sched *sched;
};

struct local_dest { /* what one rewrite life means by a number */
	uint32_t row;
	uint32_t generation;
	uint32_t transport;
	char *nexthop; /* NULL = not defined */
};

struct sched_worker {
	bool up, draining;
	uint32_t life;
	unsigned map; /* index in sched.maps */
	struct elist held;
	unsigned loads, notifies, copies;
	/* rewrite: */
	struct local_dest *dests;
	uint32_t dest_cap;
	size_t dest_bytes;    /* of their names */
	int64_t open_ms;      /* when the message that is announced in part began */
	int64_t notice_at_ms; /* deliver: its allowance of notices is used up to here */
	int64_t files_ms;     /* files_left: grants it may ask for now; at files_ms it was so */
	int64_t files_left;
	uint8_t owed[SPOOL_JOURNAL + 1]; /* by kind: asked for, and there was no number */
	unsigned complaints;             /* lines of the log that were about it */
	bool refused;        /* a record of it was: what it announces behind that is adopted */
	uint32_t open_msg;   /* announced in part; QTAB_NONE */
	uint32_t open_guard; /* entry that keeps it meanwhile */
	uint32_t open_left;  /* entries still to come; room is kept for those of open_msg */
	uint32_t open_rcpts;
	uint64_t *open_cover; /* bitmap of recipients announced */
};

struct pool { /* the workers of a class */
	struct sched_worker w[SCHED_SLOTS];
	uint16_t order[SCHED_SLOTS]; /* slots that take work */
	unsigned order_count;
	unsigned next;        /* round robin */
	unsigned limit;       /* outstanding per worker */
	uint32_t active_head; /* ring of transports */
};

struct transport_map { /* transport index -> index in the configuration of a generation */
	unsigned generation;
	bool used;
	uint16_t index[SCHED_TRANSPORTS];
};

struct copy_out {
	uint32_t msg;
	uint32_t old_seg, old_off8;
	struct qid qid;
	unsigned slot;
	bool used;
};

struct lost_copy { /* one that was out when its worker died */
	struct qid qid;
	uint32_t old_seg, life;
};
#define LOST_COPIES (4 * COPIES_MAX) /* adoption follows a death at once */

struct suspect { /* a message that workers held when they died (daemon/sched_death.c) */
	uint32_t msg, seq;
	uint32_t deaths;
	int64_t last_ms;
};
#define SUSPECTS 1024u

struct walker { /* sliced operator work */
	enum { WALK_NONE, WALK_MSGS, WALK_DESTS } kind;
	enum sched_cmd cmd;
	unsigned queues; /* enum sched_queues */
	uint32_t pos, end;
	uint32_t left; /* entries still to take from the present destination; UINT32_MAX: next */
	bool nowhere;  /* entries without destination are next */
	char site[DTAB_NEXTHOP_SIZE]; /* empty = all */
	struct sched_cmd_result result;
	sched_done_fn done;
	void *ctx;
};

struct sched {
	struct sched_setup su;
	const struct params *params;
	struct qtab *q;
	struct dtab *d;
	bool stopping;
	struct qclock clock;
	int64_t wall_us, now_s; /* now_s: queue time (daemon/qclock.h) */
	int64_t clock_write_ms;
	bool clock_write_failed;
	uint32_t *arrived_s; /* by message: queue second of its arrival, at least 1 */
	int64_t now_ms;
	uint64_t count[QS_COUNT];
	struct elist load_q, notify_q, hold_q, nowhere;
	struct wheel wheel;
	struct ages ready_ages, deferred_ages;
	struct twheel timers;
	unsigned short_timers; /* rate delays running that are finer than the tick */
	uint32_t reason_pos;
	struct sdest *dests; /* by destination table row */
	uint32_t dest_cap, dest_used;
	uint32_t dirty_head, drain_head;
	uint32_t idle_head, idle_tail;
	struct stransport transports[SCHED_TRANSPORTS];
	unsigned transport_count;
	struct transport_map maps[SCHED_GENERATIONS];
	struct pool rewrite, deliver, local;
	struct sched_worker
		*holder; /* whose record is being applied: holds the entry, most likely */
	int64_t owed_ms;
	struct copy_out copies[COPIES_MAX];
	struct lost_copy lost_copies[LOST_COPIES];
	unsigned lost_copy_next;
	int64_t notify_pause_ms;
	struct walker walk;
	struct suspect suspects[SUSPECTS];
	uint64_t outstanding;
	uint64_t in_doubt;    /* messages with MSGF_IN_DOUBT */
	struct doubts unsure; /* told by workers in this turn; count 0: not begun */
	uint64_t promised;    /* entries still to come of messages announced in part */
	int64_t next_second_ms;
	bool full;
};

/* Rings of array elements, linked by index. */
static inline struct ring_node *ring_at(void *first_node, size_t stride, uint32_t idx)
{
	return (struct ring_node *)((char *)first_node + stride * idx);
}
void ring_add(void *first_node, size_t stride, uint32_t *head, uint32_t idx); /* at the tail */
void ring_del(void *first_node, size_t stride, uint32_t *head, uint32_t idx);
#define DEST_RING(s)      &(s)->dests[0].node, sizeof(struct sdest)
#define TRANSPORT_RING(s) &(s)->transports[0].node, sizeof(struct stransport)

/* sched_list.c: lists, states, what every other part is made of */
struct qentry *sched_entry(struct sched *s, uint32_t e);
struct qmsg *sched_msg_of(struct sched *s, const struct qentry *e);
void elist_init(struct elist *l);
void elist_push(struct sched *s, struct elist *l, uint32_t e);
void elist_remove(struct sched *s, struct elist *l, uint32_t e);
struct pool *sched_pool(struct sched *s, enum worker_class class_id);
/* Leave the list that the present state means. */
void sched_entry_unlist(struct sched *s, uint32_t e);
/* All of these take the entry from wherever it is (unlisted: fresh) and put it where it says. */
/* The same, and nothing holds it back. */
void sched_entry_flush(struct sched *s, uint32_t e);
void sched_entry_load(struct sched *s, uint32_t e);
/* The same, for best_mx_transport. */
void sched_entry_pass(struct sched *s, uint32_t e);
void sched_entry_hold(struct sched *s, uint32_t e);
void sched_entry_ready(struct sched *s, uint32_t e, unsigned list);
void sched_entry_defer_at(struct sched *s, uint32_t e, int64_t due_s);
void sched_entry_notify(struct sched *s, uint32_t e, enum bounce_kind kind);
/* Ends the entry, and the message with its last one. */
void sched_entry_end(struct sched *s, uint32_t e);
/* To a worker's held list; the new word. */
uint64_t sched_entry_give(struct sched *s, uint32_t e, enum qstate to, struct sched_worker *w);
void sched_entry_jref(struct sched *s, uint32_t e, uint32_t packed); /* takes the reference */
void sched_entry_dest(struct sched *s, uint32_t e, uint32_t row);    /* while not listed there */
/* Retry by age; expired or to be warned about goes to NOTIFY instead. `tried`: after an attempt. */
void sched_entry_backoff(struct sched *s, uint32_t e);
/* A delivery of the message is on the list of those in doubt: so shown until it leaves the queue.
 */
void sched_msg_doubt(struct sched *s, uint32_t msg);
bool sched_msg_expired(const struct sched *s, uint32_t msg);
void sched_proto_ref(struct sched *s, uint32_t e, uint64_t word, struct proto_ref *ref_r);
void sched_msg_arrived(struct sched *s, uint32_t msg, int64_t queue_s);
void ages_add(struct ages *a, int64_t arrival_s);
void ages_del(struct ages *a, int64_t arrival_s);
int64_t ages_oldest(struct ages *a);

/* sched_dest.c */
int dest_intern(struct sched *s, unsigned transport, struct sv nexthop, uint32_t *row_r);
void dest_ready_push(struct sched *s, uint32_t row, uint32_t e, unsigned list);
void dest_ready_remove(struct sched *s, uint32_t row, uint32_t e);
uint32_t dest_ready_peek(struct sched *s, uint32_t row);
void dest_conf_changed(struct sched *s, uint32_t row);
void dest_touch(struct sched *s, uint32_t row); /* figures changed: row is written at end of turn */
void dest_check_idle(struct sched *s, uint32_t row);
void dest_job_begin(struct sched *s, uint32_t row, unsigned share);
/* An entry of this destination came back. */
void dest_job_end(struct sched *s, uint32_t row, unsigned share, enum job_health health,
		  struct proto_jref ref);
void dest_revive(struct sched *s, uint32_t row); /* end a suspension */
void dest_wake(struct sched *s, uint32_t row);   /* put on the active ring if it can take work */
void dest_transports_load(struct sched *s, const struct conf *conf, unsigned generation);
void dest_drain_slice(struct sched *s, unsigned *budget);
void dest_flush_dirty(struct sched *s);
void dest_tick(struct sched *s);
const struct transport_map *transport_map_of(const struct sched *s, unsigned generation);
uint32_t transport_add(struct sched *s, struct sv name);
uint32_t transport_find(const struct sched *s, struct sv name);
void transport_wake(struct sched *s, struct stransport *t);
void transport_timer_fired(struct stransport *t);
void dest_timer_fired(struct sdest *d);

/* sched_job.c, sched_work.c: hand out; true = budget used up */
bool jobs_turn(struct sched *s);
bool work_turn(struct sched *s);
/* A delivery worker has something for the postmaster. */
int work_notice(struct sched *s, struct sched_worker *w, const void *rec, size_t len);
void work_copy_tick(struct sched *s);
int work_copied(struct sched *s, struct sched_worker *w, unsigned slot, const void *rec,
		size_t len);
void work_copies_gone(struct sched *s, unsigned slot, uint32_t life);

/* sched_death.c */
/* A delivery worker: its journals say what ended, and what is in doubt. */
void death_settle(struct sched *s, struct sched_worker *w);
/* An attempt ended, and `mask` of it is as much in doubt as if its worker had died. It is not
 * handed out again before the next turn. */
void death_unsure(struct sched *s, uint32_t e, uint64_t mask);
void death_unsure_write(struct sched *s);
void death_take_back(struct sched *s, struct sched_worker *w);

/* sched_input.c */
/* What became of an attempt; E_PEER when it cannot be that entry's. */
int input_result(struct sched *s, struct sched_worker *w, const struct proto_result *r);
/* Tick: files that could not be given when they were asked for. */
void input_give_owed(struct sched *s);
void input_open_abandon(struct sched *s, struct sched_worker *w);
/* Room in the entry table for n more, besides what is promised. */
bool input_has_entries(const struct sched *s, uint32_t n);
void sched_msg_drop(struct sched *s, uint32_t msg);
void local_dests_free(struct sched_worker *w);

/* sched_op.c */
bool walk_turn(struct sched *s);

#endif
