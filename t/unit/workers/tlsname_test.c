/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names of certificates: wildcards, subdomains, common names, and what is no name at all. */
#include "workers/deliver/tlsname.h"

#include <stdint.h>

#include "t/unit/tap.h"

static const struct tls_names names = { "example.com", "mx.example.com" };

static void test_fit(void)
{
	static const struct sv good[] = { SV("a.test"),        SV("A-1.b.test"),
					  SV("*.example.com"), SV("xn--bcher-kva.test"),
					  SV("_x.test"),       SV("host") };
	static const struct sv bad[] = {
		SV(""),
		SV("."),
		SV("*"),
		SV("*."),
		SV("*.com"),
		SV("a..test"),
		SV(".test"),
		SV("a.test."),
		SV("*a.test"),
		SV("a*.test"),
		SV("a.*.test"),
		SV("**.a.test"),
		SV("*.*.test"),
		SV("a\0.test"),
		SV("a.test\0.evil.test"),
		SV("a b.test"),
		SV("\xc3\xa4.test"),
		SV("192.0.2.1"),
		SV("-a.test"),
		SV("*..test"),
		SV("a.test\n"),
	};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		ok(tls_name_is_fit(good[i]), "a name: %.*s", (int)good[i].len, good[i].p);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ok(!tls_name_is_fit(bad[i]), "no name: %zu", i);
}

static void test_matches(void)
{
	static const struct {
		const char *cert, *wanted;
		bool below, want;
	} rows[] = {
		{ "mx.a.test", "MX.A.TEST", false, true },
		{ "mx.a.test", "mx.b.test", false, false },
		{ "a.test", "mx.a.test", false, false },
		{ "mx.a.test", "a.test", false, false },
		{ "*.a.test", "mx.a.test", false, true },
		{ "*.a.test", "a.test", false, false },
		{ "*.a.test", "one.mx.a.test", false, false },
		{ "*.a.test", ".a.test", false, false },
		{ "*.a.test", "xa.test", false, false },
		{ "*.a.test", "mx.xa.test", false, false },
		{ "mx.a.test", "a.test", true, true },
		{ "one.mx.a.test", "a.test", true, true },
		{ "*.a.test", "a.test", true, true },
		{ "a.test", "a.test", true, false },
		{ "xa.test", "a.test", true, false },
		{ "mx.a.test", "", false, false },
		{ "mx.a.test", "", true, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		is_int(tls_name_matches(sv_from(rows[i].cert), sv_from(rows[i].wanted),
					rows[i].below),
		       rows[i].want, "%s for %s%s", rows[i].cert, rows[i].below ? "." : "",
		       rows[i].wanted);
}

static void test_words(void)
{
	ok(tls_name_is_wanted(SV("example.com"), SV("nexthop"), &names), "nexthop");
	ok(!tls_name_is_wanted(SV("mx.example.com"), SV("nexthop"), &names), "is that alone");
	ok(tls_name_is_wanted(SV("mx.example.com"), SV("dot-nexthop"), &names), "dot-nexthop");
	ok(!tls_name_is_wanted(SV("example.com"), SV("dot-nexthop"), &names), "is below it");
	ok(tls_name_is_wanted(SV("mx.example.com"), SV("Hostname"), &names), "hostname");
	ok(!tls_name_is_wanted(SV("my.example.com"), SV("hostname"), &names), "is that alone");
	ok(tls_name_is_wanted(SV("a.other.test"), SV(".other.test"), &names), ".domain");
	ok(!tls_name_is_wanted(SV("other.test"), SV(".other.test"), &names), "is below it");
	ok(tls_name_is_wanted(SV("other.test"), SV("other.test"), &names), "a name");
	ok(!tls_name_is_wanted(SV("other.test"), SV("."), &names), "a lone dot is none");
}

/* subjectAltName with these DNS names, `len` bytes each as in text[i]. */
static struct x509 make_cert(struct buf *mem, const struct sv *dns, unsigned count,
			     struct sv common)
{
	struct x509 x = { .is_ca = false };
	struct buf cn = BUF_INIT;
	size_t at;

	for (unsigned i = 0; i < count; i++) {
		buf_add_c(mem, (char)0x82);
		buf_add_c(mem, (char)dns[i].len);
		buf_add_sv(mem, dns[i]);
	}
	/* SEQUENCE { SET { SEQUENCE { OID 2.5.4.3, UTF8String } } } */
	buf_add(&cn, "\x06\x03\x55\x04\x03\x0c", 6);
	buf_add_c(&cn, (char)common.len);
	buf_add_sv(&cn, common);
	at = mem->len;
	buf_add_c(mem, 0x30);
	buf_add_c(mem, (char)(cn.len + 4));
	buf_add_c(mem, 0x31);
	buf_add_c(mem, (char)(cn.len + 2));
	buf_add_c(mem, 0x30);
	buf_add_c(mem, (char)cn.len);
	buf_add(mem, cn.p, cn.len);
	buf_fini(&cn);
	x.names = (struct sv){ mem->p, at };
	x.subject = (struct sv){ mem->p + at, mem->len - at };
	return x;
}

static bool has_name(const struct sv *dns, unsigned count, struct sv common, const char *want)
{
	static const struct sv words[] = { SV("nexthop"), SV("hostname") };
	struct buf mem = BUF_INIT, name = BUF_INIT;
	struct x509 x = make_cert(&mem, dns, count, common);
	bool found = tls_cert_has_name(&x, words, 2, &names, &name);

	if (found)
		is_str(buf_cstr(&name), want, "it is that name");
	buf_fini(&mem);
	buf_fini(&name);
	return found;
}

static void test_cert(void)
{
	const struct sv good[] = { SV("other.test"), SV("mx.example.com") };
	const struct sv other[] = { SV("other.test") };
	const struct sv nul[] = { SV("example.com\0.evil.test"), SV("mx.example.com\0") };
	const struct sv empty[] = { SV(""), SV(".") };

	ok(has_name(good, 2, SV("x"), "mx.example.com"), "the second name matches");
	ok(!has_name(other, 1, SV("example.com"), ""), "the common name beside names is none");
	ok(has_name(NULL, 0, SV("example.com"), "example.com"), "it is one alone");
	ok(!has_name(NULL, 0, SV("evil.test"), ""), "when it matches");
	ok(!has_name(nul, 2, SV("example.com"), ""), "a NUL ends no name");
	ok(!has_name(NULL, 0, SV("example.com\0.evil.test"), ""), "nor a common name");
	ok(!has_name(empty, 2, SV("example.com"), ""), "empty names are names that match nothing");
}

int main(void)
{
	test_fit();
	test_matches();
	test_words();
	test_cert();
	return tap_done();
}
