/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Content blocks: what reaches rewrite is what was put in, whatever the region's size; waiting for
 * room is fair and always ends; hostile and dead peers do no harm.
 */
#include <unistd.h>

#include "t/unit/tap.h"

#include "lib/err.h"
#include "lib/log.h"
#include "workers/smtp_in/session.h"

#define MESSAGES 8

struct got { /* what the other side has received of one message */
	struct buf bytes;
	uint32_t env_len;
	bool began, ended, aborted;
	unsigned pieces;
};

struct bench {
	struct content_pool pool;
	struct content_ops ops;
	struct blocks_view view;
	struct got got[1000]; /* by tx */
	struct proto_submit_free to_free[10000];
	uint32_t free_peer[10000];
	size_t free_count;
	unsigned accused, served;
	struct session sessions[MESSAGES];
	struct content contents[MESSAGES];
	bool woken[MESSAGES];
};

static void on_send(void *ctx, uint32_t peer, const struct proto_submit *rec)
{
	struct bench *b = ctx;
	struct got *g = &b->got[rec->tx];
	size_t len = rec->env_len + rec->data_len;

	if (rec->flags & SUBMIT_BEGIN) {
		ok(!g->began, "begins once");
		g->env_len = rec->env_len;
	}
	g->began = true;
	g->ended = g->ended || (rec->flags & SUBMIT_END) != 0;
	g->aborted = g->aborted || (rec->flags & SUBMIT_ABORT) != 0;
	g->pieces++;
	ok((len == 0) == (rec->first_block == BLOCK_NONE), "%zu bytes, blocks to match", len);
	if (len == 0)
		return;
	char *place = buf_reserve(&g->bytes, len);

	ASSERT(blocks_view_copy(&b->view, rec->first_block, 0, place, len) == 0);
	g->bytes.len += len;
	b->free_peer[b->free_count] = peer;
	b->to_free[b->free_count++] = (struct proto_submit_free){ .kind = PROTO_SUBMIT_FREE,
								  .first_block = rec->first_block,
								  .tx = rec->tx };
}

static void on_accuse(void *ctx, uint32_t peer UNUSED, const char *why UNUSED)
{
	((struct bench *)ctx)->accused++;
}

static void on_room(void *ctx, void *owner)
{
	const struct session *s = owner;
	struct bench *b = ctx;

	b->woken[s->number] = true;
	b->served = b->served * 10 + s->number;
}

static void bench_open(struct bench *b, uint32_t blocks)
{
	struct shm_region r, view;

	memset(b, 0, sizeof(*b));
	ASSERT(blocks_create("test", blocks, 1, &r) == 0);
	ASSERT(shm_region_map(dup(r.fd), SHM_KIND_BLOCKS, false, &view) == 0);
	ASSERT(blocks_view_attach(&b->view, &view) == 0);
	b->ops = (struct content_ops){ on_send, on_accuse, on_room, b };
	ASSERT(content_pool_init(&b->pool, &r, &b->ops) == 0);
	ASSERT(content_peer_add(&b->pool, 3) == 0);
	for (unsigned i = 0; i < MESSAGES; i++)
		b->sessions[i].number = i;
}

static void bench_close(struct bench *b)
{
	for (unsigned i = 0; i < MESSAGES; i++)
		content_abort(&b->pool, &b->contents[i]);
	for (size_t i = 0; i < ARRAY_LEN(b->got); i++)
		buf_fini(&b->got[i].bytes);
	blocks_view_fini(&b->view);
	content_pool_fini(&b->pool);
}

static void free_all(struct bench *b)
{
	size_t n = b->free_count;

	b->free_count = 0;
	for (size_t i = 0; i < n; i++)
		content_freed(&b->pool, b->free_peer[i], &b->to_free[i]);
	content_serve_queue(&b->pool);
}

static int begin(struct bench *b, unsigned i, const char *env)
{
	struct proto_qid qid = { .time_us = i, .life = 1 };

	return content_begin(&b->pool, &b->contents[i], &b->sessions[i], i, qid, sv_from(env),
			     SV("Received: x\r\n"));
}

/* Bytes of message i from position `at` on; what goes in now. */
static char byte_at(unsigned i, size_t at)
{
	return (char)('a' + (i * 7 + at * 31 + at / 251) % 26);
}

static size_t put(struct bench *b, unsigned i, size_t at, size_t len)
{
	size_t done = 0;

	while (done < len) {
		size_t room;
		char *p = content_room(&b->pool, &b->contents[i], &room);

		if (p == NULL)
			break;
		room = size_min(room, len - done);
		for (size_t k = 0; k < room; k++)
			p[k] = byte_at(i, at + done + k);
		content_advance(&b->pool, &b->contents[i], room);
		done += room;
	}
	return done;
}

static bool arrived(struct bench *b, unsigned i, uint32_t tx, size_t len, const char *env)
{
	static const char head[] = "Received: x\r\n";
	const struct got *g = &b->got[tx];
	size_t skip = strlen(env) + sizeof(head) - 1;

	if (!g->began || !g->ended || g->env_len != strlen(env) || g->bytes.len != skip + len ||
	    memcmp(g->bytes.p, env, strlen(env)) != 0)
		return false;
	for (size_t k = 0; k < len; k++) {
		if (g->bytes.p[skip + k] != byte_at(i, k))
			return false;
	}
	return true;
}

static void test_one(void)
{
	static const size_t sizes[] = { 0, 1, 8000, 8192 - 21, 8192, 65536, 65536 + 1, 300000 };
	struct bench b;

	bench_open(&b, 64);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		is_int(begin(&b, 0, "envelope"), 0, "begin");
		uint32_t tx = b.contents[0].tx;
		size_t at = 0;

		while (at < sizes[i]) {
			at += put(&b, 0, at, sizes[i] - at);
			free_all(&b);
		}
		content_end(&b.pool, &b.contents[0]);
		ok(arrived(&b, 0, tx, sizes[i], "envelope"), "%zu bytes arrive in %u pieces",
		   sizes[i], b.got[tx].pieces);
		ok(sizes[i] > 60000 || b.got[tx].pieces == 1, "small ones in one");
		content_abort(&b.pool, &b.contents[0]);
		ok(!b.got[tx].aborted, "no abort after the end");
		free_all(&b);
	}
	is_int(b.pool.blocks.free_count, 64, "all blocks are back");
	is_int(b.accused, 0, "nobody accused");
	bench_close(&b);
}

/* Eight large messages through a region that could not hold one of them. */
static void test_small_region(void)
{
	enum { LEN = 200000 };
	struct bench b;
	size_t at[MESSAGES] = { 0 };
	uint32_t tx[MESSAGES] = { 0 };
	bool begun[MESSAGES] = { false }, ended[MESSAGES] = { false };
	unsigned left = MESSAGES, rounds = 0;

	bench_open(&b, 4);
	while (left > 0 && rounds++ < 100000) {
		for (unsigned i = 0; i < MESSAGES; i++) {
			if (ended[i] || (b.contents[i].waiting))
				continue;
			if (!begun[i]) {
				begun[i] = begin(&b, i, "e") == 0;
				tx[i] = b.contents[i].tx;
				continue;
			}
			at[i] += put(&b, i, at[i], size_min(3000, LEN - at[i]));
			if (at[i] == LEN) {
				content_end(&b.pool, &b.contents[i]);
				ended[i] = true;
				left--;
			}
		}
		/* a woken session takes its turn inside the call, as the server does */
		size_t n = b.free_count;

		b.free_count = 0;
		for (size_t k = 0; k < n; k++)
			content_freed(&b.pool, b.free_peer[k], &b.to_free[k]);
		content_serve_queue(&b.pool);
	}
	is_int(left, 0, "all get through 4 blocks");
	for (unsigned i = 0; i < MESSAGES; i++)
		ok(arrived(&b, i, tx[i], LEN, "e"), "message %u is whole", i);
	bench_close(&b);
}

/* Half-received messages hold all blocks; their clients say no more. */
static void test_no_deadlock(void)
{
	struct bench b;

	bench_open(&b, 4);
	for (unsigned i = 0; i < 4; i++) {
		is_int(begin(&b, i, "e"), 0, "takes a block");
		put(&b, i, 0, 100);
	}
	is_int(b.pool.blocks.free_count, 0, "none is left");
	is_int(begin(&b, 4, "e"), E_AGAIN, "the fifth waits");
	is_int(begin(&b, 5, "e"), E_AGAIN, "and the sixth");
	is_int(b.free_count, 4, "the half-received ones were handed over");
	free_all(&b);
	ok(b.woken[4] && b.woken[5], "room for both");
	is_int(b.served, 45, "in their order");
	is_int(begin(&b, 4, "e"), 0, "the fifth begins");
	is_int(put(&b, 0, 100, 10), 10, "the first goes on");
	content_end(&b.pool, &b.contents[0]);
	ok(arrived(&b, 0, 1, 110, "e"), "and is whole");
	bench_close(&b);
}

static void test_bad_peers(void)
{
	struct bench b;
	struct proto_submit_free f = { .kind = PROTO_SUBMIT_FREE };

	bench_open(&b, 8);
	begin(&b, 0, "e");
	put(&b, 0, 0, 70000);
	ok(b.free_count >= 1, "something was handed over");
	struct proto_submit_free good = b.to_free[0];
	uint32_t before = b.pool.blocks.free_count;

	f.first_block = 99;
	content_freed(&b.pool, 3, &f);
	f.first_block = BLOCK_NONE;
	content_freed(&b.pool, 3, &f);
	f.first_block = good.first_block;
	f.tx = good.tx + 1;
	content_freed(&b.pool, 3, &f);
	content_freed(&b.pool, 4, &good);
	is_int(b.accused, 4, "blocks it does not have");
	is_int(b.pool.blocks.free_count, before, "nothing was freed");
	content_freed(&b.pool, 3, &good);
	content_freed(&b.pool, 3, &good);
	is_int(b.accused, 5, "twice");
	content_peer_remove(&b.pool, 3);
	content_abort(&b.pool, &b.contents[0]);
	is_int(b.pool.blocks.free_count, 8, "a dead peer's blocks are free");
	is_int(begin(&b, 1, "e"), E_CONFIG, "no peer, no message");
	bench_close(&b);
}

/* Room is asked for before it is known whether the bytes at hand need any: a lone dot and CR do not
 * yet. */
static void test_unused_room(void)
{
	struct bench b;
	size_t len;

	bench_open(&b, 4);
	ASSERT(begin(&b, 0, "env") == 0);
	ASSERT(content_room(&b.pool, &b.contents[0], &len) != NULL);
	ASSERT(begin(&b, 1, "env") == 0);
	ASSERT(begin(&b, 2, "env") == 0);
	ASSERT(begin(&b, 3, "env") == 0);
	ok(begin(&b, 4, "env") == E_AGAIN, "the region is used up: all is handed over");
	free_all(&b);
	ASSERT(begin(&b, 4, "env") == 0);
	ASSERT(content_room(&b.pool, &b.contents[0], &len) != NULL);
	content_advance(&b.pool, &b.contents[0], 0);
	ASSERT(begin(&b, 5, "env") == 0);
	ASSERT(begin(&b, 6, "env") == 0);
	ok(begin(&b, 7, "env") == E_AGAIN, "... and again");
	is_int(b.got[b.contents[0].tx].pieces, 1, "a block without bytes is not handed over");
	is_int(b.pool.blocks.free_count, 1, "but free");
	free_all(&b);
	ASSERT(content_room(&b.pool, &b.contents[0], &len) != NULL);
	content_advance(&b.pool, &b.contents[0], 0);
	content_end(&b.pool, &b.contents[0]);
	ok(b.got[b.contents[0].tx].ended, "an end without bytes");
	is_int(b.got[b.contents[0].tx].bytes.len, 3 + strlen("Received: x\r\n"),
	       "nothing is added");
	for (unsigned i = 1; i < MESSAGES; i++)
		content_abort(&b.pool, &b.contents[i]);
	free_all(&b);
	is_int(b.pool.blocks.free_count, 4, "all blocks are free");
	bench_close(&b);
}

static void test_abort(void)
{
	struct bench b;

	bench_open(&b, 16);
	begin(&b, 0, "e");
	put(&b, 0, 0, 100);
	content_abort(&b.pool, &b.contents[0]);
	ok(!b.got[1].began, "what was not handed over needs no abort");
	begin(&b, 0, "e");
	put(&b, 0, 0, 80000);
	content_abort(&b.pool, &b.contents[0]);
	ok(b.got[2].aborted && !b.got[2].ended, "what was does");
	free_all(&b);
	is_int(b.pool.blocks.free_count, 16, "all blocks are back");
	begin(&b, 0, "e");
	begin(&b, 1, "e");
	char *big = xmalloc(9 * BLOCK_SIZE);

	memset(big, 'x', 9 * BLOCK_SIZE - 1);
	big[9 * BLOCK_SIZE - 1] = '\0';
	is_int(begin(&b, 2, big), E_LIMIT, "an envelope beyond half the region");
	free(big);
	bench_close(&b);
}

int main(void)
{
	test_one();
	test_unused_room();
	test_small_region();
	test_no_deadlock();
	test_bad_peers();
	test_abort();
	return tap_done();
}
