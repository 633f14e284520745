/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Envelope completion and alias expansion; see workers/rewrite/expand.h. Called by message.c. */
#include "workers/rewrite/expand.h"

#include <string.h>

#include "conf/map.h"
#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "workers/mail/address.h"

struct expander {
	const struct params *p;
	const struct addr_rules *rules;
	struct resolver *resolver;
	struct mapping *mapping;
	struct map_list *virtual_alias_maps;
	struct map_list *sender_bcc;
	struct map_list *recipient_bcc;
	bool propagate; /* "virtual" is in propagate_unmatched_extensions */
	struct buf value;
	/* duplicate filter: open addressing, entries valid for `round` only */
	struct dup_slot *dups;
	size_t dup_mask, dup_count;
	uint32_t round;
};

struct dup_slot {
	uint32_t round;
	uint32_t rcpt; /* index in the list being built */
};

struct expand_work { /* one message */
	struct expander *x;
	struct arena *a;
	struct envelope *e;
	struct envelope list; /* only rcpts are used: the result */
	enum expand_verdict verdict;
};

int expander_open(const struct conf *c, const struct params *p, const struct addr_rules *rules,
		  struct resolver *resolver, struct mapping *mapping, struct expander **x_r,
		  struct conf_diag *d)
{
	struct expander *x = xcalloc(1, sizeof(*x));
	int err;

	x->p = p;
	x->rules = rules;
	x->resolver = resolver;
	x->mapping = mapping;
	x->propagate = matchlist_word_in(p->propagate_unmatched_extensions, "virtual");
	x->dup_mask = 4095;
	x->dups = xcalloc(x->dup_mask + 1, sizeof(*x->dups));
	err = map_list_open(c, p->virtual_alias_maps, "virtual_alias_maps", &x->virtual_alias_maps,
			    d);
	if (err == 0)
		err = map_list_open(c, p->sender_bcc_maps, "sender_bcc_maps", &x->sender_bcc, d);
	if (err == 0)
		err = map_list_open(c, p->recipient_bcc_maps, "recipient_bcc_maps",
				    &x->recipient_bcc, d);
	map_list_keep_case(x->virtual_alias_maps);
	map_list_keep_case(x->sender_bcc);
	map_list_keep_case(x->recipient_bcc);
	if (err < 0)
		expander_close(&x);
	*x_r = x;
	return err;
}

void expander_close(struct expander **xp)
{
	struct expander *x = *xp;

	if (x == NULL)
		return;
	map_list_close(&x->virtual_alias_maps);
	map_list_close(&x->sender_bcc);
	map_list_close(&x->recipient_bcc);
	buf_fini(&x->value);
	free(x->dups);
	free(x);
	*xp = NULL;
}

/* ---- duplicates ---- */

static bool same_rcpt(const struct expander *x, const struct env_rcpt *a, const struct env_rcpt *b)
{
	return sv_eq_nocase(a->addr, b->addr) &&
	       (!x->p->enable_original_recipient || sv_eq_nocase(a->orig_addr, b->orig_addr));
}

static uint64_t rcpt_hash(const struct env_rcpt *r)
{
	char low[MAIL_ADDR_MAX_BYTES];
	size_t n = size_min(r->addr.len, sizeof(low));

	memcpy(low, r->addr.p, n);
	str_lower(low, n);
	return hash_bytes(low, n);
}

static void dups_grow(struct expand_work *w)
{
	struct expander *x = w->x;
	struct dup_slot *old = x->dups;
	size_t old_mask = x->dup_mask;

	x->dup_mask = old_mask * 2 + 1;
	x->dups = xcalloc(x->dup_mask + 1, sizeof(*x->dups));
	for (size_t i = 0; i <= old_mask; i++) {
		size_t at;

		if (old[i].round != x->round)
			continue;
		at = rcpt_hash(&w->list.rcpts[old[i].rcpt]) & x->dup_mask;
		while (x->dups[at].round == x->round)
			at = (at + 1) & x->dup_mask;
		x->dups[at] = old[i];
	}
	free(old);
}

/* True when the recipient is there already; otherwise it is remembered as the next one. */
static bool is_duplicate(struct expand_work *w, const struct env_rcpt *r)
{
	struct expander *x = w->x;
	uint64_t limit = (uint64_t)x->p->duplicate_filter_limit;
	size_t at = rcpt_hash(r) & x->dup_mask;

	while (x->dups[at].round == x->round) {
		if (same_rcpt(x, r, &w->list.rcpts[x->dups[at].rcpt]))
			return true;
		at = (at + 1) & x->dup_mask;
	}
	if (limit == 0 || x->dup_count < limit) {
		x->dups[at] = (struct dup_slot){ x->round, (uint32_t)w->list.rcpt_count };
		if (++x->dup_count > x->dup_mask / 2)
			dups_grow(w);
	}
	return false;
}

/* ---- adding a final recipient ---- */

/* resolve_numeric_domain: user@192.0.2.1 goes to user@[192.0.2.1]. */
static struct sv with_brackets(struct expand_work *w, struct sv addr)
{
	struct sv local, domain;
	const char *text;

	if (!mail_addr_split(addr, &local, &domain) || !mail_hostaddr_is_valid(domain))
		return addr;
	text = arena_printf(w->a, mail_hostaddr_is_v6(domain) ? "%.*s@[IPv6:%.*s]" : "%.*s@[%.*s]",
			    (int)local.len, local.p, (int)domain.len, domain.p);
	if (text == NULL) {
		w->verdict = EXPAND_MEMORY;
		return addr;
	}
	return sv_from(text);
}

static void add_final(struct expand_work *w, struct env_rcpt r)
{
	if (w->x->p->resolve_numeric_domain)
		r.addr = with_brackets(w, r.addr);
	if (sv_eq(r.addr, r.orig_addr))
		r.orig_addr.len = 0;
	if (is_duplicate(w, &r))
		return;
	if (w->list.rcpt_count >= EXPAND_RCPT_MAX || env_add_rcpt(&w->list, w->a, &r) < 0)
		w->verdict = EXPAND_MEMORY;
}

/* Answers of remote tables are missing: this is done again. Go on with the other recipients, so
 * that theirs are fetched at the same time. */
static void go_on_asking(struct expand_work *w)
{
	if (w->verdict == EXPAND_TABLE && map_memo_is_missing())
		w->verdict = EXPAND_OK;
}

/* ---- virtual aliases ---- */

struct alias_state { /* of one recipient */
	const struct env_rcpt *from;
	unsigned produced;
};

static void expand_one(struct expand_work *w, struct alias_state *st, struct sv addr,
		       unsigned depth);

static void fail_limit(struct expand_work *w, struct sv addr, const char *what)
{
	log_warn("unreasonable virtual_alias_maps %s for %.*s -- message not accepted, try again "
		 "later",
		 what, (int)addr.len, addr.p);
	w->verdict = EXPAND_LOOP;
}

/* The alias value's next address as the message gets it. */
static struct sv alias_target(struct expand_work *w, struct sv raw, struct sv addr, struct sv ext)
{
	struct sv out = { NULL, 0 };

	if (!w->x->propagate)
		ext.len = 0;
	if (addr_of_table(w->x->rules, raw, addr, ext, w->a, &out) < 0)
		w->verdict = EXPAND_MEMORY;
	else if (out.len > (size_t)w->x->p->virtual_alias_address_length_limit)
		fail_limit(w, addr, "address length");
	return out;
}

static void expand_target(struct expand_work *w, struct alias_state *st, struct sv addr,
			  struct sv target, unsigned depth)
{
	struct env_rcpt r = *st->from;

	if (w->verdict != EXPAND_OK)
		return;
	if (!sv_eq_nocase(target, addr)) {
		expand_one(w, st, target, depth + 1);
		return;
	}
	r.addr = target;
	st->produced++;
	add_final(w, r);
}

/* `value` is a list of addresses; each one is looked up again, except the address itself. */
static void expand_value(struct expand_work *w, struct alias_state *st, struct sv addr,
			 struct sv value, struct sv ext, unsigned depth)
{
	struct mail_addrlist list;
	struct mail_addrlist_item item;
	struct buf one = BUF_INIT;

	value = sv_trim(value);
	if (value.len > 1 && value.p[0] == '@') { /* a whole domain moved; no list of addresses */
		expand_target(w, st, addr, alias_target(w, value, addr, ext), depth);
		return;
	}
	mail_addrlist_init(&list, value);
	while (w->verdict == EXPAND_OK && mail_addrlist_next(&list, &item, &one)) {
		expand_target(w, st, addr, alias_target(w, buf_sv(&one), addr, ext), depth);
		go_on_asking(w);
	}
	buf_fini(&one);
}

static void expand_one(struct expand_work *w, struct alias_state *st, struct sv addr,
		       unsigned depth)
{
	struct expander *x = w->x;
	struct sv local, domain, ext = { "", 0 }, value;
	struct env_rcpt r = *st->from;
	enum map_status found;
	int bare;

	if (depth > (unsigned)x->p->virtual_alias_recursion_limit) {
		fail_limit(w, addr, "nesting");
		return;
	}
	if (st->produced >= (unsigned)x->p->virtual_alias_expansion_limit) {
		fail_limit(w, addr, "expansion size");
		return;
	}
	mail_addr_split(addr, &local, &domain);
	bare = resolver_has_bare_key(x->resolver, domain);
	buf_reset(&x->value);
	found = bare < 0 ? MAP_ERROR
			 : map_list_get_addr(x->virtual_alias_maps, addr, x->p->recipient_delimiter,
					     bare > 0, &x->value, &ext);
	if (found == MAP_ERROR) {
		w->verdict = EXPAND_TABLE;
		return;
	}
	if (found == MAP_NOT_FOUND) {
		r.addr = addr;
		st->produced++;
		add_final(w, r);
		return;
	}
	value.len = x->value.len;
	value.p = arena_strndup(w->a, buf_cstr(&x->value), x->value.len);
	if (value.p == NULL)
		w->verdict = EXPAND_MEMORY;
	else
		expand_value(w, st, addr, value, ext, depth);
}

/* ---- one recipient, all recipients ---- */

/* A recipient's or the sender's address completed and mapped. */
static struct sv final_addr(struct expand_work *w, struct sv addr, enum mapping_use use)
{
	bool map = (w->e->flags & ENVF_NO_RECIPIENT_MAPS) == 0;
	struct sv out = addr;
	int err = addr_complete(w->x->rules, addr, use == MAPPING_ENVELOPE_SENDER, w->a, &out);

	if (err == 0 && map && mapping_acts(w->x->mapping, use))
		err = mapping_apply(w->x->mapping, use, out, w->a, &out);
	if (err < 0)
		w->verdict = err == E_AGAIN ? EXPAND_TABLE : EXPAND_MEMORY;
	return out;
}

/* Returns the address as the bcc tables see it. */
static struct sv add_rcpt(struct expand_work *w, struct env_rcpt r)
{
	struct alias_state st = { .from = &r };
	struct sv full;

	if (r.addr.len == 0)
		r.addr = sv_from(w->x->p->empty_address_recipient);
	full = final_addr(w, r.addr, MAPPING_ENVELOPE_RECIPIENT);
	if (w->verdict != EXPAND_OK)
		return full;
	if (r.orig_addr.len == 0)
		r.orig_addr = r.addr;
	r.addr = full;
	if (map_list_is_empty(w->x->virtual_alias_maps) ||
	    (w->e->flags & ENVF_NO_RECIPIENT_MAPS) != 0)
		add_final(w, r);
	else
		expand_one(w, &st, full, 0);
	return full;
}

static void add_bcc(struct expand_work *w, struct sv addr)
{
	struct env_rcpt r = { .addr = addr, .notify = NOTIFY_NEVER };

	if (addr.len > 0)
		add_rcpt(w, r);
}

static void add_bcc_map(struct expand_work *w, struct map_list *l, struct sv addr)
{
	struct expander *x = w->x;
	struct sv ext, local, domain;
	enum map_status st;
	char *text;

	if (addr.len == 0 || map_list_is_empty(l) || w->verdict != EXPAND_OK)
		return;
	mail_addr_split(addr, &local, &domain);
	buf_reset(&x->value);
	int bare = resolver_has_bare_key(x->resolver, domain);

	st = bare < 0 ? MAP_ERROR
		      : map_list_get_addr(l, addr, x->p->recipient_delimiter, bare > 0, &x->value,
					  &ext);
	if (st == MAP_ERROR) {
		w->verdict = EXPAND_TABLE;
	} else if (st == MAP_FOUND) {
		text = arena_strndup(w->a, buf_cstr(&x->value), x->value.len);
		if (text == NULL)
			w->verdict = EXPAND_MEMORY;
		else
			add_bcc(w, (struct sv){ text, x->value.len });
	}
}

static void add_all(struct expand_work *w)
{
	struct envelope *e = w->e;
	bool bcc = (e->flags & (ENVF_NO_RECIPIENT_MAPS | ENVF_INTERNAL)) == 0;

	if (e->redirect.len > 0) {
		add_rcpt(w, (struct env_rcpt){ .addr = e->redirect });
		return;
	}
	for (size_t i = 0; i < e->rcpt_count && w->verdict == EXPAND_OK; i++) {
		struct sv full = add_rcpt(w, e->rcpts[i]);

		if (bcc)
			add_bcc_map(w, w->x->recipient_bcc, full);
		go_on_asking(w);
	}
	if (!bcc)
		return;
	if (w->x->p->always_bcc[0] != '\0')
		add_bcc(w, sv_from(w->x->p->always_bcc));
	add_bcc_map(w, w->x->sender_bcc, e->sender);
}

/* Postfix: mail "from" MAILER-DAEMON here is mail from the null sender. */
static bool is_mailer_daemon(const struct expander *x, struct sv sender)
{
	struct sv local, domain;

	return mail_addr_split(sender, &local, &domain) &&
	       sv_eq_nocase(local, SV("MAILER-DAEMON")) && sv_eq_nocase(domain, x->rules->myorigin);
}

static struct sv final_sender(struct expand_work *w)
{
	struct sv full;

	if (addr_complete(w->x->rules, w->e->sender, true, w->a, &full) < 0) {
		w->verdict = EXPAND_MEMORY;
		return w->e->sender;
	}
	if (is_mailer_daemon(w->x, full))
		full.len = 0;
	return full.len == 0 ? full : final_addr(w, full, MAPPING_ENVELOPE_SENDER);
}

struct sv expand_sender(struct expander *x, const struct envelope *e, struct arena *a)
{
	struct envelope copy = *e;
	struct expand_work w = { .x = x, .a = a, .e = &copy };
	struct sv sender = final_sender(&w);

	return w.verdict == EXPAND_OK ? sender : e->sender;
}

enum expand_verdict expand_envelope(struct expander *x, struct envelope *e, struct arena *a)
{
	struct expand_work w = { .x = x, .a = a, .e = e };

	x->dup_count = 0;
	if (++x->round == 0) {
		memset(x->dups, 0, (x->dup_mask + 1) * sizeof(*x->dups));
		x->round = 1;
	}
	e->sender = final_sender(&w);
	if (w.verdict == EXPAND_OK)
		add_all(&w);
	if (a->full)
		return EXPAND_MEMORY;
	e->rcpts = w.list.rcpts;
	e->rcpt_count = w.list.rcpt_count;
	e->rcpt_cap = w.list.rcpt_cap;
	return w.verdict == EXPAND_OK && map_memo_is_missing() ? EXPAND_TABLE : w.verdict;
}
