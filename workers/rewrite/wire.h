/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Checks that content is in wire form: every line ends with CRLF, every line that begins with a dot
 * is stuffed, there is no lone LF. The smtp-in worker makes this form; because that worker may have
 * been taken over, rewrite checks it on its own copy. A message that is sent on unchecked could
 * otherwise smuggle an SMTP dialogue to the next host.
 */
#ifndef PH_WORKERS_REWRITE_WIRE_H
#define PH_WORKERS_REWRITE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/str.h"

struct wire {
	bool mid_line; /* the last byte seen was inside a line */
	bool dot;      /* a line has begun with one dot, the second must follow */
	bool cr;       /* the last byte seen was a CR that was held back */
	uint64_t lines;
	uint64_t line;    /* bytes of the present line so far */
	uint64_t longest; /* bytes of the longest line */
	/* A line, anywhere, says "Content-Transfer-Encoding: 8bit" (or binary). That it is not in
	 * the header of a part but in a text is no harm: announcing 8BITMIME is never wrong. */
	bool eight;
	char head[48]; /* how a line begins that may say so and is in pieces */
	uint8_t head_len;
};

/*
 * Check one piece, in place: a CR without LF becomes a space (cleanup_replace_stray_cr_lf; a lone
 * CR is a line end to some receivers, so it never passes as it is). A CR at the very end of the
 * piece cannot be judged yet: it is held back, *len_r is one less, and `cr` stays set; the caller
 * puts a CR in front of the next piece. E_PEER when the piece breaks the wire form.
 */
int wire_check(struct wire *w, char *data, size_t len, size_t *len_r);
/* Bytes of the longest line in text, with its line end. */
uint64_t wire_longest_line(struct sv text);
/* Notes longest line and encoding of text that is known to be whole lines in wire form. */
void wire_note(struct wire *w, struct sv text);
/* E_PEER when the content that ends here is not made of whole lines. */
int wire_end(const struct wire *w);

#endif
