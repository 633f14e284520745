/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * inject: runs a command with all its descendants under fault injection at system calls. A seccomp
 * filter stops the chosen calls only, so the rest runs at full speed; ptrace then counts, kills,
 * gives errors or short lengths, or cuts the power of a file system. Used by the campaigns of
 * t/crash (t/crash/lib/Inject.pm), by hand:
 *
 *   inject [-b] [-c CALLS] [-s SOCKET] [-o LOG] [-r RULE]... -- COMMAND...
 *     -b  return, with its status, when COMMAND has returned; the rest goes on in the background
 *     -c  calls to stop, names or groups: storage, reads, net, memory, event, all (default storage)
 *     -s  control socket (t/crash/inject_ctl.c)
 *     -o  a line for each action taken: "SECONDS ACTION class= pid= tid= call= n= rule="
 *         and file= when the rule has a path
 *     -r  a rule from the start, "key=value ...":
 *         action=count|log|kill|kill-all|error|short|delay|cut|cut-during; -after on kill, kill-all
 *                and cut: when the call is done, not instead of it
 *         class=NAME,...  program name of the process: priv, supervisor, smtpd, rewrite ...;
 *                         NAME-fork is a child of NAME that has not become another program yet,
 *                         NAME-agent was started by way of /proc/self/exe
 *         call=...  pid=N  path=DIR (calls on files there)  nth=N  times=K (0: for ever)
 *         errno=EIO  len=half (short)  ms=N (delay; cut: run on)  us=N (cut-during)  mount=DIR,...
 *         id=N  after=ID (begins to count when rule ID has acted)
 * When inject ends, by whatever cause, the kernel kills all that it follows. x86-64 only: elsewhere
 * it exits with 77.
 */
#include "t/crash/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/util.h"

#define TICK_MS 2
#define OPTIONS                                                                                    \
	(PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |  \
	 PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)

pthread_mutex_t inject_lock = PTHREAD_MUTEX_INITIALIZER;
struct tracee *tracees;
unsigned tracee_places;
bool inject_doomed;
int64_t inject_end_ms;
int inject_status = -1;

static FILE *log_file;
static int64_t start_us;
static pid_t command_pid;
static int status_fd = -1; /* who waits for the command */

int64_t now_ms(void)
{
	return clock_mono_us_raw() / 1000;
}

void record(const char *fmt, ...)
{
	va_list ap;

	if (log_file == NULL)
		return;
	va_start(ap, fmt);
	fprintf(log_file, "%.6f ", (double)(clock_mono_us_raw() - start_us) / 1e6);
	vfprintf(log_file, fmt, ap);
	fputc('\n', log_file);
	fflush(log_file);
	va_end(ap);
}

/* The processes that start others go first, so that nothing is started again. */
void kill_all(void)
{
	static const char *const first[] = { "posthaste", "priv", "supervisor" };

	inject_doomed = true;
	for (size_t k = 0; k < ARRAY_LEN(first); k++) {
		for (unsigned i = 0; i < tracee_places; i++) {
			if (tracees[i].tid != 0 &&
			    strcmp(class_name(tracees[i].class_idx), first[k]) == 0)
				kill(tracees[i].pid, SIGKILL);
		}
	}
	for (unsigned i = 0; i < tracee_places; i++) {
		if (tracees[i].tid != 0)
			kill(tracees[i].pid, SIGKILL);
	}
}

/* ---- who is followed ---- */

static struct tracee *tracee_find(pid_t tid)
{
	for (unsigned i = 0; i < tracee_places; i++) {
		if (tracees[i].tid == tid)
			return &tracees[i];
	}
	return NULL;
}

static pid_t process_of(pid_t tid)
{
	char path[64], line[256];
	int pid = tid;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	FILE *f = fopen(path, "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "Tgid: %d", &pid) == 1)
			break;
	}
	if (f != NULL)
		fclose(f);
	return pid;
}

/* The program's name. A child that has not called exec yet has its parent's with "-fork"; a program
 * that was started by way of /proc/self/exe is known to the kernel as that: it gets "-agent". */
static unsigned class_of(pid_t pid, bool forked)
{
	char path[64], name[64] = "?", exe[PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	FILE *f = fopen(path, "re");

	if (f != NULL) {
		if (fgets(name, 32, f) == NULL)
			strcpy(name, "?");
		fclose(f);
	}
	name[strcspn(name, "\n")] = '\0';
	if (strcmp(name, "exe") == 0) {
		snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
		ssize_t n = readlink(path, exe, sizeof(exe) - 1);

		exe[n > 0 ? n : 0] = '\0';
		const char *slash = strrchr(exe, '/');

		snprintf(name, 32, "%.20s-agent", slash == NULL ? "exe" : slash + 1);
	}
	if (forked)
		strcat(name, "-fork");
	return class_number(name);
}

static struct tracee *tracee_add(pid_t tid)
{
	struct tracee *t = tracee_find(0);

	if (t == NULL) {
		unsigned n = tracee_places == 0 ? 64 : tracee_places * 2;

		tracees = xrealloc(tracees, n * sizeof(*tracees));
		memset(tracees + tracee_places, 0, (n - tracee_places) * sizeof(*tracees));
		t = &tracees[tracee_places];
		tracee_places = n;
	}
	*t = (struct tracee){ .tid = tid, .pid = process_of(tid) };
	const struct tracee *leader = t->pid == tid ? NULL : tracee_find(t->pid);

	t->class_idx = leader != NULL ? leader->class_idx : class_of(t->pid, t->pid == tid);
	return t;
}

/* exec: only the leader is left, and it is another program. */
static void became(struct tracee *t)
{
	for (unsigned i = 0; i < tracee_places; i++) {
		if (tracees[i].pid == t->pid && &tracees[i] != t)
			tracees[i] = (struct tracee){ 0 };
	}
	t->rule = NULL;
	t->saved_arg = t->saved_at = 0;
	t->class_idx = class_of(t->pid, false);
}

void resume(struct tracee *t, int request, int sig)
{
	t->resume_ms = 0;
	ptrace(request, t->tid, 0, sig); /* it may have been killed in its stop */
}

/* ---- stops ---- */

static void on_call(struct tracee *t)
{
	struct __ptrace_syscall_info info;
	struct call c = { .tid = t->tid, .pid = t->pid, .class_idx = t->class_idx };
	struct rule *r = NULL;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof(info), &info) > 0 &&
	    info.op == PTRACE_SYSCALL_INFO_SECCOMP && info.seccomp.nr < MAX_CALLS) {
		c.nr = (unsigned)info.seccomp.nr;
		for (unsigned i = 0; i < 6; i++)
			c.args[i] = info.seccomp.args[i];
		r = rules_match(&c);
	}
	if (r == NULL || !act_start(t, &c, r))
		resume(t, PTRACE_CONT, 0);
}

static void on_stop(struct tracee *t, int status)
{
	int sig = WSTOPSIG(status), event = status >> 16;

	if (inject_doomed)
		kill(t->pid, SIGKILL);
	else if (event == PTRACE_EVENT_SECCOMP)
		on_call(t);
	else if (event == PTRACE_EVENT_STOP && sig != SIGTRAP)
		resume(t, PTRACE_LISTEN, 0);
	else if (event == 0 && sig == (SIGTRAP | 0x80))
		act_end(t);
	else if (event == 0)
		resume(t, t->rule == NULL ? PTRACE_CONT : PTRACE_SYSCALL, sig);
	else {
		if (event == PTRACE_EVENT_EXEC)
			became(t);
		resume(t, PTRACE_CONT, 0);
	}
}

static void command_ended(int status)
{
	unsigned char code =
		(unsigned char)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));

	inject_status = status;
	if (status_fd >= 0) {
		(void)!write(status_fd, &code, 1);
		close(status_fd);
		status_fd = -1;
	}
}

static void on_event(pid_t tid, int status)
{
	struct tracee *t = tracee_find(tid);

	if (WIFSTOPPED(status)) {
		on_stop(t == NULL ? tracee_add(tid) : t, status);
		return;
	}
	if (t != NULL)
		*t = (struct tracee){ 0 };
	if (tid == command_pid)
		command_ended(status);
}

/* Calls that were held long enough, and the end of all after a cut. */
static void on_tick(void)
{
	int64_t now = now_ms();

	if (inject_end_ms != 0 && now >= inject_end_ms) {
		inject_end_ms = 0;
		kill_all();
	}
	for (unsigned i = 0; i < tracee_places; i++) {
		if (tracees[i].tid != 0 && tracees[i].resume_ms != 0 && now >= tracees[i].resume_ms)
			resume(&tracees[i], PTRACE_CONT, 0);
	}
}

static void set_tick(void)
{
	static bool on;
	bool want = inject_end_ms != 0;

	for (unsigned i = 0; i < tracee_places; i++)
		want |= tracees[i].tid != 0 && tracees[i].resume_ms != 0;
	if (want == on)
		return;
	on = want;
	struct itimerval every = { { 0, want ? TICK_MS * 1000 : 0 },
				   { 0, want ? TICK_MS * 1000 : 0 } };

	setitimer(ITIMER_REAL, &every, NULL);
}

/* Until nothing is left. */
static void turn(void)
{
	for (;;) {
		int status;
		pid_t tid = waitpid(-1, &status, __WALL);

		if (tid < 0 && errno == ECHILD)
			return;
		pthread_mutex_lock(&inject_lock);
		if (tid > 0)
			on_event(tid, status);
		on_tick();
		set_tick();
		pthread_mutex_unlock(&inject_lock);
	}
}

/* ---- start ---- */

static void load_filter(const char *calls)
{
	struct callset set = { .creat_only = false };
	bool all = false;
	int err = 0;

	if (!callset_parse(&set, calls, &all))
		die("unknown call in %s", calls);
	scmp_filter_ctx ctx = seccomp_init(all ? SCMP_ACT_TRACE(0) : SCMP_ACT_ALLOW);

	if (geteuid() == 0) /* otherwise set-uid programs would be changed, too */
		seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
	for (unsigned nr = 0; nr < MAX_CALLS && err == 0 && !all; nr++) {
		if (!(set.bits[nr / 64] >> (nr % 64) & 1))
			continue;
		unsigned arg = nr == SYS_open ? 1 : 2;

		if (set.creat_only && (nr == SYS_open || nr == SYS_openat))
			err = seccomp_rule_add(
				ctx, SCMP_ACT_TRACE(0), (int)nr, 1,
				SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, O_CREAT, O_CREAT));
		else
			err = seccomp_rule_add(ctx, SCMP_ACT_TRACE(0), (int)nr, 0);
	}
	if (err == 0)
		err = seccomp_load(ctx);
	if (err != 0)
		die("system call filter: %s", strerror(-err));
	seccomp_release(ctx);
}

static void start_command(char **argv, const char *calls)
{
	int go[2];
	char c;

	if (pipe2(go, O_CLOEXEC) < 0)
		die("pipe: %s", strerror(errno));
	command_pid = fork();
	if (command_pid < 0)
		die("fork: %s", strerror(errno));
	if (command_pid == 0) {
		close(go[1]);
		if (read(go[0], &c, 1) != 1)
			_exit(71);
		close(go[0]);
		signal(SIGPIPE, SIG_DFL);
		load_filter(calls);
		execvp(argv[0], argv);
		fprintf(stderr, "inject: %s: %s\n", argv[0], strerror(errno));
		_exit(71);
	}
	close(go[0]);
	if (ptrace(PTRACE_SEIZE, command_pid, 0, OPTIONS) < 0)
		die("ptrace: %s", strerror(errno));
	pthread_mutex_lock(&inject_lock);
	tracee_add(command_pid);
	pthread_mutex_unlock(&inject_lock);
	(void)!write(go[1], "", 1);
	close(go[1]);
}

/* The caller's process stays in front and ends with the command; the tracer goes on behind it. */
static void go_behind(void)
{
	int done[2];
	unsigned char code = 71;

	if (pipe2(done, O_CLOEXEC) < 0)
		die("pipe: %s", strerror(errno));
	pid_t pid = fork();

	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid > 0) {
		close(done[1]);
		if (read(done[0], &code, 1) != 1)
			code = 71;
		_exit(code);
	}
	close(done[0]);
	setsid();
	status_fd = done[1];
}

/* What the command says is its own: the tracer must not hold a pipe open that the caller reads. */
static void leave_output(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	close(null);
}

static void on_alarm(int sig UNUSED)
{
}

static NORETURN void usage(void)
{
	fprintf(stderr, "usage: inject [-b] [-c CALLS] [-s SOCKET] [-o LOG] [-r RULE]... -- "
			"COMMAND...\n");
	exit(2);
}

int main(int argc, char **argv)
{
	const char *calls = "storage", *sock = NULL, *wrong;
	bool behind = false;
	int opt;

	log_set_program("inject");
	start_us = clock_mono_us_raw();
	while ((opt = getopt(argc, argv, "+bc:s:o:r:")) != -1) {
		if (opt == 'b')
			behind = true;
		else if (opt == 'c')
			calls = optarg;
		else if (opt == 's')
			sock = optarg;
		else if (opt == 'o' && (log_file = fopen(optarg, "ae")) == NULL)
			die("%s: %s", optarg, strerror(errno));
		else if (opt == 'r' && (wrong = rule_arm(optarg)) != NULL)
			die("%s: %s", optarg, wrong);
		else if (opt == '?')
			usage();
	}
	if (optind == argc)
		usage();
	struct sigaction alarm_action = { .sa_handler = on_alarm };

	sigaction(SIGALRM, &alarm_action, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (behind)
		go_behind();
	if (sock != NULL)
		ctl_start(sock);
	start_command(argv + optind, calls);
	if (behind)
		leave_output();
	turn();
	pthread_mutex_lock(&inject_lock); /* for good: an answer under way is finished */
	ctl_end();
	record("end");
	return WIFEXITED(inject_status) ? WEXITSTATUS(inject_status)
					: 128 + WTERMSIG(inject_status);
}
