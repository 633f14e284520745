/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Milters of a session; see workers/smtp_in/sessmilter.h. The texts are Postfix's. */
#include "workers/smtp_in/sessmilter.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "workers/milter/codec.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/command.h"
#include "workers/smtp_in/sesstls.h"

#define LOST_REPLY  "421 4.3.0 Mail system error"
#define OTHER_EVENT 'o' /* what their reply is to commands that they are not told of */

enum { NOT_ASKED, ASKED, ANSWERED }; /* s->milter.asked */

static void put(struct buf *out, const char *text)
{
	buf_add(out, text, strlen(text) + 1);
}

/* False: nobody is there to be asked any more. */
static bool send_event(struct session *s, char command, unsigned flags, const struct buf *strings)
{
	if (s->milter.number != 0 &&
	    s->ops->milter(s->ops->ctx, s, command, flags, buf_sv(strings)) == 0)
		return true;
	s->milter.number = 0;
	s->milter.lost = true;
	return false;
}

static bool ask(struct session *s, char command, unsigned flags, const struct buf *strings)
{
	free(s->milter.reply);
	s->milter.reply = NULL;
	if (!send_event(s, command, flags, strings))
		return false;
	s->wait = WAIT_MILTER;
	s->milter.asked = ASKED;
	return true;
}

/* ---- replies ---- */

static void log_reply(struct session *s, const char *action, const char *text)
{
	char *shown = xstrdup(text);

	str_make_printable(shown, strlen(shown));
	s->milter.logs = true;
	session_log_action(s, action, shown);
	s->milter.logs = false;
	free(shown);
}

/* What a reply does to the session; the text to refuse with, or NULL. */
static const char *judge(struct session *s, const char *reply)
{
	struct session_milter *m = &s->milter;

	if (reply == NULL || reply[0] == '\0')
		return NULL;
	if (reply[0] == 'H') {
		if (!m->hold)
			log_reply(s, "milter-hold",
				  reply[1] != '\0' ? reply + 1 : "milter triggers HOLD action");
		m->hold = true;
		return NULL;
	}
	if (reply[0] == 'D') {
		if (!m->discard)
			log_reply(s, "milter-discard", "milter triggers DISCARD action");
		m->discard = true;
		return NULL;
	}
	if (reply[0] == 'S')
		reply = "421 4.7.0 Server closing connection";
	else if (reply[0] != '4' && reply[0] != '5')
		reply = "421 4.3.5 Server configuration error";
	log_reply(s, "milter-reject", reply);
	return reply;
}

static enum milter_step refuse_or_not(struct session *s, const char *reply, const char **reply_r)
{
	*reply_r = judge(s, reply);
	return *reply_r != NULL ? MILTER_REFUSES : MILTER_GOES_ON;
}

static enum milter_step answered(struct session *s, const char **reply_r)
{
	s->milter.asked = NOT_ASKED;
	return refuse_or_not(s, s->milter.reply, reply_r);
}

bool session_milter_has_answer(const struct session *s)
{
	return s->milter.asked == ANSWERED;
}

void session_milter_reply(struct session *s, uint32_t flags, struct sv text)
{
	if (s->wait != WAIT_MILTER)
		return;
	if ((flags & MILTER_REPLY_NONE) != 0)
		s->milter.number = 0;
	s->milter.wants_rejected = (flags & MILTER_REPLY_REJECTED) != 0;
	free(s->milter.reply);
	s->milter.reply = text.len > 0 ? xstrndup(text.p, text.len) : NULL;
	s->milter.asked = ANSWERED;
	session_wake(s);
}

void session_milter_lost(struct session *s)
{
	s->milter.number = 0;
	s->milter.lost = true;
	session_milter_reply(s, 0, SV(LOST_REPLY));
}

/* ---- events ---- */

static const char *resolve_word(const struct session *s)
{
	static const char *const words[] = {
		[POLICY_NAME_OK] = "OK",
		[POLICY_NAME_TEMP] = "TEMP",
		[POLICY_NAME_PERM] = "FAIL",
		[POLICY_NAME_FORGED] = "FORGED",
	};

	return words[s->name_status];
}

static enum milter_step connect_event(struct session *s, const char **reply_r)
{
	struct buf strings = BUF_INIT;
	char number[12];
	bool asked;

	if (s->milter.asked == ANSWERED)
		return answered(s, reply_r);
	if (!s->listener->milters || s->ops->milter == NULL)
		return MILTER_GOES_ON;
	snprintf(number, sizeof(number), "%u", s->limits_exempt ? 0 : s->connections);
	put(&strings, s->addr);
	put(&strings, s->port);
	put(&strings, s->name);
	put(&strings, s->reverse_name);
	put(&strings, resolve_word(s));
	put(&strings, number);
	put(&strings, s->server_addr);
	put(&strings, s->server_port);
	s->milter.number = UINT32_MAX; /* ops->milter() gives it one that is never used again */
	asked = ask(s, MILTER_CONNECT, 0, &strings);
	buf_fini(&strings);
	return asked ? MILTER_WAITS : refuse_or_not(s, LOST_REPLY, reply_r);
}

bool session_milter_greet(struct session *s)
{
	const char *host = s->listener->p->myhostname, *reply = "";
	enum milter_step step = connect_event(s, &reply);

	if (step == MILTER_WAITS)
		return false;
	if (step == MILTER_REFUSES && reply[0] == '5') {
		s->error_count++;
		session_reply(s, "554 %s ESMTP not accepting connections", host);
	} else if (step == MILTER_REFUSES && strncmp(reply, "421", 3) == 0) {
		session_reply(s, "421 %s Service unavailable - try again later", host);
	} else {
		session_reply(s, "220 %s", s->listener->p->smtpd_banner);
	}
	return true;
}

struct event { /* of a command */
	enum cmd_id cmd;
	char command;
	bool qid, addr, args;
};

static const struct event events[] = {
	{ CMD_HELO, MILTER_HELO, false, true, false },
	{ CMD_EHLO, MILTER_HELO, false, true, false },
	{ CMD_MAIL, MILTER_MAIL, true, true, true },
	{ CMD_RCPT, MILTER_RCPT, true, true, true },
	{ CMD_DATA, MILTER_DATA, true, false, false },
	{ CMD_BDAT, MILTER_DATA, true, false, false },
	{ CMD_VRFY, OTHER_EVENT, false, false, false },
	{ CMD_ETRN, OTHER_EVENT, false, false, false },
	{ CMD_AUTH, OTHER_EVENT, false, false, false },
};

static const struct event *find_event(const struct session *s)
{
	for (size_t i = 0; i < ARRAY_LEN(events); i++) {
		if (s->pending.cmd == &smtp_cmds[events[i].cmd])
			return &events[i];
	}
	return NULL;
}

static void add_strings(const struct session *s, const struct event *e, const char *why,
			struct buf *out)
{
	if (e->qid)
		put(out, s->tx != NULL && s->tx->has_qid ? session_qid(s) : "");
	if (e->addr)
		put(out, buf_cstr(&s->pending.addr));
	if (e->cmd == CMD_RCPT)
		put(out, why);
	if (e->cmd == CMD_MAIL) {
		const struct session_auth *a = s->auth;

		put(out, a != NULL && a->method != NULL ? a->method : "");
		put(out, a != NULL && a->user != NULL ? a->user : "");
		put(out, a != NULL && a->sender != NULL ? a->sender : "");
	}
	if (e->command == MILTER_HELO && session_tls_view(s) != NULL) {
		const struct policy_tls *tls = session_tls_view(s);
		char bits[12];

		snprintf(bits, sizeof(bits), "%u", tls->bits);
		put(out, tls->protocol);
		put(out, tls->cipher);
		put(out, bits);
		put(out, tls->is_trusted ? tls->subject : "");
		put(out, tls->is_trusted ? tls->issuer : "");
	}
	if (e->args)
		buf_add_sv(out, buf_sv(&s->pending.args));
}

static bool ask_command(struct session *s, const struct event *e, unsigned flags, const char *why)
{
	struct buf strings = BUF_INIT;
	bool asked;

	add_strings(s, e, why, &strings);
	if (e->command == MILTER_MAIL)
		s->milter.in_mail = true;
	asked = ask(s, e->command, flags, &strings);
	buf_fini(&strings);
	return asked;
}

/* At HELO only the end of the session counts, and the line in the log has the new name. */
static enum milter_step helo_answered(struct session *s, const char **reply_r)
{
	char *old = s->helo;
	enum milter_step step;

	s->helo = xstrdup(buf_cstr(&s->pending.addr));
	step = answered(s, reply_r);
	free(s->helo);
	s->helo = old;
	return step == MILTER_REFUSES && strncmp(*reply_r, "421", 3) != 0 ? MILTER_GOES_ON : step;
}

enum milter_step session_milter_command(struct session *s, const char **reply_r)
{
	const struct event *e = find_event(s);

	if (e == NULL || (s->milter.number == 0 && !s->milter.lost) ||
	    (s->milter.discard && e->command != OTHER_EVENT)) {
		s->milter.asked = NOT_ASKED;
		return MILTER_GOES_ON;
	}
	if (s->milter.asked == NOT_ASKED)
		return ask_command(s, e, 0, "") ? MILTER_WAITS
						: refuse_or_not(s, LOST_REPLY, reply_r);
	if (e->command == MILTER_HELO)
		return helo_answered(s, reply_r);
	if (e->command != OTHER_EVENT)
		return answered(s, reply_r);
	s->milter.asked = NOT_ASKED;
	*reply_r = s->milter.reply;
	if (e->cmd == CMD_AUTH && *reply_r != NULL && **reply_r == '4')
		*reply_r = "454 4.3.0 Try again later";
	return *reply_r != NULL && strchr("45", **reply_r) != NULL ? MILTER_REFUSES
								   : MILTER_GOES_ON;
}

bool session_milter_rejected(struct session *s, const char *why)
{
	const struct event *e = find_event(s);

	if (s->milter.asked == ANSWERED || e == NULL || e->cmd != CMD_RCPT ||
	    s->milter.number == 0 || !s->milter.wants_rejected || s->milter.discard) {
		s->milter.asked = NOT_ASKED;
		return false;
	}
	return ask_command(s, e, MILTER_EVENT_REJECTED, why);
}

bool session_milter_unknown(struct session *s, struct sv line)
{
	struct buf strings = BUF_INIT;
	bool asked;

	if (s->milter.number == 0)
		return false;
	buf_add_sv(&strings, line);
	buf_add_c(&strings, '\0');
	asked = ask(s, MILTER_UNKNOWN, 0, &strings);
	buf_fini(&strings);
	return asked;
}

void session_milter_keep(struct session *s, struct sv args, struct sv params)
{
	struct buf *out = &s->pending.args;
	struct sv addr = { args.p, params.len > 0 ? (size_t)(params.p - args.p) : args.len };

	buf_reset(out);
	if (s->milter.number == 0)
		return;
	addr = sv_trim(addr);
	buf_add_sv(out, addr);
	buf_add_c(out, '\0');
	while (params.len > 0) {
		size_t n = 0;

		while (n < params.len && !ascii_is_space(params.p[n]))
			n++;
		buf_add(out, params.p, n);
		buf_add_c(out, '\0');
		params = sv_trim((struct sv){ params.p + n, params.len - n });
	}
}

/* ---- ends ---- */

void session_milter_reset(struct session *s, bool always)
{
	const struct buf none = BUF_INIT;

	s->milter.hold = s->milter.discard = false;
	if (s->milter.number != 0 && (s->milter.in_mail || always))
		send_event(s, MILTER_ABORT, 0, &none);
	s->milter.in_mail = false;
}

void session_milter_end(struct session *s)
{
	const struct buf none = BUF_INIT;

	if (s->helo != NULL)
		session_milter_reset(s, true);
	if (s->milter.number != 0)
		send_event(s, MILTER_QUIT, 0, &none);
	free(s->milter.reply);
	s->milter = (struct session_milter){ .number = 0 };
}

bool session_milter_sees(const struct session *s)
{
	return s->milter.number != 0 && !s->milter.discard;
}
