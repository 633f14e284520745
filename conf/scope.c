/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A scope answers "what is NAME": -o overrides of a service (or of the command line), main.cf, the
 * table's default, the default of a per-transport name; expanded once and kept. The global scope is
 * the configuration's own; each service with overrides has one more.
 */
#include "conf/conf_priv.h"

#include <stdio.h>

#include "lib/err.h"
#include "lib/log.h"

enum value_state { VALUE_NEW, VALUE_BUSY, VALUE_DONE, VALUE_FAILED };

/* Expanded value of a name outside the table. */
struct other_value {
	const char *value;
	enum value_state state;
};

void scope_init(struct scope *s, struct conf *c)
{
	*s = (struct scope){ .c = c };
	s->value = xcalloc(param_count(), sizeof(*s->value));
	s->state = xcalloc(param_count(), sizeof(*s->state));
	s->others = strmap_new();
}

void scope_fini(struct scope *s)
{
	free(s->value);
	free(s->state);
	s->value = NULL;
	s->state = NULL;
	if (s->others != NULL)
		strmap_free(&s->others); /* the values live in the arena */
}

static const char *override_find(const struct conf_override *list, unsigned count, struct sv name)
{
	for (unsigned i = count; i > 0; i--) {
		if (sv_eq_str(name, list[i - 1].name))
			return list[i - 1].value;
	}
	return NULL;
}

/* Names that Postfix sets and nobody configures. */
static const char *builtin_value(const struct scope *s, struct sv name)
{
	if (sv_eq(name, SV("service_name")))
		return s->service_name != NULL ? s->service_name : "";
	if (sv_eq(name, SV("process_name")))
		return s->process_name != NULL ? s->process_name : log_program();
	if (sv_eq(name, SV("config_directory")))
		return s->c->dir;
	return NULL;
}

static const char *table_default(struct conf *c, const struct param_desc *pd)
{
	return pd->def_fn != NULL ? pd->def_fn(c) : pd->def;
}

/* idx: of the name in the table, -1 when it is not there. */
static struct raw_value raw_at(struct scope *s, int idx, struct sv name)
{
	struct conf *c = s->c;
	struct raw_value v = { .file = s->file, .line = s->line };
	const struct main_entry *e;
	const struct inert_desc *inert;

	v.raw = idx >= 0 && param_desc((unsigned)idx)->raw;
	v.text = override_find(s->overrides, s->override_count, name);
	if (v.text != NULL)
		return v;
	v.file = NULL;
	v.line = 0;
	v.text = builtin_value(s, name);
	if (v.text == NULL)
		v.text = override_find(c->cmdline, c->cmdline_count, name);
	if (v.text != NULL)
		return v;
	e = idx >= 0 ? c->entry_at[idx] : strmap_get(c->entry_by_name, name);
	if (e != NULL) {
		v.text = e->value;
		v.file = c->main_path;
		v.line = e->line;
	} else if (idx >= 0) {
		v.text = table_default(c, param_desc((unsigned)idx));
	} else if ((inert = inert_find(name)) != NULL) {
		v.text = inert->def;
	} else {
		v.text = transport_param_default(c, name);
	}
	return v;
}

struct raw_value scope_raw(struct scope *s, struct sv name)
{
	return raw_at(s, param_find(name), name);
}

/* How far the name is; the cell of a name outside the table is made on demand. */
static enum value_state cell_state(struct scope *s, int idx, struct sv name,
				   struct other_value **other_r)
{
	*other_r = NULL;
	if (idx >= 0)
		return (enum value_state)s->state[idx];
	*other_r = strmap_get(s->others, name);
	if (*other_r == NULL) {
		*other_r = arena_calloc(&s->c->arena, sizeof(**other_r));
		strmap_put(s->others, name, *other_r);
	}
	return (*other_r)->state;
}

static void cell_set(struct scope *s, int idx, struct other_value *other, enum value_state state,
		     const char *value)
{
	if (idx >= 0) {
		s->state[idx] = (unsigned char)state;
		s->value[idx] = value;
	} else {
		other->state = state;
		other->value = value;
	}
}

static bool has_failed(const struct scope *s, struct sv name)
{
	int idx = param_find(name);
	const struct other_value *other = idx < 0 ? strmap_get(s->others, name) : NULL;

	return idx >= 0 ? s->state[idx] == VALUE_FAILED
			: other != NULL && other->state == VALUE_FAILED;
}

static void complain(struct scope *s, const struct raw_value *raw, struct sv name, const char *what,
		     const char *detail)
{
	/* What is wrong in main.cf was reported with the global scope. */
	if (s != &s->c->global && raw->file == s->c->main_path && has_failed(&s->c->global, name))
		return;
	if (s->diag != NULL)
		conf_diag_add(s->diag, true, raw->file != NULL ? raw->file : s->c->main_path,
			      raw->line, "%.*s = %.200s: %s%s", (int)name.len, name.p, raw->text,
			      what, detail);
}

static const char *lookup_name(void *ctx, struct sv name, bool *fail_r)
{
	return scope_get(ctx, name, fail_r);
}

/* Expand raw text into the arena; NULL on failure, reported. */
static const char *expand_raw(struct scope *s, const struct raw_value *raw, struct sv name)
{
	struct expand e = { .lookup = lookup_name, .ctx = s };
	struct buf out = BUF_INIT;
	const char *value = NULL;

	if (raw->raw || strchr(raw->text, '$') == NULL)
		return raw->text;
	out.limit = CONF_VALUE_LIMIT_BYTES;
	if (expand_text(&e, sv_from(raw->text), &out) == 0)
		value = arena_strndup(&s->c->arena, buf_cstr(&out), out.len);
	else if (e.error[0] != 0)
		complain(s, raw, name, "", e.error);
	buf_fini(&out);
	return value;
}

static const char *get_at(struct scope *s, int idx, struct sv name, bool *fail_r)
{
	struct other_value *other;
	enum value_state state = cell_state(s, idx, name, &other);
	struct raw_value raw;
	const char *value;
	bool failed;

	if (state == VALUE_DONE)
		return idx >= 0 ? s->value[idx] : other->value;
	raw = raw_at(s, idx, name);
	if (state == VALUE_BUSY)
		complain(s, &raw, name, "",
			 "the value refers to itself, directly or through others");
	if (state == VALUE_BUSY || state == VALUE_FAILED) {
		*fail_r = true;
		return NULL;
	}
	if (raw.text == NULL) {
		cell_set(s, idx, other, VALUE_DONE, NULL);
		return NULL;
	}
	cell_set(s, idx, other, VALUE_BUSY, NULL);
	value = expand_raw(s, &raw, name);
	failed = value == NULL;
	cell_set(s, idx, other, failed ? VALUE_FAILED : VALUE_DONE, value);
	*fail_r = *fail_r || failed;
	return value;
}

const char *scope_get(struct scope *s, struct sv name, bool *fail_r)
{
	return get_at(s, param_find(name), name, fail_r);
}

/* A value that is no use is replaced by the default, so that the fields are always sound. */
static void store_default(struct scope *s, const struct param_desc *pd)
{
	struct param_num num = { 0 };
	char expected[200];
	const char *text = pd->def != NULL ? pd->def : "";
	struct buf out = BUF_INIT;

	if (strchr(text, '$') != NULL) {
		struct expand e = { .lookup = lookup_name, .ctx = s };

		if (expand_text(&e, sv_from(text), &out) == 0)
			text = arena_strndup(&s->c->arena, buf_cstr(&out), out.len);
	}
	if (param_parse(pd, text, &num, expected, sizeof(expected)) != 0)
		num.v = 0;
	param_store(pd, &s->params, text, num.v);
	buf_fini(&out);
}

static void fill_one(struct scope *s, unsigned idx)
{
	const struct param_desc *pd = param_desc(idx);
	struct sv name = sv_from(param_name(pd));
	struct raw_value raw;
	struct param_num num;
	char expected[300];
	bool failed = false;
	const char *value = get_at(s, (int)idx, name, &failed);

	if (failed || value == NULL) {
		store_default(s, pd);
		return;
	}
	if (param_parse(pd, value, &num, expected, sizeof(expected)) == 0) {
		param_store(pd, &s->params, value, num.v);
		return;
	}
	store_default(s, pd);
	/* What comes from main.cf was reported with the global scope. */
	raw = scope_raw(s, name);
	if (s != &s->c->global && s->c->global.value[idx] != NULL &&
	    strcmp(s->c->global.value[idx], value) == 0)
		return;
	if (strchr(raw.text, '$') != NULL) {
		char detail[400];

		snprintf(detail, sizeof(detail), "is \"%.100s\", expected %.250s", value, expected);
		complain(s, &raw, name, "", detail);
	} else {
		complain(s, &raw, name, "expected ", expected);
	}
}

void scope_fill(struct scope *s)
{
	for (unsigned i = 0; i < param_count(); i++)
		fill_one(s, i);
}

int scope_expand(struct scope *s, const char *text, struct buf *out, char *error, size_t error_size)
{
	struct expand e = { .lookup = lookup_name, .ctx = s };
	int err = expand_text(&e, sv_from(text), out);

	if (error_size > 0)
		snprintf(error, error_size, "%s", e.error);
	return err;
}
