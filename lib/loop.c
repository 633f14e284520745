/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Event loop over libevent; see lib/loop.h. */
#include "lib/loop.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/util.h"

#define MAX_HOOKS   8
#define MAX_SIGNALS 8

struct hook {
	loop_hook_fn fn;
	void *ctx;
};

struct signal_ctx {
	struct event *ev;
	loop_timer_fn fn;
	void *ctx;
};

struct loop {
	struct event_base *base;
	struct hook hooks[MAX_HOOKS];
	struct hook presleep[MAX_HOOKS];
	struct signal_ctx signals[MAX_SIGNALS];
	struct event *wait_limit;
	unsigned hook_count;
	unsigned presleep_count;
	unsigned signal_count;
	bool stop;
	bool busy;
};

static void wait_limit_cb(evutil_socket_t fd UNUSED, short what UNUSED, void *ctx UNUSED)
{
}

/* libevent tells the kernel of changes when it sleeps next, long after event_add() has returned 0.
 * What it could not have watched then, it only warns of; a process that waits for what never comes
 * is worse than one that ends and is replaced. */
static void library_says(int severity, const char *text)
{
	if (severity >= EVENT_LOG_WARN)
		die("event loop: %s", text);
}

struct loop *loop_new(void)
{
	struct loop *loop = xcalloc(1, sizeof(*loop));
	struct event_config *cfg = event_config_new();

	event_set_log_callback(library_says);
	if (cfg == NULL)
		die("event loop: out of memory");
	event_config_require_features(cfg, EV_FEATURE_ET | EV_FEATURE_O1);
	event_config_set_flag(cfg, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
	event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
	loop->base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	if (loop->base == NULL)
		die("event loop: epoll is not available");
	loop->wait_limit = event_new(loop->base, -1, 0, wait_limit_cb, loop);
	return loop;
}

void loop_free(struct loop **loopp)
{
	struct loop *loop = *loopp;

	if (loop == NULL)
		return;
	for (unsigned i = 0; i < loop->signal_count; i++)
		event_free(loop->signals[i].ev);
	event_free(loop->wait_limit);
	event_base_free(loop->base);
	free(loop);
	*loopp = NULL;
}

static bool run_hooks(const struct hook *hooks, unsigned count)
{
	bool more = false;

	for (unsigned i = 0; i < count; i++) {
		if (hooks[i].fn(hooks[i].ctx))
			more = true;
	}
	return more;
}

void loop_turn(struct loop *loop, int max_wait_ms)
{
	int flags = EVLOOP_ONCE;

	if (loop->busy || max_wait_ms == 0 || run_hooks(loop->presleep, loop->presleep_count)) {
		flags = EVLOOP_ONCE | EVLOOP_NONBLOCK;
	} else if (max_wait_ms > 0) {
		struct timeval tv = { max_wait_ms / 1000, (max_wait_ms % 1000) * 1000 };

		event_add(loop->wait_limit, &tv);
	}
	if (event_base_loop(loop->base, flags | EVLOOP_NO_EXIT_ON_EMPTY) < 0)
		bug("event_base_loop failed");
	clock_tick();
	loop->busy = run_hooks(loop->hooks, loop->hook_count);
}

void loop_run(struct loop *loop)
{
	loop->stop = false;
	clock_tick();
	while (!loop->stop)
		loop_turn(loop, -1);
}

void loop_stop(struct loop *loop)
{
	loop->stop = true;
	event_base_loopbreak(loop->base);
}

static void add_hook(struct hook *hooks, unsigned *count, loop_hook_fn fn, void *ctx)
{
	ASSERT(*count < MAX_HOOKS);
	hooks[(*count)++] = (struct hook){ fn, ctx };
}

void loop_add_hook(struct loop *loop, loop_hook_fn fn, void *ctx)
{
	add_hook(loop->hooks, &loop->hook_count, fn, ctx);
}

void loop_add_presleep(struct loop *loop, loop_hook_fn fn, void *ctx)
{
	add_hook(loop->presleep, &loop->presleep_count, fn, ctx);
}

void loop_del_presleep(struct loop *loop, loop_hook_fn fn, void *ctx)
{
	for (unsigned i = 0; i < loop->presleep_count; i++) {
		if (loop->presleep[i].fn != fn || loop->presleep[i].ctx != ctx)
			continue;
		loop->presleep_count--;
		memmove(&loop->presleep[i], &loop->presleep[i + 1],
			(loop->presleep_count - i) * sizeof(loop->presleep[0]));
		return;
	}
}

static void fd_cb(evutil_socket_t fd UNUSED, short what, void *arg)
{
	struct loop_fd *lf = arg;
	unsigned events = 0;

	if (what & EV_READ)
		events |= LOOP_READ;
	if (what & EV_WRITE)
		events |= LOOP_WRITE;
	if (what & EV_CLOSED)
		events |= LOOP_HUP;
	lf->fn(lf->ctx, events);
}

static short to_what(unsigned events)
{
	short what = EV_PERSIST;

	if (events & LOOP_READ)
		what |= EV_READ;
	if (events & LOOP_WRITE)
		what |= EV_WRITE;
	if (events & LOOP_EDGE)
		what |= EV_ET;
	if (events & LOOP_HUP)
		what |= EV_CLOSED;
	return what;
}

void loop_fd_add(struct loop *loop, struct loop_fd *lf, int fd, unsigned events, loop_fd_fn fn,
		 void *ctx)
{
	*lf = (struct loop_fd){ .fn = fn, .ctx = ctx, .fd = fd };
	loop_fd_mod(loop, lf, events);
}

void loop_fd_mod(struct loop *loop, struct loop_fd *lf, unsigned events)
{
	if (lf->events == events && (lf->ev != NULL || events == 0))
		return;
	if (lf->ev == NULL) {
		lf->ev = event_new(loop->base, lf->fd, to_what(events), fd_cb, lf);
		if (lf->ev == NULL)
			die("event loop: out of memory");
	} else {
		event_del(lf->ev);
		if (events != 0)
			event_assign(lf->ev, loop->base, lf->fd, to_what(events), fd_cb, lf);
	}
	lf->events = events;
	if (events != 0 && event_add(lf->ev, NULL) < 0)
		die("event loop: cannot watch descriptor %d", lf->fd);
}

void loop_fd_del(struct loop *loop UNUSED, struct loop_fd *lf)
{
	if (lf->ev != NULL)
		event_free(lf->ev);
	*lf = (struct loop_fd){ .fd = -1 };
}

static void timer_cb(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct loop_timer *t = arg;

	clock_tick();
	t->fn(t->ctx);
}

void loop_timer_init(struct loop *loop, struct loop_timer *t, loop_timer_fn fn, void *ctx)
{
	*t = (struct loop_timer){ .fn = fn, .ctx = ctx };
	t->ev = event_new(loop->base, -1, 0, timer_cb, t);
	if (t->ev == NULL)
		die("event loop: out of memory");
}

void loop_timer_set(struct loop_timer *t, int64_t after_ms)
{
	if (after_ms < 0)
		after_ms = 0;
	struct timeval tv = { after_ms / 1000, (after_ms % 1000) * 1000 };

	event_add(t->ev, &tv);
}

void loop_timer_stop(struct loop_timer *t)
{
	event_del(t->ev);
}

void loop_timer_fini(struct loop_timer *t)
{
	if (t->ev != NULL)
		event_free(t->ev);
	t->ev = NULL;
}

static void signal_cb(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct signal_ctx *s = arg;

	s->fn(s->ctx);
}

void loop_signal_add(struct loop *loop, int signo, loop_timer_fn fn, void *ctx)
{
	ASSERT(loop->signal_count < MAX_SIGNALS);
	struct signal_ctx *s = &loop->signals[loop->signal_count++];

	s->fn = fn;
	s->ctx = ctx;
	s->ev = evsignal_new(loop->base, signo, signal_cb, s);
	if (s->ev == NULL || event_add(s->ev, NULL) < 0)
		die("event loop: cannot watch signal %d", signo);
}

struct event_base *loop_event_base(struct loop *loop)
{
	return loop->base;
}
