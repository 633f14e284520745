/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the processes that start other people's programs have in common: runner of local(8) and
 * pipe(8) (workers/local/runner.c), keeper of spawn(8) (workers/spawn/keeper.c). Such a process
 * acts as mail_owner, keeps the right to become somebody else, and talks to nobody but its worker.
 */
#ifndef PH_WORKERS_COMMON_STARTER_H
#define PH_WORKERS_COMMON_STARTER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The process: its name, no descriptors but those below `first_fd`, no capability but to become
 * somebody else and to end what it started. `asker_fd` stops blocking. */
void starter_begin(const char *name, int first_fd, int asker_fd);
/* A descriptor that is readable when a child has ended. Dies when there is none. */
int starter_watch_children(void);
/* Takes what it has to tell; call waitpid() after it. */
void starter_take_signals(int fd);
/* Ends a command and what it has started. change_user: it may run as somebody else. */
void starter_kill_group(bool change_user, pid_t pid);

/* In the child, in this order. False: it still has its rights and must not go on. */
bool starter_become(uid_t uid, gid_t gid);
/* Ordinary signals, limit of descriptors and umask; and it dies with the one who started it. False:
 * that one has gone already. */
bool starter_normal_process(void);

#endif
