/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * flags= of a line of smtp or lmtp in master.cf (smtp(8)): headers that stand in front of what is
 * sent, and whether it is delivered for good by that. Called by main.c, conn.c and job.c.
 */
#ifndef PH_WORKERS_DELIVER_HEADFLAGS_H
#define PH_WORKERS_DELIVER_HEADFLAGS_H

#include <stdbool.h>

#include "conf/conf.h"
#include "lib/buf.h"

enum {
	HEAD_DELIVERED_TO = 1, /* D: Delivered-To, and mail that has it comes back */
	HEAD_ORIGINAL_TO = 2,  /* O: X-Original-To */
	HEAD_RETURN_PATH = 4,  /* R: Return-Path */
	HEAD_FINAL = 8,        /* X: reports on success say "delivered", not "relayed" */
	HEAD_LINES = HEAD_DELIVERED_TO | HEAD_ORIGINAL_TO | HEAD_RETURN_PATH
};

/* 0, or E_CONFIG: told in `d`. Other transports have none. */
int headflags_read(const struct conf *c, const struct conf_transport *ct, unsigned *flags_r,
		   struct conf_diag *d);
/* Appends the headers in wire form. Addresses in internal form; `orig` is empty when it is the same
 * as `rcpt`. */
void headflags_put(unsigned flags, struct sv sender, struct sv orig, struct sv rcpt,
		   struct buf *out);
/* Does a header of this content, in wire form, say Delivered-To: `rcpt`? */
bool headflags_is_loop(struct sv content, struct sv rcpt);

#endif
