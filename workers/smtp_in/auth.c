/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See workers/smtp_in/auth.h. Replies and log lines are Postfix's. */
#include "workers/smtp_in/auth.h"

#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "shm/counters.h"
#include "workers/smtp_in/command.h"
#include "workers/smtp_in/sesstalk.h"
#include "workers/smtp_in/sesstls.h"

#define OFFER_WAIT_MS   10000      /* of an EHLO for the first auth worker */
#define ANSWER_GRACE_MS 10000      /* behind auth_timeout, which is the worker's to keep */
#define LONG_LINE_BYTES (1u << 20) /* of one line that are thrown away before we hang up */
#define RESPONSE_MAX    (PROTO_AUTH_TEXT_MAX - 1024)
#define LOST            "Connection lost to authentication server"

static struct session_auth *auth_of(struct session *s)
{
	if (s->auth == NULL)
		s->auth = xcalloc(1, sizeof(*s->auth));
	return s->auth;
}

bool session_auth_is_active(const struct session *s)
{
	const struct listener *l = s->listener;

	return l->sasl && s->ops->auth != NULL &&
	       (session_is_encrypted(s) || !l->p->smtpd_tls_auth_only) &&
	       (s->discard_mask & 1u << EHLO_AUTH) == 0;
}

/* ---- EHLO ---- */

bool session_auth_ready(struct session *s)
{
	if (!session_auth_is_active(s) || s->auth_hidden ||
	    s->ops->auth_offer(s->ops->ctx, s, session_is_encrypted(s)) != NULL ||
	    auth_of(s)->waited)
		return true;
	s->auth->waited = true;
	s->wait = WAIT_AUTH;
	s->sleep_until_ms = clock_now().ms + OFFER_WAIT_MS;
	return false;
}

const char *session_auth_offer(const struct session *s)
{
	if (!session_auth_is_active(s) || s->auth_hidden)
		return NULL;
	const char *list = s->ops->auth_offer(s->ops->ctx, s, session_is_encrypted(s));

	return list != NULL && list[0] != '\0' ? list : NULL;
}

/* ---- who it is ---- */

static void drop(char **text)
{
	free(*text);
	*text = NULL;
}

void session_auth_reset_tx(struct session *s)
{
	if (s->auth != NULL)
		drop(&s->auth->sender);
}

static void end_dialogue(struct session *s)
{
	struct session_auth *a = s->auth;

	if (a->dialogue != 0)
		s->ops->auth(s->ops->ctx, s, AUTH_CANCEL, 0, SV(""));
	a->dialogue = 0;
	a->answered = a->skipping = false;
	drop(&a->mechanism);
	drop(&a->text);
	drop(&a->who);
}

void session_auth_reset(struct session *s)
{
	struct session_auth *a = s->auth;

	if (a == NULL)
		return;
	end_dialogue(s);
	drop(&a->method);
	drop(&a->user);
	drop(&a->sender);
}

void session_auth_fini(struct session *s)
{
	session_auth_reset(s);
	free(s->auth);
	s->auth = NULL;
}

static char *printable(const char *text)
{
	char *copy = xstrdup(text);

	str_make_printable(copy, strlen(copy));
	return copy;
}

static void log_in(struct session *s, const char *user, const char *method)
{
	struct session_auth *a = auth_of(s);

	drop(&a->user);
	drop(&a->method);
	a->user = printable(user);
	a->method = printable(method);
	/* local_header_rewrite_clients */
	if (s->is_local == 0 && s->listener->policy != NULL &&
	    policy_login_is_local_rewrite(s->listener->policy))
		s->is_local = 1;
}

void session_auth_extern(struct session *s, const char *user)
{
	log_in(s, user, "XCLIENT");
}

bool session_auth_mail_param(struct session *s, struct sv value)
{
	struct session_auth *a = auth_of(s);

	if (a->sender != NULL) {
		session_reply(s, "503 5.5.4 Error: multiple AUTH= options");
		return false;
	}
	if (!sv_eq(value, SV("<>"))) {
		a->sender = xstrndup(value.p, value.len);
		str_make_printable(a->sender, strlen(a->sender));
	}
	return true;
}

/* ---- AUTH ---- */

static bool refuse(struct session *s, const char *reply)
{
	session_reply(s, "%s", reply);
	return false;
}

static struct sv next_arg(struct sv *rest)
{
	size_t n = 0;

	*rest = sv_trim(*rest);
	while (n < rest->len && !ascii_is_space(rest->p[n]))
		n++;
	struct sv arg = { rest->p, n };

	*rest = sv_trim((struct sv){ rest->p + n, rest->len - n });
	return arg;
}

bool cmd_auth_check(struct session *s, struct sv args)
{
	struct sv mechanism = next_arg(&args), initial = next_arg(&args);

	if (cmd_too_often(s, RATE_AUTHS, s->listener->p->smtpd_client_auth_rate_limit,
			  "AUTH command")) {
		session_reply(s, "450 4.7.1 Error: too many AUTH commands from %s", s->addr);
		return false;
	}
	if (s->listener->p->smtpd_helo_required && s->helo == NULL)
		return refuse(s, "503 5.5.1 Error: send HELO/EHLO first");
	if (!session_auth_is_active(s))
		return refuse(s, "503 5.5.1 Error: authentication not enabled");
	if (s->tx != NULL)
		return refuse(s, "503 5.5.1 Error: MAIL transaction in progress");
	if (session_auth_is_in(s))
		return refuse(s, "503 5.5.1 Error: already authenticated");
	if (mechanism.len == 0 || args.len > 0)
		return refuse(s, "501 5.5.4 Syntax: AUTH mechanism");
	struct buf *kept = &s->pending.extra; /* milters may be asked first */

	buf_reset(kept);
	buf_reserve(kept, mechanism.len + initial.len + 2);
	buf_add_sv(kept, mechanism);
	buf_add_c(kept, '\0');
	buf_add_sv(kept, initial);
	buf_add_c(kept, '\0');
	return true;
}

static void wipe(struct buf *b)
{
	if (b->p != NULL)
		explicit_bzero(b->p, b->cap);
	buf_fini(b);
}

static void put(struct buf *out, const char *text)
{
	buf_add(out, text, strlen(text) + 1);
}

static void wait_for_answer(struct session *s, int err)
{
	s->wait = WAIT_AUTH;
	s->sleep_until_ms = clock_now().ms + s->listener->p->auth_timeout + ANSWER_GRACE_MS;
	if (err != 0) {
		/* nobody is there to be asked: no answer will come */
		s->wait = WAIT_NONE;
		s->auth->status = AUTH_TEMP;
		s->auth->text = xstrdup(LOST);
		s->auth->answered = true;
	}
}

static void start(struct session *s)
{
	struct session_auth *a = auth_of(s);
	struct buf strings = BUF_INIT, *kept = &s->pending.extra;
	bool has_initial = kept->len > strlen(kept->p) + 2;
	unsigned flags =
		(session_is_encrypted(s) ? AUTH_TLS : 0) | (has_initial ? AUTH_INITIAL : 0);

	end_dialogue(s);
	a->used = true;
	a->mechanism = printable(kept->p);
	buf_reserve(&strings, kept->len + 512);
	put(&strings, s->listener->service_name);
	buf_add_sv(&strings, buf_sv(kept));
	put(&strings, s->addr);
	put(&strings, s->port);
	put(&strings, s->server_addr);
	put(&strings, s->server_port);
	int err = s->ops->auth(s->ops->ctx, s, AUTH_START, flags, buf_sv(&strings));

	wipe(&strings);
	wipe(kept);
	wait_for_answer(s, err);
}

static enum cmd_outcome failed(struct session *s)
{
	struct session_auth *a = s->auth;
	const char *reason =
		a->text != NULL && a->text[0] != '\0' ? a->text : "(reason unavailable)";

	log_warn("%s: SASL %.100s authentication failed: %s, sasl_username=%.100s", s->namaddr,
		 a->mechanism, reason, a->who != NULL ? a->who : "(unavailable)");
	if (a->status == AUTH_TEMP)
		session_reply(s, "454 4.7.0 Temporary authentication failure: %s", reason);
	else
		session_reply(s, "535 5.7.8 Error: authentication failed: %s", reason);
	end_dialogue(s);
	return CMD_FAILED;
}

static enum cmd_outcome done(struct session *s)
{
	struct session_auth *a = s->auth;

	session_reply(s, "235 2.7.0 Authentication successful");
	log_in(s, a->who, a->mechanism);
	end_dialogue(s);
	return CMD_OK;
}

static enum cmd_outcome act(struct session *s)
{
	struct session_auth *a = s->auth;

	a->answered = false;
	if (a->status == AUTH_DONE)
		return done(s);
	if (a->status != AUTH_MORE)
		return failed(s);
	session_reply(s, "334 %s", a->text);
	drop(&a->text);
	s->state = SESSION_AUTH;
	return CMD_WAITS;
}

enum cmd_outcome cmd_auth_apply(struct session *s)
{
	if (s->auth == NULL || (!s->auth->answered && s->auth->dialogue == 0))
		start(s);
	return s->auth->answered ? act(s) : CMD_WAITS;
}

void session_auth_resume(struct session *s)
{
	if (!s->auth->answered)
		return;
	enum cmd_outcome outcome = act(s);

	if (outcome != CMD_WAITS)
		session_command_done(s, outcome == CMD_OK);
}

/* ---- the client's lines ---- */

static void end_line(struct session *s, const char *reply)
{
	end_dialogue(s);
	session_reply(s, "%s", reply);
	session_command_done(s, false);
}

static void take_line(struct session *s, struct sv line)
{
	struct buf text = BUF_INIT;

	if (sv_eq(line, SV("*"))) {
		log_warn("%s: SASL %s authentication aborted", s->namaddr, s->auth->mechanism);
		end_line(s, "501 5.7.0 Authentication aborted");
		return;
	}
	buf_reserve(&text, line.len + 1);
	buf_add_sv(&text, (struct sv){ line.p, strnlen(line.p, line.len) });
	buf_add_c(&text, '\0');
	int err = s->auth->dialogue != 0 ? s->ops->auth(s->ops->ctx, s, AUTH_STEP, 0, buf_sv(&text))
					 : -1;

	wipe(&text);
	wait_for_answer(s, err);
	session_auth_resume(s);
}

static size_t skip_line(struct session *s, const char *p, size_t len)
{
	const char *nl = len > 0 ? memchr(p, '\n', len) : NULL;

	if (nl != NULL) {
		end_line(s, "500 5.5.6 SASL response limit exceeded");
		return (size_t)(nl - p) + 1;
	}
	if (len > s->chunk_left) {
		log_warn("disabling input from %s: a command line without end", s->namaddr);
		end_line(s, "500 5.5.6 SASL response limit exceeded");
		session_close(s);
		return len;
	}
	s->chunk_left -= len;
	return len;
}

size_t auth_input(struct session *s, const char *p, size_t len)
{
	size_t limit =
		size_min((size_t)s->listener->p->smtpd_sasl_response_limit, RESPONSE_MAX) + 2;
	const char *nl = len > 0 ? memchr(p, '\n', size_min(len, limit)) : NULL;

	if (s->auth->skipping)
		return skip_line(s, p, len);
	if (nl == NULL) {
		if (len < limit)
			return 0;
		s->auth->skipping = true;
		s->chunk_left = LONG_LINE_BYTES;
		return limit;
	}
	size_t used = (size_t)(nl - p) + 1;
	struct sv line = { p, used - 1 };

	session_restart_request(s);
	session_talk_in(s, SV("***"));
	if (session_take_line_end(s, &line))
		take_line(s, line);
	return used;
}

/* ---- what the worker says ---- */

static bool is_base64(struct sv text)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.p[i];

		if (!ascii_is_alnum(c) && c != '+' && c != '/' && c != '=')
			return false;
	}
	return true;
}

static void log_lines(struct sv lines)
{
	while (lines.len > 0) {
		struct sv line = sv_next_part(&lines, '\n');
		char *text = xstrndup(line.p, line.len);

		str_make_printable(text, strlen(text));
		if (text[0] != '\0')
			log_warn("%s", text);
		free(text);
	}
}

void session_auth_answer(struct session *s, enum auth_status status, struct sv text, struct sv user,
			 struct sv lines)
{
	struct session_auth *a = s->auth;

	if (a == NULL || s->wait != WAIT_AUTH || a->dialogue == 0)
		return;
	log_speak_as(s->listener->log_name);
	log_lines(lines);
	if (status != AUTH_MORE)
		a->dialogue = 0;
	drop(&a->text);
	drop(&a->who);
	a->status = status;
	a->answered = true;
	a->text = xstrndup(text.p, text.len);
	str_make_printable(a->text, strlen(a->text));
	if (user.len > 0) {
		a->who = xstrndup(user.p, user.len);
		str_make_printable(a->who, strlen(a->who));
	}
	/* nobody is logged in without a name */
	if ((status == AUTH_MORE && !is_base64(text)) || (status == AUTH_DONE && a->who == NULL)) {
		a->status = AUTH_TEMP;
		drop(&a->text);
		a->text = xstrdup("Authentication backend error");
	}
	session_wake(s);
}

void session_auth_lost(struct session *s)
{
	if (s->auth == NULL || s->auth->dialogue == 0)
		return;
	if (s->wait == WAIT_AUTH)
		session_auth_answer(s, AUTH_TEMP, SV(LOST), SV(""), SV(""));
	else
		s->auth->dialogue = 0; /* the client's next line finds nobody */
}

void session_auth_offered(struct session *s)
{
	if (s->wait == WAIT_AUTH && s->auth->dialogue == 0)
		session_wake(s);
}

void session_auth_late(struct session *s)
{
	if (s->auth->dialogue == 0) {
		log_warn("no auth worker has said which mechanisms there are: AUTH is not offered");
		session_wake(s);
		return;
	}
	s->ops->auth(s->ops->ctx, s, AUTH_CANCEL, 0, SV(""));
	session_auth_answer(s, AUTH_TEMP, SV(LOST), SV(""), SV(""));
}

/* ---- what becomes of it ---- */

void session_auth_log(const struct session *s, const char *before, struct buf *out)
{
	const struct session_auth *a = s->auth;

	if (a == NULL)
		return;
	if (a->method != NULL)
		buf_printf(out, "%ssasl_method=%s", before, a->method);
	if (a->user != NULL)
		buf_printf(out, "%ssasl_username=%s", before, a->user);
	if (a->sender != NULL)
		buf_printf(out, "%ssasl_sender=%s", before, a->sender);
}

/* In a comment of RFC 5322: brackets in pairs, nothing that quotes. */
static void add_comment(const char *text, struct buf *out)
{
	unsigned depth = 0;

	for (; *text != '\0'; text++) {
		char c = *text;

		if ((unsigned char)c < ' ' || (unsigned char)c > 126 || c == '\\' ||
		    (c == ')' && depth == 0))
			c = '?';
		depth += c == '(';
		depth -= c == ')';
		buf_add_c(out, c);
	}
	while (depth-- > 0)
		buf_add_c(out, ')');
}

void session_auth_received(const struct session *s, struct buf *out)
{
	if (!session_auth_is_in(s) || !s->listener->p->smtpd_sasl_authenticated_header)
		return;
	buf_add_str(out, "\t(Authenticated sender: ");
	add_comment(s->auth->user, out);
	buf_add_str(out, ")\r\n");
}

static struct sv text_or_none(const char *text)
{
	return text != NULL ? sv_from(text) : SV("");
}

void session_auth_envelope(const struct session *s, struct envelope *e)
{
	if (s->auth == NULL)
		return;
	e->sasl_method = text_or_none(s->auth->method);
	e->sasl_user = text_or_none(s->auth->user);
	e->sasl_sender = text_or_none(s->auth->sender);
}

void session_auth_view(const struct session *s, struct policy_view *v)
{
	if (s->auth == NULL)
		return;
	v->sasl_method = s->auth->method;
	v->sasl_user = s->auth->user;
	v->sasl_sender = s->auth->sender;
}
