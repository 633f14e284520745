/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * DNS questions to the resolver worker (workers/resolver), asynchronous, over a link. Equal
 * questions in flight are asked once. Answers are parsed strictly here: names are checked, wrong
 * rdata is dropped. A small cache per process (answers and denials, by their TTL) saves the round
 * trip for hot names. Used by deliver (MX, A, AAAA) and smtp-in (PTR, A, AAAA).
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

enum {
	DNS_T_A = 1,
	DNS_T_NS = 2,
	DNS_T_CNAME = 5,
	DNS_T_PTR = 12,
	DNS_T_MX = 15,
	DNS_T_TXT = 16,
	DNS_T_AAAA = 28,
	DNS_T_SRV = 33,
	DNS_T_TLSA = 52
};

struct dns_rr {
	uint16_t type;
	uint16_t pref; /* MX */
	struct in_addr a;
	struct in6_addr aaaa;
	uint16_t data_len; /* TXT, SRV, TLSA: the rdata, checked for its type's shape */
	const unsigned char *data;
	char name[DNS_NAME_SIZE]; /* MX, NS host, PTR target; lower case, no final dot; "" = root */
};

#define DNS_RR_MAX 100 /* per answer */
#define DNS_PENDING_MAX                                                                            \
	4096                /* questions under way per process; further ones are DNS_TEMP at once */
#define DNS_CACHE_MAX 10000 /* names kept */

struct dns_answer {
	enum dns_status status;
	bool secure;
	uint32_t ttl_s;
	size_t count;
	struct dns_rr *rrs; /* valid during the callback */
};

typedef void (*dns_fn)(void *ctx, const struct dns_answer *a);

struct dns_client;
struct dns_query;
struct counters_shm;

struct dns_client *dns_client_new(int64_t timeout_ms, struct counters_shm *counters);
void dns_client_free(struct dns_client **c);
/* A (new) resolver life: pending questions are asked again on the new link. NULL = none now. */
void dns_client_set_link(struct dns_client *c, struct link *l);
/* Ask. The callback runs before this returns when the answer is known (cached, not a domain name,
 * too many questions under way); the result is then NULL. Else it is a handle for dns_cancel(). */
struct dns_query *dns_ask(struct dns_client *c, struct sv name, uint16_t rrtype, dns_fn fn,
			  void *ctx);
void dns_cancel(struct dns_query *q);
/* Records from the resolver: call for each one of kind PROTO_DNS_ANSWER. */
void dns_client_input(struct dns_client *c, const void *rec, size_t len);
/* Time out old questions (as DNS_TEMP); call about once a second. */
void dns_client_tick(struct dns_client *c);

/* Labels of letters, digits, '-', '_' and '/', 1..63 bytes each, 253 in all; one final dot is taken
 * off. Writes the lower-case form. False when it is not such a name. */
bool dns_name_clean(struct sv name, char out[DNS_NAME_SIZE]);

/* One PROTO_DNS_ANSWER record, checked (its header and every rdata); rrs has room for DNS_RR_MAX.
 * Bad rdata is left out; an OK answer that loses all of it becomes DNS_TEMP. E_PEER when the record
 * is not well-formed. Views in the result point into rec. */
int dns_answer_parse(const void *rec, size_t len, struct proto_dns_answer *hdr_r,
		     struct dns_rr *rrs, struct dns_answer *a_r);

/* "4.3.2.1.in-addr.arpa" for an address. */
void dns_reverse_name(const struct sockaddr *sa, char out[DNS_NAME_SIZE]);

#endif
