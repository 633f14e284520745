/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where in a MIME message (RFC 2045, 2046) one is: the caller brings the message's logical headers
 * and body lines in order, and learns whether what follows is header or body, and of what. Nothing
 * is decoded and no text is kept but boundaries, so memory is mime_nesting_limit times
 * mime_boundary_length_limit at most. Called by workers/rewrite/checks.c, workers/deliver/
 * convert.c and daemon/postmap_message.c.
 *
 * Broken structure never fails: like Postfix, what cannot be understood is body, and the next
 * boundary of any open level puts things right again.
 */
#ifndef PH_WORKERS_MAIL_MIME_H
#define PH_WORKERS_MAIL_MIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/str.h"

enum mime_place {
	MIME_PRIMARY, /* the message's own header section */
	MIME_PART,    /* the header section behind a boundary */
	MIME_NESTED,  /* the header section of an attached message */
	MIME_BODY,
};

enum mime_type { MIME_TYPE_OTHER, MIME_TYPE_MULTIPART, MIME_TYPE_MESSAGE };

struct mime_limits {
	size_t nesting;        /* mime_nesting_limit: deeper boundaries are not told apart */
	size_t boundary_bytes; /* mime_boundary_length_limit: longer ones are compared so far */
	bool disabled;         /* disable_mime_input_processing: all behind the header is body */
	bool encoding; /* 8-bit parts will be encoded: an attached message/global with 8 bits
			  becomes text, nobody can look for headers in it any more */
};

struct mime_level;

struct mime {
	struct mime_limits limits;
	enum mime_place place;
	enum mime_type type; /* of the part whose header is being read */
	bool global;         /* and it is a message/global (RFC 6532) */
	bool eight;    /* its Content-Transfer-Encoding, or that of the body, is 8bit or binary */
	bool encoded;  /* ... or quoted-printable or base64 */
	bool whole;    /* the part is a message/partial or message/external-body */
	bool too_deep; /* there was a boundary beyond the nesting limit */
	struct mime_level *levels;
	size_t depth, cap;
	size_t bytes; /* of the boundaries kept */
};

/* `m` is zero or was used before (its memory is kept). */
void mime_begin(struct mime *m, const struct mime_limits *limits);
void mime_fini(struct mime *m);
/* A complete logical header ("Name: value", may be folded) in any place but MIME_BODY. */
void mime_header(struct mime *m, struct sv header);
/* Before mime_headers_end(): does what the headers say break RFC 2045 6.4? Of parts and attached
 * messages only 7bit, 8bit and binary may be said, of message/partial and message/external-body
 * 7bit. */
bool mime_breaks_domain(const struct mime *m);
/* The header section has ended; with an empty line, or (blank false) with a line that is none of
 * it. Afterwards the place is MIME_NESTED or MIME_BODY. */
void mime_headers_end(struct mime *m, bool blank);
/* A body line without its line end, from its first byte. True: it is a boundary, and the place may
 * be another one for the next line. */
bool mime_line(struct mime *m, struct sv line);
/* While headers are read: will the body be data that can be encoded as a whole? Parts and attached
 * messages cannot. */
bool mime_is_opaque(const struct mime *m);
/* Can a line change the place at all? False: the rest of the message is plain body. */
bool mime_has_levels(const struct mime *m);

/*
 * Does a line begin with a header name and a colon? White space between them is tolerated, as in
 * Postfix. MAYBE: the bytes end before it shows. *name_len_r and *colon_r are set with YES.
 */
enum mime_name { MIME_NAME_YES, MIME_NAME_NO, MIME_NAME_MAYBE };
#define MIME_NAME_MAX_BYTES 1000u /* longer "names" are none */
enum mime_name mime_header_name(struct sv line, size_t *name_len_r, size_t *colon_r);
/* Is this the name of a header that describes content (Content-Type and kin, MIME-Version)? */
bool mime_is_mime_header(struct sv name);

#endif
