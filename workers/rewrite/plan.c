/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Recipients to destinations and entries; see workers/rewrite/plan.h. */
#include "workers/rewrite/plan.h"

#include <string.h>

#include "lib/err.h"
#include "lib/hash.h"
#include "lib/util.h"

#define TRANSPORT_NAME_SIZE 128
#define LINEAR_MAX          8 /* so many destinations are searched one by one */

struct plan_work {
	const struct conf *conf;
	struct arena *a;
	struct plan *p;
	size_t dest_cap;
	uint32_t *index; /* hash of destinations, only past LINEAR_MAX; values + 1 */
	size_t index_mask;
	bool one_each; /* each recipient has a sender of its own */
};

/* ---- destinations ---- */

/* Names of hosts are equal in any case; paths and texts are not. */
static bool nexthop_folds(const struct conf_transport *t, struct sv nexthop)
{
	if (t == NULL || t->kind == TRANSPORT_ERROR || t->kind == TRANSPORT_PIPE)
		return false;
	return memchr(nexthop.p, '/', nexthop.len) == NULL;
}

static const struct conf_transport *find_transport(const struct conf *c, struct sv name)
{
	char text[TRANSPORT_NAME_SIZE];

	return str_copy(text, sizeof(text), name) ? conf_transport_find(c, text) : NULL;
}

static bool same_dest(const struct plan_dest *d, const struct route *route)
{
	return sv_eq(d->transport, route->transport) && sv_eq_nocase(d->nexthop, route->nexthop);
}

static uint64_t dest_hash(struct sv transport, struct sv nexthop)
{
	char low[2 * PROTO_NAME_MAX];
	size_t n = size_min(nexthop.len, PROTO_NAME_MAX);

	memcpy(low, nexthop.p, n);
	str_lower(low, n);
	memcpy(low + n, transport.p, size_min(transport.len, PROTO_NAME_MAX));
	return hash_bytes(low, n + size_min(transport.len, PROTO_NAME_MAX));
}

static int index_build(struct plan_work *w, size_t rcpts)
{
	size_t size = 64;

	while (size < 2 * rcpts)
		size *= 2;
	w->index = arena_calloc(w->a, size * sizeof(*w->index));
	if (w->index == NULL)
		return E_LIMIT;
	w->index_mask = size - 1;
	for (size_t i = 0; i < w->p->dest_count; i++) {
		const struct plan_dest *d = &w->p->dests[i];
		size_t at = dest_hash(d->transport, d->nexthop) & w->index_mask;

		while (w->index[at] != 0)
			at = (at + 1) & w->index_mask;
		w->index[at] = (uint32_t)i + 1;
	}
	return 0;
}

/* The destination of a route: its number, or the place in the index where it belongs. */
static bool dest_find(const struct plan_work *w, const struct route *route, uint32_t *dest_r,
		      size_t *at_r)
{
	if (w->index == NULL) {
		for (size_t i = w->p->dest_count; i-- > 0;) {
			*dest_r = (uint32_t)i;
			if (same_dest(&w->p->dests[i], route))
				return true;
		}
		return false;
	}
	*at_r = dest_hash(route->transport, route->nexthop) & w->index_mask;
	while (w->index[*at_r] != 0) {
		*dest_r = w->index[*at_r] - 1;
		if (same_dest(&w->p->dests[*dest_r], route))
			return true;
		*at_r = (*at_r + 1) & w->index_mask;
	}
	return false;
}

static int dests_grow(struct plan_work *w)
{
	size_t cap = w->dest_cap == 0 ? 4 : w->dest_cap * 2;
	struct plan_dest *d = arena_alloc(w->a, cap * sizeof(*d));

	if (d == NULL)
		return E_LIMIT;
	if (w->p->dest_count > 0)
		memcpy(d, w->p->dests, w->p->dest_count * sizeof(*d));
	w->p->dests = d;
	w->dest_cap = cap;
	return 0;
}

static int dest_add(struct plan_work *w, const struct route *route, uint32_t *dest_r)
{
	const struct conf_transport *t = find_transport(w->conf, route->transport);
	int64_t limit = t != NULL ? t->destination_recipient_limit : 0;
	struct sv nexthop = route->nexthop;
	struct plan_dest *d;
	char *text;

	if (w->p->dest_count == w->dest_cap && dests_grow(w) < 0)
		return E_LIMIT;
	nexthop.len = size_min(nexthop.len, PROTO_NAME_MAX);
	text = arena_strndup(w->a, nexthop.p, nexthop.len);
	if (text == NULL)
		return E_LIMIT;
	if (nexthop_folds(t, nexthop))
		str_lower(text, nexthop.len);
	d = &w->p->dests[w->p->dest_count];
	*d = (struct plan_dest){ .transport = route->transport,
				 .nexthop = { text, nexthop.len },
				 .rcpt_max = PROTO_ENTRY_SPAN };
	if (limit > 0 && limit < (int64_t)PROTO_ENTRY_SPAN)
		d->rcpt_max = (uint32_t)limit;
	if (w->one_each)
		d->rcpt_max = 1;
	*dest_r = (uint32_t)w->p->dest_count++;
	return 0;
}

static int dest_of(struct plan_work *w, struct route *route, size_t rcpts, uint32_t *dest_r)
{
	size_t at = 0;
	int err;

	route->nexthop.len = size_min(route->nexthop.len, PROTO_NAME_MAX);
	route->transport.len = size_min(route->transport.len, PROTO_NAME_MAX);
	if (dest_find(w, route, dest_r, &at))
		return 0;
	err = dest_add(w, route, dest_r);
	if (err < 0)
		return err;
	if (w->index != NULL)
		w->index[at] = *dest_r + 1;
	else if (w->p->dest_count > LINEAR_MAX)
		return index_build(w, rcpts);
	return 0;
}

/* ---- new mail ---- */

static int assign(struct plan_work *w, struct resolver *r, const struct envelope *e,
		  uint32_t *dest_of_rcpt)
{
	for (size_t i = 0; i < e->rcpt_count; i++) {
		struct route route;
		int err = resolve(r, e->sender, e->rcpts[i].addr, e->filter, w->a, &route);

		if (err == 0)
			err = dest_of(w, &route, e->rcpt_count, &dest_of_rcpt[i]);
		if (err < 0)
			return err;
		w->p->dests[dest_of_rcpt[i]].rcpt_count++;
	}
	return 0;
}

/* Counting sort by destination; stable, so recipients keep their order within one. */
static int sort_rcpts(struct plan_work *w, struct envelope *e, const uint32_t *dest_of_rcpt)
{
	struct env_rcpt *sorted = arena_alloc(w->a, e->rcpt_count * sizeof(*sorted));
	uint32_t at = 0;

	if (sorted == NULL)
		return E_LIMIT;
	for (size_t i = 0; i < w->p->dest_count; i++) {
		w->p->dests[i].next = at;
		at += w->p->dests[i].rcpt_count;
	}
	for (size_t i = 0; i < e->rcpt_count; i++)
		sorted[w->p->dests[dest_of_rcpt[i]].next++] = e->rcpts[i];
	e->rcpts = sorted;
	e->rcpt_cap = e->rcpt_count;
	return 0;
}

static int cut_entries(struct plan_work *w)
{
	size_t count = 0;
	uint32_t at = 0;

	for (size_t i = 0; i < w->p->dest_count; i++) {
		const struct plan_dest *d = &w->p->dests[i];

		count += (d->rcpt_count + d->rcpt_max - 1) / d->rcpt_max;
	}
	w->p->entries = arena_alloc(w->a, count * sizeof(*w->p->entries));
	if (w->p->entries == NULL)
		return E_LIMIT;
	for (size_t i = 0; i < w->p->dest_count; i++) {
		const struct plan_dest *d = &w->p->dests[i];

		for (uint32_t left = d->rcpt_count; left > 0;) {
			uint32_t n = left < d->rcpt_max ? left : d->rcpt_max;

			w->p->entries[w->p->entry_count++] = (struct proto_entry){
				.rcpt_first = at,
				.dest = (uint32_t)i,
				.mask = n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1,
			};
			at += n;
			left -= n;
		}
	}
	return 0;
}

int plan_new(const struct conf *c, struct resolver *r, struct envelope *e, struct arena *a,
	     struct plan *p)
{
	struct plan_work w = { .conf = c, .a = a, .p = p, .one_each = e->verp.len > 0 };
	uint32_t *dest_of_rcpt = arena_alloc(a, (e->rcpt_count + 1) * sizeof(*dest_of_rcpt));
	int err;

	*p = (struct plan){ 0 };
	if (dest_of_rcpt == NULL)
		return E_LIMIT;
	err = assign(&w, r, e, dest_of_rcpt);
	if (err == 0 && p->dest_count > 1)
		err = sort_rcpts(&w, e, dest_of_rcpt);
	return err == 0 ? cut_entries(&w) : err;
}

/* ---- a record read back ---- */

/* Into the destination's last entry, or a new one when that is full. */
static void again_add(struct plan *p, uint32_t dest, uint32_t first, unsigned bit)
{
	struct plan_dest *d = &p->dests[dest];

	if (d->rcpt_count % d->rcpt_max == 0) {
		d->next = (uint32_t)p->entry_count;
		p->entries[p->entry_count++] =
			(struct proto_entry){ .rcpt_first = first, .dest = dest };
	}
	d->rcpt_count++;
	p->entries[d->next].mask |= UINT64_C(1) << bit;
}

int plan_again(const struct conf *c, struct resolver *r, const struct envelope *e, uint32_t first,
	       uint64_t mask, struct arena *a, struct plan *p)
{
	struct plan_work w = { .conf = c, .a = a, .p = p, .one_each = e->verp.len > 0 };

	*p = (struct plan){ 0 };
	p->entries = arena_alloc(a, PROTO_ENTRY_SPAN * sizeof(*p->entries));
	if (p->entries == NULL)
		return E_LIMIT;
	for (unsigned bit = 0; bit < PROTO_ENTRY_SPAN; bit++) {
		struct route route;
		uint32_t dest;
		int err;

		if ((mask >> bit & 1) == 0)
			continue;
		if ((uint64_t)first + bit >= e->rcpt_count)
			return E_CORRUPT;
		err = resolve(r, e->sender, e->rcpts[first + bit].addr, e->filter, a, &route);
		if (err == 0)
			err = dest_of(&w, &route, PROTO_ENTRY_SPAN, &dest);
		if (err < 0)
			return err;
		again_add(p, dest, first, bit);
	}
	return 0;
}
