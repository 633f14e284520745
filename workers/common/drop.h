/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Giving up rights: the steps between start-up and work. Called by worker_main, supervisor and
 * priv. Builds with --enable-fault-points do nothing here when POSTHASTE_UNCAGED is set: tests show
 * so that what is refused is refused by this. */
#ifndef PH_WORKERS_COMMON_DROP_H
#define PH_WORKERS_COMMON_DROP_H

#include <stdbool.h>
#include <stdint.h>

struct drop_plan {
	const char *user;   /* mail_owner; NULL = keep the user (local delivery) */
	const char *chroot; /* directory, NULL = none */
	bool groups;        /* keep the groups of the user; else none but its own */
	bool privileged;    /* false: an ordinary user runs it all, chroot and user are skipped */
};

/* no_new_privs, not dumpable, no core of secrets, chroot, groups, gid, uid. Dies on failure: a
 * worker that cannot drop its rights must not run. */
void drop_rights(const struct drop_plan *plan);
/* Keep no capability but those of `keep` (bits: 1 << CAP_...), now and in programs that are
 * executed. To be called as root; does nothing otherwise. Dies on failure. */
void drop_capabilities(uint64_t keep);
/* The same for this process alone: programs that it starts may have more. */
void drop_own_capabilities(uint64_t keep);
/* For local delivery: act as `user` on the spool and elsewhere, but keep the right to become
 * somebody else again. take_back_user() is for the child that is about to become a recipient. */
void drop_effective_user(const char *user);
void take_back_user(void);
/* Close every descriptor from `first` on that is not in keep[] (keep ascending). */
void drop_descriptors(int first, const int *keep, unsigned keep_count);

/* A process that is woken does not interrupt the one that runs: it has its turn when that one
 * sleeps or has used up its time, and finds more to do then. Threads and children inherit it, so it
 * is not for processes that run other people's programs. A policy that somebody chose stays. */
void drop_precedence(void);

/* No rights are to be given up (POSTHASTE_UNCAGED). */
bool drop_nothing(void);

#endif
