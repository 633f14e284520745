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

void print_nameval(const struct postconf *pc, const char *name, const char *value)
{
	unsigned col = 0;

	if (pc->json) {
		fputs("{ ", stdout);
		print_json_text(name);
		fputs(": ", stdout);
		print_json_text(value);
		puts(" }");
		return;
	}
	if (!pc->no_name) {
		col = print_word(pc, sv_from(name), col);
		if (!pc->no_value)
			col = print_word(pc, SV("="), col);
	}
	if (!pc->no_value)
		print_words(pc, value, col);
	putchar('\n');
}
