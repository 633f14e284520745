/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The process that runs commands; see workers/local/runner.h. Started by command.c. */
#include "workers/local/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/common/starter.h"
#include "workers/local/cmdstatus.h"

#define TICK_MS       500
#define GRACE_MS      2000 /* for what a command has left behind to close its output */
#define READS_AT_ONCE 16u

struct run { /* one command; pid 0 = free place */
	uint64_t id;
	pid_t pid;
	int out; /* its output, -1 = closed */
	bool ended, timed_out;
	int status; /* of waitpid */
	struct mono_ms since, ended_at;
	int64_t limit_ms;
	uint32_t output_len;
	char output[RUNNER_OUTPUT_MAX];
};

static struct runner {
	bool change_user;
	uid_t owner_uid;
	gid_t owner_gid, setgid_gid;
	int signals;
	struct run runs[RUNNER_MAX];
} the_runner;

/* ---- in the child ---- */

static NORETURN void give_up(const char *what, const char *name)
{
	fprintf(stderr, "%s %s: %s\n", what, name, strerror(errno));
	_exit(75); /* EX_TEMPFAIL */
}

static NORETURN void run_command(const struct runner *r, const struct runner_request *q,
				 const char *dir, char **argv, char **env, int in, int out)
{
	setsid();
	/* first out of the way of the target numbers */
	in = fcntl(in, F_DUPFD, 3);
	out = fcntl(out, F_DUPFD, 3);
	if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(75);
	close_range(3, ~0u, 0);
	lseek(0, 0, SEEK_SET);
	if (r->change_user && !starter_become(q->uid, q->gid))
		give_up("cannot become user", "of the command");
	if (!starter_normal_process())
		_exit(75);
	if (chdir(dir) < 0)
		give_up("pipe: fatal: cannot change directory to", dir);
	environ = env;
	execvp(argv[0], argv);
	give_up("pipe: fatal: pipe_command: execvp", argv[0]);
}

/* ---- requests ---- */

static void answer(const struct runner_answer *a)
{
	struct pollfd p = { RUNNER_FD, POLLOUT, 0 };
	int err;

	while ((err = io_send_fds(RUNNER_FD, a,
				  offsetof(struct runner_answer, output) + a->output_len, NULL,
				  0)) == E_AGAIN)
		poll(&p, 1, -1);
	if (err != 0)
		exit(0); /* nobody listens */
}

static void refuse(uint64_t id, const char *why)
{
	struct runner_answer a = { .id = id, .how = COMMAND_NOT_RUN };

	a.output_len = (uint32_t)snprintf(a.output, sizeof(a.output), "%s", why);
	answer(&a);
}

/* The words of a request into argv and env; false when they are not what the numbers say. */
static bool split_words(const struct runner_request *q, char *text, char **argv, char **env,
			const char **dir_r)
{
	char *p = text, *end = text + q->text_len;

	for (uint64_t i = 0; i < 1 + (uint64_t)q->argc + q->envc; i++) {
		char *nul = p < end ? memchr(p, '\0', (size_t)(end - p)) : NULL;

		if (nul == NULL)
			return false;
		if (i == 0)
			*dir_r = p;
		else if (i <= q->argc)
			argv[i - 1] = p;
		else
			env[i - 1 - q->argc] = p;
		p = nul + 1;
	}
	argv[q->argc] = env[q->envc] = NULL;
	return p == end;
}

static const char *forbidden(const struct runner *r, const struct runner_request *q)
{
	if (q->uid == (uid_t)-1 || q->gid == (gid_t)-1)
		return "no such user";
	if (!r->change_user)
		return q->uid == geteuid() ? NULL : "cannot change the user: not running as root";
	if (q->uid == 0 || q->gid == 0)
		return "commands are not run with root's rights";
	if (q->uid == r->owner_uid || q->gid == r->owner_gid || q->gid == r->setgid_gid)
		return "commands are not run as mail_owner, in its group or setgid_group";
	return NULL;
}

static struct run *free_place(struct runner *r)
{
	for (unsigned i = 0; i < RUNNER_MAX; i++) {
		if (r->runs[i].pid == 0)
			return &r->runs[i];
	}
	return NULL;
}

static void start(struct runner *r, const struct runner_request *q, char *text, int in)
{
	char **words = calloc((size_t)q->argc + q->envc + 2, sizeof(*words));
	char **argv = words, **env = words == NULL ? NULL : words + q->argc + 1;
	struct run *run = free_place(r);
	const char *dir = "/", *why = forbidden(r, q);
	int out[2];

	if (words == NULL || !split_words(q, text, argv, env, &dir))
		die("bad request");
	if (why == NULL && run == NULL)
		why = "too many commands";
	if (why == NULL && pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0)
		why = strerror(errno);
	if (why != NULL) {
		refuse(q->id, why);
		free(words);
		return;
	}
	fcntl(out[1], F_SETFL, 0); /* the command's end waits */
	*run = (struct run){ .id = q->id, .out = out[0], .limit_ms = q->time_limit_ms };
	run->since = clock_mono();
	run->pid = fork();
	if (run->pid == 0)
		run_command(r, q, dir, argv, env, in, out[1]);
	close(out[1]);
	free(words);
	if (run->pid < 0) {
		run->pid = 0;
		close(out[0]);
		refuse(q->id, strerror(errno));
	}
}

/* False when the asker is gone. */
static bool serve(struct runner *r)
{
	struct runner_request q;
	int fds[2] = { -1, -1 };
	size_t len, nfds = 2;
	int err = io_recv_fds(RUNNER_FD, &q, sizeof(q), &len, fds, &nfds);

	if (err == E_AGAIN)
		return true;
	if (err != 0)
		return false;
	if (len != sizeof(q) || nfds != 2 || q.text_len > RUNNER_TEXT_MAX || q.argc == 0 ||
	    q.argc > RUNNER_WORDS_MAX || q.envc > RUNNER_WORDS_MAX)
		die("bad request");
	char *text = malloc(q.text_len + 1);

	if (text == NULL || io_pread_all(fds[0], text, q.text_len, 0) != 0)
		refuse(q.id, "cannot read the request");
	else
		start(r, &q, text, fds[1]);
	free(text);
	io_close(&fds[0]);
	io_close(&fds[1]);
	return true;
}

/* ---- commands that run ---- */

/* What is past the room is read and dropped, so that nobody waits for us. A turn's worth of it: a
 * command that writes without end has a time limit, too. */
static void read_output(struct run *run)
{
	char drop[4096];
	ssize_t n = -1;

	for (unsigned i = 0; i < READS_AT_ONCE; i++) {
		size_t room = sizeof(run->output) - run->output_len;

		n = room > 0 ? read(run->out, run->output + run->output_len, room)
			     : read(run->out, drop, sizeof(drop));
		if (n > 0 && room > 0)
			run->output_len += (uint32_t)n;
		if (n <= 0)
			break;
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		io_close(&run->out);
}

static void reap(struct runner *r)
{
	int status;
	pid_t pid;

	starter_take_signals(r->signals);
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned i = 0; i < RUNNER_MAX; i++) {
			struct run *run = &r->runs[i];

			if (run->pid != pid || run->ended)
				continue;
			run->ended = true;
			run->ended_at = clock_mono();
			run->status = status;
			break;
		}
	}
}

static void finish(struct run *run)
{
	struct runner_answer a = { .id = run->id, .output_len = run->output_len };

	if (run->timed_out) {
		a.how = COMMAND_TIMED_OUT;
	} else if (WIFSIGNALED(run->status)) {
		a.how = COMMAND_SIGNALED;
		a.code = WTERMSIG(run->status);
	} else {
		a.how = COMMAND_EXITED;
		a.code = WEXITSTATUS(run->status);
	}
	memcpy(a.output, run->output, run->output_len);
	io_close(&run->out);
	run->pid = 0;
	answer(&a);
}

static void look_after(struct runner *r, struct run *run)
{
	int64_t now = clock_mono().ms;

	if (!run->ended && !run->timed_out && now - run->since.ms > run->limit_ms) {
		run->timed_out = true;
		starter_kill_group(r->change_user, run->pid);
	}
	if (run->ended && (run->out < 0 || now - run->ended_at.ms > GRACE_MS))
		finish(run);
}

static void turn(struct runner *r)
{
	struct pollfd fds[2 + RUNNER_MAX];
	struct run *of[2 + RUNNER_MAX];
	nfds_t n = 2;

	fds[0] = (struct pollfd){ RUNNER_FD, POLLIN, 0 };
	fds[1] = (struct pollfd){ r->signals, POLLIN, 0 };
	for (unsigned i = 0; i < RUNNER_MAX; i++) {
		if (r->runs[i].pid == 0 || r->runs[i].out < 0)
			continue;
		of[n] = &r->runs[i];
		fds[n++] = (struct pollfd){ r->runs[i].out, POLLIN, 0 };
	}
	if (poll(fds, n, TICK_MS) < 0 && errno != EINTR)
		die("poll: %s", strerror(errno));
	for (nfds_t i = 2; i < n; i++) {
		if (fds[i].revents != 0)
			read_output(of[i]);
	}
	reap(r);
	for (unsigned i = 0; i < RUNNER_MAX; i++) {
		if (r->runs[i].pid != 0)
			look_after(r, &r->runs[i]);
	}
	if (fds[0].revents == 0 || serve(r))
		return;
	for (unsigned i = 0; i < RUNNER_MAX; i++) {
		if (r->runs[i].pid != 0 && !r->runs[i].ended)
			starter_kill_group(r->change_user, r->runs[i].pid);
	}
	exit(0);
}

int runner_main(int argc, char **argv)
{
	struct runner *r = &the_runner;

	if (argc != 6)
		return 64;
	starter_begin("runner", RUNNER_FD + 1, RUNNER_FD);
	r->change_user = strcmp(argv[2], "1") == 0;
	r->owner_uid = (uid_t)strtoul(argv[3], NULL, 10);
	r->owner_gid = (gid_t)strtoul(argv[4], NULL, 10);
	r->setgid_gid = (gid_t)strtoul(argv[5], NULL, 10);
	if (r->change_user &&
	    (setgroups(0, NULL) < 0 || setegid(r->owner_gid) < 0 || seteuid(r->owner_uid) < 0))
		die("cannot act as mail_owner: %s", strerror(errno));
	r->signals = starter_watch_children();
	for (;;)
		turn(r);
}
