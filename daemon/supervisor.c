/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The supervisor: owns shared memory, the scheduler and the worker lives. Runs as mail_owner (or
 * the ordinary user who started it all). Started by priv with its socket as descriptor 3 and the
 * configuration snapshot as descriptor 4. If it dies, priv ends every worker and starts it again;
 * the queue is then rebuilt from the spool.
 */
#include "daemon/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/qctl.h"
#include "daemon/recover.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/rand.h"
#include "workers/common/drop.h"
#include "workers/common/evil.h"
#include "workers/common/landlock.h"
#include "workers/common/sandbox.h"

#define TICK_MS        100
#define SLOW_TICK_MS   1000
#define DAMAGE_TICK_MS 10000
#define RENEW_MS       5000
#define LOG_GRACE_MS   1000
#define PRIV_SOCK      3

#define SPOOL_WAIT_MS    100
#define SPOOL_WAIT_TRIES 300

static struct supervisor the_supervisor;

void supervisor_to_priv(struct supervisor *s, const struct priv_msg *msg, const char *text)
{
	char packet[sizeof(*msg) + PRIV_TEXT_MAX];
	struct priv_msg copy = *msg;
	size_t len = text == NULL ? 0 : size_min(strlen(text), PRIV_TEXT_MAX);

	copy.text_len = (uint32_t)len;
	memcpy(packet, &copy, sizeof(copy));
	if (len > 0)
		memcpy(packet + sizeof(copy), text, len);
	int err = io_send_fds(s->priv_sock, packet, sizeof(copy) + len, NULL, 0);

	if (err != 0)
		die("the privileged process does not listen: %s", err_str(err));
}

/* Start-up cannot succeed: the reason goes to the start command, and everything ends. */
void supervisor_failed(struct supervisor *s, const char *text)
{
	log_error("start-up failed: %s", text);
	sandbox_tell();
	supervisor_to_priv(s, &(struct priv_msg){ .kind = PRIV_FAILED }, text);
	logring_flush(&s->logring);
	_exit(1);
}

static void must(struct supervisor *s, int err, const char *what)
{
	char text[300];

	if (err == 0)
		return;
	snprintf(text, sizeof(text), "%s: %s", what, err_str(err));
	supervisor_failed(s, text);
}

/* ---- the scheduler's way out ---- */

static int send_to_worker(void *ctx, enum worker_class class_id, unsigned slot, const void *rec,
			  size_t len)
{
	struct supervisor *s = ctx;
	struct sworker *w = slot < PRIV_MAX_SLOTS ? s->scheduled[class_id][slot] : NULL;

	return w == NULL ? E_AGAIN : ring_put(&w->link.out, rec, len);
}

/* ---- upkeep ---- */

static void check_space(struct supervisor *s)
{
	struct statvfs vfs;

	if (fstatvfs(s->dirs.root, &vfs) < 0)
		return;
	uint64_t avail = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	/* Postfix's rule: queue_minfree, and room for one and a half messages of the largest size
	 */
	uint64_t want = u64_max((uint64_t)s->params->queue_minfree,
				(uint64_t)s->params->message_size_limit * 3 / 2);
	bool low = avail < want || vfs.f_favail < 16;
	bool was = atomic_load_explicit(&s->board->spool_low, memory_order_relaxed) != 0;

	if (low != was)
		log_warn("queue file system: %llu bytes and %llu inodes free%s",
			 (unsigned long long)avail, (unsigned long long)vfs.f_favail,
			 low ? ", mail is not accepted (queue_minfree, message_size_limit)"
			     : ", mail is accepted again");
	/* before it is so short that mail is refused */
	if (avail / 2 < want)
		files_drop_spares(s->files);
	if (!low && !s->room_kept)
		s->room_kept = spool_room_keep(&s->dirs);
	board_set(&s->board->spool_free_bytes, avail);
	board_set(&s->board->spool_total_bytes, (uint64_t)vfs.f_blocks * vfs.f_frsize);
	board_flag(&s->board->spool_low, low);
}

/* Recovery, rewrite and deliver workers put damaged records there, operators take them away. */
static void check_damage(struct supervisor *s)
{
	int64_t now = clock_now().ms;
	uint64_t count = 0;

	if (now < s->next_damage_ms && now > s->next_damage_ms - 2 * DAMAGE_TICK_MS)
		return;
	s->next_damage_ms = now + DAMAGE_TICK_MS;
	if (spool_count_quarantined(&s->dirs, &count) == 0)
		board_set(&s->board->damaged, count);
}

static void check_ready(struct supervisor *s)
{
	bool up = life_all_up(s);

	if (up && !s->ready) {
		s->ready = true;
		log_info("daemon started -- version %s, configuration %s", PH_VERSION,
			 conf_dir(s->conf));
		supervisor_to_priv(s, &(struct priv_msg){ .kind = PRIV_READY }, NULL);
	}
	/* readyz: mail is accepted while one worker of each needed class serves */
	bool serving = s->ready && !s->stopping;

	for (int c = CLASS_LOG; c < CLASS_COUNT; c++) {
		if (proc_classes[c].needed && life_count(s, (enum worker_class)c, LIFE_UP) == 0)
			serving = false;
	}
	board_flag(&s->board->ready, serving);
	board_set(
		&s->board->workers_alive,
		life_count(s, CLASS_LOG, LIFE_UP) + life_count(s, CLASS_RESOLVER, LIFE_UP) +
			life_count(s, CLASS_REWRITE, LIFE_UP) +
			life_count(s, CLASS_SMTP_IN, LIFE_UP) +
			life_count(s, CLASS_DELIVER, LIFE_UP) +
			life_count(s, CLASS_LOCAL, LIFE_UP) + life_count(s, CLASS_STATS, LIFE_UP) +
			life_count(s, CLASS_PICKUP, LIFE_UP) +
			life_count(s, CLASS_LOOKUP, LIFE_UP) + life_count(s, CLASS_SHOWQ, LIFE_UP) +
			life_count(s, CLASS_SPAWN, LIFE_UP) + life_count(s, CLASS_AUTH, LIFE_UP) +
			life_count(s, CLASS_VERIFY, LIFE_UP) +
			life_count(s, CLASS_SASL_CLIENT, LIFE_UP));
}

/* Stop: the doors first, then those behind them, the log last. */
static void stop_step(struct supervisor *s)
{
	static const enum worker_class order[] = { CLASS_SMTP_IN,     CLASS_PICKUP,  CLASS_STATS,
						   CLASS_SHOWQ,       CLASS_VERIFY,  CLASS_DELIVER,
						   CLASS_LOCAL,       CLASS_REWRITE, CLASS_SPAWN,
						   CLASS_RESOLVER,    CLASS_LOOKUP,  CLASS_AUTH,
						   CLASS_SASL_CLIENT, CLASS_LOG };
	bool late = clock_now().ms >= s->stop_deadline_ms;

	for (size_t o = 0; o < ARRAY_LEN(order); o++) {
		unsigned alive = life_count(s, order[o], LIFE_STARTING);

		for (size_t i = 0; i < s->high; i++) {
			struct sworker *w = &s->workers[i];

			if (w->class_id != order[o] || w->state < LIFE_STARTING)
				continue;
			if (late && order[o] != CLASS_LOG)
				life_kill(s, w, "did not finish within stop_drain_time");
			else
				life_drain(s, w);
		}
		/* rewrite serves the sessions and makes notifications: it waits for those before it
		 */
		if (alive > 0 && (o <= 1 || o >= 4))
			break;
	}
	if (life_count(s, CLASS_LOG, LIFE_STARTING) == 0 ||
	    clock_now().ms >= s->stop_deadline_ms + LOG_GRACE_MS) {
		control_free(&s->control);
		_exit(0);
	}
}

/* Changed tables: workers cannot see them from their sandboxes, so new ones take over as at a
 * reload, but with the configuration that is in force. At most every RENEW_MS. */
static void check_tables(struct supervisor *s)
{
	const char *path = map_watch_poll(s->tables);

	if (path != NULL) {
		log_info("table %s has changed -- restarting", path);
		s->tables_changed = true;
	}
	if (!s->tables_changed || clock_now().ms < s->renew_ms || s->stopping)
		return;
	s->tables_changed = false;
	s->renew_ms = clock_now().ms + RENEW_MS;
	supervisor_to_priv(s, &(struct priv_msg){ .kind = PRIV_RENEW }, NULL);
}

static void tell_refused(struct supervisor *s)
{
	unsigned n = sandbox_tell();

	if (n > 0)
		counter_add(s->counters, CTR_sandbox_refused, n);
}

static void tick(void *ctx)
{
	struct supervisor *s = ctx;

	evil_probe_turn();
	clock_tick();
	sched_tick(s->sched);
	recover_hidden_tick(&s->hidden, s->sched, s->files, &s->dirs);
	if (clock_now().ms >= s->next_slow_ms || clock_now().ms < s->next_slow_ms - SLOW_TICK_MS) {
		s->next_slow_ms = clock_now().ms + SLOW_TICK_MS;
		check_space(s);
		check_damage(s);
		if (!FAULT_SKIPS(ADOPT))
			recover_adopt(s->sched, s->files, &s->dirs);
		life_watch(s);
		check_tables(s);
		tell_refused(s);
		board_set(&s->board->beat_mono_s, (uint64_t)(clock_mono_us_raw() / 1000000));
	}
	if (s->stopping) {
		stop_step(s);
	} else {
		life_manage(s);
		check_ready(s);
	}
	loop_timer_set(&s->tick, TICK_MS);
}

static bool turn_hook(void *ctx)
{
	struct supervisor *s = ctx;

	life_awake(s);
	bool more = life_read_rings(s);

	more = sched_turn(s->sched) || more;
	life_flush(s);
	logring_flush(&s->logring);
	int64_t next = sched_next_ms(s->sched);

	if (next < TICK_MS)
		loop_timer_set(&s->tick, next);
	return more;
}

static bool presleep_hook(void *ctx)
{
	return life_presleep(ctx);
}

/* A counter that somebody filled takes no more wake-ups. */
static void wake_event(void *ctx, unsigned events UNUSED)
{
	struct supervisor *s = ctx;

	io_eventfd_drain(s->wake_fd);
}

/* ---- messages from priv ---- */

static void reload(struct supervisor *s, const struct priv_msg *msg, int fd)
{
	struct conf *fresh;
	struct conf_diag d;

	conf_diag_init(&d);
	int err = conf_load_snapshot(fd, &fresh, &d);

	close(fd);
	if (err != 0) {
		log_error("reload: %s", d.text.len > 0 ? buf_cstr(&d.text) : err_str(err));
		conf_diag_fini(&d);
		return;
	}
	conf_diag_fini(&d);
	sched_reload(s->sched, fresh, msg->generation);
	files_reload(s->files, conf_params(fresh));
	map_watch_free(&s->tables);
	s->tables = map_watch_new(fresh);
	s->tables_changed = false;
	conf_free(&s->conf);
	s->conf = fresh;
	s->params = conf_params(fresh);
	s->generation = msg->generation;
	board_set(&s->board->generation, s->generation);
	for (int c = 0; c < CLASS_COUNT; c++)
		s->classes[c].retry_ms = 0;
	log_info("reload -- version %s, configuration %s", PH_VERSION, conf_dir(fresh));
	life_manage(s);
}

static void stop(struct supervisor *s)
{
	if (s->stopping)
		return;
	log_info("terminating on signal 15");
	s->stopping = true;
	s->stop_deadline_ms = clock_now().ms + s->params->stop_drain_time;
	board_flag(&s->board->stopping, true);
	board_flag(&s->board->ready, false);
	sched_stop(s->sched);
	/* those that drain since a reload are told again: now their idle sessions end too */
	for (size_t i = 0; i < s->high; i++)
		s->workers[i].drain_sent = false;
	stop_step(s);
}

static void priv_event(void *ctx, unsigned events UNUSED)
{
	struct supervisor *s = ctx;
	char packet[sizeof(struct priv_msg) + PRIV_TEXT_MAX + 1];
	struct priv_msg msg;
	size_t len;

	for (;;) {
		int fd = -1;
		size_t nfds = 1;
		int err = io_recv_fds(s->priv_sock, packet, sizeof(packet) - 1, &len, &fd, &nfds);

		if (err == E_AGAIN)
			return;
		if (err != 0)
			_exit(1); /* priv is gone: so is everything */
		memcpy(&msg, packet, sizeof(msg));
		packet[len] = '\0';
		if (nfds == 0)
			fd = -1;
		if (msg.kind == PRIV_SPAWNED)
			life_spawned(s, &msg, fd);
		else if (msg.kind == PRIV_EXITED)
			life_exited(s, &msg);
		else if (msg.kind == PRIV_RELOAD && fd >= 0)
			reload(s, &msg, fd);
		else if (msg.kind == PRIV_STOP)
			stop(s);
		else if (msg.kind == PRIV_LOG)
			log_as("master", (enum log_level)msg.status, "%s", packet + sizeof(msg));
	}
}

/* ---- start ---- */

static void hello(struct supervisor *s)
{
	struct priv_msg msg;
	size_t len, nfds = 0;
	int err = io_recv_fds(s->priv_sock, &msg, sizeof(msg), &len, NULL, &nfds);

	if (err != 0 || len < sizeof(msg) || msg.kind != PRIV_HELLO)
		die("this program is started by priv");
	s->generation = msg.generation;
	s->privileged = msg.privileged != 0;
}

static void load_conf(struct supervisor *s)
{
	struct conf_diag d;

	conf_diag_init(&d);
	int err = conf_load_snapshot(CTL_FD_SNAPSHOT, &s->conf, &d);

	if (err != 0)
		supervisor_failed(s, d.text.len > 0 ? buf_cstr(&d.text) : err_str(err));
	conf_diag_fini(&d);
	close(CTL_FD_SNAPSHOT);
	s->tables = map_watch_new(s->conf);
	s->params = conf_params(s->conf);
	log_set_syslog_name(s->params->syslog_name);
	char tag[64];

	snprintf(tag, sizeof(tag), "%s/master", s->params->syslog_name);
	log_set_program(tag);
}

static void make_memory(struct supervisor *s)
{
	const struct params *p = s->params;
	struct shm_region log = SHM_REGION_INIT;

	must(s, qtab_create((uint32_t)p->queue_table_size, (uint32_t)p->queue_table_size, &s->qtab),
	     "queue table");
	must(s, dtab_create((uint32_t)p->destination_table_size, &s->dtab), "destination table");
	must(s,
	     shm_region_create("board", SHM_KIND_BOARD,
			       sizeof(struct shm_header) + sizeof(struct board_shm), 0, 0,
			       &s->board_region),
	     "board");
	s->board = (struct board_shm *)((char *)s->board_region.base + sizeof(struct shm_header));
	must(s, counters_create("boot", 0, &s->boot_region), "counters");
	must(s, shm_region_freeze(&s->boot_region), "counters");
	s->counters = counters_of(&s->boot_region);
	s->counters->class_id = CLASS_SUPERVISOR;
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->log_wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must(s, logring_create("supervisor", (uint32_t)p->log_ring_size, 0, &log), "log ring");
	peers_log_ring_add(s, fcntl(log.fd, F_DUPFD_CLOEXEC, 0), CLASS_SUPERVISOR, 0, 0);
	must(s, logring_install(&s->logring, &log, s->log_wake_fd, s->counters), "log ring");
	board_set(&s->board->start_wall_s, (uint64_t)clock_wall_s());
	s->started_ms = clock_mono().ms;
	board_set(&s->board->generation, s->generation);
}

/* Workers of an earlier run whose priv was killed end by themselves, but not at once: what they
 * still commit must be there before the spool is read. */
static void take_spool(struct supervisor *s)
{
	int err = spool_hold(&s->dirs, true);

	if (err == E_AGAIN)
		log_warn("waiting for processes of an earlier run");
	for (unsigned i = 0; err == E_AGAIN && i < SPOOL_WAIT_TRIES; i++) {
		poll(NULL, 0, SPOOL_WAIT_MS);
		err = spool_hold(&s->dirs, true);
	}
	must(s, err, "processes of an earlier run still use the queue directory");
	must(s, spool_hold(&s->dirs, false), "queue directory");
}

/* A start writes: numbers, secrets, sockets. On a full disk it does so in the room that was kept
 * for it, and in what spares take up; deliveries make more. */
static void make_room(struct supervisor *s)
{
	struct statvfs vfs;
	uint32_t *spares = NULL;
	size_t count = 0;

	if (fstatvfs(s->dirs.root, &vfs) < 0 ||
	    ((uint64_t)vfs.f_bavail * vfs.f_frsize >= SPOOL_ROOM_BYTES / 2 && vfs.f_favail >= 16))
		return;
	bool given = spool_room_give(&s->dirs);

	if (spool_list_spares(&s->dirs, &spares, &count) == 0) {
		for (size_t i = 0; i < count; i++)
			spool_spare_remove(&s->dirs, spares[i]);
	}
	free(spares);
	log_warn("queue file system is full: starting in %s",
		 given       ? "the room that was kept for that"
		 : count > 0 ? "the room of spare segments"
			     : "what is left");
}

static void make_scheduler(struct supervisor *s)
{
	struct qclock_seen seen;
	uint32_t life = 0;

	must(s, spool_dirs_open(s->params->queue_directory, true, &s->dirs), "queue_directory");
	take_spool(s);
	make_room(s);
	bool known = qclock_file_open(&s->clock_file, s->dirs.root, true, &seen);

	must(s, spool_state_open(&s->dirs, &s->spool_state), "spool state");
	must(s, spool_state_next_life(s->spool_state, &life), "spool state");
	must(s,
	     warrant_key_open(&s->dirs, true, spool_state_unused_file(s->spool_state),
			      &s->warrant_key),
	     "secret of the spool");
	must(s,
	     files_new(&(struct files_setup){ .dirs = &s->dirs,
					      .state = s->spool_state,
					      .board = s->board,
					      .params = s->params,
					      .counters = s->counters,
					      .verify = true,
					      .key = &s->warrant_key,
					      .life = life,
					      .loop = s->loop },
		       &s->files),
	     "spool files");
	must(s,
	     sched_new(&(struct sched_setup){ .conf = s->conf,
					      .qtab = &s->qtab,
					      .dtab = &s->dtab,
					      .board = s->board,
					      .counters = s->counters,
					      .files = s->files,
					      .clock_file = &s->clock_file,
					      .clock_seen = known ? &seen : NULL,
					      .ops = { .send = send_to_worker, .ctx = s } },
		       &s->sched),
	     "scheduler");
	must(s, control_new(s->params->queue_directory, s->loop, &s->control), "control socket");
	if (s->privileged)
		control_only_user(s->control, 0);
	qctl_register(s->control, s->sched, s->files);
	supctl_register(s);
}

static void start_loop(struct supervisor *s)
{
	io_set_nonblock(s->priv_sock);
	loop_fd_add(s->loop, &s->priv_lf, s->priv_sock, LOOP_READ, priv_event, s);
	loop_fd_add(s->loop, &s->wake_lf, s->wake_fd, LOOP_READ | LOOP_EDGE, wake_event, s);
	loop_timer_init(s->loop, &s->tick, tick, s);
	loop_timer_set(&s->tick, 0);
	loop_add_hook(s->loop, turn_hook, s);
	loop_add_presleep(s->loop, presleep_hook, s);
}

static void raise_descriptor_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

/* What recovery and listings took for a moment goes back at once, however much it was. */
static void return_memory(void)
{
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
	mallopt(M_TRIM_THRESHOLD, 1 << 20);
}

/* What processes are allowed, for scripts/privileges. */
static int print_allowed(void)
{
	for (unsigned k = 0; k < SANDBOX_KINDS; k++) {
		struct buf files = BUF_INIT;
		unsigned conditional, calls = sandbox_allowed(k, &conditional);

		landlock_describe(k, &files);
		printf("%s\t%u\t%u\t%s\n", sandbox_kind_name(k), calls, conditional,
		       buf_cstr(&files));
		buf_fini(&files);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct supervisor *s = &the_supervisor;

	if (argc == 2 && strcmp(argv[1], "-S") == 0)
		return print_allowed();
	return_memory();
	clock_init();
	FAULT_INIT(CLASS_SUPERVISOR);
	evil_init(CLASS_SUPERVISOR);
	signal(SIGPIPE, SIG_IGN);
	s->priv_sock = PRIV_SOCK;
	hello(s);
	rand_bytes(s->ticket_seed, sizeof(s->ticket_seed));
	s->ticket_hour = clock_wall_s() / 3600;
	raise_descriptor_limit();
	load_conf(s);
	int rules = landlock_rules(CLASS_SUPERVISOR, s->params->queue_directory, landlock_limit());

	drop_rights(
		&(struct drop_plan){ .user = s->params->mail_owner, .privileged = s->privileged });
	landlock_enter(rules);
	drop_precedence();
	umask(077);
	s->loop = loop_new();
	make_memory(s);
	make_scheduler(s);
	start_loop(s);
	/* the spool may be the work of a worker that was taken over: nothing of it is read before
	 */
	sandbox_enter(CLASS_SUPERVISOR);
	clock_tick();
	/* log and the others start while the spool is read; smtp-in waits for it */
	life_manage(s);
	must(s, recover_all(s->sched, s->files, &s->dirs), "recovery of the spool");
	s->recovered = true;
	life_manage(s);
	loop_run(s->loop);
	return 0;
}
