/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Addresses as peers write them: SMTP paths (RFC 5321 4.1.2) and the address lists of header lines
 * (RFC 5322 3.4). Both yield the internal form of lib/mailaddr.h. Everything is linear in its
 * input, does not recurse, and takes any bytes.
 */
#ifndef PH_WORKERS_MAIL_ADDRESS_H
#define PH_WORKERS_MAIL_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/buf.h"
#include "lib/mailaddr.h"
#include "lib/str.h"

/* ---- SMTP paths ---- */

enum {
	MAIL_PATH_STRICT = 1,  /* strict_rfc821_envelopes: brackets are needed */
	MAIL_PATH_NUMERIC = 2, /* resolve_numeric_domain: user@192.0.2.1 */
};

/*
 * Parse what follows "MAIL FROM:" or "RCPT TO:": white space, "<path>", and the parameters.
 *   addr    gets the internal form ("" for <>), appended
 *   rest_r  the parameters, without white space before and behind
 * Source routes are dropped, the domain keeps its case, one final dot of it is dropped. A missing
 * domain is accepted (<postmaster>), but not with a quoted '@' in the local part. Unless
 * MAIL_PATH_STRICT is in `flags` the brackets may be missing. Control characters are refused even
 * inside quotes; non-ASCII must be UTF-8 (the caller decides, with str_is_ascii(), whether the
 * session may use it). E_SYNTAX, or E_LIMIT past MAIL_ADDR_MAX_BYTES.
 */
int mail_addr_parse_path(struct sv text, unsigned flags, struct buf *addr, struct sv *rest_r);

/* site!user -> user@site (swap_bangpath) and user%dom -> user@dom (allow_percent_hack), when there
 * is no '@' yet. Appends the result to out and returns true, or appends nothing. The site must be a
 * valid host name. */
bool mail_addr_crack(struct sv internal, bool bangpath, bool percent, struct buf *out);

/* ---- address lists in header values ---- */

struct mail_addrlist {
	struct sv text; /* a header's value; may be folded */
	size_t pos;
	bool in_group;
};

struct mail_addrlist_item {
	size_t begin, end; /* the addr-spec in text: inside the angle brackets if there are some */
	bool angle;        /* it stood in angle brackets */
	bool route;        /* with a source route, which is no part of the address */
	struct sv display; /* what stood before the '<', trimmed; empty without */
};

void mail_addrlist_init(struct mail_addrlist *l, struct sv value);
/* The next address; its internal form replaces the contents of `addr`. False at the end. What is no
 * address (empty elements, <>, words without '@' between, over-long ones) is skipped. */
bool mail_addrlist_next(struct mail_addrlist *l, struct mail_addrlist_item *item_r,
			struct buf *addr);

#endif
