/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The statistics worker: /stats (JSON), /metrics (Prometheus text), /healthz and /readyz over HTTP.
 * Maps everything read-only, so neither a scrape nor a bug here can touch the mail flow.
 * /healthz: the supervisor's loop turns. /readyz: mail is being accepted.
 */
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "workers/common/worker.h"
#include "workers/stats/snapshot.h"

#define DEFAULT_TOP       20
#define MAX_HEADER_BYTES  8192
#define MAX_BODY_BYTES    1024
#define REQUEST_TIMEOUT_S 10
#define BEAT_LIMIT_S      15

struct stats_state {
	struct snapshot_sources src;
	struct snapshot snap;
	struct evhttp *http;
};

static struct stats_state state;

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
	struct worker *w = ctx;
	struct stats_state *s = w->state;

	snapshot_take(&s->src, wanted_top(req), &s->snap);
	char *text = snapshot_json(&s->snap, w->board, w->conf);

	if (text == NULL) {
		send_text(req, 500, "Internal Server Error", "text/plain", "out of memory\n", 14);
		return;
	}
	send_text(req, 200, "OK", "application/json", text, strlen(text));
	free(text);
}

static void on_metrics(struct evhttp_request *req, void *ctx)
{
	struct worker *w = ctx;
	struct stats_state *s = w->state;
	struct buf out = BUF_INIT;

	snapshot_take(&s->src, wanted_top(req), &s->snap);
	snapshot_prometheus(&s->snap, w->board, w->conf, &out);
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
	struct worker *w = ctx;
	int64_t beat = (int64_t)atomic_load_explicit(&w->board->beat_wall_s, memory_order_relaxed);

	answer_check(req, clock_wall_s() - beat <= BEAT_LIMIT_S, "the supervisor does not turn\n");
}

static void on_readyz(struct evhttp_request *req, void *ctx)
{
	struct worker *w = ctx;
	const char *why = "mail is not accepted: not started, stopping, or no worker\n";
	bool low = atomic_load_explicit(&w->board->spool_low, memory_order_relaxed) != 0;
	bool full = atomic_load_explicit(&w->board->queue_full, memory_order_relaxed) != 0;

	if (low)
		why = "mail is not accepted: the queue file system is full\n";
	else if (full)
		why = "mail is not accepted: the queue table is full\n";
	answer_check(req,
		     !low && !full &&
			     atomic_load_explicit(&w->board->ready, memory_order_relaxed) != 0,
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

static int stats_init(struct worker *w)
{
	w->state = &state;
	return 0;
}

static int stats_start(struct worker *w)
{
	struct stats_state *s = w->state;

	s->src.board = w->board;
	s->http = evhttp_new(loop_event_base(w->loop));
	if (s->http == NULL)
		return E_NOMEM;
	evhttp_set_allowed_methods(s->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
	evhttp_set_max_headers_size(s->http, MAX_HEADER_BYTES);
	evhttp_set_max_body_size(s->http, MAX_BODY_BYTES);
	evhttp_set_timeout(s->http, REQUEST_TIMEOUT_S);
	evhttp_set_cb(s->http, "/stats", on_stats, w);
	evhttp_set_cb(s->http, "/metrics", on_metrics, w);
	evhttp_set_cb(s->http, "/healthz", on_healthz, w);
	evhttp_set_cb(s->http, "/readyz", on_readyz, w);
	evhttp_set_gencb(s->http, on_index, w);
	for (unsigned i = 0; i < w->listener_count; i++) {
		if (evhttp_accept_socket(s->http, w->listeners[i].fd) != 0)
			return E_NOMEM;
	}
	return 0;
}

static void take_page(struct stats_state *s, struct worker_peer *peer)
{
	if (counters_of(&peer->region) == NULL || (unsigned)peer->class_id >= CLASS_COUNT)
		return;
	for (size_t i = 0; i < SNAPSHOT_MAX_PAGES; i++) {
		struct page *p = &s->src.pages[i];

		if (p->used)
			continue;
		*p = (struct page){ .used = true,
				    .class_id = peer->class_id,
				    .slot = peer->slot,
				    .life = peer->life,
				    .region = peer->region };
		shm_region_forget_fd(&p->region);
		peer->region = SHM_REGION_INIT;
		return;
	}
}

static void stats_attach(struct worker *w, struct worker_peer *peer)
{
	struct stats_state *s = w->state;
	const struct shm_header *h = peer->region.base;

	if (h->kind == SHM_KIND_COUNTERS)
		take_page(s, peer);
	else if (h->kind == SHM_KIND_DTAB && dtab_view(&peer->region, &s->src.dtab) == 0)
		s->src.have_dtab = true;
}

static void stats_detach(struct worker *w, struct worker_peer *peer)
{
	struct stats_state *s = w->state;

	for (size_t i = 0; i < SNAPSHOT_MAX_PAGES; i++) {
		struct page *p = &s->src.pages[i];

		if (!p->used || p->class_id != peer->class_id || p->slot != peer->slot ||
		    p->life != peer->life)
			continue;
		shm_region_close(&p->region);
		p->used = false;
	}
}

int main(int argc, char **argv)
{
	static const struct worker_ops ops = {
		.class_id = CLASS_STATS,
		.program = "stats",
		.init = stats_init,
		.start = stats_start,
		.attach = stats_attach,
		.detach = stats_detach,
	};

	return worker_main(argc, argv, &ops);
}
