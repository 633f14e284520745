/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Content on the wire: from a peer into wire form (CRLF, dot-stuffed, no final dot), and from wire
 * form into a file's form. Scanning goes line by line with memchr, never byte by byte through a
 * callback, and gives the same result however the input is cut into chunks.
 *
 * Line ends. CRLF ends a line. A lone LF ends one, too, and becomes CRLF (bare_lf is set, the
 * caller rejects the message where smtpd_forbid_bare_newline says so). A lone CR becomes a space
 * (bare_cr): what leaves here holds CR and LF only as CRLF. A single dot before other text
 * at the start of a line goes (RFC 5321 4.5.2): here every line with a first dot has two. With
 * `strict_end` only CRLF "." CRLF ends the data; a "." line with any other ends is content and is
 * stored as "..": it can never end the data for the next hop (CVE-2023-51764). Without it LF "." LF
 * and the mixed forms end the data as well.
 */
#ifndef PH_WORKERS_SMTP_LINE_H
#define PH_WORKERS_SMTP_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct smtp_data {
	uint8_t state; /* private */
	uint8_t pend_len, pend_pos;
	char pend[6]; /* output that found no room */
	bool chunked; /* BDAT */
	bool strict_end;
	bool after_crlf; /* the line that is being read follows a CRLF (or the command) */
	bool done;       /* end of data was consumed */
	bool bare_lf, bare_cr, nul; /* seen in the content */
	uint64_t lines;             /* line ends written */
};

/* DATA: dot-stuffed input, ends at the final dot. */
void smtp_data_init(struct smtp_data *d, bool strict_end);
/* BDAT: raw input of known length; dots are stuffed here. Ends with smtp_data_end_chunks(). */
void smtp_data_init_chunked(struct smtp_data *d);
/*
 * Move bytes from in to out until the input, the room or the data ends. Returns how many bytes of
 * in were used; *out_len_r how many were written. When d->done is set everything is written and the
 * rest of the input is the next command. When the input is used up but smtp_data_pending() is not
 * 0, or not all of the input was used, give it more room.
 */
size_t smtp_data_scan(struct smtp_data *d, const char *in, size_t in_len, char *out, size_t out_cap,
		      size_t *out_len_r);
/* Bytes that wait for room (at most 6). */
size_t smtp_data_pending(const struct smtp_data *d);
/* After the last chunk: ends an unfinished line. Then scan with no input until nothing is pending;
 * `done` is set. */
void smtp_data_end_chunks(struct smtp_data *d);

/* Wire form to file form: CRLF becomes LF, one leading dot of a line goes. */
struct smtp_unwire {
	uint8_t state;
};
/* Reads all of in; out needs room for in_len + 1 bytes. Returns the bytes written. A CR at the end
 * of the input waits for the next call. */
size_t smtp_unwire(struct smtp_unwire *u, const char *in, size_t in_len, char *out);

#endif
