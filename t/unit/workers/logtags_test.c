/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Nobody writes in another's name. */
#include "t/unit/tap.h"
#include "workers/log/tags.h"

int main(void)
{
	static const struct {
		enum worker_class class_id;
		const char *program;
		bool good;
	} t[] = {
		{ CLASS_SMTP_IN, "postfix/smtpd", true },
		{ CLASS_SMTP_IN, "postfix/submission/smtpd", true },
		{ CLASS_SMTP_IN, "smtpd", true },
		{ CLASS_SMTP_IN, "postfix/qmgr", false },
		{ CLASS_SMTP_IN, "postfix/smtp", false },
		{ CLASS_SMTP_IN, "sshd", false },
		{ CLASS_REWRITE, "postfix/cleanup", true },
		{ CLASS_REWRITE, "postfix/qmgr", true },
		{ CLASS_REWRITE, "postfix/smtpd", false },
		{ CLASS_DELIVER, "postfix/smtp", true },
		{ CLASS_DELIVER, "postfix/mytransport", true },
		{ CLASS_DELIVER, "postfix/smtpd", false },
		{ CLASS_DELIVER, "postfix/", false },
		{ CLASS_DELIVER, "postfix/smtp[1]: x", false },
		{ CLASS_DELIVER, "", false },
		{ CLASS_LOCAL, "postfix/virtual", true },
		{ CLASS_SUPERVISOR, "postfix/master", true },
		{ CLASS_STATS, "postfix/master", false },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++)
		ok(log_tag_ok(t[i].class_id, sv_from(t[i].program)) == t[i].good,
		   "class %d as \"%s\"", (int)t[i].class_id, t[i].program);
	for (int c = 0; c < CLASS_COUNT; c++)
		ok(log_tag_ok((enum worker_class)c, sv_from(log_tag_of((enum worker_class)c))),
		   "what class %d is given is its own", c);
	return tap_done();
}
