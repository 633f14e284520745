/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The From header that is made for local mail without one (header_from_format). */
#ifndef PH_WORKERS_REWRITE_FROMNAME_H
#define PH_WORKERS_REWRITE_FROMNAME_H

#include <stdbool.h>

#include "lib/buf.h"
#include "lib/str.h"

/* Append "Full Name <user@example.com>", or with `obsolete` "user@example.com (Full Name)". The
 * name is quoted where RFC 5322 wants it; one that is not ASCII becomes encoded words (RFC 2047) of
 * `charset`. `addr` is in internal form; an empty name gives the address alone. */
void from_value_add(struct sv name, struct sv addr, bool obsolete, const char *charset,
		    struct buf *out);

#endif
