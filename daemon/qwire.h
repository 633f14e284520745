/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages between showq and postqueue: what daemon/qprint.h prints, as bytes. Records, each a
 * uint32_t with the length of what follows, a letter and
 *   M  queue, in_doubt, damaged (1 byte each), arrival_s, size (8 bytes each), id, sender
 *   R  failed (1 byte), address, original address, reason
 *   E  nothing: the message is whole
 * where a text is a uint16_t with its length and the bytes. Host byte order.
 */
#ifndef PH_DAEMON_QWIRE_H
#define PH_DAEMON_QWIRE_H

#include "daemon/qread.h"

#define QWIRE_RECORD_MAX 16384u

void qwire_message(struct buf *out, const struct qlist_message *m);
void qwire_rcpt(void *buf, const struct qlist_rcpt *r);
void qwire_end(struct buf *out);

struct qwire_sink {
	void (*message)(void *ctx, const struct qlist_message *m);
	void (*rcpt)(void *ctx, const struct qlist_rcpt *r);
	void (*end)(void *ctx);
	void *ctx;
};
/* Hands over the whole records at the start of `in` and removes them. E_SYNTAX when they are none:
 * a recipient or an end outside a message is not, either. *open tells whether a message is open; it
 * begins false. */
int qwire_read(struct buf *in, bool *open, const struct qwire_sink *sink);

#endif
