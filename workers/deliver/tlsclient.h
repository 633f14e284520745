/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a transport needs to speak TLS: our keys, the authorities, contexts of the library by
 * protocols and ciphers, and sessions to go on with. main.c makes it while files can be read;
 * conntls.c uses it.
 */
#ifndef PH_WORKERS_DELIVER_TLSCLIENT_H
#define PH_WORKERS_DELIVER_TLSCLIENT_H

#include "conf/peermap.h"
#include "lib/hash.h"
#include "workers/deliver/tlspolicy.h"
#include "workers/tls/tls.h"

#define TLS_SESSION_MAX       1000u      /* kept by one transport of one worker */
#define TLS_SESSION_BYTES_MAX (4u << 20) /* all of them together */

struct tls_client_ctx { /* counted: connections outlive their place in the cache */
	struct tls_client_ctx *next;
	unsigned refs;
	unsigned number;
	unsigned versions;
	char *suites;
	struct tls_ctx *ctx;
};

struct tls_client {
	const char *transport;
	const struct tls_policy *policy;
	bool unavailable; /* keys or authorities cannot be loaded: no TLS */
	struct tls_keys *keys;
	struct tls_trust *trust;   /* smtp_tls_CAfile, smtp_tls_CApath */
	struct tls_trust *anchors; /* smtp_tls_trust_anchor_file; NULL: none */
	bool anchors_failed;
	const char *high, *medium, *groups; /* tls_high_cipherlist ... */
	const char *protocols, *mandatory_protocols;
	const char *ciphers, *mandatory_ciphers;
	const char *exclude, *mandatory_exclude;
	const char *servername, *digest, *fingerprints, *verify_match, *secure_match;
	const char *dane_digests;
	enum site_level insecure_mx; /* smtp_tls_dane_insecure_mx_policy */
	bool force_tlsa;             /* smtp_tls_force_insecure_host_tlsa_lookup */
	unsigned depth;
	unsigned log;                /* smtp_tls_loglevel: TLS_LOG_* */
	struct peermap *log_maps;    /* smtp_tls_loglevel_maps */
	struct tls_client_ctx *ctxs; /* most recently used first */
	unsigned ctx_count, ctx_number;
	bool keeps_sessions;
	int64_t session_ms;
	struct strmap *sessions;
	struct tls_session_entry *first, *last; /* most recently used first */
	size_t session_bytes;
};

/* What is logged of a server: TLS_LOG_*. */
unsigned tls_client_log(const struct tls_client *tc, const char *host, const char *addr);
/* NULL when the transport has no network or can never speak TLS. Problems of files are told in d
 * and make TLS unavailable, as in Postfix; the mail that needs it waits. */
struct tls_client *tls_client_new(const struct conf *c, const struct conf_transport *ct,
				  const struct tls_policy *policy, struct conf_diag *d);
void tls_client_free(struct tls_client **tc);

/* The context for a site at a level. NULL: its protocols or ciphers are wrong; logged. */
struct tls_client_ctx *tls_client_ctx_get(struct tls_client *tc, const struct tls_site *s,
					  enum site_level level);
void tls_client_ctx_unref(struct tls_client_ctx **ctx); /* NULL is allowed */

/* A session kept under this key; valid until the next call. False: none. */
bool tls_client_session_get(struct tls_client *tc, struct sv key, int64_t now_ms,
			    struct sv *blob_r);
void tls_client_session_put(struct tls_client *tc, struct sv key, int64_t now_ms, struct sv blob);
void tls_client_session_drop(struct tls_client *tc, struct sv key);

/* Words of a parameter's list (white space, commas and `more` between them), into at most `max`
 * views. */
unsigned tls_client_words(const char *list, char more, struct sv *out, unsigned max);

#endif
