/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Is a server's certificate what the security level wants? Called by conntls.c when the handshake
 * is done.
 */
#ifndef PH_WORKERS_DELIVER_TLSVERIFY_H
#define PH_WORKERS_DELIVER_TLSVERIFY_H

#include "workers/deliver/dane.h"
#include "workers/deliver/tlsname.h"
#include "workers/deliver/tlspolicy.h"

struct tls_demand {
	enum site_level level;
	const struct tls_trust *trust; /* NULL: no authorities */
	const struct sv *match;        /* names, or fingerprints */
	unsigned match_count;
	const char *digest; /* of fingerprints */
	const struct dane *dane;
	struct tls_names names;
	unsigned depth; /* smtp_tls_scert_verifydepth */
};

struct tls_verdict {
	bool present;      /* there is a certificate */
	bool trusted;      /* some authority vouches for it */
	bool matched;      /* it is what the level wants */
	unsigned flags;    /* TLS_CERT_*: why it is not trusted */
	size_t failed_idx; /* the certificate they are about */
};

/* `name_r` gets the name that matched, if it was a name. */
void tls_verify(const struct tls_demand *d, const struct sv *chain, size_t count,
		struct tls_verdict *v_r, struct buf *name_r);
/* "Verified", "Trusted", "Untrusted", "Anonymous". */
const char *tls_verdict_word(const struct tls_verdict *v, enum site_level level);

#endif
