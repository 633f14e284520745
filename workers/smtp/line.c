/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Content scanner; see workers/smtp/line.h. Called by smtp-in for DATA and BDAT, and by whoever
 * writes content to a file. What could still turn into an end of data (a CR, a dot at the start of
 * a line) is held back as state, not as bytes.
 */
#include "workers/smtp/line.h"

#include <string.h>

#include "lib/log.h"
#include "lib/util.h"

enum {
	ST_START,  /* at the start of a line */
	ST_TEXT,   /* within a line */
	ST_CR,     /* within a line, a CR is held back */
	ST_DOT,    /* a line's first byte was a dot, held back */
	ST_DOT_CR, /* ... and a CR behind it */
};

void smtp_data_init(struct smtp_data *d, bool strict_end)
{
	*d = (struct smtp_data){ .state = ST_START, .strict_end = strict_end, .after_crlf = true };
}

void smtp_data_init_chunked(struct smtp_data *d)
{
	*d = (struct smtp_data){ .state = ST_START, .chunked = true, .after_crlf = true };
}

size_t smtp_data_pending(const struct smtp_data *d)
{
	return (size_t)(d->pend_len - d->pend_pos);
}

struct span {
	char *p;
	size_t room;
};

static void put(struct span *o, const char *s, size_t len)
{
	memcpy(o->p, s, len);
	o->p += len;
	o->room -= len;
}

static void flush_pending(struct smtp_data *d, struct span *o)
{
	size_t n = size_min(smtp_data_pending(d), o->room);

	if (n > 0)
		put(o, d->pend + d->pend_pos, n);
	d->pend_pos = (uint8_t)(d->pend_pos + n);
	if (d->pend_pos == d->pend_len)
		d->pend_pos = d->pend_len = 0;
}

/* A few bytes, whether there is room or not. */
static void put_small(struct smtp_data *d, struct span *o, const char *s)
{
	size_t len = strlen(s);

	ASSERT(d->pend_len + len <= sizeof(d->pend));
	memcpy(d->pend + d->pend_len, s, len);
	d->pend_len = (uint8_t)(d->pend_len + len);
	flush_pending(d, o);
}

static void end_line(struct smtp_data *d, bool crlf)
{
	d->state = ST_START;
	d->after_crlf = crlf;
	d->lines++;
	if (!crlf)
		d->bare_lf = true;
}

/* Where the next LF and CR are, or the end; searched again only when passed, so that each byte of
 * the input is looked at once per kind, whatever the peer sends. */
struct cursor {
	const char *pos, *end;
	const char *lf, *cr;
};

static const char *find_from(const struct cursor *c, const char *known, char what)
{
	if (known >= c->pos)
		return known;
	known = memchr(c->pos, what, (size_t)(c->end - c->pos));
	return known == NULL ? c->end : known;
}

/* Text up to the next CR or LF, with its line end if that is a whole one. */
static void scan_text(struct smtp_data *d, struct cursor *c, struct span *o)
{
	c->lf = find_from(c, c->lf, '\n');
	c->cr = find_from(c, c->cr, '\r');
	const char *stop = c->lf < c->cr ? c->lf : c->cr;
	size_t text = (size_t)(stop - c->pos);

	if (text > o->room) {
		text = o->room;
		put(o, c->pos, text);
		c->pos += text;
		return;
	}
	if (c->lf != c->end && stop == c->cr && c->cr + 1 == c->lf && text + 2 <= o->room) {
		put(o, c->pos, text + 2);
		c->pos = c->lf + 1;
		end_line(d, true);
		return;
	}
	put(o, c->pos, text);
	c->pos = stop;
	if (stop == c->end)
		return;
	c->pos++;
	if (stop == c->cr) {
		d->state = ST_CR;
		return;
	}
	put_small(d, o, "\r\n");
	end_line(d, false);
}

/* A dot line is complete: the end, or content with unusual line ends. */
static void dot_line(struct smtp_data *d, struct span *o, bool crlf)
{
	if (!crlf)
		d->bare_lf = true;
	if (!d->strict_end || (crlf && d->after_crlf)) {
		d->done = true;
		return;
	}
	put_small(d, o, "..\r\n");
	end_line(d, crlf);
}

/* One byte in a state other than TEXT. Returns whether the byte was used. */
static bool step(struct smtp_data *d, char c, struct span *o)
{
	switch (d->state) {
	case ST_START:
		d->state = ST_TEXT;
		if (c != '.')
			return false;
		if (d->chunked)
			put_small(d, o, "..");
		else
			d->state = ST_DOT;
		return true;
	case ST_CR:
		if (c == '\n') {
			put_small(d, o, "\r\n");
			end_line(d, true);
			return true;
		}
		d->bare_cr = true;
		d->state = ST_TEXT;
		put_small(d, o, " ");
		return false;
	case ST_DOT:
		if (c == '\r')
			d->state = ST_DOT_CR;
		else if (c == '\n')
			dot_line(d, o, false);
		if (c == '\r' || c == '\n')
			return true;
		d->state = ST_TEXT;
		if (c == '.') /* else it stuffed nothing, and goes (RFC 5321 4.5.2) */
			put_small(d, o, ".");
		return false;
	case ST_DOT_CR:
		if (c == '\n') {
			dot_line(d, o, true);
			return true;
		}
		d->bare_cr = true;
		d->state = ST_TEXT;
		put_small(d, o, " ");
		return false;
	}
	return false;
}

size_t smtp_data_scan(struct smtp_data *d, const char *in, size_t in_len, char *out, size_t out_cap,
		      size_t *out_len_r)
{
	struct span o = { out, out_cap };
	struct cursor c = { .pos = in, .end = in + in_len };

	flush_pending(d, &o);
	while (c.pos < c.end && !d->done && smtp_data_pending(d) == 0) {
		if (d->state != ST_TEXT) {
			c.pos += step(d, *c.pos, &o);
			continue;
		}
		if (o.room == 0)
			break;
		scan_text(d, &c, &o);
	}
	*out_len_r = out_cap - o.room;
	if (!d->nul && *out_len_r > 0)
		d->nul = memchr(out, '\0', *out_len_r) != NULL;
	return (size_t)(c.pos - in);
}

void smtp_data_end_chunks(struct smtp_data *d)
{
	struct span none = { NULL, 0 };

	if (d->state == ST_CR) {
		d->bare_cr = true;
		put_small(d, &none, " ");
	}
	if (d->state != ST_START) {
		put_small(d, &none, "\r\n");
		end_line(d, true);
	}
	d->done = true;
}

size_t smtp_unwire(struct smtp_unwire *u, const char *in, size_t in_len, char *out)
{
	char *o = out;

	for (size_t i = 0; i < in_len;) {
		if (u->state == ST_START) {
			if (in[i] == '.')
				i++;
			u->state = ST_TEXT;
			continue;
		}
		if (u->state == ST_CR) {
			u->state = ST_TEXT;
			if (in[i] != '\n')
				*o++ = '\r';
		}
		const char *lf = memchr(in + i, '\n', in_len - i);
		size_t len = lf == NULL ? in_len - i : (size_t)(lf - (in + i));
		bool cr = len > 0 && in[i + len - 1] == '\r';

		memcpy(o, in + i, len - cr);
		o += len - cr;
		i += len;
		if (lf != NULL) {
			*o++ = '\n';
			i++;
			u->state = ST_START;
		} else if (cr) {
			u->state = ST_CR;
		}
	}
	return (size_t)(o - out);
}
