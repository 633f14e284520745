/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The $name syntax of main.cf, for scope.c (values) and names.c (who refers to whom):
 *   $name ${name} $(name)            the value; undefined names are empty
 *   ${name?text} ${name?{text}}      text when the value is not empty
 *   ${name:text} ${name:{text}}      text when it is empty
 *   ${name?{a}:{b}}                  both
 *   ${{l} op {r} ? {a} : {b}}        op: == != < <= >= >, also with "level" behind it; numeric when
 *                                    both sides are digits; without ? : "true" or nothing
 *   $$                               a dollar sign
 * Texts in inner braces lose white space at both ends. Texts are expanded again, lazily.
 * expand_parse() is the only reader of this syntax.
 */
#include "conf/conf_priv.h"

#include <stdio.h>

#include "lib/err.h"

struct macro {
	bool is_dollar;
	bool is_relation;
	struct sv name;
	struct sv left, op, right;
	bool has_yes, has_no;
	struct sv yes, no;
};

struct reader {
	const char *p, *end;
	char *error;
	size_t error_size;
};

static int fail(struct reader *r, const char *what, const char *at)
{
	int left = r->end - at > 20 ? 20 : (int)(r->end - at);

	snprintf(r->error, r->error_size, "%s at \"%.*s\"", what, left, at);
	return E_SYNTAX;
}

static bool is_name_char(char c)
{
	return ascii_is_alnum(c) || c == '_';
}

static void skip_space(struct reader *r)
{
	while (r->p < r->end && ascii_is_space(*r->p))
		r->p++;
}

static struct sv take_name(struct reader *r)
{
	const char *start = r->p;

	while (r->p < r->end && is_name_char(*r->p))
		r->p++;
	return (struct sv){ start, (size_t)(r->p - start) };
}

/* r->p is at the opening character: the text inside, r->p behind the closing one. */
static int take_braced(struct reader *r, char open, char close, struct sv *inner_r)
{
	const char *start = r->p;
	unsigned depth = 0;

	for (const char *q = start; q < r->end; q++) {
		if (*q == open)
			depth++;
		else if (*q == close && --depth == 0) {
			*inner_r = (struct sv){ start + 1, (size_t)(q - start - 1) };
			r->p = q + 1;
			return 0;
		}
	}
	return fail(r, close == '}' ? "missing } for the {" : "missing ) for the (", start);
}

/* "{text}" gives the trimmed text; anything else is taken whole, up to the end. */
static int take_text(struct reader *r, struct sv *text_r)
{
	const char *start = r->p;
	int err;

	skip_space(r);
	if (r->p < r->end && *r->p == '{') {
		err = take_braced(r, '{', '}', text_r);
		*text_r = err == 0 ? sv_trim(*text_r) : *text_r;
		return err;
	}
	*text_r = (struct sv){ start, (size_t)(r->end - start) };
	r->p = r->end;
	return 0;
}

/* Behind the name or relation: "?..." and ":...", or nothing. */
static int parse_choice(struct reader *r, struct macro *m)
{
	int err = 0;

	if (r->p < r->end && *r->p == '?') {
		r->p++;
		m->has_yes = true;
		err = take_text(r, &m->yes);
		skip_space(r);
	}
	if (err == 0 && r->p < r->end && *r->p == ':') {
		r->p++;
		m->has_no = true;
		err = take_text(r, &m->no);
		skip_space(r);
	}
	if (err == 0 && r->p < r->end)
		err = fail(r, m->has_yes ? "expected : or the end" : "expected ? or : or the end",
			   r->p);
	return err;
}

static const char *const relations[] = { "==", "!=", "<=", ">=", "<", ">" };

static int parse_relation(struct reader *r, struct macro *m)
{
	const char *op_start;
	int err;

	m->is_relation = true;
	err = take_braced(r, '{', '}', &m->left);
	if (err != 0)
		return err;
	skip_space(r);
	op_start = r->p;
	for (size_t i = 0; i < ARRAY_LEN(relations) && r->p == op_start; i++) {
		size_t len = strlen(relations[i]);

		if ((size_t)(r->end - r->p) >= len && memcmp(r->p, relations[i], len) == 0)
			r->p += len;
	}
	if (r->p == op_start)
		return fail(r, "expected == != < <= >= or >", op_start);
	if (r->end - r->p >= 5 && memcmp(r->p, "level", 5) == 0)
		r->p += 5;
	m->op = (struct sv){ op_start, (size_t)(r->p - op_start) };
	skip_space(r);
	if (r->p == r->end || *r->p != '{')
		return fail(r, "expected {text} behind the comparison", r->p);
	err = take_braced(r, '{', '}', &m->right);
	if (err != 0)
		return err;
	m->left = sv_trim(m->left);
	m->right = sv_trim(m->right);
	skip_space(r);
	return parse_choice(r, m);
}

/* The inside of ${} or $(). */
static int parse_inner(struct sv inner, struct macro *m, struct reader *outer)
{
	struct reader r = { inner.p, inner.p + inner.len, outer->error, outer->error_size };

	skip_space(&r);
	if (r.p < r.end && *r.p == '{')
		return parse_relation(&r, m);
	m->name = take_name(&r);
	if (m->name.len == 0)
		return fail(&r, "expected a parameter name", r.p);
	if (r.p < r.end && ascii_is_space(*r.p))
		skip_space(&r);
	return parse_choice(&r, m);
}

/* r->p is at a '$'; leaves it behind the macro. */
static int expand_parse(struct reader *r, struct macro *m)
{
	struct sv inner;
	int err;

	*m = (struct macro){ 0 };
	r->p++;
	if (r->p < r->end && *r->p == '$') {
		m->is_dollar = true;
		r->p++;
		return 0;
	}
	if (r->p < r->end && (*r->p == '{' || *r->p == '(')) {
		err = take_braced(r, *r->p, *r->p == '{' ? '}' : ')', &inner);
		return err != 0 ? err : parse_inner(inner, m, r);
	}
	m->name = take_name(r);
	return m->name.len > 0 ? 0 : fail(r, "expected a parameter name behind $", r->p - 1);
}

/* ---- evaluation ---- */

static int expand_in(struct expand *e, struct sv text, unsigned depth, struct buf *out);

static bool all_digits(struct sv s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!ascii_is_digit(s.p[i]))
			return false;
	}
	return s.len > 0;
}

static int compare_digits(struct sv a, struct sv b)
{
	while (a.len > 0 && a.p[0] == '0')
		a.p++, a.len--;
	while (b.len > 0 && b.p[0] == '0')
		b.p++, b.len--;
	if (a.len != b.len)
		return a.len < b.len ? -1 : 1;
	return a.len > 0 ? memcmp(a.p, b.p, a.len) : 0;
}

static int compare_text(struct sv a, struct sv b)
{
	size_t len = size_min(a.len, b.len);
	int diff = len > 0 ? memcmp(a.p, b.p, len) : 0;

	if (diff == 0 && a.len != b.len)
		diff = a.len < b.len ? -1 : 1;
	return diff;
}

static struct sv next_component(struct sv *s)
{
	const char *dot = s->len > 0 ? memchr(s->p, '.', s->len) : NULL;
	struct sv head = { s->p, dot != NULL ? (size_t)(dot - s->p) : s->len };
	size_t used = head.len + (dot != NULL);

	s->p += used;
	s->len -= used;
	return head;
}

/* "3.6" against "3.10": by dotted numbers; a missing one counts as 0. */
static int compare_level(struct sv a, struct sv b)
{
	int diff = 0;

	while (diff == 0 && (a.len > 0 || b.len > 0))
		diff = compare_digits(next_component(&a), next_component(&b));
	return diff;
}

static bool holds(struct sv op, struct sv left, struct sv right)
{
	bool level = op.len > 5;
	bool or_equal = op.len > 1 && op.p[1] == '=';
	int diff;

	if (level)
		diff = compare_level(left, right);
	else if (all_digits(left) && all_digits(right))
		diff = compare_digits(left, right);
	else
		diff = compare_text(left, right);
	switch (op.p[0]) {
	case '=':
		return diff == 0;
	case '!':
		return diff != 0;
	case '<':
		return diff < 0 || (or_equal && diff == 0);
	default:
		return diff > 0 || (or_equal && diff == 0);
	}
}

static int eval_relation(struct expand *e, const struct macro *m, unsigned depth, bool *true_r)
{
	struct buf left = BUF_INIT, right = BUF_INIT;
	int err;

	left.limit = right.limit = CONF_VALUE_LIMIT_BYTES;
	err = expand_in(e, m->left, depth, &left);
	if (err == 0)
		err = expand_in(e, m->right, depth, &right);
	if (err == 0)
		*true_r = holds(m->op, buf_sv(&left), buf_sv(&right));
	buf_fini(&left);
	buf_fini(&right);
	return err;
}

static int eval_macro(struct expand *e, const struct macro *m, unsigned depth, struct buf *out)
{
	const char *value = NULL;
	bool failed = false, truth;
	int err;

	if (m->is_dollar)
		return buf_add_c(out, '$') ? 0 : E_LIMIT;
	if (m->is_relation) {
		err = eval_relation(e, m, depth, &truth);
		if (err != 0)
			return err;
	} else {
		value = e->lookup(e->ctx, m->name, &failed);
		if (failed)
			return E_SYNTAX;
		truth = value != NULL && *value != 0;
	}
	if (truth && m->has_yes)
		return expand_in(e, m->yes, depth, out);
	if (!truth && m->has_no)
		return expand_in(e, m->no, depth, out);
	if (!truth || m->has_yes || (m->has_no && m->is_relation))
		return 0;
	if (m->is_relation)
		return buf_add_str(out, "true") ? 0 : E_LIMIT;
	/* ${name:text} with a value gives nothing, as in Postfix. */
	return m->has_no || buf_add_str(out, value) ? 0 : E_LIMIT;
}

static int expand_in(struct expand *e, struct sv text, unsigned depth, struct buf *out)
{
	struct reader r = { text.p, text.p + text.len, e->error, sizeof(e->error) };
	struct macro m;
	int err = 0;

	if (depth == 0) {
		snprintf(e->error, sizeof(e->error), "braces nested too deep");
		return E_LIMIT;
	}
	while (err == 0 && r.p < r.end) {
		const char *dollar = memchr(r.p, '$', (size_t)(r.end - r.p));
		const char *stop = dollar != NULL ? dollar : r.end;

		if (!buf_add(out, r.p, (size_t)(stop - r.p)))
			err = E_LIMIT;
		r.p = stop;
		if (err != 0 || dollar == NULL)
			break;
		err = expand_parse(&r, &m);
		if (err == 0)
			err = eval_macro(e, &m, depth - 1, out);
	}
	if (out->overflow)
		snprintf(e->error, sizeof(e->error), "the value grows beyond %u bytes",
			 CONF_VALUE_LIMIT_BYTES);
	return err;
}

int expand_text(struct expand *e, struct sv text, struct buf *out)
{
	e->error[0] = 0;
	return expand_in(e, text, CONF_BRACE_DEPTH_LIMIT, out);
}

static int scan_in(struct sv text, unsigned depth, void (*ref)(void *ctx, struct sv name),
		   void *ctx)
{
	char error[8];
	struct reader r = { text.p, text.p + text.len, error, sizeof(error) };
	struct macro m;
	int err = depth == 0 ? E_LIMIT : 0;

	while (err == 0 && r.p < r.end) {
		r.p = memchr(r.p, '$', (size_t)(r.end - r.p));
		if (r.p == NULL)
			break;
		err = expand_parse(&r, &m);
		if (err != 0)
			break;
		if (m.name.len > 0)
			ref(ctx, m.name);
		const struct sv parts[] = { m.left, m.right, m.yes, m.no };

		for (size_t i = 0; i < ARRAY_LEN(parts) && err == 0; i++)
			err = parts[i].len > 0 ? scan_in(parts[i], depth - 1, ref, ctx) : 0;
	}
	return err;
}

int expand_scan(struct sv text, void (*ref)(void *ctx, struct sv name), void *ctx)
{
	return scan_in(text, CONF_BRACE_DEPTH_LIMIT, ref, ctx);
}

struct plain_lookup {
	const char *(*fn)(void *ctx, struct sv name);
	void *ctx;
};

static const char *look_up_plainly(void *ctx, struct sv name, bool *fail_r)
{
	const struct plain_lookup *l = ctx;

	*fail_r = false;
	return l->fn(l->ctx, name);
}

int conf_expand_with(struct sv text, const char *(*lookup)(void *ctx, struct sv name), void *ctx,
		     struct buf *out)
{
	struct plain_lookup l = { lookup, ctx };
	struct expand e = { .lookup = look_up_plainly, .ctx = &l };

	return expand_text(&e, text, out);
}
