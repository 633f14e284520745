/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postkick: what scripts written for Postfix use to wake a service. There are no such services
 * here; requests to the queue manager that ask for delivery attempts flush the queue, the others
 * find their work done without being asked.
 */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/command.h"
#include "daemon/control.h"
#include "lib/err.h"

/* Those that a master.cf of Postfix has. */
static const char *const services[] = {
	"pickup", "qmgr",     "cleanup", "flush", "showq",  "rewrite", "bounce",  "defer",
	"trace",  "verify",   "error",   "retry", "smtp",   "relay",   "lmtp",    "local",
	"pipe",   "proxymap", "virtual", "anvil", "scache", "tlsmgr",  "discard",
};

static bool is_one_of(const char *name, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(name, list[i]) == 0)
			return true;
	}
	return false;
}

static NORETURN void usage(void)
{
	command_fatal("usage: postkick [-c config_dir] [-v] class service request");
}

int main(int argc, char **argv)
{
	static const char *const classes[] = { "public", "private" };
	static const char *const flush[] = { "queue-flush" };
	static const char *const status[] = { "status" };
	const char *dir = NULL;
	struct control_conn *conn;
	char text[200] = "";
	int opt;

	command_start("postkick", EXIT_FAILURE);
	while ((opt = getopt(argc, argv, "+c:v")) != -1) {
		if (opt == 'c')
			dir = optarg;
		else if (opt == '?')
			usage();
	}
	if (argc - optind != 3)
		usage();
	const char *class_name = argv[optind], *service = argv[optind + 1],
		   *request = argv[optind + 2];
	struct conf *c = command_conf(dir);
	int err = !is_one_of(class_name, classes, ARRAY_LEN(classes)) ||
				  !is_one_of(service, services, ARRAY_LEN(services))
			  ? E_NOENT
			  : control_connect(conf_params(c)->queue_directory, &conn);

	if (err != 0) {
		fprintf(stderr,
			"postkick: warning: Cannot contact class %s service %s - perhaps the mail "
			"system is down\n",
			class_name, service);
		return EXIT_FAILURE;
	}
	/* D: scan the deferred queue; A: whatever its time; F: forget dead destinations */
	bool all = strcmp(service, "qmgr") == 0 && strpbrk(request, "DAF") != NULL;

	err = control_call(conn, 1, all ? flush : status, NULL, NULL, text, sizeof(text));
	control_disconnect(&conn);
	conf_free(&c);
	if (err != 0)
		command_fatal("%s", err < 0 ? err_str(err) : text);
	return EX_OK;
}
