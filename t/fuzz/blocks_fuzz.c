/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A block region whose owner is hostile: the reader gets the owner's own bytes or an error. */
#include <stdlib.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "shm/blocks.h"
#include "t/fuzz/patch.h"

#define COUNT 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t number(const uint8_t *data, size_t size, size_t at)
{
	uint32_t v = 0;

	if (at + 4 <= size)
		memcpy(&v, data + at, 4);
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct shm_region made, got;
	struct blocks_view v;
	static char out[COUNT * BLOCK_SIZE + 1];
	size_t head = sizeof(struct shm_header);

	ASSERT(blocks_create("fuzz", COUNT, 1, &made) == 0);
	/* the table and the list, not the content */
	if (size > 8)
		fuzz_patch((char *)made.base + head, 128, data + 8, size - 8);
	if (shm_region_map(dup(made.fd), SHM_KIND_BLOCKS, false, &got) == 0 &&
	    blocks_view_attach(&v, &got) == 0) {
		uint32_t first = number(data, size, 0), sizes = number(data, size, 4);
		size_t skip = sizes % 40000, len = (sizes >> 16) % sizeof(out);
		int err = blocks_view_copy(&v, first, skip, out, len);

		ASSERT(err == 0 || err == E_PEER);
		blocks_view_copy(&v, first % COUNT, skip, out, len);
		blocks_view_copy(&v, 0, SIZE_MAX - skip, out, len);
		blocks_view_fini(&v);
	} else {
		ASSERT(got.base == NULL);
	}
	shm_region_close(&made);
	return 0;
}
