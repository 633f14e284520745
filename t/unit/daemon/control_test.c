/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who may ask on the control socket. Both ends are in this process. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/control.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "t/unit/tap.h"

static struct loop *loop;
static struct loop_timer timer;
static unsigned asked;

static void verb(void *ctx, struct control_client *c, unsigned argc UNUSED,
		 const char *const *argv UNUSED)
{
	asked++;
	control_end(c, 0, "%s", (const char *)ctx);
}

static void enough(void *ctx)
{
	loop_stop(ctx);
}

static void turn(void)
{
	loop_timer_set(&timer, 20);
	loop_run(loop);
}

/* The answer's length, 0 when the connection was closed without one. */
static ssize_t ask(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char answer[100];
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		bug("test: connect");
	(void)!send(fd, "verb", 5, MSG_NOSIGNAL);
	turn();
	ssize_t n = recv(fd, answer, sizeof(answer), MSG_DONTWAIT);

	close(fd);
	turn();
	return n < 0 ? 0 : n;
}

/* A socket that anybody may reach: no more than a share for each user, and idle ones go. Root would
 * have no limit, so this asks as somebody else does. */
static void test_public(const char *dir)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	uint64_t refused = 0;
	struct control *ctl;
	int fds[5], fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char byte;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/public", dir);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 16) < 0)
		bug("test: listen");
	ctl = control_serve(
		fd, loop,
		&(struct control_limits){ .per_user = 3, .idle_ms = 1000, .refused = &refused });
	chmod(dir, 0755);
	chmod(sa.sun_path, 0777);
	if (geteuid() == 0 && seteuid(12345) < 0)
		bug("test: seteuid");
	for (int i = 0; i < 5; i++) {
		fds[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		if (connect(fds[i], (struct sockaddr *)&sa, sizeof(sa)) < 0)
			bug("test: connect");
		turn();
	}
	if (getuid() == 0 && seteuid(0) < 0)
		bug("test: seteuid");
	is_int(control_clients(ctl), 3, "a user has no more than his share");
	is_int(refused, 2, "the others are counted");
	is_int(recv(fds[4], &byte, 1, MSG_DONTWAIT), 0, "and closed");
	for (unsigned i = 0; i < 200 && control_clients(ctl) > 0; i++)
		turn();
	is_int(control_clients(ctl), 0, "who says nothing is closed");
	for (int i = 0; i < 5; i++)
		close(fds[i]);
	control_free(&ctl);
	unlink(sa.sun_path);
}

int main(void)
{
	char dir[] = "/tmp/control_test.XXXXXX", path[64];
	struct control *ctl;

	clock_init();
	if (mkdtemp(dir) == NULL)
		bug("test: mkdtemp");
	snprintf(path, sizeof(path), "%s/control/socket", dir);
	loop = loop_new();
	loop_timer_init(loop, &timer, enough, loop);
	is_int(control_new(dir, loop, &ctl), 0, "listen");
	control_register(ctl, "verb", verb, (void *)(uintptr_t) "yes");
	is_int(ask(path), 5, "anyone who can open the socket is answered");
	control_only_user(ctl, getuid());
	is_int(ask(path), 5, "the one user is answered");
	is_int(asked, 2, "both were heard");
	control_only_user(ctl, getuid() + 1);
	is_int(ask(path), 0, "another user gets no answer");
	is_int(asked, 2, "and is not heard");
	for (int i = 0; i < 40; i++)
		ask(path);
	control_only_user(ctl, getuid());
	is_int(ask(path), 5, "nor does it take places away");
	control_free(&ctl);
	test_public(dir);
	snprintf(path, sizeof(path), "%s/control", dir);
	rmdir(path);
	rmdir(dir);
	return tap_done();
}
