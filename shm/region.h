/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Regions: sealed memfds. The supervisor creates each and passes the descriptor to the processes
 * that the process table allows; nobody else can map it. Size is fixed by seals (SHRINK, GROW),
 * so an access inside the checked size can never SIGBUS.
 * Every region begins with struct shm_header; the rest is laid out by its kind.
 * Who trusts what: a reader of a region that another process can write treats all of it as input:
 * copy once into private memory, then check, then use.
 */
#ifndef PH_SHM_REGION_H
#define PH_SHM_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHM_MAGIC          0x31304d4853414850u /* "PHASHM01", little endian */
#define SHM_LAYOUT_VERSION 1u

enum shm_kind {
	SHM_KIND_LINK = 1, /* shm/link.h: two rings between two worker lives */
	SHM_KIND_BLOCKS,   /* shm/blocks.h: content blocks of one smtp-in life */
	SHM_KIND_QTAB,     /* shm/qtab.h: messages and queue entries */
	SHM_KIND_DTAB,     /* shm/dtab.h: destinations */
	SHM_KIND_COUNTERS, /* shm/counters.h: one page set per worker life */
	SHM_KIND_LOG,      /* one ring towards the log worker */
	SHM_KIND_BOARD,    /* shm/board.h: what the supervisor tells everybody */
};

struct shm_header { /* 64 bytes at offset 0 of every region */
	uint64_t magic;
	uint32_t layout_version;
	uint32_t kind;       /* enum shm_kind */
	uint64_t size_bytes; /* of the whole region */
	uint32_t life;       /* worker life it belongs to, 0 = the supervisor's */
	uint32_t peer_life;  /* for links */
	uint64_t build_id;   /* hash of the layout-relevant sizes; differs = E_VERSION */
	uint64_t spare[3];
};

struct shm_region {
	void *base; /* NULL when not mapped */
	size_t size;
	int fd; /* -1 when not held */
};

#define SHM_REGION_INIT ((struct shm_region){ NULL, 0, -1 })

/* Create, size, map read-write, write the header, seal. `name` shows in /proc/PID/maps. Kinds with
 * one writer (QTAB, DTAB, BOARD) also get F_SEAL_FUTURE_WRITE: the creator's mapping is the only
 * writable one there will ever be. */
int shm_region_create(const char *name, enum shm_kind kind, size_t size, uint32_t life,
		      uint32_t peer_life, struct shm_region *r);
/* The one worker that writes the region (BLOCKS, COUNTERS) has mapped it: from now on nobody can
 * map it writable, not even through a new descriptor from /proc, which the mode of a descriptor
 * does not hinder. */
int shm_region_freeze(const struct shm_region *r);
/* Map a received descriptor (taken over: closed on failure too). Checks seals, size and header.
 * E_VERSION, E_CORRUPT or an errno code. */
int shm_region_map(int fd, enum shm_kind kind, bool writable, struct shm_region *r);
/* A second descriptor of the region that cannot be mapped writable (for the readers of kinds that
 * another worker writes, e.g. BLOCKS). >= 0, or an error code. Needs /proc; the supervisor's use.
 */
int shm_region_readonly_fd(const struct shm_region *r);
/* The header as shm_region_create() writes it. */
void shm_header_write(void *base, enum shm_kind kind, size_t size, uint32_t life,
		      uint32_t peer_life);
/* The header check alone, for memory that is mapped already. E_VERSION or E_CORRUPT. */
int shm_header_check(const void *base, size_t size, enum shm_kind kind);
uint64_t shm_build_id(void);
void shm_region_close(struct shm_region *r); /* unmap and close; harmless when closed */
/* Drop the descriptor but keep the mapping. */
void shm_region_forget_fd(struct shm_region *r);

#endif
