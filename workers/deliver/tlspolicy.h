/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * May mail for a next hop travel in the clear? Answers from smtp_tls_security_level and
 * smtp_tls_policy_maps (or their lmtp_ names). Called by main.c (tables are opened before the
 * sandbox closes) and dest.c (once per destination).
 */
#ifndef PH_WORKERS_DELIVER_TLSPOLICY_H
#define PH_WORKERS_DELIVER_TLSPOLICY_H

#include "conf/conf.h"
#include "conf/map.h"
#include "workers/deliver/tconf.h"

struct tls_policy {
	const char *param;     /* smtp_tls_policy_maps, for the log */
	struct map_list *maps; /* NULL: none */
	enum tls_need general; /* for what has no entry */
	bool dnssec;           /* DANE levels can become mandatory */
};

/* The policy of a transport. On errors adds to d and returns them. */
int tls_policy_open(const struct conf *c, const struct conf_transport *ct, struct tls_policy **p_r,
		    struct conf_diag *d);
void tls_policy_close(struct tls_policy **p);
/* For one next hop as it is written: "example.com", "[host]:port", "host:port", "unix:/path". A
 * host name alone is looked up with its parents (".example.com", ".com"), all else only as it
 * stands. */
enum tls_need tls_policy_get(const struct tls_policy *p, struct sv nexthop);

#endif
