/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Logical lines and "name = value", the language of main.cf and of the parameter files of tables.
 * Written in conf/maincf.c. */
#ifndef PH_CONF_LINES_H
#define PH_CONF_LINES_H

#include <stdbool.h>

#include "lib/buf.h"
#include "lib/str.h"

/* Logical lines of a text: comments and empty lines dropped, continuations joined by one blank. */
struct conf_lines {
	const char *p, *end;
	unsigned line;       /* lines consumed so far */
	unsigned first_line; /* of the line returned last */
	struct buf text;
};
void conf_lines_init(struct conf_lines *l, struct sv text);
bool conf_lines_next(struct conf_lines *l);
void conf_lines_fini(struct conf_lines *l);

/* "name = value" in place: trims both. NULL or the reason. */
const char *conf_split_nameval(struct sv text, struct sv *name_r, struct sv *value_r);

#endif
