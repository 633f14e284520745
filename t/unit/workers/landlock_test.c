/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which files a worker of a class still reaches. Tried in a child process, in a spool of its own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/log.h"
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
	OWN_FD = 256,
	TRUNCATES = 512,
	SIGNALS = 1024,
	DEVICES = 2048, /* and pipes, sockets, symbolic links */
	READ_JOURNAL = 4096,
	ALL = 8191
};

#define MAILBOX  CLASS_COUNT /* the child of local delivery, for its base */
#define VERSIONS 6           /* the newest that changes anything here */

static char lacking[200];

static void take_line(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		      const char *text, size_t len)
{
	snprintf(lacking, sizeof(lacking), "%.*s", (int)len, text);
}

static void enter(unsigned class_id, int limit)
{
	int fd = -1;

	if (class_id != MAILBOX)
		fd = landlock_rules((enum worker_class)class_id, base, limit);
	else if (landlock_mailbox_rules(base, LANDLOCK_MAILDIR, limit, &fd) != 0)
		abort();
	landlock_enter(fd);
}

/* Bits of what works. */
static int look(unsigned class_id, int limit)
{
	char from[200], to[200], seg[200], link[200];
	int own = open("/etc/passwd", O_RDONLY), bits = 0;
	char c;

	snprintf(from, sizeof(from), "%s/spare/1", base);
	snprintf(to, sizeof(to), "%s/seg/2", base);
	snprintf(seg, sizeof(seg), "%s/seg/1", base);
	snprintf(link, sizeof(link), "%s/link", base);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	log_set_sink(take_line, NULL);
	enter(class_id, limit);
	bits |= opens("/etc/passwd", O_RDONLY) ? PASSWD : 0;
	bits |= opens("seg/1", O_RDONLY) ? READ_SEG : 0;
	bits |= opens("seg/1", O_WRONLY) ? WRITE_SEG : 0;
	bits |= opens("seg/3", O_WRONLY | O_CREAT | O_EXCL) ? MAKE_SEG : 0;
	bits |= opens("journal/3", O_WRONLY | O_CREAT | O_EXCL) ? MAKE_JOURNAL : 0;
	bits |= opens("journal/1", O_RDONLY) ? READ_JOURNAL : 0;
	bits |= opens("state", O_RDONLY) ? READ_STATE : 0;
	bits |= rename(from, to) == 0 ? RENAME : 0;
	bits |= binds() ? BINDS : 0;
	bits |= read(own, &c, 1) == 1 ? OWN_FD : 0;
	bits |= truncate(seg, 0) == 0 ? TRUNCATES : 0;
	bits |= kill(getppid(), 0) == 0 ? SIGNALS : 0;
	bits |= symlink("x", link) == 0 || mkfifo(to, 0600) == 0 ? DEVICES : 0;
	return bits;
}

static void touch(const char *name)
{
	if (!opens(name, O_WRONLY | O_CREAT | O_TRUNC))
		abort();
}

static void make_spool(void)
{
	static const char *const dirs[] = { "", "seg", "spare", "journal", "corrupt" };

	for (size_t i = 0; i < 5; i++) {
		char path[200];

		snprintf(path, sizeof(path), "%s/%s", base, dirs[i]);
		mkdir(path, 0700);
	}
	touch("seg/1");
	touch("spare/1");
	touch("journal/1");
	touch("state");
}

static void try(unsigned class_id, int limit, int expected, const char *what)
{
	char command[300];
	int status, got[2], bits = 0;

	make_spool();
	if (pipe(got) < 0)
		return;
	pid_t pid = fork();

	if (pid == 0) {
		bits = look(class_id, limit);
		_exit(write(got[1], &bits, sizeof(bits)) == sizeof(bits) ? 0 : 1);
	}
	close(got[1]);
	ok(read(got[0], &bits, sizeof(bits)) == sizeof(bits), "%s: goes on living", what);
	close(got[0]);
	waitpid(pid, &status, 0);
	is_int(bits, expected, "%s, version %d: can do what it needs and nothing else", what,
	       limit);
	snprintf(command, sizeof(command), "rm -rf %s", base);
	if (system(command) != 0)
		abort();
}

/* Caches of as many transports as there are, most of them in one directory. */
static void test_keep(int version)
{
	static const char *const dirs[] = { "seg", "spare", "spare", "journal", "corrupt" };
	char command[300];
	int status;

	make_spool();
	pid_t pid = fork();

	if (pid == 0) {
		bool all = true;

		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		log_set_sink(take_line, NULL);
		for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
			char path[200];

			snprintf(path, sizeof(path), "%s/%s", base, dirs[i]);
			landlock_also_keep(path);
		}
		enter(CLASS_SASL_CLIENT, version);
		for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
			char name[32];

			snprintf(name, sizeof(name), "%s/cache", dirs[i]);
			all = opens(name, O_RDWR | O_CREAT) && all;
		}
		_exit(all && !opens("state", O_RDONLY) ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	is_int(status, 0, "five caches, and nothing else");
	snprintf(command, sizeof(command), "rm -rf %s", base);
	if (system(command) != 0)
		abort();
}

/* What a class can do under all rules there are. */
static const struct {
	unsigned class_id;
	const char *name;
	int can;
} classes[] = {
	{ CLASS_SMTP_IN, "smtp-in", OWN_FD },
	{ CLASS_LOG, "log", OWN_FD },
	{ CLASS_STATS, "stats", OWN_FD },
	{ CLASS_RESOLVER, "resolver", OWN_FD },
	{ CLASS_VERIFY, "verify", OWN_FD },
	{ CLASS_LOOKUP, "lookup", PASSWD | OWN_FD }, /* it asks the name service */
	{ CLASS_AUTH, "auth", PASSWD | OWN_FD },
	{ CLASS_SASL_CLIENT, "saslclient", PASSWD | OWN_FD },
	{ CLASS_DELIVER, "deliver", READ_SEG | MAKE_JOURNAL | BINDS | OWN_FD },
	{ CLASS_REWRITE, "rewrite",
	  READ_SEG | WRITE_SEG | MAKE_SEG | MAKE_JOURNAL | READ_JOURNAL | RENAME | OWN_FD |
		  TRUNCATES },
	{ CLASS_SUPERVISOR, "supervisor",
	  READ_SEG | WRITE_SEG | MAKE_SEG | MAKE_JOURNAL | READ_JOURNAL | READ_STATE | RENAME |
		  OWN_FD | TRUNCATES },
	{ CLASS_LOCAL, "local", ALL & ~(BINDS | SIGNALS | DEVICES) },
	{ MAILBOX, "mailbox delivery",
	  WRITE_SEG | MAKE_SEG | MAKE_JOURNAL | RENAME | OWN_FD | TRUNCATES },
};

static int expected(int can, int version)
{
	if (version < 2)
		return ALL;
	return can | (version < 3 ? TRUNCATES : 0) | (version < 4 ? BINDS : 0) |
	       (version < 6 ? SIGNALS : 0);
}

/* As many rules are applied as the kernel has, and the log says what is lacking. */
static void test_said(int version)
{
	static const char *const said[VERSIONS + 1] = {
		"no file rules for processes",
		"no file rules for processes",
		"(Landlock 2) lack truncation, networks, devices, scopes of signals",
		"(Landlock 3) lack networks, devices, scopes of signals",
		"(Landlock 4) lack devices, scopes of signals",
		"(Landlock 5) lack scopes of signals",
		"",
	};

	lacking[0] = '\0';
	make_spool();
	log_set_sink(take_line, NULL);
	int fd = landlock_rules(CLASS_LOG, base, version);

	log_set_sink(NULL, NULL);
	if (fd >= 0)
		close(fd);
	ok(said[version][0] == '\0' ? lacking[0] == '\0' : strstr(lacking, said[version]) != NULL,
	   "version %d: the log says: %s", version, lacking);
}

int main(void)
{
	long version = syscall(444, NULL, 0, 1);

	if (mkdtemp(base) == NULL)
		return 1;
	for (int v = 0; v <= VERSIONS && v <= (version < 0 ? 0 : version); v++) {
		test_said(v);
		for (size_t i = 0; i < ARRAY_LEN(classes); i++)
			try(classes[i].class_id, v, expected(classes[i].can, v), classes[i].name);
	}
	if (version >= 2)
		test_keep(version < VERSIONS ? version : VERSIONS);
	return tap_done();
}
