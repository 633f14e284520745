/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages as mailbox files and commands want them: lines in front (From_, Return-Path, ...),
 * quoted "From " lines and dots, other line ends. Pure; called by piped.c and job.c.
 */
#ifndef PH_WORKERS_LOCAL_MAILCOPY_H
#define PH_WORKERS_LOCAL_MAILCOPY_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/str.h"

enum {
	COPY_FROM = 1,         /* "From sender date" */
	COPY_RETURN_PATH = 2,  /* Return-Path: */
	COPY_ORIGINAL_TO = 4,  /* X-Original-To: */
	COPY_DELIVERED_TO = 8, /* Delivered-To: */
	COPY_QUOTE = 16,       /* ">" before "From " */
	COPY_DOTS = 32,        /* "." before "." */
	COPY_BLANK = 64,       /* an empty line behind */
};

#define COPY_MAILBOX                                                                               \
	(COPY_FROM | COPY_RETURN_PATH | COPY_ORIGINAL_TO | COPY_DELIVERED_TO | COPY_QUOTE |        \
	 COPY_BLANK)

struct copy_head {
	unsigned flags;
	struct sv eol;
	struct sv sender;                 /* internal form, like the next; empty = null sender */
	struct sv null_sender;            /* what stands for it in Return-Path */
	struct sv null_from;              /* and in From_ */
	struct sv original_to, delivered; /* for their headers */
	int64_t now_s;                    /* wall */
};

void copy_add_head(const struct copy_head *h, struct buf *out);

/* Content with LF line ends, in pieces of any size; begin with a zeroed state. */
struct copy_body {
	unsigned flags;
	struct sv eol;
	char held[4]; /* the start of a line that may become "From " */
	uint8_t held_len;
	bool mid_line;
};
void copy_add_body(struct copy_body *c, struct sv piece, struct buf *out);
/* The end: a last line that has none, and the empty line of COPY_BLANK. */
void copy_end_body(struct copy_body *c, struct buf *out);
/* Is the content the same after it? Then it need not be copied. */
bool copy_changes_body(unsigned flags, struct sv eol);

#endif
