/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The event loop of every process: libevent behind a small face, plus turn hooks. One turn is:
 * wait for events (not at all when a hook has work), clock_tick(), run event callbacks, run the
 * turn hooks in the order they were added. Hooks are where rings are drained and published and log
 * batches handed over, so each costs one system call per turn at most, not one per message.
 * Time-outs of many objects belong into a timing wheel (lib/twheel.h) driven by one loop_timer.
 * Not thread-safe except loop_wake() through an eventfd that a watched loop_fd reads.
 */
#ifndef PH_LIB_LOOP_H
#define PH_LIB_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct event;

enum {
	LOOP_READ = 1,
	LOOP_WRITE = 2,
	LOOP_EDGE = 4, /* edge-triggered: read or write until EAGAIN (or a short read) */
	LOOP_HUP =
		8, /* reported only: peer closed its side (EPOLLRDHUP); ask for it with LOOP_READ */
};

typedef void (*loop_fd_fn)(void *ctx, unsigned events);
typedef void (*loop_timer_fn)(void *ctx);
/* Returns true when there is more to do at once: the loop then polls instead of sleeping. */
typedef bool (*loop_hook_fn)(void *ctx);

struct loop_fd {
	struct event *ev;
	loop_fd_fn fn;
	void *ctx;
	int fd;
	unsigned events; /* watched now */
};

struct loop_timer {
	struct event *ev;
	loop_timer_fn fn;
	void *ctx;
};

struct loop *loop_new(void);
void loop_free(struct loop **loop);
/* Runs until loop_stop(). */
void loop_run(struct loop *loop);
/* One turn, sleeping at most max_wait_ms (-1 = as long as it takes). For tests. */
void loop_turn(struct loop *loop, int max_wait_ms);
void loop_stop(struct loop *loop);
void loop_add_hook(struct loop *loop, loop_hook_fn fn, void *ctx);
/* Called right before the process may sleep, after all hooks said "nothing to do": returns true to
 * cancel the sleep. Rings use it: set the sleeping flag, look once more (shm/ring.h). */
void loop_add_presleep(struct loop *loop, loop_hook_fn fn, void *ctx);
/* Not from within a presleep hook; harmless when it was not added. */
void loop_del_presleep(struct loop *loop, loop_hook_fn fn, void *ctx);

/* `lf` lives in the caller's object. The callback may call loop_fd_del and free the object. */
void loop_fd_add(struct loop *loop, struct loop_fd *lf, int fd, unsigned events, loop_fd_fn fn,
		 void *ctx);
void loop_fd_mod(struct loop *loop, struct loop_fd *lf, unsigned events); /* 0 = watch nothing */
void loop_fd_del(struct loop *loop, struct loop_fd *lf); /* harmless when not added */

void loop_timer_init(struct loop *loop, struct loop_timer *t, loop_timer_fn fn, void *ctx);
void loop_timer_set(struct loop_timer *t, int64_t after_ms); /* one shot; replaces */
void loop_timer_stop(struct loop_timer *t);
void loop_timer_fini(struct loop_timer *t);
/* Signals arrive as loop callbacks. */
void loop_signal_add(struct loop *loop, int signo, loop_timer_fn fn, void *ctx);

struct event_base *loop_event_base(struct loop *loop); /* for libunbound and evhttp only */

#endif
