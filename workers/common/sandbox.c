/* SPDX-License-Identifier: GPL-3.0-or-later */
/* System call filter; see workers/common/sandbox.h. */
#include "workers/common/sandbox.h"

#include <asm/ioctls.h>
#include <asm/sockios.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/util.h"

#define DENY SCMP_ACT_ERRNO(EPERM)

/* Never needed by a worker that only turns its loop. */
static const int denied[] = {
	/* other processes of the same user */
	SCMP_SYS(tkill),
	SCMP_SYS(rt_sigqueueinfo),
	SCMP_SYS(rt_tgsigqueueinfo),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(pidfd_send_signal),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(process_madvise),
	SCMP_SYS(kcmp),
	SCMP_SYS(setpriority),
	SCMP_SYS(ioprio_set),
	SCMP_SYS(sched_setaffinity),
	SCMP_SYS(sched_setscheduler),
	SCMP_SYS(sched_setparam),
	SCMP_SYS(sched_setattr),
	/* programs and processes; new threads come by clone() */
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	/* large parts of the kernel that mail has no use for */
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(unshare),
	SCMP_SYS(setns),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(add_key),
	SCMP_SYS(keyctl),
	SCMP_SYS(request_key),
};

/* The ways to have the kernel send a signal for us. */
static const unsigned denied_fcntl[] = { F_SETOWN, F_SETOWN_EX, F_SETSIG };
static const unsigned denied_ioctl[] = { FIOSETOWN, SIOCSPGRP, FIONBIO, FIOASYNC };

static const int denied_smtp_in[] = {
	SCMP_SYS(socket),
	SCMP_SYS(connect),
	SCMP_SYS(bind),
	SCMP_SYS(listen),
};

static int deny_all(scmp_filter_ctx ctx, const int *list, size_t count)
{
	int err = 0;

	for (size_t i = 0; i < count && err == 0; i++)
		err = seccomp_rule_add(ctx, DENY, list[i], 0);
	return err;
}

/* Calls that are denied by an argument. */
static int deny_some(scmp_filter_ctx ctx)
{
	uint64_t self = (uint64_t)getpid();
	int err = seccomp_rule_add(ctx, DENY, SCMP_SYS(kill), 1, SCMP_A0_32(SCMP_CMP_NE, self, 0));

	/* abort() and the like signal their own thread */
	if (err == 0)
		err = seccomp_rule_add(ctx, DENY, SCMP_SYS(tgkill), 1,
				       SCMP_A0_32(SCMP_CMP_NE, self, 0));
	if (err == 0)
		err = seccomp_rule_add(ctx, DENY, SCMP_SYS(prlimit64), 1,
				       SCMP_A0_32(SCMP_CMP_NE, 0, 0));
	if (err == 0)
		err = seccomp_rule_add(ctx, DENY, SCMP_SYS(clone), 1,
				       SCMP_A0_32(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
	/* its flags lie in memory; the C library goes on with clone() */
	if (err == 0)
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* eventfds are shared with those who write them: made blocking and filled, one would hold
	 * up the supervisor for ever */
	if (err == 0)
		err = seccomp_rule_add(ctx, DENY, SCMP_SYS(fcntl), 2,
				       SCMP_A1_32(SCMP_CMP_EQ, F_SETFL, 0),
				       SCMP_A2_32(SCMP_CMP_MASKED_EQ, O_NONBLOCK, 0));
	for (size_t i = 0; i < ARRAY_LEN(denied_fcntl) && err == 0; i++)
		err = seccomp_rule_add(ctx, DENY, SCMP_SYS(fcntl), 1,
				       SCMP_A1_32(SCMP_CMP_EQ, denied_fcntl[i], 0));
	for (size_t i = 0; i < ARRAY_LEN(denied_ioctl) && err == 0; i++)
		err = seccomp_rule_add(ctx, DENY, SCMP_SYS(ioctl), 1,
				       SCMP_A1_32(SCMP_CMP_EQ, denied_ioctl[i], 0));
	return err;
}

void sandbox_enter(enum worker_class class_id)
{
	if (class_id == CLASS_LOCAL)
		return;
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int err = ctx == NULL ? -ENOMEM : deny_all(ctx, denied, ARRAY_LEN(denied));

	if (err == 0)
		err = deny_some(ctx);
	if (err == 0 && class_id == CLASS_SMTP_IN)
		err = deny_all(ctx, denied_smtp_in, ARRAY_LEN(denied_smtp_in));
	if (err != 0)
		die("system call filter: %s", strerror(-err));
	err = seccomp_load(ctx);
	seccomp_release(ctx);
	if (err == -EINVAL || err == -ENOSYS)
		log_warn("this kernel has no system call filters");
	else if (err != 0)
		die("system call filter: %s", strerror(-err));
}
