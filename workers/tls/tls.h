/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * TLS for both directions, without sockets: bytes of the peer go in with tls_feed(), what is for
 * the peer comes out in tls_out(), plain text goes through tls_read() and tls_write(). smtp-in and
 * deliver use it. All of the TLS library is behind this header.
 *
 *   made at start, with rights (files are read, nothing later):
 *     tls_keys   keys and certificate chains          tls_trust  authorities
 *     tls_ctx    one configuration: versions, suites, groups, keys; costs some 10 kB
 *   per connection: struct tls. Server: keys are chosen by what the client's hello says (name,
 *   algorithms), and nothing of the library is allocated before a whole hello has come.
 *
 *   t = tls_new(...); loop: tls_feed(received); tls_handshake(t) until 0; then tls_read until
 * E_AGAIN; after each call: send what is in tls_out().
 *
 * Certificates of peers never end a handshake: they are kept (tls_peer_chain) and judged by
 * tls_judge() after it; the caller decides. Versions below 1.2 do not exist here.
 *
 * A key pair signs for the process that loaded it: never fork with a struct tls or ctx in use.
 * Not thread-safe. Errors are E_*; text for the log from tls_error().
 */
#ifndef PH_WORKERS_TLS_TLS_H
#define PH_WORKERS_TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/str.h"

struct conf_diag;
struct tls;
struct tls_ctx;
struct tls_keys;
struct tls_trust;
struct tls_tickets;

#define TLS_CHAIN_MAX       12     /* certificates of a peer that are looked at */
#define TLS_CHAIN_BYTES_MAX 65536u /* of all of them */
#define TLS_NAME_MAX        255

/* ---- what is logged ---- */

enum { /* smtpd_tls_loglevel and its like */
       TLS_LOG_SUMMARY = 1,
       TLS_LOG_UNTRUSTED = 2, /* why a certificate is not trusted, though nobody asks for that */
       TLS_LOG_PEERCERT = 4,
       TLS_LOG_CERTMATCH = 8,
       TLS_LOG_VERBOSE = 16,
};
/* Numbers and words of Postfix; 0, with a warning about `param`, when one is none of them. */
unsigned tls_log_parse(const char *param, const char *text);

/* ---- configuration ---- */

enum { TLS_1_2 = 1, TLS_1_3 = 2, TLS_ALL_VERSIONS = 3 };

/* ">=TLSv1.2", "!SSLv2, !TLSv1", "TLSv1.2 TLSv1.3", "<=0303": versions as a mask of TLS_1_x. Older
 * ones are read and left out. E_SYNTAX with the bad word; E_CONFIG: nothing is left. */
int tls_versions_parse(const char *text, unsigned *versions_r, struct sv *bad_r);

/* Suites of 1.2 as OpenSSL names, best first, joined with ':'. `cipherlist` is an OpenSSL cipher
 * string (tls_high_cipherlist, ...), `exclude` lists of words as of smtpd_tls_exclude_ciphers
 * ("A+B" is both). Suites without encryption only where `cipherlist` names eNULL or them. Those
 * of 1.3 are not chosen by such strings, as with OpenSSL. */
void tls_suites_eval(const char *cipherlist, const char *exclude, struct buf *names_r);
/* Grade: high, medium, low, export (these two as medium), null. NULL: no such grade. */
const char *tls_grade_list(const char *grade, const char *high, const char *medium);

/* Problems of files go to d, with the parameter's name, the file's, and what was wrong. */
struct tls_key_files {      /* "" or NULL = none; names as of the parameters, for messages */
	const char *prefix; /* "smtpd_tls_", "smtp_tls_" */
	const char *chain_files;
	const char *cert_file, *key_file, *dcert_file, *dkey_file, *eccert_file, *eckey_file;
};
int tls_keys_load(const struct tls_key_files *f, struct conf_diag *d, struct tls_keys **keys_r);
/* The same from PEM text (values of tls_server_sni_maps, of policies). `why` gets the problem. */
int tls_keys_parse(struct sv pem, struct tls_keys **keys_r, struct buf *why);
bool tls_keys_is_empty(const struct tls_keys *k); /* NULL is empty, too */
void tls_keys_free(struct tls_keys **k);

/* `param`: for messages. ca_path: a directory of c_rehash; all its files are loaded. */
int tls_trust_load(const char *param, const char *ca_file, const char *ca_path, bool system_too,
		   struct conf_diag *d, struct tls_trust **trust_r);
/* One more authority: certificates in PEM (a trust anchor file) or one in DER. Works later, too. */
int tls_trust_add(struct tls_trust **trust, struct sv cert);
void tls_trust_free(struct tls_trust **t);

struct tls_setup {
	bool is_server;
	unsigned versions;  /* TLS_1_x */
	const char *suites; /* of tls_suites_eval() */
	const char *groups; /* tls_eecdh_auto_curves and so on: names, best first; NULL = ours */
	const struct tls_keys *keys; /* outlive the ctx; a server without keys cannot shake hands */
	/* servers */
	bool own_order; /* tls_preempt_cipherlist */
	bool ask_peer;  /* ask clients for a certificate; such sessions are not resumed */
	bool no_tickets;
	struct tls_tickets *tickets; /* NULL: keys of this process alone */
	/* servers: other keys for this name (lower case)? NULL = no. They outlive the session. */
	const struct tls_keys *(*keys_of_name)(void *arg, const char *name);
	void *arg;
};
/* E_CONFIG with the reason in `why`. */
int tls_ctx_new(const struct tls_setup *setup, struct tls_ctx **ctx_r, struct buf *why);
void tls_ctx_free(struct tls_ctx **ctx);

/* ---- keys of session tickets ----
 *
 * A server's tickets are sealed with a key that all processes with the same seed know. It changes
 * every hour by a one-way step, tickets of the hour before are still read. */
#define TLS_SEED_BYTES 32u
struct tls_tickets *tls_tickets_new(const uint8_t seed[TLS_SEED_BYTES], int64_t seed_hour);
void tls_tickets_free(struct tls_tickets **t);
/* One step of the seed, as every hour does: for who hands it out. */
void tls_seed_step(uint8_t seed[TLS_SEED_BYTES]);

/* ---- one connection ---- */

struct tls *tls_new(struct tls_ctx *ctx); /* never NULL */
void tls_free(struct tls **t);
/* Clients, before the first tls_handshake(). The name to ask for (SNI); none for an address. */
void tls_set_name(struct tls *t, const char *name);
/* Clients: go on with a session of tls_session_save(). E_CORRUPT: it is none, a new one begins. */
int tls_session_restore(struct tls *t, struct sv blob);

/* From the peer. Taken whole; who feeds while tls_read() could go on makes it grow. */
void tls_feed(struct tls *t, const void *data, size_t len);
/* 0: done. E_AGAIN: more has to come. E_PEER: failed, see tls_error(). */
int tls_handshake(struct tls *t);
/* Plain text: > 0 bytes; E_AGAIN; E_EOF: the peer said goodbye; E_PEER. */
int tls_read(struct tls *t, void *to, size_t size);
/* All of it is sealed at once, into tls_out(). 0, or E_PEER after an error. */
int tls_write(struct tls *t, const void *data, size_t len);
void tls_goodbye(struct tls *t); /* close_notify into tls_out() */
/* For the peer; take it with buf_consume(). */
struct buf *tls_out(struct tls *t);
size_t tls_waiting(const struct tls *t);    /* bytes fed and not used */
const char *tls_error(const struct tls *t); /* "" = none; printable */
size_t tls_memory(const struct tls *t);

struct tls_signature {
	const char *name;   /* "RSA-PSS", "ECDSA", "ED25519"; "" or NULL = none, or not known */
	char detail[16];    /* "2048 bits", "prime256v1"; "" = none */
	const char *digest; /* "SHA256"; "" = none, or not known */
};

struct tls_info {             /* after the handshake; texts live as long as the session */
	const char *protocol; /* "TLSv1.3" */
	const char *cipher;   /* OpenSSL's name */
	unsigned bits, alg_bits;
	const char *key_exchange; /* "X25519", "ECDHE", "DHE"; "" = unknown */
	const char *group;        /* "", of ECDHE in 1.2 */
	struct tls_signature server_signature, client_signature; /* of new sessions of 1.3 */
	bool resumed;
	const char *name; /* SNI: asked for or sent; "" = none */
};
void tls_info_get(const struct tls *t, struct tls_info *info_r);
/* " server-signature ECDSA (prime256v1) server-digest SHA256", and `fold` and the same of the
 * client's; nothing of what is not known. */
void tls_info_add_signatures(const struct tls_info *info, const char *fold, struct buf *out);

/* Clients: what to keep for tls_session_restore(): the session and the peer's chain, some kB. It is
 * there after the first tls_read() that followed the handshake, and with 1.3 only. 0 or E_NOENT:
 * there is none, or it is the one that was restored, which then goes on to be of use. */
int tls_session_save(struct tls *t, struct buf *blob);
/* RFC 9266 (1.3) or RFC 5929 tls-unique of 1.2 is not offered: 0 or E_NOENT. */
int tls_exporter(struct tls *t, uint8_t out[32]);

/* ---- certificates ---- */

/* Certificates as the peer sent them, leaf first; of a resumed session as they were then. 0 = it
 * sent none. They live as long as the session. */
size_t tls_peer_chain(const struct tls *t, const struct sv **der_r);

enum {
	TLS_CERT_UNTRUSTED = 1, /* no path to an authority */
	TLS_CERT_EXPIRED = 2,
	TLS_CERT_NOT_YET = 4,
	TLS_CERT_SELF_SIGNED = 8, /* with UNTRUSTED: the top is signed by itself */
	TLS_CERT_PURPOSE = 16,    /* not for this use */
	TLS_CERT_DEPTH = 32,      /* the path is longer than allowed */
	TLS_CERT_BROKEN = 64,     /* cannot be read */
};
enum tls_purpose { TLS_FOR_SERVER, TLS_FOR_CLIENT, TLS_FOR_ANY };

/* Flags of all that is wrong with a chain; 0 = trusted. max_depth as of
 * smtpd_tls_ccert_verifydepth. `failed_idx_r` (may be NULL): the certificate it is about. */
unsigned tls_judge(const struct tls_trust *trust, const struct sv *chain, size_t count,
		   unsigned max_depth, enum tls_purpose purpose, size_t *failed_idx_r);
/* Is `cert` signed by the key of `issuer`, and may that one sign (a CA)? For DANE. */
bool tls_is_signed_by(struct sv cert, struct sv issuer);
const char *tls_judge_text(unsigned flags); /* OpenSSL's words for the first */

struct x509 {                                         /* views into the certificate */
	struct sv der, spki, subject, issuer, serial; /* names as DER */
	struct sv names;                              /* subjectAltName, for x509_next_dns() */
	int64_t not_before_s, not_after_s;
	bool is_ca, has_path_len, has_key_usage, may_sign_certs, has_eku, eku_server, eku_client,
		eku_any;
	unsigned path_len;
};
/* E_SYNTAX. */
int x509_parse(struct sv der, struct x509 *x_r);
/* How a key of this kind (a SubjectPublicKeyInfo) signs in TLS 1.3. */
void x509_signature(struct sv spki, struct tls_signature *s_r);
/* The next DNS name of subjectAltName; `at` begins as 0. False: no more. Not checked: may contain
 * anything. */
bool x509_next_dns(const struct x509 *x, size_t *at, struct sv *name_r);
/* The last common name of a DN as UTF-8; E_NOENT, E_SYNTAX (a NUL in it). */
int x509_common_name(struct sv dn, struct buf *out);

/* digest: md5 sha1 sha224 sha256 sha384 sha512. Digest as bytes / as "AB:CD:...". E_INVAL: no such.
 */
int tls_digest(const char *digest, struct sv data, struct buf *bytes_r);
int tls_fingerprint(const char *digest, struct sv data, struct buf *text_r);

#endif
