/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A received link region with anything in it: refused or usable, never outside its memory. */
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "shm/link.h"
#include "t/fuzz/patch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct shm_region made, got;
	struct link l;
	char buf[300] = { 0 };
	size_t len;

	ASSERT(link_create("fuzz", 512, 1024, 1, 2, &made) == 0);
	size_t head = sizeof(struct shm_header);

	/* one input in four may also change the region's header */
	if (size > 0 && data[size - 1] % 4 == 0)
		head = 0;
	fuzz_patch((char *)made.base + head, made.size - head, data, size);
	int err = shm_region_map(dup(made.fd), SHM_KIND_LINK, true, &got);

	if (err == 0 && link_attach(&l, &got, size % 2, -1) == 0) {
		for (int i = 0; i < 100 && ring_get(&l.in, buf, sizeof(buf), &len) == 1; i++)
			;
		for (size_t i = 1; i < 300; i += 17)
			ring_put(&l.out, buf, i);
		link_flush(&l);
		link_detach(&l);
	} else {
		ASSERT(got.base == NULL);
	}
	shm_region_close(&made);
	return 0;
}
