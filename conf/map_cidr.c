/* SPDX-License-Identifier: GPL-3.0-or-later */
/* cidr tables, and networks for them and for match lists. Called by map.c and matchlist.c. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/map_impl.h"
#include "lib/err.h"

static unsigned family_bits(int family)
{
	return family == AF_INET ? 32 : 128;
}

static bool parse_family(const char *text, int family, struct map_cidr *c)
{
	memset(c->addr, 0, sizeof(c->addr));
	if (inet_pton(family, text, c->addr) != 1)
		return false;
	c->family = family;
	c->bits = family_bits(family);
	return true;
}

static bool parse_text(struct sv text, struct map_cidr *c)
{
	char copy[INET6_ADDRSTRLEN];

	if (text.len >= 2 && text.p[0] == '[' && text.p[text.len - 1] == ']')
		text = (struct sv){ text.p + 1, text.len - 2 };
	if (text.len == 0 || memchr(text.p, '\0', text.len) != NULL ||
	    !str_copy(copy, sizeof(copy), text))
		return false;
	return parse_family(copy, AF_INET, c) || parse_family(copy, AF_INET6, c);
}

bool map_cidr_parse_addr(struct sv text, struct map_cidr *c)
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (!parse_text(text, c))
		return false;
	if (c->family == AF_INET6 && memcmp(c->addr, mapped, sizeof(mapped)) == 0) {
		memmove(c->addr, c->addr + 12, 4);
		memset(c->addr + 4, 0, 12);
		c->family = AF_INET;
		c->bits = 32;
	}
	return true;
}

/* Clear the bits behind the prefix; true when all were clear. */
static bool mask_host(struct map_cidr *c)
{
	unsigned size = family_bits(c->family) / 8;
	bool clear = true;

	for (unsigned i = 0; i < size; i++) {
		unsigned kept = c->bits >= (i + 1) * 8 ? 8 : c->bits <= i * 8 ? 0 : c->bits - i * 8;
		unsigned char mask = (unsigned char)(0xff00u >> kept);

		if ((c->addr[i] & ~mask & 0xff) != 0)
			clear = false;
		c->addr[i] &= mask;
	}
	return clear;
}

int map_cidr_parse(struct sv text, struct map_cidr *c, char fixed[64])
{
	const char *slash = text.len == 0 ? NULL : memchr(text.p, '/', text.len);
	uint64_t bits;

	if (slash == NULL)
		return parse_text(text, c) ? 0 : E_SYNTAX;
	size_t len = (size_t)(slash - text.p);
	bool bracketed = text.len > 1 && text.p[0] == '[' && text.p[text.len - 1] == ']';

	if (bracketed) { /* [2001:db8::/32] */
		text = (struct sv){ text.p + 1, text.len - 2 };
		len--;
	}
	if (!parse_text((struct sv){ text.p, len }, c) ||
	    str_to_u64((struct sv){ slash + 1, text.len - len - 1 }, family_bits(c->family),
		       &bits) < 0)
		return E_SYNTAX;
	c->bits = (unsigned)bits;
	if (mask_host(c))
		return 0;
	char addr[INET6_ADDRSTRLEN];

	inet_ntop(c->family, c->addr, addr, sizeof(addr));
	snprintf(fixed, 64, "%s/%u", addr, c->bits);
	return E_INVAL;
}

bool map_cidr_match(const struct map_cidr *net, const struct map_cidr *addr)
{
	unsigned whole = net->bits / 8, rest = net->bits % 8;

	if (net->family != addr->family || memcmp(net->addr, addr->addr, whole) != 0)
		return false;
	return rest == 0 ||
	       ((net->addr[whole] ^ addr->addr[whole]) & (0xff00u >> rest) & 0xff) == 0;
}

/* ---- the table type ---- */

struct cidr_rule {
	struct map_cidr net;
	enum map_rule_kind kind;
	bool negate;
	size_t after; /* IF: index of the rule behind its ENDIF */
	char *result; /* PLAIN */
};

struct cidr_map {
	struct cidr_rule *rules;
	size_t count, cap;
};

void map_cidr_close(void *impl)
{
	struct cidr_map *m = impl;

	for (size_t i = 0; i < m->count; i++)
		free(m->rules[i].result);
	free(m->rules);
	free(m);
}

static struct cidr_rule *add_rule(struct cidr_map *m, const struct map_rule_head *h)
{
	if (m->count == m->cap) {
		m->cap = size_max(16, m->cap * 2);
		m->rules = xrealloc(m->rules, m->cap * sizeof(*m->rules));
	}
	m->rules[m->count] = (struct cidr_rule){ .kind = h->kind, .negate = h->negate };
	return &m->rules[m->count++];
}

/* Split "pattern result" and parse the pattern; false with a warning. */
static bool parse_rule(const struct map_text *t, const struct map_rule_head *h,
		       struct map_cidr *net, struct sv *result)
{
	size_t len = 0;
	char fixed[64];

	while (len < h->rest.len && !ascii_is_space(h->rest.p[len]))
		len++;
	*result = sv_trim((struct sv){ h->rest.p + len, h->rest.len - len });
	int err = map_cidr_parse((struct sv){ h->rest.p, len }, net, fixed);

	if (err == E_INVAL)
		map_text_warn(t,
			      "non-null host address bits in \"%.*s\", perhaps you should use "
			      "\"%s\" instead: skipping this rule",
			      (int)size_min(len, 100), h->rest.p, fixed);
	else if (err < 0)
		map_text_warn(t, "bad address pattern: \"%.*s\": skipping this rule",
			      (int)size_min(len, 100), h->rest.p);
	else if (h->kind == MAP_RULE_PLAIN && result->len == 0)
		map_text_warn(t, "no address result: skipping this rule");
	else
		return true;
	return false;
}

/* Where IFs begin; loading only. */
struct if_stack {
	size_t *idx;
	size_t depth;
};

static void load_line(struct cidr_map *m, struct map_text *t, struct sv line, struct if_stack *ifs)
{
	struct map_rule_head h;
	struct map_cidr net;
	struct sv result;

	map_rule_parse(line, &h);
	if (h.kind == MAP_RULE_ENDIF) {
		if (ifs->depth == 0)
			map_text_warn(t, "ignoring ENDIF without matching IF");
		else
			m->rules[ifs->idx[--ifs->depth]].after = m->count;
		return;
	}
	if (!parse_rule(t, &h, &net, &result)) {
		/* a broken IF must guard its rules from being used, so it never matches */
		if (h.kind != MAP_RULE_IF)
			return;
		net = (struct map_cidr){ .family = AF_UNSPEC };
		h.negate = false;
	}
	struct cidr_rule *r = add_rule(m, &h);

	r->net = net;
	if (h.kind == MAP_RULE_PLAIN) {
		r->result = xstrndup(result.p, result.len);
	} else {
		ifs->idx = xrealloc(ifs->idx, (ifs->depth + 1) * sizeof(size_t));
		ifs->idx[ifs->depth++] = m->count - 1;
	}
}

int map_cidr_open(struct map_open *o)
{
	struct if_stack ifs = { 0 };
	struct buf data;
	struct map_text t;
	struct sv line;
	int err = map_open_text(o, &data, &t);

	if (err < 0)
		return err;
	struct cidr_map *m = xcalloc(1, sizeof(*m));

	while (map_text_next(&t, &line))
		load_line(m, &t, line, &ifs);
	while (ifs.depth > 0) {
		map_text_warn(&t, "IF has no matching ENDIF");
		m->rules[ifs.idx[--ifs.depth]].after = m->count;
	}
	free(ifs.idx);
	map_text_fini(&t);
	buf_fini(&data);
	o->impl = m;
	return 0;
}

enum map_status map_cidr_get(void *impl, struct sv key, struct buf *out)
{
	const struct cidr_map *m = impl;
	struct map_cidr addr;

	if (!map_cidr_parse_addr(key, &addr))
		return MAP_NOT_FOUND;
	for (size_t i = 0; i < m->count;) {
		const struct cidr_rule *r = &m->rules[i];
		bool match = map_cidr_match(&r->net, &addr) != r->negate;

		if (match && r->kind == MAP_RULE_PLAIN)
			return buf_add_str(out, r->result) ? MAP_FOUND : MAP_ERROR;
		i = !match && r->kind == MAP_RULE_IF ? r->after : i + 1;
	}
	return MAP_NOT_FOUND;
}
