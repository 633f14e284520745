/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The maildrop directory: where `postdrop` leaves mail that local users submit, with or without a
 * running mail system, and where the pickup worker finds it. One file per message:
 *
 *   head      MAILDROP_HEAD_BYTES: magic, lengths, CRC32C of all that follows
 *   envelope  workers/mail/envelope.h
 *   content   as Unix programs write it: lines end with LF, dots are not stuffed
 *
 * A file is written under a name that begins with MAILDROP_TMP, synced, renamed and its directory
 * synced; only then the sender hears that it was taken. What has another name is therefore whole,
 * unless somebody meddles: the directory belongs to mail_owner and may be written to by the group
 * setgid_group, so everything in it is input. Submission from sendmail to postdrop has a framing of
 * its own (below), because the content's length is not known in advance.
 */
#ifndef PH_WORKERS_PICKUP_MAILDROP_H
#define PH_WORKERS_PICKUP_MAILDROP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/buf.h"
#include "lib/str.h"

#define MAILDROP_DIR        "maildrop" /* below queue_directory */
#define MAILDROP_TAKEN_DIR  "pickup"   /* mail that the worker has in hand; mail_owner's own */
#define MAILDROP_TMP        "tmp."
#define MAILDROP_HEAD_BYTES 32u
#define MAILDROP_ENV_MAX    (16u << 20)
#define MAILDROP_RCPT_MAX   100000u
#define MAILDROP_NAME_SIZE  64u

/* From sendmail to postdrop's standard input: this line, the envelope's length (4 bytes, little
 * endian) and bytes, then pieces of content (length and bytes), then a length of 0. Without that
 * end the message was cut off and is not taken. */
#define MAILDROP_PIPE_MAGIC "posthaste submission 1\n"
#define MAILDROP_PIECE_MAX  65536u

/* ---- writing ---- */

struct maildrop_writer {
	int dir_fd; /* not owned; O_PATH will do */
	int fd;
	char tmp[MAILDROP_NAME_SIZE];
	char name[MAILDROP_NAME_SIZE]; /* after the commit */
	struct buf out;                /* not yet written */
	uint32_t env_len, crc;
	uint64_t content_len;
};

/* Open the directory below queue_directory; returns the descriptor or an error. */
int maildrop_open_dir(const char *queue_directory, const char *sub);
/* What fails leaves no file behind. */
int maildrop_create(struct maildrop_writer *w, int dir_fd, struct sv envelope);
int maildrop_add(struct maildrop_writer *w, const char *data, size_t len);
/* 0: the message is on stable storage under w->name. */
int maildrop_commit(struct maildrop_writer *w);
void maildrop_abort(struct maildrop_writer *w);

/* ---- reading: every file may be hostile ---- */

struct maildrop_file {
	int fd;
	uid_t uid; /* of who submitted it */
	int64_t mtime_s;
	uint32_t env_len, crc;
	uint64_t content_len;
};

/* Opens and looks at the head. Negative: E_NOENT it has gone; E_INVAL it is no plain file, so that
 * no mail can be in it; E_PEER it has several names or a strange mode; E_CORRUPT it is no message
 * (*why_r tells, for these three); others: it cannot be read. Never
 * waits for a FIFO and follows no link. max_bytes bounds the content. */
int maildrop_open(int dir_fd, const char *name, uint64_t max_bytes, struct maildrop_file *f,
		  const char **why_r);
/* The envelope's bytes, appended. E_CORRUPT when the file is shorter now. */
int maildrop_read_envelope(const struct maildrop_file *f, struct buf *out);
/* At most len bytes of content from off on: bytes read, 0 at the end; E_CORRUPT as above. */
ssize_t maildrop_read_content(const struct maildrop_file *f, uint64_t off, char *out, size_t len);

/* ---- the pipe ---- */

/* Append one piece: its length and the bytes; an empty one ends the message. */
void maildrop_put_piece(struct buf *out, const char *data, size_t len);
uint32_t maildrop_get_u32(const char *p);

#endif
