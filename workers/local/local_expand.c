/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Aliases and .forward files; see workers/local/local_expand.h.
 *
 * An expansion is a list of items, worked off one after the other. Mail that is to be sent on is
 * gathered and submitted last, as one message for each sender, and only when nothing else has to be
 * tried again: a second try repeats it all. The recipient's outcome is that of the worst item.
 */
#include "workers/local/local_expand.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/map.h"
#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/local/alias.h"
#include "workers/local/expand_int.h"
#include "workers/local/readfile.h"

/* ---- results ---- */

void expand_result(struct expansion *x, struct sv to, const uint8_t was[3], struct sv text)
{
	struct rcpt_job *r = x->r;
	uint8_t dsn[3] = { was[0], was[1], was[2] };
	const char *status = rcpt_filter(r, dsn, &text);

	rcpt_log(r, to, dsn, text, status);
	if (dsn[0] == 4)
		x->deferred = true;
	/* the worst is the recipient's: 2, then 5, then 4 */
	if (!x->has_verdict ||
	    (r->verdict.dsn[0] != 4 && dsn[0] != 2 && (r->verdict.dsn[0] == 2 || dsn[0] == 4))) {
		rcpt_set_verdict(r, dsn, text);
		x->has_verdict = true;
	}
}

void expand_fail(struct expansion *x, struct sv to, const char *status, const char *fmt, ...)
{
	uint8_t dsn[3] = { (uint8_t)(status[0] - '0'), (uint8_t)(status[2] - '0'),
			   (uint8_t)(status[4] - '0') };
	struct buf text = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	expand_result(x, to, dsn, buf_sv(&text));
	buf_fini(&text);
}

/* ---- items ---- */

static char *keep(struct expansion *x, struct sv s)
{
	char *p = arena_strndup(&x->r->job->arena, s.p, s.len);

	x->full = x->full || p == NULL;
	return p;
}

static void add_item(struct expansion *x, enum alias_kind kind, struct sv text,
		     const struct origin *from)
{
	struct item *i = arena_calloc(&x->r->job->arena, sizeof(*i));

	if (i == NULL || ++x->item_count > EXPAND_ITEMS_MAX) {
		x->full = true;
		return;
	}
	*i = (struct item){ .kind = kind, .text = keep(x, text), .from = from };
	*x->tail = i;
	x->tail = &i->next;
}

void expand_add_list(struct expansion *x, struct sv list, const struct origin *from)
{
	struct buf text = BUF_INIT;
	enum alias_kind kind;

	while (!x->full && alias_next(&list, &kind, &text))
		add_item(x, kind, buf_sv(&text), from);
	buf_fini(&text);
}

struct origin *expand_origin(struct expansion *x, const struct origin *parent)
{
	struct origin *o = arena_calloc(&x->r->job->arena, sizeof(*o));

	if (o == NULL) {
		x->full = true;
		return NULL;
	}
	if (parent != NULL)
		*o = *parent;
	o->parent = parent;
	o->depth = parent != NULL ? parent->depth + 1 : 0;
	return o;
}

/* Has it been delivered to (or begun) in this expansion? Remembers it. */
bool expand_seen(struct expansion *x, const char *kind, struct sv what)
{
	struct buf key = BUF_INIT;
	static char mark;

	buf_printf(&key, "%s:", kind);
	buf_add_sv(&key, what);
	str_lower(key.p, key.len);
	bool seen = strmap_put(x->seen, buf_sv(&key), &mark) != NULL;

	buf_fini(&key);
	return seen;
}

/* ---- addresses ---- */

static void add_forward(struct expansion *x, struct sv local, struct sv domain,
			const struct origin *from)
{
	struct forward_group **at = &x->groups, *g;
	struct buf addr = BUF_INIT, key = BUF_INIT;
	const char *sender = from->sender;

	buf_add_sv(&addr, local);
	buf_add_c(&addr, '@');
	buf_add_sv(&addr, domain);
	buf_printf(&key, "%s>", sender == NULL ? "" : sender);
	buf_add_sv(&key, buf_sv(&addr));
	while (*at != NULL &&
	       ((*at)->transport != NULL ||
		((*at)->sender != sender &&
		 (sender == NULL || (*at)->sender == NULL || strcmp((*at)->sender, sender) != 0))))
		at = &(*at)->next;
	g = *at;
	if (g == NULL) {
		g = *at = arena_calloc(&x->r->job->arena, sizeof(*g));
		if (g != NULL)
			g->sender = sender;
	}
	if (g == NULL) {
		x->full = true;
	} else if (!expand_seen(x, "forward", buf_sv(&key))) {
		struct env_rcpt rcpt = { .addr = { keep(x, buf_sv(&addr)), addr.len } };

		if (env_add_rcpt(&g->env, &x->r->job->arena, &rcpt) != 0)
			x->full = true;
	}
	buf_fini(&addr);
	buf_fini(&key);
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
			o->sender = keep(x, buf_sv(&sender));
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
	} else if (st == MAP_FOUND) {
		struct origin *o = expand_origin(x, from);

		if (o != NULL) {
			o->alias = keep(x, name);
			o->allow = ALLOW_ALIAS;
			o->rights = rights;
			o->user = NULL;
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
	expand_luser(x, relay, local, domain, o);
}

/* Does the item come from the user's own .forward? Then his mailbox is meant. */
bool expand_is_own(const struct origin *from, const char *user)
{
	return from != NULL && from->user != NULL && strcmp(from->user, user) == 0;
}

/* An address of this system. */
static void deliver_local(struct expansion *x, struct sv local, struct sv domain, bool plain,
			  const struct origin *from)
{
	const struct params *p = x->r->job->l->w->params;
	struct buf to = BUF_INIT;
	struct sv base, ext, to_sv;
	int found;

	mail_addr_split_ext(local, p->recipient_delimiter, &base, &ext);
	buf_add_sv(&to, local);
	buf_add_c(&to, '@');
	buf_add_sv(&to, domain);
	to_sv = (struct sv){ keep(x, buf_sv(&to)), to.len };
	buf_fini(&to);
	if (x->full)
		return;
	if (!plain && try_alias(x, local, base, domain, to_sv, from))
		return;
	found = lookup_find_user(base, &x->user);
	if (found < 0)
		expand_fail(x, to_sv, "4.3.0", "user lookup error: %s", err_str(found));
	else if (found == 0)
		unknown_user(x, base, local, domain, to_sv, from);
	else if (expand_is_own(from, x->user.name) ||
		 !expand_seen(x, "user", sv_from(x->user.name)))
		expand_user(x, ext, to_sv, from);
}

static void process_address(struct expansion *x, struct sv addr, const struct origin *from)
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
	if (from == NULL)
		is_local = 1; /* the recipient itself: that is why it is here */
	else
		is_local = lookup_is_local(x->k, domain);
	if (is_local < 0) {
		expand_fail(x, x->r->rcpt->addr, "4.3.0", "mydestination: table lookup failed");
		return;
	}
	mail_addr_split_ext(local, x->r->job->l->w->params->recipient_delimiter, &base, &ext);
	own_user = from != NULL && from->user != NULL && sv_eq_nocase(base, sv_from(from->user));
	if (is_local == 0 || (from != NULL && from->indirect && !own_user))
		add_forward(x, local, domain, from);
	else
		deliver_local(x, local, domain, plain || own_user, from);
}

/* ---- the list ---- */

static void process(struct expansion *x, const struct item *i)
{
	struct sv to = x->r->rcpt->addr;
	unsigned need = i->from == NULL ? 0 : i->from->allow;

	if (i->from != NULL && i->from->depth > EXPAND_DEPTH_MAX) {
		expand_fail(x, to, "5.4.6", "unreasonable alias nesting");
		return;
	}
	switch (i->kind) {
	case ALIAS_ADDRESS:
		process_address(x, sv_from(i->text), i->from);
		break;
	case ALIAS_COMMAND:
		if ((lookup_commands(x->k) & need) != need)
			expand_fail(x, to, "5.7.1", "mail to command is restricted");
		else if (!expand_seen(x, "command", sv_from(i->text)))
			expand_command(x, i->text, i->from);
		break;
	case ALIAS_FILE:
		if ((lookup_files(x->k) & need) != need)
			expand_fail(x, to, "5.7.1", "mail to file is restricted");
		else if (!expand_seen(x, "file", sv_from(i->text)))
			expand_file(x, i->text, i->from);
		break;
	case ALIAS_INCLUDE:
		expand_include(x, i->text, i->from);
		break;
	}
}

/* Everything that the address may be looked up by, so that remote tables are asked before anything
 * is done. */
static void look_ahead(struct expansion *x, struct sv addr)
{
	const struct params *p = x->r->job->l->w->params;
	struct buf key = BUF_INIT, value = BUF_INIT;
	struct sv local, domain, base, ext;
	struct lookup_rights rights;

	if (addr.len > 1 && addr.p[0] == '\\')
		addr = (struct sv){ addr.p + 1, addr.len - 1 };
	if (!mail_addr_split(addr, &local, &domain))
		domain = sv_from(p->myorigin);
	lookup_is_local(x->k, domain);
	mail_addr_split_ext(local, p->recipient_delimiter, &base, &ext);
	lookup_alias(x->k, local, &value, &rights);
	lookup_alias(x->k, base, &value, &rights);
	buf_add_str(&key, "owner-");
	buf_add_sv(&key, local);
	lookup_alias(x->k, buf_sv(&key), &value, &rights);
	key.len -= local.len - base.len;
	lookup_alias(x->k, buf_sv(&key), &value, &rights);
	buf_reset(&key);
	buf_add_sv(&key, base);
	if (key.len > 0)
		str_lower(key.p, key.len);
	lookup_mailbox_command(x->k, buf_sv(&key), &value);
	lookup_mailbox_transport(x->k, buf_sv(&key), &value);
	lookup_mailbox_transport(x->k, base, &value);
	lookup_fallback_transport(x->k, base, &value);
	buf_fini(&key);
	buf_fini(&value);
}

static void fetched(void *ctx)
{
	struct expansion *x = ctx;

	x->busy = false;
	expand_step(x);
}

/* False: remote tables are asked, and the item's turn comes when they have answered. */
static bool answers_are_there(struct expansion *x, struct item *i)
{
	if (i->kind != ALIAS_ADDRESS || !map_remote_is_used())
		return true;
	if (x->memo == NULL)
		x->memo = map_memo_new();
	for (;;) {
		map_memo_enter(x->memo);
		look_ahead(x, sv_from(i->text));
		if (!map_memo_leave())
			return true;
		x->busy = tables_fetch(x->r->job->l->tables, x->memo, fetched, x) != NULL;
		if (x->busy)
			return false;
	}
}

static void finish(struct expansion *x)
{
	struct rcpt_job *r = x->r;

	if (!x->has_verdict) /* nothing is left of it: an empty list */
		expand_result(x, r->rcpt->addr, (const uint8_t[]){ 2, 0, 0 },
			      SV("delivered to an empty list"));
	r->verdict.passed = x->passed;
	r->verdict.unsure = x->unsure && r->verdict.dsn[0] == 4;
	strmap_free(&x->seen);
	map_memo_free(&x->memo);
	io_close(&x->read_fd);
	buf_fini(&x->header);
	buf_fini(&x->scratch);
	rcpt_done(r);
}

void expand_step(struct expansion *x)
{
	while (x->head != NULL && !x->busy && !x->full) {
		struct item *i = x->head;

		if (!answers_are_there(x, i))
			return;
		x->head = i->next;
		if (x->head == NULL)
			x->tail = &x->head;
		if (x->memo != NULL)
			map_memo_enter(x->memo);
		x->in_memo = x->memo != NULL;
		process(x, i);
		if (x->in_memo)
			map_memo_leave();
		x->in_memo = false;
	}
	if (x->busy)
		return;
	if (x->full || x->table_error) {
		expand_fail(x, x->r->rcpt->addr, x->full ? "4.3.0" : "4.3.0",
			    x->full ? "too many recipients in aliases"
				    : "alias database unavailable");
		x->full = x->table_error = false;
		x->head = NULL;
	}
	if (x->groups != NULL && !x->deferred) {
		struct forward_group *g = x->groups;

		x->groups = g->next;
		if (expand_forward(x, g))
			return;
		expand_step(x);
		return;
	}
	finish(x);
}

void expand_start(struct rcpt_job *r)
{
	struct job *j = r->job;
	struct expansion *x = arena_calloc(&j->arena, sizeof(*x));

	if (x == NULL) {
		rcpt_set_verdict(r, (const uint8_t[]){ 4, 3, 0 }, SV("out of memory"));
		rcpt_log(r, r->rcpt->addr, r->verdict.dsn, r->verdict.text, "deferred");
		rcpt_done(r);
		return;
	}
	*x = (struct expansion){ .r = r, .k = j->l->aliases, .seen = strmap_new(), .read_fd = -1 };
	x->tail = &x->head;
	if (job_is_loop(j, r->rcpt->addr))
		expand_fail(x, r->rcpt->addr, "5.4.6", "mail forwarding loop for %.*s",
			    (int)r->rcpt->addr.len, r->rcpt->addr.p);
	else
		add_item(x, ALIAS_ADDRESS, r->rcpt->addr, NULL);
	expand_step(x);
}
