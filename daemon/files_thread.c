/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The helper thread of the spool file bookkeeping: renames, unlinks and scans, one after the other,
 * so that the supervisor's loop never waits for a directory. It touches nothing but its job and the
 * spool directories. Called by daemon/files.c.
 */
#include <signal.h>
#include <unistd.h>

#include "daemon/files_int.h"
#include "lib/err.h"
#include "lib/util.h"

static int keep_id(void *ctx, const struct spool_found *found)
{
	struct fjob *j = ctx;

	if (j->id_count == j->id_cap) {
		j->id_cap = j->id_cap == 0 ? 256 : j->id_cap * 2;
		j->ids = xrealloc(j->ids, j->id_cap * sizeof(*j->ids));
	}
	j->ids[j->id_count++] = found->qid;
	return 0;
}

static void run(const struct files *f, struct fjob *j)
{
	const struct spool_dirs *d = f->su.dirs;
	struct spool_scan_stats stats = { 0 };

	switch (j->kind) {
	case FJOB_RETIRE:
		j->err = spool_segment_retire(d, j->number, f->spare_max, &j->kept);
		break;
	case FJOB_REMOVE_JOURNAL:
		/* segments that are gone must stay gone before their outcomes go */
		j->err = fsync(d->seg) < 0 ? err_errno() : spool_journal_remove(d, j->number);
		break;
	case FJOB_SCAN:
		j->err = spool_scan_segment(d, j->number, 0, keep_id, j, &stats);
		break;
	}
}

static void *thread_main(void *ctx)
{
	struct files *f = ctx;

	pthread_mutex_lock(&f->lock);
	for (;;) {
		struct fjob *j = f->todo;

		if (j == NULL) {
			if (f->stop)
				break;
			pthread_cond_wait(&f->wake, &f->lock);
			continue;
		}
		f->todo = j->next;
		if (f->todo == NULL)
			f->todo_end = &f->todo;
		pthread_mutex_unlock(&f->lock);
		run(f, j);
		pthread_mutex_lock(&f->lock);
		j->next = f->done;
		f->done = j;
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

int files_thread_start(struct files *f)
{
	sigset_t all, old;

	f->todo_end = &f->todo;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int err = pthread_create(&f->thread, NULL, thread_main, f);

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

void files_thread_stop(struct files *f)
{
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	for (struct fjob *j = f->done, *next; j != NULL; j = next) {
		next = j->next;
		free(j->ids);
		free(j);
	}
	f->done = NULL;
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->wake);
}

void files_thread_give(struct files *f, enum fjob_kind kind, uint32_t number)
{
	struct fjob *j = xcalloc(1, sizeof(*j));

	j->kind = kind;
	j->number = number;
	f->jobs_out++;
	pthread_mutex_lock(&f->lock);
	*f->todo_end = j;
	f->todo_end = &j->next;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

struct fjob *files_thread_done(struct files *f)
{
	if (f->jobs_out == 0)
		return NULL;
	pthread_mutex_lock(&f->lock);
	struct fjob *list = f->done;

	f->done = NULL;
	pthread_mutex_unlock(&f->lock);
	return list;
}
