/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Disks as a power cut may leave them, made from the log of t/crash/blocklog. Used by
 * t/crash/blockplay.c. Images are made in order of their cut, so that each costs what differs from
 * the last one.
 *
 * A cut stands between two log entries. All up to the last flush before it is there. Of the writes
 * between that flush and the cut a random subset is there, some of them in part: any of their
 * 512-byte sectors, whatever lies between; with whole_blocks any of its 4096-byte blocks.
 */
#ifndef PH_T_BLOCKIMAGE_H
#define PH_T_BLOCKIMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block_entry;

struct images {
	const char *log; /* mapped */
	size_t log_len;
	const struct block_entry **entries;
	size_t entry_count;
	size_t flushes;
	char *model; /* what is durable before the cut */
	char *dev;   /* the image; shared with dev_fd */
	int dev_fd;  /* a memory file; a loop device may stand on it */
	size_t size;
	uint8_t *live;     /* blocks that may differ between model and dev, or from zero */
	size_t applied;    /* entries that are in the model */
	bool whole_blocks; /* 4096 bytes of the disk are written as a whole, or not at all */
	bool forgetful;    /* control: the last flushes before the cut did not happen */
	size_t writes_open, writes_dropped, writes_torn; /* sums over all images */
};

struct image_plan { /* image `number` of `count`, made from `seed` */
	uint64_t seed;
	unsigned number, count;
};

/* Both die() when a file is not what it should be. */
void images_open(struct images *m, const char *base, const char *log);
/* The cut: entries before this position reached the disk. */
size_t images_cut(const struct images *m, const struct image_plan *p);
/* When the power went: the time of the entry behind the cut. INT64_MAX behind the last one. */
int64_t images_when_us(const struct images *m, size_t cut);
/* Make it in m->dev. Cuts must not go backwards. */
void images_make(struct images *m, const struct image_plan *p);

#endif
