/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The process that starts commands; see workers/spawn/keeper.h. Started by main.c. */
#include "workers/spawn/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/spawn.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/common/ctl.h"
#include "workers/common/drop.h"
#include "workers/common/starter.h"

#define KEEPER_FD CTL_FD_SUPERVISOR
#define TICK_MS   500

struct run { /* one command; pid 0 = free place */
	pid_t pid;
	uint32_t service;
	bool timed_out;
	struct mono_ms since;
	int64_t limit_ms;
};

static struct keeper {
	bool change_user;
	struct conf *conf;
	struct arena arena;
	struct spawn_service *services; /* by index; without argv: not to be run */
	unsigned service_count;
	const char ***env; /* of each */
	int signals;
	struct run runs[SPAWN_PROCESS_MAX];
} the_keeper;

/* ---- in the child ---- */

static NORETURN void give_up(const char *what, const char *name)
{
	fprintf(stderr, "spawn: fatal: %s %s: %s\n", what, name, strerror(errno));
	_exit(75); /* EX_TEMPFAIL */
}

static NORETURN void run_command(const struct keeper *k, const struct spawn_service *s,
				 const char **env, int conn)
{
	setsid();
	conn = fcntl(conn, F_DUPFD, 3); /* out of the way of the target numbers */
	if (conn < 0 || dup2(conn, 0) < 0 || dup2(conn, 1) < 0 || dup2(conn, 2) < 0)
		_exit(75);
	close_range(3, ~0u, 0);
	if ((k->change_user && !starter_become(s->uid, s->gid)) || !starter_normal_process())
		_exit(75);
	if (chdir("/") < 0)
		give_up("cannot change directory to", "/");
	environ = (char **)(uintptr_t)env;
	execvp(s->argv[0], (char *const *)(uintptr_t)s->argv);
	give_up("execvp", s->argv[0]);
}

/* ---- requests ---- */

static void answer(const struct keeper_answer *a)
{
	struct pollfd p = { KEEPER_FD, POLLOUT, 0 };
	int err;

	while ((err = io_send_fds(KEEPER_FD, a, sizeof(*a), NULL, 0)) == E_AGAIN)
		poll(&p, 1, -1);
	if (err != 0)
		exit(0); /* nobody listens */
}

static void start(struct keeper *k, uint32_t service, int conn)
{
	const struct spawn_service *s = &k->services[service];
	struct keeper_answer a = { .service = service, .how = KEEPER_NOT_RUN, .code = EAGAIN };
	struct run *run = NULL;

	for (unsigned i = 0; i < SPAWN_PROCESS_MAX && run == NULL; i++) {
		if (k->runs[i].pid == 0)
			run = &k->runs[i];
	}
	if (s->argv == NULL || s->problem != NULL || (!k->change_user && s->uid != geteuid())) {
		a.code = EPERM;
		run = NULL;
	}
	pid_t pid = run != NULL ? fork() : -1;

	if (pid == 0)
		run_command(k, s, k->env[service], conn);
	if (pid < 0) {
		answer(&a);
		return;
	}
	*run = (struct run){ .pid = pid, .service = service, .limit_ms = s->time_limit_ms };
	run->since = clock_mono();
}

/* False when the asker is gone. */
static bool serve(struct keeper *k)
{
	struct keeper_request q;
	int conn = -1;
	size_t len, nfds = 1;
	int err = io_recv_fds(KEEPER_FD, &q, sizeof(q), &len, &conn, &nfds);

	if (err == E_AGAIN)
		return true;
	if (err != 0)
		return false;
	if (len != sizeof(q) || nfds != 1 || q.service >= k->service_count)
		die("bad request");
	start(k, q.service, conn);
	io_close(&conn);
	return true;
}

/* ---- commands that run ---- */

static void ended(struct run *run, int status)
{
	struct keeper_answer a = { .service = run->service, .pid = run->pid };

	a.how = run->timed_out        ? KEEPER_TIMED_OUT
		: WIFSIGNALED(status) ? KEEPER_SIGNALED
				      : KEEPER_EXITED;
	a.code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
	run->pid = 0;
	answer(&a);
}

static void reap(struct keeper *k)
{
	int status;
	pid_t pid;

	starter_take_signals(k->signals);
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned i = 0; i < SPAWN_PROCESS_MAX; i++) {
			if (k->runs[i].pid == pid) {
				ended(&k->runs[i], status);
				break;
			}
		}
	}
}

static void turn(struct keeper *k)
{
	struct pollfd fds[2] = { { KEEPER_FD, POLLIN, 0 }, { k->signals, POLLIN, 0 } };
	int64_t now;

	if (poll(fds, 2, TICK_MS) < 0 && errno != EINTR)
		die("poll: %s", strerror(errno));
	reap(k);
	now = clock_mono().ms;
	for (unsigned i = 0; i < SPAWN_PROCESS_MAX; i++) {
		struct run *run = &k->runs[i];

		if (run->pid == 0 || run->timed_out || now - run->since.ms <= run->limit_ms)
			continue;
		run->timed_out = true;
		starter_kill_group(k->change_user, run->pid);
	}
	if (fds[0].revents == 0 || serve(k))
		return;
	for (unsigned i = 0; i < SPAWN_PROCESS_MAX; i++) {
		if (k->runs[i].pid != 0)
			starter_kill_group(k->change_user, k->runs[i].pid);
	}
	exit(0);
}

static void read_services(struct keeper *k)
{
	struct conf_diag d;
	int err;

	conf_diag_init(&d);
	err = conf_load_snapshot(CTL_FD_SNAPSHOT, &k->conf, &d);
	if (err != 0)
		die("configuration: %s", err_str(err));
	conf_diag_fini(&d);
	close(CTL_FD_SNAPSHOT);
	arena_init(&k->arena, 65536, 0);
	k->service_count = conf_service_count(k->conf);
	k->services = xcalloc(k->service_count + 1, sizeof(*k->services));
	k->env = xcalloc(k->service_count + 1, sizeof(*k->env));
	for (unsigned i = 0; i < k->service_count; i++) {
		int bad = 0;

		if (!spawn_service_read(k->conf, i, &k->arena, &k->services[i], NULL, &bad))
			continue;
		if (bad != 0)
			k->services[i].argv = NULL;
		k->env[i] = command_environment(
			k->conf, conf_service(k->conf, i)->params->export_environment, &k->arena);
	}
}

int keeper_main(int argc, char **argv)
{
	struct keeper *k = &the_keeper;

	if (argc != 3)
		return 64;
	starter_begin("keeper", CTL_FD_SNAPSHOT + 1, KEEPER_FD);
	k->change_user = strcmp(argv[2], "1") == 0;
	read_services(k);
	if (k->change_user)
		drop_effective_user(conf_params(k->conf)->mail_owner);
	k->signals = starter_watch_children();
	for (;;)
		turn(k);
}
