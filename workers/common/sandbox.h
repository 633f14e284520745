/* SPDX-License-Identifier: GPL-3.0-or-later */
/* System calls a worker has no use for. Called by worker_main() after the rights are given up. */
#ifndef PH_WORKERS_COMMON_SANDBOX_H
#define PH_WORKERS_COMMON_SANDBOX_H

#include "workers/common/classes.h"

/* From now on such calls fail with EPERM: signals to other processes and whatever else acts on
 * them (all processes of mail_owner may do that to each other), new programs and processes, and for
 * smtp-in new sockets. Threads and what is open already are not concerned. Local delivery needs
 * processes and is left as it is. Needs no_new_privs. Dies when the filter cannot be loaded,
 * warns on a kernel without such filters. */
void sandbox_enter(enum worker_class class_id);

#endif
