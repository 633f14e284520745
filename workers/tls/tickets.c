/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Seals of session tickets: ChaCha20-Poly1305 under keys that change with the hour. */
#include "workers/tls/tls_int.h"

#include <stdlib.h>
#include <string.h>

#include <wolfssl/wolfcrypt/chacha20_poly1305.h>
#include <wolfssl/wolfcrypt/hmac.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/rand.h"

#define SEAL_BYTES (WOLFSSL_TICKET_NAME_SZ + WOLFSSL_TICKET_IV_SZ)
#define MAX_STEPS  20000 /* two years asleep: begin anew */
_Static_assert(TLS_SEED_BYTES == WC_SHA256_DIGEST_SIZE, "a seed is a digest");
_Static_assert(WOLFSSL_TICKET_IV_SZ >= CHACHA20_POLY1305_AEAD_IV_SIZE, "room for the nonce");
_Static_assert(WOLFSSL_TICKET_MAC_SZ >= CHACHA20_POLY1305_AEAD_AUTHTAG_SIZE, "room for the tag");

struct seal {
	uint8_t name[WC_SHA256_DIGEST_SIZE]; /* the first 16 go into tickets */
	uint8_t key[WC_SHA256_DIGEST_SIZE];
};

struct tls_tickets {
	uint8_t seed[TLS_SEED_BYTES];
	int64_t hour;
	struct seal now, before;
};

static void derive(const uint8_t seed[TLS_SEED_BYTES], const char *label,
		   uint8_t out[WC_SHA256_DIGEST_SIZE])
{
	Hmac h;

	ASSERT(wc_HmacInit(&h, NULL, INVALID_DEVID) == 0 &&
	       wc_HmacSetKey(&h, WC_SHA256, seed, TLS_SEED_BYTES) == 0 &&
	       wc_HmacUpdate(&h, (const byte *)label, (word32)strlen(label)) == 0 &&
	       wc_HmacFinal(&h, out) == 0);
	wc_HmacFree(&h);
}

void tls_seed_step(uint8_t seed[TLS_SEED_BYTES])
{
	uint8_t next[TLS_SEED_BYTES];

	derive(seed, "next hour", next);
	memcpy(seed, next, TLS_SEED_BYTES);
	explicit_bzero(next, sizeof(next));
}

static void make_seal(const struct tls_tickets *t, struct seal *s)
{
	derive(t->seed, "ticket name", s->name);
	derive(t->seed, "ticket key", s->key);
}

static int64_t this_hour(void)
{
	return clock_now_wall().us / 1000000 / 3600;
}

static void catch_up(struct tls_tickets *t)
{
	int64_t hour = this_hour();

	if (hour - t->hour > MAX_STEPS)
		t->hour = hour - 2;
	while (t->hour < hour) {
		t->before = t->now;
		tls_seed_step(t->seed);
		make_seal(t, &t->now);
		t->hour++;
	}
}

struct tls_tickets *tls_tickets_new(const uint8_t seed[TLS_SEED_BYTES], int64_t seed_hour)
{
	struct tls_tickets *t = xcalloc(1, sizeof(*t));

	memcpy(t->seed, seed, TLS_SEED_BYTES);
	t->hour = seed_hour;
	make_seal(t, &t->now);
	t->before = t->now;
	catch_up(t);
	return t;
}

void tls_tickets_free(struct tls_tickets **t)
{
	if (*t == NULL)
		return;
	explicit_bzero(*t, sizeof(**t));
	free(*t);
	*t = NULL;
}

static int seal_ticket(const struct seal *s, unsigned char *name, unsigned char *iv,
		       unsigned char *mac, unsigned char *ticket, int len)
{
	unsigned char bound[SEAL_BYTES];

	memcpy(name, s->name, WOLFSSL_TICKET_NAME_SZ);
	rand_bytes(iv, WOLFSSL_TICKET_IV_SZ);
	memset(mac, 0, WOLFSSL_TICKET_MAC_SZ);
	memcpy(bound, name, WOLFSSL_TICKET_NAME_SZ);
	memcpy(bound + WOLFSSL_TICKET_NAME_SZ, iv, WOLFSSL_TICKET_IV_SZ);
	return wc_ChaCha20Poly1305_Encrypt(s->key, iv, bound, sizeof(bound), ticket, (word32)len,
					   ticket, mac) == 0
		       ? WOLFSSL_TICKET_RET_OK
		       : WOLFSSL_TICKET_RET_FATAL;
}

static int open_ticket(const struct seal *s, const unsigned char *name, const unsigned char *iv,
		       const unsigned char *mac, unsigned char *ticket, int len)
{
	unsigned char bound[SEAL_BYTES];

	memcpy(bound, name, WOLFSSL_TICKET_NAME_SZ);
	memcpy(bound + WOLFSSL_TICKET_NAME_SZ, iv, WOLFSSL_TICKET_IV_SZ);
	return wc_ChaCha20Poly1305_Decrypt(s->key, iv, bound, sizeof(bound), ticket, (word32)len,
					   mac, ticket) == 0
		       ? WOLFSSL_TICKET_RET_OK
		       : WOLFSSL_TICKET_RET_REJECT;
}

int tls_ticket_callback(WOLFSSL *ssl UNUSED, unsigned char name[WOLFSSL_TICKET_NAME_SZ],
			unsigned char iv[WOLFSSL_TICKET_IV_SZ],
			unsigned char mac[WOLFSSL_TICKET_MAC_SZ], int enc, unsigned char *ticket,
			int in_len, int *out_len, void *arg)
{
	struct tls_tickets *t = arg;

	if (t == NULL || in_len <= 0)
		return WOLFSSL_TICKET_RET_REJECT;
	catch_up(t);
	*out_len = in_len;
	if (enc != 0)
		return seal_ticket(&t->now, name, iv, mac, ticket, in_len);
	if (memcmp(name, t->now.name, WOLFSSL_TICKET_NAME_SZ) == 0)
		return open_ticket(&t->now, name, iv, mac, ticket, in_len);
	if (memcmp(name, t->before.name, WOLFSSL_TICKET_NAME_SZ) != 0)
		return WOLFSSL_TICKET_RET_REJECT;
	int ret = open_ticket(&t->before, name, iv, mac, ticket, in_len);

	return ret == WOLFSSL_TICKET_RET_OK ? WOLFSSL_TICKET_RET_CREATE : ret;
}
