/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postsuper: delete, hold, release and requeue messages, by queue id, from stdin, or all. Options
 * and output are Postfix's. The supervisor does the work and journals it before it answers.
 */
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/conf.h"
#include "daemon/control.h"
#include "daemon/qcmd.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/qid.h"

#define IDS_PER_REQUEST (CONTROL_ARGS_MAX - 1)

struct action {
	int opt;
	const char *verb;
	const char *done; /* per message */
	const char *summary;
};

static const struct action actions[] = {
	{ 'd', "queue-delete", "removed", "Deleted" },
	{ 'h', "queue-hold", "placed on hold", "Placed on hold" },
	{ 'H', "queue-release", "released from hold", "Released from hold" },
	{ 'r', "queue-requeue", "requeued", "Requeued" },
};

struct run {
	struct control_conn *c;
	const struct action *action;
	bool verbose;
	unsigned long long messages, busy;
};

static int usage(void)
{
	fputs("usage: postsuper [-psSv] [-c config_dir] [-d queue_id|ALL|-] [-h queue_id|ALL|-] "
	      "[-H queue_id|ALL|-] [-r queue_id|ALL|-]\n",
	      stderr);
	return EX_USAGE;
}

/* What Postfix's options -s, -S and -p do by hand; scripts call them before a start. */
static void say_structure(int opt)
{
	fprintf(stderr,
		opt == 'p' ? "postsuper: -p: left-over files of the spool are removed by the "
			     "running system, and at every start\n"
			   : "postsuper: -%c: the spool is checked and put right at every start\n",
		opt);
}

static int no_expiry(int opt)
{
	fprintf(stderr,
		"postsuper: fatal: -%c: mail cannot be made to expire; -d deletes it without a "
		"notification\n",
		opt);
	return EX_UNAVAILABLE;
}

static void print_done(void *ctx, const void *data, size_t len)
{
	const struct run *r = ctx;
	const char *p = data, *end = p + len, *nl;

	for (; p < end && (nl = memchr(p, '\n', (size_t)(end - p))) != NULL; p = nl + 1)
		fprintf(stderr, "postsuper: %.*s: %s\n", (int)(nl - p), p, r->action->done);
}

static int request(struct run *r, unsigned count, const char *const *ids)
{
	const char *argv[CONTROL_ARGS_MAX];
	unsigned long long messages = 0, busy = 0;
	char text[200] = "";

	argv[0] = r->action->verb;
	memcpy(argv + 1, ids, count * sizeof(*ids));
	int status = control_call(r->c, count + 1, argv, print_done, r, text, sizeof(text));

	if (status != 0) {
		fprintf(stderr, "postsuper: fatal: %s: %s\n", r->action->verb,
			status < 0 ? err_str(status) : text);
		return EX_UNAVAILABLE;
	}
	if (sscanf(text, "%llu %llu", &messages, &busy) == 2) {
		r->messages += messages;
		r->busy += busy;
	}
	return 0;
}

static bool is_id(const char *text)
{
	struct qid id;

	if (qid_parse(sv_from(text), &id) == 0)
		return true;
	fprintf(stderr, "postsuper: warning: invalid mail queue id: %s\n", text);
	return false;
}

/* Ids on stdin, one per line; what follows the first word is ignored, as in a mailq listing. */
static int from_stdin(struct run *r)
{
	char line[1024], ids[IDS_PER_REQUEST][QID_TEXT_SIZE];
	const char *list[IDS_PER_REQUEST];
	unsigned count = 0;
	int status = 0;

	while (status == 0 && fgets(line, sizeof(line), stdin) != NULL) {
		char *id = line + strspn(line, " \t");

		id[strcspn(id, " \t\r\n*!#")] = '\0';
		if (*id == '\0' || strlen(id) >= QID_TEXT_SIZE || !is_id(id))
			continue;
		memcpy(ids[count], id, strlen(id) + 1);
		list[count] = ids[count];
		if (++count == IDS_PER_REQUEST) {
			status = request(r, count, list);
			count = 0;
		}
	}
	return status != 0 || count == 0 ? status : request(r, count, list);
}

static int act(struct run *r, const char *arg)
{
	if (strcmp(arg, "-") == 0)
		return from_stdin(r);
	if (strcmp(arg, "ALL") != 0 && !is_id(arg))
		return EX_USAGE;
	return request(r, 1, &arg);
}

static void summary(const struct run *r)
{
	if (r->messages > 0)
		fprintf(stderr, "postsuper: %s: %llu message%s\n", r->action->summary, r->messages,
			r->messages == 1 ? "" : "s");
	if (r->busy > 0)
		fprintf(stderr,
			"postsuper: %llu of them in delivery now: it applies to what is left "
			"afterwards\n",
			r->busy);
}

int main(int argc, char **argv)
{
	struct {
		const struct action *action;
		const char *arg;
	} todo[64];
	const char *dir = NULL;
	size_t count = 0;
	bool verbose = false, structure = false;
	int opt, status = 0;

	while ((opt = getopt(argc, argv, "c:d:e:f:h:H:pr:sSv")) != -1) {
		const struct action *a = NULL;

		for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
			if (actions[i].opt == opt)
				a = &actions[i];
		}
		if (opt == '?' || (a != NULL && count == ARRAY_LEN(todo)))
			return usage();
		if (opt == 'c')
			dir = optarg;
		if (opt == 'e' || opt == 'f')
			return no_expiry(opt);
		if (opt == 'p' || opt == 's' || opt == 'S') {
			say_structure(opt);
			structure = true;
		}
		verbose = verbose || opt == 'v';
		if (a != NULL) {
			todo[count].action = a;
			todo[count++].arg = optarg;
		}
	}
	if (optind < argc && !structure) /* behind -s and -p may stand names of queues */
		return usage();
	if (count == 0)
		return structure ? 0 : usage();
	struct conf *conf = qcmd_conf("postsuper", dir);
	struct control_conn *c = NULL;
	int err = control_connect(conf_params(conf)->queue_directory, &c);

	if (err != 0) {
		fprintf(stderr, "postsuper: fatal: mail system is down: %s\n", err_str(err));
		status = EX_UNAVAILABLE;
	}
	for (size_t i = 0; i < count && status == 0; i++) {
		struct run r = { .c = c, .action = todo[i].action, .verbose = verbose };

		status = act(&r, todo[i].arg);
		summary(&r);
	}
	control_disconnect(&c);
	conf_free(&conf);
	return status;
}
