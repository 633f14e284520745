/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The system call filter: every process of ours but priv may make the calls of a list
 * (workers/common/sandbox_calls.c) and no others. Called by worker_main(), the supervisor and the
 * children of local delivery, when all that has to be opened and started is.
 *
 * A call that is not on the list fails with EPERM, is counted and, at the next sandbox_tell(),
 * named in the log, once per call and process: a library that tries something new is seen, and does
 * not end the worker. A call that only somebody who has taken the process over would make
 * (ptrace, execve, mount, bpf ...) ends it. clone3() is answered with ENOSYS: its flags cannot be
 * seen, and the C library goes on with clone().
 */
#ifndef PH_WORKERS_COMMON_SANDBOX_H
#define PH_WORKERS_COMMON_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "workers/common/classes.h"

/* Beside the worker classes: the child that delivers into mailboxes as their owner. */
#define SANDBOX_AGENT CLASS_COUNT
/* A rewrite worker that has milters to talk to: what it may beyond the others. */
#define SANDBOX_FILTER (CLASS_COUNT + 1)
#define SANDBOX_KINDS  (CLASS_COUNT + 2)

/* From now on this holds for all threads of this process, and for what it starts. `kind` is an enum
 * worker_class or SANDBOX_AGENT. Needs no_new_privs. Dies when the filter cannot be loaded; a
 * kernel without such filters gets a line in the log. */
void sandbox_enter(unsigned kind);

/* Before sandbox_enter(): this process may make the calls of another kind, too. */
void sandbox_also(unsigned kind);

/* Write down which calls were refused since the last time. Returns how many refusals there were.
 * Cheap when there were none: for every beat and for last words. */
unsigned sandbox_tell(void);

/* The last call that was refused, -1 = none. For a process that has no log. */
int sandbox_last_refused(void);
/* Catch refusals before the process has a filter of its own (it may have inherited one). */
void sandbox_watch(void);

/* Builds with sanitizers have wider lists, which the functions below do not count. */
bool sandbox_is_widened(void);

/* For lists and tests. The name of a call in *name (at most size bytes with its end). */
const char *sandbox_kind_name(unsigned kind);
void sandbox_call_name(int nr, char *name, unsigned size);
/* How many calls a kind may make, and how many of those only with certain arguments. */
unsigned sandbox_allowed(unsigned kind, unsigned *conditional_r);
/* 0 = must not be called, 1 = refused with EPERM, 2 = only with certain arguments, 3 = allowed. */
enum sandbox_verdict { SANDBOX_ENDS, SANDBOX_REFUSED, SANDBOX_CONDITIONAL, SANDBOX_ALLOWED };
enum sandbox_verdict sandbox_verdict(unsigned kind, int nr);

#endif
