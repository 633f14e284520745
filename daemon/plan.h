/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Working out the plan for priv from a configuration; short-lived code. Called by posthaste. */
#ifndef PH_DAEMON_PLAN_H
#define PH_DAEMON_PLAN_H

#include "conf/conf.h"
#include "lib/buf.h"

/* Append the plan text (daemon/priv_plan.h). Addresses and ports are resolved here. E_CONFIG with
 * diagnostics when a listener names something that does not exist. */
int plan_make(const struct conf *c, const char *program_path, struct buf *out, struct conf_diag *d);
/* Make the directories the system needs below queue_directory and data_directory, with their owner
 * and mode. Dies with a message when that is impossible. */
void plan_make_directories(const struct conf *c);

#endif
