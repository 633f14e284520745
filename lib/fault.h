/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Crash points for tests: FAULT_POINT(ID) stands behind every store that another process, or a
 * later run, can see. Compiled in by ./configure --enable-fault-points only; otherwise it is
 * nothing at all. Rows: lib/fault.inc. The tests that use them are t/stress/shm_faults and
 * t/crash/05-shm-points.t.
 *
 * A running system is steered through a file that all its processes map (POSTHASTE_FAULTS names it;
 * struct fault_page, made by the test): the process of class `who` that passes the armed point for
 * the `at`th time dies there by SIGKILL, and the point is disarmed, so that its successor lives.
 */
#ifndef PH_LIB_FAULT_H
#define PH_LIB_FAULT_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum fault_id {
#define FAULT(id, name) FAULT_##id,
#include "lib/fault.inc"
#undef FAULT
	FAULT_COUNT
};

/* Steps of a recovery that can be left out, to see that the tests notice: bits of
 * fault_page.skips. */
enum fault_skip {
	FAULT_SKIP_DRAIN = 1,   /* what a dead worker's ring still holds */
	FAULT_SKIP_REQUEUE = 2, /* entries that a dead worker had go back */
	FAULT_SKIP_ADOPT = 4,   /* records that a dead rewrite worker had not announced */
	FAULT_SKIP_UNHASH = 8,  /* a message that ends stays in the hash */
	FAULT_SKIP_TURN = 16, /* what living rewrite workers say; so that a death finds it unread */
};

#define FAULT_PAGE_MAGIC 0x50544c46u /* "FLTP" */
#define FAULT_WHO_COUNT  16u
#define FAULT_ID_ROOM    128u

struct fault_page {
	uint32_t magic;
	_Atomic uint32_t armed; /* 1 + enum fault_id; 0 = nothing */
	uint32_t who;           /* enum worker_class */
	uint32_t at;
	_Atomic uint32_t died;  /* process that died at the armed point */
	_Atomic uint32_t skips; /* enum fault_skip */
	uint32_t spare[10];
	_Atomic uint32_t passed[FAULT_WHO_COUNT][FAULT_ID_ROOM]; /* since it was armed */
};

extern const char *const fault_names[FAULT_COUNT];

/* Arm by hand (tests that fork); occurrence 0 disarms. Counting starts anew. */
void fault_arm(enum fault_id id, unsigned occurrence);
/* Times the point was passed since it was armed or the process began. */
unsigned fault_hits(enum fault_id id);
void fault_hit(enum fault_id id);
/* At the start of a process of class `who`, before its sandbox closes. */
void fault_init(unsigned who);
bool fault_skips(enum fault_skip what);

#ifdef PH_FAULT_POINTS
#define FAULT_POINT(id)   fault_hit(FAULT_##id)
#define FAULT_INIT(who)   fault_init(who)
#define FAULT_SKIPS(what) fault_skips(FAULT_SKIP_##what)
#else
#define FAULT_POINT(id)   ((void)0)
#define FAULT_INIT(who)   ((void)(who))
#define FAULT_SKIPS(what) false
#endif

#endif
