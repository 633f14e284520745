/* SPDX-License-Identifier: GPL-3.0-or-later */
/* "posthaste logrotate": maillog_file gets another name and is compressed. Called by
 * daemon/posthaste.c. */
#ifndef PH_DAEMON_LOGROTATE_H
#define PH_DAEMON_LOGROTATE_H

#include <stdbool.h>

#include "conf/conf.h"
#include "lib/buf.h"

/* Renames the file; its new name is in path. False: why is there instead. The mail system is to be
 * told then, and the rest may follow. */
bool logrotate_move(const struct params *p, struct buf *path);
/* Waits until nobody writes to the file any more, and compresses it. */
bool logrotate_compress(const struct params *p, const char *path, struct buf *why);

#endif
