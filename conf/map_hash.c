/* SPDX-License-Identifier: GPL-3.0-or-later */
/* texthash and inline tables: all of the text in memory; see conf/map.h. Called by map.c only. */
#include <stdlib.h>

#include "conf/map_impl.h"
#include "lib/arena.h"
#include "lib/err.h"
#include "lib/hash.h"

struct hash_map {
	struct strmap *keys; /* to struct sv */
	struct arena arena;
};

static struct hash_map *hash_new(void)
{
	struct hash_map *h = xcalloc(1, sizeof(*h));

	h->keys = strmap_new();
	arena_init(&h->arena, 65536, 0);
	return h;
}

void map_hash_close(void *impl)
{
	struct hash_map *h = impl;

	strmap_free(&h->keys);
	arena_fini(&h->arena);
	free(h);
}

enum map_status map_hash_get(void *impl, struct sv key, struct buf *out)
{
	const struct hash_map *h = impl;
	const struct sv *value = strmap_get(h->keys, key);

	if (value == NULL)
		return MAP_NOT_FOUND;
	return buf_add_sv(out, *value) ? MAP_FOUND : MAP_ERROR;
}

void map_hash_each(const void *impl, map_each_fn fn, void *ctx)
{
	const struct hash_map *h = impl;
	struct sv key;
	void *value;

	for (size_t pos = 0; strmap_next(h->keys, &pos, &key, &value);) {
		if (!fn(ctx, key, *(const struct sv *)value))
			return;
	}
}

/* The first of two equal keys stays, as in Postfix. */
static void hash_add(struct hash_map *h, const struct map_text *t, struct sv key, struct sv value)
{
	char *folded = arena_strndup(&h->arena, key.p, key.len);
	struct sv *v = arena_alloc(&h->arena, sizeof(*v));

	str_lower(folded, key.len);
	*v = (struct sv){ arena_strndup(&h->arena, value.p, value.len), value.len };
	if (strmap_get(h->keys, (struct sv){ folded, key.len }) != NULL)
		map_text_warn(t, "duplicate entry: \"%.200s\"", folded);
	else
		strmap_put(h->keys, (struct sv){ folded, key.len }, v);
}

int map_texthash_open(struct map_open *o)
{
	struct buf data;
	struct map_text t;
	struct sv line, key, value;
	int err = map_open_text(o, &data, &t);

	if (err < 0)
		return err;
	struct hash_map *h = hash_new();

	while (map_text_next(&t, &line)) {
		if (map_text_split(&t, line, &key, &value))
			hash_add(h, &t, key, value);
	}
	map_text_fini(&t);
	buf_fini(&data);
	o->impl = h;
	return 0;
}

/* inline:{ key=value, { key = text with spaces } } */
int map_inline_open(struct map_open *o)
{
	struct hash_map *h;
	struct map_text t;
	struct sv item;
	size_t count = 0;

	if (o->inline_text.p == NULL)
		return map_open_fail(o, E_CONFIG, "expected inline:{ key=value, ... }");
	h = hash_new();
	map_text_init_inline(&t, o->inline_text, "inline", o->d);
	while (map_text_next(&t, &item)) {
		const char *eq = memchr(item.p, '=', item.len);
		struct sv key, value;

		if (eq == NULL) {
			map_hash_close(h);
			return map_open_fail(o, E_CONFIG, "expected key=value instead of \"%.*s\"",
					     (int)size_min(item.len, 100), item.p);
		}
		key = sv_trim((struct sv){ item.p, (size_t)(eq - item.p) });
		value = sv_trim((struct sv){ eq + 1, item.len - (size_t)(eq - item.p) - 1 });
		if (key.len == 0) {
			map_hash_close(h);
			return map_open_fail(o, E_CONFIG, "empty key");
		}
		hash_add(h, &t, key, value);
		count++;
	}
	map_text_fini(&t);
	if (count == 0) {
		map_hash_close(h);
		return map_open_fail(o, E_CONFIG, "no key=value pair");
	}
	o->impl = h;
	return 0;
}
