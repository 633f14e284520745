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
#include <string.h>

#include "lib/err.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "workers/rewrite/idset.h"
#include "workers/rewrite/rewrite.h"

#define PIECE_MAX      (32u << 20)
#define PIECE_KEEP     (1u << 20)
#define TX_MEMORY      (512u << 10) /* content of one message kept in memory */
#define PEER_MEMORY    (64u << 20)  /* of all open transactions of a peer */
#define PEER_TX_MAX    65536u
#define STREAM_SLACK   (512u << 10) /* added headers and the envelope */
#define STREAM_MAX     (2ull << 30) /* when message_size_limit is off */
#define STALL_LIMIT_MS 30000

struct tx { /* a message that comes in several pieces */
	struct message m;
	const struct message_verdict *verdict; /* of message_finish(); NULL before */
	struct spool_stream *stream;
	uint64_t content_bytes; /* in the stream */
	size_t counted;         /* of the peer's memory */
	uint32_t session, number;
};

struct waiting {
	struct proto_submit s;
	bool stale; /* its id is too old to be told from a used one: 451 */
	bool fed;   /* the piece is taken already; only the end is left to do */
};

struct peer {
	struct peer *next;
	struct worker_peer *wp;
	struct blocks_view blocks;
	uint32_t life;
	struct idset ids;   /* queue ids it has used */
	struct strmap *txs; /* open transactions by number */
	size_t memory;
	struct waiting *queue; /* ring of queue_cap */
	size_t queue_head, queue_len, queue_cap;
	bool accused;
};

static struct sv tx_key(const uint32_t *number)
{
	return (struct sv){ (const char *)number, sizeof(*number) };
}

static struct peer *find_peer(struct rewrite *r, const struct worker_peer *wp)
{
	for (struct peer *p = r->peers; p != NULL; p = p->next) {
		if (p->wp == wp)
			return p;
	}
	return NULL;
}

static void accuse(struct rewrite *r, struct peer *peer, const char *why)
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

static void give_back(struct rewrite *r, struct peer *peer, const struct proto_submit *s)
{
	struct proto_submit_free f = { .kind = PROTO_SUBMIT_FREE,
				       .first_block = s->first_block,
				       .session = s->session,
				       .tx = s->tx };

	if (s->first_block != BLOCK_NONE)
		worker_send(r->w, peer->wp->link, &f, sizeof(f));
}

/* ---- transactions ---- */

static struct tx *tx_open(struct rewrite *r, struct peer *peer, const struct proto_submit *s)
{
	struct tx *tx = xcalloc(1, sizeof(*tx));

	message_init(&tx->m, &r->rules);
	tx->session = s->session;
	tx->number = s->tx;
	strmap_put(peer->txs, tx_key(&tx->number), tx);
	return tx;
}

static void tx_close(struct peer *peer, struct tx *tx)
{
	strmap_remove(peer->txs, tx_key(&tx->number));
	peer->memory -= tx->counted;
	spool_stream_abort(&tx->stream);
	message_fini(&tx->m);
	free(tx);
}

static void tx_count_memory(struct peer *peer, struct tx *tx)
{
	size_t now = sizeof(*tx) + tx->m.out.cap + tx->m.env_in.cap + tx->m.arena.used_bytes +
		     tx->m.header.carry.cap;

	peer->memory = peer->memory - tx->counted + now;
	tx->counted = now;
}

static void tx_fail(struct tx *tx, const struct message_verdict *v)
{
	if (tx->m.failed.verdict == SUBMIT_OK)
		tx->m.failed = *v;
	spool_stream_abort(&tx->stream);
	buf_fini(&tx->m.out);
}

static uint64_t stream_bytes(const struct rewrite *r, const struct tx *tx)
{
	uint64_t limit = r->rules.message_size_limit;

	if (limit > STREAM_MAX)
		limit = STREAM_MAX;
	return limit + STREAM_SLACK + 4 * tx->m.env_in.len;
}

/* Move what has gathered to the stream. */
static int tx_flush(struct tx *tx)
{
	int err = spool_stream_add(tx->stream, tx->m.out.p, tx->m.out.len);

	buf_reset(&tx->m.out);
	return err;
}

/* The body part of a piece, behind what is in m.out. */
static void tx_add(struct rewrite *r, struct peer *peer, struct tx *tx, struct sv body)
{
	int err = 0;

	if (tx->m.failed.verdict != SUBMIT_OK) {
		tx_fail(tx, &tx->m.failed);
		return;
	}
	if (tx->stream == NULL && tx->m.out.len + body.len > TX_MEMORY) {
		err = spool_stream_open(r->writer, stream_bytes(r, tx), &tx->stream);
		if (err == E_AGAIN && peer->memory + body.len < PEER_MEMORY)
			err = 0; /* no segment yet: memory will do for the moment */
	}
	if (tx->stream == NULL && err == 0) {
		buf_add_sv(&tx->m.out, body);
	} else if (err == 0) {
		tx->content_bytes += tx->m.out.len + body.len;
		err = tx_flush(tx);
		if (err == 0)
			err = spool_stream_add(tx->stream, body.p, body.len);
	}
	if (err != 0)
		tx_fail(tx, verdict_of_error(err == E_AGAIN ? E_NOSPC : err));
}

/* ---- pieces ---- */

static char *piece_room(struct rewrite *r, size_t len)
{
	if (r->piece.cap > PIECE_KEEP)
		buf_fini(&r->piece);
	buf_reset(&r->piece);
	return buf_reserve(&r->piece, len);
}

/* Our private copy of a piece, with a CR in front when one was held back. */
static char *copy_piece(struct rewrite *r, struct peer *peer, const struct proto_submit *s, bool cr,
			size_t *len_r)
{
	size_t len = (size_t)s->env_len + s->data_len;
	char *p;

	p = piece_room(r, len + 1);
	*len_r = len + cr;
	if (len > 0 && blocks_view_copy(&peer->blocks, s->first_block, 0, p + 1, len) < 0) {
		accuse(r, peer, "damaged block chain");
		return NULL;
	}
	give_back(r, peer, s);
	p[0] = '\r';
	return cr ? p : p + 1;
}

int append_message(struct rewrite *r, struct message *m, struct sv body, struct pending *p)
{
	struct spool_iov iov[2] = { { m->out.p, m->out.len }, { body.p, body.len } };
	uint64_t size = m->out.len + body.len;
	int err;

	m->hdr.size = size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
	if (!names_room(r->names, m->plan.dest_count, r->pending_count == 0))
		return E_AGAIN;
	err = spool_writer_append(r->writer, &m->hdr, buf_sv(&m->env_out), iov, 2, p);
	if (err != 0)
		return err;
	pending_set_message(r, p, m);
	pending_add(r, p);
	message_log_id(m);
	return 0;
}

static struct pending *submit_pending(struct rewrite *r, struct peer *peer,
				      const struct proto_submit *s)
{
	struct pending *p = pending_new(r, PENDING_SUBMIT);

	p->peer = peer;
	p->session = s->session;
	p->tx = s->tx;
	return p;
}

static void log_discarded(const struct message *m)
{
	log_as("cleanup", LOG_LEVEL_INFO, "%s: removed (discarded)", m->qid_text);
}

/* A whole message in one piece. E_AGAIN: untouched, try again. */
static int one_piece(struct rewrite *r, struct peer *peer, const struct proto_submit *s)
{
	struct message *m = &r->scratch;
	const struct message_verdict *v;
	struct pending *pending;
	struct sv body;
	int err;
	size_t len = (size_t)s->env_len + s->data_len;
	char *p;

	p = piece_room(r, len + 1);
	if (blocks_view_copy(&peer->blocks, s->first_block, 0, p, len) < 0 ||
	    message_begin(m, qid_of_proto(s->qid), (struct sv){ p, s->env_len }) < 0 ||
	    message_feed(m, p + s->env_len, s->data_len, &body) < 0) {
		accuse(r, peer, "damaged message");
		return 0;
	}
	v = message_finish(m, &err);
	if (err < 0) {
		accuse(r, peer, "content does not end with a line");
		return 0;
	}
	if (v->verdict == SUBMIT_OK) {
		pending = submit_pending(r, peer, s);
		err = append_message(r, m, body, pending);
		if (err != 0)
			pending_drop(r, pending);
		if (err == E_AGAIN)
			return E_AGAIN;
		if (err != 0)
			v = verdict_of_error(err);
	} else if (v->verdict == SUBMIT_DISCARDED) {
		log_discarded(m);
	}
	give_back(r, peer, s);
	if (v->verdict != SUBMIT_OK)
		submit_answer(r, peer, s->session, s->tx, v);
	return 0;
}

static int tx_append(struct rewrite *r, struct tx *tx, struct pending *pending)
{
	struct message *m = &tx->m;
	int err;

	if (tx->stream == NULL)
		return append_message(r, m, (struct sv){ "", 0 }, pending);
	if (!names_room(r->names, m->plan.dest_count, r->pending_count == 0))
		return E_AGAIN;
	tx->content_bytes += m->out.len;
	m->hdr.size = tx->content_bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)tx->content_bytes;
	err = tx_flush(tx);
	if (err == 0)
		err = spool_stream_commit(&tx->stream, &m->hdr, buf_sv(&m->env_out), pending);
	if (err != 0)
		return err == E_AGAIN ? E_IO : err;
	pending_set_message(r, pending, m);
	pending_add(r, pending);
	message_log_id(m);
	return 0;
}

/* All pieces are in. E_AGAIN: try again with the same record. */
static int tx_end(struct rewrite *r, struct peer *peer, struct tx *tx, const struct proto_submit *s)
{
	const struct message_verdict *v;
	struct pending *pending;
	int err = 0;

	if (tx->verdict == NULL)
		tx->verdict = message_finish(&tx->m, &err);
	if (err < 0) {
		accuse(r, peer, "content does not end with a line");
		return 0;
	}
	v = tx->verdict;
	if (v->verdict == SUBMIT_OK) {
		pending = submit_pending(r, peer, s);
		err = tx_append(r, tx, pending);
		if (err != 0)
			pending_drop(r, pending);
		if (err == E_AGAIN)
			return E_AGAIN;
		if (err != 0)
			v = verdict_of_error(err);
	} else if (v->verdict == SUBMIT_DISCARDED) {
		log_discarded(&tx->m);
	}
	if (v->verdict != SUBMIT_OK)
		submit_answer(r, peer, s->session, s->tx, v);
	tx_close(peer, tx);
	return 0;
}

static void tx_piece(struct rewrite *r, struct peer *peer, struct tx *tx,
		     const struct proto_submit *s)
{
	bool cr = tx->m.wire.cr;
	size_t len;
	char *p = copy_piece(r, peer, s, cr, &len);
	struct sv body;

	if (p == NULL)
		return;
	if (s->flags & SUBMIT_BEGIN) {
		if (message_begin(&tx->m, qid_of_proto(s->qid), (struct sv){ p, s->env_len }) < 0) {
			accuse(r, peer, "damaged envelope");
			return;
		}
		p += s->env_len;
		len -= s->env_len;
	}
	if (message_feed(&tx->m, p, len, &body) < 0) {
		accuse(r, peer, "content is not in wire form");
		return;
	}
	tx_add(r, peer, tx, body);
	tx_count_memory(peer, tx);
	if (peer->memory > PEER_MEMORY) {
		tx_fail(tx, &verdict_no_space);
		tx_count_memory(peer, tx);
	}
}

/* One record in its turn. E_AGAIN: it must wait; `fed` says how far it got. */
static int handle(struct rewrite *r, struct peer *peer, struct waiting *w)
{
	const struct proto_submit *s = &w->s;
	struct tx *tx = strmap_get(peer->txs, tx_key(&s->tx));
	unsigned begin_end = SUBMIT_BEGIN | SUBMIT_END;

	if ((s->flags & SUBMIT_BEGIN) != 0 && tx != NULL && !w->fed) {
		accuse(r, peer, "transaction begins twice");
		return 0;
	}
	if ((s->flags & begin_end) == begin_end && !w->fed) {
		if (!w->stale)
			return one_piece(r, peer, s);
		give_back(r, peer, s);
		submit_answer(r, peer, s->session, s->tx, &verdict_write_error);
		return 0;
	}
	if (tx == NULL && (s->flags & SUBMIT_BEGIN) == 0) {
		accuse(r, peer, "piece of no transaction");
		return 0;
	}
	if (s->flags & SUBMIT_ABORT) {
		give_back(r, peer, s);
		if (tx != NULL)
			tx_close(peer, tx);
		return 0;
	}
	if (tx == NULL && strmap_count(peer->txs) >= PEER_TX_MAX) {
		accuse(r, peer, "too many transactions");
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
		accuse(r, peer, "too many submissions at once");
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

/* The spool has had no room for long: refuse what would wait at the head. */
static void refuse_head(struct rewrite *r, struct peer *peer)
{
	struct waiting w = *queue_head(peer);
	struct tx *tx = strmap_get(peer->txs, tx_key(&w.s.tx));

	queue_pop(peer);
	if (!w.fed)
		give_back(r, peer, &w.s);
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
	unsigned known = SUBMIT_BEGIN | SUBMIT_END | SUBMIT_ABORT;

	if (s->tx == 0 || (s->flags & ~known) != 0)
		return "bad transaction number or flags";
	if ((s->flags & SUBMIT_ABORT) != 0 && (s->flags & (SUBMIT_BEGIN | SUBMIT_END)) != 0)
		return "abort with other flags";
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

	if (peer == NULL || peer->accused)
		return;
	if (len != sizeof(w.s)) {
		accuse(r, peer, "record of unknown form");
		return;
	}
	memcpy(&w.s, rec, sizeof(w.s));
	why = w.s.kind != PROTO_SUBMIT ? "record of unknown kind" : check_submit(peer, &w);
	if (why != NULL) {
		accuse(r, peer, why);
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
	idset_init(&peer->ids);
	peer->next = r->peers;
	r->peers = peer;
	if (blocks_view_attach(&peer->blocks, &wp->blocks) < 0)
		accuse(r, peer, "damaged block region");
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
