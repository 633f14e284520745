/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Forbidden actions of a taken-over process, on other processes, itself and the kernel; see
 * evil_probe.inc and evil.h. Where success would do harm, the call is made so that it fails later
 * than the refusal would come. Nothing of this is in a build for use. */
#include "workers/common/evil.h"

#ifdef PH_FAULT_POINTS

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/util.h"
#include "workers/common/evil_int.h"

/* Permitted, when it came as far as this error. */
static int reached(long rc, int far_error)
{
	return rc < 0 && errno == far_error ? 0 : evil_result(rc);
}

static int opened(long fd)
{
	int err = evil_result(fd);

	if (fd >= 0)
		close((int)fd);
	return err;
}

static pid_t sibling(void)
{
	return (pid_t)evil.page->sibling;
}

/* ---- signals, limits, priorities of others ---- */

int evil_do_kill_sibling(void)
{
	return evil_result(kill(sibling(), 0));
}

int evil_do_kill_supervisor(void)
{
	/* to stop it would be the same question */
	return evil_result(kill((pid_t)evil.page->supervisor, SIGCONT));
}

int evil_do_kill_priv(void)
{
	return evil_result(kill((pid_t)evil.page->priv, 0));
}

int evil_do_tgkill_sibling(void)
{
	return evil_result(syscall(SYS_tgkill, sibling(), sibling(), 0));
}

int evil_do_queue_signal(void)
{
	return evil_result(sigqueue(sibling(), 0, (union sigval){ 0 }));
}

int evil_do_pidfd_signal(void)
{
	int fd = (int)syscall(SYS_pidfd_open, sibling(), 0);
	int err = fd < 0 ? -errno : evil_result(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));

	if (fd >= 0)
		close(fd);
	return err;
}

int evil_do_limit_sibling(void)
{
	struct rlimit rl = { 0, 0 };

	return evil_result(prlimit(sibling(), RLIMIT_CORE, &rl, NULL));
}

int evil_do_bind_sibling(void)
{
	cpu_set_t all;

	memset(&all, 0xff, sizeof(all));
	return evil_result(sched_setaffinity(sibling(), sizeof(all), &all));
}

int evil_do_nice_sibling(void)
{
	return evil_result(setpriority(PRIO_PROCESS, (id_t)sibling(), 1));
}

/* ---- descriptors that others have too ---- */

static int event_fd(void)
{
	return evil.b != NULL ? evil.b->w->wake_fd : 0;
}

int evil_do_own_signal(void)
{
	return evil_result(fcntl(event_fd(), F_SETOWN, sibling()));
}

int evil_do_block_eventfd(void)
{
	int err = evil_result(fcntl(event_fd(), F_SETFL, 0));

	/* some are told that it is done, and it is not */
	if (err == 0 && (fcntl(event_fd(), F_GETFL) & O_NONBLOCK) != 0)
		return -EPERM;
	if (err == 0)
		fcntl(event_fd(), F_SETFL, O_NONBLOCK);
	return err;
}

int evil_do_block_ioctl(void)
{
	int off = 0, on = 1;
	int err = evil_result(ioctl(event_fd(), FIONBIO, &off));

	if (err == 0)
		ioctl(event_fd(), FIONBIO, &on);
	return err;
}

/* ---- itself ---- */

int evil_do_own_limit(void)
{
	struct rlimit rl = { 0, 0 };

	return evil_result(setrlimit(RLIMIT_MSGQUEUE, &rl));
}

int evil_do_realtime(void)
{
	return evil_result(
		sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 1 }));
}

int evil_do_lock_memory(void)
{
	int err = evil_result(mlockall(MCL_CURRENT));

	if (err == 0)
		munlockall();
	return err;
}

static int maps(int prot, int flags, int fd)
{
	void *p = mmap(NULL, 4096, prot, flags, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, 4096);
	return 0;
}

int evil_do_exec_memory(void)
{
	return maps(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

int evil_do_exec_protect(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	int err = evil_result(mprotect(p, 4096, PROT_READ | PROT_EXEC));

	munmap(p, 4096);
	return err;
}

int evil_do_exec_file(void)
{
	int fd = memfd_create("probe", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	int err = ftruncate(fd, 4096) < 0 ? -errno : maps(PROT_READ | PROT_EXEC, MAP_SHARED, fd);

	close(fd);
	return err;
}

/* ---- processes and programs ---- */

static int ended(long pid)
{
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	return evil_result(pid);
}

int evil_do_fork_process(void)
{
#ifdef SYS_fork
	return ended(syscall(SYS_fork));
#else
	return ended(fork());
#endif
}

int evil_do_clone_process(void)
{
	return ended(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0));
}

int evil_do_clone3_process(void)
{
	/* struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack ... */
	uint64_t args[8] = { [4] = SIGCHLD };

	return ended(syscall(SYS_clone3, args, sizeof(args)));
}

int evil_do_ptrace_sibling(void)
{
	return evil_result(ptrace(PTRACE_SEIZE, sibling(), NULL, NULL));
}

static int other_memory(long nr)
{
	static char own[8];
	struct iovec mine = { own, sizeof(own) }, other = { own, sizeof(own) };

	/* our address is none of theirs */
	return reached(syscall(nr, sibling(), &mine, 1, &other, 1, 0), EFAULT);
}

int evil_do_vm_read(void)
{
	return other_memory(SYS_process_vm_readv);
}

int evil_do_vm_write(void)
{
	return other_memory(SYS_process_vm_writev);
}

int evil_do_pidfd_steal(void)
{
	int fd = (int)syscall(SYS_pidfd_open, sibling(), 0);
	int err = opened(syscall(SYS_pidfd_getfd, fd, 3, 0));

	if (fd >= 0)
		close(fd);
	return err;
}

int evil_do_compare(void)
{
	return evil_result(syscall(SYS_kcmp, getpid(), sibling(), 1 /* memory */, 0, 0));
}

/* The arguments cannot be read, so that nothing is executed. */
int evil_do_exec_program(void)
{
	return reached(syscall(SYS_execve, "/proc/self/exe", 1, 1), EFAULT);
}

int evil_do_exec_at(void)
{
	return reached(syscall(SYS_execveat, 0, "/proc/self/exe", 1, 1, 0), EFAULT);
}

/* ---- the kernel ---- */

int evil_do_io_uring(void)
{
	struct io_uring_params p = { 0 };

	return opened(syscall(SYS_io_uring_setup, 1, &p));
}

int evil_do_load_bpf(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1
	};

	return opened(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)));
}

int evil_do_fault_memory(void)
{
	return opened(syscall(SYS_userfaultfd, O_CLOEXEC));
}

int evil_do_perf(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE,
					.size = sizeof(attr),
					.config = PERF_COUNT_SW_CPU_CLOCK };

	return opened(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
}

int evil_do_add_a_key(void)
{
	return evil_result(
		syscall(SYS_add_key, "user", "posthaste-probe", "x", 1, KEY_SPEC_PROCESS_KEYRING));
}

int evil_do_key_control(void)
{
	return evil_result(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
}

int evil_do_load_module(void)
{
	/* a kernel without modules has no such call: it was reached all the same */
	long rc = syscall(SYS_init_module, 1, 0, "");

	return rc < 0 && (errno == EFAULT || errno == ENOEXEC || errno == ENOSYS) ? 0
										  : evil_result(rc);
}

int evil_do_kexec(void)
{
	long rc = syscall(SYS_kexec_load, 0, 1u << 20, NULL, 0);

	return rc < 0 && (errno == EINVAL || errno == ENOSYS) ? 0 : evil_result(rc);
}

int evil_do_read_kernel_log(void)
{
	return evil_result(klogctl(10 /* size of the buffer */, NULL, 0));
}

int evil_do_set_clock(void)
{
	return evil_result(syscall(SYS_settimeofday, NULL, NULL));
}

int evil_do_set_hostname(void)
{
	struct utsname u;

	return uname(&u) < 0 ? -errno : evil_result(sethostname(u.nodename, strlen(u.nodename)));
}

int evil_do_swap(void)
{
	return reached(swapoff("/nonexistent/posthaste-probe"), ENOENT);
}

int evil_do_io_ports(void)
{
#ifdef SYS_iopl
	return evil_result(syscall(SYS_iopl, 0));
#else
	return -ENOSYS;
#endif
}

int evil_do_mount_tmpfs(void)
{
	const char *where = evil_path(EVIL_SPOOL, "/empty");
	int err = evil_result(mount("probe", where, "tmpfs", 0, ""));

	if (err == 0)
		umount2(where, MNT_DETACH);
	return err;
}

int evil_do_unmount(void)
{
	return reached(umount2(evil_path(EVIL_SPOOL, "/empty"), 0), EINVAL);
}

int evil_do_open_a_tree(void)
{
	return opened(syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* clone */ | O_CLOEXEC));
}

int evil_do_pivot(void)
{
	return reached(syscall(SYS_pivot_root, "/proc/self", "/proc/self"), EINVAL);
}

int evil_do_fanotify(void)
{
	return opened(syscall(SYS_fanotify_init, FAN_CLASS_NOTIF, O_RDONLY));
}

int evil_do_enter_space(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int err = evil_result(setns(fd, CLONE_NEWNET));

	if (fd >= 0)
		close(fd);
	return err;
}

/* ---- rights ---- */

int evil_do_set_dumpable(void)
{
	return evil_result(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

int evil_do_set_securebits(void)
{
	return evil_result(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0));
}

int evil_do_set_personality(void)
{
	int before = personality(READ_IMPLIES_EXEC);

	if (before >= 0)
		personality((unsigned long)before);
	return evil_result(before);
}

int evil_do_set_caps(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	data[0].permitted |= 1u << CAP_SYS_ADMIN;
	data[0].effective = data[0].permitted;
	return evil_result(syscall(SYS_capset, &head, data));
}

int evil_do_become_root(void)
{
	return geteuid() == 0 ? 0 : evil_result(setresuid((uid_t)-1, 0, (uid_t)-1));
}

int evil_do_new_root(void)
{
	return evil_result(chroot("/"));
}

int evil_do_new_net_space(void)
{
	return evil_result(unshare(CLONE_NEWNET));
}

int evil_do_new_user_space(void)
{
	/* a process with threads cannot, though it may */
	return reached(unshare(CLONE_NEWUSER), EINVAL);
}

#endif
