/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Certificates of servers; see workers/deliver/tlsverify.h. */
#include "workers/deliver/tlsverify.h"

#include "lib/util.h"

/* "AB:cd" and "abcd" are the same fingerprint. */
static bool same_fingerprint(struct sv a, struct sv b)
{
	size_t i = 0, k = 0;

	for (;;) {
		while (i < a.len && a.p[i] == ':')
			i++;
		while (k < b.len && b.p[k] == ':')
			k++;
		if (i == a.len || k == b.len)
			return i == a.len && k == b.len && a.len > 0;
		if (ascii_lower(a.p[i++]) != ascii_lower(b.p[k++]))
			return false;
	}
}

static bool has_fingerprint(const struct tls_demand *d, struct sv data)
{
	struct buf text = BUF_INIT;
	bool found = false;

	if (tls_fingerprint(d->digest, data, &text) == 0) {
		for (unsigned i = 0; i < d->match_count && !found; i++)
			found = same_fingerprint(d->match[i], buf_sv(&text));
	}
	buf_fini(&text);
	return found;
}

/* The certificate's, or its public key's. */
static bool fingerprint_matches(const struct tls_demand *d, struct sv cert)
{
	struct x509 x;

	return has_fingerprint(d, cert) ||
	       (x509_parse(cert, &x) == 0 && has_fingerprint(d, x.spki));
}

static bool name_matches(const struct tls_demand *d, struct sv cert, struct buf *name_r)
{
	struct x509 x;

	return x509_parse(cert, &x) == 0 &&
	       tls_cert_has_name(&x, d->match, d->match_count, &d->names, name_r);
}

static void by_authority(const struct tls_demand *d, const struct tls_trust *trust,
			 const struct sv *chain, size_t count, struct tls_verdict *v)
{
	v->flags = tls_judge(trust, chain, count, d->depth, TLS_FOR_SERVER, &v->failed_idx);
	v->trusted = v->flags == 0;
}

static void by_dane(const struct tls_demand *d, const struct sv *chain, size_t count,
		    struct tls_verdict *v, struct buf *name_r)
{
	struct tls_trust *trust = NULL;
	int anchor;

	if (dane_is_server(d->dane, chain[0])) {
		v->trusted = v->matched = true;
		return;
	}
	anchor = dane_anchor(d->dane, chain, count);
	v->flags = TLS_CERT_UNTRUSTED;
	if (anchor < 0)
		return;
	if (tls_trust_add(&trust, chain[anchor]) == 0)
		by_authority(d, trust, chain, count, v);
	tls_trust_free(&trust);
	v->matched = v->trusted && name_matches(d, chain[0], name_r);
}

void tls_verify(const struct tls_demand *d, const struct sv *chain, size_t count,
		struct tls_verdict *v, struct buf *name_r)
{
	*v = (struct tls_verdict){ .present = count > 0 };
	if (count == 0)
		return;
	switch (d->level) {
	case SITE_FINGERPRINT:
		v->trusted = v->matched = fingerprint_matches(d, chain[0]);
		v->flags = v->matched ? 0 : TLS_CERT_UNTRUSTED;
		break;
	case SITE_HALF_DANE:
	case SITE_DANE:
	case SITE_DANE_ONLY:
		if (d->dane != NULL)
			by_dane(d, chain, count, v, name_r);
		break;
	case SITE_VERIFY:
	case SITE_SECURE:
		by_authority(d, d->trust, chain, count, v);
		v->matched = v->trusted && name_matches(d, chain[0], name_r);
		break;
	default:
		by_authority(d, d->trust, chain, count, v);
		break;
	}
}

const char *tls_verdict_word(const struct tls_verdict *v, enum site_level level)
{
	if (!v->present)
		return "Anonymous";
	if (v->matched && level != SITE_HALF_DANE)
		return "Verified";
	return v->trusted ? "Trusted" : "Untrusted";
}
