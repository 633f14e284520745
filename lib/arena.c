/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Arena allocator; see lib/arena.h. */
#include "lib/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arena_chunk {
	struct arena_chunk *next;
	size_t cap;
	size_t used;
	_Alignas(8) char mem[];
};

void arena_init(struct arena *a, size_t chunk_bytes, size_t limit_bytes)
{
	*a = (struct arena){ .chunk_bytes = chunk_bytes, .limit_bytes = limit_bytes };
}

static void free_chunks(struct arena_chunk *c)
{
	while (c != NULL) {
		struct arena_chunk *next = c->next;

		free(c);
		c = next;
	}
}

void arena_fini(struct arena *a)
{
	free_chunks(a->chunks);
	a->chunks = NULL;
	a->used_bytes = 0;
	a->full = false;
}

void arena_reset(struct arena *a)
{
	if (a->chunks != NULL) {
		struct arena_chunk *keep = a->chunks;

		free_chunks(keep->next);
		keep->next = NULL;
		keep->used = 0;
		if (keep->cap > a->chunk_bytes) {
			free(keep);
			a->chunks = NULL;
		}
	}
	a->used_bytes = 0;
	a->full = false;
}

void *arena_alloc(struct arena *a, size_t size)
{
	struct arena_chunk *c = a->chunks;

	size = align_up(size_max(size, 1), 8);
	if (a->limit_bytes != 0 &&
	    size > a->limit_bytes - size_min(a->used_bytes, a->limit_bytes)) {
		a->full = true;
		return NULL;
	}
	if (c == NULL || c->cap - c->used < size) {
		size_t cap = size_max(a->chunk_bytes, size);

		c = xmalloc(sizeof(*c) + cap);
		c->cap = cap;
		c->used = 0;
		c->next = a->chunks;
		a->chunks = c;
	}
	void *place = c->mem + c->used;

	c->used += size;
	a->used_bytes += size;
	return place;
}

void *arena_calloc(struct arena *a, size_t size)
{
	void *place = arena_alloc(a, size);

	if (place != NULL)
		memset(place, 0, size);
	return place;
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
	char *copy = arena_alloc(a, len + 1);

	if (copy != NULL) {
		if (len > 0)
			memcpy(copy, s, len);
		copy[len] = '\0';
	}
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	va_list again;

	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	char *text = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);

	if (text != NULL)
		vsnprintf(text, (size_t)n + 1, fmt, again);
	va_end(again);
	va_end(ap);
	return text;
}
