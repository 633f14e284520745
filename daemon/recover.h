/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Recovery: fills the queue from the spool. Called by the supervisor at start, and when a rewrite
 * worker has died. The disk is the truth: nothing else survives.
 */
#ifndef PH_DAEMON_RECOVER_H
#define PH_DAEMON_RECOVER_H

#include <stdint.h>

#include "daemon/files.h"
#include "daemon/sched.h"
#include "workers/spool/spool.h"

/* Scan journals, then segments, and give what is left to the scheduler. */
int recover_all(struct sched *s, struct files *f, const struct spool_dirs *dirs);
/* After sched_worker_gone() of a rewrite worker: take messages it committed and could not announce.
 * Again about once a second: what cannot be read now is not lost. Returns how many. */
unsigned recover_adopt(struct sched *s, struct files *f, const struct spool_dirs *dirs);
/* Takes into the queue what lying indexes had hidden (files_hidden()). *h is NULL at first. */
struct recover_hidden;
void recover_hidden_tick(struct recover_hidden **h, struct sched *s, struct files *f,
			 const struct spool_dirs *dirs);
void recover_hidden_free(struct recover_hidden **h); /* after files_free() */

#endif
