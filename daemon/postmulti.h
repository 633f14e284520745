/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside of the postmulti command: daemon/postmulti.c and daemon/postmulti_life.c. */
#ifndef PH_DAEMON_POSTMULTI_H
#define PH_DAEMON_POSTMULTI_H

#include <stdbool.h>
#include <stddef.h>

struct instance {
	char *dir; /* config_directory */
	char *name, *group;
	char *queue, *data, *command_dir, *daemon_dir;
	bool enabled, primary;
};

struct instances { /* the primary one first */
	struct instance *v;
	size_t count;
	bool managed; /* multi_instance_enable of the primary one */
	char *start_commands, *stop_commands, *control_commands; /* postmulti_..._commands */
};

struct life_options {
	const char *chosen;       /* -i */
	const char *name, *group; /* -I, -G; NULL = not given */
	char *const *settings;    /* name=value */
	unsigned setting_count;
};

void instances_load(struct instances *list, const char *primary_dir);
void instances_free(struct instances *list);
/* By name, directory, or "-" for the primary one; NULL when there is none. */
struct instance *instances_find(const struct instances *list, const char *name);
/* Run a program with the instance in its environment; its exit status. */
int instance_run(const struct instance *in, const char *path, char *const *argv);
/* -e init, create, import, destroy, deport, enable, disable, assign. Returns the exit status. */
int life_action(const struct instances *list, const char *action, const struct life_options *o);

#endif
