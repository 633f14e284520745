/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The Received: header (RFC 5321 4.4), in Postfix's shape. */
#include "lib/mailaddr.h"
#include "workers/mail/date.h"
#include "workers/smtp_in/command.h"

void received_header(const struct session *s, struct buf *out)
{
	const struct params *p = s->listener->p;
	const struct tx *t = s->tx;
	bool utf8 = (t->env.flags & ENVF_SMTPUTF8) != 0;
	const char *proto = utf8 ? "UTF8SMTP" : s->esmtp ? "ESMTP" : "SMTP";
	bool single = t->rcpt_count == 1;

	if (p->smtpd_hide_client_session)
		buf_printf(out, "Received: by %s (%s) id %s", p->myhostname, p->mail_name,
			   session_qid(s));
	else
		buf_printf(out,
			   "Received: from %s (%s [%s%s])\r\n"
			   "\tby %s (%s) with %s id %s",
			   s->helo != NULL ? s->helo : s->name, s->name, s->is_ipv6 ? "IPv6:" : "",
			   s->addr, p->myhostname, p->mail_name, proto, session_qid(s));
	if (single) {
		buf_add_str(out, "\r\n\tfor <");
		mail_addr_quote(sv_from(t->first_rcpt), out);
		buf_add_str(out, ">; ");
	} else {
		buf_add_str(out, ";\r\n\t");
	}
	mail_date_add(t->env.arrival_us / 1000000, out);
	buf_add_str(out, "\r\n");
}
