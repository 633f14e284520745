/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SMTP replies: as a value that the server builds and formats, and as an incremental parser for
 * what servers answer to the client (RFC 5321 4.2, RFC 3463).
 */
#ifndef PH_WORKERS_SMTP_REPLY_H
#define PH_WORKERS_SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/str.h"
#include "lib/util.h"

#define SMTP_REPLY_TEXT_SIZE 512u /* with the terminator; more is cut off */

struct smtp_reply {
	uint16_t code;                   /* 200 .. 599; 0 = no reply */
	uint8_t dsn[3];                  /* enhanced status code; {0} = none is sent */
	char text[SMTP_REPLY_TEXT_SIZE]; /* one line, printable, without the codes */
};

/* dsn: "5.7.1", or NULL for none. Bytes that are not printable become '?'. */
struct smtp_reply smtp_reply_make(uint16_t code, const char *dsn, const char *fmt, ...)
	PRINTF_LIKE(3, 4);
/* "554 5.7.1 text" as tables and policy services give it; missing enhanced code: none is set. The
 * class of the enhanced code is made that of the reply code. E_SYNTAX when there is no 4xx or 5xx
 * (or 2xx) code. */
int smtp_reply_parse(struct sv text, struct smtp_reply *r);
/* Append "CODE D.S.N text\r\n". */
bool smtp_reply_write(const struct smtp_reply *r, struct buf *out);
/* "D.S.N" at the start of s: class 2, 4 or 5, then two numbers of 1 to 3 digits up to 255, then a
 * space or the end. Returns its length, 0 when there is none. */
size_t smtp_dsn_parse(struct sv s, uint8_t dsn[3]);

/* ---- the client's side ---- */

#define SMTP_REPLY_LINE_MAX  2048u  /* more of one line is dropped */
#define SMTP_REPLY_TOTAL_MAX 65536u /* a longer reply is a protocol violation */

/* May put another line into `line`, which has no line end; an error ends the session. */
typedef int (*smtp_reply_filter_fn)(void *ctx, struct buf *line);

struct smtp_reply_parser {
	smtp_reply_filter_fn filter; /* set after init; NULL = none */
	void *filter_ctx;
	struct buf text; /* complete lines so far, joined by '\n'; printable */
	struct buf line;
	size_t total_bytes; /* of this reply, as received */
	uint16_t code;      /* of the newest line; valid for the reply when it is complete */
	uint8_t dsn[3]; /* of the last line; {code class, 0, 0} when it has none of that class */
	bool has_dsn;
	bool complete;
};

void smtp_reply_parser_init(struct smtp_reply_parser *p);
void smtp_reply_parser_fini(struct smtp_reply_parser *p);
void smtp_reply_parser_reset(struct smtp_reply_parser *p); /* for the next reply; keeps memory */
/*
 * Feed bytes. 1: a reply is complete, *used_r says how many bytes it took (the rest belongs to the
 * next one). 0: all used, more needed. E_PEER: not an SMTP reply (the offending line is in
 * p->line). E_LIMIT: too long. E_AGAIN: the filter failed. Tolerated: a lone LF, a missing text,
 * other codes in earlier lines.
 */
int smtp_reply_parser_feed(struct smtp_reply_parser *p, const char *in, size_t len, size_t *used_r);
/* Whole reply with codes, lines joined by ' ', as logged ("said: ..."); at most max bytes. */
void smtp_reply_parser_joined(const struct smtp_reply_parser *p, size_t max, struct buf *out);
/* The lines without code and separator, e.g. EHLO keywords; *pos starts at 0. */
bool smtp_reply_parser_line(const struct smtp_reply_parser *p, size_t *pos, struct sv *line_r);

/* ---- parameters of MAIL and RCPT ---- */

/* Take the next KEY[=VALUE] from *rest. 1; 0 at the end; E_SYNTAX. has_value is false for "KEY". */
int smtp_param_next(struct sv *rest, struct sv *key_r, struct sv *value_r, bool *has_value_r);

#endif
