/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Used queue ids; see workers/rewrite/idset.h. Called by submit.c. */
#include "workers/rewrite/idset.h"

#include <stdbool.h>

#include "lib/hash.h"
#include "lib/util.h"

#define FIRST_SLOTS 256u

void idset_init(struct idset *s)
{
	*s = (struct idset){ .limit = IDSET_GENERATION };
}

void idset_fini(struct idset *s)
{
	free(s->now.slots);
	free(s->before.slots);
	*s = (struct idset){ .limit = IDSET_GENERATION };
}

/* The slot of an id, or the empty one where it belongs. */
static uint64_t *find(const struct idset_gen *g, uint64_t id)
{
	size_t at = hash_bytes(&id, sizeof(id)) & g->mask;

	while (g->slots[at] != 0 && g->slots[at] != id)
		at = (at + 1) & g->mask;
	return &g->slots[at];
}

static bool has(const struct idset_gen *g, uint64_t id)
{
	return g->slots != NULL && *find(g, id) != 0;
}

static void grow(struct idset_gen *g)
{
	struct idset_gen bigger = *g;
	size_t slots = g->slots == NULL ? FIRST_SLOTS : 2 * (g->mask + 1);

	bigger.slots = xcalloc(slots, sizeof(*bigger.slots));
	bigger.mask = slots - 1;
	for (size_t i = 0; g->slots != NULL && i <= g->mask; i++) {
		if (g->slots[i] != 0)
			*find(&bigger, g->slots[i]) = g->slots[i];
	}
	free(g->slots);
	*g = bigger;
}

static void new_generation(struct idset *s)
{
	s->floor = u64_max(s->floor, s->before.max);
	free(s->before.slots);
	s->before = s->now;
	s->now = (struct idset_gen){ 0 };
}

enum idset_verdict idset_use(struct idset *s, uint64_t id)
{
	if (id <= s->floor)
		return IDSET_TOO_OLD;
	if (has(&s->now, id) || has(&s->before, id))
		return IDSET_USED;
	if (s->now.count >= s->limit)
		new_generation(s);
	if (s->now.slots == NULL || s->now.count > s->now.mask / 2)
		grow(&s->now);
	*find(&s->now, id) = id;
	s->now.count++;
	s->now.max = u64_max(s->now.max, id);
	return IDSET_NEW;
}
