/* SPDX-License-Identifier: GPL-3.0-or-later */
/* memcache_table(5), for reading: "get KEY" in the text protocol. What is not there, or cannot be
 * asked for, is asked of the `backup`, another table, and put there. Listed in
 * workers/lookup/table.c. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/util.h"
#include "workers/lookup/stream.h"
#include "workers/lookup/table.h"

#define KEY_MAX 250u /* the protocol's */

struct memcache {
	char *where, *key_format;
	size_t line_max, data_max;
	int64_t timeout_ms, ttl_s, flags;
	unsigned tries;
	struct table *backup;  /* NULL = none, or not a remote one */
	struct map *local;     /* a backup that answers at once; NULL = none */
	pthread_mutex_t admit; /* table_admits() of the backup, and `local`: one thread at a time */
};

struct connection {
	struct stream stream;
	const struct table *backup;
	void *backup_connection;
};

/* proxy: makes no difference here, as elsewhere. */
static int open_backup(struct table *t, struct memcache *m, const char *spec)
{
	struct conf_diag d;

	while (strncmp(spec, "proxy:", 6) == 0)
		spec += 6;
	if (strncmp(spec, "memcache:", 9) == 0) { /* perhaps itself */
		options_complain(t->options, "backup: cannot be a memcache table");
		return E_CONFIG;
	}
	conf_diag_init(&d);
	int err = table_type_is_remote(spec) ? table_open(t->conf, spec, &m->backup, &d)
					     : map_open(t->conf, spec, &m->local, &d);

	if (err != 0)
		options_complain(t->options, "backup: %.200s",
				 d.text.len > 0 ? buf_cstr(&d.text) : err_str(err));
	conf_diag_fini(&d);
	return err;
}

static int memcache_open(struct table *t)
{
	struct memcache *m = xcalloc(1, sizeof(*m));
	struct options *o = t->options;
	const char *where = options_get(o, "memcache", "");
	const char *format = options_get(o, "key_format", "");

	t->source_state = m;
	m->where = xstrdup(*where != '\0' ? where : "inet:localhost:11211");
	m->key_format = xstrdup(*format != '\0' ? format : "%s");
	m->line_max = (size_t)options_int(o, "line_size_limit", 1024, 1, 1 << 20);
	m->data_max = (size_t)options_int(o, "data_size_limit", 10240, 1, 1 << 20);
	m->timeout_ms = options_int(o, "timeout", 2, 1, 100) * 1000;
	m->tries = (unsigned)options_int(o, "max_try", 2, 1, 10);
	if (template_check(m->key_format) != NULL)
		options_complain(o, "key_format: %s", template_check(m->key_format));
	m->ttl_s = options_int(o, "ttl", 3600, 0, INT32_MAX);
	m->flags = options_int(o, "flags", 0, 0, INT32_MAX);
	pthread_mutex_init(&m->admit, NULL);
	if (options_get(o, "backup", "")[0] != '\0')
		return open_backup(t, m, options_get(o, "backup", ""));
	return 0;
}

static void memcache_close(struct table *t)
{
	struct memcache *m = t->source_state;

	table_close(&m->backup);
	map_close(&m->local);
	pthread_mutex_destroy(&m->admit);
	free(m->where);
	free(m->key_format);
	free(m);
}

static void *memcache_connect(const struct table *t)
{
	const struct memcache *m = t->source_state;
	struct connection *c = xcalloc(1, sizeof(*c));

	stream_init(&c->stream);
	c->backup = m->backup;
	if (c->backup != NULL)
		c->backup_connection = c->backup->source->connect(c->backup);
	return c;
}

static void memcache_disconnect(void *connection)
{
	struct connection *c = connection;

	stream_close(&c->stream);
	if (c->backup != NULL)
		c->backup->source->disconnect(c->backup_connection);
	free(c);
}

static void memcache_directories(const struct table *t, void (*fn)(void *ctx, const char *path),
				 void *ctx)
{
	const struct memcache *m = t->source_state;

	if (m->backup != NULL && m->backup->source->directories != NULL)
		m->backup->source->directories(m->backup, fn, ctx);
}

/* "VALUE key flags bytes": the number of bytes; negative when it is something else. */
static int64_t value_bytes(struct sv line)
{
	struct sv rest = line;
	uint64_t bytes;

	if (line.len < 6 || memcmp(line.p, "VALUE ", 6) != 0)
		return -1;
	const char *last = memrchr(rest.p, ' ', rest.len);
	struct sv number = { last + 1, rest.len - (size_t)(last + 1 - rest.p) };

	return str_to_u64(number, INT32_MAX, &bytes) < 0 ? -1 : (int64_t)bytes;
}

/* The rest of the answer behind its first line. */
static int read_value(struct stream *s, const struct memcache *m, struct sv line, struct buf *value)
{
	int64_t bytes = value_bytes(line);
	struct sv data;

	if (bytes < 0)
		return E_PEER;
	if ((size_t)bytes > m->data_max)
		return E_LIMIT;
	int err = stream_read(s, (size_t)bytes, &data);

	if (err == 0)
		buf_add_sv(value, data);
	if (err == 0)
		err = stream_read(s, 2, &data);
	if (err == 0 && memcmp(data.p, "\r\n", 2) != 0)
		err = E_PEER;
	if (err == 0)
		err = stream_read_line(s, m->line_max, &data);
	return err == 0 && !sv_eq(data, SV("END")) ? E_PEER : err;
}

static int exchange(const struct memcache *m, struct stream *s, struct sv key, bool *found_r,
		    struct buf *value)
{
	struct buf request = BUF_INIT;
	struct sv line;
	int err = stream_connect(s, m->where, "11211");

	*found_r = false;
	buf_reset(value);
	if (err == 0) {
		buf_add_str(&request, "get ");
		buf_add_sv(&request, key);
		buf_add_str(&request, "\r\n");
		err = stream_write(s, buf_sv(&request));
	}
	if (err == 0)
		err = stream_read_line(s, m->line_max, &line);
	if (err == 0 && !sv_eq(line, SV("END"))) {
		err = read_value(s, m, line, value);
		*found_r = err == 0;
	}
	buf_fini(&request);
	return err;
}

/* Keys of the protocol are short and plain; what is not is not there. */
static bool key_is_plain(struct sv key)
{
	for (size_t i = 0; i < key.len; i++) {
		if ((unsigned char)key.p[i] <= ' ' || key.p[i] == 127)
			return false;
	}
	return key.len > 0 && key.len <= KEY_MAX;
}

/* 0 or the last error. */
static int get(const struct memcache *m, struct stream *s, struct sv name, bool *found_r,
	       struct buf *value)
{
	int err = 0;

	for (unsigned i = 0; i < m->tries; i++) {
		stream_begin(s, m->timeout_ms);
		err = exchange(m, s, name, found_r, value);
		if (err == 0)
			break;
		stream_close(s);
	}
	return err;
}

/* What the backup knew, for the next time. If that fails the backup is asked again. */
static void put(const struct memcache *m, struct stream *s, struct sv name, struct sv value)
{
	struct buf request = BUF_INIT;
	struct sv line;

	if (value.len > m->data_max)
		return;
	buf_printf(&request, "set %.*s %lld %lld %zu\r\n", (int)name.len, name.p,
		   (long long)m->flags, (long long)m->ttl_s, value.len);
	buf_add_sv(&request, value);
	buf_add_str(&request, "\r\n");
	stream_begin(s, m->timeout_ms);
	if (stream_connect(s, m->where, "11211") != 0 || stream_write(s, buf_sv(&request)) != 0 ||
	    stream_read_line(s, m->line_max, &line) != 0)
		stream_close(s);
	buf_fini(&request);
}

static void ask_backup(const struct memcache *m, struct connection *c, struct sv key,
		       struct table_answer *a)
{
	pthread_mutex_t *admit = (pthread_mutex_t *)(uintptr_t)&m->admit;

	if (m->local != NULL) {
		pthread_mutex_lock(admit);
		a->status = map_get(m->local, key, &a->value);
		pthread_mutex_unlock(admit);
		if (a->status == MAP_ERROR)
			table_fail(a, "%s cannot be asked", map_spec(m->local));
		return;
	}
	pthread_mutex_lock(admit);
	int admitted = table_admits(c->backup, key);

	pthread_mutex_unlock(admit);
	if (admitted < 0)
		table_fail(a, "the tables of \"domain\" cannot be asked");
	else if (admitted > 0)
		c->backup->source->ask(c->backup, c->backup_connection, key, a);
}

static void memcache_ask(const struct table *t, void *connection, struct sv key,
			 struct table_answer *a)
{
	const struct memcache *m = t->source_state;
	struct connection *c = connection;
	struct buf name = BUF_INIT, value = BUF_INIT;
	bool found = false, plain;
	int err = 0;

	plain = template_expand(m->key_format, key, NULL, NULL, NULL, &name) &&
		key_is_plain(buf_sv(&name));
	if (plain)
		err = get(m, &c->stream, buf_sv(&name), &found, &value);
	if (!found && (c->backup != NULL || m->local != NULL)) {
		struct table_answer b = { .status = MAP_NOT_FOUND };

		ask_backup(m, c, key, &b);
		found = b.status == MAP_FOUND;
		if (found)
			buf_add_sv(&value, buf_sv(&b.value));
		if (found && plain && err == 0)
			put(m, &c->stream, buf_sv(&name), buf_sv(&value));
		if (b.status == MAP_ERROR) {
			table_fail(a, "backup: %.250s", b.why);
			a->about_key = b.about_key;
		}
		buf_fini(&b.value);
	} else if (err != 0) {
		table_fail(a, "%s: %s", m->where, err_str(err));
	}
	if (found)
		table_add_result(t, a, key, buf_sv(&value));
	buf_fini(&name);
	buf_fini(&value);
}

const struct source source_memcache = {
	.type = "memcache",
	.open = memcache_open,
	.close = memcache_close,
	.connect = memcache_connect,
	.disconnect = memcache_disconnect,
	.ask = memcache_ask,
	.directories = memcache_directories,
};
