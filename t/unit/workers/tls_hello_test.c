/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A client's first words, as they come, cut, and with what they should not have. */
#include <string.h>

#include "lib/err.h"
#include "t/unit/tap.h"
#include "workers/tls/tls_int.h"

#define NAMED(bytes) bytes, sizeof(bytes) - 1

static void add_uint(struct buf *out, size_t value, size_t bytes)
{
	while (bytes-- > 0)
		buf_add_c(out, (char)(value >> 8 * bytes & 0xff));
}

/* A hello of one suite with that name (none when NULL) and one signature scheme. */
static void make_message(struct buf *out, unsigned suite, const char *name, size_t name_len,
			 unsigned scheme)
{
	struct buf ext = BUF_INIT, body = BUF_INIT;

	if (name != NULL) {
		add_uint(&ext, 0, 2);
		add_uint(&ext, name_len + 5, 2);
		add_uint(&ext, name_len + 3, 2);
		add_uint(&ext, 0, 1);
		add_uint(&ext, name_len, 2);
		buf_add(&ext, name, name_len);
	}
	add_uint(&ext, 13, 2);
	add_uint(&ext, 4, 2);
	add_uint(&ext, 2, 2);
	add_uint(&ext, scheme, 2);
	add_uint(&body, 0x0303, 2);
	for (int i = 0; i < 32; i++)
		add_uint(&body, (size_t)i, 1);
	add_uint(&body, 0, 1);
	add_uint(&body, 2, 2);
	add_uint(&body, suite, 2);
	add_uint(&body, 0x0100, 2);
	add_uint(&body, ext.len, 2);
	buf_add(&body, ext.p, ext.len);
	add_uint(out, 1, 1);
	add_uint(out, body.len, 3);
	buf_add(out, body.p, body.len);
	buf_fini(&ext);
	buf_fini(&body);
}

/* The message in records of at most so many bytes. */
static void make_records(struct buf *out, const struct buf *message, size_t piece)
{
	for (size_t at = 0; at < message->len; at += piece) {
		size_t n = size_min(piece, message->len - at);

		add_uint(out, 22, 1);
		add_uint(out, 0x0301, 2);
		add_uint(out, n, 2);
		buf_add(out, message->p + at, n);
	}
}

static int parse(unsigned suite, const char *name, size_t name_len, unsigned scheme, size_t piece,
		 struct tls_hello *h)
{
	struct buf message = BUF_INIT, records = BUF_INIT;

	make_message(&message, suite, name, name_len, scheme);
	make_records(&records, &message, piece);
	int err = tls_hello_parse((struct sv){ records.p, records.len }, h);
	size_t bad = 0;

	for (size_t n = 0; n < records.len; n++) {
		struct tls_hello part;

		bad += tls_hello_parse((struct sv){ records.p, n }, &part) != E_AGAIN;
	}
	is_int((long long)bad, 0, "any beginning of it says that more has to come");
	buf_fini(&message);
	buf_fini(&records);
	return err;
}

static void test_names(void)
{
	static const struct {
		const char *name;
		size_t len;
		const char *want, *what;
	} cases[] = {
		{ NAMED("mail.example"), "mail.example", "a name" },
		{ NAMED("MAIL.Example"), "mail.example", "capitals" },
		{ NAMED("a_b-c.1"), "a_b-c.1", "what host names have" },
		{ NULL, 0, "", "none" },
		{ NAMED(""), "", "an empty one" },
		{ NAMED("mail.example\0.evil"), "", "a NUL inside" },
		{ NAMED("mail example"), "", "a space" },
		{ NAMED("../../etc"), "", "a slash" },
		{ NAMED("m\303\244il"), "", "8-bit" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (size_t piece = 16384; piece > 0; piece = piece == 16384 ? 7 : 0) {
			struct tls_hello h;
			int err = parse(0x1301, cases[i].name, cases[i].len, 0x0403, piece, &h);

			is_int(err, 0, "%s, %zu bytes in a record", cases[i].what, piece);
			is_str(h.name, cases[i].want, "%s: what is taken", cases[i].what);
		}
	}
}

static void test_longest(void)
{
	char name[TLS_NAME_MAX + 1];
	struct tls_hello h;

	memset(name, 'x', sizeof(name));
	is_int(parse(0x1301, name, TLS_NAME_MAX, 0x0403, 16384, &h), 0, "the longest name");
	is_int((long long)strlen(h.name), TLS_NAME_MAX, "all of it");
	is_int(parse(0x1301, name, TLS_NAME_MAX + 1, 0x0403, 16384, &h), 0, "one byte more");
	is_str(h.name, "", "is no name");
}

static void test_keys(void)
{
	struct tls_hello h;

	parse(0xc02b, NULL, 0, 0x0403, 16384, &h);
	ok(h.knows_ecdsa && !h.knows_rsa, "ECDSA with its suite");
	parse(0xc02f, NULL, 0, 0x0403, 16384, &h);
	ok(!h.knows_ecdsa, "ECDSA without a suite that has it");
	parse(0xc02f, NULL, 0, 0x0804, 16384, &h);
	ok(h.knows_rsa && !h.knows_ecdsa, "RSA-PSS");
}

static void test_no_hello(void)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *what;
	} cases[] = {
		{ NAMED("EHLO x\r\n"), "a command" },
		{ NAMED("\x16\x02"), "a version that never was" },
		{ NAMED("\x16\x03\x01\x00\x00"), "an empty record" },
		{ NAMED("\x16\x03\x01\xff\xff"), "a record that is too long" },
		{ NAMED("\x16\x03\x01\x00\x04\x02\x00\x00\x00"), "another message" },
		{ NAMED("\x16\x03\x01\x00\x04\x01\xff\xff\xff"), "a message that is too long" },
		{ NAMED("\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03"), "one that ends early" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct tls_hello h;

		is_int(tls_hello_parse((struct sv){ cases[i].bytes, cases[i].len }, &h), E_SYNTAX,
		       "%s is no hello", cases[i].what);
	}
}

int main(void)
{
	test_names();
	test_longest();
	test_keys();
	test_no_hello();
	return tap_done();
}
