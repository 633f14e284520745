/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * DATA and BDAT: from the command to the verdict. Content is scanned straight into the room the
 * server gives (blocks of shared memory); a message that will be refused is scanned into nothing.
 * The command stays pending until its last reply.
 */
#include <stdlib.h>

#include "lib/err.h"
#include "lib/log.h"
#include "shm/counters.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/command.h"
#include "workers/smtp_in/qmqp.h"
#include "workers/smtp_in/sessfilter.h"
#include "workers/smtp_in/sessmilter.h"
#include "workers/smtp_in/sesstalk.h"

#define FIRST_LINE_LOOK 64u

enum { /* pending.stage of DATA and BDAT, after 0 (policy) */
       STAGE_BEGIN = 1,
       STAGE_CONTENT,
       STAGE_EOD,
       STAGE_VERDICT,
};

static void finish_message(struct session *s);

/* ---- beginning ---- */

static bool add_policy_recipients(struct session *s, struct policy_text *bcc)
{
	struct tx *t = s->tx;

	for (; bcc != NULL; bcc = bcc->next) {
		struct env_rcpt r = { .addr = sv_from(bcc->text), .notify = NOTIFY_NEVER };

		if (env_add_rcpt(&t->env, &t->arena, &r) != 0)
			return false;
	}
	return true;
}

static bool add_prepended(struct session *s, struct policy_text *list)
{
	struct tx *t = s->tx;
	size_t n = 0;

	for (struct policy_text *p = list; p != NULL; p = p->next)
		n++;
	if (n == 0)
		return true;
	t->env.prepend = arena_alloc(&t->arena, n * sizeof(struct sv));
	if (t->env.prepend == NULL)
		return false;
	for (struct policy_text *p = list; p != NULL; p = p->next)
		t->env.prepend[t->env.prepend_count++] = sv_from(p->text);
	return true;
}

/* Once per message: what policy asked for joins the envelope. */
static bool complete_envelope(struct session *s)
{
	struct envelope *e = &s->tx->env;
	const struct policy_effects *fx = &s->policy.effects;

	e->client_name = sv_from(s->name);
	e->client_addr = sv_from(s->addr);
	e->client_port = sv_from(s->port);
	e->helo = s->helo != NULL ? sv_from(s->helo) : (struct sv){ "", 0 };
	e->proto = s->esmtp ? SV("ESMTP") : SV("SMTP");
	session_auth_envelope(s, e);
	cmd_forwarded_envelope(s, e);
	if (fx->filter != NULL)
		e->filter = sv_from(fx->filter);
	if (fx->redirect != NULL)
		e->redirect = sv_from(fx->redirect);
	if (fx->hold || s->milter.hold)
		e->flags |= ENVF_HOLD;
	if (fx->discard || s->milter.discard)
		e->flags |= ENVF_DISCARD;
	return e->prepend != NULL || (add_policy_recipients(s, fx->bcc) &&
				      add_prepended(s, fx->prepend) && !s->tx->arena.full);
}

/* Who passes on what another server has taken in leaves no mark of its own. */
static void begin_filtered(struct session *s)
{
	struct buf head = BUF_INIT;

	for (size_t i = 0; i < s->tx->env.prepend_count; i++) {
		buf_add_sv(&head, s->tx->env.prepend[i]);
		buf_add(&head, "\r\n", 2);
	}
	if (s->forwarded == NULL)
		received_header(s, &head);
	session_filter_head(s, buf_sv(&head));
	buf_fini(&head);
	s->tx->begun = true;
}

/* 0, E_AGAIN (wait for room), or an error. */
static int begin_message(struct session *s)
{
	struct buf env = BUF_INIT, head = BUF_INIT;

	if (s->filter != NULL) {
		begin_filtered(s);
		return 0;
	}
	int err = env_encode(&s->tx->env, &env);

	if (err == 0) {
		received_header(s, &head);
		err = s->ops->begin(s->ops->ctx, s, buf_sv(&env), buf_sv(&head));
	}
	buf_fini(&env);
	buf_fini(&head);
	if (err == 0)
		s->tx->begun = true;
	return err;
}

/* CMD_OK: go on; CMD_FAILED: the message is as good as lost, its content is swallowed. */
static enum cmd_outcome try_begin(struct session *s)
{
	int err = begin_message(s);

	if (err == E_AGAIN) {
		s->wait = WAIT_ROOM;
		return CMD_WAITS;
	}
	if (err != 0) {
		log_warn("%s: cannot take the message: %s", session_qid(s), err_str(err));
		s->tx->error = MSG_WRITE;
	}
	return err == 0 ? CMD_OK : CMD_FAILED;
}

bool cmd_data_check(struct session *s, struct sv args)
{
	if (s->bdat != BDAT_NONE)
		session_reply(s, "503 5.5.1 Error: DATA after BDAT");
	else if (s->tx == NULL)
		session_reply(s, "503 5.5.1 Error: need RCPT command");
	else if (s->tx->rcpt_count == 0)
		session_reply(s, "554 5.5.1 Error: no valid recipients");
	else if (args.len > 0)
		session_reply(s, "501 5.5.4 Syntax: DATA");
	else
		return true;
	return false;
}

enum cmd_outcome cmd_data_apply(struct session *s)
{
	if (s->pending.stage == STAGE_EOD) {
		finish_message(s);
		return CMD_WAITS;
	}
	if (s->pending.stage == STAGE_BEGIN) {
		const char *refusal;
		enum filter_step step = session_filter_data(s, &refusal);

		if (step == FILTER_REFUSES)
			session_reply_text(s, refusal);
		if (step != FILTER_GOES_ON)
			return step == FILTER_WAITS ? CMD_WAITS : CMD_FAILED;
		if (s->tx->env.client_addr.len == 0 && !complete_envelope(s)) {
			session_reply(s, "452 4.5.3 Error: too many recipients");
			session_reset_tx(s);
			return CMD_FAILED;
		}
		if (try_begin(s) == CMD_WAITS)
			return CMD_WAITS;
	}
	s->pending.stage = STAGE_CONTENT;
	smtp_data_init(&s->tx->scan, s->strict_newline);
	session_reply(s, "354 End data with <CR><LF>.<CR><LF>");
	s->state = SESSION_DATA;
	s->where = "DATA content";
	return CMD_WAITS;
}

/* ---- content ---- */

static void give_up(struct session *s, enum message_error error)
{
	struct tx *t = s->tx;

	if (t->error != MSG_OK)
		return;
	t->error = error;
	if (s->filter != NULL)
		session_filter_abandon(s);
	s->ops->abort(s->ops->ctx, s);
	t->begun = false;
}

static void check_size(struct session *s)
{
	int64_t limit = s->listener->p->message_size_limit;

	if (limit > 0 && s->act_size > (uint64_t)limit && s->tx->error == MSG_OK) {
		log_warn("%s: queue file size limit exceeded", session_qid(s));
		give_up(s, MSG_TOO_BIG);
	}
}

/* Scan in to wherever it goes. Returns bytes used; with s->wait set there was no room. */
size_t session_store(struct session *s, const char *in, size_t len)
{
	static char nowhere[16384];
	struct tx *t = s->tx;
	size_t used = 0;

	do {
		size_t room_len = sizeof(nowhere), out_len = 0;
		char *room = nowhere;

		if (t->begun && t->error == MSG_OK) {
			room = s->filter != NULL ? session_filter_room(s, &room_len)
						 : s->ops->room(s->ops->ctx, s, &room_len);
			if (room == NULL) {
				s->wait = WAIT_ROOM;
				return used;
			}
		}
		used += smtp_data_scan(&t->scan, in + used, len - used, room, room_len, &out_len);
		if (room != nowhere && s->filter != NULL)
			session_filter_advance(s, out_len);
		else if (room != nowhere)
			s->ops->advance(s->ops->ctx, s, out_len);
		s->act_size += out_len;
		counter_add(session_counters, CTR_smtpd_bytes, out_len);
		check_size(s);
	} while ((used < len && !t->scan.done) || smtp_data_pending(&t->scan) > 0);
	return used;
}

/* A mbox separator in front of the header is kept as a header; a header cannot begin with blanks.
 * Returns false while more of the line must be seen first. */
static bool look_at_first_line(struct session *s, const char *p, size_t len)
{
	struct tx *t = s->tx;
	size_t quoted = 0, n = size_min(len, FIRST_LINE_LOOK);

	if (n == 0)
		return false;
	while (quoted < n && p[quoted] == '>')
		quoted++;
	size_t seen = size_min(n - quoted, 5);

	if (quoted < FIRST_LINE_LOOK && memcmp(p + quoted, "From ", seen) == 0) {
		if (seen < 5 && quoted + seen < FIRST_LINE_LOOK)
			return false;
		if (seen == 5)
			t->prefix = SV("X-Mailbox-Line: ");
	} else if (p[0] == ' ' || p[0] == '\t') {
		t->prefix = SV("\r\n");
	}
	t->first_line_seen = true;
	return true;
}

static bool store_prefix(struct session *s)
{
	struct tx *t = s->tx;

	while (t->prefix.len > 0) {
		size_t n = session_store(s, t->prefix.p, t->prefix.len);

		t->prefix = (struct sv){ t->prefix.p + n, t->prefix.len - n };
		if (s->wait != WAIT_NONE)
			return false;
	}
	return true;
}

static void end_of_content(struct session *s)
{
	struct tx *t = s->tx;

	s->state = SESSION_COMMAND;
	s->where = "END-OF-MESSAGE";
	t->end_us = clock_mono_us_raw();
	s->pending.stage = STAGE_EOD;
	finish_message(s);
}

static void note_newlines(struct session *s)
{
	if (!s->tx->scan.bare_lf)
		return;
	if (s->note_newline)
		s->noted_bare_lf = true;
	if (s->reject_newline) {
		/* wins over other reasons: it is what the client must know */
		give_up(s, MSG_BARE_LF);
		s->tx->error = MSG_BARE_LF;
	}
}

size_t data_input(struct session *s, const char *data, size_t len)
{
	struct tx *t = s->tx;

	if (!t->first_line_seen && !look_at_first_line(s, data, len))
		return 0;
	if (!store_prefix(s))
		return 0;
	if (len == 0 && smtp_data_pending(&t->scan) == 0)
		return 0;
	size_t used = session_store(s, data, len);

	note_newlines(s);
	if (t->scan.done)
		end_of_content(s);
	return used;
}

/* ---- end of message ---- */

static bool reply_error(struct session *s)
{
	const char *host = s->listener->p->myhostname;

	switch (s->tx->error) {
	case MSG_OK:
		return false;
	case MSG_BARE_LF:
		session_log_action(s, "reject", "bare <LF> received");
		session_reply(s, "%d 5.5.2 %s Error: bare <LF> received",
			      (int)s->listener->p->smtpd_forbid_bare_newline_reject_code, host);
		break;
	case MSG_TOO_BIG:
		session_reply(s, "552 5.3.4 Error: message file too big");
		break;
	case MSG_WRITE:
		session_reply(s, "451 4.3.0 Error: queue file write error");
		break;
	}
	counter_add(session_counters,
		    s->tx->error == MSG_WRITE ? CTR_smtpd_message_tempfails
					      : CTR_smtpd_message_permfails,
		    1);
	return true;
}

/* The envelope has left: an end-of-data restriction can refuse, or let it pass. */
static void warn_late_effects(const struct session *s)
{
	const struct policy_effects *fx = &s->policy.effects;
	const struct envelope *e = &s->tx->env;

	if (fx->hold > ((e->flags & ENVF_HOLD) != 0) ||
	    fx->discard > ((e->flags & ENVF_DISCARD) != 0) ||
	    (fx->filter != NULL && !sv_eq_str(e->filter, fx->filter)) ||
	    (fx->redirect != NULL && !sv_eq_str(e->redirect, fx->redirect)))
		log_warn("%s: an access table action in smtpd_end_of_data_restrictions came too "
			 "late for the message",
			 session_qid(s));
}

static void message_done(struct session *s, bool good)
{
	histogram_add(session_counters, HIS_smtpd_accept,
		      (uint64_t)(clock_mono_us_raw() - s->tx->end_us));
	session_reset_tx(s);
	session_talk_message(s, good);
	session_command_done(s, good);
}

static void say_filtered(struct session *s, const char *reply)
{
	bool good = reply[0] == '2';

	if (good)
		s->error_count = s->junk_count = 0;
	counter_add(session_counters,
		    good              ? CTR_smtpd_messages
		    : reply[0] == '5' ? CTR_smtpd_message_permfails
				      : CTR_smtpd_message_tempfails,
		    1);
	session_reply_text(s, reply);
	session_log_filtered(s, good ? "proxy-accept" : "proxy-reject", reply);
	message_done(s, good);
}

static void finish_filtered(struct session *s)
{
	const char *reply;

	if (session_filter_end(s, &reply) == FILTER_REFUSES)
		say_filtered(s, reply);
}

void session_filtered(struct session *s, const char *reply)
{
	s->wait = WAIT_NONE;
	say_filtered(s, reply);
	session_pump(s);
}

static void finish_message(struct session *s)
{
	note_newlines(s);
	if (reply_error(s)) {
		if (s->filter != NULL)
			session_log_filtered(s, "proxy-reject", session_filter_reply(s));
		message_done(s, false);
		return;
	}
	enum policy_verdict v = session_policy(s, POLICY_ON_EOD);

	if (v == POLICY_NEED)
		return;
	if (v == POLICY_REJECT || v == POLICY_DEFER) {
		counter_add(session_counters, CTR_smtpd_rejects, 1);
		if (s->run->hangup)
			s->hangup = true;
		else
			session_reply(s, "%s", s->run->reply);
		session_policy_free(s);
		message_done(s, false);
		return;
	}
	session_policy_free(s);
	warn_late_effects(s);
	if (s->tx->error != MSG_OK) { /* lost its rewrite worker while policy thought */
		reply_error(s);
		message_done(s, false);
		return;
	}
	s->pending.stage = STAGE_VERDICT;
	if (s->filter != NULL) {
		finish_filtered(s);
		return;
	}
	s->wait = WAIT_DONE;
	s->ops->end(s->ops->ctx, s);
}

/* `name`: what it is queued as; empty = the queue id. */
static void say_queued(struct session *s, struct sv name)
{
	if (name.len == 0)
		name = sv_from(session_qid(s));

	counter_add(session_counters, CTR_smtpd_messages, 1);
	s->error_count = s->junk_count = 0;
	if (s->bdat != BDAT_NONE)
		session_reply(s, "250 2.0.0 Ok: %llu bytes queued as %.*s",
			      (unsigned long long)s->tx->chunk_bytes, (int)name.len, name.p);
	else
		session_reply(s, "250 2.0.0 Ok: queued as %.*s", (int)name.len, name.p);
}

void session_submit_done(struct session *s, enum submit_verdict v, unsigned code,
			 const uint8_t dsn[3], struct sv text)
{
	bool temp = v == SUBMIT_TEMPFAIL;

	log_speak_as(s->listener->log_name);
	if (s->wait != WAIT_DONE)
		return;
	s->tx->begun = false;
	s->wait = WAIT_NONE;
	if (s->state == SESSION_QMQP) {
		qmqp_done(s, v, dsn, text);
		return;
	}
	if (v == SUBMIT_OK || v == SUBMIT_DISCARDED) {
		say_queued(s, text);
	} else if (code != 0 && dsn[0] == 0 && text.len > 0) { /* a milter's, as it is */
		char *reply = xstrndup(text.p, text.len);

		session_reply_text(s, reply);
		free(reply);
	} else if (code / 100 == (temp ? 4u : 5u) && dsn[0] == code / 100 && text.len > 0) {
		session_reply(s, "%u %u.%u.%u %.*s", code, dsn[0], dsn[1], dsn[2],
			      (int)size_min(text.len, PROTO_TEXT_MAX), text.p);
	} else if (temp) {
		session_reply(s, "451 4.3.0 Error: queue file write error");
	} else {
		session_reply(s, "550 5.7.1 message content rejected");
	}
	if (v == SUBMIT_TEMPFAIL)
		counter_add(session_counters, CTR_smtpd_message_tempfails, 1);
	if (v == SUBMIT_PERMFAIL)
		counter_add(session_counters, CTR_smtpd_message_permfails, 1);
	message_done(s, v == SUBMIT_OK || v == SUBMIT_DISCARDED);
	session_pump(s);
}

void session_submit_lost(struct session *s)
{
	static const uint8_t dsn[3] = { 4, 3, 0 };

	log_speak_as(s->listener->log_name);
	if (s->tx == NULL || !s->tx->begun)
		return;
	if (s->wait == WAIT_DONE) {
		session_submit_done(s, SUBMIT_TEMPFAIL, 451, dsn,
				    SV("Error: queue file write error"));
		return;
	}
	give_up(s, MSG_WRITE);
	session_room(s); /* when it waited for some: there is no end to wait for now */
}

void data_resume(struct session *s)
{
	/* the scanner may hold bytes that found no room; input follows through the pump */
	if (s->state == SESSION_CHUNK && s->chunk_left == 0)
		chunk_input(s, "", 0);
}

/* ---- BDAT ---- */

static bool refuse_chunk(struct session *s, const char *reply)
{
	free(s->skip_reply);
	s->skip_reply = xstrdup(reply);
	s->chunk_left = s->pending.chunk;
	s->state = SESSION_SKIP;
	int64_t limit = s->listener->p->message_size_limit;

	/* no end of octets after an error: stop listening */
	if (limit > 0 && (s->act_size + s->chunk_left) / 3 * 2 > (uint64_t)limit) {
		log_warn("%s: too much BDAT content -- disabling further input from %s",
			 session_qid(s), s->namaddr);
		session_reply(s, "%s", s->skip_reply);
		session_close(s);
		return false;
	}
	s->act_size += s->chunk_left;
	if (s->chunk_left == 0)
		skip_input(s, "", 0);
	return false;
}

size_t skip_input(struct session *s, const char *data UNUSED, size_t len)
{
	size_t n = s->chunk_left < len ? (size_t)s->chunk_left : len;

	s->chunk_left -= n;
	if (s->chunk_left > 0)
		return n;
	session_reply(s, "%s", s->skip_reply);
	free(s->skip_reply);
	s->skip_reply = NULL;
	if (s->pending.last)
		session_reset_tx(s);
	else
		s->bdat = BDAT_ERROR;
	session_command_done(s, false);
	return n;
}

static bool parse_bdat(struct session *s, struct sv args)
{
	size_t n = 0;

	while (n < args.len && ascii_is_digit(args.p[n]))
		n++;
	struct sv last = sv_trim((struct sv){ args.p + n, args.len - n });

	if (n == 0 || (n < args.len && !ascii_is_space(args.p[n])))
		return false;
	s->pending.last = last.len > 0;
	if (last.len > 0 && !sv_eq_nocase(last, SV("LAST")))
		return false;
	return str_to_u64((struct sv){ args.p, n }, INT64_MAX, &s->pending.chunk) == 0;
}

bool cmd_bdat_check(struct session *s, struct sv args)
{
	if ((s->discard_mask & 1u << EHLO_CHUNKING) != 0) {
		session_reply(s, "521 5.5.1 Error: command not implemented");
		return false;
	}
	if (!parse_bdat(s, args)) {
		log_warn("%s: malformed BDAT command syntax from %s: BDAT %.*s", session_qid(s),
			 s->namaddr, (int)size_min(args.len, 100), args.p);
		session_reply(s, "521 5.5.4 Syntax: BDAT count [LAST]");
		return false;
	}
	if (s->pending.chunk == 0 && !s->pending.last) {
		log_warn("%s: null BDAT request from %s", session_qid(s), s->namaddr);
		return refuse_chunk(s, "551 5.7.1 Null BDAT request");
	}
	if (s->bdat == BDAT_ERROR) {
		char *text = xasprintf("551 5.0.0 Discarded %llu bytes after earlier error",
				       (unsigned long long)s->pending.chunk);

		refuse_chunk(s, text);
		free(text);
		return false;
	}
	if (s->tx == NULL)
		return refuse_chunk(s, "503 5.5.1 Error: need RCPT command");
	if (s->tx->rcpt_count == 0)
		return refuse_chunk(s, "554 5.5.1 Error: no valid recipients");
	return true;
}

/* The first chunk begins the message: DATA restrictions, envelope, Received. */
static enum cmd_outcome begin_bdat(struct session *s)
{
	if (s->tx->env.client_addr.len == 0) {
		enum policy_verdict v = session_milter_has_answer(s)
						? POLICY_PERMIT
						: session_policy(s, POLICY_ON_DATA);
		const char *reply;

		if (v == POLICY_NEED)
			return CMD_WAITS;
		if (v == POLICY_REJECT || v == POLICY_DEFER) {
			counter_add(session_counters, CTR_smtpd_rejects, 1);
			s->hangup = s->hangup || s->run->hangup;
			refuse_chunk(s, s->run->reply);
			session_policy_free(s);
			return CMD_FAILED;
		}
		session_policy_free(s);
		enum milter_step step = session_milter_command(s, &reply);

		if (step == MILTER_WAITS)
			return CMD_WAITS;
		if (step == MILTER_REFUSES) {
			s->hangup = s->hangup || strncmp(reply, "421", 3) == 0;
			refuse_chunk(s, reply);
			return CMD_FAILED;
		}
		if (!complete_envelope(s)) {
			refuse_chunk(s, "452 4.5.3 Error: too many recipients");
			return CMD_FAILED;
		}
	}
	const char *refusal;
	enum filter_step filter = session_filter_data(s, &refusal);

	if (filter == FILTER_WAITS)
		return CMD_WAITS;
	if (filter == FILTER_REFUSES) {
		refuse_chunk(s, refusal);
		return CMD_FAILED;
	}
	if (try_begin(s) == CMD_WAITS)
		return CMD_WAITS;
	smtp_data_init_chunked(&s->tx->scan);
	s->tx->first_line_seen = true;
	s->bdat = BDAT_GOING;
	return CMD_OK;
}

static bool chunk_too_big(const struct session *s)
{
	int64_t limit = s->listener->p->message_size_limit;

	return limit > 0 &&
	       (s->act_size > (uint64_t)limit || s->pending.chunk > (uint64_t)limit - s->act_size);
}

enum cmd_outcome cmd_bdat_apply(struct session *s)
{
	if (s->pending.stage == STAGE_EOD) {
		finish_message(s);
		return CMD_WAITS;
	}
	if (s->state == SESSION_COMMAND && chunk_too_big(s)) {
		log_warn("%s: BDAT request from %s exceeds message size limit", session_qid(s),
			 s->namaddr);
		refuse_chunk(s, "552 5.3.4 Chunk exceeds message size limit");
		return CMD_WAITS;
	}
	if (s->bdat == BDAT_NONE && begin_bdat(s) != CMD_OK)
		return CMD_WAITS;
	s->where = "BDAT content";
	s->state = SESSION_CHUNK;
	s->pending.stage = STAGE_CONTENT;
	s->chunk_left = s->pending.chunk;
	if (s->chunk_left == 0)
		chunk_input(s, "", 0);
	return CMD_WAITS;
}

/* Nothing of the chunk is left: more chunks, or the end. */
static void chunk_over(struct session *s)
{
	struct tx *t = s->tx;

	if (s->pending.last) {
		if (!t->chunks_ended) {
			t->chunks_ended = true;
			smtp_data_end_chunks(&t->scan);
		}
		if (smtp_data_pending(&t->scan) > 0)
			session_store(s, "", 0);
		if (s->wait == WAIT_NONE)
			end_of_content(s);
		return;
	}
	if (reply_error(s)) {
		session_reset_tx(s);
		s->bdat = BDAT_ERROR;
		session_command_done(s, false);
		return;
	}
	session_reply(s, "250 2.0.0 Ok: %llu bytes", (unsigned long long)s->pending.chunk);
	session_command_done(s, true);
}

size_t chunk_input(struct session *s, const char *data, size_t len)
{
	size_t want = s->chunk_left < len ? (size_t)s->chunk_left : len;
	size_t used =
		want > 0 || smtp_data_pending(&s->tx->scan) > 0 ? session_store(s, data, want) : 0;

	note_newlines(s);
	s->tx->chunk_bytes += used;
	s->chunk_left -= used;
	if (s->chunk_left == 0 && s->wait == WAIT_NONE)
		chunk_over(s);
	return used;
}
