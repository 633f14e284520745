/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Tables: types, sharing by name, look-up, change of files; see conf/map.h. Called by every process
 * that asks tables, and by the commands.
 */
#include "conf/map.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "conf/map_impl.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

struct file_id {
	dev_t dev;
	ino_t ino;
	struct timespec mtime;
	off_t size;
};

struct map {
	struct map *next; /* all open tables */
	char *spec;
	const struct map_type *type;
	void *impl;
	char *path; /* NULL = no file */
	struct file_id id;
	unsigned refs;
	bool failing; /* the last look-up was an error, and the log says so */
};

static struct map *all_maps;
static uint64_t failures, outages; /* of tables of the process; map_troubles() */
static unsigned open_depth;        /* tables inside tables */

#define MAX_DEPTH 20u
#define COMPILED(t)                                                                                \
	{                                                                                          \
		.name = (t), .fold = true, .open = map_kch_open, .get = map_kch_get,               \
		.close = map_kch_close                                                             \
	}

/* asked by the lookup worker; those of a protocol of their own see whole keys only */
#define REMOTE_KEYS(t, is_whole)                                                                   \
	{                                                                                          \
		.name = (t), .fold = true, .open = map_remote_open, .get = map_remote_get,         \
		.close = free, .pattern = (is_whole)                                               \
	}
#define REMOTE(t) REMOTE_KEYS(t, false)

static int proxy_open(struct map_open *o);
static enum map_status proxy_get(void *impl, struct sv key, struct buf *out);
static void proxy_close(void *impl);
static bool proxy_fixed(const void *impl);
static bool proxy_remote(const void *impl);

static const struct map_type types[] = {
	COMPILED("btree"),
	COMPILED("cdb"),
	{ .name = "cidr",
	  .open = map_cidr_open,
	  .get = map_cidr_get,
	  .close = map_cidr_close,
	  .pattern = true },
	COMPILED("dbm"),
	{ .name = "environ", .open = map_plain_open, .get = map_environ_get, .close = free },
	{ .name = "fail", .open = map_plain_open, .get = map_fail_get, .close = free },
	COMPILED("hash"),
	{ .name = "inline",
	  .fold = true,
	  .open = map_inline_open,
	  .get = map_hash_get,
	  .close = map_hash_close,
	  .each = map_hash_each },
#ifdef PH_HAVE_LDAP
	REMOTE("ldap"),
#endif
	COMPILED("lmdb"),
	REMOTE("memcache"),
#ifdef PH_HAVE_MYSQL
	REMOTE("mysql"),
#endif
	{ .name = "pcre",
	  .open = map_pcre_open,
	  .get = map_regex_get,
	  .close = map_regex_close,
	  .pattern = true },
#ifdef PH_HAVE_PGSQL
	REMOTE("pgsql"),
#endif
	{ .name = "pipemap",
	  .open = map_multi_open,
	  .get = map_pipe_get,
	  .close = map_multi_close,
	  .fixed = map_multi_fixed,
	  .remote = map_multi_remote },
	{ .name = "proxy",
	  .open = proxy_open,
	  .get = proxy_get,
	  .close = proxy_close,
	  .fixed = proxy_fixed,
	  .remote = proxy_remote },
	{ .name = "randmap",
	  .open = map_rand_open,
	  .get = map_rand_get,
	  .close = map_rand_close,
	  .pattern = true },
	REMOTE("redis"),
	{ .name = "regexp",
	  .open = map_regexp_open,
	  .get = map_regex_get,
	  .close = map_regex_close,
	  .pattern = true },
	COMPILED("sdbm"),
	REMOTE_KEYS("socketmap", true),
#ifdef PH_HAVE_SQLITE
	REMOTE("sqlite"),
#endif
	{ .name = "static", .open = map_static_open, .get = map_static_get, .close = free },
	REMOTE_KEYS("tcp", true),
	{ .name = "texthash",
	  .fold = true,
	  .open = map_texthash_open,
	  .get = map_hash_get,
	  .close = map_hash_close,
	  .each = map_hash_each },
	{ .name = "unionmap",
	  .open = map_multi_open,
	  .get = map_union_get,
	  .close = map_multi_close,
	  .fixed = map_multi_fixed,
	  .remote = map_multi_remote },
	{ .name = "unix",
	  .fold = true,
	  .open = map_unix_open,
	  .get = map_unix_get,
	  .close = map_unix_close },
};

/* Known to Postfix, perhaps not built in here. */
static const char *const unavailable[] = {
	"internal", "ldap",    "mongodb", "mysql",  "netinfo",
	"nis",      "nisplus", "pgsql",   "sqlite", "debug",
};

static const struct map_type *find_type(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	}
	return NULL;
}

bool map_type_is_available(const char *type)
{
	return find_type(type) != NULL;
}

bool map_type_is_known(const char *type)
{
	for (size_t i = 0; i < ARRAY_LEN(unavailable); i++) {
		if (strcmp(unavailable[i], type) == 0)
			return true;
	}
	return find_type(type) != NULL;
}

enum map_source map_type_source(const char *name)
{
	const struct map_type *type = find_type(name);

	if (type == NULL)
		return MAP_SOURCE_NONE;
	if (type->open == map_kch_open)
		return MAP_SOURCE_COMPILED;
	if (type->open == map_remote_open)
		return MAP_SOURCE_REMOTE;
	if (type->fixed != NULL)
		return MAP_SOURCE_TABLES;
	if (type->open == map_texthash_open || type->open == map_cidr_open ||
	    type->open == map_pcre_open || type->open == map_regexp_open)
		return MAP_SOURCE_TEXT;
	return MAP_SOURCE_NONE;
}

const char *map_type_name(unsigned index)
{
	return index < ARRAY_LEN(types) ? types[index].name : NULL;
}

static bool is_file_problem(int err)
{
	return err > -4096;
}

PRINTF_LIKE(3, 0)
static void open_diag(const struct map_open *o, bool is_error, const char *fmt, va_list ap)
{
	char text[500];

	if (o->d == NULL)
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	str_make_printable(text, strlen(text));
	conf_diag_add(o->d, is_error, NULL, 0, "%s:%.200s: %s", o->type, o->name, text);
}

int map_open_fail(const struct map_open *o, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	/* a file that is missing or unreadable may come back; bad configuration will not */
	open_diag(o, o->strict || !is_file_problem(err), fmt, ap);
	va_end(ap);
	return err;
}

void map_open_warn(const struct map_open *o, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	open_diag(o, false, fmt, ap);
	va_end(ap);
}

int map_open_text(struct map_open *o, struct buf *data, struct map_text *t)
{
	buf_init(data, 0);
	if (o->inline_text.p != NULL) {
		map_text_init_inline(t, o->inline_text, o->type, o->d);
		return 0;
	}
	if (o->name[0] == '\0')
		return map_open_fail(o, E_CONFIG, "needs a file name");
	int err = io_read_file(o->name, MAP_TEXT_FILE_MAX, data);

	if (err < 0) {
		buf_fini(data);
		return map_open_fail(o, err, "open %.300s: %s", o->name, err_str(err));
	}
	o->path = xstrdup(o->name);
	map_text_init_file(t, buf_sv(data), o->path, o->d);
	return 0;
}

static bool read_id(const char *path, struct file_id *id)
{
	struct stat st;

	*id = (struct file_id){ 0 };
	if (stat(path, &st) < 0)
		return false;
	id->dev = st.st_dev;
	id->ino = st.st_ino;
	id->mtime = st.st_mtim;
	id->size = st.st_size;
	return true;
}

static bool id_eq(const struct file_id *a, const struct file_id *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

/* Run the type's open() on a spec. The text is trusted to have its colon. */
static int open_impl(const struct conf *c, const char *spec, struct map_open *o,
		     struct conf_diag *d, bool strict, const struct map_type **type_r)
{
	const char *colon = strchr(spec, ':');
	char type[32];

	*o = (struct map_open){ .type = type, .name = spec, .c = c, .d = d, .strict = strict };
	*type_r = NULL;
	if (colon == NULL || colon == spec) {
		o->type = "table";
		return map_open_fail(o, E_CONFIG, "not of the form type:name");
	}
	o->name = colon + 1;
	if (str_copy(type, sizeof(type), (struct sv){ spec, (size_t)(colon - spec) }))
		*type_r = find_type(type);
	if (*type_r == NULL && map_type_is_known(type))
		return map_open_fail(o, -EOPNOTSUPP,
				     "unsupported dictionary type: %s: not in this build", type);
	if (*type_r == NULL)
		return map_open_fail(o, E_CONFIG, "unknown table type \"%s\"", type);
	size_t len = strlen(o->name);

	if (len >= 2 && o->name[0] == '{' && o->name[len - 1] == '}')
		o->inline_text = (struct sv){ o->name + 1, len - 2 };
	if (open_depth >= MAX_DEPTH)
		return map_open_fail(o, E_LIMIT, "tables are nested too deeply");
	open_depth++;
	int err = (*type_r)->open(o);

	open_depth--;
	o->type = (*type_r)->name;
	if (err < 0) {
		free(o->path);
		o->path = NULL;
	}
	return err;
}

/* A table whose file cannot be used now, or whose type this build does not have, answers MAP_ERROR,
 * so that mail that needs it waits; the file is looked for again by map_refresh_all(). */
static void make_surrogate(struct map_open *o, const struct map_type **type)
{
	if (*type != NULL) /* else it is a type that this build does not have */
		o->path = (*type)->open == map_kch_open ? xasprintf("%s.kch", o->name)
							: xstrdup(o->name);
	*type = find_type("fail");
	(*type)->open(o);
}

static int open_shared(const struct conf *c, const char *spec, bool strict, struct map **map_r,
		       struct conf_diag *d)
{
	const struct map_type *type;
	struct map_open o;

	*map_r = NULL;
	for (struct map *m = all_maps; m != NULL; m = m->next) {
		if (strcmp(m->spec, spec) == 0) {
			m->refs++;
			*map_r = m;
			return 0;
		}
	}
	int err = open_impl(c, spec, &o, d, strict, &type);

	if (err < 0 && (strict || !is_file_problem(err)))
		return err;
	if (err < 0)
		make_surrogate(&o, &type);
	struct map *m = xcalloc(1, sizeof(*m));

	m->spec = xstrdup(spec);
	m->type = type;
	m->impl = o.impl;
	m->path = o.path;
	m->refs = 1;
	if (m->path != NULL)
		read_id(m->path, &m->id);
	m->next = all_maps;
	all_maps = m;
	*map_r = m;
	return 0;
}

int map_open(const struct conf *c, const char *spec, struct map **map_r, struct conf_diag *d)
{
	return open_shared(c, spec, false, map_r, d);
}

int map_open_strict(const struct conf *c, const char *spec, struct map **map_r, struct conf_diag *d)
{
	return open_shared(c, spec, true, map_r, d);
}

void map_close(struct map **mp)
{
	struct map *m;

	TAKE(m, *mp);
	if (m == NULL || --m->refs > 0)
		return;
	for (struct map **at = &all_maps; *at != NULL; at = &(*at)->next) {
		if (*at == m) {
			*at = m->next;
			break;
		}
	}
	m->type->close(m->impl);
	free(m->path);
	free(m->spec);
	free(m);
}

const char *map_spec(const struct map *m)
{
	return m->spec;
}

bool map_has_fixed_keys(const struct map *m)
{
	return m->type->fixed != NULL ? m->type->fixed(m->impl) : !m->type->pattern;
}

bool map_is_remote(const struct map *m)
{
	return m->type->remote != NULL ? m->type->remote(m->impl)
				       : m->type->open == map_remote_open;
}

/* A table of the process that cannot be asked: said once, until it can. Tables of tables have ones
 * inside that say it; whoever asks remote ones says it of them. */
static void note_health(struct map *m, enum map_status status)
{
	if (m->type->remote != NULL || m->type->open == map_remote_open)
		return;
	failures += status == MAP_ERROR;
	if ((status == MAP_ERROR) == m->failing)
		return;
	m->failing = !m->failing;
	outages += m->failing;
	if (m->failing)
		log_warn("table %s: cannot be asked: mail that needs it waits", m->spec);
	else
		log_info("table %s: answers again", m->spec);
}

void map_troubles(uint64_t *failures_r, uint64_t *outages_r)
{
	*failures_r = failures;
	*outages_r = outages;
	failures = outages = 0;
}

enum map_status map_get_as_is(struct map *m, struct sv key, struct buf *out)
{
	buf_reset(out);
	if (key.len > MAP_KEY_MAX && !m->type->pattern)
		return MAP_NOT_FOUND;
	enum map_status status = m->type->get(m->impl, key, out);

	if (status != MAP_FOUND)
		buf_reset(out);
	if (status == MAP_ERROR || m->failing)
		note_health(m, status);
	return status;
}

static enum map_status get(struct map *m, struct sv key, bool fold, struct buf *out)
{
	char folded[MAP_KEY_MAX];

	if (fold && key.len <= sizeof(folded)) {
		for (size_t i = 0; i < key.len; i++)
			folded[i] = ascii_lower(key.p[i]);
		key.p = folded;
	}
	return map_get_as_is(m, key, out);
}

bool map_each(const struct map *m, map_each_fn fn, void *ctx)
{
	if (m->type->each == NULL)
		return false;
	m->type->each(m->impl, fn, ctx);
	return true;
}

enum map_status map_get(struct map *m, struct sv key, struct buf *out)
{
	return get(m, key, m->type->fold, out);
}

enum map_status map_get_cased(struct map *m, struct sv key, struct buf *out)
{
	return get(m, key, m->type->fold && !m->type->pattern, out);
}

void map_lookup(struct map *m, struct sv key, map_fn fn, void *ctx)
{
	struct buf out = BUF_INIT;
	enum map_status status = map_get(m, key, &out);

	fn(ctx, status, buf_sv(&out));
	buf_fini(&out);
}

/* ---- files that change ---- */

static bool refresh(struct map *m, map_changed_fn changed, void *ctx)
{
	const struct map_type *type;
	struct conf_diag d;
	struct map_open o;
	struct file_id id;

	if (m->path == NULL || !read_id(m->path, &id) || id_eq(&id, &m->id))
		return false;
	m->id = id; /* a file that cannot be used is looked at again when it changes again */
	conf_diag_init(&d);
	int err = open_impl(NULL, m->spec, &o, &d, false, &type);

	if (err == 0) {
		m->type->close(m->impl);
		free(m->path);
		m->type = type;
		m->impl = o.impl;
		m->path = o.path;
	}
	if (changed != NULL)
		changed(ctx, m, err, buf_cstr(&d.text));
	conf_diag_fini(&d);
	return true;
}

unsigned map_refresh_all(map_changed_fn changed, void *ctx)
{
	unsigned count = 0;

	for (struct map *m = all_maps; m != NULL; m = m->next)
		count += refresh(m, changed, ctx);
	return count;
}

/* ---- proxy: the inner table, in this process ---- */

static int proxy_open(struct map_open *o)
{
	struct map *inner = NULL;
	int err = map_open(o->c, o->name, &inner, o->d);

	o->impl = inner;
	return err;
}

static enum map_status proxy_get(void *impl, struct sv key, struct buf *out)
{
	return map_get(impl, key, out);
}

static void proxy_close(void *impl)
{
	struct map *inner = impl;

	map_close(&inner);
}

static bool proxy_fixed(const void *impl)
{
	return map_has_fixed_keys(impl);
}

static bool proxy_remote(const void *impl)
{
	return map_is_remote(impl);
}
