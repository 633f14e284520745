/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What mysql, pgsql and sqlite tables have in common: the query; and, of those with servers, the
 * servers, of which any will do. */
#ifndef PH_WORKERS_LOOKUP_SQL_H
#define PH_WORKERS_LOOKUP_SQL_H

#include <stdatomic.h>
#include <stdint.h>

#include "workers/lookup/table.h"

/* The query template, heap: `query`, or built from the older select_field, table, where_field and
 * additional_conditions (with `functions`: select_function, too). NULL after a complaint. */
char *sql_query_template(struct options *o, bool functions);

#define SQL_HOSTS_MAX 32

struct sql_host {
	const char *text; /* for the log: as written, but for URIs, which hold passwords */
	char *name;       /* host, path of a socket, or URI */
	bool is_socket, is_uri;
	unsigned port;                /* 0: the usual one */
	_Atomic int64_t not_until_us; /* monotonic; it has failed, and is left alone until then */
};

struct sql_servers {
	struct sql_host hosts[SQL_HOSTS_MAX];
	size_t count;
	char *user, *password, *dbname, *query;
	int64_t idle_us, retry_us; /* idle_interval, retry_interval */
};

/* hosts, user, password, dbname, query ... A first word of "usual" when hosts is not given. */
void sql_servers_open(struct options *o, const char *usual, bool functions, struct sql_servers *s);
void sql_servers_fini(struct sql_servers *s);
/* A connection of one of them, first member of the source's own, and what it takes to ask over it.
 */
struct sql_session {
	struct sql_servers *servers;
	struct sql_host *host; /* while connected; NULL: not */
	int64_t used_us;
};

struct sql_driver {
	/* Both say what is wrong in the answer. False of query: the connection is of no use. */
	bool (*connect)(struct sql_session *c, struct sql_host *h, struct table_answer *a);
	bool (*query)(const struct table *t, struct sql_session *c, const char *text, size_t len,
		      struct sv key, struct table_answer *a);
	bool (*quote)(void *session, struct sv text, struct buf *out);
	void (*drop)(struct sql_session *c); /* also when not connected, or by half */
};

/* One question: over the connection there is, else over that of any server that answers. */
void sql_ask(const struct sql_driver *d, const struct table *t, struct sql_session *c,
	     struct sv key, struct table_answer *a);
void sql_drop(const struct sql_driver *d, struct sql_session *c);

#endif
