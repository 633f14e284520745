/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What certificates are worth. The library's own check of a chain takes what it has once accepted
 * into its list of authorities, also what a callback let pass; so chains are walked here, link by
 * link, and the list of authorities is never written to by a handshake.
 */
#include "workers/tls/tls_int.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include <wolfssl/wolfcrypt/hash.h>

#include "conf/conf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

#define SYSTEM_CA_FILE "/etc/ssl/certs/ca-certificates.crt"
#define CA_FILE_BYTES  (8u << 20)

struct tls_trust {
	WOLFSSL_CERT_MANAGER *authorities;
	unsigned count;
};

/* ---- authorities ---- */

static struct tls_trust *trust_new(void)
{
	struct tls_trust *t = tls_lib_init() == 0 ? xcalloc(1, sizeof(*t)) : NULL;

	if (t == NULL)
		return NULL;
	t->authorities = wolfSSL_CertManagerNew();
	ASSERT(t->authorities != NULL);
	return t;
}

void tls_trust_free(struct tls_trust **t)
{
	if (*t == NULL)
		return;
	wolfSSL_CertManagerFree((*t)->authorities);
	free(*t);
	*t = NULL;
}

/* Certificates of a PEM text, one by one: one that the library cannot read does not hide the rest.
 */
static unsigned add_pem(struct tls_trust *t, struct sv text)
{
	unsigned added = 0;
	const char *begin, *end;

	while ((begin = memmem(text.p, text.len, "-----BEGIN ", 11)) != NULL) {
		size_t left = text.len - (size_t)(begin - text.p);

		end = memmem(begin, left, "-----END ", 9);
		if (end == NULL)
			break;
		const char *stop = memmem(end + 9, left - (size_t)(end + 9 - begin), "-----", 5);

		if (stop == NULL)
			break;
		if (memmem(begin, 40 < left ? 40 : left, "CERTIFICATE", 11) != NULL &&
		    wolfSSL_CertManagerLoadCABuffer(t->authorities, (const unsigned char *)begin,
						    (long)(stop + 5 - begin),
						    WOLFSSL_FILETYPE_PEM) == WOLFSSL_SUCCESS)
			added++;
		text = (struct sv){ stop + 5, text.len - (size_t)(stop + 5 - text.p) };
	}
	t->count += added;
	return added;
}

int tls_trust_add(struct tls_trust **trust, struct sv cert)
{
	if (*trust == NULL)
		*trust = trust_new();
	if (*trust == NULL)
		return E_CONFIG;
	if (cert.len > 0 && cert.p[0] == 0x30 &&
	    wolfSSL_CertManagerLoadCABuffer((*trust)->authorities, (const unsigned char *)cert.p,
					    (long)cert.len,
					    WOLFSSL_FILETYPE_ASN1) == WOLFSSL_SUCCESS) {
		(*trust)->count++;
		return 0;
	}
	return add_pem(*trust, cert) > 0 ? 0 : E_SYNTAX;
}

static int load_file(struct tls_trust *t, const char *param, const char *file, bool must,
		     struct conf_diag *d)
{
	struct buf text = BUF_INIT;
	int err = io_read_file(file, CA_FILE_BYTES, &text);
	const char *why = err != 0 ? err_str(err) : "no certificate in it can be read";

	if (err == 0 && add_pem(t, buf_sv(&text)) == 0)
		err = E_SYNTAX;
	buf_fini(&text);
	if (err != 0 && must)
		conf_diag_add(d, true, file, 0, "parameter %s: %s", param, why);
	return err;
}

static int load_directory(struct tls_trust *t, const char *param, const char *path,
			  struct conf_diag *d)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	if (dir == NULL) {
		conf_diag_add(d, true, path, 0, "parameter %s: %s", param, err_str(err_errno()));
		return E_CONFIG;
	}
	while ((e = readdir(dir)) != NULL) {
		size_t n = strlen(e->d_name);
		/* as c_rehash names them: eight digits of a hash, a dot, a number */
		bool hashed = n >= 10 && e->d_name[8] == '.' && ascii_is_digit(e->d_name[9]);

		if (!hashed || strspn(e->d_name, "0123456789abcdef") != 8)
			continue;
		char *file = xasprintf("%s/%s", path, e->d_name);

		load_file(t, param, file, false, d);
		free(file);
	}
	closedir(dir);
	return 0;
}

int tls_trust_load(const char *param, const char *ca_file, const char *ca_path, bool system_too,
		   struct conf_diag *d, struct tls_trust **trust_r)
{
	struct tls_trust *t = trust_new();
	int err = t != NULL ? 0 : E_CONFIG;

	if (err == 0 && ca_file != NULL && ca_file[0] != '\0')
		err = load_file(t, param, ca_file, true, d);
	if (err == 0 && ca_path != NULL && ca_path[0] != '\0')
		err = load_directory(t, param, ca_path, d);
	if (err == 0 && system_too)
		load_file(t, param, SYSTEM_CA_FILE, false, d);
	if (err != 0)
		tls_trust_free(&t);
	*trust_r = t;
	return err != 0 ? E_CONFIG : 0;
}

/* ---- one link ---- */

/* 0: signed, dates hold. ASN_AFTER_DATE_E, ASN_BEFORE_DATE_E: signed. Else not. */
static int check_signature(WOLFSSL_CERT_MANAGER *cm, struct sv cert)
{
	int ret = wolfSSL_CertManagerVerifyBuffer(cm, (const unsigned char *)cert.p, (long)cert.len,
						  WOLFSSL_FILETYPE_ASN1);

	return ret == WOLFSSL_SUCCESS ? 0 : ret;
}

static bool is_signed(int ret)
{
	return ret == 0 || ret == ASN_AFTER_DATE_E || ret == ASN_BEFORE_DATE_E;
}

static bool may_issue(const struct x509 *x)
{
	return x->is_ca && (!x->has_key_usage || x->may_sign_certs);
}

/* Signed by the key of `issuer`, whatever that one is. */
static bool has_signature_of(struct sv cert, struct sv issuer)
{
	WOLFSSL_CERT_MANAGER *cm = wolfSSL_CertManagerNew();
	bool yes = false;

	if (cm == NULL)
		return false;
	/* as the library sees it, what is loaded here may sign: the caller has looked */
	int ret = wolfSSL_CertManagerLoadCABuffer(cm, (const unsigned char *)issuer.p,
						  (long)issuer.len, WOLFSSL_FILETYPE_ASN1);

	if (ret == WOLFSSL_SUCCESS)
		yes = is_signed(check_signature(cm, cert));
	wolfSSL_CertManagerFree(cm);
	return yes;
}

bool tls_is_signed_by(struct sv cert, struct sv issuer)
{
	struct x509 c, i;

	return tls_lib_init() == 0 && x509_parse(cert, &c) == 0 && x509_parse(issuer, &i) == 0 &&
	       sv_eq(c.issuer, i.subject) && may_issue(&i) && has_signature_of(cert, issuer);
}

/* ---- a chain ---- */

static unsigned date_flags(const struct x509 *x)
{
	int64_t now = clock_now_wall().us / 1000000;

	return (now > x->not_after_s ? TLS_CERT_EXPIRED : 0u) |
	       (now < x->not_before_s ? TLS_CERT_NOT_YET : 0u);
}

static unsigned purpose_flags(const struct x509 *x, enum tls_purpose purpose)
{
	bool fits = !x->has_eku || x->eku_any || purpose == TLS_FOR_ANY ||
		    (purpose == TLS_FOR_SERVER && x->eku_server) ||
		    (purpose == TLS_FOR_CLIENT && x->eku_client);

	return fits ? 0 : TLS_CERT_PURPOSE;
}

struct walk {
	const struct tls_trust *trust;
	const struct sv *chain;
	struct x509 x[TLS_CHAIN_MAX];
	size_t count;
	bool used[TLS_CHAIN_MAX];
	enum tls_purpose purpose;
};

/* Which of the others has signed this one; count: none. `below` CAs are under it. */
static size_t find_issuer(const struct walk *w, size_t at, unsigned below)
{
	for (size_t i = 0; i < w->count; i++) {
		const struct x509 *x = &w->x[i];

		if (w->used[i] || !sv_eq(x->subject, w->x[at].issuer) || !may_issue(x) ||
		    (x->has_path_len && x->path_len < below))
			continue;
		if (has_signature_of(w->chain[at], w->chain[i]))
			return i;
	}
	return w->count;
}

static unsigned walk_up(struct walk *w, unsigned max_depth, size_t *failed)
{
	unsigned flags = 0;
	size_t at = 0;

	for (unsigned depth = 0;; depth++) {
		unsigned wrong = date_flags(&w->x[at]) | purpose_flags(&w->x[at], w->purpose);

		*failed = flags == 0 ? at : *failed;
		flags |= wrong;
		w->used[at] = true;
		if (w->trust != NULL && w->trust->count > 0 &&
		    is_signed(check_signature(w->trust->authorities, w->chain[at])))
			return flags;
		if (depth >= max_depth)
			return flags | TLS_CERT_DEPTH | TLS_CERT_UNTRUSTED;
		size_t next = find_issuer(w, at, depth);

		if (next == w->count)
			break;
		at = next;
	}
	*failed = flags == 0 ? at : *failed;
	if (sv_eq(w->x[at].subject, w->x[at].issuer))
		flags |= TLS_CERT_SELF_SIGNED;
	return flags | TLS_CERT_UNTRUSTED;
}

unsigned tls_judge(const struct tls_trust *trust, const struct sv *chain, size_t count,
		   unsigned max_depth, enum tls_purpose purpose, size_t *failed_idx_r)
{
	struct walk w = { .trust = trust,
			  .chain = chain,
			  .count = size_min(count, TLS_CHAIN_MAX),
			  .purpose = purpose };
	size_t failed = 0;
	unsigned flags = 0;

	if (count == 0 || tls_lib_init() != 0)
		flags = TLS_CERT_UNTRUSTED;
	for (size_t i = 0; i < w.count && flags == 0; i++) {
		if (x509_parse(chain[i], &w.x[i]) != 0) {
			failed = i;
			flags = TLS_CERT_BROKEN | TLS_CERT_UNTRUSTED;
		}
	}
	if (flags == 0)
		flags = walk_up(&w, max_depth, &failed);
	if (failed_idx_r != NULL)
		*failed_idx_r = failed;
	return flags;
}

const char *tls_judge_text(unsigned flags)
{
	static const struct {
		unsigned flag;
		const char *text;
	} texts[] = {
		{ TLS_CERT_BROKEN, "certificate cannot be read" },
		{ TLS_CERT_DEPTH, "certificate chain too long" },
		{ TLS_CERT_SELF_SIGNED, "self-signed certificate" },
		{ TLS_CERT_UNTRUSTED, "unable to get local issuer certificate" },
		{ TLS_CERT_EXPIRED, "certificate has expired" },
		{ TLS_CERT_NOT_YET, "certificate is not yet valid" },
		{ TLS_CERT_PURPOSE, "unsuitable certificate purpose" },
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		if ((flags & texts[i].flag) != 0)
			return texts[i].text;
	}
	return "ok";
}

/* ---- digests ---- */

int tls_digest(const char *digest, struct sv data, struct buf *bytes_r)
{
	static const struct {
		const char *name;
		enum wc_HashType type;
	} types[] = {
		{ "md5", WC_HASH_TYPE_MD5 },       { "sha1", WC_HASH_TYPE_SHA },
		{ "sha", WC_HASH_TYPE_SHA },       { "sha224", WC_HASH_TYPE_SHA224 },
		{ "sha256", WC_HASH_TYPE_SHA256 }, { "sha384", WC_HASH_TYPE_SHA384 },
		{ "sha512", WC_HASH_TYPE_SHA512 },
	};

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (!str_eq_nocase(digest, types[i].name))
			continue;
		unsigned char out[WC_MAX_DIGEST_SIZE];
		int n = wc_HashGetDigestSize(types[i].type);

		if (n <= 0 || wc_Hash(types[i].type, (const byte *)data.p, (word32)data.len, out,
				      (word32)n) != 0)
			return E_INVAL;
		buf_add(bytes_r, out, (size_t)n);
		return 0;
	}
	return E_INVAL;
}

int tls_fingerprint(const char *digest, struct sv data, struct buf *text_r)
{
	struct buf bytes = BUF_INIT;
	int err = tls_digest(digest, data, &bytes);

	for (size_t i = 0; err == 0 && i < bytes.len; i++)
		buf_printf(text_r, "%s%02X", i > 0 ? ":" : "", (unsigned char)bytes.p[i]);
	buf_fini(&bytes);
	return err;
}
