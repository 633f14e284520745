/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where a recipient's mail is put: virtual(8)'s tables for transports of that kind, the system's
 * user database for local ones. An answer, or the final reason why there is none.
 */
#ifndef PH_WORKERS_LOCAL_TARGET_H
#define PH_WORKERS_LOCAL_TARGET_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "conf/conf.h"
#include "workers/local/agent.h"
#include "workers/local/maildir.h"

struct target {
	bool found; /* false: dsn and text say why not; dsn[0] is 4 or 5 */
	uint8_t dsn[3];
	char text[MAILDIR_TEXT_SIZE];
	char base[AGENT_PATH_MAX + 1];
	char path[AGENT_PATH_MAX + 1];
	uid_t uid;
	gid_t gid;
	uint64_t size_limit; /* of one message, bytes; 0 = none; of a mailbox file see mbox */
	bool is_mbox;        /* a mailbox file; else a Maildir */
	struct mbox_conf mbox;
	uint32_t more_gid;             /* group that may write to the mail spool; AGENT_NO_GROUP */
	char user[AGENT_HOST_MAX + 1]; /* for texts */
};

struct targets;

/* `privileged`: deliveries may change the user; otherwise all mail is written as we are. */
int targets_open(const struct conf *c, bool privileged, struct targets **t_r, struct conf_diag *d);
void targets_close(struct targets **t);
/* How a file that an alias or a .forward file names is written; without owner and place. */
void target_of_file(const struct targets *t, struct target *out);
void target_find(struct targets *t, const struct conf_transport *transport, struct sv rcpt,
		 struct target *out);

#endif
