/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The queue as operators see it: messages with sender, recipients that are left and reasons, read
 * from the spool by the command itself, so that a listing costs the mail system next to nothing.
 * Called by daemon/postqueue.c.
 */
#ifndef PH_DAEMON_QLIST_H
#define PH_DAEMON_QLIST_H

#include <stdint.h>
#include <stdio.h>

#include "conf/conf.h"
#include "daemon/control.h"
#include "daemon/qctl.h"

struct qlist;

enum qlist_form {
	QLIST_TEXT, /* Postfix's, postqueue -p */
	QLIST_JSON, /* one object per line, postqueue -j */
	QLIST_KEEP, /* nothing: the items are kept for another list */
};

/* Reads below queue_directory, prints to `out`. */
int qlist_new(const struct params *params, enum qlist_form form, FILE *out, struct qlist **l_r);
void qlist_free(struct qlist **l);
/* Entries from the running daemon (`data` of its answer: struct qctl_item...) or from the disk.
 * What is complete is printed at once and forgotten, so that the size of the queue does not matter.
 * Messages that ended meanwhile are left out. */
void qlist_add_items(void *qlist, const void *data, size_t len);
int qlist_scan(struct qlist *l);
/* Print what is left. */
void qlist_end(struct qlist *l);
/* Damaged records in corrupt/: they are not in the list. */
uint64_t qlist_damaged(const struct qlist *l);
/* For other lists (daemon/qdoubt.c): the items that were kept. */
typedef void (*qlist_item_fn)(void *ctx, const struct qctl_item *it);
void qlist_each_item(const struct qlist *l, qlist_item_fn fn, void *ctx);
const struct spool_dirs *qlist_dirs(const struct qlist *l);

#endif
