/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Replies that refuse, as the operator wants them: filter, footer, soft_bounce. */
#ifndef PH_WORKERS_SMTP_IN_REFUSAL_H
#define PH_WORKERS_SMTP_IN_REFUSAL_H

#include "workers/smtp_in/command.h"

/* Has the listener any of that? */
bool refusal_is_changed(const struct session *s);
/* `reply` is a reply line without its line end; afterwards it may be several, with CRLF between
 * them. Replies other than 4xx and 5xx stay. */
void refusal_change(struct session *s, struct buf *reply);

#endif
