/* SPDX-License-Identifier: GPL-3.0-or-later */
/* pgsql_table(5). Listed in workers/lookup/table.c. */
#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/util.h"
#include "workers/lookup/sql.h"

#define CONNECT_S  5
#define TIMEOUT_US 20000000 /* of one query */

struct pgsql {
	struct sql_servers servers;
	char *encoding;
};

struct connection {
	struct sql_session session;
	const struct pgsql *conf;
	PGconn *db;
};

static struct connection *of(struct sql_session *s)
{
	return container_of(s, struct connection, session);
}

static int pgsql_open(struct table *t)
{
	struct pgsql *p = xcalloc(1, sizeof(*p));
	const char *encoding = options_get(t->options, "encoding", "");

	t->source_state = p;
	sql_servers_open(t->options, "localhost", true, &p->servers);
	p->encoding = xstrdup(*encoding != '\0' ? encoding : "UTF8");
	return options_are_bad(t->options) ? E_CONFIG : 0;
}

static void pgsql_close(struct table *t)
{
	struct pgsql *p = t->source_state;

	sql_servers_fini(&p->servers);
	free(p->encoding);
	free(p);
}

static void say_nothing(void *ctx UNUSED, const PGresult *res UNUSED)
{
}

static bool connect_host(struct sql_session *session, struct sql_host *h, struct table_answer *a)
{
	const struct sql_servers *s = session->servers;
	struct connection *c = of(session);
	char port[8], seconds[8];
	const char *keys[] = {
		"dbname", "host", "port", "user", "password", "connect_timeout", NULL
	};
	const char *values[] = { h->is_uri ? h->name : s->dbname,
				 h->is_uri ? NULL : h->name,
				 h->port != 0 ? port : NULL,
				 s->user[0] != '\0' ? s->user : NULL,
				 s->password[0] != '\0' ? s->password : NULL,
				 seconds,
				 NULL };

	snprintf(port, sizeof(port), "%u", h->port);
	snprintf(seconds, sizeof(seconds), "%d", CONNECT_S);
	c->db = PQconnectdbParams(keys, values, 1);
	if (c->db != NULL && PQstatus(c->db) == CONNECTION_OK &&
	    PQsetClientEncoding(c->db, c->conf->encoding) == 0) {
		PQsetNoticeReceiver(c->db, say_nothing, NULL);
		PQsetnonblocking(c->db, 1);
		return true;
	}
	table_fail(a, "%.80s: %s", h->text, c->db != NULL ? PQerrorMessage(c->db) : "no memory");
	return false;
}

static bool quote(void *ctx, struct sv text, struct buf *out)
{
	struct connection *c = of(ctx);
	char *p = buf_reserve(out, 2 * text.len + 1);
	int error = 0;

	if (p == NULL)
		return false;
	out->len += PQescapeStringConn(c->db, p, text.p, text.len, &error);
	return error == 0;
}

/* All that the server has to say about the query; the first result is the one that counts. */
static PGresult *wait_result(struct connection *c, struct table_answer *a)
{
	int64_t until_us = clock_mono_us_raw() + TIMEOUT_US;
	PGresult *first = NULL, *more;

	for (;;) {
		int flush = PQflush(c->db);

		if (flush == 0 && PQisBusy(c->db) == 0) {
			more = PQgetResult(c->db);
			if (more == NULL)
				return first;
			if (first == NULL)
				first = more;
			else
				PQclear(more);
			continue;
		}
		int64_t left_us = until_us - clock_mono_us_raw();
		struct pollfd p = { .fd = PQsocket(c->db),
				    .events = (short)(POLLIN | (flush > 0 ? POLLOUT : 0)) };

		if (left_us <= 0 || flush < 0 ||
		    (poll(&p, 1, (int)(left_us / 1000) + 1) > 0 && PQconsumeInput(c->db) == 0)) {
			table_fail(a, "%.80s: %s", c->session.host->text,
				   left_us <= 0 ? "query takes too long" : PQerrorMessage(c->db));
			PQclear(first);
			return NULL;
		}
	}
}

static void take_rows(const struct table *t, const PGresult *res, struct sv key,
		      struct table_answer *a)
{
	for (int row = 0; row < PQntuples(res); row++) {
		for (int col = 0; col < PQnfields(res); col++) {
			struct sv text = { PQgetvalue(res, row, col),
					   (size_t)PQgetlength(res, row, col) };

			if (!PQgetisnull(res, row, col) && !table_add_result(t, a, key, text))
				return;
		}
	}
}

static bool run_query(const struct table *t, struct sql_session *session, const char *text,
		      size_t len UNUSED, struct sv key, struct table_answer *a)
{
	struct connection *c = of(session);
	PGresult *res = NULL;

	if (PQsendQuery(c->db, text) == 1)
		res = wait_result(c, a);
	else
		table_fail(a, "%.80s: %s", session->host->text, PQerrorMessage(c->db));
	if (res != NULL && PQresultStatus(res) == PGRES_TUPLES_OK)
		take_rows(t, res, key, a);
	else if (res != NULL)
		table_fail(a, "%.80s: query failed: %s", session->host->text,
			   PQresultErrorMessage(res));
	bool asked = res != NULL && PQstatus(c->db) == CONNECTION_OK;

	PQclear(res);
	return asked;
}

static void drop(struct sql_session *session)
{
	struct connection *c = of(session);

	if (c->db != NULL)
		PQfinish(c->db);
	c->db = NULL;
}

static const struct sql_driver driver = {
	.connect = connect_host,
	.query = run_query,
	.quote = quote,
	.drop = drop,
};

/* ---- the source ---- */

static void *pgsql_connect(const struct table *t)
{
	struct pgsql *p = t->source_state;
	struct connection *c = xcalloc(1, sizeof(*c));

	c->conf = p;
	c->session.servers = &p->servers;
	return c;
}

static void pgsql_disconnect(void *connection)
{
	struct connection *c = connection;

	sql_drop(&driver, &c->session);
	free(c);
}

static void pgsql_ask(const struct table *t, void *connection, struct sv key,
		      struct table_answer *a)
{
	struct connection *c = connection;

	sql_ask(&driver, t, &c->session, key, a);
}

const struct source source_pgsql = {
	.type = "pgsql",
	.open = pgsql_open,
	.close = pgsql_close,
	.connect = pgsql_connect,
	.disconnect = pgsql_disconnect,
	.ask = pgsql_ask,
};
