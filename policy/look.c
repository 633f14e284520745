/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The hosts of a domain and their addresses, gathered over several questions of the DNS. Called by
 * the restrictions of policy/check_server.c; an answer comes in through policy_answered(). All is
 * bounded by LOOK_MAX, and forgotten when the entry has its verdict.
 */
#include <arpa/inet.h>
#include <stdlib.h>

#include "policy/policy_int.h"

#define T_A    1
#define T_AAAA 28

struct policy_look *policy_look(struct policy_run *r, bool *fresh_r)
{
	*fresh_r = r->look == NULL;
	if (*fresh_r) {
		r->look = xcalloc(1, sizeof(*r->look));
		arena_init(&r->look->arena, 1024, 0);
		r->look->status = POLICY_DNS_NONE;
	}
	return r->look;
}

void policy_look_end(struct policy_run *r)
{
	if (r->look == NULL)
		return;
	arena_fini(&r->look->arena);
	free(r->look);
	r->look = NULL;
}

void policy_look_add_host(struct policy_look *l, const char *name, uint16_t pref)
{
	if (l->host_count < LOOK_MAX && name[0] != '\0')
		l->hosts[l->host_count++] =
			(struct look_host){ pref, arena_strdup(&l->arena, name) };
}

static void add_addr(struct policy_look *l, const struct policy_rr *rr)
{
	if (l->addr_count < LOOK_MAX &&
	    inet_ntop(rr->is_v6 ? AF_INET6 : AF_INET, rr->addr, l->addrs[l->addr_count],
		      sizeof(l->addrs[0])) != NULL)
		l->addr_count++;
}

/* An answer about addresses is good when one of the two is. */
static void take(struct policy_look *l, const struct policy_dns *a)
{
	for (uint32_t i = 0; i < a->rr_count; i++) {
		if (a->rrs[i].addr != NULL)
			add_addr(l, &a->rrs[i]);
		else
			policy_look_add_host(l, a->rrs[i].name, a->rrs[i].pref);
	}
	if (l->asked == 0)
		return;
	l->nodata = l->nodata || a->nodata;
	if (l->addr_count > 0)
		l->status = POLICY_DNS_OK;
	else if (a->status == POLICY_DNS_TEMP)
		l->status = POLICY_DNS_TEMP;
}

void policy_answered(struct policy_run *r, const struct policy_dns *a)
{
	r->dns = *a;
	r->dns.rrs = NULL;
	r->dns.rr_count = 0;
	if (r->look != NULL)
		take(r->look, a);
}

void policy_look_go(struct policy_look *l, unsigned host)
{
	l->host = host;
	l->addr_total += l->addr_count;
	l->addr_count = 0;
	l->asked = 0;
	l->status = POLICY_DNS_NONE;
	l->nodata = false;
}

bool policy_look_addrs(struct policy_run *r)
{
	struct policy_look *l = r->look;

	while (l->asked < 2) {
		bool v6 = l->asked == 1;

		l->asked++;
		if (v6 ? r->pc->want6 : r->pc->want4) {
			policy_ask_dns(r, l->hosts[l->host].name, v6 ? T_AAAA : T_A);
			return false;
		}
	}
	return true;
}

const char *policy_host_text(enum policy_dns_status status, bool nodata)
{
	if (status == POLICY_DNS_TEMP)
		return "Temporary failure in name resolution";
	return nodata ? "No address associated with hostname" : "Name or service not known";
}

const char *policy_dns_text(enum policy_dns_status status, bool nodata)
{
	if (status == POLICY_DNS_TEMP)
		return "Host not found, try again";
	return nodata ? "Host found but no data record of requested type" : "Host not found";
}
