/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Blocks: the content memory of one smtp-in life. The smtp-in worker maps it read-write and owns
 * the free list (in its private memory); rewrite workers map it read-only. A chain is a list of
 * block numbers; next[] is shared so that a chain travels as its first number.
 * Layout: shm_header; struct blocks_shm; next[count] (u32 each, padded to 64); count blocks.
 * A chain carries bytes: block_size per block except the last one. The reader knows the byte count
 * from the ring entry, follows at most that many blocks, and checks every number (BLOCK_NONE or
 * < count), so that a hostile writer can at worst have its own content misread.
 */
#ifndef PH_SHM_BLOCKS_H
#define PH_SHM_BLOCKS_H

#include <stdatomic.h>

#include "lib/str.h"
#include "shm/region.h"

#define BLOCK_NONE UINT32_MAX
#define BLOCK_SIZE 8192u

struct blocks_shm {
	uint32_t count;
	uint32_t block_size;
	uint64_t next_off; /* from the region start */
	uint64_t data_off;
	uint64_t spare[5];
};

/* Owner's side. */
struct blocks {
	struct shm_region region;
	uint32_t count;
	_Atomic uint32_t *next;
	char *data;
	uint32_t *free_stack; /* private */
	uint32_t free_count;
};

int blocks_create(const char *name, uint32_t count, uint32_t life, struct shm_region *r);
int blocks_attach(struct blocks *b, struct shm_region *r); /* owner; takes the region over */
void blocks_fini(struct blocks *b);
uint32_t blocks_alloc(
	struct blocks *b); /* next[] set to BLOCK_NONE; BLOCK_NONE when none is free */
char *blocks_data(struct blocks *b, uint32_t block);
void blocks_link(struct blocks *b, uint32_t block, uint32_t next);
/* Free a chain; a chain of our own that loops or leaves the table is bug(). */
void blocks_free_chain(struct blocks *b, uint32_t first);

/* Reader's side: another process may be writing while we read. */
struct blocks_view {
	struct shm_region region; /* read-only */
	uint32_t count;
	const _Atomic uint32_t *next;
	const char *data;
};

int blocks_view_attach(struct blocks_view *v, struct shm_region *r);
void blocks_view_fini(struct blocks_view *v);
/* Copy exactly len bytes of the chain that starts at `first`, from byte `skip` on, into out (the
 * single fetch). E_PEER when the chain is shorter, loops or leaves the table. */
int blocks_view_copy(const struct blocks_view *v, uint32_t first, size_t skip, void *out,
		     size_t len);

#endif
