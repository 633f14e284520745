/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postlock: run a command while a mailbox file is locked, in the ways that mailbox_delivery_lock
 * names (flock, fcntl, dotlock). Exit status: the command's, 75 when there was no lock to be had.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/command.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"

enum { LOCK_FLOCK = 1, LOCK_FCNTL = 2, LOCK_DOT = 4 };

static char *dot_file; /* to be removed at the end; NULL = none */

static unsigned parse_styles(const char *text)
{
	static const struct {
		struct sv name;
		unsigned bit;
	} words[] = {
		{ { "flock", 5 }, LOCK_FLOCK },
		{ { "fcntl", 5 }, LOCK_FCNTL },
		{ { "dotlock", 7 }, LOCK_DOT },
	};
	const char *all = text;
	unsigned styles = 0;

	for (size_t n; text += strspn(text, ", \t\r\n"), *text != '\0'; text += n) {
		size_t i = 0;

		n = strcspn(text, ", \t\r\n");
		while (i < ARRAY_LEN(words) && !sv_eq_nocase((struct sv){ text, n }, words[i].name))
			i++;
		if (i == ARRAY_LEN(words))
			command_fatal("unknown mailbox_delivery_lock value \"%.*s\" in \"%s\"",
				      (int)n, text, all);
		styles |= words[i].bit;
	}
	return styles;
}

/* One try. The file must not exist; one that is very old was left behind. */
static bool try_dot(const char *file, int64_t stale_ms)
{
	char *name = xasprintf("%s.lock", file);
	struct stat st;
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 && errno == EEXIST && lstat(name, &st) == 0 &&
	    clock_wall().us / 1000 - (int64_t)st.st_mtime * 1000 > stale_ms)
		unlink(name);
	else if (fd < 0 && errno != EEXIST)
		command_fatal("create %s: %s", name, strerror(errno));
	if (fd < 0) {
		free(name);
		return false;
	}
	close(fd);
	dot_file = name;
	return true;
}

static bool try_kernel(int fd, unsigned styles)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return ((styles & LOCK_FLOCK) == 0 || flock(fd, LOCK_EX | LOCK_NB) == 0) &&
	       ((styles & LOCK_FCNTL) == 0 || fcntl(fd, F_SETLK, &whole) == 0);
}

static void remove_dot(void)
{
	if (dot_file != NULL)
		unlink(dot_file);
	free(dot_file);
	dot_file = NULL;
}

static bool lock(const struct params *p, const char *file, int fd, unsigned styles)
{
	for (int64_t i = 0; i < p->deliver_lock_attempts; i++) {
		if (i > 0)
			poll(NULL, 0, (int)p->deliver_lock_delay);
		if ((styles & LOCK_DOT) != 0 && !try_dot(file, p->stale_lock_time))
			continue;
		if (try_kernel(fd, styles))
			return true;
		remove_dot();
	}
	return false;
}

static int run(char **argv)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		command_fatal("fork: %s", strerror(errno));
	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		execvp(argv[0], argv);
		fprintf(stderr, "postlock: fatal: execvp %s: %s\n", argv[0], strerror(errno));
		_exit(EXIT_FAILURE);
	}
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return EX_TEMPFAIL;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	const char *dir = NULL, *style = NULL;
	int opt;

	command_start("postlock", EX_TEMPFAIL);
	while ((opt = getopt(argc, argv, "+c:l:v")) != -1) {
		if (opt == 'c')
			dir = optarg;
		else if (opt == 'l')
			style = optarg;
		else if (opt == '?')
			command_fatal("usage: postlock [-c config_dir] [-l lock_style] "
				      "[-v] folder command...");
	}
	if (argc - optind < 2)
		command_fatal("usage: postlock [-c config_dir] [-l lock_style] [-v] "
			      "folder command...");
	struct conf *c = command_conf(dir);
	const struct params *p = conf_params(c);
	const char *file = argv[optind];
	unsigned styles = parse_styles(style != NULL ? style : p->mailbox_delivery_lock);
	/* the command gets no part of it: closing any descriptor would end an fcntl lock */
	int fd = open(file, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600);

	if (fd < 0)
		command_fatal("open file %s: %s", file, strerror(errno));
	if (!lock(p, file, fd, styles))
		command_fatal("unable to lock for exclusive access: %s", file);
	atexit(remove_dot);
	int status = run(argv + optind + 1);

	remove_dot();
	close(fd);
	conf_free(&c);
	return status;
}
