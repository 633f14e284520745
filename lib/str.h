/* SPDX-License-Identifier: GPL-3.0-or-later */
/* String helpers: views, ASCII case, safe printing, numbers. Nothing here allocates. */
#ifndef PH_LIB_STR_H
#define PH_LIB_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/util.h"

/* A read-only view of bytes, not NUL-terminated, not owned. */
struct sv {
	const char *p;
	size_t len;
};

#define SV(literal) ((struct sv){ (literal), sizeof(literal) - 1 })

struct sv sv_from(const char *s);
bool sv_eq(struct sv a, struct sv b);
bool sv_eq_nocase(struct sv a, struct sv b); /* ASCII only */
bool sv_eq_str(struct sv a, const char *s);
struct sv sv_trim(struct sv s); /* white space at both ends */
/* What comes before the separator, or all; *rest is what follows it. */
struct sv sv_next_part(struct sv *rest, char separator);

bool str_eq_nocase(const char *a, const char *b);
bool str_starts_nocase(const char *s, const char *prefix);
void str_lower(char *s, size_t len); /* ASCII only, in place */
char ascii_lower(char c);
bool ascii_is_space(char c); /* space \t \n \v \f \r */
bool ascii_is_digit(char c);
bool ascii_is_alpha(char c);
bool ascii_is_alnum(char c);

/* Bytes outside printable ASCII become '?', except well-formed UTF-8 above U+009F. */
void str_make_printable(char *s, size_t len);
/* Well-formed UTF-8 (no overlongs, no surrogates, at most U+10FFFF). */
bool str_is_utf8(const char *s, size_t len);
bool str_is_ascii(const char *s, size_t len);

/* Whole-string decimal; E_SYNTAX on anything else, E_LIMIT when out of range. */
int str_to_u64(struct sv s, uint64_t max, uint64_t *value_r);
int str_to_i64(struct sv s, int64_t *value_r);

/* vsnprintf, to the byte, but several times as fast for formats of nothing but %s, %.*s, %d and %u,
 * as those of log lines and replies are. */
int str_vformat(char *out, size_t size, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);

/* Copy with truncation, always terminated; returns false when it did not fit. */
bool str_copy(char *dst, size_t dst_size, struct sv src);

#endif
