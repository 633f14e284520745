/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * check_policy_service: another program decides (SMTPD_POLICY_README). The request is made here,
 * the lookup worker carries it over (workers/lookup/source_policy.c), and the answer is an
 * access(5) action. What the worker has to say about the server comes with its answer, so that the
 * log line stands with the session.
 */
#include <stdlib.h>

#include "conf/map_remote.h"
#include "lib/log.h"
#include "policy/policy_int.h"

/* When even the default action cannot be had without asking a server that is down. */
#define LAST_RESORT "451 4.3.5 Server configuration problem"

static void add_text(struct buf *out, const char *name, const char *value)
{
	buf_add_str(out, name);
	buf_add_c(out, '=');
	size_t at = out->len;

	buf_add_str(out, value != NULL ? value : "");
	/* what comes from outside cannot begin another attribute */
	for (size_t i = at; i < out->len; i++) {
		if ((unsigned char)out->p[i] < ' ' || out->p[i] == 127)
			out->p[i] = '?';
	}
	buf_add_c(out, '\n');
}

static void add_number(struct buf *out, const char *name, uint64_t value)
{
	buf_printf(out, "%s=%llu\n", name, (unsigned long long)value);
}

static bool counts_recipients(const char *where)
{
	return strcmp(where, "DATA") == 0 || strcmp(where, "END-OF-MESSAGE") == 0;
}

static void add_client(struct buf *out, const struct policy_view *v)
{
	add_text(out, "protocol_state", v->where);
	add_text(out, "protocol_name", v->protocol);
	add_text(out, "client_address", v->client_addr);
	add_text(out, "client_name", v->client_name);
	add_text(out, "client_port", v->client_port);
	add_text(out, "reverse_client_name", v->reverse_name);
	add_text(out, "server_address", v->server_addr);
	add_text(out, "server_port", v->server_port);
	add_text(out, "helo_name", v->helo);
}

static void add_message(struct buf *out, const struct policy_view *v)
{
	add_text(out, "sender", v->sender);
	add_text(out, "recipient", v->recipient);
	add_number(out, "recipient_count", counts_recipients(v->where) ? v->rcpt_count : 0);
	add_text(out, "queue_id", v->queue_id);
	add_text(out, "instance", v->instance);
	add_number(out, "size", v->size);
	add_text(out, "etrn_domain", v->etrn);
	add_text(out, "stress", v->stress);
}

/* "=", "+", blanks and what is not printable as "+XX" (RFC 3461): certificates hold any text. */
static void add_xtext(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, "%s=", name);
	for (const char *p = value; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;

		if (c <= ' ' || c >= 127 || c == '+' || c == '=')
			buf_printf(out, "+%02X", c);
		else
			buf_add_c(out, *p);
	}
	buf_add_c(out, '\n');
}

/* Servers expect all of the names. */
static void add_security(struct buf *out, const struct policy_view *v)
{
	static const struct policy_tls none = { .protocol = "",
						.cipher = "",
						.sni = "",
						.subject = "",
						.issuer = "",
						.fingerprint = "",
						.key_fingerprint = "" };
	const struct policy_tls *tls = v->tls != NULL ? v->tls : &none;

	add_text(out, "sasl_method", v->sasl_method);
	add_text(out, "sasl_username", v->sasl_user);
	add_text(out, "sasl_sender", v->sasl_sender);
	add_xtext(out, "ccert_subject", tls->is_trusted ? tls->subject : "");
	add_xtext(out, "ccert_issuer", tls->is_trusted ? tls->issuer : "");
	add_text(out, "ccert_fingerprint", tls->fingerprint);
	add_text(out, "ccert_pubkey_fingerprint", tls->key_fingerprint);
	add_text(out, "encryption_protocol", tls->protocol);
	add_text(out, "encryption_cipher", tls->cipher);
	add_number(out, "encryption_keysize", tls->bits);
	add_text(out, "tls_sni", tls->sni);
}

/* The number in front makes questions of one evaluation different, so that a server is asked as
 * often as it is named, and counts right. It does not go over the wire. */
static void make_request(const struct policy_run *r, const struct policy_spec *svc, struct buf *out)
{
	buf_printf(out, "%u\n", r->asked);
	add_text(out, "request", "smtpd_access_policy");
	add_client(out, r->view);
	add_message(out, r->view);
	add_security(out, r->view);
	add_text(out, "policy_context", svc->context);
	add_text(out, "compatibility_level", r->pc->p->compatibility_level);
	add_text(out, "mail_version", r->pc->p->mail_version);
	buf_add_c(out, '\n');
}

/* The worker's answer: lines of a letter and a text, "w" for what goes to the log, "a" for the
 * action. NULL: there is none. */
static char *take_answer(const struct policy_run *r, const struct policy_spec *svc,
			 struct sv answer)
{
	char *action = NULL;

	while (action == NULL && answer.len > 0) {
		struct sv line = sv_next_part(&answer, '\n');

		if (line.len > 0 && line.p[0] == 'w')
			log_warn("%.*s", (int)line.len - 1, line.p + 1);
		else if (line.len > 0 && line.p[0] == 'a')
			action = xstrndup(line.p + 1, line.len - 1);
	}
	if (action != NULL && r->pc->p->smtputf8_enable && !str_is_utf8(action, strlen(action))) {
		str_make_printable(action, strlen(action));
		log_warn("malformed UTF-8 in policy server %s response: \"%.200s\"", svc->name,
			 action);
		free(action);
		action = NULL;
	}
	return action;
}

static bool is_in_fallback(const struct policy_run *r)
{
	for (unsigned i = 0; i < r->depth; i++) {
		if (r->frames[i].fallback)
			return true;
	}
	return false;
}

static enum policy_verdict act(struct policy_run *r, const struct policy_spec *svc,
			       const char *action, bool fallback)
{
	const char *reply_name = policy_top(r)->reply_name,
		   *reply_class = policy_top(r)->reply_class;
	enum policy_verdict v = policy_access_result(r, svc->name, action, "policy query",
						     reply_name, reply_class, false);

	if (v == POLICY_PUSHED && fallback)
		r->frames[r->depth - 1].fallback = true;
	return v;
}

enum policy_verdict rs_policy_service(struct policy_run *r, const struct policy_item *it)
{
	const struct policy_spec *svc = it->service;
	struct buf request = BUF_INIT, answer = BUF_INIT;

	make_request(r, svc, &request);
	enum map_status status = map_remote_ask(svc->remote, buf_sv(&request), &answer);

	buf_fini(&request);
	if (map_memo_is_missing()) {
		r->need.time_ms = svc->longest_ms;
		buf_fini(&answer);
		return POLICY_NEED;
	}
	r->asked++;
	char *action = status == MAP_FOUND ? take_answer(r, svc, buf_sv(&answer)) : NULL;

	buf_fini(&answer);
	if (status != MAP_FOUND)
		log_warn("problem talking to server %s: no answer", svc->endpoint);
	bool fallback = action == NULL;
	const char *text = !fallback           ? action
			   : is_in_fallback(r) ? LAST_RESORT
					       : svc->default_action;
	enum policy_verdict v = act(r, svc, text, fallback);

	free(action);
	return v;
}
