/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the showq worker asks of the supervisor: parts of the list of queue entries, and to try
 * deferred mail now. Both come from users that nobody has to trust, so each costs a bounded piece
 * of work, and no more than QPUBLIC_PER_TURN of them are taken in one turn. Called by
 * daemon/life.c.
 */
#ifndef PH_DAEMON_QPUBLIC_H
#define PH_DAEMON_QPUBLIC_H

#include <stddef.h>

#include "daemon/sched.h"
#include "shm/link.h"

#define QPUBLIC_PER_TURN 4u

/* One record of its ring; answers go on `link`. 0, or E_PEER: kill it. */
int qpublic_input(struct sched *s, struct link *link, const void *rec, size_t len);

#endif
