/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a worker cannot do any more, what it still can, and what the log says of it. Tried in child
 * processes. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/log.h"
#include "t/unit/tap.h"
#include "workers/common/sandbox.h"

struct seen {
	unsigned bits; /* of what is as it should be */
	unsigned told, told_again, lines;
	char line[200];
};

static struct seen seen;

static void take_line(void *ctx UNUSED, enum log_level level, const char *program UNUSED,
		      const char *text, size_t len)
{
	if (level != LOG_LEVEL_WARN)
		return;
	if (seen.lines++ == 0)
		snprintf(seen.line, sizeof(seen.line), "%.*s", (int)len, text);
}

static bool refused(long rc)
{
	return rc < 0 && errno == EPERM;
}

static int event_fd, gate[2];

/* A thread that was there before the filter. */
static void *thread_main(void *arg)
{
	char c;

	if (read(gate[0], &c, 1) == 1)
		*(bool *)arg = refused(kill(getppid(), 0));
	return NULL;
}

static void *memory(int prot)
{
	return mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static const char *const names[] = {
	"no signals to others",
	"signals to itself",
	"no limits of others",
	"its own limits can be asked for",
	"and not changed",
	"no socket of another kind",
	"threads that were there before are bound too",
	"no memory to run code in",
	"nor memory that is turned into such",
	"memory",
	"no signals by the kernel",
	"shared descriptors stay non-blocking",
	"no priorities",
	"no other files by descriptor tricks",
	"sockets as the class needs them",
	"files as the class needs them",
};

static void look(unsigned kind, bool sockets, bool files)
{
	struct rlimit rl = { 10, 10 };
	bool bound = false;
	pthread_t thread;
	unsigned n = 0;
	char *plain;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (pipe(gate) < 0 || pthread_create(&thread, NULL, thread_main, &bound) != 0)
		_exit(1);
	event_fd = eventfd(0, EFD_NONBLOCK);
	log_set_sink(take_line, NULL);
	sandbox_enter(kind);
	plain = memory(PROT_READ | PROT_WRITE);
#define LOOK(what) (seen.bits |= (unsigned)(what) << n++)
	LOOK(refused(kill(getppid(), 0)));
	LOOK(kill(getpid(), 0) == 0 && raise(SIGCHLD) == 0);
	LOOK(refused(prlimit(getppid(), RLIMIT_CORE, &rl, NULL)));
	LOOK(getrlimit(RLIMIT_CORE, &rl) == 0);
	LOOK(refused(setrlimit(RLIMIT_CORE, &rl)));
	LOOK(refused(socket(AF_PACKET, SOCK_RAW, 0)) && refused(socket(AF_NETLINK, SOCK_RAW, 0)));
	if (write(gate[1], "x", 1) == 1)
		pthread_join(thread, NULL);
	LOOK(bound);
	LOOK(memory(PROT_READ | PROT_EXEC) == MAP_FAILED);
	LOOK(refused(mprotect(plain, 4096, PROT_READ | PROT_EXEC)));
	LOOK(plain != MAP_FAILED && mprotect(plain, 4096, PROT_READ) == 0);
	LOOK(refused(fcntl(event_fd, F_SETOWN, getppid())));
	int off = 0;

	LOOK(fcntl(event_fd, F_SETFL, O_NONBLOCK) == 0 && refused(fcntl(event_fd, F_SETFL, 0)) &&
	     refused(ioctl(event_fd, FIONBIO, &off)));
	LOOK(refused(setpriority(PRIO_PROCESS, 0, 1)) &&
	     refused(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 })));
	LOOK(refused(symlink("/etc/passwd", "/tmp/sandbox-test")) &&
	     refused(link("/etc/passwd", "/tmp/sandbox-test")) && refused(chmod("/tmp", 0777)));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	LOOK(sockets ? fd >= 0 : refused(fd));
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	LOOK(files ? fd >= 0 : refused(fd));
	seen.told = sandbox_tell();
	seen.told_again = sandbox_tell();
}

static void try(unsigned kind, bool sockets, bool files)
{
	const char *what = sandbox_kind_name(kind);
	struct seen got = { 0 };
	int status, result[2];

	if (pipe(result) < 0)
		return;
	pid_t pid = fork();

	if (pid == 0) {
		look(kind, sockets, files);
		_exit(write(result[1], &seen, sizeof(seen)) == sizeof(seen) ? 0 : 1);
	}
	close(result[1]);
	ok(read(result[0], &got, sizeof(got)) == sizeof(got), "%s: goes on living", what);
	close(result[0]);
	waitpid(pid, &status, 0);
	for (unsigned i = 0; i < ARRAY_LEN(names) && !sandbox_is_widened(); i++)
		ok(got.bits >> i & 1, "%s: %s", what, names[i]);
	ok(got.told > 10 && got.told_again == 0, "%s: refusals are counted (%u)", what, got.told);
	ok(got.lines > 5 && got.lines < got.told &&
		   strstr(got.line, "refused, it is not on the list of ") != NULL,
	   "%s: each call is named once in the log: %s", what, got.line);
}

static void do_exec(void)
{
	execl("/bin/true", "true", (char *)NULL);
}

static void do_ptrace(void)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void do_spaces(void)
{
	unshare(CLONE_NEWUSER);
}

/* What nobody does by mistake is the end. */
static void try_hostile(unsigned kind, void (*act)(void), const char *what)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		sandbox_enter(kind);
		act();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s: %s ends it",
	   sandbox_kind_name(kind), what);
}

static void test_lists(void)
{
	unsigned conditional;
	char name[60];

	for (unsigned k = 0; k < SANDBOX_KINDS; k++) {
		unsigned n = sandbox_allowed(k, &conditional);

		ok(n > 40 && n < 140 && conditional > 3 && conditional < 20,
		   "%s: %u calls, %u of them with conditions", sandbox_kind_name(k), n,
		   conditional);
	}
	is_int(sandbox_verdict(CLASS_SMTP_IN, SCMP_SYS(read)), SANDBOX_ALLOWED, "read");
	is_int(sandbox_verdict(CLASS_SMTP_IN, SCMP_SYS(mmap)), SANDBOX_CONDITIONAL, "mmap");
	is_int(sandbox_verdict(CLASS_RESOLVER, SCMP_SYS(openat)), SANDBOX_REFUSED, "openat");
	is_int(sandbox_verdict(CLASS_SMTP_IN, SCMP_SYS(execve)), SANDBOX_ENDS, "execve");
	is_int(sandbox_verdict(CLASS_LOCAL, SCMP_SYS(execve)), SANDBOX_ALLOWED, "local: execve");
	sandbox_call_name(SCMP_SYS(openat), name, sizeof(name));
	ok(strncmp(name, "openat (", 8) == 0, "a call's name: %s", name);
}

int main(void)
{
	test_lists();
	try(CLASS_DELIVER, true, true);
	try(CLASS_SMTP_IN, false, false);
	try(CLASS_STATS, false, false);
	try(CLASS_SUPERVISOR, false, true);
	try(SANDBOX_AGENT, false, true);
	try_hostile(CLASS_REWRITE, do_exec, "execve");
	try_hostile(CLASS_LOG, do_ptrace, "ptrace");
	try_hostile(CLASS_LOCAL, do_spaces, "unshare");
	try_hostile(SANDBOX_AGENT, do_exec, "execve");
	return tap_done();
}
