/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content for mailboxes; see workers/local/content.h. Called by job.c. */
#include "workers/local/content.h"

#include <string.h>

#include "lib/util.h"

struct sv content_convert(struct content_conv *c, char *data, size_t len)
{
	char *out, *start, *p = data, *end = data + len;

	if (len == 0)
		return (struct sv){ data, 0 };
	start = out = data - (c->cr ? 1 : 0);
	if (c->cr && *p != '\n')
		*out++ = '\r';
	c->cr = false;
	while (p < end) {
		char *nl;
		size_t n;

		if (!c->mid_line && *p == '.')
			p++;
		nl = memchr(p, '\n', (size_t)(end - p));
		n = nl == NULL ? (size_t)(end - p) : (size_t)(nl - p);
		if (nl != NULL && n > 0 && nl[-1] == '\r')
			n--;
		if (nl == NULL && n > 0 && end[-1] == '\r') {
			c->cr = true;
			n--;
		}
		memmove(out, p, n);
		out += n;
		c->mid_line = nl == NULL;
		if (nl == NULL)
			break;
		*out++ = '\n';
		p = nl + 1;
	}
	return (struct sv){ start, (size_t)(out - start) };
}

bool content_has_delivered_to(struct sv content, struct sv addr)
{
	static const struct sv name = { "Delivered-To:", 13 };
	size_t pos = 0;

	while (pos < content.len) {
		const char *nl = memchr(content.p + pos, '\n', content.len - pos);
		struct sv line = { content.p + pos, nl != NULL ? (size_t)(nl - content.p) - pos
							       : content.len - pos };

		if (line.len == 0)
			return false;
		if (line.len > name.len && sv_eq_nocase((struct sv){ line.p, name.len }, name)) {
			struct sv value =
				sv_trim((struct sv){ line.p + name.len, line.len - name.len });

			if (sv_eq_nocase(value, addr))
				return true;
		}
		pos += line.len + 1;
	}
	return false;
}
