/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a worker cannot do any more, and what it still can. Tried in a child process. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "t/unit/tap.h"
#include "workers/common/sandbox.h"

static bool refused(long rc)
{
	return rc < 0 && errno == EPERM;
}

static void *thread_main(void *arg)
{
	*(bool *)arg = true;
	return NULL;
}

/* Bits of what is as it should be. */
static int look(enum worker_class class_id, bool sockets)
{
	struct rlimit rl = { 10, 10 };
	bool ran = false;
	pthread_t thread;
	int bits = 0, pair[2];

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	sandbox_enter(class_id);
	bits |= refused(kill(getppid(), 0)) << 0;
	bits |= (kill(getpid(), 0) == 0 && raise(SIGCHLD) == 0) << 1;
	bits |= refused(prlimit(getppid(), RLIMIT_CORE, &rl, NULL)) << 2;
	bits |= (getrlimit(RLIMIT_CORE, &rl) == 0) << 3;
	bits |= refused(execl("/bin/true", "true", (char *)NULL)) << 4;
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	bits |= refused(pid) << 5;
	if (pthread_create(&thread, NULL, thread_main, &ran) == 0)
		pthread_join(thread, NULL);
	bits |= ran << 6;
	bits |= (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) << 7;
	bits |= refused(fcntl(pair[0], F_SETOWN, getppid())) << 8;
	int off = 0;

	bits |= (fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0 && refused(fcntl(pair[0], F_SETFL, 0)) &&
		 refused(ioctl(pair[0], FIONBIO, &off)))
		<< 10;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	bits |= (sockets ? fd >= 0 : refused(fd)) << 9;
	return bits;
}

static void try(enum worker_class class_id, bool sockets, const char *what)
{
	static const char *const names[] = {
		"no signals to others",
		"signals to itself",
		"no limits of others",
		"its own",
		"no new programs",
		"no new processes",
		"threads",
		"socket pairs",
		"no signals by the kernel",
		"sockets",
		"shared descriptors stay non-blocking",
	};
	int status, got[2], bits = 0;

	if (pipe(got) < 0)
		return;
	pid_t pid = fork();

	if (pid == 0) {
		bits = look(class_id, sockets);
		_exit(write(got[1], &bits, sizeof(bits)) == sizeof(bits) ? 0 : 1);
	}
	close(got[1]);
	ok(read(got[0], &bits, sizeof(bits)) == sizeof(bits), "%s: goes on living", what);
	close(got[0]);
	waitpid(pid, &status, 0);
	for (unsigned i = 0; i < 11; i++)
		ok(bits >> i & 1, "%s: %s", what, names[i]);
}

int main(void)
{
	try(CLASS_DELIVER, true, "deliver");
	try(CLASS_SMTP_IN, false, "smtp-in");
	return tap_done();
}
