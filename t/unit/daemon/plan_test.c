/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The directories that are made before a start. What a mail_owner process may have put there in the
 * meantime must not move the hand of the one who starts, who may be root.
 */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/plan.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"

static char dir[] = "/tmp/plan_test.XXXXXX";

static const char *at(const char *name)
{
	static char path[2][200];
	static unsigned n;

	n ^= 1;
	snprintf(path[n], sizeof(path[n]), "%s/%s", dir, name);
	return path[n];
}

/* Problems end the process, so each try is one of its own. */
static int try(const struct conf *c)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(9);
		plan_make_directories(c);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return status;
}

static struct stat look(const char *name)
{
	struct stat st = { 0 };

	lstat(at(name), &st);
	return st;
}

static void fresh(const struct conf *c, const struct passwd *owner)
{
	is_int(try(c), 0, "made");
	is_int(look("q/seg").st_mode & 07777, 0700, "seg is private");
	is_int(look("q/seg").st_uid, owner->pw_uid, "and mail_owner's");
	is_int(look("q/control").st_uid, owner->pw_uid, "so is control");
	is_int(look("q").st_uid, geteuid(), "the queue directory is not mail_owner's");
	is_int(look("q/pid").st_uid, geteuid(), "nor is pid");
	is_int(look("q/empty").st_uid, geteuid(), "nor empty");
	if (geteuid() == 0) {
		is_int(look("q").st_mode & 07777, 01775, "what is root's there cannot be renamed");
		is_int(look("q").st_gid, owner->pw_gid, "and mail_owner can write there");
	}
	is_int(try(c), 0, "again without harm");
}

static void planted(const struct conf *c)
{
	mkdir(at("victim"), 0711);
	rmdir(at("q/control"));
	ok(symlink(at("victim"), at("q/control")) == 0, "a link in place of control");
	ok(try(c) != 0, "is refused");
	is_int(look("victim").st_mode & 07777, 0711, "what it points to keeps its mode");
	is_int(look("victim").st_uid, geteuid(), "and its owner");
	unlink(at("q/control"));
	rmdir(at("q/pid"));
	ok(symlink(at("victim"), at("q/pid")) == 0, "a link in place of pid");
	ok(try(c) != 0, "is refused");
	unlink(at("q/pid"));
	mkdir(at("q/pid"), 0755);
	chmod(at("q/pid"), 0777);
	ok(try(c) != 0, "a pid directory that others can write to is refused");
	chmod(at("q/pid"), 0755);
	if (geteuid() == 0) {
		ok(chown(at("q/pid"), 1, 1) == 0 && try(c) != 0, "as is one of another user");
		(void)!chown(at("q/pid"), 0, 0);
	}
	is_int(try(c), 0, "and all is well when it is repaired");
}

int main(void)
{
	struct passwd *owner = getpwnam(geteuid() == 0 ? "nobody" : getpwuid(geteuid())->pw_name);
	char text[600];

	if (owner == NULL || mkdtemp(dir) == NULL)
		bug("test: mkdtemp, or no such user");
	snprintf(text, sizeof(text),
		 "queue_directory = %s/q\ndata_directory = %s/data\nmail_owner = %s\n", dir, dir,
		 owner->pw_name);
	struct conf *c = test_conf(text);

	fresh(c, owner);
	planted(c);
	conf_free(&c);
	for (const char *const *d =
		     (const char *const[]){ "q/seg", "q/spare", "q/journal", "q/corrupt",
					    "q/control", "q/pid", "q/empty", "q", "data", "victim",
					    "", NULL };
	     *d != NULL; d++)
		rmdir(at(*d));
	return tap_done();
}
