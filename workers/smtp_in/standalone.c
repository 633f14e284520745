/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One session on standard input and output; see workers/smtp_in/standalone.h. The session machine
 * is that of the server; what it wants of the process around it is answered here. */
#include "workers/smtp_in/standalone.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/command.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/pickup/droppipe.h"
#include "workers/smtp_in/session.h"

#define ROOM_BYTES 32768u

struct alone {
	struct session s;
	struct listener listener;
	const struct params *p;
	struct droppipe pipe;
	struct smtp_unwire unwire; /* back to the lines of Unix */
	struct qid_source ids;
	bool ended; /* the message is complete; its verdict is to be had */
	char room[ROOM_BYTES];
};

static struct alone the_alone;

/* ---- session_ops ---- */

static int op_may_accept(void *ctx UNUSED, struct session *s UNUSED)
{
	return 0;
}

static struct qid op_new_qid(void *ctx)
{
	struct alone *a = ctx;

	return qid_make(&a->ids); /* the real one is made when the message is picked up */
}

/* Our Received header is left out: pickup adds one that names the user. */
static int op_begin(void *ctx, struct session *s UNUSED, struct sv envelope, struct sv head UNUSED)
{
	struct alone *a = ctx;

	a->unwire = (struct smtp_unwire){ 0 };
	return droppipe_start(&a->pipe, a->p, NULL, envelope);
}

static char *op_room(void *ctx, struct session *s UNUSED, size_t *len_r)
{
	struct alone *a = ctx;

	*len_r = sizeof(a->room);
	return a->room;
}

static void op_advance(void *ctx, struct session *s UNUSED, size_t len)
{
	static char text[ROOM_BYTES + 1];
	struct alone *a = ctx;

	droppipe_put(&a->pipe, text, smtp_unwire(&a->unwire, a->room, len, text));
}

static void op_end(void *ctx, struct session *s UNUSED)
{
	struct alone *a = ctx;

	a->ended = true;
}

static void op_abort(void *ctx, struct session *s UNUSED)
{
	struct alone *a = ctx;

	droppipe_abort(&a->pipe);
}

static void *op_dns(void *ctx UNUSED, struct session *s, const char *name UNUSED,
		    uint16_t rrtype UNUSED)
{
	struct policy_dns temp = { .status = POLICY_DNS_TEMP };

	session_dns_answer(s, &temp);
	return NULL;
}

static void op_dns_cancel(void *ctx UNUSED, void *query UNUSED)
{
}

static unsigned op_rate(void *ctx UNUSED, struct session *s UNUSED, enum client_rate kind UNUSED)
{
	return 0;
}

/* ---- the session ---- */

/* postdrop has the message, or not. */
static void finish(struct alone *a)
{
	char name[MAILDROP_NAME_SIZE];
	int status = droppipe_end(&a->pipe, name);
	bool temp = status != EX_UNAVAILABLE && status != EX_DATAERR && status != EX_NOPERM;
	const uint8_t dsn[3] = { temp ? 4 : 5,
				 temp                       ? 3
				 : status == EX_UNAVAILABLE ? 3
							    : 7,
				 temp                       ? 0
				 : status == EX_UNAVAILABLE ? 4
							    : 1 };

	a->ended = false;
	if (status == 0)
		session_submit_done(&a->s, SUBMIT_OK, 250, dsn, sv_from(name));
	else
		session_submit_done(&a->s, temp ? SUBMIT_TEMPFAIL : SUBMIT_PERMFAIL,
				    temp                       ? 451
				    : status == EX_UNAVAILABLE ? 552
							       : 554,
				    dsn,
				    temp ? SV("Error: queue file write error")
				    : status == EX_UNAVAILABLE
					    ? SV("Message size exceeds fixed limit")
					    : SV("Error: message not taken"));
}

static bool write_out(struct alone *a)
{
	size_t len = a->s.out.len;

	if (len > 0 && io_write_all(STDOUT_FILENO, a->s.out.p, len) != 0)
		return false;
	if (len > 0)
		session_output_done(&a->s, len);
	return true;
}

/* Wait for input or time. False: the user has gone. */
static bool take_input(struct alone *a)
{
	static char data[ROOM_BYTES];
	bool wants = session_wants_input(&a->s);
	struct pollfd pfd = { wants ? STDIN_FILENO : -1, POLLIN, 0 };
	int64_t wait_ms = session_next_ms(&a->s) - clock_mono().ms;
	int n = poll(&pfd, 1, wait_ms > 60000 ? 60000 : wait_ms < 0 ? 0 : (int)wait_ms);

	clock_tick();
	if (n < 0 && errno != EINTR)
		return false;
	if (n > 0) {
		ssize_t got = read(STDIN_FILENO, data, sizeof(data));

		if (got < 0)
			return errno == EINTR || errno == EAGAIN;
		if (got == 0)
			session_eof(&a->s);
		else
			session_input(&a->s, data, (size_t)got);
	} else {
		session_tick(&a->s);
	}
	return true;
}

static void serve(struct alone *a)
{
	struct sockaddr_in self = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct session_ops ops = { .may_accept = op_may_accept,
					 .new_qid = op_new_qid,
					 .begin = op_begin,
					 .room = op_room,
					 .advance = op_advance,
					 .end = op_end,
					 .abort = op_abort,
					 .dns = op_dns,
					 .dns_cancel = op_dns_cancel,
					 .rate = op_rate,
					 .ctx = a };

	session_init(&a->s, &a->listener, &ops, (const struct sockaddr *)&self);
	session_name_known(&a->s, "localhost", POLICY_NAME_OK, "localhost", POLICY_NAME_OK);
	session_greet(&a->s);
	while (!session_is_over(&a->s) && write_out(a)) {
		if (session_is_over(&a->s))
			break;
		if (a->ended)
			finish(a);
		else if (a->s.out.len == 0 && !take_input(a))
			break;
	}
	session_fini(&a->s);
	droppipe_abort(&a->pipe);
}

/* The session's own lines are for a server's log; the user sees what is wrong. */
static void only_warnings(void *ctx UNUSED, enum log_level level, const char *program,
			  const char *text, size_t len)
{
	if (level >= LOG_LEVEL_ERROR)
		fprintf(stderr, "%s: %.*s\n", program, (int)len, text);
}

int standalone_main(void)
{
	struct alone *a = &the_alone;
	struct conf_diag d;

	command_start("smtpd", EX_TEMPFAIL);
	log_set_sink(only_warnings, NULL);
	struct conf *c = command_conf(NULL);

	if (!command_user_may(c, "authorized_submit_users", getuid()))
		command_fatal("User %s(%u) is not allowed to submit mail", command_user(getuid()),
			      (unsigned)getuid());
	a->p = conf_params(c);
	a->ids.life = 1;
	conf_diag_init(&d);
	if (listener_init_alone(&a->listener, c, &d) != 0)
		command_fatal("%s", buf_cstr(&d.text));
	conf_diag_fini(&d);
	serve(a);
	listener_fini(&a->listener);
	conf_free(&c);
	return 0;
}
