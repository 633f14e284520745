/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Milters from the mail server's side. A set is the milters of one SMTP session (or of one message
 * that came another way): a connection to each, opened with the first event and kept until the set
 * is freed. Events go to one milter after the other, as Postfix does it: the first that objects
 * ends it. Nothing blocks; every wait has its time limit; what a milter may send is bounded. A
 * milter that fails gives its default action, to this set only.
 *
 * Replies, as in Postfix: NULL = go on; "4xx ..." or "5xx ..." (lines separated by CRLF) = refuse;
 * "H" + reason = hold; "D" = discard; "S" = end the session.
 */
#ifndef PH_WORKERS_MILTER_CLIENT_H
#define PH_WORKERS_MILTER_CLIENT_H

#include "lib/loop.h"
#include "shm/counters.h"
#include "workers/dns/dns.h"
#include "workers/milter/content.h"
#include "workers/milter/spec.h"

#define MILTER_OTHER 'o' /* not sent: what a session's reply is to other commands */

struct milter_client;
struct milter_set;

struct milter_client_conf {
	struct loop *loop;
	struct dns_client *dns; /* for names of hosts */
	struct counters_shm *counters;
	bool v4, v6;
};

struct milter_client *milter_client_new(const struct milter_client_conf *conf);
void milter_client_free(struct milter_client **c); /* all sets are gone */
void milter_client_tick(struct milter_client *c);  /* about once a second: time limits */

enum milter_edit_kind { MILTER_EDIT_ADD_RCPT, MILTER_EDIT_DEL_RCPT, MILTER_EDIT_FROM };

struct milter_edit { /* of the envelope */
	enum milter_edit_kind kind;
	struct sv addr; /* as the milter wrote it */
	struct sv args; /* ESMTP parameters */
};

struct milter_host { /* what a set asks of its owner */
	/* The value of a macro ("{i}"), valid until the next call; NULL: none. */
	const char *(*macro)(void *ctx, const char *name);
	/* An event or a message is over. Never from inside the call that began it. May free the
	 * set. */
	void (*done)(void *ctx, const char *reply);
	/* Only with messages. A reply: this cannot be done. */
	const char *(*edit)(void *ctx, const struct milter_edit *e);
	/* What edit() took of this milter holds, or does not. A reply: the message is decided. */
	const char *(*edited)(void *ctx, bool keep);
	/* "Name: value" that a milter adds; may be changed. False: leave it out. NULL: no checks */
	bool (*check)(void *ctx, struct buf *header);
	const char *log_name; /* "smtpd" or "cleanup", for events */
};

/* The list, the macros and the host must outlive the set. */
struct milter_set *milter_set_new(struct milter_client *c, const struct milter_list *l,
				  const struct milter_macros *m, const struct milter_host *h,
				  void *ctx);
/* Says QUIT to those it has no question to. */
void milter_set_free(struct milter_set **s);

/* One event, `args` as it goes over the wire. `rejected`: a recipient that is refused already, for
 * those who want to know. True: it is over, with *reply_r (until the next call); false: done() will
 * be called. One at a time. */
bool milter_set_event(struct milter_set *s, char command, struct sv args, bool rejected,
		      const char **reply_r);
/* The message of an envelope that was sent as events. All of it, with changes. */
bool milter_set_message(struct milter_set *s, struct milter_content *content, const char **reply_r);
/* The transaction ends here; nothing is waited for. */
void milter_set_abort(struct milter_set *s);
bool milter_set_is_busy(const struct milter_set *s);
/* Does one of them want refused recipients? */
bool milter_set_wants_rejected(const struct milter_set *s);
size_t milter_set_memory(const struct milter_set *s);

/* The arguments of MILTER_CONNECT. */
void milter_connect_args(const char *name, const char *addr, uint16_t port, struct buf *out);

#endif
