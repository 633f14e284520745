/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Address classes: which domain an address finally belongs to, and whether we are responsible for
 * it. The rules follow Postfix's resolver; the relay decision rests on them, so whatever is not
 * understood ends as ADDR_DEFAULT, which nobody outside may relay to.
 */
#include <arpa/inet.h>
#include <string.h>

#include "lib/log.h"
#include "lib/mailaddr.h"
#include "policy/policy_int.h"

/* Host name syntax, without UTF-8 labels unless they are allowed. */
bool policy_valid_hostname(struct sv name, bool utf8)
{
	return mail_hostname_is_valid(name) && (utf8 || str_is_ascii(name.p, name.len));
}

const char *policy_known(const char *name)
{
	return name != NULL && !str_eq_nocase(name, "unknown") ? name : NULL;
}

int policy_is_local_domain(struct policy_conf *pc, struct sv domain)
{
	struct sv addr;
	char text[INET6_ADDRSTRLEN];
	int hit = matchlist_has_domain(pc->mydestination, domain);

	if (hit != 0)
		return hit;
	return mail_literal_parse(domain, &addr) && str_copy(text, sizeof(text), addr) &&
	       own_addrs_has(&pc->own, text);
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

/* resolve_dequoted_address = no: what stands in quotes is no routing. (A local part that needs none
 * has operators for everybody to see.) */
static bool is_opaque(const struct policy_conf *pc, const struct buf *local)
{
	struct buf quoted = BUF_INIT;
	bool opaque;

	if (pc->p->resolve_dequoted_address)
		return false;
	mail_addr_quote(buf_sv(local), &quoted);
	opaque = quoted.len > 0 && quoted.p[0] == '"';
	buf_fini(&quoted);
	return opaque;
}

static void cut(struct buf *a, size_t len)
{
	a->len = len;
	a->p[len] = '\0';
}

/* `stripped`: the last local domain that was taken off. Strip local domains until a foreign domain
 * or a bare local part is left. Returns false when the address has no end (longer than its length
 * allows). */
static bool strip_local(struct policy_conf *pc, struct addr_resolved *out, bool *local_r,
			char stripped[MAIL_HOSTNAME_MAX_BYTES + 1])
{
	struct buf *a = &out->addr;
	bool qualified = false;

	*local_r = false;
	str_copy(stripped, MAIL_HOSTNAME_MAX_BYTES + 1, sv_from(pc->p->myhostname));
	for (size_t rounds = a->len + 100; rounds > 0; rounds--) {
		bool opaque = *local_r && is_opaque(pc, a);
		char *at = opaque ? NULL : memrchr(a->p, '@', a->len);

		if (opaque)
			return true;
		if (at != NULL) {
			size_t off = (size_t)(at - a->p) + 1;

			if (a->len > off + 1 && a->p[a->len - 1] == '.' && a->p[a->len - 2] != '.')
				cut(a, a->len - 1);
			int hit =
				policy_is_local_domain(pc, (struct sv){ a->p + off, a->len - off });

			if (hit < 0)
				out->tempfail = true;
			if (a->len == off && pc->p->resolve_null_domain)
				hit = 1;
			if (hit <= 0)
				return true;
			if (a->len > off)
				str_copy(stripped, MAIL_HOSTNAME_MAX_BYTES + 1,
					 (struct sv){ a->p + off, a->len - off });
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

/* resolve_numeric_domain: user@192.0.2.1 is user@[192.0.2.1]. */
static void put_brackets(struct policy_conf *pc, struct addr_resolved *out, bool *local_r)
{
	struct buf *a = &out->addr;
	size_t off = out->domain_off;
	int hit;

	if (!pc->p->resolve_numeric_domain ||
	    !mail_hostaddr_is_valid((struct sv){ a->p + off, a->len - off }))
		return;
	char *domain = xstrndup(a->p + off, a->len - off);

	cut(a, off);
	buf_printf(a, mail_hostaddr_is_v6(sv_from(domain)) ? "[IPv6:%s]" : "[%s]", domain);
	free(domain);
	hit = policy_is_local_domain(pc, (struct sv){ a->p + off, a->len - off });
	*local_r = hit > 0;
	out->tempfail = out->tempfail || hit < 0;
}

static void check_syntax(const struct policy_conf *pc, struct addr_resolved *out, struct sv domain)
{
	struct sv addr;
	bool utf8 = pc->p->smtputf8_enable;

	if (utf8 && !str_is_utf8(out->addr.p, out->addr.len))
		out->invalid = true;
	else if (domain.len > 0 && domain.p[0] == '[')
		out->invalid = !mail_literal_parse(domain, &addr);
	else
		out->invalid = !policy_valid_hostname(domain, utf8);
}

void policy_resolve(struct policy_conf *pc, const char *addr, struct addr_resolved *out)
{
	struct buf *a = &out->addr;
	char stripped[MAIL_HOSTNAME_MAX_BYTES + 1];
	bool local;

	buf_reset(a);
	buf_add_str(a, addr);
	buf_reserve(a, 1);
	a->p[a->len] = '\0';
	out->class_id = ADDR_DEFAULT;
	out->routed = out->invalid = out->tempfail = false;
	out->domain_off = 0;
	if (!strip_local(pc, out, &local, stripped)) {
		log_warn("resolve: <%s>: giving up", addr);
		out->tempfail = true;
		return;
	}
	if (local) {
		buf_add_c(a, '@');
		buf_add_str(a, stripped);
	}
	char *at = memrchr(a->p, '@', a->len);

	out->domain_off = (size_t)(at - a->p) + 1;
	put_brackets(pc, out, &local);
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
