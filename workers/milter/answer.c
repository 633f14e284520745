/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What milters say: decisions about an event, changes of a message, mistakes. */
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "workers/milter/client_int.h"

#define REASON_BYTES 100

enum outcome {
	ANSWER_MORE,   /* another one follows */
	ANSWER_OVER,   /* m->answer is the answer, or there is none but m->def_reply */
	ANSWER_EXCESS, /* data where there must be none */
	ANSWER_BAD,    /* the milter has failed */
};

struct answer {
	struct milter *m;
	char letter;
	struct sv data;
};

typedef enum outcome (*answer_fn)(struct answer *a);

static bool at_connect(const struct milter *m)
{
	return m->event == MILTER_CONNECT || m->event == MILTER_HELO;
}

static enum outcome over(struct milter *m, const char *reply)
{
	milter_set_reply(&m->answer, reply);
	return ANSWER_OVER;
}

/* A decision that stays: for the whole session at its beginning. */
static enum outcome refuse(struct milter *m, const char *reply)
{
	if (at_connect(m)) {
		milter_link_close(m);
		m->state = MILTER_REJECT_CON;
		milter_set_reply(&m->def_reply, reply);
	}
	return over(m, reply);
}

static enum outcome conf_mistake(struct milter *m)
{
	milter_fail(m, false);
	return ANSWER_BAD;
}

static enum outcome short_data(struct milter *m, const char *what)
{
	milter_warn(m, "milter %s: %s", m->spec->name, what);
	milter_fail(m, true);
	return ANSWER_BAD;
}

/* ---- decisions ---- */

static enum outcome on_progress(struct answer *a)
{
	return a->data.len > 0 ? ANSWER_EXCESS : ANSWER_MORE;
}

static enum outcome on_continue(struct answer *a)
{
	return a->data.len > 0 ? ANSWER_EXCESS : over(a->m, a->m->def_reply);
}

static enum outcome on_accept(struct answer *a)
{
	struct milter *m = a->m;

	if (a->data.len > 0)
		return ANSWER_EXCESS;
	if (at_connect(m)) {
		milter_link_close(m);
		m->state = MILTER_ACCEPT_CON;
	} else {
		m->state = MILTER_ACCEPT_MSG;
	}
	return over(m, m->def_reply);
}

static enum outcome on_discard(struct answer *a)
{
	struct milter *m = a->m;

	if (a->data.len > 0)
		return ANSWER_EXCESS;
	if (at_connect(m)) {
		milter_warn(m, "milter %s: DISCARD action is not allowed for connect or helo",
			    m->spec->name);
		return over(m, m->def_reply);
	}
	m->state = MILTER_ACCEPT_MSG;
	return over(m, "D");
}

static enum outcome on_reject(struct answer *a)
{
	return a->data.len > 0 ? ANSWER_EXCESS : refuse(a->m, "550 5.7.1 Command rejected");
}

static enum outcome on_tempfail(struct answer *a)
{
	return a->data.len > 0 ? ANSWER_EXCESS
			       : refuse(a->m, "451 4.7.1 Service unavailable - try again later");
}

static enum outcome on_shutdown(struct answer *a)
{
	struct milter *m = a->m;

	if (a->data.len > 0)
		return ANSWER_EXCESS;
	milter_link_close(m);
	m->state = MILTER_REJECT_CON;
	milter_set_reply(&m->def_reply, "S");
	return over(m, "S");
}

static enum outcome on_reply_code(struct answer *a)
{
	struct buf text = BUF_INIT;
	enum outcome o;

	if (milter_reply_text(a->data, &text)) {
		o = refuse(a->m, buf_cstr(&text));
	} else {
		milter_warn(a->m, "milter %s: malformed reply: %.*s", a->m->spec->name,
			    (int)size_min(a->data.len, 200), a->data.p);
		o = conf_mistake(a->m);
	}
	buf_fini(&text);
	return o;
}

/* Holds the message, whatever else is said. */
static enum outcome on_quarantine(struct answer *a)
{
	char reply[REASON_BYTES + 2];
	size_t n = size_min(a->data.len, REASON_BYTES);
	const char *nul = n > 0 ? memchr(a->data.p, '\0', n) : NULL;

	if (nul != NULL)
		n = (size_t)(nul - a->data.p);
	reply[0] = 'H';
	if (n > 0)
		memcpy(reply + 1, a->data.p, n);
	reply[n + 1] = '\0';
	str_make_printable(reply, n + 1);
	milter_set_reply(&a->m->def_reply, reply);
	return ANSWER_MORE;
}

static enum outcome on_skip(struct answer *a)
{
	if (a->data.len > 0)
		return ANSWER_EXCESS;
	a->m->skip = a->m->event;
	return over(a->m, a->m->def_reply);
}

/* ---- changes ---- */

static void edit_result(struct milter *m, int err)
{
	if (err != 0 && m->edit_error == NULL)
		milter_set_reply(&m->edit_error, err == E_LIMIT
							 ? "552 5.3.4 Message file too big"
							 : "451 4.3.0 Queue file write error");
}

/* "Name: value", as the checks leave it. False: it is to be left out. */
static bool make_header(struct milter *m, struct sv name, struct sv value, struct buf *out)
{
	const struct milter_set *s = m->set;

	buf_add_sv(out, name);
	buf_add_str(out, (m->steps & MILTER_LEADING_SPACE) != 0 ? ":" : ": ");
	buf_add_sv(out, value);
	return s->host->check == NULL || s->host->check(s->ctx, out);
}

static int header_error(struct milter *m, int err, struct sv name)
{
	if (err != E_SYNTAX)
		return err;
	milter_warn(m, "milter %s: header without a usable name left out: \"%.*s\"", m->spec->name,
		    (int)size_min(name.len, 100), name.p);
	return 0;
}

static enum outcome on_add_header(struct answer *a)
{
	struct milter *m = a->m;
	struct sv name, value;
	struct buf text = BUF_INIT;

	if (!milter_get_string(&a->data, &name) || !milter_get_string(&a->data, &value))
		return short_data(m, "packet too short for string");
	if (a->data.len > 0)
		return ANSWER_EXCESS;
	if (m->edit_error == NULL && make_header(m, name, value, &text))
		edit_result(m, header_error(m, milter_content_add(m->set->content, buf_sv(&text)),
					    name));
	buf_fini(&text);
	return ANSWER_MORE;
}

/* Index, name and value of a header request. */
static enum outcome take_indexed(struct answer *a, uint32_t *index, struct sv *name,
				 struct sv *value)
{
	if (!milter_get_u32(&a->data, index))
		return short_data(a->m, "input packet too short for network long");
	if (!milter_get_string(&a->data, name) || !milter_get_string(&a->data, value))
		return short_data(a->m, "packet too short for string");
	return a->data.len > 0 ? ANSWER_EXCESS : ANSWER_MORE;
}

static enum outcome on_insert_header(struct answer *a)
{
	struct milter *m = a->m;
	struct buf text = BUF_INIT;
	struct sv name, value;
	uint32_t index;
	enum outcome o = take_indexed(a, &index, &name, &value);

	if (o != ANSWER_MORE)
		return o;
	if (index >= INT32_MAX) {
		milter_warn(m, "milter %s: bad insert header index: %ld", m->spec->name,
			    (long)(int32_t)index);
		return conf_mistake(m);
	}
	if (m->edit_error == NULL && make_header(m, name, value, &text))
		edit_result(m,
			    header_error(
				    m, milter_content_insert(m->set->content, index, buf_sv(&text)),
				    name));
	buf_fini(&text);
	return ANSWER_MORE;
}

static enum outcome on_change_header(struct answer *a)
{
	struct milter *m = a->m;
	struct buf text = BUF_INIT;
	struct sv name, value;
	uint32_t index;
	enum outcome o = take_indexed(a, &index, &name, &value);

	if (o != ANSWER_MORE)
		return o;
	if (index > INT32_MAX) {
		milter_warn(m, "milter %s: bad change header index: %ld", m->spec->name,
			    (long)(int32_t)index);
		return conf_mistake(m);
	}
	if (name.len == 0) {
		milter_warn(m, "milter %s: null change header name", m->spec->name);
		return conf_mistake(m);
	}
	index = index == 0 ? 1 : index;
	if (m->edit_error == NULL && value.len == 0)
		milter_content_delete(m->set->content, index, name);
	else if (m->edit_error == NULL && make_header(m, name, value, &text))
		edit_result(m, header_error(m,
					    milter_content_change(m->set->content, index, name,
								  buf_sv(&text)),
					    name));
	buf_fini(&text);
	return ANSWER_MORE;
}

static enum outcome on_replace_body(struct answer *a)
{
	struct milter *m = a->m;

	if (m->body_locked) {
		milter_warn(m,
			    "milter %s: body replacement requests can't currently be mixed with "
			    "other requests",
			    m->spec->name);
		return conf_mistake(m);
	}
	if (m->edit_error == NULL)
		edit_result(m, milter_content_replace(m->set->content, a->data));
	return ANSWER_MORE;
}

static enum outcome edit_envelope(struct answer *a, enum milter_edit_kind kind, bool args)
{
	const struct milter_set *s = a->m->set;
	struct milter_edit e = { .kind = kind };
	struct sv none = SV("");

	e.args = none;
	if (!milter_get_string(&a->data, &e.addr) ||
	    (args && a->data.len > 0 && !milter_get_string(&a->data, &e.args)))
		return short_data(a->m, "packet too short for string");
	if (a->data.len > 0)
		return ANSWER_EXCESS;
	if (a->m->edit_error == NULL)
		milter_set_reply(&a->m->edit_error, s->host->edit(s->ctx, &e));
	return ANSWER_MORE;
}

static enum outcome on_add_rcpt(struct answer *a)
{
	return edit_envelope(a, MILTER_EDIT_ADD_RCPT, false);
}

static enum outcome on_add_rcpt_par(struct answer *a)
{
	return edit_envelope(a, MILTER_EDIT_ADD_RCPT, true);
}

static enum outcome on_del_rcpt(struct answer *a)
{
	return edit_envelope(a, MILTER_EDIT_DEL_RCPT, false);
}

static enum outcome on_change_from(struct answer *a)
{
	return edit_envelope(a, MILTER_EDIT_FROM, true);
}

static const struct answer_row {
	char letter;
	answer_fn fn;
	bool at_end; /* only after the end of the message */
} rows[] = {
	{ MILTER_PROGRESS, on_progress, false },
	{ MILTER_CONTINUE, on_continue, false },
	{ MILTER_ACCEPT, on_accept, false },
	{ MILTER_DISCARD, on_discard, false },
	{ MILTER_REJECT, on_reject, false },
	{ MILTER_TEMPFAIL, on_tempfail, false },
	{ MILTER_SHUTDOWN, on_shutdown, false },
	{ MILTER_REPLY_CODE, on_reply_code, false },
	{ MILTER_QUARANTINE, on_quarantine, false },
	{ MILTER_SKIP, on_skip, false },
	{ MILTER_ADD_HEADER, on_add_header, true },
	{ MILTER_INSERT_HEADER, on_insert_header, true },
	{ MILTER_CHANGE_HEADER, on_change_header, true },
	{ MILTER_REPLACE_BODY, on_replace_body, true },
	{ MILTER_ADD_RCPT, on_add_rcpt, true },
	{ MILTER_ADD_RCPT_PAR, on_add_rcpt_par, true },
	{ MILTER_DEL_RCPT, on_del_rcpt, true },
	{ MILTER_CHANGE_FROM, on_change_from, true },
};

/* ---- negotiation ---- */

/* Lists of macros that it wants instead of the configuration's. */
static enum outcome take_macros(struct milter *m, struct sv rest)
{
	while (rest.len > 0) {
		struct sv names;
		uint32_t stage;

		if (!milter_get_u32(&rest, &stage))
			return short_data(m, "input packet too short for network long");
		if (!milter_get_string(&rest, &names))
			return short_data(m, "packet too short for string");
		if (stage > MILTER_AT_EOH) {
			milter_warn(m, "milter %s: ignoring unknown macro type %u", m->spec->name,
				    stage);
			continue;
		}
		free(m->macros[stage]);
		m->macros[stage] = xstrndup(names.p, names.len);
	}
	return ANSWER_OVER;
}

static enum outcome negotiated(struct answer *a)
{
	struct milter *m = a->m;
	uint32_t version;

	if (a->letter != MILTER_NEGOTIATE) {
		milter_warn(m, "milter %s: unexpected reply \"%c\" in initial handshake",
			    m->spec->name, a->letter);
		milter_fail(m, true);
		return ANSWER_BAD;
	}
	if (!milter_get_u32(&a->data, &version) || !milter_get_u32(&a->data, &m->actions) ||
	    !milter_get_u32(&a->data, &m->steps)) {
		short_data(m, "input packet too short for network long");
		milter_warn(m, "milter %s: read error in initial handshake", m->spec->name);
		return ANSWER_BAD;
	}
	if (version > m->spec->version) {
		milter_warn(m,
			    "milter %s: protocol version %u conflict with MTA protocol version %u",
			    m->spec->name, version, m->spec->version);
		milter_fail(m, true);
		return ANSWER_BAD;
	}
	if ((m->actions & ~(uint32_t)MILTER_MAY_ALL) != 0) {
		milter_warn(m, "milter %s: request mask 0x%x conflict with MTA request mask 0x%x",
			    m->spec->name, m->actions, (unsigned)MILTER_MAY_ALL);
		milter_fail(m, true);
		return ANSWER_BAD;
	}
	m->lacks = MILTER_NO_MASK & ~m->spec->steps;
	if (version < m->spec->version)
		m->lacks |= milter_version_lacks(version);
	m->state = MILTER_READY;
	return take_macros(m, a->data);
}

/* ---- all ---- */

static const struct answer_row *find_row(const struct milter *m, char letter)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].letter == letter && (!rows[i].at_end || m->event == MILTER_END))
			return &rows[i];
	}
	return NULL;
}

static enum outcome take(struct answer *a)
{
	struct milter *m = a->m;
	const struct answer_row *row;

	if (m->event == MILTER_NEGOTIATE)
		return negotiated(a);
	row = find_row(m, a->letter);
	if (row == NULL) {
		milter_warn(m, "milter %s: unexpected filter response %s after event %s",
			    m->spec->name, milter_answer_name(a->letter),
			    milter_command_name(m->event));
		milter_fail(m, true);
		return ANSWER_BAD;
	}
	if (a->letter != MILTER_REPLACE_BODY && m->set->content != NULL &&
	    m->set->content->replacing)
		m->body_locked = true;

	size_t len = a->data.len;
	enum outcome o = row->fn(a);

	if (o == ANSWER_EXCESS) {
		milter_warn(m, "milter %s: reply %s was followed by %zu data bytes", m->spec->name,
			    milter_answer_name(a->letter), len);
		milter_fail(m, true);
		return ANSWER_BAD;
	}
	return o;
}

static bool bad_frame(struct milter *m, int err, size_t len)
{
	if (err == E_SYNTAX)
		milter_warn(m, "milter %s: bad packet length: %zu", m->spec->name, len);
	else
		milter_warn(m, "milter %s: unreasonable packet length: %zu > %u", m->spec->name,
			    len, MILTER_FRAME_MAX);
	milter_handshake_failed(m);
	milter_fail(m, true);
	return true;
}

bool milter_take_answers(struct milter *m)
{
	struct buf in = m->in;
	struct milter_frame f;
	size_t at = 0, used;
	bool over = false;

	/* an answer may close the connection, which frees m->in */
	m->in = BUF_INIT;
	while (!over && m->state != MILTER_FAILED) {
		int err = milter_frame_get((struct sv){ in.p + at, in.len - at }, &f, &used);

		if (err == E_AGAIN)
			break;
		if (err != 0) {
			over = bad_frame(m, err, used);
			break;
		}
		struct answer a = { .m = m, .letter = f.answer, .data = f.data };

		at += used;
		over = take(&a) != ANSWER_MORE;
	}
	if (m->fd >= 0) {
		buf_consume(&in, at);
		m->in = in;
		if (in.len == 0)
			buf_fini(&m->in);
	} else {
		buf_fini(&in);
	}
	if (over)
		m->event = 0;
	return over;
}
