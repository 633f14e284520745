/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A client's first words (RFC 8446 4.1.2, 5.1), looked at before the library sees them: which name
 * it asks for and which kinds of certificate it can check.
 */
#include <string.h>

#include "lib/err.h"
#include "workers/tls/tls_int.h"

#define RECORD_HEAD  5u
#define MESSAGE_HEAD 4u

struct reader {
	const unsigned char *p;
	size_t left;
	bool failed;
};

static unsigned take_uint(struct reader *r, size_t bytes)
{
	unsigned value = 0;

	if (r->left < bytes) {
		r->failed = true;
		r->left = 0;
		return 0;
	}
	for (size_t i = 0; i < bytes; i++)
		value = value << 8 | r->p[i];
	r->p += bytes;
	r->left -= bytes;
	return value;
}

/* What a length of so many bytes says. */
static struct reader take_block(struct reader *r, size_t length_bytes)
{
	size_t n = take_uint(r, length_bytes);

	if (n > r->left) {
		r->failed = true;
		n = r->left;
	}
	struct reader block = { r->p, n, false };

	r->p += n;
	r->left -= n;
	return block;
}

static void take_name(struct reader list, struct tls_hello *h)
{
	struct reader names = take_block(&list, 2);

	while (names.left > 0 && !names.failed) {
		unsigned type = take_uint(&names, 1);
		struct reader name = take_block(&names, 2);

		if (type != 0 || name.left == 0 || name.left > TLS_NAME_MAX)
			continue;
		for (size_t i = 0; i < name.left; i++) {
			char c = ascii_lower((char)name.p[i]);

			if (c == '\0' || (!ascii_is_alnum(c) && strchr("-._", c) == NULL)) {
				h->name[0] = '\0';
				return;
			}
			h->name[i] = c;
		}
		h->name[name.left] = '\0';
		return;
	}
}

/* SignatureScheme: ecdsa_secp256r1_sha256 and its like, and the pairs of 1.2 before it. */
static void take_algorithms(struct reader ext, struct tls_hello *h)
{
	struct reader list = take_block(&ext, 2);

	h->knows_ecdsa = h->knows_rsa = false;
	while (list.left > 0 && !list.failed) {
		unsigned scheme = take_uint(&list, 2);

		h->knows_ecdsa = h->knows_ecdsa || (scheme & 0xff) == 3;
		h->knows_rsa = h->knows_rsa || (scheme & 0xff) == 1 ||
			       (scheme >= 0x0804 && scheme <= 0x0806) ||
			       (scheme >= 0x0809 && scheme <= 0x080b);
	}
}

/* Of 1.2: a client without such a suite can use no such certificate. */
static bool suite_is_ecdsa(unsigned suite)
{
	return (suite >= 0xc006 && suite <= 0xc00a) || suite == 0xc023 || suite == 0xc024 ||
	       suite == 0xc02b || suite == 0xc02c || suite == 0xcca9 ||
	       (suite >= 0xc0ac && suite <= 0xc0af);
}

static int parse_body(struct reader r, struct tls_hello *h)
{
	bool ecdsa_suite = false, any_suite_13 = false;

	*h = (struct tls_hello){ .knows_ecdsa = false, .knows_rsa = true };
	take_uint(&r, 2);
	for (int i = 0; i < 32; i++)
		take_uint(&r, 1);
	take_block(&r, 1);
	struct reader offered = take_block(&r, 2);

	while (offered.left > 0 && !offered.failed) {
		unsigned suite = take_uint(&offered, 2);

		any_suite_13 = any_suite_13 || (suite >= 0x1301 && suite <= 0x1305);
		ecdsa_suite = ecdsa_suite || suite_is_ecdsa(suite);
	}
	take_block(&r, 1);
	struct reader all = r.left > 0 ? take_block(&r, 2) : (struct reader){ r.p, 0, false };

	while (all.left > 0 && !all.failed) {
		unsigned type = take_uint(&all, 2);
		struct reader ext = take_block(&all, 2);

		if (type == 0)
			take_name(ext, h);
		else if (type == 13)
			take_algorithms(ext, h);
	}
	h->knows_ecdsa = h->knows_ecdsa && (ecdsa_suite || any_suite_13);
	return r.failed || offered.failed || all.failed ? E_SYNTAX : 0;
}

int tls_hello_parse(struct sv data, struct tls_hello *hello_r)
{
	unsigned char message[TLS_HELLO_MAX];
	size_t have = 0, need = MESSAGE_HEAD;

	/* the message may be cut into any number of records */
	while (have < need) {
		const unsigned char *p = (const unsigned char *)data.p;

		if (data.len >= 1 && p[0] != 22)
			return E_SYNTAX;
		if ((data.len >= 2 && p[1] != 3))
			return E_SYNTAX;
		if (data.len < RECORD_HEAD)
			return E_AGAIN;
		size_t n = (size_t)p[3] << 8 | p[4];

		if (n == 0 || n > 16384 || have + n > sizeof(message))
			return E_SYNTAX;
		size_t there = size_min(n, data.len - RECORD_HEAD);

		memcpy(message + have, p + RECORD_HEAD, there);
		have += there;
		if (have >= 1 && message[0] != 1)
			return E_SYNTAX;
		if (have >= MESSAGE_HEAD)
			need = MESSAGE_HEAD +
			       ((size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3]);
		if (need > sizeof(message))
			return E_SYNTAX;
		if (there < n && have < need)
			return E_AGAIN;
		data = (struct sv){ data.p + RECORD_HEAD + there, data.len - RECORD_HEAD - there };
	}
	return parse_body((struct reader){ message + MESSAGE_HEAD, need - MESSAGE_HEAD, false },
			  hello_r);
}
