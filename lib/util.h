/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Small macros and inline helpers that every folder uses. No state, no allocation policy. */
#ifndef PH_LIB_UTIL_H
#define PH_LIB_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_LEN(a)           (sizeof(a) / sizeof((a)[0]))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN               __attribute__((noreturn))
#define UNUSED                 __attribute__((unused))

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Move a pointer out of its variable: the source becomes NULL, so ownership has one holder. */
#define TAKE(dst, src)                                                                             \
	do {                                                                                       \
		(dst) = (src);                                                                     \
		(src) = NULL;                                                                      \
	} while (0)

static inline size_t size_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t size_max(size_t a, size_t b)
{
	return a > b ? a : b;
}

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* `align` is a power of two. */
static inline size_t align_up(size_t n, size_t align)
{
	return (n + align - 1) & ~(align - 1);
}

/* Allocation that cannot fail: on exhaustion the process dies with a message (lib/log.h: die()).
 * The commit path reserves ahead, so that such a death is a missing 250, never a lost one. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *ptr, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t len);
/* printf into a fresh heap string; the caller frees it. */
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
