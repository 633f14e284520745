/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLSA records of a server; see workers/deliver/tlsa.h. */
#include "workers/deliver/tlsa.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/util.h"

#define ALIAS_MAX 8
#define TTL_MAX_S 300

struct tlsa_lookup {
	struct dns_client *dns;
	struct tlsa_question question;
	char host[DNS_NAME_SIZE];
	char name[DNS_NAME_SIZE]; /* where the aliases lead to */
	unsigned aliases;
	uint32_t ttl_s;
	struct dns_query *q;
	bool *ended; /* set while tlsa_look_up() runs */
	tlsa_fn fn;
	void *ctx;
};

static void end(struct tlsa_lookup *l, struct dane *d)
{
	tlsa_fn fn = l->fn;
	void *ctx = l->ctx;
	uint32_t ttl_s = l->ttl_s;

	if (l->ended != NULL)
		*l->ended = true;
	free(l);
	fn(ctx, d, ttl_s);
}

/* The callback may end the lookup before dns_ask() returns; then there is no query. */
static void ask(struct tlsa_lookup *l, const char *name, uint16_t type, dns_fn fn)
{
	struct dns_query *q = dns_ask(l->dns, sv_from(name), type, fn, l);

	if (q != NULL)
		l->q = q;
}

static void note_ttl(struct tlsa_lookup *l, const struct dns_answer *a)
{
	l->q = NULL;
	if (a->ttl_s < l->ttl_s)
		l->ttl_s = a->ttl_s;
}

/* The name does not exist, or has no such records: certain, as against an answer that fails. */
static bool is_denial(const struct dns_answer *a)
{
	return a->status == DNS_NODATA || a->status == DNS_NXDOMAIN;
}

static void on_tlsa(void *ctx, const struct dns_answer *a);

static void ask_tlsa(struct tlsa_lookup *l)
{
	char name[DNS_NAME_SIZE];
	int n = snprintf(name, sizeof(name), "_%u._tcp.%s", l->question.port, l->name);

	if (n < 0 || (size_t)n >= sizeof(name) - 2)
		end(l, dane_new(DANE_NONE, l->name));
	else
		ask(l, name, DNS_T_TLSA, on_tlsa);
}

static void on_tlsa(void *ctx, const struct dns_answer *a)
{
	struct tlsa_lookup *l = ctx;
	struct dane *d;

	note_ttl(l, a);
	if (is_denial(a) && !str_eq_nocase(l->name, l->host)) {
		str_copy(l->name, sizeof(l->name), sv_from(l->host));
		ask_tlsa(l);
		return;
	}
	d = dane_new(is_denial(a) || (a->status == DNS_OK && !a->secure) ? DANE_NONE : DANE_ERROR,
		     l->name);
	if (a->status == DNS_OK && a->secure)
		dane_read(d, a, l->question.digests);
	end(l, d);
}

static void on_alias(void *ctx, const struct dns_answer *a)
{
	struct tlsa_lookup *l = ctx;
	bool is_alias = a->status == DNS_OK && a->count > 0;

	note_ttl(l, a);
	if (!is_alias && !is_denial(a)) {
		end(l, dane_new(DANE_ERROR, l->name));
	} else if (is_alias && l->question.secure && a->secure && l->aliases < ALIAS_MAX) {
		l->aliases++;
		str_copy(l->name, sizeof(l->name), sv_from(a->rrs[0].name));
		ask(l, l->name, DNS_T_CNAME, on_alias);
	} else if (l->question.secure || l->question.force || (is_alias && a->secure)) {
		/* an alias that is signed, to a name that is not: its own records count */
		if (!l->question.secure)
			str_copy(l->name, sizeof(l->name), sv_from(l->host));
		ask_tlsa(l);
	} else {
		end(l, dane_new(DANE_NONE, ""));
	}
}

struct tlsa_lookup *tlsa_look_up(struct dns_client *dns, const struct tlsa_question *question,
				 tlsa_fn fn, void *ctx)
{
	struct tlsa_lookup *l = xcalloc(1, sizeof(*l));
	bool ended = false;

	l->dns = dns;
	l->question = *question;
	l->question.host = l->host;
	str_copy(l->host, sizeof(l->host), sv_from(question->host));
	str_copy(l->name, sizeof(l->name), sv_from(question->host));
	l->ttl_s = TTL_MAX_S;
	l->fn = fn;
	l->ctx = ctx;
	l->ended = &ended;
	ask(l, l->name, DNS_T_CNAME, on_alias);
	if (ended)
		return NULL;
	l->ended = NULL;
	return l;
}

void tlsa_cancel(struct tlsa_lookup **lp)
{
	struct tlsa_lookup *l = *lp;

	*lp = NULL;
	if (l == NULL)
		return;
	if (l->q != NULL)
		dns_cancel(l->q);
	free(l);
}
