/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Variable envelope return path: a sender that names the recipient, so that a notification tells by
 * its address alone whom it is about. prefix@origin becomes prefix+user=domain@origin, with the two
 * delimiters that stand in the envelope. Used where mail leaves (deliver, local) and for
 * notifications.
 */
#ifndef PH_WORKERS_MAIL_VERP_H
#define PH_WORKERS_MAIL_VERP_H

#include "workers/mail/envelope.h"

/* NULL when `delimiters` are two of `allowed` (verp_delimiter_filter), else what is wrong. */
const char *verp_check_delimiters(struct sv delimiters, const char *allowed);
/* The sender as recipient `r` is to have it: the plain one when the message has no delimiters or no
 * sender, or the arena is full. */
struct sv verp_sender(const struct envelope *e, const struct env_rcpt *r, struct arena *a);

#endif
