/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The statistics worker: /stats (JSON), /metrics (Prometheus text), /healthz and /readyz over HTTP.
 * Maps everything read-only, so neither a scrape nor a bug here can touch the mail flow.
 * /healthz: the supervisor's loop turns. /readyz: mail is being accepted.
 */
#include <event2/http.h>
#include <jansson.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/rand.h"
#include "workers/common/worker.h"
#include "workers/stats/http.h"

#define REPORT_MS 10000

struct stats_state {
	struct stats_http h;
	struct evhttp *http;
	uint64_t closed_told, closed_counted; /* in the log; since then, in the counter */
	int64_t next_report_ms;
};

static struct stats_state state;

static int stats_init(struct worker *w)
{
	w->state = &state;
	/* the library would look for chance in /dev, which is out of reach later */
	json_object_seed((size_t)rand_u64() | 1);
	return 0;
}

static int stats_start(struct worker *w)
{
	struct stats_state *s = w->state;

	s->h.board = w->board;
	s->h.src.board = w->board;
	s->h.conf = w->conf;
	s->http = stats_http_new(loop_event_base(w->loop), &s->h);
	if (s->http == NULL)
		return E_NOMEM;
	return 0;
}

static void take_page(struct stats_state *s, struct worker_peer *peer)
{
	if (counters_of(&peer->region) == NULL || (unsigned)peer->class_id >= CLASS_COUNT)
		return;
	for (size_t i = 0; i < SNAPSHOT_MAX_PAGES; i++) {
		struct page *p = &s->h.src.pages[i];

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

/* The supervisor gives the boot page last: now every figure is at hand. */
static void begin_answering(struct worker *w)
{
	struct stats_state *s = w->state;

	for (unsigned i = 0; i < w->listener_count; i++) {
		if (evhttp_accept_socket(s->http, w->listeners[i].fd) != 0)
			die("statistics: cannot serve the listening socket");
	}
}

static void stats_attach(struct worker *w, struct worker_peer *peer)
{
	struct stats_state *s = w->state;
	const struct shm_header *h = peer->region.base;

	if (h->kind == SHM_KIND_COUNTERS) {
		take_page(s, peer);
		if (peer->class_id == CLASS_SUPERVISOR)
			begin_answering(w);
	} else if (h->kind == SHM_KIND_DTAB && dtab_view(&peer->region, &s->h.src.dtab) == 0)
		s->h.src.have_dtab = true;
}

static bool stats_turn(struct worker *w)
{
	struct stats_state *s = w->state;
	uint64_t closed;

	stats_http_turn(&s->h);
	closed = s->h.crowd.closed - s->closed_told;
	if (closed == 0)
		return false;
	counter_add(w->counters, CTR_stats_closed, closed - s->closed_counted);
	s->closed_counted = closed;
	if (clock_now().ms >= s->next_report_ms) {
		log_warn("statistics: more than %u connections: %llu closed, those that came first",
			 STATS_CONNECTIONS, (unsigned long long)closed);
		s->next_report_ms = clock_now().ms + REPORT_MS;
		s->closed_told += closed;
		s->closed_counted = 0;
	}
	return false;
}

static void stats_detach(struct worker *w, struct worker_peer *peer)
{
	struct stats_state *s = w->state;

	for (size_t i = 0; i < SNAPSHOT_MAX_PAGES; i++) {
		struct page *p = &s->h.src.pages[i];

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
		.turn = stats_turn,
	};

	return worker_main(argc, argv, &ops);
}
