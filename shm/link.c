/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Links between two lives; see shm/link.h. Made by the supervisor, attached by both sides. */
#include "shm/link.h"

#include <string.h>

#include "lib/err.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"

_Static_assert(sizeof(struct link_shm) == 64, "the rings behind it stay on cache lines");

#define RINGS_OFF (sizeof(struct shm_header) + sizeof(struct link_shm))

static struct link_shm *link_of(const struct shm_region *r)
{
	return (struct link_shm *)(void *)((char *)r->base + sizeof(struct shm_header));
}

int link_create(const char *name, uint32_t size_0to1, uint32_t size_1to0, uint32_t life0,
		uint32_t life1, struct shm_region *r)
{
	size_t len0 = ring_bytes(size_0to1), len1 = ring_bytes(size_1to0);
	int err = shm_region_create(name, SHM_KIND_LINK, RINGS_OFF + len0 + len1, life0, life1, r);

	if (err != 0)
		return err;
	struct link_shm *shm = link_of(r);

	shm->ring_off[0] = RINGS_OFF;
	shm->ring_len[0] = len0;
	shm->ring_off[1] = RINGS_OFF + len0;
	shm->ring_len[1] = len1;
	FAULT_POINT(LINK_PLACES);
	ring_init((char *)r->base + RINGS_OFF, size_0to1);
	ring_init((char *)r->base + RINGS_OFF + len0, size_1to0);
	return 0;
}

/* The other side can write this page: `places` is our copy. */
static bool places_ok(const struct link_shm *places, size_t size)
{
	for (unsigned i = 0; i < 2; i++) {
		uint64_t off = places->ring_off[i], len = places->ring_len[i];

		if (off % 64 != 0 || off < RINGS_OFF || off > size || len > size - off)
			return false;
	}
	uint64_t end0 = places->ring_off[0] + places->ring_len[0];

	return places->ring_off[1] >= end0;
}

int link_attach(struct link *l, struct shm_region *r, unsigned side, int peer_wake_fd)
{
	struct link_shm places;
	int err = E_CORRUPT;

	ASSERT(side < 2 && r->base != NULL);
	*l = (struct link){ .region = *r, .peer_wake_fd = peer_wake_fd };
	*r = SHM_REGION_INIT;
	char *base = l->region.base;

	if (l->region.size >= RINGS_OFF) {
		memcpy(&places, link_of(&l->region), sizeof(places));
		if (places_ok(&places, l->region.size))
			err = ring_prod_attach(&l->out, base + places.ring_off[side],
					       places.ring_len[side], peer_wake_fd);
		if (err == 0)
			err = ring_cons_attach(&l->in, base + places.ring_off[1 - side],
					       places.ring_len[1 - side], peer_wake_fd);
	}
	if (err != 0)
		link_detach(l);
	return err;
}

void link_detach(struct link *l)
{
	if (!link_is_attached(l))
		return;
	shm_region_close(&l->region);
	io_close(&l->peer_wake_fd);
	*l = (struct link){ .region = SHM_REGION_INIT, .peer_wake_fd = -1 };
}

bool link_is_attached(const struct link *l)
{
	return l->region.base != NULL;
}

void link_flush(struct link *l)
{
	ring_publish(&l->out);
	ring_release(&l->in);
}
