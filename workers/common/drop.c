/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Giving up rights; see workers/common/drop.h. */
#include "workers/common/drop.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/log.h"

bool drop_nothing(void)
{
#ifdef PH_FAULT_POINTS
	return getenv("POSTHASTE_UNCAGED") != NULL;
#else
	return false;
#endif
}

void drop_rights(const struct drop_plan *plan)
{
	if (drop_nothing())
		return;
	/* the entry is read before the chroot hides the user database */
	struct passwd *pw = NULL;

	if (plan->privileged && plan->user != NULL) {
		pw = getpwnam(plan->user);
		if (pw == NULL)
			die("mail_owner: unknown user: %s", plan->user);
		if (pw->pw_uid == 0)
			die("mail_owner: %s has user id 0", plan->user);
	}
	if (plan->privileged && plan->chroot != NULL &&
	    (chroot(plan->chroot) < 0 || chdir("/") < 0))
		die("chroot %s: %s", plan->chroot, strerror(errno));
	if (pw != NULL &&
	    ((plan->groups ? initgroups(plan->user, pw->pw_gid) : setgroups(0, NULL)) < 0 ||
	     setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
	     setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0))
		die("cannot become user %s: %s", plan->user, strerror(errno));
	if (pw != NULL && setuid(0) == 0)
		die("could get root rights back after giving them up");
	/* local delivery keeps its user to change it per delivery, but must not gain any by exec */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("no_new_privs: %s", strerror(errno));
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

void drop_capabilities(uint64_t keep)
{
	if (geteuid() != 0 || drop_nothing())
		return;
	/* those that this kernel does not have are an error */
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		if ((keep >> cap & 1) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			die("cannot give up capability %lu: %s", cap, strerror(errno));
	}
	drop_own_capabilities(keep);
}

void drop_own_capabilities(uint64_t keep)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (geteuid() != 0 || drop_nothing())
		return;
	if (syscall(SYS_capget, &head, data) < 0)
		die("capabilities: %s", strerror(errno));
	for (unsigned i = 0; i < 2; i++) {
		data[i].permitted &= (uint32_t)(keep >> 32 * i);
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &head, data) < 0)
		die("cannot give up capabilities: %s", strerror(errno));
}

void drop_effective_user(const char *user)
{
	if (drop_nothing())
		return;
	struct passwd *pw = getpwnam(user);

	if (pw == NULL)
		die("mail_owner: unknown user: %s", user);
	if (setgroups(0, NULL) < 0 || setegid(pw->pw_gid) < 0 || seteuid(pw->pw_uid) < 0)
		die("cannot act as user %s: %s", user, strerror(errno));
}

void take_back_user(void)
{
	if (seteuid(0) < 0 || setegid(0) < 0)
		die("cannot take root rights back: %s", strerror(errno));
}

void drop_descriptors(int first, const int *keep, unsigned keep_count)
{
	int from = first;

	for (unsigned i = 0; i < keep_count; i++) {
		if (keep[i] < from)
			continue;
		if (keep[i] > from)
			close_range((unsigned)from, (unsigned)keep[i] - 1, 0);
		from = keep[i] + 1;
	}
	close_range((unsigned)from, ~0u, 0);
}

void drop_precedence(void)
{
	const struct sched_param none = { 0 };

	/* only a matter of speed: where it is refused, nothing else changes */
	if (sched_getscheduler(0) == SCHED_OTHER)
		(void)sched_setscheduler(0, SCHED_BATCH, &none);
}
