/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The client engine logs in (RFC 4954); see client.h. Called by client_hello.c after EHLO. */
#include <string.h>

#include "lib/base64.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/client_int.h"
#include "workers/deliver/saslmech.h"

#define OFFERED_MAX 2048u
#define COMMAND_MAX 512u /* RFC 5321 4.5.3.1.4; a longer response goes by itself */
#define SHORT       4u   /* bytes of a secret that may stand in a text by chance */

static void fail(struct client *c, unsigned subject)
{
	struct client_fault f = client_fault_text(c, false, subject, 0);

	f.site = true;
	c->login->failed = true;
	client_dead(c, &f);
}

static void cannot(struct client *c, const char *why)
{
	buf_reset(&c->text);
	buf_printf(&c->text, "SASL authentication failed; cannot authenticate to server %s: %s",
		   c->namaddr, why);
	fail(c, 7);
}

static struct sasl_secret secret_of(const struct client_login *l)
{
	return (struct sasl_secret){ buf_sv(&l->user), buf_sv(&l->password), l->conf->authzid };
}

void client_login_offer(struct client *c, struct sv line)
{
	struct buf *offered = &c->login->offered;

	if (line.len < 5 || !sv_eq_nocase((struct sv){ line.p, 4 }, SV("AUTH")) ||
	    (line.p[4] != '=' && !ascii_is_space(line.p[4])) ||
	    offered->len + line.len > OFFERED_MAX)
		return;
	buf_add_c(offered, ' ');
	buf_add(offered, line.p + 5, line.len - 5);
}

/* Those that are known, as bits; *any_r: the filter lets something pass, known or not. */
static unsigned offered_mechs(const struct client_login *l, bool *any_r)
{
	struct sv rest = buf_sv(&l->offered);
	unsigned bits = 0;

	*any_r = false;
	while ((rest = sv_trim(rest)).len > 0) {
		struct sv word = { rest.p, 0 };
		int m;

		while (word.len < rest.len && !ascii_is_space(rest.p[word.len]))
			word.len++;
		rest = (struct sv){ rest.p + word.len, rest.len - word.len };
		if (l->conf->passes != NULL && !l->conf->passes(l->conf->ctx, word))
			continue;
		*any_r = true;
		m = sasl_mech_find(word);
		bits |= m >= 0 ? 1u << m : 0;
	}
	return bits;
}

static void none_offered(struct client *c)
{
	struct client_login *l = c->login;
	struct sv words = sv_trim(buf_sv(&l->offered));

	if (words.len > 0)
		log_warn("%s offered no supported AUTH mechanisms: '%.*s'", l->server,
			 (int)words.len, words.p);
	else
		log_warn("%s offered null AUTH mechanism list", l->server);
	buf_reset(&c->text);
	buf_printf(&c->text,
		   "SASL authentication failed: server %s offered no compatible authentication "
		   "mechanisms for this type of connection security",
		   c->namaddr);
	fail(c, 7);
}

static void say_response(struct client *c)
{
	struct buf *r = &c->login->response;

	(void)buf_reserve(&c->head, r->len + 3);
	buf_add_sv(&c->head, buf_sv(r));
	buf_add_str(&c->head, "\r\n");
	client_expect_reply(c, X_AUTH, 0);
}

static void say_auth(struct client *c)
{
	struct client_login *l = c->login;
	const char *name = sasl_mech_name(l->mech);
	struct sasl_secret s = secret_of(l);

	l->deferred = sasl_mech_first(l->mech, &s, &l->response) &&
		      strlen(name) + l->response.len + 8 > COMMAND_MAX;
	(void)buf_reserve(&c->head, COMMAND_MAX);
	buf_printf(&c->head, "AUTH %s", name);
	if (l->response.len > 0 && !l->deferred) {
		buf_add_c(&c->head, ' ');
		say_response(c);
		return;
	}
	buf_add_str(&c->head, "\r\n");
	client_expect_reply(c, X_AUTH, 0);
}

void client_log_in(struct client *c)
{
	struct client_login *l = c->login;
	unsigned security = c->verified  ? CLIENT_VERIFIED
			    : c->secured ? CLIENT_ENCRYPTED
					 : CLIENT_IN_CLEAR;
	unsigned bits;
	bool any;
	int mech;

	if (l == NULL || (c->features & CLIENT_F_AUTH) == 0) {
		c->state = CLIENT_IDLE;
		c->ops->ready(c->ctx);
		return;
	}
	bits = offered_mechs(l, &any);
	if (!any) {
		none_offered(c);
		return;
	}
	mech = sasl_mech_choose(bits, l->conf->options[security], c->secured);
	if (mech < 0) {
		log_warn("SASL authentication failure: No worthy mechs found");
		cannot(c, "no mechanism available");
		return;
	}
	c->state = CLIENT_HELLO;
	l->mech = (unsigned)mech;
	say_auth(c);
}

/* ---- replies ---- */

static void mask(struct buf *text, struct sv secret)
{
	char *at = text->p, *end = at + text->len;

	if (secret.len < SHORT || text->len == 0)
		return;
	while ((at = memmem(at, (size_t)(end - at), secret.p, secret.len)) != NULL) {
		memset(at, '*', secret.len);
		at += secret.len;
	}
}

/* A server that repeats what it was told must not bring it into the log. */
static void mask_reply(struct client *c)
{
	struct client_login *l = c->login;
	struct buf again = BUF_INIT;

	mask(&c->reply, buf_sv(&l->response));
	mask(&c->reply, buf_sv(&l->password));
	(void)buf_reserve(&again, l->password.len * 2 + 4);
	(void)base64_encode(buf_sv(&l->password), &again);
	mask(&c->reply, buf_sv(&again));
	sasl_wipe(&again);
}

/* The password is not needed any more. */
static void forget(struct client *c)
{
	struct client_login *l = c->login;

	sasl_wipe(&l->password);
	sasl_wipe(&l->response);
	if (c->head.len == 0)
		sasl_wipe(&c->head);
}

static void refused(struct client *c)
{
	struct client_fault f = client_fault_reply(c);

	mask_reply(c);
	if (f.permanent && c->login->conf->soft_bounce) {
		f.permanent = false;
		f.dsn[0] = 4;
	}
	f.site = true;
	buf_reset(&c->text);
	buf_printf(&c->text, "SASL authentication failed; server %s said: %s", c->namaddr,
		   buf_cstr(&c->reply));
	f.text = buf_sv(&c->text);
	f.diag = buf_sv(&c->reply);
	forget(c);
	c->login->failed = true;
	client_dead(c, &f);
}

/* The text of the one line that a challenge is. */
static bool take_challenge(struct client *c, struct sv *text_r)
{
	struct sv more;
	size_t pos = 0;

	*text_r = (struct sv){ "", 0 };
	if (smtp_reply_parser_line(&c->parser, &pos, text_r) &&
	    smtp_reply_parser_line(&c->parser, &pos, &more))
		return false;
	*text_r = sv_trim(*text_r);
	return true;
}

static void answer(struct client *c)
{
	struct client_login *l = c->login;
	struct sasl_secret s = secret_of(l);
	struct sv challenge;

	if (!take_challenge(c, &challenge)) {
		cannot(c, "bad protocol / cancel");
	} else if (l->deferred && challenge.len > 0) {
		buf_reset(&c->text);
		buf_printf(&c->text,
			   "SASL authentication failed; non-empty initial %s challenge from server "
			   "%s",
			   sasl_mech_name(l->mech), c->namaddr);
		fail(c, 7);
	} else if (l->deferred) {
		l->deferred = false;
		say_response(c);
	} else {
		buf_reset(&l->response);
		if (sasl_mech_next(l->mech, l->steps++, &s, challenge, &l->response) == 0)
			say_response(c);
		else /* also when there is no end of challenges: no mechanism has more than two */
			cannot(c, "bad protocol / cancel");
	}
}

void client_on_auth(struct client *c, unsigned rcpt UNUSED)
{
	switch (c->parser.code / 100) {
	case 2:
		forget(c);
		c->login->done = true;
		c->state = CLIENT_IDLE;
		c->ops->ready(c->ctx);
		return;
	case 3:
		break;
	default:
		refused(c);
		return;
	}
	answer(c);
}
