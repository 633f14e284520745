/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Queue requests on the control socket, the supervisor's side. Verbs:
 *   queue-list [ID...]           one packet or more of struct qctl_item
 *   queue-hold|release|requeue|delete ID...|ALL
 *   queue-flush [ID...]          without argument: everything that is deferred
 *   queue-flush-site DOMAIN
 * A change of named messages answers with the ids it affected, one per line. The end text of a
 * change is "MESSAGES BUSY": how many were affected, and how many of those are in delivery now, so
 * that the change applies to what is left of them afterwards.
 */
#ifndef PH_DAEMON_QCTL_H
#define PH_DAEMON_QCTL_H

#include <stdint.h>

#include "daemon/control.h"
#include "daemon/files.h"
#include "daemon/sched.h"
#include "lib/buf.h"

/* One queue entry, host byte order; items of one message follow each other. */
struct qctl_item {
	struct proto_qid qid;
	struct proto_place place;
	struct proto_jref jref;
	uint64_t mask;
	uint32_t rcpt_first;
	uint32_t msg_flags;
	uint32_t due_s;
	uint32_t state;      /* enum qstate */
	uint32_t reason_len; /* bytes of reason that follow: why its destination is suspended */
	uint32_t pad;
};

void qctl_item_add(const struct sched *s, const struct sched_item *it, struct buf *out);
void qctl_register(struct control *ctl, struct sched *s, struct files *f);

#endif
