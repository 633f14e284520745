/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Evaluation. Each event of a session has a plan: which lists are walked in which order and what is
 * done between them (smtpd_delay_reject moves the client, HELO and sender lists to RCPT). The state
 * of a walk is all in struct policy_run, so it can stop at any entry and go on later.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf/map_remote.h"
#include "lib/idn.h"
#include "lib/log.h"
#include "policy/policy_int.h"

const char policy_class_client[] = "Client host";
const char policy_class_reverse[] = "Unverified Client host";
const char policy_class_login[] = "SASL login name";
const char policy_class_helo[] = "Helo command";
const char policy_class_sender[] = "Sender address";
const char policy_class_rcpt[] = "Recipient address";
const char policy_class_data[] = "Data command";
const char policy_class_eod[] = "End-of-data";
const char policy_class_etrn[] = "Etrn command";

enum step {
	STEP_END,
	STEP_CLIENT,
	STEP_HELO,
	STEP_SENDER,
	STEP_SENDER_UNLISTED,
	STEP_RELAY,
	STEP_RCPT,
	STEP_RCPT_UNLISTED,
	STEP_DATA,
	STEP_EOD,
	STEP_ETRN,
	STEP_RCPT_BEGIN,   /* deferrals of the sender stage count from here */
	STEP_NO_DEFERRALS, /* forget deferrals of earlier stages */
	STEP_ETRN_BEGIN,
	STEP_DEFERRALS, /* turn a waiting defer_if_permit into the verdict */
	STEP_COUNT
};

/* ---- verdicts ---- */

static enum policy_verdict set_reply(struct policy_run *r, int64_t code, const char *dsn,
				     const char *text, bool may_warn)
{
	struct policy_state *st = r->state;
	bool warn = r->warn_depth != 0 && may_warn;

	if (map_memo_is_missing())
		return POLICY_NEED; /* nobody knows yet whether there is anything to say */
	if (code < 400 || code > 599) {
		log_warn("SMTP reply code configuration error: %lld %s %s", (long long)code, dsn,
			 text);
		code = 450;
		dsn = "4.7.1";
		text = "Service unavailable";
	}
	if (!warn && st->if_reject.active && code >= 500) {
		st->if_reject.active = false;
		code = st->if_reject.code;
		dsn = st->if_reject.dsn;
		text = st->if_reject.text;
	}
	if (code >= 500 && r->pc->p->soft_bounce)
		code -= 100;
	snprintf(r->reply, sizeof(r->reply) - 2, "%d %c%s %s", (int)code, code >= 500 ? '5' : '4',
		 dsn + 1, text);
	str_make_printable(r->reply, strlen(r->reply));
	r->log(r->log_ctx, warn ? "reject_warning" : "reject", r->reply);
	if (warn)
		return POLICY_DUNNO;
	return code >= 500 ? POLICY_REJECT : POLICY_DEFER;
}

#define FORMAT_REPLY(text)                                                                         \
	char text[POLICY_REPLY_SIZE];                                                              \
	va_list ap;                                                                                \
	va_start(ap, fmt);                                                                         \
	vsnprintf(text, sizeof(text), fmt, ap);                                                    \
	va_end(ap)

enum policy_verdict policy_reject(struct policy_run *r, int64_t code, const char *dsn,
				  const char *fmt, ...)
{
	FORMAT_REPLY(text);
	return set_reply(r, code, dsn, text, true);
}

enum policy_verdict policy_trouble(struct policy_run *r, int64_t code, const char *dsn,
				   const char *fmt, ...)
{
	FORMAT_REPLY(text);
	return set_reply(r, code, dsn, text, false);
}

static void keep_deferral(struct policy_deferral *d, int64_t code, const char *dsn,
			  const char *text)
{
	if (d->active)
		return; /* the first reason stays */
	free(d->dsn);
	free(d->text);
	d->active = true;
	d->code = (int)code;
	d->dsn = xstrdup(dsn);
	d->text = xstrdup(text);
}

enum policy_verdict policy_defer_if_permit(struct policy_run *r, int64_t code, const char *dsn,
					   const char *fmt, ...)
{
	FORMAT_REPLY(text);
	if (r->warn_depth != 0)
		return set_reply(r, code, dsn, text, true);
	keep_deferral(&r->state->if_permit, code, dsn, text);
	return POLICY_DUNNO;
}

enum policy_verdict policy_tempfail(struct policy_run *r, int action, const char *dsn,
				    const char *fmt, ...)
{
	FORMAT_REPLY(text);
	return action == TEMPFAIL_DEFER ? policy_reject(r, 450, dsn, "%s", text)
					: policy_defer_if_permit(r, 450, dsn, "%s", text);
}

void policy_defer_if_reject(struct policy_run *r, int64_t code, const char *dsn, const char *fmt,
			    ...)
{
	FORMAT_REPLY(text);
	keep_deferral(&r->state->if_reject, code, dsn, text);
}

enum policy_verdict policy_retry(struct policy_run *r, const char *what)
{
	return policy_trouble(r, 451, "4.3.0", "<%s>: Temporary lookup failure", what);
}

enum policy_verdict policy_permit(struct policy_run *r, const char *action, const char *reply_class,
				  const char *reply_name)
{
	char text[POLICY_REPLY_SIZE];

	if (r->state->if_permit.active || map_memo_is_missing() ||
	    matchlist_has_string(r->pc->log_permits, sv_from(action)) <= 0 || map_memo_is_missing())
		return POLICY_PERMIT;
	snprintf(text, sizeof(text), "action=%s for %s=%s", action, reply_class, reply_name);
	str_make_printable(text, strlen(text));
	r->log(r->log_ctx, "permit", text);
	return POLICY_PERMIT;
}

enum policy_verdict policy_misconfigured(struct policy_run *r)
{
	return policy_trouble(r, 451, "4.3.5", "Server configuration error");
}

enum policy_verdict policy_ask_dns(struct policy_run *r, const char *name, uint16_t rrtype)
{
	r->need.kind = POLICY_NEED_DNS;
	r->need.rrtype = rrtype;
	if (!idn_to_ascii(name, r->pc->p->enable_idna2003_compatibility, r->need.name,
			  sizeof(r->need.name)))
		r->need.name[0] = '\0'; /* no domain name: answered as invalid */
	return POLICY_NEED;
}

const struct policy_frame *policy_top(const struct policy_run *r)
{
	ASSERT(r->depth > 0);
	return &r->frames[r->depth - 1];
}

enum policy_verdict policy_push(struct policy_run *r, const struct policy_item *items,
				unsigned count, const char *reply_name, const char *reply_class,
				int def_acl, bool doubtful)
{
	if (r->depth == POLICY_MAX_DEPTH) {
		log_warn("restriction lists are nested too deeply");
		return policy_misconfigured(r);
	}
	r->frames[r->depth++] = (struct policy_frame){
		.items = items,
		.count = count,
		.reply_name = reply_name,
		.reply_class = reply_class,
		.def_acl = def_acl,
		.doubtful = doubtful,
	};
	return POLICY_PUSHED;
}

/* The answers of remote tables are missing: what was just done is done again. */
static enum policy_verdict need_tables(struct policy_run *r)
{
	r->need.kind = POLICY_NEED_TABLES;
	return POLICY_NEED;
}

/* ---- one list ---- */

/* type:table without a check_ in front means the list's own kind of lookup. */
static enum policy_verdict bare_table(struct policy_run *r, const struct policy_item *it,
				      int def_acl)
{
	static const restriction_fn by_list[LIST_COUNT] = {
		[LIST_CLIENT] = rs_client_access,  [LIST_HELO] = rs_helo_access,
		[LIST_SENDER] = rs_sender_access,  [LIST_RELAY] = rs_recipient_access,
		[LIST_RCPT] = rs_recipient_access, [LIST_ETRN] = rs_etrn_access,
	};

	if (def_acl < 0 || by_list[def_acl] == NULL) {
		log_warn("specify what to look up before \"%s\"", it->text);
		return policy_misconfigured(r);
	}
	return by_list[def_acl](r, it);
}

static enum policy_verdict run_item(struct policy_run *r, const struct policy_frame *f,
				    const struct policy_item *it)
{
	if (it->cls != NULL)
		return policy_push(r, it->cls->items, it->cls->count, f->reply_name, f->reply_class,
				   f->def_acl, false);
	if (it->row == NULL)
		return bare_table(r, it, f->def_acl);
	if (it->row->fn == NULL)
		return it->row->removed ? policy_misconfigured(r) : POLICY_DUNNO;
	return it->row->fn(r, it);
}

static bool frame_is_over(const struct policy_run *r, const struct policy_frame *f)
{
	return f->idx >= f->count || r->state->effects.discard ||
	       (r->state->if_permit.active && r->state->if_reject.active);
}

/* Leave the innermost list with a verdict. */
static enum policy_verdict pop(struct policy_run *r, enum policy_verdict v)
{
	struct policy_frame left = r->frames[r->depth - 1];

	r->depth--;
	if (r->warn_depth > r->depth)
		r->warn_depth = 0;
	if (v == POLICY_PERMIT && left.no_permit != NULL) {
		const struct policy_frame *f = policy_top(r);

		return policy_forbid_permit(r, &f->items[f->idx - 1], v, left.no_permit);
	}
	return v == POLICY_PERMIT && left.doubtful ? POLICY_DUNNO : v;
}

static enum policy_verdict walk(struct policy_run *r)
{
	while (r->depth > 0) {
		struct policy_frame *f = &r->frames[r->depth - 1];

		if (frame_is_over(r, f)) {
			pop(r, POLICY_DUNNO);
			continue;
		}
		const struct policy_item *it = &f->items[f->idx];

		if (it->row != NULL && it->row->warn_next) {
			if (r->warn_depth == 0)
				r->warn_depth = r->depth;
			f->idx++;
			continue;
		}
		unsigned depth = r->depth;

		r->need.time_ms = 0;
		enum policy_verdict v = run_item(r, f, it);

		if (map_memo_is_missing()) {
			r->depth = depth;
			return need_tables(r);
		}
		if (v == POLICY_NEED) {
			r->phase++;
			return v;
		}
		r->phase = 0;
		policy_look_end(r);
		r->frames[depth - 1].idx++;
		if (v == POLICY_PUSHED)
			continue;
		if (r->warn_depth >= r->depth)
			r->warn_depth = 0;
		while (v != POLICY_DUNNO && r->depth > 0)
			v = pop(r, v);
		if (v != POLICY_DUNNO)
			return v;
	}
	return POLICY_DUNNO;
}

/* ---- steps ---- */

static enum policy_verdict begin_list(struct policy_run *r, enum policy_list list,
				      const char *reply_name, const char *reply_class)
{
	const struct policy_lst *l = &r->pc->lists[list];
	bool bare_ok = list != LIST_DATA && list != LIST_EOD;

	r->state->if_reject.active = false;
	r->warn_depth = 0;
	r->phase = 0;
	r->depth = 0;
	if (l->count == 0)
		return POLICY_DUNNO;
	return policy_push(r, l->items, l->count, reply_name, reply_class, bare_ok ? (int)list : -1,
			   false);
}

static enum policy_verdict begin_client(struct policy_run *r)
{
	r->state->if_permit.active = false;
	return begin_list(r, LIST_CLIENT, r->view->namaddr, policy_class_client);
}

static void end_client(struct policy_run *r)
{
	r->state->if_permit_client = r->state->if_permit.active;
}

static enum policy_verdict begin_helo(struct policy_run *r)
{
	r->state->if_permit.active = r->state->if_permit_client;
	if (r->view->helo == NULL)
		return POLICY_DUNNO;
	return begin_list(r, LIST_HELO, r->view->helo, policy_class_helo);
}

static void end_helo(struct policy_run *r)
{
	r->state->if_permit_helo = r->state->if_permit.active;
}

static enum policy_verdict begin_sender(struct policy_run *r)
{
	r->state->if_permit.active = r->state->if_permit_client || r->state->if_permit_helo;
	r->state->sender_listed_done = false;
	if (r->view->sender == NULL)
		return POLICY_DUNNO;
	return begin_list(r, LIST_SENDER, r->view->sender, policy_class_sender);
}

static void end_sender(struct policy_run *r)
{
	r->state->if_permit_sender = r->state->if_permit.active;
}

static enum policy_verdict begin_sender_unlisted(struct policy_run *r)
{
	if (!r->pc->p->smtpd_reject_unlisted_sender || r->view->sender == NULL ||
	    r->view->sender[0] == '\0' || r->state->effects.discard)
		return POLICY_DUNNO;
	return rs_unlisted_sender(r, NULL);
}

static enum policy_verdict begin_rcpt_stage(struct policy_run *r)
{
	r->state->rcpt_listed_done = false;
	r->state->if_permit.active = r->state->if_permit_sender;
	return POLICY_DUNNO;
}

static enum policy_verdict begin_relay(struct policy_run *r)
{
	return begin_list(r, LIST_RELAY, r->view->recipient, policy_class_rcpt);
}

static enum policy_verdict begin_rcpt(struct policy_run *r)
{
	return begin_list(r, LIST_RCPT, r->view->recipient, policy_class_rcpt);
}

static enum policy_verdict begin_rcpt_unlisted(struct policy_run *r)
{
	if (!r->pc->p->smtpd_reject_unlisted_recipient || r->state->effects.discard)
		return POLICY_DUNNO;
	return rs_unlisted_recipient(r, NULL);
}

static enum policy_verdict begin_data(struct policy_run *r)
{
	return begin_list(r, LIST_DATA, "DATA", policy_class_data);
}

static enum policy_verdict begin_eod(struct policy_run *r)
{
	return begin_list(r, LIST_EOD, "END-OF-MESSAGE", policy_class_eod);
}

static enum policy_verdict begin_etrn(struct policy_run *r)
{
	return begin_list(r, LIST_ETRN, r->view->etrn, policy_class_etrn);
}

static enum policy_verdict forget_deferrals(struct policy_run *r)
{
	r->state->if_permit.active = false;
	return POLICY_DUNNO;
}

static enum policy_verdict begin_etrn_stage(struct policy_run *r)
{
	r->state->if_permit.active = r->state->if_permit_client || r->state->if_permit_helo;
	return POLICY_DUNNO;
}

static enum policy_verdict apply_deferrals(struct policy_run *r)
{
	struct policy_deferral *d = &r->state->if_permit;

	return d->active ? set_reply(r, d->code, d->dsn, d->text, true) : POLICY_DUNNO;
}

static const struct {
	enum policy_verdict (*begin)(struct policy_run *r);
	void (*end)(struct policy_run *r); /* also after a refusal */
} steps[] = {
	[STEP_CLIENT] = { begin_client, end_client },
	[STEP_HELO] = { begin_helo, end_helo },
	[STEP_SENDER] = { begin_sender, end_sender },
	[STEP_SENDER_UNLISTED] = { begin_sender_unlisted, NULL },
	[STEP_RELAY] = { begin_relay, NULL },
	[STEP_RCPT] = { begin_rcpt, NULL },
	[STEP_RCPT_UNLISTED] = { begin_rcpt_unlisted, NULL },
	[STEP_DATA] = { begin_data, NULL },
	[STEP_EOD] = { begin_eod, NULL },
	[STEP_ETRN] = { begin_etrn, NULL },
	[STEP_RCPT_BEGIN] = { begin_rcpt_stage, NULL },
	[STEP_NO_DEFERRALS] = { forget_deferrals, NULL },
	[STEP_ETRN_BEGIN] = { begin_etrn_stage, NULL },
	[STEP_DEFERRALS] = { apply_deferrals, NULL },
};
_Static_assert(ARRAY_LEN(steps) == STEP_COUNT, "a row for every step");

/* Steps an event takes; `early` ones only when rejects are not delayed, `late` only when they are.
 */
static const struct {
	uint8_t early[4], late[5], always[6];
} plan_parts[POLICY_EVENT_COUNT] = {
	[POLICY_ON_CONNECT] = { .early = { STEP_CLIENT } },
	[POLICY_ON_HELO] = { .early = { STEP_HELO } },
	[POLICY_ON_MAIL] = { .early = { STEP_SENDER, STEP_SENDER_UNLISTED } },
	[POLICY_ON_RCPT] = { .late = { STEP_CLIENT, STEP_HELO, STEP_SENDER, STEP_SENDER_UNLISTED },
			     .always = { STEP_RCPT_BEGIN, STEP_RELAY, STEP_RCPT, STEP_DEFERRALS,
					 STEP_RCPT_UNLISTED } },
	[POLICY_ON_DATA] = { .always = { STEP_NO_DEFERRALS, STEP_DATA, STEP_DEFERRALS } },
	[POLICY_ON_EOD] = { .always = { STEP_NO_DEFERRALS, STEP_EOD, STEP_DEFERRALS } },
	[POLICY_ON_ETRN] = { .late = { STEP_CLIENT, STEP_HELO },
			     .always = { STEP_ETRN_BEGIN, STEP_ETRN, STEP_DEFERRALS } },
};

void policy_plans_make(struct policy_conf *pc)
{
	for (unsigned e = 0; e < POLICY_EVENT_COUNT; e++) {
		const uint8_t *first =
			pc->p->smtpd_delay_reject ? plan_parts[e].late : plan_parts[e].early;
		uint8_t *out = pc->plans[e];

		while (*first != STEP_END)
			*out++ = *first++;
		for (const uint8_t *s = plan_parts[e].always; *s != STEP_END; s++)
			*out++ = *s;
		*out = STEP_END;
		if (!pc->p->smtpd_relay_before_recipient_restrictions) {
			for (uint8_t *s = pc->plans[e]; *s != STEP_END; s++) {
				if (*s == STEP_RELAY)
					*s = STEP_RCPT;
				else if (*s == STEP_RCPT)
					*s = STEP_RELAY;
			}
		}
	}
}

static enum policy_verdict go_on(struct policy_run *r)
{
	for (; r->plan[r->plan_at] != STEP_END; r->plan_at++) {
		enum step s = r->plan[r->plan_at];
		enum policy_verdict v = POLICY_PUSHED;

		if (!r->step_begun) {
			r->step_begun = true;
			r->depth = 0;
			r->warn_depth = 0;
			v = steps[s].begin(r);
			if (map_memo_is_missing()) {
				r->step_begun = false;
				return need_tables(r);
			}
		}
		if (v == POLICY_PUSHED)
			v = walk(r);
		if (v == POLICY_NEED)
			return v;
		r->step_begun = false;
		if (steps[s].end != NULL)
			steps[s].end(r);
		if (v == POLICY_REJECT || v == POLICY_DEFER)
			return v;
	}
	return POLICY_PERMIT;
}

enum policy_verdict policy_start(struct policy_run *run, enum policy_event event)
{
	run->event = event;
	run->plan = run->pc->plans[event];
	run->plan_at = 0;
	run->step_begun = false;
	run->depth = 0;
	run->warn_depth = 0;
	run->phase = 0;
	run->asked = 0;
	run->look = NULL;
	run->hangup = false;
	run->reply[0] = '\0';
	/* an unqualified postmaster is always welcome (RFC 5321 4.5.1) */
	if (event == POLICY_ON_RCPT &&
	    (run->view->rcpt_is_probe || str_eq_nocase(run->view->recipient, "postmaster")))
		return POLICY_PERMIT;
	return go_on(run);
}

enum policy_verdict policy_resume(struct policy_run *run)
{
	return go_on(run);
}

void policy_abandon(struct policy_run *run)
{
	policy_look_end(run);
}

static void deferral_fini(struct policy_deferral *d)
{
	free(d->dsn);
	free(d->text);
	*d = (struct policy_deferral){ 0 };
}

void policy_state_fini(struct policy_state *st)
{
	deferral_fini(&st->if_permit);
	deferral_fini(&st->if_reject);
}

void policy_state_reset_tx(struct policy_state *st)
{
	st->effects = (struct policy_effects){ 0 };
	st->if_permit_sender = false;
	st->sender_listed_done = st->rcpt_listed_done = false;
}
