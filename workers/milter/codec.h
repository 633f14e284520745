/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The milter protocol on the wire, as libmilter speaks it (versions 2 to 6): frames of a length
 * (4 bytes, big endian, of what follows), a letter and data. Pure functions over bytes: nothing
 * that a milter sends is believed before it was looked at here. Called by client.c and message.c.
 */
#ifndef PH_WORKERS_MILTER_CODEC_H
#define PH_WORKERS_MILTER_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/str.h"

enum milter_command { /* to the milter */
		      MILTER_ABORT = 'A',
		      MILTER_BODY = 'B',
		      MILTER_CONNECT = 'C',
		      MILTER_MACRO = 'D',
		      MILTER_END = 'E',
		      MILTER_HELO = 'H',
		      MILTER_HEADER = 'L',
		      MILTER_MAIL = 'M',
		      MILTER_EOH = 'N',
		      MILTER_NEGOTIATE = 'O',
		      MILTER_QUIT = 'Q',
		      MILTER_RCPT = 'R',
		      MILTER_DATA = 'T',
		      MILTER_UNKNOWN = 'U',
};

enum milter_answer { /* from the milter */
		     MILTER_ADD_RCPT = '+',
		     MILTER_DEL_RCPT = '-',
		     MILTER_ADD_RCPT_PAR = '2',
		     MILTER_SHUTDOWN = '4',
		     MILTER_ACCEPT = 'a',
		     MILTER_REPLACE_BODY = 'b',
		     MILTER_CONTINUE = 'c',
		     MILTER_DISCARD = 'd',
		     MILTER_CHANGE_FROM = 'e',
		     MILTER_ADD_HEADER = 'h',
		     MILTER_INSERT_HEADER = 'i',
		     MILTER_CHANGE_HEADER = 'm',
		     MILTER_PROGRESS = 'p',
		     MILTER_QUARANTINE = 'q',
		     MILTER_REJECT = 'r',
		     MILTER_SKIP = 's',
		     MILTER_TEMPFAIL = 't',
		     MILTER_REPLY_CODE = 'y',
};

enum {                                 /* what a milter may ask for: actions */
       MILTER_MAY_ADD_HEADERS = 1,     /* SMFIF_ADDHDRS */
       MILTER_MAY_CHANGE_BODY = 2,     /* SMFIF_CHGBODY */
       MILTER_MAY_ADD_RCPT = 4,        /* SMFIF_ADDRCPT */
       MILTER_MAY_DEL_RCPT = 8,        /* SMFIF_DELRCPT */
       MILTER_MAY_CHANGE_HEADERS = 16, /* SMFIF_CHGHDRS */
       MILTER_MAY_QUARANTINE = 32,     /* SMFIF_QUARANTINE */
       MILTER_MAY_CHANGE_FROM = 64,    /* SMFIF_CHGFROM */
       MILTER_MAY_ADD_RCPT_PAR = 128,  /* SMFIF_ADDRCPT_PAR */
       MILTER_MAY_SET_MACROS = 256,    /* SMFIF_SETSYMLIST */
       MILTER_MAY_ALL = 511,
};

enum { /* steps of the protocol: what is not sent (NO), not answered (NR), and extensions */
       MILTER_NO_CONNECT = 1 << 0,
       MILTER_NO_HELO = 1 << 1,
       MILTER_NO_MAIL = 1 << 2,
       MILTER_NO_RCPT = 1 << 3,
       MILTER_NO_BODY = 1 << 4,
       MILTER_NO_HEADERS = 1 << 5,
       MILTER_NO_EOH = 1 << 6,
       MILTER_NR_HEADER = 1 << 7,
       MILTER_NO_UNKNOWN = 1 << 8,
       MILTER_NO_DATA = 1 << 9,
       MILTER_CAN_SKIP = 1 << 10,
       MILTER_REJECTED_RCPT = 1 << 11, /* wants recipients that are refused already */
       MILTER_NR_CONNECT = 1 << 12,
       MILTER_NR_HELO = 1 << 13,
       MILTER_NR_MAIL = 1 << 14,
       MILTER_NR_RCPT = 1 << 15,
       MILTER_NR_DATA = 1 << 16,
       MILTER_NR_UNKNOWN = 1 << 17,
       MILTER_NR_EOH = 1 << 18,
       MILTER_NR_BODY = 1 << 19,
       MILTER_LEADING_SPACE = 1 << 20,
       MILTER_NO_MASK = 0x37f, /* all NO_ */
};

enum milter_macro_stage { /* as SMFIR_SETSYMLIST numbers them */
			  MILTER_AT_CONNECT,
			  MILTER_AT_HELO,
			  MILTER_AT_MAIL,
			  MILTER_AT_RCPT,
			  MILTER_AT_DATA,
			  MILTER_AT_END,
			  MILTER_AT_EOH,
			  MILTER_AT_UNKNOWN, /* not on the wire */
			  MILTER_STAGES
};

/* A body goes in pieces of so many bytes. */
#define MILTER_CHUNK_BYTES 65535u
/* What a milter may send in one frame. libmilter's own are below 64 KB but for headers. */
#define MILTER_FRAME_MAX (4u << 20)

/* ---- to the milter ---- */

/* milter_begin(), any number of milter_put_*(), milter_end() with what the first gave. */
size_t milter_begin(struct buf *out, char command);
void milter_put_u32(struct buf *out, uint32_t v);
void milter_put_u16(struct buf *out, uint16_t v);
/* With its NUL; NULs inside become blanks. */
void milter_put_string(struct buf *out, struct sv s);
void milter_end(struct buf *out, size_t mark);

/* ---- from the milter ---- */

struct milter_frame {
	char answer;
	struct sv data;
};

/* The first frame of `in`: its whole length in *used_r. 0; E_AGAIN when bytes are missing;
 * E_SYNTAX for a length of 0 and E_LIMIT for one beyond MILTER_FRAME_MAX, with the length in
 * *used_r. */
int milter_frame_get(struct sv in, struct milter_frame *f_r, size_t *used_r);
/* Take the first part off `rest`; false when there is none of that form. A string's view is without
 * its NUL. */
bool milter_get_u32(struct sv *rest, uint32_t *v_r);
bool milter_get_string(struct sv *rest, struct sv *s_r);

/* The text of MILTER_REPLY_CODE: lines "ddd[ -]text", CRLF between them, of one 4xx or 5xx code;
 * "%%" becomes "%" and a single "%" nothing. False when it is not such a text. */
bool milter_reply_text(struct sv data, struct buf *out);

/* Names for the log: "SMFIC_MAIL", "SMFIR_CONTINUE"; "(unknown ...)". */
const char *milter_command_name(char command);
const char *milter_answer_name(char answer);

#endif
