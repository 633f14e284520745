/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Transcripts of sessions in notices to the postmaster, laid out as by Postfix. Used by smtp-in
 * (sessions of clients) and rewrite (those with servers).
 */
#ifndef PH_WORKERS_MAIL_TRANSCRIPT_H
#define PH_WORKERS_MAIL_TRANSCRIPT_H

#include "lib/buf.h"
#include "lib/str.h"

/* A line as content in wire form: behind a blank, broken where it is too long. */
void transcript_add(struct buf *out, struct sv line);

#endif
