/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A session whose mail passes a content filter before it is accepted (smtpd_proxy_filter): MAIL,
 * RCPT and the content go to the filter over SMTP, nothing is queued here, and what the filter says
 * to the final dot is what the client hears. One connection for each transaction, made at the first
 * recipient; with speed_adjust when the whole message is there, or when what all sessions hold back
 * is too much: then the rest of it is passed on as it comes.
 *
 * This is the protocol without sockets, as the session is: session_filter_output() is what the
 * filter is to get, session_filter_input() what it says. filterconn.c puts a socket under it.
 *
 * A reply counts for the final dot only if it came after the dot was sent: a filter that speaks
 * ahead of its turn cannot make us acknowledge what it has not seen.
 */
#ifndef PH_WORKERS_SMTP_IN_SESSFILTER_H
#define PH_WORKERS_SMTP_IN_SESSFILTER_H

#include "workers/smtp_in/session.h"

/* Content that waits for a filter which does not read as fast as the client sends. */
#define FILTER_WINDOW_BYTES 65536u
/* What speed_adjust keeps in one process, all sessions together. */
#define FILTER_HELD_BYTES (64u << 20)

enum filter_step {
	FILTER_GOES_ON, /* there is no filter, or it agrees */
	FILTER_WAITS,
	FILTER_REFUSES, /* *reply_r is what to say; what failed is logged */
};

/* Keep a command as the client gave it: the filter gets it so. */
void session_filter_keep(struct session *s, const char *verb, struct sv args);
/* The recipient, the beginning of the content. Called again behind a wait. */
enum filter_step session_filter_rcpt(struct session *s, const char **reply_r);
enum filter_step session_filter_data(struct session *s, const char **reply_r);
/* The first bytes of the content. */
void session_filter_head(struct session *s, struct sv head);
/* A place for at least one byte of content, or NULL: session_room() comes. */
char *session_filter_room(struct session *s, size_t *len_r);
void session_filter_advance(struct session *s, size_t len);
/* The content is complete. FILTER_WAITS: session_filtered() comes; else *reply_r is the answer. */
enum filter_step session_filter_end(struct session *s, const char **reply_r);
/* The message will be refused, whatever the filter says. */
void session_filter_abandon(struct session *s);
/* What was said last, for the log. */
const char *session_filter_reply(const struct session *s);
void session_filter_free(struct session *s); /* with its connection */

/* For the socket. The session may have closed the connection when one of these returns. */
void session_filter_connected(struct session *s);
void session_filter_input(struct session *s, const char *data, size_t len);
struct sv session_filter_output(const struct session *s);
void session_filter_sent(struct session *s, size_t len);
/* `why` as Postfix words it, in front of the name of the filter; behind it ": TEXT" unless "". */
void session_filter_lost(struct session *s, const char *why, const char *text);
/* A reply is awaited: only then is anything read. */
bool session_filter_expects(const struct session *s);
/* What goes out next ends the message, and the filter has spoken already. */
bool session_filter_is_last(const struct session *s);
void session_filter_premature(struct session *s);

#endif
