/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Text of tables; see conf/map_text.h. Called by the table types, matchlist.c and postmap.c. */
#include "conf/map_text.h"

#include <stdio.h>
#include <string.h>

#include "lib/err.h"

void map_text_init_file(struct map_text *t, struct sv data, const char *file, struct conf_diag *d)
{
	*t = (struct map_text){ .rest = data, .name = file, .d = d, .next_lineno = 1 };
	buf_init(&t->line, MAP_TEXT_LINE_MAX);
}

void map_text_init_inline(struct map_text *t, struct sv items, const char *name,
			  struct conf_diag *d)
{
	*t = (struct map_text){ .rest = items, .name = name, .d = d };
}

void map_text_fini(struct map_text *t)
{
	buf_fini(&t->line);
}

void map_text_warn(const struct map_text *t, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	if (t->d == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	str_make_printable(text, strlen(text));
	conf_diag_add(t->d, false, t->name, t->lineno, "%s", text);
}

/* The next physical line without its end; false at the end. */
static bool physical_line(struct map_text *t, struct sv *line_r)
{
	if (t->rest.len == 0)
		return false;
	const char *lf = memchr(t->rest.p, '\n', t->rest.len);
	size_t len = lf == NULL ? t->rest.len : (size_t)(lf - t->rest.p);
	size_t used = len + (lf != NULL);

	*line_r = (struct sv){ t->rest.p, len };
	t->rest = (struct sv){ t->rest.p + used, t->rest.len - used };
	t->next_lineno++;
	return true;
}

static bool is_continuation(struct sv rest)
{
	return rest.len > 0 && ascii_is_space(rest.p[0]) && rest.p[0] != '\n';
}

static bool is_comment(struct sv line)
{
	line = sv_trim(line);
	return line.len == 0 || line.p[0] == '#';
}

/* Collect one logical line into t->line. False at the end of the file. */
static bool logical_line(struct map_text *t)
{
	struct sv line;

	buf_reset(&t->line);
	do {
		t->lineno = t->next_lineno;
		if (!physical_line(t, &line))
			return false;
	} while (is_comment(line));
	for (;;) {
		bool cr = line.len > 0 && line.p[line.len - 1] == '\r';

		if (cr) {
			line.len--;
			if (!t->crlf_reported)
				map_text_warn(t, "lines end in CRLF instead of LF");
			t->crlf_reported = true;
		}
		buf_add_sv(&t->line, line);
		/* comments and empty lines do not end a logical line */
		do {
			if (!is_continuation(t->rest) &&
			    (t->rest.len == 0 || (t->rest.p[0] != '#' && t->rest.p[0] != '\n')))
				return true;
			physical_line(t, &line);
		} while (is_comment(line));
		if (!ascii_is_space(line.p[0]))
			return true; /* not reached: a line that is no comment here continues */
	}
}

static bool next_in_file(struct map_text *t, struct sv *line_r)
{
	while (logical_line(t)) {
		struct sv line = buf_sv(&t->line);

		if (t->line.overflow)
			map_text_warn(t, "line is too long; ignoring it");
		else if (memchr(line.p, '\0', line.len) != NULL)
			map_text_warn(t, "line holds a null byte; ignoring it");
		else if (ascii_is_space(line.p[0]))
			map_text_warn(t, "logical line must not start with whitespace: \"%.30s%s\"",
				      line.p, line.len > 30 ? "..." : "");
		else {
			*line_r = sv_trim(line);
			return true;
		}
	}
	return false;
}

bool map_text_next(struct map_text *t, struct sv *line_r)
{
	bool group;

	if (t->next_lineno > 0)
		return next_in_file(t, line_r);
	int more = map_item_next(&t->rest, line_r, &group);

	if (more < 0) {
		map_text_warn(t, "unbalanced braces: \"%.*s\"", (int)size_min(t->rest.len, 60),
			      t->rest.p);
		t->rest.len = 0;
	}
	return more > 0;
}

bool map_text_split(const struct map_text *t, struct sv line, struct sv *key_r, struct sv *value_r)
{
	bool quoted = false;
	size_t i = 0;

	for (; i < line.len && (quoted || !ascii_is_space(line.p[i])); i++) {
		if (line.p[i] == '\\')
			i++;
		else if (line.p[i] == '"')
			quoted = !quoted;
	}
	i = size_min(i, line.len);
	*key_r = (struct sv){ line.p, i };
	*value_r = sv_trim((struct sv){ line.p + i, line.len - i });
	if (quoted) {
		map_text_warn(t, "unbalanced '\"' in '%.*s' -- ignoring this line",
			      (int)size_min(line.len, 60), line.p);
		return false;
	}
	if (value_r->len == 0) {
		map_text_warn(t, "expected format: key whitespace value");
		return false;
	}
	if (key_r->len > 1 && key_r->p[key_r->len - 1] == ':')
		map_text_warn(t, "record is in \"key: value\" format; is this an alias file?");
	return true;
}

bool map_text_split_alias(const struct map_text *t, struct sv line, struct buf *key,
			  struct sv *value_r)
{
	bool quoted = false;
	size_t i = 0;

	buf_reset(key);
	for (; i < line.len && (quoted || line.p[i] != ':'); i++) {
		char c = line.p[i];

		if (c == '"') {
			quoted = !quoted;
			continue;
		}
		if (c == '\\' && i + 1 < line.len)
			c = line.p[++i];
		buf_add_c(key, c);
	}
	while (key->len > 0 && ascii_is_space(key->p[key->len - 1]))
		key->p[--key->len] = '\0';
	if (quoted || i == line.len || key->len == 0) {
		map_text_warn(t, "need name:value pair");
		return false;
	}
	*value_r = sv_trim((struct sv){ line.p + i + 1, line.len - i - 1 });
	if (value_r->len == 0) {
		map_text_warn(t, "need name:value pair");
		return false;
	}
	return true;
}

static bool is_separator(char c)
{
	return c == ',' || ascii_is_space(c);
}

int map_item_next(struct sv *rest, struct sv *item_r, bool *group_r)
{
	struct sv s = *rest;
	size_t depth = 0, i = 0, first_close = 0;

	while (s.len > 0 && is_separator(s.p[0])) {
		s.p++;
		s.len--;
	}
	for (; i < s.len && (depth > 0 || !is_separator(s.p[i])); i++) {
		if (s.p[i] == '{')
			depth++;
		else if (s.p[i] == '}' && depth-- == 0)
			return E_SYNTAX;
		if (s.p[i] == '}' && depth == 0 && first_close == 0)
			first_close = i;
	}
	if (depth > 0)
		return E_SYNTAX;
	*rest = (struct sv){ s.p + i, s.len - i };
	if (i == 0)
		return 0;
	*group_r = s.p[0] == '{' && first_close == i - 1;
	*item_r = *group_r ? sv_trim((struct sv){ s.p + 1, i - 2 }) : (struct sv){ s.p, i };
	return 1;
}
