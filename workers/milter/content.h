/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A message as milters see it, and what they change of it. Goes in and comes out in the wire form
 * of workers/smtp/line.h: CRLF, stuffed dots; milters see lines without the stuffing. Changes of
 * one milter count together or not at all: milter_content_mark() in front of its first,
 * milter_content_undo() when it fails. Called by client.c and, with the result, by rewrite.
 *
 * Positions of headers are Postfix's and Sendmail's: the Received header that we put in front
 * ourselves is shown to nobody and does not count when a header is changed, but counts when one is
 * inserted.
 */
#ifndef PH_WORKERS_MILTER_CONTENT_H
#define PH_WORKERS_MILTER_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/str.h"

struct milter_head {
	struct sv text; /* with its line ends */
	size_t name_len;
	bool hidden;
};

struct milter_heads {
	struct milter_head *list; /* heap */
	size_t count, cap;
};

struct milter_content {
	struct arena *arena; /* for texts of new headers */
	uint64_t limit;      /* bytes of a replaced body and of all that is added; 0 = none */
	struct milter_heads heads, saved;
	bool blank;                /* an empty line ends the header */
	struct sv body;            /* as it came, or the newest replacement */
	struct buf replaced, next; /* the replacement in force; the one that is coming */
	bool replacing, cr;        /* `next` is being filled; its last byte was a CR */
	bool mid_line;
	bool was_replaced;  /* `body` is `replaced` */
	bool heads_changed; /* since milter_content_mark() */
	bool changed;       /* at all */
	uint64_t added_bytes;
};

/* `head`: the whole header section with its empty line, if it has one. Views must live as long as
 * the content. `own`: the first Received header is ours. */
void milter_content_begin(struct milter_content *c, struct arena *arena, struct sv head,
			  struct sv body, bool own, uint64_t limit);
void milter_content_fini(struct milter_content *c);

/* ---- what a milter sees ---- */

/* The header at *at or behind it that is shown, *at moving behind it. The value begins behind the
 * colon, has LF between its lines and none at its end. False: no more. */
bool milter_content_header(const struct milter_content *c, size_t *at, struct buf *name,
			   struct buf *value);
/* At most `max` bytes of the body from *at on, appended. False: no more; nothing was appended. */
bool milter_content_body(const struct milter_content *c, size_t *at, size_t max, struct buf *out);

/* ---- what it changes ---- */

/* All 0, E_LIMIT when too much was added, E_SYNTAX when the name is none. `text`: "Name: value", LF
 * between lines; further lines become continuation lines whatever they look like. */
int milter_content_add(struct milter_content *c, struct sv text);
int milter_content_insert(struct milter_content *c, size_t index, struct sv text); /* from 0 */
/* The index-th (from 1) shown header of that name; is appended when there is none. */
int milter_content_change(struct milter_content *c, size_t index, struct sv name, struct sv text);
void milter_content_delete(struct milter_content *c, size_t index, struct sv name);
/* Pieces of a new body, in any line ends. milter_content_replaced() when it is whole. */
int milter_content_replace(struct milter_content *c, struct sv data);
void milter_content_replaced(struct milter_content *c);

void milter_content_mark(struct milter_content *c);
void milter_content_undo(struct milter_content *c);

/* ---- the result ---- */

/* All of it in wire form; returns the bytes of the header section with its empty line. */
size_t milter_content_put(const struct milter_content *c, struct buf *out);

#endif
