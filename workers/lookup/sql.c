/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Common to the SQL sources; see workers/lookup/sql.h. */
#include "workers/lookup/sql.h"

#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/rand.h"
#include "lib/util.h"

static char *build(struct options *o)
{
	const char *field = options_get(o, "select_field", ""),
		   *table = options_get(o, "table", "");
	const char *where = options_get(o, "where_field", "");

	if (*field == '\0' || *table == '\0' || *where == '\0') {
		options_complain(o, "no query is given");
		return NULL;
	}
	return xasprintf("SELECT %s FROM %s WHERE %s = '%%s' %s", field, table, where,
			 options_get(o, "additional_conditions", ""));
}

char *sql_query_template(struct options *o, bool functions)
{
	const char *query = options_get(o, "query", "");
	const char *function = functions ? options_get(o, "select_function", "") : "";
	char *text = *query != '\0'      ? xstrdup(query)
		     : *function != '\0' ? xasprintf("SELECT %s('%%s')", function)
					 : build(o);
	const char *why = text != NULL ? template_check(text) : NULL;

	if (why != NULL) {
		options_complain(o, "query: %s: %.150s", why, text);
		free(text);
		text = NULL;
	}
	return text;
}

/* ---- servers ---- */

/* "unix:/path", "/path", "inet:host:port", "host:port", "host", "postgresql://...". */
static bool parse_host(struct sv word, struct sql_host *h)
{
	char *text = xstrndup(word.p, word.len), *at = text, *colon;
	uint64_t port = 0;
	bool good = true;

	*h = (struct sql_host){ .text = text };
	if (strstr(at, "://") != NULL) {
		h->is_uri = true;
		h->name = text;
		h->text = "server of a URI";
		return true;
	}
	if (strncmp(at, "unix:", 5) == 0 || at[0] == '/') {
		h->is_socket = true;
		h->name = xstrdup(at[0] == '/' ? at : at + 5);
		return h->name[0] == '/';
	}
	if (strncmp(at, "inet:", 5) == 0)
		at += 5;
	colon = strrchr(at, ':');
	if (at[0] == '[' && strchr(at, ']') != NULL) {
		char *end = strchr(at, ']');

		colon = end[1] == ':' ? end + 1 : NULL;
		h->name = xstrndup(at + 1, (size_t)(end - at - 1));
	} else {
		h->name = xstrndup(at, colon != NULL ? (size_t)(colon - at) : strlen(at));
	}
	if (colon != NULL)
		good = str_to_u64(sv_from(colon + 1), 65535, &port) == 0 && port > 0;
	h->port = (unsigned)port;
	return good && h->name[0] != '\0';
}

static void parse_hosts(struct options *o, const char *list, struct sql_servers *s)
{
	while (*list != '\0') {
		size_t skip = strspn(list, ", \t\r\n");
		size_t len = strcspn(list + skip, ", \t\r\n");

		list += skip;
		if (len > 0 && s->count == SQL_HOSTS_MAX) {
			options_complain(o, "hosts: more than %d", SQL_HOSTS_MAX);
			return;
		}
		if (len > 0 && !parse_host((struct sv){ list, len }, &s->hosts[s->count++]))
			options_complain(o, "hosts: cannot use %.*s", (int)len, list);
		list += len;
	}
}

void sql_servers_open(struct options *o, const char *usual, bool functions, struct sql_servers *s)
{
	const char *hosts = options_get(o, "hosts", "");

	parse_hosts(o, *hosts != '\0' ? hosts : usual, s);
	s->user = xstrdup(options_get(o, "user", ""));
	s->password = xstrdup(options_get(o, "password", ""));
	s->dbname = xstrdup(options_get(o, "dbname", ""));
	s->query = sql_query_template(o, functions);
	s->idle_us = options_int(o, "idle_interval", 60, 1, 86400) * 1000000;
	s->retry_us = options_int(o, "retry_interval", 60, 0, 86400) * 1000000;
}

void sql_servers_fini(struct sql_servers *s)
{
	for (size_t i = 0; i < s->count; i++) {
		if (!s->hosts[i].is_uri)
			free((char *)(uintptr_t)s->hosts[i].text);
		free(s->hosts[i].name);
	}
	if (s->password != NULL)
		explicit_bzero(s->password, strlen(s->password));
	free(s->user);
	free(s->password);
	free(s->dbname);
	free(s->query);
}

/* The host to try next for a question, NULL when there is none: sockets first, hosts at random.
 * `tried`: a bit per host, 0 at first. */
static struct sql_host *next_host(struct sql_servers *s, uint32_t *tried)
{
	int64_t now_us = clock_mono_us_raw();

	for (int sockets = 1; sockets >= 0; sockets--) {
		size_t from = s->count > 0 ? rand_u64() % s->count : 0; /* threads */

		for (size_t i = 0; i < s->count; i++) {
			size_t at = (from + i) % s->count;
			struct sql_host *h = &s->hosts[at];

			if (h->is_socket != (sockets == 1) || (*tried >> at & 1) != 0)
				continue;
			*tried |= 1u << at;
			if (atomic_load(&h->not_until_us) <= now_us)
				return h;
		}
	}
	return NULL;
}

/* ---- a question ---- */

void sql_drop(const struct sql_driver *d, struct sql_session *c)
{
	d->drop(c);
	c->host = NULL;
}

/* False: the connection is of no use, another may be tried. */
static bool run_query(const struct sql_driver *d, const struct table *t, struct sql_session *c,
		      struct sv key, struct table_answer *a)
{
	struct buf query = BUF_INIT;
	bool usable = true; /* with nothing to ask, too */

	if (template_expand(c->servers->query, key, NULL, d->quote, c, &query)) {
		usable = d->query(t, c, buf_cstr(&query), query.len, key, a);
		c->used_us = clock_mono_us_raw();
	}
	buf_fini(&query);
	return usable;
}

void sql_ask(const struct sql_driver *d, const struct table *t, struct sql_session *c,
	     struct sv key, struct table_answer *a)
{
	struct sql_servers *s = c->servers;
	struct sql_host *h;
	uint32_t tried = 0;

	if (c->host != NULL && clock_mono_us_raw() - c->used_us > s->idle_us)
		sql_drop(d, c);
	if (c->host != NULL) {
		if (run_query(d, t, c, key, a))
			return;
		sql_drop(d, c); /* perhaps it was closed meanwhile: once more, anew */
	}
	while ((h = next_host(s, &tried)) != NULL) {
		table_again(a);
		if (d->connect(c, h, a)) {
			c->host = h;
			if (run_query(d, t, c, key, a))
				return;
		}
		sql_drop(d, c);
		/* it does not answer: it is left alone for a while */
		atomic_store(&h->not_until_us, clock_mono_us_raw() + s->retry_us);
	}
	if (a->status != MAP_ERROR)
		table_fail(a, "no server answers");
}
