/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Wire form check; see workers/rewrite/wire.h. Called by the submission code for every piece. */
#include "workers/rewrite/wire.h"

#include <string.h>

#include "lib/err.h"

static void replace_cr(char *p, size_t len)
{
	char *end = p + len;

	while ((p = memchr(p, '\r', (size_t)(end - p))) != NULL)
		*p++ = ' ';
}

/* The dot rule at p, the first byte of a line or the second behind a dot. */
static int check_dot(struct wire *w, const char *p, const char *end)
{
	if (!w->mid_line && *p == '.') {
		w->mid_line = true;
		w->dot = true;
		p++;
	}
	if (w->dot && p < end) {
		if (*p != '.')
			return E_PEER;
		w->dot = false;
	}
	return 0;
}

int wire_check(struct wire *w, char *data, size_t len, size_t *len_r)
{
	char *p = data, *end = data + len;

	w->cr = len > 0 && end[-1] == '\r';
	if (w->cr)
		end--;
	*len_r = (size_t)(end - data);
	while (p < end) {
		char *nl;

		if (check_dot(w, p, end) < 0)
			return E_PEER;
		nl = memchr(p, '\n', (size_t)(end - p));
		if (nl == NULL) {
			replace_cr(p, (size_t)(end - p));
			w->mid_line = true;
			return 0;
		}
		if (nl == p || nl[-1] != '\r')
			return E_PEER;
		replace_cr(p, (size_t)(nl - 1 - p));
		w->mid_line = false;
		w->lines++;
		p = nl + 1;
	}
	return 0;
}

int wire_end(const struct wire *w)
{
	return w->mid_line || w->cr || w->dot ? E_PEER : 0;
}
