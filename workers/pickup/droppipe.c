/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The pipe to postdrop; see workers/pickup/droppipe.h. */
#include "workers/pickup/droppipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"

static NORETURN void become_postdrop(const char *path, const char *conf_dir, int in, int out)
{
	/* the directory goes by the environment: postdrop judges it */
	if (conf_dir != NULL)
		setenv("MAIL_CONFIG", conf_dir, 1);
	if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0)
		execl(path, "postdrop", "-r", (char *)NULL);
	fprintf(stderr, "postdrop: fatal: execute %s: %s\n", path, strerror(errno));
	_exit(EX_TEMPFAIL);
}

static void flush(struct droppipe *dp)
{
	if (!dp->failed && io_write_all(dp->to_fd, dp->out.p, dp->out.len) != 0)
		dp->failed = true;
	buf_reset(&dp->out);
}

int droppipe_start(struct droppipe *dp, const struct params *p, const char *conf_dir,
		   struct sv envelope)
{
	char *path = xasprintf("%s/postdrop", p->command_directory);
	int to[2], from[2] = { -1, -1 }, err = 0;

	*dp = (struct droppipe){ 0 };
	if (pipe2(to, O_CLOEXEC) < 0) {
		free(path);
		return err_errno();
	}
	if (pipe2(from, O_CLOEXEC) < 0 || (dp->pid = fork()) < 0)
		err = err_errno();
	if (err == 0 && dp->pid == 0)
		become_postdrop(path, conf_dir, to[0], from[1]);
	free(path);
	close(to[0]);
	io_close(&from[1]);
	dp->to_fd = to[1];
	dp->from_fd = from[0];
	if (err != 0) {
		close(to[1]);
		io_close(&from[0]);
		dp->pid = 0;
		return err;
	}
	buf_add_str(&dp->out, MAILDROP_PIPE_MAGIC);
	maildrop_put_piece(&dp->out, envelope.p, envelope.len);
	flush(dp);
	return 0;
}

void droppipe_put(struct droppipe *dp, const char *data, size_t len)
{
	for (size_t at = 0; at < len; at += MAILDROP_PIECE_MAX) {
		maildrop_put_piece(&dp->out, data + at, size_min(len - at, MAILDROP_PIECE_MAX));
		if (dp->out.len >= MAILDROP_PIECE_MAX)
			flush(dp);
	}
}

static int reap(struct droppipe *dp)
{
	int status;
	pid_t got;

	close(dp->to_fd);
	do
		got = waitpid(dp->pid, &status, 0);
	while (got < 0 && errno == EINTR);
	close(dp->from_fd);
	dp->pid = 0;
	buf_fini(&dp->out);
	if (got >= 0 && WIFEXITED(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "postdrop: fatal: it was ended by a signal\n");
	return EX_TEMPFAIL;
}

int droppipe_end(struct droppipe *dp, char name[MAILDROP_NAME_SIZE])
{
	ssize_t n;

	maildrop_put_piece(&dp->out, "", 0);
	flush(dp);
	do
		n = read(dp->from_fd, name, MAILDROP_NAME_SIZE - 1);
	while (n < 0 && errno == EINTR);
	name[n < 0 ? 0 : n] = '\0';
	name[strcspn(name, "\n")] = '\0';
	return reap(dp);
}

void droppipe_abort(struct droppipe *dp)
{
	if (dp->pid == 0)
		return;
	/* an input that ends too early is refused: silently */
	kill(dp->pid, SIGTERM);
	(void)reap(dp);
}
