/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The log line of one recipient's delivery attempt, in Postfix's shape:
 *   QID: to=<r>, orig_to=<o>, relay=R, conn_use=N, delay=T, delays=a/b/c/d, dsn=x.y.z, status=S
 * (text) and the delays= figures. Used by the deliver, local and rewrite workers, so that all of
 * them write the same line.
 */
#ifndef PH_WORKERS_COMMON_DELIVERLOG_H
#define PH_WORKERS_COMMON_DELIVERLOG_H

#include <stdint.h>

#include "lib/buf.h"
#include "lib/qid.h"
#include "lib/str.h"

/* Postfix's four stages; each in microseconds, negative values count as 0. */
struct deliver_delays {
	int64_t a_us; /* arrival to queue manager */
	int64_t b_us; /* in the queue manager */
	int64_t c_us; /* connection set-up: DNS, connect, greeting, TLS */
	int64_t d_us; /* transmission */
};

struct deliver_log_line {
	const char
		*program; /* log tag after syslog_name: "smtp", "lmtp", "virtual", "local", ... */
	struct qid qid;
	struct sv to;      /* internal form, like the next; logged in external form */
	struct sv orig_to; /* empty or equal to `to`: left out */
	struct sv relay;   /* "host[ip]:25", "virtual", "none" */
	unsigned conn_use; /* transactions over this connection; 0 and 1 are left out */
	struct deliver_delays delays;
	uint8_t dsn[3];
	const char *status; /* "sent", "deferred", "bounced" */
	struct sv text;     /* without the parentheses */
};

void deliver_log(const struct deliver_log_line *line);

/* A duration as Postfix writes it: whole seconds from 10 s on, else two significant digits with at
 * most two decimals and no trailing zeros: 12, 1.3, 0.25, 0.03, 0. */
void deliver_delay_format(struct buf *out, int64_t us);

#endif
