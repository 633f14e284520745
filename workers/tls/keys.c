/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Keys and certificate chains from PEM files, in the orders that Postfix takes them. */
#include "workers/tls/tls_int.h"

#include <stdlib.h>
#include <string.h>

#include <wolfssl/wolfcrypt/ecc.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/io.h"

/* ---- PEM blocks ---- */

struct pem_block {
	struct sv whole;
	bool is_key, is_cert;
};

/* The next block of the text, which goes on behind it. False: no more. */
static bool next_block(struct sv *text, struct pem_block *b)
{
	const char *begin = memmem(text->p, text->len, "-----BEGIN ", 11);

	if (begin == NULL)
		return false;
	size_t left = text->len - (size_t)(begin - text->p);
	const char *end = memmem(begin, left, "-----END ", 9);
	const char *dashes =
		end == NULL ? NULL : memmem(end + 9, left - (size_t)(end + 9 - begin), "-----", 5);
	const char *label_end = memmem(begin + 11, left - 11, "-----", 5);

	if (dashes == NULL || label_end == NULL)
		return false;
	struct sv label = { begin + 11, (size_t)(label_end - begin - 11) };

	b->whole = (struct sv){ begin, (size_t)(dashes + 5 - begin) };
	b->is_key = memmem(label.p, label.len, "PRIVATE KEY", 11) != NULL;
	b->is_cert = sv_eq(label, SV("CERTIFICATE")) || sv_eq(label, SV("X509 CERTIFICATE")) ||
		     sv_eq(label, SV("TRUSTED CERTIFICATE"));
	*text = (struct sv){ dashes + 5, text->len - (size_t)(dashes + 5 - text->p) };
	return true;
}

static void add_block(struct buf *out, const struct pem_block *b)
{
	buf_add_sv(out, b->whole);
	buf_add_c(out, '\n');
}

/* ---- one pair ---- */

static void wipe(struct buf *b)
{
	if (b->p != NULL)
		explicit_bzero(b->p, b->cap);
	buf_fini(b);
}

static void pair_fini(struct tls_pair *p)
{
	wipe(&p->key);
	buf_fini(&p->chain);
}

static enum tls_key_kind kind_of(const struct x509 *x)
{
	static const char rsa[] = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
	static const char ec[] = "\x2a\x86\x48\xce\x3d\x02\x01";
	size_t head = size_min(x->spki.len, 32);

	if (memmem(x->spki.p, head, rsa, sizeof(rsa) - 1) != NULL)
		return TLS_KEY_RSA;
	return memmem(x->spki.p, head, ec, sizeof(ec) - 1) != NULL ? TLS_KEY_ECDSA : TLS_KEY_OTHER;
}

/* The library's check lets any ECDSA key pass: make the public half of the private one and compare.
 */
static bool ecdsa_fits(const struct tls_pair *p, struct sv spki)
{
	ecc_key own, theirs;
	unsigned char der[1024], a[256], b[256];
	word32 at = 0, a_len = sizeof(a), b_len = sizeof(b);
	int n = wc_KeyPemToDer((const unsigned char *)p->key.p, (int)p->key.len, der, sizeof(der),
			       NULL);

	if (n <= 0 || wc_ecc_init(&own) != 0 || wc_ecc_init(&theirs) != 0)
		return false;
	bool same = wc_EccPrivateKeyDecode(der, &at, &own, (word32)n) == 0;

	at = 0;
	same = same &&
	       wc_EccPublicKeyDecode((const unsigned char *)spki.p, &at, &theirs,
				     (word32)spki.len) == 0 &&
	       wc_ecc_make_pub(&own, NULL) == 0 && wc_ecc_export_x963(&own, a, &a_len) == 0 &&
	       wc_ecc_export_x963(&theirs, b, &b_len) == 0 && a_len == b_len &&
	       memcmp(a, b, a_len) == 0;
	wc_ecc_free(&own);
	wc_ecc_free(&theirs);
	explicit_bzero(der, sizeof(der));
	return same;
}

/* Is it a pair that the library takes? */
static int pair_check(struct tls_pair *p, struct buf *why)
{
	static uint32_t last_serial;
	struct x509 x;
	struct buf der = BUF_INIT;

	if (p->key.len == 0) {
		buf_add_str(why, "no private key");
		return E_CONFIG;
	}
	if (p->chain.len == 0) {
		buf_add_str(why, "no certificate");
		return E_CONFIG;
	}
	char *room = buf_reserve(&der, p->chain.len);
	int n = wc_CertPemToDer((const unsigned char *)p->chain.p, (int)p->chain.len,
				(unsigned char *)room, (int)p->chain.len, CERT_TYPE);

	if (n <= 0 || x509_parse((struct sv){ room, (size_t)n }, &x) != 0) {
		buf_fini(&der);
		buf_add_str(why, "the certificate cannot be read");
		return E_CONFIG;
	}
	p->kind = kind_of(&x);
	x509_signature(x.spki, &p->signature);
	bool fits = p->kind != TLS_KEY_ECDSA || ecdsa_fits(p, x.spki);

	buf_fini(&der);
	if (!fits) {
		buf_add_str(why, "private key and certificate do not belong together");
		return E_CONFIG;
	}
	p->serial = ++last_serial;
	const struct tls_ctx probe = { .setup = { .is_server = true,
						  .versions = TLS_ALL_VERSIONS } };
	WOLFSSL_CTX *ctx = tls_ctx_library_new(&probe, p, why);

	if (ctx == NULL)
		return E_CONFIG;
	wolfSSL_CTX_free(ctx);
	return 0;
}

static int keys_add(struct tls_keys *k, struct tls_pair *p, struct buf *why)
{
	int err = E_LIMIT;

	if (k->count == TLS_MAX_KEYS)
		buf_add_str(why, "too many keys");
	else
		err = pair_check(p, why);
	if (err != 0) {
		pair_fini(p);
		return E_CONFIG;
	}
	k->pairs[k->count++] = *p;
	return 0;
}

static struct tls_keys *keys_new(void)
{
	return xcalloc(1, sizeof(struct tls_keys));
}

void tls_keys_free(struct tls_keys **k)
{
	if (*k == NULL)
		return;
	for (unsigned i = 0; i < (*k)->count; i++)
		pair_fini(&(*k)->pairs[i]);
	free(*k);
	*k = NULL;
}

bool tls_keys_is_empty(const struct tls_keys *k)
{
	return k == NULL || k->count == 0;
}

/* ---- a list of keys, each before its certificates ---- */

/* `p`: the pair that is going on. */
static int take_text(struct tls_keys *k, struct tls_pair *p, struct sv text, struct buf *why)
{
	struct pem_block b;
	int err = 0;

	while (err == 0 && next_block(&text, &b)) {
		if (b.is_key) {
			if (p->key.len > 0) {
				err = keys_add(k, p, why);
				*p = (struct tls_pair){ .kind = TLS_KEY_OTHER };
			}
			add_block(&p->key, &b);
		} else if (b.is_cert && p->key.len == 0) {
			buf_add_str(why, "a certificate comes before its private key");
			err = E_CONFIG;
		} else if (b.is_cert) {
			add_block(&p->chain, &b);
		}
	}
	return err;
}

static int take_end(struct tls_keys *k, struct tls_pair *p, struct buf *why)
{
	if (p->key.len > 0)
		return keys_add(k, p, why);
	buf_add_str(why, "no private key");
	return E_CONFIG;
}

static int keys_parse(struct tls_keys *k, struct sv text, struct buf *why)
{
	struct tls_pair p = { .kind = TLS_KEY_OTHER };
	int err = take_text(k, &p, text, why);

	if (err == 0)
		return take_end(k, &p, why);
	pair_fini(&p);
	return err;
}

int tls_keys_parse(struct sv pem, struct tls_keys **keys_r, struct buf *why)
{
	struct tls_keys *k = keys_new();
	int err = tls_lib_init();

	*keys_r = NULL;
	if (err == 0)
		err = keys_parse(k, pem, why);
	if (err != 0)
		tls_keys_free(&k);
	*keys_r = k;
	return err;
}

/* ---- files ---- */

static int read_pem(const char *path, struct buf *out, struct buf *why)
{
	int err = io_read_file(path, TLS_PEM_MAX_BYTES, out);

	if (err != 0)
		buf_add_str(why, err_str(err));
	return err;
}

struct loading {
	struct tls_keys *keys;
	struct conf_diag *diag;
	const char *prefix;
	int status;
};

static void complain(struct loading *l, const char *param, const char *file, struct buf *why)
{
	conf_diag_add(l->diag, true, file, 0, "parameter %s%s: %s", l->prefix, param,
		      buf_cstr(why));
	l->status = E_CONFIG;
	buf_fini(why);
}

/* smtpd_tls_cert_file and smtpd_tls_key_file: blocks of the other kind are passed over. */
static void load_pair(struct loading *l, const char *param, const char *cert_file,
		      const char *key_file)
{
	struct tls_pair p = { .kind = TLS_KEY_OTHER };
	struct buf text = BUF_INIT, why = BUF_INIT;
	const char *file = cert_file;
	struct pem_block b;

	if (cert_file == NULL || cert_file[0] == '\0')
		return;
	int err = read_pem(file, &text, &why);
	struct sv rest = buf_sv(&text);

	while (err == 0 && next_block(&rest, &b)) {
		if (b.is_cert)
			add_block(&p.chain, &b);
	}
	wipe(&text);
	if (err == 0) {
		file = key_file != NULL && key_file[0] != '\0' ? key_file : cert_file;
		err = read_pem(file, &text, &why);
		rest = buf_sv(&text);
	}
	while (err == 0 && p.key.len == 0 && next_block(&rest, &b)) {
		if (b.is_key)
			add_block(&p.key, &b);
	}
	wipe(&text);
	if (err == 0) {
		file = p.chain.len == 0 ? cert_file : file;
		err = keys_add(l->keys, &p, &why);
	} else {
		pair_fini(&p);
	}
	if (err != 0)
		complain(l, param, file, &why);
}

/* The files are read as one text: a key may be in another than its certificates. */
static void load_chains(struct loading *l, const char *files)
{
	struct tls_pair p = { .kind = TLS_KEY_OTHER };
	struct buf path = BUF_INIT, text = BUF_INIT, why = BUF_INIT;
	int err = 0;

	while (*files != '\0' && err == 0) {
		size_t n = strcspn(files, ", \t\r\n");

		if (n > 0) {
			buf_reset(&path);
			buf_add(&path, files, n);
			err = read_pem(buf_cstr(&path), &text, &why);
			if (err == 0)
				err = take_text(l->keys, &p, buf_sv(&text), &why);
			wipe(&text);
		}
		files += n;
		files += *files != '\0';
	}
	if (err == 0)
		err = take_end(l->keys, &p, &why);
	else
		pair_fini(&p);
	if (err != 0)
		complain(l, "chain_files", buf_cstr(&path), &why);
	buf_fini(&path);
}

static bool is_set(const char *text)
{
	return text != NULL && text[0] != '\0' && !str_eq_nocase(text, "none");
}

int tls_keys_load(const struct tls_key_files *f, struct conf_diag *d, struct tls_keys **keys_r)
{
	struct loading l = { .keys = keys_new(), .diag = d, .prefix = f->prefix };

	*keys_r = NULL;
	if (tls_lib_init() != 0) {
		conf_diag_add(d, true, NULL, 0, "the TLS library does not start");
		l.status = E_CONFIG;
	} else if (is_set(f->chain_files)) {
		load_chains(&l, f->chain_files);
	} else {
		if (is_set(f->cert_file))
			load_pair(&l, "cert_file", f->cert_file, f->key_file);
		if (is_set(f->eccert_file))
			load_pair(&l, "eccert_file", f->eccert_file, f->eckey_file);
		if (is_set(f->dcert_file))
			conf_diag_add(d, false, f->dcert_file, 0,
				      "parameter %sdcert_file: DSA certificates are not used",
				      f->prefix);
	}
	if (l.status != 0)
		tls_keys_free(&l.keys);
	*keys_r = l.keys;
	return l.status;
}
