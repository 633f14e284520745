/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Link: one region with two rings, one each way, between exactly two worker lives (the supervisor
 * counts as one). Side 0 and side 1 are fixed by the process table (the supervisor is side 0).
 * Layout: shm_header; ring 0->1; ring 1->0 (offsets in struct link_shm, checked when attaching).
 */
#ifndef PH_SHM_LINK_H
#define PH_SHM_LINK_H

#include "shm/region.h"
#include "shm/ring.h"

struct link_shm {             /* directly behind shm_header */
	uint64_t ring_off[2]; /* from the region start; [s] is written by side s */
	uint64_t ring_len[2];
	uint64_t spare[4];
};

struct link {
	struct shm_region region;
	struct ring_prod out;
	struct ring_cons in;
	int peer_wake_fd; /* owned: the peer's eventfd */
};

/* Create with the given ring sizes (bytes of data, powers of two). Not attached. */
int link_create(const char *name, uint32_t size_0to1, uint32_t size_1to0, uint32_t life0,
		uint32_t life1, struct shm_region *r);
/* Attach a mapped region as side 0 or 1; takes both the region and peer_wake_fd over (on failure
 * they are closed). E_CORRUPT. */
int link_attach(struct link *l, struct shm_region *r, unsigned side, int peer_wake_fd);
void link_detach(struct link *l); /* harmless when not attached */
bool link_is_attached(const struct link *l);
/* Publish and release; call once per turn. */
void link_flush(struct link *l);
/* For a dead peer: records it published and we have not read are still in l->in. */

#endif
