/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Content of one message that goes out otherwise than it came (convert.h), in pieces: what is
 * converted and not written yet. Called by conn.c, which reads and writes.
 */
#ifndef PH_WORKERS_DELIVER_CHANGED_H
#define PH_WORKERS_DELIVER_CHANGED_H

#include "lib/qid.h"
#include "workers/deliver/convert.h"

/* Content is fed in pieces of at most so many bytes: what comes out of one, at most three times as
 * much, waits in memory for a slow server. */
#define CHANGED_PIECE 16384u

struct changed;

/* `head`: what stands in front of it, as it is. */
struct changed *changed_new(const struct convert_conf *cc, struct qid qid, bool downgrade,
			    struct sv head);
void changed_free(struct changed **ch);
/* Is there so little to write that more should be read? */
bool changed_wants(const struct changed *ch);
/* Bytes of the stored content that were fed. */
uint64_t changed_at(const struct changed *ch);
/* The next bytes of the stored content; `last`: they are its end. 0, E_AGAIN when a table could not
 * be asked, E_LIMIT when it cannot be converted. */
int changed_feed(struct changed *ch, struct sv piece, bool last);
/* All of it has been fed: changed_out() is the end of the content. */
bool changed_is_whole(const struct changed *ch);
/* What is to be written next; valid until the next call. */
struct sv changed_out(const struct changed *ch);
void changed_wrote(struct changed *ch, size_t n);

#endif
