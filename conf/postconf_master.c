/* SPDX-License-Identifier: GPL-3.0-or-later */
/* postconf -M, -F and -P: entries, fields and -o options of master.cf. */
#include "conf/postconf.h"

#include <assert.h>
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

static void add_option(struct buf *out, const struct conf_override *o, const char *value, bool fold)
{
	add_break(out, fold);
	buf_printf(out, has_space(value) ? "-o {%s=%s}" : "-o %s=%s", o->name, value);
}

static void add_arg(struct buf *out, const char *arg, bool fold)
{
	size_t len = strlen(arg);
	bool braces = len == 0 || has_space(arg);

	if (fold && last_column(out) + 1 + len + (braces ? 2u : 0u) >= POSTCONF_LINE_LIMIT)
		add_break(out, true);
	else
		buf_add_c(out, ' ');
	buf_printf(out, braces ? "{%s}" : "%s", arg);
}

/* The program, its options, each on a line of its own when folded, and the rest filled. */
static void format_command(const struct service *s, bool fold, const struct conf *expand,
			   struct buf *out)
{
	buf_add_str(out, s->pub.program);
	for (unsigned k = 0; k < s->pub.override_count; k++) {
		const struct conf_override *o = &s->pub.overrides[k];
		const char *value =
			expand != NULL ? conf_service_get(expand, &s->pub, o->name) : o->value;

		add_option(out, o, value != NULL ? value : "", fold);
	}
	for (unsigned i = 0; i < s->pub.arg_count; i++)
		add_arg(out, s->pub.args[i], fold);
}

void master_format(const struct service *s, bool fold, const struct conf *expand, struct buf *out)
{
	const char *fields[7] = { s->pub.name,  s->type_text, s->fields[0], s->fields[1],
				  s->fields[2], s->fields[3], s->fields[4] };
	unsigned start = last_column(out);

	for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
		buf_add_str(out, fields[i]);
		pad_to(out, start, columns[i + 1]);
	}
	format_command(s, fold, expand, out);
}

/* ---- requests: service, service/type, service/type/field, with * for any ---- */

struct request {
	struct sv part[3];
	unsigned count;
	unsigned shown; /* lines */
};

static const char *const field_names[] = { "service", "type",   "private",       "unprivileged",
					   "chroot",  "wakeup", "process_limit", "command" };

int master_field(struct sv name)
{
	for (unsigned i = 0; i < ARRAY_LEN(field_names); i++) {
		if (sv_eq_str(name, field_names[i]))
			return (int)i;
	}
	die("invalid service attribute name: \"%.*s\"", (int)name.len, name.p);
}

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

/* What one request wants of one service; returns how many lines it printed. */
typedef unsigned (*show_fn)(const struct postconf *pc, const struct service *s,
			    const struct request *r);

static void read_requests(const struct postconf *pc, struct request *list)
{
	for (unsigned n = 0; n < pc->name_count; n++) {
		request_read(&list[n], pc->names[n]);
		if (options_have(pc, 'M') && list[n].count > 2)
			die("-M option requires service_name[/type]");
		if (options_have(pc, 'F') && list[n].count > 2 && !sv_eq(list[n].part[2], SV("*")))
			master_field(list[n].part[2]);
	}
}

/* The services in their order in the file, and for each the requests in theirs. `once`: a service
 * shows once, whatever asks for it. */
static int show_all(const struct postconf *pc, show_fn show, bool once)
{
	unsigned count = pc->name_count > 0 ? pc->name_count : 1;
	struct request *list = xcalloc(count, sizeof(*list));

	if (pc->name_count == 0)
		request_read(&list[0], "*");
	read_requests(pc, list);
	for (unsigned i = 0; i < pc->conf->service_count; i++) {
		const struct service *s = &pc->conf->services[i];
		bool done = false;

		for (unsigned n = 0; is_shown(pc, s) && n < count; n++) {
			if (!service_matches(&list[n], s))
				continue;
			list[n].shown += once && done ? 1 : show(pc, s, &list[n]);
			done = true;
		}
	}
	for (unsigned n = 0; n < pc->name_count; n++) {
		if (list[n].shown == 0)
			log_warn("unmatched request: \"%s\"", pc->names[n]);
	}
	free(list);
	return 0;
}

static void show_entry_json(const struct postconf *pc, const struct service *s)
{
	struct buf value = BUF_INIT;
	char *name = xasprintf("%s/%s", s->pub.name, s->type_text);

	buf_printf(&value, "%s %s %s %s %s %s %s ", s->pub.name, s->type_text, s->fields[0],
		   s->fields[1], s->fields[2], s->fields[3], s->fields[4]);
	format_command(s, false, pc->expand ? pc->conf : NULL, &value);
	print_nameval(pc, name, buf_cstr(&value));
	buf_fini(&value);
	free(name);
}

static unsigned show_entry(const struct postconf *pc, const struct service *s,
			   const struct request *r UNUSED)
{
	struct buf out = BUF_INIT;

	if (pc->json) {
		show_entry_json(pc, s);
		return 1;
	}
	master_format(s, pc->fold, pc->expand ? pc->conf : NULL, &out);
	puts(buf_cstr(&out));
	buf_fini(&out);
	return 1;
}

static void show_nameval(const struct postconf *pc, const struct service *s, const char *name,
			 const char *value)
{
	char *full = xasprintf("%s/%s/%s", s->pub.name, s->type_text, name);

	print_nameval_groups(pc, full, value);
	free(full);
}

static unsigned show_fields(const struct postconf *pc, const struct service *s,
			    const struct request *r)
{
	struct buf command = BUF_INIT;
	unsigned shown = 0;

	format_command(s, false, pc->expand ? pc->conf : NULL, &command);
	const char *const values[] = {
		s->pub.name,  s->type_text, s->fields[0], s->fields[1],
		s->fields[2], s->fields[3], s->fields[4], buf_cstr(&command)
	};

	static_assert(ARRAY_LEN(values) == ARRAY_LEN(field_names), "one for each");
	for (size_t i = 0; i < ARRAY_LEN(field_names); i++) {
		if (part_matches(r, 2, field_names[i])) {
			show_nameval(pc, s, field_names[i], values[i]);
			shown++;
		}
	}
	buf_fini(&command);
	return shown;
}

/* The names of its -o options; with -PP all others too. */
static void list_params(const struct postconf *pc, const struct service *s, struct name_list *l)
{
	for (unsigned k = 0; k < s->pub.override_count; k++)
		name_list_add(l, s->pub.overrides[k].name);
	for (unsigned i = 0; pc->all_params && i < param_count(); i++)
		name_list_add(l, param_name(param_desc(i)));
	for (unsigned i = 0; pc->all_params && i < inert_count(); i++)
		name_list_add(l, inert_desc(i)->name);
	name_list_sort(l);
}

static const char *param_value(const struct postconf *pc, const struct service *s, const char *name)
{
	const char *value = NULL;

	if (pc->expand)
		return conf_service_get(pc->conf, &s->pub, name);
	for (unsigned k = 0; k < s->pub.override_count; k++) {
		if (strcmp(s->pub.overrides[k].name, name) == 0)
			value = s->pub.overrides[k].value;
	}
	return value != NULL ? value : scope_raw(&pc->conf->global, sv_from(name)).text;
}

static unsigned show_params(const struct postconf *pc, const struct service *s,
			    const struct request *r)
{
	struct name_list l = { 0 };
	unsigned shown = 0;

	list_params(pc, s, &l);
	for (size_t i = 0; i < l.count; i++) {
		const char *value;

		if (!part_matches(r, 2, l.names[i]))
			continue;
		value = param_value(pc, s, l.names[i]);
		show_nameval(pc, s, l.names[i], value != NULL ? value : "");
		shown++;
	}
	free(l.names);
	return shown;
}

int master_show_entries(const struct postconf *pc)
{
	return show_all(pc, show_entry, true);
}

int master_show_fields(const struct postconf *pc)
{
	return show_all(pc, show_fields, false);
}

int master_show_params(const struct postconf *pc)
{
	return show_all(pc, show_params, false);
}
