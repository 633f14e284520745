/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * QMQP (https://cr.yp.to/proto/qmqp.html): one message per connection, from hosts that
 * qmqpd_authorized_clients names and that may send to anywhere. A session of a listener that says
 * `qmqp` is in SESSION_QMQP from its greeting on, and all its input comes here: netstrings with
 * content, sender and recipients, behind which the message goes the way of one that came by SMTP
 * (struct session_ops). Content is kept in memory, because the sender follows it.
 */
#ifndef PH_WORKERS_SMTP_IN_QMQP_H
#define PH_WORKERS_SMTP_IN_QMQP_H

#include "workers/smtp_in/session.h"

#define QMQP_MEMORY (64u << 20) /* of content, for all sessions of the process */

/* The client is known: it may speak, or is told that it may not. */
void qmqp_greet(struct session *s);
size_t qmqp_input(struct session *s, const char *data, size_t len);
/* What it waited for (room, the pause before bad news) is there. */
void qmqp_resume(struct session *s);
/* The verdict on the message; as session_submit_done(). */
void qmqp_done(struct session *s, enum submit_verdict v, const uint8_t dsn[3], struct sv text);
/* The log line about a client that goes away or is too slow. */
void qmqp_log_gone(const struct session *s, const char *reason);
size_t qmqp_memory(const struct session *s);
void qmqp_free(struct session *s);

#endif
