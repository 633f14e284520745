/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Threads of the auth worker; see workers/auth/crew.h. */
#include "workers/auth/crew.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"

struct list {
	struct dialogue *head, **tail;
};

struct auth_crew {
	auth_step_fn step;
	auth_done_fn done;
	void *ctx;
	pthread_mutex_t lock; /* of both lists and the states of what is in them */
	pthread_cond_t work;
	struct list queue, finished;
	int event_fd;
	struct loop_fd watch;
};

static void list_init(struct list *l)
{
	l->head = NULL;
	l->tail = &l->head;
}

static void list_add(struct list *l, struct dialogue *d)
{
	d->next = NULL;
	*l->tail = d;
	l->tail = &d->next;
}

static struct dialogue *list_pop(struct list *l)
{
	struct dialogue *d = l->head;

	if (d == NULL)
		return NULL;
	l->head = d->next;
	if (l->head == NULL)
		l->tail = &l->head;
	return d;
}

static void *thread_main(void *arg)
{
	struct auth_crew *c = arg;
	const uint64_t one = 1;

	for (;;) {
		struct dialogue *d;

		pthread_mutex_lock(&c->lock);
		while ((d = list_pop(&c->queue)) == NULL)
			pthread_cond_wait(&c->work, &c->lock);
		d->state = DIALOGUE_BUSY;
		pthread_mutex_unlock(&c->lock);
		c->step(d);
		pthread_mutex_lock(&c->lock);
		bool first = c->finished.head == NULL;

		list_add(&c->finished, d);
		pthread_mutex_unlock(&c->lock);
		/* a counter that is full would wake the loop all the same */
		if (first && write(c->event_fd, &one, sizeof(one)) < 0)
			continue;
	}
	return NULL;
}

static void on_finished(void *ctx, unsigned events UNUSED)
{
	struct auth_crew *c = ctx;
	struct dialogue *d, *next;

	io_eventfd_drain(c->event_fd);
	pthread_mutex_lock(&c->lock);
	d = c->finished.head;
	list_init(&c->finished);
	pthread_mutex_unlock(&c->lock);
	for (; d != NULL; d = next) {
		next = d->next;
		d->state = DIALOGUE_IDLE;
		c->done(c->ctx, d);
	}
}

static int start_threads(struct auth_crew *c, unsigned threads)
{
	sigset_t all, old;
	pthread_t thread;
	int err = 0;

	/* signals are for the loop's thread, but for the filter's */
	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (threads-- > 0 && err == 0) {
		err = -pthread_create(&thread, NULL, thread_main, c);
		if (err == 0)
			pthread_detach(thread);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

int auth_crew_new(struct loop *loop, unsigned threads, auth_step_fn step, auth_done_fn done,
		  void *ctx, struct auth_crew **c_r)
{
	struct auth_crew *c = xcalloc(1, sizeof(*c));

	c->step = step;
	c->done = done;
	c->ctx = ctx;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->work, NULL);
	list_init(&c->queue);
	list_init(&c->finished);
	c->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	*c_r = c;
	if (c->event_fd < 0)
		return err_errno();
	loop_fd_add(loop, &c->watch, c->event_fd, LOOP_READ, on_finished, c);
	return start_threads(c, threads);
}

void auth_crew_step(struct auth_crew *c, struct dialogue *d)
{
	pthread_mutex_lock(&c->lock);
	d->state = DIALOGUE_QUEUED;
	list_add(&c->queue, d);
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
}

bool auth_crew_recall(struct auth_crew *c, struct dialogue *d)
{
	bool queued;

	pthread_mutex_lock(&c->lock);
	queued = d->state == DIALOGUE_QUEUED;
	if (queued) {
		struct dialogue **at = &c->queue.head;

		while (*at != d)
			at = &(*at)->next;
		*at = d->next;
		if (c->queue.tail == &d->next)
			c->queue.tail = at;
		d->state = DIALOGUE_IDLE;
	}
	pthread_mutex_unlock(&c->lock);
	return queued;
}
