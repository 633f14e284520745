/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * xtext (RFC 3461 4) and utf-8-addr-xtext (RFC 6533 3): values of ENVID, ORCPT and AUTH. Control
 * characters are refused: a line end in a value would become one in envelopes, logs and headers.
 */
#ifndef PH_WORKERS_MAIL_XTEXT_H
#define PH_WORKERS_MAIL_XTEXT_H

#include <stdbool.h>

#include "lib/buf.h"
#include "lib/str.h"

/* Bytes outside '!' to '~', and '+' and '=', become +XX. */
void mail_xtext_encode(struct sv s, struct buf *out);
/* Appends the text; false on bad syntax, on control characters (but tab), and when it is not UTF-8.
 */
bool mail_xtext_decode(struct sv in, struct buf *out);
/* The same for \x{HEX}. */
bool mail_utf8_xtext_decode(struct sv in, struct buf *out);

#endif
