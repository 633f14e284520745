/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What expansions do: read lists, deliver to mailboxes, files and commands, send mail on. See
 * workers/local/expand_int.h. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/map.h"
#include "conf/map_remote.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/local/cmdstatus.h"
#include "workers/local/expand_int.h"
#include "workers/local/mailcopy.h"
#include "workers/local/readfile.h"
#include "workers/mail/date.h"

#define ENV_WORDS 40

static const struct params *params_of(const struct expansion *x)
{
	return x->r->job->l->w->params;
}

/* ---- names in forward_path, luser_relay, command_execution_directory ---- */

struct names {
	const struct expansion *x;
	const char *filter;
	bool undefined;
	struct buf value;
};

static const char *name_value(void *ctx, struct sv name)
{
	struct names *n = ctx;
	const struct expansion *x = n->x;
	struct sv ext = x->ext, local, domain;
	char delimiter[2] = { 0 };

	mail_addr_split(x->to, &local, &domain);
	if (ext.len > 0)
		delimiter[0] = local.p[local.len - ext.len - 1];
	const struct {
		const char *name;
		struct sv value;
	} known[] = {
		{ "user", sv_from(x->user.name) },
		{ "home", sv_from(x->user.home) },
		{ "shell", sv_from(x->user.shell) },
		{ "local", local },
		{ "domain", domain },
		{ "recipient", x->to },
		{ "extension", ext },
		{ "recipient_delimiter", sv_from(delimiter) },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (!sv_eq_str(name, known[i].name))
			continue;
		n->undefined = n->undefined || known[i].value.len == 0;
		buf_reset(&n->value);
		for (size_t k = 0; k < known[i].value.len; k++) {
			char c = known[i].value.p[k];

			buf_add_c(&n->value, c != '\0' && strchr(n->filter, c) != NULL ? c : '_');
		}
		return buf_cstr(&n->value);
	}
	n->undefined = true;
	return NULL;
}

/* False: bad syntax, or (with `all`) a name without a value. */
static bool expand_names(struct expansion *x, struct sv text, const char *filter, bool all,
			 struct buf *out)
{
	struct names n = { .x = x, .filter = filter };

	buf_reset(out);
	int err = conf_expand_with(text, name_value, &n, out);

	buf_fini(&n.value);
	return err == 0 && !(all && n.undefined);
}

/* ---- reading lists ---- */

static void read_list(struct expansion *x, enum agent_kind kind, struct lookup_rights rights,
		      delivery_fn done)
{
	x->read_fd = memfd_create("list", MFD_CLOEXEC);
	x->delivery = (struct delivery){ .kind = kind,
					 .uid = rights.uid,
					 .gid = rights.gid,
					 .more_gid = AGENT_NO_GROUP,
					 .base = x->base,
					 .path = x->path,
					 .content_fd = x->read_fd,
					 .done = done,
					 .ctx = x };
	x->busy = true;
	pool_submit(x->r->job->l->pool, &x->delivery);
}

/* What was read; x->scratch. */
static struct sv list_text(struct expansion *x)
{
	buf_reset(&x->scratch);
	if (lseek(x->read_fd, 0, SEEK_SET) < 0 ||
	    io_read_to_buf(x->read_fd, READFILE_MAX, &x->scratch) != 0)
		buf_reset(&x->scratch);
	io_close(&x->read_fd);
	return buf_sv(&x->scratch);
}

/* base and path of an absolute path; below `home` when it is there. */
static bool split_path(struct expansion *x, struct sv path, const char *home)
{
	size_t n = home != NULL ? strlen(home) : 0;

	if (n > 1 && path.len > n + 1 && memcmp(path.p, home, n) == 0 && path.p[n] == '/')
		return str_copy(x->base, sizeof(x->base), sv_from(home)) &&
		       str_copy(x->path, sizeof(x->path),
				(struct sv){ path.p + n + 1, path.len - n - 1 });
	return path.len > 1 && path.p[0] == '/' && str_copy(x->base, sizeof(x->base), SV("/")) &&
	       str_copy(x->path, sizeof(x->path), (struct sv){ path.p + 1, path.len - 1 });
}

/* ---- mailboxes ---- */

static void delivered(void *ctx, struct delivery *d UNUSED, const struct maildir_result *res)
{
	struct expansion *x = ctx;
	struct buf text = BUF_INIT;

	x->busy = false;
	x->unsure = x->unsure || res->unsure != 0;
	if (x->what != NULL && res->dsn[0] == 2)
		buf_printf(&text, "delivered to file: %s", x->what);
	else
		buf_add_str(&text, res->text);
	expand_result(x, x->to, res->dsn, buf_sv(&text));
	buf_fini(&text);
	expand_step(x);
}

static bool is_probe(const struct expansion *x)
{
	return (x->r->job->env.flags & ENVF_PROBE) != 0;
}

static void deliver_to(struct expansion *x, const struct target *t)
{
	struct job *j = x->r->job;

	x->ext = SV("");
	if (is_probe(x)) {
		expand_fail(x, x->to, "2.0.0", "delivers to %s",
			    x->what != NULL ? x->what
			    : t->is_mbox    ? "mailbox"
					    : "maildir");
		return;
	}
	buf_reset(&x->header);
	rcpt_make_header(x->r, t->is_mbox, &x->header);
	if (t->size_limit > 0 && j->content_len + x->header.len > t->size_limit) {
		expand_fail(x, x->to, "5.2.2", "message is larger than the mailbox size limit");
		return;
	}
	if (t->is_mbox && job_mbox_content(j) != 0) {
		expand_fail(x, x->to, "4.3.0", "cannot prepare the message");
		return;
	}
	str_copy(x->base, sizeof(x->base), sv_from(t->base));
	str_copy(x->path, sizeof(x->path), sv_from(t->path));
	x->delivery = (struct delivery){ .kind = t->is_mbox ? AGENT_MBOX : AGENT_MAILDIR,
					 .uid = t->uid,
					 .gid = t->gid,
					 .more_gid = t->more_gid,
					 .base = x->base,
					 .path = x->path,
					 .mbox = t->mbox,
					 .user = x->user.name,
					 .header = buf_sv(&x->header),
					 .content_fd = t->is_mbox ? j->mbox_fd : j->content_fd,
					 .content_len = t->is_mbox ? j->mbox_len : j->content_len,
					 .done = delivered,
					 .ctx = x };
	x->busy = true;
	pool_submit(j->l->pool, &x->delivery);
}

/* Remote tables have been asked when the address was looked up. */
static enum map_status mailbox_command(struct expansion *x, struct buf *out, bool *pass_r)
{
	bool enter = x->memo != NULL && !x->in_memo;
	enum map_status st;

	if (enter)
		map_memo_enter(x->memo);
	st = lookup_mailbox_transport(x->k, sv_from(x->user.name), out);
	*pass_r = st == MAP_FOUND && out->len > 0;
	if (st != MAP_ERROR && !*pass_r)
		st = lookup_mailbox_command(x->k, sv_from(x->user.name), out);
	if (enter)
		map_memo_leave();
	return st;
}

static void deliver_mailbox(struct expansion *x)
{
	struct job *j = x->r->job;
	struct buf command = BUF_INIT;
	struct target *t = &x->r->target;

	if (expand_seen(x, "mailbox", sv_from(x->user.name)))
		return;
	bool pass;
	enum map_status st = mailbox_command(x, &command, &pass);

	if (st == MAP_NOT_FOUND && params_of(x)->mailbox_command[0] != '\0') {
		buf_add_str(&command, params_of(x)->mailbox_command);
		st = MAP_FOUND;
	}
	x->what = NULL;
	if (pass) {
		expand_pass(x, x->to, sv_trim(buf_sv(&command)));
	} else if (st == MAP_ERROR) {
		expand_fail(x, x->to, "4.3.0", "mailbox table lookup failed");
	} else if (st == MAP_FOUND) {
		struct origin *o = expand_origin(x, NULL);

		if (o != NULL) {
			o->rights = x->user.rights;
			o->home = arena_strdup(&j->arena, x->user.home);
			o->shell = arena_strdup(&j->arena, x->user.shell);
			o->user = arena_strdup(&j->arena, x->user.name);
			expand_command(x, arena_strdup(&j->arena, buf_cstr(&command)), o);
		}
	} else {
		target_find(j->l->targets, j->transport, x->to, t);
		if (t->found)
			deliver_to(x, t);
		else
			expand_result(x, x->to, t->dsn, sv_from(t->text));
	}
	buf_fini(&command);
}

/* ---- .forward ---- */

static void next_forward(struct expansion *x);

static void forward_read(void *ctx, struct delivery *d UNUSED, const struct maildir_result *res)
{
	struct expansion *x = ctx;
	struct job *j = x->r->job;
	size_t before = x->item_count;
	struct sv text = list_text(x);

	x->busy = false;
	if (res->err == E_INVAL)
		log_warn("%s", res->text);
	if (res->err == 0) {
		struct origin *o = expand_origin(x, x->from);

		if (o != NULL) {
			o->allow = ALLOW_FORWARD;
			o->rights = x->user.rights.uid != 0 ? x->user.rights : lookup_default(x->k);
			o->user = arena_strdup(&j->arena, x->user.name);
			o->home = arena_strdup(&j->arena, x->user.home);
			o->shell = arena_strdup(&j->arena, x->user.shell);
			o->sender = NULL;
			o->indirect = true;
			expand_add_list(x, text, o);
		}
		if (x->item_count == before && !x->full)
			deliver_mailbox(x);
	} else if (res->err == E_NOENT || res->err == E_INVAL || res->err == -EACCES) {
		next_forward(x);
	} else {
		expand_fail(x, x->to, "4.3.0", "%s", res->text);
	}
	expand_step(x);
}

/* The next file of forward_path, else the mailbox. */
static void next_forward(struct expansion *x)
{
	const char *list = params_of(x)->forward_path;
	struct buf path = BUF_INIT;
	unsigned n = 0;

	while (*list != '\0') {
		size_t len;

		list += strspn(list, ", \t\r\n");
		len = strcspn(list, ", \t\r\n");
		struct sv entry = { list, len };

		list += len;
		if (len == 0 || n++ < x->forward_path_at)
			continue;
		x->forward_path_at = n;
		if (expand_names(x, entry, params_of(x)->forward_expansion_filter, true, &path) &&
		    (x->ext.len == 0 || memchr(x->ext.p, '/', x->ext.len) == NULL) &&
		    split_path(x, buf_sv(&path), x->user.home)) {
			buf_fini(&path);
			read_list(x, AGENT_READ_OWN, x->user.rights, forward_read);
			return;
		}
	}
	buf_fini(&path);
	deliver_mailbox(x);
}

void expand_user(struct expansion *x, struct sv ext, struct sv to, const struct origin *from)
{
	x->to = to;
	x->from = from;
	x->ext = SV("");
	if (ext.len > 0) { /* a view into `to`, which stays */
		struct sv local, rest;

		mail_addr_split(to, &local, &rest);
		x->ext = (struct sv){ local.p + local.len - ext.len, ext.len };
	}
	x->forward_path_at = 0;
	if (!x->r->job->l->w->privileged && x->user.rights.uid != geteuid())
		expand_fail(x, to, "4.2.0", "cannot deliver to user %s: not running as root",
			    x->user.name);
	else if (expand_is_own(from, x->user.name))
		deliver_mailbox(x);
	else
		next_forward(x);
}

void expand_luser(struct expansion *x, const char *relay, struct sv local, struct sv domain,
		  const struct origin *from)
{
	struct origin *o = expand_origin(x, from);
	struct buf to = BUF_INIT, out = BUF_INIT;
	struct sv base, ext;

	mail_addr_split_ext(local, params_of(x)->recipient_delimiter, &base, &ext);
	buf_add_sv(&to, local);
	buf_add_c(&to, '@');
	buf_add_sv(&to, domain);
	memset(&x->user, 0, sizeof(x->user));
	str_copy(x->user.name, sizeof(x->user.name), base);
	x->to = buf_sv(&to);
	x->ext = (struct sv){ to.p + local.len - ext.len, ext.len };
	if (!expand_names(x, sv_from(relay), params_of(x)->forward_expansion_filter, false, &out)) {
		expand_fail(x, x->to, "4.3.5", "mail system configuration error: luser_relay");
	} else if (o != NULL) {
		o->allow = ALLOW_ALIAS;
		o->rights = lookup_default(x->k);
		o->user = NULL;
		expand_add_list(x, buf_sv(&out), o);
	}
	x->to = x->r->rcpt->addr;
	x->ext = SV("");
	buf_fini(&to);
	buf_fini(&out);
}

/* ---- :include: ---- */

static void include_read(void *ctx, struct delivery *d UNUSED, const struct maildir_result *res)
{
	struct expansion *x = ctx;
	struct sv text = list_text(x);

	x->busy = false;
	if (res->err == 0) {
		struct origin *o = expand_origin(x, x->from);

		if (o != NULL) {
			o->allow |= ALLOW_INCLUDE;
			expand_add_list(x, text, o);
		}
	} else {
		bool for_good = res->err == E_NOENT || res->err == E_INVAL;

		log_warn("unable to lookup :include: file %s: %s", x->what, res->text);
		expand_fail(x, x->r->rcpt->addr, for_good ? "5.3.5" : "4.3.5",
			    "mail system configuration error");
	}
	expand_step(x);
}

void expand_include(struct expansion *x, const char *path, const struct origin *from)
{
	if (from == NULL || !split_path(x, sv_from(path), NULL)) {
		expand_fail(x, x->r->rcpt->addr, "5.3.5", "mail system configuration error");
		return;
	}
	x->what = path;
	x->from = from;
	read_list(x, AGENT_READ, from->rights, include_read);
}

/* ---- files ---- */

void expand_file(struct expansion *x, const char *path, const struct origin *from)
{
	struct target *t = &x->r->target;
	const char *slash;
	size_t n = strlen(path);

	x->to = x->r->rcpt->addr;
	x->what = path;
	if (strcmp(path, "/dev/null") == 0) {
		expand_result(x, x->to, (const uint8_t[]){ 2, 0, 0 },
			      SV("delivered to file: /dev/null"));
		return;
	}
	target_of_file(x->r->job->l->targets, t);
	/* a Maildir's last name is in front of the slash at the end */
	for (slash = path + n - (n > 1 ? 2 : 1); slash > path && *slash != '/';)
		slash--;
	t->is_mbox = path[n - 1] != '/';
	t->uid = from->rights.uid;
	t->gid = from->rights.gid;
	if (!t->is_mbox)
		t->size_limit = t->mbox.size_limit;
	if (!str_copy(t->base, sizeof(t->base),
		      slash == path ? SV("/") : (struct sv){ path, (size_t)(slash - path) }) ||
	    !str_copy(t->path, sizeof(t->path), sv_from(slash + 1))) {
		expand_fail(x, x->to, "5.2.0", "file name too long");
		return;
	}
	if (from->user == NULL)
		str_copy(x->user.name, sizeof(x->user.name),
			 sv_from(from->alias ? from->alias : ""));
	deliver_to(x, t);
}

/* ---- commands ---- */

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

static int make_input(struct expansion *x)
{
	uint64_t len;
	int err;

	x->read_fd = memfd_create("mail", MFD_CLOEXEC);
	if (x->read_fd < 0)
		return err_errno();
	buf_reset(&x->header);
	rcpt_make_header(x->r, true, &x->header);
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
	if (is_probe(x)) {
		expand_fail(x, x->to, "2.0.0", "delivers to command: %s", command);
		return;
	}
	if (where[0] != '\0') {
		if (!expand_names(x, sv_from(where),
				  params_of(x)->execution_directory_expansion_filter, false,
				  &x->scratch)) {
			expand_fail(x, x->to, "4.3.5",
				    "mail system configuration error: "
				    "command_execution_directory");
			return;
		}
		dir = arena_strdup(&x->r->job->arena, buf_cstr(&x->scratch));
	}
	if (command == NULL || argv == NULL || env == NULL || dir == NULL || make_input(x) != 0) {
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

/* ---- sending on ---- */

static void forwarded(void *ctx, const uint8_t dsn[3], struct sv text, bool unsure)
{
	struct expansion *x = ctx;

	x->busy = false;
	x->unsure = x->unsure || unsure;
	counter_add(x->r->job->l->w->counters, CTR_deliver_forwarded, dsn[0] == 2);
	x->passed = x->passed || (dsn[0] == 2 && x->group_now->sender == NULL);
	if (dsn[0] == 2 && x->group_now->transport != NULL)
		expand_fail(x, x->group_now->env.rcpts[0].addr, "2.0.0", "passed to %s as %s",
			    x->group_now->transport, x->forward.id);
	else if (dsn[0] == 2)
		expand_fail(x, x->r->rcpt->addr, "2.0.0", "forwarded as %s", x->forward.id);
	else
		expand_result(x, x->r->rcpt->addr, dsn, text);
	if (!x->starting)
		expand_step(x);
}

static void complete_envelope(const struct expansion *x, struct forward_group *g)
{
	const struct job *j = x->r->job;
	const struct env_rcpt *rcpt = x->r->rcpt;
	struct envelope *e = &g->env;
	struct env_rcpt *rcpts = e->rcpts;
	size_t count = e->rcpt_count;

	*e = (struct envelope){
		.sender = g->sender != NULL ? sv_from(g->sender) : j->env.sender,
		.client_name = j->env.client_name,
		.client_addr = j->env.client_addr,
		.client_port = j->env.client_port,
		.helo = j->env.helo,
		.proto = j->env.proto,
		.body = j->env.body,
		.flags = (j->env.flags & ENVF_SMTPUTF8) | ENVF_NO_CHECKS,
		.arrival_us = j->env.arrival_us,
		.rcpts = rcpts,
		.rcpt_count = count,
	};
	if (g->transport != NULL) {
		e->filter = sv_from(g->transport);
		e->flags |= ENVF_NO_RECIPIENT_MAPS;
	}
	if (g->sender != NULL)
		return;
	e->envid = j->env.envid;
	e->ret = j->env.ret;
	for (size_t i = 0; i < count; i++) {
		rcpts[i].orig_addr = rcpt->orig_addr.len > 0 ? rcpt->orig_addr : rcpt->addr;
		rcpts[i].orcpt = rcpt->orcpt;
		rcpts[i].notify = rcpt->notify;
	}
}

/* What is sent on shows where it has been. */
static void add_trace(struct expansion *x, const struct forward *m)
{
	buf_printf(&x->header, "Received: by %s (%s)\r\n\tid %s; ", params_of(x)->myhostname,
		   params_of(x)->mail_name, m->id);
	mail_date_add(clock_now_wall().us / 1000000, &x->header);
	buf_add_str(&x->header, "\r\nDelivered-To: ");
	mail_addr_quote(x->r->rcpt->addr, &x->header);
	buf_add_str(&x->header, "\r\n");
}

bool expand_forward(struct expansion *x, struct forward_group *g)
{
	struct job *j = x->r->job;
	struct forward *m = &x->forward;

	if (is_probe(x)) {
		for (size_t i = 0; i < g->env.rcpt_count; i++)
			expand_fail(x, x->r->rcpt->addr, "2.0.0", "forwards to %.*s",
				    (int)g->env.rcpts[i].addr.len, g->env.rcpts[i].addr.p);
		return false;
	}
	complete_envelope(x, g);
	x->group_now = g;
	*m = (struct forward){ .env = &g->env,
			       .content_fd = j->content_fd,
			       .content_len = j->content_len,
			       .done = forwarded,
			       .ctx = x };
	forward_name(j->l->forwarder, m);
	buf_reset(&x->header);
	if (g->transport == NULL)
		add_trace(x, m);
	m->head = buf_sv(&x->header);
	x->busy = x->starting = true;
	forward_submit(m);
	x->starting = false;
	return x->busy;
}
