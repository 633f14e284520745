/* SPDX-License-Identifier: GPL-3.0-or-later */
/* System calls by kind of process; see workers/common/sandbox_calls.h. The C library decides which
 * of several equal calls it makes, so both are here where versions differ. */
#include "workers/common/sandbox_calls.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "lib/util.h"
#include "workers/common/sandbox.h"

#define SUPER    (1u << CLASS_SUPERVISOR)
#define LOG      (1u << CLASS_LOG)
#define RESOLVER (1u << CLASS_RESOLVER)
#define FILTER   (1u << SANDBOX_FILTER)
#define REWRITE  (1u << CLASS_REWRITE | FILTER)
#define SMTP_IN  (1u << CLASS_SMTP_IN)
#define DELIVER  (1u << CLASS_DELIVER)
#define LOCAL    (1u << CLASS_LOCAL)
#define STATS    (1u << CLASS_STATS)
#define PICKUP   (1u << CLASS_PICKUP)
#define LOOKUP   (1u << CLASS_LOOKUP)
#define SHOWQ    (1u << CLASS_SHOWQ)
#define SPAWN    (1u << CLASS_SPAWN)
#define AUTH     (1u << CLASS_AUTH)
#define VERIFY   (1u << CLASS_VERIFY)
#define SASL     (1u << CLASS_SASL_CLIENT)
#define AGENT    (1u << SANDBOX_AGENT)

#define ALL     ((1u << SANDBOX_KINDS) - 1)
#define WRITERS (SUPER | REWRITE | DELIVER | LOCAL) /* keep journals or segments */
#define FILES   (WRITERS | AGENT)
#define NETWORK (SMTP_IN | DELIVER | RESOLVER | STATS | LOOKUP | AUTH | SASL)
#define THREADS WRITERS

#define CALL(name, kinds)                                                                          \
	{                                                                                          \
		SCMP_SYS(name), (kinds)                                                            \
	}
#define CALL_IF(name, who, ...)                                                                    \
	{                                                                                          \
		.nr = SCMP_SYS(name), .kinds = (who),                                              \
		.count = sizeof((struct scmp_arg_cmp[]){ __VA_ARGS__ }) /                          \
			 sizeof(struct scmp_arg_cmp),                                              \
		.args = {                                                                          \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}
/* the kernel takes these for 32 bits wide */
#define BITS(arg, mask, value)                                                                     \
	{                                                                                          \
		(arg), SCMP_CMP_MASKED_EQ, (uint32_t)(mask), (uint32_t)(value)                     \
	}
#define EQ(arg, value) BITS(arg, ~0u, value)
#define NO_POINTER(arg)                                                                            \
	{                                                                                          \
		(arg), SCMP_CMP_EQ, 0, 0                                                           \
	}

const struct sandbox_call sandbox_calls[] = {
	/* the loop, rings, sockets that are open, descriptors */
	CALL(read, ALL),
	CALL(write, ALL),
	CALL(writev, ALL),
	CALL(readv, ALL),
	CALL(preadv2, ALL), /* wake-up counters */
	CALL(epoll_wait, ALL),
	CALL(epoll_pwait, ALL),
	CALL(epoll_pwait2, ALL),
	CALL(epoll_ctl, ALL),
	CALL(recvmsg, ALL),
	CALL(sendmsg, ALL),
	CALL(recvfrom, ALL),
	CALL(sendto, ALL),
	CALL(close, ALL),
	CALL(poll, ALL),
	CALL(ppoll, ALL),
	CALL(shutdown, NETWORK | SUPER | LOCAL),
	CALL(getsockopt, NETWORK | SUPER | LOCAL | SHOWQ | FILTER),
	CALL(getsockname, NETWORK | LOCAL),
	CALL(getpeername, NETWORK | LOCAL),
	/* memory */
	CALL(brk, ALL),
	CALL(munmap, ALL),
	CALL(mremap, ALL),
	CALL(madvise, ALL),
	/* time, chance, and who one is */
	CALL(clock_gettime, ALL),
	CALL(gettimeofday, ALL),
	CALL(time, ALL),
	CALL(clock_getres, ALL),
	CALL(clock_nanosleep, ALL),
	CALL(nanosleep, ALL),
	CALL(getrandom, ALL),
	CALL(getpid, ALL),
	CALL(gettid, ALL),
	CALL(getppid, ALL),
	CALL(getuid, ALL),
	CALL(geteuid, ALL),
	CALL(getgid, ALL),
	CALL(getegid, ALL),
	CALL(uname, ALL),
	CALL(sysinfo, ALL),
	CALL(getrusage, ALL),
	CALL(getcpu, ALL),
	CALL(sched_getaffinity, ALL), /* malloc counts processors */
	CALL(sched_yield, ALL),
	CALL(umask, FILES),
	/* signals to oneself, waits, the end */
	CALL(futex, ALL),
	CALL(rt_sigaction, ALL),
	CALL(rt_sigprocmask, ALL),
	CALL(rt_sigreturn, ALL),
	CALL(sigaltstack, ALL),
	CALL(restart_syscall, ALL),
	CALL(exit, ALL),
	CALL(exit_group, ALL),
	/* what a new thread does first; it has all signals blocked then, so that a refusal would be
	 * its end */
	CALL(set_robust_list, ALL),
	CALL(rseq, ALL),
	CALL(set_tid_address, LOCAL),
	/* looking at files and descriptors that are open; the C library's fstat is newfstatat */
	CALL(fstat, ALL),
	CALL(newfstatat, ALL),
	CALL(statx, ALL),
	CALL(lseek, ALL),
	CALL(fstatfs, FILES),
	CALL(statfs, FILES),
	CALL(stat, FILES | LOOKUP | AUTH | SASL),
	CALL(lstat, FILES | LOOKUP | AUTH | SASL),
	CALL(access, FILES | LOOKUP | AUTH | SASL),
	CALL(faccessat, FILES | LOOKUP | AUTH | SASL),
	CALL(faccessat2, FILES | LOOKUP | AUTH | SASL),
	/* files: which ones is said by the file rules (workers/common/landlock.c) */
	CALL(open, FILES | LOOKUP | AUTH | SASL),
	CALL(openat, FILES | PICKUP | LOOKUP | SHOWQ | AUTH | SASL),
	CALL(pread64, FILES | PICKUP | LOOKUP | SHOWQ | AUTH | VERIFY | SASL),
	CALL(pwrite64, FILES | VERIFY | SASL),
	CALL(pwritev, WRITERS),
	CALL(preadv, WRITERS),
	CALL(pwritev2, WRITERS),
	CALL(fsync, FILES | PICKUP | VERIFY | SASL),
	CALL(fdatasync, FILES),
	CALL(sync_file_range, WRITERS),
	CALL(fallocate, WRITERS),
	CALL(ftruncate, FILES | VERIFY | SASL),
	CALL(fadvise64, WRITERS),
	CALL(readahead, WRITERS),
	CALL(flock, FILES),
	CALL(unlink, FILES),
	CALL(unlinkat, FILES | PICKUP),
	CALL(rename, FILES),
	CALL(renameat, FILES | PICKUP),
	CALL(renameat2, FILES | PICKUP),
	CALL(getdents64, FILES | PICKUP),
	CALL(mkdir, FILES),
	CALL(mkdirat, FILES),
	CALL(fchmod, WRITERS),
	CALL(fchown, WRITERS), /* a journal that root made is given to mail_owner */
	CALL(sendfile, DELIVER | LOCAL | AGENT | STATS),
	CALL(memfd_create, SUPER | LOCAL | REWRITE),
	CALL(eventfd2, SUPER | WRITERS),
	/* sockets of one's own */
	CALL(accept4, SMTP_IN | STATS | SUPER | SHOWQ | SPAWN),
	CALL(accept, STATS),
	CALL(setsockopt, RESOLVER | LOCAL | LOOKUP | AUTH | SASL),
	CALL(connect, DELIVER | RESOLVER | LOCAL | LOOKUP | FILTER | AUTH | SASL),
	CALL(bind, DELIVER | RESOLVER),
	CALL(sendmmsg, RESOLVER | LOCAL | LOOKUP | AUTH | SASL),
	CALL(recvmmsg, RESOLVER | LOOKUP | AUTH | SASL),
	/* local delivery: one process for each user, which is the same program started anew */
	CALL(socketpair, LOCAL),
	CALL(vfork, LOCAL),
	CALL(execve, LOCAL),
	CALL(wait4, LOCAL),
	CALL(waitid, LOCAL),
	CALL(dup, LOCAL),
	CALL(dup2, LOCAL),
	CALL(dup3, LOCAL),
	CALL(close_range, LOCAL),
	CALL(kill, LOCAL), /* whom, is a question of users there */
	CALL(setuid, LOCAL),
	CALL(setresuid, LOCAL),
	CALL(setresgid, LOCAL),
	CALL(setgroups, LOCAL),
	CALL(arch_prctl, LOCAL),
	CALL(readlink, LOCAL | LOOKUP | AUTH | SASL),
	CALL(readlinkat, LOCAL | LOOKUP | AUTH | SASL),
	CALL(landlock_create_ruleset, LOCAL),
	CALL(landlock_add_rule, LOCAL),
	CALL(landlock_restrict_self, LOCAL),
	CALL(seccomp, LOCAL),
};
const size_t sandbox_call_count = ARRAY_LEN(sandbox_calls);

#define SOCKET(family, type, kinds)                                                                \
	CALL_IF(socket, kinds, EQ(0, family), BITS(1, ~(SOCK_CLOEXEC | SOCK_NONBLOCK), type))
#define NEW_SPACES                                                                                 \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET)

const struct sandbox_arg_call sandbox_arg_calls[] = {
	/* no memory that can be both filled and run, from here on */
	CALL_IF(mmap, ALL & ~LOCAL, BITS(2, PROT_EXEC, 0)),
	CALL_IF(mprotect, ALL & ~LOCAL, BITS(2, PROT_EXEC, 0)),
	CALL_IF(mmap, LOCAL, BITS(2, PROT_EXEC | PROT_WRITE, PROT_EXEC)),
	CALL_IF(mmap, LOCAL, BITS(2, PROT_EXEC, 0)),
	CALL_IF(mprotect, LOCAL, BITS(2, PROT_EXEC, 0)),
	/* An eventfd is shared with those who write it: made blocking and filled, it would hold up
	 * the supervisor for ever. Nor may the kernel be made to send signals (F_SETOWN...). */
	CALL_IF(fcntl, ALL, EQ(1, F_GETFL)),
	CALL_IF(fcntl, ALL, EQ(1, F_SETFL), BITS(2, O_NONBLOCK, O_NONBLOCK)),
	CALL_IF(fcntl, ALL, EQ(1, F_GETFD)),
	CALL_IF(fcntl, ALL, EQ(1, F_SETFD)),
	CALL_IF(fcntl, ALL, EQ(1, F_DUPFD_CLOEXEC)),
	CALL_IF(fcntl, LOCAL | AGENT, EQ(1, F_SETLK)), /* mailbox files */
	CALL_IF(fcntl, SUPER | LOCAL, EQ(1, F_ADD_SEALS)),
	CALL_IF(fcntl, ALL, EQ(1, F_GET_SEALS)),
	CALL_IF(ioctl, ALL, EQ(1, TCGETS)), /* stdio asks whether it writes to a terminal */
	CALL_IF(ioctl, NETWORK, EQ(1, FIONREAD)),
	CALL_IF(ioctl, WRITERS, EQ(1, FS_IOC_FIEMAP)),
	/* Libraries make their sockets blocking again when they are connected, and do as well with
	 * one that is not: they are told that it is done. */
	{ .nr = SCMP_SYS(fcntl),
	  .kinds = LOOKUP | AUTH | SASL,
	  .count = 2,
	  .args = { EQ(1, F_SETFL), BITS(2, O_NONBLOCK, 0) },
	  .ignored = true },
	/* When it reads a certificate the TLS library makes a generator of random numbers that it
	 * does not use, from a device that is not there. */
	{ .nr = SCMP_SYS(openat),
	  .kinds = SMTP_IN,
	  .count = 1,
	  .args = { EQ(2, O_RDONLY) },
	  .ignored = true,
	  .err = ENOENT },
	/* locks of a database file */
	CALL_IF(fcntl, LOOKUP | AUTH | VERIFY | SASL, EQ(1, F_SETLK)),
	CALL_IF(fcntl, VERIFY | SASL, EQ(1, F_SETLKW)), /* to give its own back */
	CALL_IF(fcntl, LOOKUP | AUTH, EQ(1, F_GETLK)),
	/* asking for limits, not setting them */
	CALL_IF(prlimit64, ALL, EQ(0, 0), NO_POINTER(2)),
	CALL_IF(prctl, ALL, EQ(0, PR_SET_NAME)),
	CALL_IF(prctl, LOCAL, EQ(0, PR_SET_PDEATHSIG)),
	CALL_IF(prctl, LOCAL, EQ(0, PR_SET_NO_NEW_PRIVS), EQ(1, 1)),
	CALL_IF(prctl, LOCAL, EQ(0, PR_SET_SECCOMP)),
	CALL_IF(clone, THREADS & ~LOCAL, BITS(0, CLONE_THREAD | NEW_SPACES, CLONE_THREAD)),
	CALL_IF(clone, LOCAL, BITS(0, NEW_SPACES, 0)),
	SOCKET(AF_INET, SOCK_STREAM, DELIVER | RESOLVER | LOCAL | LOOKUP | FILTER | AUTH | SASL),
	SOCKET(AF_INET6, SOCK_STREAM, DELIVER | RESOLVER | LOCAL | LOOKUP | FILTER | AUTH | SASL),
	SOCKET(AF_INET, SOCK_DGRAM, RESOLVER | LOCAL | LOOKUP | AUTH | SASL),
	SOCKET(AF_INET6, SOCK_DGRAM, RESOLVER | LOCAL | LOOKUP | AUTH | SASL),
	/* the name service would know which kinds of addresses there are, and does without */
	{ .nr = SCMP_SYS(socket),
	  .kinds = LOOKUP | AUTH | SASL,
	  .count = 1,
	  .args = { EQ(0, AF_NETLINK) },
	  .ignored = true,
	  .err = EAFNOSUPPORT },
	/* lmtp:unix:...; the user database may be behind a daemon */
	SOCKET(AF_UNIX, SOCK_STREAM, DELIVER | LOCAL | LOOKUP | FILTER | AUTH | SASL),
	SOCKET(AF_UNIX, SOCK_DGRAM, LOCAL),
	CALL_IF(setsockopt, SMTP_IN | DELIVER | FILTER, EQ(1, IPPROTO_TCP), EQ(2, TCP_NODELAY)),
};
const size_t sandbox_arg_call_count = ARRAY_LEN(sandbox_arg_calls);

const struct sandbox_call sandbox_hostile[] = {
	/* other processes */
	CALL(ptrace, ALL),
	CALL(process_vm_readv, ALL),
	CALL(process_vm_writev, ALL),
	CALL(process_madvise, ALL),
	CALL(pidfd_getfd, ALL),
	CALL(kcmp, ALL),
	/* programs and name spaces */
	CALL(execve, ALL & ~LOCAL),
	CALL(execveat, ALL),
	CALL(fork, ALL),
	CALL(vfork, ALL & ~LOCAL),
	CALL(unshare, ALL),
	CALL(setns, ALL),
	CALL(personality, ALL),
	/* the file system as a whole */
	CALL(mount, ALL),
	CALL(umount2, ALL),
	CALL(pivot_root, ALL),
	CALL(chroot, ALL),
	CALL(open_tree, ALL),
	CALL(move_mount, ALL),
	CALL(fsopen, ALL),
	CALL(fsconfig, ALL),
	CALL(fsmount, ALL),
	CALL(fspick, ALL),
	CALL(mount_setattr, ALL),
	CALL(mknod, ALL),
	CALL(mknodat, ALL),
	CALL(open_by_handle_at, ALL),
	CALL(swapon, ALL),
	CALL(swapoff, ALL),
	CALL(quotactl, ALL),
	/* the machine */
	CALL(reboot, ALL),
	CALL(init_module, ALL),
	CALL(finit_module, ALL),
	CALL(delete_module, ALL),
	CALL(kexec_load, ALL),
	CALL(kexec_file_load, ALL),
	CALL(settimeofday, ALL),
	CALL(clock_settime, ALL),
	CALL(adjtimex, ALL),
	CALL(clock_adjtime, ALL),
	CALL(sethostname, ALL),
	CALL(setdomainname, ALL),
	CALL(acct, ALL),
	CALL(syslog, ALL),
	CALL(ioperm, ALL),
	CALL(iopl, ALL),
	CALL(modify_ldt, ALL),
	/* large parts of the kernel that mail has no use for */
	CALL(bpf, ALL),
	CALL(perf_event_open, ALL),
	CALL(userfaultfd, ALL),
	CALL(io_uring_setup, ALL),
	CALL(io_uring_enter, ALL),
	CALL(io_uring_register, ALL),
	CALL(add_key, ALL),
	CALL(keyctl, ALL),
	CALL(request_key, ALL),
	CALL(lookup_dcookie, ALL),
	CALL(fanotify_init, ALL),
	CALL(name_to_handle_at, ALL),
};
const size_t sandbox_hostile_count = ARRAY_LEN(sandbox_hostile);
