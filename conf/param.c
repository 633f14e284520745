/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The parameter table and the syntax of values. One row of params.inc gives one descriptor; the
 * same parser reads the user's texts, the defaults and the bounds.
 */

#include "conf/conf_priv.h"

#include <stdio.h>

#include "lib/err.h"
#include "lib/log.h"

static const struct param_desc params_table[] = {
#define PARAM(name, ptype, ...)                                                                    \
	{ .field = #name, .type = P_##ptype, .offset = offsetof(struct params, name), __VA_ARGS__ },
#include "conf/params.inc"
#undef PARAM
};

static const struct inert_desc inert_table[] = {
#define INERT(name, def, reason) { name, def },
#include "conf/params_inert.inc"
#undef INERT
};

/* Both tables by name; filled at the first look-up and kept for the life of the process. */
static struct strmap *param_map, *inert_map;

unsigned param_count(void)
{
	return ARRAY_LEN(params_table);
}

const struct param_desc *param_desc(unsigned idx)
{
	ASSERT(idx < ARRAY_LEN(params_table));
	return &params_table[idx];
}

const char *param_name(const struct param_desc *pd)
{
	return pd->spelling != NULL ? pd->spelling : pd->field;
}

static void maps_fill(void)
{
	union {
		const void *in;
		void *out;
	} u;

	if (param_map != NULL)
		return;
	param_map = strmap_new();
	inert_map = strmap_new();
	for (size_t i = 0; i < ARRAY_LEN(params_table); i++) {
		u.in = &params_table[i];
		strmap_put(param_map, sv_from(param_name(&params_table[i])), u.out);
	}
	for (size_t i = 0; i < ARRAY_LEN(inert_table); i++) {
		u.in = &inert_table[i];
		strmap_put(inert_map, sv_from(inert_table[i].name), u.out);
	}
}

int param_find(struct sv name)
{
	const struct param_desc *pd;

	maps_fill();
	pd = strmap_get(param_map, name);
	return pd != NULL ? (int)(pd - params_table) : -1;
}

unsigned inert_count(void)
{
	return ARRAY_LEN(inert_table);
}

const struct inert_desc *inert_desc(unsigned idx)
{
	ASSERT(idx < ARRAY_LEN(inert_table));
	return &inert_table[idx];
}

const struct inert_desc *inert_find(struct sv name)
{
	maps_fill();
	return strmap_get(inert_map, name);
}

/* Whatever a row allows, these leave room for sums in the code that uses the values. */
#define TIME_LIMIT_MS    (100LL * 366 * 86400 * 1000)
#define SIZE_LIMIT_BYTES (1LL << 60)
#define INT_LIMIT        INT32_MAX

/* Digits in front, the rest is the suffix. */
static int number_parse(struct sv text, int64_t *num_r, struct sv *suffix_r)
{
	uint64_t num;
	size_t digits = 0;
	int err;

	while (digits < text.len && ascii_is_digit(text.p[digits]))
		digits++;
	if (digits == 0)
		return E_SYNTAX;
	err = str_to_u64((struct sv){ text.p, digits }, INT64_MAX, &num);
	if (err != 0)
		return err;
	*num_r = (int64_t)num;
	*suffix_r = sv_trim((struct sv){ text.p + digits, text.len - digits });
	return 0;
}

struct unit {
	const char *suffix;
	int64_t factor;
};

static const struct unit time_units[] = {
	{ "ms", 1 },      { "s", 1000 },     { "m", 60000 },
	{ "h", 3600000 }, { "d", 86400000 }, { "w", 604800000 },
};

static const struct unit size_units[] = {
	{ "", 1 },
	{ "k", 1024 },
	{ "m", 1024 * 1024 },
	{ "g", 1024 * 1024 * 1024 },
};

static int with_unit(struct sv text, const struct unit *units, size_t unit_count, const char *unit,
		     int64_t limit, int64_t *value_r)
{
	struct sv suffix;
	int64_t num;
	int err = number_parse(sv_trim(text), &num, &suffix);

	if (err != 0)
		return err;
	if (suffix.len == 0)
		suffix = sv_from(unit);
	for (size_t i = 0; i < unit_count; i++) {
		if (!sv_eq_nocase(suffix, sv_from(units[i].suffix)))
			continue;
		if (num > limit / units[i].factor)
			return E_LIMIT;
		*value_r = num * units[i].factor;
		return 0;
	}
	return E_SYNTAX;
}

int value_parse_time_ms(const char *text, char unit, int64_t *ms_r)
{
	char suffix[2] = { unit, 0 };

	return with_unit(sv_from(text), time_units, ARRAY_LEN(time_units), suffix, TIME_LIMIT_MS,
			 ms_r);
}

int value_parse_int(const char *text, int64_t *value_r)
{
	int err = str_to_i64(sv_trim(sv_from(text)), value_r);

	return err == 0 && (*value_r > INT_LIMIT || *value_r < -INT_LIMIT) ? E_LIMIT : err;
}

int value_parse_size(const char *text, int64_t *bytes_r)
{
	return with_unit(sv_from(text), size_units, ARRAY_LEN(size_units), "", SIZE_LIMIT_BYTES,
			 bytes_r);
}

/* A time's default names the unit of numbers without one: "5d", "${stress?{10}:{300}}s". */
static char default_unit(const struct param_desc *pd)
{
	size_t len = pd->def != NULL ? strlen(pd->def) : 0;

	return len > 0 && ascii_is_alpha(pd->def[len - 1]) ? pd->def[len - 1] : 's';
}

/* A default that ends in its unit may have put it behind a value that has one: "5mh". The first
 * counts. */
static int parse_time(const struct param_desc *pd, const char *text, int64_t *v_r)
{
	int err = value_parse_time_ms(text, default_unit(pd), v_r);
	size_t len = strlen(text);

	if (err == 0 || len < 2 || text[len - 1] != default_unit(pd) ||
	    !ascii_is_alpha(text[len - 2]))
		return err;
	char *once = xstrndup(text, len - 1);

	err = value_parse_time_ms(once, default_unit(pd), v_r);
	free(once);
	return err;
}

/* The word's number in "no yes normalize"; -1. */
static int word_index(const char *words, struct sv word)
{
	int idx = 0;

	for (const char *p = words; *p != 0; idx++) {
		size_t len = strcspn(p, " ");

		if (sv_eq_nocase((struct sv){ p, len }, word))
			return idx;
		p += len + strspn(p + len, " ");
	}
	return -1;
}

static int parse_bool(struct sv text, int64_t *v_r)
{
	if (sv_eq_nocase(text, SV("yes")))
		*v_r = 1;
	else if (sv_eq_nocase(text, SV("no")))
		*v_r = 0;
	else
		return E_SYNTAX;
	return 0;
}

static int parse_plain(const struct param_desc *pd, const char *text, int64_t *v_r)
{
	struct sv s = sv_trim(sv_from(text));

	switch (pd->type) {
	case P_BOOL:
		return parse_bool(s, v_r);
	case P_INT:
		return value_parse_int(text, v_r);
	case P_TIME:
		return parse_time(pd, text, v_r);
	case P_SIZE:
		return value_parse_size(text, v_r);
	case P_ENUM:
		*v_r = word_index(pd->words, s);
		return *v_r < 0 ? E_SYNTAX : 0;
	case P_STR:
		break;
	}
	*v_r = (int64_t)strlen(text);
	return 0;
}

static const char *const type_expected[] = {
	[P_STR] = "a text",
	[P_BOOL] = "yes or no",
	[P_INT] = "a whole number",
	[P_TIME] = "a number with a time unit (s, m, h, d, w)",
	[P_SIZE] = "a number of bytes (or with k, M, G)",
	[P_ENUM] = "one of",
};

/* "a whole number from 1 to 100", "one of: any ipv4 ipv6" */
static void say_expected(const struct param_desc *pd, char *out, size_t out_size)
{
	if (pd->type == P_ENUM)
		snprintf(out, out_size, "one of: %s", pd->words);
	else if (pd->type == P_STR)
		snprintf(out, out_size, "a value that is not empty");
	else if (pd->min != NULL && pd->max != NULL)
		snprintf(out, out_size, "%s from %s to %s", type_expected[pd->type], pd->min,
			 pd->max);
	else if (pd->min != NULL)
		snprintf(out, out_size, "%s, at least %s", type_expected[pd->type], pd->min);
	else if (pd->max != NULL)
		snprintf(out, out_size, "%s, at most %s", type_expected[pd->type], pd->max);
	else
		snprintf(out, out_size, "%s", type_expected[pd->type]);
}

/* The bound's number; the tables' own texts always parse (tested). STR: the least length. */
static int64_t bound(const struct param_desc *pd, const char *text)
{
	int64_t v = 0;
	int err = pd->type == P_STR ? str_to_i64(sv_from(text), &v) : parse_plain(pd, text, &v);

	ASSERT(err == 0);
	return v;
}

int param_parse(const struct param_desc *pd, const char *text, struct param_num *num_r,
		char *expected, size_t expected_size)
{
	int err = parse_plain(pd, text, &num_r->v);

	if (err == 0 && pd->min != NULL && num_r->v < bound(pd, pd->min))
		err = E_LIMIT;
	if (err == 0 && pd->max != NULL && num_r->v > bound(pd, pd->max))
		err = E_LIMIT;
	if (err != 0)
		say_expected(pd, expected, expected_size);
	return err;
}

void param_store(const struct param_desc *pd, struct params *p, const char *str, int64_t num)
{
	void *field = (char *)p + pd->offset;

	switch (pd->type) {
	case P_STR:
		*(const char **)field = str;
		break;
	case P_BOOL:
		*(bool *)field = num != 0;
		break;
	case P_ENUM:
		*(int *)field = (int)num;
		break;
	case P_INT:
	case P_TIME:
	case P_SIZE:
		*(int64_t *)field = num;
		break;
	}
}
