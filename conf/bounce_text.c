/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See conf/bounce_text.h. */
#include "conf/bounce_text.h"

#include <stdio.h>

#include "conf/conf_priv.h"
#include "lib/err.h"
#include "lib/io.h"

#define FILE_LIMIT_BYTES (256u << 10)
#define BODY_LIMIT_BYTES (64u << 10)

static const char *const names[] = {
	[BOUNCE_TEXT_FAILURE] = "failure_template",
	[BOUNCE_TEXT_DELAY] = "delay_template",
	[BOUNCE_TEXT_SUCCESS] = "success_template",
	[BOUNCE_TEXT_VERIFY] = "verify_template",
};

#define SENDER "Mail Delivery System <MAILER-DAEMON>"
#define FIRST  "This is the mail system at host $myhostname.\n\n"
#define HELP                                                                                       \
	"\nIf you need help, forward this report to the postmaster of this system:\n"              \
	"postmaster@$myorigin\nYou can delete what follows it.\n"
#define LAST "\n                   The mail system\n"

#define TEXT(id, subject_text, copy_text, body_text)                                               \
	[BOUNCE_TEXT_##id] = { .charset = "us-ascii",                                              \
			       .from = SENDER,                                                     \
			       .subject = subject_text,                                            \
			       .postmaster_subject = copy_text,                                    \
			       .body = FIRST body_text LAST }

static const struct bounce_text builtin[] = {
	TEXT(FAILURE, "Undelivered Mail Returned to Sender", "Postmaster Copy: Undelivered Mail",
	     "Your message could not be delivered to one or more of its recipients.\n"
	     "It has been returned with this report.\n" HELP),
	TEXT(DELAY, "Delayed Mail (still being retried)", "Postmaster Warning: Delayed Mail",
	     "THIS IS A WARNING ONLY. YOU NEED NOT SEND YOUR MESSAGE AGAIN.\n\n"
	     "Your message has not been delivered yet to the recipients below.\n"
	     "This system goes on trying.\n" HELP),
	TEXT(SUCCESS, "Successful Mail Delivery Report", "Successful Mail Delivery Report",
	     "Your message was delivered to the destinations below. If it was delivered\n"
	     "to a mailbox you get no further notice. If it was handed to another mail\n"
	     "system, that system may report to you again.\n\n"
	     "If you need help, ask the postmaster of this system: postmaster@$myorigin\n"),
	TEXT(VERIFY, "Mail Delivery Status Report", "Mail Delivery Status Report",
	     "This is the mail delivery report that you asked for.\n"),
	TEXT(EXPIRED, "Undelivered Mail Returned to Sender", "Postmaster Copy: Undelivered Mail",
	     "Your message could not be delivered to one or more of its recipients,\n"
	     "although delivery was tried for as long as this system is set up to try.\n"
	     "It has been returned with this report.\n" HELP),
};

/* ---- $names ---- */

/* delay_warning_time_hours and its like: the value in that unit. */
static const char *time_in(struct arena *arena, const struct params *p, struct sv name)
{
	static const struct {
		const char *suffix;
		int64_t ms;
	} units[] = {
		{ "_seconds", 1000 },  { "_minutes", 60000 },   { "_hours", 3600000 },
		{ "_days", 86400000 }, { "_weeks", 604800000 },
	};
	static const char delay[] = "delay_warning_time", life[] = "maximal_queue_lifetime";

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		char text[64];

		for (int k = 0; k < 2; k++) {
			snprintf(text, sizeof(text), "%s%s", k == 0 ? delay : life,
				 units[i].suffix);
			if (!sv_eq_str(name, text))
				continue;
			return arena_printf(arena, "%lld",
					    (long long)((k == 0 ? p->delay_warning_time
								: p->maximal_queue_lifetime) /
							units[i].ms));
		}
	}
	return NULL;
}

struct look {
	const struct conf *c;
	struct arena *arena;
};

static const char *lookup(void *ctx, struct sv name, bool *fail_r UNUSED)
{
	const struct look *l = ctx;
	const char *value = time_in(l->arena, conf_params(l->c), name);

	if (value == NULL) {
		char *copy = arena_strndup(l->arena, name.p, name.len);

		value = conf_get(l->c, copy);
	}
	return value;
}

static void expand_body(const struct conf *c, struct arena *arena, struct bounce_text *t,
			const char *file, const char *name, struct conf_diag *d)
{
	struct look look = { c, arena };
	struct expand e = { .lookup = lookup, .ctx = &look };
	struct buf out = BUF_INIT;

	out.limit = BODY_LIMIT_BYTES;
	if (expand_text(&e, sv_from(t->body), &out) == 0)
		t->expanded = arena_strndup(arena, buf_cstr(&out), out.len);
	else
		conf_diag_add(d, false, file, 0, "%s: %s", name,
			      e.error[0] != '\0' ? e.error : "too long");
	buf_fini(&out);
}

/* "ADDRESS (NAME)" or "NAME <ADDRESS>" */
static void split_from(struct arena *arena, struct bounce_text *t)
{
	struct sv all = sv_trim(sv_from(t->from)), addr = all, name = SV("");
	const char *open = memchr(all.p, '(', all.len), *angle = memchr(all.p, '<', all.len);

	if (angle != NULL && all.p[all.len - 1] == '>') {
		name = sv_trim((struct sv){ all.p, (size_t)(angle - all.p) });
		addr = (struct sv){ angle + 1, (size_t)(all.p + all.len - angle - 2) };
	} else if (open != NULL && all.p[all.len - 1] == ')') {
		addr = sv_trim((struct sv){ all.p, (size_t)(open - all.p) });
		name = (struct sv){ open + 1, (size_t)(all.p + all.len - open - 2) };
	}
	t->from_addr = arena_strndup(arena, addr.p, addr.len);
	t->from_name = arena_strndup(arena, name.p, name.len);
}

/* ---- template files ---- */

struct reading {
	struct arena *arena;
	struct conf_diag *d;
	const char *file;
	unsigned line;
	struct sv rest;
};

static bool next_line(struct reading *r, struct sv *line_r)
{
	if (r->rest.len == 0)
		return false;
	*line_r = sv_next_part(&r->rest, '\n');
	r->line++;
	return true;
}

static void complain(const struct reading *r, const char *what, struct sv text)
{
	conf_diag_add(r->d, false, r->file, r->line, "%s: \"%.*s\"", what,
		      (int)size_min(text.len, 60), text.p);
}

static void set_header(struct reading *r, struct bounce_text *t, struct sv line)
{
	const char *colon = memchr(line.p, ':', line.len);
	struct sv name = { line.p, colon != NULL ? (size_t)(colon - line.p) : 0 };
	const struct {
		struct sv name;
		const char **field;
	} headers[] = {
		{ SV("Charset"), &t->charset },
		{ SV("From"), &t->from },
		{ SV("Subject"), &t->subject },
		{ SV("Postmaster-Subject"), &t->postmaster_subject },
	};

	for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
		if (!sv_eq_nocase(name, headers[i].name))
			continue;
		struct sv value =
			sv_trim((struct sv){ colon + 1, (size_t)(line.p + line.len - colon - 1) });

		if (value.len == 0 || !str_is_ascii(value.p, value.len)) {
			complain(r, "expected a header value of ASCII text", line);
			return;
		}
		*headers[i].field = arena_strndup(r->arena, value.p, value.len);
		return;
	}
	complain(r, "expected Charset:, From:, Subject: or Postmaster-Subject:", line);
}

/* Behind "name = <<END". */
static void read_template(struct reading *r, struct bounce_text *t, struct sv end)
{
	struct buf body = BUF_INIT;
	bool header = true, ended = false;
	struct sv line;

	body.limit = BODY_LIMIT_BYTES;
	while (!ended && next_line(r, &line)) {
		ended = sv_eq(line, end);
		if (ended)
			break;
		if (header && line.len > 0 && ascii_is_alpha(line.p[0]) &&
		    memchr(line.p, ':', line.len) != NULL) {
			set_header(r, t, line);
			continue;
		}
		if (header && sv_trim(line).len > 0)
			complain(r, "expected an empty line behind the headers", line);
		if (!header || line.len > 0) {
			buf_add_sv(&body, line);
			buf_add_c(&body, '\n');
		}
		header = false;
	}
	if (!ended)
		complain(r, "the template has no end line", end);
	else if (body.overflow)
		complain(r, "the template is too long", end);
	else
		t->body = arena_strndup(r->arena, buf_cstr(&body), body.len);
	buf_fini(&body);
}

static void read_templates(struct reading *r, struct bounce_texts *b)
{
	struct sv line;

	while (next_line(r, &line)) {
		const char *op = memmem(line.p, line.len, "<<", 2);
		const char *equal = memchr(line.p, '=', line.len);
		struct sv end, name;
		size_t i = 0;

		if (sv_trim(line).len == 0 || line.p[0] == '#')
			continue;
		if (op == NULL || equal == NULL || equal > op) {
			complain(r, "expected template_name = <<EOF", line);
			continue;
		}
		name = sv_trim((struct sv){ line.p, (size_t)(equal - line.p) });
		end = sv_trim((struct sv){ op + 2, (size_t)(line.p + line.len - op - 2) });
		while (i < ARRAY_LEN(names) && !sv_eq_str(name, names[i]))
			i++;
		struct bounce_text unknown = builtin[0];

		if (i == ARRAY_LEN(names))
			complain(r, "unknown template name", name);
		read_template(r, i < ARRAY_LEN(names) ? &b->text[i] : &unknown, end);
	}
}

static void read_file(const struct conf *c, const char *file, struct bounce_texts *b,
		      struct arena *arena, struct conf_diag *d)
{
	struct buf text = BUF_INIT;
	int err = io_read_file(file, FILE_LIMIT_BYTES, &text);
	const char *where = NULL;
	unsigned line = 0;

	if (err != 0) {
		conf_where(c, NULL, "bounce_template_file", &where, &line);
		conf_diag_add(d, false, where, line, "bounce_template_file = %s: %s", file,
			      err_str(err));
	} else {
		struct reading r = { .arena = arena, .d = d, .file = file, .rest = buf_sv(&text) };

		read_templates(&r, b);
	}
	buf_fini(&text);
	/* the file's words for all failures */
	if (b->text[BOUNCE_TEXT_FAILURE].body != builtin[BOUNCE_TEXT_FAILURE].body)
		b->text[BOUNCE_TEXT_EXPIRED] = b->text[BOUNCE_TEXT_FAILURE];
}

void bounce_texts_open(const struct conf *c, const char *file, struct bounce_texts *b,
		       struct conf_diag *d)
{
	struct arena *arena = xcalloc(1, sizeof(*arena));

	if (file == NULL)
		file = conf_params(c)->bounce_template_file;
	arena_init(arena, 4096, 0);
	b->memory = arena;
	memcpy(b->text, builtin, sizeof(b->text));
	if (*file != '\0')
		read_file(c, file, b, arena, d);
	for (size_t i = 0; i < BOUNCE_TEXT_COUNT; i++) {
		struct bounce_text *t = &b->text[i];

		expand_body(c, arena, t, file, i < ARRAY_LEN(names) ? names[i] : names[0], d);
		if (t->expanded == NULL) {
			t->body = builtin[i].body;
			expand_body(c, arena, t, file, "built-in template", d);
		}
		if (t->expanded == NULL)
			t->expanded = "";
		split_from(arena, t);
	}
}

void bounce_texts_close(struct bounce_texts *b)
{
	if (b->memory != NULL)
		arena_fini(b->memory);
	free(b->memory);
	b->memory = NULL;
}

void bounce_texts_format(const struct bounce_texts *b, bool expanded, struct buf *out)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const struct bounce_text *t = &b->text[i];
		size_t kind = strlen(names[i]) - strlen("_template");

		if (i > 0)
			buf_add_c(out, '\n');
		if (expanded) {
			buf_printf(out, "expanded_%.*s_text = <<EOF\n%sEOF\n", (int)kind, names[i],
				   t->expanded);
			continue;
		}
		buf_printf(out, "%s = <<EOF\nCharset: %s\nFrom: %s\nSubject: %s\n", names[i],
			   t->charset, t->from, t->subject);
		if (i == BOUNCE_TEXT_FAILURE || i == BOUNCE_TEXT_DELAY)
			buf_printf(out, "Postmaster-Subject: %s\n", t->postmaster_subject);
		buf_printf(out, "\n%sEOF\n", t->body);
	}
}
