/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Mail that local delivery sends on: a message of its own, handed to a rewrite worker as an smtp-in
 * worker would, with blocks of this worker's region. The verdict comes when it is committed.
 */
#ifndef PH_WORKERS_LOCAL_FORWARD_H
#define PH_WORKERS_LOCAL_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/qid.h"
#include "workers/common/worker.h"
#include "workers/mail/envelope.h"
#include "workers/smtp/line.h"
#include "workers/smtp_in/content.h"

struct forwarder;
struct forward;

/* dsn[0] 2: committed. `unsure`: not, as far as is known; it may be all the same. */
typedef void (*forward_fn)(void *ctx, const uint8_t dsn[3], struct sv text, bool unsure);

struct forward { /* in the caller's memory until the callback; zeroed but for the first part */
	const struct envelope *env;
	struct sv head; /* lines in front, wire form */
	int content_fd; /* content with LF line ends */
	uint64_t content_len;
	forward_fn done;
	void *ctx;
	/* private */
	struct content content;
	struct forwarder *f;
	struct forward *next;
	struct qid qid;
	char id[QID_TEXT_SIZE];
	uint32_t number;
	struct buf env_out;
	struct smtp_data scan;
	uint64_t off;
	int64_t since_ms; /* it was submitted; monotonic */
	bool begun, read_all, sent;
};

int forwarder_new(struct worker *w, struct forwarder **f_r);
void forwarder_free(struct forwarder **f);
/* The new message's id, for the head that names it. */
void forward_name(struct forwarder *f, struct forward *m);
/* May call back from within. */
void forward_submit(struct forward *m);
void forwarder_attach(struct forwarder *f, struct worker_peer *peer);
void forwarder_detach(struct forwarder *f, struct worker_peer *peer);
void forwarder_record(struct forwarder *f, struct worker_peer *peer, const void *rec, size_t len);
/* Once per turn. */
void forwarder_turn(struct forwarder *f);

#endif
