/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Address verification; see workers/verify/core.h. Called by workers/verify/main.c. */
#include "workers/verify/core.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/util.h"

#define CLEAN_STEPS 1000u /* records looked at in a tick */
#define WRITE_OUT_S 5

#define IN_PROGRESS SV("Address verification in progress")
#define UNAVAILABLE SV("Address verification status unavailable")
#define TOO_MANY    SV("Too many address verification requests")

struct probe { /* under way; in order of age */
	struct probe *next, *prev;
	struct waiter *waiters;
	int64_t since_s; /* monotonic, like all times here but those of records */
	size_t key_len;
	char key[];
};

struct waiter { /* also in the list of all, in order of asking */
	struct waiter *next, *prev;
	struct waiter *same; /* of the same probe */
	struct probe *probe;
	void *asker;
	uint32_t id;
	int64_t until_ms;
};

struct verify {
	struct verify_conf conf;
	struct cache *cache;
	const struct verify_ops *ops;
	struct strmap *by_key;
	struct waiter waiters; /* head */
	struct verify_stats stats;
	struct cache_record found; /* scratch */
	struct buf key;            /* scratch */
	int64_t clean_s, write_s;  /* next */
	bool cleaning, failing;
	struct probe probes; /* head, without a key: at the end for that */
};

static int64_t mono_s(void)
{
	return clock_now().ms / 1000;
}

static int64_t wall_s(void)
{
	return clock_now_wall().us / 1000000;
}

struct verify *verify_new(const struct verify_conf *conf, struct cache *cache,
			  const struct verify_ops *ops)
{
	struct verify *v = xcalloc(1, sizeof(*v));

	v->conf = *conf;
	v->cache = cache;
	v->ops = ops;
	v->by_key = strmap_new();
	v->probes.next = v->probes.prev = &v->probes;
	v->waiters.next = v->waiters.prev = &v->waiters;
	v->clean_s = mono_s() + conf->clean_interval_s;
	return v;
}

/* ---- waiters ---- */

static void waiter_free(struct waiter *w)
{
	struct waiter **at = &w->probe->waiters;

	while (*at != w)
		at = &(*at)->same;
	*at = w->same;
	w->prev->next = w->next;
	w->next->prev = w->prev;
	free(w);
}

static void waiter_answer(struct verify *v, struct waiter *w, enum verify_status status,
			  struct sv text)
{
	void *asker = w->asker;
	uint32_t id = w->id;

	waiter_free(w);
	v->ops->answer(v->ops->ctx, asker, id, status, text);
}

static void waiter_give_up(struct verify *v, struct waiter *w)
{
	v->stats.timeouts++;
	waiter_answer(v, w, VERIFY_TODO, IN_PROGRESS);
}

static void wait_for(struct verify *v, struct probe *p, void *asker, uint32_t id, int64_t wait_ms)
{
	struct waiter *w = xcalloc(1, sizeof(*w)), *oldest = NULL;
	unsigned count = 0;

	*w = (struct waiter){ .same = p->waiters,
			      .probe = p,
			      .asker = asker,
			      .id = id,
			      .until_ms = clock_now().ms + wait_ms,
			      .next = &v->waiters,
			      .prev = v->waiters.prev };
	p->waiters = w;
	w->prev->next = w->next->prev = w;
	for (w = v->waiters.next; w != &v->waiters; w = w->next) {
		if (w->asker != asker)
			continue;
		oldest = oldest == NULL ? w : oldest;
		count++;
	}
	if (count > VERIFY_WAITERS_MAX)
		waiter_give_up(v, oldest);
}

void verify_forget(struct verify *v, void *asker)
{
	struct waiter *next;

	for (struct waiter *w = v->waiters.next; w != &v->waiters; w = next) {
		next = w->next;
		if (w->asker == asker)
			waiter_free(w);
	}
}

bool verify_has_waiters(const struct verify *v)
{
	return v->waiters.next != &v->waiters;
}

/* ---- probes ---- */

static struct probe *probe_find(const struct verify *v, struct sv key)
{
	return strmap_get(v->by_key, key);
}

/* The probe is over; who waits is told. */
static void probe_end(struct verify *v, struct probe *p, enum verify_status status, struct sv text)
{
	strmap_remove(v->by_key, (struct sv){ p->key, p->key_len });
	p->prev->next = p->next;
	p->next->prev = p->prev;
	v->stats.pending--;
	while (p->waiters != NULL)
		waiter_answer(v, p->waiters, status, text);
	free(p);
}

static struct probe *probe_new(struct verify *v, struct sv key)
{
	struct probe *p = xcalloc(1, sizeof(*p) + key.len + 1);

	memcpy(p->key, key.p, key.len);
	p->key_len = key.len;
	p->since_s = mono_s();
	p->next = &v->probes;
	p->prev = v->probes.prev;
	p->prev->next = p->next->prev = p;
	strmap_put(v->by_key, key, p);
	v->stats.pending++;
	v->stats.probes++;
	return p;
}

void verify_free(struct verify **vp)
{
	struct verify *v;

	TAKE(v, *vp);
	if (v == NULL)
		return;
	while (v->waiters.next != &v->waiters)
		waiter_free(v->waiters.next);
	while (v->probes.next != &v->probes)
		probe_end(v, v->probes.next, VERIFY_TODO, IN_PROGRESS);
	strmap_free(&v->by_key);
	cache_close(&v->cache);
	buf_fini(&v->found.text);
	buf_fini(&v->key);
	free(v);
}

/* ---- the cache ---- */

/* Under which an address is known: the case of its domain is of no matter, and a colon would end
 * the field of a list. */
static struct sv key_of(struct verify *v, struct sv addr)
{
	const char *at = addr.len > 0 ? memrchr(addr.p, '@', addr.len) : NULL;
	size_t local = at != NULL ? (size_t)(at - addr.p) : addr.len;

	buf_reset(&v->key);
	buf_add_sv(&v->key, addr);
	str_lower(v->key.p + local, v->key.len - local);
	for (size_t i = 0; i < v->key.len; i++) {
		if (v->key.p[i] == ':')
			v->key.p[i] = '_';
	}
	return buf_sv(&v->key);
}

static void complain(struct verify *v, bool failed)
{
	if (failed && !v->failing)
		log_warn("address_verify_map %s: cannot be read or written", v->conf.map);
	v->failing = failed;
}

/* ---- questions ---- */

static bool is_sane(struct sv addr)
{
	for (size_t i = 0; i < addr.len; i++) {
		if ((unsigned char)addr.p[i] < ' ' || addr.p[i] == 127)
			return false;
	}
	return addr.len > 0 && addr.len <= VERIFY_ADDR_MAX;
}

static void answer(struct verify *v, void *asker, uint32_t id, enum verify_status status,
		   struct sv text)
{
	v->ops->answer(v->ops->ctx, asker, id, status, text);
}

/* Known, but a while ago. Without room for a probe the answer is good enough. */
static void refresh(struct verify *v, struct sv key, struct sv addr)
{
	if (probe_find(v, key) != NULL || v->stats.pending >= v->conf.pending_max)
		return;
	probe_new(v, key);
	v->stats.refreshes++;
	v->ops->probe(v->ops->ctx, addr);
}

static void ask_probe(struct verify *v, struct sv key, struct sv addr, void *asker, uint32_t id,
		      int64_t wait_ms)
{
	struct probe *p = probe_find(v, key);
	bool begins = p == NULL;

	if (begins && v->stats.pending >= v->conf.pending_max) {
		v->stats.limited++;
		answer(v, asker, id, VERIFY_DEFER, TOO_MANY);
		return;
	}
	if (begins)
		p = probe_new(v, key);
	if (wait_ms > 0)
		wait_for(v, p, asker, id, wait_ms);
	else
		answer(v, asker, id, VERIFY_TODO, IN_PROGRESS);
	if (begins) /* last: it may be over at once */
		v->ops->probe(v->ops->ctx, addr);
}

void verify_ask(struct verify *v, void *asker, uint32_t id, struct sv addr, int64_t wait_ms)
{
	v->stats.asked++;
	if (!is_sane(addr)) {
		answer(v, asker, id, VERIFY_DEFER, UNAVAILABLE);
		return;
	}
	struct sv key = key_of(v, addr);
	int got = cache_get(v->cache, key, wall_s(), &v->found);

	complain(v, got < 0);
	if (got < 0) {
		answer(v, asker, id, VERIFY_DEFER, UNAVAILABLE);
	} else if (got > 0) {
		v->stats.known++;
		answer(v, asker, id, v->found.status, buf_sv(&v->found.text));
		if (cache_needs_refresh(v->cache, &v->found, wall_s()))
			refresh(v, key, addr);
	} else {
		ask_probe(v, key, addr, asker, id, wait_ms);
	}
}

/* ---- results ---- */

static void store(struct verify *v, struct sv key, enum verify_status status, struct sv text)
{
	int got = cache_get(v->cache, key, wall_s(), &v->found);

	/* one failure does not make a good address bad: it is asked about again */
	bool keeps = got > 0 && v->found.status == VERIFY_OK && status != VERIFY_OK;

	if (got >= 0 && !keeps && (status == VERIFY_OK || v->conf.negative_cache))
		got = cache_put(v->cache, key, status, wall_s(), text);
	complain(v, got < 0);
}

void verify_result(struct verify *v, struct sv addr, enum verify_status status, struct sv text)
{
	struct buf clean = BUF_INIT;

	if (!is_sane(addr))
		return;
	struct sv key = key_of(v, addr);
	struct probe *p = probe_find(v, key);

	buf_add(&clean, text.p, size_min(text.len, CACHE_TEXT_MAX));
	str_make_printable(clean.p, clean.len);
	if (status == VERIFY_OK)
		v->stats.deliverable++;
	else
		v->stats.undeliverable++;
	store(v, key, status, buf_sv(&clean));
	if (p != NULL)
		probe_end(v, p, status, buf_sv(&clean));
	buf_fini(&clean);
}

void verify_lost(struct verify *v, struct sv addr)
{
	struct probe *p = is_sane(addr) ? probe_find(v, key_of(v, addr)) : NULL;

	if (p != NULL)
		probe_end(v, p, VERIFY_DEFER, UNAVAILABLE);
}

/* ---- time ---- */

static void clean(struct verify *v)
{
	uint64_t kept, dropped;

	if (!v->cleaning && (v->conf.clean_interval_s == 0 || mono_s() < v->clean_s))
		return;
	v->cleaning = cache_clean(v->cache, CLEAN_STEPS, wall_s(), &kept, &dropped) == 0;
	if (v->cleaning)
		return;
	v->clean_s = mono_s() + v->conf.clean_interval_s;
	log_info("cache %s full cleanup: retained=%" PRIu64 " dropped=%" PRIu64 " entries",
		 v->conf.map, kept, dropped);
}

/* Whose time is over first; times differ, and answering may bring new ones. */
static struct waiter *find_late(struct verify *v)
{
	int64_t now = clock_now().ms;
	struct waiter *w = v->waiters.next;

	while (w != &v->waiters && w->until_ms > now)
		w = w->next;
	return w != &v->waiters ? w : NULL;
}

void verify_tick(struct verify *v)
{
	struct waiter *w;
	int64_t now = mono_s();

	while ((w = find_late(v)) != NULL)
		waiter_give_up(v, w);
	while (v->probes.next != &v->probes && v->probes.next->since_s + VERIFY_PROBE_TTL_S < now)
		probe_end(v, v->probes.next, VERIFY_TODO, IN_PROGRESS);
	clean(v);
	if (now >= v->write_s) {
		v->write_s = now + WRITE_OUT_S;
		if (cache_write_out(v->cache) != 0)
			complain(v, true);
	}
}

void verify_stats(const struct verify *v, struct verify_stats *out)
{
	*out = v->stats;
	out->records = cache_count(v->cache);
}
