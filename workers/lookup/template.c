/* SPDX-License-Identifier: GPL-3.0-or-later */
/* %-expansion; see workers/lookup/template.h. */
#include "workers/lookup/template.h"

#include <string.h>

#include "lib/util.h"

struct parts {
	struct sv all, user, domain;
	bool has_domain; /* and it is not empty */
	bool has_user;   /* no @, or something in front of it */
};

static struct parts split(struct sv text)
{
	struct parts p = { .all = text, .user = text, .has_user = true };
	const char *at = text.len > 0 ? memrchr(text.p, '@', text.len) : NULL;

	if (at == NULL)
		return p;
	p.user.len = (size_t)(at - text.p);
	p.domain = (struct sv){ at + 1, text.len - p.user.len - 1 };
	p.has_user = p.user.len > 0;
	p.has_domain = p.domain.len > 0;
	return p;
}

/* The n-th label from the end. */
static bool label(struct sv domain, unsigned n, struct sv *out)
{
	const char *end = domain.p + domain.len;

	for (unsigned i = 1;; i++) {
		const char *dot =
			end > domain.p ? memrchr(domain.p, '.', (size_t)(end - domain.p)) : NULL;
		const char *from = dot != NULL ? dot + 1 : domain.p;

		if (i == n) {
			*out = (struct sv){ from, (size_t)(end - from) };
			return out->len > 0;
		}
		if (dot == NULL)
			return false;
		end = dot;
	}
}

const char *template_check(const char *format)
{
	for (const char *p = format; (p = strchr(p, '%')) != NULL; p += 2) {
		if (p[1] == '\0' || strchr("%suSUdD123456789", p[1]) == NULL)
			return "invalid %-sequence";
	}
	return NULL;
}

bool template_is_constant(const char *format)
{
	for (const char *p = format; (p = strchr(p, '%')) != NULL; p += 2) {
		if (p[1] != '%')
			return false;
	}
	return true;
}

/* What a letter stands for. False: it is not there. */
static bool part_of(char letter, const struct parts *key, const struct parts *value, struct sv *out)
{
	switch (letter) {
	case 's':
		*out = value->all;
		return true;
	case 'S':
		*out = key->all;
		return true;
	case 'u':
		*out = value->user;
		return value->has_user;
	case 'U':
		*out = key->user;
		return key->has_user;
	case 'd':
		*out = value->domain;
		return value->has_domain;
	case 'D':
		*out = key->domain;
		return key->has_domain;
	default:
		return key->has_domain && label(key->domain, (unsigned)(letter - '0'), out);
	}
}

bool template_expand(const char *format, struct sv key, const struct sv *result,
		     template_quote_fn quote, void *ctx, struct buf *out)
{
	struct parts k = split(key), v = result != NULL ? split(*result) : k;
	size_t before = out->len;
	bool good = v.all.len > 0;

	for (const char *p = format; good && *p != '\0'; p++) {
		struct sv text;

		if (p[0] != '%')
			good = buf_add_c(out, *p);
		else if (*++p == '%')
			good = buf_add_c(out, '%');
		else
			good = part_of(*p, &k, &v, &text) &&
			       (quote != NULL ? quote(ctx, text, out) : buf_add_sv(out, text));
	}
	if (!good)
		out->len = before;
	return good;
}
