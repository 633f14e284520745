/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frames of the milter protocol; see workers/milter/codec.h. */
#include "workers/milter/codec.h"

#include <string.h>

#include "lib/err.h"
#include "lib/log.h"

#define HEAD_BYTES 4u

struct name {
	char letter;
	const char *text;
};

static const struct name commands[] = {
	{ MILTER_ABORT, "SMFIC_ABORT" },     { MILTER_BODY, "SMFIC_BODY" },
	{ MILTER_CONNECT, "SMFIC_CONNECT" }, { MILTER_MACRO, "SMFIC_MACRO" },
	{ MILTER_END, "SMFIC_BODYEOB" },     { MILTER_HELO, "SMFIC_HELO" },
	{ MILTER_HEADER, "SMFIC_HEADER" },   { MILTER_MAIL, "SMFIC_MAIL" },
	{ MILTER_EOH, "SMFIC_EOH" },         { MILTER_NEGOTIATE, "SMFIC_OPTNEG" },
	{ MILTER_QUIT, "SMFIC_QUIT" },       { MILTER_RCPT, "SMFIC_RCPT" },
	{ MILTER_DATA, "SMFIC_DATA" },       { MILTER_UNKNOWN, "SMFIC_UNKNOWN" },
};

static const struct name answers[] = {
	{ MILTER_ADD_RCPT, "SMFIR_ADDRCPT" },
	{ MILTER_DEL_RCPT, "SMFIR_DELRCPT" },
	{ MILTER_ADD_RCPT_PAR, "SMFIR_ADDRCPT_PAR" },
	{ MILTER_SHUTDOWN, "SMFIR_SHUTDOWN" },
	{ MILTER_ACCEPT, "SMFIR_ACCEPT" },
	{ MILTER_REPLACE_BODY, "SMFIR_REPLBODY" },
	{ MILTER_CONTINUE, "SMFIR_CONTINUE" },
	{ MILTER_DISCARD, "SMFIR_DISCARD" },
	{ MILTER_CHANGE_FROM, "SMFIR_CHGFROM" },
	{ MILTER_ADD_HEADER, "SMFIR_ADDHEADER" },
	{ MILTER_INSERT_HEADER, "SMFIR_INSHEADER" },
	{ MILTER_CHANGE_HEADER, "SMFIR_CHGHEADER" },
	{ MILTER_PROGRESS, "SMFIR_PROGRESS" },
	{ MILTER_QUARANTINE, "SMFIR_QUARANTINE" },
	{ MILTER_REJECT, "SMFIR_REJECT" },
	{ MILTER_SKIP, "SMFIR_SKIP" },
	{ MILTER_TEMPFAIL, "SMFIR_TEMPFAIL" },
	{ MILTER_REPLY_CODE, "SMFIR_REPLYCODE" },
};

static const char *name_of(const struct name *names, size_t count, char letter, const char *none)
{
	for (size_t i = 0; i < count; i++) {
		if (names[i].letter == letter)
			return names[i].text;
	}
	return none;
}

const char *milter_command_name(char command)
{
	return name_of(commands, ARRAY_LEN(commands), command, "(unknown MTA event)");
}

const char *milter_answer_name(char answer)
{
	return name_of(answers, ARRAY_LEN(answers), answer, "(unknown filter reply)");
}

/* ---- to the milter ---- */

static void put_at(char *p, uint32_t v)
{
	p[0] = (char)(v >> 24);
	p[1] = (char)(v >> 16);
	p[2] = (char)(v >> 8);
	p[3] = (char)v;
}

void milter_put_u32(struct buf *out, uint32_t v)
{
	char p[4];

	put_at(p, v);
	buf_add(out, p, sizeof(p));
}

void milter_put_u16(struct buf *out, uint16_t v)
{
	buf_add_c(out, (char)(v >> 8));
	buf_add_c(out, (char)v);
}

size_t milter_begin(struct buf *out, char command)
{
	size_t mark = out->len;

	milter_put_u32(out, 0);
	buf_add_c(out, command);
	return mark;
}

void milter_put_string(struct buf *out, struct sv s)
{
	size_t mark = out->len;

	buf_add_sv(out, s);
	for (size_t i = mark; i < out->len; i++) {
		if (out->p[i] == '\0')
			out->p[i] = ' ';
	}
	buf_add_c(out, '\0');
}

void milter_end(struct buf *out, size_t mark)
{
	ASSERT(out->len > mark + HEAD_BYTES);
	put_at(out->p + mark, (uint32_t)(out->len - mark - HEAD_BYTES));
}

/* ---- from the milter ---- */

bool milter_get_u32(struct sv *rest, uint32_t *v_r)
{
	const unsigned char *p = (const unsigned char *)rest->p;

	if (rest->len < 4)
		return false;
	*v_r = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	*rest = (struct sv){ rest->p + 4, rest->len - 4 };
	return true;
}

bool milter_get_string(struct sv *rest, struct sv *s_r)
{
	const char *nul = rest->len > 0 ? memchr(rest->p, '\0', rest->len) : NULL;

	if (nul == NULL)
		return false;
	*s_r = (struct sv){ rest->p, (size_t)(nul - rest->p) };
	*rest = (struct sv){ nul + 1, rest->len - s_r->len - 1 };
	return true;
}

int milter_frame_get(struct sv in, struct milter_frame *f_r, size_t *used_r)
{
	struct sv rest = in;
	uint32_t len;

	if (!milter_get_u32(&rest, &len))
		return E_AGAIN;
	*used_r = len;
	if (len == 0)
		return E_SYNTAX;
	if (len > MILTER_FRAME_MAX)
		return E_LIMIT;
	if (rest.len < len)
		return E_AGAIN;
	*f_r = (struct milter_frame){ rest.p[0], { rest.p + 1, len - 1 } };
	*used_r = HEAD_BYTES + len;
	return 0;
}

/* ---- replies ---- */

static bool is_reply_line(struct sv line, const char *code, bool last)
{
	if (line.len < 4 || (line.p[0] != '4' && line.p[0] != '5') || !ascii_is_digit(line.p[1]) ||
	    !ascii_is_digit(line.p[2]) || line.p[3] != (last ? ' ' : '-'))
		return false;
	/* an enhanced status code says the same */
	if (line.len > 4 && ascii_is_digit(line.p[4]) && line.p[4] != line.p[0])
		return false;
	return memcmp(line.p, code, 3) == 0;
}

/* One line, with the format characters of libmilter taken out. */
static void add_unescaped(struct sv line, struct buf *out)
{
	for (size_t i = 0; i < line.len; i++) {
		if (line.p[i] == '%' && ++i == line.len)
			break;
		buf_add_c(out, line.p[i]);
	}
}

bool milter_reply_text(struct sv data, struct buf *out)
{
	const char *code = data.p;

	if (data.len > 0 && data.p[data.len - 1] == '\0')
		data.len--;
	buf_reset(out);
	if (data.len < 4 || memchr(data.p, '\0', data.len) != NULL)
		return false;
	for (;;) {
		size_t n = 0;

		while (n < data.len && data.p[n] != '\r' && data.p[n] != '\n')
			n++;
		struct sv line = { data.p, n };
		bool last = n == data.len;

		if (!is_reply_line(line, code, last))
			return false;
		add_unescaped(line, out);
		if (last)
			return true;
		if (data.len < n + 2 || data.p[n] != '\r' || data.p[n + 1] != '\n')
			return false;
		buf_add_str(out, "\r\n");
		data = (struct sv){ data.p + n + 2, data.len - n - 2 };
	}
}
