/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Blocks: allocation and chains by the owner, copies by a reader that believes nothing. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "shm/blocks.h"
#include "t/unit/tap.h"

#define COUNT 10u

static struct blocks b;
static struct blocks_view v;

static void quiet(void *ctx, enum log_level level, const char *program, const char *text,
		  size_t len)
{
	(void)ctx, (void)level, (void)program, (void)text, (void)len;
}

/* Runs fn in a child; true when it died by bug(). */
static bool aborts(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		log_set_sink(quiet, NULL);
		fn();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void open_both(void)
{
	struct shm_region r, ro;

	is_int(blocks_create("t", COUNT, 3, &r), 0, "create");
	is_int(shm_region_map(shm_region_readonly_fd(&r), SHM_KIND_BLOCKS, false, &ro), 0,
	       "map read-only");
	is_int(blocks_attach(&b, &r), 0, "owner");
	is_int(blocks_view_attach(&v, &ro), 0, "reader");
	ok(r.base == NULL && ro.base == NULL, "the regions were taken over");
	is_int(b.free_count, COUNT, "all free");
}

/* A chain of n bytes with byte i = i * 7. */
static uint32_t chain_of(size_t n)
{
	uint32_t first = BLOCK_NONE, last = BLOCK_NONE;

	for (size_t at = 0; at < n; at++) {
		if (at % BLOCK_SIZE == 0) {
			uint32_t block = blocks_alloc(&b);

			if (first == BLOCK_NONE)
				first = block;
			else
				blocks_link(&b, last, block);
			last = block;
		}
		blocks_data(&b, last)[at % BLOCK_SIZE] = (char)(at * 7);
	}
	return first;
}

static bool copy_is(uint32_t first, size_t skip, size_t len)
{
	char *out = malloc(len + 1);
	bool same = blocks_view_copy(&v, first, skip, out, len) == 0;

	for (size_t i = 0; same && i < len; i++)
		same = out[i] == (char)((skip + i) * 7);
	free(out);
	return same;
}

static void chains(void)
{
	size_t n = 3 * BLOCK_SIZE + 100;
	uint32_t first = chain_of(n);

	is_int(b.free_count, COUNT - 4, "four blocks are used");
	ok(copy_is(first, 0, n), "all of it");
	ok(copy_is(first, 5, 10), "a piece of the first block");
	ok(copy_is(first, BLOCK_SIZE - 3, 6), "a piece across two");
	ok(copy_is(first, BLOCK_SIZE, BLOCK_SIZE), "exactly the second");
	ok(copy_is(first, 2 * BLOCK_SIZE + 1, BLOCK_SIZE + 99), "the end");
	ok(copy_is(first, 0, 0), "nothing");
	ok(copy_is(BLOCK_NONE, 0, 0), "nothing from no chain");
	blocks_free_chain(&b, first);
	is_int(b.free_count, COUNT, "all free again");
	blocks_free_chain(&b, BLOCK_NONE);
	uint32_t seen = 0;

	for (unsigned i = 0; i < COUNT; i++)
		seen |= 1u << blocks_alloc(&b);
	is_int(seen, (1u << COUNT) - 1, "every block once");
	is_int(blocks_alloc(&b), BLOCK_NONE, "then no more");
	for (uint32_t i = 0; i < COUNT; i++)
		blocks_free_chain(&b, i);
}

static void hostile_owner(void)
{
	char *out = malloc(COUNT * BLOCK_SIZE + 1);
	uint32_t first = chain_of(2 * BLOCK_SIZE);
	uint32_t second = atomic_load(&b.next[first]);

	is_int(blocks_view_copy(&v, first, 0, out, 2 * BLOCK_SIZE + 1), E_PEER,
	       "shorter than said");
	is_int(blocks_view_copy(&v, first, 2 * BLOCK_SIZE, out, 1), E_PEER, "skip past the end");
	is_int(blocks_view_copy(&v, COUNT, 0, out, 1), E_PEER, "first outside the table");
	is_int(blocks_view_copy(&v, BLOCK_NONE, 0, out, 1), E_PEER, "no first");
	atomic_store(&b.next[second], COUNT);
	is_int(blocks_view_copy(&v, first, 0, out, 3 * BLOCK_SIZE), E_PEER,
	       "leads outside the table");
	atomic_store(&b.next[second], first);
	is_int(blocks_view_copy(&v, first, 0, out, COUNT * BLOCK_SIZE), 0,
	       "a loop ends with the bytes");
	is_int(blocks_view_copy(&v, first, 0, out, COUNT * BLOCK_SIZE + 1), E_PEER,
	       "more than there can be");
	is_int(blocks_view_copy(&v, first, SIZE_MAX, out, 2), E_PEER, "skip that wraps");
	free(out);
}

static void free_loop(void)
{
	uint32_t first = chain_of(2 * BLOCK_SIZE);

	blocks_link(&b, atomic_load(&b.next[first]), first);
	blocks_free_chain(&b, first);
}

static void free_outside(void)
{
	blocks_free_chain(&b, COUNT);
}

static void refusals(void)
{
	static const struct {
		const char *what;
		struct blocks_shm shm;
	} cases[] = {
		{ "no blocks", { 0, BLOCK_SIZE, 128, 192, { 0 } } },
		{ "more blocks than room", { 3, BLOCK_SIZE, 128, 192, { 0 } } },
		{ "block size", { 2, 4096, 128, 192, { 0 } } },
		{ "next outside", { 2, BLOCK_SIZE, 1 << 20, 192, { 0 } } },
		{ "data outside", { 2, BLOCK_SIZE, 128, UINT64_MAX - 63, { 0 } } },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct shm_region r;
		struct blocks_view bad;

		blocks_create("t", 2, 1, &r);
		*(struct blocks_shm *)(void *)((char *)r.base + 64) = cases[i].shm;
		is_int(blocks_view_attach(&bad, &r), E_CORRUPT, "refused: %s", cases[i].what);
	}
}

int main(void)
{
	open_both();
	chains();
	hostile_owner();
	ok(aborts(free_loop), "freeing a loop of our own is a bug");
	ok(aborts(free_outside), "so is a block outside the table");
	refusals();
	blocks_fini(&b);
	blocks_view_fini(&v);
	blocks_fini(&b);
	return tap_done();
}
