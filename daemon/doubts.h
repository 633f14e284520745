/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Deliveries in doubt, from a crash to the list in the spool (workers/spool/doubt.h): the log line
 * of each, and the names of sender and recipients, which only the record has. Called by recovery
 * and by the scheduler when a delivery worker died.
 */
#ifndef PH_DAEMON_DOUBTS_H
#define PH_DAEMON_DOUBTS_H

#include "lib/arena.h"
#include "workers/spool/doubt.h"

struct doubts { /* zeroed but for dirs */
	const struct spool_dirs *dirs;
	struct spool_reader *reader;
	struct buf lines, env_bytes;
	struct arena arena;
	uint64_t count;
};

void doubts_init(struct doubts *g, const struct spool_dirs *dirs);
/* `d` without names of sender and recipients; they are read from the record at `place`. */
void doubts_add(struct doubts *g, const struct doubt *d, struct proto_place place);
/* Puts what was added on the list, durably, and frees. An error is logged: the log has it all. */
void doubts_write(struct doubts *g);

#endif
