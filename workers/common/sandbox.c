/* SPDX-License-Identifier: GPL-3.0-or-later */
/* System call filter; see workers/common/sandbox.h. */
#include "workers/common/sandbox.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/util.h"
#include "workers/common/sandbox_calls.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define CALLS_MAX 1024 /* numbers above count as the last one */

/* Written by the signal handler in any thread, read by sandbox_tell(). */
static _Atomic uint64_t refused_bits[CALLS_MAX / 64];
static _Atomic unsigned refused_count;
static _Atomic int refused_last = -1;
static unsigned told_count;
static uint64_t told_bits[CALLS_MAX / 64];
static unsigned own_kind = SANDBOX_KINDS;
static uint32_t also_bits;

static const char *const kind_names[SANDBOX_KINDS] = {
	[CLASS_SUPERVISOR] = "supervisor",
	[CLASS_LOG] = "log",
	[CLASS_RESOLVER] = "resolver",
	[CLASS_REWRITE] = "rewrite",
	[CLASS_SMTP_IN] = "smtp-in",
	[CLASS_DELIVER] = "deliver",
	[CLASS_LOCAL] = "local",
	[CLASS_STATS] = "stats",
	[CLASS_PICKUP] = "pickup",
	[CLASS_LOOKUP] = "lookup",
	[CLASS_SHOWQ] = "showq",
	[CLASS_SPAWN] = "spawn",
	[CLASS_AUTH] = "auth",
	[CLASS_VERIFY] = "verify",
	[CLASS_SASL_CLIENT] = "saslclient",
	[SANDBOX_AGENT] = "mailbox delivery",
	[SANDBOX_FILTER] = "rewrite with milters",
};

/* Sanitizers ask the kernel for memory, maps and names while they write a report. These builds are
 * for tests, where a report is worth more than the filter. */
static const int sanitizer_calls[] = {
	SCMP_SYS(open),      SCMP_SYS(openat),
	SCMP_SYS(readlink),  SCMP_SYS(readlinkat),
	SCMP_SYS(mmap),      SCMP_SYS(mprotect),
	SCMP_SYS(prctl),     SCMP_SYS(clone),
	SCMP_SYS(pipe2),     SCMP_SYS(stat),
	SCMP_SYS(lstat),     SCMP_SYS(access),
	SCMP_SYS(getcwd),    SCMP_SYS(prlimit64),
	SCMP_SYS(getrlimit), SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),      SCMP_SYS(setrlimit),
	SCMP_SYS(tgkill),    SCMP_SYS(process_vm_readv),
	SCMP_SYS(ioctl),     SCMP_SYS(set_tid_address),
	SCMP_SYS(dup),       SCMP_SYS(dup2),
};

/* ---- what was refused ---- */

static void refused(int signo UNUSED, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;
	unsigned nr = (unsigned)si->si_syscall;

	if (nr >= CALLS_MAX)
		nr = CALLS_MAX - 1;
	atomic_fetch_or_explicit(&refused_bits[nr / 64], UINT64_C(1) << nr % 64,
				 memory_order_relaxed);
	atomic_store_explicit(&refused_last, (int)nr, memory_order_relaxed);
	atomic_fetch_add_explicit(&refused_count, 1, memory_order_release);
#if defined(__x86_64__)
	uc->uc_mcontext.gregs[REG_RAX] = -EPERM;
#elif defined(__aarch64__)
	uc->uc_mcontext.regs[0] = (uint64_t)-EPERM;
#else
#error "where does this architecture return the result of a system call?"
#endif
}

void sandbox_watch(void)
{
	struct sigaction sa = { .sa_sigaction = refused, .sa_flags = SA_SIGINFO };
	sigset_t mine;

	sigemptyset(&sa.sa_mask);
	sigemptyset(&mine);
	sigaddset(&mine, SIGSYS);
	if (sigaction(SIGSYS, &sa, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &mine, NULL) < 0)
		die("SIGSYS: %s", strerror(errno));
}

int sandbox_last_refused(void)
{
	return atomic_load_explicit(&refused_last, memory_order_relaxed);
}

void sandbox_call_name(int nr, char *name, unsigned size)
{
	char *known = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);

	snprintf(name, size, "%s (%d)", known == NULL ? "a system call" : known, nr);
	free(known);
}

unsigned sandbox_tell(void)
{
	unsigned count = atomic_load_explicit(&refused_count, memory_order_acquire);
	unsigned fresh = count - told_count;

	if (fresh == 0)
		return 0;
	told_count = count;
	for (unsigned i = 0; i < ARRAY_LEN(refused_bits); i++) {
		uint64_t bits = atomic_load_explicit(&refused_bits[i], memory_order_relaxed) &
				~told_bits[i];

		told_bits[i] |= bits;
		for (unsigned b = 0; bits != 0; b++, bits >>= 1) {
			char name[60];

			if ((bits & 1) == 0)
				continue;
			sandbox_call_name((int)(i * 64 + b), name, sizeof(name));
			log_warn("system call filter: %s refused, it is not on the list of %s "
				 "processes",
				 name, sandbox_kind_name(own_kind));
		}
	}
	return fresh;
}

/* ---- the filter ---- */

/* What was added before stands. */
static int add(scmp_filter_ctx ctx, uint32_t action, int nr)
{
	int err = seccomp_rule_add(ctx, action, nr, 0);

	return err == -EEXIST ? 0 : err;
}

/* A call of one's own process only: signals as abort() and raise() send them. */
static int allow_self(scmp_filter_ctx ctx, int nr)
{
	return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1,
				SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid(), 0));
}

static int add_calls(scmp_filter_ctx ctx, uint32_t bit)
{
	int err = 0;

	for (size_t i = 0; i < sandbox_call_count && err == 0; i++) {
		if ((sandbox_calls[i].kinds & bit) != 0)
			err = add(ctx, SCMP_ACT_ALLOW, sandbox_calls[i].nr);
	}
	for (size_t i = 0; i < sandbox_hostile_count && err == 0; i++) {
		if ((sandbox_hostile[i].kinds & bit) != 0)
			err = add(ctx, SCMP_ACT_KILL_PROCESS, sandbox_hostile[i].nr);
	}
	return err;
}

static int add_arg_calls(scmp_filter_ctx ctx, uint32_t bit)
{
	int err = 0;

	for (size_t i = 0; i < sandbox_arg_call_count && err == 0; i++) {
		const struct sandbox_arg_call *c = &sandbox_arg_calls[i];

		if ((c->kinds & bit) != 0)
			err = seccomp_rule_add_array(
				ctx, c->ignored ? SCMP_ACT_ERRNO((unsigned)c->err) : SCMP_ACT_ALLOW,
				c->nr, c->count, c->args);
		if (err == -EEXIST)
			err = 0;
	}
	if (err == 0)
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (err == 0)
		err = allow_self(ctx, SCMP_SYS(tgkill));
	if (err == 0 && bit != 1u << CLASS_LOCAL)
		err = allow_self(ctx, SCMP_SYS(kill));
	return err;
}

static int widen_for_sanitizers(scmp_filter_ctx ctx)
{
	int err = 0;

	for (size_t i = 0; SANITIZED && i < ARRAY_LEN(sanitizer_calls) && err == 0; i++)
		err = add(ctx, SCMP_ACT_ALLOW, sanitizer_calls[i]);
	return err;
}

static int build(scmp_filter_ctx ctx, uint32_t bit)
{
	int err = ctx == NULL ? -ENOMEM : 0;

	/* a tree over the numbers: the cost does not depend on the place in a table */
	if (err == 0)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (err == 0)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (err == 0)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (err == 0)
		err = widen_for_sanitizers(ctx);
	if (err == 0)
		err = add_calls(ctx, bit);
	if (err == 0)
		err = add_arg_calls(ctx, bit);
	return err;
}

/* Tests run the system as on a kernel without filters. */
static bool none_here(void)
{
#ifdef PH_FAULT_POINTS
	return getenv("POSTHASTE_NO_SECCOMP") != NULL || getenv("POSTHASTE_UNCAGED") != NULL;
#else
	return false;
#endif
}

void sandbox_also(unsigned kind)
{
	also_bits |= 1u << kind;
}

void sandbox_enter(unsigned kind)
{
	own_kind = kind;
	sandbox_watch();
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	int err = build(ctx, 1u << kind | also_bits);

	if (err != 0)
		die("system call filter: %s", strerror(-err));
	err = none_here() ? -EINVAL : seccomp_load(ctx);
	seccomp_release(ctx);
	if (err == -EINVAL || err == -ENOSYS)
		log_warn("this kernel has no system call filters");
	else if (err != 0)
		die("system call filter: %s", strerror(-err));
}

/* ---- for lists ---- */

bool sandbox_is_widened(void)
{
	return SANITIZED;
}

const char *sandbox_kind_name(unsigned kind)
{
	return kind < SANDBOX_KINDS ? kind_names[kind] : "unknown";
}

enum sandbox_verdict sandbox_verdict(unsigned kind, int nr)
{
	uint32_t bit = 1u << kind;

	for (size_t i = 0; i < sandbox_call_count; i++) {
		if (sandbox_calls[i].nr == nr && (sandbox_calls[i].kinds & bit) != 0)
			return SANDBOX_ALLOWED;
	}
	for (size_t i = 0; i < sandbox_arg_call_count; i++) {
		if (sandbox_arg_calls[i].nr == nr && (sandbox_arg_calls[i].kinds & bit) != 0)
			return SANDBOX_CONDITIONAL;
	}
	if (nr == SCMP_SYS(tgkill) || nr == SCMP_SYS(kill))
		return SANDBOX_CONDITIONAL;
	for (size_t i = 0; i < sandbox_hostile_count; i++) {
		if (sandbox_hostile[i].nr == nr && (sandbox_hostile[i].kinds & bit) != 0)
			return SANDBOX_ENDS;
	}
	return SANDBOX_REFUSED;
}

unsigned sandbox_allowed(unsigned kind, unsigned *conditional_r)
{
	unsigned n = 0;

	*conditional_r = 0;
	for (int nr = 0; nr < CALLS_MAX; nr++) {
		enum sandbox_verdict v = sandbox_verdict(kind, nr);

		n += v >= SANDBOX_CONDITIONAL;
		*conditional_r += v == SANDBOX_CONDITIONAL;
	}
	return n;
}
