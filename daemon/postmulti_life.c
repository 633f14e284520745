/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Making, changing and removing instances; see daemon/postmulti.h. main.cf files are changed by
 * postconf, so that a crash leaves the old file or the new one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/command.h"
#include "daemon/postmulti.h"
#include "lib/err.h"
#include "lib/io.h"

#define NAME_CHARS     "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
#define FILE_MAX_BYTES ((size_t)16 << 20)

/* ---- changing main.cf ---- */

PRINTF_LIKE(2, 3) static void set(const struct instance *in, const char *fmt, ...)
{
	static char name[] = "postconf", c[] = "-c", e[] = "-e";
	char *path = xasprintf("%s/postconf", in->command_dir), *setting;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&setting, fmt, ap) < 0)
		command_fatal("no memory");
	va_end(ap);
	if (instance_run(in, path, (char *[]){ name, c, in->dir, e, setting, NULL }) != 0)
		command_fatal("cannot set %s in %s/main.cf", setting, in->dir);
	free(setting);
	free(path);
}

/* multi_instance_directories of the primary: those there are, and `with`, but for `without`. */
static void set_directories(const struct instances *list, const char *with, const char *without)
{
	struct buf b = BUF_INIT;

	for (size_t i = 1; i < list->count; i++) {
		if (without == NULL || strcmp(list->v[i].dir, without) != 0)
			buf_printf(&b, " %s", list->v[i].dir);
	}
	if (with != NULL)
		buf_printf(&b, " %s", with);
	set(&list->v[0], "multi_instance_directories =%s", buf_cstr(&b));
	buf_fini(&b);
}

static void check_fresh_name(const struct instances *list, const char *name)
{
	if (name == NULL || name[0] == '\0')
		return;
	if (strncmp(name, "posthaste-", 10) != 0 && strncmp(name, "postfix-", 8) != 0)
		command_fatal("New instance name must start with 'postfix-' or 'posthaste-'");
	if (name[strspn(name, NAME_CHARS)] != '\0')
		command_fatal("Unsafe characters in new instance name: '%s'", name);
	if (instances_find(list, name) != NULL)
		command_fatal("there is an instance of this name: %s", name);
}

/* ---- actions ---- */

static void act_init(const struct instances *list, const struct life_options *o UNUSED)
{
	set(&list->v[0], "multi_instance_enable = yes");
	set(&list->v[0], "multi_instance_wrapper = ${command_directory}/postmulti -p --");
}

/* The value of "name=value" on the command line. */
static const char *setting(const struct life_options *o, const char *name)
{
	size_t n = strlen(name);

	for (unsigned i = 0; i < o->setting_count; i++) {
		if (strncmp(o->settings[i], name, n) == 0 && o->settings[i][n] == '=')
			return o->settings[i] + n + 1;
	}
	return NULL;
}

/* Given, or beside the primary's with the instance's name. */
static char *beside(const struct life_options *o, const char *param, const char *primary)
{
	const char *given = setting(o, param);
	char *copy = xstrdup(primary);
	char *path = given != NULL ? xstrdup(given) : xasprintf("%s/%s", dirname(copy), o->name);

	if (path[0] != '/')
		command_fatal("%s must be an absolute path: %s", param, path);
	free(copy);
	return path;
}

static void write_new(const char *dir, const char *name, const char *text)
{
	char *path = xasprintf("%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd < 0 || io_write_all(fd, text, strlen(text)) != 0 || fsync(fd) < 0)
		command_fatal("create %s: %s", path, strerror(errno));
	close(fd);
	free(path);
}

static void set_given(const struct instance *in, const struct life_options *o)
{
	for (unsigned i = 0; i < o->setting_count; i++) {
		if (strncmp(o->settings[i], "config_directory=", 17) != 0)
			set(in, "%s", o->settings[i]);
	}
	if (o->name != NULL)
		set(in, "multi_instance_name = %s", o->name);
	if (o->group != NULL)
		set(in, "multi_instance_group = %s", o->group);
}

static void act_create(const struct instances *list, const struct life_options *o)
{
	const struct instance *p = &list->v[0];

	if (o->name == NULL)
		command_fatal("-e create needs -I name");
	struct instance in = *p;
	struct buf main_cf = BUF_INIT, master_cf = BUF_INIT;

	in.dir = beside(o, "config_directory", p->dir);
	in.queue = beside(o, "queue_directory", p->queue);
	in.data = beside(o, "data_directory", p->data);
	if (instances_find(list, in.dir) != NULL)
		command_fatal("there is an instance in %s", in.dir);
	if (io_mkdir_p(in.dir, 0755) != 0)
		command_fatal("create directory %s", in.dir);
	char *path = xasprintf("%s/master.cf", p->dir);

	if (io_read_file(path, FILE_MAX_BYTES, &master_cf) != 0)
		buf_reset(&master_cf);
	buf_printf(&main_cf,
		   "queue_directory = %s\ndata_directory = %s\ncommand_directory = %s\n"
		   "daemon_directory = %s\nmulti_instance_enable = no\n"
		   "# nobody submits mail here until this line goes\nauthorized_submit_users =\n",
		   in.queue, in.data, in.command_dir, in.daemon_dir);
	write_new(in.dir, "main.cf", buf_cstr(&main_cf));
	write_new(in.dir, "master.cf", buf_cstr(&master_cf));
	set_given(&in, o);
	set_directories(list, in.dir, NULL);
	buf_fini(&main_cf);
	buf_fini(&master_cf);
	free(path);
	free(in.dir);
	free(in.queue);
	free(in.data);
}

static void act_import(const struct instances *list, const struct life_options *o)
{
	const char *dir = setting(o, "config_directory");
	struct instance in = list->v[0];

	if (dir == NULL || dir[0] != '/')
		command_fatal("-e import needs config_directory=/path");
	if (instances_find(list, dir) != NULL)
		command_fatal("there is an instance in %s", dir);
	struct conf *c = command_conf(dir); /* says what is wrong with it */

	conf_free(&c);
	in.dir = xstrdup(dir);
	set(&in, "multi_instance_enable = no");
	set_given(&in, o);
	set_directories(list, in.dir, NULL);
	free(in.dir);
}

static const struct instance *chosen(const struct instances *list, const struct life_options *o)
{
	if (o->chosen == NULL)
		command_fatal("Select an instance via '-i name'");
	const struct instance *in = instances_find(list, o->chosen);

	if (in == NULL)
		command_fatal("No instance named %s", o->chosen);
	return in;
}

static const struct instance *secondary(const struct instances *list, const struct life_options *o)
{
	const struct instance *in = chosen(list, o);

	if (in->primary)
		command_fatal("Cannot do this to the primary instance");
	return in;
}

static const struct instance *disabled(const struct instances *list, const struct life_options *o)
{
	const struct instance *in = secondary(list, o);

	if (in->enabled)
		command_fatal("the instance is enabled: disable it first");
	return in;
}

static void act_enable(const struct instances *list, const struct life_options *o)
{
	set(chosen(list, o), "multi_instance_enable = yes");
}

static void act_disable(const struct instances *list, const struct life_options *o)
{
	set(secondary(list, o), "multi_instance_enable = no");
}

static void act_assign(const struct instances *list, const struct life_options *o)
{
	const struct instance *in = chosen(list, o);

	if (o->name == NULL && o->group == NULL)
		command_fatal("-e assign needs -I name or -G group");
	set_given(in, &(struct life_options){ .name = o->name, .group = o->group });
}

static void act_deport(const struct instances *list, const struct life_options *o)
{
	set_directories(list, NULL, disabled(list, o)->dir);
}

static int remove_one(const char *path, const struct stat *st UNUSED, int type UNUSED,
		      struct FTW *ftw UNUSED)
{
	return remove(path);
}

static bool dir_is_empty(const char *base, const char *sub)
{
	char *path = xasprintf("%s/%s", base, sub);
	DIR *d = opendir(path);
	bool empty = d != NULL || errno == ENOENT;

	for (struct dirent *e; d != NULL && empty && (e = readdir(d)) != NULL;)
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	if (d != NULL)
		closedir(d);
	free(path);
	return empty;
}

/* Runs a command of the instance; true when it succeeded and wrote nothing to standard output. */
static bool says_nothing(const struct instance *in, const char *name, char *const *argv)
{
	char *path = xasprintf("%s/%s", in->command_dir, name), byte;
	int keep = dup(STDOUT_FILENO), ends[2];

	if (keep < 0 || pipe2(ends, O_CLOEXEC) < 0)
		command_fatal("pipe: %s", strerror(errno));
	/* a pipe takes some thousand bytes before anybody reads: more than one line is no matter */
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	fflush(stdout);
	dup2(ends[1], STDOUT_FILENO);
	int status = instance_run(in, path, argv);

	dup2(keep, STDOUT_FILENO);
	close(keep);
	close(ends[1]);
	ssize_t n = read(ends[0], &byte, 1);

	close(ends[0]);
	free(path);
	return status == 0 && n == 0;
}

/* Mail that waits anywhere below the queue directory keeps the instance alive. */
static bool has_mail(const struct instance *in)
{
	static char name[] = "postqueue", c[] = "-c", j[] = "-j";

	if (!dir_is_empty(in->queue, "maildrop") || !dir_is_empty(in->queue, "pickup") ||
	    !dir_is_empty(in->queue, "corrupt"))
		return true;
	return !dir_is_empty(in->queue, "seg") &&
	       !says_nothing(in, "postqueue", (char *[]){ name, c, in->dir, j, NULL });
}

static bool is_running(const struct instance *in)
{
	static char name[] = "posthaste", c[] = "-c", status[] = "status";
	char *path = xasprintf("%s/posthaste", in->command_dir);
	bool runs = !dir_is_empty(in->queue, "pid") &&
		    instance_run(in, path, (char *[]){ name, c, in->dir, status, NULL }) == 0;

	free(path);
	return runs;
}

static void act_destroy(const struct instances *list, const struct life_options *o)
{
	const struct instance *in = disabled(list, o);
	char *main_cf = xasprintf("%s/main.cf", in->dir);
	char *master_cf = xasprintf("%s/master.cf", in->dir);

	if (is_running(in))
		command_fatal("the instance is running");
	if (has_mail(in))
		command_fatal("%s is not empty: there may be mail", in->queue);
	set_directories(list, NULL, in->dir);
	nftw(in->queue, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	nftw(in->data, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	unlink(main_cf);
	unlink(master_cf);
	if (rmdir(in->dir) < 0 && errno != ENOENT)
		fprintf(stderr, "postmulti: warning: %s stays: %s\n", in->dir, strerror(errno));
	free(main_cf);
	free(master_cf);
}

static const struct {
	const char *name;
	void (*run)(const struct instances *list, const struct life_options *o);
	bool unmanaged; /* also before -e init */
} actions[] = {
	{ "init", act_init, true },        { "create", act_create, false },
	{ "import", act_import, false },   { "destroy", act_destroy, false },
	{ "deport", act_deport, false },   { "enable", act_enable, false },
	{ "disable", act_disable, false }, { "assign", act_assign, true },
};

int life_action(const struct instances *list, const char *action, const struct life_options *o)
{
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		if (strcmp(actions[i].name, action) != 0)
			continue;
		if (!actions[i].unmanaged && !list->managed)
			command_fatal("multi-instance support is not enabled: postmulti "
				      "-e init comes first");
		for (unsigned k = 0; k < o->setting_count; k++) {
			if (strchr(o->settings[k], '=') == NULL)
				command_fatal("Malformed parameter setting '%s'", o->settings[k]);
		}
		check_fresh_name(list, o->name);
		actions[i].run(list, o);
		return EX_OK;
	}
	command_fatal("Invalid '-e' edit action '%s'. Specify 'create', 'destroy', 'import', "
		      "'deport', 'enable', 'disable', 'assign' or 'init'",
		      action);
}
