/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Threads and queues of the lookup worker; see workers/lookup/crew.h. */
#include "workers/lookup/crew.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"

struct job_list {
	struct crew_job *head, **tail;
};

struct crew_thread {
	struct crew_table *table;
	int64_t busy_since_us; /* 0: idle */
	pthread_t thread;
};

struct crew_table {
	struct crew_table *next;
	struct crew *crew;
	const struct table *table;
	int64_t wait_us;      /* how long a question may wait, or run before it hangs */
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t work;
	struct job_list queue;
	unsigned thread_count;
	struct crew_thread threads[];
};

struct crew {
	crew_done_fn done;
	void *ctx;
	struct crew_table *tables;
	pthread_mutex_t lock; /* of `finished` */
	struct job_list finished;
	int event_fd;
	struct loop_fd watch;
};

static void list_init(struct job_list *l)
{
	l->head = NULL;
	l->tail = &l->head;
}

static void list_add(struct job_list *l, struct crew_job *j)
{
	j->next = NULL;
	*l->tail = j;
	l->tail = &j->next;
}

static struct crew_job *list_pop(struct job_list *l)
{
	struct crew_job *j = l->head;

	if (j == NULL)
		return NULL;
	l->head = j->next;
	if (l->head == NULL)
		l->tail = &l->head;
	return j;
}

struct crew_job *crew_job_new(void *asker, uint32_t id, struct sv key)
{
	struct crew_job *j = xcalloc(1, sizeof(*j) + key.len + 1);

	j->asker = asker;
	j->id = id;
	j->key_len = key.len;
	memcpy(j->key, key.p, key.len);
	j->answer.status = MAP_NOT_FOUND;
	return j;
}

void crew_job_free(struct crew_job *job)
{
	buf_fini(&job->answer.value);
	free(job);
}

/* ---- in the threads ---- */

static void hand_back(struct crew *c, struct crew_job *j)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&c->lock);
	bool first = c->finished.head == NULL;

	list_add(&c->finished, j);
	pthread_mutex_unlock(&c->lock);
	/* a counter that is full would wake the loop all the same */
	if (first && write(c->event_fd, &one, sizeof(one)) < 0)
		return;
}

static void *thread_main(void *arg)
{
	struct crew_thread *self = arg;
	struct crew_table *ct = self->table;
	const struct table *t = ct->table;
	void *connection = t->source->connect(t);

	for (;;) {
		struct crew_job *j;

		pthread_mutex_lock(&ct->lock);
		self->busy_since_us = 0;
		while ((j = list_pop(&ct->queue)) == NULL)
			pthread_cond_wait(&ct->work, &ct->lock);
		self->busy_since_us = clock_mono_us_raw();
		pthread_mutex_unlock(&ct->lock);
		t->source->ask(t, connection, (struct sv){ j->key, j->key_len }, &j->answer);
		hand_back(ct->crew, j);
	}
	return NULL;
}

/* ---- in the loop ---- */

static void on_finished(void *ctx, unsigned events UNUSED)
{
	struct crew *c = ctx;
	struct crew_job *j, *next;

	io_eventfd_drain(c->event_fd);
	pthread_mutex_lock(&c->lock);
	j = c->finished.head;
	list_init(&c->finished);
	pthread_mutex_unlock(&c->lock);
	for (; j != NULL; j = next) {
		next = j->next;
		c->done(c->ctx, j);
	}
}

int crew_new(struct loop *loop, crew_done_fn done, void *ctx, struct crew **c_r)
{
	struct crew *c = xcalloc(1, sizeof(*c));

	c->done = done;
	c->ctx = ctx;
	pthread_mutex_init(&c->lock, NULL);
	list_init(&c->finished);
	c->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	*c_r = c;
	if (c->event_fd < 0)
		return err_errno();
	loop_fd_add(loop, &c->watch, c->event_fd, LOOP_READ, on_finished, c);
	return 0;
}

int crew_add(struct crew *c, const struct table *t, unsigned threads, struct crew_table **t_r)
{
	if (t->source->threads != NULL)
		threads = t->source->threads(t);
	struct crew_table *ct = xcalloc(1, sizeof(*ct) + threads * sizeof(ct->threads[0]));
	sigset_t all, old;
	int err = 0;

	ct->crew = c;
	ct->table = t;
	ct->wait_us = 1000 * (t->source->wait_ms != NULL ? t->source->wait_ms(t) : CREW_WAIT_MS);
	pthread_mutex_init(&ct->lock, NULL);
	pthread_cond_init(&ct->work, NULL);
	list_init(&ct->queue);
	ct->next = c->tables;
	c->tables = ct;
	*t_r = ct;
	/* signals are for the loop's thread, but for the filter's */
	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (ct->thread_count < threads && err == 0) {
		struct crew_thread *th = &ct->threads[ct->thread_count];

		th->table = ct;
		err = -pthread_create(&th->thread, NULL, thread_main, th);
		if (err == 0)
			ct->thread_count++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

/* All threads have been at it for long. The lock is held. */
static bool hangs(const struct crew_table *ct, int64_t now_us)
{
	for (unsigned i = 0; i < ct->thread_count; i++) {
		int64_t since = ct->threads[i].busy_since_us;

		if (since == 0 || now_us - since < ct->wait_us)
			return false;
	}
	return true;
}

static void give_up(struct crew *c, struct crew_job *j)
{
	table_fail(&j->answer, "no answer within %lld seconds",
		   (long long)j->table->wait_us / 1000000);
	c->done(c->ctx, j);
}

void crew_ask(struct crew *c, struct crew_table *ct, struct crew_job *job)
{
	job->table = ct;
	job->since_us = clock_mono_us_raw();
	pthread_mutex_lock(&ct->lock);
	bool stuck = hangs(ct, job->since_us);

	if (!stuck) {
		list_add(&ct->queue, job);
		pthread_cond_signal(&ct->work);
	}
	pthread_mutex_unlock(&ct->lock);
	if (stuck)
		give_up(c, job);
}

void crew_tick(struct crew *c)
{
	int64_t now_us = clock_mono_us_raw();

	for (struct crew_table *ct = c->tables; ct != NULL; ct = ct->next) {
		struct job_list late;

		list_init(&late);
		pthread_mutex_lock(&ct->lock);
		while (ct->queue.head != NULL && now_us - ct->queue.head->since_us >= ct->wait_us)
			list_add(&late, list_pop(&ct->queue));
		pthread_mutex_unlock(&ct->lock);
		for (struct crew_job *j; (j = list_pop(&late)) != NULL;)
			give_up(c, j);
		if (ct->table->source->tick != NULL)
			ct->table->source->tick(ct->table);
	}
}
