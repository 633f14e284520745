/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Before-queue content filters; see workers/smtp_in/sessfilter.h. The texts are Postfix's. */
#include "workers/smtp_in/sessfilter.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/err.h"
#include "lib/log.h"
#include "shm/counters.h"
#include "workers/mail/xtext.h"
#include "workers/smtp/reply.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/command.h"

#define ROOM_BYTES    16384u
#define XFORWARD_LINE 500u /* of attributes in one command */
#define BROKEN        "451 4.3.0 Error: queue file write error"

enum phase {
	PHASE_NONE, /* not connected */
	PHASE_CONNECT,
	PHASE_GREETING,
	PHASE_EHLO,
	PHASE_XFORWARD,
	PHASE_COMMANDS, /* from `todo` */
	PHASE_CONTENT,
	PHASE_DOT,
};

enum { NOT_ASKED, ASKED, ANSWERED };

struct sessfilter {
	enum phase phase;
	struct buf mail, line; /* the client's commands */
	struct buf todo;       /* commands that follow, each with CRLF */
	size_t todo_at;
	struct buf out; /* the command that goes out */
	size_t out_at;
	struct buf asked; /* the same, for the log; empty for the greeting */
	struct buf data;  /* content that was not sent yet, from data_at on */
	size_t data_at, counted_bytes;
	struct buf xforward; /* attributes that are still to be sent */
	struct buf in;       /* behind a reply: not asked for */
	struct buf reply;    /* the newest, lines with CRLF between them */
	struct smtp_reply_parser parser;
	uint8_t asked_state;
	char expect;    /* first digit of a good reply; '*' any; 0 = none is awaited */
	bool adjust;    /* speed_adjust: commands and content are kept until it ends */
	bool replaying; /* they are being sent now */
	bool ended;     /* `data` has the dot */
	bool refused;   /* `reply` is no good one */
	bool over;      /* of this message no more is sent: `reply` is the answer */
	bool premature; /* the filter spoke before the dot */
	bool logged;    /* client= */
};

static size_t held_bytes; /* `data` of all sessions */

static const char *name_of(const struct session *s)
{
	return s->listener->p->smtpd_proxy_filter;
}

static void set_reply(struct sessfilter *f, const char *text)
{
	buf_reset(&f->reply);
	buf_add_str(&f->reply, text);
}

static void count_data(struct sessfilter *f)
{
	held_bytes = held_bytes - f->counted_bytes + f->data.cap;
	f->counted_bytes = f->data.cap;
}

static void drop_data(struct sessfilter *f)
{
	buf_fini(&f->data);
	f->data_at = 0;
	count_data(f);
}

/* ---- life ---- */

static struct sessfilter *filter_new(const struct session *s)
{
	struct sessfilter *f = xcalloc(1, sizeof(*f));

	smtp_reply_parser_init(&f->parser);
	f->adjust = s->listener->speed_adjust;
	return f;
}

static void disconnect(struct session *s)
{
	struct sessfilter *f = s->filter;

	bool idle = f->expect == 0 && f->out.len == 0 &&
		    (f->phase == PHASE_COMMANDS || f->phase == PHASE_DOT);

	if (f->phase != PHASE_NONE)
		s->ops->filter_close(s->ops->ctx, s, idle);
	f->phase = PHASE_NONE;
	f->expect = 0;
	buf_reset(&f->out);
	f->out_at = 0;
	buf_reset(&f->in);
	buf_reset(&f->todo);
	f->todo_at = 0;
}

void session_filter_free(struct session *s)
{
	struct sessfilter *f = s->filter;

	if (f == NULL)
		return;
	disconnect(s);
	drop_data(f);
	buf_fini(&f->mail);
	buf_fini(&f->line);
	buf_fini(&f->todo);
	buf_fini(&f->out);
	buf_fini(&f->asked);
	buf_fini(&f->xforward);
	buf_fini(&f->in);
	buf_fini(&f->reply);
	smtp_reply_parser_fini(&f->parser);
	free(f);
	s->filter = NULL;
}

void session_filter_keep(struct session *s, const char *verb, struct sv args)
{
	bool is_mail = strcmp(verb, "MAIL") == 0;

	if (!s->listener->has_filter || (!is_mail && s->filter == NULL))
		return;
	if (s->filter == NULL)
		s->filter = filter_new(s);
	struct buf *b = is_mail ? &s->filter->mail : &s->filter->line;

	buf_reset(b);
	buf_printf(b, "%s %.*s", verb, (int)args.len, args.p);
}

/* ---- asking ---- */

static void send_command(struct session *s, struct sv command, char expect)
{
	struct sessfilter *f = s->filter;

	buf_reset(&f->asked);
	buf_add_sv(&f->asked, command);
	if (command.len > 0) {
		buf_add_sv(&f->out, command);
		buf_add(&f->out, "\r\n", 2);
	}
	f->expect = expect;
}

/* The session goes on, with the reply or because there is room. */
static void tell(struct session *s)
{
	struct sessfilter *f = s->filter;

	if (s->wait == WAIT_FILTER) {
		f->asked_state = ANSWERED;
		session_wake(s);
	} else if (f->over && s->wait == WAIT_ROOM) {
		session_room(s);
	} else if ((f->over || f->phase == PHASE_NONE) && s->wait == WAIT_DONE) {
		session_filtered(s, buf_cstr(&f->reply));
	}
}

/* No more of this message, or of the connection: what stands in `reply` is said. */
static void give_up(struct session *s)
{
	struct sessfilter *f = s->filter;

	f->refused = true;
	f->over = f->over || f->phase >= PHASE_CONTENT || f->replaying;
	disconnect(s);
	drop_data(f);
	tell(s);
}

void session_filter_lost(struct session *s, const char *why, const char *text)
{
	struct sessfilter *f = s->filter;

	log_speak_as(s->listener->log_name);
	log_warn("%s %s%s%s", why, name_of(s), text[0] != '\0' ? ": " : "", text);
	counter_add(session_counters, CTR_smtpd_filter_failures, 1);
	set_reply(f, BROKEN);
	give_up(s);
}

static void log_origin(struct session *s)
{
	struct buf line = BUF_INIT;

	if (s->filter->logged)
		return;
	s->filter->logged = true;
	buf_printf(&line, "NOQUEUE: client=%s", s->namaddr);
	session_auth_log(s, ", ", &line);
	cmd_forwarded_log(s, &line);
	log_text(line.p, line.len);
	buf_fini(&line);
}

static void begin(struct session *s)
{
	s->filter->phase = PHASE_CONNECT;
	s->filter->refused = false;
	counter_add(session_counters, CTR_smtpd_filter_connections, 1);
	s->ops->filter_open(s->ops->ctx, s);
}

/* The next command, or what comes behind the last one. */
static void next_command(struct session *s)
{
	struct sessfilter *f = s->filter;
	struct sv rest = { f->todo.p + f->todo_at, f->todo.len - f->todo_at };

	f->phase = PHASE_COMMANDS;
	if (rest.len > 0) {
		const char *end = memchr(rest.p, '\r', rest.len);
		struct sv command = { rest.p, (size_t)(end - rest.p) };

		f->todo_at += command.len + 2;
		send_command(s, command, command.p[0] == 'D' ? '3' : '2');
		return;
	}
	buf_reset(&f->todo);
	f->todo_at = 0;
	f->expect = 0;
	if (f->replaying)
		f->phase = PHASE_CONTENT;
	else
		tell(s);
}

/* ---- XFORWARD ---- */

static void add_attribute(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, " %s=", name);
	if (value == NULL || strcmp(value, "unknown") == 0)
		buf_add_str(out, "[UNAVAILABLE]");
	else
		mail_xtext_encode(sv_from(value), out);
}

/* Attributes that the filter announced, in Postfix's order. */
static void collect_attributes(struct session *s, unsigned mask)
{
	const struct forwarded *f = s->forwarded;
	bool told = f != NULL && f->has_client;
	char addr[64];
	bool is_local = f != NULL && f->has_source ? f->is_local : s->is_local > 0;

	snprintf(addr, sizeof(addr), "%s%s", s->is_ipv6 ? "IPv6:" : "", s->addr);
	const char *values[] = {
		told ? f->name : s->name,      told ? f->addr : addr,
		told ? f->port : s->port,      told ? f->helo : s->helo,
		f != NULL ? f->ident : NULL,   told ? f->proto : s->esmtp ? "ESMTP" : "SMTP",
		is_local ? "LOCAL" : "REMOTE",
	};
	static const char *const names[] = { "NAME",  "ADDR",  "PORT",  "HELO",
					     "IDENT", "PROTO", "SOURCE" };

	buf_reset(&s->filter->xforward);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if ((mask & 1u << i) != 0)
			add_attribute(&s->filter->xforward, names[i], values[i]);
	}
}

static unsigned announced(struct sv line)
{
	static const char *const names[] = { "NAME",  "ADDR",  "PORT",  "HELO",
					     "IDENT", "PROTO", "SOURCE" };
	unsigned mask = 0;
	bool first = true, is_it = false;

	for (size_t at = 0; at < line.len;) {
		size_t n = 0;

		while (at < line.len && (line.p[at] == ' ' || line.p[at] == '\t'))
			at++;
		while (at + n < line.len && line.p[at + n] != ' ' && line.p[at + n] != '\t')
			n++;
		struct sv word = { line.p + at, n };

		for (size_t i = 0; i < ARRAY_LEN(names) && is_it; i++) {
			if (sv_eq_nocase(word, sv_from(names[i])))
				mask |= 1u << i;
		}
		is_it = is_it || (first && sv_eq_nocase(word, SV("XFORWARD")));
		first = false;
		at += n;
	}
	return mask;
}

/* As many as fit into one command; when there are none left, the client's commands. */
static void next_attributes(struct session *s)
{
	struct sessfilter *f = s->filter;
	struct buf line = BUF_INIT;
	size_t n = 0;

	if (f->xforward.len == 0) {
		next_command(s);
		return;
	}
	f->phase = PHASE_XFORWARD;
	while (n < f->xforward.len) {
		const char *p = f->xforward.p + n;
		const char *sp = memchr(p + 1, ' ', f->xforward.len - n - 1);
		size_t len = sp != NULL ? (size_t)(sp - p) : f->xforward.len - n;

		if (n > 0 && n + len > XFORWARD_LINE)
			break;
		n += len;
	}
	buf_printf(&line, "XFORWARD%.*s", (int)n, f->xforward.p);
	buf_consume(&f->xforward, n);
	send_command(s, buf_sv(&line), '2');
	buf_fini(&line);
}

/* ---- hearing ---- */

static void greeted(struct session *s)
{
	struct buf line = BUF_INIT;

	buf_printf(&line, "EHLO %s", s->listener->p->smtpd_proxy_ehlo);
	s->filter->phase = PHASE_EHLO;
	send_command(s, buf_sv(&line), '2');
	buf_fini(&line);
}

static void ehlo_answered(struct session *s)
{
	struct sv line;
	size_t pos = 0;
	unsigned mask = 0;

	while (smtp_reply_parser_line(&s->filter->parser, &pos, &line))
		mask |= announced(line);
	collect_attributes(s, mask);
	next_attributes(s);
}

/* Is it the answer to a command that was only made by us? Then its words are not for the client. */
static bool is_own_affair(const struct sessfilter *f)
{
	return f->phase <= PHASE_XFORWARD || buf_cstr(&f->reply)[0] == '2' ||
	       buf_cstr(&f->reply)[0] == '3';
}

static void not_expected(struct session *s)
{
	struct sessfilter *f = s->filter;
	bool is_mail = f->phase == PHASE_COMMANDS && f->asked.len >= 4 &&
		       memcmp(f->asked.p, "MAIL", 4) == 0;

	log_warn("proxy %s rejected \"%s\": \"%s\"", name_of(s),
		 f->asked.len > 0 ? buf_cstr(&f->asked) : "connection request",
		 buf_cstr(&f->reply));
	f->refused = true;
	if (is_own_affair(f))
		set_reply(f, BROKEN);
	if (f->phase <= PHASE_XFORWARD || is_mail || f->replaying) {
		give_up(s);
		return;
	}
	/* a recipient, or the content: the client may go on */
	f->expect = 0;
	buf_reset(&f->todo);
	f->todo_at = 0;
	tell(s);
}

static void dot_answered(struct session *s)
{
	struct sessfilter *f = s->filter;
	bool good = buf_cstr(&f->reply)[0] == '2';

	f->expect = 0;
	if (good && f->premature) {
		session_filter_lost(s, "received garbage from proxy", "a reply before its time");
		return;
	}
	f->refused = !good;
	f->over = true;
	tell(s);
}

static void take_reply(struct session *s)
{
	struct sessfilter *f = s->filter;

	buf_reset(&f->reply);
	for (size_t i = 0; i < f->parser.text.len; i++) {
		if (f->parser.text.p[i] == '\n')
			buf_add(&f->reply, "\r\n", 2);
		else
			buf_add_c(&f->reply, f->parser.text.p[i]);
	}
	if (f->expect != '*' && f->expect != buf_cstr(&f->reply)[0]) {
		not_expected(s);
		return;
	}
	switch (f->phase) {
	case PHASE_GREETING:
		greeted(s);
		break;
	case PHASE_EHLO:
		ehlo_answered(s);
		break;
	case PHASE_XFORWARD:
		next_attributes(s);
		break;
	case PHASE_COMMANDS:
		if (f->asked.p[0] == 'M')
			log_origin(s);
		next_command(s);
		break;
	case PHASE_DOT:
		dot_answered(s);
		break;
	case PHASE_NONE:
	case PHASE_CONNECT:
	case PHASE_CONTENT:
		bug("a reply that was not awaited");
	}
}

/* What is there of a reply that is awaited. */
static void hear(struct session *s)
{
	while (s->filter != NULL && s->filter->expect != 0 && s->filter->in.len > 0) {
		struct sessfilter *f = s->filter;
		size_t used;
		int n = smtp_reply_parser_feed(&f->parser, f->in.p, f->in.len, &used);

		if (n < 0) {
			struct buf text = BUF_INIT;

			buf_printf(&text, "%.100s", buf_cstr(&f->parser.line));
			session_filter_lost(s, "received garbage from proxy", buf_cstr(&text));
			buf_fini(&text);
			return;
		}
		buf_consume(&f->in, used);
		if (n > 0)
			take_reply(s);
	}
}

void session_filter_connected(struct session *s)
{
	log_speak_as(s->listener->log_name);
	s->filter->phase = PHASE_GREETING;
	smtp_reply_parser_reset(&s->filter->parser);
	send_command(s, SV(""), '2');
}

void session_filter_input(struct session *s, const char *data, size_t len)
{
	log_speak_as(s->listener->log_name);
	buf_add(&s->filter->in, data, len);
	hear(s);
}

bool session_filter_expects(const struct session *s)
{
	return s->filter != NULL && s->filter->expect != 0;
}

/* ---- sending ---- */

struct sv session_filter_output(const struct session *s)
{
	const struct sessfilter *f = s->filter;

	if (f->out.len > f->out_at)
		return (struct sv){ f->out.p + f->out_at, f->out.len - f->out_at };
	if (f->phase == PHASE_CONTENT && f->data.len > f->data_at)
		return (struct sv){ f->data.p + f->data_at, f->data.len - f->data_at };
	return (struct sv){ "", 0 };
}

bool session_filter_is_last(const struct session *s)
{
	const struct sessfilter *f = s->filter;

	return f->phase == PHASE_CONTENT && f->ended && f->out.len == f->out_at;
}

void session_filter_premature(struct session *s)
{
	s->filter->premature = true;
}

void session_filter_sent(struct session *s, size_t len)
{
	struct sessfilter *f = s->filter;

	if (f->out.len > f->out_at) {
		f->out_at += len;
		if (f->out_at == f->out.len) {
			buf_reset(&f->out);
			f->out_at = 0;
		}
		hear(s); /* it may have spoken ahead */
		return;
	}
	f->data_at += len;
	bool empty = f->data_at == f->data.len;

	if (empty && f->ended) {
		drop_data(f);
		f->premature = f->premature || f->in.len > 0;
		f->phase = PHASE_DOT;
		buf_reset(&f->asked);
		buf_add_str(&f->asked, ".");
		f->expect = '*';
		smtp_reply_parser_reset(&f->parser);
		hear(s);
	} else if (f->data.len - f->data_at < FILTER_WINDOW_BYTES / 2) {
		log_speak_as(s->listener->log_name);
		session_room(s);
	}
}

/* ---- the session's commands ---- */

static enum filter_step answered(struct sessfilter *f, const char **reply_r)
{
	f->asked_state = NOT_ASKED;
	*reply_r = buf_cstr(&f->reply);
	return f->refused ? FILTER_REFUSES : FILTER_GOES_ON;
}

static enum filter_step ask(struct session *s)
{
	struct sessfilter *f = s->filter;

	f->asked_state = ASKED;
	f->refused = false;
	s->wait = WAIT_FILTER;
	if (f->phase == PHASE_NONE) {
		begin(s);
	} else {
		next_command(s);
		s->ops->filter_kick(s->ops->ctx, s);
	}
	return FILTER_WAITS;
}

/* The connection that has accepted the sender, and perhaps recipients, is gone: a second one would
 * not know of them. */
static bool is_lost(const struct sessfilter *f)
{
	return f->phase == PHASE_NONE && f->logged;
}

static void add_todo(struct sessfilter *f, struct sv command)
{
	buf_add_sv(&f->todo, command);
	buf_add(&f->todo, "\r\n", 2);
}

enum filter_step session_filter_rcpt(struct session *s, const char **reply_r)
{
	struct sessfilter *f = s->filter;

	if (f == NULL)
		return FILTER_GOES_ON;
	if (f->asked_state == ANSWERED)
		return answered(f, reply_r);
	if (f->adjust) {
		log_origin(s);
	} else if (is_lost(f)) {
		set_reply(f, BROKEN);
		*reply_r = buf_cstr(&f->reply);
		return FILTER_REFUSES;
	}
	if (f->phase == PHASE_NONE && f->todo.len == 0)
		add_todo(f, buf_sv(&f->mail));
	add_todo(f, buf_sv(&f->line));
	return f->adjust ? FILTER_GOES_ON : ask(s);
}

enum filter_step session_filter_data(struct session *s, const char **reply_r)
{
	struct sessfilter *f = s->filter;

	if (f == NULL)
		return FILTER_GOES_ON;
	if (f->asked_state == ANSWERED) {
		enum filter_step step = answered(f, reply_r);

		if (step == FILTER_GOES_ON)
			f->phase = PHASE_CONTENT;
		return step;
	}
	if (f->adjust) {
		add_todo(f, SV("DATA"));
		return FILTER_GOES_ON;
	}
	if (is_lost(f)) {
		set_reply(f, BROKEN);
		*reply_r = buf_cstr(&f->reply);
		return FILTER_REFUSES;
	}
	add_todo(f, SV("DATA"));
	return ask(s);
}

void session_filter_head(struct session *s, struct sv head)
{
	buf_add_sv(&s->filter->data, head);
	count_data(s->filter);
}

/* What speed_adjust kept goes out; the rest follows. */
static void replay(struct session *s)
{
	s->filter->replaying = true;
	begin(s);
}

char *session_filter_room(struct session *s, size_t *len_r)
{
	static char nowhere[ROOM_BYTES];
	struct sessfilter *f = s->filter;
	bool keeps = f->adjust && !f->replaying;

	*len_r = ROOM_BYTES;
	if (keeps && held_bytes > FILTER_HELD_BYTES && f->data.len >= FILTER_WINDOW_BYTES) {
		replay(s);
		keeps = false;
	}
	if (f->over)
		return nowhere;
	if (!keeps && f->data.len - f->data_at >= FILTER_WINDOW_BYTES)
		return NULL;
	if (f->data_at > f->data.len / 2) {
		buf_consume(&f->data, f->data_at);
		f->data_at = 0;
	}
	char *room = buf_reserve(&f->data, ROOM_BYTES);

	count_data(f);
	return room;
}

void session_filter_advance(struct session *s, size_t len)
{
	struct sessfilter *f = s->filter;

	if (f->over)
		return;
	f->data.len += len;
	f->data.p[f->data.len] = '\0';
	if (f->phase == PHASE_CONTENT)
		s->ops->filter_kick(s->ops->ctx, s);
}

enum filter_step session_filter_end(struct session *s, const char **reply_r)
{
	struct sessfilter *f = s->filter;

	*reply_r = buf_cstr(&f->reply);
	if (f->over)
		return FILTER_REFUSES;
	buf_add_str(&f->data, ".\r\n");
	f->ended = true;
	s->wait = WAIT_DONE;
	if (f->adjust && !f->replaying)
		replay(s);
	else if (f->phase == PHASE_CONTENT)
		s->ops->filter_kick(s->ops->ctx, s);
	return FILTER_WAITS;
}

void session_filter_abandon(struct session *s)
{
	struct sessfilter *f = s->filter;

	f->over = true;
	disconnect(s);
	drop_data(f);
}

const char *session_filter_reply(const struct session *s)
{
	return buf_cstr(&s->filter->reply);
}
