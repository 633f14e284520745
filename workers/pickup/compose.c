/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Standard input as a message; see workers/pickup/compose.h. */
#include "workers/pickup/compose.h"

#include <string.h>

#include "workers/mail/address.h"

void compose_init(struct compose *c, bool dot_ends, enum conf_line_endings fix)
{
	*c = (struct compose){ .dot_ends = dot_ends, .fix = fix, .from_lines = true };
	c->strip_cr = fix == LINE_ENDINGS_ALWAYS;
}

void compose_fini(struct compose *c)
{
	buf_fini(&c->line);
	buf_fini(&c->header);
	buf_fini(&c->body);
}

/* A header's first line: a name, and a colon behind it or behind white space. */
static bool is_header_line(struct sv s, size_t *name_len_r, size_t *colon_r)
{
	size_t i = 0;

	while (i < s.len && (unsigned char)s.p[i] > ' ' && (unsigned char)s.p[i] < 0x7f &&
	       s.p[i] != ':')
		i++;
	*name_len_r = i;
	while (i < s.len && (s.p[i] == ' ' || s.p[i] == '\t'))
		i++;
	*colon_r = i;
	return *name_len_r > 0 && i < s.len && s.p[i] == ':';
}

static bool is_from_line(struct sv s)
{
	size_t skip = 0;

	while (skip < s.len && s.p[skip] == '>')
		skip++;
	return s.len - skip >= 5 && memcmp(s.p + skip, "From ", 5) == 0;
}

static bool belongs_to_header(struct compose *c, struct sv line)
{
	size_t name, colon;

	if (c->header.len + line.len > COMPOSE_HEADER_MAX) {
		c->header_cut = true;
		return false;
	}
	if (c->mid_line)
		return true;
	if (line.p[0] == ' ' || line.p[0] == '\t')
		return c->header.len > 0;
	return is_header_line(line, &name, &colon);
}

/* A whole line, or a piece of a very long one. */
static void take_line(struct compose *c, struct sv s)
{
	bool ends = s.len > 0 && s.p[s.len - 1] == '\n';
	bool crlf = ends && s.len > 1 && s.p[s.len - 2] == '\r';
	bool starts = !c->mid_line;

	if (s.len == 0)
		return;
	if (!c->begun && c->fix == LINE_ENDINGS_STRICT)
		c->strip_cr = crlf;
	c->begun = true;
	size_t text = s.len - (ends ? 1 : 0) - (crlf && c->strip_cr ? 1 : 0);

	if (starts && c->from_lines && is_from_line(s)) {
		/* all of it goes; a piece of one cannot be that long */
		c->mid_line = false;
		return;
	}
	c->from_lines = false;
	if (starts && c->dot_ends && text == 1 && s.p[0] == '.') {
		c->done = true;
		return;
	}
	if (!c->header_done && !belongs_to_header(c, (struct sv){ s.p, text > 0 ? s.len : 0 }))
		c->header_done = true;
	struct buf *out = c->header_done ? &c->body : &c->header;

	buf_add(out, s.p, text);
	if (ends)
		buf_add_c(out, '\n');
	c->mid_line = !ends;
}

void compose_feed(struct compose *c, const char *data, size_t len)
{
	while (len > 0 && !c->done) {
		const char *nl = memchr(data, '\n', len);
		size_t n = nl == NULL ? len : (size_t)(nl + 1 - data);

		n = size_min(n, COMPOSE_LINE_MAX);
		buf_add(&c->line, data, n);
		data += n;
		len -= n;
		size_t whole = c->line.len;

		if (c->line.p[whole - 1] != '\n') {
			if (whole < COMPOSE_LINE_MAX)
				continue;
			/* a CR is judged with what follows it */
			whole -= c->line.p[whole - 1] == '\r';
		}
		take_line(c, (struct sv){ c->line.p, whole });
		buf_consume(&c->line, whole);
	}
}

void compose_end(struct compose *c)
{
	if (!c->done && c->line.len > 0)
		take_line(c, buf_sv(&c->line));
	buf_reset(&c->line);
	c->done = true;
	c->header_done = true;
}

bool compose_next_header(struct sv header, size_t *pos, struct sv *name_r, struct sv *value_r)
{
	while (*pos < header.len) {
		size_t start = *pos, end = start, name, colon;

		do {
			const char *nl = memchr(header.p + end, '\n', header.len - end);

			end = nl == NULL ? header.len : (size_t)(nl + 1 - header.p);
		} while (end < header.len && (header.p[end] == ' ' || header.p[end] == '\t'));
		*pos = end;
		struct sv whole = { header.p + start, end - start };

		if (!is_header_line(whole, &name, &colon))
			continue;
		*name_r = (struct sv){ whole.p, name };
		*value_r = (struct sv){ whole.p + colon + 1, whole.len - colon - 1 };
		return true;
	}
	return false;
}

static unsigned well_formed(struct sv list, compose_rcpt_fn fn, void *ctx)
{
	struct mail_addrlist l;
	struct mail_addrlist_item item;
	struct buf addr = BUF_INIT;
	unsigned n = 0;

	mail_addrlist_init(&l, list);
	while (mail_addrlist_next(&l, &item, &addr)) {
		fn(ctx, buf_sv(&addr));
		n++;
	}
	buf_fini(&addr);
	return n;
}

/* Up to the separator that stands in no string, comment or angle brackets. */
static size_t element_len(struct sv s)
{
	bool quoted = false, angle = false;
	unsigned depth = 0;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (c == '\\' && (quoted || depth > 0))
			i++;
		else if (c == '"' && depth == 0)
			quoted = !quoted;
		else if (quoted)
			continue;
		else if (c == '(')
			depth++;
		else if (c == ')' && depth > 0)
			depth--;
		else if (depth == 0 && (c == '<' || c == '>'))
			angle = c == '<';
		else if (depth == 0 && !angle && (c == ',' || c == ';'))
			return i;
	}
	return s.len;
}

static bool has_any(struct sv s, const char *chars)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] != '\0' && strchr(chars, s.p[i]) != NULL)
			return true;
	}
	return false;
}

static unsigned words(struct sv s, compose_rcpt_fn fn, void *ctx)
{
	unsigned n = 0;

	while (s.len > 0) {
		size_t len = 0;

		while (len < s.len && strchr(" \t\r\n", s.p[len]) == NULL)
			len++;
		n += well_formed((struct sv){ s.p, len }, fn, ctx);
		len += len < s.len;
		s = (struct sv){ s.p + len, s.len - len };
	}
	return n;
}

unsigned compose_addresses(struct sv list, compose_rcpt_fn fn, void *ctx)
{
	unsigned n = 0;

	while (list.len > 0) {
		struct sv element = { list.p, element_len(list) };
		size_t taken = element.len + (element.len < list.len);
		unsigned found = well_formed(element, fn, ctx);

		if (found == 0 && !has_any(element, "\"()<>:"))
			found = words(element, fn, ctx);
		n += found;
		list = (struct sv){ list.p + taken, list.len - taken };
	}
	return n;
}

unsigned compose_recipients(struct sv header, compose_rcpt_fn fn, void *ctx)
{
	static const struct sv names[2][3] = {
		{ { "To", 2 }, { "Cc", 2 }, { "Bcc", 3 } },
		{ { "Resent-To", 9 }, { "Resent-Cc", 9 }, { "Resent-Bcc", 10 } },
	};
	struct sv name, value;
	unsigned resent = 0, n = 0;

	for (size_t pos = 0; compose_next_header(header, &pos, &name, &value);) {
		for (unsigned i = 0; i < 3; i++)
			resent |= sv_eq_nocase(name, names[1][i]);
	}
	for (size_t pos = 0; compose_next_header(header, &pos, &name, &value);) {
		for (unsigned i = 0; i < 3; i++) {
			if (sv_eq_nocase(name, names[resent][i]))
				n += compose_addresses(value, fn, ctx);
		}
	}
	return n;
}
