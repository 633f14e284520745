/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Answers of smtp_header_checks and its kin, and what is put out; see
 * workers/deliver/convert_int.h. */
#include <string.h>

#include "conf/map.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/convert_int.h"

#define LOG_SEEN_BYTES 200 /* as in Postfix */

/* ---- output ---- */

static void end_line(struct convert *cv)
{
	buf_add_str(cv->out, "\r\n");
	cv->out_mid = false;
	cv->room = cv->conf->line_limit;
}

static void note_break(struct convert *cv)
{
	if (!cv->broke_line)
		SAY(cv, LOG_LEVEL_INFO, "%s: breaking line > %zu bytes with <CR><LF>SPACE", cv->qid,
		    cv->conf->line_limit);
	cv->broke_line = true;
}

void convert_put(struct convert *cv, struct sv text, bool hard)
{
	if (!cv->out_mid && text.len > 0 && text.p[0] == '.')
		buf_add_c(cv->out, '.');
	cv->out_mid |= text.len > 0;
	while (cv->conf->line_limit > 0 && text.len >= cv->room && (text.len > cv->room || !hard)) {
		buf_add(cv->out, text.p, cv->room);
		text = (struct sv){ text.p + cv->room, text.len - cv->room };
		end_line(cv);
		buf_add_c(cv->out, ' ');
		cv->out_mid = true;
		cv->room--;
		note_break(cv);
	}
	buf_add_sv(cv->out, text);
	cv->room -= size_min(cv->room, text.len);
	if (hard)
		end_line(cv);
}

void convert_put_text(struct convert *cv, struct sv text, bool header)
{
	bool first = true;

	while (text.len > 0) {
		const char *nl = memchr(text.p, '\n', text.len);
		size_t len = nl == NULL ? text.len : (size_t)(nl - text.p),
		       step = len + (nl != NULL);

		if (!first && header && text.p[0] != ' ' && text.p[0] != '\t')
			convert_put(cv, SV("\t"), false);
		convert_put(cv, (struct sv){ text.p, len }, true);
		first = false;
		text = (struct sv){ text.p + step, text.len - step };
	}
}

/* ---- actions ---- */

static void log_act(struct convert *cv, enum convert_class class, const char *action,
		    struct sv seen, struct sv text)
{
	SAY(cv, LOG_LEVEL_INFO, "%s: %s: %s %.*s%s%.*s", cv->qid, action,
	    class == CONVERT_BODY ? "body" : "header", (int)size_min(seen.len, LOG_SEEN_BYTES),
	    seen.p, text.len > 0 ? ": " : "", (int)text.len, text.p);
}

/* Is the text of PREPEND or REPLACE one? */
static bool text_is_good(struct convert *cv, enum convert_class class, const char *action,
			 struct sv text)
{
	size_t name_len, colon;

	if (text.len == 0) {
		SAY(cv, LOG_LEVEL_WARN, "%s action without text in %s map", action,
		    cv->conf->names[class]);
		return false;
	}
	if (class != CONVERT_BODY &&
	    (mime_header_name(text, &name_len, &colon) != MIME_NAME_YES || name_len == 0)) {
		SAY(cv, LOG_LEVEL_WARN,
		    "bad %s header text \"%.*s\" in %s map -- need \"headername: headervalue\"",
		    action, (int)size_min(text.len, LOG_SEEN_BYTES), text.p,
		    cv->conf->names[class]);
		return false;
	}
	return true;
}

static enum convert_answer act_replace(struct convert *cv, enum convert_class class, struct sv seen,
				       struct sv text)
{
	if (!text_is_good(cv, class, "REPLACE", text))
		return CONVERT_KEEP;
	log_act(cv, class, "replace", seen, text);
	buf_reset(&cv->text);
	buf_add_sv(&cv->text, text);
	return CONVERT_REPLACED;
}

static enum convert_answer act_prepend(struct convert *cv, enum convert_class class, struct sv seen,
				       struct sv text)
{
	if (text_is_good(cv, class, "PREPEND", text)) {
		log_act(cv, class, "prepend", seen, text);
		convert_put_text(cv, text, class != CONVERT_BODY);
	}
	return CONVERT_KEEP;
}

/* What a table says must not end a line of its own. */
static void flatten(struct buf *b, enum convert_class class)
{
	for (size_t i = 0; i < b->len; i++) {
		if (b->p[i] == '\r' || (b->p[i] == '\n' && class == CONVERT_BODY))
			b->p[i] = ' ';
	}
}

static enum convert_answer act(struct convert *cv, enum convert_class class, struct sv seen,
			       struct sv value)
{
	struct sv word = { value.p, 0 }, text;

	while (word.len < value.len && !ascii_is_space(value.p[word.len]))
		word.len++;
	text = sv_trim((struct sv){ value.p + word.len, value.len - word.len });
	if (sv_eq_nocase(word, SV("WARN")))
		log_act(cv, class, "warning", seen, text);
	else if (sv_eq_nocase(word, SV("INFO")))
		log_act(cv, class, "info", seen, text);
	else if (sv_eq_nocase(word, SV("REPLACE")))
		return act_replace(cv, class, seen, text);
	else if (sv_eq_nocase(word, SV("PREPEND")))
		return act_prepend(cv, class, seen, text);
	else if (sv_eq_nocase(word, SV("IGNORE")))
		return CONVERT_DROP;
	else if (sv_eq_nocase(word, SV("STRIP"))) {
		log_act(cv, class, "strip", seen, text);
		return CONVERT_DROP;
	} else if (!sv_eq_nocase(word, SV("DUNNO")) && !sv_eq_nocase(word, SV("OK")))
		SAY(cv, LOG_LEVEL_WARN, "unsupported command in %s map: %.*s",
		    cv->conf->names[class], (int)size_min(value.len, LOG_SEEN_BYTES), value.p);
	return CONVERT_KEEP;
}

enum convert_answer convert_check(struct convert *cv, enum convert_class class, struct sv seen)
{
	if (cv->err != 0 || map_list_is_empty(cv->conf->tables[class]))
		return CONVERT_KEEP;
	switch (map_list_get(cv->conf->tables[class], seen, &cv->value)) {
	case MAP_FOUND:
		flatten(&cv->value, class);
		return act(cv, class, seen, buf_sv(&cv->value));
	case MAP_NOT_FOUND:
		break;
	case MAP_ERROR:
		SAY(cv, LOG_LEVEL_WARN, "%s: smtp %s checks lookup error", cv->qid,
		    class == CONVERT_BODY ? "body" : "header");
		cv->err = E_AGAIN;
		break;
	}
	return CONVERT_KEEP;
}
