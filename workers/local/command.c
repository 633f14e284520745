/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Commands and the process that runs them; see workers/local/command.h. Called by local.c,
 * pipejob.c. */
#include "workers/local/command.h"

#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/local/runner.h"

extern char **environ;

struct commands {
	struct loop *loop;
	struct loop_fd lf;
	int sock;
	pid_t pid;
	uint64_t last_id;
	struct command *running; /* handed over */
	unsigned running_count;
	struct command *head, **tail; /* waiting */
	struct command *failed;       /* could not be handed over: to be told */
};

static int spawn(const char *program, int sock, char *const argv[], pid_t *pid_r)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none;
	int err;

	sigemptyset(&none);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, sock, RUNNER_FD);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	err = posix_spawn(pid_r, program, &fa, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return -err;
}

int commands_new(const char *program, bool change_user, uid_t owner_uid, gid_t owner_gid,
		 gid_t setgid_gid, struct commands **c_r)
{
	struct commands *c;
	char uid[16], gid[16], setgid[16], change[2] = { change_user ? '1' : '0', '\0' };
	char *argv[] = { (char *)"local", (char *)"-r", change, uid, gid, setgid, NULL };
	int pair[2], err;

	*c_r = NULL;
	snprintf(uid, sizeof(uid), "%u", (unsigned)owner_uid);
	snprintf(gid, sizeof(gid), "%u", (unsigned)owner_gid);
	snprintf(setgid, sizeof(setgid), "%u", (unsigned)setgid_gid);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno();
	c = xcalloc(1, sizeof(*c));
	*c = (struct commands){ .sock = pair[0] };
	c->tail = &c->head;
	ASSERT(pair[1] != RUNNER_FD); /* that is the supervisor's socket here */
	err = spawn(program, pair[1], argv, &c->pid);
	close(pair[1]);
	if (err != 0) {
		close(pair[0]);
		free(c);
		return err;
	}
	io_set_nonblock(c->sock);
	*c_r = c;
	return 0;
}

void commands_free(struct commands **cp)
{
	struct commands *c = *cp;

	if (c == NULL)
		return;
	if (c->loop != NULL)
		loop_fd_del(c->loop, &c->lf);
	io_close(&c->sock);
	waitpid(c->pid, NULL, 0);
	free(c);
	*cp = NULL;
}

/* ---- handing over ---- */

static void add_words(const char *const *words, struct buf *out, uint32_t *count_r)
{
	for (*count_r = 0; words[*count_r] != NULL; ++*count_r)
		buf_add(out, words[*count_r], strlen(words[*count_r]) + 1);
}

/* 0, or why not: E_AGAIN when there is no room now. */
static int hand_over(struct commands *c, const struct command *cmd)
{
	static struct buf text;
	struct runner_request q = {
		.id = cmd->id, .uid = cmd->uid, .gid = cmd->gid, .time_limit_ms = cmd->time_limit_ms
	};
	int fds[2] = { memfd_create("command", MFD_CLOEXEC), cmd->input_fd };
	int err = fds[0] < 0 ? err_errno() : 0;

	buf_reset(&text);
	buf_add(&text, cmd->directory, strlen(cmd->directory) + 1);
	add_words(cmd->argv, &text, &q.argc);
	add_words(cmd->env, &text, &q.envc);
	q.text_len = text.len;
	if (text.len > RUNNER_TEXT_MAX || q.argc > RUNNER_WORDS_MAX || q.envc > RUNNER_WORDS_MAX)
		err = E_LIMIT;
	if (err == 0)
		err = io_write_all(fds[0], text.p, text.len);
	if (err == 0)
		err = io_send_fds(c->sock, &q, sizeof(q), fds, 2);
	io_close(&fds[0]);
	return err;
}

static void run_waiting(struct commands *c)
{
	while (c->head != NULL && c->running_count < RUNNER_MAX) {
		struct command *cmd = c->head;
		int err = hand_over(c, cmd);

		if (err == E_AGAIN) {
			loop_fd_mod(c->loop, &c->lf, LOOP_READ | LOOP_WRITE);
			return;
		}
		c->head = cmd->next;
		if (c->head == NULL)
			c->tail = &c->head;
		if (err != 0) { /* told by the next event: never from within */
			log_warn("a command cannot be run: %s", err_str(err));
			cmd->next = c->failed;
			c->failed = cmd;
			loop_fd_mod(c->loop, &c->lf, LOOP_READ | LOOP_WRITE);
			continue;
		}
		cmd->next = c->running;
		c->running = cmd;
		c->running_count++;
	}
}

void command_submit(struct commands *c, struct command *cmd)
{
	cmd->id = ++c->last_id;
	cmd->next = NULL;
	*c->tail = cmd;
	c->tail = &cmd->next;
	run_waiting(c);
}

/* ---- answers ---- */

static struct command *take(struct commands *c, uint64_t id)
{
	for (struct command **at = &c->running; *at != NULL; at = &(*at)->next) {
		struct command *cmd = *at;

		if (cmd->id != id)
			continue;
		*at = cmd->next;
		c->running_count--;
		return cmd;
	}
	return NULL;
}

static void tell_failed(struct commands *c)
{
	struct command_end e = { .how = COMMAND_NOT_RUN, .output = SV("cannot run the command") };

	while (c->failed != NULL) {
		struct command *cmd = c->failed;

		c->failed = cmd->next;
		cmd->done(cmd->ctx, &e);
	}
}

static void on_answer(void *ctx, unsigned events UNUSED)
{
	static struct runner_answer a;
	struct commands *c = ctx;
	size_t len, nfds;
	int err;

	loop_fd_mod(c->loop, &c->lf, LOOP_READ);
	while (nfds = 0, (err = io_recv_fds(c->sock, &a, sizeof(a), &len, NULL, &nfds)) == 0) {
		size_t head = offsetof(struct runner_answer, output);
		struct command *cmd = len >= head ? take(c, a.id) : NULL;

		if (cmd == NULL || a.output_len != len - head || a.how > COMMAND_NOT_RUN)
			die("the process that runs commands gives a bad answer");
		struct command_end e = { .how = (enum command_how)a.how,
					 .code = a.code,
					 .output = { a.output, a.output_len } };

		cmd->done(cmd->ctx, &e);
	}
	if (err != E_AGAIN)
		die("the process that runs commands has ended: %s", err_str(err));
	tell_failed(c);
	run_waiting(c);
}

void commands_watch(struct commands *c, struct loop *loop)
{
	c->loop = loop;
	loop_fd_add(loop, &c->lf, c->sock, LOOP_READ, on_answer, c);
}
