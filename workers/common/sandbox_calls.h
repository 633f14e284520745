/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The system calls each kind of process is allowed, as tables. Read by workers/common/sandbox.c,
 * which says what becomes of all others. */
#ifndef PH_WORKERS_COMMON_SANDBOX_CALLS_H
#define PH_WORKERS_COMMON_SANDBOX_CALLS_H

#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SANDBOX_ARGS 2

/* Kinds of processes are bits: 1 << enum worker_class, or 1 << SANDBOX_AGENT. */
struct sandbox_call {
	int nr; /* SCMP_SYS(): negative where the architecture has no such call */
	uint32_t kinds;
};

/* A call that is allowed with some arguments only; several rows of one call add up. */
struct sandbox_arg_call {
	int nr;
	uint32_t kinds;
	unsigned count; /* of args */
	struct scmp_arg_cmp args[SANDBOX_ARGS];
	bool ignored; /* not made, but answered with `err`, without a word in the log */
	int err;      /* errno; 0: as if it had been made */
};

extern const struct sandbox_call sandbox_calls[];
extern const size_t sandbox_call_count;
extern const struct sandbox_arg_call sandbox_arg_calls[];
extern const size_t sandbox_arg_call_count;

/* Calls that nothing of ours makes and no library tries: who makes one is taken over, and ends. */
extern const struct sandbox_call sandbox_hostile[]; /* kinds: who is ended */
extern const size_t sandbox_hostile_count;

#endif
