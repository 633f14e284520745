/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The right side of an alias, a .forward file, an :include: file: a list of addresses, files and
 * commands. Pure; called by local_expand.c.
 */
#ifndef PH_WORKERS_LOCAL_ALIAS_H
#define PH_WORKERS_LOCAL_ALIAS_H

#include <stdbool.h>

#include "lib/buf.h"
#include "lib/str.h"

enum alias_kind {
	ALIAS_ADDRESS, /* internal form; "\\name" keeps its backslash */
	ALIAS_FILE,    /* an absolute path */
	ALIAS_COMMAND, /* what is behind the '|' */
	ALIAS_INCLUDE, /* a path */
};

/* The next element of *rest, separated by commas and line ends; its text replaces `out`. Lines that
 * begin with '#' are comments, text in parentheses too. False at the end. */
bool alias_next(struct sv *rest, enum alias_kind *kind_r, struct buf *out);

/* Can mail be addressed to it? What users write ends up in envelopes and headers. */
bool alias_address_ok(struct sv addr);

#endif
