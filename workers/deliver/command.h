/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Commands that the SMTP client writes, and the EHLO keywords it reads. Used by client.c alone. */
#ifndef PH_WORKERS_DELIVER_COMMAND_H
#define PH_WORKERS_DELIVER_COMMAND_H

#include "workers/deliver/client.h"

void command_hello(struct buf *out, const char *verb, const char *name);
/* `raw`: addresses without quotes (smtp_quote_rfc821_envelope = no). */
void command_mail(struct buf *out, const struct client_tx *tx, unsigned features, bool raw);
void command_rcpt(struct buf *out, const struct client_rcpt *r, unsigned features, bool raw);
/* One line of an EHLO reply (without code) to its CLIENT_F_* bit, 0 = unknown. SIZE sets *size. */
unsigned command_ehlo_keyword(struct sv line, uint64_t *size);
/* XFORWARD, the first command (`part` 0) or the second. False: the server wants nothing of it that
 * there is. */
bool command_xforward(struct buf *out, const struct client_tx *tx, unsigned features,
		      unsigned part);

#endif
