/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLSA records against certificates; see workers/deliver/dane.h. */
#include "workers/deliver/dane.h"

#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/util.h"

enum { USAGE_TA = 2, USAGE_EE = 3 };
enum { SELECT_CERT = 0, SELECT_KEY = 1 };
enum { MATCH_ALL = 0, MATCH_SHA256 = 1, MATCH_SHA512 = 2 };

static const struct digest {
	const char *name;
	size_t len;
} digests_of[] = {
	[MATCH_ALL] = { NULL, 0 },
	[MATCH_SHA256] = { "sha256", 32 },
	[MATCH_SHA512] = { "sha512", 64 },
};

struct dane *dane_new(enum dane_status status, const char *base)
{
	struct dane *d = xcalloc(1, sizeof(*d));

	d->refs = 1;
	d->status = status;
	str_copy(d->base, sizeof(d->base), sv_from(base));
	return d;
}

struct dane *dane_ref(struct dane *d)
{
	d->refs++;
	return d;
}

void dane_unref(struct dane **dp)
{
	struct dane *d = *dp;

	*dp = NULL;
	if (d == NULL || --d->refs > 0)
		return;
	for (unsigned i = 0; i < d->count; i++)
		free(d->records[i].data);
	free(d);
}

/* ---- reading ---- */

/* The place of a digest in the list of words; -1: it is not there. */
static int rank(const char *words, const char *name)
{
	struct sv rest = sv_from(words);
	int place = 0;

	while (rest.len > 0) {
		size_t n = 0;

		while (n < rest.len && !ascii_is_space(rest.p[n]) && rest.p[n] != ',')
			n++;
		if (n > 0 && sv_eq_nocase((struct sv){ rest.p, n }, sv_from(name)))
			return place;
		place += n > 0;
		n += n < rest.len;
		rest = (struct sv){ rest.p + n, rest.len - n };
	}
	return -1;
}

/* Can the record be used at all? RFC 7672 3.1.3: usages 0 and 1 cannot. */
static bool is_usable(const struct dns_rr *rr, const char *words)
{
	unsigned usage, selector, matching;

	if (rr->data_len < 4 || rr->data_len - 3u > DANE_DATA_MAX)
		return false;
	usage = rr->data[0];
	selector = rr->data[1];
	matching = rr->data[2];
	if ((usage != USAGE_TA && usage != USAGE_EE) || selector > SELECT_KEY ||
	    matching >= ARRAY_LEN(digests_of))
		return false;
	if (matching != MATCH_ALL)
		return rr->data_len - 3u == digests_of[matching].len &&
		       rank(words, digests_of[matching].name) >= 0;
	return true;
}

/* Is there a better digest of the same kind of thing? Then the other ones do not count, or an
 * attacker who breaks a weak digest would win (RFC 7671, 9). */
static bool is_outdone(const struct dns_answer *a, const struct dns_rr *rr, const char *words)
{
	if (rr->data[2] == MATCH_ALL)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		const struct dns_rr *o = &a->rrs[i];

		if (is_usable(o, words) && o->data[0] == rr->data[0] && o->data[1] == rr->data[1] &&
		    o->data[2] != MATCH_ALL &&
		    rank(words, digests_of[o->data[2]].name) <
			    rank(words, digests_of[rr->data[2]].name))
			return true;
	}
	return false;
}

void dane_read(struct dane *d, const struct dns_answer *a, const char *words)
{
	for (size_t i = 0; i < a->count && d->count < DANE_RECORD_MAX; i++) {
		const struct dns_rr *rr = &a->rrs[i];
		struct tlsa *t = &d->records[d->count];

		if (!is_usable(rr, words) || is_outdone(a, rr, words))
			continue;
		*t = (struct tlsa){ rr->data[0], rr->data[1], rr->data[2],
				    (uint16_t)(rr->data_len - 3u), NULL };
		t->data = xmalloc(t->len);
		memcpy(t->data, rr->data + 3, t->len);
		d->count++;
	}
	d->status = d->count > 0 ? DANE_USABLE : DANE_UNUSABLE;
}

/* ---- matching ---- */

static bool matches(const struct tlsa *t, struct sv cert)
{
	struct buf digest = BUF_INIT;
	struct sv what = cert;
	struct x509 x;
	bool same;

	if (t->selector == SELECT_KEY) {
		if (x509_parse(cert, &x) != 0)
			return false;
		what = x.spki;
	}
	if (t->matching == MATCH_ALL)
		return sv_eq(what, (struct sv){ (const char *)t->data, t->len });
	same = tls_digest(digests_of[t->matching].name, what, &digest) == 0 &&
	       sv_eq(buf_sv(&digest), (struct sv){ (const char *)t->data, t->len });
	buf_fini(&digest);
	return same;
}

static bool any_matches(const struct dane *d, unsigned usage, struct sv cert)
{
	for (unsigned i = 0; i < d->count; i++) {
		if (d->records[i].usage == usage && matches(&d->records[i], cert))
			return true;
	}
	return false;
}

bool dane_is_server(const struct dane *d, struct sv cert)
{
	return any_matches(d, USAGE_EE, cert);
}

int dane_anchor(const struct dane *d, const struct sv *chain, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (any_matches(d, USAGE_TA, chain[i]))
			return (int)i;
	}
	return -1;
}
