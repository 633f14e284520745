/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Turns of the event loop: hooks run in each, whatever the descriptors do. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/util.h"
#include "t/unit/tap.h"

static struct {
	int fd;
	unsigned events, hooks, presleeps;
	bool more;
} t;

/* Stays readable; what would never end is ended. */
static void on_ready(void *ctx UNUSED, unsigned events UNUSED)
{
	uint64_t n;

	if (++t.events >= 1000 && read(t.fd, &n, sizeof(n)) < 0)
		t.events = 0;
}

static bool on_turn(void *ctx UNUSED)
{
	t.hooks++;
	return t.more;
}

static bool on_presleep(void *ctx)
{
	t.presleeps++;
	return ctx != NULL;
}

static void test_hooks_between_events(void)
{
	struct loop *loop = loop_new();
	struct loop_fd lf;

	t.fd = eventfd(1, EFD_NONBLOCK);
	loop_fd_add(loop, &lf, t.fd, LOOP_READ, on_ready, NULL);
	loop_add_hook(loop, on_turn, NULL);
	t.more = true;
	for (int i = 0; i < 5; i++)
		loop_turn(loop, -1);
	is_int(t.hooks, 5, "hooks run in each turn");
	ok(t.events <= 5, "a descriptor that is always ready does not hold them up (%u events)",
	   t.events);
	t.more = false;
	loop_turn(loop, -1);
	is_int(t.hooks, 6, "the same when the hooks have nothing to do");
	loop_fd_del(loop, &lf);
	close(t.fd);
	loop_free(&loop);
}

static void test_presleep(void)
{
	struct loop *loop = loop_new();
	int awake;

	t.presleeps = 0;
	loop_add_presleep(loop, on_presleep, NULL);
	loop_add_presleep(loop, on_presleep, &awake);
	loop_turn(loop, -1);
	is_int(t.presleeps, 2, "asked before the sleep; one of them cancels it");
	loop_del_presleep(loop, on_presleep, NULL);
	loop_turn(loop, -1);
	is_int(t.presleeps, 3, "who was taken out is asked no more");
	loop_del_presleep(loop, on_presleep, &t);
	loop_del_presleep(loop, on_presleep, &awake);
	loop_turn(loop, 1);
	is_int(t.presleeps, 3, "nobody is left");
	loop_free(&loop);
}

int main(void)
{
	clock_init();
	test_hooks_between_events();
	test_presleep();
	return tap_done();
}
