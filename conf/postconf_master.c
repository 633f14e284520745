/* SPDX-License-Identifier: GPL-3.0-or-later */
/* postconf -M, -F and -P: entries, fields and -o options of master.cf. */
#include "conf/postconf.h"

#include <stdio.h>

#include "lib/log.h"

/* Columns at which the fields begin. */
static const unsigned columns[] = { 0, 11, 17, 25, 33, 41, 49, 57 };

static unsigned last_column(const struct buf *out)
{
	const char *nl = out->len > 0 ? memrchr(out->p, '\n', out->len) : NULL;

	return (unsigned)(nl != NULL ? out->p + out->len - nl - 1 : (ptrdiff_t)out->len);
}

static void pad_to(struct buf *out, unsigned start, unsigned column)
{
	unsigned width = last_column(out) - start;

	do {
		buf_add_c(out, ' ');
	} while (++width < column);
}

static bool has_space(const char *s)
{
	return strpbrk(s, " \t") != NULL;
}

static void add_break(struct buf *out, bool fold)
{
	buf_add_str(out, fold ? "\n    " : " ");
}

static void add_option(struct buf *out, const struct conf_override *o, bool fold)
{
	add_break(out, fold);
	buf_printf(out, has_space(o->value) ? "-o {%s=%s}" : "-o %s=%s", o->name, o->value);
}

static void add_arg(struct buf *out, const char *arg, bool own_line, bool fold)
{
	size_t len = strlen(arg);
	bool braces = len == 0 || has_space(arg);

	if (fold &&
	    (own_line || last_column(out) + 1 + len + (braces ? 2u : 0u) >= POSTCONF_LINE_LIMIT))
		add_break(out, true);
	else
		buf_add_c(out, ' ');
	buf_printf(out, braces ? "{%s}" : "%s", arg);
}

/* The program, its options and flags, each on a line of its own when folded, and the rest filled.
 */
static void format_command(const struct service *s, bool fold, struct buf *out)
{
	bool flags = true;

	buf_add_str(out, s->pub.program);
	for (unsigned k = 0; k < s->pub.override_count; k++)
		add_option(out, &s->pub.overrides[k], fold);
	for (unsigned i = 0; i < s->pub.arg_count; i++) {
		flags = flags && s->pub.args[i][0] == '-';
		add_arg(out, s->pub.args[i], flags, fold);
	}
}

void master_format(const struct service *s, bool fold, struct buf *out)
{
	const char *fields[7] = { s->pub.name,  s->type_text, s->fields[0], s->fields[1],
				  s->fields[2], s->fields[3], s->fields[4] };
	unsigned start = last_column(out);

	for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
		buf_add_str(out, fields[i]);
		pad_to(out, start, columns[i + 1]);
	}
	format_command(s, fold, out);
}

/* ---- requests: service, service/type, service/type/field, with * for any ---- */

struct request {
	struct sv part[3];
	unsigned count;
};

static void request_read(struct request *r, const char *text)
{
	*r = (struct request){ 0 };
	while (r->count < 3) {
		/* A parameter's name is the rest. */
		size_t len = r->count < 2 ? strcspn(text, "/") : strlen(text);

		r->part[r->count++] = (struct sv){ text, len };
		text += len;
		if (*text != '/')
			return;
		text++;
	}
}

static bool part_matches(const struct request *r, unsigned i, const char *text)
{
	return i >= r->count || sv_eq(r->part[i], SV("*")) || sv_eq_str(r->part[i], text);
}

static bool service_matches(const struct request *r, const struct service *s)
{
	return part_matches(r, 0, s->pub.name) && part_matches(r, 1, s->type_text);
}

/* A service of the file; those that are built in show only when there is no file. */
static bool is_shown(const struct postconf *pc, const struct service *s)
{
	return !s->builtin || !pc->conf->has_master;
}

/* show() returns how many lines it printed. */
typedef unsigned (*show_fn)(const struct postconf *pc, const struct service *s,
			    const struct request *r);

static int show_all(const struct postconf *pc, show_fn show)
{
	static char any[] = "*";
	char *one[] = { any };
	char **names = pc->name_count > 0 ? pc->names : one;
	unsigned count = pc->name_count > 0 ? pc->name_count : 1;
	struct request r;

	for (unsigned n = 0; n < count; n++) {
		unsigned shown = 0;

		request_read(&r, names[n]);
		for (unsigned i = 0; i < pc->conf->service_count; i++) {
			const struct service *s = &pc->conf->services[i];

			if (is_shown(pc, s) && service_matches(&r, s))
				shown += show(pc, s, &r);
		}
		if (shown == 0 && pc->name_count > 0)
			log_warn("unmatched request: \"%s\"", names[n]);
	}
	return 0;
}

static unsigned show_entry(const struct postconf *pc, const struct service *s,
			   const struct request *r)
{
	struct buf out = BUF_INIT;

	(void)r;
	master_format(s, pc->fold, &out);
	puts(buf_cstr(&out));
	buf_fini(&out);
	return 1;
}

static void show_nameval(const struct postconf *pc, const struct service *s, const char *name,
			 const char *value)
{
	char *full = xasprintf("%s/%s/%s", s->pub.name, s->type_text, name);

	print_nameval(pc, full, value);
	free(full);
}

static unsigned show_fields(const struct postconf *pc, const struct service *s,
			    const struct request *r)
{
	struct buf command = BUF_INIT;
	unsigned shown = 0;

	format_command(s, false, &command);
	const char *const fields[][2] = {
		{ "service", s->pub.name },        { "type", s->type_text },
		{ "private", s->fields[0] },       { "unprivileged", s->fields[1] },
		{ "chroot", s->fields[2] },        { "wakeup", s->fields[3] },
		{ "process_limit", s->fields[4] }, { "command", buf_cstr(&command) },
	};

	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (part_matches(r, 2, fields[i][0])) {
			show_nameval(pc, s, fields[i][0], fields[i][1]);
			shown++;
		}
	}
	buf_fini(&command);
	return shown;
}

static int by_name(const void *a, const void *b)
{
	const struct conf_override *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static unsigned show_params(const struct postconf *pc, const struct service *s,
			    const struct request *r)
{
	size_t count = s->pub.override_count;
	struct conf_override *sorted = xcalloc(count + 1, sizeof(*sorted));
	unsigned shown = 0;

	if (count > 0)
		memcpy(sorted, s->pub.overrides, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), by_name);
	for (size_t i = 0; i < count; i++) {
		const char *value = sorted[i].value;

		if (!part_matches(r, 2, sorted[i].name))
			continue;
		if (pc->expand)
			value = conf_service_get(pc->conf, &s->pub, sorted[i].name);
		show_nameval(pc, s, sorted[i].name, value != NULL ? value : "");
		shown++;
	}
	free(sorted);
	return shown;
}

int master_show_entries(const struct postconf *pc)
{
	return show_all(pc, show_entry);
}

int master_show_fields(const struct postconf *pc)
{
	return show_all(pc, show_fields);
}

int master_show_params(const struct postconf *pc)
{
	return show_all(pc, show_params);
}
