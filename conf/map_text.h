/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Text of tables: files of logical lines (a line that begins with white space continues the one
 * before; '#' lines and empty lines are skipped), and {inline, {lists of items}}. Used by the text
 * table types, match lists, postmap and postalias. Any bytes are survived; what is wrong is
 * reported with file and line.
 */
#ifndef PH_CONF_MAP_TEXT_H
#define PH_CONF_MAP_TEXT_H

#include <stdarg.h>

#include "conf/conf.h"
#include "lib/buf.h"
#include "lib/str.h"

#define MAP_TEXT_FILE_MAX ((size_t)256 << 20) /* a text table that is held in memory */
#define MAP_TEXT_LINE_MAX ((size_t)1 << 20)   /* one logical line */
#define MAP_KEY_MAX       2048u               /* longer keys are never found */

struct map_text {
	struct sv rest;
	const char *name;    /* file name, or the table's name for inline text */
	struct conf_diag *d; /* may be NULL */
	struct buf line;
	unsigned next_lineno; /* 0 = inline */
	unsigned lineno;      /* of the newest logical line */
	bool crlf_reported;
};

/* `data` must outlive the iteration. */
void map_text_init_file(struct map_text *t, struct sv data, const char *file, struct conf_diag *d);
void map_text_init_inline(struct map_text *t, struct sv items, const char *name,
			  struct conf_diag *d);
void map_text_fini(struct map_text *t);
/* The next logical line or item, trimmed behind; the view lives until the next call. */
bool map_text_next(struct map_text *t, struct sv *line_r);
/* A warning at the newest line. */
void map_text_warn(const struct map_text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Split "key white-space value"; the key may hold quoted white space. False (with a warning) when
 * the line is not of that form. */
bool map_text_split(const struct map_text *t, struct sv line, struct sv *key_r, struct sv *value_r);
/* Postalias: "name: value"; *key is in internal form. */
bool map_text_split_alias(const struct map_text *t, struct sv line, struct buf *key,
			  struct sv *value_r);

/* Next item of a list separated by commas and white space, where {} groups. 1, 0 at the end,
 * E_SYNTAX on unbalanced braces. An item that is one group as a whole is returned trimmed without
 * its braces, and *group_r is set. */
int map_item_next(struct sv *rest, struct sv *item_r, bool *group_r);

#endif
