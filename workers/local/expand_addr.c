/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Addresses in expansions: aliases, users, other systems, other transports. See
 * workers/local/expand_int.h. */
#include <string.h>

#include "lib/err.h"
#include "lib/mailaddr.h"
#include "workers/local/expand_int.h"

/* What stands in Delivered-To of what becomes of the item. */
struct sv expand_delivered(const struct expansion *x, const struct origin *from)
{
	return from != NULL && from->delivered != NULL ? sv_from(from->delivered)
						       : x->r->rcpt->addr;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void add_forward(struct expansion *x, struct sv local, struct sv domain,
			const struct origin *from)
{
	struct forward_group **at = &x->groups, *g;
	struct buf addr = BUF_INIT;
	const char *sender = from->sender, *delivered = from->delivered;

	buf_add_sv(&addr, local);
	buf_add_c(&addr, '@');
	buf_add_sv(&addr, domain);
	if (expand_seen(x, "forward", buf_sv(&addr))) {
		buf_fini(&addr);
		return;
	}
	while (*at != NULL && ((*at)->transport != NULL || !same_text((*at)->sender, sender) ||
			       !same_text((*at)->delivered, delivered)))
		at = &(*at)->next;
	g = *at;
	if (g == NULL) {
		g = *at = arena_calloc(&x->r->job->arena, sizeof(*g));
		if (g != NULL) {
			g->sender = sender;
			g->delivered = delivered;
		}
	}
	if (g == NULL) {
		x->full = true;
	} else {
		struct env_rcpt rcpt = { .addr = { expand_keep(x, buf_sv(&addr)), addr.len } };

		if (env_add_rcpt(&g->env, &x->r->job->arena, &rcpt) != 0)
			x->full = true;
	}
	buf_fini(&addr);
}

/* Is the name among those that led here? The nearest of them stands for the user of that name. */
static bool is_loop(const struct origin *from, struct sv name, bool *nearest_r)
{
	*nearest_r =
		from != NULL && from->alias != NULL && sv_eq_nocase(name, sv_from(from->alias));
	for (const struct origin *o = from; o != NULL; o = o->parent) {
		if (o->alias != NULL && sv_eq_nocase(name, sv_from(o->alias)))
			return true;
	}
	return false;
}

static bool is_owner_name(struct sv name)
{
	static const struct sv owner = { "owner-", 6 }, request = { "-request", 8 };

	return (name.len > owner.len && sv_eq_nocase((struct sv){ name.p, owner.len }, owner)) ||
	       (name.len > request.len &&
		sv_eq_nocase((struct sv){ name.p + name.len - request.len, request.len }, request));
}

/* owner-NAME is an alias: mail that is sent on comes from it. */
static void find_owner(struct expansion *x, struct sv name, struct sv domain, struct origin *o)
{
	const struct params *p = x->r->job->l->w->params;
	struct buf owner = BUF_INIT, value = BUF_INIT, sender = BUF_INIT;
	struct lookup_rights rights;
	struct sv list;
	enum alias_kind kind;

	if (p->owner_request_special && is_owner_name(name))
		return;
	buf_add_str(&owner, "owner-");
	buf_add_sv(&owner, name);
	switch (lookup_alias(x->k, buf_sv(&owner), &value, &rights)) {
	case MAP_FOUND:
		list = buf_sv(&value);
		if (!p->expand_owner_alias || !alias_next(&list, &kind, &sender) ||
		    kind != ALIAS_ADDRESS) {
			buf_reset(&sender);
			buf_add_sv(&sender, buf_sv(&owner));
		}
		if (memchr(buf_cstr(&sender), '@', sender.len) == NULL) {
			buf_add_c(&sender, '@');
			buf_add_sv(&sender, domain);
		}
		o->indirect = true;
		if (alias_address_ok(buf_sv(&sender)))
			o->sender = expand_keep(x, buf_sv(&sender));
		break;
	case MAP_ERROR:
		x->table_error = true;
		break;
	case MAP_NOT_FOUND:
		/* an alias below a list without an owner of its own keeps the list's */
		if (p->reset_owner_alias) {
			o->sender = NULL;
			o->indirect = false;
		}
		break;
	}
	buf_fini(&owner);
	buf_fini(&value);
	buf_fini(&sender);
}

void expand_pass(struct expansion *x, struct sv to, struct sv transport)
{
	struct forward_group **at = &x->groups;
	struct env_rcpt rcpt = { .addr = to };
	const char *colon = memchr(transport.p, ':', transport.len);
	size_t len = colon != NULL ? (size_t)(colon - transport.p) : transport.len;
	char *name = arena_strndup(&x->r->job->arena, transport.p, len);
	const struct conf_transport *t =
		name == NULL ? NULL : conf_transport_find(x->r->job->l->w->conf, name);
	struct forward_group *g = arena_calloc(&x->r->job->arena, sizeof(*g));

	if (t != NULL && t->kind == TRANSPORT_LOCAL) {
		expand_fail(x, to, "4.3.5",
			    "mail system configuration error: %s passes mail to itself", name);
		return;
	}
	if (g == NULL || env_add_rcpt(&g->env, &x->r->job->arena, &rcpt) != 0) {
		x->full = true;
		return;
	}
	g->transport = arena_printf(&x->r->job->arena, "%.*s%s", (int)transport.len, transport.p,
				    colon != NULL ? "" : ":");
	while (*at != NULL)
		at = &(*at)->next;
	*at = g;
}

/* Another transport takes the mail of the name; true when that is settled. */
static bool try_transport(struct expansion *x,
			  enum map_status (*look_up)(struct lookup *, struct sv, struct buf *),
			  struct sv name, struct sv to)
{
	struct buf transport = BUF_INIT;
	enum map_status st = look_up(x->k, name, &transport);

	if (st == MAP_ERROR)
		expand_fail(x, to, "4.3.0", "transport table lookup failed");
	else if (st == MAP_FOUND && transport.len > 0)
		expand_pass(x, to, sv_trim(buf_sv(&transport)));
	bool settled = st == MAP_ERROR || (st == MAP_FOUND && transport.len > 0);

	buf_fini(&transport);
	return settled;
}

/* True: it is an alias, or its table cannot be asked, and that is done. */
static bool try_alias(struct expansion *x, struct sv local, struct sv base, struct sv domain,
		      struct sv to, const struct origin *from)
{
	bool propagates = (lookup_propagates(x->k) & ALLOW_ALIAS) != 0;
	struct buf value = BUF_INIT;
	struct lookup_rights rights;
	struct sv name = local;
	enum map_status st = lookup_alias(x->k, name, &value, &rights);
	bool nearest;

	if (st == MAP_NOT_FOUND && base.len < local.len) {
		name = base;
		st = lookup_alias(x->k, name, &value, &rights);
	}
	if (st == MAP_FOUND && is_loop(from, name, &nearest)) {
		st = MAP_NOT_FOUND;
		if (!nearest) {
			expand_fail(x, to, "5.4.6", "alias database loop for %.*s", (int)name.len,
				    name.p);
			st = MAP_FOUND;
		}
	} else if (st == MAP_FOUND && expand_is_verified(x)) {
		expand_fail(x, to, "2.0.0", "aliased to %s", buf_cstr(&value));
	} else if (st == MAP_FOUND) {
		struct origin *o = expand_origin(x, from);

		if (o != NULL) {
			o->alias = expand_keep(x, name);
			o->allow = ALLOW_ALIAS;
			o->rights = rights;
			o->own_rights = rights.uid != lookup_default(x->k).uid;
			o->user = NULL;
			o->home = NULL;
			o->included = false;
			o->unmatched = name.len < local.len && propagates
					       ? expand_keep(x, (struct sv){ local.p + name.len,
									     local.len - name.len })
					       : NULL;
			if (!x->r->job->l->w->params->frozen_delivered_to)
				o->delivered = to.p;
			find_owner(x, name, domain, o);
			expand_add_list(x, buf_sv(&value), o);
		}
	} else if (st == MAP_ERROR) {
		expand_fail(x, to, "4.3.0", "alias database unavailable");
	}
	buf_fini(&value);
	return st != MAP_NOT_FOUND;
}

static void unknown_user(struct expansion *x, struct sv base, struct sv local, struct sv domain,
			 struct sv to, const struct origin *from)
{
	const char *relay = x->r->job->l->w->params->luser_relay;
	struct origin *o;

	/* users need not be known to the system then */
	if (try_transport(x, lookup_mailbox_transport, base, to) ||
	    try_transport(x, lookup_fallback_transport, base, to))
		return;
	if (relay[0] == '\0' || (from != NULL && from->luser)) {
		expand_fail(x, to, "5.1.1", "unknown user: \"%.*s\"", (int)base.len, base.p);
		return;
	}
	o = expand_origin(x, from);
	if (o == NULL)
		return;
	o->luser = true;
	o->indirect = true;
	o->unmatched = NULL;
	expand_luser(x, relay, local, domain, o);
}

/* Does the item come from the user's own .forward? Then his mailbox is meant. */
bool expand_is_own(const struct origin *from, const char *user)
{
	return from != NULL && from->user != NULL && strcmp(from->user, user) == 0;
}

/* An address of this system. */
static void deliver_local(struct expansion *x, struct sv local, struct sv domain, bool plain,
			  bool own_user, const struct origin *from)
{
	const struct params *p = x->r->job->l->w->params;
	struct buf to = BUF_INIT;
	struct sv base, ext, to_sv;
	int found;

	mail_addr_split_ext(local, p->recipient_delimiter, &base, &ext);
	buf_add_sv(&to, local);
	buf_add_c(&to, '@');
	buf_add_sv(&to, domain);
	to_sv = (struct sv){ expand_keep(x, buf_sv(&to)), to.len };
	buf_fini(&to);
	if (x->full)
		return;
	if (from != NULL && job_is_loop(x->r->job, to_sv)) {
		expand_fail(x, to_sv, "5.4.6", "mail forwarding loop for %s", to_sv.p);
		return;
	}
	if (!plain && !own_user && try_alias(x, local, base, domain, to_sv, from))
		return;
	if (from != NULL && from->indirect && !own_user) {
		add_forward(x, local, domain, from);
		return;
	}
	found = lookup_find_user(base, &x->user);
	if (found < 0)
		expand_fail(x, to_sv, "4.3.0", "user lookup error: %s", err_str(found));
	else if (found == 0)
		unknown_user(x, base, local, domain, to_sv, from);
	else if (expand_is_own(from, x->user.name) ||
		 !expand_seen(x, "user", sv_from(x->user.name)))
		expand_user(x, ext, to_sv, from);
}

void expand_address(struct expansion *x, struct sv addr, const struct origin *from)
{
	struct sv local, domain, base, ext;
	bool plain = addr.len > 1 && addr.p[0] == '\\', own_user;
	int is_local;

	if (plain) {
		addr.p++;
		addr.len--;
	}
	if (from != NULL && !alias_address_ok(addr)) {
		expand_fail(x, x->r->rcpt->addr, "5.1.3", "bad address syntax in an alias or list");
		return;
	}
	if (!mail_addr_split(addr, &local, &domain))
		domain = sv_from(x->r->job->l->w->params->myorigin);
	if (from != NULL && from->unmatched != NULL) {
		local.p = arena_printf(&x->r->job->arena, "%.*s%s", (int)local.len, local.p,
				       from->unmatched);
		x->full = x->full || local.p == NULL;
		if (x->full)
			return;
		local.len = strlen(local.p);
	}
	if (from == NULL)
		is_local = 1; /* the recipient itself: that is why it is here */
	else
		is_local = lookup_is_local(x->k, domain);
	if (is_local < 0) {
		expand_fail(x, x->r->rcpt->addr, "4.3.0", "mydestination: table lookup failed");
		return;
	}
	mail_addr_split_ext(local, x->r->job->l->w->params->recipient_delimiter, &base, &ext);
	own_user = from != NULL && from->user != NULL && !from->included &&
		   sv_eq_nocase(base, sv_from(from->user));
	if (is_local == 0)
		add_forward(x, local, domain, from);
	else
		deliver_local(x, local, domain, plain, own_user, from);
}
