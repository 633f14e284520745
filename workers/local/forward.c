/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Mail that is sent on; see workers/local/forward.h. Called by local_expand.c and local.c. */
#include "workers/local/forward.h"

#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"

#define READ_BYTES   65536u
#define PEER_WAIT_MS 10000 /* for a rewrite worker */

struct forwarder {
	struct worker *w;
	struct content_pool pool;
	struct content_ops ops;
	struct worker_peer *rewrites[CONTENT_MAX_PEERS];
	struct qid_source ids;
	struct forward *all;
	uint32_t last_number;
	char read_buf[READ_BYTES];
};

/* ---- the end ---- */

static void finish(struct forward *m, const uint8_t dsn[3], struct sv text, bool unsure)
{
	struct forwarder *f = m->f;
	struct forward **at = &f->all;

	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	content_abort(&f->pool, &m->content);
	buf_fini(&m->env_out);
	m->done(m->ctx, dsn, text, unsure);
}

static void defer(struct forward *m, const char *why, bool unsure)
{
	finish(m, (const uint8_t[]){ 4, 3, 0 }, sv_from(why), unsure);
}

/* ---- content ---- */

/* False when it waits for room or has ended. */
static bool fill(struct forward *m)
{
	struct forwarder *f = m->f;
	size_t room_len, used, written;
	char *room = content_room(&f->pool, &m->content, &room_len);

	if (room == NULL)
		return false;
	size_t n = size_min(room_len, (size_t)u64_min(READ_BYTES, m->content_len - m->off));
	int err = io_pread_all(m->content_fd, f->read_buf, n, (off_t)m->off);

	if (err != 0) {
		defer(m, "cannot read the message to be forwarded", false);
		return false;
	}
	if (n == 0 && !m->read_all) {
		m->read_all = true;
		smtp_data_end_chunks(&m->scan);
	}
	used = smtp_data_scan(&m->scan, f->read_buf, n, room, room_len, &written);
	m->off += used;
	content_advance(&f->pool, &m->content, written);
	return true;
}

static void feed(struct forward *m)
{
	while (!m->read_all || smtp_data_pending(&m->scan) > 0) {
		if (!fill(m))
			return;
	}
	m->sent = true;
	content_end(&m->f->pool, &m->content);
}

static void begin(struct forward *m)
{
	struct proto_qid id = { .time_us = m->qid.time_us, .life = m->qid.life };
	int err = content_begin(&m->f->pool, &m->content, m, m->number, id, buf_sv(&m->env_out),
				m->head);

	/* queued for room, or no rewrite worker is linked just now */
	if (err == E_AGAIN || (err == E_CONFIG && clock_now().ms - m->since_ms < PEER_WAIT_MS))
		return;
	if (err != 0) {
		defer(m,
		      err == E_LIMIT ? "too many addresses to forward to"
				     : "no queue to forward to",
		      false);
		return;
	}
	m->begun = true;
	feed(m);
}

void forward_name(struct forwarder *f, struct forward *m)
{
	m->f = f;
	m->qid = qid_make(&f->ids);
	qid_format(m->qid, m->id);
}

void forward_submit(struct forward *m)
{
	struct forwarder *f = m->f;

	m->next = f->all;
	f->all = m;
	m->number = ++f->last_number;
	m->since_ms = clock_now().ms;
	smtp_data_init_chunked(&m->scan);
	if (env_encode(m->env, &m->env_out) != 0)
		defer(m, "too many addresses to forward to", false);
	else
		begin(m);
}

/* ---- what rewrite says ---- */

static void on_done(struct forwarder *f, uint32_t peer, const void *rec, size_t len)
{
	struct proto_submit_done d;

	if (len < sizeof(d)) {
		worker_accuse(f->w, f->rewrites[peer], "short verdict");
		return;
	}
	memcpy(&d, rec, sizeof(d));
	if (!proto_len_ok(len, sizeof(d), d.text_len, 1)) {
		worker_accuse(f->w, f->rewrites[peer], "verdict with a bad length");
		return;
	}
	for (struct forward *m = f->all; m != NULL; m = m->next) {
		if (!m->begun || d.tx == 0 || m->content.tx != d.tx || m->content.peer != peer)
			continue;
		struct sv text = { (const char *)rec + sizeof(d), d.text_len };
		bool good = d.verdict == SUBMIT_OK || d.verdict == SUBMIT_DISCARDED;

		/* a refusal may come before the end; an acknowledgement may not */
		if (good && m->sent)
			finish(m, (const uint8_t[]){ 2, 0, 0 }, text, false);
		else if (!good)
			finish(m, d.dsn, text, false);
		return;
	}
}

static uint32_t index_of(const struct forwarder *f, const struct worker_peer *peer)
{
	uint32_t i = 0;

	while (i < CONTENT_MAX_PEERS && f->rewrites[i] != peer)
		i++;
	return i;
}

void forwarder_record(struct forwarder *f, struct worker_peer *peer, const void *rec, size_t len)
{
	uint32_t index = index_of(f, peer), kind = 0;
	struct proto_submit_free free_rec;

	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (index < CONTENT_MAX_PEERS && kind == PROTO_SUBMIT_DONE) {
		on_done(f, index, rec, len);
	} else if (index < CONTENT_MAX_PEERS && kind == PROTO_SUBMIT_FREE &&
		   len == sizeof(free_rec)) {
		memcpy(&free_rec, rec, sizeof(free_rec));
		content_freed(&f->pool, index, &free_rec);
	} else {
		worker_accuse(f->w, peer, "unexpected record");
	}
}

void forwarder_attach(struct forwarder *f, struct worker_peer *peer)
{
	uint32_t i = index_of(f, NULL);

	if (peer->class_id != CLASS_REWRITE || i == CONTENT_MAX_PEERS)
		return;
	f->rewrites[i] = peer;
	content_peer_add(&f->pool, i);
}

void forwarder_detach(struct forwarder *f, struct worker_peer *peer)
{
	uint32_t index = index_of(f, peer);
	struct forward *next;

	if (index == CONTENT_MAX_PEERS)
		return;
	content_peer_remove(&f->pool, index);
	f->rewrites[index] = NULL;
	for (struct forward *m = f->all; m != NULL; m = next) {
		next = m->next;
		/* what was handed over whole may have been committed, and will be adopted then */
		if (m->begun && m->content.peer == index)
			defer(m, "the queue was interrupted while the message was forwarded",
			      m->sent);
	}
}

void forwarder_turn(struct forwarder *f)
{
	struct forward *next;

	for (struct forward *m = f->all; m != NULL; m = next) {
		next = m->next;
		if (!m->begun && !m->content.waiting)
			begin(m);
	}
	content_serve_queue(&f->pool);
}

/* ---- life ---- */

static void content_send(void *ctx, uint32_t peer, const struct proto_submit *rec)
{
	struct forwarder *f = ctx;

	worker_send(f->w, f->rewrites[peer]->link, rec, sizeof(*rec));
}

static void content_accuse(void *ctx, uint32_t peer, const char *why)
{
	struct forwarder *f = ctx;

	worker_accuse(f->w, f->rewrites[peer], why);
}

static void content_has_room(void *ctx UNUSED, void *owner)
{
	struct forward *m = owner;

	if (m->begun)
		feed(m);
	else
		begin(m);
}

int forwarder_new(struct worker *w, struct forwarder **f_r)
{
	struct forwarder *f = xcalloc(1, sizeof(*f));

	f->w = w;
	f->ids.life = w->life;
	f->ops = (struct content_ops){
		.send = content_send, .accuse = content_accuse, .room = content_has_room, .ctx = f
	};
	*f_r = f;
	return content_pool_init(&f->pool, &w->blocks, &f->ops);
}

void forwarder_free(struct forwarder **fp)
{
	struct forwarder *f = *fp;

	if (f == NULL)
		return;
	content_pool_fini(&f->pool);
	free(f);
	*fp = NULL;
}
