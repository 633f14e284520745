/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The client engine logs in (RFC 4954); see client.h. Called by client_hello.c after EHLO. */
#include <stdio.h>
#include <string.h>

#include "conf/sasl.h"
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

static bool next_mech(struct sv *rest, struct sv *word_r)
{
	struct sv word;

	*rest = sv_trim(*rest);
	word = (struct sv){ rest->p, 0 };
	while (word.len < rest->len && !ascii_is_space(word.p[word.len]))
		word.len++;
	*rest = (struct sv){ rest->p + word.len, rest->len - word.len };
	*word_r = word;
	return word.len > 0;
}

/* Those that are known here, as bits. */
static unsigned offered_mechs(const struct client_login *l)
{
	struct sv rest = buf_sv(&l->offered), word;
	unsigned bits = 0;

	while (next_mech(&rest, &word)) {
		int m = sasl_mech_find(word);

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

/* The reply is expected from the time on when it is known that something will be said, so that a
 * connection that is lost meanwhile is one. */
static void expect(struct client *c)
{
	if (!c->login->waits)
		client_expect_reply(c, X_AUTH, 0);
	c->login->waits = false;
}

static void wait_for_ops(struct client *c)
{
	expect(c);
	c->login->waits = true;
}

static void say_response(struct client *c)
{
	struct buf *r = &c->login->response;

	(void)buf_reserve(&c->head, r->len + 3);
	buf_add_sv(&c->head, buf_sv(r));
	buf_add_str(&c->head, "\r\n");
	expect(c);
}

static const char *mech_name(const struct client_login *l)
{
	return l->by_ops ? l->mech_name : sasl_mech_name(l->mech);
}

/* With the first response, if there is one. */
static void say_auth(struct client *c)
{
	struct client_login *l = c->login;
	const char *name = mech_name(l);

	l->deferred = l->response.len > 0 && strlen(name) + l->response.len + 8 > COMMAND_MAX;
	(void)buf_reserve(&c->head, COMMAND_MAX);
	buf_printf(&c->head, "AUTH %s", name);
	if (l->response.len > 0 && !l->deferred) {
		buf_add_c(&c->head, ' ');
		say_response(c);
		return;
	}
	buf_add_str(&c->head, "\r\n");
	expect(c);
}

static unsigned options_of(const struct client *c)
{
	return c->login->conf->options[c->verified  ? CLIENT_VERIFIED
				       : c->secured ? CLIENT_ENCRYPTED
						    : CLIENT_IN_CLEAR];
}

/* False: none of those that need no library. */
static bool start_own(struct client *c)
{
	struct client_login *l = c->login;
	struct sasl_secret s = secret_of(l);
	int mech = sasl_mech_choose(offered_mechs(l), options_of(c), c->secured);

	if (mech < 0)
		return false;
	l->mech = (unsigned)mech;
	(void)sasl_mech_first(l->mech, &s, &l->response);
	say_auth(c);
	return true;
}

static void start(struct client *c)
{
	struct client_login *l = c->login;

	if (l->ops != NULL && l->ops->start(l->ctx, buf_sv(&l->offered), options_of(c))) {
		if (!l->waits)
			wait_for_ops(c);
	} else if (!start_own(c)) {
		log_warn("SASL authentication failure: No worthy mechs found");
		cannot(c, "no mechanism available");
	}
}

/* Those that the filter hides are not offered, to nobody. */
static bool filter_offered(struct client_login *l)
{
	struct sv rest = buf_sv(&l->offered), word;
	struct buf passed = BUF_INIT;

	while (next_mech(&rest, &word)) {
		if (l->conf->passes != NULL && !l->conf->passes(l->conf->ctx, word))
			continue;
		if (passed.len > 0)
			buf_add_c(&passed, ' ');
		buf_add_sv(&passed, word);
	}
	if (passed.len == 0)
		return false;
	buf_fini(&l->offered);
	l->offered = passed;
	return true;
}

void client_log_in(struct client *c)
{
	struct client_login *l = c->login;

	if (l == NULL || (c->features & CLIENT_F_AUTH) == 0) {
		c->state = CLIENT_IDLE;
		c->ops->ready(c->ctx);
		return;
	}
	if (!filter_offered(l)) {
		none_offered(c);
		return;
	}
	c->state = CLIENT_HELLO;
	if (l->ops != NULL && l->ops->recall(l->ctx))
		wait_for_ops(c);
	else
		start(c);
}

/* ---- answers from elsewhere ---- */

void client_login_recalled(struct client *c, struct sv dsn, struct sv reply)
{
	bool permanent = dsn.len > 0 && dsn.p[0] == '5' && !c->login->conf->soft_bounce;
	unsigned subject = 0, detail = 0;

	if (dsn.len == 0) {
		start(c);
		return;
	}
	buf_reset(&c->text);
	buf_add_sv(&c->text, dsn);
	(void)sscanf(buf_cstr(&c->text), "%*u.%3u.%3u", &subject, &detail);
	buf_reset(&c->reply);
	buf_add_sv(&c->reply, reply);
	buf_reset(&c->text);
	buf_printf(&c->text, "SASL [CACHED] authentication failed; server %s said: %s", c->namaddr,
		   buf_cstr(&c->reply));
	struct client_fault f =
		client_fault_text(c, permanent, subject & UINT8_MAX, detail & UINT8_MAX);

	f.site = true;
	f.diag = buf_sv(&c->reply);
	c->login->failed = true;
	client_dead(c, &f);
}

void client_login_said(struct client *c, enum client_login_said what, struct sv mechanism,
		       struct sv text)
{
	static const char none[] = "no mechanism available";
	struct client_login *l = c->login;
	bool first = !l->by_ops;

	buf_reset(&c->text);
	buf_add_sv(&c->text, text);
	/* one that the library has not may be one of ours */
	if (first && (what == LOGIN_SAID_NOTHING ||
		      (what == LOGIN_SAID_FAILED && sv_eq(text, sv_from(none))))) {
		if (!start_own(c))
			cannot(c, none);
		return;
	}
	if (what == LOGIN_SAID_FAILED) {
		struct buf why = BUF_INIT;

		buf_add_sv(&why, text);
		cannot(c, buf_cstr(&why));
		buf_fini(&why);
		return;
	}
	l->by_ops = true;
	l->content = what == LOGIN_SAID_DONE;
	buf_reset(&l->response);
	(void)buf_reserve(&l->response, text.len + 1);
	buf_add_sv(&l->response, text);
	if (!first) {
		say_response(c);
		return;
	}
	(void)str_copy(l->mech_name, sizeof(l->mech_name), mechanism);
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

void client_login_mask(const struct client *c, struct buf *text)
{
	const struct client_login *l = c->login;
	struct buf again = BUF_INIT;

	mask(text, buf_sv(&l->response));
	mask(text, buf_sv(&l->password));
	(void)buf_reserve(&again, l->password.len * 2 + 4);
	(void)base64_encode(buf_sv(&l->password), &again);
	mask(text, buf_sv(&again));
	sasl_wipe(&again);
}

static bool begins(struct sv line, struct sv word)
{
	return line.len >= word.len && memcmp(line.p, word.p, word.len) == 0;
}

/* A response in base64 may begin with letters that look like a command ("QUIt" is "AB-"), but it
 * has no blanks, and no text is one of the whole words. */
struct sv client_login_shown(struct sv line, const char **more_r)
{
	static const struct sv open[] = { { "EHLO ", 5 }, { "LHLO ", 5 }, { "HELO ", 5 } };
	const char *blank;

	*more_r = "";
	if (sv_eq(line, SV("STARTTLS")) || sv_eq(line, SV("QUIT")))
		return line;
	for (size_t i = 0; i < ARRAY_LEN(open); i++) {
		if (begins(line, open[i]))
			return line;
	}
	*more_r = "***";
	if (!begins(line, SV("AUTH ")))
		return SV("");
	blank = memchr(line.p + 5, ' ', line.len - 5);
	*more_r = blank != NULL ? " ***" : "";
	return (struct sv){ line.p, blank != NULL ? (size_t)(blank - line.p) : line.len };
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

static void remember(struct client *c, const struct client_fault *f)
{
	struct client_login *l = c->login;

	if (l->ops == NULL)
		return;
	buf_reset(&c->text);
	buf_printf(&c->text, "%u.%u.%u %s", f->dsn[0], f->dsn[1], f->dsn[2], buf_cstr(&c->reply));
	l->ops->remember(l->ctx, buf_sv(&c->text));
}

static void refused(struct client *c)
{
	struct client_fault f = client_fault_reply(c);

	client_login_mask(c, &c->reply);
	if (c->parser.code == 535)
		remember(c, &f);
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
			   mech_name(l), c->namaddr);
		fail(c, 7);
	} else if (l->deferred) {
		l->deferred = false;
		say_response(c);
	} else if (l->by_ops) {
		wait_for_ops(c);
		l->ops->step(l->ctx, challenge);
	} else {
		buf_reset(&l->response);
		if (sasl_mech_next(l->mech, l->steps++, &s, challenge, &l->response) == 0)
			say_response(c);
		else /* also when there is no end of challenges: no mechanism has more than two */
			cannot(c, "bad protocol / cancel");
	}
}

/* A mechanism that shows who the server is has not come to its end. */
static bool is_one_sided(const struct client *c)
{
	const struct client_login *l = c->login;

	return l->by_ops && !l->content && (options_of(c) & SASL_MUTUAL_AUTH) != 0;
}

void client_on_auth(struct client *c, unsigned rcpt UNUSED)
{
	if (c->login->waits) { /* nothing was asked of it */
		cannot(c, "bad protocol / cancel");
		return;
	}
	switch (c->parser.code / 100) {
	case 2:
		if (is_one_sided(c)) {
			cannot(c, "the server has not shown who it is");
			return;
		}
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
