/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What milters change of an envelope, and milter_header_checks. The changes of one milter hold
 * together or not at all: filter_edited(). */
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "workers/mail/address.h"
#include "workers/mail/xtext.h"
#include "workers/rewrite/filter.h"

#define RCPT_MAX 100000u

static void warn(const struct filter *f, const char *what, struct sv text)
{
	log_as(f->tx->m.chain->log_name, LOG_LEVEL_WARN, "%s: %s: \"%.*s\"", f->tx->m.qid_text,
	       what, (int)size_min(text.len, 100), text.p);
}

/* The first change of a milter: the recipients become a list of its own. */
static bool begin_edit(struct filter *f)
{
	struct message *m = &f->tx->m;
	struct env_rcpt *copy;

	if (f->edited)
		return true;
	f->before = m->env;
	copy = arena_alloc(&m->arena, (m->env.rcpt_count + 8) * sizeof(*copy));
	if (copy == NULL)
		return false;
	if (m->env.rcpt_count > 0)
		memcpy(copy, m->env.rcpts, m->env.rcpt_count * sizeof(*copy));
	m->env.rcpts = copy;
	m->env.rcpt_cap = m->env.rcpt_count + 8;
	f->edited = true;
	return true;
}

/* Internal form in the arena, without angle brackets. False: there is no address in it. */
static bool take_address(struct filter *f, struct sv text, struct sv *addr_r)
{
	struct buf addr = BUF_INIT;
	struct sv rest;
	bool good = mail_addr_parse_path(sv_trim(text), 0, &addr, &rest) == 0;
	const char *kept = good ? arena_strndup(&f->tx->m.arena, buf_cstr(&addr), addr.len) : NULL;

	if (kept != NULL)
		*addr_r = (struct sv){ kept, addr.len };
	buf_fini(&addr);
	return kept != NULL;
}

static bool key_is(struct sv word, const char *key, struct sv *value_r)
{
	size_t n = strlen(key);

	if (word.len < n || !sv_eq_nocase((struct sv){ word.p, n }, sv_from(key)))
		return false;
	*value_r = (struct sv){ word.p + n, word.len - n };
	return true;
}

static struct sv keep_decoded(struct filter *f, const struct buf *text)
{
	const char *kept = arena_strndup(&f->tx->m.arena, buf_cstr(text), text->len);

	return kept != NULL ? (struct sv){ kept, text->len } : SV("");
}

/* ---- recipients ---- */

static bool orcpt(struct filter *f, struct sv v, struct env_rcpt *r)
{
	struct sv rest = v, type = sv_next_part(&rest, ';');
	struct buf text = BUF_INIT;
	bool good = type.len > 0 && type.len < v.len && r->orcpt.len == 0;

	buf_add_sv(&text, type);
	buf_add_c(&text, ';');
	good = good && (sv_eq_nocase(type, SV("utf-8")) ? mail_utf8_xtext_decode(rest, &text)
							: mail_xtext_decode(rest, &text));
	if (good)
		r->orcpt = keep_decoded(f, &text);
	buf_fini(&text);
	return good;
}

static void rcpt_args(struct filter *f, struct sv args, struct env_rcpt *r)
{
	while (args.len > 0) {
		struct sv word = sv_next_part(&args, ' '), v;

		if (word.len == 0)
			continue;
		if (key_is(word, "NOTIFY=", &v)) {
			if (r->notify != 0 || (r->notify = (uint8_t)env_notify_parse(v)) == 0)
				warn(f, "Bad NOTIFY parameter from Milter or header/body_checks",
				     word);
		} else if (key_is(word, "ORCPT=", &v)) {
			if (!orcpt(f, v, r))
				warn(f, "Bad ORCPT parameter from Milter or header/body_checks",
				     word);
		} else {
			warn(f, "ignoring ESMTP argument from Milter or header/body_checks", word);
		}
	}
}

static const char *add_rcpt(struct filter *f, const struct milter_edit *e)
{
	struct message *m = &f->tx->m;
	struct env_rcpt r = { .notify = 0 };

	if (!take_address(f, e->addr, &r.addr) || r.addr.len == 0) {
		warn(f, "ignoring attempt from Milter to add null recipient", e->addr);
		return NULL;
	}
	rcpt_args(f, e->args, &r);
	for (size_t i = 0; i < m->env.rcpt_count; i++) {
		if (sv_eq(m->env.rcpts[i].addr, r.addr))
			return NULL;
	}
	if (m->env.rcpt_count >= RCPT_MAX || env_add_rcpt(&m->env, &m->arena, &r) != 0)
		return "452 4.3.1 Insufficient system storage";
	return NULL;
}

/* With whatever it is expanded to, which is not known yet. */
static const char *del_rcpt(struct filter *f, const struct milter_edit *e)
{
	struct envelope *env = &f->tx->m.env;
	struct sv addr;
	size_t kept = 0;

	if (!take_address(f, e->addr, &addr))
		return NULL;
	for (size_t i = 0; i < env->rcpt_count; i++) {
		if (!sv_eq_nocase(env->rcpts[i].addr, addr))
			env->rcpts[kept++] = env->rcpts[i];
	}
	env->rcpt_count = kept;
	return NULL;
}

/* ---- sender ---- */

static bool envid(struct filter *f, struct sv v)
{
	struct buf text = BUF_INIT;
	bool good = v.len > 0 && mail_xtext_decode(v, &text);

	if (good)
		f->tx->m.env.envid = keep_decoded(f, &text);
	buf_fini(&text);
	return good;
}

static void from_args(struct filter *f, struct sv args)
{
	struct envelope *env = &f->tx->m.env;

	while (args.len > 0) {
		struct sv word = sv_next_part(&args, ' '), v;
		bool good = false;

		if (word.len == 0)
			continue;
		if (key_is(word, "RET=", &v)) {
			good = sv_eq_nocase(v, SV("FULL")) || sv_eq_nocase(v, SV("HDRS"));
			if (good)
				env->ret =
					sv_eq_nocase(v, SV("FULL")) ? DSN_RET_FULL : DSN_RET_HDRS;
		} else if (key_is(word, "ENVID=", &v)) {
			good = envid(f, v);
		}
		if (!good)
			warn(f, "Ignoring bad ESMTP parameter in SMFI_CHGFROM request", word);
	}
}

static const char *change_from(struct filter *f, const struct milter_edit *e)
{
	struct sv addr = SV("");

	from_args(f, e->args);
	if (sv_trim(e->addr).len > 0 && !take_address(f, e->addr, &addr)) {
		warn(f, "ignoring a bad sender from Milter", e->addr);
		return NULL;
	}
	f->tx->m.env.sender = addr;
	return NULL;
}

/* ---- all ---- */

const char *filter_edit(void *ctx, const struct milter_edit *e)
{
	static const char *(*const edits[])(struct filter * f, const struct milter_edit *e) = {
		[MILTER_EDIT_ADD_RCPT] = add_rcpt,
		[MILTER_EDIT_DEL_RCPT] = del_rcpt,
		[MILTER_EDIT_FROM] = change_from,
	};
	struct filter *f = ctx;

	if (f->tx == NULL)
		return NULL;
	if (!begin_edit(f))
		return "452 4.3.1 Insufficient system storage";
	return edits[e->kind](f, e);
}

/* What the milter whose turn it was changed holds, or does not. When header checks have refused or
 * dropped the message, the others need not see it; they have logged it. */
const char *filter_edited(void *ctx, bool keep)
{
	struct filter *f = ctx;

	if (f->tx == NULL)
		return NULL;
	if (f->edited && !keep)
		f->tx->m.env = f->before;
	f->edited = false;
	if (f->check_run.refusal.code != 0)
		return "550 5.7.1 message content rejected";
	return (f->tx->m.env.flags & ENVF_DISCARD) != 0 ? "D" : NULL;
}

bool filter_check(void *ctx, struct buf *header)
{
	struct filter *f = ctx;

	return f->tx == NULL || !f->checks || checks_milter_header(&f->check_run, header);
}
