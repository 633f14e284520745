/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One command line at a time, each put behind a verb so that parameters and addresses are reached.
 * Checked: an accepted sender or recipient has no control characters, and no outside client gets a
 * recipient accepted whose class is not ours.
 */
#include "t/unit/workers/smtpin_fake.h"

static struct fake f;

static void check_rcpts(void)
{
	static struct addr_resolved a;
	const struct tx *t = f.s.tx;

	if (t == NULL)
		return;
	for (size_t i = 0; i < t->env.rcpt_count; i++) {
		struct sv addr = t->env.rcpts[i].addr;

		for (size_t k = 0; k < addr.len; k++)
			ASSERT((unsigned char)addr.p[k] >= ' ' && addr.p[k] != 127);
		policy_resolve(f.listener.policy, addr.p, &a);
		ASSERT(!a.invalid && a.class_id != ADDR_DEFAULT && !a.routed);
		for (size_t k = 0; k < t->env.rcpts[i].orcpt.len; k++)
			ASSERT((unsigned char)t->env.rcpts[i].orcpt.p[k] >= ' ' ||
			       t->env.rcpts[i].orcpt.p[k] == '\t');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const verbs[] = { "",           "MAIL FROM:",  "RCPT TO:",
					     "EHLO ",      "RCPT TO:<u@", "MAIL FROM:<a@x.test> ",
					     "VRFY ",      "ETRN ",       "RCPT TO:<u@local.test> ",
					     "BDAT 0 LAST" };
	static bool ready;

	if (!ready) {
		ready = true;
		clock_fake_set(1000000);
		fake_conf(&f,
			  "smtpd_soft_error_limit = 100000\nsmtpd_hard_error_limit = 100001\n"
			  "smtpd_forbid_unauth_pipelining = no\nrelay_domains = relay.test\n"
			  "virtual_mailbox_domains = box.test\nsmtpd_forbidden_commands =\n",
			  NULL);
		fake_logs_to = NULL;
	}
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\nMAIL FROM:<a@x.test>\r\n");
	while (size > 1 && !session_is_over(&f.s)) {
		size_t n = 0;
		const char *verb = verbs[data[0] % ARRAY_LEN(verbs)];

		data++;
		size--;
		while (n < size && data[n] != '\n')
			n++;
		if (strncmp(verb, "MAIL", 4) == 0)
			fake_say(&f, "RSET\r\n");
		session_input(&f.s, verb, strlen(verb));
		session_input(&f.s, (const char *)data, n);
		fake_say(&f, "\r\n");
		check_rcpts();
		data += n;
		size -= n;
	}
	fake_close(&f);
	return 0;
}
