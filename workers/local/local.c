/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The local worker: delivery into mailboxes for transports of the virtual and local kinds, and to
 * commands for those of pipe. Root when Posthaste was started by root, and then every delivery runs
 * in a child that has become the mailbox's user. Started by priv, framed by
 * workers/common/worker.h.
 */
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "conf/spawn.h"
#include "lib/err.h"
#include "lib/log.h"
#include "workers/common/statusfilter.h"
#include "workers/local/agent.h"
#include "workers/local/biff.h"
#include "workers/local/forward.h"
#include "workers/local/job.h"
#include "workers/local/local_expand.h"
#include "workers/local/runner.h"

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

static int parse_pipes(struct local *l, struct conf_diag *d)
{
	unsigned count = conf_transport_count(l->w->conf);
	int err = 0;

	l->pipes = arena_calloc(&l->arena, (count + 1) * sizeof(const struct piped *));
	l->status = arena_calloc(&l->arena, (count + 1) * sizeof(struct status_filter *));
	for (unsigned i = 0; i < count; i++) {
		const struct conf_transport *t = conf_transport(l->w->conf, i);
		int one = t->kind == TRANSPORT_PIPE
				  ? piped_parse(l->w->conf, t, &l->arena, &l->pipes[i], d)
				  : 0;

		err = err != 0 ? err : one;
		one = status_filter_open(l->w->conf, t, &l->status[i], d);
		err = err != 0 ? err : one;
	}
	return err;
}

static int start_runner(struct local *l)
{
	struct passwd *pw = getpwnam(l->w->params->mail_owner);
	struct group *gr = getgrnam(l->w->params->setgid_group);
	int err = E_CONFIG;

	if (pw != NULL || !l->w->privileged)
		err = commands_new("/proc/self/exe", l->w->privileged,
				   pw != NULL ? pw->pw_uid : geteuid(),
				   pw != NULL ? pw->pw_gid : getegid(),
				   gr != NULL ? gr->gr_gid : (gid_t)-1, &l->commands);
	if (err != 0)
		log_error("cannot start the process that runs commands: %s", err_str(err));
	return err;
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
	if (err == 0)
		err = lookup_open(w->conf, w->privileged, &l->aliases, &d);
	arena_init(&l->arena, 4096, 0);
	unsigned warnings = d.warnings;
	int pipes = parse_pipes(l, &d);

	/* services that nobody can use are news for those who check, not in every life */
	if (w->check_only || d.errors > 0 || warnings > 0)
		conf_diag_log(&d);
	err = err != 0 ? err : pipes;
	if (err < 0 && d.text.len == 0)
		log_error("%s", err_str(err));
	conf_diag_fini(&d);
	if (err != 0 || w->check_only)
		return err;
	l->biff_fd = w->params->biff ? biff_open() : -1;
	l->pipe_env = command_environment(l->w->conf, l->w->params->export_environment, &l->arena);
	return start_runner(l);
}

static void tick(void *ctx)
{
	struct local *l = ctx;

	pool_tick(l->pool);
	tables_client_tick(l->tables);
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
	l->tables = tables_client_new(w->params->lookup_timeout, w->counters);
	l->pool = pool_new(&pc, w->loop);
	err = forwarder_new(w, &l->forwarder);
	if (err != 0)
		return err;
	commands_watch(l->commands, w->loop);
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

static void local_attach(struct worker *w, struct worker_peer *peer)
{
	struct local *l = w->state;

	if (peer->class_id == CLASS_REWRITE)
		forwarder_attach(l->forwarder, peer);
	if (peer->class_id != CLASS_LOOKUP)
		return;
	l->lookup = peer;
	tables_client_set_link(l->tables, peer->link);
}

static void local_detach(struct worker *w, struct worker_peer *peer)
{
	struct local *l = w->state;

	if (peer->class_id == CLASS_REWRITE)
		forwarder_detach(l->forwarder, peer);
	if (peer != l->lookup)
		return;
	l->lookup = NULL;
	tables_client_set_link(l->tables, NULL);
}

static void local_from_peer(struct worker *w, struct worker_peer *peer, const void *rec, size_t len)
{
	struct local *l = w->state;
	uint32_t kind = 0;

	if (peer->class_id == CLASS_REWRITE) {
		forwarder_record(l->forwarder, peer, rec, len);
		return;
	}
	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (peer == l->lookup &&
	    (kind != PROTO_TABLE_ANSWER || tables_client_input(l->tables, rec, len) != 0))
		worker_accuse(w, peer, "malformed answer");
}

static void end_if_idle(struct local *l)
{
	if (!l->w->draining || l->job_count > 0)
		return;
	journal_writer_free(&l->journal);
	pool_free(&l->pool);
	commands_free(&l->commands);
	forwarder_free(&l->forwarder);
	worker_exit(l->w);
}

static bool local_turn(struct worker *w)
{
	struct local *l = w->state;
	bool more;

	forwarder_turn(l->forwarder);
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
	.attach = local_attach,
	.detach = local_detach,
	.from_super = local_from_super,
	.from_peer = local_from_peer,
	.turn = local_turn,
	.drain = local_drain,
};

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "-d") == 0)
		return agent_main();
	if (argc > 1 && strcmp(argv[1], "-r") == 0)
		return runner_main(argc, argv);
	return worker_main(argc, argv, &local_ops);
}
