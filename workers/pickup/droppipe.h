/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A message on its way to postdrop, which runs as a child; see workers/pickup/maildrop.h for what
 * goes through the pipe. Used by sendmail and by the stand-alone SMTP server (sendmail -bs). What
 * postdrop has to say against the message goes to standard error.
 */
#ifndef PH_WORKERS_PICKUP_DROPPIPE_H
#define PH_WORKERS_PICKUP_DROPPIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "conf/conf.h"
#include "lib/buf.h"
#include "workers/pickup/maildrop.h"

struct droppipe { /* zero is none */
	pid_t pid;
	int to_fd, from_fd;
	bool failed; /* it takes no more: droppipe_end() tells why */
	struct buf out;
};

/* Start $command_directory/postdrop and give it the envelope. `conf_dir` NULL = as in the
 * environment. An error when no process can be made. */
int droppipe_start(struct droppipe *dp, const struct params *p, const char *conf_dir,
		   struct sv envelope);
void droppipe_put(struct droppipe *dp, const char *data, size_t len);
/* The message is complete. Returns postdrop's exit status (sysexits.h); 0: it is on stable storage,
 * and `name` says under which name. */
int droppipe_end(struct droppipe *dp, char name[MAILDROP_NAME_SIZE]);
void droppipe_abort(struct droppipe *dp); /* forget it; harmless when there is none */

#endif
