/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The queue without a mail system; see daemon/offline.h. */
#include "daemon/offline.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/files.h"
#include "daemon/qclock.h"
#include "daemon/recover.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/common/drop.h"

#define JOURNAL_POLL_MS 2

struct offline {
	const struct conf *conf;
	const struct params *params;
	int pid_fd; /* locked, as by a mail system that runs */
	struct loop *loop;
	struct qtab qtab;
	struct dtab dtab;
	struct shm_region board_region, counters_region;
	struct board_shm *board;
	struct counters_shm *counters;
	struct spool_dirs dirs;
	struct spool_state *state;
	struct warrant_key key;
	struct qclock_file clock;
	struct files *files;
	struct sched *sched;
};

static int lock(struct offline *o)
{
	char *path = xasprintf("%s/pid/master.pid", o->params->queue_directory);

	o->pid_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	free(path);
	if (o->pid_fd < 0)
		return err_errno();
	if (flock(o->pid_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? E_AGAIN : err_errno();
	return 0;
}

static int make_tables(struct offline *o)
{
	const struct params *p = o->params;
	int err =
		qtab_create((uint32_t)p->queue_table_size, (uint32_t)p->queue_table_size, &o->qtab);

	if (err == 0)
		err = dtab_create((uint32_t)p->destination_table_size, &o->dtab);
	if (err == 0)
		err = shm_region_create("board", SHM_KIND_BOARD,
					sizeof(struct shm_header) + sizeof(struct board_shm), 0, 0,
					&o->board_region);
	if (err == 0)
		err = counters_create("offline", 0, &o->counters_region);
	if (err != 0)
		return err;
	o->board = (struct board_shm *)((char *)o->board_region.base + sizeof(struct shm_header));
	o->counters = counters_of(&o->counters_region);
	return 0;
}

static int open_files(struct offline *o)
{
	uint32_t life = 0;
	int err = spool_state_open(&o->dirs, &o->state);

	if (err == 0)
		err = spool_state_next_life(o->state, &life);
	if (err == 0)
		err = warrant_key_open(&o->dirs, true, spool_state_unused_file(o->state), &o->key);
	if (err == 0)
		err = files_new(&(struct files_setup){ .dirs = &o->dirs,
						       .state = o->state,
						       .board = o->board,
						       .params = o->params,
						       .counters = o->counters,
						       .key = &o->key,
						       .life = life,
						       .loop = o->loop },
				&o->files);
	return err;
}

static int send_nothing(void *ctx UNUSED, enum worker_class class_id UNUSED, unsigned slot UNUSED,
			const void *rec UNUSED, size_t len UNUSED)
{
	return E_AGAIN;
}

/* It is made in a thread. */
static int wait_journal(struct offline *o)
{
	int ready;

	while ((ready = files_mark_ready(o->files)) == 0)
		poll(NULL, 0, JOURNAL_POLL_MS);
	return ready < 0 ? ready : 0;
}

static int open_queue(struct offline *o, const char **what_r)
{
	struct qclock_seen seen;

	*what_r = "processes of an earlier run still use the queue directory";
	int err = spool_hold(&o->dirs, true);

	if (err != 0)
		return err;
	bool known = qclock_file_open(&o->clock, o->dirs.root, true, &seen);

	*what_r = "spool";
	err = open_files(o);
	if (err == 0)
		err = sched_new(&(struct sched_setup){ .conf = o->conf,
						       .qtab = &o->qtab,
						       .dtab = &o->dtab,
						       .board = o->board,
						       .counters = o->counters,
						       .files = o->files,
						       .clock_file = &o->clock,
						       .clock_seen = known ? &seen : NULL,
						       .ops = { .send = send_nothing } },
				&o->sched);
	if (err != 0)
		return err;
	*what_r = "recovery of the spool";
	err = recover_all(o->sched, o->files, &o->dirs);
	if (err != 0)
		return err;
	*what_r = "journal";
	return wait_journal(o);
}

int offline_open(const struct conf *conf, struct offline **o_r, const char **what_r)
{
	struct offline *o = xcalloc(1, sizeof(*o));

	o->conf = conf;
	o->params = conf_params(conf);
	*o_r = o;
	*what_r = "lock of the mail system";
	int err = lock(o);

	if (err != 0) {
		io_close(&o->pid_fd);
		free(o);
		*o_r = NULL;
		return err;
	}
	drop_rights(
		&(struct drop_plan){ .user = o->params->mail_owner, .privileged = geteuid() == 0 });
	umask(077);
	clock_tick();
	o->loop = loop_new();
	*what_r = "memory for the queue";
	err = make_tables(o);
	if (err == 0) {
		*what_r = "queue directory";
		err = spool_dirs_open(o->params->queue_directory, true, &o->dirs);
	}
	return err != 0 ? err : open_queue(o, what_r);
}

/* What is held in memory goes with the process; what is on disk is closed in order. */
void offline_close(struct offline **op)
{
	struct offline *o = *op;

	if (o == NULL)
		return;
	*op = NULL;
	sched_free(&o->sched);
	files_free(&o->files);
	qclock_file_close(&o->clock);
	spool_state_close(&o->state);
	spool_dirs_close(&o->dirs);
	qtab_fini(&o->qtab);
	dtab_fini(&o->dtab);
	shm_region_close(&o->board_region);
	shm_region_close(&o->counters_region);
	loop_free(&o->loop);
	io_close(&o->pid_fd);
	free(o);
}

struct all {
	bool done;
	struct sched_cmd_result *r;
};

static void all_done(void *ctx, const struct sched_cmd_result *r)
{
	struct all *a = ctx;

	*a->r = *r;
	a->done = true;
}

int offline_cmd(struct offline *o, enum sched_cmd cmd, unsigned queues, unsigned count,
		const char *const *ids, struct buf *names_r, struct sched_cmd_result *r)
{
	struct all a = { .r = r };

	clock_tick();
	if (count == 0) {
		int err = sched_cmd_all_in(o->sched, cmd, queues, all_done, &a);

		if (err != 0)
			return err;
		while (!a.done)
			sched_turn(o->sched);
	}
	for (unsigned i = 0; i < count; i++) {
		struct qid id;

		if (qid_parse(sv_from(ids[i]), &id) == 0 &&
		    sched_cmd_in(o->sched, cmd, queues, id, r) == 0)
			buf_printf(names_r, "%s\n", ids[i]);
	}
	return r->failed > 0 ? E_IO : files_mark_sync(o->files);
}
