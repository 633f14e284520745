/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the two sides of the SASL library's use, cyrus.c and cyrusclient.c, have in common. */
#ifndef PH_WORKERS_AUTH_CYRUS_INT_H
#define PH_WORKERS_AUTH_CYRUS_INT_H

#include "workers/auth/auth.h"

/* Locks, and where configuration files are ("a:b"; NULL = where the library looks). */
void cyrus_prepare(const char *path);
/* SASL_CB_LOG: into the lines of the dialogue that this thread works for, or the log. */
int cyrus_on_log(void *ctx, int level, const char *message);
void cyrus_speaks_for(struct dialogue *d); /* NULL: none */
const char *cyrus_text(int rc);
unsigned cyrus_security_flags(unsigned options);

#endif
