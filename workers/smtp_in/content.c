/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content blocks and their way to rewrite; see workers/smtp_in/content.h. */
#include "workers/smtp_in/content.h"

#include <stdlib.h>

#include "lib/err.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "lib/util.h"

int content_pool_init(struct content_pool *p, struct shm_region *blocks,
		      const struct content_ops *ops)
{
	*p = (struct content_pool){ .ops = ops };
	int err = blocks_attach(&p->blocks, blocks);

	if (err != 0)
		return err;
	p->chain_tx = xcalloc(p->blocks.count, sizeof(*p->chain_tx));
	p->chain_peer = xcalloc(p->blocks.count, sizeof(*p->chain_peer));
	return 0;
}

void content_pool_fini(struct content_pool *p)
{
	free(p->chain_tx);
	free(p->chain_peer);
	blocks_fini(&p->blocks);
}

int content_peer_add(struct content_pool *p, uint32_t peer)
{
	if (peer >= CONTENT_MAX_PEERS)
		return E_LIMIT;
	ASSERT(!p->peers[peer]);
	p->peers[peer] = true;
	p->peer_count++;
	return 0;
}

bool content_has_peer(const struct content_pool *p)
{
	return p->peer_count > 0;
}

/* The n-th attached peer. */
static uint32_t nth_peer(const struct content_pool *p, uint32_t n)
{
	n %= p->peer_count;
	for (uint32_t i = 0; i < CONTENT_MAX_PEERS; i++) {
		if (p->peers[i] && n-- == 0)
			return i;
	}
	bug("content: peer count is wrong");
}

/* ---- list of messages with unsubmitted blocks, queue for room ---- */

static void list_add(struct content_pool *p, struct content *c)
{
	if (c->listed)
		return;
	c->listed = true;
	c->prev = NULL;
	c->next = p->list;
	if (p->list != NULL)
		p->list->prev = c;
	p->list = c;
}

static void list_remove(struct content_pool *p, struct content *c)
{
	if (!c->listed)
		return;
	c->listed = false;
	*(c->prev != NULL ? &c->prev->next : &p->list) = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
}

static void queue_remove(struct content_pool *p, struct content *c)
{
	if (!c->waiting)
		return;
	c->waiting = false;
	*(c->wait_prev != NULL ? &c->wait_prev->wait_next : &p->wait_head) = c->wait_next;
	*(c->wait_next != NULL ? &c->wait_next->wait_prev : &p->wait_tail) = c->wait_prev;
}

/* ---- handing over ---- */

/* Room that was asked for and not used: the bytes that came said nothing yet, as a lone dot at the
 * beginning of a line does. A block without bytes is no piece of a message. */
static void drop_empty(struct content_pool *p, struct content *c)
{
	if (c->first == BLOCK_NONE || c->env_len + c->data_len > 0)
		return;
	blocks_free_chain(&p->blocks, c->first);
	c->first = c->last = BLOCK_NONE;
	c->block_count = 0;
	c->used_bytes = BLOCK_SIZE;
	list_remove(p, c);
}

static void submit(struct content_pool *p, struct content *c, uint32_t flags)
{
	drop_empty(p, c);
	if (c->first == BLOCK_NONE && flags == 0)
		return;
	struct proto_submit rec = {
		.kind = PROTO_SUBMIT,
		.flags = flags | (c->began ? 0 : SUBMIT_BEGIN | c->begin_flags),
		.session = c->session_number,
		.tx = c->tx,
		.first_block = c->first,
		.env_len = c->env_len,
		.data_len = c->data_len,
		.qid = c->qid,
	};

	if (c->first != BLOCK_NONE) {
		p->chain_tx[c->first] = c->tx;
		p->chain_peer[c->first] = (uint8_t)c->peer;
	}
	c->began = true;
	c->first = c->last = BLOCK_NONE;
	c->block_count = c->env_len = c->data_len = 0;
	c->used_bytes = BLOCK_SIZE;
	list_remove(p, c);
	p->ops->send(p->ops->ctx, c->peer, &rec);
}

static void submit_all(struct content_pool *p)
{
	while (p->list != NULL)
		submit(p, p->list, 0);
}

/* Wait for room; everything that holds blocks lets them go, so that there will be some. */
static void enqueue(struct content_pool *p, struct content *c, uint32_t need)
{
	submit_all(p);
	c->need = need;
	if (c->waiting)
		return;
	c->waiting = true;
	c->wait_next = NULL;
	c->wait_prev = p->wait_tail;
	*(p->wait_tail != NULL ? &p->wait_tail->wait_next : &p->wait_head) = c;
	p->wait_tail = c;
}

/* May it take n blocks now? Nobody passes those who wait. */
static bool may_take(const struct content_pool *p, const struct content *c, uint32_t n)
{
	return p->blocks.free_count >= n && (p->wait_head == NULL || p->granted == c);
}

static void take_block(struct content_pool *p, struct content *c)
{
	uint32_t b = blocks_alloc(&p->blocks);

	ASSERT(b != BLOCK_NONE);
	if (c->first == BLOCK_NONE)
		c->first = b;
	else
		blocks_link(&p->blocks, c->last, b);
	c->last = b;
	c->block_count++;
	c->used_bytes = 0;
	list_add(p, c);
}

static void put(struct content_pool *p, struct content *c, struct sv data)
{
	while (data.len > 0) {
		if (c->used_bytes == BLOCK_SIZE)
			take_block(p, c);
		size_t n = size_min(data.len, BLOCK_SIZE - c->used_bytes);

		memcpy(blocks_data(&p->blocks, c->last) + c->used_bytes, data.p, n);
		FAULT_POINT(BLOCKS_DATA);
		c->used_bytes += (uint32_t)n;
		data = (struct sv){ data.p + n, data.len - n };
	}
}

int content_begin(struct content_pool *p, struct content *c, void *owner, uint32_t session_number,
		  struct proto_qid qid, struct sv envelope, struct sv head)
{
	return content_begin_at(p, c, owner, session_number, qid, envelope, head, CONTENT_MAX_PEERS,
				0);
}

uint32_t content_peer_of(const struct content_pool *p, uint32_t session_number)
{
	return p->peer_count > 0 ? nth_peer(p, session_number) : CONTENT_MAX_PEERS;
}

int content_begin_at(struct content_pool *p, struct content *c, void *owner,
		     uint32_t session_number, struct proto_qid qid, struct sv envelope,
		     struct sv head, uint32_t peer, uint32_t flags)
{
	size_t total = envelope.len + head.len;
	size_t need = (total + BLOCK_SIZE - 1) / BLOCK_SIZE;

	if (p->peer_count == 0 || (peer < CONTENT_MAX_PEERS && !p->peers[peer]))
		return E_CONFIG;
	if (total > UINT32_MAX / 2 || need > p->blocks.count / 2)
		return E_LIMIT;
	if (c->tx == 0) {
		*c = (struct content){ .first = BLOCK_NONE,
				       .last = BLOCK_NONE,
				       .used_bytes = BLOCK_SIZE,
				       .owner = owner };
		c->tx = ++p->last_tx != 0 ? p->last_tx : ++p->last_tx;
	}
	c->session_number = session_number;
	c->qid = qid;
	if (!may_take(p, c, (uint32_t)need)) {
		enqueue(p, c, (uint32_t)need);
		return E_AGAIN;
	}
	c->peer = peer < CONTENT_MAX_PEERS ? peer : nth_peer(p, session_number);
	c->begin_flags = flags;
	put(p, c, envelope);
	put(p, c, head);
	c->env_len = (uint32_t)envelope.len;
	c->data_len = (uint32_t)head.len;
	return 0;
}

char *content_room(struct content_pool *p, struct content *c, size_t *len_r)
{
	if (c->used_bytes == BLOCK_SIZE) {
		if (c->block_count >= CONTENT_PIECE_BLOCKS)
			submit(p, c, 0);
		if (!may_take(p, c, 1)) {
			enqueue(p, c, 1);
			return NULL;
		}
		take_block(p, c);
	}
	*len_r = BLOCK_SIZE - c->used_bytes;
	return blocks_data(&p->blocks, c->last) + c->used_bytes;
}

void content_advance(struct content_pool *p UNUSED, struct content *c, size_t len)
{
	ASSERT(len <= BLOCK_SIZE - c->used_bytes);
	FAULT_POINT(BLOCKS_DATA);
	c->used_bytes += (uint32_t)len;
	c->data_len += (uint32_t)len;
}

void content_end(struct content_pool *p, struct content *c)
{
	ASSERT(c->tx != 0 && !c->ended);
	submit(p, c, SUBMIT_END);
	c->ended = true;
}

void content_abort(struct content_pool *p, struct content *c)
{
	if (c->tx == 0)
		return;
	list_remove(p, c);
	queue_remove(p, c);
	if (p->granted == c)
		p->granted = NULL;
	if (c->first != BLOCK_NONE)
		blocks_free_chain(&p->blocks, c->first);
	if (c->began && !c->ended && p->peers[c->peer]) {
		struct proto_submit rec = {
			.kind = PROTO_SUBMIT,
			.flags = SUBMIT_ABORT,
			.session = c->session_number,
			.tx = c->tx,
			.first_block = BLOCK_NONE,
			.qid = c->qid,
		};

		p->ops->send(p->ops->ctx, c->peer, &rec);
	}
	*c = (struct content){ 0 };
}

void content_freed(struct content_pool *p, uint32_t peer, const struct proto_submit_free *rec)
{
	uint32_t b = rec->first_block;

	if (b >= p->blocks.count || p->chain_tx[b] == 0 || p->chain_tx[b] != rec->tx ||
	    p->chain_peer[b] != peer) {
		p->ops->accuse(p->ops->ctx, peer, "freed blocks it does not have");
		return;
	}
	p->chain_tx[b] = 0;
	blocks_free_chain(&p->blocks, b);
}

void content_peer_remove(struct content_pool *p, uint32_t peer)
{
	ASSERT(peer < CONTENT_MAX_PEERS && p->peers[peer]);
	p->peers[peer] = false;
	p->peer_count--;
	for (uint32_t b = 0; b < p->blocks.count; b++) {
		if (p->chain_tx[b] != 0 && p->chain_peer[b] == peer) {
			p->chain_tx[b] = 0;
			blocks_free_chain(&p->blocks, b);
		}
	}
}

void content_serve_queue(struct content_pool *p)
{
	while (p->wait_head != NULL && p->blocks.free_count >= p->wait_head->need) {
		struct content *c = p->wait_head;

		queue_remove(p, c);
		p->granted = c;
		p->ops->room(p->ops->ctx, c->owner);
		p->granted = NULL;
	}
}
