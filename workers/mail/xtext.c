/* SPDX-License-Identifier: GPL-3.0-or-later */
/* xtext; see workers/mail/xtext.h. Called by smtp-in (decode) and deliver (encode). */
#include "workers/mail/xtext.h"

#include <stdint.h>

void mail_xtext_encode(struct sv s, struct buf *out)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char b = (unsigned char)s.p[i];

		if (b > ' ' && b < 127 && b != '+' && b != '=')
			buf_add_c(out, (char)b);
		else
			buf_printf(out, "+%02X", b);
	}
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_text(char c)
{
	return ((unsigned char)c >= ' ' && c != 127) || c == '\t';
}

bool mail_xtext_decode(struct sv in, struct buf *out)
{
	for (size_t i = 0; i < in.len; i++) {
		char c = in.p[i];

		if (c == '+') {
			if (i + 2 >= in.len || hex(in.p[i + 1]) < 0 || hex(in.p[i + 2]) < 0)
				return false;
			c = (char)(hex(in.p[i + 1]) * 16 + hex(in.p[i + 2]));
			i += 2;
		} else if (c <= ' ' || c > 126 || c == '=') {
			return false;
		}
		if (!is_text(c))
			return false;
		buf_add_c(out, c);
	}
	return str_is_utf8(buf_cstr(out), out->len);
}

static void add_utf8(struct buf *out, uint32_t cp)
{
	if (cp < 0x80) {
		buf_add_c(out, (char)cp);
	} else if (cp < 0x800) {
		buf_add_c(out, (char)(0xc0 | cp >> 6));
		buf_add_c(out, (char)(0x80 | (cp & 63)));
	} else if (cp < 0x10000) {
		buf_add_c(out, (char)(0xe0 | cp >> 12));
		buf_add_c(out, (char)(0x80 | (cp >> 6 & 63)));
		buf_add_c(out, (char)(0x80 | (cp & 63)));
	} else {
		buf_add_c(out, (char)(0xf0 | cp >> 18));
		buf_add_c(out, (char)(0x80 | (cp >> 12 & 63)));
		buf_add_c(out, (char)(0x80 | (cp >> 6 & 63)));
		buf_add_c(out, (char)(0x80 | (cp & 63)));
	}
}

bool mail_utf8_xtext_decode(struct sv in, struct buf *out)
{
	for (size_t i = 0; i < in.len; i++) {
		uint32_t cp = 0;
		size_t digits = 0;

		if (in.p[i] != '\\') {
			if (in.p[i] == '=' || in.p[i] == '+' || !is_text(in.p[i]))
				return false;
			buf_add_c(out, in.p[i]);
			continue;
		}
		if (i + 3 >= in.len || in.p[i + 1] != 'x' || in.p[i + 2] != '{')
			return false;
		for (i += 3; i < in.len && hex(in.p[i]) >= 0 && digits < 6; i++, digits++)
			cp = cp * 16 + (uint32_t)hex(in.p[i]);
		if (i >= in.len || in.p[i] != '}' || digits == 0 || cp < ' ' || cp == 127 ||
		    cp > 0x10ffff)
			return false;
		add_utf8(out, cp);
	}
	return str_is_utf8(buf_cstr(out), out->len); /* refuses surrogates too */
}
