/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * DNS reply filters (smtp_dns_reply_filter, lmtp_dns_reply_filter, smtpd_dns_reply_filter): each
 * record of an answer is looked up in tables as a line "NAME. TTL IN TYPE DATA"; IGNORE takes it
 * out. Used by deliver (routes) and smtp-in (restrictions).
 */
#ifndef PH_WORKERS_DNS_FILTER_H
#define PH_WORKERS_DNS_FILTER_H

#include "conf/map.h"
#include "workers/dns/dns.h"

struct dns_filtered {
	struct dns_answer answer; /* what is left; DNS_TEMP with `why` */
	const char *why;          /* NULL, or why nothing is left, in Postfix's words */
	bool by_policy;           /* ... namely because the filter took it all */
	struct dns_rr rrs[DNS_RR_MAX];
};

/* NULL: there is nothing to filter. The caller frees the result; views in it are the answer's. */
struct dns_filtered *dns_filter(struct map_list *maps, const char *name, uint16_t rrtype,
				const struct dns_answer *a);
/* The line for a record; false when its type is not one that is filtered. */
bool dns_rr_text(const char *name, uint32_t ttl_s, const struct dns_rr *rr, struct buf *out);

#endif
