/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which files a worker of a class still reaches. Tried in a child process, in a spool of its own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "t/unit/tap.h"
#include "workers/common/landlock.h"

static char base[] = "/tmp/landlock-test-XXXXXX";

static bool opens(const char *name, int flags)
{
	char path[200];

	snprintf(path, sizeof(path), "%s%s%s", name[0] == '/' ? "" : base,
		 name[0] == '/' ? "" : "/", name);
	int fd = open(path, flags, 0600);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool binds(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool bound = bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0;

	close(fd);
	return bound;
}

enum {
	PASSWD = 1,
	READ_SEG = 2,
	WRITE_SEG = 4,
	MAKE_SEG = 8,
	MAKE_JOURNAL = 16,
	READ_STATE = 32,
	RENAME = 64,
	BINDS = 128,
	OWN_FD = 256
};

/* Bits of what works. */
static int look(enum worker_class class_id)
{
	char from[200], to[200];
	int own = open("/etc/passwd", O_RDONLY), bits = 0;
	char c;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	landlock_enter(landlock_rules(class_id, base));
	snprintf(from, sizeof(from), "%s/spare/1", base);
	snprintf(to, sizeof(to), "%s/seg/2", base);
	bits |= opens("/etc/passwd", O_RDONLY) ? PASSWD : 0;
	bits |= opens("seg/1", O_RDONLY) ? READ_SEG : 0;
	bits |= opens("seg/1", O_WRONLY) ? WRITE_SEG : 0;
	bits |= opens("seg/3", O_WRONLY | O_CREAT | O_EXCL) ? MAKE_SEG : 0;
	bits |= opens("journal/3", O_RDWR | O_CREAT | O_EXCL) ? MAKE_JOURNAL : 0;
	bits |= opens("state", O_RDONLY) ? READ_STATE : 0;
	bits |= rename(from, to) == 0 ? RENAME : 0;
	bits |= binds() ? BINDS : 0;
	bits |= read(own, &c, 1) == 1 ? OWN_FD : 0;
	return bits;
}

static void touch(const char *name)
{
	if (!opens(name, O_WRONLY | O_CREAT | O_TRUNC))
		abort();
}

static void try(enum worker_class class_id, int expected, const char *what)
{
	static const char *const dirs[] = { "", "seg", "spare", "journal", "corrupt" };
	char command[300];
	int status, got[2], bits = 0;

	for (size_t i = 0; i < 5; i++) {
		char path[200];

		snprintf(path, sizeof(path), "%s/%s", base, dirs[i]);
		mkdir(path, 0700);
	}
	touch("seg/1");
	touch("spare/1");
	touch("state");
	if (pipe(got) < 0)
		return;
	pid_t pid = fork();

	if (pid == 0) {
		bits = look(class_id);
		_exit(write(got[1], &bits, sizeof(bits)) == sizeof(bits) ? 0 : 1);
	}
	close(got[1]);
	ok(read(got[0], &bits, sizeof(bits)) == sizeof(bits), "%s: goes on living", what);
	close(got[0]);
	waitpid(pid, &status, 0);
	is_int(bits, expected, "%s: can do what it needs and nothing else", what);
	snprintf(command, sizeof(command), "rm -rf %s", base);
	if (system(command) != 0)
		abort();
}

int main(void)
{
	int all = PASSWD | READ_SEG | WRITE_SEG | MAKE_SEG | MAKE_JOURNAL | READ_STATE | RENAME |
		  BINDS | OWN_FD;
	long version = syscall(444, NULL, 0, 1);

	if (mkdtemp(base) == NULL)
		return 1;
	try(CLASS_LOCAL, all, "local (no rules)");
	if (version < 4) {
		ok(true, "skipped: this kernel has no rules for files and networks");
		return tap_done();
	}
	try(CLASS_SMTP_IN, OWN_FD, "smtp-in");
	try(CLASS_LOG, OWN_FD, "log");
	try(CLASS_STATS, OWN_FD, "stats");
	try(CLASS_RESOLVER, OWN_FD, "resolver");
	try(CLASS_DELIVER, READ_SEG | MAKE_JOURNAL | BINDS | OWN_FD, "deliver");
	try(CLASS_REWRITE, READ_SEG | WRITE_SEG | MAKE_SEG | MAKE_JOURNAL | RENAME | OWN_FD,
	    "rewrite");
	return tap_done();
}
