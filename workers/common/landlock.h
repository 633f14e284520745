/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which files a worker may reach, by Landlock rules (Linux 5.13 and later). What is open already
 * stays usable. Called by worker_main() around the giving up of rights. System calls are the
 * business of workers/common/sandbox.h.
 */
#ifndef PH_WORKERS_COMMON_LANDLOCK_H
#define PH_WORKERS_COMMON_LANDLOCK_H

#include <stdbool.h>

#include "lib/buf.h"
#include "workers/common/classes.h"

/* The rules of the class for the spool below queue_directory, as a descriptor for
 * landlock_enter(). To be called with the rights to reach that directory. No more than version
 * `limit` of the kernel's rules is used. -1 when this kernel knows too little of them (before
 * version 2); what is lacking is logged when the log worker starts, once for all. Dies when a rule
 * cannot be made. */
int landlock_rules(enum worker_class class_id, const char *queue_directory, int limit);
/* Before that: this file, or the files below this directory, may be read, too. */
void landlock_also_read(const char *path);
/* Before that: it may keep files of its own in this directory. */
void landlock_also_keep(const char *directory);
/* Before that: this process may connect over TCP, whatever its class may. */
void landlock_also_connect(void);
/* For the child that delivers into mailboxes below base: it may look up, make and remove files and
 * directories there and write to them, and reach nothing else. It may read them only when they are
 * mailbox files; for lists (LANDLOCK_READ) it may do nothing but that. E_* when base cannot be
 * opened. */
enum landlock_use { LANDLOCK_MAILDIR, LANDLOCK_MBOX, LANDLOCK_READ };
int landlock_mailbox_rules(const char *base, enum landlock_use use, int limit, int *fd_r);
/* From now on they hold for this process and its children, not for threads that exist; closes the
 * descriptor, nothing is done with -1. Needs no_new_privs. Dies on failure. */
void landlock_enter(int rules_fd);

/* The rules of a class (CLASS_COUNT: of the child of local delivery) on this kernel in words, for
 * lists: "seg: read; TCP: connect". Appended to out. */
void landlock_describe(unsigned class_id, struct buf *out);

/* The limit for the above: none. Builds with --enable-fault-points obey POSTHASTE_LANDLOCK, so that
 * tests can run the system as on an older kernel. */
int landlock_limit(void);

#endif
