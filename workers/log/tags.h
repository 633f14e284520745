/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who may write lines in whose name. Called by the log worker for every line. */
#ifndef PH_WORKERS_LOG_TAGS_H
#define PH_WORKERS_LOG_TAGS_H

#include <stdbool.h>

#include "lib/str.h"
#include "workers/common/classes.h"

/* Whether a process of this class may write as `program` ("postfix/smtpd"). What follows the last
 * slash decides: each name of ours belongs to some classes; other plain words are transports, which
 * deliver and local have. */
bool log_tag_ok(enum worker_class class_id, struct sv program);
/* What its lines are given instead, after syslog_name. */
const char *log_tag_of(enum worker_class class_id);

#endif
