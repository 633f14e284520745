/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One message from bytes to record; see workers/rewrite/message.h. */
#include "workers/rewrite/message.h"

#include <string.h>

#include "conf/map_remote.h"
#include "lib/clock.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"

#define ARENA_CHUNK     (16u << 10)
#define ARENA_LIMIT     (64u << 20)
#define BUF_KEEP        (256u << 10) /* larger buffers are given back between messages */
#define SUBMIT_RCPT_MAX 100000u
#define TRACE_BYTES     (16u << 10) /* Received and the like */

const struct message_verdict verdict_ok = { .verdict = SUBMIT_OK };
const struct message_verdict verdict_write_error = {
	SUBMIT_TEMPFAIL, 451, { 4, 3, 0 }, "Error: queue file write error"
};
const struct message_verdict verdict_no_space = {
	SUBMIT_TEMPFAIL, 452, { 4, 3, 1 }, "Insufficient system storage"
};
static const struct message_verdict verdict_too_big = {
	SUBMIT_PERMFAIL, 552, { 5, 3, 4 }, "Message size exceeds fixed limit"
};
static const struct message_verdict verdict_hops = {
	SUBMIT_PERMFAIL, 554, { 5, 4, 0 }, "Error: too many hops"
};
const struct message_verdict verdict_table = {
	SUBMIT_TEMPFAIL, 451, { 4, 3, 0 }, "Temporary lookup failure"
};
static const struct message_verdict verdict_alias = {
	SUBMIT_TEMPFAIL, 451, { 4, 6, 0 }, "Alias expansion error"
};
static const struct message_verdict verdict_no_rcpt = {
	SUBMIT_PERMFAIL, 554, { 5, 5, 1 }, "Error: no valid recipients"
};
/* A probe of the verify worker goes no further then. */
static const struct message_verdict verdict_aliased = {
	SUBMIT_DISCARDED, 250, { 2, 0, 0 }, "aliased to multiple recipients"
};
const struct message_verdict verdict_discard = { .verdict = SUBMIT_DISCARDED };

const struct message_verdict *verdict_of_error(int err)
{
	return err == E_NOSPC ? &verdict_no_space : &verdict_write_error;
}

void message_init(struct message *m, const struct rules *rules)
{
	*m = (struct message){ .rules = rules };
	arena_init(&m->arena, ARENA_CHUNK, ARENA_LIMIT);
}

static void end_conversion(struct message *m)
{
	if (m->convert == NULL)
		return;
	convert_fini(m->convert);
	free(m->convert);
	m->convert = NULL;
}

void message_fini(struct message *m)
{
	arena_fini(&m->arena);
	buf_fini(&m->env_in);
	buf_fini(&m->out);
	buf_fini(&m->env_out);
	buf_fini(&m->raw);
	header_fini(&m->header);
	end_conversion(m);
	buf_fini(&m->converted);
	buf_fini(&m->stripped);
	checks_fini(&m->checks);
}

static void recycle(struct buf *b)
{
	if (b->cap > BUF_KEEP)
		buf_fini(b);
	buf_reset(b);
}

static void begin(struct message *m, struct qid qid)
{
	arena_reset(&m->arena);
	recycle(&m->env_in);
	recycle(&m->out);
	recycle(&m->env_out);
	m->qid = qid;
	qid_format(qid, m->qid_text);
	m->wire = (struct wire){ 0 };
	m->chars_at = BADCHARS_BEGIN;
	recycle(&m->stripped);
	recycle(&m->converted);
	m->converts = m->converted_all = false;
	m->in_bytes = 0;
	m->put_longest = 0;
	m->failed = verdict_ok;
	m->ended = m->is_shown = false;
	recycle(&m->raw);
}

static struct sv sender_for_header(void *ctx)
{
	struct message *m = ctx;

	return expand_sender(m->chain->expander, &m->env, &m->arena);
}

/* force_mime_input_conversion: in front of all that looks at the content. */
static void begin_conversion(struct message *m)
{
	end_conversion(m);
	m->converts = rules_chain(m->rules, m->env.cleanup)->convert != NULL;
	if (!m->converts)
		return;
	m->convert = xcalloc(1, sizeof(*m->convert));
	convert_begin(m->convert, rules_chain(m->rules, m->env.cleanup)->convert, m->qid_text, true,
		      &m->converted);
}

static void begin_header(struct message *m)
{
	uint32_t unseen = m->is_shown ? ENVF_NO_CHECKS : ENVF_INTERNAL | ENVF_NO_CHECKS;

	m->chain = rules_chain(m->rules, m->env.cleanup);
	m->checked =
		(m->env.flags & unseen) == 0 && checks_begin(&m->checks, &m->chain->checks, &m->env,
							     m->qid_text, &m->arena, &m->out);
	m->facts = (struct header_facts){
		.local = (m->env.flags & ENVF_LOCAL_CLIENT) != 0,
		.internal = (m->env.flags & ENVF_INTERNAL) != 0,
		.sender = sender_for_header,
		.sender_ctx = m,
		.full_name = m->env.full_name,
		.qid = sv_from(m->qid_text),
		.arrival_s = m->env.arrival_us / 1000000,
		.prepend = m->env.prepend,
		.prepend_count = m->env.prepend_count,
		.no_mapping = (m->env.flags & ENVF_NO_RECIPIENT_MAPS) != 0,
		.arena = &m->arena,
		.checks = m->checked ? &m->checks : NULL,
		.bad_end = m->converts ? buf_sv(&m->convert->bad_end) : SV(""),
	};
	header_begin(&m->header, &m->chain->header, &m->facts, &m->out);
	m->held = false;
	m->open = m->chain->remote_mapping && (m->header.complete || m->header.add);
	if (m->open && m->checked)
		checks_hold(&m->checks);
}

/* All that the header needed is known, or waits: then false. */
static bool header_is_settled(struct message *m)
{
	m->held = m->open && map_memo_is_missing();
	if (m->held)
		return false;
	if (m->open && m->checked)
		checks_settle(&m->checks);
	m->open = false;
	return true;
}

/* Is what the smtp-in worker says possible at all? */
static bool envelope_is_sane(const struct message *m)
{
	if (m->env.sender.len > MAIL_ADDR_MAX_BYTES || m->env.redirect.len > MAIL_ADDR_MAX_BYTES)
		return false;
	if (m->env.verp.len != 0 && m->env.verp.len != 2)
		return false;
	for (size_t i = 0; i < m->env.rcpt_count; i++) {
		if (m->env.rcpts[i].addr.len > MAIL_ADDR_MAX_BYTES)
			return false;
	}
	return true;
}

/* What a smtp-in worker tells the postmaster is ours like a notification. Whoever it comes from, it
 * can go nowhere else. */
static bool is_notice(const struct message *m)
{
	const struct params *p = m->rules->p;

	return (m->env.flags & ENVF_INTERNAL) != 0 && m->env.rcpt_count == 1 &&
	       rules_is_double_bounce(m->rules, m->env.sender) &&
	       (sv_eq_str(m->env.rcpts[0].addr, p->error_notice_recipient) ||
		sv_eq_str(m->env.rcpts[0].addr, p->bounce_notice_recipient));
}

int message_begin(struct message *m, struct qid qid, struct sv env)
{
	int64_t now = clock_now_wall().us;

	begin(m, qid);
	buf_add_sv(&m->env_in, env);
	if (env_decode(buf_sv(&m->env_in), SUBMIT_RCPT_MAX, &m->arena, &m->env) < 0 ||
	    !envelope_is_sane(m))
		return E_PEER;
	if (!is_notice(m))
		m->env.flags &= ~(uint32_t)ENVF_INTERNAL;
	else
		m->is_shown = (m->rules->filter_classes & FILTER_CLASS_NOTIFY) != 0;
	if (m->env.verify.len > 0) /* bcc, checks and milters are for mail */
		m->env.flags |= ENVF_INTERNAL | ENVF_PROBE;
	m->env.bounce_of.len = 0;
	if (m->env.arrival_us <= 0 || m->env.arrival_us > now)
		m->env.arrival_us = now;
	m->env_begun = m->env;
	begin_conversion(m);
	begin_header(m);
	return 0;
}

int message_begin_shown(struct message *m, struct qid qid, struct sv env)
{
	begin(m, qid);
	buf_add_sv(&m->env_in, env);
	if (env_decode(buf_sv(&m->env_in), SUBMIT_RCPT_MAX, &m->arena, &m->env) < 0)
		return E_INVAL;
	m->is_shown = true;
	m->env_begun = m->env;
	begin_conversion(m);
	begin_header(m);
	return 0;
}

void message_begin_own(struct message *m, struct qid qid, const struct envelope *env)
{
	begin(m, qid);
	m->env = *env;
	begin_header(m);
	m->header.done = true;
	m->open = false;
}

/* What smtp-in puts in front does not count. */
static uint64_t too_big(const struct message *m)
{
	uint64_t limit = m->chain->message_size_limit;

	return limit < UINT64_MAX - TRACE_BYTES ? limit + TRACE_BYTES : limit;
}

/* What header or body checks found to refuse. */
static void take_refusal(struct message *m)
{
	const struct check_refusal *r = &m->checks.refusal;

	if (m->checks.table_error) {
		m->failed = verdict_write_error;
	} else if (r->code != 0) {
		m->failed =
			(struct message_verdict){ r->code < 500 ? SUBMIT_TEMPFAIL : SUBMIT_PERMFAIL,
						  r->code,
						  { r->dsn[0], r->dsn[1], r->dsn[2] },
						  r->text };
	}
}

/* The next of what follows the header. */
static void take_body(struct message *m, struct sv *body_r)
{
	if (m->checked) {
		size_t mark = m->out.len;

		checks_body(&m->checks, *body_r);
		if (m->out.len > mark)
			m->put_longest = u64_max(m->put_longest,
						 wire_longest_line((struct sv){
							 m->out.p + mark, m->out.len - mark }));
		body_r->len = 0;
		take_refusal(m);
	} else if (m->converts) {
		buf_add_sv(&m->out, *body_r);
		body_r->len = 0;
	}
	if (m->header.too_many_hops)
		m->failed = verdict_hops;
}

/* What came, as all further steps see it. */
static void take_text(struct message *m, struct sv text, struct sv *body_r)
{
	size_t used = 0;

	if (m->open)
		buf_add_sv(&m->raw, text);
	if (m->held || m->failed.verdict != SUBMIT_OK)
		return;
	if (!m->header.done)
		used = header_feed(&m->header, text.p, text.len);
	if ((m->header.done && !header_is_settled(m)) || m->open)
		return;
	*body_r = (struct sv){ text.p + used, text.len - used };
	take_body(m, body_r);
}

/* The same by way of the conversion; `last`: nothing follows. */
static void convert_text(struct message *m, struct sv text, bool last, struct sv *body_r)
{
	buf_reset(&m->converted);
	convert_feed(m->convert, text);
	if (last)
		convert_end(m->convert);
	m->facts.bad_end = buf_sv(&m->convert->bad_end);
	take_text(m, buf_sv(&m->converted), body_r);
}

int message_feed(struct message *m, char *data, size_t len, struct sv *body_r)
{
	size_t usable;
	struct sv text;

	*body_r = (struct sv){ data, 0 };
	if (wire_check(&m->wire, data, len, &usable) < 0)
		return E_PEER;
	m->in_bytes += usable;
	if (m->in_bytes > too_big(m) && m->failed.verdict == SUBMIT_OK)
		m->failed = verdict_too_big;
	if (m->failed.verdict != SUBMIT_OK)
		return 0;
	text = (struct sv){ data, usable };
	if (m->checked && !checks_characters(&m->checks, &text, &m->chars_at, &m->stripped))
		take_refusal(m);
	if (m->converts)
		convert_text(m, text, false, body_r);
	else
		take_text(m, text, body_r);
	return 0;
}

void message_again(struct message *m, struct sv *body_r)
{
	size_t used;

	m->env = m->env_begun;
	buf_reset(&m->out);
	begin_header(m);
	*body_r = (struct sv){ m->raw.p, 0 };
	used = header_feed(&m->header, buf_cstr(&m->raw), m->raw.len);
	if (m->ended)
		header_end(&m->header);
	if (!header_is_settled(m))
		return;
	*body_r = (struct sv){ m->raw.p + used, m->raw.len - used };
	take_body(m, body_r);
}

/* ---- finish ---- */

static const struct message_verdict *expand(struct message *m)
{
	switch (expand_envelope(m->chain->expander, &m->env, &m->arena)) {
	case EXPAND_OK:
		return m->env.rcpt_count > 0 ? &verdict_ok : &verdict_no_rcpt;
	case EXPAND_TABLE:
		return &verdict_table;
	case EXPAND_LOOP:
		return &verdict_alias;
	case EXPAND_MEMORY:
		break;
	}
	return &verdict_no_space;
}

/* The same sender, the same flow: the scheduler lets flows take turns. */
static uint32_t flow_of(struct sv sender)
{
	return crc32c(0, sender.p, sender.len) << MSGF_FLOW_SHIFT & MSGF_FLOW_MASK;
}

static uint32_t message_flags(const struct message *m)
{
	uint32_t flags = flow_of(m->env.sender);

	if (m->env.sender.len == 0)
		flags |= MSGF_NULL_SENDER;
	if (rules_is_double_bounce(m->rules, m->env.sender))
		flags |= MSGF_DOUBLE_BOUNCE;
	if (m->env.flags & ENVF_HOLD)
		flags |= MSGF_HOLD;
	if (m->env.flags & ENVF_INTERNAL)
		flags |= MSGF_INTERNAL;
	if (m->env.flags & (ENVF_PROBE | ENVF_REPORT))
		flags |= MSGF_WANT_SUCCESS;
	if (m->env.verify.len > 0)
		flags |= MSGF_VERIFY;
	for (size_t i = 0; i < m->env.rcpt_count; i++) {
		if (m->env.rcpts[i].notify & NOTIFY_SUCCESS)
			flags |= MSGF_WANT_SUCCESS;
	}
	return flags;
}

/* What a delivery decides by, without reading the content. */
static void note_content(struct message *m)
{
	if (m->wire.lines == 0) /* our own: m->out has all of it */
		wire_note(&m->wire, buf_sv(&m->out));
	m->env.longest = u64_max(u64_max(m->wire.longest, m->header.longest), m->put_longest);
	if (m->wire.eight && m->chain->detect_8bit && !m->converts)
		m->env.body = BODY_8BIT;
}

const struct message_verdict *message_build(struct message *m)
{
	m->env = m->env_closed;
	buf_reset(&m->env_out);
	const struct message_verdict *v = expand(m);

	if (v->verdict != SUBMIT_OK)
		return v;
	if (m->env.verify.len > 0 && m->env.rcpt_count > 1)
		return &verdict_aliased;
	struct resolver *router = rules_router(m->rules, m->chain, m->env.verify);

	if (plan_new(m->rules->conf, router, &m->env, &m->arena, &m->plan) < 0)
		return &verdict_no_space;
	/* the record keeps what later stages need, not what was for this one */
	m->env.prepend_count = 0;
	m->env.redirect.len = 0;
	m->env.full_name.len = 0;
	note_content(m);
	if (env_encode(&m->env, &m->env_out) < 0)
		return &verdict_no_space;
	m->hdr = (struct spool_record){
		.flags = message_flags(m),
		.qid_us = m->qid.time_us,
		.qid_life = m->qid.life,
		.rcpt_count = (uint32_t)m->env.rcpt_count,
	};
	return &verdict_ok;
}

const struct message_verdict *message_close(struct message *m, int *err_r)
{
	*err_r = wire_end(&m->wire);
	if (*err_r < 0)
		return &verdict_write_error;
	if (m->converts && !m->converted_all && m->failed.verdict == SUBMIT_OK) {
		struct sv none;

		m->converted_all = true;
		convert_text(m, SV(""), true, &none);
	}
	if (m->failed.verdict != SUBMIT_OK)
		return &m->failed;
	m->ended = true;
	if (m->held)
		return NULL;
	header_end(&m->header);
	if (!header_is_settled(m))
		return NULL;
	if (m->header.too_many_hops)
		return &verdict_hops;
	if (m->checked) {
		checks_end(&m->checks);
		take_refusal(m);
		if (m->failed.verdict != SUBMIT_OK)
			return &m->failed;
	}
	if (m->header.map_error < 0)
		return m->header.map_error == E_AGAIN ? &verdict_table : &verdict_no_space;
	if (m->env.flags & ENVF_DISCARD)
		return &verdict_discard;
	m->env_closed = m->env;
	return &verdict_ok;
}

void message_envelope_changed(struct message *m)
{
	m->env_closed = m->env;
}

void message_content_changed(struct message *m, struct buf *out)
{
	buf_fini(&m->out);
	m->out = *out;
	*out = BUF_INIT;
	m->wire = (struct wire){ 0 }; /* note_content() looks at it anew */
	m->converts = false;
	m->header.longest = m->put_longest = 0;
}

const struct message_verdict *message_finish(struct message *m, int *err_r)
{
	const struct message_verdict *v = message_close(m, err_r);

	return v->verdict == SUBMIT_OK ? message_build(m) : v;
}

void message_log_id(const struct message *m)
{
	if (m->header.resent_message_id[0] != '\0')
		log_as(m->chain->log_name, LOG_LEVEL_INFO, "%s: resent-message-id=%s", m->qid_text,
		       m->header.resent_message_id);
	log_as(m->chain->log_name, LOG_LEVEL_INFO, "%s: message-id=%s", m->qid_text,
	       m->header.message_id[0] != '\0' ? m->header.message_id : "<>");
}
