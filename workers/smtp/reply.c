/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SMTP replies; see workers/smtp/reply.h. Called by smtp-in (make, write) and deliver (parse). */
#include "workers/smtp/reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"

size_t smtp_dsn_parse(struct sv s, uint8_t dsn[3])
{
	size_t pos = 0;

	for (int part = 0; part < 3; part++) {
		unsigned value = 0;
		size_t begin = pos;

		while (pos < s.len && pos - begin < 3 && ascii_is_digit(s.p[pos]))
			value = value * 10 + (unsigned)(s.p[pos++] - '0');
		if (pos == begin || value > 255)
			return 0;
		dsn[part] = (uint8_t)value;
		if (part < 2 && (pos == s.len || s.p[pos++] != '.'))
			return 0;
	}
	if (pos < s.len && s.p[pos] != ' ')
		return 0;
	return dsn[0] == 2 || dsn[0] == 4 || dsn[0] == 5 ? pos : 0;
}

struct smtp_reply smtp_reply_make(uint16_t code, const char *dsn, const char *fmt, ...)
{
	struct smtp_reply r = { .code = code };
	va_list ap;

	if (dsn != NULL)
		ASSERT(smtp_dsn_parse(sv_from(dsn), r.dsn) > 0);
	va_start(ap, fmt);
	vsnprintf(r.text, sizeof(r.text), fmt, ap);
	va_end(ap);
	str_make_printable(r.text, strlen(r.text));
	return r;
}

/* The three digits of a reply code, 0 when there are none. */
static uint16_t parse_code(struct sv s)
{
	if (s.len < 3 || s.p[0] < '2' || s.p[0] > '5' || !ascii_is_digit(s.p[1]) ||
	    !ascii_is_digit(s.p[2]) || (s.len > 3 && ascii_is_digit(s.p[3])))
		return 0;
	return (uint16_t)((s.p[0] - '0') * 100 + (s.p[1] - '0') * 10 + (s.p[2] - '0'));
}

int smtp_reply_parse(struct sv text, struct smtp_reply *r)
{
	*r = (struct smtp_reply){ .code = parse_code(text) };
	if (r->code == 0 || r->code / 100 == 3 || (text.len > 3 && !ascii_is_space(text.p[3])))
		return E_SYNTAX;
	struct sv rest = sv_trim((struct sv){ text.p + 3, text.len - 3 });
	uint8_t dsn[3];
	size_t n = smtp_dsn_parse(rest, dsn);

	if (n > 0) {
		memcpy(r->dsn, dsn, sizeof(dsn));
		r->dsn[0] = (uint8_t)(r->code / 100);
		rest = sv_trim((struct sv){ rest.p + n, rest.len - n });
	}
	str_copy(r->text, sizeof(r->text), rest);
	for (size_t i = 0; i < sizeof(r->text) - 1 && i < rest.len; i++) {
		if (r->text[i] == '\0')
			r->text[i] = '?';
	}
	str_make_printable(r->text, strlen(r->text));
	return 0;
}

bool smtp_reply_write(const struct smtp_reply *r, struct buf *out)
{
	bool ok = buf_add_uint(out, r->code) && buf_add_c(out, ' ');

	for (int i = 0; i < 3 && ok && r->dsn[0] != 0; i++)
		ok = buf_add_uint(out, r->dsn[i]) && buf_add_c(out, i < 2 ? '.' : ' ');
	return ok && buf_add_str(out, r->text) && buf_add(out, "\r\n", 2);
}

void smtp_reply_parser_init(struct smtp_reply_parser *p)
{
	*p = (struct smtp_reply_parser){ .code = 0 };
	buf_init(&p->text, 0);
	buf_init(&p->line, SMTP_REPLY_LINE_MAX);
}

void smtp_reply_parser_fini(struct smtp_reply_parser *p)
{
	buf_fini(&p->text);
	buf_fini(&p->line);
}

void smtp_reply_parser_reset(struct smtp_reply_parser *p)
{
	if (p->text.cap > 2 * SMTP_REPLY_LINE_MAX)
		buf_fini(&p->text); /* a long reply is no reason to keep its memory */
	buf_reset(&p->text);
	buf_reset(&p->line);
	p->total_bytes = 0;
	p->code = 0;
	memset(p->dsn, 0, sizeof(p->dsn));
	p->has_dsn = p->complete = false;
}

static void last_line_dsn(struct smtp_reply_parser *p, struct sv line)
{
	uint8_t dsn[3];
	struct sv rest = line.len > 4 ? (struct sv){ line.p + 4, line.len - 4 } : SV("");

	p->has_dsn = smtp_dsn_parse(sv_trim(rest), dsn) > 0 && dsn[0] == p->code / 100;
	if (!p->has_dsn) {
		dsn[0] = (uint8_t)(p->code / 100);
		dsn[1] = dsn[2] = 0;
	}
	memcpy(p->dsn, dsn, sizeof(dsn));
}

/* p->line is complete (without its line end): 1, 0 or E_PEER. */
static int take_line(struct smtp_reply_parser *p)
{
	struct sv line = buf_sv(&p->line);

	if (line.len > 0 && line.p[line.len - 1] == '\r')
		line.len--;
	if (p->filter != NULL) {
		if (line.len < p->line.len)
			p->line.p[p->line.len = line.len] = '\0';
		if (p->filter(p->filter_ctx, &p->line) != 0)
			return E_AGAIN;
		line = buf_sv(&p->line);
	}
	if (line.len > 0)
		str_make_printable(p->line.p, line.len);
	p->code = parse_code(line);
	if (p->code == 0 || (line.len > 3 && line.p[3] != ' ' && line.p[3] != '-'))
		return E_PEER;
	if (p->text.len > 0)
		buf_add_c(&p->text, '\n');
	buf_add_sv(&p->text, line);
	if (line.len > 3 && line.p[3] == '-') {
		buf_reset(&p->line);
		return 0;
	}
	last_line_dsn(p, line);
	buf_reset(&p->line);
	p->complete = true;
	return 1;
}

int smtp_reply_parser_feed(struct smtp_reply_parser *p, const char *in, size_t len, size_t *used_r)
{
	size_t used = 0;
	int result = 0;

	if (p->complete)
		smtp_reply_parser_reset(p);
	while (used < len && result == 0) {
		const char *lf = memchr(in + used, '\n', len - used);
		size_t n = lf == NULL ? len - used : (size_t)(lf - (in + used));

		/* what is beyond the limit of a line is dropped, not an error */
		buf_add(&p->line, in + used, size_min(n, SMTP_REPLY_LINE_MAX - p->line.len));
		used += n + (lf != NULL);
		p->total_bytes += n + 1;
		if (p->total_bytes > SMTP_REPLY_TOTAL_MAX)
			result = E_LIMIT;
		else if (lf != NULL)
			result = take_line(p);
	}
	*used_r = used;
	return result;
}

void smtp_reply_parser_joined(const struct smtp_reply_parser *p, size_t max, struct buf *out)
{
	size_t n = size_min(p->text.len, max);

	for (size_t i = 0; i < n; i++)
		buf_add_c(out, p->text.p[i] == '\n' ? ' ' : p->text.p[i]);
}

bool smtp_reply_parser_line(const struct smtp_reply_parser *p, size_t *pos, struct sv *line_r)
{
	struct sv all = buf_sv(&p->text);

	if (*pos >= all.len)
		return false;
	const char *lf = memchr(all.p + *pos, '\n', all.len - *pos);
	size_t len = lf == NULL ? all.len - *pos : (size_t)(lf - (all.p + *pos));
	size_t skip = size_min(4, len);

	*line_r = (struct sv){ all.p + *pos + skip, len - skip };
	*pos += len + 1;
	return true;
}

int smtp_param_next(struct sv *rest, struct sv *key_r, struct sv *value_r, bool *has_value_r)
{
	struct sv s = sv_trim(*rest);
	size_t len = 0, key = 0;

	if (s.len == 0)
		return 0;
	while (len < s.len && s.p[len] != ' ' && s.p[len] != '\t') {
		if ((unsigned char)s.p[len] < ' ' || s.p[len] == 0x7f)
			return E_SYNTAX;
		len++;
	}
	while (key < len && (ascii_is_alnum(s.p[key]) || (key > 0 && s.p[key] == '-')))
		key++;
	*has_value_r = key < len;
	if (key == 0 || (key < len && s.p[key] != '=') || (key < len && key + 1 == len) ||
	    !str_is_utf8(s.p, len))
		return E_SYNTAX;
	*key_r = (struct sv){ s.p, key };
	*value_r = *has_value_r ? (struct sv){ s.p + key + 1, len - key - 1 } : SV("");
	*rest = (struct sv){ s.p + len, s.len - len };
	return 1;
}
