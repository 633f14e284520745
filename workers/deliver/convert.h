/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Content that leaves otherwise than it came: smtp_generic_maps in the message's own headers,
 * smtp_header_checks and its kin, smtp_body_checks (the lmtp_ ones, too), quoted-printable for a
 * server without 8BITMIME (RFC 6152, RFC 2045), lines broken at smtp_line_length_limit.
 *
 * The same is done to what comes in with force_mime_input_conversion, without tables.
 *
 * A stream: wire form goes in piece by piece as it is read from the spool, wire form comes out.
 * Memory is one logical header (header_size_limit), one piece of a line (line_length_limit), and
 * the open MIME boundaries. Most mail needs none of this and never comes here: convert_is_needed()
 * tells by what the record says and what the transport's tables are. Called by changed.c and by
 * workers/rewrite/message.c.
 */
#ifndef PH_WORKERS_DELIVER_CONVERT_H
#define PH_WORKERS_DELIVER_CONVERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "conf/map.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/str.h"
#include "workers/deliver/generic.h"
#include "workers/mail/mime.h"

enum convert_class { CONVERT_HEADER, CONVERT_MIME, CONVERT_NESTED, CONVERT_BODY, CONVERT_CLASSES };

struct convert_conf {        /* of one transport */
	const char *program; /* log tag */
	bool remote;         /* the generic maps ask remote tables */
	struct generic *generic;
	struct map_list *tables[CONVERT_CLASSES];
	const char *names[CONVERT_CLASSES]; /* of the parameters */
	bool header_checks, body_checks;
	bool downgrade;      /* not disable_mime_output_conversion */
	size_t line_limit;   /* smtp_line_length_limit, 0 = none */
	size_t piece_bytes;  /* line_length_limit */
	size_t header_bytes; /* header_size_limit */
	struct mime_limits mime;
	bool deep_is_body; /* parts beyond mime_nesting_limit are no error */
};

#define CONVERT_END_BYTES 100u

struct convert { /* one message */
	const struct convert_conf *conf;
	const char *qid;
	bool downgrade;
	struct buf *out;
	int err;     /* E_AGAIN: a table could not be asked; E_LIMIT: attachments nested too deep */
	bool asking; /* convert_ask(): what comes out is worth nothing */
	struct mime mime;
	struct buf line;    /* a line, or a piece of a long one, that is not complete yet */
	bool mid_line;      /* `line` continues a line of which a piece was seen already */
	struct buf head;    /* a logical header, LF between its lines */
	struct buf encoded; /* a line in quoted-printable */
	struct buf value, text;
	struct arena arena; /* addresses of one header */
	/* the message's own header ends with this line, not with an empty one, which is put there;
	 * at most CONVERT_END_BYTES of it, "" when all is well */
	struct buf bad_end;
	bool broke_line; /* and said so */
	bool out_mid;    /* the last byte put out is inside a line */
	size_t room;     /* bytes that this line may still have */
};

int convert_conf_open(const struct conf *c, const struct conf_transport *ct,
		      struct convert_conf **cc_r, struct conf_diag *d);
/* For what comes in: 8-bit parts become quoted-printable, nothing else changes. */
struct convert_conf *convert_conf_input(const struct params *p);
void convert_conf_close(struct convert_conf **cc);

/* `longest`: bytes of the message's longest line, 0 = not known. */
static inline bool convert_is_needed(const struct convert_conf *cc, bool downgrade,
				     uint64_t longest)
{
	return downgrade || cc->generic != NULL || cc->header_checks || cc->body_checks ||
	       (cc->line_limit > 0 && (longest == 0 || longest > cc->line_limit));
}

/* `cv` is zero or was finished before; the other arguments must outlive the message. */
void convert_begin(struct convert *cv, const struct convert_conf *cc, const char *qid,
		   bool downgrade, struct buf *out);
/* Nothing sensible comes out when cv->err is set afterwards. */
void convert_feed(struct convert *cv, struct sv data);
void convert_end(struct convert *cv);
void convert_fini(struct convert *cv);

/* Within a memo, for generic maps in remote tables (conf/map_remote.h): looks up the addresses of
 * the message's own header, and does nothing else. After convert_ask_begin() content is fed to
 * convert_ask() as long as that says true. */
void convert_ask_begin(struct convert *cv, const struct convert_conf *cc, struct buf *scratch);
bool convert_ask(struct convert *cv, struct sv data);

#endif
