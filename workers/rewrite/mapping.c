/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Canonical addresses and masquerading; see workers/rewrite/mapping.h. */
#include "workers/rewrite/mapping.h"

#include <string.h>

#include "conf/map.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"

#define STEPS_MAX   10 /* Postfix's bound */
#define LIST_SPACES ", \t\r\n"

struct mapping {
	const struct addr_rules *rules;
	struct resolver *resolver;
	const char *delimiters;
	const char *masquerade; /* masquerade_domains */
	struct matchlist *exceptions;
	struct map_list *sender, *recipient, *both;
	unsigned sender_uses, recipient_uses, both_uses,
		masquerade_uses; /* 1 << enum mapping_use */
	bool propagate;          /* "canonical" is in propagate_unmatched_extensions */
	struct buf value, one;
};

static const struct sv use_names[MAPPING_USES] = {
	[MAPPING_ENVELOPE_SENDER] = { "envelope_sender", 15 },
	[MAPPING_ENVELOPE_RECIPIENT] = { "envelope_recipient", 18 },
	[MAPPING_HEADER_SENDER] = { "header_sender", 13 },
	[MAPPING_HEADER_RECIPIENT] = { "header_recipient", 16 },
};

/* The next word of a list; its end is the place to go on from. Empty at the end of the list. */
static struct sv next_word(const char *text)
{
	text += strspn(text, LIST_SPACES);
	return (struct sv){ text, strcspn(text, LIST_SPACES) };
}

static int parse_classes(const char *text, const char *param, unsigned *uses_r, struct conf_diag *d)
{
	*uses_r = 0;
	for (struct sv word = next_word(text); word.len > 0; word = next_word(word.p + word.len)) {
		unsigned use = 0;

		while (use < MAPPING_USES && !sv_eq_nocase(use_names[use], word))
			use++;
		if (use == MAPPING_USES) {
			conf_diag_add(d, true, NULL, 0,
				      "parameter %s: unknown class %.*s (expected envelope_sender, "
				      "envelope_recipient, header_sender or header_recipient)",
				      param, (int)word.len, word.p);
			return E_CONFIG;
		}
		*uses_r |= 1u << use;
	}
	return 0;
}

static int open_all(struct mapping *m, const struct conf *c, const struct params *p,
		    struct conf_diag *d)
{
	const struct {
		const char *classes, *classes_name, *maps, *maps_name;
		unsigned *uses;
		struct map_list **list;
	} rows[] = {
		{ p->sender_canonical_classes, "sender_canonical_classes", p->sender_canonical_maps,
		  "sender_canonical_maps", &m->sender_uses, &m->sender },
		{ p->recipient_canonical_classes, "recipient_canonical_classes",
		  p->recipient_canonical_maps, "recipient_canonical_maps", &m->recipient_uses,
		  &m->recipient },
		{ p->canonical_classes, "canonical_classes", p->canonical_maps, "canonical_maps",
		  &m->both_uses, &m->both },
	};
	int err =
		parse_classes(p->masquerade_classes, "masquerade_classes", &m->masquerade_uses, d);

	for (size_t i = 0; i < ARRAY_LEN(rows) && err == 0; i++) {
		err = parse_classes(rows[i].classes, rows[i].classes_name, rows[i].uses, d);
		if (err == 0)
			err = map_list_open(c, rows[i].maps, rows[i].maps_name, rows[i].list, d);
		if (err == 0)
			map_list_keep_case(*rows[i].list);
		if (err == 0 && map_list_is_empty(*rows[i].list))
			*rows[i].uses = 0;
	}
	if (next_word(m->masquerade).len == 0)
		m->masquerade_uses = 0;
	if (err == 0)
		err = matchlist_open(c, p->masquerade_exceptions, "masquerade_exceptions",
				     MATCHLIST_STRING, &m->exceptions, d);
	return err;
}

int mapping_open(const struct conf *c, const struct params *p, const struct addr_rules *rules,
		 struct resolver *resolver, struct mapping **m_r, struct conf_diag *d)
{
	struct mapping *m = xcalloc(1, sizeof(*m));
	int err;

	m->rules = rules;
	m->resolver = resolver;
	m->delimiters = p->recipient_delimiter;
	m->masquerade = p->masquerade_domains;
	m->propagate = matchlist_word_in(p->propagate_unmatched_extensions, "canonical");
	err = open_all(m, c, p, d);
	if (err < 0)
		mapping_close(&m);
	*m_r = m;
	return err;
}

void mapping_close(struct mapping **mp)
{
	struct mapping *m = *mp;

	if (m == NULL)
		return;
	map_list_close(&m->sender);
	map_list_close(&m->recipient);
	map_list_close(&m->both);
	matchlist_close(&m->exceptions);
	buf_fini(&m->value);
	buf_fini(&m->one);
	free(m);
	*mp = NULL;
}

bool mapping_is_remote(const struct mapping *m)
{
	unsigned uses = m->sender_uses | m->recipient_uses | m->both_uses;

	return map_list_is_remote(m->sender) || map_list_is_remote(m->recipient) ||
	       map_list_is_remote(m->both) ||
	       (m->masquerade_uses != 0 && matchlist_is_remote(m->exceptions)) ||
	       (uses != 0 && resolver_local_is_remote(m->resolver));
}

bool mapping_acts(const struct mapping *m, enum mapping_use use)
{
	return m != NULL &&
	       ((m->sender_uses | m->recipient_uses | m->both_uses | m->masquerade_uses) &
		1u << use) != 0;
}

/* ---- tables ---- */

static int ask(struct mapping *m, struct map_list *l, struct sv addr, struct arena *a,
	       struct sv *out)
{
	*out = addr;
	for (unsigned step = 0; step < STEPS_MAX; step++) {
		struct sv local, domain, ext = { "", 0 }, before = *out;
		enum map_status st = MAP_ERROR;
		bool more;
		int bare;

		mail_addr_split(before, &local, &domain);
		bare = resolver_has_bare_key(m->resolver, domain);
		buf_reset(&m->value);
		if (bare >= 0)
			st = map_list_get_addr(l, before, m->delimiters, bare > 0, &m->value, &ext);
		if (st == MAP_ERROR)
			return E_AGAIN;
		if (st == MAP_NOT_FOUND || !addr_first_of(buf_sv(&m->value), &m->one, &more))
			return 0;
		if (more)
			log_warn("multi-valued canonical entry for %.*s", (int)before.len,
				 before.p);
		if (!m->propagate)
			ext.len = 0;
		if (addr_of_table(m->rules, buf_sv(&m->one), before, ext, a, out) < 0)
			return E_LIMIT;
		if (out->len > MAIL_ADDR_MAX_BYTES) {
			log_warn("canonical entry for %.*s is too long, not used", (int)before.len,
				 before.p);
			*out = before;
			return 0;
		}
		if (sv_eq_nocase(before, *out))
			return 0;
	}
	log_warn("unreasonable canonical map nesting for %.*s", (int)addr.len, addr.p);
	return 0;
}

/* ---- masquerading ---- */

/* "!name" (or "!!!name"): leave hosts below it alone. */
static struct sv strip_bangs(struct sv word, bool *hide_r)
{
	*hide_r = true;
	while (word.len > 0 && word.p[0] == '!') {
		*hide_r = !*hide_r;
		word.p++;
		word.len--;
	}
	return word;
}

/* The first name of masquerade_domains that is the domain or a parent of it decides. */
static int hide_host(struct mapping *m, struct sv addr, struct arena *a, struct sv *out)
{
	struct sv local, domain;
	bool hide;
	int hit;

	*out = addr;
	if (!mail_addr_split(addr, &local, &domain))
		return 0;
	hit = matchlist_has_string(m->exceptions, local);
	if (hit != 0)
		return hit < 0 ? E_AGAIN : 0;
	for (struct sv word = next_word(m->masquerade); word.len > 0;
	     word = next_word(word.p + word.len)) {
		struct sv name = strip_bangs(word, &hide);
		struct sv tail = { domain.p + domain.len - size_min(name.len, domain.len),
				   name.len };
		char *p;

		if (name.len == 0 || name.len > domain.len || !sv_eq_nocase(tail, name))
			continue;
		if (name.len == domain.len)
			return 0;
		if (tail.p[-1] != '.')
			continue;
		if (!hide)
			return 0;
		p = arena_alloc(a, local.len + name.len + 2);
		if (p == NULL)
			return E_LIMIT;
		memcpy(p, local.p, local.len);
		p[local.len] = '@';
		memcpy(p + local.len + 1, name.p, name.len);
		p[local.len + 1 + name.len] = '\0';
		str_lower(p + local.len + 1, name.len);
		*out = (struct sv){ p, local.len + 1 + name.len };
		return 0;
	}
	return 0;
}

int mapping_apply(struct mapping *m, enum mapping_use use, struct sv addr, struct arena *a,
		  struct sv *out)
{
	unsigned bit = 1u << use;
	int err = 0;

	*out = addr;
	if (addr.len == 0 || m == NULL)
		return 0;
	if (m->sender_uses & bit)
		err = ask(m, m->sender, *out, a, out);
	if (err == 0 && (m->recipient_uses & bit) != 0)
		err = ask(m, m->recipient, *out, a, out);
	if (err == 0 && (m->both_uses & bit) != 0)
		err = ask(m, m->both, *out, a, out);
	if (err == 0 && (m->masquerade_uses & bit) != 0)
		err = hide_host(m, *out, a, out);
	return err;
}
