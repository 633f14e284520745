/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Warnings about names, once all text is read: names that are used but defined nowhere, names that
 * are defined but that nobody knows or uses, and deprecated ones. In Postfix's words and order. A
 * name counts as used when a value mentions it, when smtpd_restriction_classes lists it, and when
 * it looks like an attribute of a database table ("mysql:vmap" uses vmap_user).
 */
#include "conf/conf_priv.h"

#include <stdlib.h>

#include "conf/effect.h"

struct names {
	struct conf *c;
	struct conf_diag *d;
	struct strmap *refs;      /* every name some value mentions -> itself */
	struct strmap *undefined; /* reported already */
	struct buf prefixes;      /* "vmap_ users_ " of database tables */
	const char *file;
	const struct service *service; /* whose options are looked at, NULL for main.cf */
};

static char present[] = "";

static bool is_option_of(const struct service *s, struct sv name)
{
	for (unsigned i = 0; s != NULL && i < s->pub.override_count; i++) {
		if (sv_eq_str(name, s->pub.overrides[i].name))
			return true;
	}
	return false;
}

static void on_ref(void *ctx, struct sv name)
{
	struct names *n = ctx;

	strmap_put(n->refs, name, present);
	if (sv_eq(name, SV("service_name")) || sv_eq(name, SV("process_name")))
		return;
	if (is_option_of(n->service, name) || scope_raw(&n->c->global, name).text != NULL ||
	    strmap_put(n->undefined, name, present) != NULL)
		return;
	conf_diag_add(n->d, false, n->file, 0, "undefined parameter: %.*s", (int)name.len, name.p);
}

static const char *const database_types[] = { "ldap:",   "mysql:",    "pgsql:",
					      "sqlite:", "memcache:", "mongodb:" };

/* "mysql:vmap" in a value makes vmap_... names known. */
static void find_databases(struct names *n, const char *value)
{
	for (size_t i = 0; i < ARRAY_LEN(database_types); i++) {
		const char *p = value;

		while ((p = strstr(p, database_types[i])) != NULL) {
			size_t len;

			p += strlen(database_types[i]);
			len = strcspn(p, ", \t\n/{}");
			if (len == 0 || p[len] == '/')
				continue;
			buf_add(&n->prefixes, p, len);
			buf_add_str(&n->prefixes, "_ ");
		}
	}
}

static void scan_value(struct names *n, const char *name, const char *value)
{
	int idx = param_find(sv_from(name));

	find_databases(n, value);
	/* A value that is not expanded speaks of other names than ours. */
	if (idx < 0 || !param_desc((unsigned)idx)->raw)
		expand_scan(sv_from(value), on_ref, n);
}

static bool has_database_prefix(const struct names *n, const char *name)
{
	for (const char *p = buf_cstr(&n->prefixes); *p != 0;) {
		size_t len = strcspn(p, " ");

		if (strncmp(name, p, len) == 0)
			return true;
		p += len + (p[len] == ' ');
	}
	return false;
}

static bool is_known(struct names *n, const char *name)
{
	struct sv s = sv_from(name);

	return param_find(s) >= 0 || inert_find(s) != NULL ||
	       transport_param_default(n->c, s) != NULL || strmap_get(n->refs, s) != NULL ||
	       has_database_prefix(n, name);
}

static void add_classes(struct names *n)
{
	const char *p = n->c->global.params.smtpd_restriction_classes;

	while (*(p += strspn(p, ", \t\n")) != 0) {
		size_t len = strcspn(p, ", \t\n");

		strmap_put(n->refs, (struct sv){ p, len }, present);
		p += len;
	}
}

static void scan_all(struct names *n)
{
	struct conf *c = n->c;

	n->file = c->main_path;
	for (unsigned i = 0; i < c->entry_count; i++)
		scan_value(n, c->entries[i].name, c->entries[i].value);
	for (unsigned i = 0; i < c->cmdline_count; i++)
		scan_value(n, c->cmdline[i].name, c->cmdline[i].value);
	n->file = c->master_path;
	for (unsigned i = 0; i < c->service_count; i++) {
		n->service = &c->services[i];
		for (unsigned k = 0; k < n->service->pub.override_count; k++)
			scan_value(n, n->service->pub.overrides[k].name,
				   n->service->pub.overrides[k].value);
	}
}

/* One setting of a file. */
struct setting {
	const char *name, *value;
	unsigned line;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct setting *)a)->name, ((const struct setting *)b)->name);
}

static void report_setting(struct names *n, const char *file, const struct setting *s)
{
	unsigned line = n->c->no_lines ? 0 : s->line;
	struct effect_info info;

	if (!is_known(n, s->name))
		conf_diag_add(n->d, false, file, line, "unused parameter: %s=%s", s->name,
			      s->value);
	else if (effect_find(n->c, sv_from(s->name), &info) && info.advice != NULL)
		conf_diag_add(n->d, false, file, line,
			      "support for parameter \"%s\" will be removed; instead, %s", s->name,
			      info.advice);
}

/* Sorted by name, as Postfix reports them. */
static void report_sorted(struct names *n, const char *file, struct setting *list, size_t count)
{
	qsort(list, count, sizeof(*list), by_name);
	for (size_t i = 0; i < count; i++)
		report_setting(n, file, &list[i]);
	free(list);
}

static void report_main(struct names *n)
{
	struct conf *c = n->c;
	struct setting *list = xcalloc(c->entry_count + 1, sizeof(*list));
	size_t count = 0;

	for (unsigned i = 0; i < c->entry_count; i++) {
		struct main_entry *e = &c->entries[i];

		e->used = is_known(n, e->name);
		/* Of duplicates only the last one counts. */
		if (strmap_get(c->entry_by_name, sv_from(e->name)) == e)
			list[count++] = (struct setting){ e->name, e->value, e->line };
	}
	report_sorted(n, c->main_path, list, count);
}

static void report_service(struct names *n, const struct conf_service *s)
{
	struct setting *list = xcalloc(s->override_count + 1, sizeof(*list));

	for (unsigned k = 0; k < s->override_count; k++)
		list[k] = (struct setting){ s->overrides[k].name, s->overrides[k].value, s->line };
	report_sorted(n, n->c->master_path, list, s->override_count);
}

void names_check(struct conf *c, struct conf_diag *d)
{
	struct names n = { .c = c, .d = d };

	n.refs = strmap_new();
	n.undefined = strmap_new();
	scan_all(&n);
	add_classes(&n);
	report_main(&n);
	for (unsigned i = 0; i < c->service_count; i++)
		report_service(&n, &c->services[i].pub);
	strmap_free(&n.refs);
	strmap_free(&n.undefined);
	buf_fini(&n.prefixes);
}
