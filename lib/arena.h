/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Arena: allocate many, free all at once. One per connection and one per transaction; nothing is
 * allocated per command elsewhere. Past the limit allocation returns NULL and `full` stays set
 * until the reset, so the caller may check once at the end (an SMTP 452).
 */
#ifndef PH_LIB_ARENA_H
#define PH_LIB_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/str.h"
#include "lib/util.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* newest first */
	size_t used_bytes;          /* handed out since the last reset */
	size_t limit_bytes;         /* 0 = none */
	size_t chunk_bytes;         /* size of a fresh chunk */
	bool full;
};

void arena_init(struct arena *a, size_t chunk_bytes, size_t limit_bytes);
void arena_fini(struct arena *a);
void arena_reset(struct arena *a);               /* keeps one chunk */
void *arena_alloc(struct arena *a, size_t size); /* 8-aligned, not zeroed; NULL past the limit */
void *arena_calloc(struct arena *a, size_t size);
char *arena_strndup(struct arena *a, const char *s, size_t len);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
