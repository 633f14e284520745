/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Asking remote tables through a child; see conf/map_ask.h. One child per table; it ends with us,
 * when its input does. */
#include "conf/map_ask.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/map_remote.h"
#include "lib/log.h"

struct child {
	struct child *next;
	char *spec;
	FILE *to, *from; /* NULL: it could not be started */
};

static struct child *children;
static const struct conf *conf;

static void run(const char *spec, int in, int out)
{
	char *path = xasprintf("%s/lookup", conf_params(conf)->daemon_directory);

	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
		_exit(71);
	execl(path, "lookup", "-q", conf_dir(conf), spec, (char *)NULL);
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	_exit(71);
}

/* "F5:value," and its kin. The letter, or 0. */
static char read_answer(FILE *f, struct buf *out)
{
	int status = getc(f), c;
	size_t len;

	buf_reset(out);
	if (status == EOF || fscanf(f, "%7zu:", &len) != 1)
		return 0;
	while (len-- > 0 && (c = getc(f)) != EOF)
		buf_add_c(out, (char)c);
	return getc(f) == ',' ? (char)status : 0;
}

static void start(struct child *ch)
{
	struct buf answer = BUF_INIT;
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		die("pipe: %s", strerror(errno));
	signal(SIGPIPE, SIG_IGN);
	pid_t pid = fork();

	if (pid == 0)
		run(ch->spec, to[0], from[1]);
	if (pid < 0)
		die("fork: %s", strerror(errno));
	close(to[0]);
	close(from[1]);
	ch->to = fdopen(to[1], "w");
	ch->from = fdopen(from[0], "r");
	char status = read_answer(ch->from, &answer);

	if (status != 'R') {
		log_warn("%s: %s", ch->spec,
			 status == 0 ? "the lookup program does not answer" : buf_cstr(&answer));
		fclose(ch->to);
		fclose(ch->from);
		ch->to = ch->from = NULL;
	}
	buf_fini(&answer);
}

static struct child *child_of(const char *spec)
{
	struct child *ch = children;

	while (ch != NULL && strcmp(ch->spec, spec) != 0)
		ch = ch->next;
	if (ch == NULL) {
		ch = xcalloc(1, sizeof(*ch));
		ch->spec = xstrdup(spec);
		ch->next = children;
		children = ch;
		start(ch);
	}
	return ch;
}

static enum map_status ask(void *ctx UNUSED, const char *spec, struct sv key, struct buf *out)
{
	struct child *ch = child_of(spec);

	if (ch->to == NULL)
		return MAP_ERROR;
	fprintf(ch->to, "%zu:", key.len);
	fwrite(key.p, 1, key.len, ch->to);
	putc(',', ch->to);
	fflush(ch->to);
	switch (read_answer(ch->from, out)) {
	case 'F':
		return MAP_FOUND;
	case 'N':
		return MAP_NOT_FOUND;
	case 'E':
		log_warn("%s: lookup error: %s", spec, buf_cstr(out));
		return MAP_ERROR;
	default:
		log_warn("%s: the lookup program does not answer", spec);
		return MAP_ERROR;
	}
}

void map_ask_install(const struct conf *c)
{
	conf = c;
	map_remote_set_direct(ask, NULL);
}
