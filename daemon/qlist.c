/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Listing of the queue; see daemon/qlist.h. */
#include "daemon/qlist.h"

#include "daemon/qprint.h"
#include "daemon/qread.h"
#include "daemon/recover_int.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "workers/spool/spool.h"

struct qlist {
	const struct params *params;
	struct qprint *print; /* NULL: what comes is kept */
	struct qread *spool;
	struct buf items; /* as the daemon sends them; not printed yet */
};

int qlist_new(const struct params *params, enum qlist_form form, FILE *out, struct qlist **l_r)
{
	struct qlist *l = xcalloc(1, sizeof(*l));
	int err = qread_new(params->queue_directory, &l->spool);

	if (err != 0) {
		free(l);
		return err;
	}
	l->params = params;
	l->print = form == QLIST_KEEP ? NULL : qprint_new(out, form == QLIST_JSON);
	*l_r = l;
	return 0;
}

void qlist_free(struct qlist **lp)
{
	struct qlist *l = *lp;

	if (l == NULL)
		return;
	*lp = NULL;
	qread_free(&l->spool);
	qprint_free(&l->print);
	buf_fini(&l->items);
	free(l);
}

void qlist_each_item(const struct qlist *l, qlist_item_fn fn, void *ctx)
{
	struct qctl_item it;

	for (size_t at = 0; qread_item_at(&l->items, at, &it); at = qread_item_end(at, &it))
		fn(ctx, &it);
}

const struct spool_dirs *qlist_dirs(const struct qlist *l)
{
	return qread_dirs(l->spool);
}

uint64_t qlist_damaged(const struct qlist *l)
{
	uint64_t count;

	return spool_count_quarantined(qread_dirs(l->spool), &count) == 0 ? count : 0;
}

static void print_message(struct qlist *l, size_t from, size_t to)
{
	const struct qlist_message *m;

	if (!qread_message(l->spool, &l->items, from, to, &m))
		return;
	qprint_message(l->print, m);
	while (from < to)
		from = qread_rcpts(l->spool, &l->items, from, qprint_rcpt, l->print);
	qprint_message_end(l->print);
}

/* The last message may not be complete: more items of it may come. */
static void print_items(struct qlist *l, bool all)
{
	size_t from = 0, to;

	while (qread_next_message(&l->items, from, all, &to)) {
		print_message(l, from, to);
		from = to;
	}
	buf_consume(&l->items, from);
}

void qlist_add_items(void *qlist, const void *data, size_t len)
{
	struct qlist *l = qlist;

	buf_add(&l->items, data, len);
	if (l->print != NULL)
		print_items(l, false);
}

int qlist_scan(struct qlist *l)
{
	struct qclock_file file;
	struct qclock_seen seen;
	struct spool_dirs look_only = *qread_dirs(l->spool);
	struct qclock clock;
	bool known = qclock_file_open(&file, look_only.root, false, &seen);
	struct warrant_key key;
	struct recovery r = { .params = l->params, .clock = &clock, .now_us = clock_wall().us };
	struct rplan plan = { 0 };

	qclock_init(&clock, known ? &seen : NULL, file.boot_id);
	qclock_file_close(&file);
	if (warrant_key_open(&look_only, false, 0, &key) == 0)
		r.key = &key;
	look_only.corrupt = -1; /* quarantine is the supervisor's */
	int err = recover_read(&r, NULL, &look_only);

	for (size_t i = 0; err == 0 && i < r.msg_count; i++) {
		recover_plan(&r, &r.msgs[i], &plan);
		for (size_t k = 0; k < plan.count; k++) {
			const struct sched_found_entry *e = &plan.entries[k];
			struct qctl_item it = {
				.qid = { .time_us = plan.found.qid.time_us,
					 .life = plan.found.qid.life },
				.place = plan.found.place,
				.jref = e->jref,
				.mask = e->mask,
				.rcpt_first = e->rcpt_first,
				.msg_flags = plan.found.flags,
				.due_s = (uint32_t)qclock_wall(&clock, e->due_s),
				.state = e->state,
			};

			qlist_add_items(l, &it, sizeof(it));
		}
	}
	recover_plan_fini(&plan);
	recover_read_fini(&r);
	return err;
}

void qlist_end(struct qlist *l)
{
	if (l->print == NULL)
		return;
	print_items(l, true);
	qprint_end(l->print);
}
