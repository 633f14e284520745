/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * %-expansion in queries and results, as Postfix's tables have it:
 *   %s  the key; in results, the result       %S  the key
 *   %u  its local part, all of it if no @     %U  of the key
 *   %d  its domain                            %D  of the key
 *   %1 ... %9  labels of the key's domain, %1 is the last one
 *   %%  a percent sign
 * A part that is not there suppresses the whole query or result.
 */
#ifndef PH_WORKERS_LOOKUP_TEMPLATE_H
#define PH_WORKERS_LOOKUP_TEMPLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/str.h"

struct result_format {
	char *format;  /* heap */
	int64_t limit; /* of results, 0 = none */
};

/* Appends text so that it means only itself where the template has it. False: impossible. */
typedef bool (*template_quote_fn)(void *ctx, struct sv text, struct buf *out);

/* NULL, or what is wrong. */
const char *template_check(const char *format);
/* Does it depend on the key at all? */
bool template_is_constant(const char *format);
/* `result` NULL: a query about `key`. `quote` NULL: as it is. Appends to out; false: there is
 * nothing to be asked, or to be answered, for this key. */
bool template_expand(const char *format, struct sv key, const struct sv *result,
		     template_quote_fn quote, void *ctx, struct buf *out);

#endif
