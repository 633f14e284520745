/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * AUTH in a session (RFC 4954): who has logged in, and the dialogue of who does. The auth worker
 * runs the dialogues (workers/auth); the session waits for each of its answers (WAIT_AUTH), and for
 * the client's lines in between (SESSION_AUTH). A session has a struct session_auth from its first
 * AUTH on, or when XCLIENT says who it is.
 */
#ifndef PH_WORKERS_SMTP_IN_AUTH_H
#define PH_WORKERS_SMTP_IN_AUTH_H

#include "workers/smtp_in/session.h"

struct session_auth {
	char *method, *user; /* logged in; NULL = not */
	char *sender;      /* AUTH= of the transaction's MAIL, as it came but printable; or NULL */
	char *mechanism;   /* of the dialogue, printable */
	uint32_t dialogue; /* the server's; 0 = none goes on */
	uint32_t peer;     /* the server's */
	bool waited;       /* EHLO has waited for mechanisms once */
	bool skipping;     /* the rest of a line that is too long */
	bool used;         /* secrets have gone through the session's buffers */
	bool answered;     /* what follows is to be acted on */
	enum auth_status status;
	char *text, *who; /* its reply or reason, and the user it is about, or NULL */
};

/* May the client log in, as things are now? */
bool session_auth_is_active(const struct session *s);
/* EHLO: are the mechanisms known? False: s->wait is set. */
bool session_auth_ready(struct session *s);
/* The mechanisms to announce; NULL = AUTH is not on offer. */
const char *session_auth_offer(const struct session *s);

/* AUTH= of MAIL. False: it replied. */
bool session_auth_mail_param(struct session *s, struct sv value);
/* XCLIENT LOGIN=user. */
void session_auth_extern(struct session *s, const char *user);
/* Not logged in any more: XCLIENT, STARTTLS. */
void session_auth_reset(struct session *s);
void session_auth_reset_tx(struct session *s);
void session_auth_fini(struct session *s);

/* Input of SESSION_AUTH. */
size_t auth_input(struct session *s, const char *p, size_t len);
/* The dialogue goes on, or is over: what it waited for is there. */
void session_auth_resume(struct session *s);

/* From the server. The texts are another process's and are checked here. */
void session_auth_answer(struct session *s, enum auth_status status, struct sv text, struct sv user,
			 struct sv lines);
void session_auth_lost(struct session *s);    /* the worker is gone */
void session_auth_offered(struct session *s); /* mechanisms have become known */
void session_auth_late(struct session *s);    /* s->sleep_until_ms has come */

/* "sasl_method=..., sasl_username=..., sasl_sender=...": each behind `before`. */
void session_auth_log(const struct session *s, const char *before, struct buf *out);
/* "\t(Authenticated sender: ...)\r\n" of the Received header, or nothing. */
void session_auth_received(const struct session *s, struct buf *out);
void session_auth_envelope(const struct session *s, struct envelope *e);
void session_auth_view(const struct session *s, struct policy_view *v);
static inline bool session_auth_is_in(const struct session *s)
{
	return s->auth != NULL && s->auth->user != NULL;
}

#endif
