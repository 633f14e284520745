/* SPDX-License-Identifier: GPL-3.0-or-later */
/* redis: tables (doc/tables.md): GET of a key, over Redis' own protocol. Listed in
 * workers/lookup/table.c. */
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/util.h"
#include "shm/proto.h"
#include "workers/lookup/stream.h"
#include "workers/lookup/table.h"

#define LINE_MAX_BYTES 1024u

struct redis {
	char *where, *key_format, *user, *password, *database;
	int64_t timeout_ms;
};

static int redis_open(struct table *t)
{
	struct redis *r = xcalloc(1, sizeof(*r));
	struct options *o = t->options;
	const char *where = options_get(o, "server", ""),
		   *format = options_get(o, "key_format", "");

	t->source_state = r;
	r->where = xstrdup(*where != '\0' ? where : "inet:localhost:6379");
	r->key_format = xstrdup(*format != '\0' ? format : "%s");
	r->user = xstrdup(options_get(o, "user", ""));
	r->password = xstrdup(options_get(o, "password", ""));
	r->database = xasprintf("%lld", (long long)options_int(o, "database", 0, 0, 1 << 20));
	r->timeout_ms = options_int(o, "timeout", 5, 1, 100) * 1000;
	if (template_check(r->key_format) != NULL)
		options_complain(o, "key_format: %s", template_check(r->key_format));
	return 0;
}

static void redis_close(struct table *t)
{
	struct redis *r = t->source_state;

	explicit_bzero(r->password, strlen(r->password));
	free(r->where);
	free(r->key_format);
	free(r->user);
	free(r->password);
	free(r->database);
	free(r);
}

static void *redis_connect(const struct table *t UNUSED)
{
	struct stream *s = xcalloc(1, sizeof(*s));

	stream_init(s);
	return s;
}

static void redis_disconnect(void *connection)
{
	stream_close(connection);
	free(connection);
}

/* A command is an array of strings. The first line of the answer comes back. */
static int command(struct stream *s, const struct sv *words, unsigned count, struct sv *line_r)
{
	struct buf b = BUF_INIT;

	buf_printf(&b, "*%u\r\n", count);
	for (unsigned i = 0; i < count; i++) {
		buf_printf(&b, "$%zu\r\n", words[i].len);
		buf_add_sv(&b, words[i]);
		buf_add_str(&b, "\r\n");
	}
	int err = stream_write(s, buf_sv(&b));

	buf_fini(&b);
	return err == 0 ? stream_read_line(s, LINE_MAX_BYTES, line_r) : err;
}

static int expect_ok(int err, struct sv line, struct table_answer *a)
{
	if (err != 0 || (line.len > 0 && line.p[0] == '+'))
		return err;
	table_fail(a, "server says: %.*s", (int)size_min(line.len, 200), line.p);
	return E_PEER;
}

/* Connected, logged in, in the right database. */
static int ready(const struct redis *r, struct stream *s, struct table_answer *a)
{
	bool connected = s->fd >= 0;
	struct sv line = { "", 0 }, words[3] = { SV("AUTH") };
	unsigned n = 1;
	int err = stream_connect(s, r->where, "6379");

	if (err != 0 || connected)
		return err;
	if (r->password[0] != '\0') {
		if (r->user[0] != '\0')
			words[n++] = sv_from(r->user);
		words[n++] = sv_from(r->password);
		err = command(s, words, n, &line);
		err = expect_ok(err, line, a);
	}
	if (err == 0 && strcmp(r->database, "0") != 0) {
		words[0] = SV("SELECT");
		words[1] = sv_from(r->database);
		err = command(s, words, 2, &line);
		err = expect_ok(err, line, a);
	}
	return err;
}

/* "$5", then the value; "$-1" and "_" are none. */
static int take_value(const struct table *t, struct stream *s, struct sv key, struct sv line,
		      struct table_answer *a)
{
	uint64_t len;
	struct sv data;

	if (sv_eq(line, SV("$-1")) || sv_eq(line, SV("_")))
		return 0;
	if (line.len < 2 || line.p[0] != '$' ||
	    str_to_u64((struct sv){ line.p + 1, line.len - 1 }, PROTO_TABLE_VALUE_MAX, &len) < 0) {
		table_fail(a, "server says: %.*s", (int)size_min(line.len, 200), line.p);
		return E_PEER;
	}
	int err = stream_read(s, (size_t)len + 2, &data);

	if (err == 0)
		table_add_result(t, a, key, (struct sv){ data.p, (size_t)len });
	return err;
}

static int exchange(const struct table *t, struct stream *s, struct sv name, struct sv key,
		    struct table_answer *a)
{
	const struct redis *r = t->source_state;
	const struct sv words[] = { SV("GET"), name };
	struct sv line;
	int err = ready(r, s, a);

	if (err == 0)
		err = command(s, words, 2, &line);
	return err == 0 ? take_value(t, s, key, line, a) : err;
}

static void redis_ask(const struct table *t, void *connection, struct sv key,
		      struct table_answer *a)
{
	const struct redis *r = t->source_state;
	struct stream *s = connection;
	struct buf name = BUF_INIT;
	int err = 0;

	if (template_expand(r->key_format, key, NULL, NULL, NULL, &name)) {
		stream_begin(s, r->timeout_ms);
		err = exchange(t, s, buf_sv(&name), key, a);
		if (stream_was_idle(s, err)) {
			stream_close(s);
			err = exchange(t, s, buf_sv(&name), key, a);
		}
	}
	if (err != 0) {
		stream_close(s);
		if (a->status != MAP_ERROR)
			table_fail(a, "%s: %s", r->where, err_str(err));
	}
	buf_fini(&name);
}

const struct source source_redis = {
	.type = "redis",
	.open = redis_open,
	.close = redis_close,
	.connect = redis_connect,
	.disconnect = redis_disconnect,
	.ask = redis_ask,
};
