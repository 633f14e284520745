/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Wire form check; see workers/rewrite/wire.h. Called by the submission code for every piece. */
#include "workers/rewrite/wire.h"

#include <string.h>

#include "lib/err.h"
#include "lib/str.h"
#include "lib/util.h"

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

static bool says_eight(const char *p, size_t len)
{
	static const struct sv name = { "Content-Transfer-Encoding:", 26 };
	struct sv value;

	if (len <= name.len || !sv_eq_nocase((struct sv){ p, name.len }, name))
		return false;
	value = (struct sv){ p + name.len, len - name.len };
	while (value.len > 0 && ascii_is_space(value.p[0]))
		value = (struct sv){ value.p + 1, value.len - 1 };
	return sv_eq_nocase(value, SV("8bit")) || sv_eq_nocase(value, SV("binary"));
}

/* A line, or a piece of one, without its line end; `hard`: that follows. */
static void note_line(struct wire *w, const char *p, size_t len, bool hard)
{
	bool first = w->line == 0 && len > 0 && (p[0] == 'C' || p[0] == 'c');

	if (first && hard) {
		w->eight = w->eight || says_eight(p, len);
	} else if (first || w->head_len > 0) {
		size_t n = size_min(len, sizeof(w->head) - w->head_len);

		memcpy(w->head + w->head_len, p, n);
		w->head_len += (uint8_t)n;
	}
	w->line += len;
	if (!hard)
		return;
	if (w->head_len > 0)
		w->eight = w->eight || says_eight(w->head, w->head_len);
	w->head_len = 0;
	if (w->line > w->longest)
		w->longest = w->line;
	w->line = 0;
}

int wire_check(struct wire *w, char *data, size_t len, size_t *len_r)
{
	char *p = data, *end = data + len;
	size_t longest = 0, n;

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
			note_line(w, p, (size_t)(end - p), false);
			w->mid_line = true;
			break;
		}
		if (nl == p || nl[-1] != '\r')
			return E_PEER;
		replace_cr(p, (size_t)(nl - 1 - p));
		n = (size_t)(nl - 1 - p);
		/* all lines but a few are whole and say nothing */
		if (w->line > 0 || *p == 'C' || *p == 'c')
			note_line(w, p, n, true);
		else if (n > longest)
			longest = n;
		w->mid_line = false;
		w->lines++;
		p = nl + 1;
	}
	w->longest = u64_max(w->longest, longest);
	return 0;
}

uint64_t wire_longest_line(struct sv text)
{
	uint64_t longest = 0;

	while (text.len > 0) {
		const char *nl = memchr(text.p, '\n', text.len);
		size_t n = nl != NULL ? (size_t)(nl + 1 - text.p) : text.len;

		longest = n > longest ? n : longest;
		text = (struct sv){ text.p + n, text.len - n };
	}
	return longest;
}

void wire_note(struct wire *w, struct sv text)
{
	while (text.len > 0) {
		const char *nl = memchr(text.p, '\n', text.len);
		size_t n = nl != NULL ? (size_t)(nl + 1 - text.p) : text.len;

		note_line(w, text.p, n - size_min(n, 2), true);
		text = (struct sv){ text.p + n, text.len - n };
	}
}

int wire_end(const struct wire *w)
{
	return w->mid_line || w->cr || w->dot ? E_PEER : 0;
}
