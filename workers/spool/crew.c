/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Threads of the spool writers; see crew.h. */
#include "workers/spool/crew.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"

#define MAX_THREADS 4

struct job_list {
	struct spool_job *head, *tail;
};

struct spool_crew {
	pthread_mutex_t lock;
	pthread_cond_t work;     /* queue grew or stop */
	pthread_cond_t progress; /* a job finished */
	struct job_list queue, done;
	unsigned busy; /* queued or running */
	unsigned idle; /* threads that wait for work */
	bool waited;   /* somebody waits for progress */
	bool stop;
	/* Loop and threads as in a ring (shm/ring.h): either the loop sees the finished job before
	 * it sleeps, or the thread sees that it sleeps and wakes it. */
	atomic_uint finished; /* in `done` */
	atomic_bool sleeping;
	unsigned threads;
	pthread_t thread[MAX_THREADS];
	int event_fd;
	struct loop *loop;
	struct loop_fd watch;
};

static void list_add(struct job_list *l, struct spool_job *j)
{
	j->next = NULL;
	if (l->tail != NULL)
		l->tail->next = j;
	else
		l->head = j;
	l->tail = j;
}

static struct spool_job *list_pop(struct job_list *l)
{
	struct spool_job *j = l->head;

	if (j == NULL)
		return NULL;
	l->head = j->next;
	if (l->head == NULL)
		l->tail = NULL;
	j->next = NULL;
	return j;
}

/* The eventfd is never read: edge-triggered watchers see each write. It fails only when the count
 * would overflow 2^64. */
static void wake_loop(struct spool_crew *c)
{
	uint64_t one = 1;

	if (atomic_exchange(&c->sleeping, false) && write(c->event_fd, &one, sizeof(one)) < 0)
		return;
}

/* With the lock held, and it is held again at the end. */
static void run_job(struct spool_crew *c, struct spool_job *j)
{
	pthread_mutex_unlock(&c->lock);
	j->run(j);
	pthread_mutex_lock(&c->lock);
	list_add(&c->done, j);
	atomic_fetch_add(&c->finished, 1);
	c->busy--;
	if (c->waited)
		pthread_cond_broadcast(&c->progress);
	/* not under the lock: the loop would wake up to wait for it */
	pthread_mutex_unlock(&c->lock);
	wake_loop(c);
	pthread_mutex_lock(&c->lock);
}

static void *thread_main(void *arg)
{
	struct spool_crew *c = arg;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		struct spool_job *j = list_pop(&c->queue);

		if (j != NULL) {
			run_job(c, j);
		} else if (c->stop) {
			break;
		} else {
			c->idle++;
			pthread_cond_wait(&c->work, &c->lock);
			c->idle--;
		}
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static bool presleep(void *ctx)
{
	struct spool_crew *c = ctx;

	atomic_store(&c->sleeping, true);
	if (atomic_load(&c->finished) == 0)
		return false;
	atomic_store_explicit(&c->sleeping, false, memory_order_relaxed);
	return true;
}

/* The turn hooks that follow every event take the finished jobs. */
static void woken(void *ctx UNUSED, unsigned events UNUSED)
{
}

static int start_threads(struct spool_crew *c, unsigned threads)
{
	sigset_t all, old;
	int err = 0;

	/* signals are for the loop's thread, but for the one by which a thread hears that the
	 * system call filter refused it something */
	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (c->threads < threads && err == 0) {
		err = -pthread_create(&c->thread[c->threads], NULL, thread_main, c);
		if (err == 0)
			c->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

int spool_crew_new(unsigned threads, struct loop *loop, struct spool_crew **c_r)
{
	struct spool_crew *c = xcalloc(1, sizeof(*c));

	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->work, NULL);
	pthread_cond_init(&c->progress, NULL);
	c->loop = loop;
	c->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int err = c->event_fd < 0 ? err_errno() : 0;

	if (err == 0)
		err = start_threads(c, threads < MAX_THREADS ? threads : MAX_THREADS);
	if (err != 0) {
		spool_crew_free(&c);
		return err;
	}
	loop_fd_add(loop, &c->watch, c->event_fd, LOOP_READ | LOOP_EDGE, woken, c);
	loop_add_presleep(loop, presleep, c);
	*c_r = c;
	return 0;
}

void spool_crew_free(struct spool_crew **cp)
{
	struct spool_crew *c = *cp;

	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_broadcast(&c->work);
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; i < c->threads; i++)
		pthread_join(c->thread[i], NULL);
	loop_fd_del(c->loop, &c->watch);
	loop_del_presleep(c->loop, presleep, c);
	io_close(&c->event_fd);
	pthread_cond_destroy(&c->work);
	pthread_cond_destroy(&c->progress);
	pthread_mutex_destroy(&c->lock);
	free(c);
	*cp = NULL;
}

void spool_crew_submit(struct spool_crew *c, struct spool_job *job)
{
	pthread_mutex_lock(&c->lock);
	list_add(&c->queue, job);
	c->busy++;
	bool wake = c->idle > 0;

	pthread_mutex_unlock(&c->lock);
	/* not under the lock: the thread would wake up to wait for it */
	if (wake)
		pthread_cond_signal(&c->work);
}

struct spool_job *spool_crew_take(struct spool_crew *c)
{
	atomic_store_explicit(&c->sleeping, false, memory_order_relaxed);
	if (atomic_load(&c->finished) == 0)
		return NULL;
	pthread_mutex_lock(&c->lock);
	struct spool_job *j = list_pop(&c->done);

	if (j != NULL)
		atomic_fetch_sub(&c->finished, 1);
	pthread_mutex_unlock(&c->lock);
	return j;
}

void spool_crew_wait(struct spool_crew *c)
{
	pthread_mutex_lock(&c->lock);
	c->waited = true;
	while (c->done.head == NULL && c->busy > 0)
		pthread_cond_wait(&c->progress, &c->lock);
	c->waited = false;
	pthread_mutex_unlock(&c->lock);
}
