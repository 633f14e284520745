/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Mailboxes of recipients: virtual tables, system users, and what is wrong with them. */
#include "workers/local/target.h"

#include <pwd.h>

#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"

static const char main_cf[] =
	"virtual_mailbox_domains = box.test\n"
	"virtual_mailbox_base = /var/vmail\n"
	"virtual_mailbox_maps = inline:{ {joe@box.test = box/joe/} {mbox@box.test = box/mbox} "
	"{file@box.test = box/mbox} "
	"{@catch.test = catch/all/} {low@box.test = low/} {no@box.test = no/} {bad@box.test = "
	"bad/} "
	"}\n"
	"virtual_uid_maps = inline:{ {joe@box.test = 5000} {file@box.test = 5000} {@catch.test = "
	"5001} {low@box.test = 5} "
	"{bad@box.test = x} }\n"
	"virtual_gid_maps = static:5002\n"
	"virtual_mailbox_limit = 1000\n"
	"mail_spool_directory = /tmp\n"
	"recipient_delimiter = +\n";

static struct target t;

static void find(struct targets *ts, const struct conf *c, const char *transport, const char *rcpt)
{
	target_find(ts, conf_transport_find(c, transport), sv_from(rcpt), &t);
}

static void refused(unsigned d0, unsigned d1, unsigned d2, const char *what)
{
	ok(!t.found && t.dsn[0] == d0 && t.dsn[1] == d1 && t.dsn[2] == d2, "%s: %s", what, t.text);
}

static void test_virtual(const struct conf *c)
{
	struct targets *ts;
	struct conf_diag d;

	conf_diag_init(&d);
	is_int(targets_open(c, true, &ts, &d), 0, "opened");
	find(ts, c, "virtual", "joe@box.test");
	ok(t.found && t.uid == 5000 && t.gid == 5002, "owner");
	is_str(t.base, "/var/vmail", "base");
	is_str(t.path, "box/joe/", "path");
	is_int(t.size_limit, 1000, "limit");
	find(ts, c, "virtual", "joe+ext@box.test");
	ok(t.found && strcmp(t.path, "box/joe/") == 0, "extension");
	find(ts, c, "virtual", "any@catch.test");
	ok(t.found && t.uid == 5001 && strcmp(t.path, "catch/all/") == 0, "catch-all");
	find(ts, c, "virtual", "nobody@box.test");
	refused(5, 1, 1, "unknown");
	find(ts, c, "virtual", "mbox@box.test");
	refused(4, 3, 5, "a mailbox file without an owner");
	find(ts, c, "virtual", "file@box.test");
	ok(t.found && t.is_mbox && t.size_limit == 0, "a mailbox file");
	is_str(t.path, "box/mbox", "path");
	is_int(t.mbox.flags, MBOX_LOCK_FCNTL | MBOX_LOCK_DOT | MBOX_STRICT_OWNER | MBOX_VIRTUAL,
	       "locks, owner");
	ok(t.mbox.attempts == 20 && t.mbox.delay_ms == 1000 && t.mbox.stale_s == 500 &&
		   t.mbox.size_limit == 1000,
	   "limits");
	is_str(t.user, "file@box.test", "its name in texts");
	find(ts, c, "virtual", "low@box.test");
	refused(4, 3, 5, "below virtual_minimum_uid");
	find(ts, c, "virtual", "no@box.test");
	refused(4, 3, 5, "no owner");
	find(ts, c, "virtual", "bad@box.test");
	refused(4, 3, 5, "owner is no number");
	find(ts, c, "smtp", "joe@box.test");
	refused(4, 3, 0, "transport of another kind");
	targets_close(&ts);
	is_int(targets_open(c, false, &ts, &d), 0, "opened without privileges");
	find(ts, c, "virtual", "low@box.test");
	ok(t.found && t.uid == geteuid(), "all mail is ours then");
	targets_close(&ts);
	conf_diag_fini(&d);
}

static void test_local(const struct conf *c)
{
	struct passwd *me = getpwuid(geteuid());
	struct targets *ts;
	struct conf_diag d;
	char rcpt[300], home[300];

	if (me == NULL) {
		ok(true, "no user entry for us # SKIP");
		return;
	}
	conf_diag_init(&d);
	is_int(targets_open(c, false, &ts, &d), 0, "opened");
	snprintf(rcpt, sizeof(rcpt), "%s+x@mx.example.org", me->pw_name);
	snprintf(home, sizeof(home), "%s", me->pw_dir);
	find(ts, c, "local", rcpt);
	ok(t.found && t.uid == geteuid() && strcmp(t.path, me->pw_name) == 0 && t.is_mbox,
	   "own mailbox file");
	is_str(t.base, "/tmp", "in the mail spool");
	is_int(t.more_gid, AGENT_NO_GROUP, "that all may write to");
	struct conf *home_conf = test_conf("home_mailbox = Maildir/\nrecipient_delimiter = +\n");

	c = home_conf;
	targets_close(&ts);
	is_int(targets_open(c, false, &ts, &d), 0, "opened with home_mailbox");
	find(ts, c, "local", rcpt);
	ok(t.found && !t.is_mbox && strcmp(t.path, "Maildir/") == 0, "a Maildir");
	is_str(t.base, home, "in the home directory");
	find(ts, c, "local", "no-such-user-here@mx.example.org");
	refused(5, 1, 1, "unknown user");
	find(ts, c, "local", "../etc@mx.example.org");
	refused(5, 1, 1, "no user has a slash");
	find(ts, c, "local", geteuid() == 0 ? "nobody@x" : "root@x");
	refused(4, 2, 0, "another user, without privileges");
	targets_close(&ts);
	conf_free(&home_conf);
	conf_diag_fini(&d);
}

int main(void)
{
	struct conf *c = test_conf(main_cf);

	if (!ok(c != NULL, "configuration"))
		return tap_done();
	test_virtual(c);
	test_local(c);
	conf_free(&c);
	return tap_done();
}
