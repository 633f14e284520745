/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content blocks of one smtp-in life; see shm/blocks.h. */
#include "shm/blocks.h"

#include <string.h>

#include "lib/err.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "lib/util.h"

_Static_assert(sizeof(struct blocks_shm) == 64, "one cache line");

#define NEXT_OFF (sizeof(struct shm_header) + sizeof(struct blocks_shm))

static size_t data_off_of(uint32_t count)
{
	return align_up(NEXT_OFF + (size_t)count * sizeof(uint32_t), 64);
}

int blocks_create(const char *name, uint32_t count, uint32_t life, struct shm_region *r)
{
	size_t data_off = data_off_of(count);

	if (count == 0 || count == BLOCK_NONE)
		return E_INVAL;
	int err = shm_region_create(name, SHM_KIND_BLOCKS, data_off + (size_t)count * BLOCK_SIZE,
				    life, 0, r);

	if (err != 0)
		return err;
	struct blocks_shm *shm = (void *)((char *)r->base + sizeof(struct shm_header));

	*shm = (struct blocks_shm){
		.count = count,
		.block_size = BLOCK_SIZE,
		.next_off = NEXT_OFF,
		.data_off = data_off,
	};
	FAULT_POINT(BLOCKS_INIT);
	return 0;
}

/* Where things are follows from the count alone; the region only has to agree. */
static int check_layout(const struct shm_region *r, struct blocks_shm *copy)
{
	if (r->base == NULL || r->size < NEXT_OFF)
		return E_CORRUPT;
	memcpy(copy, (const char *)r->base + sizeof(struct shm_header), sizeof(*copy));
	if (copy->count == 0 || copy->count == BLOCK_NONE || copy->block_size != BLOCK_SIZE)
		return E_CORRUPT;
	size_t data_off = data_off_of(copy->count);

	if (copy->next_off != NEXT_OFF || copy->data_off != data_off ||
	    r->size != data_off + (size_t)copy->count * BLOCK_SIZE)
		return E_CORRUPT;
	return 0;
}

int blocks_attach(struct blocks *b, struct shm_region *r)
{
	struct blocks_shm copy;
	int err = check_layout(r, &copy);

	*b = (struct blocks){ .region = SHM_REGION_INIT };
	if (err != 0) {
		shm_region_close(r);
		return err;
	}
	b->region = *r;
	*r = SHM_REGION_INIT;
	b->count = copy.count;
	b->next = (void *)((char *)b->region.base + NEXT_OFF);
	b->data = (char *)b->region.base + copy.data_off;
	b->free_stack = xmalloc(copy.count * sizeof(uint32_t));
	/* low numbers on top, so that memory is touched only as it is needed */
	for (uint32_t i = 0; i < copy.count; i++)
		b->free_stack[i] = copy.count - 1 - i;
	b->free_count = copy.count;
	return 0;
}

void blocks_fini(struct blocks *b)
{
	free(b->free_stack);
	shm_region_close(&b->region);
	*b = (struct blocks){ .region = SHM_REGION_INIT };
}

uint32_t blocks_alloc(struct blocks *b)
{
	if (b->free_count == 0)
		return BLOCK_NONE;
	uint32_t block = b->free_stack[--b->free_count];

	atomic_store_explicit(&b->next[block], BLOCK_NONE, memory_order_relaxed);
	FAULT_POINT(BLOCKS_ALLOC);
	return block;
}

char *blocks_data(struct blocks *b, uint32_t block)
{
	ASSERT(block < b->count);
	return b->data + (size_t)block * BLOCK_SIZE;
}

void blocks_link(struct blocks *b, uint32_t block, uint32_t next)
{
	ASSERT(block < b->count && (next < b->count || next == BLOCK_NONE));
	/* relaxed: the ring's R1 publishes it together with the content */
	atomic_store_explicit(&b->next[block], next, memory_order_relaxed);
	FAULT_POINT(BLOCKS_LINK);
}

void blocks_free_chain(struct blocks *b, uint32_t first)
{
	/* a chain that is longer than what is allocated has a loop */
	while (first != BLOCK_NONE) {
		ASSERT(first < b->count && b->free_count < b->count);
		b->free_stack[b->free_count++] = first;
		first = atomic_load_explicit(&b->next[first], memory_order_relaxed);
	}
}

/* ---- reader ---- */

int blocks_view_attach(struct blocks_view *v, struct shm_region *r)
{
	struct blocks_shm copy;
	int err = check_layout(r, &copy);

	*v = (struct blocks_view){ .region = SHM_REGION_INIT };
	if (err != 0) {
		shm_region_close(r);
		return err;
	}
	v->region = *r;
	*r = SHM_REGION_INIT;
	v->count = copy.count;
	v->next = (const void *)((const char *)v->region.base + NEXT_OFF);
	v->data = (const char *)v->region.base + copy.data_off;
	return 0;
}

void blocks_view_fini(struct blocks_view *v)
{
	shm_region_close(&v->region);
	*v = (struct blocks_view){ .region = SHM_REGION_INIT };
}

int blocks_view_copy(const struct blocks_view *v, uint32_t first, size_t skip, void *out,
		     size_t len)
{
	size_t capacity = (size_t)v->count * BLOCK_SIZE;
	uint32_t block = first;
	char *to = out;

	if (len == 0)
		return 0;
	/* A chain without a loop is no longer than the table; a shorter loop only repeats its
	 * writer's own bytes. */
	if (len > capacity || skip > capacity - len)
		return E_PEER;
	for (; skip >= BLOCK_SIZE; skip -= BLOCK_SIZE) {
		if (block >= v->count)
			return E_PEER;
		block = atomic_load_explicit(&v->next[block], memory_order_relaxed);
	}
	while (len > 0) {
		if (block >= v->count)
			return E_PEER;
		size_t n = size_min(len, BLOCK_SIZE - skip);

		memcpy(to, v->data + (size_t)block * BLOCK_SIZE + skip, n);
		to += n;
		len -= n;
		skip = 0;
		block = atomic_load_explicit(&v->next[block], memory_order_relaxed);
	}
	return 0;
}
