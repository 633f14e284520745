/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of workers/tls share; nobody else includes it or the TLS library's headers. */
#ifndef PH_WORKERS_TLS_TLS_INT_H
#define PH_WORKERS_TLS_TLS_INT_H

#include <wolfssl/options.h>

#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include "workers/tls/tls.h"

#define TLS_MAX_KEYS      8      /* pairs in one struct tls_keys */
#define TLS_SEED_DEVICE   0x504a /* of our crypto callback: seeds by getrandom(2) */
#define TLS_HELLO_MAX     16384u /* a client's hello; more is no client of mail */
#define TLS_MAX_SUITES    48
#define TLS_PEM_MAX_BYTES (1u << 20)

enum tls_key_kind { TLS_KEY_RSA, TLS_KEY_ECDSA, TLS_KEY_OTHER };

struct tls_pair {
	enum tls_key_kind kind;
	struct buf key, chain; /* PEM */
	struct tls_signature signature;
	uint32_t serial; /* of all pairs of this process: names contexts that were made of it */
};

struct tls_keys {
	struct tls_pair pairs[TLS_MAX_KEYS];
	unsigned count;
};

struct tls_variant { /* a context of the library for one pair of keys */
	uint32_t serial;
	uint64_t used;
	unsigned sessions;
	struct tls_signature signature; /* of its keys */
	WOLFSSL_CTX *ctx;
};

/* Contexts for keys of names that are kept at a time; they take some 10 kB each. */
#define TLS_MAX_VARIANTS 64

struct tls_ctx {
	struct tls_setup setup;
	char *suites; /* the library's names, 1.3's included */
	int groups[8];
	int group_count;
	struct tls_variant variants[TLS_MAX_VARIANTS]; /* clients: the first only */
	unsigned variant_count;
	uint64_t use_count;
};

/* What a client's hello says. */
struct tls_hello {
	char name[TLS_NAME_MAX + 1]; /* lower case; "" = none that can be used */
	bool knows_ecdsa, knows_rsa;
};
/* E_AGAIN: more has to come. E_SYNTAX: it is none. `data`: records as they came. */
int tls_hello_parse(struct sv data, struct tls_hello *hello_r);

int tls_lib_init(void); /* once; more does nothing */
/* Names of suites. NULL: none of ours. */
const char *tls_suite_openssl(const char *library_name);
bool tls_suite_bits(const char *library_name, unsigned *bits_r, unsigned *alg_bits_r);
/* Names of OpenSSL to the library's, those that it has, with 1.3's by `versions`. */
int tls_suites_library(const char *names, unsigned versions, struct buf *out);
/* Group names to the library's numbers; how many. */
int tls_groups_parse(const char *names, int *groups, int max);
int tls_ticket_callback(WOLFSSL *ssl, unsigned char name[WOLFSSL_TICKET_NAME_SZ],
			unsigned char iv[WOLFSSL_TICKET_IV_SZ],
			unsigned char mac[WOLFSSL_TICKET_MAC_SZ], int enc, unsigned char *ticket,
			int in_len, int *out_len, void *arg);
/* The library's context for the keys that suit the hello; NULL: none. `why` of a failure. */
struct tls_variant *tls_ctx_variant(struct tls_ctx *ctx, const struct tls_hello *hello,
				    struct buf *why);
WOLFSSL_CTX *tls_ctx_library_new(const struct tls_ctx *ctx, const struct tls_pair *pair,
				 struct buf *why);
const char *tls_library_error(int code); /* static text, overwritten by the next */

#endif
