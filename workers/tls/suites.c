/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Versions, suites and groups: what the words of an operator mean. The library's own reading of
 * cipher strings lets weak suites in, so it only ever gets explicit lists from the table below.
 */
#include "workers/tls/tls_int.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"

/* ---- versions ---- */

static const struct {
	const char *word;
	unsigned number; /* on the wire */
	unsigned mask;
} versions[] = {
	{ "SSLv2", 0x0002, 0 },         { "SSLv3", 0x0300, 0 },   { "TLSv1", 0x0301, 0 },
	{ "TLSv1.0", 0x0301, 0 },       { "TLSv1.1", 0x0302, 0 }, { "TLSv1.2", 0x0303, TLS_1_2 },
	{ "TLSv1.3", 0x0304, TLS_1_3 },
};

static int version_number(struct sv word, unsigned *number_r)
{
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		if (sv_eq_nocase(word, sv_from(versions[i].word))) {
			*number_r = versions[i].number;
			return 0;
		}
	}
	char text[8];
	char *end;

	if (word.len == 0 || word.len >= sizeof(text) || !ascii_is_digit(word.p[0]))
		return E_SYNTAX;
	str_copy(text, sizeof(text), word);
	*number_r = (unsigned)strtoul(text, &end, text[1] == 'x' ? 0 : 16);
	return *end == '\0' ? 0 : E_SYNTAX;
}

static unsigned mask_between(unsigned low, unsigned high)
{
	unsigned mask = 0;

	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		if (versions[i].number >= low && versions[i].number <= high)
			mask |= versions[i].mask;
	}
	return mask;
}

struct version_words {
	unsigned included, excluded, low, high;
	bool names_some;
};

static int version_word(struct sv word, struct version_words *w)
{
	unsigned number;
	char sign = word.p[0];
	size_t skip = sign == '!' ? 1 : (sign == '>' || sign == '<') ? 2 : 0;

	if (skip == 2 && (word.len < 2 || word.p[1] != '='))
		return E_SYNTAX;
	int err = version_number((struct sv){ word.p + skip, word.len - skip }, &number);

	if (err != 0)
		return err;
	if (sign == '!') {
		w->excluded |= mask_between(number, number);
	} else if (sign == '>') {
		w->low = number;
	} else if (sign == '<') {
		w->high = number;
	} else {
		w->names_some = true;
		w->included |= mask_between(number, number);
	}
	return 0;
}

int tls_versions_parse(const char *text, unsigned *versions_r, struct sv *bad_r)
{
	struct version_words w = { .high = 0xffff };

	*bad_r = (struct sv){ "", 0 };
	*versions_r = 0;
	while (*text != '\0') {
		size_t n = strcspn(text, ":, \t\r\n");
		struct sv word = { text, n };

		if (n > 0 && version_word(word, &w) != 0) {
			*bad_r = word;
			return E_SYNTAX;
		}
		text += n;
		text += *text != '\0';
	}
	*versions_r = mask_between(w.low, w.high) & ~w.excluded;
	if (w.names_some)
		*versions_r &= w.included;
	return *versions_r != 0 ? 0 : E_CONFIG;
}

/* ---- suites ---- */

enum {
	KX_RSA = 1 << 0,
	KX_ECDHE = 1 << 1,
	KX_DHE = 1 << 2,
	AU_RSA = 1 << 3,
	AU_ECDSA = 1 << 4,
	EN_AES128 = 1 << 5,
	EN_AES256 = 1 << 6,
	EN_CHACHA = 1 << 7,
	EN_NULL = 1 << 8,
	MODE_GCM = 1 << 9,
	MODE_CCM = 1 << 10,
	MAC_SHA1 = 1 << 11,
	MAC_SHA256 = 1 << 12,
	MAC_SHA384 = 1 << 13,
	AEAD = 1 << 14,
	V13 = 1 << 15,
	V12 = 1 << 16, /* did not exist before 1.2 */
	HIGH = 1 << 17,
	NOTHING = 1 << 30, /* has no suite here */
};

#define ECDHE_RSA   (KX_ECDHE | AU_RSA)
#define ECDHE_ECDSA (KX_ECDHE | AU_ECDSA)
#define DHE_RSA     (KX_DHE | AU_RSA)
#define RSA_RSA     (KX_RSA | AU_RSA)
#define GCM128      (EN_AES128 | MODE_GCM | AEAD | MAC_SHA256 | V12 | HIGH)
#define GCM256      (EN_AES256 | MODE_GCM | AEAD | MAC_SHA384 | V12 | HIGH)
#define CHACHA      (EN_CHACHA | AEAD | MAC_SHA256 | V12 | HIGH)
#define CBC128      (EN_AES128 | HIGH)
#define CBC256      (EN_AES256 | HIGH)

struct suite {
	const char *name;    /* OpenSSL's */
	const char *library; /* NULL = the same */
	unsigned traits;
	unsigned bits;
};

/* In the order of OpenSSL's default list: strongest first, AEAD and forward secrecy before. */
static const struct suite suites[] = {
	{ "TLS_AES_256_GCM_SHA384", "TLS13-AES256-GCM-SHA384", V13, 256 },
	{ "TLS_CHACHA20_POLY1305_SHA256", "TLS13-CHACHA20-POLY1305-SHA256", V13, 256 },
	{ "TLS_AES_128_GCM_SHA256", "TLS13-AES128-GCM-SHA256", V13, 128 },
	{ "ECDHE-ECDSA-AES256-GCM-SHA384", NULL, ECDHE_ECDSA | GCM256, 256 },
	{ "ECDHE-RSA-AES256-GCM-SHA384", NULL, ECDHE_RSA | GCM256, 256 },
	{ "DHE-RSA-AES256-GCM-SHA384", NULL, DHE_RSA | GCM256, 256 },
	{ "ECDHE-ECDSA-CHACHA20-POLY1305", NULL, ECDHE_ECDSA | CHACHA, 256 },
	{ "ECDHE-RSA-CHACHA20-POLY1305", NULL, ECDHE_RSA | CHACHA, 256 },
	{ "DHE-RSA-CHACHA20-POLY1305", NULL, DHE_RSA | CHACHA, 256 },
	{ "ECDHE-ECDSA-AES128-GCM-SHA256", NULL, ECDHE_ECDSA | GCM128, 128 },
	{ "ECDHE-RSA-AES128-GCM-SHA256", NULL, ECDHE_RSA | GCM128, 128 },
	{ "DHE-RSA-AES128-GCM-SHA256", NULL, DHE_RSA | GCM128, 128 },
	{ "ECDHE-ECDSA-AES256-SHA384", NULL, ECDHE_ECDSA | CBC256 | MAC_SHA384 | V12, 256 },
	{ "ECDHE-RSA-AES256-SHA384", NULL, ECDHE_RSA | CBC256 | MAC_SHA384 | V12, 256 },
	{ "DHE-RSA-AES256-SHA256", NULL, DHE_RSA | CBC256 | MAC_SHA256 | V12, 256 },
	{ "ECDHE-ECDSA-AES128-SHA256", NULL, ECDHE_ECDSA | CBC128 | MAC_SHA256 | V12, 128 },
	{ "ECDHE-RSA-AES128-SHA256", NULL, ECDHE_RSA | CBC128 | MAC_SHA256 | V12, 128 },
	{ "DHE-RSA-AES128-SHA256", NULL, DHE_RSA | CBC128 | MAC_SHA256 | V12, 128 },
	{ "ECDHE-ECDSA-AES256-SHA", NULL, ECDHE_ECDSA | CBC256 | MAC_SHA1, 256 },
	{ "ECDHE-RSA-AES256-SHA", NULL, ECDHE_RSA | CBC256 | MAC_SHA1, 256 },
	{ "DHE-RSA-AES256-SHA", NULL, DHE_RSA | CBC256 | MAC_SHA1, 256 },
	{ "ECDHE-ECDSA-AES128-SHA", NULL, ECDHE_ECDSA | CBC128 | MAC_SHA1, 128 },
	{ "ECDHE-RSA-AES128-SHA", NULL, ECDHE_RSA | CBC128 | MAC_SHA1, 128 },
	{ "DHE-RSA-AES128-SHA", NULL, DHE_RSA | CBC128 | MAC_SHA1, 128 },
	{ "AES256-GCM-SHA384", NULL, RSA_RSA | GCM256, 256 },
	{ "AES128-GCM-SHA256", NULL, RSA_RSA | GCM128, 128 },
	{ "AES256-SHA256", NULL, RSA_RSA | CBC256 | MAC_SHA256 | V12, 256 },
	{ "AES128-SHA256", NULL, RSA_RSA | CBC128 | MAC_SHA256 | V12, 128 },
	{ "AES256-SHA", NULL, RSA_RSA | CBC256 | MAC_SHA1, 256 },
	{ "AES128-SHA", NULL, RSA_RSA | CBC128 | MAC_SHA1, 128 },
	{ "ECDHE-ECDSA-NULL-SHA", NULL, ECDHE_ECDSA | EN_NULL | MAC_SHA1, 0 },
	{ "NULL-SHA256", NULL, RSA_RSA | EN_NULL | MAC_SHA256 | V12, 0 },
	{ "NULL-SHA", NULL, RSA_RSA | EN_NULL | MAC_SHA1, 0 },
};
#define SUITE_COUNT ARRAY_LEN(suites)
_Static_assert(SUITE_COUNT <= TLS_MAX_SUITES, "the evaluator has room for all");

/* Words of cipher strings: suites that have one of `any` and none of `none`. A word for what does
 * not exist here is known and stands for nothing. */
static const struct {
	const char *word;
	unsigned any, none;
} words[] = {
	{ "ALL", ~0u, EN_NULL },
	{ "DEFAULT", ~0u, EN_NULL },
	{ "COMPLEMENTOFALL", EN_NULL, 0 },
	{ "COMPLEMENTOFDEFAULT", EN_NULL, 0 },
	{ "HIGH", HIGH, 0 },
	{ "MEDIUM", NOTHING, 0 },
	{ "LOW", NOTHING, 0 },
	{ "EXPORT", NOTHING, 0 },
	{ "EXP", NOTHING, 0 },
	{ "eNULL", EN_NULL, 0 },
	{ "NULL", EN_NULL, 0 },
	{ "aNULL", NOTHING, 0 },
	{ "ADH", NOTHING, 0 },
	{ "AECDH", NOTHING, 0 },
	{ "kRSA", KX_RSA, 0 },
	{ "aRSA", AU_RSA, 0 },
	{ "RSA", KX_RSA, 0 },
	{ "ECDHE", KX_ECDHE, 0 },
	{ "EECDH", KX_ECDHE, 0 },
	{ "kECDHE", KX_ECDHE, 0 },
	{ "kEECDH", KX_ECDHE, 0 },
	{ "ECDH", KX_ECDHE, 0 },
	{ "DHE", KX_DHE, 0 },
	{ "EDH", KX_DHE, 0 },
	{ "kDHE", KX_DHE, 0 },
	{ "kEDH", KX_DHE, 0 },
	{ "DH", KX_DHE, 0 },
	{ "aECDSA", AU_ECDSA, 0 },
	{ "ECDSA", AU_ECDSA, 0 },
	{ "AES", EN_AES128 | EN_AES256, 0 },
	{ "AES128", EN_AES128, 0 },
	{ "AES256", EN_AES256, 0 },
	{ "AESGCM", MODE_GCM, 0 },
	{ "AESCCM", MODE_CCM, 0 },
	{ "AESCCM8", NOTHING, 0 },
	{ "CHACHA20", EN_CHACHA, 0 },
	{ "SHA", MAC_SHA1, 0 },
	{ "SHA1", MAC_SHA1, 0 },
	{ "SHA256", MAC_SHA256, AEAD },
	{ "SHA384", MAC_SHA384, AEAD },
	{ "TLSv1.2", V12, 0 },
	{ "TLSv1", ~0u, V12 | V13 },
	{ "SSLv3", ~0u, V12 | V13 },
	{ "FIPS", HIGH, EN_CHACHA },
	{ "SUITEB128", NOTHING, 0 },
	{ "CAMELLIA", NOTHING, 0 },
	{ "CAMELLIA128", NOTHING, 0 },
	{ "CAMELLIA256", NOTHING, 0 },
	{ "ARIA", NOTHING, 0 },
	{ "ARIAGCM", NOTHING, 0 },
	{ "SEED", NOTHING, 0 },
	{ "IDEA", NOTHING, 0 },
	{ "3DES", NOTHING, 0 },
	{ "DES", NOTHING, 0 },
	{ "RC2", NOTHING, 0 },
	{ "RC4", NOTHING, 0 },
	{ "RC5", NOTHING, 0 },
	{ "MD5", NOTHING, 0 },
	{ "PSK", NOTHING, 0 },
	{ "kPSK", NOTHING, 0 },
	{ "aPSK", NOTHING, 0 },
	{ "SRP", NOTHING, 0 },
	{ "kSRP", NOTHING, 0 },
	{ "DSS", NOTHING, 0 },
	{ "aDSS", NOTHING, 0 },
	{ "kDH", NOTHING, 0 },
	{ "kDHr", NOTHING, 0 },
	{ "kDHd", NOTHING, 0 },
	{ "aDH", NOTHING, 0 },
	{ "kECDH", NOTHING, 0 },
	{ "kECDHr", NOTHING, 0 },
	{ "kECDHe", NOTHING, 0 },
	{ "aECDH", NOTHING, 0 },
	{ "GOST", NOTHING, 0 },
};

static bool has_word(const struct suite *s, struct sv word)
{
	if (sv_eq(word, sv_from(s->name)))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (sv_eq(word, sv_from(words[i].word)))
			return (s->traits & words[i].any) != 0 && (s->traits & words[i].none) == 0;
	}
	return false;
}

/* "A+B": all of them. */
static bool matches(const struct suite *s, struct sv element)
{
	while (element.len > 0) {
		if (!has_word(s, sv_next_part(&element, '+')))
			return false;
	}
	return true;
}

struct suite_list {
	uint8_t order[TLS_MAX_SUITES]; /* of those that are in, best first */
	unsigned count;
	bool killed[TLS_MAX_SUITES];
};

static bool is_in(const struct suite_list *l, uint8_t suite)
{
	return memchr(l->order, suite, l->count) != NULL;
}

static void take_out(struct suite_list *l, uint8_t suite)
{
	uint8_t *at = memchr(l->order, suite, l->count);

	if (at == NULL)
		return;
	memmove(at, at + 1, l->count - (size_t)(at + 1 - l->order));
	l->count--;
}

static void element_apply(struct suite_list *l, char sign, struct sv element)
{
	struct suite_list before = *l;

	if (element.len == 0)
		return;
	for (uint8_t i = 0; i < SUITE_COUNT; i++) {
		if ((suites[i].traits & V13) == 0 && matches(&suites[i], element) &&
		    !is_in(&before, i) && sign == '\0' && !l->killed[i])
			l->order[l->count++] = i;
	}
	/* what moves or goes does so in the order it has */
	for (unsigned k = 0; k < before.count && sign != '\0'; k++) {
		uint8_t i = before.order[k];

		if (!matches(&suites[i], element))
			continue;
		take_out(l, i);
		if (sign == '+')
			l->order[l->count++] = i;
	}
	for (uint8_t i = 0; i < SUITE_COUNT && sign == '!'; i++)
		l->killed[i] = l->killed[i] || matches(&suites[i], element);
}

static void sort_by_strength(struct suite_list *l)
{
	for (unsigned i = 1; i < l->count; i++) {
		for (unsigned k = i;
		     k > 0 && suites[l->order[k]].bits > suites[l->order[k - 1]].bits; k--) {
			uint8_t swap = l->order[k];

			l->order[k] = l->order[k - 1];
			l->order[k - 1] = swap;
		}
	}
}

void tls_suites_eval(const char *cipherlist, const char *exclude, struct buf *names_r)
{
	struct suite_list l = { .count = 0 };
	const char *separators = ":, ;\t\r\n";

	for (const char *p = cipherlist; *p != '\0';) {
		size_t n = strcspn(p, separators);
		char sign = n > 0 && strchr("!-+", *p) != NULL ? *p : '\0';

		if (n > 0 && *p == '@' && strncmp(p, "@STRENGTH", n) == 0)
			sort_by_strength(&l);
		else if (n > 0 && *p != '@')
			element_apply(&l, sign,
				      (struct sv){ p + (sign != '\0'), n - (sign != '\0') });
		p += n;
		p += *p != '\0';
	}
	for (const char *p = exclude != NULL ? exclude : ""; *p != '\0';) {
		size_t n = strcspn(p, separators);

		element_apply(&l, '!', (struct sv){ p, n });
		p += n;
		p += *p != '\0';
	}
	for (unsigned i = 0; i < l.count; i++)
		buf_printf(names_r, "%s%s", i > 0 ? ":" : "", suites[l.order[i]].name);
}

const char *tls_grade_list(const char *grade, const char *high, const char *medium)
{
	if (str_eq_nocase(grade, "high"))
		return high;
	if (str_eq_nocase(grade, "medium") || str_eq_nocase(grade, "low") ||
	    str_eq_nocase(grade, "export"))
		return medium;
	return str_eq_nocase(grade, "null") ? "eNULL:!aNULL" : NULL;
}

/* ---- the library's names ---- */

static const char *library_name(const struct suite *s)
{
	return s->library != NULL ? s->library : s->name;
}

static const struct suite *by_library_name(const char *name)
{
	for (size_t i = 0; i < SUITE_COUNT; i++) {
		if (strcmp(library_name(&suites[i]), name) == 0)
			return &suites[i];
	}
	return NULL;
}

const char *tls_suite_openssl(const char *name)
{
	const struct suite *s = by_library_name(name);

	return s != NULL ? s->name : NULL;
}

bool tls_suite_bits(const char *name, unsigned *bits_r, unsigned *alg_bits_r)
{
	const struct suite *s = by_library_name(name);

	*bits_r = *alg_bits_r = s != NULL ? s->bits : 0;
	return s != NULL;
}

static bool library_has(const char *all, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = all; (p = strstr(p, name)) != NULL; p += n) {
		if ((p == all || p[-1] == ':') && (p[n] == ':' || p[n] == '\0'))
			return true;
	}
	return false;
}

int tls_suites_library(const char *names, unsigned mask, struct buf *out)
{
	static char all[8192];
	struct sv rest = sv_from(names);

	if (all[0] == '\0' && wolfSSL_get_ciphers(all, sizeof(all)) != WOLFSSL_SUCCESS)
		return E_CONFIG;
	for (size_t i = 0; i < SUITE_COUNT && (mask & TLS_1_3) != 0; i++) {
		if ((suites[i].traits & V13) != 0 && library_has(all, suites[i].library))
			buf_printf(out, "%s%s", out->len > 0 ? ":" : "", suites[i].library);
	}
	while (rest.len > 0 && (mask & TLS_1_2) != 0) {
		struct sv word = sv_next_part(&rest, ':');

		for (size_t i = 0; i < SUITE_COUNT; i++) {
			const char *own = library_name(&suites[i]);

			if (sv_eq(word, sv_from(suites[i].name)) && library_has(all, own))
				buf_printf(out, "%s%s", out->len > 0 ? ":" : "", own);
		}
	}
	return out->len > 0 ? 0 : E_CONFIG;
}

/* ---- groups ---- */

static const struct {
	const char *word;
	int group;
} groups[] = {
	{ "X25519", WOLFSSL_ECC_X25519 },        { "X448", WOLFSSL_ECC_X448 },
	{ "prime256v1", WOLFSSL_ECC_SECP256R1 }, { "P-256", WOLFSSL_ECC_SECP256R1 },
	{ "secp256r1", WOLFSSL_ECC_SECP256R1 },  { "secp384r1", WOLFSSL_ECC_SECP384R1 },
	{ "P-384", WOLFSSL_ECC_SECP384R1 },      { "secp521r1", WOLFSSL_ECC_SECP521R1 },
	{ "P-521", WOLFSSL_ECC_SECP521R1 },      { "ffdhe2048", WOLFSSL_FFDHE_2048 },
	{ "ffdhe3072", WOLFSSL_FFDHE_3072 },
};

int tls_groups_parse(const char *names, int *out, int max)
{
	int count = 0;

	while (*names != '\0' && count < max) {
		size_t n = strcspn(names, ":/?*, \t\r\n");

		for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
			if (sv_eq_nocase((struct sv){ names, n }, sv_from(groups[i].word)))
				out[count++] = groups[i].group;
		}
		names += n;
		names += *names != '\0';
	}
	return count;
}
