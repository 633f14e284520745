/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Certificates as strangers send them: a strict reader of the few parts that are looked at (RFC
 * 5280). */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/err.h"
#include "lib/util.h"
#include "workers/tls/tls.h"

enum {
	TAG_BOOLEAN = 0x01,
	TAG_INTEGER = 0x02,
	TAG_BIT_STRING = 0x03,
	TAG_OCTET_STRING = 0x04,
	TAG_OID = 0x06,
	TAG_UTF8 = 0x0c,
	TAG_PRINTABLE = 0x13,
	TAG_T61 = 0x14,
	TAG_IA5 = 0x16,
	TAG_UTC_TIME = 0x17,
	TAG_TIME = 0x18,
	TAG_UNIVERSAL = 0x1c,
	TAG_BMP = 0x1e,
	TAG_SEQUENCE = 0x30,
	TAG_SET = 0x31,
	TAG_VERSION = 0xa0,
	TAG_EXTENSIONS = 0xa3,
	TAG_DNS_NAME = 0x82,
};

struct tlv {
	unsigned tag;
	struct sv whole, value;
};

/* The next element of `in`, which goes on behind it. Definite lengths only, in their shortest form.
 */
static int der_next(struct sv *in, struct tlv *t)
{
	const unsigned char *p = (const unsigned char *)in->p;
	size_t head = 2, len;

	if (in->len < 2 || (p[0] & 0x1f) == 0x1f)
		return E_SYNTAX;
	len = p[1];
	if (len >= 0x80) {
		size_t bytes = len & 0x7f;

		if (bytes == 0 || bytes > 3 || in->len < 2 + bytes || p[2] == 0)
			return E_SYNTAX;
		len = 0;
		for (size_t i = 0; i < bytes; i++)
			len = len << 8 | p[2 + i];
		if (len < 0x80)
			return E_SYNTAX;
		head += bytes;
	}
	if (len > in->len - head)
		return E_SYNTAX;
	t->tag = p[0];
	t->whole = (struct sv){ in->p, head + len };
	t->value = (struct sv){ in->p + head, len };
	*in = (struct sv){ in->p + head + len, in->len - head - len };
	return 0;
}

static int der_expect(struct sv *in, unsigned tag, struct tlv *t)
{
	int err = der_next(in, t);

	return err == 0 && t->tag != tag ? E_SYNTAX : err;
}

/* ---- time ---- */

static int two_digits(const char *p)
{
	return ascii_is_digit(p[0]) && ascii_is_digit(p[1]) ? (p[0] - '0') * 10 + p[1] - '0' : -1;
}

/* YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ. */
static int time_parse(const struct tlv *t, int64_t *seconds_r)
{
	const char *p = t->value.p;
	bool is_short = t->tag == TAG_UTC_TIME;
	int v[6];

	if (t->value.len != (is_short ? 13u : 15u) || p[t->value.len - 1] != 'Z' ||
	    (!is_short && t->tag != TAG_TIME))
		return E_SYNTAX;
	int century = is_short ? -1 : two_digits(p);

	p += is_short ? 0 : 2;
	for (int i = 0; i < 6; i++) {
		v[i] = two_digits(p + 2 * i);
		if (v[i] < 0)
			return E_SYNTAX;
	}
	if (is_short)
		century = v[0] >= 50 ? 19 : 20;
	if (century < 0 || v[1] < 1 || v[1] > 12 || v[2] < 1 || v[2] > 31)
		return E_SYNTAX;
	struct tm tm = { .tm_year = century * 100 + v[0] - 1900,
			 .tm_mon = v[1] - 1,
			 .tm_mday = v[2],
			 .tm_hour = v[3],
			 .tm_min = v[4],
			 .tm_sec = v[5] };

	*seconds_r = (int64_t)timegm(&tm);
	return 0;
}

/* ---- extensions ---- */

#define OID(bytes)                                                                                 \
	{                                                                                          \
		(bytes), sizeof(bytes) - 1                                                         \
	}

static int take_basic_constraints(struct sv value, struct x509 *x)
{
	struct tlv seq, t;

	if (der_expect(&value, TAG_SEQUENCE, &seq) != 0)
		return E_SYNTAX;
	struct sv in = seq.value;

	while (in.len > 0) {
		if (der_next(&in, &t) != 0 || t.value.len == 0)
			return E_SYNTAX;
		if (t.tag == TAG_BOOLEAN)
			x->is_ca = t.value.p[0] != 0;
		if (t.tag == TAG_INTEGER) {
			x->has_path_len = true;
			x->path_len = t.value.len > 1 ? 255 : (unsigned char)t.value.p[0];
		}
	}
	return 0;
}

static int take_key_usage(struct sv value, struct x509 *x)
{
	struct tlv bits;

	if (der_expect(&value, TAG_BIT_STRING, &bits) != 0 || bits.value.len < 2)
		return E_SYNTAX;
	x->has_key_usage = true;
	x->may_sign_certs = ((unsigned char)bits.value.p[1] & 0x04) != 0;
	return 0;
}

static int take_ext_key_usage(struct sv value, struct x509 *x)
{
	static const struct sv any = OID("\x55\x1d\x25\x00"),
			       server = OID("\x2b\x06\x01\x05\x05\x07\x03\x01"),
			       client = OID("\x2b\x06\x01\x05\x05\x07\x03\x02");
	struct tlv seq, t;

	if (der_expect(&value, TAG_SEQUENCE, &seq) != 0)
		return E_SYNTAX;
	struct sv in = seq.value;

	x->has_eku = true;
	while (in.len > 0) {
		if (der_expect(&in, TAG_OID, &t) != 0)
			return E_SYNTAX;
		x->eku_any = x->eku_any || sv_eq(t.value, any);
		x->eku_server = x->eku_server || sv_eq(t.value, server);
		x->eku_client = x->eku_client || sv_eq(t.value, client);
	}
	return 0;
}

static int take_names(struct sv value, struct x509 *x)
{
	struct tlv seq;

	if (der_expect(&value, TAG_SEQUENCE, &seq) != 0)
		return E_SYNTAX;
	x->names = seq.value;
	return 0;
}

static const struct {
	struct sv oid;
	int (*take)(struct sv value, struct x509 *x);
} extensions[] = {
	{ OID("\x55\x1d\x13"), take_basic_constraints },
	{ OID("\x55\x1d\x0f"), take_key_usage },
	{ OID("\x55\x1d\x25"), take_ext_key_usage },
	{ OID("\x55\x1d\x11"), take_names },
};

static int take_extension(struct sv ext, struct x509 *x)
{
	struct tlv oid, t;

	if (der_expect(&ext, TAG_OID, &oid) != 0 || der_next(&ext, &t) != 0)
		return E_SYNTAX;
	if (t.tag == TAG_BOOLEAN && der_next(&ext, &t) != 0)
		return E_SYNTAX;
	if (t.tag != TAG_OCTET_STRING)
		return E_SYNTAX;
	for (size_t i = 0; i < ARRAY_LEN(extensions); i++) {
		if (sv_eq(oid.value, extensions[i].oid))
			return extensions[i].take(t.value, x);
	}
	return 0;
}

static int take_extensions(struct sv in, struct x509 *x)
{
	struct tlv t, list, ext;

	while (in.len > 0) {
		if (der_next(&in, &t) != 0)
			return E_SYNTAX;
		if (t.tag != TAG_EXTENSIONS)
			continue;
		struct sv inner = t.value;

		if (der_expect(&inner, TAG_SEQUENCE, &list) != 0)
			return E_SYNTAX;
		inner = list.value;
		while (inner.len > 0) {
			if (der_expect(&inner, TAG_SEQUENCE, &ext) != 0 ||
			    take_extension(ext.value, x) != 0)
				return E_SYNTAX;
		}
	}
	return 0;
}

int x509_parse(struct sv der, struct x509 *x)
{
	struct tlv cert, tbs, t, from, to;
	struct sv in = der;

	*x = (struct x509){ .der = der };
	if (der_expect(&in, TAG_SEQUENCE, &cert) != 0 || in.len > 0)
		return E_SYNTAX;
	in = cert.value;
	if (der_expect(&in, TAG_SEQUENCE, &tbs) != 0)
		return E_SYNTAX;
	in = tbs.value;
	if (der_next(&in, &t) != 0 || (t.tag == TAG_VERSION && der_next(&in, &t) != 0) ||
	    t.tag != TAG_INTEGER)
		return E_SYNTAX;
	x->serial = t.value;
	if (der_expect(&in, TAG_SEQUENCE, &t) != 0 || der_expect(&in, TAG_SEQUENCE, &t) != 0)
		return E_SYNTAX;
	x->issuer = t.whole;
	if (der_expect(&in, TAG_SEQUENCE, &t) != 0)
		return E_SYNTAX;
	struct sv validity = t.value;

	if (der_next(&validity, &from) != 0 || der_next(&validity, &to) != 0 ||
	    time_parse(&from, &x->not_before_s) != 0 || time_parse(&to, &x->not_after_s) != 0 ||
	    der_expect(&in, TAG_SEQUENCE, &t) != 0)
		return E_SYNTAX;
	x->subject = t.whole;
	if (der_expect(&in, TAG_SEQUENCE, &t) != 0)
		return E_SYNTAX;
	x->spki = t.whole;
	return take_extensions(in, x);
}

bool x509_next_dns(const struct x509 *x, size_t *at, struct sv *name_r)
{
	struct sv in = { x->names.p + *at, x->names.len - *at };
	struct tlv t;

	while (in.len > 0 && der_next(&in, &t) == 0) {
		*at = x->names.len - in.len;
		if (t.tag == TAG_DNS_NAME) {
			*name_r = t.value;
			return true;
		}
	}
	return false;
}

/* ---- names ---- */

static void add_utf8(struct buf *out, unsigned c)
{
	if (c < 0x80) {
		buf_add_c(out, (char)c);
	} else if (c < 0x800) {
		buf_add_c(out, (char)(0xc0 | c >> 6));
		buf_add_c(out, (char)(0x80 | (c & 0x3f)));
	} else {
		buf_add_c(out, (char)(0xe0 | c >> 12));
		buf_add_c(out, (char)(0x80 | (c >> 6 & 0x3f)));
		buf_add_c(out, (char)(0x80 | (c & 0x3f)));
	}
}

static int add_string(const struct tlv *t, struct buf *out)
{
	const unsigned char *p = (const unsigned char *)t->value.p;
	size_t width = t->tag == TAG_BMP ? 2 : t->tag == TAG_UNIVERSAL ? 4 : 1;
	bool is_utf8 = t->tag == TAG_UTF8;

	if (t->value.len % width != 0 || (is_utf8 && !str_is_utf8(t->value.p, t->value.len)))
		return E_SYNTAX;
	for (size_t i = 0; i < t->value.len; i += width) {
		unsigned c = 0;

		for (size_t k = 0; k < width; k++)
			c = c << 8 | p[i + k];
		if (c == 0 || c > 0xffff || (c >= 0xd800 && c < 0xe000))
			return E_SYNTAX;
		if (is_utf8)
			buf_add_c(out, (char)c);
		else
			add_utf8(out, c);
	}
	return 0;
}

int x509_common_name(struct sv dn, struct buf *out)
{
	static const struct sv cn = OID("\x55\x04\x03");
	struct tlv seq, set, pair, oid, last = { .tag = 0 };
	struct sv in = dn;

	if (der_expect(&in, TAG_SEQUENCE, &seq) != 0)
		return E_SYNTAX;
	in = seq.value;
	while (in.len > 0) {
		if (der_expect(&in, TAG_SET, &set) != 0)
			return E_SYNTAX;
		while (set.value.len > 0) {
			if (der_expect(&set.value, TAG_SEQUENCE, &pair) != 0 ||
			    der_expect(&pair.value, TAG_OID, &oid) != 0)
				return E_SYNTAX;
			if (sv_eq(oid.value, cn) && der_next(&pair.value, &last) != 0)
				return E_SYNTAX;
		}
	}
	return last.tag == 0 ? E_NOENT : add_string(&last, out);
}

/* ---- keys ---- */

static const struct {
	struct sv oid;
	const char *name, *detail,
		*digest; /* detail of a curve's key; 1.3 binds its digest to it */
} curves[] = {
	{ OID("\x2a\x86\x48\xce\x3d\x03\x01\x07"), "ECDSA", "prime256v1", "SHA256" },
	{ OID("\x2b\x81\x04\x00\x22"), "ECDSA", "secp384r1", "SHA384" },
	{ OID("\x2b\x81\x04\x00\x23"), "ECDSA", "secp521r1", "SHA512" },
};

static unsigned bits_of(struct sv number)
{
	while (number.len > 0 && number.p[0] == 0) {
		number.p++;
		number.len--;
	}
	if (number.len == 0 || number.len > 8192)
		return 0;
	unsigned char top = (unsigned char)number.p[0];
	unsigned bits = (unsigned)number.len * 8;

	for (; (top & 0x80) == 0; top = (unsigned char)(top << 1))
		bits--;
	return bits;
}

static void rsa_signature(struct sv key, struct tls_signature *s)
{
	struct tlv seq, modulus;

	if (key.len == 0 || key.p[0] != 0)
		return;
	key = (struct sv){ key.p + 1, key.len - 1 };
	if (der_expect(&key, TAG_SEQUENCE, &seq) != 0 ||
	    der_expect(&seq.value, TAG_INTEGER, &modulus) != 0)
		return;
	s->name = "RSA-PSS";
	snprintf(s->detail, sizeof(s->detail), "%u bits", bits_of(modulus.value));
}

void x509_signature(struct sv spki, struct tls_signature *s)
{
	static const struct sv rsa = OID("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01");
	static const struct sv ec = OID("\x2a\x86\x48\xce\x3d\x02\x01");
	static const struct sv ed25519 = OID("\x2b\x65\x70"), ed448 = OID("\x2b\x65\x71");
	struct tlv outer, algorithm, oid, curve, key;

	*s = (struct tls_signature){ .name = "", .digest = "" };
	if (der_expect(&spki, TAG_SEQUENCE, &outer) != 0 ||
	    der_expect(&outer.value, TAG_SEQUENCE, &algorithm) != 0 ||
	    der_expect(&algorithm.value, TAG_OID, &oid) != 0 ||
	    der_expect(&outer.value, TAG_BIT_STRING, &key) != 0)
		return;
	if (sv_eq(oid.value, rsa))
		rsa_signature(key.value, s);
	else if (sv_eq(oid.value, ed25519))
		s->name = "ED25519";
	else if (sv_eq(oid.value, ed448))
		s->name = "ED448";
	if (!sv_eq(oid.value, ec) || der_expect(&algorithm.value, TAG_OID, &curve) != 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(curves); i++) {
		if (!sv_eq(curve.value, curves[i].oid))
			continue;
		s->name = curves[i].name;
		snprintf(s->detail, sizeof(s->detail), "%s", curves[i].detail);
		s->digest = curves[i].digest;
	}
}
