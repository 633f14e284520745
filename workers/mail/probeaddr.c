/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Senders of address probes; see workers/mail/probeaddr.h. Called by verify and smtp-in. */
#include "workers/mail/probeaddr.h"

#include <string.h>

/* Without vowels, so that no words come about; Postfix's alphabet, for systems that share a name.
 */
static const char digits[] = "0123456789BCDFGHJKLMNPQRSTVWXYZ";
#define BASE       31
#define DIGITS_MAX 13

static bool is_null(const struct probe_addr *a)
{
	return a->sender[0] == '\0' || strcmp(a->sender, "<>") == 0;
}

/* The parts of the sender: local part, domain. */
static void split(const struct probe_addr *a, struct sv *local_r, struct sv *domain_r)
{
	const char *at = strrchr(a->sender, '@');

	*local_r =
		(struct sv){ a->sender, at != NULL ? (size_t)(at - a->sender) : strlen(a->sender) };
	*domain_r = sv_from(at != NULL && at[1] != '\0' ? at + 1 : a->myorigin);
}

static void add_time(uint64_t n, struct buf *out)
{
	char text[DIGITS_MAX + 1];
	size_t at = sizeof(text);

	do {
		text[--at] = digits[n % BASE];
		n /= BASE;
	} while (n > 0 && at > 0);
	buf_add(out, text + at, sizeof(text) - at);
}

static bool parse_time(struct sv s, uint64_t *n_r)
{
	uint64_t n = 0;

	if (s.len == 0 || s.len > DIGITS_MAX - 1)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		const char *d = s.p[i] != '\0' ? strchr(digits, s.p[i]) : NULL;

		if (d == NULL)
			return false;
		n = n * BASE + (uint64_t)(d - digits);
	}
	*n_r = n;
	return true;
}

void probe_addr_make(const struct probe_addr *a, int64_t now_s, struct buf *out)
{
	struct sv local, domain;

	if (is_null(a))
		return;
	split(a, &local, &domain);
	buf_add_sv(out, local);
	if (a->ttl_s > 0)
		add_time((uint64_t)(now_s / a->ttl_s), out);
	buf_add_c(out, '@');
	buf_add_sv(out, domain);
}

bool probe_addr_match(const struct probe_addr *a, struct sv addr, int64_t now_s, struct buf *out)
{
	struct sv local, domain;
	const char *at = addr.len > 0 ? memrchr(addr.p, '@', addr.len) : NULL;
	uint64_t then, now;

	if (is_null(a) || at == NULL)
		return false;
	split(a, &local, &domain);
	struct sv their_local = { addr.p, (size_t)(at - addr.p) };
	struct sv their_domain = { at + 1, addr.len - their_local.len - 1 };

	if (local.len == 0 || their_local.len < local.len || !sv_eq_nocase(their_domain, domain) ||
	    !sv_eq_nocase((struct sv){ their_local.p, local.len }, local))
		return false;
	struct sv rest = { their_local.p + local.len, their_local.len - local.len };

	if (a->ttl_s == 0 && rest.len > 0)
		return false;
	if (a->ttl_s > 0) {
		now = (uint64_t)(now_s / a->ttl_s);
		if (!parse_time(rest, &then) || then + 1 < now || then > now + 1)
			return false;
	}
	buf_add_sv(out, local);
	buf_add_c(out, '@');
	buf_add_sv(out, domain);
	return true;
}
