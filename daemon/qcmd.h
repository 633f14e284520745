/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the queue commands share. Called by daemon/postqueue.c and daemon/postsuper.c. */
#ifndef PH_DAEMON_QCMD_H
#define PH_DAEMON_QCMD_H

#include "conf/conf.h"

/* Logging to stderr as `program`, and the configuration of `dir` (NULL: MAIL_CONFIG, then the
 * built-in directory). Ends the program when it cannot be loaded. */
struct conf *qcmd_conf(const char *program, const char *dir);

#endif
