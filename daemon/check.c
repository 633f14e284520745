/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The report of `posthaste check`; see daemon/check.h. */
#include "daemon/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "conf/effect.h"
#include "lib/hash.h"
#include "lib/util.h"

#define LINE_WIDTH 100
#define INDENT     4

struct report {
	const struct conf *c;
	struct strmap *said;   /* every problem once */
	struct strmap *tables; /* "type:name" that a problem was said of */
	bool failed;
};

/* ---- problems ---- */

/* Cut off what stands in front when it does. */
static bool skip_word(struct sv *text, struct sv word)
{
	if (text->len < word.len || memcmp(text->p, word.p, word.len) != 0)
		return false;
	text->p += word.len;
	text->len -= word.len;
	return true;
}

static bool has_place(struct sv text)
{
	return memmem(text.p, text.len, ", line ", 7) != NULL;
}

/* The parameter in front of ": text" or " = text"; empty when there is none. */
static struct sv parameter_of(struct sv text)
{
	size_t len = 0;

	while (len < text.len && (ascii_is_alnum(text.p[len]) || text.p[len] == '_'))
		len++;
	return len < text.len && (text.p[len] == ':' || text.p[len] == ' ')
		       ? (struct sv){ text.p, len }
		       : SV("");
}

/* The table of "type:name: text", or of a text that has it in quotes; empty when there is none. */
static struct sv table_of(struct sv text)
{
	const char *quote = memchr(text.p, '"', text.len), *last = memrchr(text.p, '"', text.len);
	const char *end = memmem(text.p, text.len, ": ", 2);
	struct sv spec = SV("");

	if (end != NULL && memchr(text.p, ':', (size_t)(end - text.p)) != NULL)
		spec = (struct sv){ text.p, (size_t)(end - text.p) };
	else if (quote != NULL && last > quote)
		spec = (struct sv){ quote + 1, (size_t)(last - quote - 1) };
	skip_word(&spec, SV("proxy:"));
	return spec;
}

static bool find_place(const struct conf *c, struct sv text, const char **file, unsigned *line)
{
	bool found = false;

	skip_word(&text, SV("parameter "));
	struct sv parameter = parameter_of(text), table = table_of(text);

	if (parameter.len > 0) {
		char *name = xstrndup(parameter.p, parameter.len);

		found = conf_where(c, NULL, name, file, line);
		free(name);
	}
	if (!found && table.len > 0) {
		char *spec = xstrndup(table.p, table.len);

		found = conf_where_text(c, spec, file, line);
		free(spec);
	}
	return found;
}

/* "parameter: cannot use table" behind what is wrong with that table tells nothing new. */
static bool is_echo(struct report *r, struct sv text)
{
	struct sv table = table_of(text);

	if (memmem(text.p, text.len, ": cannot use table", 18) != NULL)
		return strmap_get(r->tables, table) != NULL;
	if (table.len > 0)
		strmap_put(r->tables, table, r);
	return false;
}

static void say(struct report *r, const char *severity, struct sv text)
{
	const char *file;
	unsigned line;

	text = sv_trim(text);
	if (text.len == 0 || strmap_put(r->said, text, r) != NULL || is_echo(r, text))
		return;
	if (!has_place(text) && find_place(r->c, text, &file, &line))
		fprintf(stderr, "posthaste: %s: %s, line %u: %.*s\n", severity, file, line,
			(int)text.len, text.p);
	else
		fprintf(stderr, "posthaste: %s: %.*s\n", severity, (int)text.len, text.p);
}

/* One line of a diagnosis or of a worker; lines that are neither warning nor error are dropped. */
static void say_line(struct report *r, struct sv line, bool of_worker)
{
	const char *bracket = of_worker ? memmem(line.p, line.len, "]: ", 3) : NULL;

	if (bracket != NULL) {
		line.len -= (size_t)(bracket + 3 - line.p);
		line.p = bracket + 3;
	}
	if (of_worker) /* of a process that could not even become one */
		skip_word(&line, SV("posthaste: "));
	if (skip_word(&line, SV("warning: "))) {
		say(r, "warning", line);
	} else if (skip_word(&line, SV("error: ")) || !of_worker) {
		r->failed = true;
		say(r, "error", line);
	} else if (skip_word(&line, SV("fatal: "))) {
		/* "start-up: ..." alone is what follows the errors above it */
		if (!skip_word(&line, SV("start-up: ")) || !r->failed)
			say(r, "error", line);
		r->failed = true;
	}
}

static void say_lines(struct report *r, struct sv text, bool of_worker)
{
	while (text.len > 0)
		say_line(r, sv_next_part(&text, '\n'), of_worker);
}

/* Mail that Postfix has not delivered does not move by itself. */
static void look_for_postfix(const struct report *r)
{
	static const char *const dirs[] = { "active", "deferred", "incoming" };
	const char *file = NULL, *queue = conf_params(r->c)->queue_directory;
	unsigned line = 0;

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		char *path = xasprintf("%s/%s", queue, dirs[i]);
		struct stat st;
		bool there = stat(path, &st) == 0 && S_ISDIR(st.st_mode);

		free(path);
		if (!there)
			continue;
		if (conf_where(r->c, NULL, "queue_directory", &file, &line))
			fprintf(stderr, "posthaste: warning: %s, line %u: ", file, line);
		else
			fprintf(stderr, "posthaste: warning: ");
		fprintf(stderr,
			"queue_directory = %s is Postfix's: deliver what it holds with Postfix, or "
			"set another directory here\n",
			queue);
		return;
	}
}

/* ---- the summary ---- */

/* Items side by side, in lines that begin INDENT columns from the left. */
struct column {
	unsigned used;
};

static void begin_items(struct column *col)
{
	printf("%*s", INDENT, "");
	col->used = INDENT;
}

static void put_item(struct column *col, const char *text)
{
	unsigned len = (unsigned)strlen(text);

	if (col->used > INDENT && col->used + 1 + len > LINE_WIDTH) {
		printf("\n%*s", INDENT, "");
		col->used = INDENT;
	} else if (col->used > INDENT) {
		putchar(' ');
		col->used++;
	}
	fputs(text, stdout);
	col->used += len;
}

static const char *file_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

static bool same_item(const struct effect_finding *a, const struct effect_finding *b)
{
	return a->reason == b->reason && strcmp(a->name, b->name) == 0 &&
	       strcmp(a->file, b->file) == 0;
}

/* "smtpd_tls_security_level (master.cf:5,12)" for each, under the reason that they share. */
static void show_missing(const struct effect_summary *s)
{
	for (unsigned i = 0; i < s->missing_count;) {
		const char *reason = s->missing[i].reason;
		struct column col;

		printf("  %s:\n", reason);
		begin_items(&col);
		while (i < s->missing_count && s->missing[i].reason == reason) {
			const struct effect_finding *first = &s->missing[i];
			struct buf text = BUF_INIT;

			buf_printf(&text, "%s (%s:%u", first->name, file_name(first->file),
				   first->line);
			while (++i < s->missing_count && same_item(first, &s->missing[i]))
				buf_printf(&text, ",%u", s->missing[i].line);
			buf_add_c(&text, ')');
			put_item(&col, buf_cstr(&text));
			buf_fini(&text);
		}
		putchar('\n');
	}
}

void check_summary(const struct conf *c)
{
	struct effect_summary s;

	effect_summary(c, &s);
	printf("%s: %u parameters are set: %u act, %u are accepted, %u are deprecated names, %u "
	       "are "
	       "your own\n",
	       conf_dir(c), s.acts + s.accepted + s.aliases + s.own, s.acts, s.accepted, s.aliases,
	       s.own);
	if (s.accepted_count > 0) {
		struct column col;

		printf("without effect, and nothing is lost (postconf --effect says why):\n");
		begin_items(&col);
		for (unsigned i = 0; i < s.accepted_count; i++)
			put_item(&col, s.accepted_names[i]);
		putchar('\n');
	}
	if (s.missing_count > 0) {
		printf("asked for, and not there:\n");
		show_missing(&s);
	}
	effect_summary_fini(&s);
	fflush(stdout);
}

bool check_problems(const struct conf *c, const struct conf_diag *d, struct sv lines)
{
	struct report r = { .c = c, .said = strmap_new(), .tables = strmap_new() };

	say_lines(&r, buf_sv(&d->text), false);
	say_lines(&r, lines, true);
	look_for_postfix(&r);
	strmap_free(&r.said);
	strmap_free(&r.tables);
	fflush(stderr);
	return !r.failed;
}
