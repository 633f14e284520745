/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS on an outgoing connection; see workers/deliver/conntls.h. */
#include "workers/deliver/conntls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/idn.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "workers/deliver/connlogin.h"
#include "workers/deliver/tlsverify.h"

#define PLAIN_BYTES   16384u       /* read at a time: a record */
#define OUT_MAX       (256u << 10) /* our own is not more than a piece of content */
#define OUT_KEEP_MAX  16384u       /* memory that stays with an idle connection */
#define HANDSHAKE     "Cannot start TLS: handshake failure"
#define CONFIGURATION "client TLS configuration problem"

struct conn_tls {
	struct tls_client *tc;
	struct tls_client_ctx *ctx;
	struct tls *t;
	enum site_level level;
	struct dane *dane;
	bool shaking, established, saved;
	unsigned log; /* TLS_LOG_* */
	char nexthop[DNS_NAME_SIZE];
	char name[DNS_NAME_SIZE]; /* SNI; "" = none */
	struct buf key;           /* of the session */
};

/* ---- plan ---- */

static bool refuse(struct conn *c, unsigned subject, unsigned detail, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

static bool refuse(struct conn *c, unsigned subject, unsigned detail, const char *fmt, ...)
{
	struct client_fault f = { .dsn = { 4, (uint8_t)subject, (uint8_t)detail } };
	struct buf *b = &c->d->scratch;
	va_list ap;

	buf_reset(b);
	va_start(ap, fmt);
	buf_vprintf(b, fmt, ap);
	va_end(ap);
	f.text = buf_sv(b);
	job_failed(c->job, SV("none"), &f);
	return false;
}

static const struct nexthop_alt *alt_of(const struct conn *c)
{
	return &c->dest->nh.alts[c->alt];
}

static void ascii_name(const char *name, char out[DNS_NAME_SIZE])
{
	if (!idn_to_ascii(name, false, out, DNS_NAME_SIZE))
		out[0] = '\0';
}

/* The level without DANE when that cannot be done: by whose fault? False: no mail. */
static bool without_dane(struct conn *c, struct conn_tls *x, bool by_config, bool records,
			 const char *why)
{
	if (by_config)
		log_warn("%s: %s configured with %s", alt_of(c)->host, site_level_name(x->level),
			 why);
	if (x->level == SITE_DANE) {
		x->level = records ? SITE_ENCRYPT : SITE_MAY;
		return true;
	}
	return by_config ? refuse(c, 7, 5, CONFIGURATION) : refuse(c, 7, 5, "%s", why);
}

static bool plan_dane(struct conn *c, struct conn_tls *x, struct dane *dane)
{
	if (alt_of(c)->kind == NEXTHOP_UNIX) {
		log_warn("%s: the \"dane\" security level is invalid for delivery via unix-domain "
			 "sockets",
			 alt_of(c)->host);
		return refuse(c, 7, 5, CONFIGURATION);
	}
	if (!x->tc->policy->dnssec)
		return without_dane(c, x, true, false, "dnssec lookups disabled");
	if (dane == NULL)
		return without_dane(c, x, false, false, "non DNSSEC destination");
	if (dane->insecure_mx && (x->level == SITE_DANE_ONLY || x->tc->insecure_mx <= SITE_MAY))
		return without_dane(c, x, false, false, "non DNSSEC destination");
	if (dane->status == DANE_NONE)
		return without_dane(c, x, false, false,
				    dane->base[0] != '\0' ? "no TLSA records found"
							  : "non DNSSEC destination");
	if (dane->status == DANE_ERROR)
		return refuse(c, 7, 5, "TLSA lookup error for %s:%u", c->host,
			      (unsigned)alt_of(c)->port);
	if (dane->status == DANE_UNUSABLE)
		return without_dane(c, x, false, true, "TLSA records unusable");
	if (dane->insecure_mx && x->tc->insecure_mx == SITE_ENCRYPT)
		return without_dane(c, x, false, true, "MX RRset is insecure");
	if (dane->insecure_mx)
		x->level = SITE_HALF_DANE;
	x->dane = dane_ref(dane);
	return true;
}

/* The name that the server is asked for. False: the parameter is no name. */
static bool plan_name(struct conn *c, struct conn_tls *x)
{
	const char *name = c->site->servername != NULL ? c->site->servername : x->tc->servername;

	if (x->dane != NULL && x->level >= SITE_HALF_DANE && x->level <= SITE_DANE_ONLY)
		name = x->dane->base;
	else if (strcmp(name, "hostname") == 0)
		name = c->host;
	else if (strcmp(name, "nexthop") == 0)
		name = x->nexthop;
	else if (*name != '\0' && !mail_hostname_is_valid(sv_from(name))) {
		log_warn("\"%s_tls_servername = %s\" specifies an invalid hostname",
			 x->tc->policy->lmtp ? "lmtp" : "smtp", name);
		return false;
	}
	ascii_name(mail_hostaddr_is_valid(sv_from(name)) ? "" : name, x->name);
	return true;
}

static bool plan_match(struct conn *c, const struct conn_tls *x)
{
	if (x->level == SITE_FINGERPRINT && c->site->match_count == 0 &&
	    *x->tc->fingerprints == '\0') {
		log_warn("nexthop domain %s: configured at fingerprint security level, but with no "
			 "fingerprints to match.",
			 alt_of(c)->host);
		return false;
	}
	return x->level < SITE_VERIFY || !x->tc->anchors_failed;
}

/* A server that the policy shuts out before anything is said to it. */
static bool is_shut_out(struct conn *c, const struct conn_tls *x)
{
	const char *prefix = x->tc->policy->lmtp ? "lmtp" : "smtp";

	if (x->tc->policy->wrapper && x->level < SITE_ENCRYPT) {
		log_warn("%s_tls_wrappermode requires \"%s_tls_security_level = encrypt\" (or "
			 "stronger)",
			 prefix, prefix);
		refuse(c, 7, 5, CONFIGURATION);
		return true;
	}
	if (!tls_site_has_mx(c->site, c->host)) {
		log_warn("MX name '%s' does not match STS MX pattern for '%s'", c->host,
			 alt_of(c)->host);
		refuse(c, 7, 5, "MX name '%s' does not match the MTA-STS policy of %s", c->host,
		       alt_of(c)->host);
		return true;
	}
	return false;
}

bool conn_tls_plan(struct conn *c, struct dane *dane)
{
	struct tls_client *tc = c->dest->t->tls_client;
	uint8_t dsn[3] = { 4, 7, 5 };
	const char *why = CONFIGURATION;
	struct conn_tls *x;
	bool fine;

	conn_tls_close(c);
	if (tc == NULL || c->plain)
		return true;
	c->site = tls_site_ref(c->dest->alts[c->alt].site);
	x = xcalloc(1, sizeof(*x));
	x->tc = tc;
	c->tls = x;
	x->level = tls_policy_host_level(tc->policy, c->site, c->host, dsn, &why);
	if (x->level == SITE_INVALID)
		return refuse(c, dsn[1], dsn[2], "%s", why);
	if (x->level >= SITE_DANE && x->level <= SITE_DANE_ONLY && !plan_dane(c, x, dane))
		return false;
	if (is_shut_out(c, x))
		return false;
	if (x->level == SITE_NONE)
		return true;
	ascii_name(alt_of(c)->host, x->nexthop);
	fine = plan_name(c, x) && plan_match(c, x);
	return fine || refuse(c, 7, 5, CONFIGURATION);
}

void conn_tls_attach(struct conn *c)
{
	struct conn_tls *x = c->tls;

	if (x == NULL || x->level == SITE_NONE || (x->tc->unavailable && x->level == SITE_MAY))
		return;
	c->client.tls = x->level > SITE_MAY ? CLIENT_TLS_MUST : CLIENT_TLS_MAY;
	if (x->tc->policy->wrapper) {
		client_wrap(&c->client);
		conn_tls_start(c);
	}
}

/* ---- sessions ---- */

/* What was agreed with another server, or under another policy, is no session for this one. */
static void make_key(struct conn *c, struct conn_tls *x)
{
	buf_reset(&x->key);
	buf_printf(&x->key, "%s&%s&%s&%d&%u&%s", alt_of(c)->host, c->relay, x->name, (int)x->level,
		   x->ctx->number, c->site->source);
}

static void restore_session(struct conn_tls *x)
{
	struct sv blob;

	if (x->tc->keeps_sessions &&
	    tls_client_session_get(x->tc, buf_sv(&x->key), clock_now().ms, &blob) &&
	    tls_session_restore(x->t, blob) != 0)
		tls_client_session_drop(x->tc, buf_sv(&x->key));
}

static void save_session(struct conn_tls *x)
{
	struct buf blob = BUF_INIT;

	if (tls_session_save(x->t, &blob) == 0)
		tls_client_session_put(x->tc, buf_sv(&x->key), clock_now().ms, buf_sv(&blob));
	x->saved = true;
	buf_fini(&blob);
}

/* ---- handshake ---- */

void conn_tls_start(void *ctx)
{
	struct conn *c = ctx;
	struct conn_tls *x = c->tls;

	x->shaking = true;
	c->encrypts = true;
	if (!x->tc->unavailable)
		x->ctx = tls_client_ctx_get(x->tc, c->site, x->level);
	if (x->ctx == NULL)
		return;
	x->log = tls_client_log(x->tc, c->host, c->ip);
	if ((x->log & TLS_LOG_VERBOSE) != 0)
		log_as(c->dest->t->program, LOG_LEVEL_INFO, "setting up TLS connection to %s",
		       c->relay);
	x->t = tls_new(x->ctx->ctx);
	if (x->name[0] != '\0')
		tls_set_name(x->t, x->name);
	make_key(c, x);
	restore_session(x);
}

static void log_summary(const struct conn *c, const struct conn_tls *x, const struct tls_verdict *v)
{
	struct buf line = BUF_INIT;
	struct tls_info info;

	tls_info_get(x->t, &info);
	buf_printf(&line, "%s TLS connection established to %s: %s with cipher %s (%u/%u bits)",
		   tls_verdict_word(v, x->level), c->relay, info.protocol, info.cipher, info.bits,
		   info.alg_bits);
	if (info.key_exchange[0] != '\0')
		buf_printf(&line, " key-exchange %s", info.key_exchange);
	if (info.key_exchange[0] != '\0' && info.group[0] != '\0')
		buf_printf(&line, " (%s)", info.group);
	tls_info_add_signatures(&info, "", &line);
	log_as(c->dest->t->program, LOG_LEVEL_INFO, "%s", buf_cstr(&line));
	buf_fini(&line);
}

static void issuer_name(struct sv cert, struct buf *out)
{
	struct x509 x;

	buf_reset(out);
	buf_add_str(out, "/CN=");
	if (x509_parse(cert, &x) != 0 || x509_common_name(x.issuer, out) != 0) {
		buf_reset(out);
		buf_add_str(out, "<unknown>");
	}
	str_make_printable(out->p, out->len);
}

/* Why a certificate is not what it must be. */
static void log_mistrust(const struct conn *c, const struct conn_tls *x,
			 const struct tls_verdict *v, const struct sv *chain)
{
	const char *role = v->failed_idx > 0 ? "CA" : "server", *to = c->relay;
	const char *program = c->dest->t->program;
	struct buf name = BUF_INIT;

	if (!v->present)
		log_as(program, LOG_LEVEL_INFO, "server certificate is missing for %s", to);
	else if (v->trusted)
		log_as(program, LOG_LEVEL_INFO,
		       "server certificate verification failed for %s: num=62:hostname mismatch",
		       to);
	else if (x->level <= SITE_DANE_ONLY && v->flags == TLS_CERT_UNTRUSTED)
		log_as(program, LOG_LEVEL_INFO,
		       "certificate verification failed for %s: not trusted by local or TLSA "
		       "policy",
		       to);
	else if ((v->flags & TLS_CERT_SELF_SIGNED) != 0 && v->failed_idx == 0)
		log_as(program, LOG_LEVEL_INFO,
		       "certificate verification failed for %s: self-signed certificate", to);
	else if ((v->flags & TLS_CERT_UNTRUSTED) != 0) {
		issuer_name(chain[v->failed_idx], &name);
		log_as(program, LOG_LEVEL_INFO,
		       "certificate verification failed for %s: untrusted issuer %s", to,
		       buf_cstr(&name));
	} else {
		log_as(program, LOG_LEVEL_INFO, "%s certificate verification failed for %s: %s",
		       role, to, tls_judge_text(v->flags));
	}
	buf_fini(&name);
}

/* The names or fingerprints that the level asks for. */
static unsigned demand_match(const struct conn *c, const struct conn_tls *x,
			     struct sv words[SITE_MATCH_MAX])
{
	const struct tls_client *tc = x->tc;

	switch (x->level) {
	case SITE_HALF_DANE:
	case SITE_DANE:
	case SITE_DANE_ONLY:
		words[0] = sv_from(x->dane->base);
		words[1] = SV("nexthop");
		return alt_of(c)->mx ? 2 : 1;
	case SITE_FINGERPRINT:
		return tls_client_words(tc->fingerprints, ',', words, SITE_MATCH_MAX);
	case SITE_SECURE:
		return tls_client_words(tc->secure_match, ':', words, SITE_MATCH_MAX);
	default:
		return tls_client_words(tc->verify_match, ':', words, SITE_MATCH_MAX);
	}
}

/* Is the server the one that the mail is for? */
static bool is_right_server(const struct conn *c, const struct conn_tls *x, struct tls_verdict *v)
{
	bool by_site = c->site->match_count > 0 &&
		       (x->level == SITE_FINGERPRINT || x->level >= SITE_VERIFY);
	struct sv words[SITE_MATCH_MAX];
	struct tls_demand demand = {
		.level = x->level,
		.trust = x->tc->anchors != NULL && x->level >= SITE_VERIFY ? x->tc->anchors
									   : x->tc->trust,
		.match = by_site ? c->site->match : words,
		.match_count = by_site ? c->site->match_count : demand_match(c, x, words),
		.digest = x->tc->digest,
		.dane = x->dane,
		.names = { x->nexthop, c->host },
		.depth = x->tc->depth,
	};
	const struct sv *chain = NULL;
	size_t count = tls_peer_chain(x->t, &chain);
	struct buf name = BUF_INIT;
	bool must = x->level > SITE_ENCRYPT;
	const unsigned matched = TLS_LOG_VERBOSE | TLS_LOG_CERTMATCH | TLS_LOG_PEERCERT;

	*v = (struct tls_verdict){ .present = count > 0 };
	if (must || x->log != 0)
		tls_verify(&demand, chain, count, v, &name);
	if ((must || (x->log & TLS_LOG_UNTRUSTED) != 0) && !v->matched)
		log_mistrust(c, x, v, chain);
	else if (must && (x->log & matched) != 0 && name.len > 0)
		log_as(c->dest->t->program, LOG_LEVEL_INFO, "%s: matched peername: %s", c->relay,
		       buf_cstr(&name));
	buf_fini(&name);
	return !must || v->matched;
}

static void established(struct conn *c, struct conn_tls *x)
{
	struct tls_verdict v;
	struct tls_info info;
	bool right = is_right_server(c, x, &v);

	x->established = true;
	tls_info_get(x->t, &info);
	counter_add(c->d->counters, CTR_deliver_tls_sessions, 1);
	counter_add(c->d->counters, CTR_deliver_tls_resumed, info.resumed);
	if ((x->log & TLS_LOG_SUMMARY) != 0)
		log_summary(c, x, &v);
	if (right) {
		c->client.verified = x->level > SITE_ENCRYPT && v.matched;
		client_secured(&c->client);
		return;
	}
	counter_add(c->d->counters, CTR_deliver_tls_mistrusted, 1);
	tls_client_session_drop(x->tc, buf_sv(&x->key));
	client_tls_failed(&c->client, "Server certificate not verified");
}

static void handshake_failed(struct conn *c, struct conn_tls *x)
{
	log_as(c->dest->t->program, LOG_LEVEL_INFO, "SSL_connect error to %s: -1", c->relay);
	log_as(c->dest->t->program, LOG_LEVEL_WARN, "TLS library problem: %s", tls_error(x->t));
	tls_client_session_drop(x->tc, buf_sv(&x->key));
	counter_add(c->d->counters, CTR_deliver_tls_failures, 1);
	client_tls_failed(&c->client, HANDSHAKE);
}

void conn_tls_step(struct conn *c)
{
	struct conn_tls *x = c->tls;
	int err;

	if (!x->shaking || c->dead)
		return;
	if (x->t == NULL) {
		x->shaking = false;
		counter_add(c->d->counters, CTR_deliver_tls_failures, 1);
		client_tls_failed(&c->client,
				  x->tc->unavailable
					  ? "TLS is required, but our TLS engine is unavailable"
					  : HANDSHAKE);
		return;
	}
	err = tls_handshake(x->t);
	if (err == E_AGAIN)
		return;
	x->shaking = false;
	if (err != 0)
		handshake_failed(c, x);
	else
		established(c, x);
}

void conn_tls_lost(const struct conn *c, const char *why)
{
	struct conn_tls *x = c->tls;

	if (!x->shaking)
		return;
	counter_add(c->d->counters, CTR_deliver_tls_failures, 1);
	log_as(c->dest->t->program, LOG_LEVEL_INFO, "SSL_connect error to %s: %s", c->relay, why);
}

bool conn_tls_may_go_plain(const struct conn *c)
{
	const struct job *j = c->job;

	return c->encrypts && c->tls->level == SITE_MAY && !conn_login_is_wanted(c) &&
	       (int64_t)j->pj.active_us - j->env.arrival_us >= c->dest->t->min_backoff_ms * 1000;
}

bool conn_tls_is_early(const struct conn *c)
{
	char byte;

	return c->client.conf->block_early != NULL && c->client.by_starttls && c->encrypts &&
	       (tls_waiting(c->tls->t) > 0 || recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0);
}

/* ---- bytes ---- */

void conn_tls_input(struct conn *c, const char *data, size_t len)
{
	struct conn_tls *x = c->tls;
	char plain[PLAIN_BYTES];
	int n;

	if (x->t == NULL)
		return;
	/* who asks for answers of the protocol all the time, and takes none */
	if (tls_out(x->t)->len > OUT_MAX) {
		client_closed(&c->client);
		return;
	}
	tls_feed(x->t, data, len);
	conn_tls_step(c);
	if (!x->established)
		return;
	while (!c->dead && (n = tls_read(x->t, plain, sizeof(plain))) != E_AGAIN) {
		if (n > 0) {
			if (!x->saved)
				save_session(x);
			client_input(&c->client, plain, (size_t)n);
			continue;
		}
		if (n != E_EOF)
			log_as(c->dest->t->program, LOG_LEVEL_WARN, "TLS library problem: %s: %s",
			       c->relay, tls_error(x->t));
		client_closed(&c->client);
	}
}

int conn_tls_flush(struct conn *c)
{
	struct buf *out;

	if (c->tls->t == NULL)
		return 1;
	out = tls_out(c->tls->t);
	while (out->len > 0) {
		ssize_t n = send(c->fd, out->p, out->len, MSG_NOSIGNAL);

		if (n > 0)
			buf_consume(out, (size_t)n);
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		else if (n == 0 || errno != EINTR)
			return -1;
	}
	if (out->cap > OUT_KEEP_MAX)
		buf_fini(out);
	return 1;
}

ssize_t conn_tls_send(struct conn *c, const struct msghdr *msg)
{
	size_t all = 0;

	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		const struct iovec *v = &msg->msg_iov[i];

		if (v->iov_len == 0)
			continue;
		if (tls_write(c->tls->t, v->iov_base, v->iov_len) != 0) {
			errno = EPIPE;
			return -1;
		}
		all += v->iov_len;
	}
	if (conn_tls_flush(c) < 0)
		return -1;
	return (ssize_t)all;
}

void conn_tls_close(struct conn *c)
{
	struct conn_tls *x = c->tls;

	tls_site_unref(&c->site);
	if (x == NULL)
		return;
	if (c->encrypts && x->t != NULL && c->fd >= 0) {
		if (x->established)
			tls_goodbye(x->t);
		(void)conn_tls_flush(c);
	}
	c->tls = NULL;
	c->encrypts = false;
	tls_free(&x->t);
	tls_client_ctx_unref(&x->ctx);
	dane_unref(&x->dane);
	buf_fini(&x->key);
	free(x);
}
