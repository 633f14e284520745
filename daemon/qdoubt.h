/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The list of deliveries in doubt as operators see it: what is on the list in the spool, with what
 * is queued of it now. Called by daemon/postqueue.c.
 */
#ifndef PH_DAEMON_QDOUBT_H
#define PH_DAEMON_QDOUBT_H

#include "daemon/qlist.h"

/* After qlist_add_items() or qlist_scan(). Text, or one JSON object per line. An error when the
 * list cannot be read. */
int qdoubt_print(const struct qlist *l, bool json, FILE *out);

#endif
