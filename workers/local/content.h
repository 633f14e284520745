/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From wire form (CRLF, dot-stuffed) to mailbox form (LF, no stuffing), in pieces. */
#ifndef PH_WORKERS_LOCAL_CONTENT_H
#define PH_WORKERS_LOCAL_CONTENT_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/str.h"

struct content_conv {
	bool mid_line; /* the last byte seen was inside a line */
	bool cr;       /* the last byte seen was a CR, not put out yet */
};

/* Converts len bytes in place; returns how many are left. A CR at the end of a piece is held back:
 * the caller leaves one byte of room in front of the next piece (data[-1] may be written) and uses
 * the returned start. */
struct sv content_convert(struct content_conv *c, char *data, size_t len);

/* Is there a "Delivered-To: addr" among the headers at the start of converted content? */
bool content_has_delivered_to(struct sv content, struct sv addr);

#endif
