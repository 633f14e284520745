/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * header_checks, mime_header_checks, nested_header_checks and body_checks: tables that see every
 * logical header and every body line of incoming mail and say what is to be done
 * (header_checks(5)).
 *
 * checks_open() opens the tables, once. Per message: checks_begin(); checks_header() for each
 * header of the message itself, called by header.c; checks_headers_end(); checks_body() for the
 * bytes that follow, called by message.c, which finds attached headers by itself (workers/mail/
 * mime.h); checks_end(). The strict_* parameters and message_reject_characters,
 * message_strip_characters are judged on the way. Where no table is configured, checks_begin() says
 * so and the others are left out: such mail pays nothing.
 *
 * Memory per message: one logical header (header_size_limit), one line (line_length_limit), the
 * open MIME boundaries.
 */
#ifndef PH_WORKERS_REWRITE_CHECKS_H
#define PH_WORKERS_REWRITE_CHECKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "conf/map.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/log.h"
#include "lib/str.h"
#include "workers/mail/envelope.h"
#include "workers/mail/mime.h"
#include "workers/rewrite/badchars.h"

enum check_class {
	CHECK_HEADER,
	CHECK_MIME,
	CHECK_NESTED,
	CHECK_BODY,
	CHECK_MILTER,
	CHECK_CLASSES
};

enum check_result {
	CHECK_KEEP,
	CHECK_DROP,
	CHECK_REPLACED, /* by run->text */
};

struct checks { /* from the configuration */
	const char *log_name;
	struct map_list *tables[CHECK_CLASSES];
	bool any;
	bool strict_header, strict_body, strict_domain; /* 8 bits in them; encodings */
	int unended; /* non_empty_end_of_header_action, UNENDED_FIX when nobody is to know */
	struct badchars *chars; /* what content may not have, NULL = nothing */
	struct mime_limits mime;
	uint64_t body_bytes; /* body_checks_size_limit, UINT64_MAX = none */
	size_t line_bytes;   /* line_length_limit */
	size_t header_bytes; /* header_size_limit */
};

/* What an action decided about the message as a whole. */
struct check_refusal {
	uint16_t code; /* SMTP reply, 0 = not refused */
	uint8_t dsn[3];
	const char *text; /* in the arena, or constant */
};

struct check_run { /* one message */
	const struct checks *checks;
	struct envelope
		*env; /* its filter, redirect, flags and recipients are changed by actions */
	const char *qid;
	struct arena *arena;
	struct buf *out;  /* what remains of the body */
	bool out_mid;     /* what is in `out` ends within a line */
	bool off;         /* an action ended all checks (REJECT, DISCARD, PASS, REDIRECT) */
	bool table_error; /* a table could not be asked: 451 */
	struct check_refusal refusal;
	unsigned mime_faults; /* bits of enum mime_fault, each logged once */
	struct mime mime;
	uint64_t offset; /* in the body of the part, line ends count as one byte */
	struct buf line; /* a line, or a piece of a long one, that is not complete yet */
	bool mid_line;   /* `line` continues a line of which a piece was judged already */
	struct buf head; /* logical header of a part, LF between its lines */
	struct buf seen; /* a header as the tables see it: no line end at its end, "Name:" */
	struct buf value;
	struct buf text; /* a replacement */
	unsigned bcc_count;
	bool hold_log; /* all this may be done again: log lines wait in held_log */
	struct buf held_log;
};

/* `c` must outlive the result. Problems go to `d`; on error nothing is left open. */
/* p: the parameters of the cleanup service, or those of main.cf. */
int checks_open(const struct conf *c, const struct params *p, struct checks *k,
		struct conf_diag *d);
void checks_close(struct checks *k);

/* `run` is zero or was used before. False: nothing is checked in this message, and only
 * checks_fini() may follow. Arguments must live as long as the message is in work. */
bool checks_begin(struct check_run *run, const struct checks *k, struct envelope *env,
		  const char *qid, struct arena *arena, struct buf *out);
/* Content in wire form, before anything else is done with it: false when something must not be
 * there, and the message is refused; what is to be taken out is, and then *data is in `stripped`.
 */
bool checks_characters(struct check_run *run, struct sv *data, enum badchars_at *at,
		       struct buf *stripped);
/* milter_header_checks, when they are configured: the same for headers that milters add, which are
 * given as "Name: value" with LF between lines and changed in place. False: leave it out. */
bool checks_begin_milter(struct check_run *run, const struct checks *k, struct envelope *env,
			 const char *qid, struct arena *arena);
bool checks_milter_header(struct check_run *run, struct buf *header);
/* One logical header of the message itself in wire form, with its line ends. PREPENDed lines go to
 * run->out at once; with CHECK_REPLACED, run->text has the new one, in wire form too. */
enum check_result checks_header(struct check_run *run, struct sv header);
/* The header section ends with a line that is neither a header nor empty: what is said about that,
 * in the header (put out at once) or by a refusal. `line` is as much of it as is there. */
void checks_unended(struct check_run *run, struct sv line);
/* The header section is over (header.c has put out the empty line). */
void checks_headers_end(struct check_run *run, bool blank);
/* Body in wire form, as it comes; what remains of it goes to run->out. */
void checks_body(struct check_run *run, struct sv data);
/* The message has ended: puts out what was held back. */
void checks_end(struct check_run *run);
void checks_fini(struct check_run *run);
/* Bytes it holds. */
size_t checks_memory(const struct check_run *run);

/* ---- checks_strict.c: what Postfix's strict_* parameters forbid ---- */

enum mime_fault { /* the first one is what the client is told */
		  FAULT_NESTING,
		  FAULT_HEADER_8BIT,
		  FAULT_BODY_8BIT,
		  FAULT_DOMAIN,
		  FAULT_UNENDED,
		  FAULT_KINDS
};

void checks_fault(struct check_run *run, enum mime_fault fault, struct sv text);
/* At the end: refuses for the faults that were found. */
void checks_judge_faults(struct check_run *run);

/* ---- checks_act.c: one table's answer ---- */

extern const char *const check_class_names[CHECK_CLASSES]; /* of the parameters */
/* `seen` is what the table saw, `value` its answer. With CHECK_REPLACED the new text is in
 * run->text: no line end at its end, not dot-stuffed. */
enum check_result checks_act(struct check_run *run, enum check_class class, struct sv seen,
			     struct sv value);

/* Refused for a character: logged, and no table is asked any more. */
void checks_reject_character(struct check_run *run, struct sv line);

/* What is done may have to be done again from checks_begin() on: its log lines wait for
 * checks_settle(). */
void checks_hold(struct check_run *run);
void checks_settle(struct check_run *run);

/* ---- checks.c, for checks_act.c ---- */

/* A log line of cleanup's. */
void checks_log(struct check_run *run, enum log_level level, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

/* Put out text of an action as whole lines in wire form. A header's further lines are made
 * continuation lines: what a table made of a message cannot become a header of its own. */
void checks_put_text(struct check_run *run, struct sv text, bool header);

#endif
