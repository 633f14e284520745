/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The search for records that an index has hidden, in the background after the start: one segment
 * after the other is read by the helper thread, with pauses, so that it takes a tenth of one
 * processor and of the disk at the most. What is found goes to recover_hidden(). Called by
 * daemon/files.c.
 */
#include <stdlib.h>

#include "daemon/files_int.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"

/* A dead one first: its space is wanted. The others when the first rush is over. */
static struct fseg *choose(const struct files *f, int64_t now)
{
	struct fseg *any = NULL;

	for (size_t i = 0; i < f->segs.count; i++) {
		struct fseg *seg = f->segs.p[i];

		if (!seg->unsearched || seg->leaving || seg->pinned)
			continue;
		if (seg->live == 0)
			return seg;
		if (any == NULL && now >= f->search_live_ms)
			any = seg;
	}
	return any;
}

void files_search_next(struct files *f, int64_t now)
{
	if (f->searching != NULL || now < f->search_ms)
		return;
	f->searching = choose(f, now);
	if (f->searching != NULL)
		files_thread_give(f, FJOB_SEARCH, f->searching->number);
	else
		f->search_ms = now + LOOK_MS;
}

static void search_over(struct files *f)
{
	files_search_free(f);
	f->searching = NULL;
}

void files_found_free(struct spool_found *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (list[i].bounce_of.len > 0)
			free((char *)(uintptr_t)list[i].bounce_of.p);
	}
	free(list);
}

void files_search_free(struct files *f)
{
	files_found_free(f->hidden.list, f->hidden.count);
	f->hidden = (struct files_hidden){ 0 };
}

void files_search_finished(struct files *f, struct fjob *j)
{
	f->search_ms = clock_now().ms + SEARCH_PAUSE * (j->took_us / 1000);
	f->hidden = (struct files_hidden){ j->number, j->found, j->found_count };
	if (j->err != 0) {
		log_error("segment %08x: cannot be searched: %s; it stays for the next start",
			  j->number, err_str(j->err));
		f->searching->pinned = true;
	}
	if (j->mend_err != 0)
		log_error("segment %08x: its index cannot be mended: %s", j->number,
			  err_str(j->mend_err));
	if (j->err != 0 || j->found_count == 0) {
		f->searching->unsearched = j->err != 0;
		search_over(f);
	}
}

const struct files_hidden *files_hidden(struct files *f)
{
	return f->hidden.count > 0 ? &f->hidden : NULL;
}

void files_hidden_call(struct files *f, void (*call)(void *ctx), void *ctx)
{
	ASSERT(f->hidden.count > 0);
	files_thread_call(f, call, ctx);
}

void files_hidden_done(struct files *f, bool pin)
{
	ASSERT(f->searching != NULL && f->hidden.count > 0);
	f->searching->unsearched = false;
	f->searching->pinned = f->searching->pinned || pin;
	search_over(f);
}
