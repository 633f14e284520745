/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Configurations: contexts of the library, one for each pair of keys that is in use. */
#include "workers/tls/tls_int.h"

#include <stdlib.h>
#include <string.h>

#include <wolfssl/wolfcrypt/cryptocb.h>

#include "lib/err.h"
#include "lib/rand.h"

/* ---- the library ---- */

/* Its own seeds come from /dev/urandom, which is not there in an empty root. */
static int seed_callback(int device UNUSED, wc_CryptoInfo *info, void *arg UNUSED)
{
	if (info->algo_type != WC_ALGO_TYPE_SEED)
		return CRYPTOCB_UNAVAILABLE;
	rand_bytes(info->seed.seed, info->seed.sz);
	return 0;
}

int tls_lib_init(void)
{
	static bool done;

	if (done)
		return 0;
	if (wolfSSL_Init() != WOLFSSL_SUCCESS ||
	    wc_CryptoCb_RegisterDevice(TLS_SEED_DEVICE, seed_callback, NULL) != 0)
		return E_CONFIG;
	done = true;
	return 0;
}

const char *tls_library_error(int code)
{
	static char text[96];

	wolfSSL_ERR_error_string_n((unsigned long)code, text, sizeof(text));
	str_make_printable(text, strlen(text));
	return text;
}

/* ---- contexts ---- */

static int io_none(WOLFSSL *ssl UNUSED, char *p UNUSED, int n UNUSED, void *arg UNUSED)
{
	return WOLFSSL_CBIO_ERR_GENERAL; /* sessions set their own */
}

static int use_pair(WOLFSSL_CTX *c, const struct tls_pair *pair, struct buf *why)
{
	int ok = wolfSSL_CTX_use_certificate_chain_buffer(c, (const unsigned char *)pair->chain.p,
							  (long)pair->chain.len);

	if (ok != WOLFSSL_SUCCESS) {
		buf_printf(why, "the certificate is not accepted: %s", tls_library_error(ok));
		return E_CONFIG;
	}
	ok = wolfSSL_CTX_use_PrivateKey_buffer(c, (const unsigned char *)pair->key.p,
					       (long)pair->key.len, WOLFSSL_FILETYPE_PEM);
	if (ok != WOLFSSL_SUCCESS) {
		buf_printf(why, "the private key is not accepted: %s", tls_library_error(ok));
		return E_CONFIG;
	}
	if (wolfSSL_CTX_check_private_key(c) != WOLFSSL_SUCCESS) {
		buf_add_str(why, "private key and certificate do not belong together");
		return E_CONFIG;
	}
	return 0;
}

/* What clients are asked for, and what sessions leave behind. */
static void set_server(WOLFSSL_CTX *c, const struct tls_setup *s)
{
	if (s->own_order)
		wolfSSL_CTX_set_options(c, WOLFSSL_OP_CIPHER_SERVER_PREFERENCE);
	if (s->ask_peer || s->no_tickets) {
		wolfSSL_CTX_set_options(c, WOLFSSL_OP_NO_TICKET);
		wolfSSL_CTX_NoTicketTLSv12(c);
		wolfSSL_CTX_no_ticket_TLSv13(c);
		wolfSSL_CTX_set_TicketEncCb(c, tls_ticket_callback); /* takes none, either */
		wolfSSL_CTX_set_TicketEncCtx(c, NULL);
	} else if (s->tickets != NULL) {
		wolfSSL_CTX_set_TicketEncCb(c, tls_ticket_callback);
		wolfSSL_CTX_set_TicketEncCtx(c, s->tickets);
		wolfSSL_CTX_set_TicketHint(c, 3600);
	}
	wolfSSL_CTX_set_session_id_context(c, (const unsigned char *)"smtp", 4);
}

static void set_versions(WOLFSSL_CTX *c, unsigned versions)
{
	wolfSSL_CTX_SetMinVersion(c, (versions & TLS_1_2) != 0 ? WOLFSSL_TLSV1_2 : WOLFSSL_TLSV1_3);
	if ((versions & TLS_1_3) == 0)
		wolfSSL_CTX_set_options(c, WOLFSSL_OP_NO_TLSv1_3);
}

WOLFSSL_CTX *tls_ctx_library_new(const struct tls_ctx *ctx, const struct tls_pair *pair,
				 struct buf *why)
{
	const struct tls_setup *s = &ctx->setup;
	WOLFSSL_CTX *c =
		wolfSSL_CTX_new(s->is_server ? wolfTLS_server_method() : wolfTLS_client_method());

	if (c == NULL) {
		buf_add_str(why, "out of memory");
		return NULL;
	}
	/* keys that are loaded for a device are not checked, and ours is the default one */
	wolfSSL_CTX_SetDevId(c, INVALID_DEVID);
	set_versions(c, s->versions);
	wolfSSL_CTX_SetIORecv(c, io_none);
	wolfSSL_CTX_set_session_cache_mode(c, WOLFSSL_SESS_CACHE_OFF);
	if (ctx->suites != NULL && wolfSSL_CTX_set_cipher_list(c, ctx->suites) != WOLFSSL_SUCCESS) {
		buf_printf(why, "the library does not accept the suites %s", ctx->suites);
	} else if (pair == NULL || use_pair(c, pair, why) == 0) {
		int groups[8];

		wolfSSL_CTX_SetDevId(c, TLS_SEED_DEVICE);
		memcpy(groups, ctx->groups, sizeof(groups));
		if (ctx->group_count > 0)
			wolfSSL_CTX_set_groups(c, groups, ctx->group_count);
		if (s->is_server)
			set_server(c, s);
		else
			wolfSSL_CTX_UseSessionTicket(c);
		return c;
	}
	wolfSSL_CTX_free(c);
	return NULL;
}

int tls_ctx_new(const struct tls_setup *setup, struct tls_ctx **ctx_r, struct buf *why)
{
	const char *groups = setup->groups != NULL ? setup->groups : "X25519 prime256v1 secp384r1";
	struct tls_ctx *ctx = xcalloc(1, sizeof(*ctx));
	struct buf suites = BUF_INIT;
	int err = tls_lib_init();

	*ctx_r = NULL;
	ctx->setup = *setup;
	ctx->setup.suites = ctx->setup.groups = NULL; /* the caller's */
	ctx->group_count = tls_groups_parse(groups, ctx->groups, ARRAY_LEN(ctx->groups));
	if (err == 0)
		err = tls_suites_library(setup->suites, setup->versions, &suites);
	if (err != 0)
		buf_add_str(why, "no suite is left");
	else
		ctx->suites = xstrdup(buf_cstr(&suites));
	buf_fini(&suites);
	if (err == 0 && (!setup->is_server || !tls_keys_is_empty(setup->keys))) {
		const struct tls_hello hello = { .knows_rsa = true, .knows_ecdsa = true };

		err = tls_ctx_variant(ctx, &hello, why) != NULL ? 0 : E_CONFIG;
	}
	if (err != 0)
		tls_ctx_free(&ctx);
	*ctx_r = ctx;
	return err;
}

void tls_ctx_free(struct tls_ctx **ctx)
{
	if (*ctx == NULL)
		return;
	for (unsigned i = 0; i < (*ctx)->variant_count; i++)
		wolfSSL_CTX_free((*ctx)->variants[i].ctx);
	free((*ctx)->suites);
	free(*ctx);
	*ctx = NULL;
}

/* ---- which keys ---- */

/* ECDSA where the client can check it: it costs a tenth. */
static const struct tls_pair *pair_for(const struct tls_keys *k, const struct tls_hello *h)
{
	const struct tls_pair *other = NULL;

	for (unsigned i = 0; k != NULL && i < k->count; i++) {
		const struct tls_pair *p = &k->pairs[i];

		if (p->kind == TLS_KEY_ECDSA && h->knows_ecdsa)
			return p;
		if (other == NULL || (other->kind == TLS_KEY_ECDSA && !h->knows_ecdsa))
			other = p;
	}
	return other;
}

/* Room for one more: the one that was not used for longest and has no sessions. */
static struct tls_variant *free_variant(struct tls_ctx *ctx)
{
	struct tls_variant *oldest = NULL;

	if (ctx->variant_count < TLS_MAX_VARIANTS)
		return &ctx->variants[ctx->variant_count++];
	for (unsigned i = 0; i < TLS_MAX_VARIANTS; i++) {
		struct tls_variant *v = &ctx->variants[i];

		if (v->sessions == 0 && (oldest == NULL || v->used < oldest->used))
			oldest = v;
	}
	if (oldest != NULL)
		wolfSSL_CTX_free(oldest->ctx);
	return oldest;
}

struct tls_variant *tls_ctx_variant(struct tls_ctx *ctx, const struct tls_hello *hello,
				    struct buf *why)
{
	const struct tls_keys *keys = ctx->setup.keys, *named = NULL;

	if (ctx->setup.keys_of_name != NULL && hello->name[0] != '\0')
		named = ctx->setup.keys_of_name(ctx->setup.arg, hello->name);
	const struct tls_pair *pair = pair_for(named != NULL ? named : keys, hello);
	uint32_t serial = pair != NULL ? pair->serial : 0;

	if (pair == NULL && ctx->setup.is_server) {
		buf_add_str(why, "no certificate");
		return NULL;
	}
	for (unsigned i = 0; i < ctx->variant_count; i++) {
		if (ctx->variants[i].serial == serial) {
			ctx->variants[i].used = ++ctx->use_count;
			return &ctx->variants[i];
		}
	}
	WOLFSSL_CTX *c = tls_ctx_library_new(ctx, pair, why);
	struct tls_variant *v = c != NULL ? free_variant(ctx) : NULL;

	if (v == NULL) {
		wolfSSL_CTX_free(c);
		if (c != NULL)
			buf_add_str(why, "too many names are in use");
		return NULL;
	}
	*v = (struct tls_variant){ .serial = serial, .used = ++ctx->use_count, .ctx = c };
	if (pair != NULL)
		v->signature = pair->signature;
	return v;
}
