/* SPDX-License-Identifier: GPL-3.0-or-later */
/* String helpers; see lib/str.h. */
#include "lib/str.h"

#include <stdio.h>
#include <string.h>

#include "lib/err.h"
#include "lib/util.h"

struct sv sv_from(const char *s)
{
	return (struct sv){ s, strlen(s) };
}

bool sv_eq(struct sv a, struct sv b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

bool sv_eq_nocase(struct sv a, struct sv b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++) {
		if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
			return false;
	}
	return true;
}

bool sv_eq_str(struct sv a, const char *s)
{
	return sv_eq(a, sv_from(s));
}

struct sv sv_trim(struct sv s)
{
	while (s.len > 0 && ascii_is_space(s.p[0])) {
		s.p++;
		s.len--;
	}
	while (s.len > 0 && ascii_is_space(s.p[s.len - 1]))
		s.len--;
	return s;
}

struct sv sv_next_part(struct sv *rest, char separator)
{
	const char *end = rest->len == 0 ? NULL : memchr(rest->p, separator, rest->len);
	struct sv part = { rest->p, end == NULL ? rest->len : (size_t)(end - rest->p) };
	size_t taken = part.len + (end != NULL);

	rest->p += taken;
	rest->len -= taken;
	return part;
}

bool str_eq_nocase(const char *a, const char *b)
{
	return sv_eq_nocase(sv_from(a), sv_from(b));
}

bool str_starts_nocase(const char *s, const char *prefix)
{
	for (; *prefix != '\0'; s++, prefix++) {
		if (ascii_lower(*s) != ascii_lower(*prefix))
			return false;
	}
	return true;
}

void str_lower(char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		s[i] = ascii_lower(s[i]);
}

char ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool ascii_is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

bool ascii_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool ascii_is_alpha(char c)
{
	return ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z';
}

bool ascii_is_alnum(char c)
{
	return ascii_is_alpha(c) || ascii_is_digit(c);
}

/* Length of the well-formed UTF-8 sequence at s, 0 when there is none (Unicode table 3-7). */
static size_t utf8_len(const unsigned char *s, size_t len)
{
	static const struct {
		unsigned char lo, hi, lo2, hi2, more;
	} rows[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 1 }, { 0xe0, 0xe0, 0xa0, 0xbf, 2 },
		{ 0xe1, 0xec, 0x80, 0xbf, 2 }, { 0xed, 0xed, 0x80, 0x9f, 2 },
		{ 0xee, 0xef, 0x80, 0xbf, 2 }, { 0xf0, 0xf0, 0x90, 0xbf, 3 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 3 }, { 0xf4, 0xf4, 0x80, 0x8f, 3 },
	};

	if (s[0] < 0x80)
		return 1;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (s[0] < rows[i].lo || s[0] > rows[i].hi)
			continue;
		if (len <= rows[i].more || s[1] < rows[i].lo2 || s[1] > rows[i].hi2)
			return 0;
		for (size_t k = 2; k <= rows[i].more; k++) {
			if ((s[k] & 0xc0) != 0x80)
				return 0;
		}
		return (size_t)rows[i].more + 1;
	}
	return 0;
}

void str_make_printable(char *s, size_t len)
{
	for (size_t i = 0; i < len;) {
		unsigned char c = (unsigned char)s[i];

		if (c >= ' ' && c < 0x7f) {
			i++;
			continue;
		}
		size_t n = c < 0x80 ? 0 : utf8_len((const unsigned char *)s + i, len - i);

		if (n == 2 && c == 0xc2 && (unsigned char)s[i + 1] < 0xa0)
			n = 0;
		if (n == 0)
			s[i++] = '?';
		else
			i += n;
	}
}

bool str_is_utf8(const char *s, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = utf8_len((const unsigned char *)s + i, len - i);

		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

bool str_is_ascii(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)s[i] >= 0x80)
			return false;
	}
	return true;
}

int str_to_u64(struct sv s, uint64_t max, uint64_t *value_r)
{
	uint64_t value = 0;

	if (s.len == 0)
		return E_SYNTAX;
	for (size_t i = 0; i < s.len; i++) {
		if (!ascii_is_digit(s.p[i]))
			return E_SYNTAX;
		uint64_t digit = (uint64_t)(s.p[i] - '0');

		if (value > (UINT64_MAX - digit) / 10)
			return E_LIMIT;
		value = value * 10 + digit;
	}
	if (value > max)
		return E_LIMIT;
	*value_r = value;
	return 0;
}

int str_to_i64(struct sv s, int64_t *value_r)
{
	bool neg = s.len > 0 && s.p[0] == '-';
	uint64_t mag;

	if (neg) {
		s.p++;
		s.len--;
	}
	int err = str_to_u64(s, INT64_MAX, &mag);

	if (err == 0)
		*value_r = neg ? -(int64_t)mag : (int64_t)mag;
	return err;
}

bool str_copy(char *dst, size_t dst_size, struct sv src)
{
	size_t n = size_min(src.len, dst_size - 1);

	if (n > 0)
		memcpy(dst, src.p, n);
	dst[n] = '\0';
	return n == src.len;
}

/* ---- formats ---- */

static bool is_simple_format(const char *fmt)
{
	while ((fmt = strchr(fmt, '%')) != NULL) {
		if (fmt[1] == 's' || fmt[1] == 'd' || fmt[1] == 'u')
			fmt += 2;
		else if (strncmp(fmt + 1, ".*s", 3) == 0)
			fmt += 4;
		else
			return false;
	}
	return true;
}

struct format_out {
	char *p;
	size_t size, len; /* len: of all there is to say */
};

static void put(struct format_out *o, const char *text, size_t len)
{
	if (o->len < o->size)
		memcpy(o->p + o->len, text, size_min(len, o->size - o->len));
	o->len += len;
}

static void put_text(struct format_out *o, const char *text, int max)
{
	if (text == NULL) /* as vsnprintf does */
		text = max < 0 || max >= 6 ? "(null)" : "";
	put(o, text, max < 0 ? strlen(text) : strnlen(text, (size_t)max));
}

static void put_number(struct format_out *o, unsigned value, bool negative)
{
	char text[12], *p = text + sizeof(text);

	do {
		*--p = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	if (negative)
		*--p = '-';
	put(o, p, (size_t)(text + sizeof(text) - p));
}

int str_vformat(char *out, size_t size, const char *fmt, va_list ap)
{
	struct format_out o = { out, size, 0 };
	const char *at;
	int n;

	if (!is_simple_format(fmt))
		return vsnprintf(out, size, fmt, ap);
	while ((at = strchr(fmt, '%')) != NULL) {
		put(&o, fmt, (size_t)(at - fmt));
		fmt = at + 2;
		switch (at[1]) {
		case 's':
			put_text(&o, va_arg(ap, const char *), -1);
			break;
		case '.':
			n = va_arg(ap, int);
			put_text(&o, va_arg(ap, const char *), n);
			fmt += 2;
			break;
		case 'd':
			n = va_arg(ap, int);
			put_number(&o, n < 0 ? 0 - (unsigned)n : (unsigned)n, n < 0);
			break;
		default:
			put_number(&o, va_arg(ap, unsigned), false);
		}
	}
	put(&o, fmt, strlen(fmt));
	if (size > 0)
		out[size_min(o.len, size - 1)] = '\0';
	return (int)o.len;
}
