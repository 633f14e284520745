/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mysql_table(5), over libmariadb. Listed in workers/lookup/table.c. */
#include <mysql.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/util.h"
#include "workers/lookup/sql.h"

#define CONNECT_S   5
#define AUTH_PLUGIN 2  /* <mysql/client_plugin.h> cannot be included everywhere */
#define TIMEOUT_S   20 /* of one query */

struct mysql_conf {
	struct sql_servers servers;
	char *charset, *option_file, *option_group;
	char *tls_cert, *tls_key, *tls_ca_file, *tls_ca_path, *tls_ciphers;
	bool tls_verify, needs_set;
};

struct connection {
	struct sql_session session;
	const struct mysql_conf *conf;
	MYSQL *db;
};

static struct connection *of(struct sql_session *s)
{
	return container_of(s, struct connection, session);
}

/* Ways to log in that are libraries of their own: they cannot be loaded later. */
static void load_plugins(void)
{
	static const char *const names[] = { "caching_sha2_password", "client_ed25519",
					     "sha256_password", "mysql_clear_password" };
	static bool loaded;
	MYSQL *db = loaded ? NULL : mysql_init(NULL);

	loaded = true;
	for (size_t i = 0; db != NULL && i < ARRAY_LEN(names); i++)
		mysql_load_plugin(db, names[i], AUTH_PLUGIN, 0);
	if (db != NULL)
		mysql_close(db);
}

static char *text_of(struct options *o, const char *name)
{
	const char *text = options_get(o, name, "");

	return *text != '\0' ? xstrdup(text) : NULL;
}

static int my_open(struct table *t)
{
	struct mysql_conf *m = xcalloc(1, sizeof(*m));
	struct options *o = t->options;

	t->source_state = m;
	sql_servers_open(o, "localhost", false, &m->servers);
	m->charset = text_of(o, "charset");
	m->option_file = text_of(o, "option_file");
	m->option_group = text_of(o, "option_group");
	m->tls_cert = text_of(o, "tls_cert_file");
	m->tls_key = text_of(o, "tls_key_file");
	m->tls_ca_file = text_of(o, "tls_CAfile");
	m->tls_ca_path = text_of(o, "tls_CApath");
	m->tls_ciphers = text_of(o, "tls_ciphers");
	m->tls_verify = options_bool(o, "tls_verify_cert", false);
	m->needs_set = options_bool(o, "require_result_set", true);
	load_plugins();
	return options_are_bad(o) ? E_CONFIG : 0;
}

static void my_close(struct table *t)
{
	struct mysql_conf *m = t->source_state;

	sql_servers_fini(&m->servers);
	free(m->charset);
	free(m->option_file);
	free(m->option_group);
	free(m->tls_cert);
	free(m->tls_key);
	free(m->tls_ca_file);
	free(m->tls_ca_path);
	free(m->tls_ciphers);
	free(m);
}

static void set_options(const struct mysql_conf *m, MYSQL *db)
{
	unsigned connect_s = CONNECT_S, timeout_s = TIMEOUT_S;
	my_bool verify = m->tls_verify;

	mysql_options(db, MYSQL_OPT_CONNECT_TIMEOUT, &connect_s);
	mysql_options(db, MYSQL_OPT_READ_TIMEOUT, &timeout_s);
	mysql_options(db, MYSQL_OPT_WRITE_TIMEOUT, &timeout_s);
	mysql_options(db, MYSQL_SET_CHARSET_NAME, m->charset != NULL ? m->charset : "utf8mb4");
	if (m->option_file != NULL)
		mysql_options(db, MYSQL_READ_DEFAULT_FILE, m->option_file);
	if (m->option_file != NULL || m->option_group != NULL)
		mysql_options(db, MYSQL_READ_DEFAULT_GROUP,
			      m->option_group != NULL ? m->option_group : "client");
	if (m->tls_key != NULL || m->tls_cert != NULL || m->tls_ca_file != NULL ||
	    m->tls_ca_path != NULL || m->tls_ciphers != NULL)
		mysql_ssl_set(db, m->tls_key, m->tls_cert, m->tls_ca_file, m->tls_ca_path,
			      m->tls_ciphers);
	if (m->tls_verify)
		mysql_options(db, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
}

static const char *or_null(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

static bool connect_host(struct sql_session *session, struct sql_host *h, struct table_answer *a)
{
	const struct sql_servers *s = session->servers;
	struct connection *c = of(session);
	const char *host = h->is_socket ? "localhost" : h->name;

	c->db = mysql_init(NULL);
	if (c->db == NULL) {
		table_fail(a, "no memory");
		return false;
	}
	set_options(c->conf, c->db);
	if (mysql_real_connect(c->db, host, or_null(s->user), or_null(s->password),
			       or_null(s->dbname), h->port, h->is_socket ? h->name : NULL,
			       CLIENT_MULTI_RESULTS) != NULL)
		return true;
	table_fail(a, "%.80s: %s", h->text, mysql_error(c->db));
	return false;
}

static bool quote(void *ctx, struct sv text, struct buf *out)
{
	struct connection *c = of(ctx);
	char *p = buf_reserve(out, 2 * text.len + 1);
	unsigned long n;

	if (p == NULL)
		return false;
	n = mysql_real_escape_string(c->db, p, text.p, text.len);
	if (n == (unsigned long)-1)
		return false;
	out->len += n;
	return true;
}

static void take_rows(const struct table *t, MYSQL_RES *res, struct sv key, struct table_answer *a)
{
	unsigned columns = mysql_num_fields(res);
	MYSQL_ROW row;

	while ((row = mysql_fetch_row(res)) != NULL) {
		const unsigned long *lengths = mysql_fetch_lengths(res);

		for (unsigned i = 0; i < columns; i++) {
			if (row[i] != NULL &&
			    !table_add_result(t, a, key, (struct sv){ row[i], lengths[i] }))
				return;
		}
	}
}

/* A procedure may have several results; only one may be a set. Returns how many were, negative on
 * an error of the connection. */
static int take_results(const struct table *t, struct connection *c, struct sv key,
			struct table_answer *a)
{
	int sets = 0, next;

	do {
		MYSQL_RES *res = mysql_store_result(c->db);

		if (res == NULL && mysql_field_count(c->db) != 0)
			return -1;
		if (res != NULL && ++sets == 1)
			take_rows(t, res, key, a);
		if (res != NULL)
			mysql_free_result(res);
		next = mysql_next_result(c->db);
	} while (next == 0);
	return next > 0 ? -1 : sets;
}

/* Errors of the client library are about the connection, the server's own about the query. */
static bool connection_is_lost(const struct connection *c)
{
	unsigned err = mysql_errno(c->db);

	return err >= 2000 && err < 3000;
}

static bool run_query(const struct table *t, struct sql_session *session, const char *text,
		      size_t len, struct sv key, struct table_answer *a)
{
	struct connection *c = of(session);
	int sets = mysql_real_query(c->db, text, len) != 0 ? -1 : take_results(t, c, key, a);

	if (sets < 0) {
		table_fail(a, "%.80s: %s", session->host->text, mysql_error(c->db));
		return !connection_is_lost(c);
	}
	if (sets > 1 || (sets == 0 && c->conf->needs_set))
		table_fail(a, "%.80s: query has %d result sets", session->host->text, sets);
	return true;
}

static void drop(struct sql_session *session)
{
	struct connection *c = of(session);

	if (c->db != NULL)
		mysql_close(c->db);
	c->db = NULL;
}

static const struct sql_driver driver = {
	.connect = connect_host,
	.query = run_query,
	.quote = quote,
	.drop = drop,
};

/* ---- the source ---- */

static void *my_connect(const struct table *t)
{
	struct mysql_conf *m = t->source_state;
	struct connection *c = xcalloc(1, sizeof(*c));

	c->conf = m;
	c->session.servers = &m->servers;
	mysql_thread_init();
	return c;
}

static void my_disconnect(void *connection)
{
	struct connection *c = connection;

	sql_drop(&driver, &c->session);
	free(c);
	mysql_thread_end();
}

static void my_ask(const struct table *t, void *connection, struct sv key, struct table_answer *a)
{
	struct connection *c = connection;

	sql_ask(&driver, t, &c->session, key, a);
}

static void my_directories(const struct table *t, void (*fn)(void *ctx, const char *path),
			   void *ctx)
{
	const struct mysql_conf *m = t->source_state;
	const char *const paths[] = { m->option_file, m->tls_cert, m->tls_key, m->tls_ca_file,
				      m->tls_ca_path };

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		if (paths[i] != NULL && paths[i][0] == '/')
			fn(ctx, paths[i]);
	}
}

const struct source source_mysql = {
	.type = "mysql",
	.open = my_open,
	.close = my_close,
	.connect = my_connect,
	.disconnect = my_disconnect,
	.ask = my_ask,
	.directories = my_directories,
};
