/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postqueue: list the queue, ask for delivery attempts. Options and output are Postfix's,
 * but for -D, the list of deliveries in doubt. For who may open the control socket, entries come
 * from the supervisor and everything else from the spool; when the mail system is down, all of it
 * comes from the spool. Everybody else is told by showq (daemon/showq.c), whose socket only this
 * program reaches: it is set-gid setgid_group, and decides who may see and flush the queue.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/command.h"
#include "daemon/control.h"
#include "daemon/qdoubt.h"
#include "daemon/qlist.h"
#include "daemon/qprint.h"
#include "daemon/qwire.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"

#define QUEUE_ID_MAX 100 /* bytes of any name of a message */

static NORETURN void usage(void)
{
	command_fatal("usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | "
		      "postqueue -s site | postqueue -D [-j]");
}

/* Whom the control socket does not serve asks showq instead. */
static bool is_refused(int status)
{
	return status == -EACCES || status == -EPERM || status == E_EOF || status == -EPIPE ||
	       status == -ECONNRESET;
}

/* One request on the control socket, or the same for showq. The status of the answer, or a negative
 * error: of a refusal, when neither serves the caller. */
static int ask(const struct params *p, const char *control_verb, const char *verb, const char *arg,
	       char *text, size_t text_size)
{
	const char *argv[] = { control_verb, arg };
	unsigned argc = arg != NULL ? 2 : 1;
	struct control_conn *c;
	int status = control_connect(p->queue_directory, &c);

	if (status == 0) {
		status = control_call(c, argc, argv, NULL, NULL, text, text_size);
		control_disconnect(&c);
	}
	if (!is_refused(status))
		return status;
	argv[0] = verb;
	status = control_connect_public(p->queue_directory, &c);
	if (status == 0) {
		status = control_call(c, argc, argv, NULL, NULL, text, text_size);
		control_disconnect(&c);
	}
	return status;
}

static NORETURN void down(void)
{
	command_fatal("Cannot flush mail queue - mail system is down");
}

/* 0, or an exit status. */
static int flush(const struct params *p, const char *control_verb, const char *verb,
		 const char *arg)
{
	char text[200] = "";
	int status = ask(p, control_verb, verb, arg, text, sizeof(text));

	if (status == 0)
		return 0;
	if (status == E_NOENT || status == -ECONNREFUSED)
		down();
	command_fatal("Cannot flush mail queue: %s", status < 0 ? err_str(status) : text);
}

static void warn_damaged(const struct params *p, uint64_t damaged)
{
	if (damaged > 0)
		fprintf(stderr,
			"postqueue: warning: %llu damaged record%s in %s/corrupt, out of the "
			"queue\n",
			(unsigned long long)damaged, damaged == 1 ? " is" : "s are",
			p->queue_directory);
}

/* ---- the list, for who may not read the spool ---- */

struct public_list {
	struct qprint *print;
	struct buf in;
	bool open, broken;
};

static void print_message(void *ctx, const struct qlist_message *m)
{
	qprint_message(ctx, m);
}

static void print_end(void *ctx)
{
	qprint_message_end(ctx);
}

static void take_records(void *ctx, const void *data, size_t len)
{
	struct public_list *l = ctx;
	const struct qwire_sink sink = { print_message, qprint_rcpt, print_end, l->print };

	buf_add(&l->in, data, len);
	l->broken = l->broken || qwire_read(&l->in, &l->open, &sink) != 0;
}

static int list_public(const struct params *p, bool json)
{
	static const char *const request[] = { "list" };
	struct public_list l = { .print = qprint_new(stdout, json), .in = BUF_INIT };
	struct control_conn *c;
	char text[200] = "";
	int status = control_connect_public(p->queue_directory, &c);

	if (status == 0) {
		status = control_call(c, 1, request, take_records, &l, text, sizeof(text));
		control_disconnect(&c);
	}
	if (status == 0 && !l.broken && !l.open) {
		qprint_end(l.print);
		warn_damaged(p, strtoull(text, NULL, 10));
	} else if (status == E_NOENT || status == -ECONNREFUSED) {
		fputs("postqueue: fatal: Queue report unavailable - mail system is down\n", stderr);
	} else if (is_refused(status)) {
		fputs("postqueue: fatal: Queue report unavailable - try again later\n", stderr);
	} else {
		fprintf(stderr, "postqueue: fatal: Queue report unavailable: %s\n",
			status < 0 ? err_str(status)
			: l.broken ? "malformed answer"
				   : text);
	}
	bool ok = status == 0 && !l.broken && !l.open && fflush(stdout) == 0;

	qprint_free(&l.print);
	buf_fini(&l.in);
	return ok ? 0 : EX_UNAVAILABLE;
}

/* ---- and for who may ---- */

static int list(const struct params *p, bool doubts, bool json)
{
	static const char *const request[] = { "queue-list" };
	struct control_conn *c;
	struct qlist *l;
	enum qlist_form form = doubts ? QLIST_KEEP : json ? QLIST_JSON : QLIST_TEXT;
	int up = control_connect(p->queue_directory, &c);
	int err = up == 0 || !is_refused(up) ? qlist_new(p, form, stdout, &l) : up;

	if (is_refused(err) && !doubts) {
		if (up == 0)
			control_disconnect(&c);
		return list_public(p, json);
	}
	if (err != 0)
		command_fatal("queue directory %s: %s", p->queue_directory, err_str(err));
	if (up == 0) {
		err = control_call(c, 1, request, qlist_add_items, l, NULL, 0);
		control_disconnect(&c);
	} else {
		fputs("postqueue: warning: Mail system is down -- accessing queue directly\n",
		      stderr);
		err = qlist_scan(l);
	}
	if (is_refused(err) && !doubts) { /* nothing was printed */
		qlist_free(&l);
		return list_public(p, json);
	}
	if (err == 0 && doubts)
		err = qdoubt_print(l, json, stdout);
	else if (err == 0)
		qlist_end(l);
	warn_damaged(p, err == 0 ? qlist_damaged(l) : 0);
	if (err != 0)
		fprintf(stderr, "postqueue: fatal: cannot list the queue: %s\n", err_str(err));
	qlist_free(&l);
	return err == 0 && fflush(stdout) == 0 ? 0 : EX_UNAVAILABLE;
}

/* A well-formed name of a message that Postfix had, or that is gone by now, is no mistake. */
static int flush_one(const struct params *p, const char *id)
{
	struct control_conn *c;
	struct qid parsed;

	if (qid_parse(sv_from(id), &parsed) == 0)
		return flush(p, "queue-flush", "flush-message", id);
	size_t len = strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_");

	if (len == 0 || len > QUEUE_ID_MAX || id[len] != '\0')
		command_fatal("Cannot flush queue ID - invalid name: \"%s\"", id);
	int err = control_connect_public(p->queue_directory, &c);

	if (err == E_NOENT || err == -ECONNREFUSED)
		down();
	if (err == 0)
		control_disconnect(&c);
	return 0;
}

/* A host name or an address, bare or in brackets. */
static bool is_site(struct sv site)
{
	if (site.len > 2 && site.p[0] == '[' && site.p[site.len - 1] == ']')
		site = (struct sv){ site.p + 1, site.len - 2 };
	return mail_hostname_is_valid(site) || mail_hostaddr_is_valid(site);
}

static int flush_site(const struct params *p, const char *site)
{
	if (!is_site(sv_from(site)))
		command_fatal("Cannot flush mail queue - invalid destination: \"%s\"", site);
	return flush(p, "queue-flush-site", "flush-site", site);
}

static int flush_all(const struct params *p)
{
	return flush(p, "queue-flush", "flush", NULL);
}

static void check_user(const struct conf *c, bool lists)
{
	uid_t uid = getuid();

	if (command_user_may(c, lists ? "authorized_mailq_users" : "authorized_flush_users", uid))
		return;
	command_fatal("User %s(%u) is not allowed to %s the mail queue", command_user(uid),
		      (unsigned)uid, lists ? "view" : "flush");
}

int main(int argc, char **argv)
{
	const char *dir = NULL, *arg = NULL;
	int mode = 0, opt;
	bool doubts = false;

	command_start("postqueue", EX_UNAVAILABLE);
	while ((opt = getopt(argc, argv, "Dc:fi:jps:v")) != -1) {
		if (opt == 'c') {
			dir = optarg;
		} else if (opt == 'D') {
			doubts = true;
		} else if (opt != 'v') {
			if (opt == '?' || mode != 0)
				usage();
			mode = opt;
			arg = optarg;
		}
	}
	if (mode == 0 && doubts)
		mode = 'p';
	if (mode == 0 || optind < argc || (doubts && mode != 'p' && mode != 'j'))
		usage();
	struct conf *conf = command_conf(dir);
	const struct params *p = conf_params(conf);

	check_user(conf, mode == 'p' || mode == 'j');
	int status = mode == 'f'   ? flush_all(p)
		     : mode == 'i' ? flush_one(p, arg)
		     : mode == 's' ? flush_site(p, arg)
				   : list(p, doubts, mode == 'j');

	conf_free(&conf);
	return status;
}
