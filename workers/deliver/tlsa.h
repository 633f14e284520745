/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Looks up a server's TLSA records (RFC 7672 2.2). Aliases: records are those of the name that a
 * chain of signed aliases ends at, else those of the name as it was. Called by route.c.
 */
#ifndef PH_WORKERS_DELIVER_TLSA_H
#define PH_WORKERS_DELIVER_TLSA_H

#include "workers/deliver/dane.h"
#include "workers/dns/dns.h"

struct tlsa_lookup;
/* The reference goes to the callee. ttl_s: how long it holds. */
typedef void (*tlsa_fn)(void *ctx, struct dane *d, uint32_t ttl_s);

struct tlsa_question {
	const char *host;
	uint16_t port;
	bool secure;         /* the host's addresses are genuine, as DNSSEC says */
	bool force;          /* ask even if they are not */
	const char *digests; /* tls_dane_digests */
};

/* Starts. The callback may run before this returns; the result is NULL then. */
struct tlsa_lookup *tlsa_look_up(struct dns_client *dns, const struct tlsa_question *question,
				 tlsa_fn fn, void *ctx);
void tlsa_cancel(struct tlsa_lookup **l); /* NULL is allowed */

#endif
