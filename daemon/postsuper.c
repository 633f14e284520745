/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postsuper: delete, expire, hold, release and requeue messages, by queue id, from stdin, or all.
 * Options, texts and exit statuses are Postfix's. The supervisor does the work and journals it
 * before it answers; without a mail system it is done here, in the same way (daemon/offline.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/command.h"
#include "daemon/control.h"
#include "daemon/offline.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/qid.h"

#define IDS_PER_REQUEST (CONTROL_ARGS_MAX - 2)
#define UP_TRIES        100 /* a mail system that starts, stops or mends itself */
#define UP_WAIT_MS      100

enum { DELETED, EXPIRED, HELD, RELEASED, REQUEUED, ACTION_COUNT };

static const struct action {
	const char *opts; /* that ask for it */
	const char *verb; /* on the control socket */
	enum sched_cmd cmd;
	unsigned queues;  /* where it applies */
	const char *done; /* per message */
	const char *summary;
} actions[] = {
	[DELETED] = { "d", "queue-delete", SCHED_DELETE, SCHED_IN_ALL, "removed", "Deleted" },
	[EXPIRED] = { "ef", "queue-expire", SCHED_EXPIRE, SCHED_IN_ALL, "expired",
		      "Force-expired" },
	[HELD] = { "h", "queue-hold", SCHED_HOLD, SCHED_IN_DEFERRED | SCHED_IN_ACTIVE,
		   "placed on hold", "Placed on hold" },
	[RELEASED] = { "fH", "queue-release", SCHED_RELEASE, SCHED_IN_HOLD, "released from hold",
		       "Released from hold" },
	[REQUEUED] = { "r", "queue-requeue", SCHED_REQUEUE, SCHED_IN_ALL, "requeued", "Requeued" },
};

/* Those that cannot hold a message of ours are names all the same. */
static const struct {
	const char *name;
	unsigned queue;
} queue_names[] = {
	{ "maildrop", 0 },
	{ "incoming", 0 },
	{ "active", SCHED_IN_ACTIVE },
	{ "deferred", SCHED_IN_DEFERRED },
	{ "hold", SCHED_IN_HOLD },
	{ "trace", 0 },
	{ "defer", 0 },
	{ "bounce", 0 },
	{ "flush", 0 },
};

struct run {
	const struct conf *conf;
	const struct params *params;
	struct control_conn *c;
	struct offline *offline;
	FILE *log; /* postlog, which puts lines into the log; NULL = none */
	unsigned queues;
	struct tally {
		bool asked;
		unsigned long long messages, busy;
	} of[ACTION_COUNT];
};

/* ---- the log ---- */

/* With the rights and the descriptors of now: it is started before any are given up. */
static void log_open(struct run *r)
{
	char *path = xasprintf("%s/postlog", r->params->command_directory);
	char *tag = xasprintf("%s/postsuper", r->params->syslog_name);
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	if (pipe2(fds, O_CLOEXEC) == 0) {
		pid_t pid = fork();

		if (pid == 0) {
			int null = open("/dev/null", O_WRONLY);

			dup2(fds[0], 0);
			dup2(null, 1);
			dup2(null, 2);
			execl(path, "postlog", "-c", conf_dir(r->conf), "-t", tag, (char *)NULL);
			_exit(1);
		}
		close(fds[0]);
		r->log = fdopen(fds[1], "w");
	}
	free(path);
	free(tag);
}

static PRINTF_LIKE(2, 3) void say(const struct run *r, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("postsuper: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	if (r->log == NULL)
		return;
	va_start(args, fmt);
	vfprintf(r->log, fmt, args);
	fputc('\n', r->log);
	va_end(args);
}

/* What the scheduler says when it works in this process: lines about messages are for the log, as
 * from the supervisor. */
static void offline_log(void *ctx, enum log_level level, const char *program UNUSED,
			const char *text, size_t len)
{
	const struct run *r = ctx;

	if (r->log != NULL)
		fprintf(r->log, "%.*s\n", (int)len, text);
	if (level >= LOG_LEVEL_WARN)
		fprintf(stderr, "postsuper: %.*s\n", (int)len, text);
}

/* ---- who does it ---- */

static bool is_down(int err)
{
	return err == E_NOENT || err == -ECONNREFUSED;
}

/* A mail system that runs, or the spool itself. */
static void open_queue(struct run *r)
{
	const char *dir = r->params->queue_directory, *what = dir;
	int err = 0;

	for (unsigned i = 0; i < UP_TRIES; i++) {
		err = control_connect(dir, &r->c);
		if (err == 0)
			return;
		if (!is_down(err))
			break;
		if (access(dir, F_OK) < 0)
			command_fatal("queue directory %s: %s", dir, err_str(err_errno()));
		err = offline_open(r->conf, &r->offline, &what);
		if (err != E_AGAIN || r->offline != NULL)
			break;
		poll(NULL, 0, UP_WAIT_MS);
	}
	if (err == -EACCES || err == -EPERM)
		command_fatal("use of this command is reserved for the superuser");
	if (err != 0)
		command_fatal("%s: %s", what, err_str(err));
}

static void print_done(const char *names, size_t len, const struct action *a)
{
	const char *p = names, *end = names + len, *nl;

	for (; p < end && (nl = memchr(p, '\n', (size_t)(end - p))) != NULL; p = nl + 1)
		fprintf(stderr, "postsuper: %.*s: %s\n", (int)(nl - p), p, a->done);
}

static void on_names(void *ctx, const void *data, size_t len)
{
	print_done(data, len, ctx);
}

static void offline_request(struct run *r, unsigned which, unsigned queues, unsigned count,
			    const char *const *ids)
{
	const struct action *a = &actions[which];
	struct sched_cmd_result res = { 0 };
	struct buf names = BUF_INIT;
	int err = offline_cmd(r->offline, a->cmd, queues, count, ids, &names, &res);

	print_done(buf_cstr(&names), names.len, a);
	buf_fini(&names);
	if (err != 0)
		command_fatal("%s: %s", a->verb, err_str(err));
	r->of[which].messages += res.messages;
}

/* No ids: all. */
static void request(struct run *r, unsigned which, unsigned count, const char *const *ids)
{
	const struct action *a = &actions[which];
	unsigned queues = a->queues & r->queues, argc = 0;
	const char *argv[CONTROL_ARGS_MAX];
	unsigned long long messages = 0, busy = 0;
	char text[200] = "", in[40];

	r->of[which].asked = true;
	if (queues == 0)
		return;
	if (r->offline != NULL) {
		offline_request(r, which, queues, count, ids);
		return;
	}
	snprintf(in, sizeof(in), "in:%s,%s,%s", queues & SCHED_IN_DEFERRED ? "deferred" : "",
		 queues & SCHED_IN_ACTIVE ? "active" : "", queues & SCHED_IN_HOLD ? "hold" : "");
	argv[argc++] = a->verb;
	argv[argc++] = in;
	if (count == 0)
		argv[argc++] = "ALL";
	for (unsigned i = 0; i < count; i++)
		argv[argc++] = ids[i];
	int status =
		control_call(r->c, argc, argv, on_names, (void *)(uintptr_t)a, text, sizeof(text));

	if (status == -EPIPE || status == -ECONNRESET || status == E_EOF)
		command_fatal("%s: the mail system has ended meanwhile", a->verb);
	if (status != 0)
		command_fatal("%s: %s", a->verb, status < 0 ? err_str(status) : text);
	if (sscanf(text, "%llu %llu", &messages, &busy) == 2) {
		r->of[which].messages += messages;
		r->of[which].busy += busy;
	}
}

/* ---- what is asked for ---- */

static bool is_id(const char *text)
{
	struct qid id;

	return qid_parse(sv_from(text), &id) == 0;
}

/* One of Postfix's own may be well-formed, but it is not here. */
static void complain(const char *text)
{
	if (*text == '\0' || strlen(text) > 100 ||
	    text[strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")] !=
		    '\0')
		fprintf(stderr, "postsuper: warning: invalid mail queue id: %s\n", text);
}

static void each(struct run *r, char opt, unsigned count, const char *const *ids)
{
	for (unsigned which = 0; which < ACTION_COUNT; which++) {
		if (strchr(actions[which].opts, opt) != NULL)
			request(r, which, count, ids);
	}
}

/* Ids on stdin, one per line and nothing else: a listing of the queue that was not reduced to them
 * is a mistake, which must not delete anything. */
static void from_stdin(struct run *r, char opt)
{
	char line[1024], ids[IDS_PER_REQUEST][QID_TEXT_SIZE];
	const char *list[IDS_PER_REQUEST];
	unsigned count = 0;

	while (fgets(line, sizeof(line), stdin) != NULL) {
		line[strcspn(line, "\r\n")] = '\0';
		bool good = is_id(line);

		if (good) {
			str_copy(ids[count], sizeof(ids[count]), sv_from(line));
			list[count] = ids[count];
			count++;
		}
		/* what is told stands in the order of what was read */
		if (count == IDS_PER_REQUEST || (count > 0 && !good)) {
			each(r, opt, count, list);
			count = 0;
		}
		if (!good)
			complain(line);
	}
	if (count > 0)
		each(r, opt, count, list);
}

static void mark_asked(struct run *r, char opt)
{
	for (unsigned which = 0; which < ACTION_COUNT; which++) {
		if (strchr(actions[which].opts, opt) != NULL)
			r->of[which].asked = true;
	}
}

static void act(struct run *r, char opt, const char *arg)
{
	mark_asked(r, opt);
	if (strcmp(arg, "-") == 0)
		from_stdin(r, opt);
	else if (strcmp(arg, "ALL") == 0)
		each(r, opt, 0, NULL);
	else if (is_id(arg))
		each(r, opt, 1, &arg);
	else
		complain(arg);
}

static void summary(const struct run *r)
{
	static const unsigned order[] = { REQUEUED, DELETED, EXPIRED, HELD, RELEASED };
	unsigned long long busy = 0;

	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		const struct tally *t = &r->of[order[i]];

		if (t->asked)
			say(r, "%s: %llu message%s", actions[order[i]].summary, t->messages,
			    t->messages == 1 ? "" : "s");
		busy += t->busy;
	}
	if (busy > 0)
		fprintf(stderr,
			"postsuper: %llu of them in delivery now: it applies to what is left "
			"afterwards\n",
			busy);
}

static unsigned named_queues(int argc, char **argv)
{
	unsigned queues = 0;

	for (int i = 0; i < argc; i++) {
		size_t k = 0;

		while (k < ARRAY_LEN(queue_names) && strcmp(argv[i], queue_names[k].name) != 0)
			k++;
		if (k == ARRAY_LEN(queue_names))
			command_fatal("invalid directory name: %s", argv[i]);
		queues |= queue_names[k].queue;
	}
	return argc == 0 ? SCHED_IN_ALL : queues;
}

int main(int argc, char **argv)
{
	static const char options[] = "c:d:e:f:h:H:pr:sSv";
	const char *dir = NULL;
	struct run r = { .queues = SCHED_IN_ALL };
	bool changes = false;
	int opt;

	command_start("postsuper", EXIT_FAILURE);
	while ((opt = getopt(argc, argv, options)) != -1) {
		if (opt == '?')
			command_fatal(
				"usage: postsuper [-c config_dir] [-d queue_id (delete)] "
				"[-e queue_id (expire)] [-f queue_id (expire and/or un-hold)] "
				"[-h queue_id (hold)] [-H queue_id (un-hold)] "
				"[-p (purge temporary files)] [-r queue_id (requeue)] "
				"[-s (structure fix)] [-S (redundant structure fix)]"
				"[-v (verbose)] [queue...]");
		if (opt == 'c')
			dir = optarg;
		changes = changes || strchr("defhHr", opt) != NULL;
	}
	if (dir != NULL && *dir != '/')
		command_fatal("-c requires absolute pathname");
	struct conf *conf = command_conf(dir);

	r.conf = conf;
	r.params = conf_params(conf);
	r.queues = named_queues(argc - optind, argv + optind);
	if (changes)
		log_open(&r);
	/* a start checks the spool, puts it right and removes what is left over, and so does this
	 */
	log_set_sink(offline_log, &r);
	open_queue(&r);
	optind = 1;
	while ((opt = getopt(argc, argv, options)) != -1) {
		if (strchr("defhHr", opt) != NULL)
			act(&r, (char)opt, optarg);
	}
	summary(&r);
	control_disconnect(&r.c);
	offline_close(&r.offline);
	log_set_sink(NULL, NULL);
	if (r.log != NULL) {
		fclose(r.log);
		wait(NULL);
	}
	conf_free(&conf);
	return 0;
}
