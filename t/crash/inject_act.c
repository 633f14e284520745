/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is done to a system call; see t/crash/inject.h. Called by the tracer's loop. */
#include "t/crash/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <unistd.h>

#include "lib/util.h"

#define SHUTDOWN_IOCTL 0x8004587d
#define NO_LOG_FLUSH   2u
#define MAX_MOUNTS     4u

/* Where the length is that `short` reduces. */
static const struct length_of {
	long nr;
	int arg;  /* argument with the length, or the number of vectors, or the message */
	int kind; /* 0 = bytes, 1 = vectors, 2 = message */
} lengths[] = {
	{ SYS_write, 2, 0 },    { SYS_read, 2, 0 },       { SYS_pwrite64, 2, 0 },
	{ SYS_pread64, 2, 0 },  { SYS_sendto, 2, 0 },     { SYS_recvfrom, 2, 0 },
	{ SYS_writev, 2, 1 },   { SYS_readv, 2, 1 },      { SYS_pwritev, 2, 1 },
	{ SYS_preadv, 2, 1 },   { SYS_pwritev2, 2, 1 },   { SYS_preadv2, 2, 1 },
	{ SYS_sendmsg, 1, 2 },  { SYS_recvmsg, 1, 2 },    { SYS_copy_file_range, 4, 0 },
	{ SYS_sendfile, 3, 0 }, { SYS_getdents64, 2, 0 },
};

static const size_t arg_regs[6] = {
	offsetof(struct user_regs_struct, rdi), offsetof(struct user_regs_struct, rsi),
	offsetof(struct user_regs_struct, rdx), offsetof(struct user_regs_struct, r10),
	offsetof(struct user_regs_struct, r8),  offsetof(struct user_regs_struct, r9),
};

static void set_reg(pid_t tid, size_t reg, uint64_t value)
{
	ptrace(PTRACE_POKEUSER, tid, reg, value);
}

static bool peek(pid_t tid, uint64_t at, uint64_t *r)
{
	errno = 0;
	*r = (uint64_t)ptrace(PTRACE_PEEKDATA, tid, at, 0);
	return errno == 0;
}

/* The call is not made and returns -error. */
static void skip_call(struct tracee *t, int error)
{
	set_reg(t->tid, offsetof(struct user_regs_struct, orig_rax), (uint64_t)-1);
	set_reg(t->tid, offsetof(struct user_regs_struct, rax), (uint64_t)-error);
	resume(t, PTRACE_CONT, 0);
}

/* ---- short ---- */

static uint64_t shorter(uint64_t len, bool half)
{
	return len <= 1 ? len : half ? len / 2 : 1;
}

/* One vector, and of that only a part. */
static void shorten_vector(struct tracee *t, uint64_t iov, bool half)
{
	uint64_t len;

	t->saved_at = iov + offsetof(struct iovec, iov_len);
	if (!peek(t->tid, t->saved_at, &len)) {
		t->saved_at = 0;
		return;
	}
	t->saved_word = len;
	ptrace(PTRACE_POKEDATA, t->tid, t->saved_at, shorter(len, half));
}

/* The arguments are put back when the call is done: the program counts on its registers. A message
 * with several vectors is left as it is, but for its first vector if that is the only one. */
static bool shorten(struct tracee *t, const struct call *c, const struct rule *r)
{
	const struct length_of *l = NULL;
	uint64_t iov, n;

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		if (lengths[i].nr == (long)c->nr)
			l = &lengths[i];
	}
	if (l == NULL)
		return false;
	t->saved_arg = c->args[l->arg];
	t->saved_at = 0;
	if (l->kind == 0) {
		if (t->saved_arg <= 1)
			return false;
		set_reg(t->tid, arg_regs[l->arg], shorter(t->saved_arg, r->half));
	} else if (l->kind == 1) {
		if (t->saved_arg == 0)
			return false;
		set_reg(t->tid, arg_regs[l->arg], 1);
		shorten_vector(t, c->args[1], r->half);
	} else {
		if (!peek(t->tid, c->args[1] + offsetof(struct msghdr, msg_iov), &iov) ||
		    !peek(t->tid, c->args[1] + offsetof(struct msghdr, msg_iovlen), &n) || n != 1)
			return false;
		shorten_vector(t, iov, r->half);
	}
	return true;
}

static void unshorten(struct tracee *t)
{
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		if (lengths[i].nr == (long)t->call.nr)
			set_reg(t->tid, arg_regs[lengths[i].arg], t->saved_arg);
	}
	if (t->saved_at != 0)
		ptrace(PTRACE_POKEDATA, t->tid, t->saved_at, t->saved_word);
}

/* ---- kill and cut ---- */

/* Opened before the first is dead: between two deaths there is nothing but one call. */
static void cut_power(const char *mounts)
{
	uint32_t flags = NO_LOG_FLUSH;
	char copy[PATH_MAX], *save = NULL;
	int fds[MAX_MOUNTS];
	unsigned n = 0;

	strcpy(copy, mounts);
	for (char *m = strtok_r(copy, ",", &save); m != NULL && n < MAX_MOUNTS;
	     m = strtok_r(NULL, ",", &save))
		fds[n++] = open(m, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < n; i++) {
		if (fds[i] < 0 || ioctl(fds[i], SHUTDOWN_IOCTL, &flags) < 0)
			record("cut of %u in %s failed: %s", i, mounts, strerror(errno));
	}
	for (unsigned i = 0; i < n; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

/* After a cut: all ends now, or runs on for a while on the dead disk. */
static void end_later(const struct rule *r)
{
	if (r->ms == 0)
		kill_all();
	else
		inject_end_ms = now_ms() + r->ms;
}

static void tell(const struct call *c, const struct rule *r, const char *what)
{
	record("%s class=%s pid=%d tid=%d call=%s n=%llu rule=%u%s%s", what,
	       class_name(c->class_idx), (int)c->pid, (int)c->tid, call_name(c->nr),
	       (unsigned long long)r->seen, r->id,
	       r->path[0] == '\0' ? "" : " file=", r->path[0] == '\0' ? "" : call_file());
}

static bool act_error(struct tracee *t, const struct call *c, struct rule *r)
{
	char what[32];

	snprintf(what, sizeof(what), "error=%d", r->error);
	tell(c, r, what);
	skip_call(t, r->error);
	return true;
}

static bool act_short(struct tracee *t, const struct call *c, struct rule *r)
{
	if (!shorten(t, c, r)) {
		r->acted--; /* nothing to shorten there */
		return false;
	}
	tell(c, r, "short");
	t->rule = r;
	resume(t, PTRACE_SYSCALL, 0);
	return true;
}

static bool act_log(struct tracee *t UNUSED, const struct call *c, struct rule *r)
{
	tell(c, r, "log");
	return false;
}

/* The stopped thread dies in its stop: the call is not made. */
static bool act_kill(struct tracee *t UNUSED, const struct call *c, struct rule *r)
{
	tell(c, r, r->at_exit ? "kill-after" : "kill");
	kill(c->pid, SIGKILL);
	return true;
}

static bool act_kill_all(struct tracee *t UNUSED, const struct call *c, struct rule *r)
{
	tell(c, r, r->at_exit ? "kill-all-after" : "kill-all");
	kill_all();
	return true;
}

static bool act_cut(struct tracee *t, const struct call *c, struct rule *r)
{
	tell(c, r, r->at_exit ? "cut-after" : "cut");
	cut_power(r->mount);
	end_later(r);
	if (!inject_doomed)
		resume(t, PTRACE_CONT, 0);
	return true;
}

/* While the call runs on another processor. */
static bool act_cut_during(struct tracee *t, const struct call *c, struct rule *r)
{
	tell(c, r, "cut-during");
	resume(t, PTRACE_CONT, 0);
	if (r->us != 0)
		usleep(r->us);
	cut_power(r->mount);
	end_later(r);
	return true;
}

static bool act_delay(struct tracee *t, const struct call *c, struct rule *r)
{
	tell(c, r, "delay");
	t->resume_ms = now_ms() + r->ms;
	return true;
}

static bool (*const acts[ACT_COUNT_OF])(struct tracee *, const struct call *, struct rule *) = {
	[ACT_LOG] = act_log,     [ACT_KILL] = act_kill,   [ACT_KILL_ALL] = act_kill_all,
	[ACT_ERROR] = act_error, [ACT_CUT] = act_cut,     [ACT_CUT_DURING] = act_cut_during,
	[ACT_SHORT] = act_short, [ACT_DELAY] = act_delay,
};

bool act_start(struct tracee *t, const struct call *c, struct rule *r)
{
	t->call = *c;
	if (r->at_exit) {
		t->rule = r;
		resume(t, PTRACE_SYSCALL, 0);
		return true;
	}
	return acts[r->action](t, c, r);
}

void act_end(struct tracee *t)
{
	struct rule *r = (struct rule *)t->rule;

	t->rule = NULL;
	if (r == NULL) {
		/* disarmed meanwhile; what was shortened has to be put back all the same */
		if (t->saved_arg != 0)
			unshorten(t);
	} else if (r->action == ACT_SHORT) {
		unshorten(t);
	} else if (acts[r->action](t, &t->call, r)) {
		return;
	}
	t->saved_arg = t->saved_at = 0;
	resume(t, PTRACE_CONT, 0);
}
