/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who may ask on the control socket. Both ends are in this process. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
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
	snprintf(path, sizeof(path), "%s/control", dir);
	rmdir(path);
	rmdir(dir);
	return tap_done();
}
