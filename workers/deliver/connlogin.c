/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Logins of connections; see workers/deliver/connlogin.h. */
#include "workers/deliver/connlogin.h"

#include <stdlib.h>

#include "conf/map_remote.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/login.h"
#include "workers/deliver/saslmech.h"
#include "workers/tables/client.h"

struct conn_login {
	enum map_status status;
	struct client_login client;
	struct map_memo *memo;
	struct tables_fetch *fetch;
};

static void look_up(struct conn *c, unsigned alt, const char *host)
{
	struct conn_login *x = c->login;
	const char *nexthop = c->dest->alts[alt].text;

	x->status =
		login_find(c->dest->t->login, c->job->env.sender, host,
			   nexthop != NULL ? nexthop : "", &x->client.user, &x->client.password);
}

static void answered(void *ctx)
{
	struct conn *c = ctx;

	c->login->fetch = NULL;
	conn_next_host(c);
}

bool conn_login_plan(struct conn *c, unsigned alt, const char *host)
{
	const struct login_conf *lc = c->dest->t->login;
	struct conn_login *x = c->login;
	bool missing = lc != NULL && lc->remote;

	if (lc == NULL)
		return true;
	if (x == NULL)
		c->login = x = xcalloc(1, sizeof(*x));
	x->client.conf = &lc->client;
	if (!missing)
		look_up(c, alt, host);
	else if (x->memo == NULL)
		x->memo = map_memo_new();
	while (missing) {
		map_memo_enter(x->memo);
		look_up(c, alt, host);
		missing = map_memo_leave();
		if (!missing)
			break;
		x->fetch = tables_fetch(c->d->tables, x->memo, answered, c);
		if (x->fetch != NULL) {
			c->state = CONN_ROUTING;
			return false;
		}
	}
	map_memo_free(&x->memo);
	return true;
}

bool conn_login_is_known(struct conn *c)
{
	struct client_fault f = { .dsn = { 4, 3, 0 } };
	struct buf *b = &c->d->scratch;
	char id[QID_TEXT_SIZE];

	if (c->login == NULL || c->login->status != MAP_ERROR)
		return true;
	log_warn("%s: %s lookup error", qid_format(c->job->qid, id), c->dest->t->login->param);
	buf_reset(b);
	buf_printf(b, "local data error while talking to %s", c->namaddr);
	f.text = buf_sv(b);
	job_failed(c->job, SV("none"), &f);
	return false;
}

bool conn_login_is_wanted(const struct conn *c)
{
	return c->login != NULL && c->login->status == MAP_FOUND;
}

bool conn_login_is_single(const struct conn *c)
{
	return c->dest->t->login != NULL && c->dest->t->login->by_sender;
}

void conn_login_attach(struct conn *c)
{
	if (!conn_login_is_wanted(c))
		return;
	c->login->client.server = c->relay;
	c->client.login = &c->login->client;
}

void conn_login_close(struct conn *c)
{
	struct conn_login *x = c->login;

	if (x == NULL)
		return;
	c->login = NULL;
	if (x->fetch != NULL)
		tables_cancel(x->fetch);
	map_memo_free(&x->memo);
	sasl_wipe(&x->client.user);
	sasl_wipe(&x->client.password);
	sasl_wipe(&x->client.response);
	buf_fini(&x->client.offered);
	free(x);
}
