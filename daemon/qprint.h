/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Messages as postqueue prints them: Postfix's text, or one JSON object per line. Called by
 * daemon/qlist.c and daemon/postqueue.c. */
#ifndef PH_DAEMON_QPRINT_H
#define PH_DAEMON_QPRINT_H

#include <stdio.h>

#include "daemon/qread.h"

struct qprint;
struct qprint *qprint_new(FILE *out, bool json);
void qprint_free(struct qprint **p);
/* For each message: itself, its recipients, its end. */
void qprint_message(struct qprint *p, const struct qlist_message *m);
void qprint_rcpt(void *qprint, const struct qlist_rcpt *r);
void qprint_message_end(struct qprint *p);
/* Behind all of them. */
void qprint_end(const struct qprint *p);

/* For other lists (daemon/qdoubt.c): text as it is shown. */
void qlist_print_safe(FILE *out, struct sv s);
struct json_t *qlist_json_text(struct sv s);

#endif
