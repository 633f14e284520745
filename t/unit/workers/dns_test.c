/* SPDX-License-Identifier: GPL-3.0-or-later */
/* DNS client: names, strict rdata, coalescing, time-outs, cache. */
#include "workers/dns/dns.h"

#include <arpa/inet.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/util.h"
#include "t/unit/tap.h"

struct packet {
	unsigned char p[4096];
	size_t len;
};

static void begin(struct packet *k, uint32_t id, uint16_t rrtype, enum dns_status st, uint32_t ttl)
{
	struct proto_dns_answer h = { .kind = PROTO_DNS_ANSWER,
				      .id = id,
				      .status = (uint16_t)st,
				      .rrtype = rrtype,
				      .ttl_s = ttl };

	memcpy(k->p, &h, sizeof(h));
	k->len = sizeof(h);
}

static void add_rr(struct packet *k, const void *rdata, uint16_t len)
{
	struct proto_dns_answer h;

	memcpy(&h, k->p, sizeof(h));
	h.rr_count++;
	memcpy(k->p, &h, sizeof(h));
	memcpy(k->p + k->len, &len, 2);
	memcpy(k->p + k->len + 2, rdata, len);
	k->len += 2u + len;
}

static void test_names(void)
{
	static const struct {
		const char *in;
		const char *out; /* NULL = refused */
	} cases[] = {
		{ "Example.COM", "example.com" },
		{ "example.com.", "example.com" },
		{ "a", "a" },
		{ "_dmarc.x-y.de", "_dmarc.x-y.de" },
		{ "0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa" },
		{ "", NULL },
		{ ".", NULL },
		{ ".com", NULL },
		{ "a..b", NULL },
		{ "a.b..", NULL },
		{ "a b", NULL },
		{ "a\\.b", NULL },
		{ "a@b", NULL },
		{ "m\xc3\xbcller.de", NULL },
	};
	char out[DNS_NAME_SIZE], longest[300];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool fine = dns_name_clean(sv_from(cases[i].in), out);

		if (cases[i].out == NULL)
			ok(!fine, "refused: '%s'", cases[i].in);
		else
			is_str(fine ? out : NULL, cases[i].out, "accepted: '%s'", cases[i].in);
	}
	memset(longest, 'a', sizeof(longest));
	for (size_t i = 50; i < sizeof(longest); i += 50)
		longest[i] = '.';
	ok(dns_name_clean((struct sv){ longest, 253 }, out), "253 bytes fit");
	ok(!dns_name_clean((struct sv){ longest, 254 }, out), "254 bytes do not");
	memset(longest, 'a', 64);
	ok(dns_name_clean((struct sv){ longest, 63 }, out), "label of 63");
	ok(!dns_name_clean((struct sv){ longest, 64 }, out), "label of 64");
}

static void test_reverse(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6 };
	char out[DNS_NAME_SIZE];

	inet_pton(AF_INET, "192.0.2.1", &sin.sin_addr);
	dns_reverse_name((struct sockaddr *)&sin, out);
	is_str(out, "1.2.0.192.in-addr.arpa", "IPv4");
	inet_pton(AF_INET6, "2001:db8::567:89ab", &sin6.sin6_addr);
	dns_reverse_name((struct sockaddr *)&sin6, out);
	is_str(out, "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	       "IPv6");
}

/* Every type with every too short length, and the shapes that look right but are not. */
static void test_rdata(void)
{
	static const struct {
		uint16_t type;
		const char *label;
		const char *rdata;
		uint16_t len;
		const char *name; /* expected name; NULL = rdata must be refused */
	} cases[] = {
		{ DNS_T_A, "A", "\x7f\0\0\1", 4, "" },
		{ DNS_T_A, "A too long", "\x7f\0\0\1\2", 5, NULL },
		{ DNS_T_AAAA, "AAAA", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16, "" },
		{ DNS_T_MX, "MX", "\0\12\2mX\3Com\0", 10, "mx.com" },
		{ DNS_T_MX, "null MX", "\0\0\0", 3, "" },
		{ DNS_T_MX, "MX without the root", "\0\12\2mx\3com", 9, NULL },
		{ DNS_T_MX, "MX label over the end", "\0\12\77mx\0", 6, NULL },
		{ DNS_T_MX, "MX pointer", "\0\12\300\14\0", 5, NULL },
		{ DNS_T_MX, "MX bytes behind", "\0\12\2mx\0x", 7, NULL },
		{ DNS_T_MX, "MX dot in label", "\0\12\3m.x\0", 7, NULL },
		{ DNS_T_MX, "MX space in label", "\0\12\3m x\0", 7, NULL },
		{ DNS_T_PTR, "PTR", "\1a\1b\0", 5, "a.b" },
		{ DNS_T_PTR, "PTR to the root", "\0", 1, NULL },
		{ DNS_T_TXT, "TXT", "\3abc\0", 5, "" },
		{ DNS_T_TXT, "TXT string over the end", "\3ab", 3, NULL },
		{ DNS_T_SRV, "SRV", "\0\1\0\2\0\31\1a\0", 9, "a" },
		{ DNS_T_SRV, "SRV without target", "\0\1\0\2\0\31", 6, NULL },
		{ DNS_T_TLSA, "TLSA", "\3\1\1\252", 4, "" },
		{ 999, "unknown type", "abc", 3, NULL },
	};
	static const uint16_t shortest[][2] = { { DNS_T_A, 4 },   { DNS_T_AAAA, 16 },
						{ DNS_T_MX, 3 },  { DNS_T_PTR, 2 },
						{ DNS_T_TXT, 1 }, { DNS_T_SRV, 7 },
						{ DNS_T_TLSA, 4 } };
	struct proto_dns_answer hdr;
	struct dns_rr rrs[DNS_RR_MAX];
	struct dns_answer a;
	struct packet k;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		begin(&k, 1, cases[i].type, DNS_OK, 60);
		add_rr(&k, cases[i].rdata, cases[i].len);
		is_int(dns_answer_parse(k.p, k.len, &hdr, rrs, &a), 0, "%s: record parses",
		       cases[i].label);
		if (cases[i].name == NULL) {
			is_int(a.status, DNS_TEMP, "%s: refused", cases[i].label);
		} else {
			is_int(a.count, 1, "%s: accepted", cases[i].label);
			is_str(rrs[0].name, cases[i].name, "%s: name", cases[i].label);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(shortest); i++) {
		bool refused = true;

		for (uint16_t len = 0; len < shortest[i][1]; len++) {
			begin(&k, 1, shortest[i][0], DNS_OK, 60);
			add_rr(&k, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", len);
			refused &= dns_answer_parse(k.p, k.len, &hdr, rrs, &a) == 0 && a.count == 0;
		}
		ok(refused, "type %u: all lengths below %u refused", shortest[i][0],
		   shortest[i][1]);
	}
	begin(&k, 1, DNS_T_MX, DNS_OK, 60);
	add_rr(&k, "\0\1", 2);
	add_rr(&k, "\0\12\2mx\0", 6);
	is_int(dns_answer_parse(k.p, k.len, &hdr, rrs, &a), 0, "bad and good record");
	is_int(a.count, 1, "the good one is kept");
	is_int(dns_answer_parse(k.p, k.len - 1, &hdr, rrs, &a), E_PEER, "cut record");
	is_int(dns_answer_parse(k.p, k.len + 1, &hdr, rrs, &a), E_PEER, "bytes behind");
	is_int(dns_answer_parse(k.p, 10, &hdr, rrs, &a), E_PEER, "cut header");
}

struct seen {
	unsigned calls;
	enum dns_status status;
	size_t count;
	struct in_addr a;
	struct dns_client *ask_again;
};

static void note(void *ctx, const struct dns_answer *a)
{
	struct seen *s = ctx;

	s->calls++;
	s->status = a->status;
	s->count = a->count;
	if (a->count > 0)
		s->a = a->rrs[0].a;
	if (s->ask_again != NULL) {
		struct dns_client *c = s->ask_again;
		struct seen inner = { 0 };

		s->ask_again = NULL;
		ok(dns_ask(c, SV("other.example"), DNS_T_A, note, &inner) == NULL, "nested hit");
		is_int(inner.count, 1, "nested answer");
		is_int(a->rrs[0].a.s_addr, s->a.s_addr, "outer answer is not disturbed");
	}
}

static int next_query(struct link *l, struct proto_dns_query *q, char name[DNS_NAME_SIZE])
{
	unsigned char rec[600];
	size_t len = 0;
	int got = ring_get(&l->in, rec, sizeof(rec), &len);

	if (got != 1)
		return got;
	memcpy(q, rec, sizeof(*q));
	memcpy(name, rec + sizeof(*q), q->name_len);
	name[q->name_len] = '\0';
	return 1;
}

static void answer_a(struct dns_client *c, uint32_t id, const char *rdata, uint32_t ttl)
{
	struct packet k;

	begin(&k, id, DNS_T_A, DNS_OK, ttl);
	add_rr(&k, rdata, 4);
	dns_client_input(c, k.p, k.len);
}

static void link_pair(struct link *client, struct link *resolver)
{
	struct shm_region r, r2;

	ok(link_create("t", 1 << 17, 1 << 17, 1, 2, &r) == 0, "link made");
	ok(shm_region_map(dup(r.fd), SHM_KIND_LINK, true, &r2) == 0, "mapped twice");
	ok(link_attach(client, &r, 0, -1) == 0 && link_attach(resolver, &r2, 1, -1) == 0,
	   "attached");
}

static void test_client(void)
{
	struct link cl = { 0 }, rl = { 0 };
	struct dns_client *c;
	struct seen s1 = { 0 }, s2 = { 0 }, s3 = { 0 };
	struct proto_dns_query q, q2;
	char name[DNS_NAME_SIZE];
	struct packet k;

	clock_fake_set(1000000);
	link_pair(&cl, &rl);
	c = dns_client_new(5000, NULL);
	ok(dns_ask(c, SV("a..b"), DNS_T_A, note, &s1) == NULL, "bad name is answered at once");
	is_int(s1.status, DNS_BADNAME, "as such");
	s1.calls = 0;

	ok(dns_ask(c, SV("Host.Example"), DNS_T_A, note, &s1) != NULL, "asked without a link");
	dns_client_set_link(c, &cl);
	ok(dns_ask(c, SV("host.example."), DNS_T_A, note, &s2) != NULL, "asked again");
	link_flush(&cl);
	is_int(next_query(&rl, &q, name), 1, "one question arrives");
	is_str(name, "host.example", "its name");
	is_int(next_query(&rl, &q2, name), 0, "equal questions are asked once");
	answer_a(c, q.id + 1, "\1\2\3\4", 60);
	answer_a(c, q.id ^ DNS_PENDING_MAX, "\1\2\3\4", 60);
	is_int(s1.calls, 0, "answers with a wrong number are dropped");
	begin(&k, q.id, DNS_T_AAAA, DNS_NODATA, 0);
	dns_client_input(c, k.p, k.len);
	is_int(s1.calls, 0, "so is one of the wrong type");
	answer_a(c, q.id, "\1\2\3\4", 60);
	ok(s1.calls == 1 && s2.calls == 1 && s1.count == 1, "both get the answer");
	answer_a(c, q.id, "\1\2\3\4", 60);
	is_int(s1.calls, 1, "a repeated answer is dropped");

	ok(dns_ask(c, SV("HOST.example"), DNS_T_A, note, &s3) == NULL && s3.calls == 1,
	   "answered from the cache");
	dns_ask(c, SV("other.example"), DNS_T_A, note, &s3);
	link_flush(&cl);
	next_query(&rl, &q, name);
	answer_a(c, q.id, "\5\6\7\10", 60);
	s3.ask_again = c;
	dns_ask(c, SV("host.example"), DNS_T_A, note, &s3);
	clock_fake_advance(61000);
	ok(dns_ask(c, SV("host.example"), DNS_T_A, note, &s3) != NULL, "not past its TTL");

	s1.calls = 0;
	struct dns_query *h = dns_ask(c, SV("host.example"), DNS_T_A, note, &s1);
	dns_cancel(h);
	clock_fake_advance(4999);
	dns_client_tick(c);
	s3.calls = 0;
	clock_fake_advance(1);
	dns_client_tick(c);
	ok(s3.calls == 1 && s3.status == DNS_TEMP, "time-out");
	is_int(s1.calls, 0, "a cancelled one hears nothing");
	for (unsigned i = 0; i < DNS_PENDING_MAX; i++) {
		char n[32];

		snprintf(n, sizeof(n), "h%u.example", i);
		dns_ask(c, sv_from(n), DNS_T_A, note, &s1);
	}
	is_int(s1.calls, 0, "all slots taken");
	ok(dns_ask(c, SV("onemore.example"), DNS_T_A, note, &s1) == NULL && s1.status == DNS_TEMP,
	   "one more is DNS_TEMP at once");
	dns_client_free(&c);
	link_detach(&cl);
	link_detach(&rl);
	clock_fake_off();
}

int main(void)
{
	test_names();
	test_reverse();
	test_rdata();
	test_client();
	return tap_done();
}
