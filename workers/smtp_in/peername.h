/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A client's host name: PTR, then the name's addresses must contain the client's. The DNS client
 * caches by TTL. One lookup never takes longer than PEERNAME_LIMIT_MS; then the name is unknown for
 * the moment.
 */
#ifndef PH_WORKERS_SMTP_IN_PEERNAME_H
#define PH_WORKERS_SMTP_IN_PEERNAME_H

#include <sys/socket.h>

#include "policy/policy.h"
#include "workers/dns/dns.h"

#define PEERNAME_LIMIT_MS 5000

struct peername {
	const char *name;    /* verified, or NULL */
	const char *reverse; /* as the PTR record says, or NULL */
	enum policy_name_status name_status, reverse_status;
};

typedef void (*peername_fn)(void *ctx, const struct peername *result);

struct peername_query;

/* The callback may run before this returns; the result is then NULL. dns NULL: nobody to ask. */
struct peername_query *peername_ask(struct dns_client *dns, const struct sockaddr *sa,
				    peername_fn fn, void *ctx);
void peername_cancel(struct peername_query **q);
/* The time is up: answer now. */
void peername_give_up(struct peername_query *q);

#endif
