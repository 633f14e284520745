/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Error codes: every operation that can fail returns an int, 0 or one of these negative values.
 * errno never crosses a module border: take it at the failing call with err_errno().
 * Values -1 .. -4095 are negated errno values; the project's own codes lie below them.
 */
#ifndef PH_LIB_ERR_H
#define PH_LIB_ERR_H

#include <errno.h>

enum ph_err {
	E_OK = 0,
	E_AGAIN = -EAGAIN, /* nothing to do now, or the ring/table is full for the moment */
	E_NOMEM = -ENOMEM,
	E_NOSPC = -ENOSPC,
	E_INVAL = -EINVAL, /* caller's argument is unusable */
	E_NOENT = -ENOENT,
	E_EXIST = -EEXIST,
	E_IO = -EIO,
	E_TIMEDOUT = -ETIMEDOUT,

	E_SYNTAX = -5000,  /* text that does not follow its grammar */
	E_LIMIT = -5001,   /* a configured bound was reached */
	E_CORRUPT = -5002, /* checksum, magic or invariant does not hold */
	E_VERSION = -5003, /* layout or format version not ours */
	E_EOF = -5004,     /* peer closed, or end of data */
	E_STATE = -5005,   /* a move that the transition table does not allow */
	E_STALE = -5006,   /* owner life or sequence is not the current one */
	E_CONFIG = -5007,  /* configuration does not allow this */
	E_PEER = -5008,    /* the other process or host broke the protocol */
};

/* The current errno as an error code; never 0 (an errno of 0 becomes E_IO). */
int err_errno(void);

/* Constant text for any code, including negated errno values; never NULL. */
const char *err_str(int err);

#endif
