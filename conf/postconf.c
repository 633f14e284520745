/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postconf: show and change the configuration, with Postfix's options and output. Warnings go to
 * stderr behind the output, so that a pipe still gets what was asked for.
 */
#include "conf/postconf.h"

#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "conf/map.h"
#include "lib/err.h"
#include "lib/log.h"

static const char usage_text[] =
	"usage: postconf [-c config_dir] [-d (defaults)] [-n (set in main.cf)] [-e (edit)] "
	"[-X (remove)] [-# (comment out)] [-f (fold lines)] [-h (no names)] [-H (no values)] "
	"[-j (JSON)] [-m (table types)] [-M (master.cf entries)] [-F (master.cf fields)] "
	"[-P (master.cf parameters)] [-o name=value] [-x (expand)] "
	"[--effect (what it does here)] [name...]";

struct options {
	struct postconf pc;
	int mode; /* 0, 'M', 'F', 'P', 'm', 'E' (--effect) */
	int edit; /* 0, 'e', 'X', '#' */
	bool doc;
	struct conf_override *overrides;
	unsigned override_count;
};

/* "postconf: warning: text", without the process id that log lines have. */
static void to_stderr(void *ctx, enum log_level level, const char *program, const char *text,
		      size_t text_len)
{
	(void)ctx;
	(void)level;
	fflush(stdout);
	fprintf(stderr, "%s: %.*s\n", program, (int)text_len, text);
}

static void add_override(struct options *o, const char *text)
{
	struct sv name, value;
	const char *why = conf_split_nameval(sv_from(text), &name, &value);

	if (why != NULL)
		die("invalid -o option value: %s: \"%s\"", why, text);
	o->overrides = xrealloc(o->overrides, (o->override_count + 1) * sizeof(*o->overrides));
	o->overrides[o->override_count++] = (struct conf_override){
		.name = xstrndup(name.p, name.len),
		.value = xstrndup(value.p, value.len),
	};
}

static void set_mode(int *mode, int value)
{
	if (*mode != 0 && *mode != value)
		die("specify only one of -e, -X, -#, and only one of -m, -M, -F, -P, --effect");
	*mode = value;
}

static void read_option(struct options *o, int option, const char *arg)
{
	switch (option) {
	case 'c':
		o->pc.dir = arg;
		o->pc.dir_given = true;
		break;
	case 'd':
		o->pc.defaults = true;
		break;
	case 'f':
		o->pc.fold = true;
		break;
	case 'h':
		o->pc.no_name = true;
		break;
	case 'H':
		o->pc.no_value = true;
		break;
	case 'j':
		o->pc.json = true;
		break;
	case 'n':
		o->pc.explicit = true;
		break;
	case 'o':
		add_override(o, arg);
		break;
	case 'x':
		o->pc.expand = true;
		break;
	case 'e':
	case 'X':
	case '#':
		set_mode(&o->edit, option);
		break;
	case 'm':
	case 'M':
	case 'F':
	case 'P':
	case 'E':
		set_mode(&o->mode, option);
		break;
	case 'G':
		o->doc = true;
		break;
	case 'p':
	case 'q':
	case 'v':
		break;
	default:
		die("%s", usage_text);
	}
}

static void read_options(struct options *o, int argc, char **argv)
{
	static const struct option long_options[] = { { "effect", no_argument, NULL, 'E' }, { 0 } };
	int option;

	while ((option = getopt_long(argc, argv, "c:defFGhHjmMno:pPqvxX#", long_options, NULL)) !=
	       -1)
		read_option(o, option, optarg);
	o->pc.names = argv + optind;
	o->pc.name_count = (unsigned)(argc - optind);
	/* name=value alone is an edit, as in Postfix. */
	if (o->edit == 0 && o->pc.name_count > 0 && o->mode != 'm' &&
	    strchr(o->pc.names[0], '=') != NULL)
		o->edit = 'e';
	if (o->edit != 0 && o->pc.name_count == 0)
		die("-e, -X and -# need names");
	if (o->pc.defaults && o->pc.explicit)
		die("specify only one of -d and -n");
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

	qsort(l->names, l->count, sizeof(*l->names), by_text);
	for (size_t i = 0; i < l->count; i++) {
		if (kept == 0 || strcmp(l->names[kept - 1], l->names[i]) != 0)
			l->names[kept++] = l->names[i];
	}
	l->count = kept;
}

/* Names that the program itself knows, and TRANSPORT_... of each service. */
static void list_known(struct conf *c, struct name_list *l)
{
	for (unsigned i = 0; i < param_count(); i++)
		name_list_add(l, param_name(param_desc(i)));
	for (unsigned i = 0; i < inert_count(); i++)
		name_list_add(l, inert_desc(i)->name);
	for (unsigned s = 0; s < c->service_count; s++) {
		for (unsigned i = 0; i < transport_param_count(); i++) {
			if (transport_param_fits(&c->services[s], i))
				name_list_add(l, arena_printf(&c->arena, "%s%s",
							      c->services[s].pub.name,
							      transport_param_suffix(i)));
		}
	}
}

/* What the operator set and somebody uses. */
static void list_explicit(const struct postconf *pc, struct name_list *l)
{
	struct conf *c = pc->conf;

	for (unsigned i = 0; i < c->entry_count; i++) {
		if (c->entries[i].used)
			name_list_add(l, c->entries[i].name);
	}
	for (unsigned i = 0; i < c->cmdline_count; i++)
		name_list_add(l, c->cmdline[i].name);
	if (pc->dir_given)
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

/* The text to show for a name; NULL when there is no such name. */
static const char *shown_value(const struct postconf *pc, const char *name)
{
	struct conf *c = pc->conf;
	struct sv key = sv_from(name);
	bool failed = false;
	const char *value;

	if (pc->defaults && !pc->expand)
		return default_text(c, key);
	if (scope_raw(&c->global, key).text == NULL)
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
		if (!pc->explicit)
			list_known(pc->conf, &l);
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

/* Of a listing of master.cf, the warnings about main.cf are left out. */
static void say_diag(const struct options *o, struct conf_diag *d)
{
	const char *skip = o->mode != 0 ? o->pc.conf->main_path : NULL;
	size_t skip_len = skip != NULL ? strlen(skip) : 0;
	struct sv rest = buf_sv(&d->text);

	while (rest.len > 0) {
		const char *nl = memchr(rest.p, '\n', rest.len);
		size_t len = nl != NULL ? (size_t)(nl - rest.p) : rest.len;

		bool warning = len > 9 && memcmp(rest.p, "warning: ", 9) == 0;

		if (warning && skip != NULL && len > 9 + skip_len &&
		    memcmp(rest.p + 9, skip, skip_len) == 0)
			; /* not asked for */
		else if (warning)
			log_warn("%.*s", (int)(len - 9), rest.p + 9);
		else
			log_error("%.*s", (int)len, rest.p);
		len += nl != NULL;
		rest.p += len;
		rest.len -= len;
	}
}

static void load(struct options *o, struct conf_diag *d)
{
	struct conf_load_opts opts = {
		.lenient = true,
		.no_main = o->pc.defaults,
		.no_lines = true,
		.overrides = o->overrides,
		.override_count = o->override_count,
	};

	if (conf_load_dir_opts(o->pc.dir, &opts, &o->pc.conf, d) != 0) {
		struct sv text = sv_trim(buf_sv(&d->text));

		die("%.*s", (int)text.len, text.p);
	}
}

static int show_types(void)
{
	for (unsigned i = 0; map_type_name(i) != NULL; i++)
		puts(map_type_name(i));
	return 0;
}

static int edit(struct options *o)
{
	enum edit_what what = o->edit == 'e'   ? EDIT_SET
			      : o->edit == 'X' ? EDIT_DELETE
					       : EDIT_COMMENT;

	switch (o->mode) {
	case 'M':
		return edit_master_entries(&o->pc, what);
	case 'F':
		if (what != EDIT_SET)
			die("with option -F, do not specify -X or -#");
		return edit_master_fields(&o->pc);
	case 'P':
		return edit_master_params(&o->pc, what);
	default:
		return edit_main(&o->pc, what);
	}
}

static int show(const struct options *o)
{
	switch (o->mode) {
	case 'M':
		return master_show_entries(&o->pc);
	case 'F':
		return master_show_fields(&o->pc);
	case 'P':
		return master_show_params(&o->pc);
	case 'E':
		return effect_show(&o->pc);
	default:
		return show_main(&o->pc);
	}
}

int main(int argc, char **argv)
{
	static struct options o; /* static: what options point to is never freed */
	struct conf_diag d;
	int status;

	o.pc.dir = getenv("MAIL_CONFIG");
	log_set_program("postconf");
	log_set_sink(to_stderr, NULL);
	o.pc.dir_given = o.pc.dir != NULL;
	if (o.pc.dir == NULL)
		o.pc.dir = PH_CONFIG_DIR;
	read_options(&o, argc, argv);
	if (o.doc) {
		doc_write();
		return 0;
	}
	if (o.mode == 'm')
		return show_types();
	conf_diag_init(&d);
	if (o.edit == 0 || o.mode != 0)
		load(&o, &d);
	status = o.edit != 0 ? edit(&o) : show(&o);
	if (o.edit == 0 && !o.pc.defaults) {
		say_diag(&o, &d);
		status = d.errors > 0 ? 1 : status;
	}
	conf_free(&o.pc.conf);
	conf_diag_fini(&d);
	return fflush(stdout) != 0 ? 1 : status;
}
