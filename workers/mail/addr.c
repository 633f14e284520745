/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Addresses in standard form; see workers/mail/addr.h. */
#include "workers/mail/addr.h"

#include <string.h>

#include "lib/err.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "workers/mail/address.h"

#define ADDR_PARTS_MAX 5

/* The standard form as up to ADDR_PARTS_MAX pieces. */
struct addr_parts {
	struct sv part[ADDR_PARTS_MAX];
	size_t count;
};

static void add_part(struct addr_parts *ps, struct sv s)
{
	ps->part[ps->count++] = s;
}

/* site!user, user%site: the two halves; false when the local part is neither. */
static bool split_routed(const struct addr_rules *r, struct sv s, struct sv *user, struct sv *site)
{
	const char *mark;

	if (s.len == 0)
		return false;
	mark = r->swap_bangpath ? memchr(s.p, '!', s.len) : NULL;
	if (mark != NULL && mark > s.p && mark + 1 < s.p + s.len) {
		*site = (struct sv){ s.p, (size_t)(mark - s.p) };
		*user = (struct sv){ mark + 1, s.len - site->len - 1 };
		return true;
	}
	mark = r->allow_percent_hack ? memrchr(s.p, '%', s.len) : NULL;
	if (mark != NULL && mark > s.p && mark + 1 < s.p + s.len) {
		*user = (struct sv){ s.p, (size_t)(mark - s.p) };
		*site = (struct sv){ mark + 1, s.len - user->len - 1 };
		return true;
	}
	return false;
}

static void complete_parts(const struct addr_rules *r, struct sv addr, bool routes,
			   struct addr_parts *ps)
{
	struct sv local, domain;

	ps->count = 0;
	if (!mail_addr_split(addr, &local, &domain) && routes)
		split_routed(r, addr, &local, &domain);
	if (domain.len > 1 && domain.p[domain.len - 1] == '.')
		domain.len--;
	add_part(ps, local);
	if (domain.len == 0 && r->append_at_myorigin) {
		domain = r->myorigin;
	}
	if (domain.len == 0)
		return;
	add_part(ps, SV("@"));
	add_part(ps, domain);
	if (r->append_dot_mydomain && r->mydomain.len > 0 && domain.p[0] != '[' &&
	    memchr(domain.p, '.', domain.len) == NULL) {
		add_part(ps, SV("."));
		add_part(ps, r->mydomain);
	}
}

static size_t parts_len(const struct addr_parts *ps)
{
	size_t n = 0;

	for (size_t i = 0; i < ps->count; i++)
		n += ps->part[i].len;
	return n;
}

/* The pieces are the bytes of `addr`, one behind the other. */
static bool parts_are(const struct addr_parts *ps, struct sv addr)
{
	size_t at = 0;

	if (parts_len(ps) != addr.len)
		return false;
	for (size_t i = 0; i < ps->count; i++) {
		if (memcmp(addr.p + at, ps->part[i].p, ps->part[i].len) != 0)
			return false;
		at += ps->part[i].len;
	}
	return true;
}

int addr_complete(const struct addr_rules *r, struct sv addr, bool routes, struct arena *a,
		  struct sv *out)
{
	struct addr_parts ps;
	char *p;

	*out = addr;
	if (addr.len == 0)
		return 0;
	complete_parts(r, addr, routes, &ps);
	if (parts_are(&ps, addr))
		return 0;
	p = arena_alloc(a, parts_len(&ps) + 1);
	if (p == NULL)
		return E_LIMIT;
	*out = (struct sv){ p, parts_len(&ps) };
	for (size_t i = 0; i < ps.count; i++) {
		memcpy(p, ps.part[i].p, ps.part[i].len);
		p += ps.part[i].len;
	}
	*p = '\0';
	return 0;
}

bool addr_rewrite_header(const struct addr_rules *r, struct sv value, addr_map_fn map, void *ctx,
			 struct buf *out)
{
	static struct buf addr, done; /* keep their memory from call to call */
	struct mail_addrlist list;
	struct mail_addrlist_item item;
	struct addr_parts ps;
	size_t copied = 0;

	mail_addrlist_init(&list, value);
	while (mail_addrlist_next(&list, &item, &addr)) {
		struct sv now;

		complete_parts(r, buf_sv(&addr), true, &ps);
		if (map == NULL && !item.route && parts_are(&ps, buf_sv(&addr)))
			continue;
		buf_reset(&done);
		for (size_t i = 0; i < ps.count; i++)
			buf_add_sv(&done, ps.part[i]);
		now = map == NULL ? buf_sv(&done) : map(ctx, buf_sv(&done));
		if (!item.route && sv_eq(now, buf_sv(&addr)))
			continue;
		buf_add(out, value.p + copied, item.begin - copied);
		mail_addr_quote(now, out);
		copied = item.end;
	}
	if (copied == 0)
		return false;
	buf_add(out, value.p + copied, value.len - copied);
	return true;
}

static const struct sv address_headers[] = {
	{ "From", 4 },
	{ "To", 2 },
	{ "Cc", 2 },
	{ "Sender", 6 },
	{ "Reply-To", 8 },
	{ "Bcc", 3 },
	{ "Resent-From", 11 },
	{ "Resent-To", 9 },
	{ "Resent-Cc", 9 },
	{ "Resent-Sender", 13 },
	{ "Resent-Reply-To", 15 },
	{ "Resent-Bcc", 10 },
	{ "Errors-To", 9 },
	{ "Return-Path", 11 },
	{ "Return-Receipt-To", 17 },
	{ "Apparently-To", 13 },
	{ "Mail-Followup-To", 16 },
	{ "Disposition-Notification-To", 27 },
};

bool addr_is_header(struct sv name)
{
	for (size_t i = 0; i < ARRAY_LEN(address_headers); i++) {
		if (sv_eq_nocase(address_headers[i], name))
			return true;
	}
	return false;
}

/* ---- what tables give ---- */

bool addr_first_of(struct sv value, struct buf *one, bool *more_r)
{
	struct mail_addrlist list;
	struct mail_addrlist_item item;
	struct buf more = BUF_INIT;
	bool found;

	*more_r = false;
	value = sv_trim(value);
	if (value.len > 1 && value.p[0] == '@') {
		buf_reset(one);
		return buf_add_sv(one, value);
	}
	mail_addrlist_init(&list, value);
	found = mail_addrlist_next(&list, &item, one);
	*more_r = found && mail_addrlist_next(&list, &item, &more);
	buf_fini(&more);
	return found;
}

int addr_of_table(const struct addr_rules *rules, struct sv raw, struct sv addr, struct sv ext,
		  struct arena *a, struct sv *out)
{
	struct sv local, domain;
	char *p = arena_alloc(a, raw.len + addr.len + ext.len + 2), *end = p;

	if (p == NULL)
		return E_LIMIT;
	if (raw.len > 0 && raw.p[0] == '@') {
		mail_addr_split(addr, &local, &domain);
		domain = (struct sv){ raw.p + 1, raw.len - 1 };
		ext.len = 0;
	} else {
		mail_addr_split(raw, &local, &domain);
	}
	memcpy(end, local.p, local.len);
	end += local.len;
	if (ext.len > 0)
		memcpy(end, ext.p, ext.len);
	end += ext.len;
	if (domain.len > 0) {
		*end++ = '@';
		memcpy(end, domain.p, domain.len);
		end += domain.len;
	}
	*end = '\0';
	return addr_complete(rules, (struct sv){ p, (size_t)(end - p) }, true, a, out);
}
