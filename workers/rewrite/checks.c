/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the tables of header_checks(5) get to see; see workers/rewrite/checks.h. */
#include "workers/rewrite/checks.h"

#include <stdarg.h>
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"

#define BUF_KEEP (64u << 10) /* larger buffers are given back between messages */

int checks_open(const struct conf *c, const struct params *p, struct checks *k, struct conf_diag *d)
{
	const char *const specs[CHECK_CLASSES] = {
		[CHECK_HEADER] = p->header_checks,        [CHECK_MIME] = p->mime_header_checks,
		[CHECK_NESTED] = p->nested_header_checks, [CHECK_BODY] = p->body_checks,
		[CHECK_MILTER] = p->milter_header_checks,
	};
	int err = 0;

	*k = (struct checks){
		.log_name = "cleanup",
		.mime = { .nesting = (size_t)p->mime_nesting_limit,
			  .boundary_bytes = (size_t)p->mime_boundary_length_limit,
			  .disabled = p->disable_mime_input_processing },
		.body_bytes = p->body_checks_size_limit > 0 ? (uint64_t)p->body_checks_size_limit
							    : UINT64_MAX,
		.line_bytes = (size_t)p->line_length_limit,
		.header_bytes = (size_t)p->header_size_limit,
		.chars = badchars_new(p->message_reject_characters, p->message_strip_characters),
		.strict_header = !p->disable_mime_input_processing &&
				 (p->strict_8bitmime || p->strict_7bit_headers),
		.strict_body = !p->disable_mime_input_processing &&
			       (p->strict_8bitmime || p->strict_8bitmime_body),
		.strict_domain =
			!p->disable_mime_input_processing && p->strict_mime_encoding_domain,
		.unended = p->disable_mime_input_processing ? UNENDED_FIX
							    : p->non_empty_end_of_header_action,
	};
	k->any = k->unended != UNENDED_FIX || k->chars != NULL || k->strict_header ||
		 k->strict_body || k->strict_domain;
	for (unsigned i = 0; i < CHECK_CLASSES && err == 0; i++) {
		err = map_list_open(c, specs[i], check_class_names[i], &k->tables[i], d);
		k->any |= err == 0 && i != CHECK_MILTER && !map_list_is_empty(k->tables[i]);
	}
	if (err < 0)
		checks_close(k);
	return err;
}

void checks_close(struct checks *k)
{
	for (unsigned i = 0; i < CHECK_CLASSES; i++)
		map_list_close(&k->tables[i]);
	badchars_free(&k->chars);
	k->any = false;
}

/* ---- output ---- */

/* Text of one line or of a piece of it; `hard`: the line ends here. */
static void put(struct check_run *run, struct sv text, bool hard)
{
	if (!run->out_mid && text.len > 0 && text.p[0] == '.')
		buf_add_c(run->out, '.');
	buf_add_sv(run->out, text);
	run->out_mid = !hard && (run->out_mid || text.len > 0);
	if (hard)
		buf_add_str(run->out, "\r\n");
}

/* A line end that its own line did not bring. */
static void put_end(struct check_run *run)
{
	if (run->out_mid)
		put(run, (struct sv){ "", 0 }, true);
}

void checks_put_text(struct check_run *run, struct sv text, bool header)
{
	bool first = true;

	while (text.len > 0) {
		const char *nl = memchr(text.p, '\n', text.len);
		size_t len = nl == NULL ? text.len : (size_t)(nl - text.p),
		       step = len + (nl != NULL);
		struct sv line = { text.p, len };

		if (line.len > 0 && line.p[line.len - 1] == '\r')
			line.len--;
		if (!first && header && line.len > 0 && line.p[0] != ' ' && line.p[0] != '\t')
			put(run, SV("\t"), false);
		if (first || !header || line.len > 0)
			put(run, line, true);
		first = false;
		text = (struct sv){ text.p + step, text.len - step };
	}
}

/* ---- log lines ---- */

void checks_log(struct check_run *run, enum log_level level, const char *fmt, ...)
{
	struct buf line = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&line, fmt, ap);
	va_end(ap);
	if (run->hold_log) { /* level and text */
		buf_add_c(&run->held_log, (char)level);
		buf_add(&run->held_log, buf_cstr(&line), line.len + 1);
	} else {
		log_as(run->checks->log_name, level, "%s", buf_cstr(&line));
	}
	buf_fini(&line);
}

void checks_hold(struct check_run *run)
{
	run->hold_log = true;
}

void checks_settle(struct check_run *run)
{
	size_t at = 0;

	while (at < run->held_log.len) {
		const char *line = run->held_log.p + at;

		log_as(run->checks->log_name, (enum log_level)line[0], "%s", line + 1);
		at += strlen(line + 1) + 2;
	}
	buf_reset(&run->held_log);
	run->hold_log = false;
}

/* ---- asking ---- */

static bool is_asked(const struct check_run *run, enum check_class class)
{
	return !run->off && !map_list_is_empty(run->checks->tables[class]);
}

static enum check_result ask(struct check_run *run, enum check_class class, struct sv seen)
{
	switch (map_list_get(run->checks->tables[class], seen, &run->value)) {
	case MAP_FOUND:
		return checks_act(run, class, seen, buf_sv(&run->value));
	case MAP_NOT_FOUND:
		break;
	case MAP_ERROR:
		if (!run->table_error)
			checks_log(run, LOG_LEVEL_WARN,
				   "%s: %s map lookup problem -- message not accepted, try again "
				   "later",
				   run->qid, check_class_names[class]);
		run->table_error = true;
		break;
	}
	return CHECK_KEEP;
}

/* As tables see a header: lines joined by LF, "Name:" without white space before the colon.
 * `head` has LF or CRLF between its lines, perhaps at its end, too. */
static struct sv make_seen(struct check_run *run, struct sv head, size_t name_len, size_t colon)
{
	struct buf *b = &run->seen;

	buf_reset(b);
	buf_add(b, head.p, name_len);
	for (size_t i = colon; i < head.len;) {
		const char *nl = memchr(head.p + i, '\n', head.len - i);
		size_t end = nl == NULL ? head.len : (size_t)(nl - head.p);
		size_t text_end = end > i && nl != NULL && head.p[end - 1] == '\r' ? end - 1 : end;

		buf_add(b, head.p + i, text_end - i);
		if (end + 1 < head.len)
			buf_add_c(b, '\n');
		i = end + 1;
	}
	return buf_sv(b);
}

/* As in Postfix: when anybody looks at headers. */
static bool judges_nesting(const struct checks *k)
{
	return k->strict_header || k->strict_body || k->strict_domain ||
	       !map_list_is_empty(k->tables[CHECK_HEADER]) ||
	       !map_list_is_empty(k->tables[CHECK_MIME]) ||
	       !map_list_is_empty(k->tables[CHECK_NESTED]);
}

/* The header section of a part ends. */
static void end_headers(struct check_run *run, bool blank)
{
	if (run->checks->strict_domain && mime_breaks_domain(&run->mime))
		checks_fault(run, FAULT_DOMAIN,
			     run->mime.eight ? SV("8bit") : SV("quoted-printable or base64"));
	mime_headers_end(&run->mime, blank);
}

/* A complete logical header, in any place; not dot-stuffed. */
static enum check_result judge_header(struct check_run *run, struct sv head,
				      enum check_class otherwise)
{
	size_t name_len, colon;
	enum check_class class = otherwise;

	if (mime_header_name(head, &name_len, &colon) != MIME_NAME_YES)
		return CHECK_KEEP;
	mime_header(&run->mime, head);
	if (run->mime.too_deep && judges_nesting(run->checks))
		checks_fault(run, FAULT_NESTING, head);
	if (run->checks->strict_header && !str_is_ascii(head.p, head.len))
		checks_fault(run, FAULT_HEADER_8BIT, make_seen(run, head, name_len, colon));
	if (mime_is_mime_header((struct sv){ head.p, name_len }))
		class = CHECK_MIME;
	if (!is_asked(run, class))
		return CHECK_KEEP;
	return ask(run, class, make_seen(run, head, name_len, colon));
}

enum check_result checks_header(struct check_run *run, struct sv header)
{
	bool stuffed = header.len > 0 && header.p[0] == '.';
	enum check_result result = judge_header(
		run, (struct sv){ header.p + stuffed, header.len - stuffed }, CHECK_HEADER);

	if (result == CHECK_REPLACED) { /* into wire form */
		struct buf text = run->text, *out = run->out;

		run->text = BUF_INIT;
		run->out = &run->text;
		checks_put_text(run, buf_sv(&text), true);
		run->out = out;
		buf_fini(&text);
	}
	return result;
}

/* ---- headers of parts ---- */

static void put_head(struct check_run *run, struct sv head)
{
	while (head.len > 0) {
		const char *nl = memchr(head.p, '\n', head.len);
		size_t len = nl == NULL ? head.len : (size_t)(nl - head.p),
		       step = len + (nl != NULL);

		put(run, (struct sv){ head.p, len }, true);
		head = (struct sv){ head.p + step, head.len - step };
	}
}

static void flush_head(struct check_run *run)
{
	struct sv head = buf_sv(&run->head);

	if (head.len == 0)
		return;
	switch (judge_header(run, head,
			     run->mime.place == MIME_NESTED ? CHECK_NESTED : CHECK_MIME)) {
	case CHECK_KEEP:
		put_head(run, head);
		break;
	case CHECK_REPLACED:
		checks_put_text(run, buf_sv(&run->text), true);
		break;
	case CHECK_DROP:
		break;
	}
	buf_reset(&run->head);
}

/* What is past header_size_limit is dropped, as in the message's own header. */
static void head_add(struct check_run *run, const char *before, struct sv text)
{
	if (run->head.len >= run->checks->header_bytes)
		return;
	buf_add_str(&run->head, before);
	text.len = size_min(text.len, run->checks->header_bytes);
	buf_add_sv(&run->head, text);
}

/* False: the header section is over, and the line is the first behind it. */
static bool head_line(struct check_run *run, struct sv text, bool cont)
{
	size_t name_len, colon;

	if (cont) {
		head_add(run, "", text);
		return true;
	}
	if (run->head.len > 0 && text.len > 0 && (text.p[0] == ' ' || text.p[0] == '\t')) {
		head_add(run, "\n", text);
		return true;
	}
	flush_head(run);
	if (mime_header_name(text, &name_len, &colon) == MIME_NAME_YES) {
		head_add(run, "", (struct sv){ text.p, name_len });
		head_add(run, "", (struct sv){ text.p + colon, text.len - colon });
		return true;
	}
	end_headers(run, text.len == 0);
	if (text.len == 0)
		run->offset = 0;
	return false;
}

/* ---- body ---- */

static bool sees_body(const struct check_run *run)
{
	return is_asked(run, CHECK_BODY) && run->offset < run->checks->body_bytes;
}

static void body_line(struct check_run *run, struct sv text, bool cont, bool hard)
{
	enum check_result result = CHECK_KEEP;
	bool boundary;

	if (run->checks->strict_body && !run->mime.eight && !run->mime.encoded &&
	    !str_is_ascii(text.p, text.len))
		checks_fault(run, FAULT_BODY_8BIT, text);
	boundary = !cont && mime_line(&run->mime, text);

	if (sees_body(run))
		result = ask(run, CHECK_BODY, text);
	run->offset = boundary && run->mime.place == MIME_BODY ? 0 : run->offset + text.len + 1;
	switch (result) {
	case CHECK_KEEP:
		put(run, text, hard);
		break;
	case CHECK_REPLACED:
		put(run, buf_sv(&run->text), hard);
		break;
	case CHECK_DROP:
		if (hard)
			put_end(run);
		break;
	}
}

/* A line without its line end, or a piece of a long one, in wire form. */
static void take_text(struct check_run *run, struct sv text, bool hard)
{
	bool cont = run->mid_line;

	run->mid_line = !hard;
	if (!cont && text.len > 0 && text.p[0] == '.')
		text = (struct sv){ text.p + 1, text.len - 1 };
	if (run->mime.place != MIME_BODY && head_line(run, text, cont))
		return;
	body_line(run, text, cont, hard);
}

/* Long lines are judged in pieces of line_length_limit bytes, as in Postfix. How much of `data`
 * completes the line, or the piece, that began in run->line; false: more is needed. A CR is always
 * followed by its LF here (wire.h) and never parted from it. */
static bool next_piece(const struct check_run *run, struct sv data, size_t *n_r, bool *hard_r)
{
	size_t most = run->checks->line_bytes + 2 - run->line.len; /* of a line that is no longer */
	const char *nl = memchr(data.p, '\n', size_min(data.len, most));

	*hard_r = nl != NULL;
	*n_r = nl != NULL ? (size_t)(nl + 1 - data.p) : most - size_min(most, 2);
	return nl != NULL || data.len >= most;
}

static struct sv without_line_end(struct sv text, bool hard)
{
	if (hard)
		text.len -= text.len >= 2 ? 2 : text.len;
	return text;
}

/* Nothing of what follows can matter to any table. */
static bool is_passive(const struct check_run *run)
{
	return run->mime.place == MIME_BODY && run->line.len == 0 && !run->mid_line &&
	       !run->out_mid && !sees_body(run) &&
	       (run->off || (!run->checks->strict_body && !mime_has_levels(&run->mime)));
}

void checks_body(struct check_run *run, struct sv data)
{
	while (data.len > 0) {
		bool hard;
		size_t n;

		if (is_passive(run)) {
			buf_add_sv(run->out, data);
			return;
		}
		if (!next_piece(run, data, &n, &hard)) {
			buf_add_sv(&run->line, data);
			return;
		}
		if (run->line.len > 0) {
			size_t used;

			buf_add(&run->line, data.p, n);
			used = hard ? run->line.len : run->checks->line_bytes;
			take_text(run, without_line_end((struct sv){ run->line.p, used }, hard),
				  hard);
			buf_consume(&run->line, used);
		} else {
			take_text(run, without_line_end((struct sv){ data.p, n }, hard), hard);
		}
		data = (struct sv){ data.p + n, data.len - n };
	}
}

bool checks_characters(struct check_run *run, struct sv *data, enum badchars_at *at,
		       struct buf *stripped)
{
	const struct badchars *b = run->checks->chars;
	const char *bad, *begin, *end;

	if (b == NULL || run->off)
		return true;
	bad = badchars_find(b, *data);
	if (bad != NULL) {
		for (begin = bad; begin > data->p && begin[-1] != '\n';)
			begin--;
		end = memchr(bad, '\r', data->len - (size_t)(bad - data->p));
		if (end == NULL)
			end = data->p + data->len;
		checks_reject_character(run, (struct sv){ begin, (size_t)(end - begin) });
		return false;
	}
	if (badchars_strips(b)) {
		buf_reset(stripped);
		badchars_strip(b, *data, at, stripped);
		*data = buf_sv(stripped);
	}
	return true;
}

/* ---- begin and end ---- */

static void recycle(struct buf *b)
{
	if (b->cap > BUF_KEEP)
		buf_fini(b);
	buf_reset(b);
}

bool checks_begin(struct check_run *run, const struct checks *k, struct envelope *env,
		  const char *qid, struct arena *arena, struct buf *out)
{
	struct check_run old = *run;

	if (!k->any)
		return false;
	*run = (struct check_run){ .checks = k,
				   .env = env,
				   .qid = qid,
				   .arena = arena,
				   .out = out,
				   .mime = old.mime,
				   .line = old.line,
				   .head = old.head,
				   .seen = old.seen,
				   .value = old.value,
				   .text = old.text,
				   .held_log = old.held_log };
	mime_begin(&run->mime, &k->mime);
	recycle(&run->line);
	recycle(&run->head);
	recycle(&run->seen);
	recycle(&run->value);
	recycle(&run->held_log);
	recycle(&run->text);
	return true;
}

bool checks_begin_milter(struct check_run *run, const struct checks *k, struct envelope *env,
			 const char *qid, struct arena *arena)
{
	*run = (struct check_run){
		.checks = k, .env = env, .qid = qid, .arena = arena, .text = BUF_INIT
	};
	return !map_list_is_empty(k->tables[CHECK_MILTER]);
}

bool checks_milter_header(struct check_run *run, struct buf *header)
{
	enum check_result result;

	if (!is_asked(run, CHECK_MILTER))
		return true;
	result = ask(run, CHECK_MILTER, buf_sv(header));
	if (result == CHECK_REPLACED) {
		buf_reset(header);
		buf_add_sv(header, buf_sv(&run->text));
	}
	return result != CHECK_DROP;
}

void checks_headers_end(struct check_run *run, bool blank)
{
	end_headers(run, blank);
	run->offset = 1; /* the empty line */
}

void checks_end(struct check_run *run)
{
	if (run->line.len > 0) {
		take_text(run, buf_sv(&run->line), true);
		buf_reset(&run->line);
	}
	flush_head(run);
	put_end(run);
	checks_judge_faults(run);
}

void checks_fini(struct check_run *run)
{
	mime_fini(&run->mime);
	buf_fini(&run->line);
	buf_fini(&run->head);
	buf_fini(&run->seen);
	buf_fini(&run->value);
	buf_fini(&run->text);
	buf_fini(&run->held_log);
}

size_t checks_memory(const struct check_run *run)
{
	return run->mime.bytes + run->line.cap + run->head.cap + run->seen.cap + run->value.cap +
	       run->text.cap + run->held_log.cap;
}
