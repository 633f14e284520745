/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From queue entries, as the supervisor or the disk tells them, to messages with their recipients
 * and reasons, which are read from the spool. Called by daemon/qlist.c (postqueue of who may read
 * the spool) and daemon/showq.c (for everybody else).
 */
#ifndef PH_DAEMON_QREAD_H
#define PH_DAEMON_QREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/qctl.h"
#include "lib/buf.h"
#include "lib/qid.h"
#include "workers/spool/spool.h"

enum queue_name { QUEUE_NAME_DEFERRED, QUEUE_NAME_ACTIVE, QUEUE_NAME_HOLD, QUEUE_NAME_COUNT };

struct qlist_message {
	char id[QID_TEXT_SIZE];
	enum queue_name queue;
	bool in_doubt;
	bool expired; /* an operator said so */
	bool damaged; /* no envelope: the record cannot be read as this message's */
	int64_t arrival_s;
	uint64_t size;
	struct sv sender;
};

struct qlist_rcpt {
	struct sv addr, orig_addr, reason; /* the last two may be empty */
	bool failed;
};

struct qread;
int qread_new(const char *queue_directory, struct qread **r_r);
void qread_free(struct qread **r);
const struct spool_dirs *qread_dirs(const struct qread *r);

/* `items` is a row of struct qctl_item with their reasons. */
bool qread_item_at(const struct buf *items, size_t at, struct qctl_item *it);
size_t qread_item_end(size_t at, const struct qctl_item *it);
/* The end of the message that begins at `from`; false: more items of it may come (unless `all` are
 * there), or there is none. */
bool qread_next_message(const struct buf *items, size_t from, bool all, size_t *to_r);
/* Reads its envelope; false: it left the queue meanwhile. *m_r holds until the next call. */
bool qread_message(struct qread *r, const struct buf *items, size_t from, size_t to,
		   const struct qlist_message **m_r);
/* The recipients of one item of the message that was read last; where the next item is. */
typedef void (*qread_rcpt_fn)(void *ctx, const struct qlist_rcpt *rcpt);
size_t qread_rcpts(struct qread *r, const struct buf *items, size_t at, qread_rcpt_fn fn,
		   void *ctx);

#endif
