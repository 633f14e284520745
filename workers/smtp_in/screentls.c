/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS of a dialogue of postscreen; see workers/smtp_in/screentls.h. */
#include "workers/smtp_in/screentls.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "shm/counters.h"
#include "workers/smtp_in/listentls.h"
#include "workers/smtp_in/session.h"

#define PROGRAM "tlsproxy"

struct screentls {
	const struct listener_tls *conf;
	const char *peer, *service_name;
	struct tls *t;
	bool on, has_failed, said_goodbye;
};

struct screentls *screentls_new(const struct listener_tls *conf, const char *peer,
				const char *service_name)
{
	struct screentls *x = xcalloc(1, sizeof(*x));

	x->conf = conf;
	x->peer = peer;
	x->service_name = service_name;
	log_as(PROGRAM, LOG_LEVEL_INFO, "CONNECT from %s", peer);
	x->t = tls_new(conf->ctx);
	return x;
}

static void failed(struct screentls *x)
{
	if (x->on || x->has_failed)
		return;
	x->has_failed = true;
	counter_add(session_counters, CTR_smtpd_tls_failures, 1);
	log_as(PROGRAM, LOG_LEVEL_INFO, "TLS handshake failed for service=%s peer=%s",
	       x->service_name, x->peer);
}

void screentls_free(struct screentls **xp)
{
	struct screentls *x = *xp;

	if (x == NULL)
		return;
	failed(x);
	log_as(PROGRAM, LOG_LEVEL_INFO, "DISCONNECT %s", x->peer);
	tls_free(&x->t);
	free(x);
	*xp = NULL;
}

bool screentls_is_on(const struct screentls *x)
{
	return x != NULL && x->on;
}

/* Is the client's certificate one that we trust? *has_cert_r: it showed one. */
static bool is_trusted(const struct screentls *x, bool *has_cert_r)
{
	const struct listener_tls *conf = x->conf;
	const struct sv *chain;
	size_t count = tls_peer_chain(x->t, &chain);

	*has_cert_r = count > 0;
	return count > 0 &&
	       tls_judge(conf->trust, chain, count, conf->max_depth, TLS_FOR_CLIENT, NULL) == 0;
}

static int handshake_done(struct screentls *x)
{
	struct tls_info info;
	bool has_cert, trusted = is_trusted(x, &has_cert);

	if (x->conf->require_cert && !has_cert) {
		log_as(PROGRAM, LOG_LEVEL_WARN,
		       "TLS library problem: peer did not return a "
		       "certificate");
		return E_PEER;
	}
	x->on = true;
	tls_info_get(x->t, &info);
	counter_add(session_counters, CTR_smtpd_tls_sessions, 1);
	if (info.resumed)
		counter_add(session_counters, CTR_smtpd_tls_resumed, 1);
	if (x->conf->log_level < 1)
		return 0;
	struct buf line = BUF_INIT;

	if (strcmp(info.protocol, "TLSv1.3") == 0 && info.key_exchange[0] != '\0')
		buf_printf(&line, " key-exchange %s", info.key_exchange);
	tls_info_add_signatures(&info, "", &line);
	log_as(PROGRAM, LOG_LEVEL_INFO,
	       "%s TLS connection %s from %s%s%s: %s with cipher %s (%u/%u bits)%s",
	       !has_cert ? "Anonymous"
	       : trusted ? "Trusted"
			 : "Untrusted",
	       info.resumed ? "reused" : "established", x->peer, info.name[0] != '\0' ? " to " : "",
	       info.name, info.protocol, info.cipher, info.bits, info.alg_bits, buf_cstr(&line));
	buf_fini(&line);
	return 0;
}

int screentls_feed(struct screentls *x, const char *data, size_t len)
{
	tls_feed(x->t, data, len);
	if (x->on)
		return 0;
	int err = tls_handshake(x->t);

	if (err == 0)
		err = handshake_done(x);
	else if (err != E_AGAIN && tls_error(x->t)[0] != '\0')
		log_as(PROGRAM, LOG_LEVEL_WARN, "TLS library problem: %s", tls_error(x->t));
	if (err != 0 && err != E_AGAIN)
		failed(x);
	return err;
}

int screentls_read(struct screentls *x, char *to, size_t size)
{
	return tls_read(x->t, to, size);
}

void screentls_write(struct screentls *x, const void *data, size_t len)
{
	/* after an error of the connection there is nothing to be said any more */
	(void)!tls_write(x->t, data, len);
}

void screentls_goodbye(struct screentls *x)
{
	if (!x->on || x->said_goodbye)
		return;
	x->said_goodbye = true;
	tls_goodbye(x->t);
}

struct buf *screentls_out(struct screentls *x)
{
	return tls_out(x->t);
}
