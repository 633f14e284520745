/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * For the shared-memory targets: arbitrary bytes hardly ever get past a magic number, so an input
 * is a list of patches to a sound structure: offset (2 bytes), length and width (1 byte), bytes. An
 * input that begins with 0xff replaces everything by its bytes.
 */
#ifndef PH_T_FUZZ_PATCH_H
#define PH_T_FUZZ_PATCH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/util.h"

static inline void fuzz_patch(void *mem, size_t mem_size, const uint8_t *data, size_t size)
{
	uint8_t *to = mem;

	if (size > 0 && data[0] == 0xff) {
		for (size_t i = 0; i < mem_size; i++)
			to[i] = size > 1 ? data[1 + i % (size - 1)] : 0xff;
		return;
	}
	while (size >= 4) {
		size_t at = (size_t)(data[0] | data[1] << 8) % mem_size;
		size_t len = size_min(data[2] % 16 + 1u, size_min(size - 3, mem_size - at));

		/* numbers in there are aligned */
		if (data[2] & 0x80)
			at &= ~(size_t)3;
		memcpy(to + at, data + 3, len);
		data += 3 + len;
		size -= 3 + len;
	}
}

#endif
