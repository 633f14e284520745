/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Probes on their way into the queue: messages of their own, handed to rewrite workers as smtp-in
 * hands over mail. What happens to one that is in the queue, a rewrite worker tells
 * (PROTO_VERIFY_RESULT); what is told here is the end of those that do not get there.
 */
#ifndef PH_WORKERS_VERIFY_SUBMIT_H
#define PH_WORKERS_VERIFY_SUBMIT_H

#include "shm/proto.h"
#include "workers/common/worker.h"

struct submitter;

/* dsn[0] 2: there is nothing to be delivered, it is good as it is. Else it could not be sent. */
typedef void (*submitter_fn)(void *ctx, struct sv addr, const uint8_t dsn[3], struct sv text);

int submitter_new(struct worker *w, submitter_fn ended, void *ctx, struct submitter **s_r);
void submitter_free(struct submitter **s);
/* May call back from within. */
void submitter_send(struct submitter *s, struct sv addr);
void submitter_attach(struct submitter *s, struct worker_peer *peer);
void submitter_detach(struct submitter *s, struct worker_peer *peer);
/* True: the record was the submitter's. */
bool submitter_record(struct submitter *s, struct worker_peer *peer, const void *rec, size_t len);
/* Once per turn. */
void submitter_turn(struct submitter *s);

#endif
