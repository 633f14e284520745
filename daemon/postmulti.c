/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postmulti: several instances on one machine. The primary one's main.cf lists the configuration
 * directories of the others (multi_instance_directories); each says its name, its group and whether
 * it is enabled. Here: options, choosing instances, running commands for them. Making and removing
 * instances is daemon/postmulti_life.c.
 */
#include "daemon/postmulti.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/command.h"
#include "conf/map.h"
#include "lib/err.h"

enum mode { MODE_NONE, MODE_LIST, MODE_SYSTEM, MODE_COMMAND, MODE_LIFE };

struct choice {
	enum mode mode;
	const char *action;       /* -e */
	const char *group, *name; /* -g, -i; NULL = all */
	bool reverse;
	struct life_options life;
};

#define ONE_MODE "Specify exactly one of '-e', '-l', '-p', '-x'"

static NORETURN void usage(void)
{
	command_fatal("usage: postmulti -l|-p|-x [-aRv] [-g group] [-i name] [command "
		      "...], or -e action [-aGIgiv] [name=value ...]");
}

/* ---- instances ---- */

static char *value_of(const struct conf *c, const char *name)
{
	const char *value = conf_get(c, name);

	return xstrdup(value != NULL ? value : "");
}

static void add_instance(struct instances *list, struct conf *c, bool primary)
{
	list->v = xrealloc(list->v, (list->count + 1) * sizeof(*list->v));
	struct instance *in = &list->v[list->count++];

	*in = (struct instance){ .dir = xstrdup(conf_dir(c)),
				 .name = value_of(c, "multi_instance_name"),
				 .group = value_of(c, "multi_instance_group"),
				 .queue = xstrdup(conf_params(c)->queue_directory),
				 .data = xstrdup(conf_params(c)->data_directory),
				 .command_dir = xstrdup(conf_params(c)->command_directory),
				 .daemon_dir = xstrdup(conf_params(c)->daemon_directory),
				 .primary = primary };
	char *enabled = value_of(c, "multi_instance_enable");

	in->enabled = primary || str_eq_nocase(enabled, "yes");
	free(enabled);
}

void instances_load(struct instances *list, const char *primary_dir)
{
	struct conf *c = command_conf(primary_dir);
	char *others = value_of(c, "multi_instance_directories"), *save = NULL;
	char *enabled = value_of(c, "multi_instance_enable");

	*list = (struct instances){ .managed = str_eq_nocase(enabled, "yes"),
				    .start_commands = value_of(c, "postmulti_start_commands"),
				    .stop_commands = value_of(c, "postmulti_stop_commands"),
				    .control_commands = value_of(c, "postmulti_control_commands") };
	add_instance(list, c, true);
	conf_free(&c);
	for (char *d = strtok_r(others, ", \t\r\n", &save); d != NULL && list->managed;
	     d = strtok_r(NULL, ", \t\r\n", &save)) {
		c = command_conf(d);
		add_instance(list, c, false);
		conf_free(&c);
	}
	free(others);
	free(enabled);
}

void instances_free(struct instances *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct instance *in = &list->v[i];
		char *const strings[] = { in->dir,  in->name,        in->group,     in->queue,
					  in->data, in->command_dir, in->daemon_dir };

		for (size_t k = 0; k < ARRAY_LEN(strings); k++)
			free(strings[k]);
	}
	free(list->v);
	free(list->start_commands);
	free(list->stop_commands);
	free(list->control_commands);
	*list = (struct instances){ 0 };
}

struct instance *instances_find(const struct instances *list, const char *name)
{
	for (size_t i = 0; i < list->count; i++) {
		struct instance *in = &list->v[i];

		if (strcmp(name, "-") == 0 ? in->primary
					   : (in->name[0] != '\0' && strcmp(in->name, name) == 0) ||
						     strcmp(in->dir, name) == 0)
			return in;
	}
	return NULL;
}

static bool is_chosen(const struct choice *ch, const struct instances *list,
		      const struct instance *in)
{
	if (ch->name != NULL)
		return instances_find(list, ch->name) == in;
	return ch->group == NULL || strcmp(in->group, ch->group) == 0;
}

/* ---- commands ---- */

static void export_instance(const struct instance *in)
{
	setenv("MAIL_CONFIG", in->dir, 1);
	setenv("config_directory", in->dir, 1);
	setenv("queue_directory", in->queue, 1);
	setenv("data_directory", in->data, 1);
	setenv("command_directory", in->command_dir, 1);
	setenv("daemon_directory", in->daemon_dir, 1);
	setenv("multi_instance_name", in->name, 1);
	setenv("multi_instance_group", in->group, 1);
	setenv("multi_instance_enable", in->enabled ? "yes" : "no", 1);
}

int instance_run(const struct instance *in, const char *path, char *const *argv)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		command_fatal("fork: %s", strerror(errno));
	if (pid == 0) {
		export_instance(in);
		execvp(path, argv);
		fprintf(stderr, "postmulti: fatal: execvp %s: %s\n", path, strerror(errno));
		_exit(EXIT_FAILURE);
	}
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return EX_OSERR;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : EX_SOFTWARE;
}

/* A command of `postfix`, in its words. What is not enabled is checked, not started, and otherwise
 * left alone.
 */
static int run_system(const struct instances *all, const struct instance *in, int argc, char **argv)
{
	static char name[] = "postfix", c[] = "-c", check[] = "check";
	char *path = xasprintf("%s/postfix", in->command_dir);
	char *list[4] = { name, c, in->dir, argv[0] };
	char **args = xcalloc((size_t)argc + 4, sizeof(*args));
	int status = 0;

	if (!in->enabled && matchlist_word_in(all->start_commands, argv[0]))
		list[3] = check;
	memcpy(args, list, sizeof(list));
	memcpy(args + 4, argv + 1, ((size_t)argc - 1) * sizeof(*args));
	if (in->enabled || (!matchlist_word_in(all->stop_commands, argv[0]) &&
			    !matchlist_word_in(all->control_commands, argv[0])))
		status = instance_run(in, path, args);
	free(args);
	free(path);
	return status;
}

static void print(const struct instance *in)
{
	printf("%-15s %-15s %-9s %s\n", in->name[0] != '\0' ? in->name : "-",
	       in->group[0] != '\0' ? in->group : "-", in->enabled ? "y" : "n", in->dir);
}

static int iterate(const struct choice *ch, const struct instances *list, int argc, char **argv)
{
	/* what is ended goes the other way round */
	bool reverse = ch->reverse !=
		       (ch->mode == MODE_SYSTEM && matchlist_word_in(list->stop_commands, argv[0]));
	int result = 0;
	bool any = false;

	for (size_t i = 0; i < list->count; i++) {
		struct instance *in = &list->v[reverse ? list->count - 1 - i : i];
		int status = 0;

		if (!is_chosen(ch, list, in))
			continue;
		any = true;
		if (ch->mode == MODE_LIST)
			print(in);
		else if (ch->mode == MODE_SYSTEM)
			status = run_system(list, in, argc, argv);
		else
			status = instance_run(in, argv[0], argv);
		result = status != 0 ? EXIT_FAILURE : result;
		/* of a group, what comes later may need what has failed */
		if (status != 0 && ch->group != NULL && ch->mode == MODE_SYSTEM &&
		    matchlist_word_in(list->start_commands, argv[0]))
			break;
	}
	/* a list may be empty */
	if (!any && ch->mode != MODE_LIST)
		command_fatal("No matching instances");
	return result;
}

/* ---- options ---- */

static void set_mode(struct choice *ch, enum mode mode)
{
	if (ch->mode != MODE_NONE)
		command_fatal(ONE_MODE);
	ch->mode = mode;
}

static void option(struct choice *ch, int opt)
{
	switch (opt) {
	case 'l':
		set_mode(ch, MODE_LIST);
		break;
	case 'p':
		set_mode(ch, MODE_SYSTEM);
		break;
	case 'x':
		set_mode(ch, MODE_COMMAND);
		break;
	case 'e':
		set_mode(ch, MODE_LIFE);
		ch->action = optarg;
		break;
	case 'g':
		ch->group = optarg;
		break;
	case 'i':
		ch->name = optarg;
		break;
	case 'G':
		ch->life.group = optarg;
		break;
	case 'I':
		ch->life.name = optarg;
		break;
	case 'R':
		ch->reverse = true;
		break;
	case 'a':
	case 'v':
		break;
	default:
		usage();
	}
}

int main(int argc, char **argv)
{
	struct choice ch = { .mode = MODE_NONE };
	struct instances list;
	const char *dir = NULL;
	int opt, status;

	command_start("postmulti", EXIT_FAILURE);
	while ((opt = getopt(argc, argv, "+ac:e:g:G:i:I:lpRvx")) != -1) {
		if (opt == 'c')
			dir = optarg;
		else
			option(&ch, opt);
	}
	argc -= optind;
	argv += optind;
	bool wants_command = ch.mode == MODE_SYSTEM || ch.mode == MODE_COMMAND;

	if (ch.mode == MODE_NONE)
		command_fatal(ONE_MODE);
	if (wants_command && argc == 0)
		command_fatal("Command required with '-p' or '-x' option");
	if (ch.mode == MODE_LIST && argc > 0)
		command_fatal("Command not allowed with '-l'");
	if (ch.name != NULL && ch.group != NULL)
		command_fatal("Specify no more than one of '-a', '-g', '-i'");
	if (dir == NULL)
		dir = getenv("MAIL_CONFIG") != NULL ? getenv("MAIL_CONFIG") : PH_CONFIG_DIR;
	instances_load(&list, dir);
	ch.life.chosen = ch.name;
	ch.life.settings = argv;
	ch.life.setting_count = (unsigned)argc;
	if (ch.mode == MODE_LIFE)
		status = life_action(&list, ch.action, &ch.life);
	else
		status = iterate(&ch, &list, argc, argv);
	instances_free(&list);
	return status;
}
