/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Policy services (check_policy_service): not a table, but asked like one. The key is a request in
 * the protocol's own form behind a line that is not sent; the answer is what smtp-in's log has to
 * say, and the action, as lines (policy/delegate.c). Listed in workers/lookup/table.c.
 *
 * A server takes one request at a time on a connection, and often is a process for each. So there
 * are as many connections as requests at the same time, whichever threads they come from: the one
 * that was used last is used next, and what is left over closes when it has been idle for long.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "conf/policy_spec.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/util.h"
#include "workers/lookup/stream.h"
#include "workers/lookup/table.h"

#define LINE_MAX_BYTES   16384u
#define ANSWER_MAX_LINES 1000u
#define LOG_MAX_BYTES    16384u /* try_limit may be large */

struct connection {
	struct connection *next; /* idle ones, the last used first */
	struct stream stream;
	int64_t opened_us, idle_since_us;
	int64_t requests;
};

struct service {
	struct policy_target target;
	const char *endpoint; /* for log lines: without "inet:" */
	pthread_mutex_t lock;
	struct connection *idle;
};

/* ---- connections ---- */

static void connection_free(struct connection *c)
{
	stream_close(&c->stream);
	free(c);
}

static bool is_over(const struct service *s, const struct connection *c, int64_t now_us)
{
	const struct policy_target *t = &s->target;

	return now_us - c->opened_us >= t->ttl_ms * 1000 ||
	       now_us - c->idle_since_us >= t->idle_ms * 1000;
}

/* The other end has closed it, or says something that nobody asked for. */
static bool has_news(const struct connection *c)
{
	struct pollfd p = { .fd = c->stream.fd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

/* An idle connection that is good, or a new one that is not connected yet. */
static struct connection *take(struct service *s)
{
	int64_t now_us = clock_mono_us_raw();
	struct connection *c;

	for (;;) {
		pthread_mutex_lock(&s->lock);
		c = s->idle;
		if (c != NULL)
			s->idle = c->next;
		pthread_mutex_unlock(&s->lock);
		if (c == NULL)
			break;
		if (!is_over(s, c, now_us) && !has_news(c))
			return c;
		connection_free(c);
	}
	c = xcalloc(1, sizeof(*c));
	stream_init(&c->stream);
	c->opened_us = now_us;
	return c;
}

static void give_back(struct service *s, struct connection *c)
{
	const struct policy_target *t = &s->target;

	c->idle_since_us = clock_mono_us_raw();
	c->requests++;
	if ((t->request_limit > 0 && c->requests >= t->request_limit) ||
	    is_over(s, c, c->idle_since_us)) {
		connection_free(c);
		return;
	}
	pthread_mutex_lock(&s->lock);
	c->next = s->idle;
	s->idle = c;
	pthread_mutex_unlock(&s->lock);
}

/* In the loop's thread, every second. */
static void policy_tick(const struct table *t)
{
	struct service *s = t->source_state;
	struct connection *over = NULL, *c;
	int64_t now_us = clock_mono_us_raw();

	pthread_mutex_lock(&s->lock);
	for (struct connection **at = &s->idle; (c = *at) != NULL;) {
		if (!is_over(s, c, now_us) && !has_news(c)) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		c->next = over;
		over = c;
	}
	pthread_mutex_unlock(&s->lock);
	while ((c = over) != NULL) {
		over = c->next;
		connection_free(c);
	}
}

/* ---- a request ---- */

PRINTF_LIKE(2, 3) static void warn(struct buf *out, const char *fmt, ...)
{
	va_list ap;

	if (out->len > LOG_MAX_BYTES)
		return;
	buf_add_c(out, 'w');
	size_t at = out->len;

	va_start(ap, fmt);
	buf_vprintf(out, fmt, ap);
	va_end(ap);
	str_make_printable(out->p + at, out->len - at);
	buf_add_c(out, '\n');
}

/* An attribute of the answer. 0: go on; 1: it is the action; E_PEER. */
static int take_line(const struct service *s, struct sv line, struct buf *action, struct buf *log)
{
	const char *equals = memchr(line.p, '=', line.len);
	struct sv name = { line.p, equals != NULL ? (size_t)(equals - line.p) : line.len };

	if (!sv_eq_str(name, "action"))
		return 0;
	if (equals == NULL) {
		warn(log, "missing value for string attribute action from %s", s->endpoint);
		return E_PEER;
	}
	struct sv value = { equals + 1, line.len - name.len - 1 };

	if (memchr(value.p, '\0', value.len) != NULL) {
		warn(log, "malformed action from %s", s->endpoint);
		return E_PEER;
	}
	buf_add_sv(action, value);
	return 1;
}

static int read_answer(const struct service *s, struct stream *st, struct buf *action,
		       struct buf *log)
{
	bool found = false;

	for (unsigned lines = 0; lines < ANSWER_MAX_LINES; lines++) {
		struct sv line;
		int err = stream_read_line(st, LINE_MAX_BYTES, &line);

		if ((err == E_TIMEDOUT || err == E_EOF) && st->used < st->in.len)
			warn(log, "%s on %s while reading input attribute name",
			     err == E_EOF ? "premature end-of-input" : "timeout", s->endpoint);
		if (err != 0)
			return err;
		if (line.len == 0 && !found)
			warn(log, "missing attribute action in input from %s", s->endpoint);
		if (line.len == 0)
			return found ? 0 : E_PEER;
		err = found ? 0 : take_line(s, line, action, log);
		if (err < 0)
			return err;
		found = found || err == 1;
	}
	return E_LIMIT;
}

/* Once over one connection. */
static int exchange(const struct service *s, struct connection *c, struct sv request,
		    struct buf *action, struct buf *log)
{
	struct stream *st = &c->stream;

	stream_begin(st, s->target.timeout_ms);
	int err = stream_connect(st, s->target.where, NULL);

	if (err != 0) {
		warn(log, "connect to %s: %s", s->endpoint, err_str(err));
		return err;
	}
	err = stream_write(st, request);
	return err != 0 ? err : read_answer(s, st, action, log);
}

/* One try. What had closed an idle connection did not get the request: that is no try. */
static int try_once(struct service *s, struct sv request, struct buf *action, struct buf *log)
{
	size_t at = log->len;

	for (;;) {
		struct connection *c = take(s);
		bool reused = c->requests > 0;
		int err = exchange(s, c, request, action, log);

		if (err == 0) {
			give_back(s, c);
			return 0;
		}
		bool again = reused && stream_was_idle(&c->stream, err);

		connection_free(c);
		buf_reset(action);
		if (!again)
			return err;
		log->len = at;
	}
}

static void policy_ask(const struct table *t, void *connection UNUSED, struct sv key,
		       struct table_answer *a)
{
	struct service *s = t->source_state;
	const char *nl = memchr(key.p, '\n', key.len);
	size_t skip = nl != NULL ? (size_t)(nl - key.p) + 1 : 0;
	struct sv request = { key.p + skip, key.len - skip };
	struct buf action = BUF_INIT;
	int err = 0;

	for (int64_t tries = 1; tries <= s->target.try_limit; tries++) {
		err = try_once(s, request, &action, &a->value);
		if (err == 0)
			break;
		bool quiet = err == E_PEER || err == E_EOF || err == -EPIPE || err == -ENOENT ||
			     err == -ECONNRESET;

		if (tries == s->target.try_limit || !quiet)
			warn(&a->value, "problem talking to server %s: %s", s->endpoint,
			     err == E_EOF || err == E_PEER ? "Application error" : err_str(err));
		if (tries < s->target.try_limit)
			poll(NULL, 0, (int)s->target.retry_delay_ms);
	}
	if (err == 0) {
		buf_add_c(&a->value, 'a');
		buf_add_sv(&a->value, buf_sv(&action));
	}
	buf_add_c(&a->value, '\n');
	buf_fini(&action);
	a->status = MAP_FOUND;
	a->troubled = err != 0;
}

/* ---- life ---- */

static int policy_open(struct table *t)
{
	struct service *s = xcalloc(1, sizeof(*s));

	t->source_state = s;
	pthread_mutex_init(&s->lock, NULL);
	if (policy_target_parse(t->name, &s->target) != 0) {
		options_complain(t->options, "no policy service");
		return E_CONFIG;
	}
	s->endpoint = strchr(s->target.where, ':');
	s->endpoint = s->endpoint != NULL ? s->endpoint + 1 : s->target.where;
	return 0;
}

static void policy_close(struct table *t)
{
	struct service *s = t->source_state;

	while (s->idle != NULL) {
		struct connection *c = s->idle;

		s->idle = c->next;
		connection_free(c);
	}
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void *policy_connect(const struct table *t UNUSED)
{
	return NULL; /* connections belong to the service */
}

static void policy_disconnect(void *connection UNUSED)
{
}

static int64_t policy_wait_ms(const struct table *t)
{
	const struct service *s = t->source_state;

	return s->target.timeout_ms;
}

static unsigned policy_threads(const struct table *t)
{
	return (unsigned)conf_params(t->conf)->lookup_policy_connections;
}

const struct source source_policy = {
	.type = "policy",
	.open = policy_open,
	.close = policy_close,
	.connect = policy_connect,
	.disconnect = policy_disconnect,
	.ask = policy_ask,
	.tick = policy_tick,
	.wait_ms = policy_wait_ms,
	.threads = policy_threads,
};
