/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Growable byte buffer; see lib/buf.h. */
#include "lib/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t limit)
{
	*b = (struct buf){ .limit = limit };
}

void buf_fini(struct buf *b)
{
	free(b->p);
	*b = (struct buf){ .limit = b->limit };
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->overflow = false;
	if (b->p != NULL)
		b->p[0] = '\0';
}

char *buf_reserve(struct buf *b, size_t extra)
{
	if (b->limit != 0 && extra > b->limit - size_min(b->len, b->limit)) {
		b->overflow = true;
		return NULL;
	}
	if (b->len + extra + 1 > b->cap) {
		size_t cap = size_max(b->cap * 2, align_up(b->len + extra + 1, 64));

		b->p = xrealloc(b->p, cap);
		b->cap = cap;
		b->p[b->len] = '\0';
	}
	return b->p + b->len;
}

bool buf_add(struct buf *b, const void *data, size_t len)
{
	char *place = buf_reserve(b, len);

	if (place == NULL)
		return false;
	if (len > 0)
		memcpy(place, data, len);
	b->len += len;
	b->p[b->len] = '\0';
	return true;
}

bool buf_add_str(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

bool buf_add_sv(struct buf *b, struct sv s)
{
	return buf_add(b, s.p, s.len);
}

bool buf_add_c(struct buf *b, char c)
{
	return buf_add(b, &c, 1);
}

bool buf_add_uint(struct buf *b, uint64_t value)
{
	char text[20], *p = text + sizeof(text);

	do {
		*--p = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	return buf_add(b, p, (size_t)(text + sizeof(text) - p));
}

bool buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	/* constant texts are most of what is written in a dialogue */
	if (strchr(fmt, '%') == NULL)
		return buf_add_str(b, fmt);
	va_list again;
	char *place = buf_reserve(b, 120);
	size_t room = place == NULL ? 0 : b->cap - b->len;

	va_copy(again, ap);
	int n = str_vformat(place, room, fmt, ap);

	if (n > 0 && (size_t)n >= room) {
		place = buf_reserve(b, (size_t)n);
		if (place != NULL)
			str_vformat(place, (size_t)n + 1, fmt, again);
	}
	va_end(again);
	if (n < 0 || place == NULL)
		return false;
	if (b->limit != 0 && b->len + (size_t)n > b->limit) {
		b->p[b->len] = '\0';
		b->overflow = true;
		return false;
	}
	b->len += (size_t)n;
	return true;
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	bool ok = buf_vprintf(b, fmt, ap);

	va_end(ap);
	return ok;
}

void buf_consume(struct buf *b, size_t n)
{
	if (n == 0)
		return;
	memmove(b->p, b->p + n, b->len - n + 1);
	b->len -= n;
}

struct sv buf_sv(const struct buf *b)
{
	return (struct sv){ b->p == NULL ? "" : b->p, b->len };
}

const char *buf_cstr(const struct buf *b)
{
	return b->p == NULL ? "" : b->p;
}
