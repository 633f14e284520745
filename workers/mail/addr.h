/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Addresses in standard form, as Postfix's trivial-rewrite makes them: site!user swapped,
 * user%domain turned round, missing domains completed. Used by workers/rewrite for envelopes and
 * for the address headers of messages from local clients, by workers/deliver for generic(5) maps.
 */
#ifndef PH_WORKERS_MAIL_ADDR_H
#define PH_WORKERS_MAIL_ADDR_H

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
 * all else stays byte for byte, folding and comments included, but for source routes, which go.
 * What does not parse as a mailbox is left alone. Returns true when something changed; then `out`
 * has the new value appended, otherwise it is untouched.
 */
bool addr_rewrite_header(const struct addr_rules *r, struct sv value, addr_map_fn map, void *ctx,
			 struct buf *out);
/* Is this the name of a header that holds addresses? */
bool addr_is_header(struct sv name);

/* The first address of a table's value, in `one`; "@domain" is kept as it is. False when there is
 * none. *more_r: there are others behind it. */
bool addr_first_of(struct sv value, struct buf *one, bool *more_r);
/*
 * An address that a table gave for `addr`, as the message gets it: "@domain" keeps the local part,
 * `ext` (with its delimiter, may be empty) is carried over to the local part, what is missing is
 * completed. In the arena; E_LIMIT when it is full.
 */
int addr_of_table(const struct addr_rules *rules, struct sv raw, struct sv addr, struct sv ext,
		  struct arena *a, struct sv *out);

#endif
