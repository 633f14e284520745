/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Output of postconf: "name = value" with single blanks, as Postfix prints it, because scripts
 * parse that. -f folds at 80 columns, with continuation lines that main.cf and master.cf accept.
 */
#include "conf/postconf.h"

#include <stdio.h>

unsigned print_word(const struct postconf *pc, struct sv word, unsigned col)
{
	if (col > 0 && pc->fold && col + 1 + word.len > POSTCONF_LINE_LIMIT) {
		fputs("\n    ", stdout);
		col = 4;
	} else if (col > 0) {
		putchar(' ');
		col++;
	}
	fwrite(word.p, 1, word.len, stdout);
	return col + (unsigned)word.len;
}

unsigned print_words(const struct postconf *pc, const char *text, unsigned col)
{
	for (const char *p = text;;) {
		size_t len = 0;

		while (ascii_is_space(*p))
			p++;
		if (*p == 0)
			return col;
		while (p[len] != 0 && !ascii_is_space(p[len]))
			len++;
		col = print_word(pc, (struct sv){ p, len }, col);
		p += len;
	}
}

/* The length of a word at p: up to a blank outside of { }. */
static size_t group_len(const char *p)
{
	unsigned depth = 0;
	size_t len = 0;

	for (; p[len] != 0; len++) {
		if (p[len] == '{')
			depth++;
		else if (p[len] == '}' && depth > 0)
			depth--;
		else if (depth == 0 && ascii_is_space(p[len]))
			break;
	}
	return len;
}

unsigned print_groups(const struct postconf *pc, const char *text, unsigned col)
{
	for (const char *p = text;;) {
		size_t len;

		while (ascii_is_space(*p))
			p++;
		if (*p == 0)
			return col;
		len = group_len(p);
		col = print_word(pc, (struct sv){ p, len }, col);
		p += len;
	}
}

static void print_json_text(const char *s)
{
	putchar('"');
	for (; *s != 0; s++) {
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			printf("\\u%04x", *s);
		else
			putchar(*s);
	}
	putchar('"');
}

static void print_any(const struct postconf *pc, const char *name, const char *value,
		      unsigned (*print)(const struct postconf *, const char *, unsigned))
{
	unsigned col = 0;

	if (pc->json) {
		putchar('{');
		print_json_text(name);
		fputs(": ", stdout);
		print_json_text(value);
		puts("}");
		return;
	}
	if (!pc->no_name) {
		col = print_word(pc, sv_from(name), col);
		if (!pc->no_value)
			col = print_word(pc, SV("="), col);
	}
	if (!pc->no_value)
		print(pc, value, col);
	putchar('\n');
}

void print_nameval(const struct postconf *pc, const char *name, const char *value)
{
	print_any(pc, name, value, print_words);
}

void print_nameval_groups(const struct postconf *pc, const char *name, const char *value)
{
	print_any(pc, name, value, print_groups);
}
