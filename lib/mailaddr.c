/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Address and host name helpers; see lib/mailaddr.h. */
#include "lib/mailaddr.h"

#include <arpa/inet.h>
#include <string.h>

#include "lib/err.h"

#define LABEL_MAX_BYTES 63u

bool mail_addr_split(struct sv addr, struct sv *local_r, struct sv *domain_r)
{
	const char *at = addr.len == 0 ? NULL : memrchr(addr.p, '@', addr.len);

	if (at == NULL) {
		*local_r = addr;
		*domain_r = SV("");
		return false;
	}
	*local_r = (struct sv){ addr.p, (size_t)(at - addr.p) };
	*domain_r = (struct sv){ at + 1, addr.len - local_r->len - 1 };
	return true;
}

static bool ends_with_nocase(struct sv s, struct sv tail)
{
	return s.len >= tail.len &&
	       sv_eq_nocase((struct sv){ s.p + s.len - tail.len, tail.len }, tail);
}

static bool is_list_address(struct sv local)
{
	struct sv owner = SV("owner-");

	return (local.len > owner.len && sv_eq_nocase((struct sv){ local.p, owner.len }, owner)) ||
	       ends_with_nocase(local, SV("-request"));
}

bool mail_addr_split_ext(struct sv local, const char *delimiters, struct sv *base_r,
			 struct sv *ext_r)
{
	*base_r = local;
	*ext_r = SV("");
	if (delimiters[0] == '\0' || sv_eq_nocase(local, SV("mailer-daemon")) ||
	    sv_eq_nocase(local, SV("double-bounce")))
		return false;
	if (strchr(delimiters, '-') != NULL && is_list_address(local))
		return false;
	for (size_t i = 0; i < local.len; i++) {
		if (local.p[i] == '\0' || strchr(delimiters, local.p[i]) == NULL)
			continue;
		if (i == 0)
			return false;
		*base_r = (struct sv){ local.p, i };
		*ext_r = (struct sv){ local.p + i + 1, local.len - i - 1 };
		return true;
	}
	return false;
}

void mail_addr_lower_domain(char *addr, size_t len)
{
	struct sv local, domain;

	if (mail_addr_split((struct sv){ addr, len }, &local, &domain))
		str_lower(addr + local.len + 1, domain.len);
}

/* RFC 5321 atext, and bytes of UTF-8 (RFC 6531). */
static bool is_atext(char c)
{
	return ascii_is_alnum(c) || (unsigned char)c >= 0x80 ||
	       (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

static bool is_dot_string(struct sv s)
{
	bool after_dot = true;

	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '.' ? after_dot : !is_atext(s.p[i]))
			return false;
		after_dot = s.p[i] == '.';
	}
	return !after_dot;
}

bool mail_addr_quote(struct sv internal, struct buf *out)
{
	struct sv local, domain;
	bool has_domain = mail_addr_split(internal, &local, &domain);
	bool good = true;

	if (internal.len == 0)
		return true;
	if (is_dot_string(local)) {
		good = buf_add_sv(out, local);
	} else {
		good = buf_add_c(out, '"');
		for (size_t i = 0; i < local.len; i++) {
			if (local.p[i] == '"' || local.p[i] == '\\')
				good = good && buf_add_c(out, '\\');
			good = good && buf_add_c(out, local.p[i]);
		}
		good = good && buf_add_c(out, '"');
	}
	return good && (!has_domain || (buf_add_c(out, '@') && buf_add_sv(out, domain)));
}

int mail_addr_unquote(struct sv external, struct buf *out)
{
	bool quoted = false;

	for (size_t i = 0; i < external.len; i++) {
		char c = external.p[i];

		if (c == '"') {
			quoted = !quoted;
			continue;
		}
		if (c == '\\') {
			if (++i == external.len)
				return E_SYNTAX;
			c = external.p[i];
		}
		if (!buf_add_c(out, c))
			return E_LIMIT;
	}
	return quoted ? E_SYNTAX : 0;
}

static bool label_is_valid(struct sv label, bool *numeric)
{
	if (label.len == 0 || label.len > LABEL_MAX_BYTES || label.p[0] == '-' ||
	    label.p[label.len - 1] == '-')
		return false;
	for (size_t i = 0; i < label.len; i++) {
		char c = label.p[i];

		if (!ascii_is_digit(c))
			*numeric = false;
		if (!ascii_is_alnum(c) && c != '-' && c != '_' && (unsigned char)c < 0x80)
			return false;
	}
	return true;
}

bool mail_hostname_is_valid(struct sv name)
{
	bool numeric = true;

	if (name.len == 0 || name.len > MAIL_HOSTNAME_MAX_BYTES || !str_is_utf8(name.p, name.len))
		return false;
	for (;;) {
		const char *dot = memchr(name.p, '.', name.len);
		size_t len = dot == NULL ? name.len : (size_t)(dot - name.p);

		if (!label_is_valid((struct sv){ name.p, len }, &numeric))
			return false;
		if (dot == NULL)
			return !numeric;
		name = (struct sv){ dot + 1, name.len - len - 1 };
		if (name.len == 0)
			return false;
	}
}

static bool parse_addr(struct sv addr, int family)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr bin;

	return addr.len > 0 && memchr(addr.p, '\0', addr.len) == NULL &&
	       str_copy(text, sizeof(text), addr) && inet_pton(family, text, &bin) == 1;
}

bool mail_hostaddr_is_v6(struct sv addr)
{
	return parse_addr(addr, AF_INET6);
}

bool mail_hostaddr_is_valid(struct sv addr)
{
	return parse_addr(addr, AF_INET) || parse_addr(addr, AF_INET6);
}

bool mail_literal_parse(struct sv literal, struct sv *addr_r)
{
	struct sv prefix = SV("IPv6:");

	if (literal.len < 2 || literal.p[0] != '[' || literal.p[literal.len - 1] != ']')
		return false;
	struct sv inner = { literal.p + 1, literal.len - 2 };

	if (inner.len > prefix.len && sv_eq_nocase((struct sv){ inner.p, prefix.len }, prefix)) {
		inner = (struct sv){ inner.p + prefix.len, inner.len - prefix.len };
		*addr_r = inner;
		return parse_addr(inner, AF_INET6);
	}
	*addr_r = inner;
	return parse_addr(inner, AF_INET);
}
