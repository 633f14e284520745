/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The form of rules that regexp, pcre and cidr tables share: [if] [!]pattern result, endif. */
#include "conf/map_impl.h"

static bool word_is(struct sv line, struct sv word)
{
	return line.len >= word.len && sv_eq_nocase((struct sv){ line.p, word.len }, word) &&
	       (line.len == word.len || !ascii_is_alnum(line.p[word.len]));
}

void map_rule_parse(struct sv line, struct map_rule_head *h)
{
	*h = (struct map_rule_head){ .kind = MAP_RULE_PLAIN };
	if (word_is(line, SV("endif"))) {
		h->kind = MAP_RULE_ENDIF;
		h->rest = sv_trim((struct sv){ line.p + 5, line.len - 5 });
		return;
	}
	if (word_is(line, SV("if"))) {
		h->kind = MAP_RULE_IF;
		line = sv_trim((struct sv){ line.p + 2, line.len - 2 });
	}
	while (line.len > 0 && line.p[0] == '!') {
		h->negate = !h->negate;
		line = sv_trim((struct sv){ line.p + 1, line.len - 1 });
	}
	h->rest = line;
}
