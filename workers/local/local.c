/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The local worker: delivery into mailboxes for transports of the virtual and local kinds. Root
 * when Posthaste was started by root, and then every delivery runs in a child that has become the
 * mailbox's user. Started by priv, framed by workers/common/worker.h.
 */
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "workers/local/agent.h"
#include "workers/local/job.h"

#define MAX_CHILDREN  40
#define TIME_LIMIT_MS 100000
#define IDLE_MS       10000
#define TICK_MS       1000
#define READER_FILES  32

static struct local the_local;

static void need_journal(void *ctx)
{
	struct local *l = ctx;
	struct proto_file f = { .kind = PROTO_FILE_NEED, .file_kind = SPOOL_JOURNAL };

	worker_send(l->w, &l->w->super, &f, sizeof(f));
}

static void closed_journal(void *ctx, uint32_t number, uint64_t bytes)
{
	struct local *l = ctx;
	struct proto_file f = { .kind = PROTO_FILE_CLOSED,
				.file_kind = SPOOL_JOURNAL,
				.number = number,
				.bytes = bytes };

	worker_send(l->w, &l->w->super, &f, sizeof(f));
}

static int local_init(struct worker *w)
{
	struct local *l = &the_local;
	struct conf_diag d;
	int err;

	w->state = l;
	l->w = w;
	l->jobs_tail = &l->jobs;
	conf_diag_init(&d);
	err = targets_open(w->conf, w->privileged, &l->targets, &d);
	conf_diag_log(&d);
	if (err < 0 && d.text.len == 0)
		log_error("%s", err_str(err));
	conf_diag_fini(&d);
	return err;
}

static void tick(void *ctx)
{
	struct local *l = ctx;

	pool_tick(l->pool);
	loop_timer_set(&l->tick, TICK_MS);
}

static int local_start(struct worker *w)
{
	struct local *l = w->state;
	struct pool_conf pc = { .program = "/proc/self/exe",
				.hostname = w->params->myhostname,
				.change_user = w->privileged,
				.max_children = MAX_CHILDREN,
				.time_limit_ms = TIME_LIMIT_MS,
				.idle_ms = IDLE_MS };
	struct journal_conf jc = { .sync_window_ms = w->params->journal_sync_window,
				   .file_bytes = (uint64_t)w->params->journal_file_size,
				   .counters = w->counters,
				   .need_file = need_journal,
				   .closed_file = closed_journal,
				   .ctx = l };
	int err = spool_dirs_open(w->params->queue_directory, false, &l->dirs);

	if (err == 0)
		err = journal_writer_new(&jc, &l->dirs, w->loop, &l->journal);
	if (err < 0) {
		log_error("spool below %s: %s", w->params->queue_directory, err_str(err));
		return err;
	}
	l->record_sync = w->params->in_doubt_sync;
	l->reader = spool_reader_new(&l->dirs, READER_FILES);
	l->pool = pool_new(&pc, w->loop);
	loop_timer_init(w->loop, &l->tick, tick, l);
	loop_timer_set(&l->tick, TICK_MS);
	return 0;
}

static void local_from_super(struct worker *w, const void *rec, size_t len)
{
	struct local *l = w->state;
	struct proto_file f;
	uint32_t kind = PROTO_KIND_COUNT;

	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (kind == PROTO_JOB) {
		job_start(l, rec, len);
	} else if (kind == PROTO_FILE_GRANT && len == sizeof(f)) {
		memcpy(&f, rec, sizeof(f));
		journal_writer_grant(l->journal, f.number,
				     (struct journal_owner){ w->life, f.code });
	}
}

static void end_if_idle(struct local *l)
{
	if (!l->w->draining || l->job_count > 0)
		return;
	journal_writer_free(&l->journal);
	pool_free(&l->pool);
	worker_exit(l->w);
}

static bool local_turn(struct worker *w)
{
	struct local *l = w->state;
	bool more;

	job_retry(l);
	more = journal_writer_poll(l->journal);
	if (l->waiting > 0) {
		job_retry(l);
		more = journal_writer_poll(l->journal) || more;
	}
	end_if_idle(l);
	return more;
}

static void local_drain(struct worker *w)
{
	end_if_idle(w->state);
}

static const struct worker_ops local_ops = {
	.class_id = CLASS_LOCAL,
	.program = "virtual",
	.init = local_init,
	.start = local_start,
	.from_super = local_from_super,
	.turn = local_turn,
	.drain = local_drain,
};

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "-d") == 0)
		return agent_main();
	return worker_main(argc, argv, &local_ops);
}
