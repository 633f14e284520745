/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Messages as bytes; see daemon/qwire.h. */
#include "daemon/qwire.h"

#include <string.h>

#include "lib/err.h"
#include "lib/util.h"

static size_t begin(struct buf *out, char letter)
{
	uint32_t len = 0;
	size_t at = out->len;

	buf_add(out, &len, sizeof(len));
	buf_add_c(out, letter);
	return at;
}

static void finish(struct buf *out, size_t at)
{
	uint32_t len = (uint32_t)(out->len - at - sizeof(len));

	memcpy(out->p + at, &len, sizeof(len));
}

/* Longer than anything that Postfix would show is cut off. */
static void put_text(struct buf *out, struct sv s)
{
	uint16_t len = (uint16_t)size_min(s.len, QWIRE_RECORD_MAX / 4);

	buf_add(out, &len, sizeof(len));
	buf_add(out, s.p, len);
}

void qwire_message(struct buf *out, const struct qlist_message *m)
{
	size_t at = begin(out, 'M');

	buf_add_c(out, (char)m->queue);
	buf_add_c(out, m->in_doubt);
	buf_add_c(out, m->damaged);
	buf_add_c(out, m->expired);
	buf_add(out, &m->arrival_s, sizeof(m->arrival_s));
	buf_add(out, &m->size, sizeof(m->size));
	put_text(out, sv_from(m->id));
	put_text(out, m->sender);
	finish(out, at);
}

void qwire_rcpt(void *buf, const struct qlist_rcpt *r)
{
	struct buf *out = buf;
	size_t at = begin(out, 'R');

	buf_add_c(out, r->failed);
	put_text(out, r->addr);
	put_text(out, r->orig_addr);
	put_text(out, r->reason);
	finish(out, at);
}

void qwire_end(struct buf *out)
{
	finish(out, begin(out, 'E'));
}

/* ---- reading ---- */

static bool get(struct sv *in, void *to, size_t len)
{
	if (in->len < len)
		return false;
	memcpy(to, in->p, len);
	in->p += len;
	in->len -= len;
	return true;
}

static bool get_bool(struct sv *in, bool *b_r)
{
	unsigned char c = 0;

	if (!get(in, &c, 1) || c > 1)
		return false;
	*b_r = c == 1;
	return true;
}

static bool get_text(struct sv *in, struct sv *s_r)
{
	uint16_t len;

	if (!get(in, &len, sizeof(len)) || in->len < len)
		return false;
	*s_r = (struct sv){ in->p, len };
	in->p += len;
	in->len -= len;
	return true;
}

static bool read_message(struct sv in, const struct qwire_sink *sink)
{
	struct qlist_message m = { .size = 0 };
	unsigned char queue = 0;
	struct sv id;

	if (!get(&in, &queue, 1) || queue >= QUEUE_NAME_COUNT || !get_bool(&in, &m.in_doubt) ||
	    !get_bool(&in, &m.damaged) || !get_bool(&in, &m.expired) ||
	    !get(&in, &m.arrival_s, sizeof(m.arrival_s)) || !get(&in, &m.size, sizeof(m.size)) ||
	    !get_text(&in, &id) || !get_text(&in, &m.sender) || in.len != 0 ||
	    !str_copy(m.id, sizeof(m.id), id))
		return false;
	m.queue = (enum queue_name)queue;
	sink->message(sink->ctx, &m);
	return true;
}

static bool read_rcpt(struct sv in, const struct qwire_sink *sink)
{
	struct qlist_rcpt r;

	if (!get_bool(&in, &r.failed) || !get_text(&in, &r.addr) || !get_text(&in, &r.orig_addr) ||
	    !get_text(&in, &r.reason) || in.len != 0)
		return false;
	sink->rcpt(sink->ctx, &r);
	return true;
}

static bool read_record(struct sv in, bool *open, const struct qwire_sink *sink)
{
	char letter = 0;

	if (!get(&in, &letter, 1) || *open == (letter == 'M'))
		return false;
	if (letter == 'R')
		return read_rcpt(in, sink);
	*open = letter == 'M';
	if (letter == 'M')
		return read_message(in, sink);
	if (letter != 'E' || in.len != 0)
		return false;
	sink->end(sink->ctx);
	return true;
}

int qwire_read(struct buf *in, bool *open, const struct qwire_sink *sink)
{
	size_t at = 0;
	uint32_t len;
	int err = 0;

	while (err == 0 && in->len - at >= sizeof(len)) {
		memcpy(&len, in->p + at, sizeof(len));
		if (len > QWIRE_RECORD_MAX)
			err = E_SYNTAX;
		else if (in->len - at - sizeof(len) < len)
			break;
		else if (!read_record((struct sv){ in->p + at + sizeof(len), len }, open, sink))
			err = E_SYNTAX;
		at += sizeof(len) + len;
	}
	if (err == 0)
		buf_consume(in, at);
	return err;
}
