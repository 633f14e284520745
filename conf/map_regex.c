/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * regexp (POSIX) and pcre (PCRE2) tables: rules in order, first match wins; see conf/map.h. Called
 * by map.c only. A PCRE match may use limited effort: beyond it the table answers MAP_ERROR.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <regex.h>
#include <stdlib.h>

#include "conf/map_impl.h"
#include "lib/err.h"
#include "lib/log.h"

#define MATCH_LIMIT   1000000u
#define DEPTH_LIMIT   20000u
#define JIT_STACK_MAX (512u << 10)
#define MAX_GROUPS    100u

struct rx { /* one compiled pattern */
	pcre2_code *code;
	regex_t *posix;
	unsigned groups; /* capturing groups it has */
};

struct piece {      /* of a result */
	char *text; /* NULL: the text of `group` */
	unsigned group;
};

struct rule {
	enum map_rule_kind kind;
	bool negate;
	unsigned lineno;
	size_t after; /* IF: index of the rule behind its ENDIF */
	struct rx rx;
	struct rx except; /* regexp: /pat/!/except/; unset mostly */
	struct piece *pieces;
	size_t piece_count;
};

struct regex_map {
	bool pcre;
	char *name;
	struct rule *rules;
	size_t count, cap;
	size_t *ifs; /* loading only: indices of open IFs */
	size_t if_depth;
	pcre2_match_data *match_data;
	pcre2_match_context *match_ctx;
	pcre2_jit_stack *jit_stack;
	struct buf key; /* POSIX: terminated copy; REG_STARTEND alone confuses memory checkers */
};

struct groups { /* where the groups of a match are */
	size_t count;
	struct sv text[MAX_GROUPS];
};

static void rx_free(struct rx *rx)
{
	pcre2_code_free(rx->code);
	if (rx->posix != NULL)
		regfree(rx->posix);
	free(rx->posix);
	*rx = (struct rx){ 0 };
}

static void rule_free(struct rule *r)
{
	rx_free(&r->rx);
	rx_free(&r->except);
	for (size_t i = 0; i < r->piece_count; i++)
		free(r->pieces[i].text);
	free(r->pieces);
}

void map_regex_close(void *impl)
{
	struct regex_map *m = impl;

	for (size_t i = 0; i < m->count; i++)
		rule_free(&m->rules[i]);
	free(m->rules);
	free(m->ifs);
	free(m->name);
	pcre2_match_data_free(m->match_data);
	pcre2_match_context_free(m->match_ctx);
	pcre2_jit_stack_free(m->jit_stack);
	buf_fini(&m->key);
	free(m);
}

/* ---- loading ---- */

struct flag {
	char letter;
	uint32_t bit;
};

static const struct flag pcre_flags[] = {
	{ 'i', PCRE2_CASELESS },
	{ 'm', PCRE2_MULTILINE },
	{ 's', PCRE2_DOTALL },
	{ 'x', PCRE2_EXTENDED },
	{ 'A', PCRE2_ANCHORED },
	{ 'E', PCRE2_DOLLAR_ENDONLY },
	{ 'U', PCRE2_UNGREEDY },
	{ 'X', 0 },
	{ '\0', 0 },
};
static const struct flag regexp_flags[] = {
	{ 'i', REG_ICASE },
	{ 'x', REG_EXTENDED },
	{ 'm', REG_NEWLINE },
	{ '\0', 0 },
};

static bool toggle_flag(const struct flag *table, char letter, uint32_t *options)
{
	for (; table->letter != '\0'; table++) {
		if (table->letter == letter) {
			*options ^= table->bit;
			return true;
		}
	}
	return false;
}

/* Cut "/pattern/flags" off the front of *rest. */
static bool cut_pattern(const struct regex_map *m, const struct map_text *t, struct sv *rest,
			struct sv *pattern, uint32_t *options)
{
	char delim = rest->len > 0 ? rest->p[0] : ' ';
	size_t i = 1;

	if (ascii_is_alnum(delim) || ascii_is_space(delim) || delim == '\\') {
		map_text_warn(t, "no regexp: expected /pattern/: skipping this rule");
		return false;
	}
	while (i < rest->len && rest->p[i] != delim)
		i += rest->p[i] == '\\' ? 2 : 1;
	if (i >= rest->len) {
		map_text_warn(t, "no closing regexp delimiter \"%c\": skipping this rule", delim);
		return false;
	}
	*pattern = (struct sv){ rest->p + 1, i - 1 };
	*options = m->pcre ? PCRE2_CASELESS | PCRE2_DOTALL : REG_ICASE | REG_EXTENDED;
	for (i++; i < rest->len && !ascii_is_space(rest->p[i]) && rest->p[i] != '!'; i++) {
		if (!toggle_flag(m->pcre ? pcre_flags : regexp_flags, rest->p[i], options)) {
			map_text_warn(t, "unknown regexp option \"%c\": skipping this rule",
				      rest->p[i]);
			return false;
		}
	}
	*rest = (struct sv){ rest->p + i, rest->len - i };
	return true;
}

static bool compile_pcre(const struct map_text *t, struct sv pattern, uint32_t options,
			 struct rx *rx)
{
	PCRE2_UCHAR text[200];
	PCRE2_SIZE offset;
	uint32_t groups;
	int err;

	rx->code = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.len, options, &err, &offset, NULL);
	if (rx->code == NULL) {
		pcre2_get_error_message(err, text, sizeof(text));
		map_text_warn(t, "error in regex at offset %zu: %s: skipping this rule",
			      (size_t)offset, (const char *)text);
		return false;
	}
	pcre2_jit_compile(rx->code, PCRE2_JIT_COMPLETE); /* without it, it is interpreted */
	pcre2_pattern_info(rx->code, PCRE2_INFO_CAPTURECOUNT, &groups);
	rx->groups = groups;
	return true;
}

static bool compile_posix(const struct map_text *t, struct sv pattern, uint32_t options,
			  struct rx *rx)
{
	char *text = xstrndup(pattern.p, pattern.len);
	char why[200];

	rx->posix = xcalloc(1, sizeof(*rx->posix));
	int err = regcomp(rx->posix, text, (int)options);

	free(text);
	if (err != 0) {
		regerror(err, rx->posix, why, sizeof(why));
		free(rx->posix);
		rx->posix = NULL;
		map_text_warn(t, "error in regexp: %s: skipping this rule", why);
		return false;
	}
	rx->groups = (unsigned)rx->posix->re_nsub;
	return true;
}

static bool load_pattern(const struct regex_map *m, const struct map_text *t, struct sv *rest,
			 struct rx *rx)
{
	struct sv pattern;
	uint32_t options;

	if (!cut_pattern(m, t, rest, &pattern, &options))
		return false;
	bool good = m->pcre ? compile_pcre(t, pattern, options, rx)
			    : compile_posix(t, pattern, options, rx);

	if (good && rx->groups >= MAX_GROUPS) {
		map_text_warn(t, "too many (groups): skipping this rule");
		rx_free(rx);
		return false;
	}
	return good;
}

static void add_piece(struct rule *r, struct sv text, unsigned group)
{
	r->pieces = xrealloc(r->pieces, (r->piece_count + 1) * sizeof(*r->pieces));
	r->pieces[r->piece_count++] =
		(struct piece){ text.p == NULL ? NULL : xstrndup(text.p, text.len), group };
}

/* The group number of "$1", "${1}", "$(1)" at s; *len_r is what it takes. 0 when it is none. */
static unsigned parse_group(struct sv s, size_t *len_r)
{
	char open = s.len > 1 ? s.p[1] : ' ';
	char close = open == '{' ? '}' : open == '(' ? ')' : '\0';
	size_t begin = close == '\0' ? 1 : 2, i = begin;
	unsigned n = 0;

	while (i < s.len && ascii_is_digit(s.p[i]) && n < MAX_GROUPS)
		n = n * 10 + (unsigned)(s.p[i++] - '0');
	if (i == begin || (close != '\0' && (i >= s.len || s.p[i] != close)))
		return 0;
	if (close == '\0' && i < s.len && (ascii_is_alnum(s.p[i]) || s.p[i] == '_'))
		return 0; /* $1x would be a name */
	*len_r = i + (close != '\0');
	return n;
}

static bool load_result(const struct map_text *t, struct sv result, struct rule *r)
{
	size_t begin = 0, used;

	for (size_t i = 0; i < result.len;) {
		if (result.p[i] != '$') {
			i++;
			continue;
		}
		add_piece(r, (struct sv){ result.p + begin, i - begin }, 0);
		if (i + 1 < result.len && result.p[i + 1] == '$') {
			begin = i + 1; /* "$$": the second one is text */
			i += 2;
			continue;
		}
		unsigned group = parse_group((struct sv){ result.p + i, result.len - i }, &used);

		if (group == 0 || group > r->rx.groups) {
			map_text_warn(t,
				      "out of range or invalid replacement index in \"%.*s\": "
				      "skipping this rule",
				      (int)size_min(result.len, 100), result.p);
			return false;
		}
		if (r->negate) {
			map_text_warn(t, "$number found in negative match replacement text: "
					 "skipping this rule");
			return false;
		}
		add_piece(r, (struct sv){ NULL, 0 }, group);
		i += used;
		begin = i;
	}
	add_piece(r, (struct sv){ result.p + begin, result.len - begin }, 0);
	return true;
}

static bool load_rule(const struct regex_map *m, const struct map_text *t, struct sv rest,
		      struct rule *r)
{
	if (!load_pattern(m, t, &rest, &r->rx))
		return false;
	if (!m->pcre && rest.len > 0 && rest.p[0] == '!') {
		rest = (struct sv){ rest.p + 1, rest.len - 1 };
		if (!load_pattern(m, t, &rest, &r->except))
			return false;
	}
	if (rest.len > 0 && !ascii_is_space(rest.p[0])) {
		map_text_warn(t, "unexpected text after the pattern: skipping this rule");
		return false;
	}
	rest = sv_trim(rest);
	if (r->kind == MAP_RULE_IF) {
		if (rest.len > 0)
			map_text_warn(t, "ignoring extra text after IF statement");
		return true;
	}
	if (rest.len == 0) {
		map_text_warn(t, "no replacement text: skipping this rule");
		return false;
	}
	return load_result(t, rest, r);
}

static struct rule *push_rule(struct regex_map *m)
{
	if (m->count == m->cap) {
		m->cap = size_max(16, m->cap * 2);
		m->rules = xrealloc(m->rules, m->cap * sizeof(*m->rules));
	}
	m->rules[m->count] = (struct rule){ 0 };
	return &m->rules[m->count++];
}

static void load_line(struct regex_map *m, const struct map_text *t, struct sv line)
{
	struct map_rule_head h;

	map_rule_parse(line, &h);
	if (h.kind == MAP_RULE_ENDIF) {
		if (m->if_depth == 0)
			map_text_warn(t, "ignoring ENDIF without matching IF");
		else
			m->rules[m->ifs[--m->if_depth]].after = m->count;
		return;
	}
	struct rule *r = push_rule(m);

	r->kind = h.kind;
	r->negate = h.negate;
	r->lineno = t->lineno;
	if (!load_rule(m, t, h.rest, r)) {
		rule_free(r);
		*r = (struct rule){ .kind = h.kind };
		/* a broken IF stays and never matches: what it guards must not apply to all */
		if (h.kind == MAP_RULE_PLAIN) {
			m->count--;
			return;
		}
	}
	if (h.kind == MAP_RULE_IF) {
		m->ifs = xrealloc(m->ifs, (m->if_depth + 1) * sizeof(size_t));
		m->ifs[m->if_depth++] = m->count - 1;
	}
}

static void prepare_pcre(struct regex_map *m)
{
	m->match_data = pcre2_match_data_create(MAX_GROUPS, NULL);
	m->match_ctx = pcre2_match_context_create(NULL);
	m->jit_stack = pcre2_jit_stack_create(32u << 10, JIT_STACK_MAX, NULL);
	if (m->match_data == NULL || m->match_ctx == NULL)
		die("out of memory for a pcre table");
	pcre2_set_match_limit(m->match_ctx, MATCH_LIMIT);
	pcre2_set_depth_limit(m->match_ctx, DEPTH_LIMIT);
	if (m->jit_stack != NULL)
		pcre2_jit_stack_assign(m->match_ctx, NULL, m->jit_stack);
}

static int regex_open(struct map_open *o, bool pcre)
{
	struct buf data;
	struct map_text t;
	struct sv line;
	int err = map_open_text(o, &data, &t);

	if (err < 0)
		return err;
	struct regex_map *m = xcalloc(1, sizeof(*m));

	m->pcre = pcre;
	m->name = xstrndup(o->name, size_min(strlen(o->name), 200));
	while (map_text_next(&t, &line))
		load_line(m, &t, line);
	while (m->if_depth > 0) {
		map_text_warn(&t, "IF has no matching ENDIF");
		m->rules[m->ifs[--m->if_depth]].after = m->count;
	}
	if (pcre)
		prepare_pcre(m);
	map_text_fini(&t);
	buf_fini(&data);
	o->impl = m;
	return 0;
}

int map_pcre_open(struct map_open *o)
{
	return regex_open(o, true);
}

int map_regexp_open(struct map_open *o)
{
	return regex_open(o, false);
}

/* ---- matching ---- */

static int match_pcre(struct regex_map *m, const struct rx *rx, struct sv key, struct groups *g)
{
	int n = pcre2_match(rx->code, (PCRE2_SPTR)key.p, key.len, 0, 0, m->match_data,
			    m->match_ctx);

	if (n == PCRE2_ERROR_NOMATCH)
		return 0;
	if (n < 0) {
		log_warn("pcre map %s: matching error %d%s", m->name, n,
			 n == PCRE2_ERROR_MATCHLIMIT || n == PCRE2_ERROR_DEPTHLIMIT
				 ? " (the pattern takes too long)"
				 : "");
		return E_LIMIT;
	}
	const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m->match_data);

	g->count = (size_t)n;
	for (size_t i = 0; i < g->count; i++)
		g->text[i] = v[2 * i] == PCRE2_UNSET || v[2 * i] > v[2 * i + 1]
				     ? SV("")
				     : (struct sv){ key.p + v[2 * i], v[2 * i + 1] - v[2 * i] };
	return 1;
}

static int match_posix(const struct regex_map *m, const struct rx *rx, struct sv key,
		       struct groups *g)
{
	regmatch_t v[MAX_GROUPS];
	char why[200];

	v[0] = (regmatch_t){ .rm_so = 0, .rm_eo = (regoff_t)key.len };
	int err = regexec(rx->posix, key.p, rx->groups + 1, v, REG_STARTEND);

	if (err == REG_NOMATCH)
		return 0;
	if (err != 0) {
		regerror(err, rx->posix, why, sizeof(why));
		log_warn("regexp map %s: matching error: %s", m->name, why);
		return E_LIMIT;
	}
	g->count = rx->groups + 1;
	for (size_t i = 0; i < g->count; i++)
		g->text[i] = v[i].rm_so < 0 ? SV("")
					    : (struct sv){ key.p + v[i].rm_so,
							   (size_t)(v[i].rm_eo - v[i].rm_so) };
	return 1;
}

/* 1, 0, or an error. */
static int match_rx(struct regex_map *m, const struct rx *rx, struct sv key, struct groups *g)
{
	if (rx->code != NULL)
		return match_pcre(m, rx, key, g);
	return rx->posix != NULL ? match_posix(m, rx, key, g) : 0;
}

static int match_rule(struct regex_map *m, const struct rule *r, struct sv key, struct groups *g)
{
	struct groups unused;
	int match = match_rx(m, &r->rx, key, g);

	if (match == 1 && r->except.posix != NULL) {
		int except = match_rx(m, &r->except, key, &unused);

		match = except < 0 ? except : !except;
	}
	return match < 0 ? match : (match == 1) != r->negate;
}

static enum map_status give_result(const struct rule *r, const struct groups *g, struct buf *out)
{
	for (size_t i = 0; i < r->piece_count; i++) {
		const struct piece *p = &r->pieces[i];
		bool good = p->text != NULL       ? buf_add_str(out, p->text)
			    : p->group < g->count ? buf_add_sv(out, g->text[p->group])
						  : true;

		if (!good)
			return MAP_ERROR;
	}
	return MAP_FOUND;
}

enum map_status map_regex_get(void *impl, struct sv key, struct buf *out)
{
	struct regex_map *m = impl;
	struct groups g;

	if (!m->pcre) {
		buf_reset(&m->key);
		buf_add_sv(&m->key, key);
		key.p = buf_cstr(&m->key);
	}
	for (size_t i = 0; i < m->count;) {
		const struct rule *r = &m->rules[i];

		g.count = 0;
		int match = match_rule(m, r, key, &g);

		if (match < 0)
			return MAP_ERROR;
		if (match == 1 && r->kind == MAP_RULE_PLAIN)
			return give_result(r, &g, out);
		i = match == 0 && r->kind == MAP_RULE_IF ? r->after : i + 1;
	}
	return MAP_NOT_FOUND;
}
