/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tcp_table(5): "host:port"; one line each way, "get KEY" and "200 VALUE", with %XX for what is not
 * plain. Listed in workers/lookup/table.c. */
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/util.h"
#include "workers/lookup/stream.h"
#include "workers/lookup/table.h"

#define TIMEOUT_MS     100000
#define LINE_MAX_BYTES 4096u

static int tcp_open(struct table *t)
{
	if (strrchr(t->name, ':') == NULL) {
		options_complain(t->options, "expected tcp:host:port");
		return E_CONFIG;
	}
	t->source_state = t->name;
	return 0;
}

static void tcp_close(struct table *t)
{
	t->source_state = NULL;
}

static void *tcp_connect(const struct table *t UNUSED)
{
	struct stream *s = xcalloc(1, sizeof(*s));

	stream_init(s);
	return s;
}

static void tcp_disconnect(void *connection)
{
	stream_close(connection);
	free(connection);
}

static void encode(struct sv key, struct buf *out)
{
	for (size_t i = 0; i < key.len; i++) {
		unsigned char c = (unsigned char)key.p[i];

		if (c <= ' ' || c >= 127 || c == '%')
			buf_printf(out, "%%%02X", c);
		else
			buf_add_c(out, (char)c);
	}
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *at = strchr(digits, ascii_lower(c));

	return c == '\0' || at == NULL ? -1 : (int)(at - digits);
}

/* False when it is not in this form. */
static bool decode(struct sv text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.p[i];

		if (c == '%') {
			bool two = i + 2 < text.len;
			int high = two ? hex_digit(text.p[i + 1]) : -1;
			int low = two ? hex_digit(text.p[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			c = (char)(high * 16 + low);
			i += 2;
		}
		buf_add_c(out, c);
	}
	return true;
}

static int exchange(const char *where, struct stream *s, struct sv key, struct sv *line_r)
{
	struct buf request = BUF_INIT;
	int err = stream_connect(s, where, NULL);

	if (err == 0) {
		buf_add_str(&request, "get ");
		encode(key, &request);
		buf_add_c(&request, '\n');
		err = request.len > LINE_MAX_BYTES ? E_LIMIT : stream_write(s, buf_sv(&request));
	}
	if (err == 0)
		err = stream_read_line(s, LINE_MAX_BYTES, line_r);
	buf_fini(&request);
	return err;
}

static void take_line(const struct table *t, struct sv key, struct sv line, struct table_answer *a)
{
	struct buf value = BUF_INIT;
	bool shaped = line.len >= 4 && line.p[3] == ' ' &&
		      decode((struct sv){ line.p + 4, line.len - 4 }, &value);

	if (shaped && memcmp(line.p, "200", 3) == 0)
		table_add_result(t, a, key, buf_sv(&value));
	else if (shaped && memcmp(line.p, "500", 3) == 0)
		a->status = MAP_NOT_FOUND;
	else
		table_fail(a, "server says: %.*s", (int)size_min(line.len, 200), line.p);
	buf_fini(&value);
}

static void tcp_ask(const struct table *t, void *connection, struct sv key, struct table_answer *a)
{
	struct stream *s = connection;
	struct sv line;

	stream_begin(s, TIMEOUT_MS);
	int err = exchange(t->name, s, key, &line);

	if (stream_was_idle(s, err)) {
		stream_close(s);
		err = exchange(t->name, s, key, &line);
	}
	if (err == 0) {
		take_line(t, key, line, a);
		return;
	}
	stream_close(s);
	table_fail(a, "%s: %s", t->name, err == E_LIMIT ? "line too long" : err_str(err));
}

const struct source source_tcp = {
	.type = "tcp",
	.open = tcp_open,
	.close = tcp_close,
	.connect = tcp_connect,
	.disconnect = tcp_disconnect,
	.ask = tcp_ask,
};
