/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The helper thread of the spool file bookkeeping: renames, unlinks and scans, one after the other,
 * so that the supervisor's loop never waits for a directory. It touches nothing but its job and the
 * spool directories. Called by daemon/files.c.
 */
#include <signal.h>

#include "daemon/files_int.h"
#include "lib/clock.h"
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

static int keep_found(void *ctx, const struct spool_found *found)
{
	struct fjob *j = ctx;

	if (j->found_count == j->found_cap) {
		j->found_cap = j->found_cap == 0 ? 64 : j->found_cap * 2;
		j->found = xrealloc(j->found, j->found_cap * sizeof(*j->found));
	}
	struct spool_found *mine = &j->found[j->found_count++];

	*mine = *found;
	if (found->bounce_of.len > 0)
		mine->bounce_of.p = xstrndup(found->bounce_of.p, found->bounce_of.len);
	return 0;
}

static void run(const struct files *f, struct fjob *j)
{
	const struct spool_dirs *d = f->su.dirs;
	struct spool_scan_stats stats = { 0 };
	int64_t began_us = clock_mono_us_raw();

	switch (j->kind) {
	case FJOB_RETIRE:
		j->err = spool_segment_retire(d, j->number, f->spare_max, &j->kept);
		break;
	case FJOB_REMOVE_JOURNAL:
		j->err = spool_journal_remove(d, j->number);
		break;
	case FJOB_SCAN:
		j->err = spool_scan_segment(d, j->number, 0, keep_id, j, &stats);
		break;
	case FJOB_SEARCH:
		j->err = spool_scan_hidden(d, j->number, keep_found, j);
		/* before anything is made of them: whatever happens, the next start has them all */
		if (j->err == 0 && j->found_count > 0)
			j->mend_err = spool_index_mend(d, j->number, j->found, j->found_count);
		break;
	case FJOB_DROP_SPARE:
		j->err = spool_spare_remove(d, j->number);
		break;
	case FJOB_CALL:
		j->call(j->ctx);
		break;
	}
	j->took_us = clock_mono_us_raw() - began_us;
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
	sigdelset(&all, SIGSYS); /* the system call filter's word to the thread itself */
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
		files_found_free(j->found, j->found_count);
		free(j->ids);
		free(j);
	}
	f->done = NULL;
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->wake);
}

static void give(struct files *f, struct fjob *j)
{
	f->jobs_out++;
	pthread_mutex_lock(&f->lock);
	*f->todo_end = j;
	f->todo_end = &j->next;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

void files_thread_give(struct files *f, enum fjob_kind kind, uint32_t number)
{
	struct fjob *j = xcalloc(1, sizeof(*j));

	j->kind = kind;
	j->number = number;
	give(f, j);
}

void files_thread_call(struct files *f, void (*call)(void *ctx), void *ctx)
{
	struct fjob *j = xcalloc(1, sizeof(*j));

	j->kind = FJOB_CALL;
	j->call = call;
	j->ctx = ctx;
	give(f, j);
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
