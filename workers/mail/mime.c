/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Place within a MIME message; see workers/mail/mime.h. */
#include "workers/mail/mime.h"

#include <stdlib.h>
#include <string.h>

#include "lib/util.h"

struct mime_level { /* an open multipart */
	char *boundary;
	size_t len;
	bool digest; /* parts are messages unless they say otherwise (RFC 2046 5.1.5) */
};

static void pop(struct mime *m)
{
	struct mime_level *l = &m->levels[--m->depth];

	m->bytes -= l->len;
	free(l->boundary);
}

void mime_begin(struct mime *m, const struct mime_limits *limits)
{
	while (m->depth > 0)
		pop(m);
	m->limits = *limits;
	m->place = MIME_PRIMARY;
	m->type = MIME_TYPE_OTHER;
	m->global = m->eight = m->encoded = m->whole = m->too_deep = false;
}

void mime_fini(struct mime *m)
{
	while (m->depth > 0)
		pop(m);
	free(m->levels);
	*m = (struct mime){ 0 };
}

static void push(struct mime *m, struct sv boundary, bool digest)
{
	size_t len = size_min(boundary.len, m->limits.boundary_bytes);

	if (m->depth >= m->limits.nesting) {
		m->too_deep = true;
		return;
	}
	if (m->depth == m->cap) {
		m->cap = m->cap > 0 ? 2 * m->cap : 4;
		m->levels = xrealloc(m->levels, m->cap * sizeof(*m->levels));
	}
	m->levels[m->depth] = (struct mime_level){ xmalloc(len + 1), len, digest };
	memcpy(m->levels[m->depth++].boundary, boundary.p, len);
	m->bytes += len;
}

/* ---- header names ---- */

enum mime_name mime_header_name(struct sv line, size_t *name_len_r, size_t *colon_r)
{
	const char *p = line.p;
	size_t i = 0, name;

	while (i < line.len && (unsigned char)p[i] > ' ' && (unsigned char)p[i] < 127 &&
	       p[i] != ':')
		i++;
	name = i;
	while (i < line.len && (p[i] == ' ' || p[i] == '\t'))
		i++;
	if (name > MIME_NAME_MAX_BYTES || i - name > MIME_NAME_MAX_BYTES ||
	    (name == 0 && line.len > 0))
		return MIME_NAME_NO;
	if (i == line.len)
		return MIME_NAME_MAYBE;
	if (p[i] != ':')
		return MIME_NAME_NO;
	*name_len_r = name;
	*colon_r = i;
	return MIME_NAME_YES;
}

bool mime_is_mime_header(struct sv name)
{
	static const struct sv names[] = {
		{ "Content-Description", 19 }, { "Content-Disposition", 19 },
		{ "Content-ID", 10 },          { "Content-Type", 12 },
		{ "MIME-Version", 12 },        { "Content-Transfer-Encoding", 25 },
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (sv_eq_nocase(names[i], name))
			return true;
	}
	return false;
}

/* ---- Content-Type ---- */

/* White space, line ends and comments (RFC 5322 3.2.2). */
static void skip_cfws(struct sv *s)
{
	size_t i = 0, open = 0;

	for (; i < s->len; i++) {
		char c = s->p[i];

		if (open > 0 && c == '\\')
			i++;
		else if (c == '(')
			open++;
		else if (open > 0 && c == ')')
			open--;
		else if (open == 0 && !ascii_is_space(c))
			break;
	}
	i = size_min(i, s->len);
	*s = (struct sv){ s->p + i, s->len - i };
}

static bool take_char(struct sv *s, char want)
{
	skip_cfws(s);
	if (s->len == 0 || s->p[0] != want)
		return false;
	*s = (struct sv){ s->p + 1, s->len - 1 };
	return true;
}

/* A token of RFC 2045 5.1; empty when there is none. */
static struct sv take_token(struct sv *s)
{
	struct sv token;
	size_t i = 0;

	skip_cfws(s);
	while (i < s->len && (unsigned char)s->p[i] > ' ' && s->p[i] != 127 &&
	       strchr("()<>@,;:\\\"/[]?=", s->p[i]) == NULL)
		i++;
	token = (struct sv){ s->p, i };
	*s = (struct sv){ s->p + i, s->len - i };
	return token;
}

/* A parameter's value, token or quoted string. `store` has room for the whole header. */
static struct sv take_value(struct sv *s, char *store)
{
	size_t i, n = 0;

	if (!take_char(s, '"'))
		return take_token(s);
	for (i = 0; i < s->len && s->p[i] != '"'; i++) {
		if (s->p[i] == '\\' && i + 1 < s->len)
			i++;
		if (s->p[i] != '\r' && s->p[i] != '\n')
			store[n++] = s->p[i];
	}
	i = size_min(i + 1, s->len);
	*s = (struct sv){ s->p + i, s->len - i };
	return (struct sv){ store, n };
}

static void skip_to_semicolon(struct sv *s)
{
	bool quoted = false;
	size_t i;

	for (i = 0; i < s->len; i++) {
		if (s->p[i] == '\\' && quoted)
			i++;
		else if (s->p[i] == '"')
			quoted = !quoted;
		else if (s->p[i] == ';' && !quoted)
			break;
	}
	i = size_min(i, s->len);
	*s = (struct sv){ s->p + i, s->len - i };
}

static void take_boundaries(struct mime *m, struct sv value, bool digest)
{
	char *store = xmalloc(value.len + 1);

	for (;;) {
		struct sv name, boundary;

		skip_to_semicolon(&value);
		if (!take_char(&value, ';'))
			break;
		name = take_token(&value);
		if (!sv_eq_nocase(name, SV("boundary")) || !take_char(&value, '='))
			continue;
		boundary = take_value(&value, store);
		if (boundary.len > 0)
			push(m, boundary, digest);
	}
	free(store);
}

static void content_type(struct mime *m, struct sv value)
{
	struct sv type = take_token(&value), subtype = { "", 0 };

	if (take_char(&value, '/'))
		subtype = take_token(&value);
	m->type = MIME_TYPE_OTHER;
	m->global = m->whole = false;
	if (sv_eq_nocase(type, SV("message"))) {
		m->global = sv_eq_nocase(subtype, SV("global"));
		m->whole = sv_eq_nocase(subtype, SV("partial")) ||
			   sv_eq_nocase(subtype, SV("external-body"));
		if (m->global || sv_eq_nocase(subtype, SV("rfc822")))
			m->type = MIME_TYPE_MESSAGE;
	} else if (sv_eq_nocase(type, SV("multipart"))) {
		m->type = MIME_TYPE_MULTIPART;
		take_boundaries(m, value, sv_eq_nocase(subtype, SV("digest")));
	}
}

/* What is not known says nothing. */
static void content_encoding(struct mime *m, struct sv value)
{
	static const struct {
		struct sv name;
		bool eight, encoded;
	} encodings[] = { { { "7bit", 4 }, false, false },
			  { { "8bit", 4 }, true, false },
			  { { "binary", 6 }, true, false },
			  { { "base64", 6 }, false, true },
			  { { "quoted-printable", 16 }, false, true } };
	struct sv word = take_token(&value);

	for (size_t i = 0; i < ARRAY_LEN(encodings); i++) {
		if (!sv_eq_nocase(encodings[i].name, word))
			continue;
		m->eight = encodings[i].eight;
		m->encoded = encodings[i].encoded;
	}
}

void mime_header(struct mime *m, struct sv header)
{
	size_t name_len, colon;
	struct sv name, value;

	if (m->limits.disabled || mime_header_name(header, &name_len, &colon) != MIME_NAME_YES)
		return;
	name = (struct sv){ header.p, name_len };
	value = (struct sv){ header.p + colon + 1, header.len - colon - 1 };
	if (sv_eq_nocase(name, SV("Content-Type")))
		content_type(m, value);
	else if (sv_eq_nocase(name, SV("Content-Transfer-Encoding")))
		content_encoding(m, value);
}

/* ---- places ---- */

bool mime_is_opaque(const struct mime *m)
{
	return m->type == MIME_TYPE_OTHER || (m->global && m->eight && m->limits.encoding);
}

bool mime_breaks_domain(const struct mime *m)
{
	if (m->whole)
		return m->eight;
	return m->encoded && !m->global && m->type != MIME_TYPE_OTHER;
}

void mime_headers_end(struct mime *m, bool blank)
{
	bool nested = blank && m->type == MIME_TYPE_MESSAGE && !mime_is_opaque(m);

	if (nested || (blank && m->type == MIME_TYPE_MULTIPART))
		m->eight = m->encoded =
			false; /* said something about all parts; each says it for itself */
	m->place = nested ? MIME_NESTED : MIME_BODY;
	m->type = MIME_TYPE_OTHER;
	m->global = m->whole = false;
}

bool mime_has_levels(const struct mime *m)
{
	return m->depth > 0;
}

/* Text behind the boundary is ignored, as in Postfix: the boundary kept may be a shortened one. */
static bool is_boundary(const struct mime_level *l, struct sv line)
{
	return line.len >= 2 + l->len && memcmp(line.p + 2, l->boundary, l->len) == 0;
}

bool mime_line(struct mime *m, struct sv line)
{
	size_t level = m->depth;

	if (level == 0 || line.len <= 2 || line.p[0] != '-' || line.p[1] != '-')
		return false;
	while (level > 0 && !is_boundary(&m->levels[level - 1], line))
		level--;
	if (level == 0)
		return false;
	while (m->depth > level)
		pop(m);
	line.p += 2 + m->levels[level - 1].len;
	line.len -= 2 + m->levels[level - 1].len;
	if (line.len >= 2 && line.p[0] == '-' && line.p[1] == '-') {
		pop(m);
		m->place = MIME_BODY;
	} else {
		m->place = MIME_PART;
	}
	m->type = m->place == MIME_PART && m->levels[level - 1].digest ? MIME_TYPE_MESSAGE
								       : MIME_TYPE_OTHER;
	m->global = m->eight = m->encoded = m->whole = false;
	return true;
}
