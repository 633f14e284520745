/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Aliases and .forward files; see workers/local/local_expand.h. What addresses become is in
 * expand_addr.c, what is done in expand_act.c.
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

char *expand_keep(struct expansion *x, struct sv s)
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
	*i = (struct item){ .kind = kind, .text = expand_keep(x, text), .from = from };
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
/* ~/file; ~user/file is none. */
static void process_home(struct expansion *x, const char *text, const struct origin *from)
{
	const char *home = from->home, *path;

	if (text[1] == '/' && home != NULL) {
		path = arena_printf(&x->r->job->arena, "%s%s", strcmp(home, "/") == 0 ? "" : home,
				    text + 1);
		x->full = x->full || path == NULL;
		if (path != NULL)
			add_item(x, ALIAS_FILE, sv_from(path), from);
		return;
	}
	log_warn("%s for: %s",
		 text[1] == '/' ? "unknown home directory" : "bad home directory syntax", text);
	expand_fail(x, x->r->rcpt->addr, "5.3.5", "mail system configuration error");
}
/* ---- the list ---- */

/* The same command, file or list, with the same user's rights, is done once. */
static bool is_done(struct expansion *x, const char *kind, const struct item *i)
{
	char as[48];

	snprintf(as, sizeof(as), "%s %ld", kind, i->from != NULL ? (long)i->from->rights.uid : -1L);
	return expand_seen(x, as, sv_from(i->text));
}

static void process(struct expansion *x, const struct item *i)
{
	struct sv to = x->r->rcpt->addr;
	unsigned need = i->from == NULL ? 0 : i->from->allow;

	if (i->from != NULL && i->from->depth > EXPAND_DEPTH_MAX) {
		log_warn("alias database loop for %s", i->text);
		expand_fail(x, to, "5.4.6", "alias database loop for %s", i->text);
		return;
	}
	switch (i->kind) {
	case ALIAS_ADDRESS:
		if (i->from != NULL && i->text[0] == '~')
			process_home(x, i->text, i->from);
		else
			expand_address(x, sv_from(i->text), i->from);
		break;
	case ALIAS_COMMAND:
		if ((lookup_commands(x->k) & need) != need)
			expand_fail(x, to, "5.7.1", "mail to command is restricted");
		else if (!is_done(x, "command", i))
			expand_command(x, i->text, i->from);
		break;
	case ALIAS_FILE:
		if ((lookup_files(x->k) & need) != need)
			expand_fail(x, to, "5.7.1", "mail to file is restricted");
		else if (!is_done(x, "file", i))
			expand_file(x, i->text, i->from);
		break;
	case ALIAS_INCLUDE:
		if (!is_done(x, "include", i))
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
