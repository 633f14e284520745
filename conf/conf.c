/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Loading, snapshots and the questions of conf.h. The order of loading is in build(). */
#include "conf/conf_priv.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/ports.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

#define DIAG_LIMIT_BYTES (256u << 10)

void conf_diag_init(struct conf_diag *d)
{
	*d = (struct conf_diag){ 0 };
	buf_init(&d->text, DIAG_LIMIT_BYTES);
}

void conf_diag_fini(struct conf_diag *d)
{
	buf_fini(&d->text);
}

void conf_diag_add(struct conf_diag *d, bool is_error, const char *file, unsigned line,
		   const char *fmt, ...)
{
	va_list ap;

	if (is_error)
		d->errors++;
	else
		d->warnings++;
	if (!is_error)
		buf_add_str(&d->text, "warning: ");
	if (file != NULL && line > 0)
		buf_printf(&d->text, "%s, line %u: ", file, line);
	else if (file != NULL)
		buf_printf(&d->text, "%s: ", file);
	va_start(ap, fmt);
	buf_vprintf(&d->text, fmt, ap);
	va_end(ap);
	buf_add_c(&d->text, '\n');
}

void conf_diag_log(const struct conf_diag *d)
{
	for (const char *p = buf_cstr(&d->text); *p != 0;) {
		size_t len = strcspn(p, "\n");

		if (len > 9 && memcmp(p, "warning: ", 9) == 0)
			log_warn("%.*s", (int)(len - 9), p + 9);
		else
			log_error("%.*s", (int)len, p);
		p += len + (p[len] == '\n');
	}
}

/* ---- loading ---- */

static struct conf *conf_new(const char *dir)
{
	struct conf *c = xcalloc(1, sizeof(*c));

	arena_init(&c->arena, 32768, 0);
	c->dir = arena_strdup(&c->arena, dir);
	c->main_path = arena_printf(&c->arena, "%s/main.cf", dir);
	c->master_path = arena_printf(&c->arena, "%s/master.cf", dir);
	c->entry_by_name = strmap_new();
	c->entry_at = xcalloc(param_count(), sizeof(*c->entry_at));
	scope_init(&c->global, c);
	return c;
}

static void service_fini(struct service *s)
{
	if (s->scope != NULL)
		scope_fini(s->scope);
	free(s->scope);
	if (s->stress != NULL)
		service_fini(s->stress);
	free(s->stress);
}

void conf_free(struct conf **cp)
{
	struct conf *c;

	TAKE(c, *cp);
	if (c == NULL)
		return;
	for (unsigned i = 0; i < c->service_count; i++)
		service_fini(&c->services[i]);
	scope_fini(&c->global);
	strmap_free(&c->entry_by_name);
	if (c->used_names != NULL)
		strmap_free(&c->used_names);
	free(c->entry_at);
	free(c->entries);
	free(c->services);
	free(c->transports);
	free(c->listeners);
	buf_fini(&c->main_text);
	buf_fini(&c->master_text);
	arena_fini(&c->arena);
	free(c);
}

static void on_service_ref(void *ctx, struct sv name)
{
	bool *found = ctx;

	if (sv_eq(name, SV("service_name")) || sv_eq(name, SV("process_name")))
		*found = true;
}

static void on_stress_ref(void *ctx, struct sv name)
{
	bool *found = ctx;

	if (sv_eq(name, SV("stress")))
		*found = true;
}

static void find_refs(struct conf *c)
{
	for (unsigned i = 0; i < c->entry_count; i++) {
		struct sv value = sv_from(c->entries[i].value);

		expand_scan(value, on_service_ref, &c->uses_service_name);
		expand_scan(value, on_stress_ref, &c->uses_stress);
	}
	for (unsigned i = 0; i < c->service_count; i++) {
		const struct conf_service *s = &c->services[i].pub;

		for (unsigned o = 0; o < s->override_count; o++)
			expand_scan(sv_from(s->overrides[o].value), on_stress_ref, &c->uses_stress);
	}
}

static void service_fill(struct conf *c, struct service *s, struct conf_diag *d)
{
	s->scope = xcalloc(1, sizeof(*s->scope));
	scope_init(s->scope, c);
	s->scope->overrides = s->pub.overrides;
	s->scope->override_count = s->pub.override_count;
	s->scope->file = c->master_path;
	s->scope->line = s->pub.line;
	s->scope->service_name = s->pub.name;
	s->scope->process_name = s->pub.program;
	s->scope->diag = d;
	scope_fill(s->scope);
	s->scope->diag = NULL;
	s->pub.params = &s->scope->params;
}

/* What is wrong without stress is reported already. */
static void service_add_stress(struct conf *c, struct service *s, struct conf_diag *d)
{
	unsigned n = s->pub.override_count;
	struct conf_override *list = arena_calloc(&c->arena, (n + 1) * sizeof(*list));

	if (n > 0)
		memcpy(list, s->pub.overrides, n * sizeof(*list));
	list[n] = (struct conf_override){ .name = "stress", .value = "yes" };
	s->stress = xcalloc(1, sizeof(*s->stress));
	*s->stress = (struct service){ .pub = s->pub, .type_text = s->type_text };
	s->stress->pub.overrides = list;
	s->stress->pub.override_count = n + 1;
	service_fill(c, s->stress, d);
}

static bool has_stress(const struct conf_service *s)
{
	return (s->type == SERVICE_INET || s->type == SERVICE_PASS) &&
	       (strcmp(s->program, "smtpd") == 0 || strcmp(s->program, "postscreen") == 0);
}

static void services_fill(struct conf *c, struct conf_diag *d)
{
	for (unsigned i = 0; i < c->service_count; i++) {
		struct service *s = &c->services[i];
		unsigned errors = d->errors;

		s->pub.params = &c->global.params;
		if (s->pub.override_count > 0 || c->uses_service_name)
			service_fill(c, s, d);
		if (has_stress(&s->pub))
			service_add_stress(c, s, d->errors == errors ? d : NULL);
	}
}

static void build(struct conf *c, struct conf_diag *d)
{
	maincf_parse(c, d);
	mastercf_parse(c, d);
	mastercf_add_builtin(c, d);
	find_refs(c);
	c->global.diag = d;
	scope_fill(&c->global);
	services_fill(c, d);
	ports_know(c->global.params.known_tcp_ports, d);
	transports_build(c, d);
	c->global.diag = NULL;
	listeners_build(c, d);
	names_check(c, d);
}

static int check_text(const char *path, const struct buf *text, struct conf_diag *d)
{
	unsigned line = 1;
	const char *nul = text->len > 0 ? memchr(text->p, 0, text->len) : NULL;

	if (nul == NULL)
		return 0;
	for (const char *p = text->p; p < nul; p++)
		line += *p == '\n';
	conf_diag_add(d, true, path, line, "a NUL byte: expected text");
	return E_SYNTAX;
}

static int read_text(const char *path, struct buf *text, struct conf_diag *d)
{
	int err = io_read_file(path, CONF_FILE_LIMIT_BYTES, text);

	if (err != 0) {
		conf_diag_add(d, true, NULL, 0, "open %s: %s", path, err_str(err));
		return err;
	}
	return check_text(path, text, d);
}

static int finish(struct conf *c, bool lenient, unsigned errors_before, struct conf **conf_r,
		  struct conf_diag *d)
{
	build(c, d);
	if (d->errors > errors_before && !lenient) {
		conf_free(&c);
		return E_CONFIG;
	}
	*conf_r = c;
	return 0;
}

int conf_load_dir_opts(const char *dir, const struct conf_load_opts *opts, struct conf **conf_r,
		       struct conf_diag *d)
{
	struct conf *c = conf_new(dir);
	unsigned errors = d->errors;
	struct stat st;
	int err;

	*conf_r = NULL;
	c->cmdline = opts->overrides;
	c->cmdline_count = opts->override_count;
	c->no_lines = opts->no_lines;
	err = opts->no_main ? 0 : read_text(c->main_path, &c->main_text, d);
	c->has_master = stat(c->master_path, &st) == 0 || errno != ENOENT;
	if (c->has_master) {
		int err2 = read_text(c->master_path, &c->master_text, d);

		err = err != 0 ? err : err2;
	}
	if (err != 0) {
		conf_free(&c);
		return err == E_SYNTAX ? E_CONFIG : err;
	}
	return finish(c, opts->lenient, errors, conf_r, d);
}

static bool has_program(const char *dir, const char *name)
{
	char *path = xasprintf("%s/%s", dir, name);
	bool found = access(path, X_OK) == 0;

	free(path);
	return found;
}

/* A configuration of Postfix's names the directories of its own programs, which need not even be
 * there. Ours are where this build put them. `mark` is a program of ours and none of Postfix's;
 * `shared` is a name that both have, `foreign` one of Postfix's alone. */
static void adopt_directory(struct conf *c, const char *name, const char **field, const char *own,
			    const char *mark, const char *shared, const char *foreign,
			    struct conf_diag *d)
{
	struct raw_value raw = scope_raw(&c->global, sv_from(name));

	if (raw.file == NULL || has_program(*field, mark) || !has_program(own, mark) ||
	    (has_program(*field, shared) && !has_program(*field, foreign)))
		return;
	conf_diag_add(d, false, raw.file, raw.line,
		      "%s = %s: Posthaste's programs are not there, those of %s are used", name,
		      *field, own);
	*field = own;
}

static int load_dir(const char *dir, const struct conf_load_opts *opts, struct conf **conf_r,
		    struct conf_diag *d)
{
	int err = conf_load_dir_opts(dir, opts, conf_r, d);
	struct params *p;

	if (err != 0)
		return err;
	p = &(*conf_r)->global.params;
	adopt_directory(*conf_r, "daemon_directory", &p->daemon_directory, PH_LIBEXEC_DIR, "priv",
			"supervisor", "master", d);
	adopt_directory(*conf_r, "command_directory", &p->command_directory, PH_SBIN_DIR,
			"posthaste", "postdrop", "postfix", d);
	return 0;
}

int conf_load_dir(const char *dir, struct conf **conf_r, struct conf_diag *d)
{
	return load_dir(dir, &(struct conf_load_opts){ 0 }, conf_r, d);
}

int conf_load_dir_lenient(const char *dir, struct conf **conf_r, struct conf_diag *d)
{
	return load_dir(dir, &(struct conf_load_opts){ .lenient = true }, conf_r, d);
}

/* ---- snapshots: a first line, then "key length\n" bytes "\n" ---- */

static const char snapshot_magic[] = "posthaste configuration snapshot 1\n";

static void snapshot_put(struct buf *out, const char *key, struct sv value)
{
	buf_printf(out, "%s %zu\n", key, value.len);
	buf_add_sv(out, value);
	buf_add_c(out, '\n');
}

int conf_write_snapshot(const struct conf *c, int fd)
{
	struct buf out = BUF_INIT;
	int err;

	buf_add_str(&out, snapshot_magic);
	snapshot_put(&out, "dir", sv_from(c->dir));
	snapshot_put(&out, "main", buf_sv(&c->main_text));
	if (c->has_master)
		snapshot_put(&out, "master", buf_sv(&c->master_text));
	if (c->myhostname != NULL)
		snapshot_put(&out, "myhostname", sv_from(c->myhostname));
	if (c->mydomain != NULL)
		snapshot_put(&out, "mydomain", sv_from(c->mydomain));
	if (c->mynetworks != NULL)
		snapshot_put(&out, "mynetworks", sv_from(c->mynetworks));
	snapshot_put(&out, "end", SV(""));
	err = io_write_all(fd, out.p, out.len);
	buf_fini(&out);
	return err;
}

static int snapshot_item(struct sv *rest, struct sv *key_r, struct sv *value_r)
{
	const char *nl = rest->len > 0 ? memchr(rest->p, '\n', rest->len) : NULL;
	const char *blank = nl != NULL ? memchr(rest->p, ' ', (size_t)(nl - rest->p)) : NULL;
	uint64_t len;
	size_t head;

	if (blank == NULL)
		return E_CORRUPT;
	head = (size_t)(nl + 1 - rest->p);
	*key_r = (struct sv){ rest->p, (size_t)(blank - rest->p) };
	if (str_to_u64((struct sv){ blank + 1, (size_t)(nl - blank - 1) }, rest->len, &len) != 0 ||
	    rest->len - head < len + 1 || nl[1 + len] != '\n')
		return E_CORRUPT;
	*value_r = (struct sv){ nl + 1, (size_t)len };
	rest->p += head + len + 1;
	rest->len -= head + len + 1;
	return 0;
}

struct snapshot {
	struct sv dir, main, master, myhostname, mydomain, mynetworks;
	bool has_master, has_end;
};

static int snapshot_parse(struct sv text, struct snapshot *s)
{
	size_t magic_len = sizeof(snapshot_magic) - 1;
	struct sv key, value;
	int err = 0;

	*s = (struct snapshot){ 0 };
	if (text.len < magic_len || memcmp(text.p, snapshot_magic, magic_len) != 0)
		return E_VERSION;
	text.p += magic_len;
	text.len -= magic_len;
	while (err == 0 && !s->has_end) {
		err = snapshot_item(&text, &key, &value);
		if (err != 0)
			break;
		if (sv_eq(key, SV("dir")))
			s->dir = value;
		else if (sv_eq(key, SV("main")))
			s->main = value;
		else if (sv_eq(key, SV("master")))
			s->master = value, s->has_master = true;
		else if (sv_eq(key, SV("myhostname")))
			s->myhostname = value;
		else if (sv_eq(key, SV("mydomain")))
			s->mydomain = value;
		else if (sv_eq(key, SV("mynetworks")))
			s->mynetworks = value;
		else if (sv_eq(key, SV("end")))
			s->has_end = true;
		else
			err = E_CORRUPT;
	}
	return err;
}

static const char *keep(struct conf *c, struct sv s)
{
	return s.p != NULL ? arena_strndup(&c->arena, s.p, s.len) : NULL;
}

static struct conf *conf_from_snapshot(const struct snapshot *s)
{
	char *dir = xstrndup(s->dir.p != NULL ? s->dir.p : "", s->dir.len);
	struct conf *c = conf_new(dir);

	free(dir);
	buf_add_sv(&c->main_text, s->main);
	buf_add_sv(&c->master_text, s->master);
	c->has_master = s->has_master;
	c->myhostname = keep(c, s->myhostname);
	c->mydomain = keep(c, s->mydomain);
	c->mynetworks = keep(c, s->mynetworks);
	return c;
}

static int load_snapshot(int fd, bool lenient, struct conf **conf_r, struct conf_diag *d)
{
	struct buf text = BUF_INIT;
	struct snapshot s;
	struct conf *c;
	struct stat st;
	unsigned errors = d->errors;
	int err = fstat(fd, &st) == 0 ? 0 : err_errno();

	*conf_r = NULL;
	if (err == 0 && (st.st_size < 0 || st.st_size > 3 * (off_t)CONF_FILE_LIMIT_BYTES))
		err = E_LIMIT;
	/* With pread: the descriptor, and so its position, is shared between processes. */
	if (err == 0 && buf_reserve(&text, (size_t)st.st_size + 1) == NULL)
		err = E_NOMEM;
	if (err == 0)
		err = io_pread_all(fd, text.p, (size_t)st.st_size, 0);
	if (err == 0)
		err = snapshot_parse((struct sv){ text.p, (size_t)st.st_size }, &s);
	if (err != 0) {
		conf_diag_add(d, true, NULL, 0, "configuration snapshot: %s", err_str(err));
		buf_fini(&text);
		return err;
	}
	c = conf_from_snapshot(&s);
	buf_fini(&text);
	if (check_text(c->main_path, &c->main_text, d) != 0 ||
	    check_text(c->master_path, &c->master_text, d) != 0) {
		conf_free(&c);
		return E_CONFIG;
	}
	return finish(c, lenient, errors, conf_r, d);
}

int conf_load_snapshot(int fd, struct conf **conf_r, struct conf_diag *d)
{
	return load_snapshot(fd, false, conf_r, d);
}

int conf_load_snapshot_lenient(int fd, struct conf **conf_r, struct conf_diag *d)
{
	return load_snapshot(fd, true, conf_r, d);
}

/* ---- questions ---- */

const char *conf_dir(const struct conf *c)
{
	return c->dir;
}

const struct params *conf_params(const struct conf *c)
{
	return &c->global.params;
}

/* Values outside the table are expanded at the first question and kept: the scope is a cache. */
static struct scope *scope_of(const struct conf *c, const struct conf_service *s)
{
	union {
		const struct scope *in;
		struct scope *out;
	} u = { .in = &c->global };

	if (s != NULL) {
		const struct service *service =
			(const void *)((const char *)s - offsetof(struct service, pub));

		if (service->scope != NULL)
			u.in = service->scope;
	}
	return u.out;
}

const char *conf_get(const struct conf *c, const char *name)
{
	bool failed = false;

	return scope_get(scope_of(c, NULL), sv_from(name), &failed);
}

const char *conf_service_get(const struct conf *c, const struct conf_service *s, const char *name)
{
	bool failed = false;

	return scope_get(scope_of(c, s), sv_from(name), &failed);
}

const struct conf_service *conf_service_stress(const struct conf_service *s)
{
	const struct service *service =
		(const void *)((const char *)s - offsetof(struct service, pub));

	return service->stress != NULL ? &service->stress->pub : NULL;
}

bool conf_uses_stress(const struct conf *c)
{
	return c->uses_stress;
}

bool conf_where(const struct conf *c, const struct conf_service *s, const char *name,
		const char **file_r, unsigned *line_r)
{
	struct raw_value raw = scope_raw(scope_of(c, s), sv_from(name));

	*file_r = raw.file;
	*line_r = raw.line;
	return raw.file != NULL;
}

static bool has_text(const char *value, const char *text)
{
	return value != NULL && strstr(value, text) != NULL;
}

static bool where_text(const struct conf *c, const char *text, bool expanded, const char **file_r,
		       unsigned *line_r)
{
	for (unsigned i = 0; i < c->entry_count; i++) {
		const struct main_entry *e = &c->entries[i];

		if (!has_text(expanded ? conf_get(c, e->name) : e->value, text))
			continue;
		*file_r = c->main_path;
		*line_r = e->line;
		return true;
	}
	for (unsigned i = 0; i < c->service_count; i++) {
		const struct conf_service *s = &c->services[i].pub;

		for (unsigned k = 0; k < s->override_count; k++) {
			const struct conf_override *o = &s->overrides[k];

			if (!has_text(expanded ? conf_service_get(c, s, o->name) : o->value, text))
				continue;
			*file_r = c->master_path;
			*line_r = s->line;
			return true;
		}
	}
	return false;
}

bool conf_where_text(const struct conf *c, const char *text, const char **file_r, unsigned *line_r)
{
	return where_text(c, text, false, file_r, line_r) ||
	       where_text(c, text, true, file_r, line_r);
}

int conf_expand(const struct conf *c, const char *text, struct buf *out)
{
	return scope_expand(scope_of(c, NULL), text, out, NULL, 0);
}

unsigned conf_service_count(const struct conf *c)
{
	return c->service_count;
}

const struct conf_service *conf_service(const struct conf *c, unsigned index)
{
	return index < c->service_count ? &c->services[index].pub : NULL;
}

const struct conf_service *conf_service_find(const struct conf *c, const char *name,
					     enum service_type type)
{
	for (unsigned i = 0; i < c->service_count; i++) {
		const struct conf_service *s = &c->services[i].pub;

		if (s->type == type && strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

char *conf_log_name(const struct conf *c, const struct params *p, const char *program)
{
	return strcmp(p->syslog_name, c->global.params.syslog_name) == 0
		       ? xstrdup(program)
		       : xasprintf("%s/%s", p->syslog_name, program);
}
