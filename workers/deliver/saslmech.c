/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SASL mechanisms of a client; see workers/deliver/saslmech.h. */
#include "workers/deliver/saslmech.h"

#include <stdio.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/sha256.h>

#include "conf/sasl.h"
#include "lib/base64.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"

/* In the order of preference: a token is tried last, for it is no password. */
static const struct mech {
	const char *name;
	unsigned refused_by; /* SASL_*, also on an encrypted connection */
	unsigned refused_in_clear;
} mechs[MECH_COUNT] = {
/* the mechanism has none of these qualities */
#define LACKS (SASL_NO_ACTIVE | SASL_NO_DICTIONARY | SASL_FORWARD_SECRECY | SASL_MUTUAL_AUTH)
	[MECH_CRAM_MD5] = { "CRAM-MD5", LACKS, 0 },
	[MECH_PLAIN] = { "PLAIN", LACKS | SASL_NO_PLAINTEXT, 0 },
	[MECH_LOGIN] = { "LOGIN", LACKS | SASL_NO_PLAINTEXT, 0 },
	[MECH_XOAUTH2] = { "XOAUTH2", LACKS, SASL_NO_PLAINTEXT },
#undef LACKS
};

int sasl_mech_find(struct sv name)
{
	for (int i = 0; i < MECH_COUNT; i++) {
		if (sv_eq_nocase(name, sv_from(mechs[i].name)))
			return i;
	}
	return -1;
}

const char *sasl_mech_name(enum sasl_mech m)
{
	return mechs[m].name;
}

int sasl_mech_choose(unsigned offered, unsigned options, bool encrypted)
{
	for (int i = 0; i < MECH_COUNT; i++) {
		unsigned refused =
			mechs[i].refused_by | (encrypted ? 0 : mechs[i].refused_in_clear);

		if ((offered & 1u << i) != 0 && (options & refused) == 0)
			return i;
	}
	return -1;
}

void sasl_wipe(struct buf *b)
{
	if (b->p != NULL)
		explicit_bzero(b->p, b->cap);
	buf_fini(b);
}

void sasl_mark(struct sv server, const struct sasl_secret *s, char out[SASL_MARK_SIZE])
{
	byte digest[WC_SHA256_DIGEST_SIZE];
	struct buf all = BUF_INIT;

	(void)buf_reserve(&all, server.len + s->user.len + s->password.len + 3);
	buf_add_sv(&all, server);
	buf_add_c(&all, '\0');
	buf_add_sv(&all, s->user);
	buf_add_c(&all, '\0');
	buf_add_sv(&all, s->password);
	ASSERT(wc_Sha256Hash((const byte *)all.p, (word32)all.len, digest) == 0);
	sasl_wipe(&all);
	snprintf(out, SASL_MARK_SIZE, "%02x%02x%02x%02x", digest[0], digest[1], digest[2],
		 digest[3]);
}

/* Memory in one piece, so that no copy is left behind when it grows. */
static void add_base64(struct sv raw, struct buf *out)
{
	(void)buf_reserve(out, (raw.len + 2) / 3 * 4 + 1);
	(void)base64_encode(raw, out);
}

bool sasl_mech_first(enum sasl_mech m, const struct sasl_secret *s, struct buf *out)
{
	struct buf raw = BUF_INIT;

	if (m != MECH_PLAIN && m != MECH_XOAUTH2)
		return false;
	(void)buf_reserve(&raw, 2 * s->user.len + s->password.len + 32);
	if (m == MECH_PLAIN) {
		if (s->authzid)
			buf_add_sv(&raw, s->user);
		buf_add_c(&raw, '\0');
		buf_add_sv(&raw, s->user);
		buf_add_c(&raw, '\0');
		buf_add_sv(&raw, s->password);
	} else {
		buf_add_str(&raw, "user=");
		buf_add_sv(&raw, s->user);
		buf_add_str(&raw, "\1auth=Bearer ");
		buf_add_sv(&raw, s->password);
		buf_add_str(&raw, "\1\1");
	}
	add_base64(buf_sv(&raw), out);
	sasl_wipe(&raw);
	return true;
}

static void add_cram_md5(const struct sasl_secret *s, struct sv challenge, struct buf *out)
{
	static const char hex[] = "0123456789abcdef";
	byte digest[WC_MD5_DIGEST_SIZE];
	struct buf raw = BUF_INIT;
	Hmac h;

	ASSERT(wc_HmacInit(&h, NULL, INVALID_DEVID) == 0 &&
	       wc_HmacSetKey(&h, WC_MD5, (const byte *)s->password.p, (word32)s->password.len) ==
		       0 &&
	       wc_HmacUpdate(&h, (const byte *)challenge.p, (word32)challenge.len) == 0 &&
	       wc_HmacFinal(&h, digest) == 0);
	wc_HmacFree(&h);
	explicit_bzero(&h, sizeof(h));
	buf_add_sv(&raw, s->user);
	buf_add_c(&raw, ' ');
	for (size_t i = 0; i < sizeof(digest); i++) {
		buf_add_c(&raw, hex[digest[i] >> 4]);
		buf_add_c(&raw, hex[digest[i] & 15]);
	}
	add_base64(buf_sv(&raw), out);
	buf_fini(&raw);
}

int sasl_mech_next(enum sasl_mech m, unsigned step, const struct sasl_secret *s,
		   struct sv challenge, struct buf *out)
{
	struct buf text = BUF_INIT;
	int err = E_PEER;

	if (challenge.len > SASL_CHALLENGE_MAX || base64_decode(challenge, &text) != 0) {
		err = E_SYNTAX;
	} else if (m == MECH_CRAM_MD5 && step == 0 && text.len > 0) {
		add_cram_md5(s, buf_sv(&text), out);
		err = 0;
	} else if (m == MECH_LOGIN && step < 2) {
		add_base64(step == 0 ? s->user : s->password, out);
		err = 0;
	} else if (m == MECH_XOAUTH2 && step == 0) {
		err = 0; /* what is wrong with the token; the refusal comes after an empty line */
	}
	buf_fini(&text);
	return err;
}
