/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS of a dialogue of postscreen (screentalk.h): STARTTLS has been answered, records come in. Its
 * log lines are those of Postfix's tlsproxy. */
#ifndef PH_WORKERS_SMTP_IN_SCREENTLS_H
#define PH_WORKERS_SMTP_IN_SCREENTLS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/buf.h"

struct listener_tls;
struct screentls;

/* `peer`: "[address]:port". It and the name outlive it. */
struct screentls *screentls_new(const struct listener_tls *conf, const char *addr, const char *peer,
				const char *service_name);
/* Logs the end. */
void screentls_free(struct screentls **x);
bool screentls_is_on(const struct screentls *x); /* the handshake is done */
/* E_AGAIN: the handshake goes on; 0: it is done, see screentls_read(); E_PEER: it has failed. The
 * log is spoken to as tlsproxy afterwards. */
int screentls_feed(struct screentls *x, const char *data, size_t len);
/* > 0: bytes of plain text. E_AGAIN: no more. E_EOF, E_PEER: the client has gone. */
int screentls_read(struct screentls *x, char *to, size_t size);
void screentls_write(struct screentls *x, const void *data, size_t len);
void screentls_goodbye(struct screentls *x);
struct buf *screentls_out(struct screentls *x);

#endif
