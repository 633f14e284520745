/* SPDX-License-Identifier: GPL-3.0-or-later */
/* reject_unverified_sender, reject_unverified_recipient: what is asked, and the replies to what the
 * verify worker answers. */
#include "lib/clock.h"
#include "t/unit/policy/bench.h"

#include "conf/map_remote.h"
#include "conf/verify_use.h"
#include "t/unit/tap.h"

static char question[300];

/* The reply when the worker answers that; NULL: it does not answer. */
static const char *verdict(struct bench *b, const char *answer)
{
	struct map_memo *memo = map_memo_new();
	enum policy_verdict v;

	question[0] = '\0';
	map_memo_enter(memo);
	v = policy_start(&b->run, POLICY_ON_RCPT);
	while (map_memo_leave()) {
		const char *spec;
		struct sv key;

		map_memo_missing(memo, 0, &spec, &key);
		snprintf(question, sizeof(question), "%s %.*s", spec, (int)key.len, key.p);
		map_memo_answer(memo, 0, answer != NULL ? MAP_FOUND : MAP_ERROR,
				sv_from(answer != NULL ? answer : ""));
		map_memo_answered(memo);
		map_memo_enter(memo);
		v = policy_resume(&b->run);
	}
	map_memo_free(&memo);
	return v == POLICY_PERMIT ? "OK" : b->run.reply;
}

static void test_replies(void)
{
	static const struct {
		const char *conf, *answer, *want;
	} rows[] = {
		{ "", "0 250 ok", "OK" },
		{ "", "2 said: 550 no",
		  "450 4.1.1 <u@local.test>: Recipient address rejected: unverified address: said: "
		  "550 no" },
		{ "unverified_recipient_reject_code = 550\n", "2 said: 550 no",
		  "550 5.1.1 <u@local.test>: Recipient address rejected: undeliverable address: "
		  "said: 550 no" },
		{ "unverified_recipient_reject_code = 550\n", "1 later",
		  "450 4.1.1 <u@local.test>: Recipient address rejected: unverified address: "
		  "later" },
		{ "unverified_recipient_defer_code = 250\n", "1 later", "OK" },
		{ "unverified_recipient_defer_code = 452\nunverified_recipient_tempfail_action = "
		  "defer\n",
		  "3 in progress",
		  "452 4.1.1 <u@local.test>: Recipient address rejected: unverified address: in "
		  "progress" },
		{ "unverified_recipient_reject_code = 550\n"
		  "unverified_recipient_reject_reason = go away\n",
		  "2 said: 550 no",
		  "550 5.1.1 <u@local.test>: Recipient address rejected: undeliverable address: go "
		  "away" },
		{ "unverified_recipient_reject_code = 250\n"
		  "unverified_recipient_reject_reason = go away\n",
		  "2 said: 550 no", "OK" },
		{ "", NULL,
		  "450 4.1.1 <u@local.test>: Recipient address rejected: address verification "
		  "problem" },
		{ "", "9 x",
		  "450 4.1.1 <u@local.test>: Recipient address rejected: address verification "
		  "problem" },
		{ "", "",
		  "450 4.1.1 <u@local.test>: Recipient address rejected: address verification "
		  "problem" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char conf[600];
		struct bench b;

		snprintf(conf, sizeof(conf),
			 "%ssmtpd_recipient_restrictions = reject_unverified_recipient\n",
			 rows[i].conf);
		bench_open(&b, conf);
		is_str(verdict(&b, rows[i].answer), rows[i].want, "answer %s",
		       rows[i].answer != NULL ? rows[i].answer : "none");
		bench_close(&b);
	}
}

static void test_questions(void)
{
	struct bench b;

	bench_open(&b, "smtpd_sender_restrictions = reject_unverified_sender\n"
		       "unverified_sender_reject_code = 550\n"
		       "address_verify_poll_count = 4\naddress_verify_poll_delay = 2s\n");
	is_str(verdict(&b, "2 no"),
	       "550 5.1.7 <s@x.test>: Sender address rejected: undeliverable address: no",
	       "a sender");
	is_str(question, VERIFY_SPEC " 6000 s@x.test", "the time is part of the question");
	b.v.sender = "";
	is_str(verdict(&b, "2 no"), "OK", "the null sender");
	is_str(question, "", "is not asked about");
	bench_close(&b);
	bench_open(&b, "smtpd_sender_restrictions = check_sender_access "
		       "inline:{s@x.test=reject_unverified_sender}\n"
		       "unverified_sender_reject_code = 550\n");
	is_int(policy_start(&b.run, POLICY_ON_RCPT), POLICY_NEED,
	       "an access table may name it; without a memo");
	is_int(b.run.need.kind, POLICY_NEED_TABLES, "one is wanted");
	is_str(verdict(&b, "2 no"),
	       "550 5.1.7 <s@x.test>: Sender address rejected: undeliverable address: no",
	       "with one it is asked");
	bench_close(&b);
	bench_open(&b, "smtpd_recipient_restrictions = reject\n");
	b.v.rcpt_is_probe = true;
	is_str(verdict(&b, NULL), "OK", "the sender of our probes is never refused");
	bench_close(&b);
}

int main(void)
{
	clock_fake_set(1000000);
	test_replies();
	test_questions();
	return tap_done();
}
