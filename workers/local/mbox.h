/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One message at the end of one mailbox file, with the locks that readers of mail respect. Runs in
 * the delivery child, as the mailbox's user. The file is a plain one with one name and, when asked
 * for, of that user; a symbolic link is never followed, so nobody can lead delivery to another
 * file.
 */
#ifndef PH_WORKERS_LOCAL_MBOX_H
#define PH_WORKERS_LOCAL_MBOX_H

#include <stdint.h>

#include "workers/local/maildir.h"

enum {
	MBOX_LOCK_FCNTL = 1,
	MBOX_LOCK_FLOCK = 2,
	MBOX_LOCK_DOT = 4,      /* the file FILE.lock */
	MBOX_DOT_MAY_FAIL = 8,  /* ... unless the directory does not allow it */
	MBOX_STRICT_OWNER = 16, /* the file must be the user's */
	MBOX_VIRTUAL = 32,      /* virtual(8)'s texts; what local(8) bounces waits */
};

struct mbox_conf {
	uint32_t flags;
	uint32_t attempts;   /* of each lock */
	int64_t delay_ms;    /* between them */
	int64_t stale_s;     /* age at which FILE.lock was left behind */
	uint64_t size_limit; /* of the file, 0 = none */
};

struct mbox_job {
	const char *base; /* absolute; must exist */
	const char *path; /* below base; directories must exist */
	struct sv header; /* from the From_ line on */
	int content_fd;   /* quoted, an empty line behind */
	uint64_t content_len;
	const char *user; /* for texts */
	struct mbox_conf conf;
};

/* The words of mailbox_delivery_lock as MBOX_LOCK_*. E_SYNTAX on others. */
int mbox_parse_locks(const char *text, uint32_t *flags_r);

void mbox_deliver(const struct mbox_job *job, struct maildir_result *r);

#endif
