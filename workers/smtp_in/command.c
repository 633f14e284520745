/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The command table, and the commands that carry no mail: HELO, EHLO, NOOP, VRFY, ETRN, QUIT, HELP.
 */
#include "workers/smtp_in/command.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/mail/address.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/sessmilter.h"
#include "workers/smtp_in/sesstls.h"

/* In the order of the disconnect line. */
const struct smtp_cmd smtp_cmds[CMD_COUNT] = {
	[CMD_HELO] = { .verb = "HELO",
		       .check = cmd_helo_check,
		       .apply = cmd_helo_apply,
		       .flags = CMD_LAST | CMD_JUNK,
		       .event = POLICY_ON_HELO,
		       .syntax = "HELO hostname",
		       .rfc = "5321 4.1.1.1",
		       .text = "identify the client" },
	[CMD_EHLO] = { .verb = "EHLO",
		       .check = cmd_helo_check,
		       .apply = cmd_ehlo_apply,
		       .flags = CMD_LAST | CMD_JUNK,
		       .event = POLICY_ON_HELO,
		       .syntax = "EHLO hostname",
		       .rfc = "5321 4.1.1.1",
		       .text = "identify the client, list extensions" },
	[CMD_XCLIENT] = { .verb = "XCLIENT",
			  .check = cmd_xclient_check,
			  .apply = cmd_xclient_apply,
			  .flags = CMD_NO_HELP,
			  .event = -1,
			  .text = "override client information" },
	[CMD_XFORWARD] = { .verb = "XFORWARD",
			   .check = cmd_xforward_check,
			   .apply = cmd_xforward_apply,
			   .flags = CMD_NO_HELP,
			   .event = -1,
			   .text = "forward client information" },
	[CMD_STARTTLS] = { .verb = "STARTTLS",
			   .check = cmd_starttls_check,
			   .apply = cmd_starttls_apply,
			   .flags = CMD_NO_HELP,
			   .event = -1,
			   .syntax = "STARTTLS",
			   .rfc = "3207",
			   .text = "go on encrypted" },
	[CMD_AUTH] = { .verb = "AUTH",
		       .check = cmd_auth_check,
		       .apply = cmd_auth_apply,
		       .flags = CMD_NO_HELP,
		       .event = -1,
		       .syntax = "AUTH mechanism [initial-response]",
		       .rfc = "4954",
		       .text = "log in, where smtpd_sasl_auth_enable says so" },
	[CMD_MAIL] = { .verb = "MAIL",
		       .check = cmd_mail_check,
		       .apply = cmd_mail_apply,
		       .event = POLICY_ON_MAIL,
		       .syntax = "MAIL FROM:<address>",
		       .rfc = "5321 4.1.1.2",
		       .text = "begin a message" },
	[CMD_RCPT] = { .verb = "RCPT",
		       .check = cmd_rcpt_check,
		       .apply = cmd_rcpt_apply,
		       .event = POLICY_ON_RCPT,
		       .syntax = "RCPT TO:<address>",
		       .rfc = "5321 4.1.1.3",
		       .text = "add a recipient" },
	[CMD_DATA] = { .verb = "DATA",
		       .check = cmd_data_check,
		       .apply = cmd_data_apply,
		       .flags = CMD_LAST,
		       .event = POLICY_ON_DATA,
		       .syntax = "DATA",
		       .rfc = "5321 4.1.1.4",
		       .text = "send content up to a final dot" },
	[CMD_BDAT] = { .verb = "BDAT",
		       .check = cmd_bdat_check,
		       .apply = cmd_bdat_apply,
		       .flags = CMD_TAKES_OCTETS,
		       .event = -1,
		       .syntax = "BDAT count [LAST]",
		       .rfc = "3030 2",
		       .text = "send a chunk of content" },
	[CMD_RSET] = { .verb = "RSET",
		       .apply = cmd_rset_apply,
		       .flags = CMD_JUNK | CMD_NO_ARGS,
		       .event = -1,
		       .syntax = "RSET",
		       .rfc = "5321 4.1.1.5",
		       .text = "forget the transaction" },
	[CMD_NOOP] = { .verb = "NOOP",
		       .apply = cmd_noop_apply,
		       .flags = CMD_LAST | CMD_JUNK,
		       .event = -1,
		       .syntax = "NOOP",
		       .rfc = "5321 4.1.1.9",
		       .text = "do nothing" },
	[CMD_VRFY] = { .verb = "VRFY",
		       .check = cmd_vrfy_check,
		       .apply = cmd_vrfy_apply,
		       .flags = CMD_LAST | CMD_JUNK,
		       .event = POLICY_ON_RCPT,
		       .syntax = "VRFY address",
		       .rfc = "5321 4.1.1.6",
		       .text = "is this recipient acceptable" },
	[CMD_ETRN] = { .verb = "ETRN",
		       .check = cmd_etrn_check,
		       .apply = cmd_etrn_apply,
		       .flags = CMD_JUNK,
		       .event = POLICY_ON_ETRN,
		       .syntax = "ETRN domain",
		       .rfc = "1985",
		       .text = "deliver what waits for a domain" },
	[CMD_QUIT] = { .verb = "QUIT",
		       .apply = cmd_quit_apply,
		       .event = -1,
		       .syntax = "QUIT",
		       .rfc = "5321 4.1.1.10",
		       .text = "end the session" },
	[CMD_HELP] = { .verb = "HELP",
		       .apply = cmd_help_apply,
		       .event = -1,
		       .syntax = "HELP",
		       .rfc = "5321 4.1.1.8",
		       .text = "list the commands" },
};

enum cmd_id smtp_cmd_id(const struct smtp_cmd *cmd)
{
	return (enum cmd_id)(cmd - smtp_cmds);
}

const struct smtp_cmd *smtp_cmd_find(struct sv verb)
{
	for (unsigned i = 0; i < CMD_UNKNOWN; i++) {
		if (sv_eq_nocase(verb, sv_from(smtp_cmds[i].verb)))
			return &smtp_cmds[i];
	}
	return NULL;
}

/* ---- HELO, EHLO ---- */

void cmd_neuter(char *name)
{
	str_make_printable(name, strlen(name));
	for (char *p = name; (p = strpbrk(p, " <>()\\\";@")) != NULL;)
		*p = '?';
}

bool cmd_helo_check(struct session *s, struct sv args)
{
	if (args.len == 0) {
		session_reply(s, "501 Syntax: %s", s->pending.cmd->syntax);
		return false;
	}
	buf_reset(&s->pending.addr);
	buf_add_sv(&s->pending.addr, args);
	return true;
}

static void take_helo(struct session *s, bool esmtp)
{
	if (s->helo != NULL)
		session_milter_reset(s, true);
	session_reset_tx(s);
	free(s->helo);
	s->helo = xstrdup(buf_cstr(&s->pending.addr));
	cmd_neuter(s->helo);
	/* HELO after EHLO leaves pipelining allowed, as in Postfix */
	s->esmtp = s->esmtp || esmtp;
}

enum cmd_outcome cmd_helo_apply(struct session *s)
{
	take_helo(s, false);
	session_reply(s, "250 %s", s->listener->p->myhostname);
	return CMD_OK;
}

/* Say once per EHLO what is hidden from the client, unless told not to. */
static void log_discarded(const struct session *s)
{
	struct buf list = BUF_INIT;

	listener_discard_text(s->discard_mask, &list);
	if (list.len > 0 && (s->discard_mask & 1u << EHLO_SILENT_DISCARD) == 0)
		log_info("discarding EHLO keywords:%s", buf_cstr(&list));
	buf_fini(&list);
}

struct ehlo_lines { /* the last one is not said yet */
	char last[EHLO_LINE_SIZE];
	bool any;
};

static void add_line(struct session *s, struct ehlo_lines *l, const char *text)
{
	if (l->any)
		session_reply(s, "250-%s", l->last);
	str_copy(l->last, sizeof(l->last), sv_from(text));
	l->any = true;
}

static void add_auth(struct session *s, struct ehlo_lines *l)
{
	const char *mechanisms = session_auth_offer(s);
	char text[EHLO_LINE_SIZE];

	if (mechanisms == NULL)
		return;
	snprintf(text, sizeof(text), "AUTH %s", mechanisms);
	add_line(s, l, text);
	if (s->listener->p->broken_sasl_auth_clients) {
		text[4] = '=';
		add_line(s, l, text);
	}
}

enum cmd_outcome cmd_ehlo_apply(struct session *s)
{
	struct ehlo_lines lines = { .any = false };
	char next[EHLO_LINE_SIZE];
	uint32_t hidden = s->discard_mask | (s->may_verp > 0 ? 0 : 1u << EHLO_VERP) |
			  (s->xclient_allowed ? 0 : 1u << EHLO_XCLIENT) |
			  (s->xforward_allowed ? 0 : 1u << EHLO_XFORWARD) |
			  (session_tls_is_offered(s) ? 0 : 1u << EHLO_STARTTLS);

	if (s->listener->sasl && !session_auth_ready(s))
		return CMD_WAITS;
	take_helo(s, true);
	log_discarded(s);
	session_reply(s, "250-%s", s->listener->p->myhostname);
	size_t last = s->out.len - strlen(s->listener->p->myhostname) - 6;

	for (unsigned k = 0; k < EHLO_KEYWORD_COUNT; k++) {
		if (k == EHLO_AUTH && s->listener->sasl)
			add_auth(s, &lines);
		else if (listener_ehlo_keyword(s->listener, (enum ehlo_keyword)k, hidden, next))
			add_line(s, &lines, next);
	}
	if (lines.any)
		session_reply(s, "250 %s", lines.last);
	else
		s->out.p[last + 3] = ' ';
	return CMD_OK;
}

/* ---- small ones ---- */

enum cmd_outcome cmd_rset_apply(struct session *s)
{
	session_reset_tx(s);
	session_reply(s, "250 2.0.0 Ok");
	return CMD_OK;
}

enum cmd_outcome cmd_noop_apply(struct session *s)
{
	session_reply(s, "250 2.0.0 Ok");
	return CMD_OK;
}

enum cmd_outcome cmd_quit_apply(struct session *s)
{
	session_reply(s, "221 2.0.0 Bye");
	session_close(s);
	return CMD_OK;
}

static int by_verb(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

enum cmd_outcome cmd_help_apply(struct session *s)
{
	const char *verbs[CMD_COUNT];
	struct buf list = BUF_INIT;
	size_t n = 0;

	for (unsigned i = 0; i < CMD_UNKNOWN; i++) {
		if ((smtp_cmds[i].flags & CMD_NO_HELP) == 0)
			verbs[n++] = smtp_cmds[i].verb;
	}
	qsort(verbs, n, sizeof(verbs[0]), by_verb);
	for (size_t i = 0; i < n; i++)
		buf_printf(&list, " %s", verbs[i]);
	session_reply(s, "214 2.0.0 Commands:%s", buf_cstr(&list));
	buf_fini(&list);
	return CMD_OK;
}

/* ---- VRFY ---- */

/* The last word is SMTPUTF8: cut it off. */
static bool cut_smtputf8(struct sv *args)
{
	size_t n = args->len;

	while (n > 0 && !ascii_is_space(args->p[n - 1]))
		n--;
	if (!sv_eq_nocase((struct sv){ args->p + n, args->len - n }, SV("SMTPUTF8")))
		return false;
	*args = sv_trim((struct sv){ args->p, n });
	return true;
}

bool cmd_vrfy_check(struct session *s, struct sv args)
{
	const struct params *p = s->listener->p;
	bool utf8_offered = p->smtputf8_enable && (s->discard_mask & 1u << EHLO_SMTPUTF8) == 0;
	struct sv rest;

	if (p->disable_vrfy_command) {
		session_reply(s, "502 5.5.1 VRFY command is disabled");
		return false;
	}
	bool utf8 = utf8_offered && cut_smtputf8(&args);

	if (args.len == 0) {
		session_reply(s, "501 5.5.4 Syntax: VRFY address%s",
			      p->smtputf8_enable ? " [SMTPUTF8]" : "");
		return false;
	}
	buf_reset(&s->pending.addr);
	buf_reset(&s->pending.extra);
	buf_add_sv(&s->pending.extra, args);
	if (mail_addr_parse_path(args, cmd_path_flags(p) & ~(unsigned)MAIL_PATH_STRICT,
				 &s->pending.addr, &rest) != 0 ||
	    s->pending.addr.len == 0 || rest.len > 0 ||
	    (!p->allow_min_user && s->pending.addr.p[0] == '-')) {
		session_reply(s, "501 5.1.3 Bad recipient address syntax");
		return false;
	}
	if (!utf8 && p->strict_smtputf8 && !str_is_ascii(s->pending.addr.p, s->pending.addr.len)) {
		session_reply(s, "553 5.6.7 Must declare SMTPUTF8 to send unicode address");
		return false;
	}
	return true;
}

enum cmd_outcome cmd_vrfy_apply(struct session *s)
{
	session_reply(s, "252 2.0.0 %s", buf_cstr(&s->pending.extra));
	return CMD_OK;
}

/* ---- ETRN ---- */

bool cmd_etrn_check(struct session *s, struct sv args)
{
	struct sv addr;

	if (s->listener->p->smtpd_helo_required && s->helo == NULL) {
		session_reply(s, "503 Error: send HELO/EHLO first");
		return false;
	}
	if (s->tx != NULL) {
		session_reply(s, "503 Error: MAIL transaction in progress");
		return false;
	}
	for (size_t i = 0; i < args.len; i++) {
		if (ascii_is_space(args.p[i]))
			args.len = 0;
	}
	if (args.len == 0) {
		session_reply(s, "500 Syntax: ETRN domain");
		return false;
	}
	if (args.p[0] == '@' || args.p[0] == '#')
		args = (struct sv){ args.p + 1, args.len - 1 };
	if (!mail_hostname_is_valid(args) && !mail_literal_parse(args, &addr)) {
		session_reply(s, "501 Error: invalid parameter syntax");
		return false;
	}
	buf_reset(&s->pending.addr);
	buf_add_sv(&s->pending.addr, args);
	return true;
}

/* No per-site flush list is kept that a client may start. */
enum cmd_outcome cmd_etrn_apply(struct session *s)
{
	log_warn("reject: ETRN %.100s... from %s", buf_cstr(&s->pending.addr), s->namaddr);
	session_reply(s, "459 <%s>: service unavailable", buf_cstr(&s->pending.addr));
	return CMD_FAILED;
}
