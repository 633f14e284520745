/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Milters of a session: what they are told and what their replies do. They live in the rewrite
 * worker that takes the session's messages (workers/rewrite/filter.h); here is one event at a time
 * on its way there, and a session that waits for the reply (WAIT_MILTER). Called by session.c and
 * the commands.
 */
#ifndef PH_WORKERS_SMTP_IN_SESSMILTER_H
#define PH_WORKERS_SMTP_IN_SESSMILTER_H

#include "workers/smtp_in/session.h"

enum milter_step {
	MILTER_GOES_ON, /* nothing to ask, or they do not mind */
	MILTER_WAITS,
	MILTER_REFUSES, /* *reply_r is what to say; logged */
};

/* The greeting of a client that they do not mind. False: they are asked. */
bool session_milter_greet(struct session *s);
/* The command that is worked on. Called again behind a wait. */
enum milter_step session_milter_command(struct session *s, const char **reply_r);
/* The wait is over, and the answer is not looked at yet: policy has been asked before. */
bool session_milter_has_answer(const struct session *s);
/* A recipient that policy refused with `why`: true when milters are told; the answer does not
 * matter. */
bool session_milter_rejected(struct session *s, const char *why);
/* A line that is no command. True: they are asked; session_unknown_over() follows. */
bool session_milter_unknown(struct session *s, struct sv line);
/* Keep what MAIL or RCPT came with, for milters. `params` is what follows the address. */
void session_milter_keep(struct session *s, struct sv args, struct sv params);
/* The transaction is over. `always`: say so even if none began. */
void session_milter_reset(struct session *s, bool always);
void session_milter_end(struct session *s);
/* Will the message that begins be shown to them? */
bool session_milter_sees(const struct session *s);

#endif
