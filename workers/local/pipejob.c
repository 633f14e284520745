/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Deliveries of pipe(8) services: one command for all recipients of a job. Called by job.c. */
#include <string.h>
#include <sys/mman.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "workers/local/job_int.h"
#include "workers/local/mailcopy.h"

static void verdict_for_all(struct job *j, const uint8_t dsn[3], struct sv text)
{
	for (size_t i = 0; i < j->rcpt_count; i++)
		rcpt_set_verdict(&j->rcpts[i], dsn, text);
}

PRINTF_LIKE(5, 6)
static void fail_all(struct job *j, uint8_t d0, uint8_t d1, uint8_t d2, const char *fmt, ...)
{
	struct buf text = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	verdict_for_all(j, (const uint8_t[]){ d0, d1, d2 }, buf_sv(&text));
	buf_fini(&text);
	job_finish(j);
}

/* ---- what the command reads ---- */

/* The message as the service's flags want it, in a memory file of its own: commands share no
 * position with each other. */
static int make_input(struct job *j, const struct piped *p)
{
	const struct env_rcpt *first = j->rcpts[0].rcpt;
	struct copy_head h = {
		.flags = p->copy_flags,
		.eol = p->eol,
		.sender = j->env.sender,
		.null_sender = sv_from(p->null_sender),
		.null_from = sv_from(p->null_sender[0] != '\0' ? p->null_sender : "MAILER-DAEMON"),
		.original_to = first->orig_addr.len > 0 ? first->orig_addr : first->addr,
		.delivered = first->addr,
		.now_s = clock_now_wall().us / 1000000
	};
	uint64_t len;
	struct buf head = BUF_INIT;
	int err = 0;

	if (!j->transport->params->enable_original_recipient)
		h.flags &= ~(unsigned)COPY_ORIGINAL_TO;
	j->pipe.input_fd = memfd_create("mail", MFD_CLOEXEC);
	if (j->pipe.input_fd < 0)
		return err_errno();
	copy_add_head(&h, &head);
	err = io_write_all(j->pipe.input_fd, head.p, head.len);
	buf_fini(&head);
	if (err == 0)
		err = job_copy_body(j, p->copy_flags, p->eol, j->pipe.input_fd, &len);
	return err;
}

/* ---- the command ---- */

static void set_sent(struct job *j, const struct piped *p, const struct command_verdict *v,
		     struct buf *text)
{
	buf_printf(text, "delivered via %s service", p->name);
	if (v->text.len > 0)
		buf_printf(text, " (%s)", buf_cstr(&v->text));
	verdict_for_all(j, v->dsn, buf_sv(text));
	for (size_t i = 0; i < j->rcpt_count; i++)
		j->rcpts[i].verdict.mta = p->flags & PIPED_FINAL ? "none" : OUTCOME_MTA_RELAY;
}

static void set_failed(struct job *j, const struct command_verdict *v)
{
	const char *diag = arena_strndup(&j->arena, buf_cstr(&v->diag), v->diag.len);

	verdict_for_all(j, v->dsn, buf_sv(&v->text));
	for (size_t i = 0; i < j->rcpt_count; i++) {
		struct verdict *r = &j->rcpts[i].verdict;

		r->mta = OUTCOME_MTA_COMMAND;
		if (diag != NULL)
			r->diag = (struct sv){ diag, v->diag.len };
	}
}

static void command_done(void *ctx, const struct command_end *e)
{
	struct job *j = ctx;
	const struct piped *p = j->l->pipes[j->p.transport];
	struct command_verdict v = { 0 };
	struct buf text = BUF_INIT;

	if (e->how == COMMAND_TIMED_OUT)
		counter_add(j->l->w->counters, CTR_deliver_commands_ended, 1);
	command_judge(e, j->pipe.name, &v);
	if (v.dsn[0] == 2)
		set_sent(j, p, &v, &text);
	else
		set_failed(j, &v);
	buf_fini(&v.text);
	buf_fini(&v.diag);
	buf_fini(&text);
	job_finish(j);
}

static int make_argv(struct job *j, const struct piped *p, const char ***argv_r)
{
	const struct env_rcpt **rcpts = arena_alloc(&j->arena, j->rcpt_count * sizeof(*rcpts));
	char id[QID_TEXT_SIZE];
	struct piped_mail m = { .env = &j->env,
				.rcpts = rcpts,
				.rcpt_count = j->rcpt_count,
				.nexthop = sv_from(j->nexthop),
				.queue_id = sv_from(qid_format(j->id, id)),
				.size = j->content_len,
				.delimiters = j->l->w->params->recipient_delimiter };
	size_t argc;

	if (rcpts == NULL)
		return E_LIMIT;
	for (size_t i = 0; i < j->rcpt_count; i++)
		rcpts[i] = j->rcpts[i].rcpt;
	return piped_expand(p, &m, &j->arena, argv_r, &argc);
}

void pipe_start(struct job *j)
{
	const struct piped *p = j->l->pipes[j->p.transport];
	const struct params *params = j->transport->params;
	const char **argv;
	int err;

	if (j->rcpt_count == 0) {
		job_finish(j);
		return;
	}
	if (p->problem != NULL) {
		fail_all(j, 4, 3, 5, "mail system configuration error: %s", p->problem);
		return;
	}
	if (p->size_limit > 0 && j->content_len > p->size_limit) {
		fail_all(j, 5, 2, 3, "message too large");
		return;
	}
	if (p->copy_flags & COPY_DELIVERED_TO && job_is_loop(j, j->rcpts[0].rcpt->addr)) {
		fail_all(j, 5, 4, 6, "mail forwarding loop for %.*s",
			 (int)j->rcpts[0].rcpt->addr.len, j->rcpts[0].rcpt->addr.p);
		return;
	}
	err = make_argv(j, p, &argv);
	if (err == 0)
		err = make_input(j, p);
	if (err != 0) {
		fail_all(j, 4, 3, 0, "cannot prepare the command: %s", err_str(err));
		return;
	}
	io_close(&j->content_fd); /* the command has its own */
	j->pipe.name = sv_from(argv[0]);
	j->pipe.command = (struct command){
		.uid = p->uid,
		.gid = p->gid,
		.directory = p->directory[0] != '\0' ? p->directory : params->queue_directory,
		.argv = argv,
		.env = j->l->pipe_env,
		.input_fd = j->pipe.input_fd,
		.time_limit_ms = j->transport->command_time_limit_ms,
		.done = command_done,
		.ctx = j,
	};
	counter_add(j->l->w->counters, CTR_deliver_commands, 1);
	command_submit(j->l->commands, &j->pipe.command);
}
