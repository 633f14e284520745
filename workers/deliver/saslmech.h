/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The client's side of SASL mechanisms that are one or two strings: CRAM-MD5 (RFC 2195), PLAIN (RFC
 * 4616), LOGIN and XOAUTH2. No library, no I/O. Called by client_auth.c.
 */
#ifndef PH_WORKERS_DELIVER_SASLMECH_H
#define PH_WORKERS_DELIVER_SASLMECH_H

#include <stdbool.h>

#include "lib/buf.h"
#include "lib/str.h"

enum sasl_mech { MECH_CRAM_MD5, MECH_PLAIN, MECH_LOGIN, MECH_XOAUTH2, MECH_COUNT };

#define SASL_CHALLENGE_MAX 1500u /* base64; servers' are a tenth of it */

struct sasl_secret {
	struct sv user, password; /* XOAUTH2: the password is the access token */
	bool authzid;             /* PLAIN: name the user as authorization identity, too */
};

/* -1: not one of these. Without case. */
int sasl_mech_find(struct sv name);
const char *sasl_mech_name(enum sasl_mech m);
/* The best of the offered ones (bits) that the options (SASL_* of conf/sasl.h) allow; -1: none. An
 * access token is not plaintext where the connection is encrypted. */
int sasl_mech_choose(unsigned offered, unsigned options, bool encrypted);
/* Append what is said first, in base64. False: the server begins. */
bool sasl_mech_first(enum sasl_mech m, const struct sasl_secret *s, struct buf *out);
/* Append the response to a challenge (base64). `step` is the number of challenges before. E_SYNTAX:
 * the challenge is no base64 or too long; E_PEER: this mechanism has no such challenge. */
int sasl_mech_next(enum sasl_mech m, unsigned step, const struct sasl_secret *s,
		   struct sv challenge, struct buf *out);
/* Of a password that was refused, so that another one is told from it; not more of it than that:
 * one in 4 * 10^9 has the same mark. */
#define SASL_MARK_SIZE 9
void sasl_mark(struct sv server, const struct sasl_secret *s, char out[SASL_MARK_SIZE]);
/* Overwrite, and free. */
void sasl_wipe(struct buf *b);

#endif
