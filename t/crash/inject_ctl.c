/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The control socket of t/crash/inject: a unix stream socket, one command per line, an answer that
 * ends with a line "." or "!" (refused). Commands:
 *   arm KEY=VALUE ...   a rule begins to count now (keys: see inject.c)
 *   disarm [ID]         that rule, or all
 *   rules | count       what rules saw; with count also by class and call
 *   status              running or exited with what; number of threads followed
 *   kill                SIGKILL to all, as from the next moment
 */
#include "t/crash/inject.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/log.h"

static struct sockaddr_un address = { .sun_family = AF_UNIX };
static int listen_fd = -1;

static void print_status(FILE *out)
{
	unsigned n = 0;

	for (unsigned i = 0; i < tracee_places; i++)
		n += tracees[i].tid != 0;
	if (inject_status < 0)
		fprintf(out, "running threads=%u\n", n);
	else
		fprintf(out, "exited %d threads=%u\n",
			WIFEXITED(inject_status) ? WEXITSTATUS(inject_status) : 255, n);
}

static const char *command(char *line, FILE *out)
{
	char *rest = strchr(line, ' ');

	if (rest != NULL)
		*rest++ = '\0';
	if (strcmp(line, "arm") == 0)
		return rule_arm(rest == NULL ? "" : rest);
	if (strcmp(line, "disarm") == 0)
		rule_disarm(rest == NULL ? 0 : (unsigned)atoi(rest));
	else if (strcmp(line, "rules") == 0 || strcmp(line, "count") == 0)
		rules_print(out, *line == 'c');
	else if (strcmp(line, "status") == 0)
		print_status(out);
	else if (strcmp(line, "kill") == 0)
		kill_all();
	else
		return "unknown command";
	return NULL;
}

static void converse(int fd)
{
	FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
	char line[8192];

	while (in != NULL && out != NULL && fgets(line, sizeof(line), in) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		pthread_mutex_lock(&inject_lock);
		const char *wrong = command(line, out);

		/* still locked: a command that ends all is answered before inject ends */
		fprintf(out, wrong == NULL ? ".\n" : "!%s\n", wrong);
		fflush(out);
		pthread_mutex_unlock(&inject_lock);
	}
	if (in != NULL)
		fclose(in);
	if (out != NULL)
		fclose(out);
}

static void *serve(void *arg)
{
	sigset_t all;

	/* the alarm is the tracer's */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	for (;;) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			converse(fd);
		else if (errno != EINTR && errno != ECONNABORTED)
			return arg;
	}
}

void ctl_start(const char *path)
{
	pthread_t thread;

	if (strlen(path) >= sizeof(address.sun_path))
		die("%s: too long for a socket", path);
	strcpy(address.sun_path, path);
	unlink(path);
	listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listen_fd, 5) < 0)
		die("%s: %s", path, strerror(errno));
	int err = pthread_create(&thread, NULL, serve, NULL);

	if (err != 0)
		die("thread: %s", strerror(err));
	pthread_detach(thread);
}

void ctl_end(void)
{
	if (listen_fd >= 0)
		unlink(address.sun_path);
}
