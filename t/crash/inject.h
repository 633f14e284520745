/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The parts of t/crash/inject, a fault injector at system calls:
 *   inject.c       starts the command, follows all its descendants, turns the ptrace loop
 *   inject_rule.c  which call of which process is meant, and how often it was seen
 *   inject_act.c   what is done to a call: skip with an error, shorten, kill, cut the power
 *   inject_ctl.c   the control socket, by which a test arms rules in a running system
 * One mutex (inject_lock) guards all state: the control thread takes it per command, the tracer per
 * stop. Only the tracer's thread may ask ptrace for anything.
 */
#ifndef PH_T_CRASH_INJECT_H
#define PH_T_CRASH_INJECT_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define MAX_CALLS   512 /* system call numbers below this */
#define MAX_CLASSES 32
#define MAX_RULES   64

/* A set of system calls; creat_only: open and openat count only when they may create. */
struct callset {
	uint64_t bits[MAX_CALLS / 64];
	bool creat_only;
};

/* One system call about to be made. */
struct call {
	pid_t tid, pid; /* thread; its process */
	unsigned class_idx;
	unsigned nr;
	uint64_t args[6];
};

enum action {
	ACT_COUNT,
	ACT_LOG,
	ACT_KILL,
	ACT_KILL_ALL,
	ACT_ERROR,
	ACT_SHORT,
	ACT_CUT,
	ACT_CUT_DURING,
	ACT_DELAY,
	ACT_COUNT_OF
};

struct rule {
	bool used;
	unsigned id, after; /* after: a rule that must have acted before this one begins to count */
	uint32_t classes;   /* bit per class, 0 = all */
	pid_t pid;          /* 0 = all */
	struct callset calls;
	bool any_call;
	char path[PATH_MAX]; /* the call's file must be there or below; "" = any */
	enum action action;
	bool at_exit;         /* kill, kill-all, cut: when the call is done */
	uint64_t nth, times;  /* acts on matches nth .. nth + times - 1; times 0 = for ever */
	int error;            /* errno */
	bool half;            /* short: half the length, not one byte */
	unsigned ms, us;      /* delay; cut: run on so long; cut-during: so long after the start */
	char mount[PATH_MAX]; /* cut */
	uint64_t seen, acted;
	uint32_t (*counts)[MAX_CALLS]; /* matches by class and call */
};

struct tracee {
	pid_t tid, pid; /* tid 0 = free place */
	unsigned class_idx;
	const struct rule *rule; /* waits for the end of its call */
	struct call call;
	uint64_t saved_arg, saved_at; /* what `short` changed: register, memory */
	size_t saved_word;
	int64_t resume_ms; /* held until then */
};

/* ---- inject.c ---- */
extern pthread_mutex_t inject_lock;
extern struct tracee *tracees;
extern unsigned tracee_places;
extern bool inject_doomed;    /* all that is left or comes shall die */
extern int64_t inject_end_ms; /* when to kill all, 0 = not */
extern int inject_status;     /* wait status of the command, -1 while it runs */

int64_t now_ms(void);
void kill_all(void);
void resume(struct tracee *t, int request, int sig);
/* One line to the log. */
__attribute__((format(printf, 1, 2))) void record(const char *fmt, ...);

/* ---- inject_rule.c ---- */
/* Number of a class name; names are kept for good. */
unsigned class_number(const char *name);
const char *class_name(unsigned idx);
const char *call_name(unsigned nr);
/* Comma-separated names and groups (storage, reads, net, memory, event, all); false: an unknown
 * name. */
bool callset_parse(struct callset *set, const char *text, bool *all_r);
bool callset_has(const struct callset *set, const struct call *c);
/* "key=value ..."; NULL, or what is wrong with it. */
const char *rule_arm(const char *text);
void rule_disarm(unsigned id); /* 0 = all */
/* Count the call under every rule it matches; the rule that acts on it now, or NULL. */
struct rule *rules_match(const struct call *c);
/* The file of the call that matched last by its path. */
const char *call_file(void);
void rules_print(FILE *out, bool counts);

/* ---- inject_act.c ---- */
/* At the start of a call; false when the call shall simply run. Resumes the tracee otherwise. */
bool act_start(struct tracee *t, const struct call *c, struct rule *r);
/* At the end of a call that act_start() wants to see the end of. */
void act_end(struct tracee *t);

/* ---- inject_ctl.c ---- */
void ctl_start(const char *path);
void ctl_end(void);

#endif
