/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What expansions do: deliver to mailboxes and files, send mail on. Lists are read in
 * expand_list.c, commands run in expand_run.c. See workers/local/expand_int.h. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conf/map.h"
#include "conf/map_remote.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/mailaddr.h"
#include "workers/local/biff.h"
#include "workers/local/expand_int.h"
#include "workers/mail/date.h"

static const struct params *params_of(const struct expansion *x)
{
	return x->r->job->l->w->params;
}

/* ---- mailboxes ---- */

static void delivered(void *ctx, struct delivery *d UNUSED, const struct maildir_result *res)
{
	struct expansion *x = ctx;
	struct buf text = BUF_INIT;

	x->busy = false;
	x->unsure = x->unsure || res->unsure != 0;
	if (x->what == NULL && res->dsn[0] == 2 && x->delivery.kind == AGENT_MBOX)
		biff_tell(x->r->job->l->biff_fd, x->user.name, res->offset);
	if (x->what != NULL && res->dsn[0] == 2)
		buf_printf(&text, "delivered to file: %s", x->what);
	else
		buf_add_str(&text, res->text);
	expand_result(x, x->to, res->dsn, buf_sv(&text));
	buf_fini(&text);
	expand_step(x);
}

bool expand_is_verified(const struct expansion *x)
{
	return x->r->job->env.verify.len > 0;
}

bool expand_is_probe(const struct expansion *x)
{
	return (x->r->job->env.flags & ENVF_PROBE) != 0;
}

struct sv expand_delivered_to(const struct expansion *x, unsigned what, const struct origin *from)
{
	return (lookup_prepends(x->k) & what) != 0 ? expand_delivered(x, from) : SV("");
}

static void deliver_to(struct expansion *x, const struct target *t, const struct origin *from)
{
	struct job *j = x->r->job;

	x->ext = SV("");
	if (expand_is_probe(x)) {
		expand_fail(x, x->to, "2.0.0", "delivers to %s",
			    x->what != NULL ? x->what
			    : t->is_mbox    ? "mailbox"
					    : "maildir");
		return;
	}
	buf_reset(&x->header);
	rcpt_make_header(x->r, t->is_mbox, expand_delivered_to(x, PREPEND_FILE, from), &x->header);
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

void expand_mailbox(struct expansion *x)
{
	struct job *j = x->r->job;
	struct buf command = BUF_INIT;
	struct target *t = &x->r->target;
	struct origin *o = expand_origin(x, NULL);

	if (o == NULL || expand_seen(x, "mailbox", sv_from(x->user.name)))
		return;
	o->delivered = x->from != NULL ? x->from->delivered : NULL;
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
		o->rights = x->user.rights;
		o->home = arena_strdup(&j->arena, x->user.home);
		o->shell = arena_strdup(&j->arena, x->user.shell);
		o->user = arena_strdup(&j->arena, x->user.name);
		expand_command(x, arena_strdup(&j->arena, buf_cstr(&command)), o);
	} else {
		if (!params_of(x)->frozen_delivered_to)
			o->delivered = x->to.p;
		target_find(j->l->targets, j->transport, x->to, t);
		if (t->found)
			deliver_to(x, t, o);
		else
			expand_result(x, x->to, t->dsn, sv_from(t->text));
	}
	buf_fini(&command);
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
	deliver_to(x, t, from);
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
static void add_trace(struct expansion *x, struct sv delivered, const struct forward *m)
{
	size_t mark;

	buf_printf(&x->header, "Received: by %s (%s)\r\n\tid %s; ", params_of(x)->myhostname,
		   params_of(x)->mail_name, m->id);
	mail_date_add(clock_now_wall().us / 1000000, &x->header);
	buf_add_str(&x->header, "\r\n");
	if ((lookup_prepends(x->k) & PREPEND_FORWARD) == 0)
		return;
	buf_add_str(&x->header, "Delivered-To: ");
	mark = x->header.len;
	mail_addr_quote(delivered, &x->header);
	str_lower(x->header.p + mark, x->header.len - mark);
	buf_add_str(&x->header, "\r\n");
}

bool expand_forward(struct expansion *x, struct forward_group *g)
{
	struct job *j = x->r->job;
	struct forward *m = &x->forward;

	if (expand_is_probe(x)) {
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
		add_trace(x, g->delivered != NULL ? sv_from(g->delivered) : x->r->rcpt->addr, m);
	m->head = buf_sv(&x->header);
	x->busy = x->starting = true;
	forward_submit(m);
	x->starting = false;
	return x->busy;
}
