/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Milters in the rewrite worker. For an SMTP session they are a set (workers/milter) that lives as
 * long as the session: smtp-in tells what happens (PROTO_MILTER_EVENT) and waits for the reply. At
 * the end of a message, between message_close() and message_build(), its milters see what is to be
 * committed and change it; other mail (non_smtpd_milters) has a set of its own then, which is told
 * of a session that there was not.
 *   filters.c      what the configuration says     filter.c  sessions and messages
 *   filter_edit.c  what milters change             filter_macro.c  values of macros
 */
#ifndef PH_WORKERS_REWRITE_FILTER_H
#define PH_WORKERS_REWRITE_FILTER_H

#include "workers/milter/client.h"
#include "workers/rewrite/filters.h"
#include "workers/rewrite/submit.h"

/* One SMTP session with milters, or one message of another kind. */
struct filter {
	struct rewrite *r;
	struct peer *peer;
	const struct filter_conf *conf;
	struct milter_set *set; /* NULL: lost, everything is refused */
	uint32_t session, id;
	bool by_smtp;
	/* what macros say */
	char *addr, *port, *name, *reverse, *resolve, *connections, *own_addr, *own_port;
	char *tls_version, *cipher, *cipher_bits, *cert_subject, *cert_issuer; /* NULL = plain */
	char qid[QID_TEXT_SIZE + 1];                                           /* "" = none yet */
	char *mail_addr, *mail_host, *mail_mailer;
	char *auth_type, *auth_authen, *auth_author; /* or NULL */
	char *rcpt_addr, *rcpt_host, *rcpt_mailer;
	char *first_addr, *first_host, *first_mailer; /* of the first recipient they accepted */
	bool rcpt_ok, rcpt_refused;
	struct buf value; /* of the newest macro */
	/* an event that waits for remote tables, which say where its address goes */
	struct map_memo *memo;
	struct tables_fetch *fetch;
	struct buf event; /* the record */
	/* the message */
	struct tx *tx;
	struct milter_content content;
	struct envelope before; /* what this milter found */
	bool edited, checks;
	struct check_run check_run;
	unsigned stage; /* of mail without a session */
	size_t rcpt_at;
	int64_t begun_us;
	struct message_verdict verdict;
};

/* ---- filter.c ---- */
void filter_event(struct rewrite *r, struct peer *peer, const void *rec, size_t len);
/* Will milters see this message? Asked once, when its envelope is there. */
bool filter_applies(const struct rewrite *r, const struct peer *peer, uint32_t flags,
		    const struct envelope *env);
/* Let them. Without a peer it is a message of our own. NULL: tx_filtered() is called later; else
 * the verdict, verdict_ok = go on. */
const struct message_verdict *filter_message(struct rewrite *r, struct peer *peer, struct tx *tx);
/* The transaction ends early. */
void filter_cancel(struct tx *tx);
/* The peer is gone. */
void filter_detach(struct peer *peer);
size_t filter_count(const struct rewrite *r);

/* ---- filter_macro.c ---- */
const char *filter_macro(void *ctx, const char *name);
/* Where an address goes, for {mail_host} and {rcpt_host}. False: remote tables are asked. */
bool filter_resolve(struct filter *f, struct sv sender, struct sv addr, char **addr_r,
		    char **host_r, char **mailer_r);

/* ---- filter_edit.c ---- */
const char *filter_edit(void *ctx, const struct milter_edit *e);
const char *filter_edited(void *ctx, bool keep);
bool filter_check(void *ctx, struct buf *header);

#endif
