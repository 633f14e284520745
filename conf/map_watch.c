/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Watching table files; see conf/map_watch.h. Called by the supervisor. */
#include "conf/map_watch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "conf/conf_priv.h"
#include "conf/map_impl.h"
#include "conf/policy_spec.h"

#define MAX_DEPTH 10u

struct stamp {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime;
};

struct watched {
	char *path;
	struct stamp known;  /* at the start or the last report; ino 0 = not there */
	struct stamp latest; /* at the last poll */
};

struct map_watch {
	struct watched *files;
	size_t count;
	map_spec_fn remote; /* instead of watching: called for each remote table */
	void *ctx;
};

/* Match lists whose /file patterns are watched. */
static const char *const list_params[] = {
	"mydestination",           "mynetworks",
	"relay_domains",           "virtual_alias_domains",
	"virtual_mailbox_domains", "smtpd_client_event_limit_exceptions",
};

/* These name tables that are written by programs, or not asked at all. */
static const char *const skip_params[] = {
	"address_verify_map",
	"alias_database",
	"lmtp_sasl_auth_cache_name",
	"lmtp_tls_session_cache_database",
	"postscreen_cache_map",
	"proxy_read_maps",
	"proxy_write_maps",
	"smtp_sasl_auth_cache_name",
	"smtp_tls_session_cache_database",
	"smtpd_tls_session_cache_database",
};

static bool name_in(const char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

static struct stamp stamp_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return (struct stamp){ 0 };
	return (struct stamp){ st.st_dev, st.st_ino, st.st_size, st.st_mtim };
}

static bool stamp_eq(const struct stamp *a, const struct stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

/* Takes path over. */
static void add_path(struct map_watch *w, char *path)
{
	if (w->remote != NULL) {
		free(path);
		return;
	}
	for (size_t i = 0; i < w->count; i++) {
		if (strcmp(w->files[i].path, path) == 0) {
			free(path);
			return;
		}
	}
	w->files = xrealloc(w->files, (w->count + 1) * sizeof(*w->files));
	struct watched *f = &w->files[w->count++];

	f->path = path;
	f->known = f->latest = stamp_of(path);
}

static void scan_items(struct map_watch *w, struct sv text, bool list, unsigned depth);

/* "type:name" */
static void scan_spec(struct map_watch *w, struct sv spec, unsigned depth)
{
	const char *colon = memchr(spec.p, ':', spec.len);
	char type[32];

	if (colon == NULL ||
	    !str_copy(type, sizeof(type), (struct sv){ spec.p, (size_t)(colon - spec.p) }))
		return;
	struct sv name = { colon + 1, spec.len - (size_t)(colon - spec.p) - 1 };
	enum map_source source = map_type_source(type);

	if (w->remote != NULL && source == MAP_SOURCE_REMOTE) {
		char *text = xstrndup(spec.p, spec.len);

		w->remote(w->ctx, text);
		free(text);
		return;
	}
	if (source == MAP_SOURCE_TABLES)
		scan_items(w, name, false, depth + 1);
	else if (name.len == 0 || name.p[0] == '{')
		return;
	else if (source == MAP_SOURCE_COMPILED)
		add_path(w, xasprintf("%.*s.kch", (int)name.len, name.p));
	else if (source == MAP_SOURCE_TEXT || (source == MAP_SOURCE_REMOTE && name.p[0] == '/'))
		add_path(w, xstrndup(name.p, name.len));
}

static void scan_items(struct map_watch *w, struct sv text, bool list, unsigned depth)
{
	struct sv item;
	bool group;

	if (depth > MAX_DEPTH)
		return;
	while (map_item_next(&text, &item, &group) > 0) {
		if (group) {
			scan_items(w, item, list, depth + 1);
			continue;
		}
		while (list && item.len > 1 && item.p[0] == '!')
			item = (struct sv){ item.p + 1, item.len - 1 };
		if (list && item.p[0] == '/')
			add_path(w, xstrndup(item.p, item.len));
		else
			scan_spec(w, item, depth);
	}
}

static void scan_value(struct map_watch *w, const char *name, const char *value)
{
	if (value != NULL && !name_in(skip_params, ARRAY_LEN(skip_params), name))
		scan_items(w, sv_from(value), name_in(list_params, ARRAY_LEN(list_params), name),
			   0);
}

static void scan_params(struct map_watch *w, const struct params *p)
{
	for (unsigned i = 0; i < param_count(); i++) {
		const struct param_desc *pd = param_desc(i);
		const char *value;

		if (pd->type != P_STR)
			continue;
		memcpy(&value, (const char *)p + pd->offset, sizeof(value));
		scan_value(w, pd->field, value);
	}
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; *(p += strspn(p, ", \t\r\n")) != '\0';) {
		size_t n = strcspn(p, ", \t\r\n");

		if (n == len && memcmp(p, word, len) == 0)
			return true;
		p += n;
	}
	return false;
}

/* Of the user's own names, classes are read as they stand; all others ("podop = socketmap:...:",
 * to be used as ${podop}alias) may be a part of a table's name only, and are seen where they are
 * used. */
static bool is_class(const struct conf *c, const char *name)
{
	if (has_word(conf_params(c)->smtpd_restriction_classes, name))
		return true;
	for (unsigned i = 0; i < conf_service_count(c); i++) {
		if (has_word(conf_service(c, i)->params->smtpd_restriction_classes, name))
			return true;
	}
	return false;
}

static void scan_all(struct map_watch *w, const struct conf *c)
{
	scan_params(w, conf_params(c));
	for (unsigned i = 0; i < c->entry_count; i++) {
		if (is_class(c, c->entries[i].name))
			scan_value(w, c->entries[i].name, conf_get(c, c->entries[i].name));
	}
	for (unsigned i = 0; i < conf_service_count(c); i++) {
		const struct conf_service *s = conf_service(c, i);

		if (s->override_count == 0)
			continue;
		scan_params(w, s->params);
		for (unsigned k = 0; k < s->override_count; k++) {
			if (is_class(c, s->overrides[k].name))
				scan_value(w, s->overrides[k].name,
					   conf_service_get(c, s, s->overrides[k].name));
		}
	}
}

struct map_watch *map_watch_new(const struct conf *c)
{
	struct map_watch *w = xcalloc(1, sizeof(*w));

	scan_all(w, c);
	return w;
}

void map_watch_remote(const struct conf *c, map_spec_fn fn, void *ctx)
{
	struct map_watch w = { .remote = fn, .ctx = ctx };

	scan_all(&w, c);
	policy_spec_each(c, fn, ctx);
}

void map_watch_free(struct map_watch **wp)
{
	struct map_watch *w;

	TAKE(w, *wp);
	if (w == NULL)
		return;
	for (size_t i = 0; i < w->count; i++)
		free(w->files[i].path);
	free(w->files);
	free(w);
}

size_t map_watch_count(const struct map_watch *w)
{
	return w->count;
}

const char *map_watch_poll(struct map_watch *w)
{
	const char *changed = NULL;

	for (size_t i = 0; i < w->count; i++) {
		struct watched *f = &w->files[i];
		struct stamp now = stamp_of(f->path);
		bool settled = stamp_eq(&now, &f->latest);

		f->latest = now;
		if (now.ino == 0 || !settled || stamp_eq(&now, &f->known))
			continue;
		f->known = now;
		changed = f->path;
	}
	return changed;
}
