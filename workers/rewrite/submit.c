/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages from smtp-in workers. Such a worker may have been taken over: what it sends is copied
 * once out of its blocks, every number is checked, memory per worker is bounded, and a worker that
 * breaks the rules is reported and heard no more. It can harm its own sessions only.
 *
 * A message that comes in one piece is processed in the shared scratch message and appended at
 * once. Others have a transaction of their own: content gathers in memory up to TX_MEMORY, then
 * goes to the spool as a stream. When the spool has no room (no segment yet), records of the peer
 * wait in its queue, their content staying in the peer's own blocks, and go on in order.
 */
#include "workers/rewrite/submit.h"

#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "workers/rewrite/filter.h"

#define PIECE_MAX      (32u << 20)
#define PEER_TX_MAX    65536u
#define STALL_LIMIT_MS 30000

static struct peer *find_peer(struct rewrite *r, const struct worker_peer *wp)
{
	for (struct peer *p = r->peers; p != NULL; p = p->next) {
		if (p->wp == wp)
			return p;
	}
	return NULL;
}

void peer_accuse(struct rewrite *r, struct peer *peer, const char *why)
{
	if (!peer->accused)
		worker_accuse(r->w, peer->wp, why);
	peer->accused = true;
	peer->queue_len = 0;
}

/* ---- answers ---- */

void submit_answer(struct rewrite *r, struct peer *peer, uint32_t session, uint32_t tx,
		   const struct message_verdict *v)
{
	char rec[sizeof(struct proto_submit_done) + PROTO_TEXT_MAX];
	size_t len = v->text != NULL ? size_min(strlen(v->text), PROTO_TEXT_MAX) : 0;
	struct proto_submit_done d = { .kind = PROTO_SUBMIT_DONE,
				       .session = session,
				       .tx = tx,
				       .verdict = v->verdict,
				       .code = v->code,
				       .dsn = { v->dsn[0], v->dsn[1], v->dsn[2] },
				       .text_len = (uint32_t)len };

	memcpy(rec, &d, sizeof(d));
	if (len > 0)
		memcpy(rec + sizeof(d), v->text, len);
	worker_send(r->w, peer->wp->link, rec, sizeof(d) + len);
}

void peer_give_back(struct rewrite *r, struct peer *peer, const struct proto_submit *s)
{
	struct proto_submit_free f = { .kind = PROTO_SUBMIT_FREE,
				       .first_block = s->first_block,
				       .session = s->session,
				       .tx = s->tx };

	if (s->first_block != BLOCK_NONE)
		worker_send(r->w, peer->wp->link, &f, sizeof(f));
}

/* One record in its turn. E_AGAIN: it must wait; `fed` says how far it got. */
static int handle(struct rewrite *r, struct peer *peer, struct waiting *w)
{
	const struct proto_submit *s = &w->s;
	struct tx *tx = strmap_get(peer->txs, tx_key(&s->tx));
	unsigned begin_end = SUBMIT_BEGIN | SUBMIT_END;

	peer->wp->turn_bytes += (uint64_t)s->env_len + s->data_len;
	if ((s->flags & SUBMIT_BEGIN) != 0 && tx != NULL && !w->fed) {
		peer_accuse(r, peer, "transaction begins twice");
		return 0;
	}
	if ((s->flags & begin_end) == begin_end && !w->fed) {
		if (!w->stale)
			return tx_one_piece(r, peer, s);
		peer_give_back(r, peer, s);
		submit_answer(r, peer, s->session, s->tx, &verdict_write_error);
		return 0;
	}
	if (tx == NULL && (s->flags & SUBMIT_BEGIN) == 0) {
		peer_accuse(r, peer, "piece of no transaction");
		return 0;
	}
	if (s->flags & SUBMIT_ABORT) {
		peer_give_back(r, peer, s);
		if (tx != NULL)
			tx_close(peer, tx);
		return 0;
	}
	if (tx == NULL && strmap_count(peer->txs) >= PEER_TX_MAX) {
		peer_accuse(r, peer, "too many transactions");
		return 0;
	}
	if (tx == NULL)
		tx = tx_open(r, peer, s);
	if (!w->fed)
		tx_piece(r, peer, tx, s);
	if (w->stale && !peer->accused)
		tx_fail(tx, &verdict_write_error);
	if (peer->accused || (s->flags & SUBMIT_END) == 0)
		return 0;
	w->fed = true;
	return tx_end(r, peer, tx, s);
}

/* ---- waiting for the spool ---- */

static void stall(struct rewrite *r)
{
	if (!r->stalled)
		r->stalled_since = clock_now();
	r->stalled = true;
}

static struct waiting *queue_head(struct peer *peer)
{
	return &peer->queue[peer->queue_head];
}

static void queue_pop(struct peer *peer)
{
	peer->queue_head = (peer->queue_head + 1) % peer->queue_cap;
	peer->queue_len--;
}

static void queue_push(struct rewrite *r, struct peer *peer, const struct waiting *w)
{
	size_t limit = 4 * (size_t)peer->blocks.count + 1024;

	if (peer->queue_len >= limit) {
		peer_accuse(r, peer, "too many submissions at once");
		return;
	}
	if (peer->queue_len == peer->queue_cap) {
		size_t cap = peer->queue_cap == 0 ? 64 : peer->queue_cap * 2;
		struct waiting *q = xmalloc(cap * sizeof(*q));

		for (size_t i = 0; i < peer->queue_len; i++)
			q[i] = peer->queue[(peer->queue_head + i) % peer->queue_cap];
		free(peer->queue);
		peer->queue = q;
		peer->queue_head = 0;
		peer->queue_cap = cap;
	}
	peer->queue[(peer->queue_head + peer->queue_len++) % peer->queue_cap] = *w;
}

void submit_again(struct rewrite *r, struct peer *peer, const struct proto_submit *end)
{
	const struct waiting w = { .s = *end, .fed = true };

	queue_push(r, peer, &w);
	stall(r);
}

/* The spool has had no room for long: refuse what would wait at the head. */
static void refuse_head(struct rewrite *r, struct peer *peer)
{
	struct waiting w = *queue_head(peer);
	struct tx *tx = strmap_get(peer->txs, tx_key(&w.s.tx));

	queue_pop(peer);
	if (!w.fed)
		peer_give_back(r, peer, &w.s);
	if (tx != NULL)
		tx_close(peer, tx);
	submit_answer(r, peer, w.s.session, w.s.tx, &verdict_write_error);
}

static bool resume_peer(struct rewrite *r, struct peer *peer)
{
	bool did = false;

	while (peer->queue_len > 0 && !peer->accused) {
		struct waiting w = *queue_head(peer);

		if (handle(r, peer, &w) == E_AGAIN) {
			*queue_head(peer) = w;
			if (!r->stalled || mono_since_ms(r->stalled_since) < STALL_LIMIT_MS) {
				stall(r);
				return did;
			}
			refuse_head(r, peer);
		} else if (peer->queue_len > 0) {
			queue_pop(peer);
		}
		did = true;
		if (peer->wp->turn_bytes >= WORKER_PEER_TURN_BYTES)
			break; /* the others' turn */
	}
	return did;
}

bool submit_resume(struct rewrite *r)
{
	bool did = false, waiting = false;

	if (!r->stalled)
		return false;
	for (struct peer *p = r->peers; p != NULL; p = p->next) {
		did = resume_peer(r, p) || did;
		waiting = waiting || p->queue_len > 0;
	}
	if (!waiting)
		r->stalled = false;
	return did;
}

/* ---- records ---- */

/* What can be said of a record by itself. Returns what is wrong, NULL when nothing is. */
static const char *check_submit(struct peer *peer, struct waiting *w)
{
	const struct proto_submit *s = &w->s;
	enum idset_verdict verdict;
	uint64_t bytes = (uint64_t)s->env_len + s->data_len;
	unsigned known = SUBMIT_BEGIN | SUBMIT_END | SUBMIT_ABORT | SUBMIT_MILTER;

	if (s->tx == 0 || (s->flags & ~known) != 0)
		return "bad transaction number or flags";
	if ((s->flags & SUBMIT_ABORT) != 0 && (s->flags & (SUBMIT_BEGIN | SUBMIT_END)) != 0)
		return "abort with other flags";
	if ((s->flags & SUBMIT_MILTER) != 0 && (s->flags & SUBMIT_BEGIN) == 0)
		return "milters in the middle";
	if (bytes > PIECE_MAX || bytes > (uint64_t)peer->blocks.count * BLOCK_SIZE)
		return "piece too large";
	if ((bytes > 0) != (s->first_block != BLOCK_NONE))
		return "blocks do not match the length";
	if ((s->flags & SUBMIT_BEGIN) == 0)
		return s->env_len != 0 ? "envelope in the middle" : NULL;
	if (s->env_len == 0)
		return "no envelope";
	if (s->qid.life != peer->life)
		return "queue id of another life";
	if (s->qid.time_us == 0 || s->qid.time_us >= QID_MAX_TIME_US)
		return "impossible queue id";
	/* ids are made early in a transaction: they do not grow in the order of the submissions */
	verdict = idset_use(&peer->ids, s->qid.time_us);
	w->stale = verdict == IDSET_TOO_OLD;
	return verdict == IDSET_USED ? "queue id used twice" : NULL;
}

void submit_record(struct rewrite *r, struct worker_peer *wp, const void *rec, size_t len)
{
	struct peer *peer = find_peer(r, wp);
	struct waiting w = { .fed = false };
	const char *why;
	uint32_t kind = 0;

	if (peer == NULL || peer->accused)
		return;
	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (kind == PROTO_MILTER_EVENT && wp->class_id == CLASS_SMTP_IN) {
		filter_event(r, peer, rec, len);
		return;
	}
	if (len != sizeof(w.s)) {
		peer_accuse(r, peer, "record of unknown form");
		return;
	}
	memcpy(&w.s, rec, sizeof(w.s));
	why = w.s.kind != PROTO_SUBMIT ? "record of unknown kind" : check_submit(peer, &w);
	if (why != NULL) {
		peer_accuse(r, peer, why);
		return;
	}
	if (peer->queue_len > 0) {
		queue_push(r, peer, &w);
	} else if (handle(r, peer, &w) == E_AGAIN) {
		queue_push(r, peer, &w);
		stall(r);
	}
}

void submit_attach(struct rewrite *r, struct worker_peer *wp)
{
	struct peer *peer = xcalloc(1, sizeof(*peer));

	peer->wp = wp;
	peer->life = wp->life;
	peer->txs = strmap_new();
	peer->filters = strmap_new();
	idset_init(&peer->ids);
	peer->next = r->peers;
	r->peers = peer;
	if (blocks_view_attach(&peer->blocks, &wp->blocks) < 0)
		peer_accuse(r, peer, "damaged block region");
	wp->claim_bytes = (uint64_t)peer->blocks.count * BLOCK_SIZE;
}

void submit_detach(struct rewrite *r, struct worker_peer *wp)
{
	struct peer **at = &r->peers, *peer;
	struct sv key;
	void *value;
	size_t pos = 0;

	while (*at != NULL && (*at)->wp != wp)
		at = &(*at)->next;
	peer = *at;
	if (peer == NULL)
		return;
	*at = peer->next;
	for (struct pending *p = r->pending.next; p != &r->pending; p = p->next) {
		if (p->peer == peer)
			p->peer = NULL;
	}
	while (strmap_next(peer->txs, &pos, &key, &value)) {
		tx_close(peer, value);
		pos = 0;
	}
	strmap_free(&peer->txs);
	filter_detach(peer);
	strmap_free(&peer->filters);
	idset_fini(&peer->ids);
	blocks_view_fini(&peer->blocks);
	free(peer->queue);
	free(peer);
}

bool submit_is_idle(const struct rewrite *r)
{
	for (const struct peer *p = r->peers; p != NULL; p = p->next) {
		if (p->queue_len > 0 || strmap_count(p->txs) > 0)
			return false;
	}
	return true;
}
