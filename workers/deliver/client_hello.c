/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The client engine up to the first transaction: greeting, EHLO, LHLO, HELO; see client.h. */
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/client_int.h"
#include "workers/deliver/command.h"

static void refused(struct client *c, bool soften)
{
	struct client_fault f = client_fault_reply(c);

	f.site = true;
	if (soften && f.permanent) {
		f.permanent = false;
		f.dsn[0] = 4;
	}
	buf_reset(&c->text);
	buf_printf(&c->text, "host %s refused to talk to me: %s", c->namaddr, buf_cstr(&c->reply));
	f.text = buf_sv(&c->text);
	client_dead(c, &f);
}

static void say_hello(struct client *c, bool esmtp)
{
	const char *verb = c->conf->lmtp ? "LHLO" : esmtp ? "EHLO" : "HELO";

	c->state = CLIENT_HELLO;
	if (c->login != NULL)
		buf_reset(&c->login->offered);
	if (esmtp)
		c->features |= CLIENT_F_ESMTP;
	else
		c->features = 0;
	command_hello(&c->head, verb, c->conf->helo_name);
	client_expect_reply(c, esmtp ? X_EHLO : X_HELO, 0);
}

static bool banner_is_esmtp(struct client *c)
{
	struct sv line;
	size_t pos = 0;

	if (!smtp_reply_parser_line(&c->parser, &pos, &line))
		return false;
	while (line.len > 0) {
		size_t n = 0;

		while (n < line.len && !ascii_is_space(line.p[n]))
			n++;
		if (sv_eq_nocase((struct sv){ line.p, n }, SV("ESMTP")))
			return true;
		line.p += n + (n < line.len);
		line.len -= n + (n < line.len);
	}
	return false;
}

/* "220 ****************": some firewalls let no more through. */
static bool banner_is_masked(struct client *c)
{
	const char *text = buf_cstr(&c->parser.text);

	return text[strspn(text, "20 *\t\n")] == '\0';
}

void client_on_greeting(struct client *c, unsigned rcpt UNUSED)
{
	bool esmtp;

	if (c->parser.code / 100 != 2) {
		refused(c, c->conf->skip_5xx_greeting);
		return;
	}
	if (c->ops->pix != NULL && banner_is_masked(c))
		c->pix = c->ops->pix(c->ctx);
	esmtp = !c->conf->never_ehlo && (c->conf->always_ehlo || banner_is_esmtp(c)) &&
		(c->pix & CLIENT_PIX_NO_ESMTP) == 0;
	say_hello(c, c->conf->lmtp || esmtp);
}

static void loops_back(struct client *c)
{
	struct client_fault f;

	log_warn("host %s replied to HELO/EHLO with my own host name %s", c->namaddr,
		 c->conf->myhostname);
	buf_reset(&c->text);
	buf_printf(&c->text, "mail for %s loops back to myself", c->dest);
	f = client_fault_text(c, true, 4, 6);
	client_dead(c, &f);
}

/* ---- TLS ---- */

void client_tls_failed(struct client *c, const char *why)
{
	struct client_fault f;

	buf_reset(&c->text);
	buf_add_str(&c->text, why);
	f = client_fault_text(c, false, 7, 5);
	/* where TLS is a wish, this says nothing about mail that goes without */
	f.site = c->tls == CLIENT_TLS_MUST;
	client_dead(c, &f);
}

static void not_offered(struct client *c)
{
	struct client_fault f;

	buf_reset(&c->text);
	buf_printf(&c->text, "TLS is required, but was not offered by host %s", c->namaddr);
	f = client_fault_text(c, false, 7, 4);
	f.site = true;
	client_dead(c, &f);
}

/* After EHLO in the clear. False: go on without. */
static bool start_tls(struct client *c)
{
	bool offered = (c->features & CLIENT_F_STARTTLS) != 0;

	if (offered && c->tls == CLIENT_TLS_NONE && c->conf->note_starttls)
		log_info("Host offered STARTTLS: [%.*s]", (int)strcspn(c->namaddr, "["),
			 c->namaddr);
	if (offered && c->tls != CLIENT_TLS_NONE) {
		buf_add_str(&c->head, "STARTTLS\r\n");
		client_expect_reply(c, X_STARTTLS, 0);
		return true;
	}
	if (c->tls != CLIENT_TLS_MUST)
		return false;
	not_offered(c);
	return true;
}

static void refused_tls(struct client *c)
{
	struct client_fault f = client_fault_reply(c);

	f.site = true;
	buf_reset(&c->text);
	buf_printf(&c->text, "TLS is required, but host %s refused to start TLS: %s", c->namaddr,
		   buf_cstr(&c->reply));
	f.text = buf_sv(&c->text);
	client_dead(c, &f);
}

void client_on_starttls(struct client *c, unsigned rcpt UNUSED)
{
	if (c->parser.code / 100 == 2) {
		c->state = CLIENT_TLS;
		c->by_starttls = true;
		c->ops->starttls(c->ctx);
	} else if (c->tls == CLIENT_TLS_MUST) {
		refused_tls(c);
	} else {
		client_log_in(c);
	}
}

void client_wrap(struct client *c)
{
	c->state = CLIENT_TLS;
}

void client_secured(struct client *c)
{
	ASSERT(c->state == CLIENT_TLS);
	c->secured = true;
	c->features = 0;
	c->size_limit = 0;
	if (c->expect_count > 0) /* wrapped: the greeting is still to come */
		c->state = CLIENT_GREETING;
	else
		say_hello(c, true);
}

void client_on_hello(struct client *c, unsigned rcpt UNUSED)
{
	struct sv line, name;
	size_t pos = 0;

	if (c->parser.code / 100 != 2) {
		if ((c->features & CLIENT_F_ESMTP) != 0 && !c->conf->lmtp && c->parser.code != 421)
			say_hello(c, false);
		else
			refused(c, false);
		return;
	}
	name.len = 0;
	if (smtp_reply_parser_line(&c->parser, &pos, &line)) {
		name = (struct sv){ line.p, 0 };
		while (name.len < line.len && !ascii_is_space(line.p[name.len]))
			name.len++;
	}
	if (c->loop_check && name.len > 0 && sv_eq_nocase(name, sv_from(c->conf->myhostname))) {
		loops_back(c);
		return;
	}
	while ((c->features & CLIENT_F_ESMTP) != 0 &&
	       smtp_reply_parser_line(&c->parser, &pos, &line)) {
		c->features |= command_ehlo_keyword(line, &c->size_limit);
		if (c->login != NULL)
			client_login_offer(c, line);
	}
	c->features &= ~c->discard;
	if ((c->features & CLIENT_F_SIZE) == 0)
		c->size_limit = 0;
	if (!c->secured && start_tls(c))
		return;
	client_log_in(c);
}
