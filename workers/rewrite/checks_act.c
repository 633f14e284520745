/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Actions of header_checks(5); see workers/rewrite/checks.h. */
#include <string.h>

#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "workers/rewrite/checks.h"
#include "workers/smtp/reply.h"

#define LOG_SEEN_BYTES 200  /* as in Postfix */
#define BCC_MAX        100u /* of one message: a body may match a thousand times */

const char *const check_class_names[CHECK_CLASSES] = {
	[CHECK_HEADER] = "header_checks",        [CHECK_MIME] = "mime_header_checks",
	[CHECK_NESTED] = "nested_header_checks", [CHECK_BODY] = "body_checks",
	[CHECK_MILTER] = "milter_header_checks",
};

struct act { /* one answer on its way */
	struct check_run *run;
	enum check_class class;
	struct sv seen, text; /* what the table saw; what follows the action's name */
};

static void add_part(struct buf *out, const char *before, struct sv value, const char *after)
{
	buf_add_str(out, before);
	buf_add_sv(out, value);
	buf_add_str(out, after);
}

static const char *what_of(enum check_class class)
{
	return class == CHECK_BODY ? "body" : class == CHECK_CLASSES ? "content" : "header";
}

/* "QID: reject: header Subject: x from client[addr]; from=<s> to=<r> proto=ESMTP helo=<h>: text",
 * with the last recipient, as cleanup logs it. */
static void log_act(const struct act *a, const char *action, struct sv text)
{
	const struct envelope *e = a->run->env;
	struct buf line = BUF_INIT;
	struct sv seen = { a->seen.p, size_min(a->seen.len, LOG_SEEN_BYTES) };

	buf_printf(&line, "%s: %s%s: %s ", a->run->qid,
		   a->class == CHECK_MILTER ? "milter-header-" : "", action, what_of(a->class));
	add_part(&line, "", seen, " from ");
	if (e->client_addr.len > 0) {
		add_part(&line, "", e->client_name, "");
		add_part(&line, "[", e->client_addr, "];");
	} else {
		buf_add_str(&line, a->class == CHECK_MILTER ? "localhost[127.0.0.1];" : "local;");
	}
	add_part(&line, " from=<", e->sender, ">");
	if (e->rcpt_count > 0)
		add_part(&line, " to=<", e->rcpts[e->rcpt_count - 1].addr, ">");
	if (e->proto.len > 0)
		add_part(&line, " proto=", e->proto, "");
	if (e->helo.len > 0)
		add_part(&line, " helo=<", e->helo, ">");
	if (text.len > 0)
		add_part(&line, ": ", text, "");
	checks_log(a->run, LOG_LEVEL_INFO, "%s", buf_cstr(&line));
	buf_fini(&line);
}

static void warn_answer(const struct act *a, const char *what, const char *need)
{
	checks_log(a->run, LOG_LEVEL_WARN, "%s: %s \"%.*s\" in %s map%s%s", a->run->qid, what,
		   (int)size_min(a->text.len, LOG_SEEN_BYTES), a->text.p,
		   check_class_names[a->class], need[0] != '\0' ? " -- need " : "", need);
}

/* The text for later: NULL (and the message fails for want of memory) when the arena is full. */
static const char *keep(const struct act *a, struct sv text)
{
	return arena_strndup(a->run->arena, text.p, text.len);
}

static enum check_result act_keep(struct act *a)
{
	(void)a;
	return CHECK_KEEP;
}

static enum check_result act_ignore(struct act *a)
{
	(void)a;
	return CHECK_DROP;
}

static enum check_result act_strip(struct act *a)
{
	log_act(a, "strip", a->text);
	return CHECK_DROP;
}

static enum check_result act_warn(struct act *a)
{
	log_act(a, "warning", a->text);
	return CHECK_KEEP;
}

static enum check_result act_info(struct act *a)
{
	log_act(a, "info", a->text);
	return CHECK_KEEP;
}

static enum check_result act_pass(struct act *a)
{
	log_act(a, "pass", a->text);
	a->run->off = true;
	return CHECK_KEEP;
}

void checks_reject_character(struct check_run *run, struct sv line)
{
	static const char text[] = "disallowed character";
	const struct act a = { .run = run, .class = CHECK_CLASSES, .seen = line };

	log_act(&a, "reject", SV(text));
	run->refusal = (struct check_refusal){ 550, { 5, 7, 1 }, text };
	run->off = true;
	checks_settle(run); /* nothing of it will be done again */
}

static enum check_result act_discard(struct act *a)
{
	log_act(a, "discard", a->text);
	a->run->env->flags |= ENVF_DISCARD;
	a->run->off = true;
	return CHECK_KEEP;
}

static enum check_result act_hold(struct act *a)
{
	if ((a->run->env->flags & (ENVF_HOLD | ENVF_DISCARD)) == 0) {
		log_act(a, "hold", a->text);
		a->run->env->flags |= ENVF_HOLD;
	}
	return CHECK_KEEP;
}

/* The text may begin with an enhanced status code; 4.x.x asks to try again. */
static enum check_result act_reject(struct act *a)
{
	struct check_refusal *r = &a->run->refusal;
	struct sv text = a->text, log_text;
	size_t n = smtp_dsn_parse(text, r->dsn);
	const char *line;

	if (n == 0 || (r->dsn[0] != 4 && r->dsn[0] != 5)) {
		if (n > 0)
			warn_answer(a, "bad DSN action", "4.x.x or 5.x.x");
		r->dsn[0] = n > 0 ? 4 : 5;
		r->dsn[1] = 7;
		r->dsn[2] = 1;
	}
	text = sv_trim((struct sv){ text.p + n, text.len - n });
	r->text = text.len > 0 ? keep(a, text) : "message content rejected";
	r->code = r->dsn[0] == 4 ? 451 : 550;
	a->run->off = true;
	line = arena_printf(a->run->arena, "%u.%u.%u %s", r->dsn[0], r->dsn[1], r->dsn[2],
			    r->text != NULL ? r->text : "");
	log_text = line != NULL ? sv_from(line) : a->text;
	log_act(a, "reject", log_text);
	return CHECK_KEEP;
}

static enum check_result act_filter(struct act *a)
{
	const char *text;

	if (a->text.len == 0 || memchr(a->text.p, ':', a->text.len) == NULL) {
		warn_answer(a, "bad FILTER command", "transport:destination");
		return CHECK_KEEP;
	}
	text = keep(a, a->text);
	if (text != NULL)
		a->run->env->filter = (struct sv){ text, a->text.len };
	log_act(a, "filter", a->text);
	return CHECK_KEEP;
}

static bool is_address(const struct act *a, const char *what)
{
	if (a->text.len > 0 && a->text.len <= MAIL_ADDR_MAX_BYTES &&
	    memchr(a->text.p, '@', a->text.len) != NULL)
		return true;
	warn_answer(a, what, "user@domain");
	return false;
}

static enum check_result act_redirect(struct act *a)
{
	const char *text;

	if (!is_address(a, "bad REDIRECT target"))
		return CHECK_KEEP;
	text = keep(a, a->text);
	if (text != NULL)
		a->run->env->redirect = (struct sv){ text, a->text.len };
	log_act(a, "redirect", a->text);
	a->run->off = true;
	return CHECK_KEEP;
}

/* Once each; what the arena cannot hold is told by its `full`. */
static void add_bcc(struct check_run *run, struct sv addr)
{
	const struct env_rcpt r = { .addr = addr, .notify = NOTIFY_NEVER };
	struct envelope *e = run->env;

	for (size_t i = e->rcpt_count - run->bcc_count; i < e->rcpt_count; i++) {
		if (sv_eq(e->rcpts[i].addr, addr))
			return;
	}
	if (run->bcc_count >= BCC_MAX)
		checks_log(run, LOG_LEVEL_WARN, "%s: more than %u BCC addresses by %s", run->qid,
			   BCC_MAX, "header or body checks");
	else if (env_add_rcpt(e, run->arena, &r) == 0)
		run->bcc_count++;
}

static enum check_result act_bcc(struct act *a)
{
	const char *text;

	if (!is_address(a, "bad BCC address"))
		return CHECK_KEEP;
	log_act(a, "bcc", a->text);
	text = keep(a, a->text);
	if (text != NULL)
		add_bcc(a->run, (struct sv){ text, a->text.len });
	return CHECK_KEEP;
}

static bool is_header_text(struct sv text)
{
	size_t name_len, colon;

	return mime_header_name(text, &name_len, &colon) == MIME_NAME_YES && name_len > 0;
}

/* The text of PREPEND and REPLACE. */
static bool has_line(const struct act *a, const char *what)
{
	if (a->text.len > 0 && (a->class == CHECK_BODY || is_header_text(a->text)))
		return true;
	warn_answer(a, what, a->text.len == 0 ? "text" : "headername: headervalue");
	return false;
}

static enum check_result act_prepend(struct act *a)
{
	if (a->class == CHECK_MILTER) {
		warn_answer(a, "PREPEND is not for headers of milters:", "");
		return CHECK_KEEP;
	}
	if (has_line(a, "bad PREPEND text")) {
		log_act(a, "prepend", a->text);
		checks_put_text(a->run, a->text, a->class != CHECK_BODY);
	}
	return CHECK_KEEP;
}

static void flatten(char *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] == '\r' || p[i] == '\n')
			p[i] = ' ';
	}
}

static enum check_result act_replace(struct act *a)
{
	if (!has_line(a, "bad REPLACE text"))
		return CHECK_KEEP;
	log_act(a, "replace", a->text);
	buf_reset(&a->run->text);
	buf_add_sv(&a->run->text, a->text);
	if (a->class == CHECK_BODY) /* one line for one line */
		flatten(a->run->text.p, a->run->text.len);
	return CHECK_REPLACED;
}

static const struct {
	struct sv name;
	enum check_result (*fn)(struct act *a);
} actions[] = {
	{ { "REJECT", 6 }, act_reject },   { { "WARN", 4 }, act_warn },
	{ { "INFO", 4 }, act_info },       { { "FILTER", 6 }, act_filter },
	{ { "PASS", 4 }, act_pass },       { { "DISCARD", 7 }, act_discard },
	{ { "HOLD", 4 }, act_hold },       { { "PREPEND", 7 }, act_prepend },
	{ { "REPLACE", 7 }, act_replace }, { { "REDIRECT", 8 }, act_redirect },
	{ { "BCC", 3 }, act_bcc },         { { "STRIP", 5 }, act_strip },
	{ { "IGNORE", 6 }, act_ignore },   { { "DUNNO", 5 }, act_keep },
	{ { "OK", 2 }, act_keep },
};

enum check_result checks_act(struct check_run *run, enum check_class class, struct sv seen,
			     struct sv value)
{
	struct act a = { .run = run, .class = class, .seen = seen };
	size_t n = 0;

	while (n < value.len && value.p[n] != ' ' && value.p[n] != '\t')
		n++;
	a.text = sv_trim((struct sv){ value.p + n, value.len - n });
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		if (sv_eq_nocase(actions[i].name, (struct sv){ value.p, n }))
			return actions[i].fn(&a);
	}
	checks_log(run, LOG_LEVEL_WARN, "unknown command in %s map: %.*s", check_class_names[class],
		   (int)size_min(value.len, LOG_SEEN_BYTES), value.p);
	return CHECK_KEEP;
}
