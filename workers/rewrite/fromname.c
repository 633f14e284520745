/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names in a From header; see workers/rewrite/fromname.h. Called by header.c. */
#include "workers/rewrite/fromname.h"

#include <string.h>

#include "lib/mailaddr.h"

#define WORD_TEXT_MAX 48u /* encoded characters per word: "=?utf-8?Q?...?=" stays below 75 */

static bool is_atom(struct sv s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!ascii_is_alnum(s.p[i]) && strchr(" !#$%&'*+-/=?^_`{|}~", s.p[i]) == NULL)
			return false;
	}
	return true;
}

static void add_escaped(struct sv s, const char *special, struct buf *out)
{
	for (size_t i = 0; i < s.len; i++) {
		if (strchr(special, s.p[i]) != NULL)
			buf_add_c(out, '\\');
		buf_add_c(out, s.p[i]);
	}
}

static void add_encoded(struct sv s, const char *charset, struct buf *out)
{
	size_t used = 0;

	buf_printf(out, "=?%s?Q?", charset);
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		/* not in the middle of a UTF-8 character */
		if (used >= WORD_TEXT_MAX && (c & 0xc0) != 0x80) {
			buf_printf(out, "?=\r\n =?%s?Q?", charset);
			used = 0;
		}
		if (ascii_is_alnum((char)c)) {
			buf_add_c(out, (char)c);
			used++;
		} else {
			buf_printf(out, "=%02X", c);
			used += 3;
		}
	}
	buf_add_str(out, "?=");
}

void from_value_add(struct sv name, struct sv addr, bool obsolete, const char *charset,
		    struct buf *out)
{
	bool ascii = str_is_ascii(name.p, name.len);

	name = sv_trim(name);
	if (name.len == 0) {
		mail_addr_quote(addr, out);
	} else if (obsolete) {
		mail_addr_quote(addr, out);
		buf_add_str(out, " (");
		if (ascii)
			add_escaped(name, "()\\", out);
		else
			add_encoded(name, charset, out);
		buf_add_c(out, ')');
	} else {
		if (!ascii) {
			add_encoded(name, charset, out);
		} else if (is_atom(name)) {
			buf_add_sv(out, name);
		} else {
			buf_add_c(out, '"');
			add_escaped(name, "\"\\", out);
			buf_add_c(out, '"');
		}
		buf_add_str(out, " <");
		mail_addr_quote(addr, out);
		buf_add_c(out, '>');
	}
}
