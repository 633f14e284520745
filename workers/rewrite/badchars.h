/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Characters that content may not have: message_reject_characters and message_strip_characters.
 * Called by checks.c. */
#ifndef PH_WORKERS_REWRITE_BADCHARS_H
#define PH_WORKERS_REWRITE_BADCHARS_H

#include <stdbool.h>

#include "lib/buf.h"
#include "lib/str.h"

/* The parameters' values, with C's escapes (\0, \a, \ooo ...). NULL when both are empty. Line ends
 * are no characters of the content. */
struct badchars *badchars_new(const char *reject, const char *strip);
void badchars_free(struct badchars **b);
/* The first byte that is to be refused, NULL = none. */
const char *badchars_find(const struct badchars *b, struct sv data);

enum badchars_at {                 /* in the content */
		   BADCHARS_BEGIN, /* a line begins */
		   BADCHARS_EMPTY, /* in a line of which nothing has been put out */
		   BADCHARS_MID,
};
bool badchars_strips(const struct badchars *b);
/* Content in wire form, however it is cut into pieces, without what is to be stripped, and still in
 * wire form. */
void badchars_strip(const struct badchars *b, struct sv data, enum badchars_at *at,
		    struct buf *out);

#endif
