/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * DNS questions to the resolver worker (workers/resolver), asynchronous, over a link. Equal questions
 * in flight are asked once. Answers are parsed strictly here: names are checked, wrong rdata is
 * dropped. Used by deliver (MX, A, AAAA) and smtp-in (PTR, A, AAAA).
 */
#ifndef PH_WORKERS_DNS_DNS_H
#define PH_WORKERS_DNS_DNS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/str.h"
#include "shm/link.h"
#include "shm/proto.h"

#define DNS_NAME_SIZE 256 /* text form with terminator */

enum { DNS_T_A = 1, DNS_T_CNAME = 5, DNS_T_PTR = 12, DNS_T_MX = 15, DNS_T_TXT = 16, DNS_T_AAAA = 28,
       DNS_T_SRV = 33, DNS_T_TLSA = 52 };

struct dns_rr {
	uint16_t type;
	uint16_t pref;                /* MX */
	struct in_addr a;
	struct in6_addr aaaa;
	char name[DNS_NAME_SIZE];     /* MX host, PTR target; lower case, no final dot; "" = root */
};

struct dns_answer {
	enum dns_status status;
	bool secure;
	uint32_t ttl_s;
	size_t count;
	struct dns_rr *rrs;           /* valid during the callback */
};

typedef void (*dns_fn)(void *ctx, const struct dns_answer *a);

struct dns_client;
struct dns_query;
struct counters_shm;

struct dns_client *dns_client_new(int64_t timeout_ms, struct counters_shm *counters);
void dns_client_free(struct dns_client **c);
/* A (new) resolver life: pending questions are asked again on the new link. NULL = none now. */
void dns_client_set_link(struct dns_client *c, struct link *l);
/* Ask. The callback may run before this returns only when the name is not a domain name. Returns a
 * handle for dns_cancel(), NULL when the answer was given already. */
struct dns_query *dns_ask(struct dns_client *c, struct sv name, uint16_t rrtype, dns_fn fn, void *ctx);
void dns_cancel(struct dns_query *q);
/* Records from the resolver: call for each one of kind PROTO_DNS_ANSWER. */
void dns_client_input(struct dns_client *c, const void *rec, size_t len);
/* Time out old questions (as DNS_TEMP); call about once a second. */
void dns_client_tick(struct dns_client *c);

/* "4.3.2.1.in-addr.arpa" for an address. */
void dns_reverse_name(const struct sockaddr *sa, char out[DNS_NAME_SIZE]);

#endif
