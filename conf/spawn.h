/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Services of program spawn in master.cf (spawn(8)): a command for each connection, with the
 * connection as its standard input, output and error; and the environment that commands get. Called
 * by daemon/plan.c for the listening sockets, and by workers/spawn.
 */
#ifndef PH_CONF_SPAWN_H
#define PH_CONF_SPAWN_H

#include <sys/types.h>

#include "conf/conf.h"
#include "lib/arena.h"

#define SPAWN_PROCESS_MAX 1000u /* of one service, and of all together */

struct spawn_service {
	const struct conf_service *service;
	bool is_unix;
	const char *host, *port; /* inet; an empty host means inet_interfaces */
	const char *path;        /* unix: below the queue directory */
	const char *user_text;   /* user= */
	uid_t uid;
	gid_t gid;
	const char *problem;     /* no such user: the command is not run */
	const char *const *argv; /* ends with NULL */
	unsigned maxproc;        /* 1 .. SPAWN_PROCESS_MAX */
	int64_t time_limit_ms;
};

/* The service at this index of conf_service(); false: it is none, or master_service_disable names
 * it. What is wrong with it goes to `d` (may be NULL) and *err_r (E_CONFIG). Memory from the arena.
 */
bool spawn_service_read(const struct conf *c, unsigned index, struct arena *a,
			struct spawn_service *s, struct conf_diag *d, int *err_r);
/* Are there any? */
bool spawn_is_used(const struct conf *c);

/* What export_environment (`list`) names, and a path; ends with NULL. */
const char **command_environment(const struct conf *c, const char *list, struct arena *a);

#endif
