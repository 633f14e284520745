/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rotation of maillog_file; see daemon/logrotate.h. */
#include "daemon/logrotate.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"

#define POLL_MS  20
#define LIMIT_MS 10000

static bool is_set(const char *name, const char *value, struct buf *why)
{
	if (value[0] != '\0')
		return true;
	buf_printf(why, "empty '%s' parameter value - logfile rotation failed", name);
	return false;
}

bool logrotate_move(const struct params *p, struct buf *path)
{
	const char *file = p->maillog_file;
	char suffix[100] = "";
	time_t now = (time_t)clock_wall_s();
	struct tm tm;

	if (!is_set("maillog_file", file, path) ||
	    !is_set("maillog_file_compressor", p->maillog_file_compressor, path) ||
	    !is_set("maillog_file_rotate_suffix", p->maillog_file_rotate_suffix, path))
		return false;
	if (strncmp(file, "/dev/", 5) == 0) {
		buf_printf(path, "not rotating '%s'", file);
		return false;
	}
	localtime_r(&now, &tm);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the operator's */
	size_t len = strftime(suffix, sizeof(suffix), p->maillog_file_rotate_suffix, &tm);
#pragma GCC diagnostic pop
	char *name = xasprintf("%s.%s", file, suffix);
	bool ok = len > 0 && strchr(suffix, '/') == NULL && access(name, F_OK) < 0 &&
		  rename(file, name) == 0;

	if (ok)
		buf_add_str(path, name);
	else
		buf_printf(path, "logfile '%s' rotation failed: %s: %s", file, name,
			   access(name, F_OK) == 0 ? "it exists" : strerror(errno));
	free(name);
	return ok;
}

/* Whoever has it open may still write its last lines. Only then does the kernel give a lease. */
static void wait_for_writers(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	int64_t end = clock_mono().ms + LIMIT_MS;

	if (fd < 0)
		return;
	while (fcntl(fd, F_SETLEASE, F_WRLCK) < 0 && (errno == EAGAIN || errno == EBUSY) &&
	       clock_mono().ms < end)
		poll(NULL, 0, POLL_MS);
	close(fd);
}

bool logrotate_compress(const struct params *p, const char *path, struct buf *why)
{
	int status = 0;

	wait_for_writers(path);
	pid_t pid = fork();

	if (pid == 0) {
		execlp(p->maillog_file_compressor, p->maillog_file_compressor, path, (char *)NULL);
		fprintf(stderr, "%s: %s\n", p->maillog_file_compressor, strerror(errno));
		_exit(1);
	}
	if (pid > 0 && waitpid(pid, &status, 0) == pid && status == 0)
		return true;
	buf_printf(why, "logfile '%s' rotation failed: %s %s: status %d", p->maillog_file,
		   p->maillog_file_compressor, path,
		   WIFEXITED(status) ? WEXITSTATUS(status) : status);
	return false;
}
