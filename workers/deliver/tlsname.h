/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Names in certificates of servers against the names that they must have (RFC 6125): the DNS names
 * of subjectAltName, or the common name where there is none. What stands in a certificate is
 * anything: NULs, empty labels, wildcards in odd places are no names. Pure functions, called by
 * tlsverify.c.
 */
#ifndef PH_WORKERS_DELIVER_TLSNAME_H
#define PH_WORKERS_DELIVER_TLSNAME_H

#include <stdbool.h>

#include "lib/buf.h"
#include "lib/str.h"
#include "workers/tls/tls.h"

/* What "nexthop", "dot-nexthop" and "hostname" stand for, as A-label names. */
struct tls_names {
	const char *nexthop;
	const char *hostname;
};

/* Is it a host name, or one behind "*."? */
bool tls_name_is_fit(struct sv cert_name);
/* Does a name of a certificate stand for this name (or, with `subdomains`, for one below it)? A
 * star is one label. */
bool tls_name_matches(struct sv cert_name, struct sv wanted, bool subdomains);
/* One word of a match list ("hostname", "nexthop", "dot-nexthop", "name", ".name"). */
bool tls_name_is_wanted(struct sv cert_name, struct sv word, const struct tls_names *n);
/* The first name of a certificate that a word of the list accepts, into *name_r (printable).
 * False: none. */
bool tls_cert_has_name(const struct x509 *x, const struct sv *words, unsigned count,
		       const struct tls_names *n, struct buf *name_r);

#endif
