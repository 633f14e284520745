/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Commands that expansions run. See
 * workers/local/expand_int.h. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/mailaddr.h"
#include "workers/local/cmdstatus.h"
#include "workers/local/expand_int.h"

#define ENV_WORDS 40

static const struct params *params_of(const struct expansion *x)
{
	return x->r->job->l->w->params;
}

static void command_ended(void *ctx, const struct command_end *e)
{
	struct expansion *x = ctx;
	struct command_verdict v = { 0 };
	struct buf text = BUF_INIT;

	x->busy = false;
	io_close(&x->read_fd);
	if (e->how == COMMAND_TIMED_OUT)
		counter_add(x->r->job->l->w->counters, CTR_deliver_commands_ended, 1);
	command_judge(e, sv_from(x->what), &v);
	if (v.dsn[0] == 2)
		buf_printf(&text, "delivered to command: %s", x->what);
	else
		buf_add_sv(&text, buf_sv(&v.text));
	expand_result(x, x->to, v.dsn, buf_sv(&text));
	buf_fini(&v.text);
	buf_fini(&v.diag);
	buf_fini(&text);
	expand_step(x);
}

static void add_env(struct expansion *x, const char **env, size_t *n, const char *name,
		    struct sv value)
{
	const char *filter = params_of(x)->command_expansion_filter;
	struct buf b = BUF_INIT;

	if (value.len == 0 || *n + 1 >= ENV_WORDS)
		return;
	buf_printf(&b, "%s=", name);
	for (size_t i = 0; i < value.len; i++)
		buf_add_c(&b, value.p[i] != '\0' && strchr(filter, value.p[i]) != NULL ? value.p[i]
										       : '_');
	env[*n] = arena_strndup(&x->r->job->arena, b.p, b.len);
	if (env[*n] != NULL)
		++*n;
	buf_fini(&b);
}

static const char *const *make_env(struct expansion *x, const struct origin *from)
{
	const char **env = arena_calloc(&x->r->job->arena, ENV_WORDS * sizeof(*env));
	const struct envelope *e = &x->r->job->env;
	const struct env_rcpt *rcpt = x->r->rcpt;
	struct sv local, domain, base, ext;
	size_t n = 0;

	if (env == NULL)
		return NULL;
	while (x->r->job->l->pipe_env[n] != NULL && n < ENV_WORDS / 2) {
		env[n] = x->r->job->l->pipe_env[n];
		n++;
	}
	mail_addr_split(x->to, &local, &domain);
	mail_addr_split_ext(local, params_of(x)->recipient_delimiter, &base, &ext);
	struct sv who = from->user != NULL    ? sv_from(from->user)
			: from->alias != NULL ? sv_from(from->alias)
					      : base;

	add_env(x, env, &n, "HOME", sv_from(from->home != NULL ? from->home : ""));
	add_env(x, env, &n, "SHELL", sv_from(from->shell != NULL ? from->shell : ""));
	add_env(x, env, &n, "LOGNAME", who);
	add_env(x, env, &n, "USER", who);
	add_env(x, env, &n, "LOCAL", local);
	add_env(x, env, &n, "EXTENSION", ext);
	add_env(x, env, &n, "DOMAIN", domain);
	add_env(x, env, &n, "RECIPIENT", x->to);
	add_env(x, env, &n, "ORIGINAL_RECIPIENT",
		rcpt->orig_addr.len > 0 ? rcpt->orig_addr : rcpt->addr);
	add_env(x, env, &n, "SENDER", e->sender.len > 0 ? e->sender : SV("MAILER-DAEMON"));
	add_env(x, env, &n, "CLIENT_ADDRESS", e->client_addr);
	add_env(x, env, &n, "CLIENT_HELO", e->helo);
	add_env(x, env, &n, "CLIENT_HOSTNAME", e->client_name);
	add_env(x, env, &n, "CLIENT_PROTOCOL", e->proto);
	add_env(x, env, &n, "SASL_METHOD", e->sasl_method);
	add_env(x, env, &n, "SASL_SENDER", e->sasl_sender);
	add_env(x, env, &n, "SASL_USERNAME", e->sasl_user);
	return env;
}

/* "shell words -c command", by /bin/sh without local_command_shell. */
static const char *const *make_argv(struct expansion *x, const char *command)
{
	struct arena *a = &x->r->job->arena;
	const char *shell = params_of(x)->local_command_shell;
	const char **argv;
	size_t n = 0;

	if (shell[0] == '\0')
		shell = "/bin/sh -c";
	argv = arena_calloc(a, (strlen(shell) + 2) * sizeof(*argv));
	while (argv != NULL && *shell != '\0') {
		size_t len;

		shell += strspn(shell, " \t");
		len = strcspn(shell, " \t");
		if (len > 0)
			argv[n++] = arena_strndup(a, shell, len);
		shell += len;
	}
	if (argv != NULL)
		argv[n] = command;
	return argv;
}

static int make_input(struct expansion *x, const struct origin *from)
{
	uint64_t len;
	int err;

	x->read_fd = memfd_create("mail", MFD_CLOEXEC);
	if (x->read_fd < 0)
		return err_errno();
	buf_reset(&x->header);
	rcpt_make_header(x->r, true, expand_delivered_to(x, PREPEND_COMMAND, from), &x->header);
	err = io_write_all(x->read_fd, x->header.p, x->header.len);
	return err != 0 ? err : job_copy_body(x->r->job, 0, SV("\n"), x->read_fd, &len);
}

void expand_command(struct expansion *x, const char *command, const struct origin *from)
{
	const char *where = params_of(x)->command_execution_directory;
	const char *const *argv = make_argv(x, command), *const * env;
	const char *dir = params_of(x)->queue_directory;

	if (x->to.len == 0 || from->alias != NULL)
		x->to = x->r->rcpt->addr;
	env = make_env(x, from);
	x->what = command;
	if (expand_is_probe(x)) {
		expand_fail(x, x->to, "2.0.0", "delivers to command: %s", command);
		return;
	}
	if (where[0] != '\0') {
		if (!expand_names(x, sv_from(where),
				  params_of(x)->execution_directory_expansion_filter, false, NULL,
				  &x->scratch)) {
			expand_fail(x, x->to, "4.3.5",
				    "mail system configuration error: "
				    "command_execution_directory");
			return;
		}
		dir = arena_strdup(&x->r->job->arena, buf_cstr(&x->scratch));
	}
	if (command == NULL || argv == NULL || env == NULL || dir == NULL ||
	    make_input(x, from) != 0) {
		io_close(&x->read_fd);
		expand_fail(x, x->to, "4.3.0", "cannot prepare the command");
		return;
	}
	x->command = (struct command){ .uid = from->rights.uid,
				       .gid = from->rights.gid,
				       .directory = dir,
				       .argv = argv,
				       .env = env,
				       .input_fd = x->read_fd,
				       .time_limit_ms = params_of(x)->command_time_limit,
				       .done = command_ended,
				       .ctx = x };
	x->busy = true;
	counter_add(x->r->job->l->w->counters, CTR_deliver_commands, 1);
	command_submit(x->r->job->l->commands, &x->command);
}
