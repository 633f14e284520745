/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Looking up the addresses of a next hop; see workers/deliver/route.h. */
#include "workers/deliver/route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/idn.h"
#include "lib/log.h"
#include "lib/rand.h"
#include "lib/util.h"
#include "workers/deliver/tlsa.h"
#include "workers/deliver/tlsclient.h"
#include "workers/dns/filter.h"

#define TTL_MIN_S  5
#define TTL_MAX_S  300
#define TTL_FAIL_S 5 /* jobs that come in a burst for a dead name share one answer */

struct ask {
	struct route_lookup *l;
	struct dns_query *q;
	uint8_t host;
	uint16_t rrtype;
};

struct tlsa_ask {
	struct route_lookup *l;
	struct tlsa_lookup *t;
	uint8_t host;
};

struct route_lookup {
	const struct route_env *env;
	const struct tconf *t;
	struct nexthop_alt alt;
	char domain[DNS_NAME_SIZE]; /* alt.host as an A-label name */
	struct route *r;
	route_fn fn;
	void *ctx;
	struct dns_query *mx_query;
	struct ask asks[2 * ROUTE_HOST_MAX];
	unsigned ask_count, pending;
	struct tlsa_ask tlsa_asks[ROUTE_HOST_MAX];
	bool insecure[ROUTE_HOST_MAX]; /* some address of the host may not be genuine */
	bool insecure_mx;
	bool starting;
	bool by_mx;
	char service[DNS_NAME_SIZE]; /* _service._tcp.domain; "" = no SRV records are looked for */
	bool fall_back;              /* ... and when that fails, MX or address records */
	bool any_temp;
	bool filtered; /* smtp_dns_reply_filter left nothing of an answer about addresses */
	uint32_t ttl_s;
	char fail_text[400]; /* the last address lookup that failed */
};

struct route *route_ref(struct route *r)
{
	r->refs++;
	return r;
}

void route_unref(struct route **rp)
{
	struct route *r = *rp;

	*rp = NULL;
	if (r == NULL || --r->refs > 0)
		return;
	for (unsigned i = 0; i < ROUTE_HOST_MAX; i++)
		dane_unref(&r->dane[i]);
	free(r);
}

static void finish(struct route_lookup *l)
{
	struct route *r = l->r;
	route_fn fn = l->fn;
	void *ctx = l->ctx;
	uint32_t ttl_s = l->ttl_s;

	if (r->status != ROUTE_OK)
		ttl_s = TTL_FAIL_S;
	else if (ttl_s < TTL_MIN_S)
		ttl_s = TTL_MIN_S;
	else if (ttl_s > TTL_MAX_S)
		ttl_s = TTL_MAX_S;
	r->expires_ms = clock_now().ms + (int64_t)ttl_s * 1000;
	free(l);
	fn(ctx, r);
}

static void fail(struct route_lookup *l, enum route_status status, unsigned subject,
		 unsigned detail, const char *fmt, ...) PRINTF_LIKE(5, 6);

static void start_without_srv(struct route_lookup *l);

static void fail(struct route_lookup *l, enum route_status status, unsigned subject,
		 unsigned detail, const char *fmt, ...)
{
	va_list ap;

	l->r->status = status;
	l->r->dsn[0] = status == ROUTE_PERM ? 5 : 4;
	l->r->dsn[1] = (uint8_t)subject;
	l->r->dsn[2] = (uint8_t)detail;
	va_start(ap, fmt);
	vsnprintf(l->r->text, sizeof(l->r->text), fmt, ap);
	va_end(ap);
	if (l->fall_back) {
		log_info("skipping SRV lookup for %s: %s", l->service, l->r->text);
		start_without_srv(l);
	} else {
		finish(l);
	}
}

static const char *type_name(uint16_t rrtype)
{
	return rrtype == DNS_T_MX    ? "MX"
	       : rrtype == DNS_T_SRV ? "SRV"
	       : rrtype == DNS_T_A   ? "A"
				     : "AAAA";
}

static void name_error(char *out, size_t size, const char *name, uint16_t rrtype,
		       enum dns_status status)
{
	static const char *const why[] = {
		[DNS_NXDOMAIN] = "Host not found",
		[DNS_NODATA] = "Host found but no data record of requested type",
		[DNS_TEMP] = "Host not found, try again",
		[DNS_BADNAME] = "Malformed or unexpected name server reply",
	};

	snprintf(out, size,
		 "Host or domain name not found. Name service error for name=%s type=%s: %s", name,
		 type_name(rrtype), why[status]);
}

/* ---- the addresses are there: sort, find ourselves ---- */

static int by_pref(const void *a, const void *b)
{
	const struct route_addr *x = a, *y = b;

	return x->pref != y->pref ? (int)x->pref - (int)y->pref : (int)x->host - (int)y->host;
}

/* The preference of the first host that is this machine; -1 when none is. */
static int own_pref(const struct route_lookup *l)
{
	int found = -1;

	for (unsigned i = 0; i < l->r->count; i++) {
		const struct route_addr *a = &l->r->addrs[i];

		if ((own_addrs_has(l->env->own, &a->addr) ||
		     str_eq_nocase(l->r->hosts[a->host], l->t->client.myhostname)) &&
		    (found < 0 || a->pref < found))
			found = a->pref;
	}
	/* our name as an MX without any address of its own is still us */
	for (unsigned i = 0; l->by_mx && i < l->r->host_count; i++) {
		if (str_eq_nocase(l->r->hosts[i], l->t->client.myhostname) &&
		    (found < 0 || l->r->prefs[i] < found))
			found = l->r->prefs[i];
	}
	return found;
}

/* True when the lookup is over: mail would come back to us. */
static bool drop_own(struct route_lookup *l)
{
	int own = l->alt.port == 25 ? own_pref(l) : -1;
	unsigned n = 0;
	uint16_t best = UINT16_MAX;

	if (own < 0)
		return false;
	for (unsigned i = 0; i < l->r->host_count; i++)
		best = l->r->prefs[i] < best ? l->r->prefs[i] : best;
	while (n < l->r->count && l->r->addrs[n].pref < own)
		n++;
	l->r->count = n;
	if (n > 0)
		return false;
	const char *name = l->r->by_srv ? l->service : l->domain;

	l->r->loops = (!l->by_mx && !l->r->by_srv) || best >= own;
	if ((l->by_mx || l->r->by_srv) && best < own)
		fail(l, ROUTE_TEMP, 4, 4, "unable to find primary relay for %s", name);
	else
		fail(l, ROUTE_PERM, 4, 6, "mail for %s loops back to myself", name);
	return true;
}

/* ---- DANE ---- */

static void on_dane(void *ctx, struct dane *d, uint32_t ttl_s)
{
	struct tlsa_ask *a = ctx;
	struct route_lookup *l = a->l;

	a->t = NULL;
	l->pending--;
	d->insecure_mx = l->insecure_mx;
	l->r->dane[a->host] = d;
	if (d->status == DANE_ERROR)
		ttl_s = TTL_FAIL_S;
	if (ttl_s < l->ttl_s)
		l->ttl_s = ttl_s;
	if (l->pending == 0 && !l->starting)
		finish(l);
}

static void ask_dane(struct route_lookup *l, unsigned host)
{
	struct tlsa_question question = { .host = l->r->hosts[host],
					  .port = l->r->ports[host],
					  .secure = !l->insecure[host],
					  .force = l->t->tls_client->force_tlsa,
					  .digests = l->t->tls_client->dane_digests };
	struct tlsa_ask *a = &l->tlsa_asks[host];

	*a = (struct tlsa_ask){ .l = l, .host = (uint8_t)host };
	l->pending++;
	a->t = tlsa_look_up(l->env->dns, &question, on_dane, a);
}

/* Of the hosts that mail may go to. */
static void ask_for_dane(struct route_lookup *l)
{
	bool has_address[ROUTE_HOST_MAX] = { false };

	l->r->has_dane = true;
	for (unsigned i = 0; i < l->r->count; i++)
		has_address[l->r->addrs[i].host] = true;
	l->starting = true;
	for (unsigned i = 0; i < l->r->host_count; i++) {
		if (has_address[i])
			ask_dane(l, i);
	}
	l->starting = false;
	if (l->pending == 0)
		finish(l);
}

static void addresses_done(struct route_lookup *l)
{
	if (l->r->count == 0 && l->alt.port == 25 && l->by_mx && own_pref(l) >= 0 && drop_own(l))
		return;
	if (l->r->count == 0) {
		bool temp = l->any_temp || (l->by_mx && l->t->defer_no_mx_address);

		if (l->by_mx || l->r->by_srv)
			log_warn("no %s host for %s has a valid address record",
				 l->by_mx ? "MX" : "SRV", l->by_mx ? l->domain : l->service);
		if (l->filtered)
			fail(l, ROUTE_TEMP, 7, 0, "%s", l->fail_text);
		else
			fail(l, temp ? ROUTE_TEMP : ROUTE_PERM, 4, l->any_temp ? 3 : 4, "%s",
			     l->fail_text);
		return;
	}
	qsort(l->r->addrs, l->r->count, sizeof(l->r->addrs[0]), by_pref);
	if (drop_own(l))
		return;
	l->r->status = ROUTE_OK;
	if (l->alt.dane)
		ask_for_dane(l);
	else
		finish(l);
}

static void add_addr(struct route *r, unsigned host, const struct dns_rr *rr)
{
	uint16_t port = r->ports[host];
	struct route_addr *a;

	if (r->count == ROUTE_ADDR_MAX)
		return;
	a = &r->addrs[r->count++];
	*a = (struct route_addr){ .pref = r->prefs[host], .host = (uint8_t)host };
	if (rr->type == DNS_T_A) {
		a->addr.in.sin_family = AF_INET;
		a->addr.in.sin_port = htons(port);
		a->addr.in.sin_addr = rr->a;
	} else {
		a->addr.in6.sin6_family = AF_INET6;
		a->addr.in6.sin6_port = htons(port);
		a->addr.in6.sin6_addr = rr->aaaa;
	}
}

static void filter_error(char *out, size_t size, const char *name, uint16_t rrtype,
			 const struct dns_filtered *f)
{
	snprintf(out, size, "Error looking up name=%s type=%s: %s", name, type_name(rrtype),
		 f->why);
}

/* True when a filter has left nothing of the answer; the lookup is over then. */
static bool is_filtered_out(struct route_lookup *l, const char *name, uint16_t rrtype,
			    const struct dns_filtered *f)
{
	char text[400];

	if (f == NULL || f->why == NULL)
		return false;
	filter_error(text, sizeof(text), name, rrtype, f);
	if (f->by_policy)
		fail(l, ROUTE_TEMP, 7, 0, "%s", text);
	else
		fail(l, ROUTE_TEMP, 4, 3, "%s", text);
	return true;
}

static void take_addrs(struct ask *a, const struct dns_answer *answer)
{
	struct route_lookup *l = a->l;

	if (answer->status == DNS_OK) {
		if (answer->ttl_s < l->ttl_s)
			l->ttl_s = answer->ttl_s;
		l->insecure[a->host] |= !answer->secure;
		for (size_t i = 0; i < answer->count; i++)
			add_addr(l->r, a->host, &answer->rrs[i]);
	} else if (l->fail_text[0] == '\0' || answer->status == DNS_TEMP ||
		   answer->status == DNS_NXDOMAIN) {
		if (!l->any_temp)
			name_error(l->fail_text, sizeof(l->fail_text), l->r->hosts[a->host],
				   a->rrtype, answer->status);
		l->any_temp |= answer->status == DNS_TEMP;
	}
}

static void on_addr(void *ctx, const struct dns_answer *answer)
{
	struct ask *a = ctx;
	struct route_lookup *l = a->l;
	const char *name = l->r->hosts[a->host];
	struct dns_filtered *f = dns_filter(l->t->dns_filter, name, a->rrtype, answer);

	a->q = NULL;
	l->pending--;
	if (f != NULL && f->why != NULL) {
		filter_error(l->fail_text, sizeof(l->fail_text), name, a->rrtype, f);
		l->any_temp = true;
		l->filtered = f->by_policy;
	} else {
		take_addrs(a, f != NULL ? &f->answer : answer);
	}
	free(f);
	if (l->pending == 0 && !l->starting)
		addresses_done(l);
}

static void ask_addr(struct route_lookup *l, unsigned host, uint16_t rrtype)
{
	struct ask *a = &l->asks[l->ask_count++];

	*a = (struct ask){ .l = l, .host = (uint8_t)host, .rrtype = rrtype };
	l->pending++;
	a->q = dns_ask(l->env->dns, sv_from(l->r->hosts[host]), rrtype, on_addr, a);
}

static void ask_addresses(struct route_lookup *l)
{
	l->starting = true;
	for (unsigned i = 0; i < l->r->host_count; i++) {
		if (l->t->want4)
			ask_addr(l, i, DNS_T_A);
		if (l->t->want6)
			ask_addr(l, i, DNS_T_AAAA);
	}
	l->starting = false;
	if (l->pending == 0)
		addresses_done(l);
}

static void add_host(struct route *r, const char *name, uint16_t pref, uint16_t port)
{
	if (r->host_count == ROUTE_HOST_MAX)
		return;
	str_copy(r->hosts[r->host_count], DNS_NAME_SIZE, sv_from(name));
	r->ports[r->host_count] = port;
	r->weights[r->host_count] = 0;
	r->prefs[r->host_count++] = pref;
}

/* ---- MX ---- */

static int rr_by_pref(const void *a, const void *b)
{
	const struct dns_rr *const *x = a, *const *y = b;

	return (int)(*x)->pref - (int)(*y)->pref;
}

/* With more hosts than we look at, equal ones must have equal chances. */
static size_t sort_records(const struct dns_answer *a, bool shuffle,
			   const struct dns_rr *sorted[DNS_RR_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < a->count && n < DNS_RR_MAX; i++) {
		if (a->rrs[i].name[0] != '\0')
			sorted[n++] = &a->rrs[i];
	}
	for (size_t i = n; i > 1 && shuffle; i--) {
		size_t k = rand_below((uint32_t)i);
		const struct dns_rr *tmp = sorted[i - 1];

		sorted[i - 1] = sorted[k];
		sorted[k] = tmp;
	}
	qsort(sorted, n, sizeof(sorted[0]), rr_by_pref);
	return n;
}

static void on_mx_records(struct route_lookup *l, const struct dns_answer *a)
{
	const struct dns_rr *sorted[DNS_RR_MAX];
	size_t n;

	if (a->count == 1 && a->rrs[0].name[0] == '\0') {
		fail(l, ROUTE_PERM, 1, 0, "Domain %s does not accept mail (nullMX)", l->domain);
		return;
	}
	n = sort_records(a, l->t->randomize, sorted);
	l->by_mx = true;
	l->insecure_mx = !a->secure;
	l->ttl_s = a->ttl_s;
	for (size_t i = 0; i < n; i++)
		add_host(l->r, sorted[i]->name, sorted[i]->pref, l->alt.port);
	ask_addresses(l);
}

static void take_mx(struct route_lookup *l, const struct dns_answer *a)
{
	char text[400];

	if (a->status == DNS_OK) {
		on_mx_records(l, a);
		return;
	}
	if (a->status == DNS_NODATA || (a->status == DNS_TEMP && l->t->ignore_mx_error)) {
		add_host(l->r, l->domain, 0, l->alt.port);
		ask_addresses(l);
		return;
	}
	name_error(text, sizeof(text), l->domain, DNS_T_MX, a->status);
	if (a->status == DNS_TEMP)
		fail(l, ROUTE_TEMP, 4, 3, "%s", text);
	else
		fail(l, ROUTE_PERM, 4, 4, "%s", text);
}

static void on_mx(void *ctx, const struct dns_answer *a)
{
	struct route_lookup *l = ctx;
	struct dns_filtered *f = dns_filter(l->t->dns_filter, l->domain, DNS_T_MX, a);

	l->mx_query = NULL;
	if (!is_filtered_out(l, l->domain, DNS_T_MX, f))
		take_mx(l, f != NULL ? &f->answer : a);
	free(f);
}

/* ---- SRV (RFC 2782) ---- */

static unsigned get16(const unsigned char *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static void on_srv_records(struct route_lookup *l, const struct dns_answer *a)
{
	const struct dns_rr *sorted[DNS_RR_MAX];
	struct route *r = l->r;

	if (a->count == 1 && a->rrs[0].name[0] == '\0') {
		fail(l, ROUTE_PERM, 1, 0, "Domain %s does not support SRV requests", l->service);
		return;
	}
	size_t n = sort_records(a, true, sorted);

	r->by_srv = true;
	l->insecure_mx = !a->secure;
	l->ttl_s = a->ttl_s;
	for (size_t i = 0; i < n && r->host_count < ROUTE_HOST_MAX; i++) {
		/* priority, weight, port: the shape was checked when it was parsed */
		add_host(r, sorted[i]->name, sorted[i]->pref, (uint16_t)get16(sorted[i]->data + 4));
		r->weights[r->host_count - 1] = (uint16_t)get16(sorted[i]->data + 2);
	}
	ask_addresses(l);
}

static void take_srv(struct route_lookup *l, const struct dns_answer *a)
{
	char text[400];

	if (a->status == DNS_OK) {
		on_srv_records(l, a);
		return;
	}
	if (a->status == DNS_TEMP || a->status == DNS_BADNAME)
		l->fall_back = l->fall_back || l->t->srv_ignore_error;
	name_error(text, sizeof(text), l->service, DNS_T_SRV, a->status);
	if (a->status == DNS_TEMP)
		fail(l, ROUTE_TEMP, 4, 3, "%s", text);
	else
		fail(l, ROUTE_PERM, 4, 4, "%s", text);
}

static void on_srv(void *ctx, const struct dns_answer *a)
{
	struct route_lookup *l = ctx;
	struct dns_filtered *f = dns_filter(l->t->dns_filter, l->service, DNS_T_SRV, a);

	l->mx_query = NULL;
	if (!is_filtered_out(l, l->service, DNS_T_SRV, f))
		take_srv(l, f != NULL ? &f->answer : a);
	free(f);
}

/* Does the next hop's service have SRV records to look for? */
static bool uses_srv(const struct route_lookup *l, struct sv service)
{
	return l->t->srv != NULL && !l->alt.bracket && !l->alt.literal &&
	       matchlist_has_string(l->t->srv, service) > 0;
}

/* ---- start ---- */

/* The callback may run, and end the lookup, before this returns. */
static void ask_records(struct route_lookup *l, const char *name, uint16_t rrtype, dns_fn fn)
{
	struct dns_query *q;

	l->starting = true;
	q = dns_ask(l->env->dns, sv_from(name), rrtype, fn, l);
	if (q != NULL) {
		l->starting = false;
		l->mx_query = q;
	}
}

/* MX records, or the host's addresses. */
static void start_plain(struct route_lookup *l)
{
	if (l->alt.mx) {
		ask_records(l, l->domain, DNS_T_MX, on_mx);
	} else {
		add_host(l->r, l->domain, 0, l->alt.port);
		ask_addresses(l);
	}
}

static void start_without_srv(struct route_lookup *l)
{
	struct route *r = l->r;

	l->fall_back = l->any_temp = l->filtered = l->insecure_mx = false;
	memset(l->insecure, 0, sizeof(l->insecure));
	l->fail_text[0] = '\0';
	l->ask_count = 0;
	r->count = r->host_count = 0;
	r->by_srv = r->loops = false;
	start_plain(l);
}

static void start(struct route_lookup *l)
{
	struct sv service = sv_from(l->alt.service[0] != '\0' ? l->alt.service : l->t->service);
	struct route_addr *a = &l->r->addrs[0];

	if (l->alt.literal) {
		str_copy(l->domain, sizeof(l->domain), sv_from(l->alt.host));
		if (!net_addr_parse(l->alt.host, l->alt.port, &a->addr)) {
			fail(l, ROUTE_PERM, 4, 4, "malformed address %s", l->alt.host);
			return;
		}
		add_host(l->r, l->alt.host, 0, l->alt.port);
		l->r->count = 1;
		if (!drop_own(l)) {
			l->r->status = ROUTE_OK;
			finish(l);
		}
	} else if (!idn_to_ascii(l->alt.host, l->t->idna2003, l->domain, sizeof(l->domain))) {
		fail(l, ROUTE_PERM, 4, 4, "malformed domain name %s", l->alt.host);
	} else if (uses_srv(l, service)) {
		l->fall_back = l->t->srv_fallback;
		if ((size_t)snprintf(l->service, sizeof(l->service), "_%.*s._tcp.%s",
				     (int)service.len, service.p, l->domain) >= sizeof(l->service))
			l->service[0] = '\0'; /* no domain name: the question says so */
		ask_records(l, l->service, DNS_T_SRV, on_srv);
	} else {
		start_plain(l);
	}
}

struct result {
	struct route *r;
	bool done;
	struct route_lookup *l;
	route_fn fn;
	void *ctx;
};

/* While route_lookup() runs, the answer is caught here, so that it can return NULL. */
static void catch_early(void *ctx, struct route *r)
{
	struct result *res = ctx;

	res->r = r;
	res->done = true;
}

struct route_lookup *route_lookup(const struct route_env *env, const struct tconf *t,
				  const struct nexthop_alt *alt, route_fn fn, void *ctx)
{
	struct route_lookup *l = xcalloc(1, sizeof(*l));
	struct result res = { .done = false };

	l->env = env;
	l->t = t;
	l->alt = *alt;
	l->r = xcalloc(1, sizeof(*l->r));
	l->r->refs = 1;
	l->ttl_s = TTL_MAX_S;
	l->fn = catch_early;
	l->ctx = &res;
	start(l);
	if (res.done) {
		fn(ctx, res.r);
		return NULL;
	}
	l->fn = fn;
	l->ctx = ctx;
	return l;
}

void route_lookup_cancel(struct route_lookup **lp)
{
	struct route_lookup *l = *lp;

	*lp = NULL;
	if (l == NULL)
		return;
	if (l->mx_query != NULL)
		dns_cancel(l->mx_query);
	for (unsigned i = 0; i < ROUTE_HOST_MAX; i++)
		tlsa_cancel(&l->tlsa_asks[i].t);
	for (unsigned i = 0; i < l->ask_count; i++) {
		if (l->asks[i].q != NULL)
			dns_cancel(l->asks[i].q);
	}
	route_unref(&l->r);
	free(l);
}

/* ---- order ---- */

static bool preferred(const struct tconf *t, const struct route_addr *a)
{
	return a->addr.sa.sa_family ==
	       (t->preference == ADDRESS_PREFERENCE_IPV6 ? AF_INET6 : AF_INET);
}

/* One group of equal preference: shuffle, then (unless "any") one family before the other. */
static void order_group(const struct route *r, const struct tconf *t, uint8_t *order, unsigned n)
{
	uint8_t sorted[ROUTE_ADDR_MAX];
	unsigned at = 0;

	for (unsigned i = n; i > 1 && t->randomize; i--) {
		unsigned k = rand_below(i);
		uint8_t tmp = order[i - 1];

		order[i - 1] = order[k];
		order[k] = tmp;
	}
	if (t->preference == ADDRESS_PREFERENCE_ANY)
		return;
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < n; i++) {
			if (preferred(t, &r->addrs[order[i]]) == (pass == 0))
				sorted[at++] = order[i];
		}
	}
	memcpy(order, sorted, n);
}

/* A host that is not taken yet, by weight; those without weight come first in the sum, so that they
 * have a small chance. Only when all are without are they equal. */
static unsigned draw_host(const struct route *r, const uint8_t *order, unsigned n,
			  const bool taken[ROUTE_HOST_MAX])
{
	uint8_t left[ROUTE_HOST_MAX];
	unsigned count = 0, total = 0, sum = 0;

	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < n; i++) {
			unsigned host = r->addrs[order[i]].host;
			bool weighs = r->weights[host] > 0;

			/* the addresses of a host stand together */
			if (taken[host] || weighs != (pass == 1) ||
			    (i > 0 && r->addrs[order[i - 1]].host == host))
				continue;
			left[count++] = (uint8_t)host;
			total += r->weights[host];
		}
	}
	if (total == 0)
		return left[rand_below(count)];
	unsigned want = rand_below(total + 1), at = 0;

	for (; at + 1 < count; at++) {
		sum += r->weights[left[at]];
		if (sum >= want)
			break;
	}
	return left[at];
}

/* One group of equal preference, by the weights of SRV records. */
static void order_by_weight(const struct route *r, uint8_t *order, unsigned n)
{
	uint8_t in[ROUTE_ADDR_MAX];
	bool taken[ROUTE_HOST_MAX] = { false };
	unsigned at = 0;

	memcpy(in, order, n);
	while (at < n) {
		unsigned host = draw_host(r, in, n, taken);

		taken[host] = true;
		for (unsigned i = 0; i < n; i++) {
			if (r->addrs[in[i]].host == host)
				order[at++] = in[i];
		}
	}
}

static bool is_ipv6(const struct route *r, unsigned i)
{
	return r->addrs[i].addr.sa.sa_family == AF_INET6;
}

/*
 * Of more addresses than the limit, those that are kept: of each family half, or all if there are
 * fewer, so that many addresses of a family that does not work here leave room for the other.
 */
static unsigned balance(const struct route *r, uint8_t *order, unsigned limit)
{
	unsigned have[2] = { 0, 0 }, room[2], kept = 0, scarce;

	for (unsigned i = 0; i < r->count; i++)
		have[is_ipv6(r, i)]++;
	scarce = have[1] <= have[0];
	if (have[scarce] <= limit / 2)
		room[scarce] = have[scarce];
	else /* of an odd number the family that comes first has one more */
		room[scarce] = (limit + (is_ipv6(r, order[0]) == (scarce == 1))) / 2;
	room[!scarce] = limit - room[scarce];
	for (unsigned i = 0; i < r->count; i++) {
		unsigned *left = &room[is_ipv6(r, order[i])];

		if (*left > 0) {
			order[kept++] = order[i];
			--*left;
		}
	}
	return kept;
}

unsigned route_order(const struct route *r, const struct tconf *t, uint8_t order[ROUTE_ADDR_MAX])
{
	unsigned from = 0;

	for (unsigned i = 0; i < r->count; i++)
		order[i] = (uint8_t)i;
	for (unsigned i = 1; i <= r->count; i++) {
		if (i < r->count && r->addrs[i].pref == r->addrs[from].pref)
			continue;
		if (r->by_srv)
			order_by_weight(r, order + from, i - from);
		else
			order_group(r, t, order + from, i - from);
		from = i;
	}
	if (t->mx_address_limit == 0 || r->count <= t->mx_address_limit)
		return r->count;
	return t->balance ? balance(r, order, (unsigned)t->mx_address_limit)
			  : (unsigned)t->mx_address_limit;
}
