/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between the parts of the client engine: client.c, client_hello.c and client_auth.c. */
#ifndef PH_WORKERS_DELIVER_CLIENT_INT_H
#define PH_WORKERS_DELIVER_CLIENT_INT_H

#include "workers/deliver/client.h"

enum expect_kind {
	X_GREETING,
	X_EHLO,
	X_HELO,
	X_STARTTLS,
	X_AUTH,
	X_RSET,
	X_XFORWARD, /* of two commands */
	X_XFORWARD_MORE,
	X_MAIL,
	X_RCPT,
	X_DATA,
	X_DOT,
	X_LMTP_DOT, /* one for each accepted recipient */
	X_BDAT,     /* all of a message, which goes out without a go-ahead */
	X_LONE_DOT, /* DATA was accepted though no recipient was: its reply means nothing */
	X_COUNT
};

/* ---- client.c ---- */

/* A command is written whose reply comes in its turn. */
void client_expect_reply(struct client *c, enum expect_kind kind, unsigned rcpt);
/* The reply at hand, in one line. */
const char *client_joined_reply(struct client *c);
/* A fault with the reply's code, without a text. */
struct client_fault client_fault_reply(struct client *c);
/* A fault of our own, whose text is in c->text. */
struct client_fault client_fault_text(struct client *c, bool permanent, unsigned subject,
				      unsigned detail);
/* The session is over. What the server cannot have taken goes back as it was: what is behind the
 * current transaction, and has no content on the wire. NULL fault: all of it. */
void client_dead(struct client *c, const struct client_fault *f);

/* ---- client_hello.c ---- */

void client_on_greeting(struct client *c, unsigned rcpt);
void client_on_hello(struct client *c, unsigned rcpt);
void client_on_starttls(struct client *c, unsigned rcpt);

/* ---- client_auth.c ---- */

/* A line of the reply to EHLO: it may name mechanisms. Only with a login. */
void client_login_offer(struct client *c, struct sv line);
/* The handshake is done but for the login, if there is one: then the session is ready. */
void client_log_in(struct client *c);
void client_on_auth(struct client *c, unsigned rcpt);

#endif
