/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Opening remote tables, and what all sources share; see workers/lookup/table.h. */
#include "workers/lookup/table.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/util.h"
#include "shm/proto.h"

static const struct source *const sources[] = {
#ifdef PH_HAVE_LDAP
	&source_ldap,
#endif
	&source_memcache,
#ifdef PH_HAVE_MYSQL
	&source_mysql,
#endif
#ifdef PH_HAVE_PGSQL
	&source_pgsql,
#endif
	&source_policy,   &source_redis, &source_socketmap,
#ifdef PH_HAVE_SQLITE
	&source_sqlite,
#endif
	&source_tcp,
};

static const struct source *find_source(struct sv type)
{
	for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
		if (sv_eq(type, sv_from(sources[i]->type)))
			return sources[i];
	}
	return NULL;
}

static bool has_parameters(const struct source *s)
{
	return s != &source_policy && s != &source_socketmap && s != &source_tcp;
}

/* What every parameter file may have. */
static int common_options(struct table *t, struct conf_diag *d)
{
	const char *domains = options_get(t->options, "domain", "");
	const char *why;

	t->result.format = xstrdup(options_get(t->options, "result_format", ""));
	if (t->result.format[0] == '\0') {
		/* older names of it */
		free(t->result.format);
		t->result.format = xstrdup(options_get(t->options, "result_filter", "%s"));
	}
	t->result.limit = options_int(t->options, "expansion_limit", 0, 0, INT32_MAX);
	why = template_check(t->result.format);
	if (why != NULL)
		options_complain(t->options, "result_format: %s: %.100s", why, t->result.format);
	if (domains[0] == '\0')
		return 0;
	return matchlist_open(t->conf, domains, "domain", MATCHLIST_STRING, &t->domains, d);
}

bool table_type_is_remote(const char *spec)
{
	const char *colon = strchr(spec, ':');

	return colon != NULL && find_source((struct sv){ spec, (size_t)(colon - spec) }) != NULL;
}

int table_open(const struct conf *c, const char *spec, struct table **t_r, struct conf_diag *d)
{
	const char *colon = strchr(spec, ':');
	const struct source *source =
		colon != NULL ? find_source((struct sv){ spec, (size_t)(colon - spec) }) : NULL;
	struct table *t;
	int err = 0;

	*t_r = NULL;
	if (source == NULL) {
		conf_diag_add(d, true, NULL, 0, "%.200s: unsupported dictionary type", spec);
		return E_CONFIG;
	}
	t = xcalloc(1, sizeof(*t));
	t->source = source;
	t->spec = xstrdup(spec);
	t->name = t->spec + (colon - spec) + 1;
	t->conf = c;
	err = options_open(c, spec, has_parameters(source) ? t->name : "-", &t->options, d);
	if (err == 0)
		err = common_options(t, d);
	if (err == 0)
		err = source->open(t);
	if (err == 0 && options_are_bad(t->options))
		err = E_CONFIG;
	if (err < 0)
		table_close(&t);
	*t_r = t;
	return err;
}

void table_close(struct table **tp)
{
	struct table *t;

	TAKE(t, *tp);
	if (t == NULL)
		return;
	if (t->source_state != NULL)
		t->source->close(t);
	matchlist_close(&t->domains);
	options_free(&t->options);
	free(t->result.format);
	free(t->spec);
	free(t);
}

int table_admits(const struct table *t, struct sv key)
{
	const char *at = key.len > 0 ? memrchr(key.p, '@', key.len) : NULL;

	if (key.len == 0 || memchr(key.p, '\0', key.len) != NULL)
		return 0;
	if (t->domains == NULL)
		return 1;
	/* neither bare names nor whole domains */
	if (at == NULL || at == key.p)
		return 0;
	return matchlist_has_string(t->domains,
				    (struct sv){ at + 1, key.len - (size_t)(at - key.p) - 1 });
}

void table_fail(struct table_answer *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->why, sizeof(a->why), fmt, ap);
	va_end(ap);
	str_make_printable(a->why, strlen(a->why));
	a->status = MAP_ERROR;
	buf_reset(&a->value);
}

void table_again(struct table_answer *a)
{
	*a = (struct table_answer){ .status = MAP_NOT_FOUND, .value = a->value };
	buf_reset(&a->value);
}

bool table_add_result(const struct table *t, struct table_answer *a, struct sv key,
		      struct sv result)
{
	size_t before = a->value.len;

	if (a->status == MAP_ERROR)
		return false;
	if (result.len > 0 && memchr(result.p, '\0', result.len) != NULL) {
		table_fail(a, "a result with a NUL byte");
		return false;
	}
	if (before > 0)
		buf_add_c(&a->value, ',');
	if (!template_expand(t->result.format, key, &result, NULL, NULL, &a->value)) {
		a->value.len = before;
		return true;
	}
	a->status = MAP_FOUND;
	if (++a->results > t->result.limit && t->result.limit > 0) {
		table_fail(a, "expansion_limit exceeded for key \"%.100s\"", key.p);
		a->about_key = true;
		return false;
	}
	if (a->value.len > PROTO_TABLE_VALUE_MAX) {
		table_fail(a, "more than %u bytes of results for key \"%.100s\"",
			   PROTO_TABLE_VALUE_MAX, key.p);
		a->about_key = true;
		return false;
	}
	return true;
}
