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

/* The attributes that each type of database takes in main.cf, behind "NAME_". */
static const struct {
	const char *type; /* with the colon */
	const char *attributes;
} databases[] = {
	{ "ldap:", " bind bind_dn bind_pw cache cache_expiry cache_size chase_referrals debuglevel "
		   "dereference domain expansion_limit leaf_result_attribute lookup_wildcards "
		   "query_filter recursion_limit result_attribute result_filter result_format "
		   "sasl_authz_id sasl_mechs sasl_minssf sasl_realm scope search_base server_host "
		   "server_port size_limit special_result_attribute start_tls "
		   "terminal_result_attribute timeout tls_ca_cert_dir tls_ca_cert_file tls_cert "
		   "tls_cipher_suite tls_key tls_random_file tls_require_cert version " },
	{ "mysql:", " additional_conditions charset dbname domain expansion_limit hosts "
		    "idle_interval option_file option_group password query require_result_set "
		    "result_format retry_interval select_field table tls_CAfile tls_CApath "
		    "tls_cert_file tls_ciphers tls_key_file tls_verify_cert user where_field " },
	{ "pgsql:", " additional_conditions dbname domain encoding expansion_limit hosts "
		    "idle_interval password query result_format retry_interval select_field "
		    "select_function table user where_field " },
	{ "sqlite:", " additional_conditions dbpath domain expansion_limit query result_format "
		     "select_field table where_field " },
	{ "memcache:", " backup data_size_limit domain flags key_format line_size_limit max_try "
		       "memcache retry_pause timeout ttl " },
	{ "mongodb:", " collection dbname domain expansion_limit projection query_filter "
		      "result_attribute result_format uri " },
};

/* "mysql:vmap" in a value makes vmap_user and its like known: their names go into the references.
 */
static void find_databases(struct names *n, const char *value)
{
	struct buf name = BUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(databases); i++) {
		const char *p = value;

		while ((p = strstr(p, databases[i].type)) != NULL) {
			size_t len;

			p += strlen(databases[i].type);
			len = strcspn(p, ", \t\n/{}");
			if (len == 0 || p[len] == '/')
				continue;
			for (const char *a = databases[i].attributes;
			     *(a += strspn(a, " ")) != 0;) {
				size_t alen = strcspn(a, " ");

				buf_reset(&name);
				buf_add(&name, p, len);
				buf_add_c(&name, '_');
				buf_add(&name, a, alen);
				strmap_put(n->refs, buf_sv(&name), present);
				a += alen;
			}
		}
	}
	buf_fini(&name);
}

/* ---- "#comment" behind a value, where main.cf has none ---- */

/* The end of a word at p: groups of braces belong to it. */
static const char *word_end(const char *p)
{
	unsigned depth = 0;

	for (; *p != 0; p++) {
		if (*p == '{')
			depth++;
		else if (*p == '}' && depth > 0)
			depth--;
		else if (depth == 0 && strchr(", \t\r\n", *p) != NULL)
			break;
	}
	return p;
}

static void find_comments(struct names *n, struct sv text, unsigned line, unsigned depth);

/* The insides of the braces of a word, but for patterns: those may have a #. */
static void find_in_groups(struct names *n, struct sv word, unsigned line, unsigned depth)
{
	const char *open = memchr(word.p, '{', word.len);
	bool patterns = open != NULL && ((word.len > 5 && memcmp(word.p, "pcre:", 5) == 0) ||
					 (word.len > 7 && memcmp(word.p, "regexp:", 7) == 0));

	if (open == NULL || patterns || depth >= CONF_BRACE_DEPTH_LIMIT)
		return;
	const char *close = memrchr(open, '}', (size_t)(word.p + word.len - open));

	if (close != NULL)
		find_comments(n, (struct sv){ open + 1, (size_t)(close - open - 1) }, line,
			      depth + 1);
}

static void find_comments(struct names *n, struct sv text, unsigned line, unsigned depth)
{
	char *copy = xstrndup(text.p, text.len);
	const char *p = copy;

	while (*(p += strspn(p, ", \t\r\n")) != 0) {
		const char *end = word_end(p);
		struct sv word = { p, (size_t)(end - p) };

		if (*p == '#') {
			const char *rest = *end != 0 ? end + 1 : end;

			conf_diag_add(n->d, false, n->file, n->c->no_lines ? 0 : line,
				      "#comment after other text is not allowed: %.*s %.20s...",
				      (int)word.len, word.p, rest);
			break;
		}
		find_in_groups(n, word, line, depth);
		p = end;
	}
	free(copy);
}

static void scan_value(struct names *n, const char *name, const char *value, unsigned line)
{
	int idx = param_find(sv_from(name));

	find_databases(n, value);
	if (strchr(value, '#') != NULL)
		find_comments(n, sv_from(value), line, 0);
	/* A value that is not expanded speaks of other names than ours. */
	if (idx < 0 || !param_desc((unsigned)idx)->raw)
		expand_scan(sv_from(value), on_ref, n);
}

static bool is_known(struct names *n, const char *name)
{
	struct sv s = sv_from(name);

	return param_find(s) >= 0 || inert_find(s) != NULL ||
	       transport_param_default(n->c, s) != NULL || strmap_get(n->refs, s) != NULL;
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
		scan_value(n, c->entries[i].name, c->entries[i].value, c->entries[i].line);
	for (unsigned i = 0; i < c->cmdline_count; i++)
		scan_value(n, c->cmdline[i].name, c->cmdline[i].value, 0);
	n->file = c->master_path;
	for (unsigned i = 0; i < c->service_count; i++) {
		n->service = &c->services[i];
		for (unsigned k = 0; k < n->service->pub.override_count; k++)
			scan_value(n, n->service->pub.overrides[k].name,
				   n->service->pub.overrides[k].value, n->service->pub.line);
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
	struct setting *list = xcalloc(c->entry_count + c->cmdline_count + 1, sizeof(*list));
	size_t count = 0;

	for (unsigned i = 0; i < c->entry_count; i++) {
		struct main_entry *e = &c->entries[i];

		e->used = is_known(n, e->name);
		/* Of duplicates only the last one counts. */
		if (strmap_get(c->entry_by_name, sv_from(e->name)) == e)
			list[count++] = (struct setting){ e->name, e->value, e->line };
	}
	for (unsigned i = 0; i < c->cmdline_count; i++) {
		if (strmap_get(c->entry_by_name, sv_from(c->cmdline[i].name)) == NULL)
			list[count++] =
				(struct setting){ c->cmdline[i].name, c->cmdline[i].value, 0 };
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

bool names_is_used(const struct conf *c, const char *name)
{
	struct sv s = sv_from(name);

	return param_find(s) >= 0 || inert_find(s) != NULL ||
	       transport_param_default(c, s) != NULL || strmap_get(c->used_names, s) != NULL;
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
	c->used_names = n.refs;
	strmap_free(&n.undefined);
}
