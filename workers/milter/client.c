/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sets of milters and their events; see workers/milter/client.h. */
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "workers/milter/client_int.h"

#define OUT_HIGH_BYTES 131072u /* of a message that wait for the socket */

#define EVER  (1u << MILTER_ENVELOPE)
#define AFTER (EVER | 1u << MILTER_ACCEPT_MSG)

static const struct event_row {
	char command;
	uint32_t no, nr; /* steps: not sent, not answered */
	enum milter_macro_stage stage;
	unsigned states; /* in which it is sent */
} event_rows[] = {
	{ MILTER_CONNECT, MILTER_NO_CONNECT, MILTER_NR_CONNECT, MILTER_AT_CONNECT,
	  1u << MILTER_READY },
	{ MILTER_HELO, MILTER_NO_HELO, MILTER_NR_HELO, MILTER_AT_HELO, AFTER },
	{ MILTER_MAIL, MILTER_NO_MAIL, MILTER_NR_MAIL, MILTER_AT_MAIL, EVER },
	{ MILTER_RCPT, MILTER_NO_RCPT, MILTER_NR_RCPT, MILTER_AT_RCPT, EVER },
	{ MILTER_DATA, MILTER_NO_DATA, MILTER_NR_DATA, MILTER_AT_DATA, EVER },
	{ MILTER_UNKNOWN, MILTER_NO_UNKNOWN, MILTER_NR_UNKNOWN, MILTER_AT_UNKNOWN, EVER },
	{ MILTER_HEADER, MILTER_NO_HEADERS, MILTER_NR_HEADER, MILTER_AT_EOH, 1u << MILTER_MESSAGE },
	{ MILTER_EOH, MILTER_NO_EOH, MILTER_NR_EOH, MILTER_AT_EOH, 1u << MILTER_MESSAGE },
	{ MILTER_BODY, MILTER_NO_BODY, MILTER_NR_BODY, MILTER_AT_END, 1u << MILTER_MESSAGE },
	{ MILTER_END, 0, 0, MILTER_AT_END, 1u << MILTER_MESSAGE },
	{ MILTER_OTHER, 0, 0, MILTER_AT_UNKNOWN, 0 },
};

static const struct event_row *event_row(char command)
{
	size_t i = 0;

	while (i < ARRAY_LEN(event_rows) && event_rows[i].command != command)
		i++;
	ASSERT(i < ARRAY_LEN(event_rows));
	return &event_rows[i];
}

const char *milter_log_name(const struct milter_set *s)
{
	return s->is_message ? "cleanup" : s->host->log_name;
}

/* ---- life ---- */

struct milter_client *milter_client_new(const struct milter_client_conf *conf)
{
	struct milter_client *c = xcalloc(1, sizeof(*c));

	c->conf = *conf;
	c->busy.next = c->busy.prev = &c->busy;
	return c;
}

void milter_client_free(struct milter_client **c)
{
	free(*c);
	*c = NULL;
}

struct milter_set *milter_set_new(struct milter_client *c, const struct milter_list *l,
				  const struct milter_macros *m, const struct milter_host *h,
				  void *ctx)
{
	struct milter_set *s = xcalloc(1, sizeof(*s));

	s->client = c;
	s->macros = m;
	s->host = h;
	s->ctx = ctx;
	s->count = l->count;
	s->milters = xcalloc(size_max(l->count, 1), sizeof(*s->milters));
	for (size_t i = 0; i < s->count; i++) {
		s->milters[i].set = s;
		s->milters[i].spec = &l->specs[i];
		s->milters[i].fd = -1;
	}
	return s;
}

static void set_listed(struct milter_set *s, bool listed)
{
	struct milter_set *head = &s->client->busy;

	if (s->listed == listed)
		return;
	s->listed = listed;
	if (listed) {
		s->next = head->next;
		s->prev = head;
		head->next->prev = s;
		head->next = s;
	} else {
		s->prev->next = s->next;
		s->next->prev = s->prev;
	}
}

static void say(struct milter *m, char command)
{
	milter_end(&m->out, milter_begin(&m->out, command));
	milter_link_flush(m);
}

static bool in_session(const struct milter *m)
{
	return m->fd >= 0 && m->event == 0 &&
	       (m->state == MILTER_ENVELOPE || m->state == MILTER_ACCEPT_MSG);
}

static void fini_milter(struct milter *m)
{
	if (in_session(m)) {
		m->state = MILTER_NEW; /* nobody wants to hear whether it was read */
		say(m, MILTER_QUIT);
	}
	milter_link_close(m);
	for (size_t i = 0; i < MILTER_STAGES; i++)
		free(m->macros[i]);
	free(m->def_reply);
	free(m->answer);
	free(m->edit_error);
}

void milter_set_free(struct milter_set **sp)
{
	struct milter_set *s = *sp;

	*sp = NULL;
	if (s == NULL)
		return;
	set_listed(s, false);
	for (size_t i = 0; i < s->count; i++)
		fini_milter(&s->milters[i]);
	free(s->milters);
	buf_fini(&s->args);
	buf_fini(&s->macro_buf);
	buf_fini(&s->name);
	buf_fini(&s->value);
	free(s->result);
	free(s->held);
	free(s);
}

void milter_client_tick(struct milter_client *c)
{
	struct milter_set *s = c->busy.next;

	while (s != &c->busy) {
		/* what ends may free its own set, but no other */
		struct milter_set *next = s->next;

		if (s->at < s->count)
			milter_link_tick(&s->milters[s->at]);
		s = next;
	}
}

bool milter_set_is_busy(const struct milter_set *s)
{
	return s->command != 0;
}

bool milter_set_wants_rejected(const struct milter_set *s)
{
	for (size_t i = 0; i < s->count; i++) {
		if ((s->milters[i].steps & MILTER_REJECTED_RCPT) != 0 && s->milters[i].fd >= 0)
			return true;
	}
	return false;
}

size_t milter_set_memory(const struct milter_set *s)
{
	size_t n = sizeof(*s) + s->args.cap + s->macro_buf.cap + s->name.cap + s->value.cap;

	for (size_t i = 0; i < s->count; i++)
		n += sizeof(s->milters[i]) + s->milters[i].in.cap + s->milters[i].out.cap;
	return n;
}

void milter_set_abort(struct milter_set *s)
{
	for (size_t i = 0; i < s->count; i++) {
		struct milter *m = &s->milters[i];

		if (!in_session(m))
			continue;
		m->state = MILTER_ENVELOPE;
		m->skip = 0;
		/* what it said of the former message is not said of the next */
		milter_set_reply(&m->def_reply, NULL);
		say(m, MILTER_ABORT);
	}
}

/* ---- one event to one milter ---- */

/* Macros go in front of their event, also of one that the milter does not want. */
static void put_macros(struct milter *m, const struct event_row *row)
{
	struct milter_set *s = m->set;
	const char *own = m->macros[row->stage];
	size_t mark = milter_begin(&m->out, MILTER_MACRO);

	buf_add_c(&m->out, row->command);
	milter_macros_add(own != NULL && own[0] != '\0' ? own : s->macros->names[row->stage],
			  s->macros->defaults, s->host->macro, s->ctx, &m->out);
	milter_end(&m->out, mark);
}

enum sent { SENT_NOTHING, SENT_ONLY, SENT_ASKS };

/* Is the event for this milter? With ASKS an answer comes. */
static enum sent put_event(struct milter *m, char command, struct sv args)
{
	const struct event_row *row = event_row(command);

	if ((row->no & m->lacks) != 0)
		return SENT_NOTHING;
	if (m->skip == command)
		return SENT_NOTHING;
	m->skip = 0;
	put_macros(m, row);
	if ((row->no & m->steps) != 0)
		return SENT_ONLY;

	size_t mark = milter_begin(&m->out, command);

	buf_add_sv(&m->out, args);
	milter_end(&m->out, mark);
	if ((row->nr & m->steps) != 0)
		return SENT_ONLY;
	m->event = command;
	return SENT_ASKS;
}

/* True: over, with m->answer. */
static bool begin_event(struct milter *m)
{
	struct milter_set *s = m->set;
	const struct event_row *row = event_row(s->command);

	if (s->rejected && (m->steps & MILTER_REJECTED_RCPT) == 0)
		return true;
	if ((row->states & 1u << m->state) == 0) {
		milter_set_reply(&m->answer, m->def_reply);
		return true;
	}
	if (m->state == MILTER_READY)
		m->state = MILTER_ENVELOPE;
	if (put_event(m, s->command, buf_sv(&s->args)) == SENT_ASKS) {
		milter_link_wait(m, m->spec->command_ms);
		return false;
	}
	milter_link_flush(m);
	milter_set_reply(&m->answer, m->def_reply);
	return true;
}

/* ---- a message to one milter ---- */

static void begin_message(struct milter *m)
{
	struct milter_set *s = m->set;

	m->state = MILTER_MESSAGE;
	m->body_locked = false;
	milter_set_reply(&m->edit_error, NULL);
	milter_content_mark(s->content);
	s->step = MILTER_STEP_HEADERS;
	s->header_at = s->body_at = 0;
}

static enum sent next_header(struct milter *m)
{
	struct milter_set *s = m->set;

	if ((m->steps & MILTER_NO_HEADERS) != 0 ||
	    !milter_content_header(s->content, &s->header_at, &s->name, &s->value)) {
		s->step = MILTER_STEP_EOH;
		return SENT_NOTHING;
	}
	struct sv value = buf_sv(&s->value);

	if ((m->steps & MILTER_LEADING_SPACE) == 0 && value.len > 0 && value.p[0] == ' ')
		value = (struct sv){ value.p + 1, value.len - 1 };
	buf_reset(&s->args);
	milter_put_string(&s->args, buf_sv(&s->name));
	milter_put_string(&s->args, value);
	return put_event(m, MILTER_HEADER, buf_sv(&s->args));
}

static enum sent next_body(struct milter *m)
{
	struct milter_set *s = m->set;

	buf_reset(&s->args);
	if ((m->steps & MILTER_NO_BODY) != 0 || m->skip == MILTER_BODY ||
	    !milter_content_body(s->content, &s->body_at, MILTER_CHUNK_BYTES, &s->args)) {
		s->step = MILTER_STEP_END;
		return SENT_NOTHING;
	}
	return put_event(m, MILTER_BODY, buf_sv(&s->args));
}

/* Until an answer is due or the socket takes no more. True: it is decided. */
static bool send_message(struct milter *m)
{
	struct milter_set *s = m->set;
	enum sent sent = SENT_NOTHING;

	while (sent != SENT_ASKS) {
		if (m->out.len > OUT_HIGH_BYTES)
			milter_link_flush(m);
		if (m->state == MILTER_FAILED)
			return true;
		if (m->out.len > OUT_HIGH_BYTES) {
			m->paused = true;
			m->deadline_ms = clock_now().ms + m->spec->content_ms;
			m->last_ms = m->deadline_ms;
			return false;
		}
		switch (s->step) {
		case MILTER_STEP_HEADERS:
			sent = next_header(m);
			break;
		case MILTER_STEP_EOH:
			s->step = MILTER_STEP_BODY;
			if ((m->steps & MILTER_NO_EOH) == 0)
				sent = put_event(m, MILTER_EOH, SV(""));
			break;
		case MILTER_STEP_BODY:
			sent = next_body(m);
			break;
		case MILTER_STEP_END:
			sent = put_event(m, MILTER_END, SV(""));
			break;
		}
	}
	milter_link_wait(m, m->spec->content_ms);
	return false;
}

/* What it wanted changed holds when it has not failed; a body that is half there is worse than
 * none, whatever the default action is. */
static void end_message(struct milter *m)
{
	struct milter_set *s = m->set;
	bool failed = m->state == MILTER_FAILED, half = s->content->replacing;
	bool refused = m->answer != NULL && strchr("DS45", m->answer[0]) != NULL;

	if (failed && half && !refused)
		milter_set_reply(&m->answer, "421 4.7.0 Service unavailable");
	if (failed) {
		milter_content_undo(s->content);
	} else {
		milter_content_replaced(s->content);
		if (m->state == MILTER_MESSAGE || m->state == MILTER_ACCEPT_MSG)
			m->state = MILTER_ENVELOPE;
	}
	const char *decided = s->host->edited(s->ctx, !failed);

	if (decided != NULL && !refused)
		milter_set_reply(&m->answer, decided);
	if (!failed && m->edit_error != NULL &&
	    (m->answer == NULL || strchr("DS4", m->answer[0]) == NULL))
		milter_set_reply(&m->answer, m->edit_error);
	milter_set_reply(&m->edit_error, NULL);
}

/* An answer has come (or the socket has room): is the message decided? */
static bool step_message(struct milter *m)
{
	bool decided = m->state != MILTER_MESSAGE || m->answer != NULL;

	if (m->state == MILTER_ENVELOPE) {
		begin_message(m);
	} else if (!m->paused && (decided || m->set->step == MILTER_STEP_END)) {
		/* nothing follows the end of the body but its answer */
		end_message(m);
		return true;
	}
	m->paused = false;
	if (!send_message(m))
		return false;
	milter_set_reply(&m->answer, m->def_reply);
	end_message(m);
	return true;
}

/* ---- one after the other ---- */

/* Give it the event. True: over, with m->answer. */
static bool step(struct milter *m)
{
	struct milter_set *s = m->set;

	milter_set_reply(&m->answer, NULL);
	if (m->state == MILTER_NEW && s->command == MILTER_CONNECT) {
		milter_link_open(m);
		if (m->state != MILTER_FAILED)
			return false;
	}
	if (s->is_message)
		return m->state != MILTER_ENVELOPE || step_message(m);
	return begin_event(m);
}

static void finish(struct milter_set *s, const char *reply)
{
	milter_set_reply(&s->result, reply);
	milter_set_reply(&s->held, NULL);
	s->command = 0;
	s->content = NULL;
	s->is_message = false;
	set_listed(s, false);
	buf_fini(&s->args);
	buf_fini(&s->name);
	buf_fini(&s->value);
}

/* Does its answer let the next one be asked? One that wants the message held does not keep the
 * others from it. */
static bool passes(struct milter *m)
{
	struct milter_set *s = m->set;

	if (m->answer != NULL && m->answer[0] != 'H')
		return false;
	if (m->answer != NULL && s->held == NULL)
		milter_set_reply(&s->held, m->answer);
	s->at++;
	return true;
}

/* The milter whose turn it is has its answer: the next ones. True: the event is over. */
static bool run(struct milter_set *s)
{
	while (s->at < s->count) {
		struct milter *m = &s->milters[s->at];

		if (!step(m))
			return false;
		if (!passes(m))
			break;
	}
	finish(s, s->at < s->count ? s->milters[s->at].answer : s->held);
	return true;
}

/* The answer to an event that was sent is m->answer; a failure's is the default reply. */
static bool is_answered(struct milter *m)
{
	struct milter_set *s = m->set;

	if (m->state == MILTER_FAILED && m->answer == NULL)
		milter_set_reply(&m->answer, m->def_reply);
	if (s->is_message)
		return step_message(m);
	if (m->state == MILTER_READY) /* negotiated: now the event itself */
		return begin_event(m);
	return true;
}

void milter_set_resume(struct milter_set *s)
{
	struct milter *m;

	if (s->command == 0 || s->at >= s->count)
		return;
	m = &s->milters[s->at];
	if (!is_answered(m))
		return;
	if (!passes(m))
		finish(s, m->answer);
	else if (!run(s))
		return;
	s->host->done(s->ctx, s->result);
}

static bool start(struct milter_set *s, char command, const char **reply_r)
{
	ASSERT(s->command == 0);
	s->command = command;
	s->at = 0;
	counter_add(s->client->conf.counters, CTR_milter_events, 1);
	if (!run(s)) {
		set_listed(s, true);
		return false;
	}
	*reply_r = s->result;
	return true;
}

bool milter_set_event(struct milter_set *s, char command, struct sv args, bool rejected,
		      const char **reply_r)
{
	buf_reset(&s->args);
	buf_add_sv(&s->args, args);
	s->is_message = false;
	s->rejected = rejected;
	return start(s, command, reply_r);
}

bool milter_set_message(struct milter_set *s, struct milter_content *content, const char **reply_r)
{
	s->content = content;
	s->is_message = true;
	s->rejected = false;
	return start(s, MILTER_END, reply_r);
}

void milter_connect_args(const char *name, const char *addr, uint16_t port, struct buf *out)
{
	bool unknown = strcmp(name, "unknown") == 0, v6 = strchr(addr, ':') != NULL;

	if (unknown && strcmp(addr, "unknown") != 0) {
		buf_printf(out, "[%s]", addr);
		buf_add_c(out, '\0');
	} else {
		milter_put_string(out, sv_from(name));
	}
	if (strcmp(addr, "unknown") == 0) {
		buf_add_c(out, 'U');
		return;
	}
	buf_add_c(out, v6 ? '6' : '4');
	milter_put_u16(out, port);
	milter_put_string(out, sv_from(addr));
}
