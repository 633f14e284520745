/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who is ended when one worker accuses another: never one that serves others too. */
#include "daemon/procs.h"
#include "t/unit/tap.h"

int main(void)
{
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
