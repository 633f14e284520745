/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Addresses in standard form, as Postfix's trivial-rewrite makes them: site!user swapped,
 * user%domain turned round, missing domains completed. Used for envelopes and for the address
 * headers of messages from local clients.
 */
#ifndef PH_WORKERS_REWRITE_ADDR_H
#define PH_WORKERS_REWRITE_ADDR_H

#include <stdbool.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/str.h"

struct addr_rules {
	struct sv myorigin; /* appended to addresses without a domain */
	struct sv mydomain; /* appended, with a dot, to domains without a dot */
	bool append_at_myorigin;
	bool append_dot_mydomain;
	bool swap_bangpath;
	bool allow_percent_hack;
};

/*
 * Standard form of an address in internal form (lib/mailaddr.h). `routes` also allows site!user and
 * user%domain: never for recipients a client gave, because access control looked at the address as
 * it stood, and turning a local name into a remote address afterwards would be a relay. The result
 * is a view into `addr` when nothing changes, otherwise in the arena. E_LIMIT when the arena is
 * full. The empty address stays empty.
 */
int addr_complete(const struct addr_rules *r, struct sv addr, bool routes, struct arena *a,
		  struct sv *out);

/* A further step for each completed address of a header; the result lives until the next call. */
typedef struct sv (*addr_map_fn)(void *ctx, struct sv addr);

/*
 * Complete the addresses in the value of an address header, and give them to `map` (NULL = none);
 * all else stays byte for byte, folding and comments included. What does not parse as a mailbox is
 * left alone. Returns true when something changed; then `out` has the new value appended, otherwise
 * it is untouched.
 */
bool addr_rewrite_header(const struct addr_rules *r, struct sv value, addr_map_fn map, void *ctx,
			 struct buf *out);

#endif
