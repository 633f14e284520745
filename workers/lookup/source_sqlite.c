/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sqlite_table(5): a database file, read only. Listed in workers/lookup/table.c. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/util.h"
#include "workers/lookup/sql.h"

#define TIMEOUT_MS 10000
#define STEPS      10000 /* of the database's machine between looks at the clock */

struct sqlite {
	char *path, *query;
};

struct connection {
	const struct sqlite *conf;
	sqlite3 *db;
	int64_t until_us;
};

static int sqlite_open(struct table *t)
{
	struct sqlite *s = xcalloc(1, sizeof(*s));
	const char *path = options_get(t->options, "dbpath", "");

	t->source_state = s;
	s->path = xstrdup(path);
	if (path[0] != '/')
		options_complain(t->options, "dbpath: expected an absolute path");
	s->query = sql_query_template(t->options, false);
	return options_are_bad(t->options) ? E_CONFIG : 0;
}

static void sqlite_close(struct table *t)
{
	struct sqlite *s = t->source_state;

	free(s->path);
	free(s->query);
	free(s);
}

static void *sqlite_connect(const struct table *t)
{
	struct connection *c = xcalloc(1, sizeof(*c));

	c->conf = t->source_state;
	return c;
}

static void sqlite_disconnect(void *connection)
{
	struct connection *c = connection;

	sqlite3_close_v2(c->db);
	free(c);
}

static int takes_too_long(void *ctx)
{
	const struct connection *c = ctx;

	return clock_mono_us_raw() > c->until_us;
}

static bool open_database(struct connection *c, struct table_answer *a)
{
	if (c->db != NULL)
		return true;
	int rc = sqlite3_open_v2(c->conf->path, &c->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX,
				 NULL);

	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(c->db, TIMEOUT_MS);
		sqlite3_progress_handler(c->db, STEPS, takes_too_long, c);
		return true;
	}
	table_fail(a, "open %.150s: %s", c->conf->path,
		   c->db != NULL ? sqlite3_errmsg(c->db) : "out of memory");
	sqlite3_close_v2(c->db);
	c->db = NULL;
	return false;
}

static bool quote(void *ctx UNUSED, struct sv text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.p[i] == '\'')
			buf_add_c(out, '\'');
		buf_add_c(out, text.p[i]);
	}
	return true;
}

/* Columns of a row; NULL and empty ones are no results. */
static bool take_row(const struct table *t, sqlite3_stmt *st, struct sv key, struct table_answer *a)
{
	for (int i = 0; i < sqlite3_column_count(st); i++) {
		const char *text = (const char *)sqlite3_column_text(st, i);
		size_t len = (size_t)sqlite3_column_bytes(st, i);

		if (text != NULL && !table_add_result(t, a, key, (struct sv){ text, len }))
			return false;
	}
	return true;
}

static void run_query(const struct table *t, struct connection *c, const char *query, struct sv key,
		      struct table_answer *a)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(c->db, query, -1, &st, NULL);

	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = st != NULL ? sqlite3_step(st) : SQLITE_DONE;
		if (rc == SQLITE_ROW && !take_row(t, st, key, a))
			break;
	}
	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		table_fail(a, "query failed: %s", sqlite3_errmsg(c->db));
	sqlite3_finalize(st);
}

static void sqlite_ask(const struct table *t, void *connection, struct sv key,
		       struct table_answer *a)
{
	struct connection *c = connection;
	struct buf query = BUF_INIT;

	if (!template_expand(c->conf->query, key, NULL, quote, NULL, &query))
		return;
	c->until_us = clock_mono_us_raw() + (int64_t)TIMEOUT_MS * 1000;
	if (open_database(c, a)) {
		run_query(t, c, buf_cstr(&query), key, a);
		if (a->status == MAP_ERROR) { /* the file may be another one by now */
			sqlite3_close_v2(c->db);
			c->db = NULL;
		}
	}
	buf_fini(&query);
}

/* Its journal lies beside it. */
static void sqlite_directories(const struct table *t, void (*fn)(void *ctx, const char *path),
			       void *ctx)
{
	const struct sqlite *s = t->source_state;
	char *dir = xstrdup(s->path);

	*strrchr(dir, '/') = '\0';
	fn(ctx, dir[0] == '\0' ? "/" : dir);
	free(dir);
}

const struct source source_sqlite = {
	.type = "sqlite",
	.open = sqlite_open,
	.close = sqlite_close,
	.connect = sqlite_connect,
	.disconnect = sqlite_disconnect,
	.ask = sqlite_ask,
	.directories = sqlite_directories,
};
