/* SPDX-License-Identifier: GPL-3.0-or-later */
/* socketmap_table(5): "inet:host:port:map" or "unix:path:map"; requests and answers are netstrings.
 * Listed in workers/lookup/table.c. */
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/util.h"
#include "workers/lookup/stream.h"
#include "workers/lookup/table.h"

#define TIMEOUT_MS 100000

struct socketmap {
	char *where, *map;
	size_t query_max, reply_max;
};

static int socketmap_open(struct table *t)
{
	const struct params *p = conf_params(t->conf);
	struct socketmap *m = xcalloc(1, sizeof(*m));
	const char *last = strrchr(t->name, ':');
	bool known = strncmp(t->name, "inet:", 5) == 0 || strncmp(t->name, "unix:", 5) == 0;

	t->source_state = m;
	if (!known || last == NULL || last <= t->name + 5 || last[1] == '\0') {
		options_complain(t->options, "expected socketmap:inet:host:port:name or "
					     "socketmap:unix:path:name");
		return E_CONFIG;
	}
	m->where = xstrndup(t->name, (size_t)(last - t->name));
	m->map = xstrdup(last + 1);
	m->query_max = (size_t)p->socketmap_max_query_size;
	m->reply_max = (size_t)p->socketmap_max_reply_size;
	return 0;
}

static void socketmap_close(struct table *t)
{
	struct socketmap *m = t->source_state;

	free(m->where);
	free(m->map);
	free(m);
}

static void *socketmap_connect(const struct table *t UNUSED)
{
	struct stream *s = xcalloc(1, sizeof(*s));

	stream_init(s);
	return s;
}

static void socketmap_disconnect(void *connection)
{
	stream_close(connection);
	free(connection);
}

static int exchange(const struct socketmap *m, struct stream *s, struct sv key, struct sv *reply_r)
{
	struct buf request = BUF_INIT;
	int err = stream_connect(s, m->where, NULL);

	if (err == 0) {
		buf_printf(&request, "%zu:%s ", strlen(m->map) + 1 + key.len, m->map);
		buf_add_sv(&request, key);
		buf_add_c(&request, ',');
		err = stream_write(s, buf_sv(&request));
	}
	if (err == 0)
		err = stream_read_netstring(s, m->reply_max, reply_r);
	buf_fini(&request);
	return err;
}

/* "STATUS text" */
static void take_reply(const struct table *t, struct sv key, struct sv reply,
		       struct table_answer *a)
{
	const char *space = memchr(reply.p, ' ', reply.len);
	struct sv status = { reply.p, space != NULL ? (size_t)(space - reply.p) : reply.len };
	struct sv text = { reply.p + status.len, reply.len - status.len };

	if (text.len > 0) {
		text.p++;
		text.len--;
	}
	if (sv_eq(status, SV("OK")) && text.len > 0)
		table_add_result(t, a, key, text);
	else if (sv_eq(status, SV("NOTFOUND")) || sv_eq(status, SV("OK")))
		a->status = MAP_NOT_FOUND;
	else
		table_fail(a, "server says: %.*s", (int)size_min(reply.len, 200), reply.p);
}

static void socketmap_ask(const struct table *t, void *connection, struct sv key,
			  struct table_answer *a)
{
	const struct socketmap *m = t->source_state;
	struct stream *s = connection;
	struct sv reply;
	int err;

	if (strlen(m->map) + 1 + key.len > m->query_max) {
		table_fail(a, "query is longer than socketmap_max_query_size");
		return;
	}
	stream_begin(s, TIMEOUT_MS);
	err = exchange(m, s, key, &reply);
	if (stream_was_idle(s, err)) {
		stream_close(s);
		err = exchange(m, s, key, &reply);
	}
	if (err == 0) {
		take_reply(t, key, reply, a);
		return;
	}
	stream_close(s);
	if (err == E_LIMIT)
		table_fail(a, "%s: answer is longer than socketmap_max_reply_size", m->where);
	else
		table_fail(a, "%s: %s", m->where, err_str(err));
}

const struct source source_socketmap = {
	.type = "socketmap",
	.open = socketmap_open,
	.close = socketmap_close,
	.connect = socketmap_connect,
	.disconnect = socketmap_disconnect,
	.ask = socketmap_ask,
};
