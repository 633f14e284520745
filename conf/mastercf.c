/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master.cf: service type private unprivileged chroot wakeup maxproc command [arguments], where
 * "-" stands for a field's default and { ... } makes one argument of several words. Options in
 * front of the arguments: -o name=value, -o { name = value }, and flags such as -v, which are kept.
 */
#include "conf/conf_priv.h"

#include "lib/err.h"

const char mastercf_default_text[] =
	"smtp      inet  n       -       n       -       -       smtpd\n";

/* Always there, after those of the file that have the same name. */
static const char builtin_text[] =
	"smtp      unix  -       -       n       -       -       smtp\n"
	"relay     unix  -       -       n       -       -       smtp\n"
	"lmtp      unix  -       -       n       -       -       lmtp\n"
	"virtual   unix  -       n       n       -       -       virtual\n"
	"local     unix  -       n       n       -       -       local\n"
	"error     unix  -       -       n       -       -       error\n"
	"retry     unix  -       -       n       -       -       error\n"
	"discard   unix  -       -       n       -       -       discard\n";

static const char *const type_texts[] = {
	[SERVICE_INET] = "inet",
	[SERVICE_UNIX] = "unix",
	[SERVICE_FIFO] = "fifo",
	[SERVICE_PASS] = "pass",
	[SERVICE_UNIX_DGRAM] = "unix-dgram",
};

const char *mastercf_type_text(enum service_type type)
{
	return type_texts[type];
}

struct line {
	struct conf *c;
	struct conf_diag *d;
	const char *file;
	unsigned number;
	struct sv rest;
	bool bad;
};

static void bad_field(struct line *l, const char *field, struct sv got, const char *expected)
{
	conf_diag_add(l->d, true, l->file, l->number, "%s \"%.*s\": expected %s", field,
		      (int)size_min(got.len, 60), got.p, expected);
	l->bad = true;
}

static void too_short(struct line *l, unsigned fields)
{
	if (!l->bad)
		conf_diag_add(l->d, true, l->file, l->number,
			      "%u fields: expected 8 or more: service type private unprivileged "
			      "chroot wakeup maxproc command",
			      fields);
	l->bad = true;
}

/* The next word, or the inside of { ... }; false at the end. */
static bool next_word(struct line *l, struct sv *word_r, bool *braced_r)
{
	unsigned depth = 0;
	size_t len = 0;

	l->rest = sv_trim(l->rest);
	*braced_r = l->rest.len > 0 && l->rest.p[0] == '{';
	if (l->rest.len == 0)
		return false;
	if (!*braced_r) {
		while (len < l->rest.len && !ascii_is_space(l->rest.p[len]))
			len++;
		*word_r = (struct sv){ l->rest.p, len };
	} else {
		for (; len < l->rest.len; len++) {
			if (l->rest.p[len] == '{')
				depth++;
			else if (l->rest.p[len] == '}' && --depth == 0)
				break;
		}
		if (len == l->rest.len) {
			bad_field(l, "argument", l->rest, "a } for the {");
			return false;
		}
		*word_r = sv_trim((struct sv){ l->rest.p + 1, len - 1 });
		len++;
	}
	l->rest.p += len;
	l->rest.len -= len;
	return true;
}

static bool field_bool(struct line *l, const char *field, struct sv word, bool def)
{
	if (sv_eq(word, SV("-")))
		return def;
	if (!sv_eq(word, SV("y")) && !sv_eq(word, SV("n")))
		bad_field(l, field, word, "y, n or -");
	return sv_eq(word, SV("y"));
}

static int64_t field_number(struct line *l, const char *field, struct sv word, int64_t def)
{
	uint64_t num;

	if (sv_eq(word, SV("-")))
		return def;
	if (str_to_u64(word, INT32_MAX, &num) == 0)
		return (int64_t)num;
	bad_field(l, field, word, "a number or -");
	return def;
}

static void field_type(struct line *l, struct sv word, struct service *s)
{
	for (unsigned i = 0; i < ARRAY_LEN(type_texts); i++) {
		if (sv_eq(word, sv_from(type_texts[i]))) {
			s->pub.type = (enum service_type)i;
			s->type_text = type_texts[i];
			return;
		}
	}
	s->type_text = type_texts[SERVICE_UNIX];
	bad_field(l, "type", word, "inet, unix, unix-dgram, fifo or pass");
}

static void field_name(struct line *l, struct service *s)
{
	struct sv name = sv_from(s->pub.name);
	const char *colon = strrchr(s->pub.name, ':');

	if (s->pub.type != SERVICE_INET) {
		if (memchr(name.p, '/', name.len) != NULL)
			bad_field(l, "service", name, "a name without /");
		return;
	}
	if (name.p[0] == '[' && (colon == NULL || colon[-1] != ']'))
		bad_field(l, "service", name, "[address]:port");
	else if (colon != NULL && colon[1] == 0)
		bad_field(l, "service", name, "a port behind the :");
	else if (name.p[0] != '[' && colon != NULL && strchr(name.p, ':') != colon)
		bad_field(l, "service", name, "an IPv6 address in brackets: [address]:port");
}

/* ---- command, options, arguments ---- */

struct args {
	const char **list;
	unsigned count, cap;
	struct conf_override *overrides;
	unsigned override_count, override_cap;
};

static void args_add(struct args *a, const char *text)
{
	if (a->count == a->cap) {
		a->cap = a->cap ? 2 * a->cap : 8;
		a->list = xrealloc(a->list, a->cap * sizeof(*a->list));
	}
	a->list[a->count++] = text;
}

static void override_add(struct line *l, struct args *a, struct sv text)
{
	struct sv name, value;
	const char *why = conf_split_nameval(text, &name, &value);

	if (why != NULL) {
		bad_field(l, "-o", text, "name=value");
		return;
	}
	if (a->override_count == a->override_cap) {
		a->override_cap = a->override_cap ? 2 * a->override_cap : 8;
		a->overrides = xrealloc(a->overrides, a->override_cap * sizeof(*a->overrides));
	}
	a->overrides[a->override_count++] = (struct conf_override){
		.name = arena_strndup(&l->c->arena, name.p, name.len),
		.value = arena_strndup(&l->c->arena, value.p, value.len),
	};
}

static void read_args(struct line *l, struct args *a)
{
	bool options = true, braced;
	struct sv word;

	while (next_word(l, &word, &braced)) {
		options = options && !braced && word.len > 1 && word.p[0] == '-';
		if (options && word.p[1] == 'o' && word.len > 2)
			override_add(l, a, (struct sv){ word.p + 2, word.len - 2 });
		else if (options && word.p[1] == 'o' && next_word(l, &word, &braced))
			override_add(l, a, word);
		else if (options && word.p[1] == 'o')
			bad_field(l, "-o", SV(""), "name=value");
		else
			args_add(a, arena_strndup(&l->c->arena, word.p, word.len));
	}
}

static void keep_args(struct line *l, struct args *a, struct service *s)
{
	const char **list = arena_calloc(&l->c->arena, (a->count + 1) * sizeof(*list));
	struct conf_override *overrides =
		arena_calloc(&l->c->arena, (a->override_count + 1) * sizeof(*overrides));

	if (a->count > 0)
		memcpy(list, a->list, a->count * sizeof(*list));
	if (a->override_count > 0)
		memcpy(overrides, a->overrides, a->override_count * sizeof(*overrides));
	s->pub.args = list;
	s->pub.arg_count = a->count;
	s->pub.overrides = overrides;
	s->pub.override_count = a->override_count;
	free(a->list);
	free(a->overrides);
}

static void read_command(struct line *l, struct service *s)
{
	struct args args = { 0 };
	bool braced;
	struct sv word;

	l->rest = sv_trim(l->rest);
	s->command = arena_strndup(&l->c->arena, l->rest.p, l->rest.len);
	if (!next_word(l, &word, &braced)) {
		too_short(l, 7);
		return;
	}
	if (memchr(word.p, '/', word.len) != NULL)
		bad_field(l, "command", word, "a program name without /");
	s->pub.program = arena_strndup(&l->c->arena, word.p, word.len);
	read_args(l, &args);
	keep_args(l, &args, s);
}

static void read_wakeup(struct line *l, struct service *s, struct sv word)
{
	/* "1000?": only when the service is in use; the same to us. */
	if (word.len > 1 && word.p[word.len - 1] == '?')
		word.len--;
	s->pub.wakeup_s = field_number(l, "wakeup", word, 0);
}

static void read_fields(struct line *l, struct service *s)
{
	struct sv f[7] = { { 0 } };
	bool braced;
	unsigned n = 0;

	while (n < ARRAY_LEN(f) && next_word(l, &f[n], &braced))
		n++;
	if (n < ARRAY_LEN(f)) {
		too_short(l, n);
		return;
	}
	s->pub.name = arena_strndup(&l->c->arena, f[0].p, f[0].len);
	field_type(l, f[1], s);
	if (!l->bad)
		field_name(l, s);
	for (unsigned i = 0; i < ARRAY_LEN(s->fields); i++)
		s->fields[i] = arena_strndup(&l->c->arena, f[i + 2].p, f[i + 2].len);
	s->pub.is_private = field_bool(l, "private", f[2], true);
	s->pub.unprivileged = field_bool(l, "unprivileged", f[3], true);
	s->pub.chroot = field_bool(l, "chroot", f[4], false);
	if (s->pub.type == SERVICE_INET && s->pub.is_private && !l->bad)
		bad_field(l, "private", f[2], "n for an inet service");
	read_wakeup(l, s, f[5]);
	s->pub.maxproc = field_number(l, "maxproc", f[6], -1);
	read_command(l, s);
}

static struct service *same_service(struct conf *c, const struct service *s)
{
	for (unsigned i = 0; i < c->service_count; i++) {
		if (c->services[i].pub.type == s->pub.type &&
		    strcmp(c->services[i].pub.name, s->pub.name) == 0)
			return &c->services[i];
	}
	return NULL;
}

static void service_add(struct conf *c, struct conf_diag *d, const struct service *s)
{
	struct service *old = same_service(c, s);

	if (old != NULL && s->builtin)
		return;
	if (old != NULL) {
		conf_diag_add(d, false, c->master_path, s->pub.line,
			      "service %s/%s replaces the one in line %u", s->pub.name,
			      s->type_text, old->pub.line);
		*old = *s;
		return;
	}
	if (c->service_count == c->service_cap) {
		c->service_cap = c->service_cap ? 2 * c->service_cap : 32;
		c->services = xrealloc(c->services, c->service_cap * sizeof(*c->services));
	}
	c->services[c->service_count++] = *s;
}

bool mastercf_parse_line(struct conf *c, struct conf_diag *d, struct sv text, unsigned number,
			 struct service *s_r)
{
	struct line l = { .c = c, .d = d, .file = c->master_path, .number = number, .rest = text };

	*s_r = (struct service){ 0 };
	s_r->pub.line = number;
	if (text.p[0] == ' ')
		bad_field(&l, "line", sv_trim(text), "no white space before the first entry");
	else
		read_fields(&l, s_r);
	return !l.bad;
}

static void parse_text(struct conf *c, struct conf_diag *d, struct sv text, bool builtin)
{
	struct conf_lines lines;
	struct service s;

	conf_lines_init(&lines, text);
	while (conf_lines_next(&lines)) {
		if (mastercf_parse_line(c, d, buf_sv(&lines.text), builtin ? 0 : lines.first_line,
					&s)) {
			s.builtin = builtin;
			service_add(c, d, &s);
		}
	}
	conf_lines_fini(&lines);
}

void mastercf_parse(struct conf *c, struct conf_diag *d)
{
	if (c->has_master)
		parse_text(c, d, buf_sv(&c->master_text), false);
	else
		parse_text(c, d, sv_from(mastercf_default_text), true);
}

void mastercf_add_builtin(struct conf *c, struct conf_diag *d)
{
	parse_text(c, d, sv_from(builtin_text), true);
}
