/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * DNS client: questions over the link to the resolver worker, with coalescing, time-outs and a
 * small cache. See workers/dns/dns.h for the contract; deliver and smtp-in call it from their event
 * loops.
 *
 * A question is one (type, name) under way with all who wait for it. Its number on the wire is its
 * place in `slots` plus a generation, so that an answer to an old question never hits a new one.
 * Questions stand in one list in the order they were asked: all have the same time-out.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/util.h"
#include "shm/counters.h"
#include "workers/dns/dns.h"

#define KEY_SIZE       (2 + DNS_NAME_SIZE)
#define TTL_MAX_S      300 /* the resolver has the long memory */
#define TTL_NEGATIVE_S 60
#define MALFORMED_MAX  5u /* lines of the log about them */

struct dns_query {                     /* one who waits */
	struct dns_query *next, *prev; /* list in the question */
	struct question *question;
	dns_fn fn;
	void *ctx;
};

struct question {
	struct question *next, *prev; /* oldest first */
	struct dns_query waiting;     /* list head */
	uint32_t slot;
	uint32_t id;
	bool sent;
	struct mono_ms asked;
	uint16_t rrtype;
	uint16_t key_len;
	char key[KEY_SIZE]; /* type, name */
};

struct cached {
	struct cached *next, *prev; /* most recently used first */
	int64_t until_ms;
	uint16_t key_len;
	uint32_t rec_len;
	char *rec; /* the answer record, read again at each hit */
	char key[KEY_SIZE];
};

struct dns_client {
	int64_t timeout_ms;
	struct counters_shm *counters;
	struct link *link;
	struct strmap *by_key; /* key -> struct question */
	struct strmap *cache;  /* key -> struct cached */
	struct question list;  /* head */
	struct cached lru;     /* head */
	struct question *slots[DNS_PENDING_MAX];
	uint32_t free_slots[DNS_PENDING_MAX];
	uint32_t free_count;
	uint32_t generation;
	unsigned malformed; /* answers on this link */
	bool unsent;        /* some question found the ring full */
	unsigned busy;      /* a callback is running: rrs[] is in use */
	struct dns_rr rrs[DNS_RR_MAX];
};

struct dns_client *dns_client_new(int64_t timeout_ms, struct counters_shm *counters)
{
	struct dns_client *c = xcalloc(1, sizeof(*c));

	c->timeout_ms = timeout_ms;
	c->counters = counters;
	c->by_key = strmap_new();
	c->cache = strmap_new();
	c->list.next = c->list.prev = &c->list;
	c->lru.next = c->lru.prev = &c->lru;
	for (uint32_t i = 0; i < DNS_PENDING_MAX; i++)
		c->free_slots[i] = DNS_PENDING_MAX - 1 - i;
	c->free_count = DNS_PENDING_MAX;
	return c;
}

static void query_unlink(struct dns_query *q)
{
	q->prev->next = q->next;
	q->next->prev = q->prev;
}

/* Takes the question out of all tables; those who wait are still in its list. */
static void question_unlink(struct dns_client *c, struct question *qn)
{
	qn->prev->next = qn->next;
	qn->next->prev = qn->prev;
	strmap_remove(c->by_key, (struct sv){ qn->key, qn->key_len });
	c->slots[qn->slot] = NULL;
	c->free_slots[c->free_count++] = qn->slot;
}

static void cached_drop(struct dns_client *c, struct cached *e)
{
	e->prev->next = e->next;
	e->next->prev = e->prev;
	strmap_remove(c->cache, (struct sv){ e->key, e->key_len });
	free(e->rec);
	free(e);
}

void dns_client_free(struct dns_client **cp)
{
	struct dns_client *c = *cp;

	if (c == NULL)
		return;
	while (c->list.next != &c->list) {
		struct question *qn = c->list.next;

		question_unlink(c, qn);
		while (qn->waiting.next != &qn->waiting) {
			struct dns_query *q = qn->waiting.next;

			query_unlink(q);
			free(q);
		}
		free(qn);
	}
	while (c->lru.next != &c->lru)
		cached_drop(c, c->lru.next);
	strmap_free(&c->by_key);
	strmap_free(&c->cache);
	free(c);
	*cp = NULL;
}

static void question_send(struct dns_client *c, struct question *qn)
{
	size_t name_len = qn->key_len - 2u;
	struct proto_dns_query *rec;

	if (c->link == NULL || !link_is_attached(c->link))
		return;
	rec = ring_reserve(&c->link->out, sizeof(*rec) + name_len);
	if (rec == NULL) {
		c->unsent = true;
		return;
	}
	*rec = (struct proto_dns_query){ .kind = PROTO_DNS_QUERY,
					 .id = qn->id,
					 .rrtype = qn->rrtype,
					 .name_len = (uint16_t)name_len };
	memcpy(rec + 1, qn->key + 2, name_len);
	ring_commit(&c->link->out);
	qn->sent = true;
}

static void send_unsent(struct dns_client *c)
{
	if (!c->unsent)
		return;
	c->unsent = false;
	for (struct question *qn = c->list.next; qn != &c->list && !c->unsent; qn = qn->next) {
		if (!qn->sent)
			question_send(c, qn);
	}
}

void dns_client_set_link(struct dns_client *c, struct link *l)
{
	c->link = l;
	c->malformed = 0;
	for (struct question *qn = c->list.next; qn != &c->list; qn = qn->next)
		qn->sent = false;
	c->unsent = l != NULL;
	send_unsent(c);
}

static void answer_waiting(struct dns_client *c, struct question *qn, const struct dns_answer *a)
{
	if (a->status == DNS_TEMP && c->counters != NULL)
		counter_add(c->counters, CTR_dns_failures, 1);
	c->busy++;
	while (qn->waiting.next != &qn->waiting) {
		struct dns_query *q = qn->waiting.next;
		dns_fn fn = q->fn;
		void *ctx = q->ctx;

		query_unlink(q);
		free(q);
		fn(ctx, a);
	}
	c->busy--;
	free(qn);
}

static void answer_status(dns_fn fn, void *ctx, enum dns_status status)
{
	const struct dns_answer a = { .status = status };

	fn(ctx, &a);
}

static void lru_push(struct dns_client *c, struct cached *e)
{
	e->next = c->lru.next;
	e->prev = &c->lru;
	e->next->prev = e;
	c->lru.next = e;
}

/* True when the cache had the answer; the callback has run then. */
static bool answer_cached(struct dns_client *c, struct sv key, dns_fn fn, void *ctx)
{
	struct cached *e = strmap_get(c->cache, key);
	struct proto_dns_answer hdr;
	struct dns_rr *rrs = c->rrs;
	struct dns_answer a;
	void *rec;

	if (e != NULL && e->until_ms <= clock_now().ms) {
		cached_drop(c, e);
		e = NULL;
	}
	if (e == NULL)
		return false;
	e->prev->next = e->next;
	e->next->prev = e->prev;
	lru_push(c, e);
	if (c->busy > 0) /* asked from inside a callback that still reads rrs[] */
		rrs = xmalloc(sizeof(c->rrs));
	/* a copy: what the callback asks may push this entry out */
	rec = xmalloc(e->rec_len);
	memcpy(rec, e->rec, e->rec_len);
	if (dns_answer_parse(rec, e->rec_len, &hdr, rrs, &a) != 0)
		bug("dns: a cached answer does not parse");
	a.ttl_s = (uint32_t)((e->until_ms - clock_now().ms + 999) / 1000);
	c->busy++;
	fn(ctx, &a);
	c->busy--;
	free(rec);
	if (rrs != c->rrs)
		free(rrs);
	return true;
}

static void cache_put(struct dns_client *c, struct sv key, const void *rec, size_t len,
		      const struct dns_answer *a)
{
	int64_t ttl_s = a->ttl_s;
	struct cached *e;

	if (a->status != DNS_OK && a->status != DNS_NXDOMAIN && a->status != DNS_NODATA)
		return;
	if (ttl_s > (a->status == DNS_OK ? TTL_MAX_S : TTL_NEGATIVE_S))
		ttl_s = a->status == DNS_OK ? TTL_MAX_S : TTL_NEGATIVE_S;
	if (ttl_s <= 0)
		return;
	e = strmap_get(c->cache, key);
	if (e != NULL)
		cached_drop(c, e);
	while (strmap_count(c->cache) >= DNS_CACHE_MAX)
		cached_drop(c, c->lru.prev);
	e = xmalloc(sizeof(*e));
	e->until_ms = clock_now().ms + ttl_s * 1000;
	e->key_len = (uint16_t)key.len;
	memcpy(e->key, key.p, key.len);
	e->rec_len = (uint32_t)len;
	e->rec = xmalloc(len);
	memcpy(e->rec, rec, len);
	lru_push(c, e);
	strmap_put(c->cache, key, e);
}

static struct question *question_new(struct dns_client *c, struct sv key, uint16_t rrtype)
{
	struct question *qn = xcalloc(1, sizeof(*qn));

	qn->waiting.next = qn->waiting.prev = &qn->waiting;
	qn->slot = c->free_slots[--c->free_count];
	c->generation++;
	qn->id = (uint32_t)(c->generation * DNS_PENDING_MAX) | qn->slot;
	qn->asked = clock_now();
	qn->rrtype = rrtype;
	qn->key_len = (uint16_t)key.len;
	memcpy(qn->key, key.p, key.len);
	qn->prev = c->list.prev;
	qn->next = &c->list;
	qn->prev->next = qn;
	c->list.prev = qn;
	c->slots[qn->slot] = qn;
	strmap_put(c->by_key, key, qn);
	if (c->counters != NULL)
		counter_add(c->counters, CTR_dns_queries, 1);
	return qn;
}

struct dns_query *dns_ask(struct dns_client *c, struct sv name, uint16_t rrtype, dns_fn fn,
			  void *ctx)
{
	char buf[KEY_SIZE] = { (char)(rrtype >> 8), (char)(rrtype & 255) };
	struct question *qn;
	struct dns_query *q;
	struct sv key;

	if (!dns_name_clean(name, buf + 2)) {
		answer_status(fn, ctx, DNS_BADNAME);
		return NULL;
	}
	key = (struct sv){ buf, 2 + strlen(buf + 2) };
	if (answer_cached(c, key, fn, ctx))
		return NULL;
	qn = strmap_get(c->by_key, key);
	if (qn == NULL && c->free_count == 0) {
		answer_status(fn, ctx, DNS_TEMP);
		return NULL;
	}
	if (qn == NULL) {
		qn = question_new(c, key, rrtype);
		question_send(c, qn);
	}
	q = xmalloc(sizeof(*q));
	*q = (struct dns_query){
		.prev = qn->waiting.prev, .next = &qn->waiting, .question = qn, .fn = fn, .ctx = ctx
	};
	q->prev->next = q;
	qn->waiting.prev = q;
	return q;
}

void dns_cancel(struct dns_query *q)
{
	/* the question goes on: its answer is wanted in the cache */
	query_unlink(q);
	free(q);
}

void dns_client_input(struct dns_client *c, const void *rec, size_t len)
{
	struct proto_dns_answer hdr;
	struct dns_answer a;
	struct question *qn;

	send_unsent(c);
	if (dns_answer_parse(rec, len, &hdr, c->rrs, &a) != 0) {
		if (c->malformed++ < MALFORMED_MAX)
			log_warn("dns: malformed answer from the resolver");
		return;
	}
	qn = c->slots[hdr.id % DNS_PENDING_MAX];
	if (qn == NULL || qn->id != hdr.id || qn->rrtype != hdr.rrtype)
		return; /* late answer to a question that timed out */
	question_unlink(c, qn);
	cache_put(c, (struct sv){ qn->key, qn->key_len }, rec, len, &a);
	answer_waiting(c, qn, &a);
}

void dns_client_tick(struct dns_client *c)
{
	const struct dns_answer temp = { .status = DNS_TEMP };

	send_unsent(c);
	while (c->list.next != &c->list && mono_since_ms(c->list.next->asked) >= c->timeout_ms) {
		struct question *qn = c->list.next;

		question_unlink(c, qn);
		answer_waiting(c, qn, &temp);
	}
}
