/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The queue of a mail system that is not running: read from the spool as a start would, changed by
 * the same commands, which leave the same marks in the journal. Called by postsuper. While it is
 * open no mail system can start.
 */
#ifndef PH_DAEMON_OFFLINE_H
#define PH_DAEMON_OFFLINE_H

#include "conf/conf.h"
#include "daemon/sched.h"
#include "lib/buf.h"

struct offline;

/* E_AGAIN: it is running, or about to. Gives up root's rights for mail_owner's. *what_r: what
 * failed. */
int offline_open(const struct conf *conf, struct offline **o_r, const char **what_r);
void offline_close(struct offline **o);

/* The ids it applied to are added to names_r, a line each; with no ids it is for all, without
 * names. On disk when it returns 0. */
int offline_cmd(struct offline *o, enum sched_cmd cmd, unsigned queues, unsigned count,
		const char *const *ids, struct buf *names_r, struct sched_cmd_result *r);

#endif
