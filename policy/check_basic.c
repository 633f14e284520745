/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Restrictions that need no lookups but local ones: fixed verdicts, clients, HELO, own domains. */
#include <stdio.h>

#include "lib/mailaddr.h"
#include "policy/policy_int.h"

/* ---- fixed verdicts ---- */

enum policy_verdict rs_permit(struct policy_run *r, const struct policy_item *it)
{
	const struct policy_frame *f = policy_top(r);

	return policy_permit(r, it->row->name, f->reply_class, f->reply_name);
}

enum policy_verdict rs_reject(struct policy_run *r, const struct policy_item *it UNUSED)
{
	const struct policy_frame *f = policy_top(r);

	return policy_reject(r, r->pc->p->reject_code, "5.7.1", "<%s>: %s rejected: Access denied",
			     f->reply_name, f->reply_class);
}

enum policy_verdict rs_defer(struct policy_run *r, const struct policy_item *it UNUSED)
{
	const struct policy_frame *f = policy_top(r);

	return policy_reject(r, r->pc->p->defer_code, "4.3.2", "<%s>: %s rejected: Try again later",
			     f->reply_name, f->reply_class);
}

enum policy_verdict rs_defer_if_permit(struct policy_run *r, const struct policy_item *it UNUSED)
{
	const struct policy_frame *f = policy_top(r);

	return policy_defer_if_permit(r, 450, "4.7.0",
				      "<%s>: %s rejected: defer_if_permit requested", f->reply_name,
				      f->reply_class);
}

enum policy_verdict rs_defer_if_reject(struct policy_run *r, const struct policy_item *it UNUSED)
{
	const struct policy_frame *f = policy_top(r);

	policy_defer_if_reject(r, 450, "4.7.0", "<%s>: %s rejected: defer_if_reject requested",
			       f->reply_name, f->reply_class);
	return POLICY_DUNNO;
}

enum policy_verdict rs_sleep(struct policy_run *r, const struct policy_item *it)
{
	if (r->phase > 0 || it->number == 0)
		return POLICY_DUNNO;
	r->need.kind = POLICY_NEED_SLEEP;
	r->need.sleep_ms = (int64_t)it->number * 1000;
	return POLICY_NEED;
}

enum policy_verdict rs_unauth_pipelining(struct policy_run *r, const struct policy_item *it UNUSED)
{
	const struct policy_frame *f = policy_top(r);

	if (!r->view->ill_pipelining)
		return POLICY_DUNNO;
	return policy_reject(r, 503, "5.5.0",
			     "<%s>: %s rejected: Improper use of SMTP command pipelining",
			     f->reply_name, f->reply_class);
}

enum policy_verdict rs_plaintext_session(struct policy_run *r, const struct policy_item *it UNUSED)
{
	if (r->view->tls != NULL)
		return POLICY_DUNNO;
	return policy_reject(r, r->pc->p->plaintext_reject_code, "4.7.1",
			     "Session encryption is required");
}

/* ---- client ---- */

static enum policy_verdict permit_client(struct policy_run *r, const struct policy_item *it)
{
	return policy_permit(r, it->row->name, policy_class_client, r->view->namaddr);
}

enum policy_verdict rs_tls_all_clientcerts(struct policy_run *r, const struct policy_item *it)
{
	const struct policy_tls *tls = r->view->tls;

	return tls != NULL && tls->is_trusted ? permit_client(r, it) : POLICY_DUNNO;
}

/* A certificate that is listed needs no authority. */
enum policy_verdict rs_tls_clientcerts(struct policy_run *r, const struct policy_item *it)
{
	const struct policy_tls *tls = r->view->tls;

	if (tls == NULL || !tls->has_cert || map_list_is_empty(r->pc->relay_clientcerts))
		return POLICY_DUNNO;
	const char *prints[] = { tls->fingerprint, tls->key_fingerprint };

	for (size_t i = 0; i < ARRAY_LEN(prints); i++) {
		buf_reset(&r->pc->value);
		enum map_status st =
			map_list_get(r->pc->relay_clientcerts, sv_from(prints[i]), &r->pc->value);

		if (st == MAP_ERROR)
			return policy_retry(r, prints[i]);
		if (st == MAP_FOUND)
			return permit_client(r, it);
	}
	return POLICY_DUNNO;
}

enum policy_verdict rs_mynetworks(struct policy_run *r, const struct policy_item *it)
{
	int hit = policy_is_mynetwork(r->pc, r->view->client_addr);

	if (hit < 0)
		return policy_retry(r, r->view->client_addr);
	return hit > 0 ? permit_client(r, it) : POLICY_DUNNO;
}

enum policy_verdict rs_inet_interfaces(struct policy_run *r, const struct policy_item *it)
{
	return policy_is_own_addr(r->pc, r->view->client_addr) ? permit_client(r, it)
							       : POLICY_DUNNO;
}

enum policy_verdict rs_sasl_authenticated(struct policy_run *r, const struct policy_item *it)
{
	const struct policy_view *v = r->view;

	return v->sasl_method != NULL && !str_eq_nocase(v->sasl_method, "anonymous")
		       ? permit_client(r, it)
		       : POLICY_DUNNO;
}

enum policy_verdict rs_unknown_client(struct policy_run *r, const struct policy_item *it UNUSED)
{
	enum policy_name_status s = r->view->name_status;

	if (s == POLICY_NAME_OK)
		return POLICY_DUNNO;
	return policy_reject(r, s == POLICY_NAME_TEMP ? 450 : r->pc->p->unknown_client_reject_code,
			     "4.7.25", "Client host rejected: cannot find your hostname, [%s]",
			     r->view->client_addr);
}

enum policy_verdict rs_unknown_reverse(struct policy_run *r, const struct policy_item *it UNUSED)
{
	enum policy_name_status s = r->view->reverse_status;

	if (s == POLICY_NAME_OK)
		return POLICY_DUNNO;
	return policy_reject(r, s == POLICY_NAME_TEMP ? 450 : r->pc->p->unknown_client_reject_code,
			     "4.7.1",
			     "Client host rejected: cannot find your reverse hostname, [%s]",
			     r->view->client_addr);
}

/* ---- HELO ---- */

/* One final dot is allowed. */
static struct sv sans_dot(const char *name)
{
	struct sv s = sv_from(name);

	if (s.len > 1 && s.p[s.len - 1] == '.' && s.p[s.len - 2] != '.')
		s.len--;
	return s;
}

static enum policy_verdict check_helo_literal(struct policy_run *r)
{
	struct sv addr;

	if (mail_literal_parse(sv_from(r->view->helo), &addr))
		return POLICY_DUNNO;
	return policy_reject(r, r->pc->p->invalid_hostname_reject_code, "5.5.2",
			     "<%s>: %s rejected: invalid ip address", r->view->helo,
			     policy_class_helo);
}

enum policy_verdict rs_invalid_helo(struct policy_run *r, const struct policy_item *it UNUSED)
{
	const char *helo = r->view->helo;

	if (helo == NULL)
		return POLICY_DUNNO;
	if (helo[0] == '[')
		return check_helo_literal(r);
	if (policy_valid_hostname(sans_dot(helo), false) || mail_hostaddr_is_valid(sans_dot(helo)))
		return POLICY_DUNNO;
	return policy_reject(r, r->pc->p->invalid_hostname_reject_code, "5.5.2",
			     "<%s>: %s rejected: Invalid name", helo, policy_class_helo);
}

enum policy_verdict rs_non_fqdn_helo(struct policy_run *r, const struct policy_item *it UNUSED)
{
	const char *helo = r->view->helo;

	if (helo == NULL)
		return POLICY_DUNNO;
	if (helo[0] == '[')
		return check_helo_literal(r);
	struct sv name = sans_dot(helo);

	if (policy_valid_hostname(name, r->view->smtputf8) && memchr(name.p, '.', name.len) != NULL)
		return POLICY_DUNNO;
	return policy_reject(r, r->pc->p->non_fqdn_reject_code, "5.5.2",
			     "<%s>: %s rejected: need fully-qualified hostname", helo,
			     policy_class_helo);
}

enum policy_verdict rs_unknown_helo(struct policy_run *r, const struct policy_item *it UNUSED)
{
	/* address records, then MX; a null MX is fine for a HELO name */
	static const uint16_t types[] = { 1, 28, 15 };
	const char *helo = r->view->helo;

	if (helo == NULL)
		return POLICY_DUNNO;
	if (helo[0] == '[')
		return check_helo_literal(r);
	if (r->phase > 0) {
		if (r->dns.status == POLICY_DNS_OK || r->dns.status == POLICY_DNS_NULLMX)
			return POLICY_DUNNO;
		if (r->dns.status == POLICY_DNS_TEMP)
			return policy_tempfail(r, r->pc->p->unknown_helo_hostname_tempfail_action,
					       "4.7.1", "<%s>: %s rejected: Host not found", helo,
					       policy_class_helo);
		if (r->dns.status == POLICY_DNS_INVALID || r->phase == ARRAY_LEN(types))
			return policy_reject(r, r->pc->p->unknown_hostname_reject_code, "4.7.1",
					     "<%s>: %s rejected: Host not found", helo,
					     policy_class_helo);
	}
	return policy_ask_dns(r, helo, types[r->phase]);
}

/* ---- addresses ---- */

static enum policy_verdict need_fqdn(struct policy_run *r, const char *addr, const char *class_name)
{
	const char *at = strrchr(addr, '@');
	struct sv domain = at != NULL ? sans_dot(at + 1) : SV("");

	if (domain.len > 1 && domain.p[0] == '[' && domain.p[domain.len - 1] == ']')
		return POLICY_DUNNO;
	if (policy_valid_hostname(domain, r->view->smtputf8) &&
	    memchr(domain.p, '.', domain.len) != NULL)
		return POLICY_DUNNO;
	return policy_reject(r, r->pc->p->non_fqdn_reject_code, "4.5.2",
			     "<%s>: %s rejected: need fully-qualified address", addr, class_name);
}

enum policy_verdict rs_non_fqdn_sender(struct policy_run *r, const struct policy_item *it UNUSED)
{
	if (r->view->sender == NULL || r->view->sender[0] == '\0')
		return POLICY_DUNNO;
	return need_fqdn(r, r->view->sender, policy_class_sender);
}

enum policy_verdict rs_non_fqdn_recipient(struct policy_run *r, const struct policy_item *it UNUSED)
{
	if (r->view->recipient == NULL)
		return POLICY_DUNNO;
	return need_fqdn(r, r->view->recipient, policy_class_rcpt);
}

enum policy_verdict rs_multi_bounce(struct policy_run *r, const struct policy_item *it UNUSED)
{
	const struct policy_frame *f = policy_top(r);
	unsigned allowed = r->event == POLICY_ON_DATA || r->event == POLICY_ON_EOD ? 1 : 0;

	if (r->view->sender == NULL || r->view->sender[0] != '\0' || r->view->rcpt_count <= allowed)
		return POLICY_DUNNO;
	return policy_reject(r, r->pc->p->multi_recipient_bounce_reject_code, "5.5.3",
			     "<%s>: %s rejected: Multi-recipient bounce", f->reply_name,
			     f->reply_class);
}

int policy_is_local_rewrite(struct policy_conf *pc, const struct policy_view *v)
{
	for (unsigned i = 0; i < pc->rewrite_client_count; i++) {
		const struct policy_item *it = &pc->rewrite_clients[i];
		int hit = 0;

		if (it->map != NULL) {
			buf_reset(&pc->value);
			enum map_status s = map_get(it->map, sv_from(v->client_addr), &pc->value);

			hit = s == MAP_FOUND ? 1 : s == MAP_ERROR ? -1 : 0;
		} else if (it->row->fn == rs_mynetworks) {
			hit = policy_is_mynetwork(pc, v->client_addr);
		} else if (it->row->fn == rs_inet_interfaces) {
			hit = policy_is_own_addr(pc, v->client_addr);
		}
		if (hit != 0)
			return hit;
	}
	return 0;
}

bool policy_login_is_local_rewrite(const struct policy_conf *pc)
{
	for (unsigned i = 0; i < pc->rewrite_client_count; i++) {
		const struct policy_item *it = &pc->rewrite_clients[i];

		if (it->map == NULL && it->row->fn == rs_sasl_authenticated)
			return true;
	}
	return false;
}
