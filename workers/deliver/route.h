/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From one alternative of a next hop to the addresses to try, in order of preference: MX or SRV
 * records, their A and AAAA records, loop detection, limits (RFC 5321 5.1, RFC 7505, RFC 2782). The
 * lookups run in parallel; the result is shared by all jobs of the destination until it expires.
 */
#ifndef PH_WORKERS_DELIVER_ROUTE_H
#define PH_WORKERS_DELIVER_ROUTE_H

#include "workers/deliver/dane.h"
#include "workers/deliver/nexthop.h"
#include "workers/deliver/tconf.h"
#include "workers/dns/dns.h"

#define ROUTE_HOST_MAX 20 /* MX hosts looked at, best ones first */
#define ROUTE_ADDR_MAX 64

enum route_status { ROUTE_OK, ROUTE_TEMP, ROUTE_PERM };

struct route_addr {
	union net_addr addr;
	uint16_t pref;
	uint8_t host; /* index of the name */
};

struct route { /* counted: jobs keep the one they work along */
	unsigned refs;
	enum route_status status;
	uint8_t dsn[3];
	char text[400];     /* why, when not OK */
	int64_t expires_ms; /* clock_now() */
	unsigned count;     /* sorted by pref */
	struct route_addr addrs[ROUTE_ADDR_MAX];
	unsigned host_count;
	char hosts[ROUTE_HOST_MAX][DNS_NAME_SIZE];
	uint16_t prefs[ROUTE_HOST_MAX];
	bool has_dane;                     /* nexthop_alt.dane: TLSA records were looked up */
	struct dane *dane[ROUTE_HOST_MAX]; /* of each host; NULL: it has no address */
	uint16_t ports[ROUTE_HOST_MAX];
	uint16_t weights[ROUTE_HOST_MAX];
	bool by_srv; /* equal preferences go by weight */
	bool loops;  /* not OK because the best host is this one */
};

struct route_env {
	struct dns_client *dns;
	const struct own_addrs *own;
};

struct route_lookup;
/* The route's reference goes to the callee. */
typedef void (*route_fn)(void *ctx, struct route *r);

/* Starts the lookups. The callback may run before this returns; the result is NULL then. */
struct route_lookup *route_lookup(const struct route_env *env, const struct tconf *t,
				  const struct nexthop_alt *alt, route_fn fn, void *ctx);
void route_lookup_cancel(struct route_lookup **l);

struct route *route_ref(struct route *r);
void route_unref(struct route **r);

/* The order in which one connection attempt goes through the addresses: equal preferences are
 * shuffled (smtp_randomize_addresses), or drawn by the weights of SRV records, families follow
 * smtp_address_preference, and smtp_mx_address_limit holds. Returns how many. */
unsigned route_order(const struct route *r, const struct tconf *t, uint8_t order[ROUTE_ADDR_MAX]);

#endif
