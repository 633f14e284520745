/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Plan: what the privileged process needs to know of the configuration, worked out by a short-lived
 * run of `posthaste` so that the long-lived root process parses no main.cf. Text lines:
 *   conf DIR | queue DIR | libexec DIR | posthaste PATH
 *   listen CLASS INDEX ADDRESS PORT     numeric; CLASS smtpd, stats or spawn; INDEX as
 * conf_listener(), of spawn as conf_service() listen-unix CLASS INDEX NAME        NAME below the
 * queue directory; CLASS showq or spawn
 */
#ifndef PH_DAEMON_PRIV_PLAN_H
#define PH_DAEMON_PRIV_PLAN_H

#include <limits.h>
#include <stdint.h>

#include "workers/common/classes.h"

#define PLAN_MAX_LISTENERS 64
#define PLAN_ADDRESS_SIZE  108 /* a path as the kernel takes it */
#define PLAN_FD            1   /* where `posthaste plan` writes the plan */
#define PLAN_SNAP_FD       4   /* and the snapshot */

struct plan_listener {
	enum worker_class class_id;
	unsigned index;
	uint16_t port;
	char address[PLAN_ADDRESS_SIZE]; /* of the file system if there is a / in it */
};

struct plan {
	char conf_dir[PATH_MAX];
	char queue_dir[PATH_MAX];
	char libexec_dir[PATH_MAX];
	char posthaste[PATH_MAX];
	struct plan_listener listeners[PLAN_MAX_LISTENERS];
	unsigned listener_count;
};

/* Read the plan from the start of fd. E_SYNTAX when it is not one. */
int plan_read(int fd, struct plan *plan);

#endif
