/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rights that nothing of ours needs; see daemon/priv_rights.h. The filter is written by hand: the
 * process with root rights has no library but the C library. */
#include "daemon/priv_rights.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "lib/log.h"
#include "lib/util.h"
#include "workers/common/drop.h"

#define CAP(name) (UINT64_C(1) << CAP_##name)

/* ports below 1024; the spool's owner and modes; chroot and user of workers; ending processes of
 * other users; configuration and tables that only root may read; giving up capabilities */
#define KEPT                                                                                       \
	(CAP(NET_BIND_SERVICE) | CAP(CHOWN) | CAP(FOWNER) | CAP(SYS_CHROOT) | CAP(SETUID) |        \
	 CAP(SETGID) | CAP(KILL) | CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(SETPCAP))

static const unsigned refused[] = {
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_unshare,
	SYS_setns,
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_swapon,
	SYS_swapoff,
	SYS_reboot,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_kexec_load,
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_adjtimex,
	SYS_clock_adjtime,
	SYS_sethostname,
	SYS_setdomainname,
	SYS_acct,
	SYS_syslog,
	SYS_bpf,
	SYS_perf_event_open,
	SYS_userfaultfd,
	SYS_add_key,
	SYS_keyctl,
	SYS_request_key,
	SYS_fanotify_init,
	SYS_name_to_handle_at,
	SYS_open_by_handle_at,
	SYS_quotactl,
#ifdef SYS_kexec_file_load
	SYS_kexec_file_load,
#endif
#ifdef SYS_pidfd_getfd
	SYS_pidfd_getfd,
#endif
#ifdef SYS_io_uring_setup
	SYS_io_uring_setup,
	SYS_io_uring_enter,
	SYS_io_uring_register,
#endif
#ifdef SYS_open_tree
	SYS_open_tree,
	SYS_move_mount,
	SYS_fsopen,
	SYS_fsconfig,
	SYS_fsmount,
	SYS_fspick,
#endif
#ifdef SYS_mount_setattr
	SYS_mount_setattr,
#endif
#ifdef SYS_iopl
	SYS_iopl,
	SYS_ioperm,
#endif
#ifdef SYS_modify_ldt
	SYS_modify_ldt,
#endif
};

#if defined(__x86_64__)
#define ARCH         AUDIT_ARCH_X86_64
#define HIGHEST_CALL 0x3fffffffu /* above: the calls of 32-bit pointers */
#elif defined(__aarch64__)
#define ARCH         AUDIT_ARCH_AARCH64
#define HIGHEST_CALL 0xffffffffu
#else
#error "name this architecture's system calls"
#endif

#define LOAD(field)                                                                                \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define ANSWER(what)     BPF_STMT(BPF_RET | BPF_K, what)
#define IF_NOT(op, k, n) BPF_JUMP(BPF_JMP | (op) | BPF_K, k, 0, n)
#define IF(op, k, n)     BPF_JUMP(BPF_JMP | (op) | BPF_K, k, n, 0)

static int refuse_calls(void)
{
	struct sock_filter code[ARRAY_LEN(refused) + 8] = {
		LOAD(arch),
		IF(BPF_JEQ, ARCH, 1),
		ANSWER(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr),
		IF_NOT(BPF_JGT, HIGHEST_CALL, 1),
		ANSWER(SECCOMP_RET_KILL_PROCESS),
	};
	unsigned n = 6;

	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		code[n++] = (struct sock_filter)IF(BPF_JEQ, refused[i],
						   (uint8_t)(ARRAY_LEN(refused) - i));
	code[n++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
	code[n++] = (struct sock_filter)ANSWER(SECCOMP_RET_ERRNO | EPERM);

	struct sock_fprog program = { .len = (unsigned short)n, .filter = code };

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? errno : 0;
}

void priv_give_up_rights(void)
{
	if (drop_nothing())
		return;
	/* Commands that get mail may be or start programs with rights of their own (sendmail's
	 * postdrop). So this process forbids that not to itself but to all that it starts, but for
	 * local delivery, which does so when it has started what runs commands. The kernel takes
	 * the filter of a process without that only from the administrator of the machine, which
	 * root in a container may not be. */
	int err = refuse_calls();

	drop_capabilities(KEPT);
	if (err == EACCES) {
		priv_forbid_new_rights();
		err = refuse_calls();
	}
	if (err != 0 && err != EINVAL && err != ENOSYS)
		die("system call filter: %s", strerror(err));
}

void priv_forbid_new_rights(void)
{
	if (!drop_nothing() && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("no_new_privs: %s", strerror(errno));
}
