/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Messages on their way from an smtp-in worker into the spool; see workers/rewrite/submit.c. */
#include "workers/rewrite/submit.h"

#include <string.h>

#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/log.h"
#include "workers/common/deliverlog.h"
#include "workers/rewrite/filter.h"

#define PIECE_KEEP     (1u << 20)
#define TX_MEMORY      (512u << 10) /* content of one message kept in memory */
#define TX_ARENA_CHUNK (2u << 10)
#define STREAM_SLACK   (512u << 10) /* added headers and the envelope */
#define STREAM_MAX     (2ull << 30) /* when message_size_limit is off */
#define REPORT_MS      10000
#define TABLES_MS      300000 /* for all questions of a message to remote tables */

/* ---- transactions ---- */

struct tx *tx_open(struct rewrite *r, struct peer *peer, const struct proto_submit *s)
{
	struct tx *tx = xcalloc(1, sizeof(*tx));

	message_init(&tx->m, &r->rules);
	tx->m.arena.chunk_bytes = TX_ARENA_CHUNK;
	tx->session = s->session;
	tx->number = s->tx;
	tx->rewrite = r;
	tx->peer = peer;
	strmap_put(peer->txs, tx_key(&tx->number), tx);
	tx->listed = true;
	tx->older = peer->newest;
	if (peer->newest != NULL)
		peer->newest->newer = tx;
	else
		peer->oldest = tx;
	peer->newest = tx;
	return tx;
}

static void unlist(struct peer *peer, struct tx *tx)
{
	if (!tx->listed)
		return;
	tx->listed = false;
	if (tx->older != NULL)
		tx->older->newer = tx->newer;
	else
		peer->oldest = tx->newer;
	if (tx->newer != NULL)
		tx->newer->older = tx->older;
	else
		peer->newest = tx->older;
}

/* What milters are to see is counted by itself: when they are slow, other mail has its room. */
static size_t *memory_of(struct peer *peer, const struct tx *tx)
{
	return tx->filtered ? &peer->filter_memory : &peer->memory;
}

void tx_close(struct peer *peer, struct tx *tx)
{
	strmap_remove(peer->txs, tx_key(&tx->number));
	unlist(peer, tx);
	filter_cancel(tx);
	*memory_of(peer, tx) -= tx->counted;
	if (tx->fetch != NULL)
		tables_cancel(tx->fetch);
	map_memo_free(&tx->memo);
	spool_stream_abort(&tx->stream);
	message_fini(&tx->m);
	free(tx);
}

static void tx_count_memory(struct peer *peer, struct tx *tx)
{
	size_t now = sizeof(*tx) + tx->m.out.cap + tx->m.env_in.cap +
		     size_max(tx->m.arena.used_bytes, TX_ARENA_CHUNK) + tx->m.header.carry.cap +
		     tx->m.raw.cap + tx->m.converted.cap + checks_memory(&tx->m.checks);

	*memory_of(peer, tx) = *memory_of(peer, tx) - tx->counted + now;
	tx->counted = now;
}

static void tx_set_filtered(struct peer *peer, struct tx *tx)
{
	peer->memory -= tx->counted;
	tx->counted = 0;
	tx->filtered = true;
	unlist(peer, tx); /* its memory is not taken back for others */
}

void tx_fail(struct tx *tx, const struct message_verdict *v)
{
	if (tx->m.failed.verdict == SUBMIT_OK)
		tx->m.failed = *v;
	spool_stream_abort(&tx->stream);
	buf_fini(&tx->m.out);
	buf_fini(&tx->m.raw);
}

/* Too much is gathered of the peer's messages. Those that began first are given up, for they have
 * taken their time: clients that stop in the middle of their content must not keep quick ones out.
 * What goes to a stream only loses its spare memory. */
static void shed(struct rewrite *r, struct peer *peer)
{
	uint64_t given_up = 0;

	while (peer->memory > r->peer_memory && peer->oldest != NULL) {
		struct tx *tx = peer->oldest;

		unlist(peer, tx);
		if (tx->stream != NULL && tx->m.out.len == 0) {
			buf_fini(&tx->m.out);
		} else if (tx->m.failed.verdict == SUBMIT_OK) {
			tx_fail(tx, &verdict_no_space);
			given_up++;
		}
		tx_count_memory(peer, tx);
	}
	if (given_up == 0)
		return;
	counter_add(r->w->counters, CTR_rewrite_given_up, given_up);
	if (clock_now().ms < r->next_shed_log_ms)
		return;
	r->next_shed_log_ms = clock_now().ms + REPORT_MS;
	log_warn("messages that are coming in take more than %zu MB: the oldest are refused",
		 r->peer_memory >> 20);
}

static uint64_t stream_bytes(const struct tx *tx)
{
	uint64_t limit = tx->m.chain->message_size_limit;

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
	if (tx->stream == NULL && !tx->filtered && tx->m.out.len + body.len > TX_MEMORY) {
		err = spool_stream_open(r->writer, stream_bytes(tx), &tx->stream);
		if (err == E_AGAIN && peer->memory + body.len < r->peer_memory)
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
		peer_accuse(r, peer, "damaged block chain");
		return NULL;
	}
	peer_give_back(r, peer, s);
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

static void count_refusal(struct rewrite *r, const struct message *m)
{
	if (m->checked && m->checks.refusal.code != 0)
		counter_add(r->w->counters, CTR_rewrite_content_refused, 1);
}

static void log_discarded(const struct message *m)
{
	if (m->env.verify.len > 0) {
		deliver_log(&(struct deliver_log_line){
			.program = m->chain->log_name,
			.qid = m->qid,
			.to = m->env.verify,
			.relay = SV("none"),
			.delays = { .a_us = clock_now_wall().us - m->env.arrival_us },
			.dsn = { 2, 0, 0 },
			.status = "deliverable",
			.text = SV("aliased to multiple recipients") });
	}
	log_as(m->chain->log_name, LOG_LEVEL_INFO, "%s: removed (discarded)", m->qid_text);
}

/* ---- the end ---- */

static int append_stream(struct rewrite *r, struct tx *tx, struct pending *pending)
{
	struct message *m = &tx->m;
	int err;

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

/* Into the spool, from where the commit answers. */
static int submit_append(struct rewrite *r, struct peer *peer, struct tx *tx,
			 const struct proto_submit *s, struct sv body)
{
	struct pending *pending;
	int err = 0;

	/* milters had it all in memory */
	if (tx != NULL && tx->filtered && tx->stream == NULL && tx->m.out.len > TX_MEMORY)
		err = spool_stream_open(r->writer,
					tx->m.out.len + 4 * tx->m.env_in.len + STREAM_SLACK,
					&tx->stream);
	if (err != 0)
		return err;
	pending = submit_pending(r, peer, s);
	err = tx != NULL && tx->stream != NULL
		      ? append_stream(r, tx, pending)
		      : append_message(r, tx != NULL ? &tx->m : &r->scratch, body, pending);

	if (err != 0)
		pending_drop(r, pending);
	return err;
}

/* ---- remote tables ---- */

/* A message that came in one piece waits: it becomes a transaction of its own. Its header is done:
 * what works on that points into the message. */
static struct tx *tx_of_scratch(struct rewrite *r, struct peer *peer, const struct proto_submit *s)
{
	struct tx *tx = tx_open(r, peer, s);

	message_fini(&tx->m);
	tx->m = r->scratch;
	message_init(&r->scratch, &r->rules);
	peer_give_back(r, peer, s);
	return tx;
}

static void tx_answered(void *ctx);

/* Fetch what is missing. False: it is all there already (as errors). */
static bool tx_waits(struct rewrite *r, struct peer *peer, struct tx *tx)
{
	if (tx->asked_since.ms == 0)
		tx->asked_since = clock_now();
	if (mono_since_ms(tx->asked_since) > TABLES_MS && tx->m.failed.verdict == SUBMIT_OK)
		tx_fail(tx, &verdict_table);
	if (tx->m.failed.verdict != SUBMIT_OK)
		return false;
	tx->fetch = tables_fetch(r->tables, tx->memo, tx_answered, tx);
	if (tx->fetch == NULL)
		return false;
	tx_count_memory(peer, tx);
	if (peer->memory > r->peer_memory)
		shed(r, peer);
	return true;
}

/* Look everything up and plan the deliveries. NULL: answers are missing and on their way; then
 * *txp is the transaction that waits for them. */
static const struct message_verdict *build(struct rewrite *r, struct peer *peer, struct tx **txp,
					   const struct proto_submit *s, struct sv *body)
{
	struct map_memo *memo = *txp != NULL ? (*txp)->memo : NULL;

	if (!map_remote_is_used())
		return message_build(*txp != NULL ? &(*txp)->m : &r->scratch);
	if (memo == NULL)
		memo = map_memo_new();
	for (;;) {
		struct message *m = *txp != NULL ? &(*txp)->m : &r->scratch;

		if (m->failed.verdict != SUBMIT_OK) {
			if (*txp != NULL)
				(*txp)->memo = memo;
			return &m->failed;
		}
		map_memo_enter(memo);
		const struct message_verdict *v = message_build(m);

		if (!map_memo_leave()) {
			if (*txp != NULL)
				(*txp)->memo = memo;
			else
				map_memo_free(&memo);
			return v;
		}
		if (*txp == NULL) {
			*txp = tx_of_scratch(r, peer, s);
			buf_add_sv(&(*txp)->m.out, *body);
			(*txp)->closed = true;
			body->len = 0;
		}
		(*txp)->memo = memo;
		(*txp)->end = *s;
		(*txp)->ended = true;
		if (tx_waits(r, peer, *txp))
			return NULL;
	}
}

/* ---- headers whose addresses remote tables map ---- */

static void tx_enter(struct tx *tx)
{
	if (tx->memo == NULL)
		tx->memo = map_memo_new();
	map_memo_enter(tx->memo);
}

/* The next piece of content. While tables are asked it is kept. False: it is no wire form. */
static bool tx_feed(struct tx *tx, char *p, size_t len, struct sv *body_r)
{
	bool ask = tx->m.open && !tx->m.held && tx->fetch == NULL;
	int err;

	if (ask)
		tx_enter(tx);
	err = message_feed(&tx->m, p, len, body_r);
	if (ask)
		map_memo_leave();
	return err == 0;
}

static const struct message_verdict *tx_message_close(struct tx *tx, int *err_r)
{
	bool ask = tx->m.open && !tx->m.held;
	const struct message_verdict *v;

	if (ask)
		tx_enter(tx);
	v = message_close(&tx->m, err_r);
	if (ask)
		map_memo_leave();
	return v;
}

/* The header waits for answers: ask, and do it again. False: they are on their way. */
static bool tx_header(struct rewrite *r, struct peer *peer, struct tx *tx)
{
	while (tx->m.held && tx->m.failed.verdict == SUBMIT_OK) {
		struct sv body;

		if (map_memo_missing_count(tx->memo) > 0 && tx_waits(r, peer, tx))
			return false;
		if (tx->m.failed.verdict != SUBMIT_OK)
			break;
		tx_enter(tx);
		message_again(&tx->m, &body);
		map_memo_leave();
		if (tx->m.held)
			continue;
		tx_add(r, peer, tx, body);
		buf_fini(&tx->m.raw);
	}
	return true;
}

/* What tx_feed() left of a piece. */
static void tx_take(struct rewrite *r, struct peer *peer, struct tx *tx, struct sv body)
{
	if (!tx->m.open || tx->m.failed.verdict != SUBMIT_OK)
		tx_add(r, peer, tx, body);
	else if (tx->m.held && tx->fetch == NULL)
		tx_header(r, peer, tx);
}

/* NULL: they have it. A message that came in one piece becomes a transaction of its own. */
static const struct message_verdict *filter(struct rewrite *r, struct peer *peer, struct tx **txp,
					    const struct proto_submit *s, struct sv *body)
{
	const struct message *m = *txp != NULL ? &(*txp)->m : &r->scratch;
	struct tx *tx;

	if (*txp == NULL ? !filter_applies(r, peer, s->flags, &m->env)
			 : !(*txp)->filtered || (*txp)->inspected)
		return &verdict_ok;
	if (*txp == NULL) {
		*txp = tx_of_scratch(r, peer, s);
		buf_add_sv(&(*txp)->m.out, *body);
		(*txp)->closed = true;
		*body = SV("");
		tx_set_filtered(peer, *txp);
	}
	tx = *txp;
	tx->end = *s;
	tx->ended = true;
	tx_count_memory(peer, tx);
	if (peer->filter_memory > r->peer_memory)
		return &verdict_no_space;
	return filter_message(r, peer, tx);
}

/* The whole message is there: in the transaction, or (tx is NULL) in r->scratch and `body`.
 * E_AGAIN: no room for it yet, nothing was done that cannot be done again. */
static int submit_end(struct rewrite *r, struct peer *peer, struct tx *tx,
		      const struct proto_submit *s, struct sv body)
{
	const struct message_verdict *v = tx != NULL ? tx->verdict : NULL;
	bool one_piece = tx == NULL;
	int err = 0;

	if (tx != NULL) {
		tx->end = *s;
		tx->ended = true;
	}
	if (v == NULL && tx == NULL)
		v = message_close(&r->scratch, &err);
	while (v == NULL && tx != NULL && !tx->closed && err == 0) {
		v = tx_message_close(tx, &err);
		if (v == NULL && (tx->fetch != NULL || !tx_header(r, peer, tx)))
			return 0;
	}
	if (err < 0) {
		peer_accuse(r, peer, "content does not end with a line");
		return 0;
	}
	if (tx != NULL)
		tx->closed = true;
	if (tx == NULL || tx->verdict == NULL) {
		if (v == NULL || v->verdict == SUBMIT_OK)
			v = filter(r, peer, &tx, s, &body);
		if (v != NULL && v->verdict == SUBMIT_OK)
			v = build(r, peer, &tx, s, &body);
		if (v == NULL)
			return 0;
	}
	if (tx != NULL)
		tx->verdict = v;
	if (tx != NULL && one_piece)
		one_piece = false; /* its blocks were given back */
	if (v->verdict == SUBMIT_OK) {
		err = submit_append(r, peer, tx, s, body);
		if (err == E_AGAIN)
			return E_AGAIN;
		if (err != 0)
			v = verdict_of_error(err);
	} else if (v->verdict == SUBMIT_DISCARDED) {
		log_discarded(tx != NULL ? &tx->m : &r->scratch);
	} else {
		count_refusal(r, tx != NULL ? &tx->m : &r->scratch);
	}
	if (one_piece)
		peer_give_back(r, peer, s); /* not before: the next try copies it again */
	if (v->verdict != SUBMIT_OK)
		submit_answer(r, peer, s->session, s->tx, v);
	if (tx != NULL)
		tx_close(peer, tx);
	return 0;
}

static void tx_answered(void *ctx)
{
	struct tx *tx = ctx;
	struct proto_submit end = tx->end;
	struct rewrite *r = tx->rewrite;
	struct peer *peer = tx->peer;

	tx->fetch = NULL;
	if (!tx_header(r, peer, tx) || !tx->ended)
		return;
	if (submit_end(r, peer, tx, &end, SV("")) == E_AGAIN)
		submit_again(r, peer, &end);
}

void tx_filtered(struct tx *tx)
{
	if (tx->own != NULL) {
		tx->own(tx);
		return;
	}
	if (tx->filter_verdict.verdict != SUBMIT_OK)
		tx->verdict = &tx->filter_verdict;
	tx_answered(tx);
}

/* `p`: its envelope. E_PEER when it is none, or one that this peer may not send. */
static int begin_message(const struct peer *peer, struct message *m, const struct proto_submit *s,
			 const char *p)
{
	int err = message_begin(m, qid_of_proto(s->qid), (struct sv){ p, s->env_len });

	/* the verify worker sends probes and nothing else, and it is told their results */
	return err == 0 && (m->env.verify.len > 0) != (peer->wp->class_id == CLASS_VERIFY) ? E_PEER
											   : err;
}

int tx_one_piece(struct rewrite *r, struct peer *peer, const struct proto_submit *s)
{
	struct message *m = &r->scratch;
	size_t len = (size_t)s->env_len + s->data_len;
	struct tx *tx = NULL;
	struct sv body;
	char *p = piece_room(r, len + 1);
	bool good = blocks_view_copy(&peer->blocks, s->first_block, 0, p, len) >= 0 &&
		    begin_message(peer, m, s, p) >= 0;

	if (good && m->open) {
		tx = tx_open(r, peer, s);
		begin_message(peer, &tx->m, s, p);
		if (filter_applies(r, peer, s->flags, &tx->m.env))
			tx_set_filtered(peer, tx);
		peer_give_back(r, peer, s);
	}
	if (good && tx == NULL)
		good = message_feed(m, p + s->env_len, s->data_len, &body) >= 0;
	else if (good)
		good = tx_feed(tx, p + s->env_len, s->data_len, &body);
	if (!good) {
		peer_accuse(r, peer, "damaged message");
		return 0;
	}
	if (tx != NULL) {
		tx_take(r, peer, tx, body);
		body.len = 0;
	}
	if (submit_end(r, peer, tx, s, body) != E_AGAIN)
		return 0;
	if (strmap_get(peer->txs, tx_key(&s->tx)) == NULL)
		return E_AGAIN;
	submit_again(r, peer, s); /* as a transaction, for its blocks were given back */
	return 0;
}

int tx_end(struct rewrite *r, struct peer *peer, struct tx *tx, const struct proto_submit *s)
{
	return submit_end(r, peer, tx, s, SV(""));
}

void tx_piece(struct rewrite *r, struct peer *peer, struct tx *tx, const struct proto_submit *s)
{
	bool cr = tx->m.wire.cr;
	size_t len;
	char *p = copy_piece(r, peer, s, cr, &len);
	struct sv body;

	if (p == NULL)
		return;
	if (s->flags & SUBMIT_BEGIN) {
		if (begin_message(peer, &tx->m, s, p) < 0) {
			peer_accuse(r, peer, "damaged envelope");
			return;
		}
		p += s->env_len;
		len -= s->env_len;
		if (filter_applies(r, peer, s->flags, &tx->m.env))
			tx_set_filtered(peer, tx);
	}
	if (!tx_feed(tx, p, len, &body)) {
		peer_accuse(r, peer, "content is not in wire form");
		return;
	}
	tx_take(r, peer, tx, body);
	tx_count_memory(peer, tx);
	if (tx->filtered && peer->filter_memory > r->peer_memory) {
		tx_fail(tx, &verdict_no_space);
		tx_count_memory(peer, tx);
	}
	if (peer->memory > r->peer_memory)
		shed(r, peer);
}
