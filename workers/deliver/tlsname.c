/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names of certificates; see workers/deliver/tlsname.h. */
#include "workers/deliver/tlsname.h"

#include <string.h>

#include "lib/mailaddr.h"
#include "lib/util.h"

#define CERT_NAMES_MAX 1000u /* of one certificate that are looked at */

static bool is_wildcard(struct sv name)
{
	return name.len > 2 && name.p[0] == '*' && name.p[1] == '.';
}

bool tls_name_is_fit(struct sv name)
{
	struct sv rest = name;

	if (is_wildcard(name)) {
		rest = (struct sv){ name.p + 2, name.len - 2 };
		/* "*.com" is no host's */
		if (memchr(rest.p, '.', rest.len) == NULL)
			return false;
	}
	return str_is_ascii(rest.p, rest.len) && mail_hostname_is_valid(rest);
}

static bool ends_in(struct sv name, struct sv tail)
{
	return name.len >= tail.len &&
	       sv_eq_nocase((struct sv){ name.p + name.len - tail.len, tail.len }, tail);
}

bool tls_name_matches(struct sv name, struct sv wanted, bool subdomains)
{
	struct sv tail;
	const char *dot;

	if (!tls_name_is_fit(name) || wanted.len == 0)
		return false;
	if (subdomains)
		return name.len > wanted.len + 1 && name.p[name.len - wanted.len - 1] == '.' &&
		       ends_in(name, wanted);
	if (sv_eq_nocase(name, wanted))
		return true;
	if (!is_wildcard(name))
		return false;
	tail = (struct sv){ name.p + 1, name.len - 1 };
	dot = memchr(wanted.p, '.', wanted.len);
	return dot != NULL && dot > wanted.p &&
	       sv_eq_nocase((struct sv){ dot, wanted.len - (size_t)(dot - wanted.p) }, tail);
}

bool tls_name_is_wanted(struct sv name, struct sv word, const struct tls_names *n)
{
	if (sv_eq_nocase(word, SV("nexthop")))
		return tls_name_matches(name, sv_from(n->nexthop), false);
	if (sv_eq_nocase(word, SV("dot-nexthop")))
		return tls_name_matches(name, sv_from(n->nexthop), true);
	if (sv_eq_nocase(word, SV("hostname")))
		return tls_name_matches(name, sv_from(n->hostname), false);
	if (word.len > 1 && word.p[0] == '.')
		return tls_name_matches(name, (struct sv){ word.p + 1, word.len - 1 }, true);
	return tls_name_matches(name, word, false);
}

static bool any_word(struct sv name, const struct sv *words, unsigned count,
		     const struct tls_names *n, struct buf *name_r)
{
	for (unsigned i = 0; i < count; i++) {
		if (!tls_name_is_wanted(name, words[i], n))
			continue;
		buf_reset(name_r);
		buf_add_sv(name_r, name);
		return true;
	}
	return false;
}

bool tls_cert_has_name(const struct x509 *x, const struct sv *words, unsigned count,
		       const struct tls_names *n, struct buf *name_r)
{
	struct buf common = BUF_INIT;
	struct sv name;
	size_t at = 0;
	bool found = false;
	unsigned seen = 0;

	while (!found && seen < CERT_NAMES_MAX && x509_next_dns(x, &at, &name)) {
		seen++;
		found = any_word(name, words, count, n, name_r);
	}
	/* the common name counts only where there is no other */
	if (seen == 0 && x509_common_name(x->subject, &common) == 0)
		found = any_word(buf_sv(&common), words, count, n, name_r);
	buf_fini(&common);
	return found;
}
