/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lines of a transcript; see workers/mail/transcript.h. */
#include "workers/mail/transcript.h"

#include "lib/util.h"

#define WRAP_COLUMN 78u
#define WRAP_INDENT 4u

void transcript_add(struct buf *out, struct sv line)
{
	size_t room = WRAP_COLUMN;

	buf_add_c(out, ' ');
	while (line.len > room) {
		size_t n = room;

		while (n > 0 && line.p[n] != ' ')
			n--;
		if (n == 0) { /* one long word */
			while (n < line.len && line.p[n] != ' ')
				n++;
			n = size_min(n, 900);
		}
		buf_add(out, line.p, n);
		line = (struct sv){ line.p + n, line.len - n };
		while (line.len > 0 && line.p[0] == ' ')
			line = (struct sv){ line.p + 1, line.len - 1 };
		if (line.len == 0)
			break;
		buf_printf(out, "\r\n%*s", (int)WRAP_INDENT + 1, "");
		room = WRAP_COLUMN - WRAP_INDENT;
	}
	buf_add_sv(out, line);
	buf_add(out, "\r\n", 2);
}
