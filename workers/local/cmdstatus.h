/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the end of a command means for the mail it was given: exit status by sysexits.h, or the
 * enhanced status code its output begins with, as in Postfix. Pure; called by piped.c and expand.c.
 */
#ifndef PH_WORKERS_LOCAL_CMDSTATUS_H
#define PH_WORKERS_LOCAL_CMDSTATUS_H

#include <stdint.h>

#include "lib/buf.h"
#include "lib/str.h"

enum command_how {
	COMMAND_EXITED,    /* code: exit status */
	COMMAND_SIGNALED,  /* code: signal */
	COMMAND_TIMED_OUT, /* it was killed, and may have done its work */
	COMMAND_NOT_RUN,   /* the output says why; no part of it was done */
};

struct command_end {
	enum command_how how;
	int code;
	struct sv output; /* the first bytes, control characters and all */
};

struct command_verdict {
	uint8_t dsn[3];  /* 2: delivered */
	struct buf text; /* for the log; empty when delivered without a word */
	struct buf diag; /* for the notification */
};

/* `command` is its name as the log shows it. Empties text and diag first. */
void command_judge(const struct command_end *e, struct sv command, struct command_verdict *v);

#endif
