/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The verify worker, Postfix's verify(8): what smtp-in workers ask about addresses it answers from
 * its cache, or it sends a probe through the queue and answers when its result comes. Who asks is
 * not trusted: it can have probes sent, of which only so many are under way, and nothing else. What
 * rewrite workers tell is believed. It also owns postscreen's cache (screened.h).
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/screen_use.h"
#include "conf/verify_use.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "shm/proto.h"
#include "workers/common/landlock.h"
#include "workers/verify/core.h"
#include "workers/verify/screened.h"
#include "workers/verify/submit.h"

#define TICK_MS     1000
#define WAITING_MS  200
#define RECORDS_MAX 1000000u
#define WAIT_MAX_MS 3600000u

struct asker {
	struct asker *next;
	struct worker_peer *peer;
};

struct verifier {
	struct worker *w;
	char *path, *screened_path;
	struct verify *core;
	struct screened *screened; /* NULL = no postscreen */
	struct submitter *submitter;
	struct asker *askers;
	struct loop_timer tick;
	struct verify_stats told;
	char rec[sizeof(struct proto_table_answer) + CACHE_TEXT_MAX + 8];
};

static struct verifier the_verifier;

/* ---- statistics ---- */

static void tell(struct verifier *v)
{
	struct verify_stats now;
	struct counters_shm *c = v->w->counters;

	verify_stats(v->core, &now);
	counter_add(c, CTR_verify_queries, now.asked - v->told.asked);
	counter_add(c, CTR_verify_known, now.known - v->told.known);
	counter_add(c, CTR_verify_probes, now.probes - v->told.probes);
	counter_add(c, CTR_verify_refreshes, now.refreshes - v->told.refreshes);
	counter_add(c, CTR_verify_limited, now.limited - v->told.limited);
	counter_add(c, CTR_verify_timeouts, now.timeouts - v->told.timeouts);
	counter_add(c, CTR_verify_deliverable, now.deliverable - v->told.deliverable);
	counter_add(c, CTR_verify_undeliverable, now.undeliverable - v->told.undeliverable);
	gauge_set(c, GAU_verify_pending, now.pending);
	gauge_set(c, GAU_verify_records, now.records);
	if (v->screened != NULL)
		gauge_set(c, GAU_screen_clients, screened_count(v->screened));
	v->told = now;
}

/* ---- between core, queue and askers ---- */

static void op_answer(void *ctx, void *asker, uint32_t id, enum verify_status status,
		      struct sv text)
{
	struct verifier *v = ctx;
	const struct asker *a = asker;
	size_t n = size_min(text.len, CACHE_TEXT_MAX);
	struct proto_table_answer h = { .kind = PROTO_TABLE_ANSWER,
					.id = id,
					.status = TABLE_FOUND,
					.value_len = (uint32_t)n + 2 };

	memcpy(v->rec, &h, sizeof(h));
	v->rec[sizeof(h)] = (char)('0' + (int)status);
	v->rec[sizeof(h) + 1] = ' ';
	memcpy(v->rec + sizeof(h) + 2, text.p, n);
	worker_send(v->w, a->peer->link, v->rec, sizeof(h) + n + 2);
}

static void op_probe(void *ctx, struct sv addr)
{
	struct verifier *v = ctx;

	submitter_send(v->submitter, addr);
}

static void probe_ended(void *ctx, struct sv addr, const uint8_t dsn[3], struct sv text)
{
	struct verifier *v = ctx;

	if (dsn[0] == 2)
		verify_result(v->core, addr, VERIFY_OK, text);
	else
		verify_lost(v->core, addr);
}

static const struct verify_ops core_ops = { .answer = op_answer,
					    .probe = op_probe,
					    .ctx = &the_verifier };

/* ---- records ---- */

static void on_question(struct verifier *v, struct asker *a, const void *rec, size_t len)
{
	static const size_t spec_len = sizeof(VERIFY_SPEC) - 1;
	struct proto_table_query h = { 0 };
	uint64_t wait_ms;

	if (len >= sizeof(h))
		memcpy(&h, rec, sizeof(h));
	const char *spec = (const char *)rec + sizeof(h), *key = spec + h.spec_len;

	if (len < sizeof(h) || h.kind != PROTO_TABLE_QUERY || h.spec_len != spec_len ||
	    h.key_len > PROTO_TABLE_KEY_MAX || len != sizeof(h) + h.spec_len + h.key_len ||
	    memcmp(spec, VERIFY_SPEC, spec_len) != 0) {
		worker_accuse(v->w, a->peer, "malformed question");
		return;
	}
	const char *space = memchr(key, ' ', h.key_len);
	size_t n = space != NULL ? (size_t)(space - key) : 0;

	if (space == NULL || str_to_u64((struct sv){ key, n }, WAIT_MAX_MS, &wait_ms) != 0) {
		worker_accuse(v->w, a->peer, "malformed question");
		return;
	}
	verify_ask(v->core, a, h.id, (struct sv){ space + 1, h.key_len - n - 1 }, (int64_t)wait_ms);
	if (verify_has_waiters(v->core))
		loop_timer_set(&v->tick, WAITING_MS);
}

static void on_screen(struct verifier *v, struct asker *a, const void *rec, size_t len)
{
	struct proto_screen_ask q;
	struct proto_screen_answer h = { .kind = PROTO_SCREEN_ANSWER };

	if (len != sizeof(q)) {
		worker_accuse(v->w, a->peer, "malformed question about a client");
		return;
	}
	memcpy(&q, rec, sizeof(q));
	if (q.store != 0 && v->screened != NULL) {
		counter_add(v->w->counters, CTR_screen_stored, 1);
		screened_put(v->screened, q.addr, q.expires_s);
	}
	if (q.store != 0)
		return;
	h.session = q.session;
	h.serial = q.serial;
	h.found = v->screened != NULL && screened_get(v->screened, q.addr, h.expires_s);
	worker_send(v->w, a->peer->link, &h, sizeof(h));
}

static void on_result(struct verifier *v, struct worker_peer *peer, const void *rec, size_t len)
{
	struct proto_verify_result r = { 0 };

	if (len >= sizeof(r))
		memcpy(&r, rec, sizeof(r));
	if (len < sizeof(r) || r.kind != PROTO_VERIFY_RESULT || r.addr_len > PROTO_TABLE_KEY_MAX ||
	    r.text_len > PROTO_TABLE_KEY_MAX || len != sizeof(r) + r.addr_len + r.text_len ||
	    r.status >= VERIFY_TODO) {
		worker_accuse(v->w, peer, "unexpected record");
		return;
	}
	struct sv addr = { (const char *)rec + sizeof(r), r.addr_len };

	verify_result(v->core, addr, (enum verify_status)r.status,
		      (struct sv){ addr.p + addr.len, r.text_len });
}

static void from_peer(struct worker *w, struct worker_peer *peer, const void *rec, size_t len)
{
	struct verifier *v = w->state;
	struct asker *a = v->askers;

	uint32_t kind = 0;

	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	while (a != NULL && a->peer != peer)
		a = a->next;
	if (a != NULL && kind == PROTO_SCREEN_ASK)
		on_screen(v, a, rec, len);
	else if (a != NULL)
		on_question(v, a, rec, len);
	else if (!submitter_record(v->submitter, peer, rec, len))
		on_result(v, peer, rec, len);
}

/* ---- peers ---- */

static void attach(struct worker *w, struct worker_peer *peer)
{
	struct verifier *v = w->state;

	if (peer->class_id == CLASS_SMTP_IN) {
		struct asker *a = xcalloc(1, sizeof(*a));

		*a = (struct asker){ .peer = peer, .next = v->askers };
		v->askers = a;
	}
	submitter_attach(v->submitter, peer);
}

static void detach(struct worker *w, struct worker_peer *peer)
{
	struct verifier *v = w->state;
	struct asker **at = &v->askers;

	submitter_detach(v->submitter, peer);
	while (*at != NULL && (*at)->peer != peer)
		at = &(*at)->next;
	if (*at == NULL)
		return;
	struct asker *a = *at;

	*at = a->next;
	verify_forget(v->core, a);
	free(a);
}

/* ---- life ---- */

static void on_tick(void *ctx)
{
	struct verifier *v = ctx;

	verify_tick(v->core);
	if (v->screened != NULL)
		screened_tick(v->screened);
	tell(v);
	loop_timer_set(&v->tick, verify_has_waiters(v->core) ? WAITING_MS : TICK_MS);
}

static void keep_directory(const char *path)
{
	if (path == NULL)
		return;
	const char *slash = strrchr(path, '/');
	char *dir = xstrndup(path, slash == path ? 1 : (size_t)(slash - path));

	landlock_also_keep(dir);
	free(dir);
}

/* Where the caches are: of what is used. */
static int find_caches(struct verifier *v, struct worker *w)
{
	const struct params *screen = screen_params(w->conf);
	const char *why;

	if (verify_is_used(w->conf) && verify_cache_path(w->params, &v->path, &why) != 0) {
		log_error("address_verify_map = %s: %s", w->params->address_verify_map, why);
		return E_CONFIG;
	}
	if (screen_has_cache(w->conf) &&
	    conf_cache_path(screen->postscreen_cache_map, &v->screened_path, &why) != 0) {
		log_error("postscreen_cache_map = %s: %s", screen->postscreen_cache_map, why);
		return E_CONFIG;
	}
	return 0;
}

static int init(struct worker *w)
{
	struct verifier *v = &the_verifier;

	tzset();
	v->w = w;
	w->state = v;
	int err = find_caches(v, w);

	if (err == 0 && !w->check_only) {
		keep_directory(v->path);
		keep_directory(v->screened_path);
	}
	return err;
}

static int start(struct worker *w)
{
	struct verifier *v = w->state;
	const struct params *p = w->params;
	const struct cache_times times = {
		.positive_expire = p->address_verify_positive_expire_time / 1000,
		.positive_refresh = p->address_verify_positive_refresh_time / 1000,
		.negative_expire = p->address_verify_negative_expire_time / 1000,
		.negative_refresh = p->address_verify_negative_refresh_time / 1000,
	};
	const struct verify_conf conf = {
		.negative_cache = p->address_verify_negative_cache,
		.pending_max = (uint64_t)p->address_verify_pending_request_limit,
		.clean_interval_s = p->address_verify_cache_cleanup_interval / 1000,
		.map = p->address_verify_map,
	};
	int err = submitter_new(w, probe_ended, v, &v->submitter);

	if (err != 0)
		return err;
	if (screen_has_cache(w->conf))
		v->screened = screened_open(v->screened_path, screen_params(w->conf));
	v->core = verify_new(&conf, cache_open("address_verify_map", v->path, RECORDS_MAX, &times),
			     &core_ops);
	loop_timer_init(w->loop, &v->tick, on_tick, v);
	loop_timer_set(&v->tick, TICK_MS);
	return 0;
}

static bool turn(struct worker *w)
{
	struct verifier *v = w->state;

	submitter_turn(v->submitter);
	return false;
}

/* Who waits asks the next life again; probes that are under way are repeated when somebody asks. */
static void drain(struct worker *w)
{
	struct verifier *v = w->state;

	loop_timer_stop(&v->tick);
	tell(v);
	for (struct asker *a = v->askers; a != NULL; a = a->next)
		verify_forget(v->core, a);
	submitter_free(&v->submitter);
	verify_free(&v->core);
	screened_close(&v->screened);
	worker_exit(w);
}

int main(int argc, char **argv)
{
	static const struct worker_ops ops = {
		.class_id = CLASS_VERIFY,
		.program = "verify",
		.init = init,
		.start = start,
		.attach = attach,
		.detach = detach,
		.from_peer = from_peer,
		.turn = turn,
		.drain = drain,
	};

	return worker_main(argc, argv, &ops);
}
