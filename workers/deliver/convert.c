/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content on its way out; see workers/deliver/convert.h. */
#include "workers/deliver/convert.h"

#include <stdlib.h>
#include <string.h>

#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/convert_int.h"
#include "workers/mail/addr.h"

#define ARENA_CHUNK    1024u
#define ARENA_LIMIT    (1u << 20)
#define LINE_LIMIT_MIN 12u
#define SOFT_BREAK_AT  72u /* a line of quoted-printable is continued behind so many bytes */

/* ---- configuration ---- */

#define CHECKS(prefix)                                                                             \
	{                                                                                          \
		{ #prefix "_header_checks", p->prefix##_header_checks },                           \
			{ #prefix "_mime_header_checks", p->prefix##_mime_header_checks },         \
			{ #prefix "_nested_header_checks", p->prefix##_nested_header_checks },     \
			{ #prefix "_body_checks", p->prefix##_body_checks },                       \
	}

static int open_tables(struct convert_conf *cc, const struct conf *c, const struct params *p,
		       bool lmtp, struct conf_diag *d)
{
	const struct {
		const char *name, *spec;
	} rows[2][CONVERT_CLASSES] = { CHECKS(smtp), CHECKS(lmtp) };
	int err = 0;

	for (unsigned i = 0; i < CONVERT_CLASSES && err == 0; i++) {
		bool *any = i == CONVERT_BODY ? &cc->body_checks : &cc->header_checks;

		cc->names[i] = rows[lmtp][i].name;
		err = map_list_open(c, rows[lmtp][i].spec, cc->names[i], &cc->tables[i], d);
		*any |= err == 0 && !map_list_is_empty(cc->tables[i]);
	}
	return err;
}

int convert_conf_open(const struct conf *c, const struct conf_transport *ct,
		      struct convert_conf **cc_r, struct conf_diag *d)
{
	const struct params *p = ct->params;
	bool lmtp = ct->kind == TRANSPORT_LMTP;
	struct convert_conf *cc = xcalloc(1, sizeof(*cc));
	int err;

	*cc_r = cc;
	cc->program = lmtp ? "lmtp" : "smtp";
	if (ct->kind != TRANSPORT_SMTP && !lmtp)
		return 0;
	cc->downgrade = !p->disable_mime_output_conversion;
	cc->line_limit = (size_t)(lmtp ? p->lmtp_line_length_limit : p->smtp_line_length_limit);
	/* shorter lines than that are a slip, and one of a byte would be all spaces */
	if (cc->line_limit > 0)
		cc->line_limit = size_max(cc->line_limit, LINE_LIMIT_MIN);
	cc->piece_bytes = (size_t)p->line_length_limit;
	cc->header_bytes = (size_t)p->header_size_limit;
	cc->mime = (struct mime_limits){ .nesting = (size_t)p->mime_nesting_limit,
					 .boundary_bytes = (size_t)p->mime_boundary_length_limit };
	err = generic_open(c, ct, &cc->generic, d);
	cc->remote = err == 0 && cc->generic != NULL && generic_is_remote(cc->generic);
	if (err == 0)
		err = open_tables(cc, c, p, lmtp, d);
	if (err < 0)
		convert_conf_close(cc_r);
	return err;
}

struct convert_conf *convert_conf_input(const struct params *p)
{
	struct convert_conf *cc = xcalloc(1, sizeof(*cc));

	cc->program = "cleanup";
	cc->downgrade = cc->deep_is_body = true;
	cc->piece_bytes = (size_t)p->line_length_limit;
	/* what is too long is for who reads the header then to cut */
	cc->header_bytes = 2 * size_max((size_t)p->header_size_limit, MIME_NAME_MAX_BYTES);
	cc->mime = (struct mime_limits){ .nesting = (size_t)p->mime_nesting_limit,
					 .boundary_bytes = (size_t)p->mime_boundary_length_limit };
	return cc;
}

void convert_conf_close(struct convert_conf **ccp)
{
	struct convert_conf *cc = *ccp;

	if (cc == NULL)
		return;
	generic_close(&cc->generic);
	for (unsigned i = 0; i < CONVERT_CLASSES; i++)
		map_list_close(&cc->tables[i]);
	free(cc);
	*ccp = NULL;
}

/* ---- headers ---- */

static void put_head(struct convert *cv, struct sv head)
{
	while (head.len > 0) {
		const char *nl = memchr(head.p, '\n', head.len);
		size_t len = nl == NULL ? head.len : (size_t)(nl - head.p),
		       step = len + (nl != NULL);

		convert_put(cv, (struct sv){ head.p, len }, true);
		head = (struct sv){ head.p + step, head.len - step };
	}
}

static struct sv map_address(void *ctx, struct sv addr)
{
	struct convert *cv = ctx;
	struct sv out;
	int err = generic_apply(cv->conf->generic, addr, &cv->arena, &out);

	if (err == 0)
		return out;
	if (cv->err == 0 && !(cv->asking && map_memo_is_missing()))
		cv->err = err == E_AGAIN ? E_AGAIN : E_NOMEM;
	return addr;
}

/* Puts the header out with the addresses that the maps give; false: nothing changes. */
static bool put_mapped(struct convert *cv, struct sv head, size_t name_len, size_t colon)
{
	static const struct addr_rules as_it_is = { .append_at_myorigin = false };
	struct sv name = { head.p, name_len }, value = { head.p + colon + 1, head.len - colon - 1 };
	struct buf mapped = BUF_INIT;
	bool changed;

	if (cv->conf->generic == NULL || cv->mime.place != MIME_PRIMARY || !addr_is_header(name))
		return false;
	arena_reset(&cv->arena);
	buf_add(&mapped, head.p, colon + 1);
	changed = addr_rewrite_header(&as_it_is, value, map_address, cv, &mapped);
	if (changed)
		put_head(cv, buf_sv(&mapped));
	buf_fini(&mapped);
	return changed;
}

/* A complete logical header, changed or not. One of ours is for the tables of its place, as in
 * Postfix. */
static void header_out(struct convert *cv, struct sv head, bool ours)
{
	size_t name_len, colon;
	struct buf replaced = BUF_INIT;
	enum convert_class class = cv->mime.place == MIME_NESTED    ? CONVERT_NESTED
				   : cv->mime.place == MIME_PRIMARY ? CONVERT_HEADER
								    : CONVERT_MIME;

	if (mime_header_name(head, &name_len, &colon) != MIME_NAME_YES) {
		put_head(cv, head);
		return;
	}
	if (!ours && mime_is_mime_header((struct sv){ head.p, name_len }))
		class = CONVERT_MIME;
	switch (convert_check(cv, class, head)) {
	case CONVERT_DROP:
		return;
	case CONVERT_REPLACED:
		/* one header; what is a further line in the table's text continues it */
		for (size_t i = 0; i < cv->text.len; i++) {
			buf_add_c(&replaced, cv->text.p[i]);
			if (cv->text.p[i] == '\n' && i + 1 < cv->text.len &&
			    !ascii_is_space(cv->text.p[i + 1]))
				buf_add_c(&replaced, '\t');
		}
		head = buf_sv(&replaced);
		mime_header_name(head, &name_len, &colon);
		break;
	case CONVERT_KEEP:
		break;
	}
	if (!put_mapped(cv, head, name_len, colon))
		put_head(cv, head);
	buf_fini(&replaced);
}

static bool is_encoding_header(struct sv head)
{
	size_t name_len, colon;

	return mime_header_name(head, &name_len, &colon) == MIME_NAME_YES &&
	       sv_eq_nocase((struct sv){ head.p, name_len }, SV("Content-Transfer-Encoding"));
}

/* The encoding of what is to be converted is said at the end of the header section, when it is
 * known whether it has parts. */
static void flush_head(struct convert *cv)
{
	struct sv head = buf_sv(&cv->head);

	if (head.len == 0)
		return;
	mime_header(&cv->mime, head);
	if (!cv->downgrade || !cv->mime.eight || !is_encoding_header(head))
		header_out(cv, head, false);
	buf_reset(&cv->head);
}

static void headers_end(struct convert *cv, struct sv bad)
{
	bool primary = cv->mime.place == MIME_PRIMARY, blank = bad.len == 0;

	flush_head(cv);
	if (cv->downgrade && cv->mime.eight)
		header_out(cv,
			   mime_is_opaque(&cv->mime)
				   ? SV("Content-Transfer-Encoding: quoted-printable")
				   : SV("Content-Transfer-Encoding: 7bit"),
			   true);
	if (cv->downgrade && cv->mime.too_deep && !cv->conf->deep_is_body)
		cv->err = E_LIMIT;
	mime_headers_end(&cv->mime, blank);
	if (primary && !blank) {
		convert_put(cv, SV(""), true);
		buf_add(&cv->bad_end, bad.p, size_min(bad.len, CONVERT_END_BYTES));
	}
}

/* What is past header_size_limit is dropped, as when mail is received. */
static void head_add(struct convert *cv, struct sv text)
{
	size_t room = cv->conf->header_bytes - size_min(cv->conf->header_bytes, cv->head.len);

	buf_add(&cv->head, text.p, size_min(text.len, room));
}

/* False: the header section is over, and the line is the first behind it. */
static bool head_line(struct convert *cv, struct sv text, bool cont)
{
	size_t name_len, colon;

	if (cont && cv->head.len == 0)
		return false;
	if (cont) {
		head_add(cv, text);
		return true;
	}
	if (cv->head.len > 0 && text.len > 0 && (text.p[0] == ' ' || text.p[0] == '\t')) {
		head_add(cv, SV("\n"));
		head_add(cv, text);
		return true;
	}
	flush_head(cv);
	if (mime_header_name(text, &name_len, &colon) == MIME_NAME_YES) {
		head_add(cv, (struct sv){ text.p, name_len });
		head_add(cv, (struct sv){ text.p + colon, text.len - colon });
		return true;
	}
	headers_end(cv, text);
	return false;
}

/* ---- body ---- */

static void body_out(struct convert *cv, struct sv text, bool hard)
{
	switch (convert_check(cv, CONVERT_BODY, text)) {
	case CONVERT_KEEP:
		convert_put(cv, text, hard);
		break;
	case CONVERT_REPLACED:
		convert_put(cv, buf_sv(&cv->text), hard);
		break;
	case CONVERT_DROP:
		if (hard && cv->out_mid)
			convert_put(cv, SV(""), true);
		break;
	}
}

static void encode_byte(struct buf *b, unsigned char c)
{
	static const char hex[] = "0123456789ABCDEF";

	buf_add_c(b, '=');
	buf_add_c(b, hex[c >> 4]);
	buf_add_c(b, hex[c & 15]);
}

/* Quoted-printable as Postfix makes it. White space at the end of a line would get lost. */
static void encode(struct convert *cv, struct sv text, bool hard)
{
	struct buf *b = &cv->encoded;

	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (b->len > SOFT_BREAK_AT) {
			buf_add_c(b, '=');
			body_out(cv, buf_sv(b), true);
			buf_reset(b);
		}
		if ((c < 32 && c != '\t') || c == '=' || c > 126)
			encode_byte(b, c);
		else
			buf_add_c(b, (char)c);
	}
	if (!hard)
		return;
	if (b->len > 0 && (b->p[b->len - 1] == ' ' || b->p[b->len - 1] == '\t')) {
		unsigned char last = (unsigned char)b->p[--b->len];

		encode_byte(b, last);
	}
	body_out(cv, buf_sv(b), true);
	buf_reset(b);
}

/* A line without its line end, or a piece of a long one, in wire form. */
static void take_text(struct convert *cv, struct sv text, bool hard)
{
	bool cont = cv->mid_line;

	cv->mid_line = !hard;
	if (!cont && text.len > 0 && text.p[0] == '.')
		text = (struct sv){ text.p + 1, text.len - 1 };
	if (cv->mime.place != MIME_BODY && head_line(cv, text, cont))
		return;
	if (!cont)
		mime_line(&cv->mime, text);
	if (cv->downgrade && cv->mime.eight)
		encode(cv, text, hard);
	else
		body_out(cv, text, hard);
}

/* Nothing of what follows can matter; long lines are the one thing that remains to be looked for,
 * and the caller of convert_begin() knows of them only for what was there before. */
static bool is_passive(const struct convert *cv)
{
	return cv->mime.place == MIME_BODY && cv->line.len == 0 && !cv->mid_line && !cv->out_mid &&
	       !cv->conf->body_checks && cv->conf->line_limit == 0 &&
	       !(cv->downgrade && cv->mime.eight) && !mime_has_levels(&cv->mime);
}

/* How much of `data` completes the line, or the piece of it, that began in cv->line. A CR is always
 * followed by its LF in the spool, and the two stay together here. */
static bool next_piece(const struct convert *cv, struct sv data, size_t *n_r, bool *hard_r)
{
	size_t room = cv->conf->piece_bytes + 2 - cv->line.len;
	const char *nl = memchr(data.p, '\n', size_min(data.len, room + 1));

	*hard_r = nl != NULL;
	*n_r = nl != NULL ? (size_t)(nl + 1 - data.p) : room - size_min(room, 2);
	return nl != NULL || data.len > room;
}

static struct sv without_line_end(struct sv text, bool hard)
{
	for (unsigned i = 0; hard && i < 2 && text.len > 0; i++) {
		if (text.p[text.len - 1] == (i == 0 ? '\n' : '\r'))
			text.len--;
	}
	return text;
}

/* The gathered line. A piece of one is cut at the same place wherever the data was cut. */
static void take_line(struct convert *cv, bool hard)
{
	struct sv text = without_line_end(buf_sv(&cv->line), hard);

	if (!hard)
		text.len = size_min(text.len, cv->conf->piece_bytes);
	take_text(cv, text, hard);
	if (hard)
		buf_reset(&cv->line);
	else
		buf_consume(&cv->line, text.len);
}

void convert_feed(struct convert *cv, struct sv data)
{
	while (data.len > 0 && cv->err == 0) {
		bool hard;
		size_t n;

		const char *end = is_passive(cv) ? memrchr(data.p, '\n', data.len) : NULL;

		if (end != NULL) { /* whole lines as they are */
			n = (size_t)(end + 1 - data.p);
			buf_add(cv->out, data.p, n);
			data = (struct sv){ data.p + n, data.len - n };
			continue;
		}
		if (!next_piece(cv, data, &n, &hard)) {
			buf_add_sv(&cv->line, data);
			return;
		}
		if (cv->line.len > 0) {
			buf_add(&cv->line, data.p, n);
			take_line(cv, hard);
		} else {
			take_text(cv, without_line_end((struct sv){ data.p, n }, hard), hard);
		}
		data = (struct sv){ data.p + n, data.len - n };
	}
}

/* ---- begin and end ---- */

void convert_begin(struct convert *cv, const struct convert_conf *cc, const char *qid,
		   bool downgrade, struct buf *out)
{
	struct mime_limits limits = cc->mime;

	*cv = (struct convert){
		.conf = cc, .qid = qid, .downgrade = downgrade, .out = out, .room = cc->line_limit
	};
	limits.encoding = downgrade;
	limits.disabled = !downgrade && !cc->header_checks && !cc->body_checks;
	mime_begin(&cv->mime, &limits);
	arena_init(&cv->arena, ARENA_CHUNK, ARENA_LIMIT);
}

void convert_end(struct convert *cv)
{
	if (cv->line.len > 0 || cv->mid_line)
		take_text(cv, buf_sv(&cv->line), true);
	buf_reset(&cv->line);
	if (cv->mime.place != MIME_BODY)
		headers_end(cv, SV(""));
	if (cv->out_mid)
		convert_put(cv, SV(""), true);
}

void convert_ask_begin(struct convert *cv, const struct convert_conf *cc, struct buf *scratch)
{
	static const char no_qid[] = "";

	convert_begin(cv, cc, no_qid, false, scratch);
	cv->asking = true;
	cv->mime.limits.disabled = true;
}

bool convert_ask(struct convert *cv, struct sv data)
{
	convert_feed(cv, data);
	buf_reset(cv->out);
	return cv->err == 0 && cv->mime.place == MIME_PRIMARY;
}

void convert_fini(struct convert *cv)
{
	mime_fini(&cv->mime);
	arena_fini(&cv->arena);
	buf_fini(&cv->line);
	buf_fini(&cv->head);
	buf_fini(&cv->encoded);
	buf_fini(&cv->value);
	buf_fini(&cv->text);
	buf_fini(&cv->bad_end);
}
