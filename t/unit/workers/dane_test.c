/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLSA records: which can be used, which digests count, what they match. */
#include "workers/deliver/dane.h"

#include <stdint.h>

#include "lib/buf.h"
#include "t/unit/tap.h"

#define WORDS "sha512 sha256"

static struct buf mem[16];
static struct dns_rr rrs[16];
static size_t count;

static void add(unsigned usage, unsigned selector, unsigned matching, struct sv data)
{
	struct buf *b = &mem[count];

	buf_reset(b);
	buf_add_c(b, (char)usage);
	buf_add_c(b, (char)selector);
	buf_add_c(b, (char)matching);
	buf_add_sv(b, data);
	rrs[count] = (struct dns_rr){ .type = DNS_T_TLSA,
				      .data = (const unsigned char *)b->p,
				      .data_len = (uint16_t)b->len };
	count++;
}

static void add_digest(unsigned usage, unsigned matching, struct sv of)
{
	struct buf digest = BUF_INIT;

	is_int(tls_digest(matching == 1 ? "sha256" : "sha512", of, &digest), 0, "digest");
	add(usage, 0, matching, buf_sv(&digest));
	buf_fini(&digest);
}

static struct dane *take(const char *words)
{
	struct dns_answer a = { .status = DNS_OK, .secure = true, .count = count, .rrs = rrs };
	struct dane *d = dane_new(DANE_NONE, "mx.test");

	dane_read(d, &a, words);
	count = 0;
	return d;
}

static void test_usable(void)
{
	static const struct {
		unsigned usage, selector, matching;
		size_t len;
		bool fine;
	} rows[] = {
		{ 3, 1, 1, 32, true },
		{ 3, 0, 1, 32, true },
		{ 2, 1, 1, 32, true },
		{ 2, 0, 2, 64, true },
		{ 3, 0, 0, 100, true },
		{ 0, 1, 1, 32, false },
		{ 1, 1, 1, 32, false },
		{ 4, 1, 1, 32, false },
		{ 255, 1, 1, 32, false },
		{ 3, 2, 1, 32, false },
		{ 3, 1, 3, 32, false },
		{ 3, 1, 1, 31, false },
		{ 3, 1, 1, 33, false },
		{ 3, 1, 2, 32, false },
		{ 3, 0, 0, DANE_DATA_MAX + 1, false },
		{ 3, 1, 1, 0, false },
	};
	static char zeros[DANE_DATA_MAX + 1];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct dane *d;

		add(rows[i].usage, rows[i].selector, rows[i].matching,
		    (struct sv){ zeros, rows[i].len });
		d = take(WORDS);
		is_int(d->status, rows[i].fine ? DANE_USABLE : DANE_UNUSABLE, "%u %u %u of %zu",
		       rows[i].usage, rows[i].selector, rows[i].matching, rows[i].len);
		dane_unref(&d);
	}
	for (unsigned i = 0; i < ARRAY_LEN(mem); i++)
		add(3, 1, 1, (struct sv){ zeros, 32 });
	struct dane *d = take("sha512");

	is_int(d->status, DANE_UNUSABLE, "a digest that is not in the list");
	dane_unref(&d);
}

static void test_match(void)
{
	static const struct sv chain[] = { SV("leaf"), SV("middle"), SV("top") };
	struct dane *d;

	add_digest(3, 1, chain[0]);
	d = take(WORDS);
	ok(dane_is_server(d, chain[0]), "DANE-EE, SHA-256");
	ok(!dane_is_server(d, chain[1]), "of that certificate");
	is_int(dane_anchor(d, chain, 3), -1, "is no trust anchor");
	dane_unref(&d);

	add_digest(2, 2, chain[1]);
	d = take(WORDS);
	is_int(dane_anchor(d, chain, 3), 1, "DANE-TA, SHA-512");
	ok(!dane_is_server(d, chain[1]), "is no server");
	is_int(dane_anchor(d, chain, 1), -1, "a chain without it");
	dane_unref(&d);

	add(3, 0, 0, chain[0]);
	d = take(WORDS);
	ok(dane_is_server(d, chain[0]), "the certificate itself");
	dane_unref(&d);

	add(3, 1, 0, chain[0]);
	d = take(WORDS);
	ok(!dane_is_server(d, chain[0]), "no key in what is no certificate");
	dane_unref(&d);
}

static void test_agility(void)
{
	static const struct sv leaf = SV("leaf"), other = SV("other");
	struct dane *d;

	add_digest(3, 1, leaf);
	add_digest(3, 2, other);
	d = take(WORDS);
	is_int(d->count, 1, "the better digest counts alone");
	ok(dane_is_server(d, other) && !dane_is_server(d, leaf), "it is SHA-512");
	dane_unref(&d);
	add_digest(3, 1, leaf);
	add_digest(3, 2, other);
	d = take("sha256,sha512");
	ok(dane_is_server(d, leaf) && !dane_is_server(d, other), "the list says what is better");
	dane_unref(&d);
	add_digest(3, 1, leaf);
	add_digest(2, 2, other);
	d = take(WORDS);
	is_int(d->count, 2, "digests of other things are no competition");
	dane_unref(&d);
}

int main(void)
{
	test_usable();
	test_match();
	test_agility();
	for (unsigned i = 0; i < ARRAY_LEN(mem); i++)
		buf_fini(&mem[i]);
	return tap_done();
}
