/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * posthaste: the operator's command. start, start-fg, stop, abort, reload, status, check, flush.
 * Also run by priv as "plan" to read a changed configuration on its behalf.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "daemon/check.h"
#include "daemon/control.h"
#include "daemon/logrotate.h"
#include "daemon/plan.h"
#include "daemon/priv_plan.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/common/ctl.h"

#define START_LIMIT_MS  120000
#define CHECK_LINES_MAX (4u << 20)
#define POLL_MS         50

/* Called by the name postfix it has that one's words, for scripts. */
static const char *self = "posthaste", *product = "Posthaste";
static bool is_postfix;

struct app {
	const char *conf_path;
	struct conf *conf;
	const struct params *params;
	char self[PATH_MAX];
};

static void print_diag(const struct conf_diag *d, const char *level)
{
	char *copy = xstrdup(buf_cstr(&d->text)), *save = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save))
		fprintf(stderr, "%s: %s%s\n", self, strncmp(line, "warning: ", 9) == 0 ? "" : level,
			line);
	free(copy);
}

static void load(struct app *a)
{
	struct conf_diag d;

	conf_diag_init(&d);
	int err = conf_load_dir(a->conf_path, &a->conf, &d);

	print_diag(&d, err != 0 ? "fatal: " : "");
	if (err != 0 && d.text.len == 0)
		fprintf(stderr, "%s: fatal: %s: %s\n", self, a->conf_path, err_str(err));
	conf_diag_fini(&d);
	if (err != 0)
		exit(1);
	a->params = conf_params(a->conf);
}

/* ---- the pid file, locked while the system runs ---- */

static int open_pid_file(const struct app *a, bool create)
{
	char *path = xasprintf("%s/pid/master.pid", a->params->queue_directory);
	int fd = open(path, (create ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW, 0644);

	if (fd < 0 && (create || errno != ENOENT))
		die("open %s: %s", path, strerror(errno));
	free(path);
	return fd;
}

/* The pid of the running instance, 0 when none runs. */
static pid_t running(const struct app *a)
{
	char text[32] = "";
	int fd = open_pid_file(a, false);
	pid_t pid = 0;

	if (fd < 0)
		return 0;
	if (flock(fd, LOCK_SH | LOCK_NB) < 0) {
		ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

		pid = n > 0 ? (pid_t)atoi(text) : 0;
	}
	close(fd);
	return pid;
}

/* ---- check and plan ---- */

/* Let each worker class try to open its tables and compile its lists. What it says goes to err_fd,
 * -1 = our standard error. */
static bool check_workers(const struct app *a, int snap_fd, int err_fd)
{
	static const char *const programs[] = { "smtpd", "rewrite",   "deliver", "local",
						"stats", "pickup",    "lookup",  "spawn",
						"auth",  "saslclient" };
	bool ok = true;

	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		char *path = xasprintf("%s/%s", a->params->daemon_directory, programs[i]);
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			int copy = fcntl(snap_fd, F_DUPFD, 200);

			if (err_fd >= 0)
				dup2(err_fd, 2);
			dup2(copy, CTL_FD_SNAPSHOT);
			close_range(CTL_FD_SNAPSHOT + 1, ~0u, 0);
			execl(path, programs[i], "-C", (char *)NULL);
			fprintf(stderr, "posthaste: fatal: cannot execute %s: %s\n", path,
				strerror(errno));
			_exit(71);
		}
		if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
			ok = false;
		free(path);
	}
	return ok;
}

static bool check_workers_into(const struct app *a, int snap_fd, struct buf *lines)
{
	/* each worker writes behind the one before it: the position is shared */
	int said = memfd_create("said", MFD_CLOEXEC);
	bool ok = check_workers(a, snap_fd, said);

	lseek(said, 0, SEEK_SET);
	io_read_to_buf(said, CHECK_LINES_MAX, lines);
	close(said);
	return ok;
}

/* The plan and the snapshot, each in a fresh memfd. */
static int make_plan(struct app *a, int *plan_r, int *snap_r, struct conf_diag *d)
{
	struct buf plan = BUF_INIT;

	*plan_r = memfd_create("plan", 0);
	*snap_r = memfd_create("snapshot", 0);
	int err = plan_make(a->conf, a->self, &plan, d);

	if (err == 0)
		err = io_write_all(*plan_r, plan.p, plan.len);
	if (err == 0 || err == E_CONFIG) {
		int err2 = conf_write_snapshot(a->conf, *snap_r);

		err = err2 != 0 ? err2 : err;
	}
	buf_fini(&plan);
	if (err != 0 && err != E_CONFIG)
		conf_diag_add(d, true, NULL, 0, "%s", err_str(err));
	return err;
}

static bool prepare(struct app *a, int *plan_r, int *snap_r)
{
	struct conf_diag d;

	conf_diag_init(&d);
	int err = make_plan(a, plan_r, snap_r, &d);

	print_diag(&d, "fatal: ");
	conf_diag_fini(&d);
	return err == 0;
}

static int cmd_check(struct app *a)
{
	struct buf lines = BUF_INIT;
	struct conf_diag d;
	int plan, snap;

	conf_diag_init(&d);
	int err = conf_load_dir_lenient(a->conf_path, &a->conf, &d);

	if (a->conf == NULL) {
		print_diag(&d, "fatal: ");
		if (d.text.len == 0)
			fprintf(stderr, "%s: fatal: %s: %s\n", self, a->conf_path, err_str(err));
		return 1;
	}
	a->params = conf_params(a->conf);
	make_plan(a, &plan, &snap, &d);
	bool ok = check_workers_into(a, snap, &lines);

	ok = check_problems(a->conf, &d, buf_sv(&lines)) && ok;
	check_summary(a->conf);
	buf_fini(&lines);
	conf_diag_fini(&d);
	return ok ? 0 : 1;
}

/* Run by priv: the plan on descriptor 1, the snapshot on 4. */
static int cmd_plan(struct app *a)
{
	struct buf copy = BUF_INIT;
	int plan, snap;

	load(a);
	if (!prepare(a, &plan, &snap) || !check_workers(a, snap, -1))
		return 1;
	plan_make_directories(a->conf);
	lseek(plan, 0, SEEK_SET);
	if (io_read_to_buf(plan, 1 << 20, &copy) != 0 ||
	    io_write_all(PLAN_FD, copy.p, copy.len) != 0)
		return 1;
	return conf_write_snapshot(a->conf, PLAN_SNAP_FD) == 0 ? 0 : 1;
}

/* ---- start ---- */

static bool write_pid(int fd, const char *text, size_t len)
{
	return pwrite(fd, text, len, 0) == (ssize_t)len && ftruncate(fd, (off_t)len) == 0;
}

/* On a full disk: what is kept for a start (spool_room_keep()). */
static bool give_room(const struct app *a)
{
	char *path = xasprintf("%s/room", a->params->queue_directory);
	bool given = errno == ENOSPC && unlink(path) == 0;

	free(path);
	return given;
}

static NORETURN void exec_priv(struct app *a, int plan, int snap, int ready, int pid_fd)
{
	char fds[4][12], text[32];
	char *path = xasprintf("%s/priv", a->params->daemon_directory);
	const int list[4] = { plan, snap, ready, pid_fd };

	for (size_t i = 0; i < 4; i++) {
		snprintf(fds[i], sizeof(fds[i]), "%d", list[i]);
		fcntl(list[i], F_SETFD, 0);
	}
	int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (!write_pid(pid_fd, text, (size_t)len) &&
	    (!give_room(a) || !write_pid(pid_fd, text, (size_t)len)))
		die("write the pid file: %s", strerror(errno));
	execl(path, "posthaste-priv", fds[0], fds[1], fds[2], fds[3], (char *)NULL);
	die("cannot execute %s: %s", path, strerror(errno));
}

static int lock_pid_file(struct app *a)
{
	int pid_fd = open_pid_file(a, true);

	if (flock(pid_fd, LOCK_EX | LOCK_NB) < 0) {
		fprintf(stderr, "%s: fatal: the %s mail system is already running%s", self, product,
			is_postfix ? "\n" : ": PID ");
		if (!is_postfix)
			fprintf(stderr, "%d\n", (int)running(a));
		exit(1);
	}
	return pid_fd;
}

static void wait_ready(int fd, char *text, size_t size)
{
	struct pollfd pfd = { fd, POLLIN, 0 };
	size_t len = 0;

	while (len < size - 1) {
		if (poll(&pfd, 1, START_LIMIT_MS) <= 0)
			break;
		ssize_t n = read(fd, text + len, size - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
}

/* As prepare(), and every worker class has accepted the configuration: it does not start half. */
static bool prepare_start(struct app *a, int *plan_r, int *snap_r)
{
	struct buf lines = BUF_INIT;
	struct conf_diag none;

	if (!prepare(a, plan_r, snap_r))
		return false;
	bool ok = check_workers_into(a, *snap_r, &lines);

	conf_diag_init(&none);
	if (!ok)
		check_problems(a->conf, &none, buf_sv(&lines));
	conf_diag_fini(&none);
	buf_fini(&lines);
	return ok;
}

static int cmd_start(struct app *a)
{
	int plan, snap, ready[2];
	char text[1000];

	load(a);
	plan_make_directories(a->conf);
	int pid_fd = lock_pid_file(a);

	if (!prepare_start(a, &plan, &snap))
		return 1;
	if (pipe2(ready, O_CLOEXEC) < 0)
		die("pipe: %s", strerror(errno));
	pid_t pid = fork();

	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		setsid();
		dup2(null, 0);
		dup2(null, 1);
		/* what goes wrong comes back through the ready pipe, and into the log */
		const char *path = getenv("POSTHASTE_STDERR");
		int err = path == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

		dup2(err >= 0 ? err : null, 2);
		if (chdir("/") < 0)
			_exit(1);
		exec_priv(a, plan, snap, ready[1], pid_fd);
	}
	close(ready[1]);
	fprintf(stderr, "%s: starting the %s mail system\n", self, product);
	wait_ready(ready[0], text, sizeof(text));
	if (strcmp(text, "ok") == 0)
		return 0;
	fprintf(stderr, "%s: fatal: %s\n", self,
		text[0] == '\0' ? "the mail system did not become ready" : text);
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	return 1;
}

static int cmd_start_fg(struct app *a)
{
	int plan, snap;

	load(a);
	plan_make_directories(a->conf);
	int pid_fd = lock_pid_file(a);

	if (!prepare_start(a, &plan, &snap))
		return 1;
	exec_priv(a, plan, snap, open("/dev/null", O_WRONLY), pid_fd);
}

/* ---- a running instance ---- */

static pid_t must_run(struct app *a)
{
	load(a);
	pid_t pid = running(a);

	if (pid == 0) {
		fprintf(stderr, "%s: fatal: the %s mail system is not running\n", self, product);
		exit(1);
	}
	return pid;
}

static int end_it(struct app *a, int signo, int64_t limit_ms)
{
	pid_t pid = must_run(a);
	int64_t end = clock_mono().ms + limit_ms;

	fprintf(stderr, "%s: %s the %s mail system\n", self,
		signo == SIGQUIT ? "aborting" : "stopping", product);
	if (kill(pid, signo) < 0)
		die("signal process %d: %s", (int)pid, strerror(errno));
	while (running(a) == pid) {
		if (clock_mono().ms >= end) {
			fprintf(stderr, "posthaste: process %d does not end, killing it\n",
				(int)pid);
			kill(pid, signo == SIGQUIT ? SIGKILL : SIGQUIT);
			end += limit_ms;
			if (signo == SIGQUIT)
				return 1;
			signo = SIGQUIT;
		}
		poll(NULL, 0, POLL_MS);
	}
	return 0;
}

static int cmd_stop(struct app *a)
{
	load(a);
	return end_it(a, SIGTERM, a->params->stop_drain_time + 5000);
}

static int cmd_abort(struct app *a)
{
	return end_it(a, SIGQUIT, 5000);
}

static void collect(void *ctx, const void *data, size_t len)
{
	buf_add(ctx, data, len);
}

static int call(struct app *a, const char *verb, struct buf *out, char *text, size_t size)
{
	struct control_conn *c;
	int err = control_connect(a->params->queue_directory, &c);

	if (err == 0) {
		err = control_call(c, 1, &verb, collect, out, text, size);
		control_disconnect(&c);
	}
	if (err < 0)
		snprintf(text, size, "%s", err_str(err));
	return err;
}

static unsigned long generation(struct app *a)
{
	struct buf out = BUF_INIT;
	char text[200];
	unsigned long gen = 0;

	if (call(a, "status", &out, text, sizeof(text)) == 0) {
		const char *at = strstr(buf_cstr(&out), "generation ");

		gen = at == NULL ? 0 : strtoul(at + 11, NULL, 10);
	}
	buf_fini(&out);
	return gen;
}

static int cmd_reload(struct app *a)
{
	pid_t pid = must_run(a);
	int plan, snap;

	/* say here what is wrong; priv checks again on its own */
	if (!prepare_start(a, &plan, &snap)) {
		fprintf(stderr, "posthaste: the running configuration stays in force\n");
		return 1;
	}
	unsigned long before = generation(a);

	fprintf(stderr, "%s: refreshing the %s mail system\n", self, product);
	if (kill(pid, SIGHUP) < 0)
		die("signal process %d: %s", (int)pid, strerror(errno));
	for (int i = 0; i < 600; i++) {
		if (generation(a) > before)
			return 0;
		poll(NULL, 0, POLL_MS);
	}
	fprintf(stderr, "posthaste: fatal: the mail system did not take the configuration\n");
	return 1;
}

static int cmd_status(struct app *a)
{
	struct buf out = BUF_INIT;
	char text[200];

	load(a);
	pid_t pid = running(a);

	if (pid == 0) {
		fprintf(stderr, "%s: the %s mail system is not running\n", self, product);
		return 1;
	}
	fprintf(stderr, "%s: the %s mail system is running: PID: %d\n", self, product, (int)pid);
	if (is_postfix)
		return 0;
	int err = call(a, "status", &out, text, sizeof(text));

	if (err == 0)
		fputs(buf_cstr(&out), stdout);
	else
		fprintf(stderr, "posthaste: warning: no answer from the supervisor: %s\n", text);
	buf_fini(&out);
	return 0;
}

static int cmd_check_shm(struct app *a)
{
	struct buf out = BUF_INIT;
	char text[200];

	must_run(a);
	int err = call(a, "check-shm", &out, text, sizeof(text));

	fputs(buf_cstr(&out), stdout);
	if (err != 0)
		fprintf(stderr, "posthaste: fatal: shared memory: %s\n", text);
	buf_fini(&out);
	return err == 0 ? 0 : 1;
}

static int cmd_flush(struct app *a)
{
	struct buf out = BUF_INIT;
	char text[200];

	load(a);
	if (is_postfix && running(a) == 0) {
		/* whose words and status are those of the command behind it */
		fputs("postqueue: fatal: Cannot flush mail queue - mail system is down\n", stderr);
		return EX_UNAVAILABLE;
	}
	must_run(a);
	int err = call(a, "queue-flush", &out, text, sizeof(text));

	if (err != 0)
		fprintf(stderr, "posthaste: fatal: flush: %s\n", text);
	buf_fini(&out);
	return err == 0 ? 0 : 1;
}

/* A start does it, too. */
static int cmd_set_permissions(struct app *a)
{
	load(a);
	plan_make_directories(a->conf);
	return 0;
}

/* Configurations of any Postfix are taken as they are. */
static int cmd_upgrade_configuration(struct app *a)
{
	load(a);
	return 0;
}

static int cmd_logrotate(struct app *a)
{
	struct buf path = BUF_INIT, why = BUF_INIT;

	load(a);
	bool ok = logrotate_move(a->params, &path);
	pid_t pid = running(a);

	if (!ok)
		fprintf(stderr, "%s: fatal: %s\n", self, buf_cstr(&path));
	/* it opens the new file */
	if (ok && pid != 0 && kill(pid, SIGHUP) < 0)
		die("signal process %d: %s", (int)pid, strerror(errno));
	if (ok && !logrotate_compress(a->params, buf_cstr(&path), &why)) {
		fprintf(stderr, "%s: fatal: %s\n", self, buf_cstr(&why));
		ok = false;
	}
	buf_fini(&path);
	buf_fini(&why);
	return ok ? 0 : 1;
}

static const struct {
	const char *name;
	int (*run)(struct app *a);
	const char *help;
} commands[] = {
	{ "start", cmd_start, "start; returns when mail is accepted" },
	{ "start-fg", cmd_start_fg, "start and stay in the foreground" },
	{ "stop", cmd_stop, "finish sessions and deliveries (stop_drain_time), then end" },
	{ "abort", cmd_abort, "end at once" },
	{ "reload", cmd_reload, "take a changed configuration" },
	{ "status", cmd_status, "is it running, and with which processes" },
	{ "check", cmd_check, "report problems of the configuration" },
	{ "check-shm", cmd_check_shm, "check the shared memory of the running system" },
	{ "flush", cmd_flush, "try to deliver all deferred mail now" },
	{ "logrotate", cmd_logrotate, "give maillog_file another name and compress it" },
	{ "set-permissions", cmd_set_permissions, "make the directories, with owners and modes" },
	{ "upgrade-configuration", cmd_upgrade_configuration, "does nothing, there is no need" },
	{ "plan", cmd_plan, NULL },
	/* not told of: words of Postfix's scripts */
	{ "quick-stop", cmd_stop, NULL },
	{ "drain", cmd_stop, NULL },
};

/* The primary instance's command is for all instances, when it says so. The wrapper calls us again,
 * once for each, with -c. */
static void run_wrapper(const char *command)
{
	static const char *const wrapped[] = { "start", "stop",   "abort", "reload",
					       "flush", "status", "check" };
	struct conf *c;
	struct conf_diag d;
	bool known = false;

	for (size_t i = 0; i < ARRAY_LEN(wrapped); i++)
		known = known || strcmp(command, wrapped[i]) == 0;
	conf_diag_init(&d);
	if (known && conf_load_dir(PH_CONFIG_DIR, &c, &d) == 0) {
		const struct params *p = conf_params(c);

		if (p->multi_instance_enable && p->multi_instance_wrapper[0] != '\0') {
			char *line = xasprintf("%s \"$@\"", p->multi_instance_wrapper);

			execl("/bin/sh", "sh", "-c", line, "sh", command, (char *)NULL);
			die("cannot execute %s: %s", p->multi_instance_wrapper, strerror(errno));
		}
		conf_free(&c);
	}
	conf_diag_fini(&d);
}

static NORETURN void usage(void)
{
	if (is_postfix) {
		fprintf(stderr, "postfix: fatal: usage: postfix [-c config_dir] [-Dv] command\n");
		exit(1);
	}
	fprintf(stderr, "usage: posthaste [-c config_dir] command\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (commands[i].help != NULL)
			fprintf(stderr, "  %-21s %s\n", commands[i].name, commands[i].help);
	}
	exit(2);
}

static void speak_as(const char *name)
{
	const char *slash = strrchr(name, '/');

	is_postfix = strcmp(slash == NULL ? name : slash + 1, "postfix") == 0;
	if (is_postfix) {
		self = "postfix/postfix-script";
		product = "Postfix";
	}
}

static NORETURN void bad(const char *text)
{
	fprintf(stderr, "postfix: fatal: %s\n", text);
	exit(1);
}

int main(int argc, char **argv)
{
	static const char own_path[] = PH_CONFIG_DIR;
	struct app a = { .conf_path = own_path };
	int opt;

	io_have_std();
	log_set_program("posthaste");
	speak_as(argv[0]);
	clock_init();
	signal(SIGPIPE, SIG_IGN);
	if (getenv("MAIL_CONFIG") != NULL)
		a.conf_path = getenv("MAIL_CONFIG");
	while ((opt = getopt(argc, argv, "+c:Dv")) != -1) {
		if (opt == 'c')
			a.conf_path = optarg;
		else if (opt == '?')
			usage();
	}
	if (optind >= argc && !is_postfix)
		usage();
	if (is_postfix && a.conf_path[0] != '/')
		bad("-c requires absolute pathname");
	const char *command = optind < argc ? argv[optind] : "";

	if (a.conf_path == own_path)
		run_wrapper(command);
	ssize_t n = readlink("/proc/self/exe", a.self, sizeof(a.self) - 1);

	a.self[n < 0 ? 0 : n] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(command, commands[i].name) != 0)
			continue;
		/* words behind these two are for Postfix's own installation */
		if (optind != argc - 1 && !is_postfix && commands[i].run != cmd_set_permissions &&
		    commands[i].run != cmd_upgrade_configuration)
			usage();
		return commands[i].run(&a);
	}
	if (!is_postfix)
		usage();
	fprintf(stderr,
		"%s: fatal: unknown command: '%s'. Usage: postfix start (or stop, reload, abort, "
		"flush, check, status, set-permissions, upgrade-configuration, logrotate)\n",
		self, command);
	return 1;
}
