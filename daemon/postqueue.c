/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postqueue and mailq: list the queue, ask for delivery attempts. Options and output are Postfix's,
 * but for -D, the list of deliveries in doubt. The list of entries comes from the supervisor,
 * everything else from the spool; when the mail system is down, all of it comes from the spool.
 */
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/command.h"
#include "daemon/control.h"
#include "daemon/qcmd.h"
#include "daemon/qdoubt.h"
#include "daemon/qlist.h"
#include "lib/err.h"
#include "lib/log.h"

static int usage(void)
{
	fputs("usage: postqueue [-c config_dir] [-v] -D [-j] | -f | -i queue_id | -j | -p | -s "
	      "site\n",
	      stderr);
	return EX_USAGE;
}

/* 0, or an exit status. */
static int flush(const struct params *p, unsigned argc, const char *const *argv, const char *what)
{
	struct control_conn *c;
	char text[200] = "";

	if (control_connect(p->queue_directory, &c) != 0) {
		fprintf(stderr, "postqueue: fatal: Cannot flush %s - mail system is down\n", what);
		return EX_UNAVAILABLE;
	}
	int status = control_call(c, argc, argv, NULL, NULL, text, sizeof(text));

	control_disconnect(&c);
	if (status == 0)
		return 0;
	fprintf(stderr, "postqueue: fatal: Cannot flush %s: %s\n", what,
		status < 0 ? err_str(status) : text);
	return EX_UNAVAILABLE;
}

static int list(const struct params *p, bool doubts, bool json)
{
	static const char *const request[] = { "queue-list" };
	struct control_conn *c;
	struct qlist *l;
	enum qlist_form form = doubts ? QLIST_KEEP : json ? QLIST_JSON : QLIST_TEXT;
	int err = qlist_new(p, form, stdout, &l);

	if (err != 0) {
		fprintf(stderr, "postqueue: fatal: queue directory %s: %s\n", p->queue_directory,
			err_str(err));
		return EX_NOPERM;
	}
	if (control_connect(p->queue_directory, &c) == 0) {
		err = control_call(c, 1, request, qlist_add_items, l, NULL, 0);
		control_disconnect(&c);
	} else {
		fputs("postqueue: warning: Mail system is down -- accessing queue directly\n",
		      stderr);
		err = qlist_scan(l);
	}
	if (err == 0 && doubts)
		err = qdoubt_print(l, json, stdout);
	else if (err == 0)
		qlist_end(l);
	uint64_t damaged = err == 0 ? qlist_damaged(l) : 0;

	if (damaged > 0)
		fprintf(stderr,
			"postqueue: warning: %llu damaged record%s in %s/corrupt, out of the "
			"queue\n",
			(unsigned long long)damaged, damaged == 1 ? " is" : "s are",
			p->queue_directory);
	if (err != 0)
		fprintf(stderr, "postqueue: fatal: cannot list the queue: %s\n", err_str(err));
	qlist_free(&l);
	return err == 0 && fflush(stdout) == 0 ? 0 : EX_UNAVAILABLE;
}

static int flush_one(const struct params *p, const char *id)
{
	const char *const argv[] = { "queue-flush", id };
	struct qid parsed;

	if (qid_parse(sv_from(id), &parsed) != 0) {
		fprintf(stderr, "postqueue: fatal: invalid mail queue id: %s\n", id);
		return EX_USAGE;
	}
	return flush(p, 2, argv, "queue file");
}

static int flush_site(const struct params *p, const char *site)
{
	const char *const argv[] = { "queue-flush-site", site };

	return flush(p, 2, argv, "mail for the site");
}

static int flush_all(const struct params *p)
{
	const char *const argv[] = { "queue-flush" };

	return flush(p, 1, argv, "mail queue");
}

static void check_user(const struct conf *c, bool lists)
{
	uid_t uid = getuid();

	if (command_user_may(c, lists ? "authorized_mailq_users" : "authorized_flush_users", uid))
		return;
	fprintf(stderr, "postqueue: fatal: User %s(%u) is not allowed to %s the mail queue\n",
		command_user(uid), (unsigned)uid, lists ? "view" : "flush");
	exit(EX_NOPERM);
}

int main(int argc, char **argv)
{
	const char *dir = NULL, *arg = NULL, *base = strrchr(argv[0], '/');
	int mode = 0, opt;
	bool doubts = false;

	base = base == NULL ? argv[0] : base + 1;
	while ((opt = getopt(argc, argv, "Dc:fi:jps:v")) != -1) {
		if (opt == 'c') {
			dir = optarg;
		} else if (opt == 'D') {
			doubts = true;
		} else if (opt != 'v') {
			if (opt == '?' || mode != 0)
				return usage();
			mode = opt;
			arg = optarg;
		}
	}
	if (mode == 0 && (doubts || strcmp(base, "mailq") == 0))
		mode = 'p';
	if (mode == 0 || optind < argc || (doubts && mode != 'p' && mode != 'j'))
		return usage();
	struct conf *conf = qcmd_conf("postqueue", dir);
	const struct params *p = conf_params(conf);

	check_user(conf, mode == 'p' || mode == 'j');
	int status = mode == 'f'   ? flush_all(p)
		     : mode == 'i' ? flush_one(p, arg)
		     : mode == 's' ? flush_site(p, arg)
				   : list(p, doubts, mode == 'j');

	conf_free(&conf);
	return status;
}
