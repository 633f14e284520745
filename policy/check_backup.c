/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * permit_mx_backup: mail for a domain is taken when this system is one of its mail servers, but not
 * one of the first (that would be mydestination's business), and, with permit_mx_backup_networks,
 * when all addresses of the first ones are in those networks. Like permit_auth_destination for
 * domains of ours. Doubt in the DNS makes a deferral of what would be refused.
 */
#include <stdio.h>
#include <stdlib.h>

#include "conf/map_remote.h"
#include "lib/log.h"
#include "policy/policy_int.h"

#define T_MX 15

enum { BEGIN, MX_ASKED, FIRST_ADDRS, OTHER_ADDRS, FIRST_NETWORKS };

enum answer { NO, YES, QUESTION };

static enum policy_verdict permit(struct policy_run *r, const struct policy_item *it)
{
	return policy_permit(r, it->row->name, policy_class_rcpt, r->view->recipient);
}

/* In doubt, say so to who would be refused. */
static void doubt(struct policy_run *r, const char *what, const char *host, const char *why)
{
	policy_defer_if_reject(r, 450, "4.4.4", "<%s>: %s rejected: Unable to %s%s%s",
			       r->view->recipient, policy_class_rcpt, what, host, why);
}

static int by_preference(const void *a, const void *b)
{
	const struct look_host *x = a, *y = b;

	return (x->pref > y->pref) - (x->pref < y->pref);
}

static unsigned count_first(const struct policy_look *l)
{
	unsigned n = 0;

	while (n < l->host_count && l->hosts[n].pref == l->hosts[0].pref)
		n++;
	return n;
}

static bool has_my_name(struct policy_run *r, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		if (policy_is_local_domain(r->pc, sv_from(r->look->hosts[i].name)) > 0)
			return true;
	}
	return false;
}

/* Goes on from the host that is going on. */
static enum answer has_my_addr(struct policy_run *r, unsigned to)
{
	struct policy_look *l = r->look;

	for (; l->host < to; policy_look_go(l, l->host + 1)) {
		char host[300];

		if (!policy_look_addrs(r))
			return QUESTION;
		snprintf(host, sizeof(host), "%s: ", l->hosts[l->host].name);
		if (l->status != POLICY_DNS_OK)
			doubt(r, "look up mail exchanger host ", host,
			      policy_host_text(l->status, l->nodata));
		for (unsigned i = 0; i < l->addr_count; i++) {
			if (policy_is_own_addr(r->pc, l->addrs[i]))
				return YES;
		}
	}
	return NO;
}

static bool is_in_networks(struct policy_run *r, const char *host, const char *addr)
{
	int hit = matchlist_has_client(r->pc->mx_backup_networks, sv_from(host), addr);

	if (hit < 0 && !map_memo_is_missing()) {
		log_warn("permit_mx_backup_networks lookup error for address %s for %s", addr,
			 host);
		doubt(r, "verify host ", host, " as mail exchanger");
	}
	return hit > 0;
}

/* All addresses of the first hosts. */
static enum answer are_in_networks(struct policy_run *r, unsigned to)
{
	struct policy_look *l = r->look;

	for (; l->host < to; policy_look_go(l, l->host + 1)) {
		const char *host = l->hosts[l->host].name;
		char why[100];

		if (!policy_look_addrs(r))
			return QUESTION;
		if (l->status != POLICY_DNS_OK) {
			snprintf(why, sizeof(why), " as mail exchanger: %s",
				 policy_dns_text(l->status, l->nodata));
			doubt(r, "look up host ", host, why);
			return NO;
		}
		for (unsigned i = 0; i < l->addr_count; i++) {
			if (!is_in_networks(r, host, l->addrs[i]))
				return NO;
		}
	}
	return YES;
}

/* The answer about MX: DUNNO when nothing follows from it, PUSHED to go on. */
static enum policy_verdict take_hosts(struct policy_run *r)
{
	struct policy_look *l = r->look;

	if (r->dns.status == POLICY_DNS_TEMP)
		doubt(r, "look up mail exchanger information: ", "",
		      policy_dns_text(r->dns.status, false));
	if (r->dns.status != POLICY_DNS_OK || l->host_count == 0)
		return POLICY_DUNNO;
	qsort(l->hosts, l->host_count, sizeof(l->hosts[0]), by_preference);
	if (has_my_name(r, 0, count_first(l)) || map_memo_is_missing())
		return POLICY_DUNNO;
	l->step = FIRST_ADDRS;
	return POLICY_PUSHED;
}

/* Domains of ours at once; DUNNO: not ours; NEED: a question. */
static enum policy_verdict begin(struct policy_run *r, const struct policy_item *it)
{
	struct policy_conf *pc = r->pc;
	struct addr_resolved *a = &pc->rcpt;

	policy_resolve(pc, r->view->recipient, a);
	if (a->tempfail)
		return policy_retry(r, r->view->recipient);
	if (a->invalid || (a->routed && !pc->p->allow_untrusted_routing))
		return POLICY_DUNNO;
	if (a->class_id != ADDR_DEFAULT)
		return permit(r, it);
	if (a->addr.p[a->domain_off] == '[' || map_memo_is_missing())
		return POLICY_DUNNO;
	r->look->step = MX_ASKED;
	return policy_ask_dns(r, a->addr.p + a->domain_off, T_MX);
}

/* From the first hosts' addresses to the others'. PUSHED: go on. */
static enum policy_verdict leave_first(struct policy_run *r)
{
	struct policy_look *l = r->look;
	unsigned first = count_first(l);

	if (first == l->host_count)
		return POLICY_DUNNO;
	bool named = has_my_name(r, first, l->host_count);

	if (map_memo_is_missing())
		return POLICY_DUNNO;
	l->step = named ? FIRST_NETWORKS : OTHER_ADDRS;
	policy_look_go(l, l->step == FIRST_NETWORKS ? 0 : first);
	return POLICY_PUSHED;
}

enum policy_verdict rs_mx_backup(struct policy_run *r, const struct policy_item *it)
{
	enum policy_verdict v = POLICY_PUSHED;
	enum answer is;
	bool fresh;

	if (r->view->recipient == NULL)
		return POLICY_DUNNO;
	struct policy_look *l = policy_look(r, &fresh);

	if (l->step == BEGIN)
		return begin(r, it);
	if (l->step == MX_ASKED && (v = take_hosts(r)) != POLICY_PUSHED)
		return v;
	if (l->step == FIRST_ADDRS) {
		is = has_my_addr(r, count_first(l));
		if (is != NO)
			return is == QUESTION ? POLICY_NEED : POLICY_DUNNO;
		if ((v = leave_first(r)) != POLICY_PUSHED)
			return v;
	}
	if (l->step == OTHER_ADDRS) {
		is = has_my_addr(r, l->host_count);
		if (is != YES)
			return is == QUESTION ? POLICY_NEED : POLICY_DUNNO;
		l->step = FIRST_NETWORKS;
		policy_look_go(l, 0);
	}
	if (r->pc->p->permit_mx_backup_networks[0] == '\0')
		return permit(r, it);
	is = are_in_networks(r, count_first(l));
	if (is == QUESTION)
		return POLICY_NEED;
	return is == YES ? permit(r, it) : POLICY_DUNNO;
}
