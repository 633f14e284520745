/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One connection; see workers/tls/tls.h. */
#include "workers/tls/tls_int.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"

#define BLOB_MAGIC    0x50485453u
#define IN_KEEP_BYTES 4096u  /* an input buffer that is larger is freed when it is empty */
#define RECORD_BYTES  16384u /* of plain text, at most (RFC 8446 5.1) */
#define LIBRARY_BYTES 60000u /* what a session of the library holds, roughly */
#define SESSION_BYTES 65536u /* a saved one, at most */
#define TICKET_BYTES  16384u /* of one; the session of a longer one is saved once only */

struct tls {
	struct tls_ctx *ctx;
	struct tls_variant *variant;
	WOLFSSL *ssl; /* servers: NULL until the client's hello is whole */
	struct buf in;
	size_t in_at; /* used so far */
	struct buf out;
	struct tls_hello hello;
	char *name;        /* clients: for SNI */
	struct buf ticket; /* of the session that was restored */
	struct buf chain_der;
	struct sv chain[TLS_CHAIN_MAX];
	size_t chain_count;
	bool chain_is_old; /* of the session that was restored */
	bool done, failed, resumed, said_goodbye;
	char error[160];
};

/* ---- the library's input and output ---- */

static int io_read(WOLFSSL *ssl UNUSED, char *p, int n, void *arg)
{
	struct tls *t = arg;
	size_t there = t->in.len - t->in_at;

	if (there == 0)
		return WOLFSSL_CBIO_ERR_WANT_READ;
	size_t take = size_min(there, (size_t)n);

	memcpy(p, t->in.p + t->in_at, take);
	t->in_at += take;
	if (t->in_at == t->in.len) {
		t->in_at = 0;
		if (t->in.cap > IN_KEEP_BYTES)
			buf_fini(&t->in);
		else
			buf_reset(&t->in);
	}
	return (int)take;
}

static int io_write(WOLFSSL *ssl UNUSED, char *p, int n, void *arg)
{
	struct tls *t = arg;

	buf_add(&t->out, p, (size_t)n);
	return n;
}

static void forget_chain(struct tls *t)
{
	buf_reset(&t->chain_der);
	t->chain_count = 0;
	t->chain_is_old = false;
}

/* Keep what the peer sent, let the handshake go on: the verdict is tls_judge()'s. Called for each
 * certificate, with all of them. */
static int keep_chain(int ok UNUSED, WOLFSSL_X509_STORE_CTX *store)
{
	struct tls *t = store->userCtx;
	size_t total = 0;

	if (t->chain_count > 0 && !t->chain_is_old)
		return 1;
	if (t->chain_is_old) /* the server did not go on with the session */
		forget_chain(t);
	size_t n = store->totalCerts > 0 ? (size_t)store->totalCerts : 0;

	n = size_min(n, TLS_CHAIN_MAX);
	for (size_t i = 0; i < n; i++)
		total += store->certs[i].length;
	if (n == 0 || total > TLS_CHAIN_BYTES_MAX)
		return 1;
	buf_reserve(&t->chain_der, total);
	for (size_t i = 0; i < n; i++) {
		t->chain[i] =
			(struct sv){ t->chain_der.p + t->chain_der.len, store->certs[i].length };
		buf_add(&t->chain_der, store->certs[i].buffer, store->certs[i].length);
	}
	t->chain_count = n;
	return 1;
}

/* ---- begin and end ---- */

struct tls *tls_new(struct tls_ctx *ctx)
{
	struct tls *t = xcalloc(1, sizeof(*t));

	t->ctx = ctx;
	return t;
}

void tls_free(struct tls **tp)
{
	struct tls *t = *tp;

	if (t == NULL)
		return;
	if (t->ssl != NULL)
		wolfSSL_free(t->ssl);
	if (t->variant != NULL)
		t->variant->sessions--;
	buf_fini(&t->in);
	buf_fini(&t->out);
	buf_fini(&t->chain_der);
	buf_fini(&t->ticket);
	free(t->name);
	free(t);
	*tp = NULL;
}

static int fail(struct tls *t, const char *why)
{
	if (!t->failed)
		str_copy(t->error, sizeof(t->error), sv_from(why));
	t->failed = true;
	return E_PEER;
}

void tls_set_name(struct tls *t, const char *name)
{
	free(t->name);
	t->name = xstrdup(name);
}

/* Servers that ask for a certificate: the library puts authorities that a callback let pass into
 * the list of its context, so this session gets a list of its own, thrown away with it. */
static bool set_verify(struct tls *t)
{
	wolfSSL_SetCertCbCtx(t->ssl, t);
	if (!t->ctx->setup.is_server) {
		wolfSSL_set_verify(t->ssl, WOLFSSL_VERIFY_NONE, keep_chain);
		return true;
	}
	if (!t->ctx->setup.ask_peer)
		return true;
	WOLFSSL_X509_STORE *own = wolfSSL_X509_STORE_new();

	if (own == NULL || wolfSSL_set0_verify_cert_store(t->ssl, own) != WOLFSSL_SUCCESS) {
		wolfSSL_X509_STORE_free(own);
		return false;
	}
	wolfSSL_set_verify(t->ssl, WOLFSSL_VERIFY_PEER, keep_chain);
	return true;
}

static int open_library(struct tls *t)
{
	struct buf why = BUF_INIT;

	t->variant = tls_ctx_variant(t->ctx, &t->hello, &why);
	if (t->variant == NULL) {
		fail(t, buf_cstr(&why));
		buf_fini(&why);
		return E_PEER;
	}
	t->variant->sessions++;
	t->ssl = wolfSSL_new(t->variant->ctx);
	if (t->ssl == NULL)
		return fail(t, "out of memory");
	wolfSSL_SSLSetIORecv(t->ssl, io_read);
	wolfSSL_SSLSetIOSend(t->ssl, io_write);
	wolfSSL_SetIOReadCtx(t->ssl, t);
	wolfSSL_SetIOWriteCtx(t->ssl, t);
	if (t->name != NULL && t->name[0] != '\0')
		wolfSSL_UseSNI(t->ssl, WOLFSSL_SNI_HOST_NAME, t->name,
			       (unsigned short)strlen(t->name));
	return set_verify(t) ? 0 : fail(t, "out of memory");
}

/* ---- handshake ---- */

/* What the library says of a call that did not go well. */
static int library_status(struct tls *t, int ret)
{
	int code = wolfSSL_get_error(t->ssl, ret);

	if (code == WOLFSSL_ERROR_WANT_READ || code == WOLFSSL_ERROR_WANT_WRITE)
		return E_AGAIN;
	if (code == WOLFSSL_ERROR_ZERO_RETURN)
		return E_EOF;
	return fail(t, tls_library_error(code));
}

static int begin(struct tls *t)
{
	if (!t->ctx->setup.is_server)
		return open_library(t);
	struct sv in = { t->in.p + t->in_at, t->in.len - t->in_at };
	int err = in.len > 0 ? tls_hello_parse(in, &t->hello) : E_AGAIN;

	if (err == E_AGAIN)
		return E_AGAIN;
	return err == 0 ? open_library(t) : fail(t, "no client hello");
}

int tls_handshake(struct tls *t)
{
	if (t->failed)
		return E_PEER;
	if (t->done)
		return 0;
	int err = t->ssl == NULL ? begin(t) : 0;

	if (err != 0)
		return err;
	int ret = t->ctx->setup.is_server ? wolfSSL_accept(t->ssl) : wolfSSL_connect(t->ssl);

	if (ret != WOLFSSL_SUCCESS) {
		err = library_status(t, ret);
		return err == E_EOF ? fail(t, "closed by the peer") : err;
	}
	t->done = true;
	t->resumed = wolfSSL_session_reused(t->ssl) == 1;
	if (t->chain_is_old && !t->resumed)
		forget_chain(t);
	return 0;
}

/* ---- data ---- */

void tls_feed(struct tls *t, const void *data, size_t len)
{
	if (t->failed)
		return;
	if (t->in_at > 0 && t->in.len + len > t->in.cap) {
		buf_consume(&t->in, t->in_at);
		t->in_at = 0;
	}
	buf_add(&t->in, data, len);
}

int tls_read(struct tls *t, void *to, size_t size)
{
	if (t->failed || !t->done)
		return E_PEER;
	int ret = wolfSSL_read(t->ssl, to, (int)size_min(size, 1u << 20));

	return ret > 0 ? ret : library_status(t, ret);
}

int tls_write(struct tls *t, const void *data, size_t len)
{
	const char *p = data;

	if (t->failed || !t->done || t->said_goodbye)
		return E_PEER;
	while (len > 0) {
		int ret = wolfSSL_write(t->ssl, p, (int)size_min(len, RECORD_BYTES));

		if (ret <= 0)
			return fail(t, tls_library_error(wolfSSL_get_error(t->ssl, ret)));
		p += ret;
		len -= (size_t)ret;
	}
	return 0;
}

void tls_goodbye(struct tls *t)
{
	if (t->ssl == NULL || t->failed || !t->done || t->said_goodbye)
		return;
	t->said_goodbye = true;
	wolfSSL_shutdown(t->ssl);
}

struct buf *tls_out(struct tls *t)
{
	return &t->out;
}

size_t tls_waiting(const struct tls *t)
{
	size_t held = t->ssl != NULL && t->done ? (size_t)wolfSSL_pending(t->ssl) : 0;

	return t->in.len - t->in_at + held;
}

const char *tls_error(const struct tls *t)
{
	return t->error;
}

size_t tls_memory(const struct tls *t)
{
	return sizeof(*t) + t->in.cap + t->out.cap + t->chain_der.cap +
	       (t->ssl != NULL ? LIBRARY_BYTES : 0);
}

/* ---- what it became ---- */

static const char *group_name(const char *name)
{
	static const struct {
		const char *library, *openssl;
	} names[] = {
		{ "SECP256R1", "prime256v1" },
		{ "SECP384R1", "secp384r1" },
		{ "SECP521R1", "secp521r1" },
		{ "X25519", "X25519" },
		{ "X448", "X448" },
		{ "FFDHE_2048", "ffdhe2048" },
		{ "FFDHE_3072", "ffdhe3072" },
	};

	for (size_t i = 0; name != NULL && i < ARRAY_LEN(names); i++) {
		if (str_eq_nocase(name, names[i].library))
			return names[i].openssl;
	}
	return "";
}

static void key_exchange(const struct tls *t, const char *cipher, struct tls_info *info)
{
	info->group = group_name(wolfSSL_get_curve_name(t->ssl));
	info->key_exchange = "";
	if (strncmp(cipher, "TLS_", 4) == 0)
		info->key_exchange = info->group;
	else if (strncmp(cipher, "ECDHE-", 6) == 0)
		info->key_exchange = "ECDHE";
	else if (strncmp(cipher, "DHE-", 4) == 0)
		info->key_exchange = "DHE";
}

/* Of our own RSA key: which digest the library chose of those that the client knows. */
static const char *chosen_digest(const struct tls *t)
{
	int nid = 0;

	if (wolfSSL_get_signature_nid(t->ssl, &nid) != WOLFSSL_SUCCESS)
		return "";
	/* it names the pair as a certificate would, whatever the padding */
	return nid == CTC_SHA256wRSA   ? "SHA256"
	       : nid == CTC_SHA384wRSA ? "SHA384"
	       : nid == CTC_SHA512wRSA ? "SHA512"
				       : "";
}

static void signatures(const struct tls *t, struct tls_info *info)
{
	bool is_server = t->ctx->setup.is_server;
	struct tls_signature *own = is_server ? &info->server_signature : &info->client_signature;
	struct tls_signature *theirs =
		is_server ? &info->client_signature : &info->server_signature;
	struct x509 x;

	if (info->resumed || strcmp(info->protocol, "TLSv1.3") != 0)
		return;
	if (t->chain_count > 0 && x509_parse(t->chain[0], &x) == 0)
		x509_signature(x.spki, theirs);
	if (!is_server)
		return; /* whether our certificate was asked for is not known */
	*own = t->variant->signature;
	if (strcmp(own->name, "RSA-PSS") == 0)
		own->digest = chosen_digest(t);
}

static void add_signature(const struct tls_signature *s, const char *fold, const char *whose,
			  struct buf *out)
{
	if (s->name == NULL || s->name[0] == '\0')
		return;
	buf_printf(out, "%s %s-signature %s", fold, whose, s->name);
	if (s->detail[0] != '\0')
		buf_printf(out, " (%s)", s->detail);
	if (s->digest[0] != '\0')
		buf_printf(out, " %s-digest %s", whose, s->digest);
}

void tls_info_add_signatures(const struct tls_info *info, const char *fold, struct buf *out)
{
	add_signature(&info->server_signature, "", "server", out);
	add_signature(&info->client_signature, fold, "client", out);
}

void tls_info_get(const struct tls *t, struct tls_info *info)
{
	*info = (struct tls_info){
		.protocol = "", .cipher = "", .key_exchange = "", .group = "", .name = ""
	};
	if (!t->done)
		return;
	const char *library = wolfSSL_get_cipher_name(t->ssl);
	const char *cipher = library != NULL ? tls_suite_openssl(library) : NULL;

	info->protocol = wolfSSL_get_version(t->ssl);
	info->cipher = cipher != NULL ? cipher : library != NULL ? library : "";
	if (library != NULL)
		tls_suite_bits(library, &info->bits, &info->alg_bits);
	key_exchange(t, info->cipher, info);
	info->resumed = t->resumed;
	signatures(t, info);
	info->name = t->ctx->setup.is_server ? t->hello.name : t->name != NULL ? t->name : "";
}

size_t tls_peer_chain(const struct tls *t, const struct sv **der_r)
{
	*der_r = t->chain;
	return t->chain_count;
}

int tls_exporter(struct tls *t, uint8_t out[32])
{
	struct tls_info info;

	tls_info_get(t, &info);
	if (!t->done || strcmp(info.protocol, "TLSv1.3") != 0)
		return E_NOENT;
	static const char label[] = "EXPORTER-Channel-Binding";

	return wolfSSL_export_keying_material(t->ssl, out, 32, label, sizeof(label) - 1,
					      (const unsigned char *)"", 0, 1) == WOLFSSL_SUCCESS
		       ? 0
		       : E_NOENT;
}

/* ---- sessions of clients ----
 *
 * u32 magic, u32 bytes of the session, the session as the library writes it, and for each
 * certificate u32 bytes and those. */

static void add_block(struct buf *out, const void *p, size_t len)
{
	uint32_t n = (uint32_t)len;

	buf_add(out, &n, sizeof(n));
	buf_add(out, p, len);
}

static bool take_block(struct sv *in, struct sv *block_r)
{
	uint32_t n;

	if (in->len < sizeof(n))
		return false;
	memcpy(&n, in->p, sizeof(n));
	if (n > in->len - sizeof(n))
		return false;
	*block_r = (struct sv){ in->p + sizeof(n), n };
	*in = (struct sv){ in->p + sizeof(n) + n, in->len - sizeof(n) - n };
	return true;
}

static void get_ticket(struct tls *t, struct buf *ticket)
{
	word32 n = TICKET_BYTES;
	char *room = buf_reserve(ticket, n);

	if (wolfSSL_get_SessionTicket(t->ssl, (unsigned char *)room, &n) == WOLFSSL_SUCCESS)
		ticket->len += n;
}

/* A server need not send a new ticket to who came with one. The library's session has the secrets
 * of this handshake then, and the ticket of the one before: no server takes such a pair. */
static bool has_new_ticket(struct tls *t)
{
	struct buf now = BUF_INIT;

	if (!t->resumed)
		return true;
	get_ticket(t, &now);
	bool differs = now.len > 0 && !sv_eq(buf_sv(&now), buf_sv(&t->ticket));

	buf_fini(&now);
	return differs;
}

int tls_session_save(struct tls *t, struct buf *blob)
{
	unsigned char *der = NULL;
	uint32_t magic = BLOB_MAGIC;
	/* in 1.2 the library takes every answer to a ticket for a yes, and fails after a no */
	bool is_13 = t->done && wolfSSL_version(t->ssl) == TLS1_3_VERSION;
	WOLFSSL_SESSION *s = is_13 && !t->ctx->setup.is_server && has_new_ticket(t)
				     ? wolfSSL_get1_session(t->ssl)
				     : NULL;
	int n = s != NULL && wolfSSL_SESSION_is_resumable(s) == 1 ? wolfSSL_i2d_SSL_SESSION(s, &der)
								  : 0;

	if (n > 0 && (size_t)n <= SESSION_BYTES) {
		buf_add(blob, &magic, sizeof(magic));
		add_block(blob, der, (size_t)n);
		for (size_t i = 0; i < t->chain_count; i++)
			add_block(blob, t->chain[i].p, t->chain[i].len);
	}
	if (der != NULL)
		wolfSSL_Free(der);
	wolfSSL_SESSION_free(s);
	return n > 0 && (size_t)n <= SESSION_BYTES ? 0 : E_NOENT;
}

static bool restore_chain(struct tls *t, struct sv in)
{
	struct sv cert;

	if (in.len > TLS_CHAIN_BYTES_MAX + TLS_CHAIN_MAX * sizeof(uint32_t))
		return false;
	buf_reserve(&t->chain_der, in.len);
	while (in.len > 0 && t->chain_count < TLS_CHAIN_MAX && take_block(&in, &cert)) {
		t->chain[t->chain_count++] =
			(struct sv){ t->chain_der.p + t->chain_der.len, cert.len };
		buf_add_sv(&t->chain_der, cert);
	}
	return in.len == 0;
}

int tls_session_restore(struct tls *t, struct sv blob)
{
	uint32_t magic;
	struct sv session, in = blob;

	ASSERT(!t->ctx->setup.is_server && t->ssl == NULL);
	if (in.len < sizeof(magic))
		return E_CORRUPT;
	memcpy(&magic, in.p, sizeof(magic));
	in = (struct sv){ in.p + sizeof(magic), in.len - sizeof(magic) };
	if (magic != BLOB_MAGIC || !take_block(&in, &session) || session.len > SESSION_BYTES)
		return E_CORRUPT;
	int err = open_library(t);

	if (err != 0)
		return err;
	const unsigned char *p = (const unsigned char *)session.p;
	WOLFSSL_SESSION *s = wolfSSL_d2i_SSL_SESSION(NULL, &p, (long)session.len);
	bool ok = s != NULL && restore_chain(t, in) &&
		  wolfSSL_set_session(t->ssl, s) == WOLFSSL_SUCCESS;

	wolfSSL_SESSION_free(s);
	t->chain_is_old = true;
	if (ok)
		get_ticket(t, &t->ticket);
	else
		forget_chain(t);
	return ok ? 0 : E_CORRUPT;
}
