/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Client host names against a resolver that the test plays, and counts per client. */
#include <arpa/inet.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "workers/smtp_in/limits.h"
#include "workers/smtp_in/peername.h"

struct bench {
	struct link client, resolver;
	struct dns_client *dns;
	struct peername_query *q;
	unsigned calls;
	char name[256], reverse[256];
	enum policy_name_status name_status, reverse_status;
};

static void known(void *ctx, const struct peername *r)
{
	struct bench *b = ctx;

	b->calls++;
	b->q = NULL;
	snprintf(b->name, sizeof(b->name), "%s", r->name != NULL ? r->name : "-");
	snprintf(b->reverse, sizeof(b->reverse), "%s", r->reverse != NULL ? r->reverse : "-");
	b->name_status = r->name_status;
	b->reverse_status = r->reverse_status;
}

static void bench_open(struct bench *b)
{
	struct shm_region r, r2;

	memset(b, 0, sizeof(*b));
	ASSERT(link_create("t", 1 << 17, 1 << 17, 1, 2, &r) == 0);
	ASSERT(shm_region_map(dup(r.fd), SHM_KIND_LINK, true, &r2) == 0);
	ASSERT(link_attach(&b->client, &r, 0, -1) == 0);
	ASSERT(link_attach(&b->resolver, &r2, 1, -1) == 0);
	b->dns = dns_client_new(10000, NULL);
	dns_client_set_link(b->dns, &b->client);
}

static void bench_close(struct bench *b)
{
	peername_cancel(&b->q);
	dns_client_free(&b->dns);
	link_detach(&b->client);
	link_detach(&b->resolver);
}

/* "192.0.2.1" or "[v6]". */
static void ask(struct bench *b, const char *addr)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	struct peername_query *q;

	b->calls = 0;
	if (inet_pton(AF_INET, addr, &v4.sin_addr) == 1) {
		q = peername_ask(b->dns, (const struct sockaddr *)&v4, known, b);
	} else {
		ASSERT(inet_pton(AF_INET6, addr, &v6.sin6_addr) == 1);
		q = peername_ask(b->dns, (const struct sockaddr *)&v6, known, b);
	}
	if (b->calls == 0)
		b->q = q;
}

/* The question that was asked, answered. */
static const char *answer(struct bench *b, enum dns_status status, const void *rdata, uint16_t len)
{
	static char name[DNS_NAME_SIZE];
	char rec[600], out[600];
	size_t got = 0;
	struct proto_dns_query q;

	link_flush(&b->client);
	if (ring_get(&b->resolver.in, rec, sizeof(rec), &got) != 1)
		return "(no question)";
	memcpy(&q, rec, sizeof(q));
	memcpy(name, rec + sizeof(q), q.name_len);
	name[q.name_len] = '\0';
	struct proto_dns_answer a = { .kind = PROTO_DNS_ANSWER,
				      .id = q.id,
				      .status = (uint16_t)status,
				      .rrtype = q.rrtype,
				      .ttl_s = 60,
				      .rr_count = status == DNS_OK };

	memcpy(out, &a, sizeof(a));
	size_t n = sizeof(a);

	if (status == DNS_OK) {
		memcpy(out + n, &len, 2);
		memcpy(out + n + 2, rdata, len);
		n += 2u + len;
	}
	dns_client_input(b->dns, out, n);
	return name;
}

static void is_result(struct bench *b, const char *name, const char *reverse, int name_status,
		      const char *title)
{
	is_int(b->calls, 1, "%s: answered once", title);
	is_str(b->name, name, "%s: name", title);
	is_str(b->reverse, reverse, "%s: reverse name", title);
	is_int(b->name_status, name_status, "%s: status", title);
}

static const char ptr_rdata[] = "\4mail\4test";

static void test_names(void)
{
	struct bench b;

	bench_open(&b);
	ask(&b, "127.0.0.9");
	is_result(&b, "localhost", "localhost", POLICY_NAME_OK, "loopback");
	ask(&b, "192.0.2.1");
	is_str(answer(&b, DNS_OK, ptr_rdata, sizeof(ptr_rdata)), "1.2.0.192.in-addr.arpa",
	       "PTR asked");
	is_int(b.calls, 0, "not yet");
	is_str(answer(&b, DNS_OK, "\xc0\0\2\1", 4), "mail.test", "its address asked");
	is_result(&b, "mail.test", "mail.test", POLICY_NAME_OK, "agree");
	ask(&b, "192.0.2.1");
	is_result(&b, "mail.test", "mail.test", POLICY_NAME_OK, "cached");
	ask(&b, "192.0.2.2");
	answer(&b, DNS_OK, ptr_rdata, sizeof(ptr_rdata));
	is_result(&b, "-", "mail.test", POLICY_NAME_FORGED, "another's name, address cached");
	ask(&b, "192.0.2.3");
	answer(&b, DNS_NXDOMAIN, NULL, 0);
	is_result(&b, "-", "-", POLICY_NAME_PERM, "no name");
	ask(&b, "192.0.2.4");
	answer(&b, DNS_TEMP, NULL, 0);
	is_result(&b, "-", "-", POLICY_NAME_TEMP, "no answer");
	ask(&b, "192.0.2.5");
	answer(&b, DNS_OK, "\1x\4test", 8);
	answer(&b, DNS_NODATA, NULL, 0);
	is_result(&b, "-", "x.test", POLICY_NAME_FORGED, "name without address");
	ask(&b, "192.0.2.6");
	answer(&b, DNS_OK,
	       "\x03"
	       "192"
	       "\x01"
	       "0"
	       "\x01"
	       "2"
	       "\x01"
	       "6",
	       11);
	is_result(&b, "-", "-", POLICY_NAME_PERM, "a name that is an address");
	ask(&b, "192.0.2.7");
	ok(b.q != NULL, "waits");
	peername_give_up(b.q);
	is_result(&b, "-", "-", POLICY_NAME_TEMP, "gave up");
	answer(&b, DNS_OK, ptr_rdata, sizeof(ptr_rdata));
	is_int(b.calls, 1, "a late answer is nobody's");
	ask(&b, "192.0.2.8");
	answer(&b, DNS_OK, "\1y\4test", 8);
	peername_give_up(b.q);
	is_result(&b, "-", "y.test", POLICY_NAME_TEMP, "gave up half way");
	answer(&b, DNS_NODATA, NULL, 0);
	ask(&b, "2001:db8::1");
	is_str(answer(&b, DNS_OK, "\1z\4test", 8),
	       "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	       "v6 PTR");
	answer(&b, DNS_OK, "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
	is_result(&b, "z.test", "z.test", POLICY_NAME_OK, "v6");
	bench_close(&b);

	struct bench none = { 0 };

	ask(&none, "192.0.2.1");
	is_result(&none, "-", "-", POLICY_NAME_TEMP, "no resolver");
}

static struct client *connect_from(struct limits *l, const char *addr)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, addr, &v4.sin_addr) == 1)
		return limits_connect(l, (const struct sockaddr *)&v4);
	ASSERT(inet_pton(AF_INET6, addr, &v6.sin6_addr) == 1);
	return limits_connect(l, (const struct sockaddr *)&v6);
}

static void test_limits(void)
{
	struct conf *c = test_conf("smtpd_client_ipv4_prefix_length = 24\n"
				   "anvil_rate_time_unit = 60s\n");
	struct limits *l = limits_new(conf_params(c));
	struct client *a = connect_from(l, "192.0.2.1");

	is_int(limits_open(a), 1, "one connection");
	ok(connect_from(l, "192.0.2.200") == a, "the same network is the same client");
	ok(connect_from(l, "::ffff:192.0.2.7") == a, "IPv4-mapped, too");
	is_int(limits_open(a), 3, "three connections");
	ok(connect_from(l, "192.0.3.1") != a, "another network");
	struct client *six = connect_from(l, "2001:db8:0:1:0:1::");

	ok(connect_from(l, "2001:db8:0:1:0:1:2:3") == six, "v6 by /84");
	ok(connect_from(l, "2001:db8:0:2::1") != six, "another v6");
	is_int(limits_count(l, a, RATE_MESSAGES), 1, "first message");
	is_int(limits_count(l, a, RATE_MESSAGES), 2, "second");
	is_int(limits_count(l, a, RATE_RECIPIENTS), 1, "recipients are counted apart");
	for (int i = 0; i < 3; i++)
		limits_disconnect(l, a);
	a = connect_from(l, "192.0.2.1");
	is_int(limits_count(l, a, RATE_MESSAGES), 3, "remembered between connections");
	clock_fake_advance(60000);
	is_int(limits_count(l, a, RATE_MESSAGES), 1, "until the time unit is over");
	limits_disconnect(l, a);
	limits_sweep(l);
	clock_fake_advance(60000);
	limits_sweep(l);
	a = connect_from(l, "192.0.2.1");
	is_int(limits_open(a), 1, "forgotten and known again");
	limits_free(&l);
	conf_free(&c);
}

int main(void)
{
	clock_fake_set(1000000);
	clock_tick();
	test_names();
	test_limits();
	return tap_done();
}
