/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Address classes: which domain an address finally belongs to, and whether we are responsible for
 * it. The rules follow Postfix's resolver; the relay decision rests on them, so whatever is not
 * understood ends as ADDR_DEFAULT, which nobody outside may relay to.
 */
#include <arpa/inet.h>
#include <string.h>

#include "lib/log.h"
#include "policy/policy_int.h"

#define MAX_HOSTNAME 255u
#define MAX_LABEL    63u

bool policy_valid_hostname(struct sv name, bool utf8)
{
	size_t label = 0;
	bool only_digits = true;

	if (name.len == 0 || name.len > MAX_HOSTNAME)
		return false;
	if (utf8 && !str_is_utf8(name.p, name.len))
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.p[i];

		if (c == '.') {
			if (label == 0 || i + 1 == name.len || name.p[i - 1] == '-')
				return false;
			label = 0;
			continue;
		}
		if (c == '-' && (label == 0 || i + 1 == name.len))
			return false;
		if (!ascii_is_alnum(c) && c != '-' && c != '_' && !(utf8 && (c & 0x80) != 0))
			return false;
		if (!ascii_is_digit(c))
			only_digits = false;
		if (++label > MAX_LABEL)
			return false;
	}
	return !only_digits;
}

bool policy_valid_hostaddr(struct sv addr)
{
	char text[INET6_ADDRSTRLEN];
	unsigned char bytes[16];

	return str_copy(text, sizeof(text), addr) && strlen(text) == addr.len &&
	       (inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1);
}

bool policy_addr_literal(struct sv literal, char out[46])
{
	unsigned char bytes[16];
	int family = AF_INET;

	if (literal.len < 3 || literal.p[0] != '[' || literal.p[literal.len - 1] != ']')
		return false;
	literal = (struct sv){ literal.p + 1, literal.len - 2 };
	if (literal.len > 5 && sv_eq_nocase((struct sv){ literal.p, 5 }, SV("IPv6:"))) {
		literal = (struct sv){ literal.p + 5, literal.len - 5 };
		family = AF_INET6;
	}
	if (!str_copy(out, 46, literal) || strlen(out) != literal.len)
		return false;
	return inet_pton(family, out, bytes) == 1;
}

/* 1 local, 0 not, negative: a table could not be asked. */
static int is_local_domain(struct policy_conf *pc, struct sv domain)
{
	char addr[46];

	int hit = matchlist_has_domain(pc->mydestination, domain);

	if (hit != 0)
		return hit;
	return policy_addr_literal(domain, addr) && own_addrs_has(&pc->own, addr);
}

static int class_of(struct policy_conf *pc, struct sv domain, enum addr_class *class_r)
{
	const struct {
		struct matchlist *list;
		enum addr_class class_id;
	} order[] = {
		{ pc->virtual_alias_domains, ADDR_VIRTUAL_ALIAS },
		{ pc->virtual_mailbox_domains, ADDR_VIRTUAL_MAILBOX },
		{ pc->relay_domains, ADDR_RELAY },
	};

	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		int hit = matchlist_has_domain(order[i].list, domain);

		if (hit < 0)
			return hit;
		if (hit > 0) {
			*class_r = order[i].class_id;
			return 0;
		}
	}
	*class_r = ADDR_DEFAULT;
	return 0;
}

/* Replace site!rest by rest@site, or the last % by @. Only for addresses without @. */
static bool crack_operators(const struct policy_conf *pc, struct buf *a)
{
	char *bang = pc->p->swap_bangpath ? memchr(a->p, '!', a->len) : NULL;

	if (bang != NULL) {
		size_t site_len = (size_t)(bang - a->p);
		char *copy = xstrndup(a->p, a->len);

		size_t rest_len = a->len - site_len - 1;

		memcpy(a->p, copy + site_len + 1, rest_len);
		a->p[rest_len] = '@';
		memcpy(a->p + rest_len + 1, copy, site_len);
		free(copy);
		return true;
	}
	char *percent = pc->p->allow_percent_hack ? memrchr(a->p, '%', a->len) : NULL;

	if (percent != NULL)
		*percent = '@';
	return percent != NULL;
}

static void cut(struct buf *a, size_t len)
{
	a->len = len;
	a->p[len] = '\0';
}

/* Strip local domains until a foreign domain or a bare local part is left. Returns false when the
 * address has no end (longer than its length allows). */
static bool strip_local(struct policy_conf *pc, struct addr_resolved *out, bool *local_r)
{
	struct buf *a = &out->addr;
	bool qualified = false;

	*local_r = false;
	for (size_t rounds = a->len + 100; rounds > 0; rounds--) {
		char *at = memrchr(a->p, '@', a->len);

		if (at != NULL) {
			size_t off = (size_t)(at - a->p) + 1;

			if (a->len > off + 1 && a->p[a->len - 1] == '.' && a->p[a->len - 2] != '.')
				cut(a, a->len - 1);
			int hit = is_local_domain(pc, (struct sv){ a->p + off, a->len - off });

			if (hit < 0)
				out->tempfail = true;
			if (a->len == off && pc->p->resolve_null_domain)
				hit = 1;
			if (hit <= 0)
				return true;
			cut(a, off - 1);
			*local_r = true;
			qualified = true;
		} else if (crack_operators(pc, a)) {
			*local_r = false;
		} else if (a->len == 0) {
			buf_add_str(a, "MAILER-DAEMON");
		} else if (!qualified) {
			buf_add_c(a, '@');
			buf_add_str(a, pc->p->myorigin);
			qualified = true;
		} else {
			*local_r = true;
			return true;
		}
	}
	return false;
}

static void check_syntax(const struct policy_conf *pc, struct addr_resolved *out, struct sv domain)
{
	char literal[46];
	bool utf8 = pc->p->smtputf8_enable;

	if (utf8 && !str_is_utf8(out->addr.p, out->addr.len))
		out->invalid = true;
	else if (domain.len > 0 && domain.p[0] == '[')
		out->invalid = !policy_addr_literal(domain, literal);
	else
		out->invalid = !policy_valid_hostname(domain, utf8);
}

void policy_resolve(struct policy_conf *pc, const char *addr, struct addr_resolved *out)
{
	struct buf *a = &out->addr;
	bool local;

	buf_reset(a);
	buf_add_str(a, addr);
	buf_reserve(a, 1);
	a->p[a->len] = '\0';
	out->class_id = ADDR_DEFAULT;
	out->routed = out->invalid = out->tempfail = false;
	out->domain_off = 0;
	if (!strip_local(pc, out, &local)) {
		log_warn("resolve: <%s>: giving up", addr);
		out->tempfail = true;
		return;
	}
	if (local) {
		buf_add_c(a, '@');
		buf_add_str(a, pc->p->myhostname);
	}
	char *at = memrchr(a->p, '@', a->len);

	out->domain_off = (size_t)(at - a->p) + 1;
	struct sv domain = { a->p + out->domain_off, a->len - out->domain_off };

	check_syntax(pc, out, domain);
	if (out->invalid)
		return;
	out->routed = strcspn(a->p, "@!%") + 1 != out->domain_off;
	if (local)
		out->class_id = ADDR_LOCAL;
	else if (class_of(pc, domain, &out->class_id) < 0)
		out->tempfail = true;
}

int policy_is_mynetwork(struct policy_conf *pc, const char *addr)
{
	return matchlist_has_ip(pc->mynetworks, addr);
}

bool policy_is_own_addr(struct policy_conf *pc, const char *addr)
{
	return own_addrs_has(&pc->own, addr);
}
