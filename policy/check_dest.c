/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Restrictions about destinations: relay control, unlisted addresses, domains in the DNS. */
#include <stdio.h>

#include "conf/map_remote.h"
#include "policy/policy_int.h"

/* ---- relay control ---- */

int policy_is_auth_dest(struct policy_conf *pc, const char *rcpt)
{
	struct addr_resolved *a = &pc->rcpt;

	policy_resolve(pc, rcpt, a);
	if (a->tempfail)
		return -1;
	if (a->invalid || (a->routed && !pc->p->allow_untrusted_routing))
		return 0;
	return a->class_id != ADDR_DEFAULT;
}

enum policy_verdict rs_permit_auth_dest(struct policy_run *r, const struct policy_item *it)
{
	if (r->view->recipient == NULL)
		return POLICY_DUNNO;
	int ours = policy_is_auth_dest(r->pc, r->view->recipient);

	if (ours < 0)
		return policy_retry(r, r->view->recipient);
	if (ours == 0)
		return POLICY_DUNNO;
	return policy_permit(r, it->row->name, policy_class_rcpt, r->view->recipient);
}

static enum policy_verdict refuse_unauth(struct policy_run *r, int64_t code, const char *dsn)
{
	if (r->view->recipient == NULL)
		return POLICY_DUNNO;
	int ours = policy_is_auth_dest(r->pc, r->view->recipient);

	if (ours < 0)
		return policy_retry(r, r->view->recipient);
	if (ours > 0)
		return POLICY_DUNNO;
	return policy_reject(r, code, dsn, "<%s>: Relay access denied", r->view->recipient);
}

enum policy_verdict rs_reject_unauth_dest(struct policy_run *r, const struct policy_item *it UNUSED)
{
	return refuse_unauth(r, r->pc->p->relay_domains_reject_code, "5.7.1");
}

enum policy_verdict rs_defer_unauth_dest(struct policy_run *r, const struct policy_item *it UNUSED)
{
	return refuse_unauth(r, r->pc->p->relay_domains_reject_code - 100, "4.7.1");
}

/* ---- unlisted addresses ---- */

/* 1 / 0 / negative. */
static int listed(struct policy_conf *pc, struct map_list *l, bool bare)
{
	struct sv ext;

	if (map_list_is_empty(l))
		return 0;
	buf_reset(&pc->value);
	switch (map_list_get_addr(l, buf_sv(&pc->rcpt.addr), pc->p->recipient_delimiter, bare,
				  &pc->value, &ext)) {
	case MAP_FOUND:
		return 1;
	case MAP_NOT_FOUND:
		return 0;
	case MAP_ERROR:
		break;
	}
	return -1;
}

static bool local_part_is(const struct addr_resolved *a, const char *name)
{
	return sv_eq_nocase((struct sv){ a->addr.p, a->domain_off - 1 }, sv_from(name));
}

/* What the mail system itself takes care of. */
static bool is_system_address(const struct policy_conf *pc, const struct addr_resolved *a)
{
	return local_part_is(a, pc->p->double_bounce_sender) || local_part_is(a, "postmaster") ||
	       local_part_is(a, "mailer-daemon");
}

static enum policy_verdict user_unknown(struct policy_run *r, int64_t code, const char *addr,
					const char *class_name, const char *table)
{
	bool show = r->pc->p->show_user_unknown_table_name;

	return policy_reject(r, code, class_name == policy_class_sender ? "5.1.0" : "5.1.1",
			     "<%s>: %s rejected: User unknown%s%s", addr, class_name,
			     show ? " in " : "", show ? table : "");
}

/* Per class: the table that lists its addresses, and the refusal. Virtual aliases are all in
 * virtual_alias_maps, which was asked before; for the others an empty table means "any". */
static enum policy_verdict check_class(struct policy_run *r, const char *addr,
				       const char *class_name)
{
	struct policy_conf *pc = r->pc;
	const struct params *p = pc->p;
	const struct {
		struct map_list *maps;
		int64_t code;
		const char *table;
	} by_class[] = {
		[ADDR_LOCAL] = { pc->local_recipient_maps, p->unknown_local_recipient_reject_code,
				 "local recipient table" },
		[ADDR_VIRTUAL_ALIAS] = { NULL, p->unknown_virtual_alias_reject_code,
					 "virtual alias table" },
		[ADDR_VIRTUAL_MAILBOX] = { pc->virtual_mailbox_maps,
					   p->unknown_virtual_mailbox_reject_code,
					   "virtual mailbox table" },
		[ADDR_RELAY] = { pc->relay_recipient_maps, p->unknown_relay_recipient_reject_code,
				 "relay recipient table" },
		[ADDR_DEFAULT] = { NULL, 0, NULL },
	};
	enum addr_class c = pc->rcpt.class_id;

	if (c == ADDR_DEFAULT || (c == ADDR_LOCAL && is_system_address(pc, &pc->rcpt)))
		return POLICY_DUNNO;
	if (c != ADDR_VIRTUAL_ALIAS) {
		if (map_list_is_empty(by_class[c].maps))
			return POLICY_DUNNO;
		int hit = listed(pc, by_class[c].maps, c == ADDR_LOCAL);

		if (hit < 0)
			return policy_retry(r, addr);
		if (hit > 0)
			return POLICY_DUNNO;
	}
	return user_unknown(r, by_class[c].code, addr, class_name, by_class[c].table);
}

/* "error:text" or "retry:text" of transport_maps. */
static enum policy_verdict refuse_transport(struct policy_run *r, const char *spec,
					    const char *addr, const char *class_name)
{
	bool retry = str_starts_nocase(spec, "retry:"), sender = class_name == policy_class_sender;
	char dsn[12], fixed[12];
	const char *text, *dflt = sender ? "5.1.0" : "5.1.1";

	if (!retry && !str_starts_nocase(spec, "error:"))
		return POLICY_DUNNO;
	if (retry)
		dflt = sender ? "4.1.0" : "4.1.1";
	text = policy_split_dsn(spec + 6, dflt, dsn);
	return policy_reject(r, retry ? 450 : 550, policy_fix_dsn(dsn, class_name, fixed),
			     "<%s>: %s rejected: %s", addr, class_name,
			     *text != '\0' ? text : "Address is undeliverable");
}

/* Recipients that have moved, or whose transport is one that only refuses. */
static enum policy_verdict check_transport(struct policy_run *r, const char *addr,
					   const char *class_name)
{
	struct policy_conf *pc = r->pc;
	int moved = listed(pc, pc->relocated_maps, pc->rcpt.class_id == ADDR_LOCAL);

	if (moved < 0)
		return policy_retry(r, addr);
	if (moved > 0)
		return policy_reject(r, 550, "5.1.6", "<%s>: %s rejected: User has moved to %s",
				     addr, class_name, buf_cstr(&pc->value));
	if (map_list_is_empty(pc->transport_maps))
		return POLICY_DUNNO;
	switch (map_list_get_transport(pc->transport_maps, buf_sv(&pc->rcpt.addr),
				       pc->p->recipient_delimiter, pc->transport_parents,
				       &pc->value)) {
	case MAP_FOUND:
		return refuse_transport(r, buf_cstr(&pc->value), addr, class_name);
	case MAP_NOT_FOUND:
		return POLICY_DUNNO;
	case MAP_ERROR:
		break;
	}
	return policy_retry(r, addr);
}

static enum policy_verdict check_listed(struct policy_run *r, const char *addr,
					const char *class_name)
{
	struct policy_conf *pc = r->pc;
	struct map_list *const rewriting[] = {
		pc->recipient_canonical_maps,
		class_name == policy_class_sender ? pc->sender_canonical_maps : NULL,
		pc->canonical_maps,
		pc->virtual_alias_maps,
	};

	policy_resolve(pc, addr, &pc->rcpt);
	if (pc->rcpt.tempfail)
		return policy_retry(r, addr);
	if (pc->rcpt.invalid)
		return POLICY_DUNNO; /* refused by syntax elsewhere */
	for (size_t i = 0; i < ARRAY_LEN(rewriting); i++) {
		int hit = rewriting[i] != NULL
				  ? listed(pc, rewriting[i], pc->rcpt.class_id == ADDR_LOCAL)
				  : 0;

		if (hit < 0)
			return policy_retry(r, addr);
		if (hit > 0)
			return POLICY_DUNNO;
	}
	if (pc->rcpt.class_id != ADDR_VIRTUAL_ALIAS) {
		enum policy_verdict v = check_transport(r, addr, class_name);

		if (v != POLICY_DUNNO)
			return v;
	}
	return check_class(r, addr, class_name);
}

enum policy_verdict rs_unlisted_sender(struct policy_run *r, const struct policy_item *it UNUSED)
{
	struct policy_state *st = r->state;

	if (r->view->sender == NULL || r->view->sender[0] == '\0' || st->sender_listed_done ||
	    r->pc->skip_unlisted)
		return POLICY_DUNNO;
	enum policy_verdict v = check_listed(r, r->view->sender, policy_class_sender);

	st->sender_listed_done = r->warn_depth == 0 && !map_memo_is_missing();
	return v;
}

enum policy_verdict rs_unlisted_recipient(struct policy_run *r, const struct policy_item *it UNUSED)
{
	struct policy_state *st = r->state;

	if (r->view->recipient == NULL || st->rcpt_listed_done || r->pc->skip_unlisted)
		return POLICY_DUNNO;
	enum policy_verdict v = check_listed(r, r->view->recipient, policy_class_rcpt);

	st->rcpt_listed_done = r->warn_depth == 0 && !map_memo_is_missing();
	return v;
}

/* ---- domains in the DNS ---- */

static enum policy_verdict null_mx(struct policy_run *r, const char *addr, const char *class_name)
{
	bool sender = class_name == policy_class_sender;
	const char *at = strrchr(addr, '@');

	return policy_reject(r, sender ? 550 : 556, sender ? "4.7.27" : "4.1.10",
			     "<%s>: %s rejected: Domain %s does not accept mail (nullMX)", addr,
			     class_name, at != NULL ? at + 1 : "");
}

/* MX, then A, then AAAA. Domains of ours and literals are not asked for. */
static enum policy_verdict unknown_domain(struct policy_run *r, const char *addr,
					  const char *class_name)
{
	static const uint16_t types[] = { 15, 1, 28 };
	struct addr_resolved *a = &r->pc->rcpt;
	const char *dsn = class_name == policy_class_sender ? "4.1.8" : "4.1.2";

	policy_resolve(r->pc, addr, a);
	if (a->tempfail)
		return policy_retry(r, addr);
	const char *domain = a->addr.p + a->domain_off;

	if (a->class_id != ADDR_DEFAULT || a->invalid || domain[0] == '[')
		return POLICY_DUNNO;
	if (r->phase > 0) {
		if (r->dns.status == POLICY_DNS_OK)
			return POLICY_DUNNO;
		if (r->dns.status == POLICY_DNS_NULLMX)
			return null_mx(r, addr, class_name);
		if (r->dns.status == POLICY_DNS_TEMP)
			return policy_tempfail(r, r->pc->p->unknown_address_tempfail_action, dsn,
					       "<%s>: %s rejected: Domain not found", addr,
					       class_name);
		if (r->dns.status == POLICY_DNS_INVALID || r->phase == ARRAY_LEN(types))
			return policy_reject(r, r->pc->p->unknown_address_reject_code, dsn,
					     "<%s>: %s rejected: Domain not found", addr,
					     class_name);
	}
	return policy_ask_dns(r, domain, types[r->phase]);
}

enum policy_verdict rs_unknown_sender(struct policy_run *r, const struct policy_item *it UNUSED)
{
	if (r->view->sender == NULL || r->view->sender[0] == '\0')
		return POLICY_DUNNO;
	return unknown_domain(r, r->view->sender, policy_class_sender);
}

enum policy_verdict rs_unknown_recipient(struct policy_run *r, const struct policy_item *it UNUSED)
{
	if (r->view->recipient == NULL)
		return POLICY_DUNNO;
	return unknown_domain(r, r->view->recipient, policy_class_rcpt);
}
