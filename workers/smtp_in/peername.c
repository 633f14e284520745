/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Client host names; see workers/smtp_in/peername.h. */
#include "workers/smtp_in/peername.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"

struct peername_query {
	struct dns_client *dns;
	struct dns_query *dns_query;
	peername_fn fn;
	void *ctx;
	bool in_call; /* inside dns_ask(): an answer comes before it returns */
	bool over;
	struct sockaddr_storage sa;
	char reverse[DNS_NAME_SIZE];
};

static void answer(struct peername_query *q, enum policy_name_status name_status,
		   enum policy_name_status reverse_status)
{
	struct peername r = {
		.name = name_status == POLICY_NAME_OK ? q->reverse : NULL,
		.reverse = reverse_status == POLICY_NAME_OK ? q->reverse : NULL,
		.name_status = name_status,
		.reverse_status = reverse_status,
	};

	q->over = true;
	q->dns_query = NULL;
	q->fn(q->ctx, &r);
	if (!q->in_call)
		free(q);
}

static bool is_v4(const struct sockaddr *sa, struct in_addr *v4)
{
	const struct sockaddr_in6 *six = (const void *)sa;

	if (sa->sa_family == AF_INET) {
		*v4 = ((const struct sockaddr_in *)(const void *)sa)->sin_addr;
		return true;
	}
	if (sa->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
		memcpy(v4, &six->sin6_addr.s6_addr[12], 4);
		return true;
	}
	return false;
}

static bool same_addr(const struct sockaddr *sa, const struct dns_rr *rr)
{
	struct in_addr v4;

	if (is_v4(sa, &v4))
		return rr->type == DNS_T_A && rr->a.s_addr == v4.s_addr;
	return rr->type == DNS_T_AAAA &&
	       memcmp(&rr->aaaa, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16) ==
		       0;
}

static void got_addrs(void *ctx, const struct dns_answer *a)
{
	struct peername_query *q = ctx;
	char text[INET6_ADDRSTRLEN] = "";
	struct in_addr v4;

	q->dns_query = NULL;
	if (a->status == DNS_TEMP) {
		answer(q, POLICY_NAME_TEMP, POLICY_NAME_OK);
		return;
	}
	for (size_t i = 0; a->status == DNS_OK && i < a->count; i++) {
		if (same_addr((const struct sockaddr *)&q->sa, &a->rrs[i])) {
			answer(q, POLICY_NAME_OK, POLICY_NAME_OK);
			return;
		}
	}
	if (is_v4((const struct sockaddr *)&q->sa, &v4))
		inet_ntop(AF_INET, &v4, text, sizeof(text));
	else
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)&q->sa)->sin6_addr, text,
			  sizeof(text));
	log_warn("hostname %s does not resolve to address %s", q->reverse, text);
	answer(q, POLICY_NAME_FORGED, POLICY_NAME_OK);
}

static void ask(struct peername_query *q, const char *name, uint16_t type, dns_fn fn)
{
	bool outer = q->in_call;

	q->in_call = true;
	q->dns_query = dns_ask(q->dns, sv_from(name), type, fn, q);
	q->in_call = outer;
	if (q->over && !outer)
		free(q);
}

static void got_ptr(void *ctx, const struct dns_answer *a)
{
	struct peername_query *q = ctx;
	struct in_addr v4;

	q->dns_query = NULL;
	if (a->status == DNS_TEMP) {
		answer(q, POLICY_NAME_TEMP, POLICY_NAME_TEMP);
		return;
	}
	for (size_t i = 0; a->status == DNS_OK && i < a->count; i++) {
		if (a->rrs[i].type != DNS_T_PTR || !mail_hostname_is_valid(sv_from(a->rrs[i].name)))
			continue;
		str_copy(q->reverse, sizeof(q->reverse), sv_from(a->rrs[i].name));
		ask(q, q->reverse,
		    is_v4((const struct sockaddr *)&q->sa, &v4) ? DNS_T_A : DNS_T_AAAA, got_addrs);
		return;
	}
	answer(q, POLICY_NAME_PERM, POLICY_NAME_PERM);
}

static bool is_loopback(const struct sockaddr *sa)
{
	struct in_addr v4;

	if (is_v4(sa, &v4))
		return ntohl(v4.s_addr) >> 24 == 127;
	return sa->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

struct peername_query *peername_ask(struct dns_client *dns, const struct sockaddr *sa,
				    peername_fn fn, void *ctx)
{
	struct peername known = { "localhost", "localhost", POLICY_NAME_OK, POLICY_NAME_OK };
	struct peername unknown = { NULL, NULL, POLICY_NAME_TEMP, POLICY_NAME_TEMP };
	char name[DNS_NAME_SIZE];

	if (is_loopback(sa) || dns == NULL ||
	    (sa->sa_family != AF_INET && sa->sa_family != AF_INET6)) {
		fn(ctx, is_loopback(sa) ? &known : &unknown);
		return NULL;
	}
	struct peername_query *q = xcalloc(1, sizeof(*q));

	q->dns = dns;
	q->fn = fn;
	q->ctx = ctx;
	memcpy(&q->sa, sa,
	       sa->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
	dns_reverse_name(sa, name);
	q->in_call = true;
	struct dns_query *dq = dns_ask(dns, sv_from(name), DNS_T_PTR, got_ptr, q);

	q->in_call = false;
	if (q->over) {
		free(q);
		return NULL;
	}
	if (dq != NULL)
		q->dns_query = dq;
	return q;
}

void peername_cancel(struct peername_query **qp)
{
	struct peername_query *q = *qp;

	if (q == NULL)
		return;
	*qp = NULL;
	if (q->dns_query != NULL)
		dns_cancel(q->dns_query);
	free(q);
}

void peername_give_up(struct peername_query *q)
{
	if (q->dns_query != NULL)
		dns_cancel(q->dns_query);
	answer(q, POLICY_NAME_TEMP, q->reverse[0] != '\0' ? POLICY_NAME_OK : POLICY_NAME_TEMP);
}
