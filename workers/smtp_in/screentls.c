/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS of a dialogue of postscreen; see workers/smtp_in/screentls.h. */
#include "workers/smtp_in/screentls.h"

#include <stdlib.h>

#include "lib/err.h"
#include "lib/log.h"
#include "shm/counters.h"
#include "workers/smtp_in/peertls.h"
#include "workers/smtp_in/session.h"

#define PROGRAM "tlsproxy"

struct screentls {
	const struct listener_tls *conf;
	const char *peer, *service_name;
	struct tls *t;
	struct peertls client;
	unsigned log; /* TLS_LOG_* */
	bool on, has_failed, said_goodbye;
};

struct screentls *screentls_new(const struct listener_tls *conf, const char *addr, const char *peer,
				const char *service_name)
{
	struct screentls *x = xcalloc(1, sizeof(*x));

	x->conf = conf;
	x->peer = peer;
	x->service_name = service_name;
	x->log = listener_tls_log(conf, "", addr);
	log_as(PROGRAM, LOG_LEVEL_INFO, "CONNECT from %s", peer);
	if ((x->log & TLS_LOG_VERBOSE) != 0)
		log_as(PROGRAM, LOG_LEVEL_INFO, "setting up TLS connection from %s", peer);
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
	peertls_fini(&x->client);
	tls_free(&x->t);
	free(x);
	*xp = NULL;
}

bool screentls_is_on(const struct screentls *x)
{
	return x != NULL && x->on;
}

static int handshake_done(struct screentls *x)
{
	const struct sv *chain;

	if (x->conf->require_cert && tls_peer_chain(x->t, &chain) == 0) {
		log_warn("TLS library problem: peer did not return a certificate");
		return E_PEER;
	}
	x->on = true;
	counter_add(session_counters, CTR_smtpd_tls_sessions, 1);
	peertls_look(&x->client, x->conf, x->t, x->peer, x->log);
	if (x->client.info.resumed)
		counter_add(session_counters, CTR_smtpd_tls_resumed, 1);
	return 0;
}

int screentls_feed(struct screentls *x, const char *data, size_t len)
{
	tls_feed(x->t, data, len);
	if (x->on)
		return 0;
	int err = tls_handshake(x->t);

	log_speak_as(PROGRAM);
	if (err == 0)
		err = handshake_done(x);
	else if (err != E_AGAIN && tls_error(x->t)[0] != '\0')
		log_warn("TLS library problem: %s", tls_error(x->t));
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
