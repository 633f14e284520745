/* SPDX-License-Identifier: GPL-3.0-or-later */
/* memcache_table(5), for reading: "get KEY" in the text protocol. Listed in
 * workers/lookup/table.c. */
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
	int64_t timeout_ms;
	unsigned tries;
};

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
	if (options_get(o, "backup", "")[0] != '\0')
		options_complain(o, "backup: not supported; name both tables in the parameter");
	return 0;
}

static void memcache_close(struct table *t)
{
	struct memcache *m = t->source_state;

	free(m->where);
	free(m->key_format);
	free(m);
}

static void *memcache_connect(const struct table *t UNUSED)
{
	struct stream *s = xcalloc(1, sizeof(*s));

	stream_init(s);
	return s;
}

static void memcache_disconnect(void *connection)
{
	stream_close(connection);
	free(connection);
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

static void memcache_ask(const struct table *t, void *connection, struct sv key,
			 struct table_answer *a)
{
	const struct memcache *m = t->source_state;
	struct stream *s = connection;
	struct buf name = BUF_INIT, value = BUF_INIT;
	bool found = false;
	int err = 0;

	if (template_expand(m->key_format, key, NULL, NULL, NULL, &name) &&
	    key_is_plain(buf_sv(&name))) {
		for (unsigned i = 0; i < m->tries; i++) {
			stream_begin(s, m->timeout_ms);
			err = exchange(m, s, buf_sv(&name), &found, &value);
			if (err == 0)
				break;
			stream_close(s);
		}
		if (err != 0)
			table_fail(a, "%s: %s", m->where, err_str(err));
		else if (found)
			table_add_result(t, a, key, buf_sv(&value));
	}
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
};
