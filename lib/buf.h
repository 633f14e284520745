/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Growable byte buffer with an optional hard limit; overflow of the limit is sticky. */
#ifndef PH_LIB_BUF_H
#define PH_LIB_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/str.h"
#include "lib/util.h"

struct buf {
	char *p; /* NULL while cap is 0; always NUL-terminated at p[len] otherwise */
	size_t len;
	size_t cap;
	size_t limit;  /* 0 = none */
	bool overflow; /* an append was refused by the limit; stays until buf_reset() */
};

#define BUF_INIT ((struct buf){ 0 })

void buf_init(struct buf *b, size_t limit);
void buf_fini(struct buf *b);  /* frees; the buffer is usable again as an empty one */
void buf_reset(struct buf *b); /* empties, keeps the memory, clears overflow */
/* Room for `extra` more bytes behind len; returns the place, NULL (and overflow) past the limit. */
char *buf_reserve(struct buf *b, size_t extra);
bool buf_add(struct buf *b, const void *data, size_t len);
bool buf_add_str(struct buf *b, const char *s);
bool buf_add_sv(struct buf *b, struct sv s);
bool buf_add_uint(struct buf *b, uint64_t value); /* decimal */
bool buf_add_c(struct buf *b, char c);
bool buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
void buf_consume(struct buf *b, size_t n); /* drop n bytes from the front (moves the rest) */
struct sv buf_sv(const struct buf *b);
const char *buf_cstr(const struct buf *b); /* "" when empty */

#endif
