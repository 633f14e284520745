/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The log of a disk: what t/crash/blocklog writes and t/crash/blockplay reads. A sequence of
 * entries in the order in which the disk took them; the bytes of a write follow its entry. All
 * that stands before a flush is durable with it; of what stands behind the last flush, a power cut
 * leaves any subset.
 */
#ifndef PH_T_BLOCKLOG_H
#define PH_T_BLOCKLOG_H

#include <stdint.h>

#define BLOCK_MAGIC 0x676f6c42u

enum block_kind {
	BLOCK_WRITE, /* `len` bytes at `off`; they follow */
	BLOCK_ZERO,  /* `len` zero bytes at `off`; nothing follows */
	BLOCK_FLUSH,
};

struct block_entry {
	uint32_t magic;
	uint32_t kind;
	uint64_t off;
	uint64_t len;
	int64_t when_us; /* clock_mono_us_raw() before the disk answered */
};

#endif
