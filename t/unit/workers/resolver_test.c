/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Resolver: response packets, hosts table, resolv.conf words, queues and fairness. */
#include <string.h>

#include "lib/err.h"
#include "lib/util.h"
#include "t/unit/tap.h"
#include "workers/dns/dns.h"
#include "workers/resolver/engine.h"

struct pkt {
	unsigned char p[2048];
	size_t len;
};

static void raw(struct pkt *k, const char *bytes, size_t len)
{
	memcpy(k->p + k->len, bytes, len);
	k->len += len;
}
#define RAW(k, lit) raw((k), (lit), sizeof(lit) - 1)

/* Header with counts and the question "a.ex" (at offset 12). */
static void head(struct pkt *k, unsigned rcode, unsigned an, unsigned ns, unsigned char type)
{
	unsigned char h[12] = { 0,    1,
				0x81, (unsigned char)(0x80 | rcode),
				0,    1,
				0,    (unsigned char)an,
				0,    (unsigned char)ns,
				0,    0 };

	k->len = 0;
	raw(k, (char *)h, sizeof(h));
	RAW(k, "\1a\2Ex\0\0");
	raw(k, (char *)&type, 1);
	RAW(k, "\0\1");
}

static struct proto_dns_answer turn(const struct pkt *k, uint16_t type, unsigned char *out,
				    size_t *len)
{
	struct proto_dns_answer h;

	*len = packet_to_answer(k->p, k->len, type, out);
	memcpy(&h, out, sizeof(h));
	return h;
}

static void test_packet(void)
{
	unsigned char out[PACKET_ANSWER_MAX];
	struct dns_rr rrs[DNS_RR_MAX];
	struct proto_dns_answer h, h2;
	struct dns_answer a;
	struct pkt k, cut;
	size_t len;

	head(&k, 0, 2, 0, DNS_T_MX);
	RAW(&k, "\300\14\0\17\0\1\0\0\1\54\0\11\0\12\4Mail\300\14"); /* TTL 300, 10 mail.a.ex */
	RAW(&k, "\300\14\0\17\0\1\0\0\0\74\0\3\0\0\0");              /* TTL 60, 0 . */
	h = turn(&k, DNS_T_MX, out, &len);
	ok(h.status == DNS_OK && h.rr_count == 2 && h.ttl_s == 60, "two MX, the smaller TTL");
	is_int(dns_answer_parse(out, len, &h2, rrs, &a), 0, "the client reads it");
	is_str(rrs[0].name, "mail.a.ex", "name is uncompressed and lower case");
	ok(rrs[0].pref == 10 && rrs[1].name[0] == '\0', "preference, root");
	bool safe = true;
	for (size_t n = 0; n < k.len; n++) {
		cut = k;
		cut.len = n;
		h = turn(&cut, DNS_T_MX, out, &len);
		safe &= h.status == DNS_TEMP && h.rr_count == 0;
	}
	ok(safe, "cut anywhere: DNS_TEMP");

	head(&k, 0, 3, 0, DNS_T_A);
	RAW(&k, "\300\14\0\5\0\1\0\0\0\12\0\4\1b\300\16"); /* CNAME b.ex, TTL 10 */
	RAW(&k, "\1b\300\16\0\1\0\1\0\0\0\144\0\4\1\2\3\4");
	RAW(&k, "\1c\300\16\0\1\0\1\0\0\0\144\0\4\6\6\6\6"); /* not in the chain */
	h = turn(&k, DNS_T_A, out, &len);
	ok(h.status == DNS_OK && h.rr_count == 1 && h.ttl_s == 10, "CNAME is followed");

	head(&k, 0, 1, 0, DNS_T_A);
	RAW(&k, "\300\14\0\5\0\1\0\0\0\12\0\2\300\14"); /* CNAME to itself */
	h = turn(&k, DNS_T_A, out, &len);
	is_int(h.status, DNS_NODATA, "CNAME loop");
	head(&k, 0, 1, 0, DNS_T_A);
	RAW(&k, "\300\43\0\5\0\1\0\0\0\12\0\2\300\14");
	h = turn(&k, DNS_T_A, out, &len);
	is_int(h.status, DNS_TEMP, "forward pointer");
	head(&k, 0, 1, 0, DNS_T_A);
	RAW(&k, "\300\14\0\1\0\1\0\0\0\12\0\50\1\2\3\4");
	h = turn(&k, DNS_T_A, out, &len);
	is_int(h.status, DNS_TEMP, "rdata length over the end");

	head(&k, 3, 0, 1, DNS_T_A);
	RAW(&k, "\300\16\0\6\0\1\0\0\2\130\0\30\0\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\170");
	k.p[k.len - 35 + 10] = 0; /* keep the SOA's rdlen below 256 */
	h = turn(&k, DNS_T_A, out, &len);
	is_int(h.status, DNS_NXDOMAIN, "NXDOMAIN");
	head(&k, 0, 0, 1, DNS_T_A);
	RAW(&k, "\300\16\0\6\0\1\0\0\2\130\0\26\0\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\170");
	h = turn(&k, DNS_T_A, out, &len);
	ok(h.status == DNS_NODATA && h.ttl_s == 120, "NODATA with the SOA's minimum as TTL");
	head(&k, 2, 0, 0, DNS_T_A);
	h = turn(&k, DNS_T_A, out, &len);
	is_int(h.status, DNS_TEMP, "SERVFAIL");

	head(&k, 0, 200, 0, DNS_T_A);
	for (unsigned i = 0; i < 110; i++)
		RAW(&k, "\300\14\0\1\0\1\0\0\0\12\0\4\1\2\3\4");
	k.p[7] = 110;
	h = turn(&k, DNS_T_A, out, &len);
	ok(h.status == DNS_OK && h.rr_count == 100, "at most 100 records");
}

static void count_server(void *ctx, const char *address)
{
	char *all = ctx;

	strcat(all, address);
	strcat(all, " ");
}

static void test_files(void)
{
	static const struct {
		const char *in, *out;
	} words[] = {
		{ "127.0.0.1", "127.0.0.1@53" },
		{ "127.0.0.1:5353", "127.0.0.1@5353" },
		{ "::1", "::1@53" },
		{ "[::1]:54", "::1@54" },
		{ "[::1]", "::1@53" },
		{ "10.0.0.1@99", "10.0.0.1@99" },
		{ "fe80::1%eth0", "fe80::1%eth0@53" },
		{ "127.0.0.1:0", NULL },
		{ "127.0.0.1:65536", NULL },
		{ "ns.example", NULL },
		{ "", NULL },
		{ "[]:53", NULL },
	};
	unsigned char out[PACKET_ANSWER_MAX];
	struct hosts *h = hosts_new();
	struct proto_dns_answer hdr;
	struct dns_rr rrs[DNS_RR_MAX];
	struct dns_answer a;
	char text[128], all[256] = "";
	size_t len;

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		bool fine = nameserver_parse(sv_from(words[i].in), text, sizeof(text));

		is_str(fine ? text : NULL, words[i].out, "name server '%s'", words[i].in);
	}
	resolv_conf_read(sv_from("# x\nnameserver 10.0.0.1\n search a b\n"
				 "\tnameserver\t::1 # last\nnameserver bogus\nnameserver"),
			 count_server, all);
	is_str(all, "10.0.0.1@53 ::1@53 ", "resolv.conf");

	hosts_add_text(h, sv_from("127.0.0.1\tlocalhost\n\n10.1.2.3 Mail.Example mail # c\n"
				  "::1 localhost6\nbogus name\n10.1.2.4 mail.example bad..name"));
	ok(hosts_answer(h, SV("mail.example"), DNS_T_A, out, &len), "found");
	is_int(dns_answer_parse(out, len, &hdr, rrs, &a), 0, "well-formed");
	is_int(a.count, 2, "both addresses");
	ok(hosts_answer(h, SV("mail.example"), DNS_T_AAAA, out, &len), "decides AAAA");
	memcpy(&hdr, out, sizeof(hdr));
	is_int(hdr.status, DNS_NODATA, "as no data");
	ok(!hosts_answer(h, SV("mail.example"), DNS_T_MX, out, &len), "but not MX");
	ok(hosts_answer(h, SV("3.2.1.10.in-addr.arpa"), DNS_T_PTR, out, &len), "PTR");
	dns_answer_parse(out, len, &hdr, rrs, &a);
	is_str(rrs[0].name, "mail.example", "first name of the line");
	ok(!hosts_answer(h, SV("bad.name"), DNS_T_A, out, &len), "unknown name");
	hosts_free(&h);
}

struct fake {
	struct engine_query *asked[2 * ENGINE_FLYING_MAX];
	char peer_of[8192]; /* order of answers, by peer */
	unsigned asks, answers, temps;
	bool at_once;
	struct engine *e;
};

static int fake_ask(void *ctx, const char *name UNUSED, uint16_t rrtype UNUSED,
		    struct engine_query *q)
{
	struct fake *f = ctx;

	if (f->at_once) {
		engine_done(f->e, q, NULL, 0, false);
		return 0;
	}
	f->asked[f->asks++] = q;
	return 0;
}

static void fake_answer(void *ctx, void *peer, const void *rec, size_t len)
{
	struct fake *f = ctx;
	struct proto_dns_answer h;

	memcpy(&h, rec, sizeof(h));
	ok(len >= sizeof(h) || h.kind == PROTO_DNS_ANSWER, "answer is a record");
	f->peer_of[f->answers++] = *(char *)peer;
	f->temps += h.status == DNS_TEMP;
}

static int put(struct engine *e, void *peer, uint32_t id, const char *name)
{
	unsigned char rec[sizeof(struct proto_dns_query) + 256];
	struct proto_dns_query h = {
		.kind = PROTO_DNS_QUERY, .id = id, .rrtype = 1, .name_len = (uint16_t)strlen(name)
	};

	memcpy(rec, &h, sizeof(h));
	memcpy(rec + sizeof(h), name, strlen(name));
	return engine_input(e, peer, rec, sizeof(h) + strlen(name));
}

static void test_engine(void)
{
	static struct fake f;
	struct engine_ops ops = { fake_ask, fake_answer, &f };
	struct hosts *h = hosts_new();
	struct engine *e = engine_new(&ops, h);
	char a = 'a', b = 'b';

	f.e = e;
	engine_peer_add(e, &a);
	engine_peer_add(e, &b);
	is_int(engine_input(e, &a, "x", 1), E_PEER, "short record");
	is_int(put(e, &a, 1, "bad..name"), 0, "bad name");
	is_int(f.answers, 1, "is answered at once");
	for (unsigned i = 0; i < ENGINE_FLYING_MAX + 10; i++)
		put(e, &a, i, "a.example");
	is_int(f.asks, ENGINE_FLYING_MAX, "bounded questions in flight");
	put(e, &b, 7, "b.example");
	put(e, &b, 8, "b2.example");
	f.answers = 0;
	engine_done(e, f.asked[0], NULL, 0, false);
	engine_done(e, f.asked[1], NULL, 0, false);
	engine_done(e, f.asked[2], NULL, 0, false);
	engine_done(e, f.asked[3], NULL, 0, false);
	unsigned of_b = 0;
	for (unsigned i = ENGINE_FLYING_MAX; i < f.asks; i++) {
		unsigned before = f.answers;

		engine_done(e, f.asked[i], NULL, 0, false);
		f.asked[i] = NULL;
		of_b += f.peer_of[before] == 'b';
		if (i == ENGINE_FLYING_MAX + 3)
			break;
	}
	is_int(of_b, 2, "peers take turns");
	engine_peer_remove(e, &a);
	f.answers = 0;
	engine_done(e, f.asked[10], NULL, 0, false);
	is_int(f.answers, 0, "nobody is told about a dead peer's question");
	engine_free(&e);

	memset(&f, 0, sizeof(f));
	e = engine_new(&ops, h);
	f.e = e;
	f.at_once = true;
	engine_peer_add(e, &a);
	for (unsigned i = 0; i < 3; i++)
		put(e, &a, i, "a.example");
	ok(f.temps == 3 && engine_flying(e) == 0, "back end that fails at once");
	f.at_once = false;
	for (unsigned i = 0; i < ENGINE_FLYING_MAX + ENGINE_WAITING_MAX + 1; i++)
		put(e, &a, i, "a.example");
	is_int(f.temps, 4, "beyond its queue a peer gets DNS_TEMP");
	engine_free(&e);
	hosts_free(&h);
}

int main(void)
{
	test_packet();
	test_files();
	test_engine();
	return tap_done();
}
