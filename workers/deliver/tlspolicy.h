/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How mail for a next hop is to travel: the security level and what belongs to it, from
 * smtp_tls_security_level, smtp_tls_policy_maps and smtp_tls_per_site (or their lmtp_ names).
 * Called by main.c (tables are opened before the sandbox closes), connect.c (for each alternative
 * of a next hop, within a memo: tables may be remote) and conntls.c.
 */
#ifndef PH_WORKERS_DELIVER_TLSPOLICY_H
#define PH_WORKERS_DELIVER_TLSPOLICY_H

#include "conf/conf.h"
#include "conf/map.h"
#include "lib/arena.h"
#include "workers/deliver/tconf.h"

/* In Postfix's order: all above MAY need TLS, all above ENCRYPT a certificate that matches. */
enum site_level {
	SITE_INVALID = -2, /* the mail waits: see tls_site.why */
	SITE_NOT_FOUND = -1,
	SITE_NONE,
	SITE_MAY,
	SITE_ENCRYPT,
	SITE_FINGERPRINT,
	SITE_HALF_DANE, /* DANE by way of an MX record that is not signed; never configured */
	SITE_DANE,
	SITE_DANE_ONLY,
	SITE_VERIFY,
	SITE_SECURE,
};

#define SITE_MATCH_MAX 64u /* names or fingerprints of one entry */

/* One next hop's. Counted, because connections outlive the look-up. NULL strings: not said. */
struct tls_site {
	unsigned refs;
	enum site_level level;
	const char *source; /* the entry as it stands in the table; "" = none */
	uint8_t dsn[3];
	const char *why;        /* SITE_INVALID: the mail is deferred with this text */
	const char *protocols;  /* "protocols=" */
	const char *grade;      /* "ciphers=" */
	const char *exclude;    /* "exclude=": takes the place of the parameters' */
	const char *servername; /* "servername=" */
	bool no_reuse;          /* "connection_reuse=no" */
	bool sts;               /* a policy of MTA-STS: hosts must match the patterns */
	unsigned match_count, pattern_count;
	struct sv match[SITE_MATCH_MAX]; /* "match=" */
	struct sv patterns[SITE_MATCH_MAX];
	struct arena arena;
};

struct tls_policy {
	bool lmtp;
	const struct params *params;
	const char *param;         /* smtp_tls_policy_maps, for the log */
	struct map_list *maps;     /* NULL: none */
	struct map_list *per_site; /* smtp_tls_per_site; NULL: none */
	const char *per_site_param;
	enum site_level general; /* for what has no entry */
	bool wrapper;            /* smtp_tls_wrappermode */
	bool dnssec;             /* smtp_dns_support_level, and MX errors are not ignored */
	bool remote;             /* a look-up needs a memo that is filled by another process */
	bool used;               /* some mail may travel by TLS: at least there is a table */
};

/* The policy of a transport; NULL for one without a network. On errors adds to d and returns
 * them. */
int tls_policy_open(const struct conf *c, const struct conf_transport *ct, struct tls_policy **p_r,
		    struct conf_diag *d);
void tls_policy_close(struct tls_policy **p);

/* For one next hop as it is written: "example.com", "[host]:port", "host:port", "unix:/path". A
 * host name alone is looked up with its parents (".example.com", ".com"), all else only as it
 * stands. With remote tables call it within a memo; the result is void when answers are missing. */
struct tls_site *tls_policy_get(const struct tls_policy *p, struct sv nexthop);
struct tls_site *tls_site_ref(struct tls_site *s);
void tls_site_unref(struct tls_site **s); /* NULL is allowed */
/* Do both say the same? */
bool tls_site_eq(const struct tls_site *a, const struct tls_site *b);

/* The level for one server of that next hop: smtp_tls_per_site knows servers, too. `s` is what
 * tls_policy_get() gave for the next hop. SITE_INVALID is logged; its text in *why_r, its code in
 * dsn_r. */
enum site_level tls_policy_host_level(const struct tls_policy *p, const struct tls_site *s,
				      const char *host, uint8_t dsn_r[3], const char **why_r);
/* May mail of this next hop go to this server? Patterns of an MTA-STS policy say so. */
bool tls_site_has_mx(const struct tls_site *s, const char *host);

/* "encrypt"; "unknown" for what is no level. */
const char *site_level_name(enum site_level level);
/* SITE_INVALID for what is no name of a level. */
enum site_level site_level_parse(struct sv name);

#endif
