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
/* The footer of a reply, which is as above: "\n" in the template begins a line, with the codes of
 * the reply in front of it; "\c" at its start goes on with the line of the reply. Nothing is added
 * when the template cannot be expanded. `lookup_fn` as of conf_expand_with(). */
void refusal_add_footer(struct buf *reply, struct sv template,
			const char *(*lookup_fn)(void *ctx, struct sv name), void *ctx);

#endif
