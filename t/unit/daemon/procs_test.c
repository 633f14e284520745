/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who is ended when one worker accuses another: never one that serves others too. */
#include "daemon/procs.h"
#include "t/unit/tap.h"

static void judged(void)
{
	struct proc_repute a = { 0 }, b = { 0 }, bad = { 0 };
	bool both;

	is_int(proc_judge(CLASS_SMTP_IN, 5, &a, CLASS_REWRITE, &bad, 1000, &both), BLAME_ACCUSER,
	       "one word against one word: the nearer to strangers");
	is_int(proc_judge(CLASS_SMTP_IN, 5, &a, CLASS_REWRITE, &bad, 1000, &both), BLAME_ACCUSER,
	       "the same life twice is one word");
	is_int(proc_judge(CLASS_SMTP_IN, 6, &b, CLASS_REWRITE, &bad, 2000, &both), BLAME_ACCUSED,
	       "two lives are believed");
	ok(!both, "and live on");
	a = bad = (struct proc_repute){ 0 };
	for (unsigned i = 0; i < PROC_ACCUSE_MAX; i++)
		ok(proc_judge(CLASS_REWRITE, 9, &bad, CLASS_SMTP_IN, &a, 1000, &both) ==
				   BLAME_ACCUSED &&
			   !both,
		   "rewrite is believed, accusation %u", i + 1);
	proc_judge(CLASS_REWRITE, 9, &bad, CLASS_SMTP_IN, &a, 2000, &both);
	ok(both, "one that goes on accusing is ended with the accused");
	proc_judge(CLASS_REWRITE, 9, &bad, CLASS_SMTP_IN, &a, 2001 + PROC_ACCUSE_MS, &both);
	ok(!both, "long ago is forgotten");
}

int main(void)
{
	judged();
	is_int(proc_blame(CLASS_REWRITE, CLASS_SMTP_IN), BLAME_ACCUSED, "rewrite is believed");
	is_int(proc_blame(CLASS_RESOLVER, CLASS_DELIVER), BLAME_ACCUSED, "the resolver too");
	is_int(proc_blame(CLASS_SMTP_IN, CLASS_REWRITE), BLAME_ACCUSER,
	       "smtp-in cannot have rewrite killed");
	is_int(proc_blame(CLASS_DELIVER, CLASS_RESOLVER), BLAME_ACCUSER,
	       "nor deliver the resolver");
	is_int(proc_blame(CLASS_SMTP_IN, CLASS_DELIVER), BLAME_NOBODY, "strangers are not heard");
	is_int(proc_blame(CLASS_SMTP_IN, CLASS_SMTP_IN), BLAME_NOBODY, "nor is one's own kind");
	is_int(proc_blame(CLASS_REWRITE, CLASS_LOG), BLAME_NOBODY, "the log has no links");
	return tap_done();
}
