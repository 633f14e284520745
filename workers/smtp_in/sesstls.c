/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS of a session; see workers/smtp_in/sesstls.h. The texts are Postfix's. */
#include "workers/smtp_in/sesstls.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "shm/counters.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/command.h"
#include "workers/smtp_in/peertls.h"
#include "workers/smtp_in/sessmilter.h"

#define READ_BYTES 16384u

struct session_tls {
	struct tls *t;
	bool on, said_goodbye, wraps;
	bool is_refused; /* smtpd_tls_req_ccert: the next command is the last */
	bool was_asked;  /* for a certificate */
	unsigned log;    /* TLS_LOG_* */
	struct policy_tls view;
	struct peertls peer;
};

static const struct listener_tls *conf_of(const struct session *s)
{
	return s->listener->tls;
}

bool session_is_encrypted(const struct session *s)
{
	return s->tls != NULL && s->tls->on;
}

const struct policy_tls *session_tls_view(const struct session *s)
{
	return session_is_encrypted(s) ? &s->tls->view : NULL;
}

bool session_tls_is_offered(const struct session *s)
{
	return conf_of(s) != NULL && !session_is_encrypted(s);
}

void session_tls_free(struct session *s)
{
	struct session_tls *x = s->tls;

	if (x == NULL)
		return;
	tls_free(&x->t);
	peertls_fini(&x->peer);
	free(x);
	s->tls = NULL;
}

/* ---- before it ---- */

static bool is_too_often(struct session *s, unsigned rate)
{
	int64_t limit = s->listener->p->smtpd_client_new_tls_session_rate_limit;

	return limit > 0 && !s->limits_exempt && s->ops->rate != NULL && rate > limit;
}

bool cmd_starttls_check(struct session *s, struct sv args)
{
	if (args.len > 0)
		session_reply(s, "501 5.5.4 Syntax: STARTTLS");
	else if (conf_of(s) == NULL || (s->discard_mask & 1u << EHLO_STARTTLS) != 0)
		session_reply(s, "502 5.5.1 Error: command not implemented");
	else if (session_is_encrypted(s))
		session_reply(s, "554 5.5.1 Error: TLS already active");
	else if (conf_of(s)->ctx == NULL)
		session_reply(s, "454 4.7.0 TLS not available due to local problem");
	else
		return true;
	return false;
}

enum cmd_outcome cmd_starttls_apply(struct session *s)
{
	session_reply(s, "220 2.0.0 Ready to start TLS");
	s->state = SESSION_STARTTLS;
	s->deadline_ms = clock_now().ms + s->listener->p->smtpd_starttls_timeout;
	return CMD_WAITS;
}

size_t session_tls_discard(struct session *s UNUSED, const char *p UNUSED, size_t len)
{
	return len;
}

bool session_tls_is_due(const struct session *s)
{
	return s->state == SESSION_STARTTLS && s->tls == NULL && s->out.len == 0;
}

bool session_tls_wraps(struct session *s)
{
	if (conf_of(s) == NULL || !conf_of(s)->wrapper)
		return false;
	s->state = SESSION_STARTTLS;
	s->wait = WAIT_NONE;
	s->deadline_ms = clock_now().ms + s->listener->p->smtpd_starttls_timeout;
	session_tls_begin(s);
	return true;
}

void session_tls_begin(struct session *s)
{
	const struct listener_tls *conf = conf_of(s);

	log_speak_as(s->listener->log_name);
	s->tls = xcalloc(1, sizeof(*s->tls));
	s->tls->wraps = s->pending.cmd == NULL;
	s->tls->was_asked = conf->ask_cert;
	buf_fini(&s->in);
	if (conf->ctx == NULL) { /* of a wrapper: nobody could be told */
		log_warn("TLS is not available for %s", s->namaddr);
		session_broken(s);
		return;
	}
	s->tls->log =
		listener_tls_log(conf, s->name_status == POLICY_NAME_OK ? s->name : "", s->addr);
	if ((s->tls->log & TLS_LOG_VERBOSE) != 0)
		log_info("setting up TLS connection from %s", s->namaddr);
	s->tls->t = tls_new(conf->ctx);
}

/* ---- the handshake is over ---- */

static const char *text_or_empty(const char *text)
{
	return text != NULL ? text : "";
}

static void fill_view(struct session_tls *x)
{
	const struct peertls *p = &x->peer;

	x->view.has_cert = p->has_cert;
	x->view.is_trusted = p->is_trusted;
	x->view.protocol = p->info.protocol;
	x->view.cipher = p->info.cipher;
	x->view.sni = p->info.name;
	x->view.bits = p->info.bits;
	x->view.subject = text_or_empty(p->subject);
	x->view.issuer = text_or_empty(p->issuer);
	x->view.fingerprint = text_or_empty(p->fingerprint);
	x->view.key_fingerprint = text_or_empty(p->key_fingerprint);
}

/* What was said in plain text is forgotten (RFC 3207 4.2). */
static void forget_plain_text(struct session *s)
{
	if (s->helo != NULL)
		session_milter_reset(s, true);
	session_reset_tx(s);
	session_auth_reset(s);
	free(s->helo);
	s->helo = NULL;
}

static bool check_rate(struct session *s)
{
	if (s->tls->peer.info.resumed || s->ops->rate == NULL)
		return true;
	unsigned rate = s->ops->rate(s->ops->ctx, s, RATE_TLS_SESSIONS);

	if (!is_too_often(s, rate))
		return true;
	log_warn("New TLS session rate limit exceeded: %u from %s for service %s", rate, s->namaddr,
		 s->listener->service_name);
	session_reply(s, "421 4.7.0 %s Error: too many new TLS sessions from %s",
		      s->listener->p->myhostname, s->namaddr);
	session_close(s);
	return false;
}

static void handshake_done(struct session *s)
{
	struct session_tls *x = s->tls;

	x->on = true;
	peertls_look(&x->peer, conf_of(s), x->t, s->namaddr, x->log);
	counter_add(session_counters, CTR_smtpd_tls_sessions, 1);
	if (x->peer.info.resumed)
		counter_add(session_counters, CTR_smtpd_tls_resumed, 1);
	fill_view(x);
	x->is_refused = conf_of(s)->require_cert && !x->view.is_trusted;
	if (!check_rate(s))
		return;
	if (x->wraps) {
		s->state = SESSION_GREETING;
		session_greet(s);
	} else {
		forget_plain_text(s);
		session_command_done(s, true);
	}
}

static void handshake_failed(struct session *s, const char *why)
{
	counter_add(session_counters, CTR_smtpd_tls_failures, 1);
	log_info("SSL_accept error from %s: %s", s->namaddr,
		 why[0] != '\0' ? "-1" : "lost connection");
	if (why[0] != '\0')
		log_warn("TLS library problem: %s", why);
	session_log_gone(s, "lost connection");
	session_close(s);
	buf_fini(&s->out);
}

void session_tls_timeout(struct session *s)
{
	counter_add(session_counters, CTR_smtpd_tls_failures, 1);
	log_info("SSL_accept error from %s: Connection timed out", s->namaddr);
	session_log_gone(s, "lost connection");
	session_close(s);
	buf_fini(&s->out);
}

/* ---- between session and socket ---- */

void session_tls_input(struct session *s, const char *data, size_t len)
{
	static char plain[READ_BYTES];
	struct session_tls *x = s->tls;

	log_speak_as(s->listener->log_name);
	if (s->state == SESSION_CLOSING)
		return;
	tls_feed(x->t, data, len);
	if (!x->on) {
		int err = tls_handshake(x->t);

		if (err == 0)
			handshake_done(s);
		else if (err != E_AGAIN)
			handshake_failed(s, tls_error(x->t));
		if (err != 0)
			return;
	}
	for (;;) {
		int n = tls_read(x->t, plain, sizeof(plain));

		if (n > 0)
			session_input(s, plain, (size_t)n);
		else if (n == E_EOF)
			session_eof(s);
		else if (n != E_AGAIN && s->state != SESSION_CLOSING)
			session_broken(s);
		if (n <= 0)
			break;
	}
	explicit_bzero(plain, sizeof(plain));
}

void session_tls_seal(struct session *s)
{
	size_t len = s->out.len;

	if (len == 0 || !session_is_encrypted(s))
		return;
	if (tls_write(s->tls->t, s->out.p, len) == 0)
		session_output_done(s, len);
	else
		session_broken(s);
}

struct buf *session_tls_out(struct session *s)
{
	return s->tls != NULL && s->tls->t != NULL ? tls_out(s->tls->t) : &s->out;
}

void session_tls_goodbye(struct session *s)
{
	if (!session_is_encrypted(s) || s->tls->said_goodbye || s->is_broken)
		return;
	s->tls->said_goodbye = true;
	tls_goodbye(s->tls->t);
}

/* ---- commands ---- */

static bool may_precede(const struct smtp_cmd *cmd)
{
	static const enum cmd_id ids[] = { CMD_HELO, CMD_EHLO, CMD_XCLIENT, CMD_STARTTLS,
					   CMD_NOOP, CMD_QUIT, CMD_HELP };

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		if (smtp_cmd_id(cmd) == ids[i])
			return true;
	}
	return false;
}

bool session_tls_refuses(struct session *s, const struct smtp_cmd *cmd)
{
	const struct listener_tls *conf = conf_of(s);

	if (conf == NULL)
		return false;
	if (session_is_encrypted(s) && s->tls->is_refused) {
		const char *why = s->tls->view.has_cert ? "Client certificate not trusted"
							: "No client certificate presented";

		log_info("NOQUEUE: abort: TLS from %s: %s", s->namaddr, why);
		session_reply(s, "421 4.7.1 %s Error: %s", s->listener->p->myhostname, why);
		session_close(s);
		return true;
	}
	if (!conf->enforce || session_is_encrypted(s) || may_precede(cmd))
		return false;
	session_reply(s, "530 5.7.0 Must issue a STARTTLS command first");
	s->error_count++;
	return true;
}

/* ---- Received: ---- */

static void add_quoted(struct buf *out, const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		buf_add_c(out, *p == '"' || *p == '\\' || *p == '(' || *p == ')' ? '?' : *p);
}

void session_tls_received(const struct session *s, struct buf *out)
{
	const struct session_tls *x = s->tls;

	if (!session_is_encrypted(s) || !s->listener->p->smtpd_tls_received_header)
		return;
	buf_printf(out, "\t(using %s with cipher %s (%u/%u bits)", x->peer.info.protocol,
		   x->peer.info.cipher, x->peer.info.bits, x->peer.info.alg_bits);
	peertls_add_key_exchange(&x->peer.info, "\r\n\t", out);
	buf_add_str(out, ")\r\n");
	if (x->view.has_cert) {
		buf_add_str(out, "\t(Client CN \"");
		add_quoted(out, x->view.subject);
		buf_add_str(out, "\", Issuer \"");
		add_quoted(out, x->view.issuer);
		buf_printf(out, "\" (%s))\r\n",
			   x->view.is_trusted ? "verified OK" : "not verified");
	} else {
		buf_printf(out, "\t(%s)\r\n",
			   x->was_asked ? "Client did not present a certificate"
					: "No client certificate requested");
	}
}
