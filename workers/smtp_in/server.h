/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The sockets of one smtp-in worker: accepting, reading, writing and timing all its sessions, and
 * the session_ops behind which content, name lookups and limits are.
 *
 * One event per readable socket: one recv (more only when it fills the shared buffer), the session
 * machine, one send for all replies. Sockets are edge-triggered and registered once.
 */
#ifndef PH_WORKERS_SMTP_IN_SERVER_H
#define PH_WORKERS_SMTP_IN_SERVER_H

#include "lib/qid.h"
#include "lib/twheel.h"
#include "workers/common/worker.h"
#include "workers/dns/dns.h"
#include "workers/smtp_in/authlink.h"
#include "workers/smtp_in/content.h"
#include "workers/smtp_in/limits.h"
#include "workers/smtp_in/listener.h"
#include "workers/smtp_in/peername.h"
#include "workers/smtp_in/screen.h"
#include "workers/smtp_in/session.h"
#include "workers/tables/client.h"

#define SERVER_READ_BYTES 65536u

struct conn {
	struct session session; /* first: a session is its connection */
	struct server *server;
	struct loop_fd lf;
	struct twheel_node timer;
	struct client *client;     /* limits; NULL under postscreen */
	struct filterconn *filter; /* its connection to a before-queue filter */
	struct peername_query *name_query;
	struct screenconn *screen; /* postscreen has it; NULL = the session has */
	int fd;
	bool readable;    /* the kernel may have more */
	bool blocked;     /* the last send was short */
	bool closed_in;   /* the client has shut down its side */
	bool busy;        /* being worked on: do not free below */
	bool queued;      /* in the list for the next turn */
	bool counted;     /* session open, for the disconnect line */
	bool proxy_waits; /* the header of the proxy in front has not come yet */
	int64_t name_deadline_ms, proxy_deadline_ms;
	struct sockaddr_storage sa;
	struct conn *next_ready;
};

struct server_listener {
	struct server *server;
	const struct listener *listener, *stress_listener;
	struct loop_fd lf;
	int fd;
	bool paused;
};

struct server {
	struct worker *worker;
	struct loop *loop;
	const struct params *p;
	struct listener *listeners;        /* by conf_listener() index */
	struct listener *stress_listeners; /* the same for sessions that begin under stress */
	unsigned listener_count;
	struct server_listener accepting[WORKER_MAX_LISTENERS];
	unsigned accepting_count;
	struct conn **conns; /* by session number; NULL = free */
	uint32_t conn_cap, conn_count;
	uint32_t *free_numbers;
	uint32_t free_count;
	struct conn *ready_head, **ready_tail;
	struct twheel wheel;
	struct loop_timer tick;
	uint32_t capacity;        /* sessions: smtpd_session_limit, or what descriptors allow */
	bool stress;              /* nearly full, or was not long ago */
	int64_t stress_until_ms;  /* with stress */
	int64_t resume_accept_ms; /* full or out of descriptors until then; 0 = not */
	int64_t next_full_log_ms, next_error_log_ms;
	int64_t next_sweep_ms;
	struct limits *limits;
	struct content_pool pool;
	struct content_ops content_ops;
	struct session_ops session_ops;
	struct worker_peer *rewrites[CONTENT_MAX_PEERS];
	struct dns_client *dns;
	struct worker_peer *resolver, *lookup, *verify;
	struct tables_client *tables;
	struct auth_links *auths;
	struct qid_source qids;
	int64_t notice_at_ms;  /* when the allowance of notices is whole again */
	uint32_t notices_held; /* for which there was no allowance */
	uint32_t last_milter;  /* number of a session's milters */
	int connector;         /* filterconn.c; -1 = no listener has a filter */
	struct loop_fd connector_lf;
	struct filterconn *filter_head, **filter_tail; /* without a connection yet */
	uint32_t filter_number;
	struct filter_gate *filter_gates; /* by listener; NULL = no listener has a filter */
	struct screen_ops screen_ops;
	struct screen_clients *screening;
	uint32_t last_screen; /* serial */
	bool draining;
	char read_buf[SERVER_READ_BYTES];
};

/* Compile all listeners. E_CONFIG: the problems were logged. */
int server_load(struct server *sv, const struct conf *c);
int server_start(struct server *sv, struct worker *w);
void server_attach(struct server *sv, struct worker_peer *peer);
void server_detach(struct server *sv, struct worker_peer *peer);
void server_record(struct server *sv, struct worker_peer *peer, const void *rec, size_t len);
bool server_turn(struct server *sv);
void server_drain(struct server *sv);

/* conn.c */
void conn_accept(struct server *sv, const struct listener *l, int fd,
		 const struct sockaddr_storage *sa);
void conn_step(struct conn *c); /* read, run, write as far as it goes; may free the connection */
void conn_destroy(struct conn *c);
void conn_greet(struct conn *c);    /* the session begins: who is the client? */
bool conn_is_crowd(struct conn *c); /* too many of its client */
void conn_rekey(struct conn *c);    /* c->sa is another client now: count for that one */
void conn_timer(void *ctx, struct twheel_node *node);
/* Let it run at the end of this turn or in the next. */
void conn_queue(struct conn *c);
struct conn *conn_of(struct session *s);

#endif
