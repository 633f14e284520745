/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Next hop text, as relayhost and transport_maps give it, to a list of alternatives (Postfix 3.5:
 * "a, b"): host, host:port, [host], [host]:port, [1.2.3.4]:port, [ipv6:::1], unix:/path,
 * inet:host:port. Brackets mean: no MX lookup. Pure functions.
 */
#ifndef PH_WORKERS_DELIVER_NEXTHOP_H
#define PH_WORKERS_DELIVER_NEXTHOP_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/str.h"

#define NEXTHOP_ALT_MAX   8
#define NEXTHOP_HOST_SIZE 256

enum nexthop_kind { NEXTHOP_HOST, NEXTHOP_UNIX };

struct nexthop_alt {
	enum nexthop_kind kind;
	bool mx;      /* ask for MX records first */
	bool literal; /* host is a numerical address */
	bool dane;    /* set by connect.c: TLSA records are wanted, too */
	bool bracket; /* it was in brackets: neither MX nor SRV records */
	uint16_t port;
	char service[64];             /* the port as written; "" = the transport's */
	struct sv text;               /* as written: a view into what was parsed */
	char host[NEXTHOP_HOST_SIZE]; /* without brackets and "ipv6:"; or the socket's path */
};

struct nexthop {
	unsigned count;
	struct nexthop_alt alts[NEXTHOP_ALT_MAX];
};

/* Append the alternatives of text. mx: the transport looks for MX records (SMTP, not LMTP).
 * E_SYNTAX when one is malformed, E_LIMIT when there are too many. */
int nexthop_parse(struct sv text, bool mx, uint16_t default_port, struct nexthop *n);

#endif
