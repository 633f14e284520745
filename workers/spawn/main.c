/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The spawn worker: accepts the connections of spawn services (spawn(8)) and hands each to the
 * keeper, which starts the command of its service (workers/spawn/keeper.h). This process is shut in
 * as the others: it reads nothing from its clients and starts nothing. A service that has its
 * number of processes is not accepted for; clients wait in the kernel's queue, as with Postfix.
 */
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/spawn.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/common/ctl.h"
#include "workers/common/worker.h"
#include "workers/spawn/keeper.h"

#define FULL_LOG_MS 60000

extern char **environ;

struct spawn;

struct door { /* a listening socket */
	struct spawn *sp;
	struct served *served;
	struct loop_fd lf;
	int fd;
};

struct served {
	struct spawn_service conf;
	char *log_name;
	unsigned index, running;
	bool closed; /* as many as may be */
	int64_t next_full_log_ms;
};

struct spawn {
	struct worker *w;
	struct arena arena;
	struct served *services;
	unsigned service_count;
	struct door doors[WORKER_MAX_LISTENERS];
	unsigned door_count;
	unsigned running;
	int keeper;
	struct loop_fd keeper_lf;
};

static struct spawn the_spawn;

/* ---- start ---- */

static int read_services(struct spawn *sp, struct conf_diag *d)
{
	unsigned count = conf_service_count(sp->w->conf);
	int err = 0;

	arena_init(&sp->arena, 65536, 0);
	sp->services = xcalloc(count + 1, sizeof(*sp->services));
	for (unsigned i = 0; i < count; i++) {
		struct served *s = &sp->services[sp->service_count];

		if (!spawn_service_read(sp->w->conf, i, &sp->arena, &s->conf, d, &err))
			continue;
		s->index = i;
		s->log_name = conf_log_name(sp->w->conf, s->conf.service->params, "spawn");
		sp->service_count++;
	}
	return err;
}

static int start_keeper(struct spawn *sp)
{
	char change[2] = { sp->w->privileged ? '1' : '0', '\0' };
	char *argv[] = { (char *)"spawn", (char *)"-r", change, NULL };
	posix_spawn_file_actions_t fa;
	int pair[2], snapshot = dup(CTL_FD_SNAPSHOT);
	pid_t pid;

	if (snapshot < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno();
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, pair[1], CTL_FD_SUPERVISOR);
	posix_spawn_file_actions_adddup2(&fa, snapshot, CTL_FD_SNAPSHOT);
	int err = -posix_spawn(&pid, "/proc/self/exe", &fa, NULL, argv, environ);

	posix_spawn_file_actions_destroy(&fa);
	close(pair[1]);
	close(snapshot);
	sp->keeper = pair[0];
	return err;
}

static int spawn_init(struct worker *w)
{
	struct spawn *sp = &the_spawn;
	struct conf_diag d;
	int err;

	w->state = sp;
	sp->w = w;
	sp->keeper = -1;
	conf_diag_init(&d);
	err = read_services(sp, &d);
	conf_diag_log(&d);
	conf_diag_fini(&d);
	if (err != 0 || w->check_only)
		return err;
	err = start_keeper(sp);
	if (err != 0)
		log_error("cannot start the process that runs commands: %s", err_str(err));
	return err;
}

/* ---- connections ---- */

static void watch(struct spawn *sp, struct served *s, bool open)
{
	s->closed = !open;
	for (unsigned i = 0; i < sp->door_count; i++) {
		if (sp->doors[i].served == s)
			loop_fd_mod(sp->w->loop, &sp->doors[i].lf, open ? LOOP_READ : 0);
	}
}

static void is_full(struct spawn *sp, struct served *s)
{
	watch(sp, s, false);
	if (clock_now().ms < s->next_full_log_ms)
		return;
	s->next_full_log_ms = clock_now().ms + FULL_LOG_MS;
	log_speak_as(s->log_name);
	log_warn("service \"%s\" has reached its process limit \"%u\": new clients may experience "
		 "noticeable delays",
		 s->conf.service->name, s->conf.maxproc);
}

static void door_event(void *ctx, unsigned events UNUSED)
{
	struct door *door = ctx;
	struct spawn *sp = door->sp;
	struct served *s = door->served;

	if (s->running >= s->conf.maxproc || sp->running >= SPAWN_PROCESS_MAX) {
		is_full(sp, s);
		return;
	}
	/* the command reads and writes as programs do: it waits */
	int conn = accept4(door->fd, NULL, NULL, SOCK_CLOEXEC);

	if (conn < 0)
		return;
	struct keeper_request q = { .service = s->index };
	int err = io_send_fds(sp->keeper, &q, sizeof(q), &conn, 1);

	close(conn);
	if (err != 0)
		return; /* its socket is full or gone: the client is not served */
	s->running++;
	sp->running++;
	counter_add(sp->w->counters, CTR_spawn_commands, 1);
	gauge_set(sp->w->counters, GAU_spawn_running, sp->running);
}

static void tell_end(struct spawn *sp, const struct served *s, const struct keeper_answer *a)
{
	const char *name = s->conf.argv[0];

	log_speak_as(s->log_name);
	switch ((enum keeper_how)a->how) {
	case KEEPER_EXITED:
		if (a->code != 0)
			log_warn("command %s exit status %d", name, a->code);
		break;
	case KEEPER_SIGNALED:
		log_warn("command %s killed by signal %d", name, a->code);
		break;
	case KEEPER_TIMED_OUT:
		log_warn("%s: process id %d: command time limit exceeded", name, a->pid);
		break;
	case KEEPER_NOT_RUN:
		log_warn("command %s cannot be run: %s", name,
			 s->conf.problem != NULL ? s->conf.problem : strerror(a->code));
		break;
	}
	if (a->how != KEEPER_EXITED || a->code != 0)
		counter_add(sp->w->counters, CTR_spawn_failures, 1);
}

static struct served *find(struct spawn *sp, uint32_t index)
{
	for (unsigned i = 0; i < sp->service_count; i++) {
		if (sp->services[i].index == index)
			return &sp->services[i];
	}
	return NULL;
}

static void keeper_event(void *ctx, unsigned events UNUSED)
{
	struct spawn *sp = ctx;
	struct keeper_answer a;
	size_t len, nfds = 0;
	int err;

	while ((err = io_recv_fds(sp->keeper, &a, sizeof(a), &len, NULL, &nfds)) == 0) {
		struct served *s = len == sizeof(a) ? find(sp, a.service) : NULL;

		if (s == NULL || s->running == 0)
			die("answer of the process that runs commands");
		s->running--;
		sp->running--;
		gauge_set(sp->w->counters, GAU_spawn_running, sp->running);
		tell_end(sp, s, &a);
		if (!sp->w->draining && s->closed)
			watch(sp, s, true);
	}
	/* without it nothing can be started: another worker begins with a keeper of its own */
	if (err != E_AGAIN)
		die("the process that runs commands has ended: %s", err_str(err));
}

static int spawn_start(struct worker *w)
{
	struct spawn *sp = w->state;

	for (unsigned i = 0; i < w->listener_count; i++) {
		struct door *door = &sp->doors[sp->door_count];

		door->sp = sp;
		door->fd = w->listeners[i].fd;
		door->served = find(sp, w->listeners[i].index);
		if (door->served == NULL)
			continue;
		sp->door_count++;
		loop_fd_add(w->loop, &door->lf, door->fd, LOOP_READ, door_event, door);
	}
	io_set_nonblock(sp->keeper);
	loop_fd_add(w->loop, &sp->keeper_lf, sp->keeper, LOOP_READ, keeper_event, sp);
	return 0;
}

/* Commands that talk with somebody finish, unless the whole system stops. */
static void end_if_done(struct worker *w)
{
	struct spawn *sp = w->state;
	bool stops = atomic_load_explicit(&w->board->ready, memory_order_relaxed) == 0;

	if (w->draining && (sp->running == 0 || stops))
		worker_exit(w);
}

static void spawn_drain(struct worker *w)
{
	struct spawn *sp = w->state;

	for (unsigned i = 0; i < sp->service_count; i++)
		watch(sp, &sp->services[i], false);
	end_if_done(w);
}

static bool spawn_turn(struct worker *w)
{
	log_speak_as("spawn");
	end_if_done(w);
	return false;
}

int main(int argc, char **argv)
{
	static const struct worker_ops ops = {
		.class_id = CLASS_SPAWN,
		.program = "spawn",
		.init = spawn_init,
		.start = spawn_start,
		.turn = spawn_turn,
		.drain = spawn_drain,
	};

	if (argc > 1 && strcmp(argv[1], "-r") == 0)
		return keeper_main(argc, argv);
	return worker_main(argc, argv, &ops);
}
