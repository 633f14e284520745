/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Processes that start other people's programs; see starter.h. */
#include "workers/common/starter.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/common/drop.h"

#define FILES 1024 /* descriptors: what programs expect to be the limit */

void starter_begin(const char *name, int first_fd, int asker_fd)
{
	drop_descriptors(first_fd, NULL, 0);
	prctl(PR_SET_NAME, name);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	clock_init();
	drop_own_capabilities(UINT64_C(1) << CAP_KILL | UINT64_C(1) << CAP_SETGID |
			      UINT64_C(1) << CAP_SETUID);
	if (io_set_nonblock(asker_fd) != 0)
		die("%s: its worker's socket: %s", name, strerror(errno));
}

int starter_watch_children(void)
{
	sigset_t child;
	int fd;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		die("signalfd: %s", strerror(errno));
	return fd;
}

void starter_take_signals(int fd)
{
	struct signalfd_siginfo info[8];

	while (read(fd, info, sizeof(info)) > 0)
		;
}

void starter_kill_group(bool change_user, pid_t pid)
{
	uid_t acting = geteuid();

	if (change_user && seteuid(0) < 0)
		die("cannot take root rights back: %s", strerror(errno));
	if (kill(-pid, SIGKILL) < 0)
		kill(pid, SIGKILL);
	if (change_user && seteuid(acting) < 0)
		die("cannot give root rights up: %s", strerror(errno));
}

bool starter_become(uid_t uid, gid_t gid)
{
	take_back_user();
	return setgroups(1, &gid) == 0 && setresgid(gid, gid, gid) == 0 &&
	       setresuid(uid, uid, uid) == 0 && setuid(0) < 0;
}

bool starter_normal_process(void)
{
	struct rlimit files;
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == 1)
		return false;
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > FILES) {
		files.rlim_cur = FILES;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	umask(077);
	return true;
}
