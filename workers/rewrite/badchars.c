/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Characters that content may not have; see workers/rewrite/badchars.h. */
#include "workers/rewrite/badchars.h"

#include <stdlib.h>
#include <string.h>

#include "lib/util.h"

struct badchars {
	bool reject[256], strip[256];
	bool any_reject, any_strip;
};

/* The character that an escape stands for; the bytes it takes in all. */
static size_t unescape(const char *p, unsigned char *c_r)
{
	static const char letters[] = "abfnrtv", meant[] = "\a\b\f\n\r\t\v";
	const char *at = p[1] != '\0' ? strchr(letters, p[1]) : NULL;
	unsigned value = 0;
	size_t n = 1;

	if (at != NULL) {
		*c_r = (unsigned char)meant[at - letters];
		return 2;
	}
	while (n < 4 && p[n] >= '0' && p[n] <= '7')
		value = value * 8 + (unsigned)(p[n++] - '0');
	if (n > 1) {
		*c_r = (unsigned char)value;
		return n;
	}
	*c_r = (unsigned char)(p[1] != '\0' ? p[1] : '\\');
	return p[1] != '\0' ? 2 : 1;
}

static bool parse(const char *text, bool *set)
{
	bool any = false;

	while (*text != '\0') {
		unsigned char c = (unsigned char)*text;

		text += c == '\\' ? unescape(text, &c) : 1;
		if (c != '\r' && c != '\n')
			any = set[c] = true;
	}
	return any;
}

struct badchars *badchars_new(const char *reject, const char *strip)
{
	struct badchars *b = xcalloc(1, sizeof(*b));

	b->any_reject = parse(reject, b->reject);
	b->any_strip = parse(strip, b->strip);
	if (!b->any_reject && !b->any_strip)
		badchars_free(&b);
	return b;
}

void badchars_free(struct badchars **b)
{
	free(*b);
	*b = NULL;
}

const char *badchars_find(const struct badchars *b, struct sv data)
{
	for (size_t i = 0; i < data.len && b->any_reject; i++) {
		if (b->reject[(unsigned char)data.p[i]])
			return data.p + i;
	}
	return NULL;
}

bool badchars_strips(const struct badchars *b)
{
	return b->any_strip;
}

void badchars_strip(const struct badchars *b, struct sv data, enum badchars_at *at, struct buf *out)
{
	for (size_t i = 0; i < data.len; i++) {
		char c = data.p[i];

		if (*at == BADCHARS_BEGIN && c == '.') {
			*at = BADCHARS_EMPTY; /* stuffed: the second one is the line's */
			continue;
		}
		if (*at == BADCHARS_BEGIN)
			*at = BADCHARS_EMPTY;
		if (b->strip[(unsigned char)c])
			continue;
		if (*at == BADCHARS_EMPTY && c == '.')
			buf_add_c(out, '.');
		buf_add_c(out, c);
		*at = c == '\n' ? BADCHARS_BEGIN : BADCHARS_MID;
	}
}
