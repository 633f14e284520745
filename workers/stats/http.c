/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The pages of the statistics endpoint; see workers/stats/http.h. */
#include "workers/stats/http.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/clock.h"

#define DEFAULT_TOP       20
#define MAX_HEADER_BYTES  8192
#define MAX_BODY_BYTES    1024
#define REQUEST_TIMEOUT_S 10
#define BEAT_LIMIT_S      15

static void send_text(struct evhttp_request *req, int code, const char *reason, const char *type,
		      const char *text, size_t len)
{
	struct evbuffer *body = evbuffer_new();

	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", type);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Cache-Control", "no-store");
	if (body != NULL)
		evbuffer_add(body, text, len);
	evhttp_send_reply(req, code, reason, body);
	if (body != NULL)
		evbuffer_free(body);
}

/* ?top=N on either page. */
static unsigned wanted_top(struct evhttp_request *req)
{
	const char *query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(req));
	struct evkeyvalq params;
	unsigned top = DEFAULT_TOP;
	uint64_t v;

	if (query == NULL || evhttp_parse_query_str(query, &params) != 0)
		return top;
	const char *text = evhttp_find_header(&params, "top");

	if (text != NULL && str_to_u64(sv_from(text), SNAPSHOT_TOP_MAX, &v) == 0)
		top = (unsigned)v;
	evhttp_clear_headers(&params);
	return top;
}

static void on_stats(struct evhttp_request *req, void *ctx)
{
	struct stats_http *h = ctx;

	snapshot_take(&h->src, wanted_top(req), &h->snap);
	char *text = snapshot_json(&h->snap, h->board, h->conf);

	if (text == NULL) {
		send_text(req, 500, "Internal Server Error", "text/plain", "out of memory\n", 14);
		return;
	}
	send_text(req, 200, "OK", "application/json", text, strlen(text));
	free(text);
}

static void on_metrics(struct evhttp_request *req, void *ctx)
{
	struct stats_http *h = ctx;
	struct buf out = BUF_INIT;

	snapshot_take(&h->src, wanted_top(req), &h->snap);
	snapshot_prometheus(&h->snap, h->board, h->conf, &out);
	send_text(req, 200, "OK", "text/plain; version=0.0.4", out.p, out.len);
	buf_fini(&out);
}

static void answer_check(struct evhttp_request *req, bool good, const char *what)
{
	if (good)
		send_text(req, 200, "OK", "text/plain", "ok\n", 3);
	else
		send_text(req, 503, "Service Unavailable", "text/plain", what, strlen(what));
}

static void on_healthz(struct evhttp_request *req, void *ctx)
{
	struct stats_http *h = ctx;
	int64_t beat = (int64_t)atomic_load_explicit(&h->board->beat_mono_s, memory_order_relaxed);

	answer_check(req, clock_mono_us_raw() / 1000000 - beat <= BEAT_LIMIT_S,
		     "the supervisor does not turn\n");
}

static void on_readyz(struct evhttp_request *req, void *ctx)
{
	struct stats_http *h = ctx;
	const char *why = "mail is not accepted: not started, stopping, or no worker\n";
	bool low = atomic_load_explicit(&h->board->spool_low, memory_order_relaxed) != 0;
	bool full = atomic_load_explicit(&h->board->queue_full, memory_order_relaxed) != 0;

	if (low)
		why = "mail is not accepted: the queue file system is full\n";
	else if (full)
		why = "mail is not accepted: the queue table is full\n";
	answer_check(req,
		     !low && !full &&
			     atomic_load_explicit(&h->board->ready, memory_order_relaxed) != 0,
		     why);
}

static void on_index(struct evhttp_request *req, void *ctx UNUSED)
{
	static const char text[] = "posthaste statistics\n\n/stats    JSON (?top=N destinations)\n"
				   "/metrics  Prometheus text\n/healthz  the system is alive\n"
				   "/readyz   mail is accepted\n";
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));

	if (path != NULL && strcmp(path, "/") == 0)
		send_text(req, 200, "OK", "text/plain", text, sizeof(text) - 1);
	else
		send_text(req, 404, "Not Found", "text/plain", "not found\n", 10);
}

/* ---- not too many at a time ---- */

static void forget(struct stats_crowd *c, unsigned i)
{
	memmove(c->fds + i, c->fds + i + 1, (c->count - i - 1) * sizeof(c->fds[0]));
	c->count--;
}

/* A number that is in use again is the newest connection's. */
static void arrived(struct stats_crowd *c, int fd)
{
	for (unsigned i = c->count; i-- > 0;) {
		if (c->fds[i] == fd || fcntl(c->fds[i], F_GETFD) < 0)
			forget(c, i);
	}
	c->fds[c->count++] = fd;
	if (c->count <= STATS_CONNECTIONS)
		return;
	shutdown(c->fds[0], SHUT_RDWR); /* the library sees its end, and closes it */
	forget(c, 0);
	c->closed++;
}

void stats_http_turn(struct stats_http *h)
{
	struct stats_crowd *c = &h->crowd;
	struct bufferevent *bev;

	if (c->fresh == NULL)
		return;
	TAKE(bev, c->fresh);
	int fd = bufferevent_getfd(bev);

	bufferevent_decref(bev);
	if (fd >= 0)
		arrived(c, fd);
}

/* Accepted: the library asks for the buffers of a connection, and puts its descriptor into them
 * when we have returned. */
static struct bufferevent *on_accept(struct event_base *base, void *ctx)
{
	struct stats_http *h = ctx;
	struct bufferevent *bev;

	stats_http_turn(h);
	bev = bufferevent_socket_new(base, -1, 0);
	if (bev != NULL)
		bufferevent_incref(bev);
	h->crowd.fresh = bev;
	return bev;
}

struct evhttp *stats_http_new(struct event_base *base, struct stats_http *h)
{
	struct evhttp *http = evhttp_new(base);

	if (http == NULL)
		return NULL;
	evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
	evhttp_set_max_headers_size(http, MAX_HEADER_BYTES);
	evhttp_set_max_body_size(http, MAX_BODY_BYTES);
	evhttp_set_timeout(http, REQUEST_TIMEOUT_S);
	evhttp_set_cb(http, "/stats", on_stats, h);
	evhttp_set_cb(http, "/metrics", on_metrics, h);
	evhttp_set_cb(http, "/healthz", on_healthz, h);
	evhttp_set_cb(http, "/readyz", on_readyz, h);
	evhttp_set_gencb(http, on_index, h);
	evhttp_set_bevcb(http, on_accept, h);
	return http;
}
