/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postconf: show and change the configuration, with Postfix's options and output. Warnings go to
 * stderr behind the output, so that a pipe still gets what was asked for.
 */
#include "conf/postconf.h"

#include <stdio.h>

#include "conf/bounce_text.h"
#include "conf/map.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

/* "postconf: warning: text", without the process id that log lines have. */
static void to_stderr(void *ctx, enum log_level level, const char *program, const char *text,
		      size_t text_len)
{
	(void)ctx;
	(void)level;
	fflush(stdout);
	fprintf(stderr, "%s: %.*s\n", program, (int)text_len, text);
}

/* ---- main.cf ---- */

void name_list_add(struct name_list *l, const char *name)
{
	if (l->count == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 1024;
		l->names = xrealloc(l->names, l->cap * sizeof(*l->names));
	}
	l->names[l->count++] = name;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void name_list_sort(struct name_list *l)
{
	size_t kept = 0;

	if (l->count > 0)
		qsort(l->names, l->count, sizeof(*l->names), by_text);
	for (size_t i = 0; i < l->count; i++) {
		if (kept == 0 || strcmp(l->names[kept - 1], l->names[i]) != 0)
			l->names[kept++] = l->names[i];
	}
	l->count = kept;
}

/* Names that the program itself knows. */
static void list_builtin(struct name_list *l)
{
	for (unsigned i = 0; i < param_count(); i++)
		name_list_add(l, param_name(param_desc(i)));
	for (unsigned i = 0; i < inert_count(); i++)
		name_list_add(l, inert_desc(i)->name);
}

/* TRANSPORT_... of each service. */
static void list_services(struct conf *c, struct name_list *l)
{
	for (unsigned s = 0; s < c->service_count; s++) {
		/* not of those that are there without standing in the file */
		bool shown = !c->services[s].builtin || !c->has_master;

		for (unsigned i = 0; shown && i < transport_param_count(); i++) {
			if (transport_param_fits(&c->services[s], i))
				name_list_add(l, arena_printf(&c->arena, "%s%s",
							      c->services[s].pub.name,
							      transport_param_suffix(i)));
		}
	}
}

static unsigned class_of(const struct conf *c, struct sv name)
{
	if (param_find(name) >= 0 || inert_find(name) != NULL)
		return CLASS_BUILTIN;
	return transport_param_default(c, name) != NULL ? CLASS_SERVICE : CLASS_USER;
}

/* What the operator set and somebody uses. */
static void list_explicit(const struct postconf *pc, struct name_list *l)
{
	struct conf *c = pc->conf;

	for (unsigned i = 0; i < c->entry_count; i++) {
		if (c->entries[i].used && (class_of(c, sv_from(c->entries[i].name)) & pc->classes))
			name_list_add(l, c->entries[i].name);
	}
	for (unsigned i = 0; i < c->cmdline_count; i++) {
		const char *name = c->cmdline[i].name;

		if (names_is_used(c, name) && (class_of(c, sv_from(name)) & pc->classes))
			name_list_add(l, name);
	}
	if (pc->dir_given && (pc->classes & CLASS_BUILTIN))
		name_list_add(l, "config_directory");
}

static const char *default_text(struct conf *c, struct sv name)
{
	int idx = param_find(name);
	const struct inert_desc *inert = inert_find(name);
	const struct param_desc *pd = idx >= 0 ? param_desc((unsigned)idx) : NULL;

	if (pd != NULL)
		return pd->def_fn != NULL ? pd->def_fn(c) : pd->def;
	return inert != NULL ? inert->def : transport_param_default(c, name);
}

/* The text to show for a name; NULL when there is no such name, or only an unused one. */
static const char *shown_value(const struct postconf *pc, const char *name)
{
	struct conf *c = pc->conf;
	struct sv key = sv_from(name);
	bool failed = false;
	const char *value;

	if (pc->defaults && !pc->expand)
		return default_text(c, key);
	if (scope_raw(&c->global, key).text == NULL || !names_is_used(c, name))
		return NULL;
	if (!pc->expand)
		return scope_raw(&c->global, key).text;
	value = scope_get(&c->global, key, &failed);
	if (failed)
		die("%s: the value cannot be expanded", name);
	return value;
}

static int show_main(const struct postconf *pc)
{
	struct name_list l = { 0 };

	if (pc->name_count > 0) {
		for (unsigned i = 0; i < pc->name_count; i++)
			name_list_add(&l, pc->names[i]);
	} else {
		if (!pc->explicit && (pc->classes & CLASS_BUILTIN))
			list_builtin(&l);
		if (!pc->explicit && (pc->classes & CLASS_SERVICE))
			list_services(pc->conf, &l);
		if (!pc->defaults)
			list_explicit(pc, &l);
		name_list_sort(&l);
	}
	for (size_t i = 0; i < l.count; i++) {
		const char *value = shown_value(pc, l.names[i]);

		if (value != NULL)
			print_nameval(pc, l.names[i], value);
		else
			log_warn("%s: unknown parameter", l.names[i]);
	}
	free(l.names);
	return 0;
}

/* ---- the rest ---- */

/* Postfix tells these while it reads, in front of its output; all else behind it. */
static bool is_early(struct sv line)
{
	return memmem(line.p, line.len, ": undefined parameter: ", 23) != NULL ||
	       memmem(line.p, line.len, ": overriding earlier entry: ", 28) != NULL ||
	       memmem(line.p, line.len, ": #comment after other text ", 28) != NULL;
}

static bool is_about_names(struct sv line)
{
	return memmem(line.p, line.len, ": unused parameter: ", 20) != NULL ||
	       memmem(line.p, line.len, ": support for parameter ", 24) != NULL;
}

static bool is_about(struct sv line, const char *path)
{
	size_t len = strlen(path);

	return line.len > len && memcmp(line.p, path, len) == 0;
}

static void say_line(const struct postconf *pc, struct sv line, bool early)
{
	static const struct sv warning = SV("warning: ");
	bool is_warning = line.len > warning.len && memcmp(line.p, warning.p, warning.len) == 0;

	if (is_warning) {
		line.p += warning.len;
		line.len -= warning.len;
	}
	if (line.len == 0 || is_early(line) != early)
		return;
	/* of a listing of master.cf, the names of main.cf are not the matter */
	if (is_about_names(line) &&
	    (pc->quiet || (!options_have(pc, 'p') && is_about(line, pc->conf->main_path))))
		return;
	if (is_warning)
		log_warn("%.*s", (int)line.len, line.p);
	else
		log_error("%.*s", (int)line.len, line.p);
}

static void say_diag(const struct postconf *pc, const struct conf_diag *d, bool early)
{
	struct sv rest = buf_sv(&d->text);

	while (rest.len > 0)
		say_line(pc, sv_next_part(&rest, '\n'), early);
}

/* "name = value: expected ...": Postfix's leaves values to the programs that use them, but ends at
 * a line that is none. */
static bool is_about_value(struct sv line)
{
	return memmem(line.p, line.len, " = ", 3) != NULL &&
	       memmem(line.p, line.len, ": expected ", 11) != NULL;
}

static bool is_broken(const struct conf_diag *d)
{
	struct sv rest = buf_sv(&d->text);
	bool broken = false;

	while (rest.len > 0 && d->errors > 0) {
		struct sv line = sv_next_part(&rest, '\n');
		bool warning = line.len > 9 && memcmp(line.p, "warning: ", 9) == 0;

		broken = broken || (line.len > 0 && !warning && !is_about_value(line));
	}
	return broken;
}

static void load(struct postconf *pc, struct conf_diag *d)
{
	struct conf_load_opts opts = {
		.lenient = true,
		.no_main = pc->defaults,
		.no_lines = true,
		.overrides = pc->overrides,
		.override_count = pc->override_count,
	};

	if (conf_load_dir_opts(pc->dir, &opts, &pc->conf, d) != 0) {
		struct sv text = sv_trim(buf_sv(&d->text));

		die("%.*s", (int)text.len, text.p);
	}
}

static int show_types(struct postconf *pc UNUSED)
{
	for (unsigned i = 0; map_type_name(i) != NULL; i++)
		puts(map_type_name(i));
	return 0;
}

static int show_locks(struct postconf *pc UNUSED)
{
	puts("flock\nfcntl\ndotlock");
	return 0;
}

static int show_sasl(struct postconf *pc UNUSED)
{
	puts("cyrus\ndovecot");
	return 0;
}

static int show_sasl_client(struct postconf *pc UNUSED)
{
	puts("cyrus");
	return 0;
}

/* Versions of TLS: Postfix prints nothing when there are none. */
static int show_nothing(struct postconf *pc UNUSED)
{
	return 0;
}

/* Of the file named, or else of bounce_template_file; "" stands for what is built in. */
static int show_templates(struct postconf *pc)
{
	struct conf_diag d;
	struct bounce_texts texts;
	struct buf out = BUF_INIT;

	conf_diag_init(&d);
	load(pc, &d);
	conf_diag_fini(&d);
	conf_diag_init(&d);
	bounce_texts_open(pc->conf, pc->name_count > 0 ? pc->names[0] : NULL, &texts, &d);
	conf_diag_log(&d);
	bounce_texts_format(&texts, options_have(pc, 'b'), &out);
	fwrite(buf_cstr(&out), 1, out.len, stdout);
	buf_fini(&out);
	bounce_texts_close(&texts);
	conf_diag_fini(&d);
	conf_free(&pc->conf);
	return 0;
}

/* What needs no configuration. */
static const struct {
	char option;
	int (*show)(struct postconf *pc);
} plain_modes[] = {
	{ 'm', show_types },       { 'l', show_locks },   { 'a', show_sasl },
	{ 'A', show_sasl_client }, { 'T', show_nothing }, { 'b', show_templates },
	{ 't', show_templates },
};

static int edit(struct postconf *pc, enum edit_what what)
{
	if (options_have(pc, 'M'))
		return edit_master_entries(pc, what);
	if (options_have(pc, 'F'))
		return edit_master_fields(pc);
	if (options_have(pc, 'P'))
		return edit_master_params(pc, what);
	return edit_main(pc, what);
}

static int show(const struct postconf *pc)
{
	if (options_have(pc, 'M'))
		return master_show_entries(pc);
	if (options_have(pc, 'F'))
		return master_show_fields(pc);
	if (options_have(pc, 'P'))
		return master_show_params(pc);
	return options_have(pc, 'E') ? effect_show(pc) : show_main(pc);
}

static int show_or_edit(struct postconf *pc)
{
	bool edits = options_have(pc, 'e') || options_have(pc, 'X') || options_have(pc, '#');
	struct conf_diag d;
	int status;

	conf_diag_init(&d);
	if (!edits || !options_have(pc, 'p'))
		load(pc, &d);
	if (edits) {
		status = edit(pc, options_have(pc, 'e')   ? EDIT_SET
				  : options_have(pc, 'X') ? EDIT_DELETE
							  : EDIT_COMMENT);
	} else {
		if (!pc->defaults)
			say_diag(pc, &d, true);
		status = show(pc);
		if (!pc->defaults) {
			say_diag(pc, &d, false);
			status = is_broken(&d) ? 1 : status;
		}
	}
	conf_free(&pc->conf);
	conf_diag_fini(&d);
	return status;
}

int main(int argc, char **argv)
{
	static struct postconf pc; /* static: what options point to is never freed */
	int status = -1;

	io_have_std();
	pc.dir = getenv("MAIL_CONFIG");
	log_set_program("postconf");
	log_set_sink(to_stderr, NULL);
	pc.dir_given = pc.dir != NULL;
	if (pc.dir == NULL)
		pc.dir = PH_CONFIG_DIR;
	options_read(&pc, argc, argv);
	if (pc.reference) {
		doc_write();
		status = 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(plain_modes) && status < 0; i++) {
		if (options_have(&pc, plain_modes[i].option))
			status = plain_modes[i].show(&pc);
	}
	if (status < 0)
		status = show_or_edit(&pc);
	return fflush(stdout) != 0 ? 1 : status;
}
