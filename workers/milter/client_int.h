/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside of the milter client: client.c runs events over the milters of a set, link.c has their
 * sockets and time limits, answer.c takes what they say. */
#ifndef PH_WORKERS_MILTER_CLIENT_INT_H
#define PH_WORKERS_MILTER_CLIENT_INT_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "workers/milter/client.h"

#define MILTER_ADDRS_MAX 16u

enum milter_state {
	MILTER_NEW,        /* no connection yet */
	MILTER_CONNECTING, /* name, socket, negotiation */
	MILTER_READY,      /* waits for the connect event */
	MILTER_ENVELOPE,
	MILTER_MESSAGE,
	MILTER_ACCEPT_CON, /* wants no more of this session */
	MILTER_ACCEPT_MSG, /* wants no more of this message */
	MILTER_REJECT_CON, /* the same reply to everything */
	MILTER_FAILED,
};

struct milter { /* one of a set */
	struct milter_set *set;
	const struct milter_spec *spec;
	enum milter_state state;
	int fd;
	struct loop_fd lf;
	bool watched;
	bool connected;
	struct buf in, out;
	uint32_t actions, steps, lacks; /* as negotiated; steps that its version does not have */
	char *macros[MILTER_STAGES];    /* its own lists, or NULL */
	char *def_reply;                /* while it is not NULL it is the answer to everything */
	char *answer;                   /* to the event that is over */
	char skip;                      /* command that is not sent any more */
	char event;                     /* an answer to it is due; 0 = none */
	bool paused;                    /* the message waits until the socket takes more */
	int64_t deadline_ms, last_ms;   /* for a sign of life; for the whole event */
	struct sockaddr_storage addrs[MILTER_ADDRS_MAX];
	size_t addr_count, addr_next;
	struct dns_query *query;
	bool asked_v6;
	/* what it wants changed */
	char *edit_error; /* a reply; the rest of its changes are left out */
	bool body_locked; /* a replacement of the body came, and then something else */
};

enum milter_step { MILTER_STEP_HEADERS, MILTER_STEP_EOH, MILTER_STEP_BODY, MILTER_STEP_END };

struct milter_set {
	struct milter_client *client;
	struct milter_set *next, *prev; /* of the client's busy sets */
	struct milter *milters;
	size_t count;
	const struct milter_macros *macros;
	const struct milter_host *host;
	void *ctx;
	char command; /* under way; 0 = nothing */
	bool is_message, rejected, in_call, listed;
	struct buf args, macro_buf, name, value;
	size_t at; /* whose turn it is */
	char *result;
	char *held; /* what the first said that wants the message held */
	struct milter_content *content;
	enum milter_step step;
	size_t header_at, body_at;
};

struct milter_client {
	struct milter_client_conf conf;
	struct milter_set busy; /* list head */
	unsigned connections;
};

/* ---- client.c ---- */
/* The milter whose turn it is may go on: an answer is there, its connection is ready or failed, or
 * its socket takes more. */
void milter_set_resume(struct milter_set *s);
const char *milter_log_name(const struct milter_set *s);

/* ---- link.c ---- */
void milter_link_open(struct milter *m);
void milter_link_close(struct milter *m);
/* Write what is in m->out, and watch what is to be watched. */
void milter_link_flush(struct milter *m);
/* An answer, or room, is awaited from now on. */
void milter_link_wait(struct milter *m, int64_t limit_ms);
void milter_link_tick(struct milter *m);
/* The default action from here on. comm: as against a mistake in what it says. */
void milter_fail(struct milter *m, bool comm);
void milter_warn(const struct milter *m, const char *fmt, ...) PRINTF_LIKE(2, 3);
void milter_handshake_failed(const struct milter *m); /* another line, if it was that */
void milter_set_reply(char **reply, const char *text);

/* ---- answer.c ---- */
/* Takes whole frames from m->in. True: the event that was waited for is over. */
bool milter_take_answers(struct milter *m);

#endif
