/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Queues and fairness of the resolver; see workers/resolver/engine.h. */
#include "workers/resolver/engine.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/dns/dns.h"

struct engine_query {
	struct engine_query *next;
	struct engine_peer *peer; /* NULL: the peer is gone, nobody waits */
	struct engine_query *fly_next, *fly_prev;
	uint32_t id;
	uint16_t rrtype;
	char name[DNS_NAME_SIZE];
};

struct engine_peer {
	struct engine_peer *next;
	void *key;
	struct engine_query *head, **tail;
	unsigned waiting;
};

struct engine {
	struct engine_ops ops;
	struct hosts *hosts;
	struct engine_peer *peers;  /* the next one to be served is first */
	struct engine_query flying; /* head */
	unsigned flying_count;
	bool starting;
	unsigned char rec[PACKET_ANSWER_MAX];
};

struct engine *engine_new(const struct engine_ops *ops, struct hosts *hosts)
{
	struct engine *e = xcalloc(1, sizeof(*e));

	e->ops = *ops;
	e->hosts = hosts;
	e->flying.fly_next = e->flying.fly_prev = &e->flying;
	return e;
}

void engine_free(struct engine **ep)
{
	struct engine *e = *ep;

	if (e == NULL)
		return;
	while (e->peers != NULL)
		engine_peer_remove(e, e->peers->key);
	while (e->flying.fly_next != &e->flying) {
		struct engine_query *q = e->flying.fly_next;

		e->flying.fly_next = q->fly_next;
		free(q);
	}
	free(e);
	*ep = NULL;
}

static struct engine_peer **peer_find(struct engine *e, const void *key)
{
	struct engine_peer **at = &e->peers;

	while (*at != NULL && (*at)->key != key)
		at = &(*at)->next;
	return at;
}

void engine_peer_add(struct engine *e, void *key)
{
	struct engine_peer *p = xcalloc(1, sizeof(*p));

	p->key = key;
	p->tail = &p->head;
	p->next = e->peers;
	e->peers = p;
}

void engine_peer_remove(struct engine *e, void *key)
{
	struct engine_peer **at = peer_find(e, key);
	struct engine_peer *p = *at;

	if (p == NULL)
		return;
	*at = p->next;
	while (p->head != NULL) {
		struct engine_query *q = p->head;

		p->head = q->next;
		free(q);
	}
	/* those under way end in the back end; they go on counting against ENGINE_FLYING_MAX */
	for (struct engine_query *q = e->flying.fly_next; q != &e->flying; q = q->fly_next) {
		if (q->peer == p)
			q->peer = NULL;
	}
	free(p);
}

static void answer_status(struct engine *e, void *peer, uint32_t id, uint16_t rrtype,
			  enum dns_status status)
{
	struct proto_dns_answer h = {
		.kind = PROTO_DNS_ANSWER, .id = id, .status = (uint16_t)status, .rrtype = rrtype
	};

	e->ops.answer(e->ops.ctx, peer, &h, sizeof(h));
}

static void answer_record(struct engine *e, void *peer, uint32_t id, bool secure,
			  unsigned char *rec, size_t len)
{
	struct proto_dns_answer h;

	memcpy(&h, rec, sizeof(h));
	h.id = id;
	h.secure = secure;
	memcpy(rec, &h, sizeof(h));
	e->ops.answer(e->ops.ctx, peer, rec, len);
}

/* The next question, from the peer whose turn it is. */
static struct engine_query *next_waiting(struct engine *e)
{
	struct engine_peer **at = &e->peers, *p, **end;
	struct engine_query *q;

	while (*at != NULL && (*at)->head == NULL)
		at = &(*at)->next;
	p = *at;
	if (p == NULL)
		return NULL;
	q = p->head;
	p->head = q->next;
	if (p->head == NULL)
		p->tail = &p->head;
	p->waiting--;
	/* to the end of the line */
	*at = p->next;
	p->next = NULL;
	for (end = &e->peers; *end != NULL;)
		end = &(*end)->next;
	*end = p;
	return q;
}

static void start_waiting(struct engine *e)
{
	struct engine_query *q;

	if (e->starting)
		return; /* the back end answered at once: the loop below goes on */
	e->starting = true;
	while (e->flying_count < ENGINE_FLYING_MAX && (q = next_waiting(e)) != NULL) {
		q->fly_prev = e->flying.fly_prev;
		q->fly_next = &e->flying;
		q->fly_prev->fly_next = q;
		e->flying.fly_prev = q;
		e->flying_count++;
		if (e->ops.ask(e->ops.ctx, q->name, q->rrtype, q) != 0)
			engine_done(e, q, NULL, 0, false);
	}
	e->starting = false;
}

void engine_done(struct engine *e, struct engine_query *q, unsigned char *rec, size_t len,
		 bool secure)
{
	q->fly_prev->fly_next = q->fly_next;
	q->fly_next->fly_prev = q->fly_prev;
	e->flying_count--;
	if (q->peer != NULL && rec == NULL)
		answer_status(e, q->peer->key, q->id, q->rrtype, DNS_TEMP);
	else if (q->peer != NULL)
		answer_record(e, q->peer->key, q->id, secure, rec, len);
	free(q);
	start_waiting(e);
}

int engine_input(struct engine *e, void *key, const void *rec, size_t len)
{
	struct engine_peer *p = *peer_find(e, key);
	struct proto_dns_query h;
	char name[DNS_NAME_SIZE];
	struct engine_query *q;
	size_t out_len;

	if (p == NULL || len < sizeof(h))
		return E_PEER;
	memcpy(&h, rec, sizeof(h));
	if (h.kind != PROTO_DNS_QUERY || h.name_len != len - sizeof(h))
		return E_PEER;
	if (!dns_name_clean((struct sv){ (const char *)rec + sizeof(h), h.name_len }, name)) {
		answer_status(e, key, h.id, h.rrtype, DNS_BADNAME);
		return 0;
	}
	if (hosts_answer(e->hosts, sv_from(name), h.rrtype, e->rec, &out_len)) {
		answer_record(e, key, h.id, false, e->rec, out_len);
		return 0;
	}
	if (p->waiting >= ENGINE_WAITING_MAX) {
		answer_status(e, key, h.id, h.rrtype, DNS_TEMP);
		return 0;
	}
	q = xcalloc(1, sizeof(*q));
	q->peer = p;
	q->id = h.id;
	q->rrtype = h.rrtype;
	memcpy(q->name, name, sizeof(q->name));
	*p->tail = q;
	p->tail = &q->next;
	p->waiting++;
	start_waiting(e);
	return 0;
}

unsigned engine_flying(const struct engine *e)
{
	return e->flying_count;
}
