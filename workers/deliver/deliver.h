/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The deliver worker's own structures. A job (one queue entry handed out by the supervisor) waits
 * at its destination (dest) until a connection (conn) takes it. Modules: job.c   reads the record,
 * keeps the recipients' results, journals, logs and reports dest.c  per destination: waiting jobs,
 * connections within the window, routes conn.c  one connection: finding a host, the socket, timers,
 * the protocol engine (client.h) main.c  the worker process Ownership: the deliver struct owns
 * dests, a dest owns its waiting jobs and its conns, a conn owns the jobs it works on. Calls go
 * down (main -> dest -> conn -> client); results come up as job_* calls, which never free a conn or
 * a dest.
 */
#ifndef PH_WORKERS_DELIVER_DELIVER_H
#define PH_WORKERS_DELIVER_DELIVER_H

#include "lib/arena.h"
#include "lib/hash.h"
#include "lib/twheel.h"
#include "workers/common/deliverlog.h"
#include "workers/common/worker.h"
#include "workers/deliver/client.h"
#include "workers/deliver/route.h"
#include "workers/deliver/tconf.h"
#include "workers/deliver/tlspolicy.h"
#include "workers/mail/envelope.h"
#include "workers/spool/spool.h"

#define SMALL_CONTENT 65536u /* at most this is read and sent in one piece */

struct dest;
struct conn;

struct deliver {
	struct worker *w;
	struct counters_shm *counters;
	struct loop *loop;
	struct tconf *tconfs;
	unsigned tconf_count;
	int64_t connection_limit;
	struct dns_client *dns;
	struct tables_client *tables;
	struct sasl_link *sasl; /* sasllink.h; NULL: nobody logs in */
	struct worker_peer *resolver, *lookup;
	struct own_addrs own;
	struct route_env env;
	struct spool_dirs dirs;
	struct spool_reader *reader;
	struct journal_writer *journal;
	struct twheel wheel;
	struct loop_timer tick;
	struct strmap *dests;
	unsigned conn_count;                  /* open or being opened */
	struct conn *idle_first, *idle_last;  /* of all destinations, most recently used first */
	struct dest *starved, **starved_tail; /* have jobs, but the worker is at its limit */
	struct job *held_first, **held_tail;  /* wait for the journal to get a file */
	struct job *new_first, **new_tail;    /* came in this turn */
	struct job *spare_jobs;
	unsigned spare_count;
	unsigned job_count;
	size_t kept_bytes; /* content in jobs */
	bool draining;
	bool record_sync;                       /* in_doubt_sync */
	struct conn *gated_first, **gated_tail; /* may not end their message yet */
	unsigned gated_count;
	struct buf scratch;     /* formatting */
	char io[SMALL_CONTENT]; /* reading replies, content of small messages */
};

/* ---- job.c ---- */

/* JOB_DEFERRED: until the next attempt; JOB_TODO is tried at the next host. */
enum job_rcpt_state { JOB_TODO, JOB_SENT, JOB_BOUNCED, JOB_DEFERRED };

struct job_rcpt {
	uint8_t bit;
	uint8_t state;
	bool report;    /* sent, and that is ours to report */
	int16_t reason; /* why not delivered (yet); -1 = none */
};

struct job_reason {
	uint8_t dsn[3];
	struct sv relay, text, diag;
};

struct job {
	struct job *next;
	struct deliver *d;
	struct dest *dest;
	struct tconf *t;
	struct proto_job pj;
	struct qid qid;
	struct sv nexthop;
	int read_err; /* the record cannot be used */
	bool damaged; /* found while it was sent: no further host */
	struct spool_record hdr;
	struct spool_check check; /* of a record that was not verified when it was taken */
	struct buf env_bytes;
	struct buf content; /* all of it, as it was verified; or empty: read it when it is sent */
	struct arena arena;
	struct envelope env;
	struct sv sender; /* as the other side is told */
	unsigned rcpt_count;
	struct job_rcpt *rcpts;
	struct client_rcpt *client_rcpts;
	struct map_memo *memo;      /* answers of remote generic maps; NULL = there are none */
	struct tables_fetch *fetch; /* on their way: the job is nowhere else */
	struct client_tx tx;
	uint8_t tx_rcpt[CLIENT_RCPT_MAX]; /* recipient of the transaction -> of the job */
	struct job_reason *reasons;
	unsigned reason_count, reason_cap;
	/* the way through the hosts */
	unsigned alt;
	struct route *route;
	uint8_t order[ROUTE_ADDR_MAX];
	unsigned order_count, pos, sessions;
	bool handshake_ok, site_failed;
	bool tried;                 /* a connection has had it */
	bool started;               /* OUTCOME_STARTED is journaled */
	bool unrecorded;            /* ... or cannot be, because the disk is full */
	uint64_t started_at;        /* its number in the journal */
	bool passed;                /* to best_mx_transport */
	bool finished;              /* only the report is missing */
	int64_t start_us, ready_us; /* wall: taken in hand, session ready */
	struct conn *conn;
};

/* Take a PROTO_JOB. */
void job_take(struct deliver *d, const struct proto_job *pj, struct sv nexthop);
/* With all that were taken in this turn: read the record, find the destination, let it start. */
void job_start_taken(struct deliver *d);
/* Draining: it waits and was never tried. Journals that, and forgets it. */
void job_withdraw(struct job *j);
/* May its message end on the wire? That is when the other side can have it: not before the journal
 * says durably that the attempt began. */
bool job_may_end(struct job *j);
/* Draining: forget the jobs that wait and were never tried. They stay with the supervisor, which
 * gives them out again when this life has ended. */
void job_drop_unbegun(struct deliver *d);
/* Fill in j->tx with the recipients that are not done. */
void job_tx_prepare(struct job *j);
bool job_has_todo(const struct job *j);
/* Headers that flags= of its transport puts in front of the content, in wire form. */
void job_put_head(const struct job *j, struct buf *out);
/* flags=D: has it come here before? */
bool job_is_loop(struct job *j);
void job_rcpt_sent(struct job *j, unsigned tx_rcpt, struct sv relay, unsigned conn_use,
		   struct sv reply, bool dsn_relayed);
void job_rcpt_failed(struct job *j, unsigned tx_rcpt, struct sv relay, unsigned conn_use,
		     const struct client_fault *f);
/* All recipients that are not done. */
void job_failed(struct job *j, struct sv relay, const struct client_fault *f);
/* Mail for the next hop would come back to us. True: best_mx_transport takes all recipients that
 * are not done; job_finish() comes next. */
bool job_pass(struct job *j, const struct client_fault *f);
/* Another host may still take it; otherwise job_finish() comes next. */
bool job_has_more_hosts(const struct job *j);
/* Defer what is left, journal, report, free. */
void job_finish(struct job *j);
void job_free(struct job *j);
/* The journal got a file: go on with what waited. */
void job_retry_held(struct deliver *d);
/* First byte of the content in its segment, and the segment's descriptor. */
int job_content_fd(struct job *j, int *fd_r, uint64_t *pos_r);
/* Content bytes [off, off + len), as read, are about to be sent; bytes seen before may come again.
 * With the last one the whole record is verified: E_CORRUPT (logged, and the record saved) when the
 * end of the message must not be sent. */
int job_check_content(struct job *j, uint64_t off, const char *data, size_t len);

/* ---- dest.c ---- */

struct alt_state {
	struct route *route;
	struct route_lookup *lookup;
	struct conn *waiting;  /* conns that wait for a lookup */
	char *text;            /* as written; NULL: neither policy nor login is looked up */
	struct tls_site *site; /* its TLS policy; NULL: none, or not known yet */
	int64_t site_until_ms; /* then it is looked up anew */
	struct map_memo *memo; /* answers of remote tables of policies, while they are asked */
	struct tables_fetch *fetch;
};

struct dest {
	struct deliver *d;
	struct tconf *t;
	struct dest *starved_next;
	bool is_starved;
	bool pumping;
	uint32_t row; /* the supervisor's destination table */
	unsigned window;
	char *key; /* transport index, next hop */
	size_t key_len;
	struct nexthop nh;
	struct alt_state alts[NEXTHOP_ALT_MAX];
	struct job *first, *last; /* waiting */
	struct conn *idle;        /* list, most recently used first */
	unsigned conn_count;
};

struct sv dest_nexthop(const struct dest *d);
/* Queue the job at its destination; at the front when it was in work already. */
int dest_add(struct deliver *d, struct job *j);
void dest_requeue(struct dest *dest, struct job *j);
/* The next job that any connection of the destination may take; NULL = none. */
struct job *dest_take_fresh(struct dest *dest);
/* Start what can be started; frees the destination when it is empty. */
void dest_pump(struct dest *dest);
void dest_pump_starved(struct deliver *d);
void dest_drop_unbegun(struct dest *dest);

/* ---- conn.c ---- */

enum conn_state { CONN_ROUTING, CONN_CONNECTING, CONN_OPEN };

struct conn {
	struct deliver *d;
	struct dest *dest;
	enum conn_state state;
	bool idle;
	bool dead;        /* the engine is done: close */
	bool encrypts;    /* what the socket takes and gives goes through tls */
	bool plain;       /* to go without TLS, where it has failed: for this job alone */
	bool plain_again; /* the same server once more, without TLS */
	bool verbose;     /* debug_peer_list: the log gets what is said */
	bool in_engine;   /* a call into the engine is running */
	int fd;
	struct loop_fd lf;
	struct twheel_node timer;
	uint64_t timed_progress; /* of the client, when the timer was set; 0: not for the client */
	uint64_t timed_written;  /* bytes that are accounted for in deadline_ms */
	int64_t deadline_ms;
	int64_t pause_until_ms; /* of a message that waits for its dot (conntalk.c); 0: of none */
	struct client client;
	bool client_on;                     /* client is initialised */
	struct changed *changed;            /* changed.h; NULL: content goes out as it is */
	struct conn_talk *talk;             /* conntalk.h; NULL: nobody wants a notice */
	struct conn_tls *tls;               /* conntls.h; NULL: none */
	struct conn_login *login;           /* connlogin.h; NULL: none, or not looked up */
	struct tls_site *site;              /* the policy that it follows; NULL: there is none */
	struct conn *wait_next;             /* alt_state.waiting */
	struct conn *idle_next, *idle_prev; /* of the destination */
	struct conn *lru_next, *lru_prev;   /* of the worker */
	struct job *job;                    /* before the session is ready: whom it is opened for */
	unsigned alt;                       /* alternative of the next hop that it leads to */
	union net_addr addr;
	char host[DNS_NAME_SIZE];
	char ip[120];                      /* or the socket's path */
	char relay[DNS_NAME_SIZE + 140];   /* "host[ip]:port" */
	char namaddr[DNS_NAME_SIZE + 130]; /* "host[ip]" */
	int64_t opened_ms;
	unsigned uses;
	struct conn *gated_next;
	bool gated;
	int64_t gated_us; /* since; monotonic */
};

/* Open a connection for the job; may end in a result for the job at once. */
void conn_open(struct dest *dest, struct job *j);
/* Give an idle connection a job. */
void conn_reuse(struct conn *c, struct job *j);
/* Polite end of an idle connection. */
void conn_close_idle(struct conn *c);
/* The journal has got on: go on with messages whose end waited for it. */
void conn_resume_gated(struct deliver *d);
void conn_timer_fired(void *ctx, struct twheel_node *n);
/* Between conn.c and connect.c. */
struct conn *conn_new(struct dest *dest);
void conn_free(struct conn *c);
void conn_close_socket(struct conn *c);
void conn_set_timer(struct conn *c);
void conn_on_socket(void *ctx, unsigned events);
/* Something else than the socket gave the engine its answer. The conn may be gone afterwards. */
void conn_go_on(struct conn *c);

/* ---- connect.c ---- */

/* Go on to the next address of c->job; when there is none the job ends and the conn is freed. */
void conn_next_host(struct conn *c);
/* The present address cannot be reached: noted for the recipients of c->job. */
void conn_connect_fault(struct conn *c, int err);

#endif
