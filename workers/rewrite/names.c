/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Destination numbers; see workers/rewrite/names.h. Called when a message is appended or loaded. */
#include "workers/rewrite/names.h"

#include <string.h>

#include "lib/hash.h"
#include "lib/log.h"
#include "lib/util.h"
#include "shm/proto.h"

#define KEY_SIZE (2 * PROTO_NAME_MAX + 1)

struct names {
	struct strmap *map; /* key: transport, '\0', next hop; value: number + 1 as a pointer */
	uint32_t cap;
	uint32_t count;
	/* the one asked last: bulk mail asks for the same one again and again */
	char last_key[KEY_SIZE];
	size_t last_len;
	uint32_t last_id;
};

struct names *names_new(uint32_t cap)
{
	struct names *n = xcalloc(1, sizeof(*n));

	n->cap = cap;
	n->map = strmap_new();
	return n;
}

void names_free(struct names **n)
{
	if (*n == NULL)
		return;
	strmap_free(&(*n)->map);
	free(*n);
	*n = NULL;
}

bool names_room(struct names *n, size_t count, bool may_empty)
{
	if (count <= n->cap - n->count)
		return true;
	if (!may_empty || count > n->cap)
		return false;
	strmap_free(&n->map);
	n->map = strmap_new();
	n->count = 0;
	n->last_len = 0;
	return true;
}

uint32_t names_id(struct names *n, struct sv transport, struct sv nexthop, bool *fresh_r)
{
	char text[KEY_SIZE];
	size_t tlen = size_min(transport.len, PROTO_NAME_MAX);
	size_t hlen = size_min(nexthop.len, PROTO_NAME_MAX);
	struct sv key = { text, tlen + 1 + hlen };
	void *value;

	memcpy(text, transport.p, tlen);
	text[tlen] = '\0';
	memcpy(text + tlen + 1, nexthop.p, hlen);
	*fresh_r = false;
	if (sv_eq(key, (struct sv){ n->last_key, n->last_len }))
		return n->last_id;
	value = strmap_get(n->map, key);
	if (value == NULL) {
		ASSERT(n->count < n->cap);
		*fresh_r = true;
		value = (void *)(uintptr_t)(++n->count);
		strmap_put(n->map, key, value);
	}
	memcpy(n->last_key, text, key.len);
	n->last_len = key.len;
	n->last_id = (uint32_t)(uintptr_t)value - 1;
	return n->last_id;
}
