/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * main.cf text into entries. Also the reader of logical lines, which master.cf shares:
 * a line that begins with white space continues the one before; empty lines and lines whose first
 * visible character is '#' are dropped, even between a line and its continuation.
 */
#include "conf/conf_priv.h"

void conf_lines_init(struct conf_lines *l, struct sv text)
{
	*l = (struct conf_lines){ .p = text.p, .end = text.p + text.len };
}

void conf_lines_fini(struct conf_lines *l)
{
	buf_fini(&l->text);
}

static struct sv physical_line(struct conf_lines *l)
{
	const char *start = l->p;
	const char *nl = memchr(start, '\n', (size_t)(l->end - start));
	const char *stop = nl != NULL ? nl : l->end;

	l->p = nl != NULL ? nl + 1 : l->end;
	l->line++;
	return (struct sv){ start, (size_t)(stop - start) };
}

bool conf_lines_next(struct conf_lines *l)
{
	buf_reset(&l->text);
	while (l->p < l->end) {
		bool continues = ascii_is_space(*l->p);
		struct conf_lines before = *l;
		struct sv line = physical_line(l);
		struct sv body = sv_trim(line);

		if (body.len == 0 || body.p[0] == '#')
			continue;
		if (l->text.len > 0 && !continues) {
			l->p = before.p;
			l->line = before.line;
			break;
		}
		if (l->text.len == 0) {
			l->first_line = l->line;
			/* Kept, so that the caller can complain about a file's first line. */
			if (continues)
				buf_add_c(&l->text, ' ');
		} else {
			buf_add_c(&l->text, ' ');
		}
		buf_add_sv(&l->text, body);
	}
	return l->text.len > 0;
}

const char *conf_split_nameval(struct sv text, struct sv *name_r, struct sv *value_r)
{
	size_t len = 0;

	text = sv_trim(text);
	while (len < text.len && text.p[len] != '=' && !ascii_is_space(text.p[len]))
		len++;
	*name_r = (struct sv){ text.p, len };
	text.p += len;
	text.len -= len;
	text = sv_trim(text);
	if (text.len == 0 || text.p[0] != '=')
		return "missing '=' after attribute name";
	if (len == 0)
		return "missing attribute name";
	*value_r = sv_trim((struct sv){ text.p + 1, text.len - 1 });
	return NULL;
}

static struct main_entry *entry_add(struct conf *c)
{
	if ((c->entry_count & (c->entry_count - 1)) == 0)
		c->entries = xrealloc(c->entries, (c->entry_count ? 2u * c->entry_count : 1u) *
							  sizeof(*c->entries));
	c->entries[c->entry_count] = (struct main_entry){ 0 };
	return &c->entries[c->entry_count++];
}

static void entry_read(struct conf *c, struct conf_diag *d, struct sv text, unsigned line)
{
	struct sv name, value;
	const char *why = NULL;
	struct main_entry *e;

	if (ascii_is_space(text.p[0]))
		why = "logical line must not start with white space";
	else
		why = conf_split_nameval(text, &name, &value);
	if (why != NULL) {
		conf_diag_add(d, true, c->main_path, line, "%s: \"%.*s\"; expected name = value",
			      why, text.len > 60 ? 60 : (int)text.len, text.p);
		return;
	}
	e = entry_add(c);
	e->name = arena_strndup(&c->arena, name.p, name.len);
	e->value = arena_strndup(&c->arena, value.p, value.len);
	e->line = line;
}

void maincf_parse(struct conf *c, struct conf_diag *d)
{
	struct conf_lines l;
	struct main_entry *old;
	int idx;

	conf_lines_init(&l, buf_sv(&c->main_text));
	while (conf_lines_next(&l))
		entry_read(c, d, buf_sv(&l.text), l.first_line);
	conf_lines_fini(&l);
	/* Only now do the entries stay where they are. */
	for (unsigned i = 0; i < c->entry_count; i++) {
		old = strmap_put(c->entry_by_name, sv_from(c->entries[i].name), &c->entries[i]);
		idx = param_find(sv_from(c->entries[i].name));
		if (idx >= 0)
			c->entry_at[idx] = &c->entries[i];
		if (old != NULL)
			conf_diag_add(d, false, c->main_path, c->entries[i].line,
				      "overriding earlier entry: %s=%s", old->name, old->value);
	}
}
