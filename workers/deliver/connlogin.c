/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Logins of connections; see workers/deliver/connlogin.h. */
#include "workers/deliver/connlogin.h"

#include <stdlib.h>
#include <string.h>

#include "conf/map_remote.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/login.h"
#include "workers/deliver/sasllink.h"
#include "workers/deliver/saslmech.h"
#include "workers/tables/client.h"

struct conn_login {
	enum map_status status;
	struct client_login client;
	struct map_memo *memo;
	struct tables_fetch *fetch;
	struct sasl_asker asker;
	struct buf offered; /* what is to be chosen from, while nobody is there to choose */
	unsigned options;
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

/* ---- the saslclient worker ---- */

static struct sasl_secret secret_of(const struct conn_login *x)
{
	return (struct sasl_secret){ .user = buf_sv(&x->client.user),
				     .password = buf_sv(&x->client.password) };
}

static void ask_memory(void *ctx)
{
	struct conn *c = ctx;
	struct conn_login *x = c->login;
	const struct login_conf *lc = c->dest->t->login;
	struct sasl_secret s = secret_of(x);
	char mark[SASL_MARK_SIZE];

	sasl_mark(sv_from(c->host), &s, mark);
	const struct sv strings[4] = { sv_from(lc->cache), sv_from(c->host), s.user,
				       sv_from(mark) };

	sasl_link_find(c->d->sasl, &x->asker, strings, lc->cache_age_s);
}

static void recalled(void *ctx, const struct sasl_said_text *t)
{
	struct conn *c = ctx;
	bool known = t->what == SASL_SAID_KNOWN && t->mechanism.len > 0;

	counter_add(c->d->counters, CTR_deliver_logins_not_tried, known);
	client_login_recalled(&c->client, known ? t->mechanism : (struct sv){ "", 0 }, t->text);
	conn_go_on(c);
}

static bool on_recall(void *ctx)
{
	struct conn *c = ctx;

	if (c->dest->t->login->cache[0] == '\0')
		return false;
	c->login->asker.ask = ask_memory;
	c->login->asker.said = recalled;
	ask_memory(c);
	return true;
}

static void on_remember(void *ctx, struct sv reply)
{
	struct conn *c = ctx;
	const struct login_conf *lc = c->dest->t->login;
	struct sasl_secret s = secret_of(c->login);
	char mark[SASL_MARK_SIZE];

	if (lc->cache[0] == '\0')
		return;
	sasl_mark(sv_from(c->host), &s, mark);
	const struct sv strings[5] = { sv_from(lc->cache), sv_from(c->host), s.user, sv_from(mark),
				       reply };

	sasl_link_remember(c->d->sasl, strings);
}

static void log_lines(const struct conn *c, struct sv lines)
{
	while (lines.len > 0) {
		const char *end = memchr(lines.p, '\n', lines.len);
		size_t n = end != NULL ? (size_t)(end - lines.p) : lines.len;

		log_as(c->dest->t->program, LOG_LEVEL_WARN, "%.*s", (int)n, lines.p);
		n += end != NULL;
		lines = (struct sv){ lines.p + n, lines.len - n };
	}
}

static void said(void *ctx, const struct sasl_said_text *t)
{
	struct conn *c = ctx;

	log_lines(c, t->lines);
	client_login_said(&c->client,
			  t->what == SASL_SAID_MORE   ? LOGIN_SAID_MORE
			  : t->what == SASL_SAID_DONE ? LOGIN_SAID_DONE
						      : LOGIN_SAID_FAILED,
			  t->mechanism, t->text);
	conn_go_on(c);
}

static bool is_own(struct sv mechanism)
{
	return sasl_mech_find(mechanism) >= 0;
}

static bool ask_library(struct conn *c)
{
	struct conn_login *x = c->login;
	const struct client_login_conf *lc = x->client.conf;

	return sasl_link_start(c->d->sasl, &x->asker,
			       &(struct sasl_start){ .service = lc->service,
						     .server = c->host,
						     .offered = buf_sv(&x->offered),
						     .user = buf_sv(&x->client.user),
						     .password = buf_sv(&x->client.password),
						     .options = x->options,
						     .authzid = lc->authzid },
			       is_own);
}

/* The worker is there now. */
static void ask_again(void *ctx)
{
	struct conn *c = ctx;

	if (ask_library(c))
		return;
	client_login_said(&c->client, LOGIN_SAID_NOTHING, SV(""), SV(""));
	conn_go_on(c);
}

static bool on_start(void *ctx, struct sv mechanisms, unsigned options)
{
	struct conn *c = ctx;
	struct conn_login *x = c->login;

	buf_reset(&x->offered);
	buf_add_sv(&x->offered, mechanisms);
	x->options = options;
	x->asker.ask = ask_again;
	x->asker.said = said;
	return ask_library(c);
}

static void on_step(void *ctx, struct sv challenge)
{
	struct conn *c = ctx;

	sasl_link_step(c->d->sasl, &c->login->asker, challenge);
}

void conn_login_attach(struct conn *c)
{
	static const struct client_login_ops ops = {
		.recall = on_recall, .remember = on_remember, .start = on_start, .step = on_step
	};

	if (!conn_login_is_wanted(c))
		return;
	c->login->client.server = c->relay;
	c->login->client.ops = &ops;
	c->login->client.ctx = c->login->asker.ctx = c;
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
	sasl_link_end(c->d->sasl, &x->asker);
	buf_fini(&x->offered);
	sasl_wipe(&x->client.user);
	sasl_wipe(&x->client.password);
	sasl_wipe(&x->client.response);
	buf_fini(&x->client.offered);
	free(x);
}
