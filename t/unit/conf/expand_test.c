/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The $name syntax: what Postfix 3.7 gives for the same texts, and errors that say where. */
#include "conf/conf_priv.h"

#include "lib/err.h"
#include "t/unit/tap.h"

static const char *lookup(void *ctx, struct sv name, bool *fail_r)
{
	(void)ctx;
	if (sv_eq(name, SV("a")))
		return "A";
	if (sv_eq(name, SV("empty")))
		return "";
	if (sv_eq(name, SV("n_9")))
		return "9";
	if (sv_eq(name, SV("bad")))
		*fail_r = true;
	return NULL;
}

static char error[256];

static int expand(const char *text, struct buf *out)
{
	struct expand e = { .lookup = lookup };
	int err;

	buf_reset(out);
	out->limit = CONF_VALUE_LIMIT_BYTES;
	err = expand_text(&e, sv_from(text), out);
	snprintf(error, sizeof(error), "%s", e.error);
	return err;
}

static void test_good(void)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "", "" },
		{ "plain text", "plain text" },
		{ "$a", "A" },
		{ "x$a.y", "xA.y" },
		{ "${a}", "A" },
		{ "$(a)", "A" },
		{ "${ a }", "A" },
		{ "$$a $$", "$a $" },
		{ "$$$a", "$A" },
		{ "[$nosuch][${nosuch}]", "[][]" },
		{ "${a?text}", "text" },
		{ "${a?x $a y}", "x A y" },
		{ "${a?  keeps }", "  keeps " },
		{ "${a?{  loses }}", "loses" },
		{ "${empty?x}${nosuch?x}", "" },
		{ "${a:x}", "" },
		{ "${a:{x}}", "" },
		{ "${empty:x}", "x" },
		{ "${nosuch:{ x $a }}", "x A" },
		{ "${nosuch:a?b}", "a?b" },
		{ "${a?{y}:{n}}${empty?{y}:{n}}", "yn" },
		{ "${a ? {y} : {n}}", "y" },
		{ "${a?{y}:n}${empty?{y}:n m}", "yn m" },
		{ "$(a?{1}:{2})", "1" },
		{ "${a?x}y}", "xy}" },
		{ "${a?{${empty:{deep $a}}}}", "deep A" },
		{ "${{a} == {a} ? {y} : {n}}", "y" },
		{ "${{$a}=={A}?{y}:{n}}", "y" },
		{ "${{$a} != {A} ? {y} : {n}}", "n" },
		{ "${{ b } > {a} ? {y}}", "y" },
		{ "${{9} < {10} ? {y} : {n}}", "y" },
		{ "${{$n_9} <= {009} ? {y} : {n}}", "y" },
		{ "${{9} < {10a} ? {y} : {n}}", "n" },
		{ "${{9} >= {9} ? {y} : {n}}", "y" },
		{ "${{a} == {b} : {n}}${{a} == {a} : {n}}", "n" },
		{ "[${{a} == {a}}][${{a} == {b}}]", "[true][]" },
		{ "${{3.6} <level {3.10} ? {y} : {n}}", "y" },
		{ "${{3.6} <level {3.6.0} ? {y} : {n}}", "n" },
		{ "${{0} <level {1} ? {y} : {n}}", "y" },
		{ "${{4} >=level {3.11} ? {y} : {n}}", "y" },
		{ "${{} == {} ? {y}}", "y" },
		{ "${a?{$bad}:{x}}", NULL },
		{ "${empty?{$bad}:{the other branch is not looked at}}",
		  "the other branch is not looked at" },
	};
	struct buf out = BUF_INIT;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int err = expand(rows[i].text, &out);

		is_str(err == 0 ? buf_cstr(&out) : NULL, rows[i].want, "%s", rows[i].text);
	}
	buf_fini(&out);
}

static void test_bad(void)
{
	static const struct {
		const char *text, *error;
	} rows[] = {
		{ "$", "expected a parameter name behind $ at \"$\"" },
		{ "a$ b", "expected a parameter name behind $ at \"$ b\"" },
		{ "${", "missing } for the { at \"{\"" },
		{ "${a", "missing } for the { at \"{a\"" },
		{ "$(a", "missing ) for the ( at \"(a\"" },
		{ "${}", "expected a parameter name at \"\"" },
		{ "${a.x}", "expected ? or : or the end at \".x\"" },
		{ "${a b}", "expected ? or : or the end at \"b\"" },
		{ "${a?{x}y}", "expected : or the end at \"y\"" },
		{ "${a?{x}", "missing } for the { at \"{a?{x}\"" },
		{ "${{a} =~ {b} ? {c}}", "expected == != < <= >= or > at \"=~ {b} ? {c}\"" },
		{ "${{a} == b ? {c}}", "expected {text} behind the comparison at \"b ? {c}\"" },
		{ "${{a} == {b} x}", "expected ? or : or the end at \"x\"" },
		{ "$bad", "" },
	};
	struct buf out = BUF_INIT;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		is_int(expand(rows[i].text, &out), E_SYNTAX, "%s is refused", rows[i].text);
		is_str(error, rows[i].error, "with the reason");
	}
	buf_fini(&out);
}

static void test_limits(void)
{
	struct buf out = BUF_INIT, text = BUF_INIT;

	for (unsigned i = 0; i < 2 * CONF_BRACE_DEPTH_LIMIT; i++)
		buf_add_str(&text, "${a?{");
	for (unsigned i = 0; i < 2 * CONF_BRACE_DEPTH_LIMIT; i++)
		buf_add_str(&text, "}}");
	is_int(expand(buf_cstr(&text), &out), E_LIMIT, "nesting is bounded");
	is_str(error, "braces nested too deep", "with the reason");
	buf_reset(&text);
	for (unsigned i = 0; i <= CONF_VALUE_LIMIT_BYTES; i++)
		buf_add_c(&text, 'x');
	is_int(expand(buf_cstr(&text), &out), E_LIMIT, "the size is bounded");
	buf_fini(&out);
	buf_fini(&text);
}

static void collect(void *ctx, struct sv name)
{
	buf_add_sv(ctx, name);
	buf_add_c(ctx, ' ');
}

static void test_scan(void)
{
	struct buf names = BUF_INIT;

	expand_scan(SV("$a ${b?{$c}:{$d}} $$e ${{$f} == {${g}} ? {$h}} $(i:$j)"), collect, &names);
	is_str(buf_cstr(&names), "a b c d f g h i j ", "names of all branches");
	buf_fini(&names);
}

int main(void)
{
	test_good();
	test_bad();
	test_limits();
	test_scan();
	return tap_done();
}
