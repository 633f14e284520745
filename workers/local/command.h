/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Commands that a local worker has run for it, by the process of workers/local/runner.h. Without
 * that process mail for commands cannot be delivered, and what ran may have been done: its end is
 * this worker's end.
 */
#ifndef PH_WORKERS_LOCAL_COMMAND_H
#define PH_WORKERS_LOCAL_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/loop.h"
#include "workers/local/cmdstatus.h"

struct commands;
struct command;

typedef void (*command_fn)(void *ctx, const struct command_end *e);

struct command { /* in the caller's memory until the callback */
	struct command *next;
	uint64_t id; /* private */
	uid_t uid;
	gid_t gid;
	const char *directory;
	const char *const *argv; /* NULL at the end, as the next */
	const char *const *env;  /* "NAME=value" */
	int input_fd;            /* standard input; stays the caller's */
	int64_t time_limit_ms;
	command_fn done;
	void *ctx;
};

/* Start the process, of the program that is normally /proc/self/exe; while this one has its rights.
 */
int commands_new(const char *program, bool change_user, uid_t owner_uid, gid_t owner_gid,
		 gid_t setgid_gid, struct commands **c_r);
/* From here on callbacks may come. */
void commands_watch(struct commands *c, struct loop *loop);
void commands_free(struct commands **c);
/* The callback comes later, never from within. Beyond RUNNER_MAX commands wait their turn. */
void command_submit(struct commands *c, struct command *cmd);

#endif
