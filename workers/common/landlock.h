/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which files a worker may reach, by Landlock rules (Linux 5.13 and later). What is open already
 * stays usable. Called by worker_main() around the giving up of rights. System calls are the
 * business of workers/common/sandbox.h.
 */
#ifndef PH_WORKERS_COMMON_LANDLOCK_H
#define PH_WORKERS_COMMON_LANDLOCK_H

#include "workers/common/classes.h"

/* The rules of the class for the spool below queue_directory, as a descriptor for
 * landlock_enter(). To be called with the rights to reach that directory. -1 when the class has no
 * rules (local delivery) or this kernel knows too little of them; that is logged when the log
 * worker starts, once for all. Dies when a rule cannot be made. */
int landlock_rules(enum worker_class class_id, const char *queue_directory);
/* From now on they hold for this process and its children; closes the descriptor, nothing is done
 * with -1. Needs no_new_privs and no threads. Dies on failure. */
void landlock_enter(int rules_fd);

#endif
