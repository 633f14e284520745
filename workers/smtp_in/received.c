/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The Received: header (RFC 5321 4.4), in Postfix's shape. */
#include "lib/mailaddr.h"
#include "workers/mail/date.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/command.h"
#include "workers/smtp_in/sesstls.h"

void received_header(const struct session *s, struct buf *out)
{
	const struct params *p = s->listener->p;
	const struct tx *t = s->tx;
	bool utf8 = (t->env.flags & ENVF_SMTPUTF8) != 0;
	const char *proto = utf8 ? "UTF8SMTP" : s->esmtp ? "ESMTP" : "SMTP";
	bool single = t->rcpt_count == 1;
	const char *id = t->has_qid ? session_qid(s) : "", *id_word = t->has_qid ? " id " : "";

	if (p->smtpd_hide_client_session) {
		buf_printf(out, "Received: by %s (%s)%s%s", p->myhostname, p->mail_name, id_word,
			   id);
	} else {
		buf_printf(out, "Received: from %s (%s [%s%s])\r\n",
			   s->helo != NULL ? s->helo : s->name, s->name, s->is_ipv6 ? "IPv6:" : "",
			   s->addr);
		session_tls_received(s, out);
		session_auth_received(s, out);
		/* RFC 3848 */
		buf_printf(out, "\tby %s (%s) with %s%s%s%s%s", p->myhostname, p->mail_name, proto,
			   session_is_encrypted(s) ? "S" : "",
			   s->esmtp && session_auth_is_in(s) ? "A" : "", id_word, id);
	}
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
