/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Crash points of regions, links, blocks, counters and the board, for t/stress/shm_faults.c.
 *
 *   regions, links  die with who makes them; the next one is made as if nothing had been
 *   blocks          a chain that was told of before is whole
 *   counters        what is folded is what the dead counted, within the one step it died in
 *   board           each field is old or new; a reader can tell that a folding was cut short
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/util.h"
#include "shm/blocks.h"
#include "shm/board.h"
#include "shm/counters.h"
#include "shm/link.h"
#include "t/stress/fault_case.h"

#define CHAINS 12u
#define STEPS  40u

static struct told { /* what the one who dies got done for sure */
	_Atomic uint32_t steps, chains, folds;
	uint32_t first[CHAINS], len[CHAINS];
	struct board_shm board;
} * told;
static struct shm_region page_region, sum_region, block_region;
static struct counters_shm *page, *sum;

static void nothing(void)
{
}

/* ---- regions and links ---- */

static void link_work(void)
{
	struct shm_region r;

	if (link_create("fault-link", 256, 256, 1, 2, &r) != 0)
		_exit(1);
	shm_region_close(&r);
}

static bool link_sound(void)
{
	struct shm_region r;
	struct link l;
	char why[100];

	if (link_create("fault-link", 256, 256, 1, 2, &r) != 0 || link_attach(&l, &r, 0, -1) != 0)
		return false;
	bool good = ring_put(&l.out, "x", 1) == 0 &&
		    ring_check(l.out.shm, ring_bytes(256), why, sizeof(why)) == 0;

	link_detach(&l);
	return good;
}

/* ---- blocks ---- */

static char content_byte(uint32_t chain, size_t at)
{
	return (char)(chain * 31 + at * 7 + at / 251);
}

static void blocks_fresh(void)
{
	shm_region_close(&block_region);
	atomic_store(&told->chains, 0);
	if (blocks_create("fault-blocks", CHAINS * 3, 1, &block_region) != 0)
		_exit(1);
}

static uint32_t fill_block(struct blocks *b, uint32_t chain, size_t from, size_t len)
{
	uint32_t block = blocks_alloc(b);

	for (size_t i = 0; i < len; i++)
		blocks_data(b, block)[i] = content_byte(chain, from + i);
	FAULT_POINT(BLOCKS_DATA);
	return block;
}

static void blocks_work(void)
{
	struct shm_region made, again;
	struct blocks b;

	if (blocks_create("fault-blocks-new", 4, 1, &made) != 0 ||
	    shm_region_map(dup(block_region.fd), SHM_KIND_BLOCKS, true, &again) != 0 ||
	    blocks_attach(&b, &again) != 0)
		_exit(1);
	shm_region_close(&made);
	for (uint32_t n = 0; n < CHAINS; n++) {
		uint32_t last = BLOCK_NONE;

		told->len[n] = BLOCK_SIZE * (n % 3) + 100 + n;
		for (size_t at = 0; at < told->len[n]; at += BLOCK_SIZE) {
			uint32_t block =
				fill_block(&b, n, at, size_min(BLOCK_SIZE, told->len[n] - at));

			if (last == BLOCK_NONE)
				told->first[n] = block;
			else
				blocks_link(&b, last, block);
			last = block;
		}
		atomic_store(&told->chains, n + 1);
	}
	blocks_fini(&b);
}

static bool blocks_sound(void)
{
	static char got[3 * BLOCK_SIZE];
	struct shm_region r;
	struct blocks_view v;
	bool good = true;

	if (shm_region_map(dup(block_region.fd), SHM_KIND_BLOCKS, false, &r) != 0 ||
	    blocks_view_attach(&v, &r) != 0)
		return false;
	for (uint32_t n = 0; n < atomic_load(&told->chains); n++) {
		good = good && blocks_view_copy(&v, told->first[n], 0, got, told->len[n]) == 0;
		for (size_t i = 0; good && i < told->len[n]; i++)
			good = got[i] == content_byte(n, i);
	}
	blocks_view_fini(&v);
	return good;
}

/* ---- counters ---- */

static void counters_fresh(void)
{
	shm_region_close(&page_region);
	shm_region_close(&sum_region);
	memset(told, 0, sizeof(*told));
	if (counters_create("fault-page", 1, &page_region) != 0 ||
	    counters_create("fault-sum", 1, &sum_region) != 0)
		_exit(1);
	page = counters_of(&page_region);
	sum = counters_of(&sum_region);
}

static void fold(void)
{
	board_fold_step(&told->board);
	counters_fold(sum, page);
	counters_folded(page);
	board_fold_step(&told->board);
	atomic_fetch_add(&told->folds, 1);
}

static void counters_work(void)
{
	for (uint32_t n = 0; n < STEPS; n++) {
		counter_add(page, (enum counter_id)0, 1);
		gauge_set(page, (enum gauge_id)0, n);
		histogram_add(page, (enum histogram_id)0, n);
		counters_beat(page, n);
		atomic_store(&told->steps, n + 1);
	}
	fold();
}

static bool near(uint64_t got, uint64_t sure)
{
	return got == sure || got == sure + 1;
}

static bool histogram_sound(const struct counter_histogram *h)
{
	uint64_t all = 0;

	for (unsigned b = 0; b < COUNTER_BUCKETS; b++)
		all += h->bucket[b];
	return near(all, h->count);
}

/* The dead was a worker: its page is folded. It was the supervisor: readers see that it is not
 * done. */
static bool counters_sound(void)
{
	uint32_t sure = atomic_load(&told->steps);

	if (!near(page->counter[0], sure) || !near(page->histogram[0].count, sure) ||
	    !histogram_sound(&page->histogram[0]))
		return false;
	if (told->board.fold_seq % 2 == 1)
		return atomic_load(&told->folds) == 0;
	if (told->board.fold_seq == 0) {
		if (sum->counter[0] != 0)
			return false;
		fold();
	}
	return page->folded == 1 && sum->counter[0] == page->counter[0] &&
	       sum->histogram[0].count == page->histogram[0].count && sum->gauge[0] == 0;
}

/* ---- the board ---- */

static void board_work(void)
{
	board_fold_step(&told->board);
	board_fold_step(&told->board);
	atomic_store(&told->folds, 1);
	for (uint32_t n = 0; n < STEPS; n++) {
		board_set(&told->board.messages, n + 1);
		board_flag(&told->board.ready, (n + 1) % 2 == 1);
		board_count(&told->board.in_doubt);
		atomic_store(&told->steps, n + 1);
	}
}

static bool board_sound(void)
{
	uint32_t n = atomic_load(&told->steps);
	const struct board_shm *b = &told->board;

	return near(b->messages, n) && near(b->in_doubt, n) &&
	       (b->ready == n % 2 || b->ready == (n + 1) % 2) &&
	       (atomic_load(&told->folds) == 0 || b->fold_seq == 2);
}

const struct fault_case fault_small[] = {
	{ "region-", nothing, link_work, link_sound, true },
	{ "link-", nothing, link_work, link_sound, true },
	{ "blocks-", blocks_fresh, blocks_work, blocks_sound, true },
	{ "counters-", counters_fresh, counters_work, counters_sound, false },
	{ "board-", counters_fresh, board_work, board_sound, false },
};
const size_t fault_small_count = ARRAY_LEN(fault_small);

int fault_small_setup(void)
{
	page_region = sum_region = block_region = SHM_REGION_INIT;
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return told == MAP_FAILED ? -1 : 0;
}
