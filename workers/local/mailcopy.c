/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content for mailbox files and commands; see workers/local/mailcopy.h. */
#include "workers/local/mailcopy.h"

#include <string.h>
#include <time.h>

#include "lib/mailaddr.h"

/* As asctime(3), whatever the locale. */
static void add_time(int64_t wall_s, struct buf *out)
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t t = (time_t)wall_s;
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL)
		memset(&tm, 0, sizeof(tm));
	buf_printf(out, "%.3s %.3s %2d %02d:%02d:%02d %d", days + 3 * tm.tm_wday,
		   months + 3 * tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		   tm.tm_year + 1900);
}

void copy_add_head(const struct copy_head *h, struct buf *out)
{
	if (h->flags & COPY_FROM) {
		buf_add_str(out, "From ");
		if (h->sender.len > 0)
			mail_addr_quote(h->sender, out);
		else
			buf_add_sv(out, h->null_from);
		buf_add_str(out, "  ");
		add_time(h->now_s, out);
		buf_add_sv(out, h->eol);
	}
	if (h->flags & COPY_RETURN_PATH) {
		buf_add_str(out, "Return-Path: <");
		if (h->sender.len > 0)
			mail_addr_quote(h->sender, out);
		else
			buf_add_sv(out, h->null_sender);
		buf_add_c(out, '>');
		buf_add_sv(out, h->eol);
	}
	if (h->flags & COPY_ORIGINAL_TO) {
		buf_add_str(out, "X-Original-To: ");
		mail_addr_quote(h->original_to, out);
		buf_add_sv(out, h->eol);
	}
	if (h->flags & COPY_DELIVERED_TO) {
		buf_add_str(out, "Delivered-To: ");
		mail_addr_quote(h->delivered, out);
		buf_add_sv(out, h->eol);
	}
}

bool copy_changes_body(unsigned flags, struct sv eol)
{
	return (flags & (COPY_QUOTE | COPY_DOTS | COPY_BLANK)) != 0 || !sv_eq(eol, SV("\n"));
}

static const char from_[5] = { 'F', 'r', 'o', 'm', ' ' };

/* The bytes of the line so far that are held back, as they are. */
static void let_go(struct copy_body *c, struct buf *out)
{
	buf_add(out, c->held, c->held_len);
	c->mid_line = c->mid_line || c->held_len > 0;
	c->held_len = 0;
}

/* At the start of a line: what goes in front of it. False: more must be seen. */
static bool begin_line(struct copy_body *c, const char **p, const char *end, struct buf *out)
{
	while (c->held_len < 4 && *p < end && (c->flags & COPY_QUOTE) != 0 &&
	       **p == from_[c->held_len])
		c->held[c->held_len++] = *(*p)++;
	if (*p == end && c->held_len > 0)
		return false;
	if (c->held_len == 4 && **p == from_[4])
		buf_add_c(out, '>');
	else if (c->held_len == 0 && (c->flags & COPY_DOTS) != 0 && **p == '.')
		buf_add_c(out, '.');
	let_go(c, out);
	return true;
}

void copy_add_body(struct copy_body *c, struct sv piece, struct buf *out)
{
	const char *p = piece.p, *end = piece.p + piece.len;

	while (p < end) {
		if (!c->mid_line && !begin_line(c, &p, end, out))
			return;
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl == NULL ? (size_t)(end - p) : (size_t)(nl - p);

		buf_add(out, p, n);
		c->mid_line = nl == NULL;
		if (nl == NULL)
			return;
		buf_add_sv(out, c->eol);
		p = nl + 1;
	}
}

void copy_end_body(struct copy_body *c, struct buf *out)
{
	let_go(c, out);
	if (c->mid_line)
		buf_add_sv(out, c->eol);
	if (c->flags & COPY_BLANK)
		buf_add_sv(out, c->eol);
	c->mid_line = false;
}
