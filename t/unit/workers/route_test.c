/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Next hop text, and host selection against a fake DNS. */
#include "workers/deliver/route.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/util.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "workers/deliver/tlsclient.h"

/* ---- the fake DNS: linked instead of workers/dns/client.c ---- */

static const struct zone {
	const char *name;
	uint16_t type;
	enum dns_status status;
	const char *data; /* "10 mx1, 20 mx2" or "1.2.3.4 1.2.3.5" */
} zone[] = {
	{ "two.ex", DNS_T_MX, DNS_OK, "20 b.ex,10 a.ex" },
	{ "a.ex", DNS_T_A, DNS_OK, "1.0.0.1 1.0.0.2" },
	{ "a.ex", DNS_T_AAAA, DNS_OK, "2001:db8::1" },
	{ "b.ex", DNS_T_A, DNS_OK, "1.0.0.3" },
	{ "null.ex", DNS_T_MX, DNS_OK, "0 ." },
	{ "gone.ex", DNS_T_MX, DNS_NXDOMAIN, NULL },
	{ "slow.ex", DNS_T_MX, DNS_TEMP, NULL },
	{ "slow.ex", DNS_T_A, DNS_OK, "1.0.0.9" },
	{ "host.ex", DNS_T_A, DNS_OK, "1.0.0.4" },
	{ "noaddr.ex", DNS_T_MX, DNS_OK, "5 gone2.ex,6 gone3.ex" },
	{ "gone2.ex", DNS_T_A, DNS_NXDOMAIN, NULL },
	{ "tempaddr.ex", DNS_T_MX, DNS_OK, "5 gone2.ex,6 slow3.ex" },
	{ "slow3.ex", DNS_T_A, DNS_TEMP, NULL },
	{ "best.ex", DNS_T_MX, DNS_OK, "10 self.ex,20 b.ex" },
	{ "second.ex", DNS_T_MX, DNS_OK, "10 b.ex,20 self.ex,30 a.ex" },
	{ "equal.ex", DNS_T_MX, DNS_OK, "10 b.ex,10 self.ex" },
	{ "self.ex", DNS_T_A, DNS_OK, "9.9.9.9" },
	{ "byname.ex", DNS_T_MX, DNS_OK, "10 me.example,20 b.ex" },
	{ "backup.ex", DNS_T_MX, DNS_OK, "10 gone2.ex,20 self.ex" },
	{ "many.ex", DNS_T_MX, DNS_OK,
	  "1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,"
	  "1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex,1 a.ex" },
	{ "xn--mller-kva.ex", DNS_T_MX, DNS_OK, "10 a.ex" },
	/* names below .sec are signed */
	{ "d.sec", DNS_T_MX, DNS_OK, "10 mx.sec,20 none.sec,30 out.ex,40 alias.sec,50 to-ex.sec" },
	{ "half.ex", DNS_T_MX, DNS_OK, "10 mx.sec" },
	{ "broken.sec", DNS_T_MX, DNS_OK, "10 err.sec" },
	{ "mx.sec", DNS_T_A, DNS_OK, "1.0.1.1" },
	{ "_25._tcp.mx.sec", DNS_T_TLSA, DNS_OK, "x" },
	{ "none.sec", DNS_T_A, DNS_OK, "1.0.1.2" },
	{ "out.ex", DNS_T_A, DNS_OK, "1.0.1.3" },
	{ "_25._tcp.out.ex", DNS_T_TLSA, DNS_OK, "x" },
	{ "alias.sec", DNS_T_A, DNS_OK, "1.0.1.4" },
	{ "alias.sec", DNS_T_CNAME, DNS_OK, "0 real.sec" },
	{ "_25._tcp.real.sec", DNS_T_TLSA, DNS_OK, "x" },
	{ "to-ex.sec", DNS_T_A, DNS_OK, "-1.0.1.5" },
	{ "to-ex.sec", DNS_T_CNAME, DNS_OK, "0 out.ex" },
	{ "_25._tcp.to-ex.sec", DNS_T_TLSA, DNS_OK, "x" },
	{ "err.sec", DNS_T_A, DNS_OK, "1.0.1.6" },
	{ "_25._tcp.err.sec", DNS_T_TLSA, DNS_TEMP, NULL },
	{ "_submission._tcp.srv.ex", DNS_T_SRV, DNS_OK, "20 0 465 b.ex,10 5 1587 host.ex" },
	{ "_submission._tcp.weights.ex", DNS_T_SRV, DNS_OK,
	  "1 10 587 host.ex,1 90 588 b.ex,1 0 589 self.ex" },
	{ "_submission._tcp.equal-srv.ex", DNS_T_SRV, DNS_OK, "1 0 1 host.ex,1 0 2 b.ex" },
	{ "_submission._tcp.none.ex", DNS_T_SRV, DNS_OK, "0 0 0 ." },
	{ "_submission._tcp.two.ex", DNS_T_SRV, DNS_TEMP, NULL },
	{ "_submission._tcp.null.ex", DNS_T_SRV, DNS_OK, "0 0 587 gone2.ex" },
};

struct dns_query {
	struct dns_query *next;
	char name[DNS_NAME_SIZE];
	uint16_t type;
	dns_fn fn;
	void *ctx;
};

static struct dns_query *asked;
static bool at_once; /* answer inside dns_ask(), as the cache does */

static size_t fill(const struct zone *z, struct dns_rr *rrs)
{
	size_t n = 0;

	for (const char *p = z->data; p != NULL && *p != '\0'; n++) {
		char text[64];
		bool hosts = z->type == DNS_T_MX || z->type == DNS_T_SRV || z->type == DNS_T_CNAME;
		size_t len = strcspn(p, hosts ? "," : " ");
		unsigned pref = 0, weight = 0, port = 0;
		static unsigned char rdata[20][6];

		memset(&rrs[n], 0, sizeof(rrs[n]));
		rrs[n].type = z->type;
		snprintf(text, sizeof(text), "%.*s", (int)len, p);
		if (z->type == DNS_T_A) {
			inet_pton(AF_INET, text + (text[0] == '-'), &rrs[n].a);
		} else if (z->type == DNS_T_TLSA) {
			static const unsigned char record[35] = { 3, 1, 1 };

			rrs[n].data = record;
			rrs[n].data_len = sizeof(record);
		} else if (z->type == DNS_T_AAAA) {
			inet_pton(AF_INET6, text, &rrs[n].aaaa);
		} else {
			if (z->type != DNS_T_SRV)
				sscanf(text, "%u %255s", &pref, rrs[n].name);
			else
				sscanf(text, "%u %u %u %255s", &pref, &weight, &port, rrs[n].name);
			rrs[n].pref = (uint16_t)pref;
			if (z->type == DNS_T_SRV) {
				rdata[n][2] = (unsigned char)(weight >> 8);
				rdata[n][3] = (unsigned char)weight;
				rdata[n][4] = (unsigned char)(port >> 8);
				rdata[n][5] = (unsigned char)port;
				rrs[n].data = rdata[n];
			}
			if (strcmp(rrs[n].name, ".") == 0)
				rrs[n].name[0] = '\0';
		}
		p += len + (p[len] != '\0');
	}
	return n;
}

static void give(const char *name, uint16_t type, dns_fn fn, void *ctx)
{
	struct dns_rr rrs[DNS_RR_MAX];
	struct dns_answer a = { .status = DNS_NODATA, .ttl_s = 100, .rrs = rrs };
	size_t len = strlen(name);
	bool known = false;

	a.secure = len > 4 && strcmp(name + len - 4, ".sec") == 0;
	for (size_t i = 0; i < ARRAY_LEN(zone); i++) {
		if (strcmp(zone[i].name, name) != 0)
			continue;
		known = true;
		if (zone[i].type == type) {
			a.status = zone[i].status;
			a.count = fill(&zone[i], rrs);
			/* an alias that is signed to a name that is not */
			if (zone[i].data != NULL && zone[i].data[0] == '-')
				a.secure = false;
		}
	}
	if (!known)
		a.status = DNS_NXDOMAIN;
	fn(ctx, &a);
}

struct dns_query *dns_ask(struct dns_client *c UNUSED, struct sv name, uint16_t rrtype, dns_fn fn,
			  void *ctx)
{
	struct dns_query *q;

	if (at_once) {
		char text[DNS_NAME_SIZE];

		str_copy(text, sizeof(text), name);
		give(text, rrtype, fn, ctx);
		return NULL;
	}
	q = xcalloc(1, sizeof(*q));
	str_copy(q->name, sizeof(q->name), name);
	q->type = rrtype;
	q->fn = fn;
	q->ctx = ctx;
	q->next = asked;
	asked = q;
	return q;
}

void dns_cancel(struct dns_query *q)
{
	struct dns_query **at = &asked;

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	free(q);
}

static void answer_all(void)
{
	while (asked != NULL) {
		struct dns_query *q = asked;

		asked = q->next;
		give(q->name, q->type, q->fn, q->ctx);
		free(q);
	}
}

/* ---- next hop text ---- */

static void test_nexthop(void)
{
	static const struct {
		const char *text;
		bool mx;
		const char *want; /* per alternative "host:port[*=mx]"; NULL = refused */
	} cases[] = {
		{ "example.com", true, "example.com:25* " },
		{ "example.com", false, "example.com:25 " },
		{ "example.com:587", true, "example.com:587* " },
		{ "[mail.ex]", true, "mail.ex:25 " },
		{ "[mail.ex]:2525", true, "mail.ex:2525 " },
		{ "[mail.ex]:submission", true, "mail.ex:587 " },
		{ "[1.2.3.4]:25", true, "1.2.3.4:25 " },
		{ "[ipv6:2001:db8::1]:26", true, "2001:db8::1:26 " },
		{ "[2001:db8::1]", true, "2001:db8::1:25 " },
		{ "unix:/run/x", true, "unix /run/x " },
		{ "unix:private/lmtp", false, "unix private/lmtp " },
		{ "inet:localhost:24", false, "localhost:24 " },
		{ "a.ex, [b.ex]:26", true, "a.ex:25* b.ex:26 " },
		{ "  a.ex ,b.ex", true, "a.ex:25* b.ex:25* " },
		{ "", true, NULL },
		{ " , ", true, NULL },
		{ "[a.ex", true, NULL },
		{ "[a.ex]x", true, NULL },
		{ "[a.ex]:", true, NULL },
		{ "a.ex:", true, NULL },
		{ "a.ex:0", true, NULL },
		{ "a.ex:99999", true, NULL },
		{ "a.ex:nosuchservice", true, NULL },
		{ "a..ex", true, NULL },
		{ "unix:", true, NULL },
		{ "[]", true, NULL },
		{ "a,b,c,d,e,f,g,h,i", true, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct nexthop n = { 0 };
		char got[1024] = "";
		size_t at = 0;
		int err = nexthop_parse(sv_from(cases[i].text), cases[i].mx, 25, &n);

		for (unsigned k = 0; err == 0 && k < n.count; k++) {
			const struct nexthop_alt *a = &n.alts[k];

			if (a->kind == NEXTHOP_UNIX)
				at += (size_t)snprintf(got + at, sizeof(got) - at, "unix %s ",
						       a->host);
			else
				at += (size_t)snprintf(got + at, sizeof(got) - at, "%s:%u%s ",
						       a->host, a->port, a->mx ? "*" : "");
		}
		is_str(err == 0 ? got : NULL, cases[i].want, "next hop '%s'", cases[i].text);
	}
}

/* ---- routes ---- */

static struct own_addrs own;
static struct tconf conf;
static struct route *found;

static void on_route(void *ctx UNUSED, struct route *r)
{
	found = r;
}

static const char *lookup(const char *nexthop)
{
	static char text[2048];
	struct route_env env = { NULL, &own };
	struct nexthop n = { 0 };
	struct route_lookup *l;
	size_t at = 0;
	char ip[64];

	found = NULL;
	if (nexthop_parse(sv_from(nexthop), true, 25, &n) != 0)
		return "bad next hop";
	l = route_lookup(&env, &conf, &n.alts[0], on_route, NULL);
	if ((l == NULL) != (found != NULL))
		return "result and handle disagree";
	answer_all();
	if (found == NULL)
		return "no answer";
	if (found->status != ROUTE_OK) {
		snprintf(text, sizeof(text), "%s %u.%u.%u %s",
			 found->status == ROUTE_TEMP ? "temp" : "perm", found->dsn[0],
			 found->dsn[1], found->dsn[2], found->text);
	} else {
		uint8_t order[ROUTE_ADDR_MAX];
		unsigned count = route_order(found, &conf, order);

		text[0] = '\0';
		for (unsigned i = 0; i < count; i++) {
			net_addr_text(&found->addrs[order[i]].addr, ip, sizeof(ip));
			at += (size_t)snprintf(text + at, sizeof(text) - at, "%s ", ip);
		}
	}
	route_unref(&found);
	return text;
}

#define NSE "Host or domain name not found. Name service error for name="

static void test_routes(void)
{
	static const struct {
		const char *nexthop, *want;
	} cases[] = {
		{ "two.ex", "1.0.0.1 1.0.0.2 2001:db8::1 1.0.0.3 " },
		{ "host.ex", "1.0.0.4 " },
		{ "[host.ex]:26", "1.0.0.4 " },
		{ "[192.0.2.7]:25", "192.0.2.7 " },
		{ "[ipv6:2001:db8::5]", "2001:db8::5 " },
		{ "null.ex", "perm 5.1.0 Domain null.ex does not accept mail (nullMX)" },
		{ "gone.ex", "perm 5.4.4 " NSE "gone.ex type=MX: Host not found" },
		{ "unknown.ex", "perm 5.4.4 " NSE "unknown.ex type=MX: Host not found" },
		{ "slow.ex", "temp 4.4.3 " NSE "slow.ex type=MX: Host not found, try again" },
		{ "[gone2.ex]", "perm 5.4.4 " NSE "gone2.ex type=A: Host not found" },
		{ "noaddr.ex", "perm 5.4.4 " NSE "gone3.ex type=AAAA: Host not found" },
		{ "tempaddr.ex", "temp 4.4.3 " NSE "slow3.ex type=A: Host not found, try again" },
		{ "best.ex", "perm 5.4.6 mail for best.ex loops back to myself" },
		{ "equal.ex", "perm 5.4.6 mail for equal.ex loops back to myself" },
		{ "second.ex", "1.0.0.3 " },
		{ "byname.ex", "perm 5.4.6 mail for byname.ex loops back to myself" },
		{ "backup.ex", "temp 4.4.4 unable to find primary relay for backup.ex" },
		{ "best.ex:2525", "9.9.9.9 1.0.0.3 " },
		{ "[9.9.9.9]", "perm 5.4.6 mail for 9.9.9.9 loops back to myself" },
		{ "[9.9.9.9]:2525", "9.9.9.9 " },
		{ "m\xc3\xbcller.ex", "1.0.0.1 1.0.0.2 2001:db8::1 " },
	};

	for (unsigned pass = 0; pass < 2; pass++) {
		at_once = pass == 1;
		for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
			const char *got = lookup(cases[i].nexthop);
			bool answer_order = strncmp(cases[i].want, "perm 5.4.4", 10) == 0 &&
					    strstr(cases[i].want, "gone3") != NULL;

			if (answer_order) /* which of two dead hosts is named depends on timing */
				ok(strncmp(got, "perm 5.4.4 " NSE "gone", strlen(NSE) + 15) == 0,
				   "%s", cases[i].nexthop);
			else
				is_str(got, cases[i].want, "%s%s", cases[i].nexthop,
				       at_once ? " from the cache" : "");
		}
	}
}

/* Without the records whose line has `key`; action NULL: the table cannot be asked. */
static void filter_case(const char *nexthop, const char *key, const char *action, const char *want)
{
	struct conf *c = test_conf("");
	struct conf_diag d;
	char spec[200];

	conf_diag_init(&d);
	if (action != NULL)
		snprintf(spec, sizeof(spec), "regexp:{{/%s/ %s}}", key, action);
	else
		snprintf(spec, sizeof(spec), "fail:x");
	is_int(map_list_open(c, spec, "smtp_dns_reply_filter", &conf.dns_filter, &d), 0, "%s",
	       spec);
	for (unsigned pass = 0; pass < 2; pass++) {
		at_once = pass == 1;
		is_str(lookup(nexthop), want, "%s without \"%s\"%s", nexthop, key,
		       at_once ? ", from the cache" : "");
	}
	map_list_close(&conf.dns_filter);
	conf_diag_fini(&d);
	conf_free(&c);
	at_once = false;
}

static void test_filter(void)
{
	filter_case("two.ex", "^two\\.ex\\. 100 IN MX 10 a\\.ex\\.$", "IGNORE", "1.0.0.3 ");
	filter_case("two.ex", "^a\\.ex\\. 100 IN A 1\\.0\\.0\\.1$", "ignore this",
		    "1.0.0.2 2001:db8::1 1.0.0.3 ");
	filter_case("two.ex", "IN AAAA", "IGNORE", "1.0.0.1 1.0.0.2 1.0.0.3 ");
	filter_case("two.ex", "IN MX", "IGNORE",
		    "temp 4.7.0 Error looking up name=two.ex type=MX: DNS reply filter drops all "
		    "results");
	filter_case("host.ex", "IN A 1", "IGNORE",
		    "temp 4.7.0 Error looking up name=host.ex type=A: DNS reply filter drops all "
		    "results");
	filter_case("two.ex", "IN MX", "PERHAPS",
		    "temp 4.4.3 Error looking up name=two.ex type=MX: Invalid DNS reply filter "
		    "syntax");
	filter_case("two.ex", "IN MX", NULL,
		    "temp 4.4.3 Error looking up name=two.ex type=MX: Invalid DNS reply filter "
		    "syntax");
	filter_case("null.ex", ".", "IGNORE",
		    "perm 5.1.0 Domain null.ex does not accept mail (nullMX)");
	filter_case("gone.ex", ".", "IGNORE", "perm 5.4.4 " NSE "gone.ex type=MX: Host not found");
}

static void srv_case(const char *nexthop, const char *want)
{
	for (unsigned pass = 0; pass < 2; pass++) {
		at_once = pass == 1;
		is_str(lookup(nexthop), want, "%s%s%s", nexthop,
		       conf.srv_fallback ? ", falling back" : "",
		       at_once ? ", from the cache" : "");
	}
}

/* Which host comes first, of a thousand tries. */
static void srv_weights(const char *nexthop, const char *host, unsigned min, unsigned max)
{
	unsigned first = 0;

	for (unsigned i = 0; i < 1000; i++)
		first += strncmp(lookup(nexthop), host, strlen(host)) == 0;
	ok(first >= min && first <= max, "%s: %s is first %u times", nexthop, host, first);
}

static void test_srv(void)
{
	struct conf *c = test_conf("");
	struct conf_diag d;
	struct route_env env = { NULL, &own };
	struct nexthop n = { 0 };

	conf_diag_init(&d);
	is_int(matchlist_open(c, "submission", "use_srv_lookup", MATCHLIST_STRING, &conf.srv, &d),
	       0, "use_srv_lookup");
	srv_case("srv.ex:submission", "1.0.0.4 1.0.0.3 ");
	srv_case("two.ex", "1.0.0.1 1.0.0.2 2001:db8::1 1.0.0.3 ");
	srv_case("[host.ex]:submission", "1.0.0.4 ");
	srv_case("host.ex:submission",
		 "perm 5.4.4 " NSE "_submission._tcp.host.ex type=SRV: Host not found");
	srv_case("none.ex:submission",
		 "perm 5.1.0 Domain _submission._tcp.none.ex does not support SRV requests");
	srv_case("two.ex:submission",
		 "temp 4.4.3 " NSE "_submission._tcp.two.ex type=SRV: Host not "
		 "found, try again");
	conf.srv_ignore_error = true;
	srv_case("two.ex:submission", "1.0.0.1 1.0.0.2 2001:db8::1 1.0.0.3 ");
	srv_case("host.ex:submission",
		 "perm 5.4.4 " NSE "_submission._tcp.host.ex type=SRV: Host not found");
	conf.srv_ignore_error = false;
	conf.srv_fallback = true;
	srv_case("host.ex:submission", "1.0.0.4 ");
	srv_case("none.ex:submission", "perm 5.4.4 " NSE "none.ex type=MX: Host not found");
	srv_case("null.ex:submission", "perm 5.1.0 Domain null.ex does not accept mail (nullMX)");
	srv_case("unknown.ex:submission", "perm 5.4.4 " NSE "unknown.ex type=MX: Host not found");
	conf.srv_fallback = false;
	at_once = true;
	found = NULL;
	ok(nexthop_parse(SV("srv.ex:submission"), true, 25, &n) == 0 && n.alts[0].port == 587,
	   "a service that has a port");
	route_lookup(&env, &conf, &n.alts[0], on_route, NULL);
	is_int(ntohs(found->addrs[0].addr.in.sin_port), 1587, "the record's port");
	is_int(ntohs(found->addrs[1].addr.in.sin_port), 465, "... each its own");
	route_unref(&found);
	srv_weights("weights.ex:submission", "1.0.0.3 ", 850, 950);
	srv_weights("weights.ex:submission", "9.9.9.9 ", 0, 40);
	srv_weights("equal-srv.ex:submission", "1.0.0.3 ", 400, 600);
	matchlist_close(&conf.srv);
	conf_diag_fini(&d);
	conf_free(&c);
	at_once = false;
}

static void test_options(void)
{
	unsigned first_b = 0;

	conf.preference = ADDRESS_PREFERENCE_IPV6;
	is_str(lookup("two.ex"), "2001:db8::1 1.0.0.1 1.0.0.2 1.0.0.3 ",
	       "smtp_address_preference = ipv6, within a preference");
	conf.preference = ADDRESS_PREFERENCE_IPV4;
	conf.want6 = false;
	is_str(lookup("two.ex"), "1.0.0.1 1.0.0.2 1.0.0.3 ", "inet_protocols = ipv4");
	conf.want4 = false;
	conf.want6 = true;
	is_str(lookup("two.ex"), "2001:db8::1 ", "inet_protocols = ipv6");
	conf.want4 = true;
	conf.mx_address_limit = 2;
	is_str(lookup("two.ex"), "1.0.0.1 1.0.0.2 ", "smtp_mx_address_limit");
	conf.balance = true;
	is_str(lookup("two.ex"), "1.0.0.1 2001:db8::1 ", "smtp_balance_inet_protocols");
	conf.mx_address_limit = 3;
	is_str(lookup("two.ex"), "1.0.0.1 1.0.0.2 2001:db8::1 ", "all of the scarce family");
	conf.mx_address_limit = 1;
	is_str(lookup("two.ex"), "1.0.0.1 ", "one: of the family that comes first");
	conf.preference = ADDRESS_PREFERENCE_IPV6;
	is_str(lookup("two.ex"), "2001:db8::1 ", "whichever that is");
	conf.preference = ADDRESS_PREFERENCE_IPV4;
	conf.mx_address_limit = 4;
	is_str(lookup("two.ex"), "1.0.0.1 1.0.0.2 2001:db8::1 1.0.0.3 ", "no more than the limit");
	conf.want6 = false;
	conf.mx_address_limit = 2;
	is_str(lookup("two.ex"), "1.0.0.1 1.0.0.2 ", "one family only");
	conf.want6 = true;
	conf.balance = false;
	conf.mx_address_limit = 0;
	conf.ignore_mx_error = true;
	is_str(lookup("slow.ex"), "1.0.0.9 ", "ignore_mx_lookup_error");
	conf.ignore_mx_error = false;
	conf.defer_no_mx_address = true;
	ok(strncmp(lookup("noaddr.ex"), "temp 4.4.4", 10) == 0,
	   "smtp_defer_if_no_mx_address_found");
	conf.defer_no_mx_address = false;
	ok(strlen(lookup("many.ex")) > 60, "more MX hosts than we look at");
	conf.want6 = false;
	conf.randomize = true;
	for (unsigned i = 0; i < 200; i++)
		first_b += strncmp(lookup("two.ex"), "1.0.0.2", 7) == 0;
	ok(first_b > 40 && first_b < 160, "equal ones are shuffled (%u of 200)", first_b);
	for (unsigned i = 0; i < 50; i++)
		first_b += strncmp(lookup("two.ex"), "1.0.0.3", 7) == 0 ? 1000 : 0;
	ok(first_b < 1000, "worse ones are not");
}

static void test_cancel(void)
{
	struct route_env env = { NULL, &own };
	struct nexthop n = { 0 };
	struct route_lookup *l;

	at_once = false;
	nexthop_parse(SV("two.ex"), true, 25, &n);
	l = route_lookup(&env, &conf, &n.alts[0], on_route, NULL);
	route_lookup_cancel(&l);
	ok(asked == NULL && l == NULL, "cancelled while MX is asked");
	n.count = 0;
	nexthop_parse(SV("[a.ex]"), true, 25, &n);
	l = route_lookup(&env, &conf, &n.alts[0], on_route, NULL);
	route_lookup_cancel(&l);
	ok(asked == NULL, "cancelled while addresses are asked");
}

/* "host=status@base" of each host; '*' when the MX is not signed. */
static const char *dane_of(const char *nexthop, bool force)
{
	static const char *const words[] = { "none", "error", "unusable", "usable" };
	static char text[2048];
	struct route_env env = { NULL, &own };
	struct nexthop n = { 0 };
	struct tls_client tls = { .dane_digests = "sha512 sha256", .force_tlsa = force };
	size_t at = 0;

	found = NULL;
	text[0] = '\0';
	conf.tls_client = &tls;
	nexthop_parse(sv_from(nexthop), true, 25, &n);
	n.alts[0].dane = true;
	route_lookup(&env, &conf, &n.alts[0], on_route, NULL);
	while (asked != NULL)
		answer_all();
	for (unsigned i = 0; found != NULL && i < found->host_count; i++) {
		const struct dane *d = found->dane[i];

		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s=%s@%s%s ", found->hosts[i],
				       d != NULL ? words[d->status] : "-", d != NULL ? d->base : "",
				       d != NULL && d->insecure_mx ? "*" : "");
	}
	route_unref(&found);
	conf.tls_client = NULL;
	return text;
}

static void test_dane(void)
{
	for (unsigned i = 0; i < 2; i++) {
		at_once = i == 1;
		is_str(dane_of("d.sec", false),
		       "mx.sec=usable@mx.sec none.sec=none@none.sec out.ex=none@ "
		       "alias.sec=usable@real.sec to-ex.sec=usable@to-ex.sec ",
		       "records of signed names only");
		is_str(dane_of("d.sec", true),
		       "mx.sec=usable@mx.sec none.sec=none@none.sec out.ex=none@out.ex "
		       "alias.sec=usable@real.sec to-ex.sec=usable@to-ex.sec ",
		       "what is not signed counts never");
		is_str(dane_of("half.ex", false), "mx.sec=usable@mx.sec* ", "an MX not signed");
		is_str(dane_of("[mx.sec]", false), "mx.sec=usable@mx.sec ", "no MX");
		is_str(dane_of("broken.sec", false), "err.sec=error@err.sec ",
		       "an answer that fails is none");
	}
	at_once = false;
}

/* At every step of a lookup with TLSA records. */
static void test_cancel_dane(void)
{
	struct route_env env = { NULL, &own };
	struct tls_client tls = { .dane_digests = "sha256" };
	struct nexthop n = { 0 };

	conf.tls_client = &tls;
	nexthop_parse(SV("d.sec"), true, 25, &n);
	n.alts[0].dane = true;
	for (unsigned steps = 0; steps < 12; steps++) {
		struct route_lookup *l = route_lookup(&env, &conf, &n.alts[0], on_route, NULL);

		found = NULL;
		for (unsigned i = 0; i < steps && asked != NULL; i++) {
			struct dns_query *q = asked;

			asked = q->next;
			give(q->name, q->type, q->fn, q->ctx);
			free(q);
		}
		if (found == NULL)
			route_lookup_cancel(&l);
		route_unref(&found);
		ok(asked == NULL, "cancelled after %u answers", steps);
	}
	conf.tls_client = NULL;
}

int main(void)
{
	union net_addr self;

	net_addr_parse("9.9.9.9", 0, &self);
	own.list = &self;
	own.count = 1;
	conf = (struct tconf){ .want4 = true,
			       .want6 = true,
			       .preference = ADDRESS_PREFERENCE_IPV4,
			       .service = "smtp",
			       .client.myhostname = "me.example" };
	clock_fake_set(1000);
	test_nexthop();
	test_routes();
	test_srv();
	test_filter();
	test_options();
	test_cancel();
	test_dane();
	test_cancel_dane();
	return tap_done();
}
