/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What sendmail makes of its standard input, as a pure function of bytes: line ends, the lone dot,
 * mailbox "From " lines, and the header section, from which -t takes recipients. Called by
 * workers/pickup/sendmail_send.c.
 */
#ifndef PH_WORKERS_PICKUP_COMPOSE_H
#define PH_WORKERS_PICKUP_COMPOSE_H

#include <stdbool.h>

#include "conf/conf.h"
#include "lib/buf.h"
#include "lib/str.h"

#define COMPOSE_LINE_MAX   65536u      /* longer lines are passed on in pieces */
#define COMPOSE_HEADER_MAX (16u << 20) /* what comes behind it counts as body */

struct compose {
	bool dot_ends; /* a line with a single dot ends the message (not with -i) */
	enum conf_line_endings fix;
	bool begun, strip_cr; /* the first line has been seen; CR before LF goes */
	bool from_lines;      /* still in front of the first line that is no "From " */
	bool mid_line, done, header_done;
	bool header_cut;         /* COMPOSE_HEADER_MAX ended it: recipients may follow */
	struct buf line;         /* an incomplete one */
	struct buf header, body; /* results; the caller may empty body at any time */
};

void compose_init(struct compose *c, bool dot_ends, enum conf_line_endings fix);
void compose_fini(struct compose *c);
/* Take input, until `done`. */
void compose_feed(struct compose *c, const char *data, size_t len);
/* End of input. */
void compose_end(struct compose *c);

/* One header after another: name and value (folded, with its line end). False at the end. `pos`
 * begins as 0. */
bool compose_next_header(struct sv header, size_t *pos, struct sv *name_r, struct sv *value_r);

typedef void (*compose_rcpt_fn)(void *ctx, struct sv addr); /* internal form */
/* The addresses of a list as a header or a command line has it; of an element that is none, its
 * words, as Postfix reads it: "a@x b@y" is meant for both. Returns how many. */
unsigned compose_addresses(struct sv list, compose_rcpt_fn fn, void *ctx);
/* Recipients of a message: those of Resent-To, -Cc and -Bcc when there is a Resent- one of them,
 * else those of To, Cc and Bcc. */
unsigned compose_recipients(struct sv header, compose_rcpt_fn fn, void *ctx);

#endif
